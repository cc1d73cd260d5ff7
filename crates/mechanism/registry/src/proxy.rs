// SPDX-License-Identifier: Apache-2.0
//! Proxies: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` and what the configuration says instead.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use ureq_proto::http::HeaderValue;

use crate::config::ConfigError;
use crate::url::{Origin, Scheme, Url};

/// A proxy that is spoken to in the open; what goes through it to `https` is secured within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) origin: Origin,
    /// What it wants to know of us; never printed.
    pub(crate) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`; a missing scheme is `http`. `from` names the setting.
    pub(crate) fn parse(text: &str, from: &str) -> Result<Proxy, ConfigError> {
        // The text may hold a password, so it is not told.
        let wrong = |why: String| ConfigError::Proxy { setting: from.to_owned(), why };
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", &text));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let url: Url =
            format!("{scheme}://{host}/{path}").parse().map_err(|error| wrong(format!("{error}")))?;
        if url.origin.scheme != Scheme::Http {
            return Err(wrong("only proxies that are spoken to over http are supported".to_owned()));
        }
        let authorization = user.map(|user| {
            let decoded: Vec<u8> = percent_decode_str(user).collect();
            let pair = if decoded.contains(&b':') { decoded } else { [decoded, b":".to_vec()].concat() };
            let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
                .expect("base64 is made of visible characters");
            value.set_sensitive(true);
            value
        });
        Ok(Proxy { origin: url.origin, authorization })
    }
}

/// Which proxy is for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    pub(crate) http: Option<Arc<Proxy>>,
    pub(crate) https: Option<Arc<Proxy>>,
    /// Hosts and domains that are spoken to directly.
    pub(crate) except: Vec<String>,
}

impl Proxies {
    /// What the environment says, in capitals or not; `look_up` reads a variable.
    pub(crate) fn of_env(look_up: impl Fn(&str) -> Option<String>) -> Result<Proxies, ConfigError> {
        let either = |name: &str| {
            let value = look_up(&name.to_ascii_lowercase()).or_else(|| look_up(name));
            value.filter(|value| !value.trim().is_empty())
        };
        let proxy = |name: &str| -> Result<Option<Arc<Proxy>>, ConfigError> {
            let value =
                either(name).map(|value| (value, name)).or_else(|| Some((either("ALL_PROXY")?, "ALL_PROXY")));
            value.map(|(value, from)| Proxy::parse(value.trim(), from).map(Arc::new)).transpose()
        };
        let except = either("NO_PROXY").unwrap_or_default();
        Ok(Proxies { http: proxy("HTTP_PROXY")?, https: proxy("HTTPS_PROXY")?, except: split(&except) })
    }

    /// The proxy for that origin. This machine is never reached through one.
    pub(crate) fn of(&self, origin: &Origin) -> Option<Arc<Proxy>> {
        if origin.is_loopback() || self.except.iter().any(|pattern| covers(pattern, origin)) {
            return None;
        }
        match origin.scheme {
            Scheme::Http => self.http.clone(),
            Scheme::Https => self.https.clone(),
        }
    }
}

/// The entries of a list with commas or spaces between.
pub(crate) fn split(list: &str) -> Vec<String> {
    list.split([',', ' ']).filter(|entry| !entry.is_empty()).map(str::to_ascii_lowercase).collect()
}

/// `*`, a host, a domain (with or without its dot), an address, a network as `address/bits`; perhaps `:port`.
fn covers(pattern: &str, origin: &Origin) -> bool {
    if pattern == "*" {
        return true;
    }
    if let (Some((network, bits)), Some(address)) = (pattern.split_once('/'), origin.literal()) {
        return matches!((network.parse(), bits.parse()), (Ok(network), Ok(bits)) if within(address, network, bits));
    }
    let (name, port) = match pattern.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port.parse::<u16>().ok()),
        _ => (pattern, None),
    };
    if port.is_some_and(|port| port != origin.port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let domain = name.trim_start_matches("*.").trim_start_matches('.');
    !domain.is_empty()
        && (origin.host == domain || origin.host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

fn within(address: std::net::IpAddr, network: std::net::IpAddr, bits: u32) -> bool {
    use std::net::IpAddr::{V4, V6};
    let same = |a: u128, b: u128, width: u32| {
        bits <= width && a.checked_shr(width - bits).unwrap_or(0) == b.checked_shr(width - bits).unwrap_or(0)
    };
    match (address, network) {
        (V4(a), V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (V6(a), V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse::<Url>().unwrap().origin
    }

    fn env(pairs: &'static [(&str, &str)]) -> Proxies {
        let look_up = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Proxies::of_env(look_up).unwrap()
    }

    #[test]
    fn the_environment_chooses_by_scheme_and_spares_what_no_proxy_names() {
        let it = env(&[
            ("HTTP_PROXY", "plain:3128"),
            ("https_proxy", "http://secure:3129"),
            ("NO_PROXY", "corp.example,.dot.example,10.0.0.0/8,[fd00::1],host:5000"),
        ]);
        let of = |text: &str| it.of(&origin(text)).map(|proxy| proxy.origin.host.clone());
        assert_eq!(of("http://a.example/").as_deref(), Some("plain"));
        assert_eq!(of("https://a.example/").as_deref(), Some("secure"));
        for direct in [
            "https://corp.example/",
            "https://r.corp.example/",
            "https://r.dot.example/",
            "http://10.9.9.9/",
            "http://[fd00::1]:5/",
            "http://host:5000/",
            "http://localhost:5000/",
            "https://127.0.0.1/",
        ] {
            assert_eq!(of(direct), None, "{direct}");
        }
        assert!(of("https://xcorp.example/").is_some() && of("http://host:5001/").is_some());
        assert!(of("http://11.0.0.1/").is_some());
    }

    #[test]
    fn a_proxys_password_is_sent_and_never_printed() {
        let proxy = Proxy::parse("http://me:p%40ss@proxy:1/", "HTTP_PROXY").unwrap();
        assert_eq!(proxy.authorization.as_ref().unwrap(), "Basic bWU6cEBzcw==");
        assert!(!format!("{proxy:?}").contains("bWU6"), "{proxy:?}");
        let error = Proxy::parse("https://me:secret@proxy", "HTTP_PROXY").unwrap_err().to_string();
        assert!(error.contains("HTTP_PROXY") && !error.contains("secret"), "{error}");
        assert!(Proxy::parse("socks5://x", "ALL_PROXY").is_err());
    }
}
