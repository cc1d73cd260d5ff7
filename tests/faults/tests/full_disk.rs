// SPDX-License-Identifier: Apache-2.0
//! What runs out, or is not there: disk space, inodes, root, a controller.

use berth_test_faults::{Exit, Ground, State, skip};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

const SEVEN: i64 = 7 << 8;

/// Writes until nothing more fits.
fn fill(at: &Path) {
    let mut file = File::create(at.join("filler")).expect("a file has room");
    for size in [65536, 4096, 1] {
        while matches!(file.write(&vec![b'x'; size]), Ok(1..)) {}
    }
}

/// Makes files until there can be no more.
fn fill_inodes(at: &Path) {
    assert!((0..100_000).any(|n| File::create(at.join(format!("filler-{n}"))).is_err()));
}

fn refused(exit: &Exit, words: &str) {
    assert_eq!(exit.code, Some(125), "{exit:?}");
    assert!(exit.stderr.contains(words), "{exit:?}");
}

#[test]
fn a_launch_on_a_work_dir_without_inodes_is_refused_and_leaves_nothing() {
    let test = "a_launch_on_a_work_dir_without_inodes_is_refused_and_leaves_nothing";
    let ground = match Ground::bare("full-inodes") {
        Ok(ground) => ground,
        Err(lacked) => return skip(test, &lacked),
    };
    let work = ground.work_dir();
    let ground = ground.mount(work.clone(), "size=4m,nr_inodes=64").settled();
    fill_inodes(&work);
    // One more at a time, so that it fails at one step after the other.
    for n in 0..20 {
        let before: Vec<_> = files(&work);
        let exit = ground.run(&["--name", &ground.name(n)], &["true"]);
        if exit.code == Some(0) {
            assert!(n > 0, "it was not full");
            return;
        }
        refused(&exit, "No space left");
        assert_eq!(files(&work), before, "with {n} free");
        std::fs::remove_file(work.join(format!("filler-{n}"))).unwrap();
    }
    panic!("twenty inodes are not enough");
}

fn files(at: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    let mut open = vec![at.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                open.push(entry.path());
            }
            all.push(entry.path());
        }
    }
    all.sort();
    all
}

#[test]
fn a_launch_on_a_full_runtime_dir_is_refused_and_leaves_nothing() {
    let ground = match Ground::bare("full-runtime") {
        Ok(ground) => ground,
        Err(lacked) => return skip("a_launch_on_a_full_runtime_dir_is_refused_and_leaves_nothing", &lacked),
    };
    let runtime = ground.runtime_dir();
    let ground = ground.mount(runtime.clone(), "size=1m").settled();
    fill(&runtime);
    refused(&ground.run(&["--name", &ground.name("x")], &["true"]), "No space left");
    std::fs::remove_file(runtime.join("filler")).unwrap();
    ground.same().unwrap();
}

#[test]
fn a_status_is_recorded_when_the_runtime_dir_fills_up_meanwhile() {
    let ground = match Ground::bare("full-meanwhile") {
        Ok(ground) => ground,
        Err(lacked) => return skip("a_status_is_recorded_when_the_runtime_dir_fills_up_meanwhile", &lacked),
    };
    let runtime = ground.runtime_dir();
    let ground = ground.mount(runtime.clone(), "size=1m").settled();
    let name = ground.name("x");
    let mut owner = ground.start(&["-i", "--name", &name], &["sh", "-c", "echo ready; cat; exit 7"]);
    ground.wait_for("the command runs", || ground.written(&name).as_deref() == Some("ready\n"));
    fill(&runtime);
    drop(owner.stdin.take());
    let exit = ground.end(owner);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(7), ""), "{exit:?}");
    // And all else goes on a full disk too.
    assert_eq!(ground.state(&name), Ok(State::Exited(SEVEN)));
    ground.remove(&name).unwrap();
    std::fs::remove_file(runtime.join("filler")).unwrap();
    ground.same().unwrap();
}

#[test]
fn a_container_that_fills_the_disk_still_has_a_status() {
    let ground = match Ground::bare("full-output") {
        Ok(ground) => ground,
        Err(lacked) => return skip("a_container_that_fills_the_disk_still_has_a_status", &lacked),
    };
    let work = ground.work_dir();
    let ground = ground.mount(work, "size=1m").settled();
    for (at, script) in ["yes; exit 7", "yes > /fill; exit 7", "yes > /fill; yes; exit 7"].iter().enumerate()
    {
        let name = ground.name(at);
        let exit = ground.run(&["--name", &name], &["sh", "-c", script]);
        assert_eq!(exit.code, Some(7), "{script}: {}", exit.stderr);
        assert_eq!(ground.state(&name), Ok(State::Exited(SEVEN)), "{script}");
        ground.remove(&name).unwrap();
        ground.same().unwrap_or_else(|e| panic!("{script}: {e}"));
    }
}

#[test]
fn without_root_it_says_so() {
    let ground = match Ground::new("no-root") {
        Ok(ground) => ground,
        Err(lacked) => return skip("without_root_it_says_so", &lacked),
    };
    let as_nobody = |args: &[std::ffi::OsString]| {
        let berth = ground.command();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
        command.arg(berth.get_program()).args(berth.get_args()).args(args);
        ground.ends(&mut command).map(Exit::from)
    };
    let mut able = Command::new("setpriv");
    able.args(["--reuid", "65534", "--clear-groups", "--"]).arg(ground.command().get_program());
    let Ok(able) = ground.ends(able.arg("--version")) else {
        return skip("without_root_it_says_so", "setpriv");
    };
    if !able.status.success() {
        return skip("without_root_it_says_so", "a berth that nobody may execute");
    }
    let run = as_nobody(&ground.run_arguments(&["--name", "x"], &["true"])).unwrap();
    refused(&run, "not root");
    assert_ne!(as_nobody(&["ps".into()]).unwrap().code, Some(0));
    ground.same().unwrap();
}

#[test]
fn a_limit_whose_controller_is_missing_is_refused() {
    let test = "a_limit_whose_controller_is_missing_is_refused";
    let ground = match Ground::new("no-controller") {
        Ok(ground) => ground,
        Err(lacked) => return skip(test, &lacked),
    };
    for controller in ["memory", "pids", "cpu"] {
        let place = Path::new("/sys/fs/cgroup").join(controller);
        if !place.join("cgroup.procs").exists() {
            return skip(test, "a hierarchy of cgroup v1 for each controller");
        }
        // In a mount namespace of its own it can be taken away.
        let berth = ground.command();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", "umount -l \"$0\" && exec \"$@\""]);
        command.arg(std::fs::canonicalize(&place).unwrap()).arg(berth.get_program()).args(berth.get_args());
        command.args(ground.run_arguments(&["--name", &ground.name(controller)], &["true"]));
        refused(&ground.ends(&mut command).unwrap().into(), controller);
        ground.same().unwrap_or_else(|e| panic!("without {controller}: {e}"));
    }
}
