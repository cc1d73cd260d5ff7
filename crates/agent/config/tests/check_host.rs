// SPDX-License-Identifier: Apache-2.0
//! What `check-host` finds on the host that runs this test, and that it leaves nothing there. One test only:
//! it compares the whole process before and after.
#![expect(clippy::unwrap_used, reason = "in tests, helpers included")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use berth_config::{Presence, Sources, check_host, load};

/// Everything that a probe could leave.
fn ledger(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut list = |path: &Path| {
        for entry in fs::read_dir(path).into_iter().flatten() {
            found.insert(entry.unwrap().path().display().to_string());
        }
    };
    list(folder);
    list(Path::new("/sys/fs/cgroup"));
    for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten() {
        let path = controller.unwrap().path();
        if path.is_dir() {
            list(&path);
        }
    }
    found.retain(|path| !path.contains("/sys/fs/cgroup") || path.contains("berth-probe"));
    let me = Path::new("/proc/self");
    found.extend(fs::read_to_string(me.join("mountinfo")).unwrap().lines().map(str::to_owned));
    let descriptors = fs::read_dir(me.join("fd")).unwrap().count();
    found.insert(format!("{descriptors} descriptors"));
    for task in fs::read_dir(me.join("task")).unwrap() {
        let children = fs::read_to_string(task.unwrap().path().join("children")).unwrap();
        assert_eq!(children, "", "children");
    }
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let fields = ["NoNewPrivs:", "Seccomp:", "Seccomp_filters:", "CapEff:", "SigBlk:", "Threads:"];
    found.extend(status.lines().filter(|l| fields.iter().any(|f| l.starts_with(f))).map(str::to_owned));
    found.extend(fs::read_dir("/proc/thread-self/ns").unwrap().map(|entry| {
        let path = entry.unwrap().path();
        fs::read_link(path).unwrap().display().to_string()
    }));
    for file in ["/proc/keys", "/sys/fs/cgroup/cgroup.subtree_control"] {
        found.extend(
            fs::read_to_string(file)
                .unwrap_or_default()
                .lines()
                .filter(|l| l.contains("berth"))
                .map(str::to_owned),
        );
    }
    found
}

#[test]
fn the_host_is_looked_at_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let flag = |name: &str| format!("--{name}={}", folder.path().join(name).display()).into();
    fs::create_dir(folder.path().join("config_dir")).unwrap();
    let arguments = vec![flag("work_dir"), flag("runtime_dir"), flag("config_dir")];
    let flags = load(&Sources { arguments, environment: Vec::new(), working_directory: "/".into() }).unwrap();

    let before = ledger(folder.path());
    let report = check_host(&flags);
    let again = check_host(&flags);
    println!("{report}");
    // Threads, the credentials that held a keyring, and groups go a moment after their last user.
    let deadline = Instant::now() + Duration::from_secs(30);
    let left = || ledger(folder.path()).symmetric_difference(&before).cloned().collect::<Vec<_>>();
    while !left().is_empty() {
        assert!(Instant::now() < deadline, "{:#?}", left());
        std::thread::sleep(Duration::from_millis(20));
    }

    let state = |name: &str| report.facilities.iter().find(|f| f.name == name).unwrap().state;
    for (first, second) in report.facilities.iter().zip(&again.facilities) {
        assert_eq!((first.name, first.state), (second.name, second.state));
    }
    for facility in &report.facilities {
        assert_eq!(facility.cost.is_some(), facility.state != Presence::There, "{}", facility.name);
        assert!(!facility.detail.is_empty(), "{}", facility.name);
    }
    for name in ["openat2", "close_range"] {
        assert_eq!(state(name), Presence::There, "{name}: every kernel from 5.10 has it");
    }
    let text = report.to_string();
    assert!(report.facilities.iter().all(|facility| text.contains(facility.name)));
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["facilities"].as_array().unwrap().len(), report.facilities.len());
    assert_eq!(json["ok"], report.ok);
    assert_eq!(report.exit_code(), u8::from(!report.ok));
    if !berth_sys::rustix::process::geteuid().is_root() {
        assert!(!report.ok);
        println!("skipped: what root can do is not looked at by another user");
        return;
    }
    for name in ["root", "clone3", "pidfd", "mount namespace", "pid namespace", "network namespace"] {
        assert_eq!(state(name), Presence::There, "{name}");
    }
}
