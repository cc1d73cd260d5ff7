// SPDX-License-Identifier: Apache-2.0
//! `/events`: what happens, as server-sent events (the HTML standard, chapter 9.2), for browsers and for `curl -N`.
//!
//! Each event has its number as its id, so a browser that lost its connection says in `Last-Event-ID` where it goes on;
//! `?since=` says it for others. Who was away too long, or reads too slowly, gets an event `MISSED`: what it knows has
//! to be asked for anew (GET_CONTAINERS).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use berth_proto::encode_json;
use berth_proto::own::{Event, event};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, Sleep, sleep};

use super::query::Query;
use crate::answer::Body;
use crate::server::Shared;
use crate::{Refusal, Stream};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) async fn stream(
    shared: &Shared,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let since = match last.or_else(|| query.get("since")) {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Refusal::bad_request(format!("Expecting the number of an event to go on after, not '{text}'"))
        })?),
    };
    let interval = shared.options.heartbeat;
    let events = shared.core.subscribe(since).await?;
    let body = Events { events, fresh: since.is_none(), interval, alive: Box::pin(sleep(interval)) };
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

struct Events {
    events: Stream<Event>,
    /// Whether it begins with what is new.
    fresh: bool,
    interval: Duration,
    alive: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        match self.events.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(event))) => {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(text(&event, self.fresh))))));
            }
            Poll::Ready(Some(Err(refusal))) => return Poll::Ready(Some(Err(refusal))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        if self.alive.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let next = Instant::now() + self.interval;
        self.alive.as_mut().reset(next);
        // A line that begins with a colon says nothing.
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b":\n\n")))))
    }
}

/// JSON has no line ends outside of its strings, and none in them that are not escaped.
fn text(event: &Event, fresh: bool) -> Vec<u8> {
    let kind = event.r#type.and_then(|number| event::Type::try_from(number).ok()).unwrap_or_default();
    let mut text = String::new();
    // The first tells where the stream stands, so that one that breaks before anything happens goes on from there. Where
    // older events follow, it stands further back.
    let subscribed = event.subscribed.as_ref().filter(|_| fresh);
    let number = event.sequence.or_else(|| subscribed?.sequence);
    if let Some(number) = number {
        text += &format!("id: {number}\n");
    }
    text += &format!("event: {}\ndata: ", kind.as_str_name());
    let mut text = text.into_bytes();
    text.extend(encode_json(event));
    text.extend_from_slice(b"\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_number_its_kind_and_one_line_of_json() {
        let missed = Event {
            r#type: Some(event::Type::Missed.into()),
            sequence: Some(7),
            message: Some("a\nb".to_owned()),
            ..Event::default()
        };
        let text = String::from_utf8(text(&missed, true)).unwrap();
        let expected =
            "id: 7\nevent: MISSED\ndata: {\"type\":\"MISSED\",\"sequence\":7,\"message\":\"a\\nb\"}\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_first_event_has_a_number_only_where_nothing_older_follows() {
        let subscribed = Some(event::Subscribed { sequence: Some(9), heartbeat_interval: None });
        let first = Event { r#type: Some(event::Type::Subscribed.into()), subscribed, ..Event::default() };
        assert!(text(&first, true).starts_with(b"id: 9\n"));
        assert!(text(&first, false).starts_with(b"event: SUBSCRIBED\n"));
    }
}
