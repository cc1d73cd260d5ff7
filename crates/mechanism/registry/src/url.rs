// SPDX-License-Identifier: Apache-2.0
//! Addresses of requests, as few kinds as a registry needs: `http` or `https`, a host, a port, a path.
//!
//! Whatever a registry sends us to is read by this: no user information (it would be taken for a host by people and
//! by programs in different ways), no other schemes, and relative forms are joined by hand, since a `Location` is
//! where redirects hide what they mean.

use std::fmt;
use std::net::IpAddr;

use ureq_proto::http::Uri;

/// The most bytes of an address. Signed ones of object stores have about 1,500.
const MAX: usize = 8 << 10;

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// In the open.
    Http,
    /// Through TLS.
    Https,
}

impl Scheme {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that needs not be written.
    pub fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Who is spoken to: what credentials belong to, and must never leave.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// How.
    pub scheme: Scheme,
    /// The host in lower case; an IPv6 address without its brackets.
    pub host: String,
    /// The port, always.
    pub port: u16,
}

impl Origin {
    /// The address, when the host is one.
    pub fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether the host is this machine, by its name or an address.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.literal().is_some_and(|address| address.is_loopback())
    }

    /// Host and port as the header `Host` has them: without the scheme's own port.
    pub fn authority(&self) -> String {
        let host = self.bracketed();
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Host and port, always both.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not an absolute address with a host.
    #[error("it is not an address with a scheme and a host")]
    Malformed,
    /// `file`, `ftp`, …
    #[error("its scheme is '{0}', and only http and https are followed")]
    Scheme(String),
    /// Something before an `@`.
    #[error("it has user information before the host")]
    UserInfo,
    /// A host that is neither a name nor an address.
    #[error("its host is neither a name nor an address")]
    Host,
    /// More than `MAX` bytes.
    #[error("it is longer than {MAX} bytes")]
    TooLong,
}

/// An address of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// Who is spoken to.
    pub origin: Origin,
    /// Path and query; begins with a slash.
    target: String,
}

impl Url {
    /// A path at an origin. The path must be made of what a path may have; everything else is percent-encoded.
    pub fn new(origin: Origin, path: &str) -> Result<Url, UrlError> {
        format!("{origin}{path}").parse()
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The same address with `name=value` after its query; both are encoded.
    #[must_use]
    pub fn with_query(&self, name: &str, value: &str) -> Url {
        use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
        // Docker's token servers accept these as they are, and logs are easier to read.
        const SET: &AsciiSet = &NON_ALPHANUMERIC
            .remove(b'-')
            .remove(b'.')
            .remove(b'_')
            .remove(b'~')
            .remove(b':')
            .remove(b'/')
            .remove(b',');
        let mut target = self.target.clone();
        target.push(if target.contains('?') { '&' } else { '?' });
        target.extend(utf8_percent_encode(name, SET));
        target.push('=');
        target.extend(utf8_percent_encode(value, SET));
        Url { origin: self.origin.clone(), target }
    }

    /// What a `Location` at this address means.
    pub fn join(&self, location: &str) -> Result<Url, UrlError> {
        let location = location.trim_matches([' ', '\t']);
        let location = location.split_once('#').map_or(location, |(before, _)| before);
        let scheme_end = location.find(':').filter(|end| !location[..*end].contains(['/', '?']));
        if scheme_end.is_some() {
            return location.parse();
        }
        let absolute = if let Some(rest) = location.strip_prefix("//") {
            format!("{}://{rest}", self.origin.scheme.as_str())
        } else if location.starts_with('/') {
            format!("{}{location}", self.origin)
        } else if location.starts_with('?') {
            format!("{}{}{location}", self.origin, self.path())
        } else {
            let base = self.path().rsplit_once('/').map_or("", |(base, _)| base);
            format!("{}{base}/{location}", self.origin)
        };
        absolute.parse()
    }

    /// For messages: without the query, which may carry a signature that opens a bucket.
    pub fn shown(&self) -> String {
        format!("{}{}", self.origin, self.path())
    }
}

impl std::str::FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        if text.len() > MAX {
            return Err(UrlError::TooLong);
        }
        if let Some((scheme, _)) = text.split_once(':')
            && !scheme.eq_ignore_ascii_case("http")
            && !scheme.eq_ignore_ascii_case("https")
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        {
            return Err(UrlError::Scheme(scheme.chars().take(20).collect()));
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed)?;
        let scheme = match uri.scheme_str() {
            Some(s) if s.eq_ignore_ascii_case("http") => Scheme::Http,
            Some(s) if s.eq_ignore_ascii_case("https") => Scheme::Https,
            _ => return Err(UrlError::Malformed),
        };
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        let host = host_of(authority.host()).ok_or(UrlError::Host)?;
        // `port_u16` says nothing for a port out of range, and nothing for none: these are told apart.
        let port = match authority.as_str().get(authority.host().len()..) {
            None | Some("") => scheme.port(),
            Some(_) => authority.port_u16().filter(|port| *port != 0).ok_or(UrlError::Malformed)?,
        };
        let target = match uri.path_and_query().map(|target| target.as_str()) {
            None | Some("") => "/".to_owned(),
            Some(query) if query.starts_with('?') => format!("/{query}"),
            Some(target) => target.to_owned(),
        };
        Ok(Url { origin: Origin { scheme, host, port }, target })
    }
}

fn host_of(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: std::net::Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(address.to_string());
    }
    let good = !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && !text.starts_with(['.', '-']);
    good.then(|| text.to_ascii_lowercase())
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn what_is_not_a_plain_address_of_the_web_is_refused() {
        for (text, why) in [
            ("file:///etc/passwd", UrlError::Scheme("file".into())),
            ("ftp://host/x", UrlError::Scheme("ftp".into())),
            ("gopher://host/x", UrlError::Scheme("gopher".into())),
            ("https://user:pw@host/", UrlError::UserInfo),
            ("https://registry.example@evil.example/", UrlError::UserInfo),
            ("https:///x", UrlError::Malformed),
            ("https://", UrlError::Malformed),
            ("https://host:99999/", UrlError::Malformed),
            ("https://host:0/", UrlError::Malformed),
            ("/relative", UrlError::Malformed),
            ("https://ho%00st/", UrlError::Malformed),
            ("https://-host/", UrlError::Host),
            ("https://a..b\\c/", UrlError::Malformed),
            ("https://host/a b", UrlError::Malformed),
            ("https://host/a\r\nX: y", UrlError::Malformed),
        ] {
            assert_eq!(text.parse::<Url>(), Err(why), "{text}");
        }
    }

    #[test]
    fn hosts_and_ports_have_one_form() {
        assert_eq!(url("HTTPS://Registry.Example:443/v2/").to_string(), "https://registry.example/v2/");
        assert_eq!(url("http://[0:0::1]:5000").to_string(), "http://[::1]:5000/");
        assert_eq!(url("http://h:80/").origin, url("http://H/").origin);
        assert_ne!(url("http://h/").origin, url("https://h/").origin);
        assert_ne!(url("http://h:8080/").origin, url("http://h/").origin);
        assert!(url("http://127.1.2.3/").origin.is_loopback() && url("http://[::1]/").origin.is_loopback());
        assert_eq!(url("http://h?x=1").target(), "/?x=1");
    }

    #[test]
    fn a_location_is_read_against_the_address_that_sent_it() {
        let base = url("https://h:5000/v2/a/blobs/uploads/?x=1");
        for (location, want) in [
            ("https://other/y?z", "https://other/y?z"),
            ("//other/y", "https://other/y"),
            ("/y", "https://h:5000/y"),
            ("?q=2", "https://h:5000/v2/a/blobs/uploads/?q=2"),
            ("id", "https://h:5000/v2/a/blobs/uploads/id"),
            ("y#z", "https://h:5000/v2/a/blobs/uploads/y"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), want, "{location}");
        }
        assert_eq!(base.join("file:///etc/shadow"), Err(UrlError::Scheme("file".into())));
        assert_eq!(base.join("javascript:x"), Err(UrlError::Scheme("javascript".into())));
    }

    #[test]
    fn a_query_is_encoded_and_not_shown() {
        let with =
            url("https://a/t?x=1").with_query("scope", "repository:a/b:pull,push").with_query("s", "a b&c");
        assert_eq!(with.to_string(), "https://a/t?x=1&scope=repository:a/b:pull,push&s=a%20b%26c");
        assert_eq!(with.shown(), "https://a/t");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back(text in "(https?|HTTPS|file)?:?/{0,3}[a-zA-Z0-9.:@\\[\\]/?#%_ -]{0,60}") {
            if let Ok(it) = text.parse::<Url>() {
                prop_assert_eq!(it.to_string().parse::<Url>().unwrap(), it);
            }
        }

        #[test]
        fn any_location_is_refused_or_joined(text in "\\PC{0,60}") {
            if let Ok(it) = url("https://h/a/b").join(&text) {
                prop_assert!(it.target().starts_with('/'));
            }
        }
    }
}
