// SPDX-License-Identifier: Apache-2.0
//! A connection: HTTP/1.1 over a unix socket, one question at a time.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
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
        let handshake = http1::handshake(TokioIo::new(Socket(stream))).await;
        let (sender, driver) = handshake.map_err(|error| failed(io::Error::other(error)))?;
        // What goes wrong in it is told to whoever waits for an answer.
        let driver = tokio::spawn(driver);
        Ok(Connection { socket: socket.to_owned(), sender, driver })
    }

    /// Sends a request; the head of its answer.
    pub(crate) async fn send(
        &mut self,
        call: &'static str,
        headers: &[(&'static str, &'static str)],
        body: Body,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::post("/api/v1").header("Host", "berth");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("constant headers are right");
        let sent = match self.sender.ready().await {
            Ok(()) => self.sender.send_request(request).await,
            Err(error) => Err(error),
        };
        sent.map_err(|error| self.lost(call, &error))
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
struct Socket(UnixStream);

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            let sent = || Ok(send(&self.0, bytes, SendFlags::NOSIGNAL)?);
            match self.0.try_io(Interest::WRITABLE, sent) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
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
