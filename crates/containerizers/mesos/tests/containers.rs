// SPDX-License-Identifier: Apache-2.0
//! What the native containerizer promises beyond the contract: limits, output, users, and the texts of its failures.
//! Needs root.

mod ground;

use berth_conformance::{Script, Site, Subject, World, run};
use berth_contract::{AgentState, LaunchResult, Limits, Variables};
use berth_model::{
    ContainerConfig, ContainerId, ContainerInfo, ContainerType, RLimit, RLimitInfo, RLimitType, Reason,
    Resources, TaskState, Uri,
};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Runs a test on a site, and looks for what it leaves; or says why not.
fn on_this_host(name: &str, test: fn(&mut World<'_>)) {
    on(name, test, &["namespaces/pid"]);
}

fn on(name: &str, test: fn(&mut World<'_>), without: &'static [&'static str]) {
    match ground::lacked() {
        Some(lacked) => ground::skip(&lacked),
        None => run(name, test, &|site: &Site| Subject::new(ground::containerizer(site, without))),
    }
}

fn shell(world: &World<'_>, id: &ContainerId, text: &str) -> ContainerConfig {
    let mut config = world.config(id, &Script::Exit(0));
    config.command_info.value = Some(text.to_owned());
    config
}

fn launched(world: &World<'_>, id: &ContainerId, config: ContainerConfig) {
    assert_eq!(world.launch(id, config).map_err(|e| e.chain()), Ok(LaunchResult::Success));
}

fn failure(world: &World<'_>, id: &ContainerId, config: ContainerConfig) -> String {
    match world.launch(id, config) {
        Err(error) => error.to_string(),
        Ok(result) => panic!("the launch did not fail: {result:?}"),
    }
}

fn mem(megabytes: f64) -> Limits {
    Limits::from([("mem".to_owned(), megabytes)])
}

#[test]
fn a_container_over_its_memory_limit_ends_with_that_reason_and_it_is_kept() {
    on_this_host("a_container_over_its_memory_limit", |world| {
        let id = world.id("greedy");
        // tail keeps its last line, and that never ends.
        let mut config = shell(world, &id, "exec tail /dev/zero");
        config.limits = mem(32.0);
        launched(world, &id, config);
        let ended = world.wait(&id);
        assert_eq!((ended.status, ended.state), (Some(9), Some(TaskState::Failed)));
        assert_eq!(ended.reason, Some(Reason::ContainerLimitationMemory));
        let message = ended.message.clone().unwrap_or_default();
        assert!(message.starts_with("Memory limit exceeded: Requested: 32MB Maximum Used: "), "{message}");
        assert!(ended.limited_resources.mem().is_some());
        world.restart(None);
        assert_eq!(world.wait(&id), ended);
    });
}

#[test]
fn an_update_replaces_all_limits_and_usage_shows_them() {
    on_this_host("an_update_replaces_all_limits", |world| {
        let id = world.id("limited");
        let mut config = world.config(&id, &Script::Sleep);
        config.limits = mem(64.0);
        config.limits.insert("cpus".to_owned(), 0.5);
        config.limits.insert("pids".to_owned(), 50.0);
        launched(world, &id, config);
        let usage = || world.good("usage", world.containerizer().usage(&id));
        let before = usage();
        assert_eq!((before.mem_limit_bytes, before.cpus_limit), (Some(64 << 20), Some(0.5)));
        assert!(before.mem_total_bytes.is_some_and(|bytes| bytes > 0), "{before:?}");
        assert!(before.processes.is_some_and(|processes| processes >= 1), "{before:?}");
        let update =
            |limits| world.answer("update", world.containerizer().update(&id, Resources::default(), limits));
        assert_eq!(update(mem(48.0)).map_err(|e| e.chain()), Ok(()));
        let after = usage();
        assert_eq!((after.mem_limit_bytes, after.cpus_limit), (Some(48 << 20), None));
        let refused = update(Limits::from([("gpus".to_owned(), 1.0)]));
        assert!(refused.is_err_and(|error| error.to_string().contains("gpus")));
        assert_eq!(update(Limits::new()).map_err(|e| e.chain()), Ok(()));
        assert_eq!(usage().mem_limit_bytes, None);
    });
}

#[test]
fn output_is_in_the_sandbox_and_belongs_to_the_user_with_it() {
    on_this_host("output_is_in_the_sandbox", |world| {
        let id = world.id("user");
        let mut config = world.config(&id, &Script::Exit(0));
        config.user = Some("65534".to_owned());
        config.command_info.shell = false;
        config.command_info.value = Some("/bin/sh".to_owned());
        config.command_info.arguments =
            ["sh", "-c", "id -u; pwd; echo \"$MESOS_SANDBOX\"; echo oops >&2; touch mine"]
                .map(str::to_owned)
                .into();
        launched(world, &id, config);
        assert_eq!(world.wait(&id).status, Some(0));
        let sandbox = world.sandbox(&id);
        let text = |name: &str| fs::read_to_string(sandbox.join(name)).expect("it is in the sandbox");
        let place = sandbox.display();
        assert_eq!(text("stdout"), format!("65534\n{place}\n{place}\n"));
        assert_eq!(text("stderr"), "oops\n");
        for name in ["", "stdout", "stderr", "mine"] {
            assert_eq!(fs::metadata(sandbox.join(name)).expect("it is there").uid(), 65534, "{name}");
        }
    });
}

#[test]
fn a_launch_that_fails_late_can_be_tried_again_in_the_same_sandbox() {
    on_this_host("a_launch_that_fails_late", |world| {
        let id = world.id("again");
        let mut config = world.config(&id, &Script::Exit(0));
        config.command_info.shell = false;
        config.command_info.value = Some("/no/such/program".to_owned());
        let text = failure(world, &id, config);
        assert_eq!(
            text,
            "can not execute \"/no/such/program\" in the container: No such file or directory (os error 2)"
        );
        let ended = world.good("destroy", world.containerizer().destroy(&id)).and_then(|ended| ended.message);
        assert!(ended.as_ref().is_some_and(|message| message.contains(&text)), "{ended:?}");
        launched(world, &id, shell(world, &id, "echo better"));
        world.wait(&id);
        assert_eq!(fs::read_to_string(world.sandbox(&id).join("stdout")).ok().as_deref(), Some("better\n"));
    });
}

#[test]
fn a_step_that_fails_is_named_though_the_launch_was_let_go_already() {
    on_this_host("a_step_that_fails", |world| {
        // Side by side, so that supervisors are late to hear what their children say last.
        let launches: Vec<_> = (0..24)
            .map(|number| {
                let id = world.id(&format!("step{number}"));
                let mut config = world.config(&id, &Script::Exit(0));
                // More than fs.nr_open, which even root does not get, setrlimit(2).
                let limit = RLimit { r#type: RLimitType::Nofile, soft: Some(1 << 40), hard: Some(1 << 40) };
                config.container_info = Some(ContainerInfo {
                    r#type: ContainerType::Mesos,
                    rlimit_info: Some(RLimitInfo { rlimits: vec![limit] }),
                    ..ContainerInfo::default()
                });
                world.containerizer().launch(&id, config, Variables::new(), None)
            })
            .collect();
        for launch in launches {
            let text = world.failure("launch", launch);
            assert!(text.starts_with("isolator posix/rlimits could not "), "{text}");
            assert!(text.ends_with("Operation not permitted (os error 1)"), "{text}");
        }
    });
}

#[test]
fn a_destroy_while_the_container_is_set_up_names_the_phase() {
    if !ground::stalls() {
        return ground::skip("perl, to hold a lease on a file");
    }
    on_this_host("a_destroy_while_the_container_is_set_up", |world| {
        let id = world.id("stalled");
        let mut config = world.config(&id, &Script::Exit(0));
        config.command_info.shell = false;
        config.command_info.value = Some(ground::program_that_can_not_be_opened());
        let launch = world.containerizer().launch(&id, config, Variables::new(), None);
        world.until("there is a process", || {
            world.good("status", world.containerizer().status(&id)).executor_pid
        });
        // There is no program yet that could heed a signal, so this destroys it.
        assert!(world.good("kill", world.containerizer().kill(&id, 15)));
        assert!(world.good("destroy", world.containerizer().destroy(&id)).is_some());
        assert_eq!(world.failure("launch", launch), "Container destroyed during isolating");
        assert_eq!(world.good("wait", world.containerizer().wait(&id)), None);
    });
}

#[test]
fn what_would_be_left_out_in_silence_is_refused() {
    on_this_host("what_would_be_left_out", |world| {
        let id = world.id("uris");
        let mut config = world.config(&id, &Script::Exit(0));
        config.command_info.uris = vec![Uri { value: "http://h/x".to_owned(), ..Uri::default() }];
        assert!(failure(world, &id, config).contains("URIs"));
        world.lists(&[&id]);
    });
}

#[test]
fn what_the_first_process_leaves_behind_ends_with_the_container() {
    on_this_host("what_the_first_process_leaves", |world| {
        let id = world.id("orphans");
        launched(world, &id, shell(world, &id, "sleep 1000 & sleep 1000 & exit 3"));
        // That no process is left is what the ledger looks for.
        assert_eq!(world.wait(&id).status, Some(3 << 8));
    });
}

#[test]
fn a_container_with_a_pid_namespace_ends_whole() {
    let test: fn(&mut World<'_>) = |world| {
        let id = world.id("namespace");
        launched(world, &id, shell(world, &id, "echo $$; sleep 1000 & exec sleep 1000"));
        world.until("it has spoken", || {
            fs::read_to_string(world.sandbox(&id).join("stdout")).ok().filter(|text| text == "1\n")
        });
        let ended = world.good("destroy", world.containerizer().destroy(&id));
        assert_eq!(ended.and_then(|ended| ended.status), Some(9));
    };
    on("a_container_with_a_pid_namespace", test, &[]);
}

/// The parent of a process: of a container's first one, the supervisor.
fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    rest.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok()).expect("a parent")
}

/// Whether a pidfd tells the status of what another reaped (PIDFD_INFO_EXIT, Linux 6.15).
fn kernel_tells_exits() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the version of the kernel");
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

#[test]
fn a_supervisor_that_is_killed_takes_its_container_along_and_the_status_is_known_if_the_kernel_tells() {
    on_this_host("a_supervisor_that_is_killed", |world| {
        for adopted in [false, true] {
            let id = world.id(if adopted { "adopted" } else { "launched" });
            world.start(&id, &Script::Sleep);
            if adopted {
                world.restart(Some(AgentState::default()));
            }
            let pid = world.good("status", world.containerizer().status(&id)).executor_pid.expect("a pid");
            (world.signal())(parent(pid), 9);
            let ended = world.wait(&id);
            assert_eq!(ended.status, kernel_tells_exits().then_some(9), "{ended:?}");
        }
    });
}
