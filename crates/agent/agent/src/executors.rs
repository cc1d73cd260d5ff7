// SPDX-License-Identifier: Apache-2.0
//! Executors of frameworks, between the API and the engine of tasks.

use std::pin::Pin;
use std::task::{Context, Poll};

use berth_api::{Executors, Refusal, StatusCode, Stream};
use berth_proto::executor::{Call, Event};
use berth_tasks::{Events, Unheard};

use crate::core::Face;

impl Executors for Face {
    fn check(&self, call: &Call) -> Result<(), Refusal> {
        let (framework, executor) = (&call.framework_id.value, &call.executor_id.value);
        self.0.engine.hears(framework, executor, call.r#type()).map_err(|unheard| match unheard {
            Unheard::Recovering => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Agent has not finished recovery")
            }
            Unheard::Framework => Refusal::bad_request("Framework cannot be found"),
            Unheard::Executor => Refusal::bad_request("Executor cannot be found"),
            Unheard::NotSubscribed => Refusal::new(StatusCode::FORBIDDEN, "Executor is not subscribed"),
        })
    }

    fn subscribe(&self, call: Call) -> Stream<Event> {
        Box::pin(Told(self.0.engine.subscribe(call)))
    }

    fn call(&self, call: Call) -> Result<(), Refusal> {
        match self.0.engine.call(call) {
            true => Ok(()),
            // A library of executors tries again, and says nothing.
            false => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too much that this executor said waits: send it again later",
            )),
        }
    }
}

/// What an executor is told; nothing, when it has ended meanwhile.
struct Told(Option<Events>);

impl futures_core::Stream for Told {
    type Item = Result<Event, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Some(events) => events.poll_next(context).map(|event| event.map(Ok)),
            None => Poll::Ready(None),
        }
    }
}
