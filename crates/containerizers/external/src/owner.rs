// SPDX-License-Identifier: Apache-2.0
//! The thread that owns a container, from its launch to its end.
//!
//! The order of calls that the program can rely on: `launch`; when that has succeeded, `wait`, and beside it `update` and
//! `usage` in any number; `destroy`, last. **Where we differ from Mesos**: `destroy` comes once for every container for
//! which `launch` was called and did not answer "not supported": also for one that ended by itself or whose launch failed,
//! so that the program can let go of what it keeps of it. And a destroy during `launch` ends that call at once.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_contract::{Error, LaunchResult, Phase, Variables};
use berth_keeper::sandbox::write_pid;
use berth_model::{ContainerId, ContainerTermination};

use crate::call::{Call, Ended, step};
use crate::convert;
use crate::error::{CallError, warn};
use crate::frame::framed;
use crate::kept::{Entry, LAUNCHED, Shared, calls, given_sandbox, sandbox};
use crate::messages::mesos::containerizer as wire;
use crate::program::Ask;

/// What the launch call came to.
enum Launched {
    Yes,
    /// Not for this program.
    NotSupported,
    /// It failed, with this for who asked.
    Failed(Error),
    /// The containerizer goes.
    Left,
}

/// How long a container is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it runs.
    Forever,
    /// It has ended: only for what is known of its end.
    Late,
}

/// Launches a container and owns it.
pub(crate) fn launch(shared: &Arc<Shared>, entry: &Entry, environment: Variables, pid_file: Option<&Path>) {
    match launch_call(shared, entry, environment, pid_file) {
        Launched::Yes => {
            shared.step(entry, Phase::Running);
            // `wait` is called before anybody can ask for something else, so that no end is missed.
            let wait = start_wait(shared, entry, Patience::Forever);
            entry.launched.settle(Ok(LaunchResult::Success));
            watch(shared, entry, wait);
        }
        Launched::NotSupported => {
            shared.forgotten(entry);
            entry.ended.settle(ContainerTermination::default());
            entry.launched.settle(Ok(LaunchResult::NotSupported));
        }
        Launched::Failed(error) => shared.failed(entry, error, "the launch did not succeed"),
        Launched::Left => shared.left(entry),
    }
}

fn launch_call(
    shared: &Arc<Shared>,
    entry: &Entry,
    environment: Variables,
    pid_file: Option<&Path>,
) -> Launched {
    let (id, record) = (&entry.id, &entry.record);
    if entry.is_destroyed() {
        return Launched::Failed(Error::DestroyedDuring(Phase::Preparing));
    }
    if let Err(error) = shared.records.begin(record) {
        return Launched::Failed(error);
    }
    let sandbox = given_sandbox(entry);
    let words = record.config.directory.join("stderr");
    let had_words = words.symlink_metadata().is_ok();
    let ask = Ask {
        message: framed(&convert::launch(id, &record.config, record.own.checkpoint, &shared.own.settings)),
        sandbox: sandbox.as_ref(),
        environment,
        leaves: true,
        ..Ask::new("launch", Some(shared.own.settings.deadlines.launch))
    };
    let mut checkpoint = None;
    let started = shared.own.program.call_after(ask, |pid| {
        shared.noted(entry, calls(shared, id, "launch", pid));
        let Some(path) = pid_file else { return Ok(()) };
        write_pid(path, pid).map_err(|error| {
            checkpoint = Some(error);
            CallError::Cancelled
        })
    });
    let mut call = match started {
        Ok(call) => call,
        Err(error) => {
            return Launched::Failed(match checkpoint {
                Some(error) => error,
                None => error.because(&format!("Launch of container '{id}' failed")),
            });
        }
    };
    while !call.is_over() {
        if shared.is_leaving() {
            return Launched::Left;
        }
        if entry.is_destroyed() {
            call.cancel();
        }
        let bells = [shared.leave_bell().as_fd(), entry.own.bell()];
        // A bell that was heard stays readable: then only the call is waited for.
        step(&mut [&mut call], if entry.is_destroyed() { &bells[..1] } else { &bells }, None);
    }
    let mut ended = call.ended();
    let not_supported = ended.status.and_then(|status| status.exited()).is_some_and(|code| {
        shared.own.settings.not_supported_status.is_some_and(|status| code == i32::from(status))
    });
    let result = ended.success();
    if not_supported && !matches!(result, Err(CallError::Late(..) | CallError::Cancelled)) {
        if !had_words {
            // Somebody else may get this sandbox, and finds it as it was.
            let _ = std::fs::remove_file(&words);
        }
        return Launched::NotSupported;
    }
    let launched = result
        .map_err(|error| launch_failure(id, &error, &ended))
        .and_then(|()| shared.records.open(id)?.mark(LAUNCHED));
    match launched {
        Ok(()) => Launched::Yes,
        Err(error) => {
            destroy_once(shared, entry);
            Launched::Failed(error)
        }
    }
}

fn launch_failure(id: &ContainerId, error: &CallError, ended: &Ended) -> Error {
    if matches!(error, CallError::Cancelled) {
        return Error::DestroyedDuring(Phase::Preparing);
    }
    let mut text = match error {
        CallError::Write(_) => format!("Launch of container '{id}' failed: {error}"),
        _ => format!("Could not launch container '{id}': {error}"),
    };
    if !ended.tail.is_empty() {
        text.push_str(&format!(" (its stderr ends with \"{}\")", ended.tail));
    }
    Error::other(error.class(), text)
}

/// Starts the one `wait` of a container.
pub(crate) fn start_wait(shared: &Shared, entry: &Entry, patience: Patience) -> Result<Call, CallError> {
    let sandbox = sandbox(entry);
    let deadline = (patience == Patience::Late).then_some(shared.own.settings.deadlines.late_wait);
    let ask = Ask {
        message: framed(&wire::Wait { container_id: convert::container_id(&entry.id) }),
        reads: true,
        sandbox: sandbox.as_ref(),
        leaves: sandbox.is_some(),
        ..Ask::new("wait", deadline)
    };
    shared.own.program.call_after(ask, |pid| {
        noted(shared, entry, || calls(shared, &entry.id, "wait", pid));
        Ok(())
    })
}

/// Watches a running container until its end, and makes that end known.
pub(crate) fn watch(shared: &Arc<Shared>, entry: &Entry, wait: Result<Call, CallError>) {
    let id = &entry.id;
    let mut wait = match wait {
        Ok(wait) => wait,
        Err(error) => {
            let message = Some(format!("Wait on container '{id}' failed: {error}"));
            return finish(shared, entry, ContainerTermination { message, ..Default::default() }, false);
        }
    };
    let bells = [shared.leave_bell().as_fd(), entry.own.bell()];
    while !wait.is_over() && !entry.is_destroyed() {
        if shared.is_leaving() {
            // Ends the call, not the container.
            return drop(wait);
        }
        step(&mut [&mut wait], &bells, None);
    }
    if wait.is_over() {
        return finish(shared, entry, termination_of(wait.ended()), false);
    }
    noted(shared, entry, || shared.records.destroying(id));
    shared.step(entry, Phase::Destroying);
    let failure = match destroy_beside(shared, entry, &mut wait) {
        Ok(failure) => failure,
        Err(Left) => return,
    };
    let mut termination = termination_of_destroyed(wait.ended());
    if let Some(failure) = failure {
        let text = format!("Destroy of container '{id}' failed: {failure}");
        warn(&text);
        termination.message = Some(match termination.message.take() {
            Some(message) => format!("{message}; {text}"),
            None => text,
        });
    }
    finish(shared, entry, termination, true);
}

/// The containerizer goes.
struct Left;

/// Calls `destroy`, and then lets `wait` end: by itself within the grace, or with its session.
fn destroy_beside(shared: &Shared, entry: &Entry, wait: &mut Call) -> Result<Option<CallError>, Left> {
    let bells = [shared.leave_bell().as_fd()];
    let failure = match start_destroy(shared, entry) {
        Ok(mut destroy) => {
            while !destroy.is_over() {
                if shared.is_leaving() {
                    return Err(Left);
                }
                step(&mut [wait, &mut destroy], &bells, None);
            }
            destroy.ended().success().err()
        }
        Err(error) => Some(error),
    };
    let until = Instant::now() + shared.own.settings.deadlines.grace;
    while !wait.is_over() {
        if shared.is_leaving() {
            return Err(Left);
        }
        if Instant::now() >= until {
            wait.cancel();
        }
        step(&mut [wait], &bells, Some(until.max(Instant::now() + Duration::from_millis(100))));
    }
    Ok(failure)
}

fn start_destroy(shared: &Shared, entry: &Entry) -> Result<Call, CallError> {
    let sandbox = sandbox(entry);
    shared.own.program.call(Ask {
        message: framed(&wire::Destroy { container_id: convert::container_id(&entry.id) }),
        sandbox: sandbox.as_ref(),
        ..Ask::new("destroy", Some(shared.own.settings.deadlines.destroy))
    })
}

/// The last `destroy` of what has ended, or never came up. The program may well say that there is nothing.
pub(crate) fn destroy_once(shared: &Shared, entry: &Entry) {
    let mut call = match start_destroy(shared, entry) {
        Ok(call) => call,
        Err(error) => return warn(&format!("Destroy of container '{}' failed: {error}", entry.id)),
    };
    let bells = [shared.leave_bell().as_fd()];
    while !call.is_over() && !shared.is_leaving() {
        step(&mut [&mut call], &bells, None);
    }
}

/// Writes down how it ended, lets the program let go of it, and tells everyone.
pub(crate) fn finish(
    shared: &Arc<Shared>,
    entry: &Entry,
    termination: ContainerTermination,
    destroyed: bool,
) {
    noted(shared, entry, || shared.records.ended(&entry.id, &termination));
    shared.step(entry, Phase::Destroying);
    if !destroyed {
        destroy_once(shared, entry);
        if shared.is_leaving() {
            // The next agent does it again.
            return;
        }
    }
    noted(shared, entry, || shared.records.tidied(&entry.id));
    shared.terminated(entry, termination);
}

/// Writes of a container, unless only the program knows it.
fn noted(shared: &Shared, entry: &Entry, write: impl FnOnce() -> Result<(), Error>) {
    if !entry.record.own.foreign {
        shared.noted(entry, write());
    }
}

/// What `wait` says of a container that ended by itself. A complete message is taken with any status of the program: some
/// exit with the container's own.
fn termination_of(ended: Ended) -> ContainerTermination {
    let mut ended = ended;
    let failure = ended.success().err();
    let read = match ended.any_result() {
        Ok(bytes) => convert::termination(&bytes)
            .ok_or_else(|| CallError::BadResult("Failed to deserialize message".to_owned())),
        Err(error) => Err(error),
    };
    match (read, failure) {
        (Ok(termination), _) => termination,
        // The status is judged first.
        (Err(_), Some(failure)) | (Err(failure), None) => {
            ContainerTermination { message: Some(failure.to_string()), ..ContainerTermination::default() }
        }
    }
}

/// The same for one that was destroyed: without a message, the raw status of `wait` is all that is known.
fn termination_of_destroyed(ended: Ended) -> ContainerTermination {
    let status = ended.status.map(|status| status.0);
    let read = ended.any_result().ok().and_then(|bytes| convert::termination(&bytes));
    read.unwrap_or(ContainerTermination { status, ..ContainerTermination::default() })
}
