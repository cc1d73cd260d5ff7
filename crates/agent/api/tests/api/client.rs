// SPDX-License-Identifier: Apache-2.0
//! A client that knows only as much of HTTP as the tests need, and a server for it to talk to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_api::{Listener, Options, UnixAccess, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::double::Double;

/// Longer than anything takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub(crate) async fn soon<T>(coming: impl Future<Output = T>) -> T {
    timeout(PATIENCE, coming).await.expect("it does not come")
}

/// A server with a TCP port and a unix socket.
pub(crate) struct Site {
    pub(crate) double: Arc<Double>,
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) serving: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn new() -> Site {
        Site::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Site {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("berth.sock");
        let tcp = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = tcp.address().unwrap();
        let unix = Listener::unix(&socket, UnixAccess { mode: 0o600, gid: None }).unwrap();
        let double = Arc::new(Double::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(serve(vec![tcp, unix], double.clone(), options, shutdown));
        Site { double, address, socket, stop: Some(stop), serving, _directory: directory }
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn tcp(&self) -> Client<TcpStream> {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn unix(&self) -> Client<UnixStream> {
        Client { stream: UnixStream::connect(&self.socket).await.unwrap(), read: Vec::new() }
    }

    /// One request, on a connection of its own, over the unix socket.
    pub(crate) async fn ask(&self, head: &str, body: &[u8]) -> Answer {
        let mut client = self.unix().await;
        client.send(&request(head, body)).await;
        client.answer().await
    }

    /// A call in JSON.
    pub(crate) async fn call(&self, body: &str) -> Answer {
        self.ask(JSON, body.as_bytes()).await
    }
}

/// The head of a call in JSON.
pub(crate) const JSON: &str =
    "POST /api/v1 HTTP/1.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n";

/// A request with a length.
pub(crate) fn request(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{head}Host: x\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The head of a request in chunks.
pub(crate) fn chunked(head: &str) -> Vec<u8> {
    format!("{head}Host: x\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
}

pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and text, for comparing.
    pub(crate) fn says(&self) -> (u16, String) {
        (self.status, self.text())
    }
}

pub(crate) fn said(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

pub(crate) struct Client<S> {
    pub(crate) stream: S,
    /// What has come and is not looked at yet.
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next answer, whole.
    pub(crate) async fn answer(&mut self) -> Answer {
        let (status, headers) = self.head().await;
        let mut answer = Answer { status, headers, body: Vec::new() };
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                answer.body.extend(chunk);
            }
        } else {
            let length = answer.header("content-length").expect("a whole body has a length").parse().unwrap();
            answer.body = self.take(length).await.expect("the body is whole");
        }
        answer
    }

    /// Status and headers, names in small letters.
    pub(crate) async fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await.expect("an answer comes");
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines[1..].iter().map(|line| line.split_once(": ").unwrap());
        (status, headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect())
    }

    /// The next chunk of a body; none at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line().await.expect("the body is whole"), 16).unwrap();
        let chunk = self.take(length).await.expect("the chunk is whole");
        assert_eq!(self.line().await.as_deref(), Some(""));
        (length > 0).then_some(chunk)
    }

    /// Whether the server ends the connection.
    pub(crate) async fn ends(&mut self) -> bool {
        !soon(self.fill()).await
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8(self.read[..at].to_vec()).unwrap();
                self.read.drain(..at + 2);
                return Some(line);
            }
            if !soon(self.fill()).await {
                return None;
            }
        }
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            if !soon(self.fill()).await {
                return None;
            }
        }
        Some(self.read.drain(..length).collect())
    }

    /// Reads more; false at the end, in whatever way it came.
    async fn fill(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.read.extend_from_slice(&buffer[..length]);
                true
            }
        }
    }
}
