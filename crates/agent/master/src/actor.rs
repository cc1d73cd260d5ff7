// SPDX-License-Identifier: Apache-2.0
//! The one task that owns what the master knows. Everybody else asks it: connections of schedulers, the agent, and
//! those who only look. What it decides it tells the agent before it answers who asked.

use std::sync::Arc;
use std::time::Duration;

use berth_api::{Refusal, StatusCode};
use berth_proto::scheduler::call::Type;
use berth_proto::scheduler::{Call, call};
use berth_tasks::link::{AgentSide, Master, StatusUpdate};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::call::mismatch;
use crate::clock::Now;
use crate::framework::Stream;
use crate::record::Records;
use crate::state::{Order, State};

/// What a call comes to that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// 202.
    Accepted,
    /// 200.
    Ok,
}

/// A call on a stream that is open.
pub(crate) struct Asked {
    pub(crate) kind: Type,
    pub(crate) call: Call,
    pub(crate) principal: Option<String>,
    pub(crate) stream: Option<String>,
}

pub(crate) enum Ask {
    Subscribe {
        subscribe: Box<call::Subscribe>,
        stream: Stream,
    },
    Call {
        asked: Box<Asked>,
        reply: oneshot::Sender<Result<Done, Refusal>>,
    },
    /// A client is gone.
    Gone(String),
    Teardown {
        framework: String,
        reply: oneshot::Sender<bool>,
    },
    Update(Box<StatusUpdate>),
    Exited {
        framework: String,
        executor: String,
        status: i32,
    },
    Message {
        framework: String,
        executor: String,
        data: Vec<u8>,
    },
    /// No more of it.
    Stop,
    /// Somebody looks.
    Look(Look),
}

/// What somebody looks at.
pub(crate) type Look = Box<dyn FnOnce(&mut State, Now) + Send>;

pub(crate) type Inbox = mpsc::UnboundedSender<Ask>;

/// The master, as its agent sees it.
pub(crate) struct Ear(pub(crate) Inbox);

impl Master for Ear {
    fn update(&self, update: StatusUpdate) {
        let _ = self.0.send(Ask::Update(Box::new(update)));
    }

    fn message(&self, framework: &str, executor: &str, data: Vec<u8>) {
        let (framework, executor) = (framework.to_owned(), executor.to_owned());
        let _ = self.0.send(Ask::Message { framework, executor, data });
    }

    fn executor_exited(&self, framework: &str, executor: &str, status: i32) {
        let (framework, executor) = (framework.to_owned(), executor.to_owned());
        let _ = self.0.send(Ask::Exited { framework, executor, status });
    }
}

/// The owner of the state.
pub(crate) struct Actor {
    pub(crate) state: State,
    pub(crate) agent: Arc<dyn AgentSide>,
    pub(crate) records: Option<Records>,
    pub(crate) inbox: mpsc::UnboundedReceiver<Ask>,
}

impl Actor {
    /// Works until nobody can ask any more.
    pub(crate) async fn run(mut self) {
        let mut round = Instant::now() + self.state.rules.round;
        self.settle();
        loop {
            let next = self.state.deadline().map_or(round, |deadline| deadline.min(round));
            tokio::select! {
                biased;
                () = sleep_until(next) => {
                    let now = Now::get();
                    self.state.expire(now);
                    if round <= now.at {
                        self.state.allocate(now);
                        round = later(round, self.state.rules.round, now.at);
                    }
                    self.settle();
                }
                asked = self.inbox.recv() => match asked {
                    None | Some(Ask::Stop) => break,
                    Some(ask) => self.answer(ask),
                },
            }
        }
        self.agent.disconnect();
    }

    /// What was decided is recorded, and told to the agent.
    fn settle(&mut self) {
        self.state.cut_off(Now::get());
        if std::mem::take(&mut self.state.dirty)
            && let Some(records) = &self.records
        {
            records.write(&self.state);
        }
        for order in std::mem::take(&mut self.state.orders) {
            self.give(order);
        }
    }

    fn give(&self, order: Order) {
        let agent = &self.agent;
        match order {
            Order::Run(run) => agent.run(*run),
            Order::Kill { framework, task, policy } => agent.kill(&framework, &task, policy),
            Order::ShutdownExecutor { framework, executor } => agent.shutdown_executor(&framework, &executor),
            Order::ShutdownFramework(framework) => agent.shutdown_framework(&framework),
            Order::Message { framework, executor, data } => agent.message(&framework, &executor, data),
            Order::Acknowledge { framework, task, uuid } => agent.acknowledge(&framework, &task, &uuid),
            Order::UpdateFramework(info) => agent.update_framework(*info),
        }
    }

    fn answer(&mut self, ask: Ask) {
        let now = Now::get();
        match ask {
            Ask::Subscribe { subscribe, stream } => self.state.subscribe(now, *subscribe, stream),
            Ask::Call { asked, reply } => {
                let result = call(&mut self.state, now, *asked);
                self.settle();
                let _ = reply.send(result);
            }
            Ask::Gone(stream) => self.state.gone(now, &stream),
            Ask::Teardown { framework, reply } => {
                let was_there = self.state.remove(now, &framework);
                self.settle();
                let _ = reply.send(was_there);
            }
            Ask::Update(update) => self.state.update(now, *update),
            Ask::Exited { framework, executor, status } => {
                self.state.executor_exited(now, &framework, &executor, status);
            }
            Ask::Message { framework, executor, data } => {
                self.state.executor_message(&framework, &executor, data);
            }
            Ask::Stop => {}
            Ask::Look(look) => look(&mut self.state, now),
        }
        self.settle();
    }
}

/// The end of the next round; those that were missed are over.
fn later(round: Instant, period: Duration, now: Instant) -> Instant {
    let next = round + period;
    if next > now { next } else { now + period }
}

/// Whether a framework may say something here: rows 12 to 17 of the order of checks.
fn admit(state: &State, id: &str, asked: &Asked) -> Result<(), Refusal> {
    let framework = state.frameworks.get(id);
    let framework = framework.ok_or_else(|| Refusal::bad_request("Framework cannot be found"))?;
    if let (Some(authenticated), Some(own)) = (&asked.principal, &framework.info.principal)
        && authenticated != own
    {
        return Err(Refusal::bad_request(mismatch(authenticated, own)));
    }
    let Some(stream) = &framework.stream else {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "Framework is not subscribed"));
    };
    match &asked.stream {
        None => {
            Err(Refusal::bad_request("All non-subscribe calls should include the 'Mesos-Stream-Id' header"))
        }
        Some(named) if *named != stream.id => Err(Refusal::bad_request(format!(
            "The stream ID '{named}' included in this request didn't match the stream ID currently associated with \
             framework ID {id}"
        ))),
        Some(_) => Ok(()),
    }
}

fn call(state: &mut State, now: Now, asked: Asked) -> Result<Done, Refusal> {
    let id = asked.call.framework_id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
    admit(state, &id, &asked)?;
    let call = asked.call;
    match asked.kind {
        Type::Teardown => drop(state.remove(now, &id)),
        Type::Accept => call.accept.into_iter().for_each(|one| state.accept(now, &id, one)),
        Type::Decline => call
            .decline
            .into_iter()
            .for_each(|one| state.decline(now, &id, &one.offer_ids, one.filters.as_ref())),
        Type::Revive => state.revive(now, &id, &call.revive.unwrap_or_default().roles),
        Type::Suppress => state.suppress(&id, &call.suppress.unwrap_or_default().roles),
        Type::Kill => call.kill.into_iter().for_each(|one| state.kill(now, &id, one)),
        Type::Shutdown => call.shutdown.into_iter().for_each(|one| state.shutdown(&id, one)),
        Type::Acknowledge => call.acknowledge.into_iter().for_each(|one| state.acknowledge(&id, one)),
        Type::Reconcile => call.reconcile.into_iter().for_each(|one| state.reconcile(now, &id, &one.tasks)),
        Type::ReconcileOperations => call
            .reconcile_operations
            .into_iter()
            .for_each(|one| state.reconcile_operations(&id, &one.operations)),
        Type::Message => call.message.into_iter().for_each(|one| state.message(&id, one)),
        Type::UpdateFramework => {
            if let Some(update) = call.update_framework {
                state.update_framework(now, update)?;
            }
            return Ok(Done::Ok);
        }
        // There is no maintenance and there are no operations here, and nobody ever did anything about a request.
        Type::Request
        | Type::AcceptInverseOffers
        | Type::DeclineInverseOffers
        | Type::AcknowledgeOperationStatus => {}
        Type::Unknown | Type::Subscribe => return Err(Refusal::bare(StatusCode::NOT_IMPLEMENTED)),
    }
    Ok(Done::Accepted)
}
