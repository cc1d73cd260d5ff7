// SPDX-License-Identifier: Apache-2.0
//! Containerizers that do not answer: whoever asks is answered all the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_conformance::FakeContainerizer;
use berth_contract::{
    AgentState, Answer, Containerizer, LaunchResult, Limits, Pause, Subscription, Variables,
};
use berth_model::{
    ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, Image, ResourceStatistics, Resources,
};
use serde_json::json;

use crate::client::{about, launch};
use crate::ground::{Ground, on};

/// One whose container `stuck` is never measured, and blocks who tries to, like the control files of a dying disk.
struct Stuck(FakeContainerizer);

fn never<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(std::future::pending())
}

impl Containerizer for Stuck {
    fn name(&self) -> &str {
        "stuck"
    }
    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()> {
        self.0.recover(state)
    }
    fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        pid_checkpoint: Option<PathBuf>,
    ) -> Answer<'_, LaunchResult> {
        self.0.launch(id, config, environment, pid_checkpoint)
    }
    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        self.0.update(id, requests, limits)
    }
    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        match id.value() {
            "stuck" => never(),
            "blocked" => {
                std::thread::sleep(Duration::from_millis(500));
                never()
            }
            _ => self.0.usage(id),
        }
    }
    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus> {
        self.0.status(id)
    }
    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        self.0.wait(id)
    }
    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        self.0.destroy(id)
    }
    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        self.0.kill(id, signal)
    }
    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        self.0.containers()
    }
    fn knows(&self, id: &ContainerId) -> bool {
        self.0.knows(id)
    }
    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        self.0.remove(id)
    }
    fn prune_images(&self, _: Vec<Image>) -> Answer<'_, ()> {
        never()
    }
    fn events(&self, since: u64) -> Subscription {
        self.0.events(since)
    }
    fn pause(&self) -> Option<&dyn Pause> {
        self.0.pause()
    }
}

/// An agent over it.
fn start(ground: &mut Ground) {
    let fake = FakeContainerizer::new(&ground.site);
    ground.start_with(move |_| Ok(Arc::new(Stuck(fake))));
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}

/// The design says 50 ms; a loaded machine may need more, and a wait for what is stuck would be for ever.
const SOON: Duration = Duration::from_millis(300);

/// Whether something is so, now or in one of some more tries: the machine may have had no time.
fn once(what: &str, mut is_so: impl FnMut() -> bool) {
    assert!((0..20).any(|_| is_so()), "{what}: never in 20 tries");
}

#[test]
fn lists_and_inspections_wait_for_nothing_that_is_stuck() {
    on("stuck", |ground| {
        start(ground);
        for id in ["a", "b", "blocked", "c", "stuck", "z"] {
            ground.launch(id, "sleep");
        }
        let list = json!({ "type": "GET_CONTAINERS", "get_containers": { "show_standalone": true } });
        once("a list comes soon, with those that are not stuck", || {
            let (answer, took) = timed(|| ground.call(&list).json());
            let all = answer["get_containers"]["containers"].as_array().unwrap();
            let measured: Vec<&str> = all
                .iter()
                .filter(|container| container.get("resource_statistics").is_some())
                .map(|container| container["container_id"]["value"].as_str().unwrap())
                .collect();
            let late = |id: &&str| ["blocked", "stuck"].contains(id);
            assert!(all.len() == 6 && !measured.iter().any(late), "what is late is left out: {measured:?}");
            assert!(all.iter().all(|container| container.get("container_status").is_some()), "{answer}");
            took < SOON && measured == ["a", "b", "c", "z"]
        });
        for id in ["stuck", "blocked"] {
            once("an inspection comes soon", || {
                let (inspection, took) = timed(|| ground.inspect(id));
                let found = (&inspection["state"]["name"], inspection.get("used"));
                assert_eq!(found, (&"RUNNING".into(), None));
                took < SOON
            });
        }
    });
}

#[test]
fn a_launch_under_way_is_seen_with_its_stage_and_can_be_ended() {
    on("stall", |ground| {
        start(ground);
        let pending = ground.send(&launch("c", "stall"));
        let operations = json!({ "type": "GET_OPERATIONS_IN_FLIGHT" });
        let deadline = Instant::now() + crate::client::PATIENCE;
        loop {
            let answer = ground.call(&operations).json();
            let all =
                answer["get_operations_in_flight"]["operations"].as_array().cloned().unwrap_or_default();
            if let Some(launch) =
                all.iter().find(|operation| operation["step"] == "the containerizer: fetching")
            {
                assert_eq!(
                    (&launch["name"], &launch["container_id"]["value"]),
                    (&"launch".into(), &"c".into())
                );
                assert!(launch["age"]["nanoseconds"].as_u64().unwrap() > 0);
                break;
            }
            assert!(Instant::now() < deadline, "{answer}");
        }
        let inspection = ground.inspect("c");
        assert_eq!(inspection["state"]["name"], "FETCHING");
        assert_eq!(inspection["state"]["waiting_for"], "the containerizer: fetching");
        assert_eq!(ground.remove("c").says(), (500, "Container has not terminated yet"));
        assert_eq!(ground.kill("c").says(), (200, ""));
        let answer = pending.answer().unwrap();
        assert_eq!(answer.says(), (400, "Container destroyed during fetching"));
        assert_eq!(ground.call(&about("WAIT_CONTAINER", "c")).status, 404);
    });
}

#[test]
fn a_paused_container_says_so_until_it_is_resumed() {
    on("pause", |ground| {
        start(ground);
        let mut events = ground.stream(&json!({ "type": "SUBSCRIBE" }));
        ground.launch("c", "sleep");
        for _ in 0..2 {
            assert_eq!(ground.call(&about("PAUSE", "c")).says(), (200, ""));
        }
        let state = ground.inspect("c")["state"].clone();
        assert_eq!((&state["name"], &state["paused"]), (&"PAUSED".into(), &true.into()));
        assert_eq!(ground.call(&about("RESUME", "c")).says(), (200, ""));
        assert_eq!(ground.inspect("c")["state"]["name"], "RUNNING");
        assert_eq!(events.of("PAUSED")["container_id"]["value"], "c");
        assert_eq!(events.next().unwrap()["type"], "RESUMED", "one of each");
        assert_eq!(ground.call(&about("PAUSE", "nope")).says(), (404, "Container nope cannot be found"));
    });
}

#[test]
fn an_agent_stops_whatever_is_under_way() {
    on("stopping", |ground| {
        start(ground);
        let stalled = ground.send(&launch("c", "stall"));
        let pruning = ground.send(&json!({ "type": "PRUNE_IMAGES" }));
        while !ground.call(&about("INSPECT_CONTAINER", "c")).text.contains("FETCHING") {}
        let ((), took) = timed(|| ground.stop());
        assert!(took < Duration::from_secs(8), "{took:?}");
        // They are told that it stops, or cut off; none is told that all is well.
        for pending in [stalled, pruning] {
            assert!(!pending.answer().is_ok_and(|answer| answer.status == 200));
        }
        start(ground);
        assert_eq!(ground.listed(), [""; 0], "what did not run is gone");
    });
}
