// SPDX-License-Identifier: Apache-2.0
//! What tests of the external containerizer stand on: programs, and a containerizer that calls them.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use berth_conformance::{PATIENCE, Site};
use berth_contract::{Answer, Containerizer, Error, EventLog, LaunchResult, Variables, block_on_until};
use berth_external::{External, Settings};
use berth_model::{CommandInfo, ContainerConfig, ContainerId, ContainerTermination};

/// The system's own, if there is one: others may be found through slow scripts.
fn python() -> &'static str {
    const OF_DEBIAN: &str = "/usr/bin/python3";
    if Path::new(OF_DEBIAN).exists() { OF_DEBIAN } else { "python3" }
}

/// What this host lacks for the example, if anything.
pub(crate) fn lacked() -> Option<String> {
    let python = Command::new(python()).arg("-c").arg("").stdin(Stdio::null()).status();
    (!python.is_ok_and(|status| status.success())).then(|| "python3".to_owned())
}

/// Says that this test was skipped, and why.
pub(crate) fn skip(lacked: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    berth_testing::skip(&test, lacked);
}

/// The example in Python.
pub(crate) fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/external-containerizer.py");
    // No code of its own is kept, and no other is looked for: it starts faster.
    format!("{} -BSE {}", python(), path.display())
}

/// Settings on a site, with few variables and deadlines that a test can wait for.
pub(crate) fn settings(site: &Site, path: impl Into<String>) -> Settings {
    let mut settings = Settings::new(site.runtime_dir(), site.work_dir());
    settings.path = Some(path.into());
    settings.launcher_dir = PathBuf::from("/opt/libexec");
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    settings.environment = vec![("PATH".into(), path), ("SITE".into(), site.marker().into())];
    settings
}

/// Where a test keeps what is not the containerizer's.
pub(crate) fn aside(site: &Site) -> PathBuf {
    let aside = site.work_dir().parent().expect("a site is a directory").join("aside");
    fs::create_dir_all(&aside).expect("a directory");
    aside
}

/// A program of shell text, which has the subcommand in `$1`.
pub(crate) fn program(site: &Site, text: &str) -> String {
    let path = aside(site).join("program");
    berth_testing::script(&path, &format!("#!/bin/sh\n{text}\n"));
    path.display().to_string()
}

/// A containerizer that has recovered with nothing.
pub(crate) fn recovered(settings: Settings) -> External {
    let external = External::new(settings, EventLog::default()).expect("a containerizer");
    good(external.recover(None));
    external
}

pub(crate) fn id(name: &str) -> ContainerId {
    ContainerId::new(name).expect("an id")
}

/// A configuration that runs shell text in a sandbox of its own.
pub(crate) fn config(site: &Site, id: &ContainerId, text: &str) -> ContainerConfig {
    let directory = site.sandboxes().join(id.value());
    fs::create_dir_all(&directory).expect("a sandbox");
    let command_info = CommandInfo { value: Some(text.to_owned()), ..CommandInfo::default() };
    ContainerConfig { directory, command_info, ..ContainerConfig::default() }
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
    external: &External,
    id: &ContainerId,
    config: ContainerConfig,
) -> Result<LaunchResult, Error> {
    answer(external.launch(id, config, Variables::new(), None))
}

pub(crate) fn start(external: &External, id: &ContainerId, config: ContainerConfig) {
    assert_eq!(launch(external, id, config).map_err(|error| error.chain()), Ok(LaunchResult::Success));
}

pub(crate) fn ended(external: &External, id: &ContainerId) -> ContainerTermination {
    good(external.wait(id)).expect("a container that is known")
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
