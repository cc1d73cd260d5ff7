// SPDX-License-Identifier: Apache-2.0
//! A client of a master's API for schedulers, and of the endpoints that it is looked at by: HTTP/1.1 over TCP, a
//! connection for each question, since a scheduler asks little and its stream has one of its own.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_model::Class;
use berth_proto::recordio::Decoder;
use berth_proto::scheduler::{Call, Event};
use berth_proto::{Encoding, decode_json, decode_protobuf, master};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Buf as _, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::transport::chain;

/// No answer and no event of a master is longer.
const LONGEST: usize = 256 << 20;

/// A master, by its address.
#[derive(Debug, Clone)]
pub struct MasterClient {
    /// IP:PORT.
    address: String,
    encoding: Encoding,
    /// The value of the header, if it asks who we are.
    authorization: Option<String>,
}

/// Why a master did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// Nobody is there.
    #[error(
        "can not connect to the master at {address}: {source}; is it `berth agent --local_master={address}`?"
    )]
    Connect {
        /// Where it should be.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// It went away.
    #[error("the master at {address} went away: {why}")]
    Lost {
        /// Where it was.
        address: String,
        /// What was noticed.
        why: String,
    },
    /// It refused.
    #[error("{text}")]
    Refused {
        /// With which status.
        status: u16,
        /// In which words.
        text: String,
    },
}

impl MasterError {
    /// Of which kind it is.
    pub fn class(&self) -> Class {
        match self {
            MasterError::Connect { source, .. } => Class::of_io(source),
            MasterError::Lost { .. } => Class::Gone,
            MasterError::Refused { status: 401 | 403, .. } => Class::Denied,
            MasterError::Refused { status: 400..500, .. } => Class::Invalid,
            MasterError::Refused { .. } => Class::Internal,
        }
    }

    /// Whether the same may succeed a moment later.
    pub fn is_of_the_moment(&self) -> bool {
        match self {
            MasterError::Connect { .. } | MasterError::Lost { .. } => true,
            MasterError::Refused { status, .. } => *status == 503,
        }
    }
}

impl MasterClient {
    /// The master at IP:PORT; `credentials` are a principal and its secret.
    pub fn new(
        address: impl Into<String>,
        encoding: Encoding,
        credentials: Option<(&str, &str)>,
    ) -> MasterClient {
        let basic =
            |(name, secret): (&str, &str)| format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")));
        MasterClient { address: address.into(), encoding, authorization: credentials.map(basic) }
    }

    /// Subscribes a framework; its events.
    ///
    /// # Errors
    /// It is not reached, or refuses the call itself. That it refuses the framework is an event.
    pub async fn subscribe(&self, call: &Call) -> Result<Events, MasterError> {
        let (response, connection) = self.post(call, None).await?;
        let stream_id = response.headers().get("mesos-stream-id").and_then(|value| value.to_str().ok());
        let stream_id = stream_id.unwrap_or_default().to_owned();
        let (status, lost) = (response.status(), self.clone());
        if status != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        Ok(Events {
            stream_id,
            master: lost,
            body: response.into_body(),
            decoder: Decoder::new(LONGEST),
            rest: Bytes::new(),
            _connection: connection,
        })
    }

    /// Sends another call on a stream.
    ///
    /// # Errors
    /// It is not reached, or refuses.
    pub async fn call(&self, stream_id: &str, call: &Call) -> Result<(), MasterError> {
        let (response, _connection) = self.post(call, Some(stream_id)).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.refused(response).await) }
    }

    /// Looks at an endpoint; what it says.
    ///
    /// # Errors
    /// It is not reached, or refuses.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, MasterError> {
        let request = self.request(Method::GET, path).body(Full::new(Bytes::new()));
        let (response, _connection) = self.send(request.expect("a path of ours is right")).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        self.whole(response).await
    }

    /// Ends a task of any framework, as that framework itself would: an operator's call, and one of ours.
    ///
    /// # Errors
    /// It is not reached, or refuses; also when no such task runs.
    pub async fn kill_task(&self, kill: master::call::KillTask) -> Result<(), MasterError> {
        let kind = master::call::Type::KillTask.into();
        let call = master::Call { r#type: Some(kind), kill_task: Some(kill), ..master::Call::default() };
        let media_type = self.encoding.media_type();
        let request = self.request(Method::POST, "/api/v1").header("Content-Type", media_type);
        let request =
            request.header("Accept", media_type).body(Full::new(self.encoding.encode(&call).into()));
        let (response, _connection) = self.send(request.expect("headers of ours are right")).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.refused(response).await) }
    }

    async fn post(
        &self,
        call: &Call,
        stream_id: Option<&str>,
    ) -> Result<(Response<Incoming>, Held), MasterError> {
        let kind = self.encoding.media_type();
        let mut request = self.request(Method::POST, "/api/v1/scheduler").header("Content-Type", kind);
        request = request.header("Accept", kind);
        if let Some(stream_id) = stream_id {
            request = request.header("Mesos-Stream-Id", stream_id);
        }
        let body = Full::new(Bytes::from(self.encoding.encode(call)));
        self.send(request.body(body).expect("headers of ours are right")).await
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        let request = Request::builder().method(method).uri(path).header("Host", &self.address);
        match &self.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Held), MasterError> {
        let failed = |source| MasterError::Connect { address: self.address.clone(), source };
        let stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        let (mut sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|why| self.lost(&why))?;
        let driver = tokio::spawn(async move { drop(driver.await) });
        let response = sender.send_request(request).await.map_err(|why| self.lost(&why))?;
        Ok((response, Held { _sender: sender, driver }))
    }

    fn lost(&self, why: &dyn std::error::Error) -> MasterError {
        MasterError::Lost { address: self.address.clone(), why: chain(why) }
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Vec<u8>, MasterError> {
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        body.map(|body| body.to_bytes().to_vec()).map_err(|why| self.lost(&*why))
    }

    async fn refused(&self, response: Response<Incoming>) -> MasterError {
        let status = response.status().as_u16();
        match self.whole(response).await {
            Ok(text) => MasterError::Refused { status, text: String::from_utf8_lossy(&text).into_owned() },
            Err(error) => error,
        }
    }
}

/// A connection for as long as its answer is read.
#[derive(Debug)]
struct Held {
    _sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The events of a subscription. Dropping it ends it, which the master notices.
#[derive(Debug)]
pub struct Events {
    stream_id: String,
    master: MasterClient,
    body: Incoming,
    decoder: Decoder,
    rest: Bytes,
    _connection: Held,
}

impl Events {
    /// What further calls of this framework name.
    pub fn stream_id(&self) -> &str {
        &self.stream_id
    }

    /// The next event; none at the end. May be dropped half-way: nothing is lost.
    ///
    /// # Errors
    /// The master went away, or sent what is no event.
    pub async fn next(&mut self) -> Result<Option<Event>, MasterError> {
        let strange =
            |master: &MasterClient, why: String| MasterError::Lost { address: master.address.clone(), why };
        loop {
            let mut left: &[u8] = &self.rest;
            let found = self.decoder.next(&mut left);
            let taken = self.rest.len() - left.len();
            self.rest.advance(taken);
            if let Some(record) = found.map_err(|why| strange(&self.master, why.to_string()))? {
                let event = match self.master.encoding {
                    Encoding::Json => decode_json(&record),
                    Encoding::Protobuf => decode_protobuf(&record),
                };
                return event.map(Some).map_err(|why| strange(&self.master, why.to_string()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(why)) => return Err(self.master.lost(&why)),
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
    }
}
