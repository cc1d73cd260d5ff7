// SPDX-License-Identifier: Apache-2.0
//! Each row of what the agent says itself (reference 31 §8.1), by the way that leads to it.

use super::*;

fn row(state: &str, reason: &str, text: &str) -> (String, String, String) {
    (state.to_owned(), format!("REASON_{reason}"), text.to_owned())
}

#[test]
fn a_task_with_the_id_of_an_executor_is_dropped() {
    let mut bench = Bench::new();
    bench.running(custom("e", &["t"]));
    let told = only(&bench.run(command("e")));
    let text = "Cannot reuse an already existing executor for a command task";
    assert_eq!(told, row("TASK_DROPPED", "TASK_INVALID", text));
}

#[test]
fn a_framework_that_knows_no_partitions_hears_that_a_task_is_lost() {
    let mut bench = Bench::new();
    let run = Run { launch_executor: false, framework: framework(false), ..custom("e", &["t"]) };
    let text = "No executor is expected to launch and there is none running";
    assert_eq!(only(&bench.run(run)), row("TASK_LOST", "EXECUTOR_TERMINATED", text));
}

#[test]
fn an_executor_that_is_there_is_not_launched_again() {
    let mut bench = Bench::new();
    bench.running(custom("e", &["t"]));
    let text = "Master wants to launch executor, but one already exists";
    assert_eq!(only(&bench.run(custom("e", &["u"]))), row("TASK_DROPPED", "EXECUTOR_TERMINATED", text));
}

#[test]
fn tasks_for_an_executor_that_ends_or_has_ended_are_dropped() {
    let mut bench = Bench::new();
    let at = bench.running(custom("e", &["t"]));
    let (framework, executor) = ("f".to_owned(), "e".to_owned());
    let effects = bench.on(Input::ShutdownExecutor { framework, executor });
    assert_eq!(told(&effects), [event::Type::Shutdown]);
    let more = |task| Run { launch_executor: false, ..custom("e", &[task]) };
    let told = only(&bench.run(more("u")));
    assert_eq!(told, row("TASK_DROPPED", "EXECUTOR_TERMINATED", "Executor terminating"));
    bench.on(Input::Ended { at, termination: Some(exited(0)) });
    let told = only(&bench.run(more("v")));
    assert_eq!(told, row("TASK_DROPPED", "EXECUTOR_TERMINATED", "Executor terminated"));
}

#[test]
fn a_task_whose_place_can_not_be_made_is_dropped() {
    let mut bench = Bench::new();
    bench.run(command("t"));
    let at = bench.at("t");
    bench.on(Input::Launched { at: at.clone(), result: Err(NotLaunched::NoPlace("no room".to_owned())) });
    let effects = bench.on(Input::Ended { at, termination: Some(ContainerTermination::default()) });
    assert_eq!(only(&effects), row("TASK_DROPPED", "EXECUTOR_TERMINATED", "no room"));
}

#[test]
fn limits_that_nothing_enforces_are_refused() {
    let settings = Settings { limits_cpus: false, limits_mem: false, ..Settings::default() };
    for (name, text) in
        [("cpus", "CPU limits can only be set on"), ("mem", "Memory limits can only be set on")]
    {
        let mut bench = Bench::with(settings.clone());
        let mut run = command("t");
        run.tasks[0].limits.insert(name.to_owned(), v1::value::Scalar { value: 2.0 });
        let (state, reason, said) = only(&bench.run(run));
        assert_eq!((state.as_str(), reason.as_str()), ("TASK_DROPPED", "REASON_GC_ERROR"));
        assert!(said.starts_with(text), "{said}");
    }
}

#[test]
fn an_id_that_can_be_no_name_is_an_error_of_the_task() {
    for (id, text) in [
        ("a/b", "'a/b' contains invalid characters"),
        ("..", "'..' is disallowed"),
        ("", "ID must not be empty"),
    ] {
        let told = only(&Bench::new().run(command(id)));
        assert_eq!(told, row("TASK_ERROR", "TASK_INVALID", text));
    }
}

#[test]
fn a_task_that_is_killed_before_its_executor_has_it_was_never_delivered() {
    let mut bench = Bench::new();
    bench.run(custom("e", &["t"]));
    let kill = |task: &str| Input::Kill { framework: "f".to_owned(), task: task.to_owned(), policy: None };
    let effects = bench.on(kill("t"));
    let text = "Killed before delivery to the executor";
    assert_eq!(only(&effects), row("TASK_KILLED", "TASK_KILLED_DURING_LAUNCH", text));
    // The executor comes, and there is nothing for it.
    let at = bench.at("e");
    bench.on(Input::Launched { at: at.clone(), result: Ok(true) });
    let effects =
        bench.on(Input::Subscribed { at, link: 1, pid: None, subscribe: call::Subscribe::default() });
    assert_eq!(told(&effects), [event::Type::Shutdown]);
}

#[test]
fn a_kill_while_the_executor_does_not_listen_is_told_when_it_does() {
    let kill = || Input::Kill { framework: "f".to_owned(), task: "t".to_owned(), policy: None };
    let listed = || call::Subscribe { unacknowledged_tasks: vec![task("t")], ..call::Subscribe::default() };
    let comes = |at: &At, link| Input::Subscribed { at: at.clone(), link, pid: None, subscribe: listed() };
    let mut bench = Bench::new();
    let at = bench.running(custom("e", &["t"]));
    // It lost its connection.
    bench.on(Input::Unlinked { at: at.clone(), link: 1 });
    assert_eq!(told(&bench.on(kill())), []);
    assert_eq!(told(&bench.on(comes(&at, 2))), [event::Type::Subscribed, event::Type::Kill]);
    assert_eq!(told(&bench.on(kill())), [event::Type::Kill]);
    // The agent came back, and the executor not yet.
    bench.restart();
    assert_eq!(told(&bench.on(kill())), []);
    assert_eq!(told(&bench.on(comes(&at, 1))), [event::Type::Subscribed, event::Type::Kill]);
    // What has ended by then is not killed.
    bench.on(Input::Unlinked { at: at.clone(), link: 1 });
    bench.on(kill());
    let ended = said(&at, "t", TaskState::TaskFinished, 9).update.expect("a report").status;
    let subscribe = call::Subscribe {
        unacknowledged_updates: vec![call::Update { status: ended }],
        ..call::Subscribe::default()
    };
    let effects = bench.on(Input::Subscribed { at, link: 2, pid: None, subscribe });
    assert!(!told(&effects).contains(&event::Type::Kill), "{effects:?}");
}

#[test]
fn a_group_is_not_given_to_who_speaks_by_messages() {
    let mut bench = Bench::new();
    bench.run(custom("e", &["t"]));
    let at = bench.at("e");
    bench.on(Input::Launched { at: at.clone(), result: Ok(true) });
    let subscribe = call::Subscribe::default();
    let pid = Some("executor(1)@127.0.0.1:7".to_owned());
    bench.on(Input::Subscribed { at: at.clone(), link: 1, pid, subscribe });
    let group = Run { group: true, launch_executor: false, ..custom("e", &["u", "v"]) };
    let effects = [bench.run(group), bench.on(Input::Limited { at: at.clone(), result: Ok(()) })].concat();
    assert!(!told(&effects).contains(&event::Type::LaunchGroup), "{effects:?}");
    let text = "Task groups can not be given to an executor that speaks the older protocol of messages: one that uses \
                the HTTP API can run them";
    let refused = row("TASK_DROPPED", "TASK_GROUP_INVALID", text);
    let refusals: Vec<_> = reports(&effects).into_iter().map(said_by).collect();
    assert_eq!(refusals, [refused.clone(), refused]);
    // It has what it had.
    assert_eq!(bench.core.executor("f", "e").unwrap().phase, Phase::Running);
}

#[test]
fn a_kill_of_one_ends_a_group_that_was_not_delivered() {
    let mut bench = Bench::new();
    bench.run(group("e", &["t", "u"]));
    let effects = bench.on(Input::Kill { framework: "f".to_owned(), task: "u".to_owned(), policy: None });
    let all = reports(&effects);
    let text = "A task within the task group was killed before delivery to the executor";
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|status| status.state() == TaskState::TaskKilled && status.message() == text));
}

#[test]
fn a_kill_of_a_task_that_nobody_knows_says_that_there_is_no_executor() {
    let mut bench = Bench::new();
    bench.running(custom("e", &["t"]));
    let effects = bench.on(Input::Kill { framework: "f".to_owned(), task: "z".to_owned(), policy: None });
    assert_eq!(only(&effects), row("TASK_DROPPED", "EXECUTOR_TERMINATED", "Cannot find executor"));
}

#[test]
fn a_launch_that_fails_and_one_that_nobody_takes_fail_their_task() {
    let mut bench = Bench::new();
    bench.run(command("t"));
    let at = bench.at("t");
    let result = Err(NotLaunched::Failed("no such image".to_owned()));
    bench.on(Input::Launched { at: at.clone(), result });
    let effects = bench.on(Input::Ended { at, termination: Some(ContainerTermination::default()) });
    let text = "Failed to launch container: no such image";
    assert_eq!(only(&effects), row("TASK_FAILED", "CONTAINER_LAUNCH_FAILED", text));
    bench.run(command("u"));
    let at = bench.at("u");
    bench.on(Input::Launched { at: at.clone(), result: Ok(false) });
    let effects = bench.on(Input::Ended { at, termination: None });
    let text = "Abnormal executor termination: unknown container";
    assert_eq!(only(&effects), row("TASK_FAILED", "EXECUTOR_TERMINATED", text));
}

#[test]
fn an_executor_that_does_not_register_in_time_is_destroyed() {
    let mut bench = Bench::new();
    bench.run(custom("e", &["t"]));
    let at = bench.at("e");
    bench.on(Input::Launched { at: at.clone(), result: Ok(true) });
    let effects = bench.on(Input::Timer(Timer::Registration(at.clone())));
    assert_eq!(effects, [Effect::Destroy(at.clone())]);
    let effects = bench.on(Input::Ended { at, termination: Some(ContainerTermination::default()) });
    let text = "Executor did not register within 1mins";
    assert_eq!(only(&effects), row("TASK_FAILED", "EXECUTOR_REGISTRATION_TIMEOUT", text));
}

#[test]
fn an_executor_that_does_not_come_back_after_a_restart_is_destroyed() {
    let mut bench = Bench::new();
    let at = bench.running(custom("e", &["t"]));
    bench.restart();
    let effects = bench.on(Input::Looked { at: at.clone(), exists: true });
    assert!(matches!(&effects[..], [Effect::After(time, Timer::Reregistration(_))] if time.as_secs() == 2));
    let effects = bench.on(Input::Timer(Timer::Reregistration(at.clone())));
    assert_eq!(effects, [Effect::Destroy(at.clone())]);
    let effects = bench.on(Input::Ended { at, termination: Some(ContainerTermination::default()) });
    let text = "Executor did not reregister within 2secs";
    assert_eq!(only(&effects), row("TASK_GONE", "EXECUTOR_REREGISTRATION_TIMEOUT", text));
}

#[test]
fn a_container_that_can_not_have_what_its_tasks_need_is_destroyed() {
    let mut bench = Bench::new();
    let at = bench.running(custom("e", &["t"]));
    let effects = bench.run(Run { launch_executor: false, ..custom("e", &["u"]) });
    let limit = place(&effects, |effect| matches!(effect, Effect::Limit { .. }));
    let Effect::Limit { resources, .. } = &effects[limit] else { unreachable!() };
    assert_eq!(resources.iter().filter(|one| one.name == "cpus").count(), 3, "its own, and of both tasks");
    let effects = bench.on(Input::Limited { at: at.clone(), result: Err("no room".to_owned()) });
    assert_eq!(effects, [Effect::Destroy(at.clone())]);
    let effects = bench.on(Input::Ended { at, termination: Some(exited(1)) });
    let text = "Failed to update resources for container: no room";
    let all = reports(&effects);
    assert_eq!(all.len(), 2);
    let expected = row("TASK_GONE", "CONTAINER_UPDATE_FAILED", text);
    for status in all {
        let told = (status.state().as_str_name().to_owned(), status.reason().as_str_name().to_owned());
        assert_eq!((told.0, told.1, status.message().to_owned()), expected);
    }
}

#[test]
fn a_task_that_an_executor_does_not_know_after_a_restart_is_dropped() {
    let mut bench = Bench::new();
    let at = bench.running(custom("e", &["t"]));
    bench.restart();
    bench.on(Input::Looked { at: at.clone(), exists: true });
    let effects =
        bench.on(Input::Subscribed { at, link: 2, pid: None, subscribe: call::Subscribe::default() });
    let text = "Task launched during agent restart";
    assert_eq!(only(&effects), row("TASK_DROPPED", "AGENT_RESTARTED", text));
}

#[test]
fn an_executor_that_ends_fails_its_tasks_in_the_words_of_its_container() {
    let mut bench = Bench::new();
    let at = bench.running(custom("e", &["t"]));
    let termination = ContainerTermination {
        message: Some("Memory limit exceeded".to_owned()),
        reason: Some(berth_model::Reason::ContainerLimitationMemory),
        limited_resources: berth_proto::convert::resources(&[resource("mem", 32.0)]).unwrap(),
        status: Some(9),
        ..Default::default()
    };
    let effects = bench.on(Input::Ended { at, termination: Some(termination) });
    let expected = row("TASK_FAILED", "CONTAINER_LIMITATION_MEMORY", "Memory limit exceeded");
    assert_eq!(only(&effects), expected);
    assert!(reports(&effects)[0].limitation.is_some());
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Exited { status: 9, .. })));
}
