// SPDX-License-Identifier: Apache-2.0
//! A process that owns twenty containers is killed while they are launched, and while they run; the next one adopts what was
//! launched, knows how the others ended, and leaves nothing.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod ground;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use berth_conformance::ask::until;
use berth_conformance::{Ledger, Site};
use berth_contract::{Containerizer, EventLog, Variables};
use berth_lxc::{Lxc, Settings};
use berth_model::{ContainerConfig, ContainerId};

use ground::{ended, good, id, recovered, settings, start};

const TEST: &str = "twenty_containers_whose_owner_is_killed_are_adopted_or_gone";
const ROLE: &str = "BERTH_ROLE";
const COUNT: usize = 20;

fn ids() -> Vec<ContainerId> {
    (0..COUNT).map(|number| id(&format!("c{number}"))).collect()
}

/// The owner: makes its containers, says so, and is killed.
fn owner(role: &str) {
    let place = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let cgroup = std::env::var("BERTH_CGROUP").unwrap();
    let mut settings = Settings::new(place("BERTH_RUN"), place("BERTH_WORK"), cgroup);
    settings.lxc_path = place("BERTH_LXC");
    let lxc = Lxc::new(settings, EventLog::default()).unwrap();
    good(lxc.recover(None));
    let mut launches = Vec::new();
    for (number, own) in ids().into_iter().enumerate() {
        let directory = place("BERTH_SANDBOXES").join(own.value());
        fs::create_dir_all(&directory).unwrap();
        let mut config = ContainerConfig { directory, ..ContainerConfig::default() };
        ground::clone(&mut config);
        let text = format!("until [ -e go ]; do sleep 0.1; done; exit {}", 10 + number);
        config.command_info.value = Some(text);
        match role {
            "RUNNING" => start(&lxc, &own, config),
            _ => {
                let info = config.container_info.as_mut().and_then(|info| info.lxc.as_mut()).unwrap();
                let template = place("BERTH_TEMPLATE").display().to_string();
                (info.clone_from, info.template) = (None, Some(template));
                launches.push(lxc.launch(&own, config, Variables::new(), None));
            }
        }
    }
    if role == "PROVISIONING" {
        until("a template works", || place("BERTH_WORK").join("at-work").exists().then_some(()));
    }
    println!("\nhere we are");
    loop {
        std::thread::park();
    }
}

fn start_owner(site: &Site, role: &str, template: &str) -> Child {
    let settings = settings(site);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("BERTH_WORK", site.work_dir())
        .env("BERTH_RUN", site.runtime_dir())
        .env("BERTH_SANDBOXES", site.sandboxes())
        .env("BERTH_LXC", settings.lxc_path)
        .env("BERTH_CGROUP", settings.cgroup)
        .env("BERTH_TEMPLATE", template)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "here we are"), "the owner for {role} has failed");
    child
}

#[test]
fn twenty_containers_whose_owner_is_killed_are_adopted_or_gone() {
    if let Ok(role) = std::env::var(ROLE) {
        return owner(&role);
    }
    if let Some(lacked) = ground::lacked() {
        return ground::skip(&lacked);
    }
    for role in ["PROVISIONING", "RUNNING"] {
        let site = Site::new("lxc-killed").unwrap();
        let at_work = site.work_dir().join("at-work");
        let template = ground::template(&site, "slow", &format!(": > {}; sleep 1000", at_work.display()));
        drop(recovered(settings(&site)));
        let before = Ledger::take(&site.scope());
        let mut child = start_owner(&site, role, &template);
        child.kill().unwrap();
        child.wait().unwrap();
        let _ = fs::remove_file(&at_work);
        // Half of those that run end while nobody is there.
        let go = |own: &ContainerId| fs::write(site.sandboxes().join(own.value()).join("go"), "").unwrap();
        ids().iter().take(COUNT / 2).for_each(go);
        let lxc = Lxc::new(settings(&site), EventLog::default()).unwrap();
        good(lxc.recover(None));
        for (number, own) in ids().iter().enumerate() {
            if role == "RUNNING" {
                go(own);
                assert_eq!(ended(&lxc, own).status, Some((10 + number as i32) << 8), "{own}");
            } else if lxc.knows(own) {
                let told = ended(&lxc, own);
                assert!(told.status.is_none() && told.message.is_some(), "{own} never ran: {told:?}");
            }
            good(lxc.remove(own));
        }
        drop(lxc);
        ids().iter().for_each(|own| _ = fs::remove_dir_all(site.sandboxes().join(own.value())));
        let patience = std::time::Instant::now() + berth_conformance::PATIENCE;
        let settled = before.settle(&site.scope(), patience);
        assert!(settled.is_ok(), "{role} has left something: {settled:?}");
    }
}
