// SPDX-License-Identifier: Apache-2.0
//! Answers that are streams: records as they come, and now and then a sign of life.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use berth_proto::agent::{ProcessIo, process_io};
use berth_proto::own::{Event, LogChunk, event, log_chunk};
use berth_proto::{Encoding, encode_json, encode_protobuf, recordio, v1};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::time::{Instant, Sleep, sleep};

use crate::answer::Body;
use crate::negotiate::{Form, MESSAGE_CONTENT_TYPE};
use crate::{Refusal, Stream};

/// A message that is sent in a stream.
pub(crate) trait Record: Send + Unpin + 'static {
    fn encoded(&self, encoding: Encoding) -> Vec<u8>;

    /// One that says nothing but that the connection is alive.
    fn heartbeat(interval: Duration) -> Self;
}

/// The answer that streams what the agent sends. Its body is RecordIO whatever the client accepts; one that does not
/// accept RecordIO is told the form of the records, as Mesos does for old clients.
pub(crate) fn respond<T: Record>(stream: Stream<T>, form: Form, interval: Duration) -> Response<Body> {
    let encoding = form.encoding();
    let records = Records { stream, encoding, interval, alive: Box::pin(sleep(interval)) };
    let mut response = Response::new(records.boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    if form.is_records() {
        headers.insert(MESSAGE_CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    }
    response
}

struct Records<T> {
    stream: Stream<T>,
    encoding: Encoding,
    interval: Duration,
    alive: Pin<Box<Sleep>>,
}

impl<T: Record> Records<T> {
    fn whole(&self, record: &T) -> Frame<Bytes> {
        Frame::data(Bytes::from(recordio::encoded(&record.encoded(self.encoding))))
    }
}

impl<T: Record> hyper::body::Body for Records<T> {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        match self.stream.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(record))) => return Poll::Ready(Some(Ok(self.whole(&record)))),
            Poll::Ready(Some(Err(refusal))) => {
                tracing::warn!(%refusal, "a stream of answers broke off");
                return Poll::Ready(Some(Err(refusal)));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        if self.alive.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let next = Instant::now() + self.interval;
        self.alive.as_mut().reset(next);
        Poll::Ready(Some(Ok(self.whole(&T::heartbeat(self.interval)))))
    }
}

/// An interval as messages have it.
fn duration_info(interval: Duration) -> v1::DurationInfo {
    v1::DurationInfo { nanoseconds: i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX) }
}

fn encode<M>(
    message: &M,
    encoding: Encoding,
    json: fn(&M) -> Vec<u8>,
    protobuf: fn(&M) -> Vec<u8>,
) -> Vec<u8> {
    match encoding {
        Encoding::Json => json(message),
        Encoding::Protobuf => protobuf(message),
    }
}

impl Record for ProcessIo {
    fn encoded(&self, encoding: Encoding) -> Vec<u8> {
        encode(self, encoding, encode_json, encode_protobuf)
    }

    fn heartbeat(interval: Duration) -> ProcessIo {
        let heartbeat = process_io::control::Heartbeat { interval: Some(duration_info(interval)) };
        ProcessIo {
            r#type: Some(process_io::Type::Control.into()),
            data: None,
            control: Some(process_io::Control {
                r#type: Some(process_io::control::Type::Heartbeat.into()),
                tty_info: None,
                heartbeat: Some(heartbeat),
            }),
        }
    }
}

impl Record for Event {
    fn encoded(&self, encoding: Encoding) -> Vec<u8> {
        encode(self, encoding, encode_json, encode_protobuf)
    }

    fn heartbeat(_: Duration) -> Event {
        Event { r#type: Some(event::Type::Heartbeat.into()), ..Event::default() }
    }
}

impl Record for LogChunk {
    fn encoded(&self, encoding: Encoding) -> Vec<u8> {
        encode(self, encoding, encode_json, encode_protobuf)
    }

    fn heartbeat(_: Duration) -> LogChunk {
        LogChunk { r#type: Some(log_chunk::Type::Heartbeat.into()), ..LogChunk::default() }
    }
}
