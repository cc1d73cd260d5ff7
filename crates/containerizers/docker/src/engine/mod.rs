// SPDX-License-Identifier: Apache-2.0
//! The engine's API over its unix socket, or by way of its client: HTTP/1.1, one connection for each question, so that
//! dropping a question is what cancels it at the engine, too.
//!
//! hyper does the HTTP; the messages are the few fields that we send and read. The client crate for this API (bollard)
//! brings tables of Unicode and all messages that there ever were, for an address that is a path and a tenth of the calls.
//!
//! Every question has a deadline, of which the engine's silence is one outcome among others: an engine that is stopped,
//! absent or started anew holds up nobody but who asked. The version of the API is agreed with each engine anew.

mod client;
mod error;
mod frames;
mod questions;
mod types;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) use error::EngineError;
pub(crate) use frames::{Demultiplexed, Source};
pub(crate) use questions::{ExecStarted, Listed, Pulled};
pub(crate) use types::*;

/// No whole answer is longer: a list of thousands of containers is some megabytes.
const LONGEST: usize = 64 << 20;
/// How long a client that has lost its connection has to say why.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The newest version of the API that we speak, and the oldest: what is asked means the same from one to the other.
const NEWEST: u32 = 47;
const OLDEST: u32 = 24;

type Result<T> = std::result::Result<T, EngineError>;

/// An engine, by its socket.
#[derive(Debug)]
pub(crate) struct Engine {
    socket: PathBuf,
    /// What connects to it, if that is not ours to do.
    client: Option<PathBuf>,
    /// The minor version of the API that was agreed on; 0: not asked yet.
    version: AtomicU32,
    /// Whether the last question was answered.
    up: AtomicBool,
}

/// A question.
#[derive(Debug)]
struct Ask {
    /// For people.
    call: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Ask {
    fn get(call: &'static str, path: impl Into<String>) -> Ask {
        Ask { call, method: Method::GET, path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    fn post(call: &'static str, path: impl Into<String>) -> Ask {
        Ask { method: Method::POST, ..Ask::get(call, path) }
    }

    fn delete(call: &'static str, path: impl Into<String>) -> Ask {
        Ask { method: Method::DELETE, ..Ask::get(call, path) }
    }

    fn json(mut self, body: &impl serde::Serialize) -> Ask {
        self.body = serde_json::to_vec(body).expect("plain structures become JSON");
        self.headers.push(("Content-Type", "application/json".to_owned()));
        self
    }

    fn header(mut self, name: &'static str, value: String) -> Ask {
        self.headers.push((name, value));
        self
    }
}

/// One connection; it ends when it is dropped, and with it what was asked.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// The last words of the client that connects.
    said: Option<oneshot::Receiver<String>>,
    driver: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An answer that comes bit by bit. Dropping it ends it at the engine.
#[derive(Debug)]
pub(crate) struct Flow {
    call: &'static str,
    body: Incoming,
    _line: Line,
}

impl Flow {
    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    return Err(EngineError::Lost { call: self.call, why: error::chain(&error) });
                }
            }
        }
    }
}

impl Engine {
    pub(crate) fn at(socket: &Path, client: Option<&Path>) -> Engine {
        Engine {
            socket: socket.to_owned(),
            client: client.map(Path::to_owned),
            version: AtomicU32::new(0),
            up: AtomicBool::new(false),
        }
    }

    /// Whether the last question was answered, by whatever.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    async fn open(&self, call: &'static str) -> Result<Line> {
        let (stream, said) = match &self.client {
            Some(program) => self.begin_client(program).await?,
            None => {
                let stream = UnixStream::connect(&self.socket).await;
                (stream.map_err(|error| EngineError::unreachable(&self.socket, &error))?, None)
            }
        };
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) =
            handshake.map_err(|error| EngineError::Lost { call, why: error::chain(&error) })?;
        // What goes wrong in it is told to whoever waits for an answer.
        let driver = tokio::spawn(async move { _ = driver.with_upgrades().await });
        Ok(Line { sender, said, driver })
    }

    async fn begin_client(&self, program: &Path) -> Result<(UnixStream, Option<oneshot::Receiver<String>>)> {
        let failed = |why: String| EngineError::Client { program: program.to_owned(), why };
        let (own, socket) = (program.to_owned(), self.socket.clone());
        let begun = tokio::task::spawn_blocking(move || client::begin(&own, &socket)).await;
        let begun = begun.map_err(|error| failed(error.to_string()))?;
        let (stream, said) = begun.map_err(|error| failed(error.to_string()))?;
        let stream = UnixStream::from_std(stream).map_err(|error| failed(error.to_string()))?;
        Ok((stream, Some(said)))
    }

    /// Why there is no answer: the client that connects may know better than its connection.
    async fn lost(&self, line: &mut Line, lost: EngineError) -> EngineError {
        if let (Some(program), Some(said)) = (&self.client, line.said.take())
            && let Ok(Ok(why)) = timeout(LAST_WORDS, said).await
            && !why.is_empty()
        {
            return EngineError::Client { program: program.clone(), why };
        }
        lost
    }

    async fn send(&self, line: &mut Line, ask: Ask, prefix: &str) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{prefix}{}", ask.path))
            .header("Host", "docker")
            .header("User-Agent", concat!("berth/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let strange = |why: String| EngineError::Strange { call: ask.call, why };
        let request = request
            .body(Full::new(Bytes::from(ask.body)))
            .map_err(|error| strange(format!("what was asked is no request: {error}")))?;
        match line.sender.send_request(request).await {
            Ok(response) => Ok(response),
            Err(error) => {
                let lost = EngineError::Lost { call: ask.call, why: error::chain(&error) };
                Err(self.lost(line, lost).await)
            }
        }
    }

    /// Asks, and takes what the engine refuses for a failure.
    async fn begin(&self, ask: Ask) -> Result<(Line, Response<Incoming>)> {
        let call = ask.call;
        let prefix = format!("/v1.{}", self.version().await?);
        let mut line = self.open(call).await?;
        let response = self.send(&mut line, ask, &prefix).await?;
        match response.status().as_u16() {
            200..=299 | 101 => Ok((line, response)),
            status => {
                let text = whole(call, response).await.unwrap_or_default();
                Err(EngineError::Refused { status, message: message(status, &text) })
            }
        }
    }

    /// What the engine speaks, or what we do, whichever is older.
    async fn version(&self) -> Result<u32> {
        match self.version.load(Ordering::Relaxed) {
            0 => {}
            agreed => return Ok(agreed),
        }
        const CALL: &str = "ping";
        let mut line = self.open(CALL).await?;
        let response = self.send(&mut line, Ask::get(CALL, "/_ping"), "").await?;
        let header = response.headers().get("Api-Version").and_then(|value| value.to_str().ok());
        let minor = header.and_then(|text| text.strip_prefix("1.")).and_then(|minor| minor.parse().ok());
        match minor {
            Some(minor @ OLDEST..) => {
                let agreed = NEWEST.min(minor);
                self.version.store(agreed, Ordering::Relaxed);
                Ok(agreed)
            }
            _ => {
                let status = response.status();
                let why = format!(
                    "it answers {status} and speaks version {} of the API, and 1.{OLDEST} is the oldest we do",
                    header.unwrap_or("none")
                );
                Err(EngineError::Strange { call: CALL, why })
            }
        }
    }

    /// Remembers how it went: whether the engine is there, and with that which one.
    fn heard<T>(&self, result: Result<T>) -> Result<T> {
        let absent = result.as_ref().err().is_some_and(EngineError::is_absence);
        self.up.store(!absent, Ordering::Relaxed);
        if absent {
            // The next one may be another version.
            self.version.store(0, Ordering::Relaxed);
        }
        result
    }

    /// A whole answer.
    async fn ask(&self, ask: Ask, limit: Duration) -> Result<Bytes> {
        let call = ask.call;
        let asked = async {
            let (line, response) = self.begin(ask).await?;
            let bytes = whole(call, response).await?;
            drop(line);
            Ok(bytes)
        };
        let result = timeout(limit, asked).await.unwrap_or(Err(EngineError::Late { call, limit }));
        self.heard(result)
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, ask: Ask, limit: Duration) -> Result<T> {
        let call = ask.call;
        let bytes = self.ask(ask, limit).await?;
        serde_json::from_slice(&bytes).map_err(|error| EngineError::Strange { call, why: error.to_string() })
    }

    /// An answer that comes bit by bit; `limit` is for its beginning.
    async fn flow(&self, ask: Ask, limit: Duration) -> Result<Flow> {
        let call = ask.call;
        let result = timeout(limit, self.begin(ask)).await.unwrap_or(Err(EngineError::Late { call, limit }));
        let (line, response) = self.heard(result)?;
        Ok(Flow { call, body: response.into_body(), _line: line })
    }

    /// The connection itself, once the engine has agreed to give it away.
    async fn hijack(&self, ask: Ask, limit: Duration) -> Result<(UnixStream, Bytes)> {
        let call = ask.call;
        let ask = ask.header("Connection", "Upgrade".to_owned()).header("Upgrade", "tcp".to_owned());
        let taken = async {
            let (line, response) = self.begin(ask).await?;
            let lost = |why: String| EngineError::Lost { call, why };
            let upgraded = hyper::upgrade::on(response).await.map_err(|error| lost(error::chain(&error)))?;
            drop(line);
            match upgraded.downcast::<TokioIo<UnixStream>>() {
                Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
                Err(_) => Err(lost("the connection is not the one that was made".to_owned())),
            }
        };
        let result = timeout(limit, taken).await.unwrap_or(Err(EngineError::Late { call, limit }));
        self.heard(result)
    }
}

async fn whole(call: &'static str, response: Response<Incoming>) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| EngineError::Lost { call, why: error::chain(&*error) })
}

/// What the engine says of a refusal.
fn message(status: u16, text: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    let said = serde_json::from_slice::<Said>(text).map(|said| said.message);
    let said = said.unwrap_or_else(|_| String::from_utf8_lossy(text).into_owned());
    match said.trim() {
        "" => format!("the engine refused it with status {status}"),
        said => said.to_owned(),
    }
}
