// SPDX-License-Identifier: Apache-2.0
//! Which hosts are asked for an image: the mirrors in their order, then the registry itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use berth_model::image::Registry;
use rustls::ClientConfig;

use crate::address::Reach;
use crate::config::{ConfigError, Fallback, Mirror, ProxyChoice, RegistryConfig, Section};
use crate::connect::Route;
use crate::proxy::Proxies;
use crate::tls::{TlsSettings, client_config};
use crate::url::{Origin, Scheme};

/// Docker's registry has a name for people and another for programs.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// Why a host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instead of the registry.
    Mirror,
    /// It is the one that the reference means.
    Registry,
}

/// A host that speaks the registry's protocol.
pub(crate) struct Host {
    /// Its name in references: the key to its section and credentials.
    pub(crate) name: Registry,
    pub(crate) origin: Origin,
    /// Before each repository's name.
    pub(crate) prefix: String,
    pub(crate) role: Role,
    pub(crate) section: Section,
    pub(crate) route: Route,
    /// For whatever it sends us to: the host's authorities, no certificate of ours.
    pub(crate) elsewhere: Arc<ClientConfig>,
}

impl Host {
    /// What people call it.
    pub(crate) fn describe(&self) -> String {
        format!("{}/{}", self.origin, self.prefix).trim_end_matches('/').to_owned()
    }
}

/// Makes hosts; TLS configurations are made once for each set of settings.
pub(crate) struct Hosts {
    pub(crate) config: RegistryConfig,
    pub(crate) proxies: Proxies,
    /// What is asked for references without a registry: its name and origin.
    pub(crate) default: (Registry, Option<Origin>),
    tls: Mutex<HashMap<TlsSettings, Arc<ClientConfig>>>,
}

impl Hosts {
    pub(crate) fn new(
        config: RegistryConfig,
        proxies: Proxies,
        default: (Registry, Option<Origin>),
    ) -> Hosts {
        Hosts { config, proxies, default, tls: Mutex::default() }
    }

    /// The hosts for a registry; the one that no reference names when it is `None`.
    pub(crate) fn of(&self, registry: Option<&Registry>) -> Result<(Vec<Host>, Fallback), ConfigError> {
        let name = registry.unwrap_or(&self.default.0);
        let section = self.config.of(name);
        let mut hosts = Vec::new();
        for mirror in &section.mirrors {
            hosts.push(self.mirror(mirror)?);
        }
        let fallback = section.fallback;
        if fallback == Fallback::Always {
            hosts.push(self.itself(registry)?);
        }
        Ok((hosts, fallback))
    }

    /// The registry alone, for what mirrors do not take: pushes.
    pub(crate) fn itself(&self, registry: Option<&Registry>) -> Result<Host, ConfigError> {
        let (name, origin) = match registry {
            Some(registry) => (registry, None),
            None => (&self.default.0, self.default.1.clone()),
        };
        let section = self.config.of(name);
        let origin = origin.unwrap_or_else(|| origin_of(name, section.plain_http));
        // `*` speaks of everybody, so it vouches for nobody.
        let vouched = registry.is_none() || self.config.own(name).is_some();
        let reach = if vouched { Reach::Configured } else { Reach::Named };
        self.host(name, origin, Role::Registry, String::new(), section, reach)
    }

    fn mirror(&self, mirror: &Mirror) -> Result<Host, ConfigError> {
        let section = self.config.own(&mirror.registry).cloned().unwrap_or_default();
        let plain = mirror.scheme.map(|scheme| scheme == Scheme::Http).or(section.plain_http);
        let origin = origin_of(&mirror.registry, plain);
        self.host(&mirror.registry, origin, Role::Mirror, mirror.prefix.clone(), section, Reach::Configured)
    }

    pub(crate) fn host(
        &self,
        name: &Registry,
        origin: Origin,
        role: Role,
        prefix: String,
        section: Section,
        reach: Reach,
    ) -> Result<Host, ConfigError> {
        let proxy = match &section.proxy {
            Some(ProxyChoice::Direct) => None,
            Some(ProxyChoice::Through(proxy)) => Some(Arc::clone(proxy)),
            None => self.proxies.of(&origin),
        };
        let route = Route { tls: self.tls(&section.tls)?, proxy, reach };
        let elsewhere = self.tls(&TlsSettings { ca: section.tls.ca.clone(), client: None })?;
        Ok(Host { name: name.clone(), origin, prefix, role, section, route, elsewhere })
    }

    fn tls(&self, settings: &TlsSettings) -> Result<Arc<ClientConfig>, ConfigError> {
        let mut made = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(settings) {
            return Ok(Arc::clone(config));
        }
        let config = client_config(settings)?;
        made.insert(settings.clone(), Arc::clone(&config));
        Ok(config)
    }
}

/// How a registry is spoken to: over https, unless the configuration says otherwise, or it is this machine at a port
/// that is not https's own (Mesos's rule, for this machine alone).
fn origin_of(name: &Registry, plain: Option<bool>) -> Origin {
    let unusual = name.is_loopback() && name.port().is_some_and(|port| port != 443);
    let scheme = if plain.unwrap_or(unusual) { Scheme::Http } else { Scheme::Https };
    let host = if name.is_docker() { DOCKER_HOST } else { name.host() };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // One address, one text: the pool and the credentials compare these.
    let host = host.parse::<std::net::Ipv6Addr>().map_or_else(|_| host.to_owned(), |six| six.to_string());
    Origin { scheme, host, port: name.port().unwrap_or(scheme.port()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn hosts(config: &str) -> Hosts {
        let mut read = RegistryConfig::default();
        read.add(Path::new("/t"), config).unwrap();
        Hosts::new(read, Proxies::default(), (Registry::docker(), None))
    }

    fn origins(config: &str, registry: &str) -> Vec<String> {
        let (list, _) = hosts(config).of(Some(&registry.parse().unwrap())).unwrap();
        list.iter().map(Host::describe).collect()
    }

    #[test]
    fn plain_http_is_for_this_machine_and_for_who_is_named() {
        for (registry, want) in [
            ("docker.io", "https://registry-1.docker.io"),
            ("registry.example", "https://registry.example"),
            ("registry.example:80", "https://registry.example:80"),
            ("registry.example:5000", "https://registry.example:5000"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000"),
            ("localhost", "https://localhost"),
            ("localhost:443", "https://localhost"),
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("[::1]:5000", "http://[::1]:5000"),
            ("plain.example", "http://plain.example"),
            ("127.0.0.1:5443", "https://127.0.0.1:5443"),
        ] {
            let config = "[registry.\"plain.example\"]\nplain_http = true\n[registry.\"127.0.0.1:5443\"]\nplain_http = false";
            assert_eq!(origins(config, registry), [want], "{registry}");
        }
    }

    #[test]
    fn mirrors_come_first_and_never_have_mirrors() {
        let config = "[registry.\"*\"]\nmirrors = [\"127.0.0.1:5000/any\"]\n\
                      [registry.\"a.example\"]\nmirrors = [\"http://m1.example\", \"m2.example\"]\nfallback = \"never\"\n\
                      [registry.\"m2.example\"]\nmirrors = [\"m3.example\"]";
        assert_eq!(origins(config, "a.example"), ["http://m1.example", "https://m2.example"]);
        assert_eq!(origins(config, "b.example"), ["http://127.0.0.1:5000/any", "https://b.example"]);
        assert_eq!(origins(config, "m2.example"), ["https://m3.example", "https://m2.example"]);
    }

    #[test]
    fn link_local_registries_need_a_section() {
        let reach = |config: &str| {
            let (list, _) = hosts(config).of(Some(&"169.254.1.1:5000".parse().unwrap())).unwrap();
            list[0].route.reach
        };
        assert_eq!(reach(""), Reach::Named);
        assert_eq!(reach("[registry.\"169.254.1.1:5000\"]"), Reach::Configured);
    }
}
