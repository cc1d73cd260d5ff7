// SPDX-License-Identifier: Apache-2.0
//! Goes on where the agent before was. What was read decides; nothing is written for it.
//!
//! ```text
//! executor                          │ its container        │ then
//! ──────────────────────────────────┼──────────────────────┼──────────────────────────────────────────────
//! over                              │                      │ remembered
//! not over                          │ was never launched   │ tasks that it never had: DROPPED; else as ended
//! built in, all reports are written │ anything             │ ended, if it runs
//! built in                          │ runs, or has ended   │ speaks again, with what it had reported
//! of a framework                    │ runs                 │ may come back, within a time
//! of a framework                    │ has ended            │ its tasks' ends are told
//! ```

use berth_proto::v1;

use super::{Core, Effect, Executor, Framework, Kind, Loose, Phase, Stage, Task, Timer};
use crate::built_in::Recovered;
use crate::made::Made;
use crate::stream::is_terminal;

/// What was read of a framework.
#[derive(Debug)]
pub(crate) struct FoundFramework {
    pub(crate) info: v1::FrameworkInfo,
    pub(crate) over: bool,
    pub(crate) executors: Vec<FoundExecutor>,
    pub(crate) refused: Vec<(Option<String>, FoundTask)>,
}

/// What was read of a run of an executor.
#[derive(Debug)]
pub(crate) struct FoundExecutor {
    pub(crate) at: super::At,
    pub(crate) info: v1::ExecutorInfo,
    pub(crate) kind: Kind,
    pub(crate) over: bool,
    pub(crate) registered: bool,
    /// The process that it is, if it speaks the older protocol.
    pub(crate) pid: Option<String>,
    pub(crate) tasks: Vec<FoundTask>,
}

/// What was read of a task.
#[derive(Debug)]
pub(crate) struct FoundTask {
    pub(crate) info: v1::TaskInfo,
    pub(crate) group: Option<u64>,
    pub(crate) delivered: bool,
    /// In the order in which they were written.
    pub(crate) reports: Vec<Found>,
}

/// A report or an acknowledgement that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    Update(Box<v1::TaskStatus>),
    Ack(Vec<u8>),
}

impl Core {
    /// Takes in what was read; to be called before anything else is handled. What is to be done comes first.
    pub(crate) fn recover(&mut self, found: Vec<FoundFramework>) -> Vec<Effect> {
        let mut over = Vec::new();
        for found in found {
            let Some(id) = found.info.id.as_ref().map(|id| id.value.clone()) else { continue };
            let mut framework = Framework::new(found.info);
            for found in found.executors {
                let is_over = found.over;
                let executor = executor(found);
                if is_over {
                    let forgotten = super::ends::remember(
                        &mut framework.completed,
                        executor,
                        self.settings.completed_executors,
                    );
                    self.effects
                        .extend(forgotten.map(|one| Effect::Write(super::Write::ForgetExecutor(one.at))));
                } else {
                    self.effects.push(Effect::Look(executor.at.clone()));
                    framework.executors.insert(executor.at.executor.clone(), executor);
                }
            }
            for (executor, found) in found.refused {
                let mut task = task(found);
                task.stage = Stage::Terminated;
                // One whose report was never written was promised nothing.
                if task.stream.head().is_some() {
                    framework.loose.insert(task.info.task_id.value.clone(), Loose { executor, task });
                } else {
                    let (framework, task) = (id.clone(), task.info.task_id.value.clone());
                    self.effects.push(Effect::Write(super::Write::ForgetRefused { framework, task }));
                }
            }
            if found.over {
                over.push(id.clone());
            }
            self.frameworks.insert(id, framework);
        }
        let all: Vec<String> = self.frameworks.keys().cloned().collect();
        all.iter().for_each(|id| self.collect_framework(id));
        over.iter().for_each(|id| self.shutdown_framework(id));
        std::mem::take(&mut self.effects)
    }

    /// Whether there is a container, of an executor that was there before.
    pub(super) fn looked(&mut self, at: &super::At, exists: bool) {
        let after = self.settings.reregistration_timeout;
        let first = self.settings.registration_timeout;
        let Some(executor) = self.current(at) else { return };
        if !exists {
            // It was never launched, so neither was what it was to run.
            let never = |(_, task): &(&String, &Task)| {
                task.is_open()
                    && match executor.kind {
                        Kind::Command => task.stream.latest().is_none(),
                        _ => task.stage == Stage::Queued,
                    }
            };
            let never: Vec<String> = executor.tasks.iter().filter(never).map(|(id, _)| id.clone()).collect();
            never.iter().for_each(|id| self.say(at, id, &Made::Restarted));
            return self.ended(at, None);
        }
        executor.launched = true;
        let open = executor.tasks.values().any(Task::is_open);
        match executor.kind {
            _ if executor.phase == Phase::Terminating => self.effects.push(Effect::Destroy(at.clone())),
            Kind::Custom if executor.registered => {
                self.recovering = true;
                self.effects.push(Effect::After(after, Timer::Reregistration(at.clone())));
            }
            Kind::Custom => self.effects.push(Effect::After(first, Timer::Registration(at.clone()))),
            _ if !open => {
                // Nothing is left to be said.
                executor.phase = Phase::Terminating;
                self.effects.push(Effect::Destroy(at.clone()));
            }
            kind => {
                let mut recovered = Vec::new();
                for task in executor.tasks.values_mut() {
                    if kind == Kind::Command {
                        // Its command began with its container.
                        task.stage = if task.stage == Stage::Queued { Stage::Launched } else { task.stage };
                        executor.queue.clear();
                    }
                    if task.stage != Stage::Queued {
                        let latest = task.stream.latest().cloned();
                        recovered.push(Recovered { task: (*task.info).clone(), latest });
                    }
                }
                self.start(at, recovered);
            }
        }
    }

    /// Everything has been looked at: those that can come back have a time for it.
    pub(super) fn recovered(&mut self) {
        if self.recovering {
            self.effects.push(Effect::After(self.settings.reregistration_timeout, Timer::Recovery));
        }
    }
}

fn executor(found: FoundExecutor) -> Executor {
    let mut executor = Executor::new(found.at, found.info, found.kind);
    executor.registered = found.registered;
    executor.pid = found.pid;
    if found.over {
        executor.phase = Phase::Terminated;
    }
    for found in found.tasks {
        let over = executor.phase == Phase::Terminated;
        let mut task = task(found);
        if over {
            task.stage = Stage::Completed;
            task.stream.forget();
        }
        let id = task.info.task_id.value.clone();
        executor.groups = executor.groups.max(task.group.unwrap_or(0));
        if task.stage == Stage::Queued {
            let of_group = |ids: &&mut Vec<String>| {
                let first = ids.first().and_then(|id| executor.tasks.get(id));
                task.group.is_some() && first.is_some_and(|first| first.group == task.group)
            };
            match executor.queue.iter_mut().find(of_group) {
                Some(ids) => ids.push(id.clone()),
                None => executor.queue.push_back(vec![id.clone()]),
            }
        }
        executor.tasks.insert(id, task);
    }
    executor
}

fn task(found: FoundTask) -> Task {
    let mut task = Task::new(found.info, found.group);
    if found.delivered {
        task.stage = Stage::Launched;
    }
    for found in found.reports {
        match found {
            Found::Update(status) => {
                task.enter(&status);
                if task.stage == Stage::Queued {
                    task.stage = Stage::Launched;
                }
                if is_terminal(status.state()) {
                    task.stage = Stage::Terminated;
                }
                task.stream.update(*status);
            }
            Found::Ack(uuid) => {
                if task.stream.acknowledge(&uuid) == Ok(true) {
                    task.stage = Stage::Completed;
                }
            }
        }
    }
    task
}
