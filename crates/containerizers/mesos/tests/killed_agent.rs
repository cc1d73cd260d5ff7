// SPDX-License-Identifier: Apache-2.0
//! An agent that is killed while it runs commands in containers, pauses and resumes them: nothing but what was to stay is
//! left, and nothing stays stopped that can not be resumed. Needs root.

mod ground;

use berth_cgroup::Hierarchies;
use berth_conformance::{Script, Site, Subject, World, run};
use berth_contract::{Containerizer, ExecRequest, LaunchResult, Variables, block_on};
use berth_mesos::{Directories, MesosContainerizer, Settings};
use berth_model::{CommandInfo, ContainerConfig, ContainerId};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Makes a process of this test program an agent.
const AGENT: &str = "BERTH_TEST_AGENT";

fn request(text: &str) -> ExecRequest {
    let command = CommandInfo { value: Some(text.to_owned()), shell: true, ..CommandInfo::default() };
    ExecRequest { command, environment: Variables::new(), terminal: None }
}

/// Not a test but the agent of the one below: it does what agents do with two containers, until it is killed.
#[test]
fn the_agent() {
    let Some(told) = std::env::var_os(AGENT) else { return };
    let told = told.to_string_lossy().into_owned();
    let [run, work, cgroup, one, two] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    let directories = Directories {
        runtime: PathBuf::from(run),
        work: PathBuf::from(work),
        cgroup: Some(cgroup.to_owned()),
    };
    let settings = Settings {
        hierarchies: Some(Hierarchies::probe(Path::new(Hierarchies::ROOT)).expect("control groups")),
        seccomp_config_dir: None,
        seccomp_cache: None,
        seccomp_paths: false,
        without: Vec::new(),
        groups: Default::default(),
        disk: None,
    };
    let containerizer = MesosContainerizer::new(&directories, &settings).expect("a containerizer");
    block_on(containerizer.recover(None)).expect("recovery");
    let (one, two): (ContainerId, ContainerId) = (one.parse().expect("an id"), two.parse().expect("an id"));
    let exec = containerizer.exec().expect("it can run further commands");
    let pause = containerizer.pause().expect("it can pause");
    let mut held = Vec::new();
    for n in 0.. {
        let session = |kind: &str| ContainerId::nested(one.clone(), format!("{kind}{n}")).expect("an id");
        let brief = session("brief");
        if block_on(exec.run(&brief, request("true"))).is_ok() {
            let _ = block_on(containerizer.wait(&brief));
        }
        if n % 4 == 0 && held.len() < 8 {
            held.push(block_on(exec.run(&session("long"), request("exec sleep 1000"))).expect("a session"));
        }
        block_on(pause.freeze(&two)).expect("a pause");
        if n % 2 == 0 {
            block_on(pause.thaw(&two)).expect("a resumption");
        }
    }
}

fn rounds(world: &mut World<'_>) {
    let start = |name: &str| {
        let id = world.id(name);
        let mut config: ContainerConfig = world.config(&id, &Script::Sleep);
        config.rootfs = Some(ground::rootfs(world.site));
        assert_eq!(world.launch(&id, config).map_err(|e| e.chain()), Ok(LaunchResult::Success));
        id
    };
    let (one, two) = (start("one"), start("two"));
    for round in 0..12u64 {
        let site = world.site;
        let told = format!(
            "{} {} {} {one} {two}",
            site.runtime_dir().display(),
            site.work_dir().display(),
            site.cgroup().display()
        );
        world.restart_after(None, || {
            let mut agent = Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "the_agent", "--nocapture", "--test-threads", "1"])
                .env(AGENT, told)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("an agent");
            std::thread::sleep(Duration::from_millis(40 + 7 * round));
            assert_eq!(agent.try_wait().expect("an agent"), None, "it ended by itself");
            agent.kill().expect("it runs");
            agent.wait().expect("it was killed");
        });
        world.until("its sessions are gone", || (world.listed() == [one.clone(), two.clone()]).then_some(()));
        for id in [&one, &two] {
            world.until("only what was launched runs", || {
                (world.good("usage", world.containerizer().usage(id)).processes == Some(1)).then_some(())
            });
        }
    }
    // As often as not it was killed while it was paused.
    let handle = world.handle();
    world.good("resume", handle.pause().expect("it can pause").thaw(&two));
    assert!(world.good("kill", world.containerizer().kill(&two, 9)));
    assert_eq!(world.wait(&two).status, Some(9));
}

#[test]
fn an_agent_killed_at_any_moment_leaves_neither_sessions_nor_what_can_not_be_resumed() {
    match ground::lacked().or_else(|| ground::busybox().is_none().then(|| "a static busybox".to_owned())) {
        Some(lacked) => ground::skip(&lacked),
        None => run("an_agent_killed", rounds, &|site: &Site| Subject::new(ground::containerizer(site, &[]))),
    }
}
