// SPDX-License-Identifier: Apache-2.0
//! From messages to calls, and from events to messages.

use berth_proto::executor::{Call, Event, call, event};
use berth_proto::internal::{
    ExecutorRegisteredMessage, ExecutorReregisteredMessage, ExecutorToFrameworkMessage,
    FrameworkToExecutorMessage, KillTaskMessage, RegisterExecutorMessage, ReregisterExecutorMessage,
    RunTaskMessage, ShutdownExecutorMessage, StatusUpdate, StatusUpdateAcknowledgementMessage,
    StatusUpdateMessage,
};
use berth_proto::v1::task_status::Source;
use berth_proto::{encode_protobuf, v1};
use prost::Name;

use super::decode_protobuf;

/// What stands for a scheduler that is no process.
const NO_PROCESS: &str = "@0.0.0.0:0";

/// What an executor says.
#[derive(Debug)]
pub(super) enum Message {
    Register { framework: String, executor: String },
    Reregister { framework: String, executor: String, subscribe: call::Subscribe },
    Call(Box<Call>),
}

impl Message {
    /// None if it is none that executors send, or not whole.
    pub(super) fn read(name: &str, body: &[u8]) -> Option<Message> {
        fn of<M: prost::Message + Name + Default>(name: &str, body: &[u8]) -> Option<M> {
            (M::full_name() == name).then(|| decode_protobuf(body).ok())?
        }
        if let Some(said) = of::<RegisterExecutorMessage>(name, body) {
            let (framework, executor) = (said.framework_id.value, said.executor_id.value);
            return Some(Message::Register { framework, executor });
        }
        if let Some(said) = of::<ReregisterExecutorMessage>(name, body) {
            let (framework, executor) = (said.framework_id.value, said.executor_id.value);
            let update = |update| call::Update { status: status(update) };
            let unacknowledged_updates = said.updates.into_iter().map(update).collect();
            let subscribe = call::Subscribe { unacknowledged_tasks: said.tasks, unacknowledged_updates };
            return Some(Message::Reregister { framework, executor, subscribe });
        }
        if let Some(said) = of::<StatusUpdateMessage>(name, body) {
            let executor_id = said.update.executor_id.clone()?;
            let framework_id = said.update.framework_id.clone();
            let update = Some(call::Update { status: status(said.update) });
            let kind = Some(call::Type::Update.into());
            let call = Call { framework_id, executor_id, r#type: kind, update, ..Call::default() };
            return Some(Message::Call(Box::new(call)));
        }
        let said = of::<ExecutorToFrameworkMessage>(name, body)?;
        Some(Message::Call(Box::new(Call {
            framework_id: said.framework_id,
            executor_id: said.executor_id,
            r#type: Some(call::Type::Message.into()),
            message: Some(call::Message { data: said.data }),
            ..Call::default()
        })))
    }
}

/// A report: what goes with it is put into it (reference 31 §9).
fn status(update: StatusUpdate) -> v1::TaskStatus {
    let mut status = update.status;
    status.uuid = update.uuid.or(status.uuid);
    status.timestamp = status.timestamp.or(Some(update.timestamp));
    status.executor_id = update.executor_id.or(status.executor_id);
    status.agent_id = update.slave_id.or(status.agent_id);
    status.source = Some(Source::Executor.into());
    status
}

/// A message for an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) body: Vec<u8>,
}

impl Told {
    pub(super) fn new<M: prost::Message + Name>(message: &M) -> Told {
        Told { name: M::full_name(), body: encode_protobuf(message) }
    }
}

/// What an executor is told, from what the engine says.
pub(super) struct Translate {
    pub(super) framework: String,
    pub(super) executor: String,
    agent: v1::AgentId,
    /// It has been there before.
    again: bool,
    /// Whose tasks it gets; none before it is registered.
    owner: Option<v1::FrameworkInfo>,
    /// What is for it, but only after that it is registered: a driver that is not takes nothing.
    held: Vec<Event>,
}

impl Translate {
    pub(super) fn new(framework: String, executor: String, agent: &str, again: bool) -> Translate {
        let agent = v1::AgentId { value: agent.to_owned() };
        Translate { framework, executor, agent, again, owner: None, held: Vec::new() }
    }

    /// The messages that say what an event does.
    pub(super) fn event(&mut self, event: Event) -> Vec<Told> {
        match event.r#type() {
            event::Type::Subscribed => self.subscribed(event),
            event::Type::Shutdown => vec![Told::new(&ShutdownExecutorMessage::default())],
            _ if self.owner.is_none() => {
                self.held.push(event);
                Vec::new()
            }
            _ => self.one(event).into_iter().collect(),
        }
    }

    fn subscribed(&mut self, event: Event) -> Vec<Told> {
        let Some(subscribed) = event.subscribed else { return Vec::new() };
        self.owner = Some(subscribed.framework_info.clone());
        let slave_id = self.agent.clone();
        let first = match self.again {
            true => Told::new(&ExecutorReregisteredMessage { slave_id, slave_info: subscribed.agent_info }),
            false => Told::new(&ExecutorRegisteredMessage {
                executor_info: subscribed.executor_info,
                framework_id: self.framework_id(),
                framework_info: subscribed.framework_info,
                slave_id,
                slave_info: subscribed.agent_info,
            }),
        };
        let held = std::mem::take(&mut self.held);
        let rest: Vec<Told> = held.into_iter().filter_map(|event| self.one(event)).collect();
        [first].into_iter().chain(rest).collect()
    }

    fn framework_id(&self) -> v1::FrameworkId {
        v1::FrameworkId { value: self.framework.clone() }
    }

    #[expect(deprecated, reason = "drivers before 1.0 need the id of the framework")]
    fn one(&self, event: Event) -> Option<Told> {
        let (slave_id, framework_id) = (self.agent.clone(), self.framework_id());
        match event.r#type() {
            event::Type::Launch => {
                let (framework, task) = (self.owner.clone()?, event.launch?.task);
                let pid = Some(NO_PROCESS.to_owned());
                Some(Told::new(&RunTaskMessage { framework_id: Some(framework_id), framework, pid, task }))
            }
            event::Type::Kill => {
                let event::Kill { task_id, kill_policy } = event.kill?;
                Some(Told::new(&KillTaskMessage { framework_id, task_id, kill_policy }))
            }
            event::Type::Acknowledged => {
                let event::Acknowledged { task_id, uuid } = event.acknowledged?;
                let told = StatusUpdateAcknowledgementMessage { slave_id, framework_id, task_id, uuid };
                Some(Told::new(&told))
            }
            event::Type::Message => {
                let executor_id = v1::ExecutorId { value: self.executor.clone() };
                let data = event.message?.data;
                Some(Told::new(&FrameworkToExecutorMessage { slave_id, framework_id, executor_id, data }))
            }
            // There are no messages for these: a group is refused before it comes here.
            _ => None,
        }
    }
}
