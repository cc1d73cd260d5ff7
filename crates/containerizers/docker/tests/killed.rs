// SPDX-License-Identifier: Apache-2.0
//! A process that owns containers is killed in the midst of their end; the next one ends them, and knows how it was.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod ground;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_conformance::Site;
use berth_contract::{Containerizer, EventLog};
use berth_docker::{Docker, Settings};
use berth_model::{ContainerConfig, ContainerTermination};

use ground::{Daemon, How, ended, good, id, settings, start, until};

const TEST: &str = "who_is_killed_while_it_destroys_is_followed_by_one_that_ends_it";
const ROLE: &str = "BERTH_ROLE";

/// In the midst of what it is killed: SIGTERM was heard, and nothing more follows for long; the process is gone, and the engine
/// does not say so; the end is written down, and the engine does not take it away.
const ROLES: [&str; 3] = ["heard", "untold", "removing"];

/// The owner: does what its role says, until it is killed.
fn owner(role: &str) {
    let place = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let mut settings =
        Settings { socket: place("BERTH_SOCKET"), ..Settings::new(place("BERTH_RUN"), place("BERTH_WORK")) };
    if role == "heard" {
        settings.stop_timeout = Duration::from_secs(600);
    }
    let docker = Docker::new(settings, EventLog::default()).unwrap();
    good(docker.recover(None));
    let own = id(role);
    let directory = place("BERTH_SANDBOXES").join(role);
    fs::create_dir_all(&directory).unwrap();
    let mut config =
        ContainerConfig { directory, container_info: Some(ground::container()), ..Default::default() };
    let text = "cd $MESOS_SANDBOX; trap ': > heard' TERM; echo up; : > ready; while :; do sleep 0.02; done";
    config.command_info.value = Some(text.to_owned());
    start(&docker, &own, config.clone());
    until("it runs", || config.directory.join("ready").exists().then_some(()));
    if role == "removing" {
        good(docker.destroy(&own));
    }
    println!("\nhere we are");
    // On our way: told to go on when the engine is as it shall be.
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    match role {
        "removing" => drop(docker.remove(&own)),
        _ => drop(docker.destroy(&own)),
    }
    println!("begun");
    loop {
        std::thread::park();
    }
}

fn start_owner(site: &Site, engine: &Daemon, role: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("BERTH_SOCKET", engine.socket())
        .env("BERTH_WORK", site.work_dir())
        .env("BERTH_RUN", site.runtime_dir())
        .env("BERTH_SANDBOXES", site.sandboxes())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

fn says(lines: &mut impl std::io::BufRead, word: &str) {
    let mut found = lines.by_ref().lines().map_while(Result::ok);
    assert!(found.any(|line| line == word), "it never said {word:?}");
}

fn runs(engine: &Daemon, name: &str) -> String {
    engine.says(&["inspect", "-f", "{{.State.Running}}", name])
}

#[test]
fn who_is_killed_while_it_destroys_is_followed_by_one_that_ends_it() {
    if let Ok(role) = std::env::var(ROLE) {
        return owner(&role);
    }
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How::default());
    let before = engine.ledger();
    for role in ROLES {
        let site = Site::new(role).unwrap();
        let own = id(role);
        let record = site.runtime_dir().join("docker").join(role);
        let sandbox = site.sandboxes().join(role);
        let (mut child, mut lines) = start_owner(&site, &engine, role);
        says(&mut lines, "here we are");
        let pid = engine.says(&["inspect", "-f", "{{.State.Pid}}", &format!("mesos-{role}")]);
        if role != "heard" {
            engine.signal("STOP");
        }
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        says(&mut lines, "begun");
        match role {
            "heard" => until("SIGTERM was heard", || sandbox.join("heard").exists().then_some(())),
            "untold" => until("its process has ended", || has_ended(&pid).then_some(())),
            _ => {}
        }
        assert!(role == "removing" || record.join("destroying").exists(), "{role}: it is being destroyed");
        child.kill().unwrap();
        child.wait().unwrap();
        if role == "heard" {
            assert_eq!(runs(&engine, "mesos-heard"), "true", "it was killed in the midst");
        } else {
            engine.signal("CONT");
        }
        let docker = Docker::new(settings(&site, &engine), EventLog::default()).unwrap();
        good(docker.recover(None));
        // Nobody asks for its end again: that was done, and is known.
        let told: ContainerTermination = ended(&docker, &own);
        assert_eq!(told.status, Some(9), "{role}: {told:?}");
        assert_eq!(fs::read_to_string(sandbox.join("stdout")).unwrap_or_default(), "up\n", "{role}");
        good(docker.remove(&own));
        assert!(!record.exists() && !sandbox.exists(), "{role}");
        engine.settles(&before, role);
    }
}

/// Gone, or waiting for somebody to hear of it.
fn has_ended(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}
