// SPDX-License-Identifier: Apache-2.0
//! The rules about facets (nested containers, pause, exec, attach) and about recovery. A facet that is absent has its
//! rule too: it is refused cleanly.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use berth_contract::{AgentState, Containerizer, ExecRequest, KnownRun, LaunchResult, Streams, Variables};
use berth_model::{Class, ContainerId, ExecutorInfo, TaskInfo};

use crate::script::Script;
use crate::world::{PATIENCE, World};

/// The wait status word of an exit.
fn exited(status: u8) -> Option<i32> {
    Some(i32::from(status) << 8)
}

// ---- nested containers ----

/// Whether nested containers can be tested; if not, that they are refused.
fn nests(world: &World<'_>) -> bool {
    if world.containerizer().nesting().is_some() {
        return true;
    }
    let parent = world.id("alone");
    world.start(&parent, &Script::Sleep);
    let child = world.child(&parent, "child");
    let config = world.config(&child, &Script::Sleep);
    let text = world.failure("launch", world.containerizer().launch(&child, config, Variables::new(), None));
    assert_eq!(text, "Nested containers are not supported");
    world.skip("it has no nested containers, and refuses them");
    false
}

fn children(world: &World<'_>, id: &ContainerId) -> Vec<ContainerId> {
    match world.containerizer().nesting() {
        Some(nesting) => world.good("children", nesting.children(id)),
        None => panic!("the facet was there a moment ago"),
    }
}

/// A nested container ends by itself and leaves its parent alone.
pub fn a_nested_container_has_a_life_of_its_own(world: &mut World<'_>) {
    if !nests(world) {
        return;
    }
    let parent = world.id("parent");
    world.start(&parent, &Script::Sleep);
    let child = world.child(&parent, "child");
    world.start(&child, &Script::Exit(6));
    assert_eq!(world.wait(&child).status, exited(6));
    assert_eq!(world.wait(&child).status, exited(6));
    world.lists(&[&parent]);
    assert_eq!(children(world, &parent), []);
}

/// What a nested container may not have, and where it may not be, in the words of Mesos.
pub fn a_nested_container_needs_a_living_parent_and_has_no_task(world: &mut World<'_>) {
    if !nests(world) {
        return;
    }
    let parent = world.id("parent");
    let child = world.child(&parent, "child");
    let launch = |config, checkpoint| {
        let answer = world.containerizer().launch(&child, config, Variables::new(), checkpoint);
        let text = world.failure("launch", answer);
        // A refused launch is a failed one: the caller destroys it.
        world.good("destroy", world.containerizer().destroy(&child));
        text
    };
    assert_eq!(launch(world.config(&child, &Script::Sleep), None), world.unknown_parent(&parent));
    world.start(&parent, &Script::Sleep);
    let mut config = world.config(&child, &Script::Sleep);
    config.executor_info = Some(ExecutorInfo::default());
    assert_eq!(launch(config, None), "Nested containers may not supply a TaskInfo/ExecutorInfo");
    let mut config = world.config(&child, &Script::Sleep);
    config.task_info = Some(TaskInfo::default());
    assert_eq!(launch(config, None), "Nested containers may not supply a TaskInfo/ExecutorInfo");
    let path = world.site.sandboxes().join("nested.pid");
    assert_eq!(
        launch(world.config(&child, &Script::Sleep), Some(path.clone())),
        "Nested containers may not be checkpointed"
    );
    assert!(!path.exists());
    world.start(&child, &Script::Exit(0));
    assert_eq!(world.wait(&child).status, exited(0));
}

/// Destroying a container destroys what is in it, and everyone who waits for those is answered.
pub fn destroy_takes_nested_containers_first(world: &mut World<'_>) {
    if !nests(world) {
        return;
    }
    let parent = world.id("parent");
    world.start(&parent, &Script::Sleep);
    let children: Vec<ContainerId> = ["a", "b"].map(|name| world.child(&parent, name)).into();
    for child in &children {
        world.start(child, &Script::Sleep);
    }
    let mut listed = self::children(world, &parent);
    listed.sort();
    assert_eq!(listed, children);
    let waiting: Vec<_> = children.iter().map(|child| world.containerizer().wait(child)).collect();
    assert!(world.good("destroy", world.containerizer().destroy(&parent)).is_some());
    for wait in waiting {
        assert!(world.good("wait", wait).is_some());
    }
    world.lists(&[]);

    // However a container ends, what is in it ends with it.
    let parent = world.id("killed");
    world.start(&parent, &Script::Sleep);
    let child = world.child(&parent, "child");
    world.start(&child, &Script::Sleep);
    let inner = world.child(&child, "inner");
    let deep = require(world.handle().nesting()).depth() > 1;
    if deep {
        world.start(&inner, &Script::Sleep);
    }
    assert!(world.good("kill", world.containerizer().kill(&parent, 9)));
    assert_eq!(world.wait(&parent).status, Some(9));
    assert_eq!(world.wait(&child).status, Some(9));
    if deep {
        assert_eq!(world.wait(&inner).status, Some(9));
    }
    world.lists(&[]);
}

/// Removal of nested containers, in the words of Mesos.
pub fn remove_of_nested_containers(world: &mut World<'_>) {
    if !nests(world) {
        return;
    }
    let parent = world.id("parent");
    let child = world.child(&parent, "child");
    let remove = |id: &ContainerId| world.failure("remove", world.containerizer().remove(id));
    assert_eq!(remove(&child), world.unknown_root(&parent));
    world.start(&parent, &Script::Sleep);
    world.good("remove of one that never was", world.containerizer().remove(&child));
    world.start(&child, &Script::Sleep);
    assert_eq!(remove(&child), "Nested container has not terminated yet");
    assert!(world.good("kill", world.containerizer().kill(&child, 9)));
    world.wait(&child);
    world.good("remove", world.containerizer().remove(&child));
    world.good("remove again", world.containerizer().remove(&child));
    assert_eq!(world.good("wait", world.containerizer().wait(&child)), None);
    assert!(!world.sandbox(&child).exists());

    // Whoever does not remove it does so with the one around it, and until then its end is known.
    let kept = world.child(&parent, "kept");
    world.start(&kept, &Script::Exit(5));
    assert_eq!(world.wait(&kept).status, exited(5));
    world.restart(Some(AgentState::default()));
    assert_eq!(world.wait(&kept).status, exited(5));
    world.good("destroy", world.containerizer().destroy(&parent));
    assert_eq!(world.wait(&kept).status, exited(5));
    world.good("remove", world.containerizer().remove(&parent));
    assert_eq!(world.good("wait", world.containerizer().wait(&kept)), None);
}

// ---- pause and exec ----

/// A paused container is there, can be resumed, and can be destroyed as it is.
pub fn a_paused_container_can_be_resumed_and_destroyed(world: &mut World<'_>) {
    let containerizer = world.handle();
    let Some(pause) = containerizer.pause() else { return world.skip("it can not pause") };
    let id = world.id("paused");
    let text = world.failure("pause of an unknown id", pause.freeze(&id));
    assert!(text.contains(&id.to_string()), "{text}");
    world.start(&id, &Script::Trap { signal: 15, status: 8 });
    world.file(&id, "ready");
    world.good("pause", pause.freeze(&id));
    world.good("pause", pause.freeze(&id));
    world.good("resume", pause.thaw(&id));
    world.good("resume", pause.thaw(&id));
    assert!(world.good("kill", world.containerizer().kill(&id, 15)));
    assert_eq!(world.wait(&id).status, exited(8));

    let id = world.id("destroyed");
    world.start(&id, &Script::Sleep);
    world.good("pause", pause.freeze(&id));
    let ended = world.good("destroy", world.containerizer().destroy(&id));
    assert_eq!(ended.and_then(|ended| ended.status), Some(9));
}

/// A signal waits for the resumption, and so does the pause for the next containerizer.
pub fn what_is_sent_to_a_paused_container_comes_when_it_is_resumed(world: &mut World<'_>) {
    if world.containerizer().pause().is_none() {
        return world.skip("it can not pause");
    }
    let id = world.id("waits");
    world.start(&id, &Script::Trap { signal: 15, status: 9 });
    world.file(&id, "ready");
    world.good("pause", require(world.handle().pause()).freeze(&id));
    assert!(world.good("kill", world.containerizer().kill(&id, 15)));
    world.restart(Some(AgentState::default()));
    world.lists(&[&id]);
    world.good("usage", world.containerizer().usage(&id));
    world.good("status", world.containerizer().status(&id));
    world.good("resume", require(world.handle().pause()).thaw(&id));
    assert_eq!(world.wait(&id).status, exited(9));
}

/// A command that runs beside the container's own has a status of its own.
pub fn a_command_run_in_a_container_ends_by_itself(world: &mut World<'_>) {
    let containerizer = world.handle();
    let Some(exec) = containerizer.exec() else { return world.skip("it can not run further commands") };
    let id = world.id("executed");
    world.start(&id, &Script::Sleep);
    let session = world.child(&id, "session");
    let request = ExecRequest {
        command: world.config(&session, &Script::Exit(9)).command_info,
        environment: Variables::new(),
        terminal: None,
    };
    let started = world.good("exec", exec.run(&session, request));
    assert_eq!(started.id, session);
    assert_eq!(world.wait(&session).status, exited(9));
    world.lists(&[&id]);
}

/// A command that can not be run has no record, unlike a launch that failed.
pub fn a_command_that_can_not_be_run_leaves_nothing_and_its_id_free(world: &mut World<'_>) {
    let containerizer = world.handle();
    let Some(exec) = containerizer.exec() else { return world.skip("it can not run further commands") };
    let id = world.id("executed");
    world.start(&id, &Script::Sleep);
    let session = world.child(&id, "session");
    let Some(config) = world.failing(&session) else { return };
    let request = |command| ExecRequest { command, environment: Variables::new(), terminal: None };
    for _ in 0..3 {
        let answer = exec.run(&session, request(config.command_info.clone()));
        assert!(world.answer("exec", answer).is_err());
        assert_eq!(world.good("wait", containerizer.wait(&session)), None);
    }
    let works = world.config(&session, &Script::Exit(0)).command_info;
    let held = world.good("exec", exec.run(&session, request(works)));
    assert_eq!(world.wait(&session).status, exited(0));
    drop(held);
    let nowhere = world.child(&world.id("nowhere"), "session");
    let answer = exec.run(&nowhere, request(config.command_info));
    let Err(error) = world.answer("exec", answer) else { panic!("a command runs in no container") };
    assert_eq!(error.class(), Class::NotFound, "{error}");
}

/// Whoever waits for a command is answered when its container is destroyed, and sooner than who waits for that.
pub fn commands_in_a_container_end_with_it(world: &mut World<'_>) {
    let containerizer = world.handle();
    let Some(exec) = containerizer.exec() else { return world.skip("it can not run further commands") };
    let id = world.id("executed");
    world.start(&id, &Script::Sleep);
    let session = world.child(&id, "session");
    let command = world.config(&session, &Script::Sleep).command_info;
    let request = ExecRequest { command, environment: Variables::new(), terminal: None };
    let held = world.good("exec", exec.run(&session, request));
    let wait = containerizer.wait(&session);
    assert!(world.good("destroy", containerizer.destroy(&id)).is_some());
    let ended = Instant::now();
    assert_eq!(world.good("wait", wait).and_then(|ended| ended.status), Some(9));
    assert!(ended.elapsed() < PATIENCE / 4, "it was told long after its container's end");
    drop(held);
    world.lists(&[]);
}

/// Text that is written goes in, comes out, and the end of the input comes when it is asked for.
pub fn what_a_container_reads_and_writes_can_be_attached_to(world: &mut World<'_>) {
    let containerizer = world.handle();
    let Some(attach) = containerizer.attach() else { return world.skip("it can not attach") };
    let id = world.id("copies");
    let text = world.failure("attach to an unknown id", attach.connect(&id, Streams::Both));
    assert!(text.contains(&id.to_string()), "{text}");
    world.start(&id, &Script::Copy);
    let mut attached = world.good("attach", attach.connect(&id, Streams::Both));
    let second = world.answer("attach", attach.connect(&id, Streams::Input));
    assert!(second.is_err_and(|error| error.class() == Class::Conflict), "two may write at once");
    let mut stdin = std::fs::File::from(attached.stdin.take().expect("stdin was asked for"));
    assert!(stdin.write_all(b"some words\n").is_ok());
    world.good("end of input", attach.end_input(&id));
    let mut text = String::new();
    let stdout = attached.stdout.take().expect("stdout was asked for");
    assert!(std::fs::File::from(stdout).read_to_string(&mut text).is_ok());
    assert_eq!(text, "some words\n");
    assert_eq!(world.wait(&id).status, exited(0));
    assert!(world.answer("attach", attach.connect(&id, Streams::Output)).is_err());
}

/// Neither a client nor a containerizer that goes closes what a container reads.
pub fn an_attachment_that_goes_disturbs_nothing(world: &mut World<'_>) {
    if world.containerizer().attach().is_none() {
        return world.skip("it can not attach");
    }
    let id = world.id("copies");
    world.start(&id, &Script::Copy);
    for _ in 0..3 {
        drop(world.good("attach", require(world.handle().attach()).connect(&id, Streams::Both)));
    }
    let held = world.good("attach", require(world.handle().attach()).connect(&id, Streams::Both));
    world.restart(Some(AgentState::default()));
    drop(held);
    world.lists(&[&id]);
    world.good("end of input", require(world.handle().attach()).end_input(&id));
    assert_eq!(world.wait(&id).status, exited(0));
}

/// A facet that was there a moment ago.
fn require<T: ?Sized>(facet: Option<&T>) -> &T {
    match facet {
        Some(facet) => facet,
        None => panic!("the facet was there a moment ago"),
    }
}

// ---- recovery ----

/// What runs goes on when the containerizer dies, and the next one has it: waits, kills, exact statuses.
pub fn a_running_container_outlives_the_containerizer(world: &mut World<'_>) {
    let (alone, executor, ended) = (world.id("alone"), world.id("executor"), world.id("ended"));
    world.start(&alone, &Script::Trap { signal: 15, status: 11 });
    world.file(&alone, "ready");
    world.start(&ended, &Script::Exit(12));
    world.wait(&ended);
    let known = start_executor(world, &executor);
    let before = world.good("status", world.containerizer().status(&alone)).executor_pid;
    world.restart(Some(AgentState { runs: vec![known] }));
    world.lists(&[&alone, &executor]);
    assert_eq!(world.good("status", world.containerizer().status(&alone)).executor_pid, before);
    assert!(world.good("kill", world.containerizer().kill(&alone, 15)));
    assert_eq!(world.wait(&alone).status, exited(11));
    assert_eq!(world.wait(&ended).status, exited(12), "a kept termination outlives the containerizer");
    assert!(world.good("destroy", world.containerizer().destroy(&executor)).is_some());
}

/// What ends while no containerizer is there has its exact status afterwards.
pub fn an_exit_between_two_containerizers_is_not_lost(world: &mut World<'_>) {
    let id = world.id("between");
    world.start(&id, &Script::Trap { signal: 15, status: 13 });
    world.file(&id, "ready");
    let Some(pid) = world.good("status", world.containerizer().status(&id)).executor_pid else {
        return world.skip("it does not say the pid, so nobody else can end the container");
    };
    // Ended by the operator's hand, with the containerizer gone: the signal goes out before the next one is
    // made.
    let signal = world.signal();
    world.restart_after(Some(AgentState::default()), || signal(pid, 15));
    assert_eq!(world.wait(&id).status, exited(13));
}

/// An executor's container that the agent does not know is nobody's, and goes.
pub fn an_executors_container_that_nobody_knows_is_destroyed(world: &mut World<'_>) {
    for state in [Some(AgentState::default()), None] {
        let id = world.id(if state.is_some() { "unknown" } else { "stateless" });
        start_executor(world, &id);
        world.restart(state);
        world.until("the orphan is gone", || world.listed().is_empty().then_some(()));
    }
}

/// Nested containers are re-adopted with their parents.
pub fn nested_containers_outlive_the_containerizer(world: &mut World<'_>) {
    if !nests(world) {
        return;
    }
    let parent = world.id("parent");
    world.start(&parent, &Script::Sleep);
    let child = world.child(&parent, "child");
    world.start(&child, &Script::Sleep);
    world.restart(Some(AgentState::default()));
    assert_eq!(children(world, &parent), std::slice::from_ref(&child));
    let wait = world.handle();
    let wait = wait.wait(&child);
    assert!(world.good("destroy", world.containerizer().destroy(&parent)).is_some());
    assert!(world.good("wait", wait).is_some());
}

/// Launches a container with an executor, and returns what the agent would remember of it.
fn start_executor(world: &World<'_>, id: &ContainerId) -> KnownRun {
    let mut config = world.config(id, &Script::Sleep);
    let executor = ExecutorInfo { command: Some(config.command_info.clone()), ..ExecutorInfo::default() };
    config.executor_info = Some(executor.clone());
    assert_eq!(world.launch(id, config).map_err(|e| e.chain()), Ok(LaunchResult::Success));
    let containerizer: Arc<dyn Containerizer> = world.handle();
    let status = world.good("status", containerizer.status(id));
    KnownRun {
        id: id.clone(),
        executor: Some(executor),
        container: None,
        directory: world.sandbox(id),
        pid: status.executor_pid,
        completed: false,
    }
}
