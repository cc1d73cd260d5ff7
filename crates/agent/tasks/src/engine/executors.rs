// SPDX-License-Identifier: Apache-2.0
//! The engine as executors of frameworks meet it, over HTTP or by messages: whether they are heard, what they say and in which
//! order, and what they are told.

use std::sync::{Arc, Weak};
use std::time::Duration;

use berth_proto::executor::{Call, Event, call};
use berth_proto::v1;
use tokio::sync::{mpsc, oneshot};

use super::{Engine, Shared, lock};
use crate::contain::Containing;
use crate::core::{At, Input, Phase};
use crate::token::Claims;

/// How long a container's status may take that goes into a report.
const STATUS: Duration = Duration::from_secs(1);
/// Calls of one executor that wait for their turn: who sends more is to come back.
const WAITING: usize = 256;
/// Events that an executor has not read: with more its stream is closed, and it may subscribe again.
const UNREAD: usize = 16_384;

/// Why an executor's call is not taken, before its sense is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unheard {
    /// The agent has not taken over what was there.
    Recovering,
    /// No such framework.
    Framework,
    /// No such executor.
    Executor,
    /// The token says nothing of this framework.
    OtherFramework,
    /// Nor of this executor.
    OtherExecutor,
    /// Nor of the container that this executor is in now.
    OtherContainer,
    /// It has not subscribed.
    NotSubscribed,
}

impl Engine {
    /// Whether a call of an executor can be taken (reference 31 §1.3, steps 8 to 11), with what its token claims if it is
    /// asked for one.
    ///
    /// # Errors
    /// Why not.
    pub fn hears(
        &self,
        framework: &str,
        executor: &str,
        kind: call::Type,
        claims: Option<&Claims>,
    ) -> Result<(), Unheard> {
        let core = lock(&self.shared.core);
        if core.recovering && matches!(kind, call::Type::Update | call::Type::Message) {
            return Err(Unheard::Recovering);
        }
        let id = framework;
        let framework = core.frameworks.get(framework).ok_or(Unheard::Framework)?;
        // Those that are built in speak for themselves, and nobody else does.
        let executor = framework.executors.get(executor).filter(|executor| !executor.kind.is_built_in());
        let executor = executor.ok_or(Unheard::Executor)?;
        if let Some(claims) = claims {
            let is = |claim: &Option<String>, id: &str| claim.as_deref() == Some(id);
            if !is(&claims.fid, id) {
                return Err(Unheard::OtherFramework);
            }
            if !is(&claims.eid, &executor.at.executor) {
                return Err(Unheard::OtherExecutor);
            }
            if !is(&claims.cid, executor.at.container.value()) {
                return Err(Unheard::OtherContainer);
            }
        }
        if executor.phase == Phase::Registering && kind != call::Type::Subscribe {
            return Err(Unheard::NotSubscribed);
        }
        Ok(())
    }

    /// Where an executor of a framework's stands; none if there is none of this name that is not over.
    pub fn standing(&self, framework: &str, executor: &str) -> Option<Standing> {
        let core = lock(&self.shared.core);
        let framework = core.frameworks.get(framework).filter(|framework| !framework.over)?;
        let executor = framework.executors.get(executor).filter(|executor| !executor.kind.is_built_in())?;
        Some(Standing {
            registering: executor.phase == Phase::Registering,
            running: executor.phase == Phase::Running,
            registered: executor.registered,
            linked: executor.link.is_some(),
            pid: executor.pid.clone(),
        })
    }

    /// Executors that speak by messages and are not connected: framework, executor, and the process that it is.
    pub fn apart(&self) -> Vec<(String, String, String)> {
        let core = lock(&self.shared.core);
        let all = core.frameworks.values().flat_map(|framework| framework.executors.values());
        let apart = all.filter(|executor| {
            executor.link.is_none() && matches!(executor.phase, Phase::Registering | Phase::Running)
        });
        apart
            .filter_map(|one| Some((one.at.framework.clone(), one.at.executor.clone(), one.pid.clone()?)))
            .collect()
    }

    /// An executor of a framework's opens a stream; the events for it. To be called after [`Engine::hears`].
    pub fn subscribe(&self, call: Call) -> Option<Events> {
        self.subscribe_as(call, None)
    }

    /// The same for one that speaks by messages, as the process of this id; whether it may is seen by its
    /// [standing](Engine::standing).
    pub fn subscribe_as(&self, call: Call, pid: Option<String>) -> Option<Events> {
        let at = self.shared.at(&call)?;
        let (sender, receiver) = mpsc::channel(UNREAD);
        let link = {
            let mut links = lock(&self.shared.links);
            links.last += 1;
            let link = links.last;
            links.coming.insert(link, sender);
            link
        };
        let subscribe = call.subscribe.unwrap_or_default();
        let _ = self.shared.inbox.send(Some(Input::Subscribed { at: at.clone(), link, pid, subscribe }));
        Some(Events { receiver, shared: Arc::downgrade(&self.shared), at, link })
    }

    /// An executor of a framework's says something. To be called after [`Engine::hears`]. `false` when so much that it has
    /// said waits that it is to say this again later.
    pub fn call(&self, call: Call) -> bool {
        let Some(calls) = self.calls(&call) else { return true };
        !matches!(calls.try_send(call), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// An executor of a framework's says something that it will not say again: waits until there is room for it.
    pub async fn called(&self, call: Call) {
        if let Some(calls) = self.calls(&call) {
            let _ = calls.send(call).await;
        }
    }

    /// Where the calls of an executor are put in order.
    fn calls(&self, call: &Call) -> Option<mpsc::Sender<Call>> {
        let at = self.shared.at(call)?;
        let world = lock(&self.shared.world).clone()?;
        let mut links = lock(&self.shared.links);
        let open = links.calls.get(&at).filter(|calls| !calls.is_closed()).cloned();
        Some(open.unwrap_or_else(|| {
            let (sender, mut receiver) = mpsc::channel(WAITING);
            links.calls.insert(at.clone(), sender.clone());
            let shared = Arc::downgrade(&self.shared);
            let containing = Arc::clone(&world.containing);
            self.shared.spawn(&world.runtime, async move {
                while let Some(call) = receiver.recv().await {
                    pass_on(&shared, &*containing, &at, call).await;
                }
            });
            sender
        }))
    }
}

/// Where an executor of a framework's stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// It is being started, or has not come back to a restarted agent.
    pub registering: bool,
    /// It takes tasks.
    pub running: bool,
    /// It has registered or subscribed before.
    pub registered: bool,
    /// It is connected.
    pub linked: bool,
    /// The process that it is, if it speaks by messages.
    pub pid: Option<String>,
}

/// What an executor of a framework's is told, until it hears nothing more.
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    shared: Weak<Shared>,
    at: At,
    link: u64,
}

impl Events {
    /// Ends the stream, and waits until the engine has heard of that.
    pub async fn end(self) {
        let shared = self.shared.clone();
        drop(self);
        let (done, heard) = oneshot::channel();
        if let Some(shared) = shared.upgrade() {
            shared.send(Input::Heard(done));
        }
        drop(shared);
        let _ = heard.await;
    }

    /// The next one; none when the stream is over.
    pub fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Event>> {
        self.receiver.poll_recv(context)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            lock(&shared.links).coming.remove(&self.link);
            let _ = shared.inbox.send(Some(Input::Unlinked { at: self.at.clone(), link: self.link }));
        }
    }
}

/// Hands on what an executor says, with its container's status, when there is room before the core.
pub(super) async fn pass_on(shared: &Weak<Shared>, containing: &dyn Containing, at: &At, call: Call) {
    let mut status = None;
    if let Some(update) = &call.update {
        let named = update.status.container_status.as_ref().and_then(|status| status.container_id.as_ref());
        let id = named.and_then(|id| berth_proto::convert::container_id(id).ok());
        // Its own container, or one in that: those of others are none of its business.
        let id = id.filter(|id| *id.root() == at.container).unwrap_or_else(|| at.container.clone());
        let asked = tokio::time::timeout(STATUS, containing.status(id.clone())).await;
        status = Some(asked.unwrap_or_else(|_| v1::ContainerStatus {
            container_id: Some(berth_proto::convert::container_id_of(&id)),
            ..v1::ContainerStatus::default()
        }));
    }
    let Some(shared) = shared.upgrade() else { return };
    if let Ok(room) = shared.room.acquire().await {
        // The core gives it back when it has heard the call.
        room.forget();
        shared.send(Input::Called { at: at.clone(), call: Box::new(call), status });
    }
}

impl Shared {
    /// The run of an executor that a call is of.
    fn at(&self, call: &Call) -> Option<At> {
        let core = lock(&self.core);
        core.executor(&call.framework_id.value, &call.executor_id.value).map(|executor| executor.at.clone())
    }
}
