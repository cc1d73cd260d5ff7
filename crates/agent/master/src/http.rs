// SPDX-License-Identifier: Apache-2.0
//! Requests: the order in which they are looked at (reference 33.1.1), and what answers them.

use std::net::SocketAddr;
use std::sync::Arc;

use berth_api::{
    Answering, Authenticate, Body, Caller, Core, Handler, Limits, Realm, Refusal, StatusCode, Whole,
    accepted_encoding, accepts_gzip, encoding_of, refused, whole_body,
};
use berth_proto::scheduler::Call;
use berth_proto::scheduler::call::Type;
use berth_proto::{DecodeError, Encoding, v1};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, Request, Response};
use prost::Name;
use tokio::sync::oneshot;

use crate::actor::{Ask, Asked, Done, Inbox};
use crate::clock::Now;
use crate::endpoints::{self, Endpoint};
use crate::random::uuid;
use crate::state::State;
use crate::stream::{Events, Gone};
use crate::{call, event, operator};

pub(crate) const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");

/// What all connections share.
pub(crate) struct Face {
    pub(crate) inbox: Inbox,
    pub(crate) address: SocketAddr,
    pub(crate) limits: Limits,
    pub(crate) authenticate: Option<Arc<dyn Authenticate>>,
    pub(crate) version: v1::VersionInfo,
    pub(crate) flags: Vec<v1::Flag>,
    /// The agent's API, whose log is the master's too.
    pub(crate) core: Option<Arc<dyn Core>>,
}

impl Handler for Face {
    fn respond(self: Arc<Self>, _: Caller, request: Request<Incoming>) -> Answering {
        Box::pin(async move {
            let gzip = accepts_gzip(request.headers());
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let response = match self.answer(request, gzip).await {
                Ok(response) => response,
                Err(refusal) => refused(&refusal, gzip).await,
            };
            tracing::debug!(%method, path, status = response.status().as_u16(), "the master answered");
            Ok(response)
        })
    }
}

impl Face {
    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        gzip: bool,
    ) -> Result<Response<Body>, Refusal> {
        match route(request.uri().path()).ok_or_else(|| Refusal::bare(StatusCode::NOT_FOUND))? {
            Route::Scheduler => {
                let principal = self.principal(Realm::OfMasterScheduler, request.headers())?;
                self.scheduler(principal, request, gzip).await
            }
            Route::Operator => {
                self.principal(Realm::OfMasterReadWrite, request.headers())?;
                operator::answer(self, request, gzip).await
            }
            Route::Redirect => {
                let location = HeaderValue::from_str(&format!("//{}", self.address));
                let location = location.expect("an address is plain letters");
                let mut response = Whole::empty(StatusCode::TEMPORARY_REDIRECT).respond(gzip).await;
                response.headers_mut().insert(LOCATION, location);
                Ok(response)
            }
            Route::Teardown => {
                self.principal(Realm::OfMasterReadWrite, request.headers())?;
                self.teardown(request, gzip).await
            }
            Route::Look(endpoint) => {
                if endpoint.is_asked_who() {
                    self.principal(Realm::OfMasterReadOnly, request.headers())?;
                }
                endpoints::answer(self, endpoint, request.uri(), gzip).await
            }
        }
    }

    fn principal(&self, realm: Realm, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        let Some(authenticate) = &self.authenticate else { return Ok(None) };
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        authenticate.authenticate(realm, authorization)
    }

    /// `POST /teardown`: one field of a form.
    async fn teardown(&self, request: Request<Incoming>, gzip: bool) -> Result<Response<Body>, Refusal> {
        if request.method() != Method::POST {
            return Err(Refusal::method("POST", request.method()));
        }
        let (head, body) = request.into_parts();
        let body = whole_body(body, &head.headers, &self.limits).await?;
        let form = format!("/?{}", String::from_utf8_lossy(&body).trim());
        let query = form.parse().map(|uri| berth_api::Query::of(&uri));
        let missing = || Refusal::bad_request("Missing 'frameworkId' query parameter in the request body");
        let framework = query.ok().and_then(|query| query.get("frameworkId").map(str::to_owned));
        let framework = framework.ok_or_else(missing)?;
        if !self.remove(framework).await? {
            return Err(Refusal::bad_request("No framework found with specified ID"));
        }
        Ok(Whole::empty(StatusCode::OK).respond(gzip).await)
    }

    /// Ends a framework; false if there is none of this id.
    pub(crate) async fn remove(&self, framework: String) -> Result<bool, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Teardown { framework, reply })?;
        answer.await.map_err(|_| stopping())
    }

    /// Looks at what the master knows.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, Now) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Look(Box::new(move |state, now| drop(reply.send(look(state, now))))))?;
        answer.await.map_err(|_| stopping())
    }

    /// Looks, and leaves something behind.
    pub(crate) async fn look_and_change<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Look(Box::new(move |state, _| drop(reply.send(look(state))))))?;
        answer.await.map_err(|_| stopping())
    }

    pub(crate) fn ask(&self, ask: Ask) -> Result<(), Refusal> {
        self.inbox.send(ask).map_err(|_| stopping())
    }

    /// `POST /api/v1/scheduler`
    async fn scheduler(
        &self,
        principal: Option<String>,
        request: Request<Incoming>,
        gzip: bool,
    ) -> Result<Response<Body>, Refusal> {
        let (call, headers) = self.message::<Call>(request, "Call").await?;
        let kind = call::validate(&call, principal.as_deref())
            .map_err(|why| Refusal::bad_request(format!("Failed to validate scheduler::Call: {why}")))?;
        let stream =
            headers.get(STREAM_ID).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let accepted = accepted_encoding(&headers);
        if matches!(kind, Type::Subscribe | Type::ReconcileOperations) && accepted.is_none() {
            return Err(not_acceptable());
        }
        if let (Type::Subscribe, Some(encoding)) = (kind, accepted) {
            if stream.is_some() {
                let text = "Subscribe calls should not include the 'Mesos-Stream-Id' header";
                return Err(Refusal::bad_request(text));
            }
            return self.subscribe(call, encoding);
        }
        let (reply, answer) = oneshot::channel();
        let asked = Box::new(Asked { kind, call, principal, stream });
        self.ask(Ask::Call { asked, reply })?;
        let status = match answer.await.map_err(|_| stopping())?? {
            Done::Accepted => StatusCode::ACCEPTED,
            Done::Ok => StatusCode::OK,
        };
        Ok(Whole::empty(status).respond(gzip).await)
    }

    fn subscribe(&self, call: Call, encoding: Encoding) -> Result<Response<Body>, Refusal> {
        let id = uuid();
        let (stream, queue) = State::stream(id.clone());
        let subscribe =
            call.subscribe.map(Box::new).ok_or_else(|| Refusal::bad_request("no subscription"))?;
        let (inbox, of) = (self.inbox.clone(), id.clone());
        let tell = move || drop(inbox.send(Ask::Gone(of)));
        self.ask(Ask::Subscribe { subscribe, stream })?;
        let events = Events::new(queue, encoding, event::heartbeat, Some(Gone(Some(Box::new(tell)))));
        let mut response = Response::new(events.boxed_unsync());
        let stream_id = HeaderValue::from_str(&id).expect("a UUID is plain letters");
        response.headers_mut().insert(STREAM_ID, stream_id);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
        Ok(response)
    }

    /// A request that is one message.
    pub(crate) async fn message<M: prost::Message + Name + Default>(
        &self,
        request: Request<Incoming>,
        name: &str,
    ) -> Result<(M, HeaderMap), Refusal> {
        if request.method() != Method::POST {
            return Err(Refusal::method("POST", request.method()));
        }
        let encoding = encoding_of(request.headers())?;
        let (head, body) = request.into_parts();
        let bytes = whole_body(body, &head.headers, &self.limits).await?;
        let message = encoding.decode(&bytes).map_err(|error| {
            Refusal::bad_request(match error {
                DecodeError::Protobuf => format!("Failed to parse body into {name} protobuf"),
                DecodeError::Json(_) => error.to_string(),
                DecodeError::Convert(why) => format!("Failed to convert JSON into {name} protobuf: {why}"),
            })
        })?;
        Ok((message, head.headers))
    }
}

pub(crate) fn not_acceptable() -> Refusal {
    let text = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
    Refusal::new(StatusCode::NOT_ACCEPTABLE, text)
}

fn stopping() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "The master is stopping")
}

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Scheduler,
    Operator,
    Redirect,
    Teardown,
    Look(Endpoint),
}

/// The longest first. The flag says whether what is below is answered too.
const ROUTES: &[(&str, Route)] = &[
    ("/api/v1/scheduler", Route::Scheduler),
    ("/api/v1", Route::Operator),
    ("/state-summary", Route::Look(Endpoint::Summary)),
    ("/frameworks", Route::Look(Endpoint::Frameworks)),
    ("/teardown", Route::Teardown),
    ("/redirect", Route::Redirect),
    ("/health", Route::Look(Endpoint::Health)),
    ("/slaves", Route::Look(Endpoint::Slaves)),
    ("/flags", Route::Look(Endpoint::Flags)),
    ("/roles", Route::Look(Endpoint::Roles)),
    ("/state", Route::Look(Endpoint::State)),
    ("/tasks", Route::Look(Endpoint::Tasks)),
];

/// Those that are not of the master's process.
const OTHERS: &[(&str, Route)] =
    &[("/metrics/snapshot", Route::Look(Endpoint::Metrics)), ("/version", Route::Look(Endpoint::Version))];

fn route(path: &str) -> Option<Route> {
    let is_at_or_below =
        |prefix: &str| path_below(path, prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if let Some((_, route)) = OTHERS.iter().find(|(prefix, _)| is_at_or_below(prefix)) {
        return Some(*route);
    }
    let of_master = path.strip_prefix("/master").filter(|rest| rest.starts_with('/'));
    let path = of_master.unwrap_or(path);
    ROUTES.iter().find_map(|(prefix, route)| {
        let rest = path_below(path, prefix)?;
        let exact = *route == Route::Redirect;
        (rest.is_empty() || rest.starts_with('/') && !exact).then_some(*route)
    })
}

fn path_below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_with_and_without_the_name_of_the_process() {
        for path in ["/api/v1/scheduler", "/master/api/v1/scheduler", "/api/v1/scheduler/x"] {
            assert_eq!(route(path), Some(Route::Scheduler), "{path}");
        }
        for path in ["/api/v1", "/master/api/v1", "/api/v1/operator"] {
            assert_eq!(route(path), Some(Route::Operator), "{path}");
        }
        assert_eq!(route("/master/frameworks/"), Some(Route::Look(Endpoint::Frameworks)));
        assert_eq!(route("/state"), Some(Route::Look(Endpoint::State)));
        assert_eq!(route("/state-summary"), Some(Route::Look(Endpoint::Summary)));
        assert_eq!(route("/version"), Some(Route::Look(Endpoint::Version)));
    }

    #[test]
    fn what_only_begins_alike_is_not_there() {
        for path in
            ["/state.json", "/redirect/x", "/agents", "/masters/state", "/", "/master/version", "/tasksx"]
        {
            assert_eq!(route(path), None, "{path}");
        }
    }
}
