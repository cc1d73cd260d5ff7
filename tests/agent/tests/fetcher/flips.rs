// SPDX-License-Identifier: Apache-2.0
//! A task that exchanges its files and directories for links to what is not its own, as fast as it can, while others read
//! its logs, copy to and from it, and remove it: nothing outside of it is read, written or removed.
//!
//! The exchanging is done here, on descriptors of the container's directories, which is faster than any task. Each round
//! takes `BERTH_FLIP_SECONDS` (1, and 60 in the long form).

use crate::{leave, run_ground};
use berth_test_agent::{Ground, number};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, openat, renameat_with, symlinkat};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What must never be seen from inside, nor changed.
const SECRET: &str = "the host's";

/// Outside of every container.
struct Victim(PathBuf);

impl Victim {
    fn new(ground: &Ground) -> Victim {
        let path = ground.work_dir().with_file_name("victim");
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("sub")).unwrap();
        fs::write(path.join("file"), SECRET).unwrap();
        fs::write(path.join("sub/file"), SECRET).unwrap();
        Victim(path)
    }

    fn assert_whole(&self) {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["file", "sub"], "something was made or removed outside");
        assert_eq!(fs::read_dir(self.0.join("sub")).unwrap().count(), 1);
        for file in ["file", "sub/file"] {
            assert_eq!(fs::read_to_string(self.0.join(file)).unwrap(), SECRET, "{file} was written");
        }
    }
}

/// Exchanges names in a directory until it is dropped.
struct Flips {
    over: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Flips {
    /// In `dir`, which becomes full of things that a task may have and of links that it may make.
    fn begin(dir: &OwnedFd, victim: &Path) -> Flips {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(dir));
        let at = |name: &str| Path::new(&path).join(name);
        fs::create_dir_all(at("dir/sub")).unwrap();
        for file in ["dir/file", "dir/sub/file", "plain"] {
            fs::write(at(file), "the task's").unwrap();
        }
        let absolute = victim.display().to_string();
        let climbing = format!("../../../../../../../..{absolute}");
        let pairs = [("dir", "link-dir", absolute), ("plain", "link-plain", format!("{climbing}/file"))];
        let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = pairs.map(|(name, link, target)| {
            symlinkat(target.as_str(), dir, link).unwrap();
            let (dir, over, count) = (dir.try_clone().unwrap(), Arc::clone(&over), Arc::clone(&count));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // When somebody removes them, there is nothing to exchange any more.
                    if renameat_with(&dir, name, &dir, link, RenameFlags::EXCHANGE).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        Flips { over, count, threads: threads.into() }
    }

    fn end(&mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Flips {
    fn drop(&mut self) {
        self.end();
    }
}

fn open(path: impl AsRef<Path>) -> OwnedFd {
    openat(CWD, path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn seconds() -> Duration {
    Duration::from_secs(number("BERTH_FLIP_SECONDS", 1, 60) as u64)
}

/// Copies in both directions as long as a round takes. What comes out is looked at.
fn copy(ground: &Ground, name: &str, prefix: &str, victim: &Victim) {
    let out = ground.work_dir().with_file_name("out");
    let given = ground.work_dir().with_file_name("given");
    fs::create_dir_all(given.join("sub")).unwrap();
    fs::write(given.join("new"), "brought").unwrap();
    fs::write(given.join("file"), "brought").unwrap();
    fs::write(given.join("sub/file"), "brought").unwrap();
    let at = |path: &str| format!("{name}:{prefix}{path}");
    let (given_tree, given_file) = (format!("{}/.", given.display()), format!("{}/new", given.display()));
    let limit = Instant::now() + seconds();
    let (mut copied, mut refused) = (0, 0);
    while Instant::now() < limit {
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        let to = out.display().to_string();
        let all = [
            [at("dir"), to.clone()],
            [at("dir/"), format!("{to}/with")],
            [at("dir/sub/file"), to.clone()],
            [at("plain"), format!("{to}/plain")],
            [at("."), format!("{to}/whole")],
            [given_tree.clone(), at("dir")],
            [given_file.clone(), at("dir/sub")],
            [given_file.clone(), at("plain")],
            [given_file.clone(), at("dir/new")],
        ];
        for [from, to] in all {
            match ground.berth(["cp", "-L", &from, &to]).code {
                Some(0) => copied += 1,
                _ => refused += 1,
            }
        }
        look(&out);
        victim.assert_whole();
    }
    println!("{copied} copies, and {refused} that met a link and were refused");
    assert!(copied > 0);
}

/// Nothing in a tree has the host's words in it, whatever links of the task are there too.
fn look(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            look(&entry.path());
        } else if kind.is_file() {
            let text = fs::read_to_string(entry.path()).unwrap();
            assert_ne!(text, SECRET, "{} came from outside", entry.path().display());
        }
    }
}

#[test]
fn a_task_that_swaps_files_for_links_leads_no_copy_no_log_and_no_removal_out_of_its_sandbox() {
    let Some(ground) = run_ground(
        "a_task_that_swaps_files_for_links_leads_no_copy_no_log_and_no_removal_out_of_its_sandbox",
    ) else {
        return;
    };
    let (name, victim) = (ground.name("c"), Victim::new(&ground));
    ground.berth(["run", "-d", "--name", &name, "--", "sh", "-c", "echo words; exec sleep 1000"]).good();
    let sandbox = open(ground.sandbox(&name));
    let mut flips = Flips::begin(&sandbox, &victim.0);
    copy(&ground, &name, "", &victim);
    // Logs: the name in the sandbox is a link, and the reader has the file.
    let outside = victim.0.join("file");
    fs::remove_file(ground.sandbox(&name).join("stdout")).unwrap();
    std::os::unix::fs::symlink(&outside, ground.sandbox(&name).join("stdout")).unwrap();
    assert_eq!(ground.berth(["logs", &name]).good(), "words\n");
    let exchanges = flips.end();
    println!("{exchanges} exchanges");
    assert!(exchanges > 0);
    drop(sandbox);
    ground.api().destroy(&name).unwrap();
    // Removal, while it goes on; many, since each is over in a moment.
    let limit = Instant::now() + seconds();
    let mut removed = 0;
    while Instant::now() < limit {
        let name = ground.name(format!("r{removed}"));
        ground.berth(["run", "-d", "--name", &name, "--", "true"]).good();
        ground.api().wait(&name).unwrap();
        let dir = open(ground.sandbox(&name));
        let mut flips = Flips::begin(&dir, &victim.0);
        let deadline = Instant::now() + Duration::from_secs(20);
        // One that finds a directory filled again while it empties it may say so, and is asked once more.
        while ground.berth(["rm", &name]).code != Some(0) {
            assert!(Instant::now() < deadline, "{name} can not be removed");
        }
        flips.end();
        victim.assert_whole();
        removed += 1;
    }
    println!("{removed} removals");
    assert!(removed > 0);
    fs::remove_dir_all(&victim.0).unwrap();
    leave(ground);
}

#[test]
fn a_container_with_a_root_of_its_own_leads_no_copy_out_of_it() {
    let Some(ground) = run_ground("a_container_with_a_root_of_its_own_leads_no_copy_out_of_it") else {
        return;
    };
    let busybox = Path::new("/bin/busybox");
    if !busybox.exists() {
        return berth_test_agent::skip(
            "a_container_with_a_root_of_its_own_leads_no_copy_out_of_it",
            "/bin/busybox",
        );
    }
    let victim = Victim::new(&ground);
    let root = ground.work_dir().with_file_name("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("place")).unwrap();
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let (name, rootfs) = (ground.name("c"), root.display().to_string());
    let words = ["run", "--rm", "--name", &name, "--rootfs", &rootfs, "--", "/bin/busybox", "sleep", "1000"];
    let mut child = ground.command(words).spawn().unwrap();
    berth_test_agent::until("it runs", || {
        ground
            .berth(["cp", &format!("{name}:/bin/busybox"), "/dev/null/x"])
            .stderr
            .contains("Not a directory")
    });
    let list = ground.berth(["inspect", &name]);
    let pid: u32 = {
        let value: serde_json::Value = serde_json::from_str(list.good()).unwrap();
        find_pid(&value).unwrap_or_else(|| panic!("no pid in {value}"))
    };
    let place = open(format!("/proc/{pid}/root/place"));
    let mut flips = Flips::begin(&place, &victim.0);
    copy(&ground, &name, "/place/", &victim);
    assert!(flips.end() > 0);
    victim.assert_whole();
    ground.berth(["kill", &name]);
    child.wait().unwrap();
    for dir in [&victim.0, &root] {
        fs::remove_dir_all(dir).unwrap();
    }
    leave(ground);
}

fn find_pid(value: &serde_json::Value) -> Option<u32> {
    match value {
        serde_json::Value::Object(all) => {
            let own =
                all.iter().find(|(name, value)| matches!(name.as_str(), "pid" | "Pid") && value.is_u64());
            own.and_then(|(_, pid)| u32::try_from(pid.as_u64()?).ok())
                .or_else(|| all.values().find_map(find_pid))
        }
        serde_json::Value::Array(all) => all.iter().find_map(find_pid),
        _ => None,
    }
}

/// A quota on the sandbox is enforced, and said with the words of Mesos.
#[test]
fn a_container_that_keeps_more_than_its_disk_quota_is_ended_with_its_reason() {
    let test = "a_container_that_keeps_more_than_its_disk_quota_is_ended_with_its_reason";
    let mut ground = match Ground::new("fetch-quota") {
        Ok(ground) => ground,
        Err(lacked) => return berth_test_agent::skip(test, &lacked),
    };
    let mut command = ground.agent();
    command.args(["--enforce_container_disk_quota", "--container_disk_watch_interval=100ms"]);
    command.arg("--isolation=filesystem/linux,namespaces/pid,cgroups/cpu,cgroups/mem,disk/du");
    ground.start_as(&mut command);
    let name = ground.name("c");
    let mut resources = berth_model::Resources::new();
    let disk = berth_model::Resource::scalar("disk", berth_model::Scalar::from_whole(4));
    resources.try_add(disk).unwrap();
    let script = "dd if=/dev/zero of=full bs=1M count=3 2>/dev/null; : > low; while ! test -e go; do sleep 0.05; done; \
                  dd if=/dev/zero of=more bs=1M count=8 2>/dev/null; exec sleep 1000";
    let launch = berth_client::Launch {
        command: crate::command(script, Vec::new()),
        resources,
        ..berth_client::Launch::default()
    };
    let id = name.parse().unwrap();
    ground.api().on(async |c| c.launch(&id, &launch).await).unwrap();
    let at = |file: &str| ground.sandbox(&name).join(file);
    berth_test_agent::until("it keeps less than its quota", || at("low").exists());
    // Below it for some looks, it goes on.
    let looks = Instant::now() + Duration::from_millis(500);
    berth_test_agent::until("it was looked at", || Instant::now() > looks);
    assert_eq!(ground.api().state(&name).unwrap(), "RUNNING");
    fs::write(at("go"), "").unwrap();
    let end = ground.api().wait(&name).unwrap();
    assert_eq!(
        end.reason,
        Some(berth_proto::v1::task_status::Reason::ContainerLimitationDisk.into()),
        "{end:?}"
    );
    let message = end.message.unwrap_or_default();
    assert!(message.contains("Disk usage (") && message.contains("exceeds quota (4MB)"), "{message}");
    leave(ground);
}
