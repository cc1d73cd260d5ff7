// SPDX-License-Identifier: Apache-2.0
//! What comes by the older protocol, in which processes send each other messages (reference 32 §1): a POST for each,
//! named by its type, answered with 202 before anything is known of what comes of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;

use crate::answer::{Body, Whole};
use crate::server::Shared;
use crate::{Refusal, body};

/// What the requests begin with that carry messages for the agent.
pub(crate) const BEGINNINGS: &[&[u8]] =
    &[b"POST /slave(1)/mesos.internal.", b"POST /slave%281%29/mesos.internal."];
/// The agent's own process.
const OWN: &str = "slave(1)";
/// What the names of messages begin with.
const PACKAGE: &str = "mesos.internal.";
const FROM: HeaderName = HeaderName::from_static("libprocess-from");
const AGENT: &str = "libprocess/";

/// A message without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The process that sends it: `executor(1)@10.0.0.1:4000`. Nothing proves it.
    pub from: String,
    /// The address that it came from.
    pub peer: Option<IpAddr>,
    /// The name of its type, as `mesos.internal.RegisterExecutorMessage`.
    pub name: String,
}

/// Who listens to messages.
pub trait Messages: Send + Sync {
    /// Takes one. The next of its connection comes when this one is answered: `true` if it came from a process that the
    /// agent knows, whose connection stays open though it says nothing.
    ///
    /// # Errors
    /// It is not listened to.
    fn message(
        &self,
        sent: Sent,
        body: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Result<bool, Refusal>> + Send + '_>>;
}

/// A connection that messages may come through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// Whether what came was from a process that the agent knows.
    pub(crate) known: Arc<AtomicBool>,
    /// The address of the other end.
    pub(crate) peer: Option<IpAddr>,
}

/// So many connections of one process stay open though they say nothing.
const CONNECTIONS: usize = 4;

/// So many messages are being heard at once, also of connections that are gone; others wait.
const HEARD: usize = 1024;

/// What is kept of processes that send messages.
#[derive(Debug)]
pub(crate) struct Known {
    /// The connections of those that the agent knows, the oldest first.
    connections: Mutex<BTreeMap<String, VecDeque<Weak<AtomicBool>>>>,
    room: Arc<Semaphore>,
}

impl Default for Known {
    fn default() -> Known {
        Known { connections: Mutex::default(), room: Arc::new(Semaphore::new(HEARD)) }
    }
}

impl Known {
    /// A process is known by this connection, too. Its oldest one is as any other from now on, if it has too many.
    fn add(&self, from: &str, link: &Link) {
        if link.known.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for links in all.values_mut() {
            links.retain(|link| link.strong_count() > 0);
        }
        all.retain(|_, links| !links.is_empty());
        let links = all.entry(from.to_owned()).or_default();
        links.push_back(Arc::downgrade(&link.known));
        if links.len() > CONNECTIONS
            && let Some(oldest) = links.pop_front().and_then(|link| link.upgrade())
        {
            oldest.store(false, Ordering::Relaxed);
        }
    }
}

/// Whether a request is a message, and which; an error if it is for nobody, or from nobody.
pub(crate) fn addressed<B>(request: &Request<B>) -> Option<Result<Sent, Refusal>> {
    if request.method() != Method::POST {
        return None;
    }
    let from = sender(request.headers())?;
    let path = percent_decode_str(request.uri().path()).decode_utf8().ok()?;
    let (to, name) = path.strip_prefix('/')?.split_once('/')?;
    if !name.starts_with(PACKAGE) || name.contains('/') {
        return None;
    }
    Some(match from {
        _ if to != OWN => Err(Refusal::bare(StatusCode::NOT_FOUND)),
        Some(from) => Ok(Sent { from, peer: None, name: name.to_owned() }),
        None => {
            let text = "Failed to determine the sender of a message: neither 'Libprocess-From' nor 'User-Agent' names a \
                        process as ID@ADDRESS:PORT";
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
    })
}

/// The process that sends, by what a request says of it; none if it says nothing, and none within if that is no process.
fn sender(headers: &HeaderMap) -> Option<Option<String>> {
    let said = match headers.get(FROM) {
        Some(from) => from.to_str().ok(),
        None => Some(headers.get(USER_AGENT)?.to_str().ok()?.strip_prefix(AGENT)?),
    };
    Some(said.filter(|from| from.contains('@')).map(str::to_owned))
}

pub(crate) async fn answer(
    shared: &Shared,
    mut sent: Sent,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if shared.options.executors_only || shared.core.messages().is_none() {
        return Err(Refusal::bare(StatusCode::NOT_FOUND));
    }
    let link = request.extensions().get::<Link>().cloned().unwrap_or_default();
    sent.peer = link.peer;
    let (head, incoming) = request.into_parts();
    let bytes = body::whole(incoming, &head.headers, &shared.options.limits).await?;
    let (core, from) = (Arc::clone(&shared.core), sent.from.clone());
    let room = Arc::clone(&shared.known.room).acquire_owned().await.expect("it is never closed");
    // On its own: what was said is heard to its end, though its connection goes.
    let hearing = tokio::spawn(async move {
        let heard = match core.messages() {
            Some(messages) => messages.message(sent, bytes).await,
            None => Ok(false),
        };
        drop(room);
        heard
    });
    if hearing.await.map_err(|error| Refusal::failed(error.to_string()))?? {
        shared.known.add(&from, &link);
    }
    Ok(Whole::empty(StatusCode::ACCEPTED).respond(false).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Result<Sent, u16>> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let found = addressed(&request.body(()).unwrap());
        found.map(|sent| sent.map_err(|refusal| refusal.status().as_u16()))
    }

    #[test]
    fn a_message_has_a_sender_and_is_for_the_agent() {
        let path = "/slave(1)/mesos.internal.RegisterExecutorMessage";
        let from = "executor(1)@127.0.0.1:35543";
        let sent = Sent {
            from: from.to_owned(),
            peer: None,
            name: "mesos.internal.RegisterExecutorMessage".to_owned(),
        };
        let agent = format!("libprocess/{from}");
        assert_eq!(asked("POST", path, &[("Libprocess-From", from)]), Some(Ok(sent.clone())));
        assert_eq!(asked("POST", path, &[("User-Agent", &agent)]), Some(Ok(sent.clone())));
        let encoded = "/slave%281%29/mesos.internal.RegisterExecutorMessage";
        let both = [("Libprocess-From", from), ("User-Agent", "libprocess/other@1.2.3.4:5")];
        assert_eq!(asked("POST", encoded, &both), Some(Ok(sent)));
    }

    #[test]
    fn what_is_for_others_is_not_found_and_what_is_from_nobody_fails() {
        let (path, from) = ("/slave(1)/mesos.internal.X", [("Libprocess-From", "executor(1)@127.0.0.1:1")]);
        assert_eq!(asked("POST", "/master/mesos.internal.X", &from), Some(Err(404)));
        assert_eq!(asked("POST", path, &[("Libprocess-From", "nobody")]), Some(Err(500)));
        assert_eq!(asked("POST", path, &[("User-Agent", "libprocess/")]), Some(Err(500)));
    }

    #[test]
    fn all_else_is_no_message() {
        let (path, from) = ("/slave(1)/mesos.internal.X", [("Libprocess-From", "executor(1)@127.0.0.1:1")]);
        assert_eq!(asked("GET", path, &from), None);
        assert_eq!(asked("POST", path, &[("User-Agent", "curl")]), None);
        assert_eq!(asked("POST", path, &[]), None);
        for other in ["/slave(1)/api/v1/executor", "/api/v1", "/", "/slave(1)/mesos.internal.X/y"] {
            assert_eq!(asked("POST", other, &from), None, "{other}");
        }
    }
}
