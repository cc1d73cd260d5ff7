// SPDX-License-Identifier: Apache-2.0
//! The older endpoints, each a path and a query of its own (reference 30.9), and the events for browsers. What they
//! tell is what the calls of the API tell, in Mesos's older words.

mod about;
mod events;
mod files;
mod look;
mod query;
mod tree;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;

use berth_proto::agent::call::Type;
use berth_proto::encode_json;

use crate::answer::{Body, Whole};
use crate::auth::{self, Realm};
use crate::server::Shared;
use crate::{Caller, Core, Refusal, call};
pub use about::CAPABILITIES;
pub use query::Query;

/// Which endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Health,
    Version,
    Flags,
    State,
    Containers,
    Statistics,
    Debug,
    Metrics,
    Logging,
    System,
    Browse,
    Read,
    Download,
    Places,
    Events,
}

impl Endpoint {
    /// Who lets callers in; none where everybody may look.
    fn realm(self) -> Option<Realm> {
        match self {
            Endpoint::Health | Endpoint::Version => None,
            Endpoint::Logging => Some(Realm::ReadWrite),
            _ => Some(Realm::ReadOnly),
        }
    }

    /// The call that tells the same, which a caller must be allowed to make.
    fn action(self) -> Option<Type> {
        match self {
            Endpoint::Flags => Some(Type::GetFlags),
            Endpoint::Containers | Endpoint::Statistics => Some(Type::GetContainers),
            Endpoint::Debug => Some(Type::GetOperationsInFlight),
            Endpoint::Metrics => Some(Type::GetMetrics),
            Endpoint::Logging => Some(Type::SetLoggingLevel),
            Endpoint::Browse | Endpoint::Places => Some(Type::ListFiles),
            Endpoint::Read | Endpoint::Download => Some(Type::ReadFile),
            Endpoint::Events => Some(Type::Subscribe),
            // What it shows is left out piece by piece.
            Endpoint::State | Endpoint::Health | Endpoint::Version | Endpoint::System => None,
        }
    }

    /// What it tells, in which form, and what may stand in its query.
    pub(crate) fn about(self) -> (&'static str, &'static str, &'static [&'static str]) {
        let json = "application/json";
        match self {
            Endpoint::Health => ("Whether the agent serves", "", &[]),
            Endpoint::Version => ("The build", json, &["jsonp"]),
            Endpoint::Flags => ("The flags that have a value; secret ones masked", json, &["jsonp"]),
            Endpoint::State => ("The agent, its resources and flags, its frameworks", json, &["jsonp"]),
            Endpoint::Containers => {
                ("Containers of executors", json, &["container_id", "framework_id", "executor_id", "jsonp"])
            }
            Endpoint::Statistics => ("What executors use; twice a second at most", json, &["jsonp"]),
            Endpoint::Debug => ("What is under way, and since when", json, &["jsonp"]),
            Endpoint::Metrics => ("What is measured, as one object", json, &["timeout", "jsonp"]),
            Endpoint::Logging => {
                ("How much is logged; or more, for a while", "text/plain", &["level", "duration"])
            }
            Endpoint::System => ("Load, processors and memory of the host", json, &["jsonp"]),
            Endpoint::Browse => ("A directory of a sandbox", json, &["path", "jsonp"]),
            Endpoint::Read => {
                ("A piece of a file of a sandbox", json, &["path", "offset", "length", "jsonp"])
            }
            Endpoint::Download => ("A file of a sandbox", "application/octet-stream", &["path"]),
            Endpoint::Places => ("Virtual paths and the real ones they stand for", json, &["jsonp"]),
            Endpoint::Events => ("What happens, as server-sent events", "text/event-stream", &["since"]),
        }
    }

    /// Whether it answers a GET only.
    fn is_of_get(self) -> bool {
        matches!(self, Endpoint::Containers | Endpoint::Statistics | Endpoint::Debug | Endpoint::Events)
    }

    /// Whether it tells nothing before the agent has taken over what was there.
    fn waits_for_recovery(self) -> bool {
        matches!(self, Endpoint::State | Endpoint::Containers | Endpoint::Statistics | Endpoint::Events)
    }
}

/// Answers a request to an endpoint.
pub(crate) async fn answer(
    shared: &Shared,
    mut caller: Caller,
    endpoint: Endpoint,
    request: &Request<Incoming>,
    gzip: bool,
) -> Result<Response<Body>, Refusal> {
    let core = &*shared.core;
    if let Some(realm) = endpoint.realm() {
        let authenticate = shared.options.authenticate.as_deref();
        caller.principal = auth::principal(authenticate, realm, request.headers())?;
    }
    if endpoint.waits_for_recovery() && core.is_recovering() {
        let text = "Agent has not finished recovery";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    if endpoint.is_of_get() && request.method() != Method::GET {
        return Err(Refusal::method("GET", request.method()));
    }
    if let Some(action) = endpoint.action() {
        call::allow(core, &caller, action, None).await?;
    }
    let query = Query::of(request.uri());
    let value = match endpoint {
        Endpoint::Health => return Ok(Whole::empty(StatusCode::OK).respond(gzip).await),
        Endpoint::Download => return files::download(shared, &query).await,
        Endpoint::Events => return events::stream(shared, &query, request.headers()).await,
        Endpoint::Logging => return Ok(look::logging(core, &query).await?.respond(gzip).await),
        Endpoint::Version => message(&encode_json(&core.version())),
        Endpoint::Flags => about::flags(core),
        Endpoint::State => about::state(core, &caller).await?,
        Endpoint::Containers => look::containers(core, &caller, &query).await?,
        Endpoint::Statistics => look::statistics(shared, &caller).await?,
        Endpoint::Debug => look::pending(core).await?,
        Endpoint::Metrics => look::metrics(core, &query).await?,
        Endpoint::System => look::system(core).await?,
        Endpoint::Browse => files::browse(core, &query).await?,
        Endpoint::Read => files::read(core, &query).await?,
        Endpoint::Places => files::places(core).await?,
    };
    Ok(json(&value, &query)?.respond(gzip).await)
}

/// A message that is JSON already, as JSON.
fn message(encoded: &[u8]) -> Value {
    serde_json::from_slice(encoded).expect("the JSON of a message is JSON")
}

/// JSON, names in alphabetical order; or a call of the function that `?jsonp=` names.
fn json(value: &Value, query: &Query) -> Result<Whole, Refusal> {
    as_json(value.to_string(), query)
}

/// Text that is JSON, as the answer; or as a call of the function that `?jsonp=` names.
///
/// # Errors
/// It names no function.
pub fn as_json(text: String, query: &Query) -> Result<Whole, Refusal> {
    match jsonp(query)? {
        None => Ok(Whole::ok("application/json", text.into_bytes())),
        Some(function) => Ok(Whole::ok("text/javascript", format!("{function}({text})").into_bytes())),
    }
}

/// The name of a function. Mesos takes any text; here it can be no program.
fn jsonp(query: &Query) -> Result<Option<&str>, Refusal> {
    let Some(function) = query.get("jsonp") else { return Ok(None) };
    let is_of_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    if function.is_empty() || !function.chars().all(is_of_names) {
        let text = "Expecting 'jsonp' to be the name of a function: letters, digits, '_', '$' and '.'";
        return Err(Refusal::bad_request(text));
    }
    Ok(Some(function))
}

/// What the agent says of itself, for those that are not asked piece by piece.
async fn agent_info(core: &dyn Core) -> Result<berth_proto::v1::AgentInfo, Refusal> {
    Ok(core.agent().await?.agent_info.unwrap_or_default())
}
