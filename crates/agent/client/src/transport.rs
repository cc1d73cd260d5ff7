// SPDX-License-Identifier: Apache-2.0
//! A connection: HTTP/1.1 over a unix socket, one question at a time.
//!
//! An agent closes connections that are idle, and one that is started anew has none of the old ones. So a question on a
//! connection that has served before, and ended before a byte of an answer came, is asked once more on a new one. On a
//! new connection, and once an answer has begun, nothing is asked twice.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Error;

/// No whole answer of an agent is longer.
const LONGEST: usize = 256 << 20;

/// A connection to an agent. It ends when it is dropped.
#[derive(Debug)]
pub struct Connection {
    pub(crate) socket: PathBuf,
    /// An answer came through it before.
    used: bool,
    /// How many bytes came so far.
    received: Arc<AtomicU64>,
    sender: SendRequest<Body>,
    driver: JoinHandle<Result<(), hyper::Error>>,
}

impl Drop for Connection {
    /// At once, though input may be under way that nobody takes.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub(crate) async fn open(socket: &Path) -> Result<Connection, Error> {
        let failed = |source| Error::connect(socket.to_owned(), source);
        let stream = UnixStream::connect(socket).await.map_err(failed)?;
        let received = Arc::new(AtomicU64::new(0));
        let socket_io = Socket { stream, received: Arc::clone(&received) };
        let handshake = http1::handshake(TokioIo::new(socket_io)).await;
        let (sender, driver) = handshake.map_err(|error| failed(io::Error::other(error)))?;
        // What goes wrong in it is told to whoever waits for an answer.
        let driver = tokio::spawn(driver);
        Ok(Connection { socket: socket.to_owned(), used: false, received, sender, driver })
    }

    /// Sends a request; the head of its answer.
    pub(crate) async fn send(
        &mut self,
        call: &'static str,
        headers: &[(&'static str, &'static str)],
        body: Body,
    ) -> Result<Response<Incoming>, Error> {
        let again = match &body {
            Body::Whole(bytes) if self.used => bytes.clone(),
            _ => None,
        };
        let before = self.received.load(Ordering::Relaxed);
        let error = match self.send_once(headers, body).await {
            Ok(response) => {
                self.used = true;
                return Ok(response);
            }
            Err(error) => error,
        };
        let lost = self.lost(call, &error);
        let Some(bytes) = again.filter(|_| self.received.load(Ordering::Relaxed) == before) else {
            return Err(lost);
        };
        // That nobody is there any more is what happened to the question too.
        *self = Connection::open(&self.socket).await.map_err(|_| lost)?;
        let sent = self.send_once(headers, Body::Whole(Some(bytes))).await;
        self.used = sent.is_ok();
        sent.map_err(|error| self.lost(call, &error))
    }

    async fn send_once(
        &mut self,
        headers: &[(&'static str, &'static str)],
        body: Body,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::post("/api/v1").header("Host", "berth");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("constant headers are right");
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// The whole body of an answer.
    pub(crate) async fn whole(
        &self,
        call: &'static str,
        response: Response<Incoming>,
    ) -> Result<Bytes, Error> {
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| self.lost(call, &*error))
    }

    pub(crate) fn lost(&self, call: &'static str, error: &dyn std::error::Error) -> Error {
        Error::Lost { socket: self.socket.clone(), call, why: chain(error) }
    }

    pub(crate) fn strange(&self, call: &'static str, why: impl Into<String>) -> Error {
        Error::Strange { socket: self.socket.clone(), call, why: why.into() }
    }
}

/// hyper's errors have their reason behind them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// A stream that raises no SIGPIPE: a program that has not set it to be ignored must not be ended because its agent
/// is. std's streams write(2), so this one sends.
struct Socket {
    stream: UnixStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.received.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let sent = || Ok(send(&self.stream, bytes, SendFlags::NOSIGNAL)?);
            match self.stream.try_io(Interest::WRITABLE, sent) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) enum Body {
    /// One message.
    Whole(Option<Bytes>),
    /// What comes through a channel, until its senders are gone.
    Pieces(mpsc::Receiver<Bytes>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Body::Whole(bytes) => bytes.take(),
            Body::Pieces(receiver) => ready!(receiver.poll_recv(context)),
        };
        Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Body::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Body::Pieces(_) => hyper::body::SizeHint::default(),
        }
    }
}
