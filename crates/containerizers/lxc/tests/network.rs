// SPDX-License-Identifier: Apache-2.0
//! Containers on a bridge. Bridge, listener and all that LXC makes are in a network namespace of this test's own, so that
//! what is left is all that is there.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod ground;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use berth_conformance::Site;
use berth_conformance::ask::until;
use berth_contract::{AgentState, Containerizer, EventLog};
use berth_lxc::{Lxc, Settings};
use berth_model::{ContainerConfig, NetworkInfo, Parameter};
use ground::{config, ended, good, id, recovered, settings, start};

const TEST: &str = "a_container_on_a_bridge_reaches_it_and_leaves_nothing_on_it";
const ROLE: &str = "BERTH_ROLE";
/// Private to the namespace.
const HERE: &str = "10.77.0.1";
const THERE: &str = "10.77.0.2";

fn bridge() -> String {
    std::env::var("BERTH_BRIDGE").unwrap()
}

/// The interfaces that there are, but for the loopback and the bridge.
fn interfaces() -> Vec<String> {
    let all = fs::read_dir("/sys/class/net").unwrap().flatten();
    let names = all.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name != "lo" && *name != bridge()).collect()
}

/// Those of the bridge.
fn ports() -> usize {
    fs::read_dir(format!("/sys/class/net/{}/brif", bridge())).unwrap().count()
}

fn on_the_bridge(config: &mut ContainerConfig) {
    let lxc = config.container_info.as_mut().and_then(|info| info.lxc.as_mut()).unwrap();
    let lines =
        [("type", "veth"), ("link", &bridge()), ("flags", "up"), ("ipv4.address", &format!("{THERE}/24"))];
    lxc.config = lines
        .map(|(key, value)| Parameter { key: format!("lxc.net.0.{key}"), value: value.to_owned() })
        .into();
}

/// Answers everybody by the name of who asks and what was asked, on the bridge's own address.
fn listener() -> u16 {
    let listener = TcpListener::bind((HERE, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut word = [0; 5];
            stream.read_exact(&mut word).unwrap();
            let from = stream.peer_addr().unwrap().ip();
            writeln!(stream, "{from} said {}", String::from_utf8_lossy(&word)).unwrap();
        }
    });
    port
}

#[test]
fn a_container_on_a_bridge_reaches_it_and_leaves_nothing_on_it() {
    match std::env::var(ROLE).as_deref() {
        Ok("inside") => return inside(),
        Ok("owner") => return owner(),
        _ => {}
    }
    if let Some(lacked) = ground::lacked() {
        return ground::skip(&lacked);
    }
    let site = Site::new("lxc-bridge").unwrap();
    // A view of the interfaces of the new namespace, with the control groups where they are.
    let script = "mount --make-rprivate / && mkdir \"$2/groups\" && mount --rbind /sys/fs/cgroup \"$2/groups\" && \
        mount -t sysfs sysfs /sys && mount --rbind \"$2/groups\" /sys/fs/cgroup && umount -l \"$2/groups\" && \
        ip link set lo up && ip link add \"$3\" type bridge && ip address add \"$4/24\" dev \"$3\" && ip link set \"$3\" up && \
        exec \"$1\" --exact --nocapture \"$5\"";
    let bridge = format!("bl{}", std::process::id());
    let done = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .arg(site.work_dir())
        .args([&bridge, HERE, TEST])
        .env(ROLE, "inside")
        .env("BERTH_BRIDGE", &bridge)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && told.contains("1 passed"), "{told}{words}");
}

fn inside() {
    let site = Site::new("lxc-bridged").unwrap();
    let port = listener();
    let lxc = recovered(settings(&site));
    let says =
        format!("ip -4 -o address show dev eth0 | grep -o '{THERE}/24'; echo hello | nc {HERE} {port}");
    let own = id("talks");
    let mut talks = config(&site, &own, &says);
    on_the_bridge(&mut talks);
    start(&lxc, &own, talks);
    assert_eq!(ended(&lxc, &own).status, Some(0));
    let told = fs::read_to_string(site.sandboxes().join("talks/stdout")).unwrap();
    assert_eq!(told, format!("{THERE}/24\n{THERE} said hello\n"));
    assert_eq!((interfaces(), ports()), (Vec::<String>::new(), 0), "after its end");

    // By the name of the bridge alone, and destroyed.
    let own = id("named");
    let mut named = config(&site, &own, "ip link show eth0 | grep -q UP && echo up; exec sleep 1000");
    let info = named.container_info.as_mut().unwrap();
    info.network_infos = vec![NetworkInfo { name: Some(bridge()), ..NetworkInfo::default() }];
    start(&lxc, &own, named);
    let stdout = site.sandboxes().join("named/stdout");
    until("it is up", || (fs::read_to_string(&stdout).unwrap() == "up\n").then_some(()));
    assert_eq!((interfaces().len(), ports()), (1, 1));
    good(lxc.destroy(&own));
    assert_eq!((interfaces(), ports()), (Vec::<String>::new(), 0), "after its destruction");

    // Who stands beside it is killed, and nobody is left to take its interfaces away.
    let own = id("alone");
    let mut alone = config(&site, &own, "exec sleep 1000");
    on_the_bridge(&mut alone);
    start(&lxc, &own, alone);
    assert_eq!(ports(), 1);
    let pid = good(lxc.status(&own)).executor_pid.unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap().to_owned();
    let monitor = fs::read_to_string(format!("/proc/{parent}/cmdline")).unwrap();
    assert!(monitor.starts_with("lxc-start") && monitor.contains("berth-alone"), "{monitor}");
    assert!(Command::new("kill").args(["-9", &parent]).status().unwrap().success());
    ended(&lxc, &own);
    until("its interface goes with its namespace", || {
        (ports() == 0 && interfaces().is_empty()).then_some(())
    });
    drop(lxc);

    // The owner is killed: the container and its traffic go on, and the next one takes away what is there.
    let settings = settings(&site);
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(ROLE, "owner")
        .env("BERTH_WORK", site.work_dir())
        .env("BERTH_RUN", site.runtime_dir())
        .env("BERTH_SANDBOXES", site.sandboxes())
        .env("BERTH_LXC", &settings.lxc_path)
        .env("BERTH_CGROUP", &settings.cgroup)
        .env("BERTH_PORT", port.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "here we are"), "the owner has failed");
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(ports(), 1);
    let lxc = Lxc::new(settings, EventLog::default()).unwrap();
    good(lxc.recover(Some(AgentState::default())));
    let own = id("goes-on");
    let sandbox = site.sandboxes().join("goes-on");
    fs::write(sandbox.join("go"), "").unwrap();
    until("it is answered", || {
        (fs::read_to_string(sandbox.join("stdout")).unwrap() == format!("{THERE} said again\n")).then_some(())
    });
    good(lxc.destroy(&own));
    assert_eq!((interfaces(), ports()), (Vec::<String>::new(), 0), "after its owner was killed");
}

/// Owns a container on the bridge until it is killed.
fn owner() {
    let place = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let mut settings =
        Settings::new(place("BERTH_RUN"), place("BERTH_WORK"), std::env::var("BERTH_CGROUP").unwrap());
    settings.lxc_path = place("BERTH_LXC");
    let lxc = recovered(settings);
    let directory = place("BERTH_SANDBOXES").join("goes-on");
    fs::create_dir_all(&directory).unwrap();
    let mut config = ContainerConfig { directory, ..ContainerConfig::default() };
    ground::clone(&mut config);
    let port = std::env::var("BERTH_PORT").unwrap();
    let text =
        format!("until [ -e go ]; do sleep 0.02; done; echo again | nc {HERE} {port}; exec sleep 1000");
    config.command_info.value = Some(text);
    on_the_bridge(&mut config);
    start(&lxc, &id("goes-on"), config);
    println!("\nhere we are");
    loop {
        std::thread::park();
    }
}
