// SPDX-License-Identifier: Apache-2.0
//! From a host's name to a connection that may be used: resolved, its address looked at, through a proxy where one
//! is set, secured where the address says so.
//!
//! The resolver of libc can neither be interrupted nor given a time, so it runs in a thread of its own that is left
//! behind when nobody waits for it any more; it ends by itself.

use std::io::{self, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use berth_image::Cancel;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::address::{Reach, Zone};
use crate::error::RegistryError;
use crate::proxy::Proxy;
use crate::socket::{Channel, Patience, Socket, Stall};
use crate::url::{Origin, Scheme};

/// The most addresses of one name that are tried.
const ADDRESSES: usize = 16;
/// The most that a proxy may say before it lets us through.
const PROXY_HEAD: usize = 16 << 10;

/// How a host is reached.
#[derive(Clone)]
pub(crate) struct Route {
    /// Whom TLS believes.
    pub(crate) tls: Arc<ClientConfig>,
    /// Through whom.
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// How far.
    pub(crate) reach: Reach,
}

/// What an operation is called and how it is stopped; every function here that waits has one.
#[derive(Clone, Copy)]
pub(crate) struct Op<'a> {
    pub(crate) what: &'a str,
    pub(crate) cancel: &'a Cancel,
    pub(crate) patience: &'a Patience,
}

impl Op<'_> {
    pub(crate) fn cancelled(&self) -> RegistryError {
        RegistryError::Cancelled { what: self.what.to_owned() }
    }

    /// What an error of a connection means.
    pub(crate) fn broken(&self, error: io::Error) -> RegistryError {
        let what = self.what.to_owned();
        if self.cancel.is_cancelled() {
            return RegistryError::Cancelled { what };
        }
        match error
            .get_ref()
            .map(|inner| (inner.downcast_ref::<Stall>(), inner.downcast_ref::<rustls::Error>()))
        {
            Some((Some(stall), _)) => RegistryError::Stalled { what, after: stall.after, got: stall.got },
            Some((_, Some(tls))) => RegistryError::Tls { what, why: tls.to_string() },
            _ => RegistryError::Broken { what, source: error },
        }
    }

    pub(crate) fn answer(&self, why: impl Into<String>) -> RegistryError {
        RegistryError::Answer { what: self.what.to_owned(), why: why.into() }
    }
}

/// A connection to `origin`, and the address at its end; none is known behind a proxy.
pub(crate) fn connect(
    origin: &Origin,
    route: &Route,
    op: Op<'_>,
) -> Result<(Channel, Option<IpAddr>), RegistryError> {
    if op.cancel.is_cancelled() {
        return Err(op.cancelled());
    }
    let (stream, peer) = match &route.proxy {
        None => {
            let (stream, address) = dial(&origin.host, origin.port, route.reach, op)?;
            (stream, Some(address))
        }
        Some(proxy) => {
            // The proxy resolves names, so only what the text itself says can be looked at here.
            let literal =
                origin.literal().or((origin.host == "localhost").then_some(IpAddr::from([127, 0, 0, 1])));
            if let Some(address) = literal {
                allowed(&origin.host, address, route.reach, op)?;
            }
            let proxy = &proxy.origin;
            (dial(&proxy.host, proxy.port, Reach::Configured, op)?.0, None)
        }
    };
    // Answers are waited for, never collected into larger packets.
    drop(stream.set_nodelay(true));
    let mut socket = Socket::new(stream, op.patience.connect);
    let _hook = op.cancel.on_cancel(socket.stopper());
    if origin.scheme == Scheme::Http {
        return Ok((Channel::Plain(socket), peer));
    }
    if let Some(proxy) = &route.proxy {
        tunnel(&mut socket, origin, proxy, op)?;
    }
    let tls = |why: String| RegistryError::Tls { what: op.what.to_owned(), why };
    let name = ServerName::try_from(origin.host.clone()).map_err(|error| tls(error.to_string()))?;
    let mut session =
        ClientConnection::new(Arc::clone(&route.tls), name).map_err(|error| tls(error.to_string()))?;
    while session.is_handshaking() {
        session.complete_io(&mut socket).map_err(|error| match op.broken(error) {
            RegistryError::Broken { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
                tls("the connection was closed during the handshake".to_owned())
            }
            other => other,
        })?;
    }
    Ok((Channel::Tls(Box::new(StreamOwned::new(session, socket))), peer))
}

/// Whether that address may be connected to.
fn allowed(host: &str, address: IpAddr, reach: Reach, op: Op<'_>) -> Result<(), RegistryError> {
    if reach.allows(address) {
        return Ok(());
    }
    let (who, advice) = match reach {
        Reach::Configured => ("the configuration", "name a host that has an address"),
        Reach::Named => ("a reference", "if it is a registry, give it a section in registries.toml"),
        Reach::SentFrom(_) => (
            "a registry",
            "if the host is meant, name its origin in `realms` or `redirects` of the registry's section",
        ),
    };
    Err(RegistryError::Address {
        what: op.what.to_owned(),
        host: host.to_owned(),
        address,
        zone: Zone::of(address),
        who,
        advice,
    })
}

/// What the thread of a dial answers; `None` is a cancel.
type Dialled = Option<Result<(TcpStream, IpAddr), DialError>>;

enum DialError {
    Resolve(io::Error),
    Refused(IpAddr),
    Connect(io::Error),
}

fn dial(host: &str, port: u16, reach: Reach, op: Op<'_>) -> Result<(TcpStream, IpAddr), RegistryError> {
    let (send, receive) = mpsc::channel::<Dialled>();
    let cancelled = send.clone();
    // Nobody listens any more when the dial is over.
    let _hook = op.cancel.on_cancel(move || drop(cancelled.send(None)));
    let (name, time) = (host.to_owned(), op.patience.connect);
    let thread = move || drop(send.send(Some(dial_now(&name, port, reach, time))));
    let connect =
        |source| RegistryError::Connect { what: op.what.to_owned(), to: format!("{host}:{port}"), source };
    std::thread::Builder::new().name("berth-dial".to_owned()).spawn(thread).map_err(connect)?;
    match receive.recv_timeout(time) {
        Ok(Some(Ok(reached))) => Ok(reached),
        Ok(Some(Err(DialError::Connect(source)))) => Err(connect(source)),
        Ok(Some(Err(DialError::Refused(address)))) => {
            allowed(host, address, reach, op)?;
            Err(connect(io::ErrorKind::AddrNotAvailable.into()))
        }
        Ok(Some(Err(DialError::Resolve(source)))) => {
            Err(RegistryError::Resolve { what: op.what.to_owned(), host: host.to_owned(), source })
        }
        Ok(None) => Err(op.cancelled()),
        Err(_) => Err(connect(io::ErrorKind::TimedOut.into())),
    }
}

fn dial_now(host: &str, port: u16, reach: Reach, time: Duration) -> Result<(TcpStream, IpAddr), DialError> {
    let deadline = Instant::now() + time;
    let addresses = (host, port).to_socket_addrs().map_err(DialError::Resolve)?;
    let mut failed = DialError::Resolve(io::Error::new(io::ErrorKind::NotFound, "the resolver knows none"));
    for address in addresses.take(ADDRESSES) {
        if !reach.allows(address.ip()) {
            if !matches!(failed, DialError::Connect(_)) {
                failed = DialError::Refused(address.ip());
            }
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left.min(Duration::from_secs(8))) {
            Ok(stream) => return Ok((stream, address.ip())),
            Err(error) => failed = DialError::Connect(error),
        }
    }
    Err(failed)
}

/// Asks a proxy for a tunnel.
fn tunnel(socket: &mut Socket, origin: &Origin, proxy: &Proxy, op: Op<'_>) -> Result<(), RegistryError> {
    let to = origin.host_and_port();
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
    if let Some(authorization) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    socket.write_all(&request).map_err(|error| op.broken(error))?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to TLS. It is short, and comes once in a connection.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match io::Read::read(socket, &mut byte).map_err(|error| op.broken(error))? {
            0 => return Err(op.broken(io::ErrorKind::UnexpectedEof.into())),
            _ => head.push(byte[0]),
        }
        if head.len() > PROXY_HEAD {
            return Err(op.answer(format!("the proxy {} says more than {PROXY_HEAD} bytes", proxy.origin)));
        }
    }
    let line = String::from_utf8_lossy(head.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) if status.len() == 3 && status.starts_with('2') => {
            Ok(())
        }
        _ => Err(op.answer(format!(
            "the proxy {} gives no tunnel to {to}: {}",
            proxy.origin,
            crate::error::cut(&line, 100)
        ))),
    }
}
