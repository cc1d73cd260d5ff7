// SPDX-License-Identifier: Apache-2.0
//! Executors of frameworks, between the API and the engine of tasks.

use std::pin::Pin;
use std::task::{Context, Poll};

use berth_api::{EXECUTORS, Executors, HeaderValue, Refusal, StatusCode, Stream};
use berth_proto::executor::{Call, Event};
use berth_tasks::{Claims, Events, Unheard};

use crate::core::Face;

impl Executors for Face {
    fn authenticate(&self, authorization: Option<&str>) -> Result<(), Refusal> {
        self.claims(authorization).map(drop)
    }

    fn check(&self, call: &Call, authorization: Option<&str>) -> Result<(), Refusal> {
        let (framework, executor) = (&call.framework_id.value, &call.executor_id.value);
        let claims = self.claims(authorization)?;
        let forbidden = |what: String| {
            let principal = claims.as_ref().map(ToString::to_string).unwrap_or_default();
            let text = format!("Authenticated principal '{principal}' does not contain {what}");
            Refusal::new(StatusCode::FORBIDDEN, text)
        };
        let heard = self.0.engine.hears(framework, executor, call.r#type(), claims.as_ref());
        heard.map_err(|unheard| match unheard {
            Unheard::Recovering => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Agent has not finished recovery")
            }
            Unheard::Framework => Refusal::bad_request("Framework cannot be found"),
            Unheard::Executor => Refusal::bad_request("Executor cannot be found"),
            Unheard::OtherFramework => forbidden(format!(
                "an 'fid' claim with the framework ID {framework}, which is set in the call"
            )),
            Unheard::OtherExecutor => {
                forbidden(format!("an 'eid' claim with the executor ID {executor}, which is set in the call"))
            }
            Unheard::OtherContainer => {
                forbidden("a 'cid' claim with the correct active ContainerID".to_owned())
            }
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

impl Face {
    /// What the token of who comes claims; none where nobody is asked for one.
    fn claims(&self, authorization: Option<&str>) -> Result<Option<Claims>, Refusal> {
        let Some(tokens) = self.0.tokens.as_ref().filter(|_| self.0.flags.executors.authenticate) else {
            return Ok(None);
        };
        let unauthorized = |more: &str| {
            let challenge = format!("Bearer realm=\"{EXECUTORS}\"{more}");
            Refusal::unauthorized(HeaderValue::from_str(&challenge).expect("it is of plain letters"))
        };
        let token =
            authorization.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| unauthorized(""))?;
        let read = tokens.read(token.trim_ascii());
        let invalid = |why| {
            unauthorized(&format!(", error=\"invalid_token\", error_description=\"Invalid JWT: {why}\""))
        };
        read.map(Some).map_err(invalid)
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
