// SPDX-License-Identifier: Apache-2.0
//! Reports on their way to the agent.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use berth_proto::executor::{Call, call};
use berth_proto::v1::{self, TaskStatus, task_status};
use tokio::sync::mpsc::UnboundedSender;

/// How long an executor stays for acknowledgements when all else is over.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Sends reports, and knows which were stored.
pub(crate) struct Reporter {
    calls: UnboundedSender<Box<Call>>,
    executor: v1::ExecutorId,
    framework: v1::FrameworkId,
    /// Sent, and not acknowledged: of which task.
    open: BTreeMap<Vec<u8>, String>,
}

impl Reporter {
    pub(crate) fn new(
        calls: UnboundedSender<Box<Call>>,
        executor: v1::ExecutorId,
        framework: v1::FrameworkId,
    ) -> Reporter {
        Reporter { calls, executor, framework, open: BTreeMap::new() }
    }

    /// Sends a report, with what each has: uuid, time, executor, source.
    pub(crate) fn send(&mut self, mut status: TaskStatus) {
        let uuid = uuid::Uuid::new_v4().into_bytes().to_vec();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        status.uuid = Some(uuid.clone());
        status.timestamp = Some(now.as_secs_f64());
        status.executor_id = Some(self.executor.clone());
        status.source = Some(task_status::Source::Executor as i32);
        let task = status.task_id.value.clone();
        let sent = self.calls.send(Box::new(Call {
            executor_id: self.executor.clone(),
            framework_id: self.framework.clone(),
            r#type: Some(call::Type::Update as i32),
            update: Some(call::Update { status }),
            ..Call::default()
        }));
        // Nobody listens any more when the agent stops; the next one asks for it anew.
        if sent.is_ok() {
            self.open.insert(uuid, task);
        }
    }

    pub(crate) fn acknowledged(&mut self, uuid: &[u8]) {
        self.open.remove(uuid);
    }

    /// Whether all reports of a task were stored.
    pub(crate) fn is_done_with(&self, task: &str) -> bool {
        !self.open.values().any(|open| open == task)
    }

    /// Whether all reports were stored.
    pub(crate) fn is_done(&self) -> bool {
        self.open.is_empty()
    }
}
