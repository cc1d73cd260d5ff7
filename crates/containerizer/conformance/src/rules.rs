// SPDX-License-Identifier: Apache-2.0
//! The rules that every containerizer keeps: launching, ending, asking. `rules_more` has the facets and
//! recovery.
//!
//! Each is a function of a [`World`]; [`suite!`](crate::suite) makes a test of each.

use std::collections::BTreeMap;
use std::thread;

use berth_contract::{LaunchResult, Limits, Next, Phase, Variables, What, block_on, block_on_until};
use berth_model::{ContainerId, ContainerTermination, Resources};

use crate::script::Script;
use crate::world::{PATIENCE, World};

/// The wait status word of an exit.
fn exited(status: u8) -> Option<i32> {
    Some(i32::from(status) << 8)
}

/// The number in a wait status word when a signal ended the process.
fn signalled(termination: &ContainerTermination) -> Option<i32> {
    termination.status.filter(|word| word & 0xff00 == 0).map(|word| word & 0x7f)
}

// ---- launch ----

/// A launched container is listed, runs, ends by itself, and its status is the one it gave.
pub fn exit_statuses_are_exact(world: &mut World<'_>) {
    for status in [0, 1, 42, 255] {
        let id = world.id(&format!("exit{status}"));
        world.start(&id, &Script::Exit(status));
        assert_eq!(world.wait(&id).status, exited(status));
    }
}

/// The second launch changes nothing about the first.
pub fn a_second_launch_with_the_same_id_is_already_launched(world: &mut World<'_>) {
    let id = world.id("twice");
    world.start(&id, &Script::Sleep);
    let second = world.launch(&id, world.config(&id, &Script::Exit(3)));
    assert_eq!(second.map_err(|e| e.chain()), Ok(LaunchResult::AlreadyLaunched));
    assert!(world.good("kill", world.containerizer().kill(&id, 9)));
    assert_eq!(signalled(&world.wait(&id)), Some(9));
}

/// A record is kept after the exit, so its id is taken until it is removed; then it is free.
pub fn an_id_is_taken_until_it_is_removed(world: &mut World<'_>) {
    let id = world.id("taken");
    world.start(&id, &Script::Exit(0));
    world.wait(&id);
    let again = world.launch(&id, world.config(&id, &Script::Exit(3)));
    assert_eq!(again.map_err(|e| e.chain()), Ok(LaunchResult::AlreadyLaunched));
    assert_eq!(world.wait(&id).status, exited(0));
    world.good("remove", world.containerizer().remove(&id));
    world.start(&id, &Script::Exit(4));
    assert_eq!(world.wait(&id).status, exited(4));
}

/// Of several that launch one id at the same time, one succeeds.
pub fn of_many_launches_with_one_id_at_once_one_succeeds(world: &mut World<'_>) {
    let id = world.id("race");
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (containerizer, id, config) = (world.handle(), id.clone(), world.config(&id, &Script::Sleep));
            thread::spawn(move || {
                let answer = containerizer.launch(&id, config, Variables::new(), None);
                block_on_until(answer, std::time::Instant::now() + PATIENCE)
            })
        })
        .collect();
    let mut successes = 0;
    for thread in threads {
        match thread.join() {
            Ok(Some(Ok(LaunchResult::Success))) => successes += 1,
            Ok(Some(Ok(LaunchResult::AlreadyLaunched))) => {}
            other => panic!("a launch beside others: {other:?}"),
        }
    }
    assert_eq!(successes, 1);
}

/// What is not supported is refused before anything is done: the id and the sandbox are as they were.
pub fn another_kind_of_container_is_not_supported_and_leaves_nothing(world: &mut World<'_>) {
    let id = world.id("foreign");
    let Some(config) = world.foreign(&id) else { return };
    let scope = world.site.scope();
    let before = crate::ledger::Ledger::take(&scope);
    assert_eq!(world.launch(&id, config).map_err(|e| e.chain()), Ok(LaunchResult::NotSupported));
    let difference = crate::ledger::diff(&before, &crate::ledger::Ledger::take(&scope));
    assert!(difference.is_empty(), "{difference:?}");
    world.lists(&[]);
    assert_eq!(world.good("wait", world.containerizer().wait(&id)), None);
    world.start(&id, &Script::Exit(0));
    assert_eq!(world.wait(&id).status, exited(0));
}

/// A failed launch says why, keeps its record until it is destroyed, and nothing else.
pub fn a_failed_launch_leaves_only_its_record_and_destroy_clears_it(world: &mut World<'_>) {
    let id = world.id("failing");
    let Some(config) = world.failing(&id) else { return };
    let scope = world.site.scope();
    // What is made once and kept (a base cgroup) is there before.
    let before = crate::ledger::Ledger::take(&scope);
    match world.launch(&id, config.clone()) {
        Ok(result) => panic!("the launch was meant to fail: {result:?}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let kinds = ["process", "mount", "cgroup", "loop"].map(|kind| format!("left behind: {kind}"));
    let mut left = crate::ledger::diff(&before, &crate::ledger::Ledger::take(&scope));
    left.retain(|line| kinds.iter().any(|kind| line.starts_with(kind)));
    assert!(left.is_empty(), "after a failed launch: {left:?}");
    assert_eq!(
        world.launch(&id, config).map_err(|e| e.chain()),
        Ok(LaunchResult::AlreadyLaunched),
        "the record of a failed launch is there until it is destroyed"
    );
    world.good("destroy", world.containerizer().destroy(&id));
    world.lists(&[]);
    world.good("remove", world.containerizer().remove(&id));
    world.start(&id, &Script::Exit(0));
    assert_eq!(world.wait(&id).status, exited(0));
}

/// The environment that the agent gives is the process's, in the sandbox as its directory.
pub fn environment_and_directory_reach_the_process(world: &mut World<'_>) {
    let id = world.id("environment");
    let config = world.config(&id, &Script::Report("BERTH_SUITE".to_owned()));
    let environment = Variables::from([("BERTH_SUITE".to_owned(), "a value; with $signs".to_owned())]);
    let answer = world.containerizer().launch(&id, config, environment, None);
    assert_eq!(world.good("launch", answer), LaunchResult::Success);
    assert_eq!(world.wait(&id).status, exited(0));
    assert_eq!(world.file(&id, "report"), "a value; with $signs");
}

/// The command's own variables win over those that the agent gives.
pub fn the_commands_own_variables_win(world: &mut World<'_>) {
    let id = world.id("variables");
    let mut config = world.config(&id, &Script::Report("BERTH_SUITE".to_owned()));
    world.set_variable(&mut config, "BERTH_SUITE", "the command's");
    let environment = Variables::from([("BERTH_SUITE".to_owned(), "the agent's".to_owned())]);
    let answer = world.containerizer().launch(&id, config, environment, None);
    assert_eq!(world.good("launch", answer), LaunchResult::Success);
    assert_eq!(world.wait(&id).status, exited(0));
    assert_eq!(world.file(&id, "report"), "the command's");
}

/// When the launch has succeeded, the pid is where the agent wanted it, and it is the one of the status.
pub fn the_pid_is_checkpointed(world: &mut World<'_>) {
    let id = world.id("checkpoint");
    let path = world.site.sandboxes().join("meta").join("forked.pid");
    let config = world.config(&id, &Script::Sleep);
    let answer = world.containerizer().launch(&id, config, Variables::new(), Some(path.clone()));
    assert_eq!(world.good("launch", answer), LaunchResult::Success);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => panic!("no pid in {}: {error}", path.display()),
    };
    let status = world.good("status", world.containerizer().status(&id));
    assert_eq!(Some(text), status.executor_pid.map(|pid| pid.to_string()));
    world.good("destroy", world.containerizer().destroy(&id));
    // The agent's own directory, and the agent removes it.
    assert!(std::fs::remove_dir_all(world.site.sandboxes().join("meta")).is_ok());
}

// ---- wait ----

/// All waiters, before and after the end, get the same.
pub fn any_number_of_waiters_get_the_same_termination(world: &mut World<'_>) {
    let id = world.id("waiters");
    world.start(&id, &Script::Sleep);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (containerizer, id) = (world.handle(), id.clone());
            thread::spawn(move || {
                block_on_until(containerizer.wait(&id), std::time::Instant::now() + PATIENCE)
            })
        })
        .collect();
    assert!(world.good("kill", world.containerizer().kill(&id, 9)));
    let first = world.wait(&id);
    assert_eq!(signalled(&first), Some(9));
    for thread in threads {
        match thread.join() {
            Ok(Some(Ok(termination))) => assert_eq!(termination.as_ref(), Some(&first)),
            other => panic!("a waiter got {other:?}"),
        }
    }
    assert_eq!(world.wait(&id), first);
    assert_eq!(world.wait(&id), first);
}

/// A waiter that goes away takes nothing with it.
pub fn an_abandoned_wait_disturbs_nothing(world: &mut World<'_>) {
    let id = world.id("abandoned");
    world.start(&id, &Script::Sleep);
    let soon = std::time::Instant::now() + std::time::Duration::from_millis(20);
    assert!(block_on_until(world.containerizer().wait(&id), soon).is_none(), "it was not to end yet");
    drop(world.containerizer().wait(&id));
    world.lists(&[&id]);
    assert!(world.good("kill", world.containerizer().kill(&id, 9)));
    assert_eq!(signalled(&world.wait(&id)), Some(9));
}

/// Nobody waits for what was never there.
pub fn wait_of_an_unknown_id_is_none(world: &mut World<'_>) {
    let id = world.id("nobody");
    assert_eq!(world.good("wait", world.containerizer().wait(&id)), None);
}

// ---- destroy ----

/// However often: the same answer.
pub fn destroy_is_idempotent(world: &mut World<'_>) {
    let id = world.id("destroyed");
    world.start(&id, &Script::Sleep);
    let first = world.good("destroy", world.containerizer().destroy(&id));
    assert_eq!(first.as_ref().and_then(signalled), Some(9));
    assert_eq!(world.good("destroy", world.containerizer().destroy(&id)), first);
    assert_eq!(world.good("wait", world.containerizer().wait(&id)), first);
    world.lists(&[]);
}

/// All who destroy and all who wait share one termination.
pub fn destroys_and_waits_at_once_share_one_termination(world: &mut World<'_>) {
    let id = world.id("shared");
    world.start(&id, &Script::Sleep);
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let (containerizer, id) = (world.handle(), id.clone());
            thread::spawn(move || {
                let answer =
                    if number % 2 == 0 { containerizer.wait(&id) } else { containerizer.destroy(&id) };
                block_on_until(answer, std::time::Instant::now() + PATIENCE)
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok(Some(Ok(Some(termination)))) => all.push(termination),
            other => panic!("one of many got {other:?}"),
        }
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    assert_eq!(signalled(&all[0]), Some(9));
}

/// A destroy of what ended by itself answers how it ended.
pub fn destroy_after_the_exit_answers_the_exit(world: &mut World<'_>) {
    let id = world.id("ended");
    world.start(&id, &Script::Exit(7));
    let ended = world.wait(&id);
    assert_eq!(ended.status, exited(7));
    assert_eq!(world.good("destroy", world.containerizer().destroy(&id)), Some(ended));
}

/// Nothing to destroy is no error.
pub fn destroy_of_an_unknown_id_is_none(world: &mut World<'_>) {
    let id = world.id("nobody");
    assert_eq!(world.good("destroy", world.containerizer().destroy(&id)), None);
}

/// A destroy in the midst of a launch ends the launch, and the id does not come back.
pub fn destroy_during_a_launch_ends_the_launch(world: &mut World<'_>) {
    let id = world.id("stalled");
    let Some(config) = world.stalling(&id) else { return };
    let launch = {
        let (containerizer, id) = (world.handle(), id.clone());
        thread::spawn(move || {
            let answer = containerizer.launch(&id, config, Variables::new(), None);
            block_on_until(answer, std::time::Instant::now() + PATIENCE)
        })
    };
    world.until("the launching container is listed", || world.listed().contains(&id).then_some(()));
    world.good("destroy", world.containerizer().destroy(&id));
    match launch.join() {
        Ok(Some(Err(error))) => {
            let text = error.to_string();
            assert!(text.contains("destroyed"), "the launch failed with other words: {text}");
        }
        other => panic!("the launch ended with {other:?}"),
    }
    world.lists(&[]);
}

// ---- kill ----

/// A signal is delivered, and the process may do with it what it likes.
pub fn kill_delivers_the_signal(world: &mut World<'_>) {
    let id = world.id("trap");
    world.start(&id, &Script::Trap { signal: 15, status: 7 });
    world.file(&id, "ready");
    assert!(world.good("kill", world.containerizer().kill(&id, 15)));
    assert_eq!(world.wait(&id).status, exited(7));
}

/// A signal that nothing is done about ends the container, and the status says which.
pub fn a_deadly_signal_is_in_the_status(world: &mut World<'_>) {
    for signal in [9, 15] {
        let id = world.id(&format!("signal{signal}"));
        world.start(&id, &Script::Sleep);
        assert!(world.good("kill", world.containerizer().kill(&id, signal)));
        assert_eq!(signalled(&world.wait(&id)), Some(signal));
    }
}

/// Nobody there, nobody killed; and the same when the container has ended.
pub fn kill_of_an_unknown_or_ended_id_is_false(world: &mut World<'_>) {
    let id = world.id("nobody");
    assert!(!world.good("kill", world.containerizer().kill(&id, 9)));
    world.start(&id, &Script::Exit(0));
    world.wait(&id);
    assert!(!world.good("kill", world.containerizer().kill(&id, 9)));
}

/// The kernel's refusal, in the words of Mesos; the container is as before.
pub fn a_number_that_is_no_signal_is_refused(world: &mut World<'_>) {
    let id = world.id("number");
    world.start(&id, &Script::Sleep);
    for number in [999, -1, i32::MIN] {
        let text = world.failure("kill", world.containerizer().kill(&id, number));
        assert_eq!(text, "Unable to send signal to container: Invalid argument");
    }
    world.lists(&[&id]);
}

// ---- update, usage, status, containers ----

/// The container may end at any moment, so an update that comes too late is no error.
pub fn update_of_an_unknown_or_ended_id_is_no_error(world: &mut World<'_>) {
    let id = world.id("nobody");
    let update = |id: &ContainerId| {
        world.good("update", world.containerizer().update(id, Resources::default(), Limits::new()));
    };
    update(&id);
    world.start(&id, &Script::Exit(0));
    world.wait(&id);
    update(&id);
}

/// The texts of the reference.
pub fn usage_and_status_of_an_unknown_id_say_so(world: &mut World<'_>) {
    let id = world.id("nobody");
    let usage = world.failure("usage", world.containerizer().usage(&id));
    assert_eq!(usage, world.unknown_usage(&id));
    match (world.answer("status", world.containerizer().status(&id)), world.unknown_status(&id)) {
        (Err(error), Some(text)) => assert_eq!(error.to_string(), text),
        (Ok(status), None) => assert_eq!(status.container_id, Some(id)),
        (result, text) => panic!("status answered {result:?}, expected {text:?}"),
    }
}

/// What runs has a usage with a time, and a status with its id.
pub fn usage_and_status_of_a_running_container(world: &mut World<'_>) {
    let id = world.id("running");
    world.start(&id, &Script::Sleep);
    let usage = world.good("usage", world.containerizer().usage(&id));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0.0, |since| since.as_secs_f64());
    assert!((now - usage.timestamp).abs() < 3600.0, "usage of {} at {now}", usage.timestamp);
    let status = world.good("status", world.containerizer().status(&id));
    assert_eq!(status.container_id, Some(id));
}

/// Launching and running ones are listed, ended ones are not.
pub fn containers_lists_what_launches_and_runs(world: &mut World<'_>) {
    let (running, ended, launching) = (world.id("running"), world.id("ended"), world.id("launching"));
    world.start(&running, &Script::Sleep);
    world.start(&ended, &Script::Exit(0));
    world.wait(&ended);
    world.lists(&[&running]);
    let Some(config) = world.stalling(&launching) else { return };
    let launch = {
        let (containerizer, id) = (world.handle(), launching.clone());
        thread::spawn(move || block_on(containerizer.launch(&id, config, Variables::new(), None)))
    };
    world.until("the launching one is listed", || world.listed().contains(&launching).then_some(()));
    world.lists(&[&running, &launching]);
    world.good("destroy", world.containerizer().destroy(&launching));
    assert!(matches!(launch.join(), Ok(Err(_))));
}

// ---- remove, images, events ----

/// A living one is not removed; an ended one goes with its sandbox; what is gone may be removed again.
pub fn remove_takes_what_has_ended(world: &mut World<'_>) {
    let id = world.id("removed");
    world.good("remove", world.containerizer().remove(&id));
    world.start(&id, &Script::Sleep);
    let text = world.failure("remove", world.containerizer().remove(&id));
    assert_eq!(text, "Container has not terminated yet");
    assert!(world.good("kill", world.containerizer().kill(&id, 9)));
    world.wait(&id);
    world.good("remove", world.containerizer().remove(&id));
    assert!(!world.sandbox(&id).exists(), "the sandbox was not removed");
    assert_eq!(world.good("wait", world.containerizer().wait(&id)), None);
    world.good("remove", world.containerizer().remove(&id));
}

/// From the launch until the removal, through the end; and nobody else.
pub fn knows_says_whether_there_is_a_record(world: &mut World<'_>) {
    let (id, other) = (world.id("known"), world.id("unknown"));
    let containerizer = world.handle();
    assert!(!containerizer.knows(&id), "known before its launch");
    world.start(&id, &Script::Sleep);
    assert!(containerizer.knows(&id), "not known while it runs");
    assert!(!containerizer.knows(&other), "known without a launch");
    world.good("destroy", containerizer.destroy(&id));
    assert!(containerizer.knows(&id), "not known when it has ended");
    world.good("remove", containerizer.remove(&id));
    assert!(!containerizer.knows(&id), "known when it was removed");
}

/// With no image there is nothing to do, and that is well.
pub fn prune_images_without_images_succeeds(world: &mut World<'_>) {
    world.good("prune_images", world.containerizer().prune_images(Vec::new()));
}

/// Creation first, every transition joined to the one before, the end with the termination that wait answers.
pub fn events_tell_the_whole_life_in_order(world: &mut World<'_>) {
    let id = world.id("events");
    let mut events = world.containerizer().events(0);
    world.start(&id, &Script::Exit(5));
    let termination = world.wait(&id);
    world.good("remove", world.containerizer().remove(&id));
    let mut phase: Option<Phase> = None;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut number = 0;
    loop {
        let next = match block_on_until(events.next(), std::time::Instant::now() + PATIENCE) {
            Some(Next::Event(event)) => event,
            other => panic!("after {seen:?} the events end with {other:?}"),
        };
        assert!(next.sequence > number, "{} after {number}", next.sequence);
        number = next.sequence;
        if next.container != id {
            continue;
        }
        let kind = match next.what {
            What::Created(first) => {
                assert_eq!(phase.replace(first), None, "created twice");
                "created"
            }
            What::Moved { from, to } => {
                assert_eq!(phase.replace(to), Some(from), "a transition that starts elsewhere");
                if to == Phase::Running { "running" } else { "moved" }
            }
            What::Ended(ended) => {
                assert_eq!(ended, termination);
                "ended"
            }
            What::LaunchFailed(why) => panic!("the launch failed: {why}"),
            What::Limited(limit) => panic!("it has no limits to meet: {limit:?}"),
            What::Advanced(_) => continue,
            What::Removed => break,
        };
        *seen.entry(kind).or_default() += 1;
    }
    assert_eq!((seen.get("created"), seen.get("running"), seen.get("ended")), (Some(&1), Some(&1), Some(&1)));
    assert_eq!(phase, Some(Phase::Terminated));
}

// ---- everything at once ----

/// Many at once, some of which are destroyed and some of which end; then even the descriptors are as before.
pub fn many_at_once_leave_nothing_in_this_process(world: &mut World<'_>) {
    let ids: Vec<ContainerId> = (0..16).map(|number| world.id(&format!("many{number}"))).collect();
    let threads: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(number, id)| {
            let script = if number % 2 == 0 { Script::Exit(3) } else { Script::Sleep };
            let (containerizer, id, config) = (world.handle(), id.clone(), world.config(id, &script));
            thread::spawn(move || {
                let launched = block_on(containerizer.launch(&id, config, Variables::new(), None));
                assert_eq!(launched.map_err(|e| e.chain()), Ok(LaunchResult::Success));
                let ended =
                    if number % 2 == 0 { containerizer.wait(&id) } else { containerizer.destroy(&id) };
                block_on_until(ended, std::time::Instant::now() + PATIENCE)
            })
        })
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        match thread.join() {
            Ok(Some(Ok(Some(termination)))) if number % 2 == 0 => assert_eq!(termination.status, exited(3)),
            Ok(Some(Ok(Some(termination)))) => assert_eq!(signalled(&termination), Some(9)),
            other => panic!("container {number} of many: {other:?}"),
        }
    }
}
