// SPDX-License-Identifier: Apache-2.0
//! Executors that speak by messages: the older driver, between the API and the engine of tasks (reference 31 §3).
//!
//! ```text
//! executor ── RegisterExecutor, StatusUpdate, … ──> API ──> this ──Call──> engine
//!          <── ExecutorRegistered, RunTask, … ── a connection of the agent's own ──Event──┘
//! ```
//!
//! To the engine such an executor is as any other: registering is subscribing, and what it is told goes through a
//! connection that the agent opens. When that breaks the executor is asked to say again who it is, as after a restart of
//! the agent, so that nothing has to be known of what was under way. Only the process that registered is listened to.

mod message;
mod peer;

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use berth_api::{Messages, Refusal, Sent};
use berth_proto::executor::{Call, Event, call};
use berth_proto::{decode_protobuf, internal, v1};
use berth_tasks::{Events, Standing};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use crate::agent::Inner;
use crate::core::Face;
use crate::table::lock;
use message::{Message, Told, Translate};
use peer::Peer;

/// How long an executor that is away is left alone before it is looked for again.
const AWAY: Duration = Duration::from_millis(200);
/// How long one has to say again who it is, before it is asked once more.
const ASKED: Duration = Duration::from_secs(5);
/// So many strangers are told at once that nobody waits for them.
const STRANGERS: usize = 32;
/// How long a process has to take one message when nothing depends on it.
const PASSING: Duration = Duration::from_secs(5);
/// How long an executor may leave a message untaken, before its connection is given up.
const STALL: Duration = Duration::from_secs(300);
/// So much is kept for an executor that is taking a message; what is more waits at the engine.
const KEPT: usize = 64;

/// A process in the words of libprocess: `executor(1)@127.0.0.1:35543`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Upid {
    text: String,
    id: String,
    address: SocketAddr,
}

impl Upid {
    /// None if it is none, or nothing that can be connected to.
    fn parse(text: &str) -> Option<Upid> {
        let (id, address) = text.rsplit_once('@')?;
        let address: SocketAddr = address.parse().ok()?;
        // It is written into the line of a request, and into a file.
        let plain =
            id.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@'));
        let reachable = address.port() != 0 && !address.ip().is_unspecified();
        let right = !id.is_empty() && id.len() <= 256 && plain && reachable;
        right.then(|| Upid { text: text.to_owned(), id: id.to_owned(), address })
    }
}

/// What is kept for executors that speak by messages.
#[derive(Debug)]
pub(crate) struct Driver {
    /// One after the other comes in.
    door: tokio::sync::Mutex<()>,
    /// Room for telling strangers to end: whoever that is, may not take what they are told.
    strangers: Arc<Semaphore>,
    /// Executors that are looked for, by framework, executor and process: each by one.
    sought: Mutex<BTreeSet<(String, String, String)>>,
}

impl Default for Driver {
    fn default() -> Driver {
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        Driver { door: tokio::sync::Mutex::default(), strangers, sought: Mutex::default() }
    }
}

impl Messages for Face {
    fn message(
        &self,
        sent: Sent,
        body: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Result<bool, Refusal>> + Send + '_>> {
        Box::pin(take(&self.0, sent, body))
    }
}

/// Takes a message; whether the agent knows who sends it.
async fn take(agent: &Arc<Inner>, sent: Sent, body: Vec<u8>) -> Result<bool, Refusal> {
    if agent.flags.executors.authenticate {
        let text = "Executors have to show who they are (--authenticate_http_executors), which messages can not: use the \
                    HTTP API for executors";
        return Err(Refusal::new(berth_api::StatusCode::UNAUTHORIZED, text));
    }
    let Some(from) = Upid::parse(&sent.from) else {
        let text = format!("'{}' is no process that can be answered", sent.from);
        return Err(Refusal::new(berth_api::StatusCode::INTERNAL_SERVER_ERROR, text));
    };
    if let Some(peer) = sent.peer.filter(|peer| !may_speak(*peer, &from)) {
        // Else the agent would connect to whatever address anybody names.
        let text =
            format!("UPID IP address validation failed: Message from {} was sent from IP {peer}", from.text);
        return Err(Refusal::bad_request(text));
    }
    let Some(message) = Message::read(&sent.name, &body) else {
        // As Mesos does: nobody waits for an answer.
        tracing::warn!(from = from.text, name = sent.name, "a message that is none is dropped");
        return Ok(false);
    };
    agent.has_recovered().await;
    match message {
        Message::Register { framework, executor } => {
            let subscribe = call::Subscribe::default();
            Ok(enter(agent, from, framework, executor, subscribe, false).await)
        }
        Message::Reregister { framework, executor, subscribe } => {
            Ok(enter(agent, from, framework, executor, subscribe, true).await)
        }
        Message::Call(call) => {
            let (framework, executor) = (&call.framework_id.value, &call.executor_id.value);
            let standing = agent.engine.standing(framework, executor);
            let known = standing.as_ref().is_some_and(|at| at.pid.as_deref() == Some(&from.text));
            // One that has not come back says it again when it does.
            if known && standing.is_some_and(|at| !at.registering) {
                agent.engine.called(*call).await;
            } else {
                tracing::warn!(
                    framework,
                    executor,
                    from = from.text,
                    "a message is dropped: nobody registered as this"
                );
            }
            Ok(known)
        }
    }
}

/// Whether what comes from an address may be from a process: one of this host may listen at any address of it.
fn may_speak(peer: IpAddr, from: &Upid) -> bool {
    peer.is_loopback() || peer == from.address.ip().to_canonical()
}

/// An executor says who it is: it is let in, or told to end.
async fn enter(
    agent: &Arc<Inner>,
    from: Upid,
    framework: String,
    executor: String,
    subscribe: call::Subscribe,
    again: bool,
) -> bool {
    let one = agent.driver.door.lock().await;
    let standing = agent.engine.standing(&framework, &executor);
    let entry = entry(standing.as_ref(), &from, again);
    let call = Call {
        framework_id: v1::FrameworkId { value: framework.clone() },
        executor_id: v1::ExecutorId { value: executor.clone() },
        subscribe: Some(subscribe),
        r#type: Some(call::Type::Subscribe.into()),
        ..Call::default()
    };
    let events = match entry {
        Entry::Open => agent.engine.subscribe_as(call, Some(from.text.clone())),
        Entry::Inside => return true,
        Entry::Shut => None,
    };
    let own = own(agent);
    let Some(mut events) = events else {
        tracing::warn!(
            framework,
            executor,
            from = from.text,
            ?standing,
            "no executor to be let in: it is told to end"
        );
        if let Ok(room) = Arc::clone(&agent.driver.strangers).try_acquire_owned() {
            agent.tasks.spawn(async move {
                let shutdown = internal::ShutdownExecutorMessage::default();
                let told = async {
                    let mut peer = Peer::open(&from).await?;
                    peer.post(&own, &Told::new(&shutdown)).await
                };
                let _ = timeout(PASSING, told).await;
                drop(room);
            });
        }
        return false;
    };
    // The next one finds it registered.
    let first = poll_fn(|context| events.poll_next(context)).await;
    drop(one);
    tracing::info!(framework, executor, from = from.text, again, "an executor registered by a message");
    let translate = Translate::new(framework, executor, agent.engine.id(), again);
    let weak = Arc::downgrade(agent);
    agent.tasks.spawn(async move {
        let mut speaker = Speaker { events, translate, own, to: from };
        speaker.speak(first).await;
        let Speaker { events, translate, to, .. } = speaker;
        events.end().await;
        seek(weak, translate.framework, translate.executor, to).await;
    });
    true
}

/// What becomes of who says that it is an executor.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Open,
    /// It says so twice.
    Inside,
    Shut,
}

fn entry(standing: Option<&Standing>, from: &Upid, again: bool) -> Entry {
    let Some(at) = standing else { return Entry::Shut };
    let same = at.pid.as_deref() == Some(&from.text);
    match again {
        // Nobody else is let in where one was.
        _ if at.registering && (same || !at.registered) => Entry::Open,
        true if at.running && same && !at.linked => Entry::Open,
        true if at.running && same => Entry::Inside,
        _ => Entry::Shut,
    }
}

/// Asks executors that were there before the agent to say again who they are.
pub(crate) fn seek_all(agent: &Arc<Inner>) {
    for (framework, executor, pid) in agent.engine.apart() {
        let Some(to) = Upid::parse(&pid) else {
            tracing::warn!(
                framework,
                executor,
                pid,
                "an executor can not be asked to come back: it is no process"
            );
            continue;
        };
        agent.tasks.spawn(seek(Arc::downgrade(agent), framework, executor, to));
    }
}

/// Asks an executor that is not connected to say again who it is, until it does or is over.
async fn seek(agent: Weak<Inner>, framework: String, executor: String, to: Upid) {
    let name = (framework.clone(), executor.clone(), to.text.clone());
    if agent.upgrade().is_none_or(|agent| !lock(&agent.driver.sought).insert(name.clone())) {
        return;
    }
    loop {
        let (own, message, again) = {
            let Some(agent) = agent.upgrade() else { return };
            {
                // Who comes to seek it now either finds this one, or that it has gone.
                let mut sought = lock(&agent.driver.sought);
                let away = agent.engine.standing(&framework, &executor).is_some_and(|at| {
                    !at.linked && (at.registering || at.running) && at.pid.as_deref() == Some(&to.text)
                });
                if !away {
                    sought.remove(&name);
                    return;
                }
            }
            let slave_id = v1::AgentId { value: agent.engine.id().to_owned() };
            let again = agent.flags.executor_reregistration_retry_interval.unwrap_or(ASKED);
            (own(&agent), internal::ReconnectExecutorMessage { slave_id }, again)
        };
        let ask = async {
            let mut peer = Peer::open(&to).await?;
            peer.post(&own, &Told::new(&message)).await
        };
        let asked = timeout(PASSING, ask).await;
        match asked.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(()) => tokio::time::sleep(again).await,
            Err(error) => {
                tracing::debug!(framework, executor, to = to.text, %error, "an executor is not there (yet)");
                tokio::time::sleep(AWAY).await;
            }
        }
    }
}

/// The agent as a process.
fn own(agent: &Inner) -> String {
    crate::recover::pid(agent).0
}

/// What tells an executor what is for it.
struct Speaker {
    events: Events,
    translate: Translate,
    own: String,
    to: Upid,
}

impl Speaker {
    /// Until there is nothing more to tell it, or its connection breaks.
    async fn speak(&mut self, first: Option<Event>) {
        let mut peer = match Peer::open(&self.to).await {
            Ok(peer) => peer,
            Err(error) => return tracing::warn!(to = self.to.text, %error, "an executor can not be reached"),
        };
        let Speaker { events, translate, own, to } = self;
        let mut waiting: VecDeque<Told> =
            first.into_iter().flat_map(|event| translate.event(event)).collect();
        let mut over = false;
        loop {
            let Some(told) = waiting.pop_front() else {
                if over {
                    return;
                }
                let event = tokio::select! {
                    event = poll_fn(|context| events.poll_next(context)) => event,
                    () = peer.closed() => None,
                };
                let Some(event) = event else { return };
                waiting.extend(translate.event(event));
                continue;
            };
            // It may be stopped, for as long as it is an executor: that it is none any more is heard meanwhile.
            let mut until = Instant::now() + STALL;
            let mut post = pin!(peer.post(own, &told));
            let posted = loop {
                tokio::select! {
                    posted = post.as_mut() => break posted,
                    event = poll_fn(|context| events.poll_next(context)), if !over && waiting.len() < KEPT => {
                        match event {
                            Some(event) => waiting.extend(translate.event(event)),
                            None => {
                                over = true;
                                until = until.min(Instant::now() + PASSING);
                            }
                        }
                    }
                    () = sleep_until(until) => break Err(std::io::ErrorKind::TimedOut.into()),
                }
            };
            if let Err(error) = posted {
                return tracing::warn!(to = to.text, told = told.name, %error, "an executor was not told");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_an_id_at_an_address_that_can_be_reached() {
        let upid = Upid::parse("executor(1)@127.0.0.1:35543").unwrap();
        assert_eq!((upid.id.as_str(), upid.address.port()), ("executor(1)", 35543));
        for none in [
            "",
            "executor(1)",
            "@127.0.0.1:1",
            "@0.0.0.0:0",
            "executor(1)@0.0.0.0:7",
            "executor(1)@127.0.0.1:0",
            "executor(1)@host:1",
            "a/b@127.0.0.1:1",
            "a b@127.0.0.1:1",
            "a\r\nX: y@127.0.0.1:1",
            "a@b@127.0.0.1:1",
        ] {
            assert_eq!(Upid::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn another_host_names_no_address_but_its_own() {
        let from = Upid::parse("executor(1)@10.0.0.1:7").unwrap();
        let may = |peer: &str| may_speak(peer.parse().unwrap(), &from);
        assert_eq!(
            ["127.0.0.1", "10.0.0.1", "10.0.0.2", "::1", "fe80::1"].map(may),
            [true, true, false, true, false]
        );
    }

    #[test]
    fn only_who_is_expected_is_let_in() {
        let (from, other) = (Upid::parse("a@1.2.3.4:5").unwrap(), Upid::parse("b@1.2.3.4:5").unwrap());
        let pid = || Some("a@1.2.3.4:5".to_owned());
        let at = |registering, registered, linked, pid| Standing {
            registering,
            running: !registering,
            registered,
            linked,
            pid,
        };
        let ending = Standing { running: false, ..at(false, true, true, pid()) };
        let rows = [
            (None, Entry::Shut, Entry::Shut),
            (Some(at(true, false, false, None)), Entry::Open, Entry::Open),
            // It comes back to an agent that was started anew.
            (Some(at(true, true, false, pid())), Entry::Open, Entry::Open),
            // One that speaks HTTP.
            (Some(at(true, true, false, None)), Entry::Shut, Entry::Shut),
            (Some(at(false, true, true, None)), Entry::Shut, Entry::Shut),
            (Some(at(false, true, true, pid())), Entry::Shut, Entry::Inside),
            (Some(at(false, true, false, pid())), Entry::Shut, Entry::Open),
            (Some(ending), Entry::Shut, Entry::Shut),
        ];
        for (standing, first, again) in rows {
            assert_eq!(entry(standing.as_ref(), &from, false), first, "{standing:?}");
            assert_eq!(entry(standing.as_ref(), &from, true), again, "{standing:?}, again");
            let is_new = standing.as_ref().is_some_and(|at| !at.registered);
            let strange = if is_new { Entry::Open } else { Entry::Shut };
            assert_eq!(entry(standing.as_ref(), &other, false), strange, "{standing:?}, from another");
            assert_eq!(entry(standing.as_ref(), &other, true), strange, "{standing:?}, again from another");
        }
    }
}
