// SPDX-License-Identifier: Apache-2.0
//! Two agents on one host: not on the same directories, and not in each other's way on their own.

use crate::ground;
use berth_test_agent::{Ground, Process, shell, until};
use rustix::process::Signal;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers for sessions: the ends of the last ones are kept.
static SESSIONS: AtomicU32 = AtomicU32::new(0);

/// What an agent says that does not start.
fn refused(mut command: Command) -> (Option<i32>, String) {
    let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_second_agent_on_the_same_directories_is_refused_and_told_who_holds_them() {
    let mut ground = ground!(a_second_agent_on_the_same_directories_is_refused_and_told_who_holds_them);
    let (name, api) = (ground.name("c"), ground.api());
    api.launch(&name, &shell("exec sleep 1000")).unwrap();
    let holder = ground.process().pid().to_string();
    let (code, said) = refused(ground.agent());
    assert_eq!(code, Some(1), "{said}");
    for word in [holder.as_str(), "is held by process"] {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    // Also when it shares only one of the two.
    let other = ground.work_dir().with_file_name("other");
    std::fs::create_dir(&other).unwrap();
    for flag in ["work_dir", "runtime_dir"] {
        let (code, said) = refused(ground.agent_with(&[(flag, &other), ("socket", &other.join("sock"))]));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&holder), "another --{flag}: {said}");
    }
    assert_eq!(api.state(&name).unwrap(), "RUNNING", "the first goes on");
    ground.leave().unwrap();
}

/// A container of the same id at each of two agents.
struct Pair {
    name: String,
    pids: [u32; 2],
}

impl Pair {
    fn launched(one: &Ground, two: &Ground, last: &str) -> Pair {
        // Of neither's ledger by its name, of both by their control groups.
        let name = format!("berth-pair-{}-{last}", std::process::id());
        let pids = [one, two].map(|ground| {
            ground.api().launch(&name, &shell("echo up; exec sleep 1000")).unwrap();
            ground.api().wrote(&name, "up");
            ground.api().pid(&name)
        });
        assert_ne!(pids[0], pids[1]);
        Pair { name, pids }
    }

    /// The second one's goes on, whatever was done to the first one's.
    #[track_caller]
    fn second_runs(&self, two: &Ground) {
        let api = two.api();
        assert_eq!((api.state(&self.name).unwrap().as_str(), api.pid(&self.name)), ("RUNNING", self.pids[1]));
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let session = format!("{}.s{number}", self.name);
        assert_eq!(api.session(&session, &shell("echo in"), async |s| s.rest().await).unwrap(), "in\n");
        let settings = two.groups(&self.name).settings();
        assert!(settings.values().any(|value| value.trim() == "67108864"), "{settings:?}");
    }
}

#[test]
fn agents_on_their_own_directories_never_touch_each_others_containers() {
    let mut one = ground!(agents_on_their_own_directories_never_touch_each_others_containers);
    let mut two = Ground::with_agent("agent-second").unwrap();
    let pair = Pair::launched(&one, &two, "one");
    // Killed, and taken over.
    one.kill();
    one.start();
    assert_eq!(one.api().pid(&pair.name), pair.pids[0]);
    pair.second_runs(&two);
    // Destroyed, and made anew.
    one.api().destroy(&pair.name).unwrap();
    pair.second_runs(&two);
    one.api().launch(&pair.name, &shell("exec sleep 1000")).unwrap();
    pair.second_runs(&two);
    // Killed while it destroys.
    one.api().kill(&pair.name, 9).unwrap();
    one.kill();
    pair.second_runs(&two);
    one.start();
    assert_eq!(one.api().code(&pair.name).unwrap(), Some(137));
    pair.second_runs(&two);
    one.leave().unwrap();
    pair.second_runs(&two);
    two.leave().unwrap();
}

#[test]
fn an_agent_that_cleans_up_destroys_its_own_containers_only() {
    let mut one = ground!(an_agent_that_cleans_up_destroys_its_own_containers_only);
    let mut two = Ground::with_agent("agent-second").unwrap();
    let pair = Pair::launched(&one, &two, "two");
    one.kill();
    let mut command = one.agent();
    command.arg("--recover=cleanup");
    let status = Process::new(command.spawn().unwrap()).ends();
    assert_eq!(status.code(), Some(0), "{}", one.log());
    until("its process is gone", || !std::path::Path::new(&format!("/proc/{}", pair.pids[0])).exists());
    pair.second_runs(&two);
    one.start();
    assert_eq!(one.api().all().unwrap(), [""; 0]);
    one.leave().unwrap();
    two.leave().unwrap();
}

#[test]
fn an_agent_that_is_stopped_leaves_its_containers_and_another_directory_alone() {
    let mut one = ground!(an_agent_that_is_stopped_leaves_its_containers_and_another_directory_alone);
    let mut two = Ground::with_agent("agent-second").unwrap();
    let pair = Pair::launched(&one, &two, "three");
    one.stop();
    assert!(!one.socket().exists(), "the socket goes with the agent");
    pair.second_runs(&two);
    // What the first has is nothing to the second, though it asks for it by name.
    let other = one.name("only");
    assert!(two.api().inspect(&other).is_err_and(|error| error.is_unknown()));
    // An agent that is killed before it has taken anything over has changed nothing.
    let process = Process::new(one.agent().spawn().unwrap());
    process.end_by(Signal::KILL);
    one.start();
    assert_eq!(one.api().pid(&pair.name), pair.pids[0]);
    one.leave().unwrap();
    pair.second_runs(&two);
    two.leave().unwrap();
}
