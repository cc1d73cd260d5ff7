// SPDX-License-Identifier: Apache-2.0
//! http and https: one resource, redirects followed by our rules, resumed where the server can.
//!
//! `ureq` speaks the protocol. Names are resolved by our own resolver, whose addresses are those that are connected to.
//! A redirect never leads to another scheme than http and https, from https to http, or to an address that
//! [`crate::Egress`] refuses; user and password go to the URI's own server only.

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_model::Class;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use ureq::config::Config;
use ureq::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Proxy};

use super::sink::Sink;
use super::{Context, Failure};
use crate::egress::{Egress, Hop};
use crate::wire::Proxies;

/// Redirects in a row. Curl follows 50, browsers 20.
const REDIRECTS: usize = 10;
/// Attempts in a row that bring nothing.
const TRIES: u32 = 4;
const CONNECT: Duration = Duration::from_secs(30);
/// Bytes of all headers of an answer.
const HEADERS: usize = 64 << 10;
/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// What RFC 3986 does not allow in a path or query as it stands. `%` stays: what is encoded already is right.
const ENCODE: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// Places where systems keep the certificates that they trust.
const CERTIFICATES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

pub(super) fn download(context: &Context, url: &str, sink: &mut Sink<'_>) -> Result<(), Failure> {
    let mut client = Client::new(context, url)?;
    let mut version = Version::default();
    let mut tries = 0;
    loop {
        let before = sink.at();
        match client.attempt(sink, &mut version) {
            Ok(()) => return Ok(()),
            Err(Fault::Final(failure)) => return Err(failure),
            Err(Fault::Cut(text)) => {
                tries = if sink.at() > before { 1 } else { tries + 1 };
                if tries > TRIES {
                    return Err(failed(text));
                }
                super::say(&format!("{text}; going on at byte {}", sink.at()));
                std::thread::sleep(Duration::from_millis(100 << tries));
            }
        }
    }
}

enum Fault {
    /// It would be the same again.
    Final(Failure),
    /// The connection was lost on the way.
    Cut(String),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        Fault::Final(failure)
    }
}

fn failed(text: impl fmt::Display) -> Failure {
    Failure::new(Class::Internal, format!("Error downloading resource: {text}"))
}

/// What tells one state of a resource from another.
#[derive(Default)]
struct Version {
    begun: bool,
    mark: Option<String>,
}

struct Client<'c> {
    context: &'c Context,
    first: Uri,
    login: Option<String>,
    tls: TlsConfig,
    /// Where the URI itself led to.
    known: Vec<SocketAddr>,
    stall: Duration,
}

impl<'c> Client<'c> {
    fn new(context: &'c Context, url: &str) -> Result<Client<'c>, Failure> {
        let (first, login) = read(url)?;
        let tls = match first.scheme_str() {
            Some("https") => certificates(context.setup.certificates.as_deref())?,
            // A redirect may lead to https still; what is missing then is said then.
            _ => certificates(context.setup.certificates.as_deref()).unwrap_or_default(),
        };
        let stall = Duration::from_millis(context.setup.stall_ms.max(1));
        Ok(Client { context, first, login, tls, known: Vec::new(), stall })
    }

    /// One request with its redirects, and the body as far as it comes.
    fn attempt(&mut self, sink: &mut Sink<'_>, version: &mut Version) -> Result<(), Fault> {
        // Without a mark nobody knows whether the rest is of the same resource.
        let from = match (version.begun, &version.mark) {
            (true, Some(_)) => sink.at(),
            (true, None) if sink.at() > 0 => {
                sink.restart()?;
                0
            }
            _ => 0,
        };
        let response = self.follow(from, version, sink.at() > 0)?;
        let status = response.status();
        if version.begun && (status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS) {
            return Err(Fault::Cut(format!("received HTTP return code {}", status.as_u16())));
        }
        match status {
            StatusCode::OK if from > 0 => sink.restart()?,
            StatusCode::OK => {}
            StatusCode::PARTIAL_CONTENT if from > 0 => continues(&response, from, sink.total())?,
            _ => return Err(status_failure(status).into()),
        }
        let announced = match status {
            StatusCode::OK => length(&response),
            _ => sink.total(),
        };
        match version.begun {
            false => {
                version.begun = true;
                version.mark = mark(&response);
                sink.begin(announced)?;
            }
            true if announced != sink.total() => {
                return Err(failed("the resource on the server has changed while it was fetched").into());
            }
            true => version.mark = mark(&response).or(version.mark.take()),
        }
        self.body(response, sink)
    }

    fn body(&self, response: Response<Body>, sink: &mut Sink<'_>) -> Result<(), Fault> {
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut pace = Pace::new(self.stall);
        let mut piece = vec![0; PIECE];
        loop {
            let count = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if timed_out(&error) => return Err(pace.stalled().into()),
                Err(error) => return Err(Fault::Cut(format!("the connection was cut: {error}"))),
            };
            sink.write(&piece[..count])?;
            pace.moved(count as u64)?;
        }
        match sink.total() {
            Some(total) if sink.at() < total => {
                Err(Fault::Cut(format!("the server sent {} of {total} bytes", sink.at())))
            }
            Some(total) if sink.at() > total => {
                Err(failed(format!("it is longer than the {total} bytes that its server announced")).into())
            }
            _ => Ok(()),
        }
    }

    /// Sends the request, again and again as redirects say.
    fn follow(&mut self, from: u64, version: &Version, begun: bool) -> Result<Response<Body>, Fault> {
        let mut uri = self.first.clone();
        let mut hop = 0;
        loop {
            let response = self.send(&uri, hop, from, version, begun)?;
            match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => {}
                _ => return Ok(response),
            }
            hop += 1;
            if hop > REDIRECTS {
                return Err(failed(format!("more than {REDIRECTS} redirects")).into());
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let location = location.ok_or_else(|| failed("a redirect that does not say where to"))?;
            uri = redirected(&uri, location)?;
        }
    }

    fn send(
        &mut self,
        uri: &Uri,
        hop: usize,
        from: u64,
        version: &Version,
        begun: bool,
    ) -> Result<Response<Body>, Fault> {
        let proxy = proxy(&self.context.setup.proxies, uri)?;
        let known = if hop == 0 { None } else { Some(self.known.clone()) };
        let state = Arc::new(State { egress: self.context.setup.egress.clone(), known, ..State::default() });
        if proxy.is_some() {
            // The proxy resolves names; an address that stands there as such is looked at all the same.
            literal(&state, uri)?;
        }
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_per_read(Some(self.stall))
            .timeout_per_write(Some(self.stall))
            .timeout_connect(Some(CONNECT.min(self.stall)))
            .max_response_header_size(HEADERS)
            .input_buffer_size(PIECE)
            .user_agent(concat!("berth-fetcher/", env!("CARGO_PKG_VERSION")))
            // What is compressed on the way would not have the length that was announced.
            .accept_encoding("identity")
            .tls_config(self.tls.clone())
            .proxy(proxy.clone())
            .build();
        let resolver = Names { state: state.clone(), proxy };
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        let mut request = agent.get(uri);
        if let Some(login) = self.login.as_ref().filter(|_| same_origin(&self.first, uri)) {
            request = request.header(AUTHORIZATION, login);
        }
        if let Some(mark) = version.mark.as_ref().filter(|_| from > 0) {
            request = request.header(RANGE, format!("bytes={from}-")).header(IF_RANGE, mark);
        }
        let answer = request.call();
        if hop == 0 && self.known.is_empty() {
            self.known = std::mem::take(&mut *state.found.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let refused = state.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.map_err(|error| match (refused, error) {
            (Some(failure), _) => failure.into(),
            (None, ureq::Error::Timeout(ureq::Timeout::Connect)) => Failure::new(
                Class::Internal,
                format!("Error downloading resource: {} does not answer", host(uri)),
            )
            .into(),
            (None, ureq::Error::Timeout(_)) => Pace::new(self.stall).stalled().into(),
            (None, ureq::Error::Io(error)) if timed_out(&error) => Pace::new(self.stall).stalled().into(),
            (None, error) if begun => Fault::Cut(format!("{}: {error}", host(uri))),
            (None, error) => failed(format!("{}: {error}", host(uri))).into(),
        })
    }
}

/// The URL as the protocol wants it, and what stands in it about user and password.
fn read(url: &str) -> Result<(Uri, Option<String>), Failure> {
    let wrong = |why: &dyn fmt::Display| {
        Failure::new(Class::Invalid, format!("'{}' is no http URL: {why}", crate::uri::shown(url)))
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(&"it has no scheme"))?;
    // The fragment is for whoever reads the resource.
    let rest = rest.split('#').next().unwrap_or(rest);
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let path = utf8_percent_encode(path, ENCODE);
    let uri: Uri = format!("{scheme}://{place}{path}").parse().map_err(|error| wrong(&error))?;
    let login = login.map(|login| {
        use base64::Engine;
        let plain: Vec<u8> = percent_encoding::percent_decode_str(login).collect();
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
    });
    Ok((uri, login))
}

/// Where a redirect leads (RFC 3986, 5.2), if it may.
fn redirected(from: &Uri, location: &str) -> Result<Uri, Failure> {
    let refused = |why: &str| {
        let text = format!(
            "Error downloading resource: a redirect to '{}' is not followed: {why}",
            crate::uri::shown(location)
        );
        Failure::new(Class::Denied, text)
    };
    let scheme = from.scheme_str().unwrap_or("http");
    let authority = from.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let absolute = match location.find([':', '/', '?', '#']) {
        Some(at) if location[at..].starts_with(':') => {
            let (to, rest) = location.split_at(at);
            if !rest.starts_with("://") {
                return Err(refused("only http and https are"));
            }
            format!("{}{rest}", to.to_ascii_lowercase())
        }
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ if location.starts_with('?') => format!("{scheme}://{authority}{}{location}", from.path()),
        _ => {
            let directory = from.path().rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{authority}{directory}/{location}")
        }
    };
    let to = absolute.split("://").next().unwrap_or_default();
    match (scheme, to) {
        ("https", "http") => return Err(refused("it leaves https")),
        (_, "http" | "https") => {}
        _ => return Err(refused("only http and https are")),
    }
    read(&absolute).map(|(uri, _)| uri).map_err(|failure| refused(&failure.text))
}

fn port(uri: &Uri) -> u16 {
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    uri.port_u16().unwrap_or(usual)
}

fn host(uri: &Uri) -> String {
    uri.host().unwrap_or_default().escape_debug().to_string()
}

fn same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.host() == other.host() && port(one) == port(other)
}

/// What tells this state of the resource from another, where it is reliable (RFC 9110, 13.1.5).
fn mark(response: &Response<Body>) -> Option<String> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    match text(ETAG) {
        Some(tag) if !tag.starts_with("W/") => Some(tag.to_owned()),
        _ => text(LAST_MODIFIED).map(str::to_owned),
    }
}

/// How long the body will be, where the server says so.
fn length(response: &Response<Body>) -> Option<u64> {
    let empty = || response.headers().get(CONTENT_LENGTH).filter(|value| value.as_bytes() == b"0").map(|_| 0);
    response.body().content_length().or_else(empty)
}

/// Whether a 206 is the rest that was asked for.
fn continues(response: &Response<Body>, from: u64, total: Option<u64>) -> Result<(), Failure> {
    let wrong = || failed("the server's answer to a request for the rest is for something else");
    let range =
        response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).ok_or_else(wrong)?;
    let range = range.trim().strip_prefix("bytes ").ok_or_else(wrong)?;
    let (range, all) = range.split_once('/').ok_or_else(wrong)?;
    let (first, last) = range.split_once('-').ok_or_else(wrong)?;
    let first: u64 = first.parse().map_err(|_| wrong())?;
    let last: u64 = last.parse().map_err(|_| wrong())?;
    let same = match (all.parse::<u64>(), total) {
        (Ok(all), Some(total)) => all == total && last.checked_add(1) == Some(total),
        _ => true,
    };
    match first == from && same {
        true => Ok(()),
        false => Err(wrong()),
    }
}

fn status_failure(status: StatusCode) -> Failure {
    let class = match status.as_u16() {
        404 | 410 => Class::NotFound,
        401 | 403 | 407 => Class::Denied,
        _ => Class::Internal,
    };
    Failure::new(class, format!("Error downloading resource, received HTTP return code {}", status.as_u16()))
}

fn timed_out(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    // ureq's own timeouts come wrapped.
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_)))
        || matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

fn certificates(file: Option<&Path>) -> Result<TlsConfig, Failure> {
    let candidates: Vec<&Path> = match file {
        Some(file) => vec![file],
        None => CERTIFICATES.iter().map(Path::new).collect(),
    };
    let mut problem = String::from("there is none");
    for path in candidates {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) => {
                problem = format!("{}: {error}", path.display());
                continue;
            }
        };
        let found: Vec<_> = ureq::tls::parse_pem(&text)
            .filter_map(|item| match item {
                Ok(ureq::tls::PemItem::Certificate(certificate)) => {
                    Some(Certificate::from_der(certificate.der()).to_owned())
                }
                _ => None,
            })
            .collect();
        if found.is_empty() {
            problem = format!("{} has no certificate in it", path.display());
            continue;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        return Ok(TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(found)))
            .unversioned_rustls_crypto_provider(provider)
            .build());
    }
    let text = format!(
        "Error downloading resource: no file with trusted certificates ({problem}); install ca-certificates"
    );
    Err(Failure::new(Class::Unsupported, text))
}

/// The proxy for a URI, as curl's environment says.
fn proxy(proxies: &Proxies, uri: &Uri) -> Result<Option<Proxy>, Failure> {
    let named = match uri.scheme_str() {
        Some("https") => &proxies.https,
        _ => &proxies.http,
    };
    let Some(named) = named.as_ref().filter(|named| !named.is_empty()) else { return Ok(None) };
    if excepted(proxies.except.as_deref().unwrap_or_default(), uri.host().unwrap_or_default()) {
        return Ok(None);
    }
    Proxy::new(named).map(Some).map_err(|error| {
        let text = format!("Error downloading resource: the agent's proxy setting is not usable: {error}");
        Failure::new(Class::Invalid, text)
    })
}

fn excepted(list: &str, host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    list.split([',', ' ']).filter(|one| !one.is_empty()).any(|one| {
        let one = one.trim_start_matches('.').to_ascii_lowercase();
        one == "*" || host == one || host.strip_suffix(&one).is_some_and(|rest| rest.ends_with('.'))
    })
}

fn literal(state: &State, uri: &Uri) -> Result<(), Failure> {
    let bare = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(_) => state.look_up(uri).map(drop),
        Err(_) => Ok(()),
    }
}

/// Resolves names for one request.
#[derive(Debug)]
struct Names {
    state: Arc<State>,
    proxy: Option<Proxy>,
}

#[derive(Debug, Default)]
struct State {
    egress: Egress,
    /// Where the URI itself led to; nothing for the URI itself.
    known: Option<Vec<SocketAddr>>,
    found: Mutex<Vec<SocketAddr>>,
    refused: Mutex<Option<Failure>>,
}

impl State {
    fn look_up(&self, uri: &Uri) -> Result<Vec<SocketAddr>, Failure> {
        let hop = match &self.known {
            None => Hop::First,
            Some(known) => Hop::Redirect(known),
        };
        super::allowed(&self.egress, uri.host().unwrap_or_default(), port(uri), hop)
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        // The operator chose the proxy, so no rule is for it.
        let found = match &self.proxy {
            Some(proxy) if (uri.host(), port(uri)) == (Some(proxy.host()), proxy.port()) => {
                use std::net::ToSocketAddrs;
                (proxy.host(), proxy.port()).to_socket_addrs().map_err(ureq::Error::Io)?.collect()
            }
            _ => match self.state.look_up(uri) {
                Ok(found) => found,
                Err(failure) => {
                    *self.state.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                    return Err(ureq::Error::HostNotFound);
                }
            },
        };
        let mut addresses = self.empty();
        for address in found.iter().take(8) {
            addresses.push(*address);
        }
        *self.state.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        match addresses.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(addresses),
        }
    }
}

/// Whether data comes at one byte a second at least: below that for the stall timeout is a stall, as in Mesos.
pub(super) struct Pace {
    stall: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(stall: Duration) -> Pace {
        Pace { stall, since: Instant::now(), bytes: 0 }
    }

    pub(super) fn moved(&mut self, bytes: u64) -> Result<(), Failure> {
        self.bytes += bytes;
        if self.since.elapsed() < self.stall {
            return Ok(());
        }
        if self.bytes < self.stall.as_secs().max(1) {
            return Err(self.stalled());
        }
        (self.since, self.bytes) = (Instant::now(), 0);
        Ok(())
    }

    pub(super) fn stalled(&self) -> Failure {
        let seconds = self.stall.as_secs_f64();
        let text = format!(
            "Error downloading resource: it came at less than 1 byte/s for {seconds} s (--fetcher_stall_timeout)"
        );
        Failure::new(Class::Internal, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(from: &str, location: &str) -> Result<String, String> {
        redirected(&from.parse().unwrap(), location)
            .map(|uri| uri.to_string())
            .map_err(|failure| failure.text)
    }

    #[test]
    fn redirects_are_resolved_and_stay_in_http() {
        let from = "http://h:8/a/b?q";
        assert_eq!(redirect(from, "/c").unwrap(), "http://h:8/c");
        assert_eq!(redirect(from, "c").unwrap(), "http://h:8/a/c");
        assert_eq!(redirect(from, "?r").unwrap(), "http://h:8/a/b?r");
        assert_eq!(redirect(from, "//i/c").unwrap(), "http://i/c");
        assert_eq!(redirect(from, "HTTPS://i/c#f").unwrap(), "https://i/c");
        for bad in ["file:///etc/passwd", "ftp://h/x", "gopher://h/x", "unix:/x", "javascript:x", "FILE:/x"] {
            assert!(redirect(from, bad).unwrap_err().contains("only http and https are"), "{bad}");
        }
        assert!(redirect("https://h/a", "http://h/a").unwrap_err().contains("leaves https"));
        assert!(redirect(from, "http://").is_err());
    }

    #[test]
    fn urls_as_people_write_them_are_accepted_and_logins_are_kept_apart() {
        let (uri, login) = read("http://us%65r:p%20w@h/a b/ü?x=%20#frag").unwrap();
        assert_eq!(uri.to_string(), "http://h/a%20b/%C3%BC?x=%20");
        assert_eq!(login.unwrap(), "Basic dXNlcjpwIHc=");
        assert!(read("http://h h/").is_err());
    }

    #[test]
    fn proxies_have_exceptions() {
        assert!(excepted("localhost,.corp", "x.corp"));
        assert!(excepted("corp", "x.corp") && excepted("*", "x"));
        assert!(!excepted("corp", "xcorp") && !excepted("", "x"));
    }

    #[test]
    fn a_trickle_is_a_stall_and_a_stream_is_not() {
        let mut pace = Pace::new(Duration::from_millis(20));
        pace.moved(1).unwrap();
        std::thread::sleep(Duration::from_millis(25));
        pace.moved(0).unwrap();
        std::thread::sleep(Duration::from_millis(25));
        assert!(pace.moved(0).unwrap_err().text.contains("less than 1 byte/s"));
    }
}
