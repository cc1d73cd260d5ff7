// SPDX-License-Identifier: Apache-2.0
//! Agents that are killed, with the example in Python as the program: what runs goes on, what ended is known exactly, what
//! was half made is taken away, and the host holds what it held before.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod ground;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_conformance::{Ledger, Site};
use berth_contract::{AgentState, Containerizer, EventLog, KnownRun, Limits};
use berth_external::{External, Settings};
use berth_model::{ContainerId, ExecutorInfo, Resources, Uri};
use ground::{good, id};

/// Set for a process that is an agent: what it does.
const ROLE: &str = "BERTH_EXTERNAL_ROLE";
const ROLES: &[&str] = &["launching", "running", "ended", "destroying", "executor"];

/// The example; a `destroy` waits as long as there is a file `slow`.
fn settings(work: PathBuf, run: PathBuf, aside: &Path) -> Settings {
    let program = aside.join("program");
    let text = format!(
        "#!/bin/sh\nif test $1 = destroy; then while test -e {}/slow; do sleep 0.02; done; fi\nexec {} \"$@\"\n",
        aside.display(),
        ground::example()
    );
    if !program.exists() {
        berth_testing::script(&program, &text);
    }
    let mut settings = Settings::new(run, work);
    settings.path = Some(program.display().to_string());
    settings.environment.push(("SITE".into(), aside.into()));
    settings
}

/// An agent: makes its container, says so, and is killed.
fn agent(role: &str) {
    let place = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let aside = place("BERTH_ASIDE");
    let external =
        External::new(settings(place("BERTH_WORK"), place("BERTH_RUN"), &aside), EventLog::default())
            .unwrap();
    good(external.recover(Some(AgentState::default())));
    let id = id(role);
    let directory = place("BERTH_SANDBOXES").join(role);
    fs::create_dir_all(&directory).unwrap();
    let mut config = berth_model::ContainerConfig { directory, ..Default::default() };
    config.command_info.value =
        Some("trap 'exit 5' TERM; : > ready; while :; do sleep 0.02; done".to_owned());
    match role {
        "launching" => {
            let value = aside.join("pipe").display().to_string();
            config.command_info.uris.push(Uri { value, ..Uri::default() });
        }
        "ended" => config.command_info.value = Some("exit 7".to_owned()),
        "executor" => config.executor_info = Some(ExecutorInfo::default()),
        _ => {}
    }
    let launch = external.launch(&id, config, Default::default(), None);
    match role {
        "launching" => {
            // Its file is open for the program when this is true, and nobody writes.
            ground::until("the launch is under way", || {
                let calls = fs::read_to_string(place("BERTH_RUN").join("external/launching/launch")).ok()?;
                calls.contains("pid").then_some(())
            });
        }
        _ => _ = good(launch),
    }
    match role {
        "ended" => _ = ground::ended(&external, &id),
        "destroying" => {
            fs::write(aside.join("slow"), "").unwrap();
            let _destroy = external.destroy(&id);
            let mark = place("BERTH_RUN").join("external/destroying/destroying");
            ground::until("it is being destroyed", || mark.exists().then_some(()));
        }
        "running" | "executor" => {
            let ready = place("BERTH_SANDBOXES").join(role).join("ready");
            ground::until("it runs", || ready.exists().then_some(()));
        }
        _ => {}
    }
    println!("\nhere we are");
    loop {
        std::thread::park();
    }
}

/// Starts an agent as a process of its own, and waits until it is where it shall be killed.
fn start_agent(site: &Site, test: &str, role: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("BERTH_WORK", site.work_dir())
        .env("BERTH_RUN", site.runtime_dir())
        .env("BERTH_SANDBOXES", site.sandboxes())
        .env("BERTH_ASIDE", ground::aside(site))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "here we are"), "the agent for {role} has failed");
    child
}

#[test]
fn an_agent_killed_in_any_state_loses_nothing_and_leaves_nothing() {
    if let Ok(role) = std::env::var(ROLE) {
        return agent(&role);
    }
    if let Some(lacked) = ground::lacked() {
        return ground::skip(&lacked);
    }
    for role in ROLES {
        let site = Site::new(role).unwrap();
        let aside = ground::aside(&site);
        assert!(Command::new("mkfifo").arg(aside.join("pipe")).status().unwrap().success());
        let again = || settings(site.work_dir(), site.runtime_dir(), &aside);
        drop(ground::recovered(again()));
        let before = Ledger::take(&site.scope());

        let mut child =
            start_agent(&site, "an_agent_killed_in_any_state_loses_nothing_and_leaves_nothing", role);
        child.kill().unwrap();
        child.wait().unwrap();
        let _ = fs::remove_file(aside.join("slow"));
        let id = id(role);
        let external = External::new(again(), EventLog::default()).unwrap();
        let known = KnownRun {
            id: id.clone(),
            executor: Some(ExecutorInfo::default()),
            container: None,
            directory: site.sandboxes().join(role),
            pid: None,
            completed: false,
        };
        let runs = if *role == "executor" { vec![known] } else { Vec::new() };
        good(external.recover(Some(AgentState { runs })));
        let living = matches!(*role, "running" | "executor");
        if living {
            assert_eq!(good(external.containers()), std::slice::from_ref(&id), "{role}");
            let usage = good(external.usage(&id));
            assert!(usage.processes.is_some_and(|count| count > 0), "{role}: {usage:?}");
            good(external.update(&id, Resources::default(), Limits::new()));
            ground::until("there is one `wait`, and that is ours", || (waits(&id) == 1).then_some(()));
            assert_eq!(good(external.destroy(&id)).unwrap().status, Some(9), "{role}");
        }
        // One whose destroy was under way goes on with that beside us.
        let termination = ground::ended(&external, &id);
        assert_eq!(good(external.containers()), [], "{role}");
        match *role {
            "ended" => assert_eq!(termination.status, Some(7 << 8)),
            "launching" => assert!(termination.message.unwrap().contains("launched"), "{role}"),
            "destroying" => assert_eq!(termination.status, Some(9)),
            _ => {}
        }
        good(external.remove(&id));
        assert!(!external.knows(&id));
        if let Err(difference) = before.settle(&site.scope(), Instant::now() + Duration::from_secs(5)) {
            panic!("{role}: the host is not as it was:\n  {}", difference.join("\n  "));
        }
    }
}

/// How many `wait`s of the program there are on this host for a container of this test.
fn waits(id: &ContainerId) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let text = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&text("cmdline")).replace('\0', " ");
        let ours =
            String::from_utf8_lossy(&text("environ")).contains(&format!("berth-{id}-{}", std::process::id()));
        count += usize::from(ours && line.contains("python3") && line.trim_end().ends_with("py wait"));
    }
    count
}

#[test]
fn an_exit_between_two_agents_has_its_exact_status() {
    if let Some(lacked) = ground::lacked() {
        return ground::skip(&lacked);
    }
    let site = Site::new("between").unwrap();
    let aside = ground::aside(&site);
    let again = || ground::recovered(settings(site.work_dir(), site.runtime_dir(), &aside));
    let external = again();
    let id = id("between");
    let config = ground::config(&site, &id, "while ! test -e go; do sleep 0.02; done; exit 13");
    let sandbox = config.directory.clone();
    ground::start(&external, &id, config);
    drop(external);
    let kept = site.work_dir().join("external/between/exit");
    fs::write(sandbox.join("go"), "").unwrap();
    ground::until("it has ended", || (fs::read_to_string(&kept).unwrap() == "3328").then_some(()));
    let external = again();
    assert_eq!(ground::ended(&external, &id).status, Some(13 << 8));
    good(external.remove(&id));
    assert!(!sandbox.exists() && !kept.exists());
}

#[test]
fn a_container_that_only_the_agent_and_the_program_know_is_adopted() {
    if let Some(lacked) = ground::lacked() {
        return ground::skip(&lacked);
    }
    let site = Site::new("foreign").unwrap();
    let aside = ground::aside(&site);
    let again =
        || External::new(settings(site.work_dir(), site.runtime_dir(), &aside), EventLog::default()).unwrap();
    let external = again();
    good(external.recover(None));
    let (id, config) = (id("foreign"), ground::config(&site, &id("foreign"), "exec sleep 1000"));
    let directory = config.directory.clone();
    ground::start(&external, &id, config);
    drop(external);
    let run = KnownRun {
        id: id.clone(),
        executor: Some(ExecutorInfo::default()),
        container: None,
        directory,
        pid: None,
        completed: false,
    };
    let records = site.runtime_dir().join("external");
    // An agent of Mesos 0.26 kept no records of ours, and one of ours that was killed while it adopted has no whole one.
    for place in [None, Some("foreign")] {
        fs::remove_dir_all(&records).unwrap();
        if let Some(place) = place {
            fs::create_dir_all(records.join(place)).unwrap();
        }
        let external = again();
        good(external.recover(Some(AgentState { runs: vec![run.clone()] })));
        assert_eq!(good(external.containers()), std::slice::from_ref(&id));
        good(external.usage(&id));
    }
    let external = again();
    good(external.recover(Some(AgentState { runs: vec![run] })));
    assert_eq!(good(external.destroy(&id)).unwrap().status, Some(9));
}

#[test]
fn a_container_whose_sandbox_is_gone_is_adopted_all_the_same() {
    if let Some(lacked) = ground::lacked() {
        return ground::skip(&lacked);
    }
    let site = Site::new("bare").unwrap();
    let aside = ground::aside(&site);
    let again = || ground::recovered(settings(site.work_dir(), site.runtime_dir(), &aside));
    let external = again();
    let (id, config) = (id("bare"), ground::config(&site, &id("bare"), "exec sleep 1000"));
    let directory = config.directory.clone();
    ground::start(&external, &id, config);
    drop(external);
    fs::remove_dir_all(&directory).unwrap();
    let external = again();
    assert_eq!(good(external.containers()), std::slice::from_ref(&id));
    good(external.usage(&id));
    assert_eq!(good(external.destroy(&id)).unwrap().status, Some(9));
    good(external.remove(&id));
}

#[test]
fn an_intent_that_is_torn_is_taken_away() {
    let site = Site::new("torn").unwrap();
    let program = ground::program(&site, r"test $1 = containers && printf '\0\0\0\0'; exit 0");
    drop(ground::recovered(ground::settings(&site, program.clone())));
    let place = site.runtime_dir().join("external/torn");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("config"), "{\"format\":\"berth/exter").unwrap();
    let external = ground::recovered(ground::settings(&site, program));
    assert!(!external.knows(&id("torn")) && !place.exists());
}
