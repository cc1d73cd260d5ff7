// SPDX-License-Identifier: Apache-2.0
//! Requests that are streams: the first record is the call, those after it are input for the agent to pass on.

use std::pin::Pin;
use std::task::{Context, Poll};

use berth_proto::agent::{Call, ProcessIo};
use berth_proto::recordio::Decoder;
use berth_proto::validate::process_io_of_input;
use berth_proto::{DecodeError, Encoding};
use hyper::body::{Body as _, Buf as _, Bytes, Incoming};
use tokio::sync::oneshot;

use crate::body::broken;
use crate::{Refusal, Stream};

/// The records of a request.
pub(crate) struct Records {
    body: Incoming,
    encoding: Encoding,
    decoder: Decoder,
    /// What has come and is not looked at yet.
    rest: Bytes,
}

impl Records {
    pub(crate) fn new(body: Incoming, encoding: Encoding, limit: usize) -> Records {
        Records { body, encoding, decoder: Decoder::new(limit), rest: Bytes::new() }
    }

    /// The first record.
    pub(crate) async fn first(&mut self) -> Result<Call, Refusal> {
        let record = std::future::poll_fn(|context| self.poll_record(context)).await?;
        let record = record.ok_or_else(|| Refusal::bad_request("Received EOF while reading request body"))?;
        self.decode(&record).map_err(|error| Refusal::bad_request(error.to_string()))
    }

    /// The others, as pieces of input. The stream ends at the first that is none; what is wrong with it is in the
    /// receiver then.
    pub(crate) fn input(self) -> (Stream<ProcessIo>, oneshot::Receiver<Refusal>) {
        let (fault, told) = oneshot::channel();
        (Box::pin(Input { records: self, fault: Some(fault) }), told)
    }

    fn decode(&self, record: &[u8]) -> Result<Call, DecodeError> {
        self.encoding.decode(record)
    }

    /// The next record; none at the end of the body, also within a record.
    fn poll_record(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>, Refusal>> {
        loop {
            let mut left: &[u8] = &self.rest;
            let found =
                self.decoder.next(&mut left).map_err(|error| Refusal::bad_request(error.to_string()))?;
            let taken = self.rest.len() - left.len();
            self.rest.advance(taken);
            if found.is_some() {
                return Poll::Ready(Ok(found));
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(&error))),
                Poll::Ready(Some(Ok(frame))) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
    }
}

struct Input {
    records: Records,
    /// Gone once it has been told.
    fault: Option<oneshot::Sender<Refusal>>,
}

impl Input {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<ProcessIo>, Refusal>> {
        let Poll::Ready(record) = self.records.poll_record(context)? else { return Poll::Pending };
        let Some(record) = record else { return Poll::Ready(Ok(None)) };
        let call = self.records.decode(&record).map_err(|error| Refusal::bad_request(error.to_string()))?;
        let piece = process_io_of_input(call).map_err(|error| Refusal::bad_request(error.to_string()))?;
        Poll::Ready(Ok(Some(piece)))
    }
}

impl futures_core::Stream for Input {
    type Item = Result<ProcessIo, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.fault.is_none() {
            return Poll::Ready(None);
        }
        match self.poll_piece(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(piece)) => Poll::Ready(piece.map(Ok)),
            Poll::Ready(Err(refusal)) => {
                // Nobody waits for it when the call has been answered.
                let _ = self.fault.take().map(|fault| fault.send(refusal));
                Poll::Ready(None)
            }
        }
    }
}
