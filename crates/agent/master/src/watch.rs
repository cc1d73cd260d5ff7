// SPDX-License-Identifier: Apache-2.0
//! What operators that subscribed are told while it happens.

use berth_proto::master::{Event, event};
use berth_proto::v1;
use tokio::sync::mpsc;

use crate::event::HEARTBEAT_SECONDS;
use crate::framework::Framework;
use crate::operator;
use crate::state::State;

/// Who has not read so many events is not told any more.
const UNREAD: usize = 16 * 1024;

fn event(kind: event::Type) -> Event {
    Event { r#type: Some(kind.into()), ..Event::default() }
}

pub(crate) fn heartbeat() -> Event {
    event(event::Type::Heartbeat)
}

/// A queue with all there is, and what happens from then on.
pub(crate) fn subscribe(state: &mut State, version: &str) -> mpsc::Receiver<Event> {
    let (sender, queue) = mpsc::channel(UNREAD);
    let subscribed = event::Subscribed {
        get_state: Some(operator::whole(state, version)),
        heartbeat_interval_seconds: Some(HEARTBEAT_SECONDS),
    };
    let first = Event { subscribed: Some(subscribed), ..event(event::Type::Subscribed) };
    for one in [first, heartbeat()] {
        let _ = sender.try_send(one);
    }
    state.watchers.push(sender);
    queue
}

impl State {
    /// Tells all who watch; nothing is made for nobody.
    pub(crate) fn tell(&mut self, make: impl FnOnce(&State) -> Option<Event>) {
        if self.watchers.is_empty() {
            return;
        }
        let Some(event) = make(self) else { return };
        self.watchers.retain(|watcher| watcher.try_send(event.clone()).is_ok());
    }

    pub(crate) fn tell_of_framework(&mut self, id: &str, is_new: bool) {
        self.tell(|state| {
            let framework = operator::framework(state, state.frameworks.get(id)?);
            Some(if is_new {
                let framework_added = Some(event::FrameworkAdded { framework });
                Event { framework_added, ..event(event::Type::FrameworkAdded) }
            } else {
                let framework_updated = Some(event::FrameworkUpdated { framework });
                Event { framework_updated, ..event(event::Type::FrameworkUpdated) }
            })
        });
    }

    pub(crate) fn tell_of_removal(&mut self, framework: &Framework) {
        let framework_info = framework.info.clone();
        self.tell(|_| {
            let framework_removed = Some(event::FrameworkRemoved { framework_info });
            Some(Event { framework_removed, ..event(event::Type::FrameworkRemoved) })
        });
    }

    pub(crate) fn tell_of_task(&mut self, framework: &str, task: &str) {
        self.tell(|state| {
            let task = state.frameworks.get(framework)?.tasks.get(task)?.clone();
            let task_added = Some(event::TaskAdded { task });
            Some(Event { task_added, ..event(event::Type::TaskAdded) })
        });
    }

    pub(crate) fn tell_of_update(&mut self, framework: &str, status: &v1::TaskStatus, latest: v1::TaskState) {
        self.tell(|_| {
            let task_updated = Some(event::TaskUpdated {
                framework_id: v1::FrameworkId { value: framework.to_owned() },
                status: status.clone(),
                state: latest.into(),
            });
            Some(Event { task_updated, ..event(event::Type::TaskUpdated) })
        });
    }
}
