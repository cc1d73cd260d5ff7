// SPDX-License-Identifier: Apache-2.0
//! Containers in containers: what they share with those around them and what is their own, and how trees end. Needs root.

mod ground;

use berth_conformance::{Script, Site, Subject, World, run};
use berth_contract::{AgentState, ExecRequest, LaunchResult, Limits, Variables, What};
use berth_model::{
    Class, CommandInfo, ContainerConfig, ContainerId, ContainerInfo, IpcMode, LinuxInfo, NetworkInfo,
    Resources, SandboxPath, SandboxPathType, Volume, VolumeMode, VolumeSource, VolumeSourceType,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// On all isolators, with a root file system of busybox.
fn on_this_host(name: &str, test: fn(&mut World<'_>)) {
    match ground::lacked().or_else(|| ground::busybox().is_none().then(|| "a static busybox".to_owned())) {
        Some(lacked) => ground::skip(&lacked),
        None => run(name, test, &|site: &Site| Subject::new(ground::containerizer(site, &[]))),
    }
}

/// A container that runs this, in the root file system of the one around it or of the host.
fn plain(world: &World<'_>, id: &ContainerId, text: &str) -> ContainerConfig {
    let mut config = world.config(id, &Script::Sleep);
    config.command_info.value = Some(text.to_owned());
    config
}

/// The same with a root file system of its own.
fn rooted(world: &World<'_>, id: &ContainerId, text: &str) -> ContainerConfig {
    ContainerConfig { rootfs: Some(ground::rootfs(world.site)), ..plain(world, id, text) }
}

fn linux(change: impl FnOnce(&mut LinuxInfo)) -> Option<ContainerInfo> {
    let mut linux = LinuxInfo::default();
    change(&mut linux);
    Some(ContainerInfo { linux_info: Some(linux), ..ContainerInfo::default() })
}

fn start(world: &World<'_>, id: &ContainerId, config: ContainerConfig) {
    assert_eq!(world.launch(id, config).map_err(|e| e.chain()), Ok(LaunchResult::Success));
}

fn refusal(world: &World<'_>, id: &ContainerId, config: ContainerConfig) -> (String, Class) {
    let refused = match world.launch(id, config) {
        Err(error) => (error.chain(), error.class()),
        Ok(result) => panic!("the launch did not fail: {result:?}"),
    };
    world.good("destroy", world.containerizer().destroy(id));
    refused
}

/// What a container wrote when it has ended well.
fn said(world: &World<'_>, id: &ContainerId) -> String {
    let ended = world.wait(id);
    let output = |name: &str| fs::read_to_string(world.sandbox(id).join(name)).expect("its output");
    assert_eq!(ended.status, Some(0), "{}", output("stderr"));
    output("stdout")
}

/// What a further container in this one says.
fn says(world: &World<'_>, id: &ContainerId, config: ContainerConfig) -> String {
    start(world, id, config);
    said(world, id)
}

fn pid(world: &World<'_>, id: &ContainerId) -> u32 {
    world.good("status", world.containerizer().status(id)).executor_pid.expect("it runs")
}

fn namespace(pid: u32, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
    link.display().to_string()
}

/// The namespaces that two containers have in common.
fn common(world: &World<'_>, one: &ContainerId, other: &ContainerId) -> Vec<&'static str> {
    let (one, other) = (pid(world, one), pid(world, other));
    ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
        .into_iter()
        .filter(|kind| namespace(one, kind) == namespace(other, kind))
        .collect()
}

#[test]
fn what_a_nested_container_shares_is_what_the_table_says() {
    on_this_host("what_a_nested_container_shares", |world| {
        let parent = world.id("parent");
        start(world, &parent, rooted(world, &parent, "exec sleep 1000"));
        let child = |name: &str| world.child(&parent, name);
        let with = |name: &str, config: ContainerConfig| {
            let id = child(name);
            start(world, &id, config);
            common(world, &parent, &id)
        };
        let sleeps = "exec sleep 1000";
        assert_eq!(with("plain", plain(world, &child("plain"), sleeps)), ["cgroup", "ipc", "net", "uts"]);
        assert_eq!(with("rooted", rooted(world, &child("rooted"), sleeps)), ["ipc", "net", "uts"]);

        let mut config = plain(world, &child("seen"), sleeps);
        config.container_info = linux(|linux| linux.share_pid_namespace = Some(true));
        assert_eq!(with("seen", config), ["cgroup", "ipc", "net", "pid", "uts"]);

        let mut config = rooted(world, &child("apart"), sleeps);
        config.container_info = linux(|linux| linux.ipc_mode = Some(IpcMode::Private));
        config.container_info.as_mut().unwrap().network_infos =
            vec![NetworkInfo { name: Some("none".to_owned()), ..NetworkInfo::default() }];
        assert_eq!(with("apart", config), [""; 0]);

        let mut config = rooted(world, &child("named"), sleeps);
        let hostname = Some("front".to_owned());
        config.container_info = Some(ContainerInfo { hostname, ..ContainerInfo::default() });
        assert_eq!(with("named", config), ["ipc", "net"]);

        // The parent sees all of them among its processes.
        for name in ["plain", "rooted", "seen", "apart", "named"] {
            let status = fs::read_to_string(format!("/proc/{}/status", pid(world, &child(name)))).unwrap();
            let numbers = status.lines().find(|line| line.starts_with("NSpid:")).unwrap().split_whitespace();
            assert_eq!(numbers.count() - 1, if name == "seen" { 2 } else { 3 }, "{name}");
        }
    });
}

#[test]
fn without_an_image_a_nested_container_is_in_its_parents_root_with_a_sandbox_and_processes_of_its_own() {
    on_this_host("in_its_parents_root", |world| {
        let parent = world.id("parent");
        let text = "echo ours > /mine; touch \"$MESOS_SANDBOX/up\"; exec sleep 1000";
        start(world, &parent, rooted(world, &parent, text));
        world.file(&parent, "up");
        let child = world.child(&parent, "child");
        let text = "cat /mine; pwd; echo $$; ls /proc | grep -c '^[0-9]'; ls; echo x > /theirs; touch mine";
        let said = says(world, &child, plain(world, &child, text));
        // The shell, ls and grep.
        assert_eq!(said, "ours\n/mnt/mesos/sandbox\n1\n3\nstderr\nstdout\n");
        assert!(world.sandbox(&child).join("mine").is_file());
        let inner = world.child(&child, "inner");
        let parents = world.child(&parent, "again");
        assert_eq!(says(world, &parents, plain(world, &parents, "cat /theirs")), "x\n");
        assert!(refusal(world, &inner, plain(world, &inner, "true")).0.contains("does not exist"));
    });
}

#[test]
fn on_the_hosts_root_a_nested_container_starts_in_its_sandbox_and_through_no_link() {
    on_this_host("on_the_hosts_root", |world| {
        let parent = world.id("parent");
        start(world, &parent, plain(world, &parent, "exec sleep 1000"));
        let child = world.child(&parent, "child");
        let said = says(world, &child, plain(world, &child, "pwd; echo $MESOS_SANDBOX; echo $$"));
        let place = world.sandbox(&child);
        assert_eq!(said, format!("{0}\n{0}\n1\n", place.display()));
        // What a parent could do.
        let elsewhere = world.site.sandboxes().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let other = world.child(&parent, "other");
        let containers = world.sandbox(&parent).join("containers");
        fs::rename(&containers, containers.with_file_name("moved")).unwrap();
        symlink(&elsewhere, &containers).unwrap();
        let (text, _) = refusal(world, &other, plain(world, &other, "true"));
        assert!(text.contains("make the sandbox"), "{text}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing was made through the link");
        fs::create_dir(elsewhere.join("child")).unwrap();
        world.good("remove", world.containerizer().remove(&child));
        assert!(elsewhere.join("child").is_dir(), "nothing was removed through the link");
        fs::remove_dir_all(&elsewhere).unwrap();
        fs::remove_file(&containers).unwrap();
        fs::rename(containers.with_file_name("moved"), &containers).unwrap();
    });
}

#[test]
fn limits_of_its_own_hold_below_the_parents_and_are_changed_alone() {
    on_this_host("limits_of_its_own", |world| {
        let mem = |megabytes: f64| Limits::from([("mem".to_owned(), megabytes)]);
        let parent = world.id("parent");
        let mut config = rooted(world, &parent, "exec sleep 1000");
        config.limits = mem(256.0);
        start(world, &parent, config);
        let greedy = world.child(&parent, "greedy");
        let mut config = rooted(world, &greedy, "exec tail /dev/zero");
        config.command_info.value = Some("exec /bin/busybox tail /dev/zero".to_owned());
        config.limits = mem(16.0);
        start(world, &greedy, config);
        let ended = world.wait(&greedy);
        assert_eq!(ended.status, Some(9));
        let message = ended.message.clone().unwrap_or_default();
        assert!(message.starts_with("Memory limit exceeded: Requested: 16MB"), "{message}");

        let own = world.child(&parent, "own");
        let mut config = plain(world, &own, "exec sleep 1000");
        config.limits = mem(32.0);
        config.limits.insert("pids".to_owned(), 20.0);
        start(world, &own, config);
        let usage = |id: &ContainerId| world.good("usage", world.containerizer().usage(id));
        assert_eq!(usage(&own).mem_limit_bytes, Some(32 << 20));
        let update = |id: &ContainerId, limits| {
            world.answer("update", world.containerizer().update(id, Resources::default(), limits))
        };
        assert_eq!(update(&own, mem(48.0)).map_err(|e| e.chain()), Ok(()));
        assert_eq!(
            (usage(&own).mem_limit_bytes, usage(&parent).mem_limit_bytes),
            (Some(48 << 20), Some(256 << 20))
        );

        let shared = world.child(&parent, "shared");
        start(world, &shared, plain(world, &shared, "exec sleep 1000"));
        assert_eq!((usage(&shared).mem_limit_bytes, usage(&shared).processes), (None, Some(1)));
        let error = update(&shared, mem(8.0)).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
        // What it uses counts as the parent's.
        assert!(usage(&parent).processes >= Some(3), "{:?}", usage(&parent).processes);

        let both = world.child(&parent, "both");
        let mut config = plain(world, &both, "true");
        config.limits = mem(8.0);
        config.container_info = linux(|linux| linux.share_cgroups = Some(true));
        assert!(refusal(world, &both, config).0.contains("share_cgroups"));
    });
}

#[test]
fn a_volume_of_the_parents_sandbox_is_shared_by_those_in_it() {
    on_this_host("a_volume_of_the_parents_sandbox", |world| {
        let parent = world.id("parent");
        start(world, &parent, rooted(world, &parent, "exec sleep 1000"));
        let with_volume = |id: &ContainerId, kind, text: &str| {
            let sandbox_path = Some(SandboxPath { r#type: kind, path: "shared/data".to_owned() });
            let source = VolumeSource {
                r#type: VolumeSourceType::SandboxPath,
                sandbox_path,
                ..VolumeSource::default()
            };
            let volume = Volume {
                mode: VolumeMode::Rw,
                container_path: "/data".to_owned(),
                source: Some(source),
                ..Volume::default()
            };
            let mut config = rooted(world, id, text);
            config.container_info = Some(ContainerInfo { volumes: vec![volume], ..ContainerInfo::default() });
            config
        };
        let (one, two) = (world.child(&parent, "one"), world.child(&parent, "two"));
        says(world, &one, with_volume(&one, SandboxPathType::Parent, "echo word > /data/file"));
        assert_eq!(says(world, &two, with_volume(&two, SandboxPathType::Parent, "cat /data/file")), "word\n");
        assert!(world.sandbox(&parent).join("shared/data/file").is_file());
        let top = world.id("top");
        let (text, class) = refusal(world, &top, with_volume(&top, SandboxPathType::Parent, "true"));
        assert_eq!(class, Class::Invalid);
        assert_eq!(text, "SANDBOX_PATH volume PARENT type only works for nested container");
    });
}

#[test]
fn the_parents_user_is_that_of_what_is_in_it_and_commands_can_be_run_in_both() {
    on_this_host("the_parents_user", |world| {
        let parent = world.id("parent");
        let mut config = rooted(world, &parent, "exec sleep 1000");
        config.user = Some("bob".to_owned());
        start(world, &parent, config);
        let child = world.child(&parent, "child");
        start(world, &child, plain(world, &child, "id -u; touch mine; exec sleep 1000"));
        world.file(&child, "mine");
        assert_eq!(world.file(&child, "stdout"), "1000\n");
        assert_eq!(fs::metadata(world.sandbox(&child)).unwrap().uid(), 1000);
        let handle = world.handle();
        let exec = handle.exec().expect("it can run further commands");
        let request = |text: &str| ExecRequest {
            command: CommandInfo { value: Some(text.to_owned()), shell: true, ..CommandInfo::default() },
            environment: Variables::new(),
            terminal: None,
        };
        let session = world.child(&child, "session");
        let held = world.good("exec", exec.run(&session, request("test -e mine && test $(id -u) = 1000")));
        assert_eq!(world.wait(&session).status, Some(0));
        drop(held);
        // It is counted as what it runs in, and ends with it.
        let long = world.child(&child, "long");
        let held = world.good("exec", exec.run(&long, request("exec sleep 1000")));
        let usage = world.good("usage", world.containerizer().usage(&child));
        assert_eq!(usage.processes, Some(2));
        world.good("destroy", world.containerizer().destroy(&parent));
        assert_eq!((world.wait(&long).status, world.wait(&child).status), (Some(9), Some(9)));
        drop(held);
    });
}

#[test]
fn a_tree_ends_from_the_inside_out() {
    on_this_host("a_tree_ends_from_the_inside_out", |world| {
        let a = world.id("a");
        start(world, &a, rooted(world, &a, "exec sleep 1000"));
        let (b, c) = (world.child(&a, "b"), world.child(&a, "c"));
        let d = world.child(&b, "d");
        start(world, &b, rooted(world, &b, "exec sleep 1000"));
        start(world, &c, plain(world, &c, "exec sleep 1000"));
        start(world, &d, plain(world, &d, "exec sleep 1000"));
        let mut events = world.containerizer().events(0);
        world.good("destroy", world.containerizer().destroy(&a));
        let mut ended = Vec::new();
        while let Some(next) = events.try_next() {
            if let berth_contract::Next::Event(event) = next
                && matches!(event.what, What::Ended(_))
            {
                ended.push(event.container);
            }
        }
        let at = |id: &ContainerId| ended.iter().position(|ended| ended == id).expect("it has ended");
        assert!(at(&d) < at(&b) && at(&b) < at(&a) && at(&c) < at(&a), "{ended:?}");
        for id in [&a, &b, &c, &d] {
            assert_eq!(world.wait(id).status, Some(9), "{id} is kept");
        }
        // Removed with the one around them.
        world.good("remove", world.containerizer().remove(&a));
        for id in [&a, &b, &c, &d] {
            assert_eq!(world.good("wait", world.containerizer().wait(id)), None);
        }
    });
}

#[test]
fn a_parent_that_ends_by_itself_takes_all_along() {
    on_this_host("a_parent_that_ends_by_itself", |world| {
        let a = world.id("a");
        start(
            world,
            &a,
            rooted(world, &a, "while ! test -e \"$MESOS_SANDBOX/go\"; do sleep 0.05; done; exit 4"),
        );
        let b = world.child(&a, "b");
        let c = world.child(&b, "c");
        start(world, &b, plain(world, &b, "exec sleep 1000"));
        let mut config = plain(world, &c, "exec sleep 1000");
        config.container_info = linux(|linux| linux.share_pid_namespace = Some(true));
        start(world, &c, config);
        fs::write(world.sandbox(&a).join("go"), "").unwrap();
        assert_eq!(world.wait(&a).status, Some(4 << 8));
        assert_eq!((world.wait(&b).status, world.wait(&c).status), (Some(9), Some(9)));
    });
}

#[test]
fn a_tree_is_taken_over_whole_and_what_has_lost_its_parent_ends() {
    on_this_host("a_tree_is_taken_over", |world| {
        let a = world.id("a");
        start(world, &a, rooted(world, &a, "exec sleep 1000"));
        let (b, done) = (world.child(&a, "b"), world.child(&a, "done"));
        let c = world.child(&b, "c");
        start(world, &b, rooted(world, &b, "exec sleep 1000"));
        start(world, &c, plain(world, &c, "exec sleep 1000"));
        start(world, &done, plain(world, &done, "exit 7"));
        assert_eq!(world.wait(&done).status, Some(7 << 8));
        world.restart(Some(AgentState::default()));
        world.lists(&[&a, &b, &c]);
        assert_eq!(world.wait(&done).status, Some(7 << 8), "it is kept until it is removed");
        let handle = world.handle();
        let nesting = handle.nesting().expect("it has nested containers");
        assert_eq!(world.good("children", nesting.children(&a)), std::slice::from_ref(&b));
        let kept = nesting.kept(&done).expect("it is remembered");
        assert_eq!(kept.config.command_info.value.as_deref(), Some("exit 7"));
        drop(handle);
        let first = pid(world, &b);
        world.restart_after(Some(AgentState::default()), || {
            let killed = std::process::Command::new("sh").arg("-c").arg(format!("kill -9 {first}")).status();
            assert!(killed.unwrap().success());
        });
        assert_eq!((world.wait(&b).status, world.wait(&c).status), (Some(9), Some(9)));
        world.lists(&[&a]);
        let again = world.child(&a, "again");
        assert_eq!(says(world, &again, plain(world, &again, "echo up")), "up\n");
    });
}

#[test]
fn what_can_not_be_nested_is_refused() {
    on_this_host("what_can_not_be_nested", |world| {
        let a = world.id("a");
        start(world, &a, rooted(world, &a, "exec sleep 1000"));
        let child = world.child(&a, "child");
        let mut config = plain(world, &child, "true");
        config.container_info = Some(ContainerInfo {
            network_infos: vec![NetworkInfo { name: Some("host".to_owned()), ..NetworkInfo::default() }],
            ..ContainerInfo::default()
        });
        let (text, class) = refusal(world, &child, config);
        assert_eq!(class, Class::Unsupported, "{text}");
        let mut config = plain(world, &child, "true");
        config.command_info.shell = false;
        config.command_info.value = Some("/no/such/program".to_owned());
        refusal(world, &child, config);
        assert!(!world.sandbox(&child).exists(), "a launch that failed leaves nothing");
        let pause = world.handle();
        let pause = pause.pause().expect("it can pause");
        world.good("pause", pause.freeze(&a));
        let (text, class) = refusal(world, &child, plain(world, &child, "true"));
        assert_eq!(class, Class::Conflict, "{text}");
        world.good("resume", pause.thaw(&a));
        let mut deep = a.clone();
        for level in 0..8 {
            deep = world.child(&deep, &format!("l{level}"));
            start(world, &deep, plain(world, &deep, "exec sleep 1000"));
        }
        let deeper = world.child(&deep, "more");
        let (text, class) = refusal(world, &deeper, plain(world, &deeper, "true"));
        assert_eq!((class, text.contains("8 levels")), (Class::Unsupported, true), "{text}");
        // Each of them alone.
        let inner = world.child(&a, "l0");
        world.good("pause", pause.freeze(&inner));
        world.good("destroy", world.containerizer().destroy(&a));
        assert!(Path::new(&world.sandbox(&a)).exists());
    });
}
