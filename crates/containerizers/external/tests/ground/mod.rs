// SPDX-License-Identifier: Apache-2.0
//! What tests of the external containerizer stand on: programs, and a containerizer that calls them.
#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use berth_conformance::Site;
pub(crate) use berth_conformance::ask::{answer, config, ended, failure, good, id, launch, start, until};
use berth_contract::{Containerizer, EventLog};
use berth_external::{External, Settings};

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
