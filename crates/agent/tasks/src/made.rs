// SPDX-License-Identifier: Apache-2.0
//! The reports that the agent makes itself, one row of Mesos's table each (reference 31 §8.1).

use std::time::Duration;

use berth_model::ContainerTermination;
use berth_proto::convert;
use berth_proto::v1::{
    FrameworkInfo, TaskResourceLimitation, TaskState, framework_info, task_status::Reason,
};

use crate::text::duration;

/// Why the agent speaks for a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Made {
    /// It limits processors, and nothing here enforces that.
    CpuLimits,
    /// It limits memory, and nothing here enforces that.
    MemLimits,
    /// An id that can be none.
    Invalid(String),
    /// A command task by the id of an executor.
    ReusedExecutor,
    /// The executor should not be there yet.
    ExecutorExists,
    /// The executor should be there.
    NoExecutor,
    /// The executor is being ended.
    ExecutorTerminating,
    /// The executor has ended.
    ExecutorTerminated,
    /// Its place could not be made.
    NoPlace(String),
    /// Killed before its executor had it.
    KilledBeforeDelivery,
    /// Killed with its group before the executor had it.
    GroupKilledBeforeDelivery,
    /// Nobody runs the task that is to be killed.
    NoSuchTask,
    /// It was on its way to its executor when the agent ended.
    Restarted,
    /// A group, for an executor that can be sent single tasks only.
    NoGroups,
}

/// State, reason and words of a report.
pub(crate) type Said = (TaskState, Reason, String);

/// Whether a framework knows the states of tasks that are gone from those that are lost.
pub(crate) fn is_aware(framework: &FrameworkInfo) -> bool {
    can(framework, framework_info::capability::Type::PartitionAware)
}

/// Whether a framework understands this.
pub(crate) fn can(framework: &FrameworkInfo, capability: framework_info::capability::Type) -> bool {
    framework.capabilities.iter().any(|has| has.r#type() == capability)
}

/// What never ran.
fn dropped(aware: bool) -> TaskState {
    if aware { TaskState::TaskDropped } else { TaskState::TaskLost }
}

/// What ran, and does not any more.
fn gone(aware: bool) -> TaskState {
    if aware { TaskState::TaskGone } else { TaskState::TaskLost }
}

impl Made {
    /// In Mesos's words, for a framework that knows them or one that does not.
    pub(crate) fn said(&self, aware: bool) -> Said {
        let of_limits = |kind, isolator| {
            format!(
                "{kind} limits can only be set on tasks launched in Mesos containers when the agent has loaded the \
                 '{isolator}' isolator"
            )
        };
        let lost = |reason, text: &str| (dropped(aware), reason, text.to_owned());
        let ended = Reason::ExecutorTerminated;
        match self {
            Made::CpuLimits => (dropped(aware), Reason::GcError, of_limits("CPU", "cgroups/cpu")),
            Made::MemLimits => (dropped(aware), Reason::GcError, of_limits("Memory", "cgroups/mem")),
            Made::Invalid(why) => (TaskState::TaskError, Reason::TaskInvalid, why.clone()),
            Made::ReusedExecutor => {
                lost(Reason::TaskInvalid, "Cannot reuse an already existing executor for a command task")
            }
            Made::ExecutorExists => lost(ended, "Master wants to launch executor, but one already exists"),
            Made::NoExecutor => lost(ended, "No executor is expected to launch and there is none running"),
            Made::ExecutorTerminating => lost(ended, "Executor terminating"),
            Made::ExecutorTerminated => lost(ended, "Executor terminated"),
            Made::NoPlace(why) => lost(ended, why),
            Made::NoSuchTask => lost(ended, "Cannot find executor"),
            Made::KilledBeforeDelivery => {
                let text = "Killed before delivery to the executor".to_owned();
                (TaskState::TaskKilled, Reason::TaskKilledDuringLaunch, text)
            }
            Made::GroupKilledBeforeDelivery => {
                let text =
                    "A task within the task group was killed before delivery to the executor".to_owned();
                (TaskState::TaskKilled, Reason::TaskKilledDuringLaunch, text)
            }
            Made::NoGroups => lost(
                Reason::TaskGroupInvalid,
                "Task groups can not be given to an executor that speaks the older protocol of messages: one that \
                 uses the HTTP API can run them",
            ),
            Made::Restarted => lost(Reason::AgentRestarted, "Task launched during agent restart"),
        }
    }
}

/// Why an executor is being destroyed: what its tasks' last reports say, unless its container knows better.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cause {
    /// Its container could not be launched.
    LaunchFailed(String),
    /// It did not register.
    NotRegistered(Duration),
    /// It did not come back.
    NotReregistered(Duration),
    /// Its limits could not be changed.
    UpdateFailed(String),
}

impl Cause {
    fn said(&self, aware: bool) -> Said {
        match self {
            Cause::LaunchFailed(why) => {
                let text = format!("Failed to launch container: {why}");
                (TaskState::TaskFailed, Reason::ContainerLaunchFailed, text)
            }
            Cause::NotRegistered(after) => {
                let text = format!("Executor did not register within {}", duration(*after));
                (TaskState::TaskFailed, Reason::ExecutorRegistrationTimeout, text)
            }
            Cause::NotReregistered(after) => {
                let text = format!("Executor did not reregister within {}", duration(*after));
                (gone(aware), Reason::ExecutorReregistrationTimeout, text)
            }
            Cause::UpdateFailed(why) => {
                let text = format!("Failed to update resources for container: {why}");
                (gone(aware), Reason::ContainerUpdateFailed, text)
            }
        }
    }
}

/// The last report of a task whose executor has ended (reference 10.2, item 6).
pub(crate) fn ended(
    cause: Option<&Cause>,
    termination: Option<&ContainerTermination>,
    aware: bool,
) -> (Said, Option<TaskResourceLimitation>) {
    let pending = cause.map(|cause| cause.said(aware));
    let state =
        termination.and_then(|ended| ended.state).and_then(|state| TaskState::try_from(state.number()).ok());
    let reason =
        termination.and_then(|ended| ended.reason).and_then(|reason| Reason::try_from(reason.number()).ok());
    let said = match termination {
        None => Some("Abnormal executor termination: unknown container".to_owned()),
        Some(ended) => ended.message.clone(),
    };
    let words: Vec<String> = pending.iter().map(|(_, _, text)| text.clone()).chain(said).collect();
    let text = if words.is_empty() { "Executor terminated".to_owned() } else { words.join("; ") };
    let state = state.or(pending.as_ref().map(|(state, ..)| *state)).unwrap_or(TaskState::TaskFailed);
    let reason =
        reason.or(pending.as_ref().map(|(_, reason, _)| *reason)).unwrap_or(Reason::ExecutorTerminated);
    let limited =
        termination.map(|ended| convert::resources_of(&ended.limited_resources)).unwrap_or_default();
    let limitation = (!limited.is_empty()).then_some(TaskResourceLimitation { resources: limited });
    ((state, reason, text), limitation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model as model;

    /// The row as a framework that knows of partitions is told, and the state that another one is told.
    fn row(made: &Made) -> (String, String, String, String) {
        let (state, reason, text) = made.said(true);
        let name = |state: TaskState| state.as_str_name().to_owned();
        (name(state), name(made.said(false).0), reason.as_str_name().to_owned(), text)
    }

    fn strings(row: (&str, &str, &str, &str)) -> (String, String, String, String) {
        (row.0.to_owned(), row.1.to_owned(), row.2.to_owned(), row.3.to_owned())
    }

    #[test]
    fn every_row_of_what_the_agent_says_has_the_state_reason_and_words_of_mesos() {
        let d = |reason, text| strings(("TASK_DROPPED", "TASK_LOST", reason, text));
        let ended = "REASON_EXECUTOR_TERMINATED";
        let killed = |text| strings(("TASK_KILLED", "TASK_KILLED", "REASON_TASK_KILLED_DURING_LAUNCH", text));
        let rows = [
            (
                Made::CpuLimits,
                d(
                    "REASON_GC_ERROR",
                    "CPU limits can only be set on tasks launched in Mesos containers when the agent has loaded the \
                     'cgroups/cpu' isolator",
                ),
            ),
            (
                Made::MemLimits,
                d(
                    "REASON_GC_ERROR",
                    "Memory limits can only be set on tasks launched in Mesos containers when the agent has loaded \
                     the 'cgroups/mem' isolator",
                ),
            ),
            (
                Made::Invalid("'a/b' contains invalid characters".to_owned()),
                strings((
                    "TASK_ERROR",
                    "TASK_ERROR",
                    "REASON_TASK_INVALID",
                    "'a/b' contains invalid characters",
                )),
            ),
            (
                Made::ReusedExecutor,
                d("REASON_TASK_INVALID", "Cannot reuse an already existing executor for a command task"),
            ),
            (Made::ExecutorExists, d(ended, "Master wants to launch executor, but one already exists")),
            (Made::NoExecutor, d(ended, "No executor is expected to launch and there is none running")),
            (Made::ExecutorTerminating, d(ended, "Executor terminating")),
            (Made::ExecutorTerminated, d(ended, "Executor terminated")),
            (
                Made::NoPlace("Failed to create executor directory 'D': E".to_owned()),
                d(ended, "Failed to create executor directory 'D': E"),
            ),
            (Made::KilledBeforeDelivery, killed("Killed before delivery to the executor")),
            (
                Made::GroupKilledBeforeDelivery,
                killed("A task within the task group was killed before delivery to the executor"),
            ),
            (Made::NoSuchTask, d(ended, "Cannot find executor")),
            (
                Made::NoGroups,
                d(
                    "REASON_TASK_GROUP_INVALID",
                    "Task groups can not be given to an executor that speaks the older protocol of messages: one that \
                     uses the HTTP API can run them",
                ),
            ),
            (Made::Restarted, d("REASON_AGENT_RESTARTED", "Task launched during agent restart")),
        ];
        for (made, expected) in rows {
            assert_eq!(row(&made), expected, "{made:?}");
        }
    }

    #[test]
    fn every_cause_of_an_executors_end_has_the_state_reason_and_words_of_mesos() {
        let rows = [
            (
                Cause::LaunchFailed("no such image".to_owned()),
                ("TASK_FAILED", "TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED"),
                "Failed to launch container: no such image",
            ),
            (
                Cause::NotRegistered(Duration::from_secs(60)),
                ("TASK_FAILED", "TASK_FAILED", "REASON_EXECUTOR_REGISTRATION_TIMEOUT"),
                "Executor did not register within 1mins",
            ),
            (
                Cause::NotReregistered(Duration::from_secs(2)),
                ("TASK_GONE", "TASK_LOST", "REASON_EXECUTOR_REREGISTRATION_TIMEOUT"),
                "Executor did not reregister within 2secs",
            ),
            (
                Cause::UpdateFailed("no room".to_owned()),
                ("TASK_GONE", "TASK_LOST", "REASON_CONTAINER_UPDATE_FAILED"),
                "Failed to update resources for container: no room",
            ),
        ];
        let plain = ContainerTermination::default();
        for (cause, (state, older, reason), text) in rows {
            let ((new, why, words), _) = ended(Some(&cause), Some(&plain), true);
            assert_eq!((new.as_str_name(), why.as_str_name(), words.as_str()), (state, reason, text));
            assert_eq!(ended(Some(&cause), Some(&plain), false).0.0.as_str_name(), older);
        }
    }

    #[test]
    fn an_end_without_a_cause_is_told_with_what_the_container_says() {
        let plain = ContainerTermination::default();
        let of = |termination: Option<&ContainerTermination>| {
            let ((state, reason, text), limitation) = ended(None, termination, true);
            (state.as_str_name(), reason.as_str_name(), text, limitation.is_some())
        };
        let failed = "TASK_FAILED";
        let why = "REASON_EXECUTOR_TERMINATED";
        assert_eq!(of(Some(&plain)), (failed, why, "Executor terminated".to_owned(), false));
        let unknown = "Abnormal executor termination: unknown container".to_owned();
        assert_eq!(of(None), (failed, why, unknown, false));
        let resource = berth_proto::v1::Resource {
            name: "mem".to_owned(),
            scalar: Some(berth_proto::v1::value::Scalar { value: 32.0 }),
            ..Default::default()
        };
        let limited = ContainerTermination {
            message: Some("Memory limit exceeded".to_owned()),
            reason: Some(model::Reason::ContainerLimitationMemory),
            state: Some(model::TaskState::Failed),
            limited_resources: convert::resources(&[resource]).unwrap(),
            ..ContainerTermination::default()
        };
        let reason = "REASON_CONTAINER_LIMITATION_MEMORY";
        assert_eq!(of(Some(&limited)), (failed, reason, "Memory limit exceeded".to_owned(), true));
        let cause = Cause::LaunchFailed("E".to_owned());
        let ((_, reason, text), _) = ended(Some(&cause), Some(&limited), true);
        assert_eq!(reason, Reason::ContainerLimitationMemory, "the container's own reason comes first");
        assert_eq!(text, "Failed to launch container: E; Memory limit exceeded");
    }
}
