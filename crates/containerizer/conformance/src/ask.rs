// SPDX-License-Identifier: Apache-2.0
//! Asking a containerizer in a test of its own, beside the suite: every answer has to come in time.

use std::fs;
use std::time::{Duration, Instant};

use berth_contract::{Answer, Containerizer, Error, LaunchResult, Variables, block_on_until};
use berth_model::{CommandInfo, ContainerConfig, ContainerId, ContainerTermination};

use crate::site::Site;
use crate::world::PATIENCE;

/// An id that is one.
pub fn id(name: &str) -> ContainerId {
    ContainerId::new(name).expect("an id")
}

/// A configuration that runs shell text in a sandbox of its own.
pub fn config(site: &Site, id: &ContainerId, text: &str) -> ContainerConfig {
    let directory = site.sandboxes().join(id.value());
    fs::create_dir_all(&directory).expect("a sandbox");
    let command_info = CommandInfo { value: Some(text.to_owned()), ..CommandInfo::default() };
    ContainerConfig { directory, command_info, ..ContainerConfig::default() }
}

/// The answer, which has to come.
///
/// # Errors
/// As the answer.
pub fn answer<T>(answer: Answer<'_, T>) -> Result<T, Error> {
    block_on_until(answer, Instant::now() + PATIENCE).expect("an answer in time")
}

/// The answer, which has to be a good one.
#[track_caller]
pub fn good<T>(good: Answer<'_, T>) -> T {
    match answer(good) {
        Ok(value) => value,
        Err(error) => panic!("{}", error.chain()),
    }
}

/// The text of a failure.
#[track_caller]
pub fn failure<T: std::fmt::Debug>(bad: Answer<'_, T>) -> String {
    match answer(bad) {
        Ok(value) => panic!("it did not fail: {value:?}"),
        Err(error) => error.to_string(),
    }
}

/// What a launch comes to.
///
/// # Errors
/// As the launch.
pub fn launch(
    containerizer: &dyn Containerizer,
    id: &ContainerId,
    config: ContainerConfig,
) -> Result<LaunchResult, Error> {
    answer(containerizer.launch(id, config, Variables::new(), None))
}

/// A launch that has to succeed.
#[track_caller]
pub fn start(containerizer: &dyn Containerizer, id: &ContainerId, config: ContainerConfig) {
    let launched = launch(containerizer, id, config);
    assert_eq!(launched.map_err(|error| error.chain()), Ok(LaunchResult::Success));
}

/// How one that is known ended.
#[track_caller]
pub fn ended(containerizer: &dyn Containerizer, id: &ContainerId) -> ContainerTermination {
    good(containerizer.wait(id)).expect("a container that is known")
}

/// Destroys and removes it.
#[track_caller]
pub fn clear(containerizer: &dyn Containerizer, id: &ContainerId) {
    good(containerizer.destroy(id));
    good(containerizer.remove(id));
}

/// Waits for a fact that nobody announces.
#[track_caller]
pub fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(Instant::now() < deadline, "it is still not so that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
