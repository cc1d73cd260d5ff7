// SPDX-License-Identifier: Apache-2.0

use std::time::Duration;

use berth_model::{ContainerTermination, Reason, TaskState as State, WaitStatus};
use berth_proto::executor::{Event, event};
use berth_proto::v1::{self, TaskInfo, container_info};
use berth_tasks::built_in::{Description, Ran};
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::testing::{CONTAINER, Rig, nanoseconds, status, task};

const SECOND: Duration = Duration::from_secs(1);

async fn running(task: TaskInfo) -> Rig {
    let mut rig = Rig::new(CommandExecutor::new());
    rig.launch(task);
    assert_eq!(rig.told().await, "STARTING");
    assert_eq!(rig.told().await, "RUNNING");
    rig
}

fn docker() -> TaskInfo {
    let container =
        v1::ContainerInfo { r#type: container_info::Type::Docker as i32, ..v1::ContainerInfo::default() };
    TaskInfo { container: Some(container), ..task("t") }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_exits_with_0_is_finished() {
    let mut rig = running(task("t")).await;
    rig.fake.exits(CONTAINER, 0);
    assert_eq!(rig.told().await, "FINISHED: Command exited with status 0");
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn reports_have_what_those_of_mesos_have() {
    let mut rig = Rig::new(CommandExecutor::new());
    rig.launch(task("t"));
    let first = rig.next().await.unwrap();
    let second = rig.next().await.unwrap();
    for status in [&first, &second] {
        assert_eq!(status.executor_id.as_ref().unwrap().value, "e");
        assert_eq!(status.source(), v1::task_status::Source::Executor);
        assert_eq!(uuid::Uuid::from_slice(status.uuid()).unwrap().get_version_num(), 4);
        assert!(status.timestamp() > 1.7e9);
        assert_eq!((&status.check_status, &status.container_status), (&None, &None));
    }
    assert_ne!(first.uuid, second.uuid);
}

#[tokio::test(start_paused = true)]
async fn a_task_with_a_check_has_an_empty_result_in_each_report() {
    let check = v1::CheckInfo { r#type: Some(v1::check_info::Type::Http as i32), ..v1::CheckInfo::default() };
    let mut rig = Rig::new(CommandExecutor::new());
    rig.launch(TaskInfo { check: Some(check), ..task("t") });
    let result = rig.next().await.unwrap().check_status.unwrap();
    assert_eq!(result.r#type(), v1::check_info::Type::Http);
    assert_eq!(result.http, Some(v1::check_status_info::Http { status_code: None }));
    assert_eq!((result.command, result.tcp), (None, None));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_wanted_is_a_failure_in_mesos_words() {
    let cases = [
        (WaitStatus::of_exit(3).0, "FAILED: Command exited with status 3"),
        (WaitStatus::of_signal(9).0, "FAILED: Command terminated with signal Killed"),
        (11 | 0x80, "FAILED: Command terminated with signal Segmentation fault (core dumped)"),
    ];
    for (raw, told) in cases {
        let mut rig = running(task("t")).await;
        rig.fake.ends(CONTAINER, Some(status(raw)));
        assert_eq!(rig.told().await, told);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_exit_status_is_a_failure() {
    let mut rig = running(task("t")).await;
    rig.fake.ends(CONTAINER, Some(ContainerTermination::default()));
    assert_eq!(rig.told().await, "FAILED: Failed to get exit status for Command");
    let mut rig = running(docker()).await;
    rig.fake.ends(CONTAINER, Some(ContainerTermination::default()));
    assert_eq!(rig.told().await, "FAILED: Failed to get exit status of container");
}

#[tokio::test(start_paused = true)]
async fn ends_that_the_agent_has_words_for_are_left_to_it() {
    let limit = ContainerTermination {
        state: Some(State::Failed),
        reason: Some(Reason::ContainerLimitationMemory),
        ..status(9)
    };
    for end in [None, Some(limit)] {
        let rig = running(task("t")).await;
        rig.fake.ends(CONTAINER, end);
        rig.over().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_asks_first_and_ends_by_force_when_the_grace_is_over() {
    let mut rig = running(task("t")).await;
    rig.fake.ends_by(CONTAINER, 0, 9);
    let began = Instant::now();
    rig.kill("t", None);
    assert_eq!(rig.told().await, "KILLING");
    assert_eq!(rig.told().await, "KILLED: Command terminated with signal Killed");
    assert_eq!(rig.fake.did(), ["kill -15 c", "destroy c"]);
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_grace_is_that_of_the_kill_else_of_the_task() {
    let policy = v1::KillPolicy { grace_period: Some(nanoseconds(7 * SECOND)) };
    let patient = TaskInfo { kill_policy: Some(policy), ..task("t") };
    for (given, expected) in [(None, 7), (Some(2 * SECOND), 2)] {
        let mut rig = running(patient.clone()).await;
        rig.fake.ends_by(CONTAINER, 0, 9);
        let began = Instant::now();
        rig.kill("t", given);
        assert_eq!(rig.told().await, "KILLING");
        assert_eq!(rig.told().await, "KILLED: Command terminated with signal Killed");
        assert_eq!(began.elapsed().as_secs(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_grace_of_a_docker_task_is_that_of_a_shutdown() {
    let mut rig = running(docker()).await;
    rig.fake.ends_by(CONTAINER, 0, 9);
    let began = Instant::now();
    rig.kill("t", None);
    assert_eq!(rig.told().await, "KILLING");
    assert_eq!(rig.told().await, "KILLED: Container terminated with signal Killed");
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_obeys_is_killed_or_even_finished() {
    for (raw, told) in [
        (15, "KILLED: Command terminated with signal Terminated"),
        // Its first process says so of it.
        (143 << 8, "KILLED: Command terminated with signal Terminated"),
        (1 << 8, "KILLED: Command exited with status 1"),
        (0, "FINISHED: Command exited with status 0"),
    ] {
        let mut rig = running(task("t")).await;
        rig.fake.ends_by(CONTAINER, 15, raw);
        rig.kill("t", None);
        assert_eq!(rig.told().await, "KILLING");
        assert_eq!(rig.told().await, told);
        assert_eq!(rig.fake.did(), ["kill -15 c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_kill_may_only_shorten() {
    let mut rig = running(task("t")).await;
    rig.fake.ends_by(CONTAINER, 0, 9);
    let began = Instant::now();
    rig.kill("t", Some(100 * SECOND));
    assert_eq!(rig.told().await, "KILLING");
    tokio::time::sleep(10 * SECOND).await;
    rig.kill("t", Some(1000 * SECOND));
    rig.kill("t", Some(20 * SECOND));
    rig.kill("t", Some(50 * SECOND));
    assert_eq!(rig.told().await, "KILLED: Command terminated with signal Killed");
    assert_eq!(began.elapsed().as_secs(), 20);
    assert_eq!(rig.fake.did(), ["kill -15 c", "destroy c"]);
}

#[tokio::test(start_paused = true)]
async fn a_kill_that_is_never_answered_does_not_keep_back_the_force() {
    let mut rig = running(task("t")).await;
    rig.fake.is_deaf();
    rig.kill("t", None);
    assert_eq!(rig.told().await, "KILLING");
    rig.until("destroy c").await;
    rig.fake.ends(CONTAINER, Some(status(9)));
    assert_eq!(rig.told().await, "KILLED: Command terminated with signal Killed");
}

#[tokio::test(start_paused = true)]
async fn a_framework_that_does_not_know_killing_is_not_told() {
    let mut rig = Rig::new(CommandExecutor::new()).of_an_old_framework();
    rig.launch(task("t"));
    assert_eq!(rig.told().await, "STARTING");
    assert_eq!(rig.told().await, "RUNNING");
    rig.fake.ends_by(CONTAINER, 15, 15);
    rig.kill("t", None);
    assert_eq!(rig.told().await, "KILLED: Command terminated with signal Terminated");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_time_for_the_executors_own_end() {
    let mut rig = running(task("t")).await;
    rig.fake.ends_by(CONTAINER, 0, 9);
    let began = Instant::now();
    rig.shutdown();
    assert_eq!(rig.told().await, "KILLING");
    assert_eq!(rig.told().await, "KILLED: Command terminated with signal Killed");
    assert_eq!(began.elapsed().as_secs(), 3);
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_shuts_it_down() {
    let mut rig = running(task("t")).await;
    rig.fake.ends_by(CONTAINER, 15, 15);
    rig.send(Event { r#type: Some(event::Type::LaunchGroup as i32), ..Event::default() });
    assert_eq!(rig.told().await, "KILLING");
    assert_eq!(rig.told().await, "KILLED: Command terminated with signal Terminated");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_runs_too_long_is_ended_at_once_and_has_failed() {
    let longest = Some(nanoseconds(60 * SECOND));
    let mut rig = running(TaskInfo { max_completion_time: longest, ..task("t") }).await;
    rig.fake.ends_by(CONTAINER, 0, 9);
    let began = Instant::now();
    let told = "FAILED MAX_COMPLETION_TIME_REACHED: Command terminated with signal Killed";
    assert_eq!(rig.told().await, told);
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(rig.fake.did(), ["kill -15 c", "destroy c"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_task_fails_and_the_first_goes_on() {
    let mut rig = running(task("t")).await;
    rig.launch(task("u"));
    let told = r#"u FAILED: Attempted to run multiple tasks using a "command" executor"#;
    assert_eq!(rig.told().await, told);
    rig.launch(TaskInfo { task_id: task("v").task_id, ..docker() });
    let told = r#"v FAILED: Attempted to run multiple tasks using a "docker" executor"#;
    assert_eq!(rig.told().await, told);
    rig.fake.exits(CONTAINER, 0);
    assert_eq!(rig.told().await, "FINISHED: Command exited with status 0");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_ended_before_its_task_was_given_is_reported_whole() {
    let mut rig = Rig::new(CommandExecutor::new());
    rig.fake.exits(CONTAINER, 0);
    tokio::time::sleep(SECOND).await;
    rig.launch(task("t"));
    for told in ["STARTING", "RUNNING", "FINISHED: Command exited with status 0", "over"] {
        assert_eq!(rig.told().await, told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_before_the_task_ends_the_container() {
    let mut rig = Rig::new(CommandExecutor::new());
    rig.fake.ends_by(CONTAINER, 0, 9);
    rig.kill("t", None);
    assert_eq!(rig.told().await, "over");
    assert_eq!(rig.fake.did(), ["destroy c"]);
}

#[tokio::test(start_paused = true)]
async fn it_stays_until_the_last_report_is_stored_and_not_for_ever() {
    let mut rig = running(task("t")).await;
    rig.acknowledges = false;
    rig.fake.exits(CONTAINER, 0);
    let began = Instant::now();
    assert_eq!(rig.told().await, "FINISHED: Command exited with status 0");
    rig.over().await;
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_docker_task_runs_with_what_the_engine_says_of_it() {
    let mut rig = Rig::new(CommandExecutor::new());
    let network = v1::NetworkInfo { name: Some("bridge".to_owned()), ..v1::NetworkInfo::default() };
    rig.fake.describes(Description { data: Some(b"[{}]".to_vec()), networks: vec![network] });
    rig.launch(docker());
    assert_eq!(rig.told().await, "STARTING");
    let running = rig.next().await.unwrap();
    assert_eq!(running.state(), TaskState::TaskRunning);
    assert_eq!(running.data(), b"[{}]");
    assert_eq!(running.container_status.unwrap().network_infos[0].name(), "bridge");
    rig.fake.exits(CONTAINER, 4);
    assert_eq!(rig.told().await, "FAILED: Container exited with status 4");
}

#[tokio::test(start_paused = true)]
async fn a_docker_task_that_was_killed_is_killed_whatever_it_exits_with() {
    let mut rig = running(docker()).await;
    rig.kill("t", None);
    assert_eq!(rig.told().await, "KILLING");
    rig.fake.exits(CONTAINER, 0);
    assert_eq!(rig.told().await, "KILLED: Container exited with status 0");
}

#[tokio::test(start_paused = true)]
async fn a_docker_task_that_ends_at_once_is_told_of_as_one_that_ran() {
    let mut rig = Rig::new(CommandExecutor::new());
    rig.fake.exits(CONTAINER, 0);
    rig.launch(docker());
    for told in ["STARTING", "RUNNING", "FINISHED: Container exited with status 0"] {
        assert_eq!(rig.told().await, told);
    }
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_goes_on_where_it_was_after_a_restart() {
    let mut rig = running(task("t")).await;
    rig.fake.ends_by(CONTAINER, 0, 9);
    let began = Instant::now();
    rig.kill("t", Some(100 * SECOND));
    assert_eq!(rig.told().await, "KILLING");
    tokio::time::sleep(40 * SECOND).await;
    rig.restart();
    tokio::time::sleep(30 * SECOND).await;
    rig.restart();
    assert_eq!(rig.told().await, "KILLED: Command terminated with signal Killed");
    assert_eq!(began.elapsed().as_secs(), 100);
    assert_eq!(rig.fake.did(), ["kill -15 c", "destroy c"], "it is asked once");
}

#[tokio::test(start_paused = true)]
async fn the_longest_run_counts_from_its_beginning_also_after_a_restart() {
    let longest = Some(nanoseconds(60 * SECOND));
    let mut rig = running(TaskInfo { max_completion_time: longest, ..task("t") }).await;
    rig.fake.ends_by(CONTAINER, 0, 9);
    let began = Instant::now();
    tokio::time::sleep(50 * SECOND).await;
    rig.restart();
    let told = "FAILED MAX_COMPLETION_TIME_REACHED: Command terminated with signal Killed";
    assert_eq!(rig.told().await, told);
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_end_while_the_agent_was_away_is_what_it_was() {
    let mut rig = running(task("t")).await;
    rig.kill("t", None);
    assert_eq!(rig.told().await, "KILLING");
    rig.until("kill -15 c").await;
    rig.fake.exits(CONTAINER, 1);
    rig.restart();
    assert_eq!(rig.told().await, "KILLED: Command exited with status 1");
    rig.restart();
    assert_eq!(rig.told().await, "over", "what was stored is not said again");
}

fn command() -> v1::CommandInfo {
    v1::CommandInfo { value: Some("look".to_owned()), ..v1::CommandInfo::default() }
}

fn with_health() -> TaskInfo {
    let health = v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Command as i32),
        command: Some(command()),
        grace_period_seconds: Some(0.0),
        ..v1::HealthCheck::default()
    };
    TaskInfo { health_check: Some(health), ..task("t") }
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_health_is_bad_too_often_is_killed_and_said_to_be_unhealthy() {
    let mut rig = running(with_health()).await;
    rig.fake.ends_by(CONTAINER, 15, 15);
    for code in [0, 1, 1, 1] {
        rig.fake.answers(Ran::Exited(code));
    }
    let began = Instant::now();
    let told = "RUNNING TASK_HEALTH_CHECK_STATUS_UPDATED";
    assert_eq!(rig.told().await, format!("{told} healthy"));
    assert_eq!(began.elapsed().as_secs(), 15, "the delay");
    for _ in 0..3 {
        assert_eq!(rig.told().await, format!("{told} unhealthy"));
    }
    assert_eq!(began.elapsed().as_secs(), 45, "three intervals");
    assert_eq!(rig.told().await, "KILLING");
    assert_eq!(rig.told().await, "KILLED unhealthy: Command terminated with signal Terminated");
    let did = rig.fake.did();
    assert_eq!(did.len(), 5, "no more is looked at what is to end: {did:?}");
    assert_eq!((did[0].as_str(), did[4].as_str()), ("exec c look Some(20s)", "kill -15 c"));
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn bad_health_counts_on_after_a_restart() {
    let mut rig = running(with_health()).await;
    rig.fake.ends_by(CONTAINER, 15, 15);
    for code in [1, 1] {
        rig.fake.answers(Ran::Exited(code));
    }
    for _ in 0..2 {
        assert_eq!(rig.told().await, "RUNNING TASK_HEALTH_CHECK_STATUS_UPDATED unhealthy");
    }
    rig.restart();
    rig.fake.answers(Ran::Exited(1));
    assert_eq!(rig.told().await, "RUNNING TASK_HEALTH_CHECK_STATUS_UPDATED unhealthy");
    assert_eq!(rig.told().await, "KILLING");
    rig.restart();
    assert_eq!(rig.told().await, "KILLED unhealthy: Command terminated with signal Terminated");
}

#[tokio::test(start_paused = true)]
async fn a_check_says_its_results_with_the_report_before() {
    let check = v1::CheckInfo {
        r#type: Some(v1::check_info::Type::Command as i32),
        command: Some(v1::check_info::Command { command: command() }),
        ..v1::CheckInfo::default()
    };
    let mut rig = running(TaskInfo { check: Some(check), ..with_health() }).await;
    // Both have the same times; the check is first.
    for ran in [Ran::Exited(3), Ran::Exited(0), Ran::Exited(3), Ran::Exited(0), Ran::TimedOut, Ran::Exited(1)]
    {
        rig.fake.answers(ran);
    }
    let first = rig.next().await.unwrap();
    assert_eq!(first.reason(), v1::task_status::Reason::TaskCheckStatusUpdated);
    assert_eq!(first.check_status.unwrap().command.unwrap().exit_code, Some(3));
    let second = rig.next().await.unwrap();
    assert_eq!(second.reason(), v1::task_status::Reason::TaskHealthCheckStatusUpdated);
    assert_eq!(second.check_status.unwrap().command.unwrap().exit_code, Some(3), "it is not forgotten");
    assert_eq!(second.healthy, Some(true));
    let third = rig.next().await.unwrap();
    assert_eq!(third.check_status.unwrap().command.unwrap().exit_code, None, "it took too long");
    assert_eq!((third.healthy, third.state()), (Some(true), TaskState::TaskRunning));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_while_it_is_to_end_is_not_said() {
    let mut rig = running(with_health()).await;
    tokio::time::sleep(16 * SECOND).await;
    assert_eq!(rig.fake.did(), ["exec c look Some(20s)"]);
    rig.kill("t", None);
    assert_eq!(rig.told().await, "KILLING");
    rig.fake.exits(CONTAINER, 1);
    assert_eq!(rig.told().await, "KILLED: Command exited with status 1");
    rig.over().await;
}

#[derive(Debug, Clone)]
enum Step {
    Kill(Option<u64>),
    Restart,
    Wait(u64),
    Hear,
    Exit(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        proptest::option::of(0u64..10).prop_map(Step::Kill),
        Just(Step::Restart),
        (0u64..6).prop_map(Step::Wait),
        Just(Step::Hear),
        (0u8..3).prop_map(Step::Exit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes in whatever order, and however often the agent is killed between: one terminal report.
    #[test]
    fn any_order_ends_in_one_terminal_report(steps in proptest::collection::vec(step(), 0..12)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut rig = Rig::new(CommandExecutor::new());
            rig.fake.ends_by(CONTAINER, 0, 9);
            rig.launch(TaskInfo { max_completion_time: Some(nanoseconds(20 * SECOND)), ..task("t") });
            for step in steps {
                match step {
                    Step::Kill(grace) => rig.kill("t", grace.map(Duration::from_secs)),
                    Step::Restart => rig.restart(),
                    Step::Wait(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                    Step::Hear => _ = tokio::time::timeout(SECOND, rig.next()).await,
                    Step::Exit(code) => rig.fake.exits(CONTAINER, code),
                }
            }
            while rig.next().await.is_some() {}
            rig.restart();
            assert!(rig.next().await.is_none());
            let states: Vec<_> = rig.history.iter().map(|status| status.state).collect();
            let (last, before) = states.split_last().unwrap();
            assert!(crate::life::is_terminal(*last), "{states:?}");
            assert!(!before.iter().any(|state| crate::life::is_terminal(*state)), "{states:?}");
            let killing = states.iter().filter(|state| **state == TaskState::TaskKilling as i32).count();
            assert!(killing < 2, "{states:?}");
        });
    }
}
