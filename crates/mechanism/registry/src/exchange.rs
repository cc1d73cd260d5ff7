// SPDX-License-Identifier: Apache-2.0
//! One request and its answer.
//!
//! The state machine of HTTP/1.1 is the crate `ureq-proto` (which ureq is made of): it writes and parses bytes and
//! does no I/O. The sockets are ours, because what matters here is in them: which address may be connected to,
//! whose wait is ended by whose cancel, what counts as progress, which connection may be used again. ureq hides
//! these behind an interface that it calls unversioned; hyper wants a runtime, and mechanisms block.
//!
//! Heads are at most [`HEAD`] bytes, interim answers [`INTERIM`], and framing may not outweigh what it frames.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_image::{Cancel, CancelHook};
use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvBody, RecvResponse, SendBody};
use ureq_proto::client::{Call, RecvResponseResult, SendRequestResult};
use ureq_proto::http::{self, HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use crate::connect::{Op, Route, connect};
use crate::error::RegistryError;
use crate::socket::{Channel, Patience};
use crate::url::{Scheme, Url};

/// The most bytes of a head.
const HEAD: usize = 32 << 10;
/// The most interim answers before the real one.
const INTERIM: usize = 8;
/// A connection's buffer.
const BUFFER: usize = 64 << 10;
/// How long a connection is kept for the next request, and how many to one host.
const IDLE: Duration = Duration::from_secs(30);
const KEPT: usize = 8;

/// A request without its payload.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a request carries.
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    Stream { length: u64, from: &'a mut dyn Read },
}

/// An answer, its body yet to be read.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Who answered; unknown behind a proxy.
    pub(crate) peer: Option<IpAddr>,
}

impl Reply {
    /// A header, when it is there and is text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

type Key = (crate::url::Origin, Option<crate::url::Origin>, usize);

struct Connection {
    channel: Channel,
    peer: Option<IpAddr>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    since: Instant,
}

/// Makes requests; keeps connections between them.
#[derive(Default)]
pub(crate) struct Exchange {
    idle: Arc<Mutex<BTreeMap<Key, Vec<Connection>>>>,
}

impl Exchange {
    /// Sends a request and brings the head of its answer.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        mut payload: Payload<'_>,
        route: &Route,
        op: Op<'_>,
    ) -> Result<Reply, RegistryError> {
        let key = key_of(request.url, route);
        // A kept connection may have been closed by the other side: what was lost that way is sent again, so it
        // must be something that can be.
        if matches!(request.method, Method::GET | Method::HEAD)
            && let Some(kept) = self.kept(&key, route)
        {
            match self.on(kept, &key, request, &mut payload, route, op) {
                Err(RegistryError::Broken { .. }) => {}
                other => return other,
            }
        }
        let (channel, peer) = connect(&request.url.origin, route, op)?;
        let buffer = vec![0; BUFFER].into_boxed_slice();
        let fresh = Connection { channel, peer, buffer, start: 0, end: 0, since: Instant::now() };
        self.on(fresh, &key, request, &mut payload, route, op)
    }

    fn kept(&self, key: &Key, route: &Route) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(key)?;
        // What came in between is no answer to what will be asked.
        list.retain_mut(|kept| kept.since.elapsed() < IDLE && kept.channel.socket().is_quiet());
        let place = list.iter().rposition(|kept| kept.peer.is_none_or(|peer| route.reach.allows(peer)))?;
        Some(list.swap_remove(place))
    }

    fn on(
        &self,
        mut connection: Connection,
        key: &Key,
        request: &Request<'_>,
        payload: &mut Payload<'_>,
        route: &Route,
        op: Op<'_>,
    ) -> Result<Reply, RegistryError> {
        let hook = op.cancel.on_cancel(connection.channel.socket().stopper());
        connection.channel.socket().within(op.patience.stall);
        let sent = send_head(&mut connection.channel, request, payload, route, op)?;
        let mut call = match sent {
            SendRequestResult::RecvResponse(call) => {
                connection.channel.socket().within(op.patience.stall);
                call
            }
            SendRequestResult::SendBody(call) => {
                let call = send_body(&mut connection.channel, call, payload, op)?;
                // Registries look through a blob, and copy it, before they say that they have it.
                connection.channel.socket().within(op.patience.document);
                call
            }
            SendRequestResult::Await100(_) => {
                return Err(op.answer("it is waited for a 100 that nobody asked for"));
            }
        };
        let head = receive_head(&mut connection, &mut call, op)?;
        let (parts, ()) = head.into_parts();
        let closes = parts.version != Version::HTTP_11
            || parts.headers.get_all(header::CONNECTION).iter().any(|value| {
                String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase().contains("close")
            });
        let mode = match call.proceed() {
            Some(RecvResponseResult::RecvBody(call)) => match call.body_mode() {
                BodyMode::NoBody => Mode::Sized(0),
                BodyMode::LengthDelimited(length) => Mode::Sized(length),
                BodyMode::Chunked | BodyMode::CloseDelimited => Mode::Framed(Box::new(call)),
            },
            Some(RecvResponseResult::Redirect(_) | RecvResponseResult::Cleanup(_)) => Mode::Sized(0),
            None => return Err(op.answer("its head does not say where its body ends")),
        };
        let peer = connection.peer;
        let length = match mode {
            Mode::Sized(length) => Some(length),
            Mode::Framed(_) => None,
        };
        connection.channel.socket().stretches(op.patience.stall, op.patience.least);
        let body = Body {
            connection: Some(connection),
            mode,
            length,
            closes,
            framing: 0,
            content: 0,
            home: Arc::clone(&self.idle),
            key: key.clone(),
            cancel: op.cancel.clone(),
            hook: Some(hook),
            what: op.what.to_owned(),
            patience: *op.patience,
        };
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body, peer })
    }
}

fn key_of(url: &Url, route: &Route) -> Key {
    let proxy = route.proxy.as_ref().map(|proxy| proxy.origin.clone());
    (url.origin.clone(), proxy, Arc::as_ptr(&route.tls) as usize)
}

fn send_head(
    channel: &mut Channel,
    request: &Request<'_>,
    payload: &Payload<'_>,
    route: &Route,
    op: Op<'_>,
) -> Result<SendRequestResult, RegistryError> {
    let wrong = |error: ureq_proto::Error| op.answer(format!("the request can not be written: {error}"));
    let mut built = http::Request::builder().method(request.method.clone()).uri(request.url.to_string());
    for (name, value) in &request.headers {
        built = built.header(name, value);
    }
    let length = match payload {
        Payload::None if matches!(request.method, Method::GET | Method::HEAD | Method::DELETE) => None,
        Payload::None => Some(0),
        Payload::Bytes(bytes) => Some(bytes.len() as u64),
        Payload::Stream { length, .. } => Some(*length),
    };
    if let Some(length) = length {
        built = built.header(header::CONTENT_LENGTH, length);
    }
    let built =
        built.body(()).map_err(|error| op.answer(format!("the request can not be written: {error}")))?;
    let mut call = Call::new(built).map_err(wrong)?.proceed();
    let mut head = Vec::with_capacity(4 << 10);
    let mut part = vec![0; HEAD];
    while !call.can_proceed() {
        let count = call.write(&mut part).map_err(wrong)?;
        head.extend_from_slice(&part[..count]);
    }
    // A proxy that makes the request itself is told the whole address.
    if let (Some(proxy), Scheme::Http) = (&route.proxy, request.url.origin.scheme) {
        let method = head.iter().position(|b| *b == b' ').map_or(0, |space| space + 1);
        head.splice(method..method, request.url.origin.to_string().into_bytes());
        if let Some(authorization) = &proxy.authorization {
            let line = head.windows(2).position(|pair| pair == b"\r\n").map_or(head.len(), |end| end + 2);
            let mut added = b"proxy-authorization: ".to_vec();
            added.extend_from_slice(authorization.as_bytes());
            added.extend_from_slice(b"\r\n");
            head.splice(line..line, added);
        }
    }
    channel.write_all(&head).and_then(|()| channel.flush()).map_err(|error| op.broken(error))?;
    call.proceed().map_err(wrong)?.ok_or_else(|| op.answer("the request can not be written"))
}

/// Sends the payload; a registry that says no before it has all of it is listened to.
fn send_body(
    channel: &mut Channel,
    mut call: Call<SendBody>,
    payload: &mut Payload<'_>,
    op: Op<'_>,
) -> Result<Call<RecvResponse>, RegistryError> {
    let wrong = |error: ureq_proto::Error| op.answer(format!("the payload can not be written: {error}"));
    let read = |source| RegistryError::Read { what: op.what.to_owned(), source };
    channel.socket().stretches(op.patience.stall, op.patience.least.min(1));
    let mut rest: &[u8] = &[];
    let mut chunk = Vec::new();
    let mut left = match payload {
        Payload::None => 0,
        Payload::Bytes(bytes) => {
            rest = bytes;
            bytes.len() as u64
        }
        Payload::Stream { length, .. } => {
            chunk = vec![0; BUFFER];
            *length
        }
    };
    while left > 0 {
        let part = match payload {
            Payload::Stream { from, .. } => {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
                match from.read(&mut chunk[..most]).map_err(read)? {
                    0 => return Err(read(io::ErrorKind::UnexpectedEof.into())),
                    count => &chunk[..count],
                }
            }
            Payload::None | Payload::Bytes(_) => std::mem::take(&mut rest),
        };
        match channel.write_all(part) {
            Ok(()) => {}
            Err(error) if is_hang_up(&error) && !op.cancel.is_cancelled() => break,
            Err(error) => return Err(op.broken(error)),
        }
        left -= part.len() as u64;
        call.consume_direct_write(part.len()).map_err(wrong)?;
    }
    // Whatever was not sent is of no use any more: only the answer counts.
    if left > 0 {
        let skip = usize::try_from(left).unwrap_or(usize::MAX);
        call.consume_direct_write(skip).map_err(wrong)?;
    } else {
        channel.flush().map_err(|error| op.broken(error))?;
    }
    call.proceed().ok_or_else(|| op.answer("the payload can not be written"))
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn receive_head(
    connection: &mut Connection,
    call: &mut Call<RecvResponse>,
    op: Op<'_>,
) -> Result<http::Response<()>, RegistryError> {
    let mut interim = 0;
    loop {
        let seen = &connection.buffer[connection.start..connection.end];
        let (used, response) = call
            .try_response(seen, false)
            .map_err(|error| op.answer(format!("its head is malformed: {error}")))?;
        connection.start += used;
        if let Some(response) = response {
            return Ok(response);
        }
        if used > 0 {
            interim += 1;
            if interim > INTERIM {
                return Err(op.answer(format!("more than {INTERIM} interim answers came before it")));
            }
            continue;
        }
        if connection.end - connection.start >= HEAD {
            return Err(op.answer(format!("its head is larger than {HEAD} bytes")));
        }
        connection.fill().map_err(|error| op.broken(error)).and_then(|count| match count {
            0 => {
                Err(op.broken(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed before an answer")))
            }
            _ => Ok(()),
        })?;
    }
}

impl Connection {
    /// Reads more into the buffer; zero at the end.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let count = self.channel.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.end - self.start);
        into[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.start += count;
        count
    }
}

enum Mode {
    /// So many bytes are still to come.
    Sized(u64),
    /// Chunks, or all until the connection closes.
    Framed(Box<Call<RecvBody>>),
}

/// The body of an answer. Its connection is kept for the next request when all of it was read.
pub(crate) struct Body {
    connection: Option<Connection>,
    mode: Mode,
    length: Option<u64>,
    closes: bool,
    framing: u64,
    content: u64,
    home: Arc<Mutex<BTreeMap<Key, Vec<Connection>>>>,
    key: Key,
    cancel: Cancel,
    hook: Option<CancelHook>,
    what: String,
    patience: Patience,
}

impl Body {
    /// How much is announced.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Reads some; zero at the end.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, RegistryError> {
        let what = std::mem::take(&mut self.what);
        let cancel = self.cancel.clone();
        let patience = self.patience;
        let read = self.read_for(into, Op { what: &what, cancel: &cancel, patience: &patience });
        self.what = what;
        if read.is_err() {
            self.connection = None;
        }
        read
    }

    fn read_for(&mut self, into: &mut [u8], op: Op<'_>) -> Result<usize, RegistryError> {
        let Some(connection) = &mut self.connection else { return Ok(0) };
        if op.cancel.is_cancelled() {
            return Err(op.cancelled());
        }
        match &mut self.mode {
            Mode::Sized(0) => {
                self.release();
                Ok(0)
            }
            Mode::Sized(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(into.len());
                let count = match connection.start < connection.end {
                    true => connection.take(&mut into[..most]),
                    // Large reads go past the buffer.
                    false => connection.channel.read(&mut into[..most]).map_err(|error| op.broken(error))?,
                };
                if count == 0 && most > 0 {
                    let missing = format!("{left} bytes were still to come");
                    return Err(op.broken(io::Error::new(io::ErrorKind::UnexpectedEof, missing)));
                }
                *left -= count as u64;
                if *left == 0 {
                    self.release();
                }
                Ok(count)
            }
            Mode::Framed(call) => loop {
                let seen = &connection.buffer[connection.start..connection.end];
                let (used, count) = call
                    .read(seen, into)
                    .map_err(|error| op.answer(format!("its chunks are malformed: {error}")))?;
                connection.start += used;
                self.content += count as u64;
                self.framing += (used - count) as u64;
                if self.framing > (64 << 10) + 8 * self.content {
                    return Err(op.answer("its chunks are more framing than content"));
                }
                let until_closed = call.body_mode() == BodyMode::CloseDelimited;
                if count > 0 || into.is_empty() {
                    return Ok(count);
                }
                if !until_closed && call.can_proceed() {
                    self.release();
                    return Ok(0);
                }
                if used > 0 {
                    continue;
                }
                if connection.end - connection.start == connection.buffer.len() {
                    return Err(op.answer("a line of its chunks is too long"));
                }
                match connection.fill().map_err(|error| op.broken(error))? {
                    0 if until_closed => {
                        self.closes = true;
                        self.release();
                        return Ok(0);
                    }
                    0 => {
                        let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "its last chunk is missing");
                        return Err(op.broken(cut));
                    }
                    _ => {}
                }
            },
        }
    }

    /// All of it, when it is at most that much.
    pub(crate) fn read_all(&mut self, most: u64) -> Result<Vec<u8>, RegistryError> {
        let too_much = |what: &str| RegistryError::Answer {
            what: what.to_owned(),
            why: format!("it has more than the {most} bytes that are allowed"),
        };
        if self.length.is_some_and(|length| length > most) {
            return Err(too_much(&self.what));
        }
        if let Some(connection) = &mut self.connection {
            connection.channel.socket().within(self.patience.document);
        }
        let mut all = Vec::new();
        let mut part = vec![0; 16 << 10];
        loop {
            match self.read(&mut part)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&part[..count]),
            }
            if all.len() as u64 > most {
                self.connection = None;
                return Err(too_much(&self.what));
            }
        }
    }

    /// The text of a refusal, as far as it is short.
    pub(crate) fn complaint(&mut self) -> Vec<u8> {
        if let Some(connection) = &mut self.connection {
            connection.channel.socket().within(self.patience.stall.min(Duration::from_secs(5)));
        }
        let mut all = vec![0; 16 << 10];
        let mut filled = 0;
        while filled < all.len() {
            match self.read(&mut all[filled..]) {
                Ok(0) | Err(_) => break,
                Ok(count) => filled += count,
            }
        }
        all.truncate(filled);
        all
    }

    /// Gives the connection back, when the next answer will begin where this one ended.
    fn release(&mut self) {
        self.hook = None;
        let Some(mut connection) = self.connection.take() else { return };
        // Bytes that nobody asked for would be taken for the next answer.
        if self.closes || connection.start < connection.end || self.cancel.is_cancelled() {
            return;
        }
        (connection.start, connection.end, connection.since) = (0, 0, Instant::now());
        let mut idle = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.entry(self.key.clone()).or_default();
        list.retain(|kept| kept.since.elapsed() < IDLE);
        if list.len() < KEPT {
            list.push(connection);
        }
    }
}
