// SPDX-License-Identifier: Apache-2.0
//! `POST /api/v1/executor`: what executors of frameworks say, and the stream of what they are told. The checks, their
//! order and their words are Mesos's (reference 31 §1.3).

use std::time::Duration;

use berth_proto::executor::{Call, Event, call, event};
use berth_proto::{DecodeError, Encoding, encode_json, encode_protobuf, v1};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, Response, StatusCode};

use crate::answer::{Body, Whole};
use crate::negotiate::{Form, accepted_encoding, encoding_of};
use crate::server::Shared;
use crate::{Refusal, Stream, body, output};

/// The realm of executors, in challenges.
pub const EXECUTORS: &str = "mesos-agent-executor";
/// A sign of life is sent so often.
const HEARTBEAT: Duration = Duration::from_secs(30 * 60);

/// Executors, as the face sees them.
pub trait Executors: Send + Sync {
    /// Whether whoever says so in this header may come in at all: the first step of every request.
    ///
    /// # Errors
    /// [`Refusal::unauthorized`], in the realm [`EXECUTORS`].
    fn authenticate(&self, authorization: Option<&str>) -> Result<(), Refusal>;

    /// Whether this executor may make this call now, and who says so is it.
    ///
    /// # Errors
    /// Why not, in Mesos's words.
    fn check(&self, call: &Call, authorization: Option<&str>) -> Result<(), Refusal>;

    /// What the executor is told from now on. Its call has been checked.
    fn subscribe(&self, call: Call) -> Stream<Event>;

    /// A report or a message. Its call has been checked.
    ///
    /// # Errors
    /// It is to be sent again later.
    fn call(&self, call: Call) -> Result<(), Refusal>;
}

pub(crate) async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let Some(executors) = shared.core.executors() else {
        let text = "The executor API is not served by this agent";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, text));
    };
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let authorization = authorization.map(str::to_owned);
    executors.authenticate(authorization.as_deref())?;
    if shared.core.is_recovering() {
        let text = "Agent has not finished recovery";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    if request.method() != Method::POST {
        return Err(Refusal::method("POST", request.method()));
    }
    let encoding = encoding_of(request.headers())?;
    let accepted = accepted_encoding(request.headers());
    let (head, incoming) = request.into_parts();
    let bytes = body::whole(incoming, &head.headers, &shared.options.limits).await?;
    let call: Call = encoding.decode(&bytes).map_err(undecoded)?;
    let kind = validate(&call)
        .map_err(|why| Refusal::bad_request(format!("Failed to validate Executor::Call: {why}")))?;
    let form = match (kind, accepted) {
        (call::Type::Subscribe, None) => {
            let text = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
            return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, text));
        }
        (_, accepted) => Form::Whole(accepted.unwrap_or(Encoding::Json)),
    };
    if kind == call::Type::Heartbeat {
        return Ok(Whole::empty(StatusCode::ACCEPTED).respond(false).await);
    }
    executors.check(&call, authorization.as_deref())?;
    match kind {
        call::Type::Subscribe => Ok(output::respond(executors.subscribe(call), form, HEARTBEAT)),
        call::Type::Update | call::Type::Message => {
            executors.call(call)?;
            Ok(Whole::empty(StatusCode::ACCEPTED).respond(false).await)
        }
        call::Type::Heartbeat | call::Type::Unknown => Err(Refusal::bare(StatusCode::NOT_IMPLEMENTED)),
    }
}

fn undecoded(error: DecodeError) -> Refusal {
    Refusal::bad_request(match error {
        DecodeError::Protobuf => "Failed to parse body into Call protobuf".to_owned(),
        DecodeError::Json(why) => format!("Failed to parse body into JSON: {why}"),
        DecodeError::Convert(why) => format!("Failed to convert JSON into Call protobuf: {why}"),
    })
}

/// Whether a call makes sense.
fn validate(call: &Call) -> Result<call::Type, String> {
    let expecting = |what: &str| Err(format!("Expecting '{what}' to be present"));
    if call.r#type.is_none() {
        return expecting("type");
    }
    let kind = call.r#type();
    match kind {
        call::Type::Subscribe if call.subscribe.is_none() => return expecting("subscribe"),
        call::Type::Message if call.message.is_none() => return expecting("message"),
        call::Type::Update => match &call.update {
            None => return expecting("update"),
            Some(update) => validate_status(call, &update.status)?,
        },
        _ => {}
    }
    Ok(kind)
}

fn validate_status(call: &Call, status: &v1::TaskStatus) -> Result<(), String> {
    let (executor, framework) = (&call.executor_id.value, &call.framework_id.value);
    match status.uuid.as_deref() {
        None => return Err("Expecting 'uuid' to be present".to_owned()),
        Some(uuid) if !is_uuid(uuid) => return Err("Not a valid UUID".to_owned()),
        Some(_) => {}
    }
    if let Some(other) = status.executor_id.as_ref().filter(|other| other.value != *executor) {
        let other = &other.value;
        return Err(format!(
            "ExecutorID in Call: {executor} does not match ExecutorID in TaskStatus: {other}"
        ));
    }
    if status.source() != v1::task_status::Source::Executor {
        return Err(format!(
            "Received Call from executor {executor} of framework {framework} with invalid source, expecting \
             'SOURCE_EXECUTOR'"
        ));
    }
    if status.state() == v1::TaskState::TaskStaging {
        return Err(format!(
            "Received TASK_STAGING from executor {executor} of framework {framework} which is not allowed"
        ));
    }
    match &status.check_status {
        Some(check) => validate_check(check),
        None => Ok(()),
    }
}

fn validate_check(check: &v1::CheckStatusInfo) -> Result<(), String> {
    use v1::check_info::Type;
    if check.r#type.is_none() {
        return Err("CheckStatusInfo must specify 'type'".to_owned());
    }
    let missing = match check.r#type() {
        Type::Command => check.command.is_none().then_some(("command", "COMMAND")),
        Type::Http => check.http.is_none().then_some(("http", "HTTP")),
        Type::Tcp => check.tcp.is_none().then_some(("tcp", "TCP")),
        Type::Unknown => None,
    };
    match missing {
        Some((field, kind)) => Err(format!("Expecting '{field}' to be set for {kind} check's status")),
        None => Ok(()),
    }
}

/// 16 bytes that say of themselves, in a version that is known, that they are a uuid (RFC 9562).
fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 16 && bytes[8] & 0xc0 == 0x80 && (1..=5).contains(&(bytes[6] >> 4))
}

impl output::Record for Event {
    fn encoded(&self, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Json => encode_json(self),
            Encoding::Protobuf => encode_protobuf(self),
        }
    }

    fn heartbeat(_: Duration) -> Event {
        Event { r#type: Some(event::Type::Heartbeat.into()), ..Event::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(change: impl FnOnce(&mut v1::TaskStatus)) -> Call {
        let mut status = v1::TaskStatus {
            task_id: v1::TaskId { value: "t".to_owned() },
            state: v1::TaskState::TaskRunning.into(),
            uuid: Some(vec![0x44; 6].into_iter().chain([0x40, 0, 0x80]).chain([0; 7]).collect()),
            source: Some(v1::task_status::Source::Executor.into()),
            ..Default::default()
        };
        change(&mut status);
        let update = Some(call::Update { status });
        Call { update, ..call(Some(call::Type::Update)) }
    }

    fn call(kind: Option<call::Type>) -> Call {
        Call {
            executor_id: v1::ExecutorId { value: "e".to_owned() },
            framework_id: v1::FrameworkId { value: "f".to_owned() },
            r#type: kind.map(Into::into),
            ..Default::default()
        }
    }

    #[test]
    fn a_call_that_makes_no_sense_is_refused_in_the_words_of_mesos() {
        let check = |kind: Option<v1::check_info::Type>| {
            move |status: &mut v1::TaskStatus| {
                let check = v1::CheckStatusInfo { r#type: kind.map(Into::into), ..Default::default() };
                status.check_status = Some(check);
            }
        };
        let rows: [(Call, &str); 14] = [
            (call(None), "Expecting 'type' to be present"),
            (call(Some(call::Type::Subscribe)), "Expecting 'subscribe' to be present"),
            (call(Some(call::Type::Update)), "Expecting 'update' to be present"),
            (call(Some(call::Type::Message)), "Expecting 'message' to be present"),
            (update(|status| status.uuid = None), "Expecting 'uuid' to be present"),
            (update(|status| status.uuid = Some(vec![1; 15])), "Not a valid UUID"),
            (update(|status| status.uuid = Some(vec![0; 16])), "Not a valid UUID"),
            (
                update(|status| status.executor_id = Some(v1::ExecutorId { value: "x".to_owned() })),
                "ExecutorID in Call: e does not match ExecutorID in TaskStatus: x",
            ),
            (
                update(|status| status.source = None),
                "Received Call from executor e of framework f with invalid source, expecting 'SOURCE_EXECUTOR'",
            ),
            (
                update(|status| status.state = v1::TaskState::TaskStaging.into()),
                "Received TASK_STAGING from executor e of framework f which is not allowed",
            ),
            (update(check(None)), "CheckStatusInfo must specify 'type'"),
            (
                update(check(Some(v1::check_info::Type::Command))),
                "Expecting 'command' to be set for COMMAND check's status",
            ),
            (
                update(check(Some(v1::check_info::Type::Http))),
                "Expecting 'http' to be set for HTTP check's status",
            ),
            (
                update(check(Some(v1::check_info::Type::Tcp))),
                "Expecting 'tcp' to be set for TCP check's status",
            ),
        ];
        for (call, expected) in rows {
            assert_eq!(validate(&call).unwrap_err(), expected);
        }
        assert_eq!(validate(&update(|_| {})), Ok(call::Type::Update));
        assert_eq!(validate(&call(Some(call::Type::Heartbeat))), Ok(call::Type::Heartbeat));
    }
}
