// SPDX-License-Identifier: Apache-2.0

use std::time::Duration;

use berth_model::{
    ContainerTermination, Reason, Resource, Resources, Scalar, TaskState as State, WaitStatus,
};
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::testing::{CONTAINER, Rig, nanoseconds, status, task};

const SECOND: Duration = Duration::from_secs(1);

/// A group whose tasks run.
async fn running(ids: &[&str]) -> Rig {
    let mut rig = Rig::new(GroupExecutor::new());
    rig.launch_group(ids.iter().map(|id| task(id)).collect());
    for state in ["STARTING", "RUNNING"] {
        let expected: Vec<String> = ids.iter().map(|id| format!("{id} {state}")).collect();
        assert_eq!(rig.these(ids.len()).await, expected);
    }
    rig
}

impl Rig {
    fn ends_task_by(&self, task: &str, signal: i32, status: i32) {
        self.fake.ends_by(&self.container(task), signal, status);
    }

    fn exits_task(&self, task: &str, code: u8) {
        self.fake.exits(&self.container(task), code);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_have_containers_of_their_own_and_are_over_one_by_one() {
    let mut rig = running(&["a", "b"]).await;
    let (a, b) = (rig.container("a"), rig.container("b"));
    assert!(a != b && a.starts_with("c.") && b.starts_with("c."), "{a} {b}");
    assert!(rig.history.iter().all(|status| status.container_status.is_some()));
    let launches = rig.fake.launches();
    assert_eq!(launches.keys().map(String::as_str).collect::<Vec<_>>(), [a.clone().min(b.clone()), a.max(b)]);
    rig.exits_task("a", 0);
    assert_eq!(rig.told().await, "a FINISHED: Command exited with status 0");
    tokio::time::sleep(100 * SECOND).await;
    rig.exits_task("b", 0);
    assert_eq!(rig.told().await, "b FINISHED: Command exited with status 0");
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_takes_its_group_with_it() {
    let mut rig = running(&["a", "b", "d"]).await;
    rig.ends_task_by("b", 15, 15);
    rig.ends_task_by("d", 9, 9);
    let began = Instant::now();
    rig.exits_task("a", 1);
    assert_eq!(rig.told().await, "a FAILED: Command exited with status 1");
    assert_eq!(rig.these(2).await, ["b KILLING", "d KILLING"]);
    assert_eq!(rig.told().await, "b KILLED: Command terminated with signal Terminated");
    assert_eq!(rig.told().await, "d KILLED: Command terminated with signal Killed");
    assert_eq!(began.elapsed().as_secs(), 3, "the grace");
    let mut did = rig.did().split_off(3);
    did.sort();
    assert_eq!(did, ["kill -15 b", "kill -15 d", "kill -9 d"]);
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn groups_know_nothing_of_each_other() {
    let mut rig = running(&["a"]).await;
    rig.launch_group(vec![task("b"), task("d")]);
    assert_eq!(rig.these(2).await, ["b STARTING", "d STARTING"]);
    assert_eq!(rig.these(2).await, ["b RUNNING", "d RUNNING"]);
    rig.ends_task_by("d", 15, 15);
    rig.exits_task("b", 2);
    assert_eq!(rig.told().await, "b FAILED: Command exited with status 2");
    assert_eq!(rig.told().await, "d KILLING");
    assert_eq!(rig.told().await, "d KILLED: Command terminated with signal Terminated");
    rig.exits_task("a", 0);
    assert_eq!(rig.told().await, "a FINISHED: Command exited with status 0");
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_task_takes_its_group_with_it_and_a_second_kill_is_nothing() {
    let mut rig = running(&["a", "b"]).await;
    rig.ends_task_by("a", 9, 9);
    rig.ends_task_by("b", 15, 0);
    let began = Instant::now();
    rig.kill("a", Some(10 * SECOND));
    rig.kill("a", Some(SECOND));
    rig.kill("nobody", None);
    assert_eq!(rig.told().await, "a KILLING");
    assert_eq!(rig.told().await, "a KILLED: Command terminated with signal Killed");
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(rig.told().await, "b KILLING");
    assert_eq!(rig.told().await, "b FINISHED: Command exited with status 0");
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn no_kill_waits_for_another() {
    let mut rig = running(&["a", "b"]).await;
    rig.kill("a", Some(100 * SECOND));
    rig.kill("b", Some(SECOND));
    assert_eq!(rig.these(2).await, ["a KILLING", "b KILLING"]);
    rig.ends_task_by("b", 9, 9);
    let began = Instant::now();
    assert_eq!(rig.told().await, "b KILLED: Command terminated with signal Killed");
    assert_eq!(began.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn force_that_does_nothing_is_tried_again_each_second() {
    let mut rig = running(&["a"]).await;
    rig.kill("a", Some(SECOND));
    assert_eq!(rig.told().await, "a KILLING");
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(rig.did()[1..], ["kill -15 a", "kill -9 a", "kill -9 a", "kill -9 a"]);
    rig.ends_task_by("a", 9, 9);
    assert_eq!(rig.told().await, "a KILLED: Command terminated with signal Killed");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_kills_all_with_a_grace_of_three_seconds() {
    let mut rig = running(&["a", "b"]).await;
    for task in ["a", "b"] {
        rig.ends_task_by(task, 9, 9);
    }
    let began = Instant::now();
    rig.shutdown();
    assert_eq!(rig.these(2).await, ["a KILLING", "b KILLING"]);
    let killed = "KILLED: Command terminated with signal Killed";
    assert_eq!(rig.these(2).await, [format!("a {killed}"), format!("b {killed}")]);
    assert_eq!(began.elapsed().as_secs(), 3);
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_before_any_task_is_its_end() {
    let mut rig = Rig::new(GroupExecutor::new());
    rig.shutdown();
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_alone_shuts_it_down() {
    let mut rig = Rig::new(GroupExecutor::new());
    rig.launch(task("t"));
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_comes_during_a_shutdown_is_lost() {
    let mut rig = running(&["a"]).await;
    rig.shutdown();
    rig.launch_group(vec![task("b")]);
    assert_eq!(rig.told().await, "a KILLING");
    assert_eq!(rig.told().await, "b LOST: the executor is shutting down");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_launched_has_failed_for_that_reason() {
    let mut rig = Rig::new(GroupExecutor::new());
    rig.fake.refuses(0, "no such image");
    rig.fake.every_end_by(15, 15);
    rig.launch_group(vec![task("a"), task("b")]);
    assert_eq!(rig.these(2).await, ["a STARTING", "b STARTING"]);
    assert_eq!(rig.these(2).await, ["a FAILED: no such image", "b KILLING"]);
    assert_eq!(rig.told().await, "b KILLED: Command terminated with signal Terminated");
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_launch_is_given_up_at_once_for_a_kill() {
    let mut rig = Rig::new(GroupExecutor::new());
    rig.fake.launches_slowly();
    rig.launch_group(vec![task("a")]);
    assert_eq!(rig.told().await, "a STARTING");
    tokio::time::sleep(SECOND).await;
    rig.ends_task_by("a", 0, 9);
    let began = Instant::now();
    rig.kill("a", Some(100 * SECOND));
    assert_eq!(rig.told().await, "a KILLING");
    assert_eq!(rig.told().await, "a KILLED: Container destroyed during provisioning");
    assert_eq!(began.elapsed().as_secs(), 0);
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn ends_have_the_texts_of_mesos_and_what_the_agent_says_of_them() {
    let mut limited = Resources::new();
    limited.try_add(Resource::scalar("mem", Scalar::from_whole(64))).unwrap();
    let oom = ContainerTermination {
        message: Some("Memory limit exceeded".to_owned()),
        state: Some(State::Failed),
        reason: Some(Reason::ContainerLimitationMemory),
        limited_resources: limited,
        ..status(9)
    };
    let cases = [
        (Some(status(WaitStatus::of_exit(7).0)), "a FAILED: Command exited with status 7"),
        (
            Some(oom),
            "a FAILED CONTAINER_LIMITATION_MEMORY: Command terminated with signal Killed: Memory limit exceeded",
        ),
        (Some(ContainerTermination::default()), "a FAILED: Command terminated with unknown status"),
        (None, "a FAILED: Unable to retrieve command's termination information"),
    ];
    for (end, told) in cases {
        let mut rig = running(&["a"]).await;
        let is_limited = end.as_ref().is_some_and(|end| !end.limited_resources.is_empty());
        rig.fake.ends(&rig.container("a"), end);
        let status = rig.next().await.unwrap();
        assert_eq!(crate::testing::text(&status), told);
        assert_eq!(status.limitation.is_some(), is_limited);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_end_of_what_was_killed_is_killed() {
    let mut rig = running(&["a"]).await;
    rig.kill("a", None);
    assert_eq!(rig.told().await, "a KILLING");
    rig.fake.ends(&rig.container("a"), None);
    assert_eq!(rig.told().await, "a KILLED: Unable to retrieve command's termination information");
}

#[tokio::test(start_paused = true)]
async fn the_health_of_one_kills_that_one_and_its_group() {
    let health = v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Command as i32),
        command: task("a").command,
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(2),
        ..v1::HealthCheck::default()
    };
    let mut rig = Rig::new(GroupExecutor::new());
    rig.launch_group(vec![TaskInfo { health_check: Some(health), ..task("a") }, task("b")]);
    rig.these(4).await;
    for code in [0, 1, 1] {
        rig.fake.answers(berth_tasks::built_in::Ran::Exited(code));
    }
    for id in ["a", "b"] {
        rig.ends_task_by(id, 15, 15);
    }
    let checked = "RUNNING TASK_HEALTH_CHECK_STATUS_UPDATED";
    assert_eq!(rig.told().await, format!("a {checked} healthy"));
    for _ in 0..2 {
        assert_eq!(rig.told().await, format!("a {checked} unhealthy"));
    }
    let ended = "KILLED{}: Command terminated with signal Terminated";
    assert_eq!(rig.told().await, "a KILLING");
    assert_eq!(rig.told().await, format!("a {}", ended.replace("{}", " unhealthy")));
    assert_eq!(rig.told().await, "b KILLING");
    assert_eq!(rig.told().await, format!("b {}", ended.replace("{}", "")));
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn the_longest_run_of_one_ends_its_group() {
    let longest = Some(nanoseconds(5 * SECOND));
    let mut rig = Rig::new(GroupExecutor::new());
    rig.launch_group(vec![TaskInfo { max_completion_time: longest, ..task("a") }, task("b")]);
    rig.these(4).await;
    for id in ["a", "b"] {
        rig.ends_task_by(id, 15, 15);
    }
    let told = "a FAILED MAX_COMPLETION_TIME_REACHED: Command terminated with signal Terminated";
    assert_eq!(rig.told().await, told);
    assert_eq!(rig.told().await, "b KILLING");
}

#[tokio::test(start_paused = true)]
async fn when_its_container_ends_its_tasks_have_the_ends_that_are_known() {
    let mut rig = running(&["a", "b"]).await;
    rig.exits_task("a", 0);
    rig.fake.ends(&rig.container("b"), Some(status(9)));
    rig.fake.ends(CONTAINER, Some(status(9)));
    let told = rig.these(2).await;
    let killed = "b FAILED: Command terminated with signal Killed";
    assert_eq!(told, ["a FINISHED: Command exited with status 0", killed]);
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_of_its_container_that_the_agent_has_words_for_is_left_to_it() {
    let limit = ContainerTermination { reason: Some(Reason::ContainerLimitationMemory), ..status(9) };
    for end in [None, Some(limit)] {
        let rig = running(&["a"]).await;
        rig.fake.ends(CONTAINER, end);
        rig.over().await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_where_it_was_after_a_restart() {
    let mut rig = running(&["a", "b"]).await;
    rig.ends_task_by("a", 9, 9);
    rig.ends_task_by("b", 15, 15);
    let began = Instant::now();
    rig.kill("a", Some(100 * SECOND));
    assert_eq!(rig.told().await, "a KILLING");
    tokio::time::sleep(40 * SECOND).await;
    rig.restart();
    assert_eq!(rig.told().await, "a KILLED: Command terminated with signal Killed");
    assert_eq!(began.elapsed().as_secs(), 100);
    rig.restart();
    let told = rig.these(2).await;
    assert_eq!(told, ["b KILLED: Command terminated with signal Terminated", "b KILLING"]);
    let launched = rig.did().iter().filter(|did| did.starts_with("launch")).count();
    assert_eq!(launched, 2, "nothing is launched twice");
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_while_the_agent_was_away_is_told_with_what_it_means_for_the_group() {
    let mut rig = running(&["a", "b"]).await;
    rig.ends_task_by("b", 15, 15);
    rig.exits_task("a", 3);
    rig.restart();
    assert_eq!(rig.told().await, "a FAILED: Command exited with status 3");
    assert_eq!(rig.told().await, "b KILLING");
    assert_eq!(rig.told().await, "b KILLED: Command terminated with signal Terminated");
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_was_on_its_way_is_lost() {
    let mut rig = Rig::new(GroupExecutor::new());
    rig.given(&task("a"));
    rig.restart();
    assert_eq!(rig.told().await, "a LOST AGENT_RESTARTED: Task launched during agent restart");
    rig.over().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_id_may_come_again_when_all_of_it_was_stored() {
    let mut rig = running(&["a", "b"]).await;
    rig.kill("a", None);
    rig.ends_task_by("b", 15, 15);
    let before = rig.container("a");
    assert_eq!(rig.told().await, "a KILLING");
    rig.exits_task("a", 0);
    assert_eq!(rig.told().await, "a FINISHED: Command exited with status 0");
    rig.stored.remove("a");
    rig.history.clear();
    rig.launch_group(vec![task("a")]);
    assert_eq!(rig.told().await, "a STARTING");
    assert_eq!(rig.told().await, "a RUNNING");
    assert_ne!(rig.container("a"), before);
}

#[derive(Debug, Clone)]
enum Step {
    Kill(usize, Option<u64>),
    Restart,
    Wait(u64),
    Hear,
    Exit(usize, u8),
    Shutdown,
}

const IDS: [&str; 4] = ["a", "b", "d", "e"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..IDS.len(), proptest::option::of(0u64..10)).prop_map(|(at, grace)| Step::Kill(at, grace)),
        2 => Just(Step::Restart),
        2 => (0u64..6).prop_map(Step::Wait),
        3 => Just(Step::Hear),
        2 => (0..IDS.len(), 0u8..3).prop_map(|(at, code)| Step::Exit(at, code)),
        1 => Just(Step::Shutdown),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Two groups of two; whatever comes in whatever order, and however often the agent is killed between: one terminal
    /// report of each task, nothing launched twice, and a group in which one ended badly ends.
    #[test]
    fn any_order_ends_in_one_terminal_report_of_each(steps in proptest::collection::vec(step(), 0..24)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut rig = Rig::new(GroupExecutor::new());
            rig.fake.every_end_by(9, 9);
            for pair in IDS.chunks(2) {
                let longest = Some(nanoseconds(30 * SECOND));
                rig.launch_group(
                    pair.iter().map(|id| TaskInfo { max_completion_time: longest, ..task(id) }).collect(),
                );
            }
            for step in steps {
                match step {
                    Step::Kill(at, grace) => rig.kill(IDS[at], grace.map(Duration::from_secs)),
                    Step::Restart => rig.restart(),
                    Step::Wait(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                    Step::Hear => _ = tokio::time::timeout(SECOND, rig.next()).await,
                    Step::Exit(at, code) => {
                        let told = |status: &&TaskStatus| status.task_id.value == IDS[at] && status.container_status.is_some();
                        if rig.history.iter().any(|status| told(&status)) {
                            rig.exits_task(IDS[at], code);
                        }
                    }
                    Step::Shutdown => rig.shutdown(),
                }
            }
            while rig.next().await.is_some() {}
            rig.restart();
            assert!(rig.next().await.is_none());
            for id in IDS {
                let states: Vec<_> = rig.history.iter().filter(|s| s.task_id.value == id).map(|s| s.state).collect();
                let (last, before) = states.split_last().unwrap();
                assert!(is_terminal(*last), "{id}: {states:?}");
                assert!(!before.iter().any(|state| is_terminal(*state)), "{id}: {states:?}");
            }
            let did = rig.fake.did();
            let mut launches: Vec<_> = did.iter().filter(|did| did.starts_with("launch")).collect();
            let all = launches.len();
            launches.sort();
            launches.dedup();
            assert_eq!(launches.len(), all, "{did:?}");
        });
    }
}
