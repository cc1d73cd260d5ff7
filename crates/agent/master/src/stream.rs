// SPDX-License-Identifier: Apache-2.0
//! Streams of events: records as they come, and a sign of life every 15 seconds whatever else is sent. The end of the
//! queue is the end of the body; when the client goes, the master is told.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use berth_api::Refusal;
use berth_proto::{Encoding, recordio};
use hyper::body::{Body, Bytes, Frame};
use prost::Name;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::event::HEARTBEAT_SECONDS;

/// The body of an answer that goes on.
pub(crate) struct Events<T> {
    queue: mpsc::Receiver<T>,
    encoding: Encoding,
    heartbeat: fn() -> T,
    beats: Interval,
    /// Dropped with it, which tells that the client is gone.
    _gone: Option<Gone>,
}

/// Does something when it is dropped.
pub(crate) struct Gone(pub(crate) Option<Box<dyn FnOnce() + Send>>);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell();
        }
    }
}

impl<T> Events<T> {
    pub(crate) fn new(
        queue: mpsc::Receiver<T>,
        encoding: Encoding,
        heartbeat: fn() -> T,
        gone: Option<Gone>,
    ) -> Events<T> {
        let period = Duration::from_secs_f64(HEARTBEAT_SECONDS);
        let mut beats = interval_at(Instant::now() + period, period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Events { queue, encoding, heartbeat, beats, _gone: gone }
    }
}

impl<T: prost::Message + Name + 'static> Body for Events<T> {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let event = match self.queue.poll_recv(context) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(event)) => event,
            Poll::Pending => {
                if self.beats.poll_tick(context).is_pending() {
                    return Poll::Pending;
                }
                (self.heartbeat)()
            }
        };
        let record = recordio::encoded(&self.encoding.encode(&event));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(record)))))
    }
}

impl<T> Unpin for Events<T> {}
