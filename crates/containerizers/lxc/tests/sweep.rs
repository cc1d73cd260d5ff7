// SPDX-License-Identifier: Apache-2.0
//! A process that launches twenty containers at once, and destroys half of them, is killed at one of the moments at which
//! something changes: in any state, and some containers in each. The next one adopts what was said to run, ends what was to
//! end, knows how each ended, and leaves nothing: no `lxc-start`, no pair of network devices, no group, no snapshot. A container
//! of somebody else's, on the same bridge, does not notice.
//!
//! In CI at two moments; with `BERTH_LXC=long` at every third.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod ground;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use berth_conformance::{Ledger, Site};
use berth_contract::{Containerizer, EventLog, Variables};
use berth_lxc::{Lxc, Settings};
use berth_model::{ContainerConfig, ContainerId, NetworkInfo};
use berth_sys::rustix::process::{Signal, getpid, kill_process};

use ground::{answer, ended, good, id, launch, recovered, settings};

const TEST: &str = "whoever_is_killed_at_any_moment_is_followed_by_one_that_adopts_or_ends_each_container";
const MOMENT: &str = "BERTH_MOMENT";
const COUNT: usize = 20;
/// How often something changes until all are launched and half of them gone.
const CHANGES: u64 = 100;

fn own(number: usize) -> ContainerId {
    id(&format!("s{number}"))
}

fn code(number: usize) -> i32 {
    (10 + number as i32) << 8
}

/// The owner: launches all and destroys those with odd numbers, says what it has been told, and dies at its moment.
fn owner(moment: u64) {
    let place = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let word = |name: &str| std::env::var(name).unwrap();
    let mut settings = Settings::new(place("BERTH_RUN"), place("BERTH_WORK"), word("BERTH_CGROUP"));
    settings.lxc_path = place("BERTH_LXC_PATH");
    let events = EventLog::default();
    let lxc = Lxc::new(settings, events.clone()).unwrap();
    good(lxc.recover(None));
    let mut changes = events.since(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..moment {
                let next = Box::pin(async { Ok(changes.next().await) });
                let _ = answer(next);
            }
            let _ = kill_process(getpid(), Signal::KILL);
        });
        for number in 0..COUNT {
            let (lxc, bridge) = (&lxc, word("BERTH_BRIDGE"));
            let directory = place("BERTH_SANDBOXES").join(own(number).value());
            scope.spawn(move || {
                fs::create_dir_all(&directory).unwrap();
                let mut config = ContainerConfig { directory, ..ContainerConfig::default() };
                ground::clone(&mut config);
                let info = config.container_info.as_mut().unwrap();
                info.network_infos.push(NetworkInfo { name: Some(bridge), ..NetworkInfo::default() });
                let text = format!("until [ -e go ]; do sleep 0.1; done; exit {}", 10 + number);
                config.command_info.value = Some(text);
                let launched = answer(lxc.launch(&own(number), config, Variables::new(), None));
                println!("\nlaunched {number} {}", launched.is_ok());
                if number % 2 == 1 {
                    println!("\ndestroyed {number} true");
                    let status = good(lxc.destroy(&own(number))).and_then(|told| told.status);
                    println!("\nended {number} {}", status.unwrap_or(-1));
                }
            });
        }
    });
    loop {
        std::thread::park();
    }
}

/// What the owner has said before it died.
fn said(site: &Site, moment: u64, bridge: &str) -> BTreeMap<(String, usize), String> {
    let settings = settings(site);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(MOMENT, moment.to_string())
        .env("BERTH_WORK", site.work_dir())
        .env("BERTH_RUN", site.runtime_dir())
        .env("BERTH_SANDBOXES", site.sandboxes())
        .env("BERTH_LXC_PATH", settings.lxc_path)
        .env("BERTH_CGROUP", settings.cgroup)
        .env("BERTH_BRIDGE", bridge)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = BTreeMap::new();
    for line in lines.map_while(Result::ok) {
        if let [what, number, value] = line.split(' ').collect::<Vec<_>>()[..]
            && let Ok(number) = number.parse()
        {
            said.insert((what.to_owned(), number), value.to_owned());
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9),
        "it was to be killed: {status}"
    );
    said
}

/// A bridge of this test's, with a running container of LXC's own on it.
struct Foreign {
    bridge: String,
    path: PathBuf,
}

impl Foreign {
    fn start(place: &Path) -> Foreign {
        let foreign = Foreign { bridge: format!("bl{}", std::process::id()), path: place.join("foreign") };
        run("ip", &["link", "add", &foreign.bridge, "type", "bridge"]);
        fs::create_dir(&foreign.path).unwrap();
        let config = place.join("foreign.conf");
        let text =
            format!("lxc.net.0.type = veth\nlxc.net.0.link = {}\nlxc.net.0.flags = up\n", foreign.bridge);
        fs::write(&config, text).unwrap();
        let (path, config) = (foreign.path.display().to_string(), config.display().to_string());
        let name = format!("--name={}", foreign.bridge);
        run("lxc-create", &["-P", &path, &name, "-t", "busybox", "-f", &config]);
        run("lxc-start", &["-P", &path, &name]);
        foreign
    }

    /// Its state, its first process, and how many network devices are on the bridge.
    fn look(&self) -> (String, usize) {
        let (path, name) = (self.path.display().to_string(), format!("--name={}", self.bridge));
        let told = run("lxc-info", &["-P", &path, &name, "-s", "-p", "-H"]);
        (told, fs::read_dir(format!("/sys/class/net/{}/brif", self.bridge)).unwrap().count())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let name = format!("--name={}", self.bridge);
        let _ = Command::new("lxc-destroy").arg("-P").arg(&self.path).args([&name, "--force"]).output();
        let _ = Command::new("ip").args(["link", "del", &self.bridge]).output();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn whoever_is_killed_at_any_moment_is_followed_by_one_that_adopts_or_ends_each_container() {
    if let Ok(moment) = std::env::var(MOMENT) {
        return owner(moment.parse().unwrap());
    }
    if let Some(lacked) = ground::lacked().or_else(|| berth_testing::lacks(&["ip"])) {
        return ground::skip(&lacked);
    }
    let is_long = std::env::var_os("BERTH_LXC").is_some_and(|form| form == "long");
    let (first, step) = if is_long { (20, 3) } else { (50, 30) };
    for moment in (first..CHANGES).step_by(step) {
        let site = Site::new("lxc-sweep").unwrap();
        let foreign = Foreign::start(site.work_dir().parent().unwrap());
        drop(recovered(settings(&site)));
        let (before, neighbour) = (Ledger::take(&site.scope()), foreign.look());
        let said = said(&site, moment, &foreign.bridge);
        let has_said = |what: &str, number: usize| said.get(&(what.to_owned(), number)).map(String::as_str);

        let count = |what: &str| said.keys().filter(|(said, _)| said == what).count();
        let (launched, ended_before) = (count("launched"), count("ended"));
        eprintln!(
            "killed at change {moment}: {launched} were launched, and {ended_before} of them had ended"
        );
        let lxc = Lxc::new(settings(&site), EventLog::default()).unwrap();
        good(lxc.recover(None));
        for number in 0..COUNT {
            let go = site.sandboxes().join(own(number).value()).join("go");
            let _ = fs::write(go, "");
        }
        for number in 0..COUNT {
            let (own, at) = (own(number), format!("container {number}, killed at change {moment}"));
            let told = lxc.knows(&own).then(|| ended(&lxc, &own));
            let status = told.as_ref().and_then(|told| told.status);
            if let Some(known) = has_said("ended", number) {
                assert_eq!(status, known.parse().ok(), "{at} had ended before: {told:?}");
            } else if has_said("destroyed", number).is_some() {
                assert!(
                    [Some(9), Some(code(number))].contains(&status),
                    "{at} was being destroyed: {told:?}"
                );
            } else if has_said("launched", number) == Some("true") {
                assert_eq!(status, Some(code(number)), "{at} was said to run: {told:?}");
            } else if let Some(told) = told {
                // Nobody was told that it runs: it is ended where it is, unless it was launched by then.
                let was_ended = told.status == Some(9) || told.status.is_none() && told.message.is_some();
                assert!(was_ended || told.status == Some(code(number)), "{at} was under way: {told:?}");
            }
            good(lxc.remove(&own));
            let _ = fs::remove_dir_all(site.sandboxes().join(own.value()));
        }
        // An id is free again.
        let again = ground::config(&site, &own(1), "exit 0");
        launch(&lxc, &own(1), again).unwrap();
        assert_eq!(ended(&lxc, &own(1)).status, Some(0));
        good(lxc.remove(&own(1)));
        drop(lxc);
        let _ = fs::remove_dir_all(site.sandboxes().join(own(1).value()));
        let settled = before.settle(&site.scope(), std::time::Instant::now() + berth_conformance::PATIENCE);
        assert!(settled.is_ok(), "killed at change {moment}: {settled:?}");
        assert_eq!(foreign.look(), neighbour, "killed at change {moment}");
    }
}
