// SPDX-License-Identifier: Apache-2.0
//! What a pull would do, before it does it: `berth image explain-pull`.
//!
//! The answer is data, for people and for programs. It has the sources of credentials and users, never a secret.

use berth_image::manifest::{Parsed, parse};
use berth_image::{Cancel, Descriptor, ManifestRef};
use berth_model::image::{Digest, Platform, Reference};
use serde::Serialize;

use crate::client::Client;
use crate::config::Fallback;
use crate::connect::Op;
use crate::error::RegistryError;
use crate::host::Role;
use crate::image::RemoteImage;
use crate::session::Session;
use crate::url::Scheme;

/// What a pull of a reference would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// As it was given.
    pub reference: String,
    /// The key in the store.
    pub canonical: String,
    /// What is really asked for: registry, full repository, tag or digest.
    pub meaning: String,
    /// For which platform.
    pub platform: String,
    /// Who is asked, in this order.
    pub hosts: Vec<HostExplained>,
    /// Whether the registry itself is asked when no mirror has it.
    pub fallback: Fallback,
    /// What was found there; absent when that was not asked for, or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// Why nothing was found, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostExplained {
    /// Its address.
    pub url: String,
    /// The repository as this host calls it.
    pub repository: String,
    /// Mirror, or the registry itself.
    pub role: Role,
    /// Whether it is spoken to through TLS.
    pub tls: bool,
    /// The file of its authority, beside the host's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The proxy that is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The file whose section holds for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured_in: Option<String>,
    /// As whom we would ask, when it wants to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsExplained>,
    /// Why there are no credentials although some are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_problem: Option<String>,
}

/// As whom we would ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CredentialsExplained {
    /// The user; `<token>` for a token.
    pub user: String,
    /// The file, flag or helper that has it.
    pub source: String,
}

/// What the hosts have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// Who had the first document.
    pub host: String,
    /// The digest of what the reference names.
    pub digest: Digest,
    /// The platforms of an index; empty for a single image.
    pub offered: Vec<String>,
    /// The manifest of the platform.
    pub manifest: Digest,
    /// Its configuration and layers.
    pub blobs: Vec<BlobExplained>,
    /// Bytes that would be fetched.
    pub to_fetch: u64,
}

/// One blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlobExplained {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub media_type: String,
    /// Its bytes, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether it is here already.
    pub present: bool,
}

impl Client {
    /// What a pull would do. `present` says of a blob whether it is here; with `look` the hosts are asked for the
    /// manifests, without nothing is sent at all (helpers of credentials are asked all the same).
    pub fn explain(
        &self,
        reference: &Reference,
        config: Option<&[u8]>,
        platform: &Platform,
        look: Option<&dyn Fn(&Digest) -> bool>,
        cancel: &Cancel,
    ) -> Result<Explanation, RegistryError> {
        let image = self.image(reference, config)?;
        let hosts = image.sessions().iter().map(|session| explain_host(&image, session, cancel));
        let mut explanation = Explanation {
            reference: reference.to_string(),
            canonical: reference.canonical(),
            meaning: berth_image::Source::describe(&image),
            platform: platform.to_string(),
            hosts: hosts.collect::<Result<_, _>>()?,
            fallback: image.fallback(),
            resolved: None,
            problem: None,
        };
        if let Some(present) = look {
            match resolve(&image, platform, present, cancel) {
                Ok(resolved) => explanation.resolved = Some(resolved),
                Err(error) if error.is_cancelled() => return Err(error),
                Err(error) => explanation.problem = Some(error.chain()),
            }
        }
        Ok(explanation)
    }
}

fn explain_host(
    image: &RemoteImage,
    session: &Session,
    cancel: &Cancel,
) -> Result<HostExplained, RegistryError> {
    let host = &session.host;
    let shown = |path: &std::path::PathBuf| path.display().to_string();
    let op = Op { what: "explain the pull", cancel, patience: image.patience() };
    let (credentials, credentials_problem) = match session.credential(op) {
        Ok(found) => (found, None),
        Err(error) if error.is_cancelled() => return Err(error),
        Err(error) => (None, Some(error.chain())),
    };
    let credentials = credentials
        .map(|found| CredentialsExplained { user: found.credential.user().to_owned(), source: found.source });
    Ok(HostExplained {
        url: host.origin.to_string(),
        repository: session.path.clone(),
        role: host.role,
        tls: host.origin.scheme == Scheme::Https,
        ca: host.section.tls.ca.as_ref().map(shown),
        proxy: host.route.proxy.as_ref().map(|proxy| proxy.origin.to_string()),
        configured_in: host.section.file.as_ref().map(shown),
        credentials,
        credentials_problem,
    })
}

fn resolve(
    image: &RemoteImage,
    platform: &Platform,
    present: &dyn Fn(&Digest) -> bool,
    cancel: &Cancel,
) -> Result<Resolved, RegistryError> {
    let wrong = |why: String| RegistryError::Answer { what: berth_image::Source::describe(image), why };
    let top = image.fetch_manifest(&ManifestRef::Top, cancel)?;
    let digest = top.document.digest;
    let read = |document: &berth_image::Document| {
        parse(&document.bytes, document.media_type.as_deref()).map_err(wrong)
    };
    let (offered, chosen, manifest) = match read(&top.document)? {
        Parsed::Manifest(manifest) => (Vec::new(), digest, manifest),
        Parsed::Index(list) => {
            let names = |d: &Descriptor| d.platform.as_ref().map(ToString::to_string);
            let offered: Vec<String> = list.iter().filter_map(names).collect();
            let at = platform.choose(list.iter().map(|d| d.platform.as_ref())).ok_or_else(|| {
                wrong(format!("it has nothing for {platform}; it has {}", offered.join(", ")))
            })?;
            let chosen = list[at].digest;
            let below = image.fetch_manifest(&ManifestRef::Digest(chosen), cancel)?;
            match read(&below.document)? {
                Parsed::Manifest(manifest) => (offered, chosen, manifest),
                Parsed::Index(_) => return Err(wrong("it is an index within an index".to_owned())),
            }
        }
    };
    let blob = |descriptor: &Descriptor| BlobExplained {
        digest: descriptor.digest,
        media_type: crate::error::cut(&descriptor.media_type, 100),
        size: descriptor.size,
        present: present(&descriptor.digest),
    };
    let blobs: Vec<BlobExplained> = manifest.blobs().map(blob).collect();
    let missing = blobs.iter().filter(|blob| !blob.present).filter_map(|blob| blob.size);
    let to_fetch = missing.fold(0u64, u64::saturating_add);
    Ok(Resolved { host: top.host, digest, offered, manifest: chosen, blobs, to_fetch })
}
