// SPDX-License-Identifier: Apache-2.0
//! Whom we believe to be who they say: the host's authorities, and one's own for each registry.
//!
//! rustls with ring: no C library, so the program stays static. The host's certificate files are read (and
//! `SSL_CERT_FILE`, `SSL_CERT_DIR` heeded), since an administrator who adds or removes an authority means us too.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::ConfigError;

/// What a registry's section says of TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsSettings {
    /// More authorities, beside the host's.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// The host's authorities, read once.
fn host_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut store = RootCertStore::empty();
        // Files that can not be read and certificates that make no sense are as good as absent: whoever needs
        // them is told that the authority is unknown.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    };
    Arc::clone(ROOTS.get_or_init(read))
}

/// The configuration of the TLS library for these settings.
pub(crate) fn client_config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, ConfigError> {
    let mut roots = host_roots();
    if let Some(path) = &settings.ca {
        let mut more = RootCertStore::clone(&roots);
        for certificate in certificates(path)? {
            more.add(certificate).map_err(|error| wrong(path, error))?;
        }
        roots = Arc::new(more);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let mut config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
            builder.with_client_auth_cert(chain, private).map_err(|error| wrong(certificate, error))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| wrong(path, error))?;
    match found.is_empty() {
        true => Err(wrong(path, "it has no certificate in PEM form")),
        false => Ok(found),
    }
}

fn wrong(path: &Path, why: impl std::fmt::Display) -> ConfigError {
    ConfigError::Certificate { path: path.to_owned(), why: why.to_string() }
}
