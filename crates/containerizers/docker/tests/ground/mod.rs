// SPDX-License-Identifier: Apache-2.0
//! What tests of the Docker containerizer stand on: an engine of their own, and a containerizer on it.
#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

pub(crate) mod daemon;

use std::fs;
use std::time::{Duration, Instant};

use berth_conformance::{PATIENCE, Site};
use berth_contract::{Answer, Containerizer, Error, EventLog, LaunchResult, Variables, block_on_until};
use berth_docker::{Deadlines, Docker, Settings};
use berth_model::{
    CommandInfo, ContainerConfig, ContainerId, ContainerInfo, ContainerTermination, ContainerType, DockerInfo,
};

pub(crate) use daemon::{Daemon, How, IMAGE};

/// Says that this test was skipped, and why; true if it was.
pub(crate) fn skipped() -> bool {
    let Some(lacked) = daemon::lacked() else { return false };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    berth_testing::skip(&test, &lacked);
    true
}

/// Settings on a site, with deadlines that a test can wait for.
pub(crate) fn settings(site: &Site, daemon: &Daemon) -> Settings {
    Settings {
        socket: daemon.socket(),
        deadlines: Deadlines {
            kill: Duration::from_secs(3),
            recover: Duration::from_secs(5),
            again: Duration::from_millis(100),
            ..Deadlines::default()
        },
        ..Settings::new(site.runtime_dir(), site.work_dir())
    }
}

/// The container that is asked for: busybox, on the host's network.
pub(crate) fn container() -> ContainerInfo {
    ContainerInfo {
        r#type: ContainerType::Docker,
        docker: Some(DockerInfo { image: IMAGE.to_owned(), ..DockerInfo::default() }),
        ..ContainerInfo::default()
    }
}

/// A containerizer that has recovered with nothing.
pub(crate) fn recovered(settings: Settings) -> Docker {
    let docker = Docker::new(settings, EventLog::default()).expect("a containerizer");
    good(docker.recover(None));
    docker
}

pub(crate) fn id(name: &str) -> ContainerId {
    ContainerId::new(name).expect("an id")
}

/// A configuration that runs shell text in a sandbox of its own.
pub(crate) fn config(site: &Site, id: &ContainerId, text: &str) -> ContainerConfig {
    let directory = site.sandboxes().join(id.value());
    fs::create_dir_all(&directory).expect("a sandbox");
    let command_info = CommandInfo { value: Some(text.to_owned()), ..CommandInfo::default() };
    ContainerConfig {
        directory,
        command_info,
        container_info: Some(container()),
        ..ContainerConfig::default()
    }
}

/// The answer, which has to come.
pub(crate) fn answer<T>(answer: Answer<'_, T>) -> Result<T, Error> {
    block_on_until(answer, Instant::now() + PATIENCE).expect("an answer in time")
}

/// The answer, which has to be a good one.
pub(crate) fn good<T>(good: Answer<'_, T>) -> T {
    match answer(good) {
        Ok(value) => value,
        Err(error) => panic!("{}", error.chain()),
    }
}

/// The text of a failure.
pub(crate) fn failure<T: std::fmt::Debug>(bad: Answer<'_, T>) -> String {
    match answer(bad) {
        Ok(value) => panic!("it did not fail: {value:?}"),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn launch(
    docker: &Docker,
    id: &ContainerId,
    config: ContainerConfig,
) -> Result<LaunchResult, Error> {
    answer(docker.launch(id, config, Variables::new(), None))
}

pub(crate) fn start(docker: &Docker, id: &ContainerId, config: ContainerConfig) {
    assert_eq!(launch(docker, id, config).map_err(|error| error.chain()), Ok(LaunchResult::Success));
}

pub(crate) fn ended(docker: &Docker, id: &ContainerId) -> ContainerTermination {
    good(docker.wait(id)).expect("a container that is known")
}

/// Destroys and removes it.
pub(crate) fn clear(docker: &Docker, id: &ContainerId) {
    good(docker.destroy(id));
    good(docker.remove(id));
}

/// Waits for a fact that nobody announces.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ask() {
            return value;
        }
        assert!(Instant::now() < deadline, "it is still not so that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
