// SPDX-License-Identifier: Apache-2.0
//! A connection to a process that takes messages (reference 32 §1.2): each is a POST, in its order.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Upid;
use super::message::Told;

/// How long a connection may take: the process is on this host, mostly.
const CONNECT: Duration = Duration::from_secs(5);
/// No answer has more in it; what it says is of no interest.
const LONGEST: usize = 64 * 1024;

/// A connection; it ends when this is dropped.
pub(super) struct Peer {
    to: Upid,
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Peer {
    /// Connects to a process.
    pub(super) async fn open(to: &Upid) -> io::Result<Peer> {
        let stream = timeout(CONNECT, TcpStream::connect(to.address)).await;
        let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let mut builder = Builder::new();
        let handshake = builder.title_case_headers(true).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        let connection = tokio::spawn(async move {
            // That it broke is seen by who sends.
            let _ = connection.await;
        });
        Ok(Peer { to: to.clone(), sender, connection })
    }

    /// Sends a message, and waits until it is taken: a process that is stopped takes its time.
    pub(super) async fn post(&mut self, own: &str, told: &Told) -> io::Result<()> {
        self.sender.ready().await.map_err(io::Error::other)?;
        let request = Request::post(format!("/{}/{}", self.to.id, told.name))
            .header(USER_AGENT, format!("libprocess/{own}"))
            .header("Libprocess-From", own)
            .header(HOST, self.to.address.to_string())
            .body(Full::new(Bytes::from(told.body.clone())))
            .map_err(io::Error::other)?;
        let answer = self.sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        Limited::new(answer.into_body(), LONGEST).collect().await.map_err(io::Error::other)?;
        match status {
            StatusCode::ACCEPTED | StatusCode::OK => Ok(()),
            status => Err(io::Error::other(format!("it answered {status}"))),
        }
    }

    /// Until the other end is gone.
    pub(super) async fn closed(&mut self) {
        let _ = (&mut self.connection).await;
    }
}
