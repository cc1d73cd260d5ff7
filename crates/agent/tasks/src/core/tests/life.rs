// SPDX-License-Identifier: Apache-2.0
//! Executors and tasks from their start to their end.

use super::*;
use event::Type::{Acknowledged, Kill, Launch, LaunchGroup, Shutdown, Subscribed};

/// A command that was launched.
fn launched(bench: &mut Bench, id: &str) -> (At, Vec<Effect>) {
    bench.run(command(id));
    let at = bench.at(id);
    let effects = bench.on(Input::Launched { at: at.clone(), result: Ok(true) });
    (at, effects)
}

fn acknowledge(bench: &mut Bench, task: &str, uuid: &[u8]) -> Vec<Effect> {
    let (framework, task) = ("f".to_owned(), task.to_owned());
    bench.on(Input::Acknowledge { framework, task, uuid: uuid.to_vec() })
}

#[test]
fn a_command_runs_from_its_launch_to_the_acknowledgement_of_its_end() {
    let mut bench = Bench::new();
    let effects = bench.run(command("t"));
    let written = place(&effects, |effect| matches!(effect, Effect::Write(Write::Task { .. })));
    let launch = place(&effects, |effect| matches!(effect, Effect::Launch(_)));
    assert!(written < launch, "its record comes first");
    let Effect::Launch(asked) = &effects[launch] else { unreachable!() };
    assert_eq!(asked.resources.len(), 4, "with what Mesos adds for its executor");
    let at = bench.at("t");
    let effects = bench.on(Input::Launched { at: at.clone(), result: Ok(true) });
    assert!(
        matches!(&effects[0], Effect::Start { kind: Kind::Command, recovered, .. } if recovered.is_empty())
    );
    assert_eq!(told(&effects), [Launch]);

    let effects = bench.says(&at, "t", TaskState::TaskRunning, 1);
    let written = place(&effects, |effect| matches!(effect, Effect::Write(Write::Update { .. })));
    let heard = place(&effects, |effect| matches!(effect, Effect::Tell { .. }));
    let sent = place(&effects, |effect| matches!(effect, Effect::Report(_)));
    assert!(written < heard && heard < sent);
    let status = reports(&effects)[0];
    assert_eq!(status.executor_id.as_ref().unwrap().value, "t");
    assert_eq!(status.agent_id, bench.core.agent.id);

    let effects = bench.on(Input::Ended { at: at.clone(), termination: Some(exited(0)) });
    assert!(matches!(&effects[..], [Effect::Settle { .. }]), "its executor speaks first");
    let effects = bench.says(&at, "t", TaskState::TaskFinished, 2);
    assert!(reports(&effects).is_empty(), "the one before is on its way");
    let effects = bench.on(Input::Over { at: at.clone() });
    assert!(reports(&effects).is_empty() && !effects.iter().any(|e| matches!(e, Effect::Exited { .. })));
    let effects = acknowledge(&mut bench, "t", &[1; 16]);
    assert_eq!(reports(&effects)[0].state(), TaskState::TaskFinished);
    let effects = acknowledge(&mut bench, "t", &[2; 16]);
    assert_eq!(effects.last(), Some(&Effect::Write(Write::Over(at))));
    let counted: BTreeMap<_, _> = bench.core.metrics().into_iter().collect();
    let of = |name: &str| counted[name];
    assert_eq!((of("tasks_finished"), of("tasks_running"), of("executors_terminated")), (1.0, 0.0, 1.0));
    assert_eq!((of("valid_status_updates"), of("registered"), of("frameworks_active")), (2.0, 1.0, 0.0));
    let state = bench.core.state();
    assert_eq!(state.get_tasks.unwrap().completed_tasks.len(), 1);
    assert_eq!(state.get_frameworks.unwrap().completed_frameworks.len(), 1);
}

#[test]
fn a_built_in_executor_that_says_nothing_of_an_end_leaves_it_to_the_agent() {
    let mut bench = Bench::new();
    let (at, _) = launched(&mut bench, "t");
    bench.on(Input::Ended { at: at.clone(), termination: Some(exited(1)) });
    let (state, reason, text) = only(&bench.on(Input::Over { at }));
    assert_eq!(
        (state.as_str(), reason.as_str(), text.as_str()),
        ("TASK_FAILED", "REASON_EXECUTOR_TERMINATED", "Executor terminated")
    );
}

#[test]
fn a_report_is_kept_once_and_acknowledged_to_the_executor_each_time() {
    let mut bench = Bench::new();
    let (at, _) = launched(&mut bench, "t");
    bench.says(&at, "t", TaskState::TaskRunning, 1);
    let effects = bench.says(&at, "t", TaskState::TaskRunning, 1);
    assert!(matches!(&effects[..], [Effect::Tell { event, .. }] if event.r#type() == Acknowledged));
    let effects = bench.says(&at, "z", TaskState::TaskRunning, 3);
    assert_eq!((told(&effects), effects.len()), (vec![Acknowledged], 1), "one of an unknown task too");
}

#[test]
fn what_is_no_report_is_dropped_and_staging_ends_its_executor() {
    let mut bench = Bench::new();
    let at = bench.running(custom("e", &["t"]));
    let without = |change: fn(&mut v1::TaskStatus)| {
        let mut call = said(&at, "t", TaskState::TaskRunning, 1);
        change(&mut call.update.as_mut().unwrap().status);
        Input::Called { at: at.clone(), call: Box::new(call), status: None }
    };
    assert_eq!(bench.on(without(|status| status.uuid = None)), []);
    let other = |status: &mut v1::TaskStatus| status.agent_id = Some(v1::AgentId { value: "x".to_owned() });
    assert_eq!(bench.on(without(other)), []);
    let effects = bench.says(&at, "t", TaskState::TaskStaging, 2);
    assert_eq!(told(&effects), [Shutdown]);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::After(_, Timer::Shutdown(_)))));
}

#[test]
fn an_unacknowledged_report_is_sent_again_later_and_at_once_to_a_new_master() {
    let mut bench = Bench::new();
    let (at, _) = launched(&mut bench, "t");
    let effects = bench.says(&at, "t", TaskState::TaskRunning, 1);
    let timer = |effects: &[Effect]| {
        let of = |effect: &Effect| match effect {
            Effect::After(time, timer @ Timer::Retry { .. }) => Some((time.as_secs(), timer.clone())),
            _ => None,
        };
        effects.iter().find_map(of).unwrap()
    };
    let (wait, first) = timer(&effects);
    assert_eq!(wait, 10);
    let effects = bench.on(Input::Timer(first.clone()));
    assert_eq!(reports(&effects).len(), 1);
    let (wait, _) = timer(&effects);
    assert_eq!(wait, 20);
    assert_eq!(bench.on(Input::Timer(first)), [], "an older timer does nothing");
    bench.on(Input::Connected(false));
    let effects = bench.says(&at, "t", TaskState::TaskRunning, 2);
    assert!(reports(&effects).is_empty());
    let effects = bench.on(Input::Connected(true));
    assert_eq!((reports(&effects).len(), timer(&effects).0), (1, 10));
    let held = bench.core.held();
    assert_eq!((held.tasks.len(), held.executors.len(), held.frameworks.len()), (1, 0, 1));
    let renamed = v1::FrameworkInfo { name: "new".to_owned(), ..framework(true) };
    assert_eq!(reports(&bench.on(Input::UpdateFramework(Box::new(renamed)))).len(), 1);
}

#[test]
fn an_executor_of_a_frameworks_gets_its_tasks_when_it_has_subscribed() {
    let mut bench = Bench::new();
    let effects = bench.run(custom("e", &["t"]));
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::After(time, Timer::Registration(_)) if time.as_secs() == 60))
    );
    let at = bench.at("e");
    assert_eq!(bench.on(Input::Launched { at: at.clone(), result: Ok(true) }), []);
    let subscribed = |link| {
        let unacknowledged_tasks = if link == 1 { Vec::new() } else { vec![task("t")] };
        let subscribe = call::Subscribe { unacknowledged_tasks, ..Default::default() };
        Input::Subscribed { at: at.clone(), link, pid: None, subscribe }
    };
    let effects = bench.on(subscribed(1));
    assert_eq!(told(&effects), [Subscribed, Launch]);
    let marked = place(&effects, |effect| matches!(effect, Effect::Write(Write::Delivered { .. })));
    let given = place(&effects, |e| matches!(e, Effect::Tell { event, .. } if event.launch.is_some()));
    assert!(marked < given);
    // A second task waits until its container may have more.
    let effects = bench.run(Run { launch_executor: false, ..custom("e", &["u"]) });
    assert!(told(&effects).is_empty());
    let effects = bench.on(Input::Limited { at: at.clone(), result: Ok(()) });
    assert_eq!(told(&effects), [Launch]);
    // It ends: the container has less first.
    let effects = bench.says(&at, "u", TaskState::TaskFinished, 9);
    assert!(reports(&effects).is_empty() && matches!(&effects[..], [Effect::Limit { .. }]));
    assert_eq!(bench.says(&at, "u", TaskState::TaskFinished, 9), [], "and is not kept before that");
    let effects = bench.on(Input::Limited { at: at.clone(), result: Ok(()) });
    assert_eq!(reports(&effects)[0].state(), TaskState::TaskFinished);
    // Whoever subscribes again has the stream from then on.
    let effects = bench.on(subscribed(2));
    assert!(effects.contains(&Effect::Link { at: at.clone(), link: 2 }));
    assert_eq!(
        bench.on(Input::Unlinked { at: at.clone(), link: 1 }),
        [],
        "the end of the first one is nothing"
    );
    let effects = bench.on(Input::Kill { framework: "f".to_owned(), task: "t".to_owned(), policy: None });
    assert_eq!(told(&effects), [Kill]);
}

#[test]
fn a_group_is_delivered_together_and_its_executor_is_told_of_to_the_master() {
    let mut bench = Bench::new();
    bench.run(group("e", &["t", "u"]));
    let at = bench.at("e");
    let effects = bench.on(Input::Launched { at: at.clone(), result: Ok(true) });
    assert_eq!(told(&effects), [LaunchGroup]);
    assert_eq!(bench.core.held().executors.len(), 1);
    let effects = bench.on(Input::Over { at: at.clone() });
    assert_eq!(effects, [Effect::Destroy(at.clone())], "when its work is over, its container goes");
    let effects = bench.on(Input::Ended { at, termination: Some(exited(0)) });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Exited { status: 0, .. })));
}

#[test]
fn a_framework_that_is_ended_leaves_no_report_and_no_executor() {
    let mut bench = Bench::new();
    let at = bench.running(custom("e", &["t"]));
    bench.says(&at, "t", TaskState::TaskRunning, 1);
    let effects = bench.on(Input::ShutdownFramework { framework: "f".to_owned() });
    assert_eq!(told(&effects), [Shutdown]);
    assert_eq!(bench.run(command("v")), [], "and runs nothing more");
    assert_eq!(bench.says(&at, "t", TaskState::TaskKilled, 2), []);
    let effects = bench.restart();
    assert!(reports(&effects).is_empty());
    let effects = bench.on(Input::Looked { at: at.clone(), exists: true });
    assert_eq!(effects, [Effect::Destroy(at.clone())], "also after a restart");
    bench.on(Input::Ended { at, termination: Some(exited(0)) });
    assert!(bench.core.frameworks.is_empty() && bench.core.completed.len() == 1);
}

#[test]
fn an_executor_has_its_grace_and_is_destroyed_after_it() {
    let mut bench = Bench::new();
    let mut run = custom("e", &["t"]);
    let grace = v1::DurationInfo { nanoseconds: 7_000_000_000 };
    run.executor.as_mut().unwrap().shutdown_grace_period = Some(grace);
    let at = bench.running(run);
    let (framework, executor) = ("f".to_owned(), "e".to_owned());
    let effects = bench.on(Input::ShutdownExecutor { framework, executor });
    let timer = Timer::Shutdown(at.clone());
    assert!(effects.contains(&Effect::After(Duration::from_secs(7), timer.clone())));
    assert_eq!(bench.on(Input::Timer(timer)), [Effect::Destroy(at)]);
}

#[test]
fn limits_are_asked_for_where_a_task_has_one_and_infinity_is_none() {
    let executor = executor_info("e", v1::executor_info::Type::Custom);
    let limited = |value| {
        let limits = BTreeMap::from([("cpus".to_owned(), v1::value::Scalar { value })]);
        v1::TaskInfo { limits, ..task("l") }
    };
    let limit =
        |tasks: &[v1::TaskInfo]| asked(&executor, tasks.iter()).1.get("cpus").map(|limit| limit.value);
    assert_eq!(limit(&[task("a"), task("b")]), None);
    assert_eq!(limit(&[task("a"), limited(3.0)]), Some(4.5));
    assert_eq!(limit(&[task("a"), limited(f64::INFINITY)]), Some(f64::INFINITY));
}

#[test]
fn of_those_that_are_over_only_so_many_are_remembered() {
    let mut bench = Bench::with(Settings { completed_executors: 2, ..Settings::default() });
    bench.running(custom("keeps", &["k"]));
    for id in ["a", "b", "c"] {
        let (at, _) = launched(&mut bench, id);
        bench.says(&at, id, TaskState::TaskFinished, 1);
        acknowledge(&mut bench, id, &[1; 16]);
        bench.on(Input::Ended { at: at.clone(), termination: Some(exited(0)) });
        let effects = bench.on(Input::Over { at });
        let forgotten = effects.iter().any(|e| matches!(e, Effect::Write(Write::ForgetExecutor(_))));
        assert_eq!(forgotten, id == "c");
    }
    let found = bench.store.read().unwrap();
    assert_eq!(found[0].executors.len(), 3, "two and the one that lives");
    let left = bench.work.join("meta/slaves/latest/frameworks/f/executors");
    assert_eq!(std::fs::read_dir(left).unwrap().count(), 3, "of the others nothing is left");
}
