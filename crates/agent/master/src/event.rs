// SPDX-License-Identifier: Apache-2.0
//! What schedulers are told, put in messages.

use berth_proto::scheduler::{Event, event};
use berth_proto::v1;
use berth_proto::v1::task_status::{Reason, Source};

/// How often a stream shows that it is alive, in seconds.
pub(crate) const HEARTBEAT_SECONDS: f64 = 15.0;

fn event(kind: event::Type) -> Event {
    Event { r#type: Some(kind.into()), ..Event::default() }
}

pub(crate) fn subscribed(framework: &str, master: v1::MasterInfo) -> Event {
    let subscribed = event::Subscribed {
        framework_id: v1::FrameworkId { value: framework.to_owned() },
        heartbeat_interval_seconds: Some(HEARTBEAT_SECONDS),
        master_info: Some(master),
    };
    Event { subscribed: Some(subscribed), ..event(event::Type::Subscribed) }
}

pub(crate) fn heartbeat() -> Event {
    event(event::Type::Heartbeat)
}

pub(crate) fn offers(offers: Vec<v1::Offer>) -> Event {
    Event { offers: Some(event::Offers { offers }), ..event(event::Type::Offers) }
}

pub(crate) fn rescind(offer: &str) -> Event {
    let rescind = event::Rescind { offer_id: v1::OfferId { value: offer.to_owned() } };
    Event { rescind: Some(rescind), ..event(event::Type::Rescind) }
}

pub(crate) fn update(status: v1::TaskStatus) -> Event {
    Event { update: Some(event::Update { status }), ..event(event::Type::Update) }
}

pub(crate) fn operation(status: v1::OperationStatus) -> Event {
    let update = event::UpdateOperationStatus { status };
    Event { update_operation_status: Some(update), ..event(event::Type::UpdateOperationStatus) }
}

pub(crate) fn message(agent: &str, executor: &str, data: Vec<u8>) -> Event {
    let message = event::Message {
        agent_id: v1::AgentId { value: agent.to_owned() },
        executor_id: v1::ExecutorId { value: executor.to_owned() },
        data,
    };
    Event { message: Some(message), ..event(event::Type::Message) }
}

pub(crate) fn failure(agent: &str, executor: &str, status: i32) -> Event {
    let failure = event::Failure {
        agent_id: Some(v1::AgentId { value: agent.to_owned() }),
        executor_id: Some(v1::ExecutorId { value: executor.to_owned() }),
        status: Some(status),
    };
    Event { failure: Some(failure), ..event(event::Type::Failure) }
}

pub(crate) fn error(message: impl Into<String>) -> Event {
    Event { error: Some(event::Error { message: message.into() }), ..event(event::Type::Error) }
}

/// A report of the master's own: nobody has to acknowledge it.
pub(crate) fn status(
    task: &str,
    agent: Option<&str>,
    state: v1::TaskState,
    reason: Reason,
    message: impl Into<String>,
    wall: f64,
) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: v1::TaskId { value: task.to_owned() },
        state: state.into(),
        message: Some(message.into()),
        source: Some(Source::Master.into()),
        reason: Some(reason.into()),
        agent_id: agent.map(|agent| v1::AgentId { value: agent.to_owned() }),
        timestamp: Some(wall),
        ..v1::TaskStatus::default()
    }
}

/// Whether a task is over.
pub(crate) fn is_terminal(state: v1::TaskState) -> bool {
    use v1::TaskState as State;
    matches!(
        state,
        State::TaskFinished
            | State::TaskFailed
            | State::TaskKilled
            | State::TaskLost
            | State::TaskError
            | State::TaskDropped
            | State::TaskGone
            | State::TaskGoneByOperator
    )
}
