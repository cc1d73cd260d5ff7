// SPDX-License-Identifier: Apache-2.0
//! The client: made once, shared by all pulls and pushes of a process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_model::image::{Reference, Registry};

use crate::config::RegistryConfig;
use crate::credentials::AuthFile;
use crate::error::RegistryError;
use crate::exchange::Exchange;
use crate::host::Hosts;
use crate::image::RemoteImage;
use crate::proxy::Proxies;
use crate::push::Push;
use crate::retry::Retries;
use crate::session::{Session, Shared};
use crate::socket::Patience;
use crate::token::Tokens;
use crate::url::{Origin, Scheme, Url};

/// What a client is made of.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What is said of registries.
    pub config: RegistryConfig,
    /// `--docker_registry`, for references that name no registry; Docker's when it is `None`.
    pub default_registry: Option<String>,
    /// Credentials for every registry, in their order: `--docker_config`, then what [`Settings::with_files`] finds.
    pub credentials: Vec<AuthFile>,
    /// Whether the variables `HTTP_PROXY` and its like are heeded, where the configuration has no `[proxy]`.
    pub proxies_of_environment: bool,
    /// How long is waited.
    pub patience: Patience,
    /// How often is tried.
    pub retries: Retries,
}

impl Settings {
    /// What the operator wrote: `<dir>/registries.toml`, `<dir>/registries.d/`, the flags `--docker_config` and
    /// `--docker_registry`; and the proxies of the environment.
    pub fn load(
        dir: &Path,
        docker_config: Option<&str>,
        docker_registry: Option<&str>,
    ) -> Result<Settings, RegistryError> {
        let credentials = docker_config.map(AuthFile::of_flag).transpose()?;
        Ok(Settings {
            config: RegistryConfig::load(dir)?,
            default_registry: docker_registry.map(str::to_owned),
            credentials: credentials.into_iter().collect(),
            proxies_of_environment: true,
            ..Settings::default()
        })
    }

    /// And, after those, the credentials in files of a user; those that are not there are left out. An agent does
    /// not want this: whoever may call it would pull as the user that it runs as.
    pub fn with_files(mut self, files: &[PathBuf]) -> Result<Settings, RegistryError> {
        for path in files {
            self.credentials.extend(AuthFile::open(path)?);
        }
        Ok(self)
    }
}

/// A client of registries. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) patience: Patience,
    pub(crate) retries: Retries,
}

impl Client {
    /// A client with these settings. Nothing is connected to yet.
    pub fn new(settings: Settings) -> Result<Client, RegistryError> {
        let proxies = match settings.config.proxies() {
            Some(proxies) => proxies.clone(),
            None if settings.proxies_of_environment => Proxies::of_env(|name| std::env::var(name).ok())?,
            None => Proxies::default(),
        };
        let default = settings.default_registry.as_deref().map(read_default).transpose()?;
        let default = default.unwrap_or_else(|| (Registry::docker(), None));
        let shared = Shared {
            exchange: Exchange::default(),
            tokens: Tokens::default(),
            proxies: proxies.clone(),
            credentials: settings.credentials.into_iter().map(Arc::new).collect(),
        };
        Ok(Client {
            shared: Arc::new(shared),
            hosts: Arc::new(Hosts::new(settings.config, proxies, default)),
            patience: settings.patience,
            retries: settings.retries,
        })
    }

    /// An image somewhere else, as a source of the store. `config` is the image's own secret: the JSON of a Docker
    /// configuration, asked before all others.
    pub fn image(&self, reference: &Reference, config: Option<&[u8]>) -> Result<RemoteImage, RegistryError> {
        let own =
            config.map(|json| AuthFile::parse("the image's config secret", json)).transpose()?.map(Arc::new);
        let (hosts, fallback) = self.hosts.of(reference.registry())?;
        let meant = reference.registry_or(&self.hosts.default.0);
        let repository = reference.repository();
        let session =
            |host| Session::new(Arc::clone(&self.shared), host, meant, repository, "pull", own.clone());
        let sessions = hosts.into_iter().map(session).collect();
        Ok(RemoteImage::new(self, reference, sessions, fallback))
    }

    /// A push to the repository that the reference names: at its registry itself, never at a mirror.
    pub fn push(&self, reference: &Reference, config: Option<&[u8]>) -> Result<Push, RegistryError> {
        self.push_mounting(reference, None, config)
    }

    /// The same, with another repository of the registry from which blobs may be mounted.
    pub fn push_mounting(
        &self,
        reference: &Reference,
        from: Option<&Reference>,
        config: Option<&[u8]>,
    ) -> Result<Push, RegistryError> {
        let own =
            config.map(|json| AuthFile::parse("the image's config secret", json)).transpose()?.map(Arc::new);
        let host = self.hosts.itself(reference.registry())?;
        let meant = reference.registry_or(&self.hosts.default.0);
        let repository = reference.repository();
        let mut session = Session::new(Arc::clone(&self.shared), host, meant, repository, "pull,push", own);
        let from = from.filter(|from| from.registry_or(&self.hosts.default.0) == meant);
        let from = from
            .map(|from| session.host.name.path_of(from.repository()))
            .filter(|from| *from != session.path);
        if let Some(from) = &from {
            session.also(from);
        }
        Ok(Push::new(self, reference, session, from))
    }
}

/// The flag `--docker_registry`: an address, of which scheme, host and port count.
fn read_default(text: &str) -> Result<(Registry, Option<Origin>), RegistryError> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url: Url = with_scheme.parse().map_err(|source| RegistryError::Url {
        url: crate::error::cut(text, 200),
        from: "--docker_registry".to_owned(),
        source,
    })?;
    let name = match url.origin.scheme {
        Scheme::Https => url.origin.authority(),
        Scheme::Http => url.origin.host_and_port(),
    };
    let registry: Registry = name.parse().map_err(|_| RegistryError::Url {
        url: crate::error::cut(text, 200),
        from: "--docker_registry".to_owned(),
        source: crate::url::UrlError::Host,
    })?;
    if registry.is_docker() {
        return Ok((Registry::docker(), Some(url.origin)));
    }
    Ok((registry, Some(url.origin)))
}
