// SPDX-License-Identifier: Apache-2.0
//! An agent, and the two ways to ask it: for one answer, or for a stream of records.

use std::path::{Path, PathBuf};

use berth_model::ContainerId;
use berth_proto::agent::{Call, Response};
use berth_proto::{decode_protobuf, encode_protobuf};
use hyper::body::Bytes;

use crate::input::{self, Input, InputAnswer};
use crate::transport::{Body, Connection};
use crate::{Error, Records};

const PROTOBUF: &str = "application/x-protobuf";
const RECORDIO: &str = "application/recordio";

/// An agent, by its socket. Asking for it costs nothing: who does not connect, does not know whether it is there.
#[derive(Debug, Clone)]
pub struct Agent {
    socket: PathBuf,
}

/// What an agent said to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It was done (200).
    Done,
    /// It was done before (202).
    Accepted,
    /// What was asked for.
    Message(Box<Response>),
}

impl Agent {
    /// The agent that serves on this socket.
    pub fn at(socket: impl Into<PathBuf>) -> Agent {
        Agent { socket: socket.into() }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection, for several calls.
    ///
    /// # Errors
    /// No agent is there, or not for us.
    pub async fn connect(&self) -> Result<Connection, Error> {
        Connection::open(&self.socket).await
    }

    /// One call on a connection of its own.
    ///
    /// # Errors
    /// It was not answered, or refused.
    pub async fn call(&self, call: &Call) -> Result<Reply, Error> {
        self.connect().await?.call(call).await
    }

    /// A call that is answered by a stream; none when what it is about was there already (202).
    ///
    /// # Errors
    /// It was not answered, or refused.
    pub async fn stream<T: prost::Message + prost::Name + Default>(
        &self,
        call: &Call,
    ) -> Result<Option<Records<T>>, Error> {
        let mut connection = self.connect().await?;
        let name = call.r#type().as_str_name();
        let headers = [("Content-Type", PROTOBUF), ("Accept", RECORDIO), ("Message-Accept", PROTOBUF)];
        let response = connection.send(name, &headers, whole(call)).await?;
        match response.status().as_u16() {
            200 => {}
            202 => return Ok(None),
            status => {
                let text = connection.whole(name, response).await?;
                return Err(refused(name, status, &text));
            }
        }
        let header = |header| response.headers().get(header).map(|value| value.as_bytes());
        if header("content-type") != Some(RECORDIO.as_bytes())
            || header("message-content-type") != Some(PROTOBUF.as_bytes())
        {
            return Err(connection.strange(name, "no stream of records"));
        }
        Ok(Some(Records::new(connection, name, response.into_body())))
    }

    /// Begins to send input to a container. That the agent refuses it is told by the second part.
    ///
    /// # Errors
    /// No agent is there, or not for us.
    pub async fn attach_input(&self, id: &ContainerId) -> Result<(Input, InputAnswer), Error> {
        let mut connection = self.connect().await?;
        let (sender, pieces) = input::begin(id);
        let headers = [("Content-Type", RECORDIO), ("Message-Content-Type", PROTOBUF), ("Accept", PROTOBUF)];
        let answer = tokio::spawn(async move {
            let name = input::CALL;
            let response = connection.send(name, &headers, Body::Pieces(pieces)).await?;
            let status = response.status().as_u16();
            let text = connection.whole(name, response).await?;
            if status == 200 { Ok(()) } else { Err(refused(name, status, &text)) }
        });
        Ok((sender, InputAnswer::new(answer)))
    }
}

impl Connection {
    /// One call.
    ///
    /// # Errors
    /// It was not answered, or refused.
    pub async fn call(&mut self, call: &Call) -> Result<Reply, Error> {
        let name = call.r#type().as_str_name();
        let headers = [("Content-Type", PROTOBUF), ("Accept", PROTOBUF)];
        let response = self.send(name, &headers, whole(call)).await?;
        let status = response.status().as_u16();
        let bytes = self.whole(name, response).await?;
        match status {
            200 if bytes.is_empty() => Ok(Reply::Done),
            200 => decode_protobuf(&bytes)
                .map(|message| Reply::Message(Box::new(message)))
                .map_err(|_| self.strange(name, "no message")),
            202 => Ok(Reply::Accepted),
            status => Err(refused(name, status, &bytes)),
        }
    }
}

fn whole(call: &Call) -> Body {
    Body::Whole(Some(Bytes::from(encode_protobuf(call))))
}

fn refused(call: &'static str, status: u16, text: &[u8]) -> Error {
    let mut text = String::from_utf8_lossy(text).trim_end().to_owned();
    if text.is_empty() {
        text = format!("the agent refused {call} with status {status} and no word why");
    }
    Error::Refused { call, status, text }
}
