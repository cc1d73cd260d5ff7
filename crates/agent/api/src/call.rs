// SPDX-License-Identifier: Apache-2.0
//! `POST /api/v1`: the order in which a call is looked at, each step ending it when it fails. What is left of it then
//! goes to the agent.

mod dispatch;

use berth_model::ContainerId;
use berth_proto::agent::call::Type;
use berth_proto::agent::{Call, Response as Message};
use berth_proto::validate;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

use crate::answer::{Body, Whole};
use crate::body::{self, in_time, is_gzip};
use crate::input::Records;
use crate::negotiate::{self, Form};
use crate::server::Shared;
use crate::{Caller, Core, Refusal};

/// What a call comes to.
pub(crate) enum Reply {
    /// Done, and nothing to say.
    Done,
    /// Done before.
    Accepted,
    Message(Box<Message>),
    Stream(Response<Body>),
}

/// A call whose every part has been looked at.
struct Checked {
    kind: Type,
    call: Call,
    /// The records after the first.
    input: Option<Records>,
    /// The form of the answer.
    form: Form,
    caller: Caller,
}

pub(crate) async fn answer(
    shared: &Shared,
    caller: Caller,
    request: Request<Incoming>,
    gzip: bool,
) -> Result<Response<Body>, Refusal> {
    let checked = check(shared, caller, request).await?;
    let encoding = checked.form.encoding();
    let whole = match checked.dispatch(shared).await? {
        Reply::Stream(response) => return Ok(response),
        Reply::Done => Whole::empty(StatusCode::OK),
        Reply::Accepted => Whole::empty(StatusCode::ACCEPTED),
        Reply::Message(message) => Whole::ok(encoding.media_type(), encoding.encode(&*message)),
    };
    Ok(whole.respond(gzip).await)
}

/// Steps 2 to 10; the first has been taken where the request was routed.
async fn check(shared: &Shared, caller: Caller, request: Request<Incoming>) -> Result<Checked, Refusal> {
    if shared.core.is_recovering() {
        let text = "Agent has not finished recovery";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    if request.method() != Method::POST {
        return Err(Refusal::method("POST", request.method()));
    }
    let content = negotiate::content(request.headers())?;
    let form = negotiate::accepted(request.headers())?;
    let (call, input) = decode(shared, content, request).await?;
    let kind = validate(&call).map_err(|error| Refusal::bad_request(error.to_string()))?;
    check_streams(kind, content, form)?;
    Ok(Checked { kind, call, input, form, caller })
}

async fn decode(
    shared: &Shared,
    content: Form,
    request: Request<Incoming>,
) -> Result<(Call, Option<Records>), Refusal> {
    let limits = &shared.options.limits;
    let (head, incoming) = request.into_parts();
    match content {
        Form::Whole(encoding) => {
            let bytes = body::whole(incoming, &head.headers, limits).await?;
            let call = encoding.decode(&bytes).map_err(|error| Refusal::bad_request(error.to_string()))?;
            Ok((call, None))
        }
        Form::Records(_) if is_gzip(&head.headers) => {
            let text = "Expecting 'Content-Encoding' to be not set for streaming requests";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
        }
        Form::Records(encoding) => {
            let mut records = Records::new(incoming, encoding, limits.body_bytes);
            let call = in_time(limits.body_timeout, records.first()).await?;
            Ok((call, Some(records)))
        }
    }
}

/// Whether the call takes and gives streams where the headers say so.
fn check_streams(kind: Type, content: Form, form: Form) -> Result<(), Refusal> {
    let name = kind.as_str_name();
    let takes_stream = kind == Type::AttachContainerInput;
    let gives_stream = matches!(
        kind,
        Type::AttachContainerOutput | Type::LaunchNestedContainerSession | Type::Subscribe | Type::ReadLogs
    );
    if content.is_records() && !takes_stream {
        let text = format!("Streaming 'Content-Type' application/recordio is not supported for {name} call");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if takes_stream && !content.is_records() {
        let text = format!("Expecting 'Content-Type' to be application/recordio for {name} call");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if form.is_records() && !gives_stream {
        let text = format!("Streaming response is not supported for {name} call");
        return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, text));
    }
    Ok(())
}

/// Refuses what the caller may not do.
pub(crate) async fn allow(
    core: &dyn Core,
    caller: &Caller,
    action: Type,
    object: Option<&ContainerId>,
) -> Result<(), Refusal> {
    if core.authorize(caller, action, object).await? { Ok(()) } else { Err(Refusal::forbidden()) }
}
