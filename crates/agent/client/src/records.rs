// SPDX-License-Identifier: Apache-2.0
//! The records of an answer that is a stream.

use std::marker::PhantomData;

use berth_proto::decode_protobuf;
use berth_proto::recordio::Decoder;
use http_body_util::BodyExt as _;
use hyper::body::{Buf as _, Bytes, Incoming};

use crate::Error;
use crate::transport::Connection;

/// No record of an agent is longer.
const LONGEST: usize = 64 << 20;

/// A stream of messages. Dropping it ends it, which the agent notices.
#[derive(Debug)]
pub struct Records<T> {
    connection: Connection,
    call: &'static str,
    body: Incoming,
    decoder: Decoder,
    rest: Bytes,
    of: PhantomData<fn() -> T>,
}

impl<T: prost::Message + prost::Name + Default> Records<T> {
    pub(crate) fn new(connection: Connection, call: &'static str, body: Incoming) -> Records<T> {
        let decoder = Decoder::new(LONGEST);
        Records { connection, call, body, decoder, rest: Bytes::new(), of: PhantomData }
    }

    /// The next message; none at the end. May be dropped half-way: nothing is lost.
    ///
    /// # Errors
    /// The agent went away before the end, or sent what is no message.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            let mut left: &[u8] = &self.rest;
            let found = self.decoder.next(&mut left);
            let taken = self.rest.len() - left.len();
            self.rest.advance(taken);
            if let Some(record) =
                found.map_err(|error| self.connection.strange(self.call, error.to_string()))?
            {
                return match decode_protobuf(&record) {
                    Ok(message) => Ok(Some(message)),
                    Err(_) => Err(self.connection.strange(self.call, "a record that is no message")),
                };
            }
            match self.body.frame().await {
                None if self.decoder.is_between_records() => return Ok(None),
                None => return Err(self.connection.strange(self.call, "a stream that ends within a record")),
                Some(Err(error)) => return Err(self.connection.lost(self.call, &error)),
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
    }
}
