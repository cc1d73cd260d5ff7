// SPDX-License-Identifier: Apache-2.0
//! Sessions: further processes in a running container, their streams, and what they can not be used for. Needs root.

mod ground;

use berth_conformance::{Script, Site, Subject, World, run};
use berth_contract::{ExecRequest, ExecSession, LaunchResult, Variables, WindowSize};
use berth_model::{Class, CommandInfo, ContainerConfig, ContainerId};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// On all isolators, with a root file system of busybox.
fn on_this_host(name: &str, test: fn(&mut World<'_>)) {
    match ground::lacked().or_else(|| ground::busybox().is_none().then(|| "a static busybox".to_owned())) {
        Some(lacked) => ground::skip(&lacked),
        None => run(name, test, &|site: &Site| Subject::new(ground::containerizer(site, &[]))),
    }
}

/// A container with a root file system of its own that runs this.
fn config(world: &World<'_>, id: &ContainerId, text: &str) -> ContainerConfig {
    let mut config = world.config(id, &Script::Sleep);
    config.rootfs = Some(ground::rootfs(world.site));
    config.command_info.value = Some(text.to_owned());
    config
}

fn start(world: &World<'_>, id: &ContainerId, config: ContainerConfig) {
    assert_eq!(world.launch(id, config).map_err(|e| e.chain()), Ok(LaunchResult::Success));
}

fn command(text: &str) -> CommandInfo {
    CommandInfo { value: Some(text.to_owned()), shell: true, ..CommandInfo::default() }
}

fn request(text: &str) -> ExecRequest {
    ExecRequest { command: command(text), environment: Variables::new(), terminal: None }
}

fn exec(world: &World<'_>, id: &ContainerId, request: ExecRequest) -> ExecSession {
    let handle = world.handle();
    world.good("exec", handle.exec().expect("it can run further commands").run(id, request))
}

fn refusal(world: &World<'_>, id: &ContainerId, request: ExecRequest) -> (String, Class) {
    let handle = world.handle();
    let answer = handle.exec().expect("it can run further commands").run(id, request);
    match world.answer("exec", answer) {
        Ok(_) => panic!("the session was not refused"),
        Err(error) => (error.to_string(), error.class()),
    }
}

fn text(stream: Option<OwnedFd>) -> String {
    let mut text = String::new();
    let mut file = fs::File::from(stream.expect("the stream"));
    file.read_to_string(&mut text).expect("what it writes");
    text
}

/// What a command writes and how it ends.
fn output(
    world: &World<'_>,
    parent: &ContainerId,
    name: &str,
    request: ExecRequest,
) -> (String, String, Option<i32>) {
    let id = world.child(parent, name);
    let mut session = exec(world, &id, request);
    drop(session.streams.stdin.take());
    let (stdout, stderr) = (text(session.streams.stdout.take()), session.streams.stderr.take());
    let stderr = stderr.map_or_else(String::new, |stream| text(Some(stream)));
    (stdout, stderr, world.wait(&id).status)
}

fn says(world: &World<'_>, parent: &ContainerId, name: &str, line: &str) -> String {
    let (stdout, stderr, status) = output(world, parent, name, request(line));
    assert_eq!((stderr.as_str(), status), ("", Some(0)), "{line}: {stdout}");
    stdout
}

#[test]
fn a_session_is_in_all_of_the_containers_namespaces_and_groups() {
    on_this_host("a_session_is_in_all", |world| {
        let id = world.id("shared");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        for (n, kind) in ["pid", "mnt", "ipc", "uts", "net", "cgroup"].into_iter().enumerate() {
            let line = format!("readlink /proc/1/ns/{kind}; readlink /proc/self/ns/{kind}");
            let both = says(world, &id, &format!("ns{n}"), &line);
            let (first, own) = both.trim().split_once('\n').expect("two links");
            assert_eq!(first, own, "{kind}");
        }
        // Its cgroup namespace is rooted in the container's group, and so is the process: in every hierarchy of ours.
        let groups = says(world, &id, "groups", "cat /proc/self/cgroup");
        let firsts = says(world, &id, "firsts", "cat /proc/1/cgroup");
        // That by which all of it can be ended is below, where there is nothing but the freezer.
        let own = groups.replace("freezer:/groups\n", "freezer:/\n");
        assert_eq!(own.replace("0::/groups/berth.leaf\n", "0::/berth.leaf\n"), firsts);
        assert_ne!(groups, firsts);
        let usage = world.good("usage", world.containerizer().usage(&id));
        assert_eq!(usage.processes, Some(1), "no session is left in the group: {usage:?}");
    });
}

#[test]
fn a_session_is_restrained_as_the_container_is() {
    on_this_host("a_session_is_restrained", |world| {
        let id = world.id("held");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let lines = "^(Cap|NoNewPrivs|Seccomp)";
        let restraints =
            |name: &str, pid: &str| says(world, &id, name, &format!("grep -E '{lines}' /proc/{pid}/status"));
        let (own, first) = (restraints("own", "self"), restraints("first", "1"));
        assert_eq!(own, first);
        assert!(own.contains("CapInh:\t0000000000000000"), "{own}");
        assert!(own.contains("NoNewPrivs:\t1") && own.contains("Seccomp:\t2"), "{own}");
        // Nothing of ours is left open: 3 is the directory that ls reads.
        assert_eq!(says(world, &id, "fds", "exec ls /proc/self/fd"), "0\n1\n2\n3\n");
        // The sixth word of stat is the session.
        let own = says(world, &id, "sid", "sixth() { echo $6; }; sixth $(cat /proc/$$/stat); echo $$");
        let (session, shell) = own.trim().split_once('\n').expect("two numbers");
        assert_eq!(session, shell);
    });
}

#[test]
fn the_environment_is_the_containers_below_the_requests() {
    on_this_host("the_environment", |world| {
        let id = world.id("env");
        let mut config = config(world, &id, "exec sleep 1000");
        world.set_variable(&mut config, "OWN", "container");
        world.set_variable(&mut config, "BOTH", "container");
        let given = Variables::from([("GIVEN".to_owned(), "caller".to_owned())]);
        let launched = world.containerizer().launch(&id, config, given, None);
        assert_eq!(world.good("launch", launched), LaunchResult::Success);
        // The record has it: an agent that comes after knows it too.
        world.restart(None);
        let mut request = request("echo $OWN $BOTH $GIVEN $NEW $MESOS_SANDBOX $HOME; pwd");
        request.environment.insert("BOTH".to_owned(), "session".to_owned());
        request.environment.insert("NEW".to_owned(), "session".to_owned());
        let (stdout, _, _) = output(world, &id, "s", request);
        assert_eq!(stdout, "container session caller session /mnt/mesos/sandbox /root\n/mnt/mesos/sandbox\n");
    });
}

#[test]
fn the_user_is_the_containers_unless_the_command_names_one() {
    on_this_host("the_user", |world| {
        let id = world.id("user");
        let mut config = config(world, &id, "exec sleep 1000");
        config.user = Some("bob".to_owned());
        start(world, &id, config);
        assert_eq!(says(world, &id, "own", "id -u; id -G; echo $HOME"), "1000\n1000 50\n/home/bob\n");
        let mut root = request("id -u; grep CapEff /proc/self/status");
        root.command.user = Some("0".to_owned());
        let (stdout, _, _) = output(world, &id, "root", root);
        assert!(stdout.starts_with("0\nCapEff:\t00000000a0"), "{stdout}");
        // What it writes is its own, by its name too.
        assert_eq!(says(world, &id, "open", "echo opened > /dev/stdout"), "opened\n");
        for (name, user) in [("none", "nobody-here"), ("huge", "4294967296")] {
            let mut unknown = request("true");
            unknown.command.user = Some(user.to_owned());
            let (text, _) = refusal(world, &world.child(&id, name), unknown);
            assert!(text.contains(user), "{text}");
        }
    });
}

#[test]
fn input_ends_when_its_writer_closes_it_and_output_is_told_apart() {
    on_this_host("input_ends", |world| {
        let id = world.id("input");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let session_id = world.child(&id, "cat");
        let mut session = exec(world, &session_id, request("cat; echo oops >&2; exit 7"));
        let mut stdin = fs::File::from(session.streams.stdin.take().expect("stdin"));
        let (big, stdout) = ("0123456789abcde\n".repeat(64 * 1024), session.streams.stdout.take());
        let read = std::thread::spawn(move || text(stdout));
        stdin.write_all(big.as_bytes()).expect("it is read");
        drop(stdin);
        assert_eq!(read.join().expect("it is read"), big);
        assert_eq!(text(session.streams.stderr.take()), "oops\n");
        assert_eq!(world.wait(&session_id).status, Some(7 << 8));
        let status = world.good("usage", world.containerizer().usage(&id)).processes;
        assert_eq!(status, Some(1));
    });
}

#[test]
fn a_terminal_loses_nothing_and_has_its_size() {
    on_this_host("a_terminal_loses_nothing", |world| {
        let id = world.id("tty");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let terminal = Some(WindowSize { rows: 31, columns: 97 });
        let session_id = world.child(&id, "pty");
        let request =
            ExecRequest { terminal, ..request("stty size; tty; test -t 2 && echo yes; seq 1 40000; cat") };
        let mut session = exec(world, &session_id, request);
        assert!(session.streams.stderr.is_none());
        // More than all buffers take is written before anybody reads.
        std::thread::sleep(Duration::from_millis(50));
        let mut stdin = fs::File::from(session.streams.stdin.take().expect("stdin"));
        stdin.write_all(b"typed\n\x04").expect("it is read");
        let all = text(session.streams.stdout.take()).replace("\r\n", "\n");
        // The terminal shows what is typed when it is, also before the program's first words on a slow machine; and letter by
        // letter where it has no room for more, so that a number comes in between.
        let said = all.replace("typed\n", "");
        let (start, after) = said.split_at(said.find("1\n2\n").expect("the numbers"));
        assert!(start.starts_with("31 97\n/dev/pts/") && start.ends_with("\nyes\n"), "{start:?}");
        let numbers: String = (1..=40_000).map(|n| format!("{n}\n")).collect();
        let only =
            |text: &str, wanted: fn(char) -> bool| text.chars().filter(|c| wanted(*c)).collect::<String>();
        let split = only(after, |c| c.is_ascii_alphabetic());
        let last = &after[after.len().saturating_sub(60)..];
        assert!(split.is_empty() || split == "typed", "{split}, {last:?}");
        if split.is_empty() {
            assert_eq!(after.len(), numbers.len(), "{last:?}");
            assert_eq!(after, numbers);
        } else {
            let digit = |c: char| c.is_ascii_digit();
            assert_eq!(only(after, digit), only(&numbers, digit));
            assert_eq!(after.matches('\n').count(), 40_001, "{last:?}");
        }
        let letters = only(&all, |c| c.is_ascii_alphabetic());
        assert_eq!(letters.matches("typed").count(), 2, "its echo, and what cat says");
        assert_eq!(world.wait(&session_id).status, Some(0));
    });
}

#[test]
fn a_program_that_can_not_be_executed_is_told_by_its_class_and_leaves_nothing() {
    on_this_host("a_program_that_can_not_be_executed", |world| {
        let id = world.id("fails");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let run = |path: &str| {
            let command =
                CommandInfo { value: Some(path.to_owned()), shell: false, ..CommandInfo::default() };
            refusal(world, &world.child(&id, "s"), ExecRequest { command, ..request("") })
        };
        let (text, class) = run("/no/such/program");
        assert!(text.starts_with("can not execute \"/no/such/program\" in the container"), "{text}");
        assert_eq!(class, Class::NotFound);
        assert_eq!(run("/etc/passwd").1, Class::Denied);
        world.lists(&[&id]);
        let left: Vec<_> =
            fs::read_dir(world.site.runtime_dir().join("containers")).expect("records").collect();
        assert_eq!(left.len(), 2, "the door and the container: {left:?}");
    });
}

#[test]
fn sessions_go_before_their_container() {
    on_this_host("sessions_go_before", |world| {
        let id = world.id("parent");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let ids = ["a", "b"].map(|name| world.child(&id, name));
        let sessions = ids.each_ref().map(|id| exec(world, id, request("exec sleep 1000")));
        world.lists(&[&id, &ids[0], &ids[1]]);
        let waits = ids.each_ref().map(|id| world.containerizer().wait(id));
        let ended = world.good("destroy", world.containerizer().destroy(&id)).expect("it was known");
        assert_eq!(ended.status, Some(9));
        for wait in waits {
            assert_eq!(world.good("wait", wait).and_then(|ended| ended.status), Some(9));
        }
        drop(sessions);
        let (text, class) = refusal(world, &world.child(&id, "late"), request("true"));
        assert_eq!((text, class), (format!("Parent container {id} does not exist"), Class::NotFound));
        // Removing the container takes what is remembered of its sessions along.
        world.good("remove", world.containerizer().remove(&id));
        assert_eq!(world.good("wait", world.containerizer().wait(&ids[0])), None);
    });
}

#[test]
fn a_container_that_ends_by_itself_takes_its_sessions_along() {
    on_this_host("a_container_that_ends_by_itself", |world| {
        let id = world.id("brief");
        start(
            world,
            &id,
            config(world, &id, "while ! test -e /mnt/mesos/sandbox/end; do sleep 0.01; done; exit 4"),
        );
        let session = world.child(&id, "s");
        let held = exec(world, &session, request("exec sleep 1000"));
        fs::write(world.sandbox(&id).join("end"), "").expect("the sandbox");
        assert_eq!(world.wait(&id).status, Some(4 << 8));
        assert_eq!(world.wait(&session).status, Some(9));
        drop(held);
    });
}

#[test]
fn an_agent_that_comes_after_ends_the_sessions_of_the_one_before() {
    on_this_host("an_agent_that_comes_after", |world| {
        let id = world.id("goes-on");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let session = world.child(&id, "s");
        let _held = exec(world, &session, request("exec sleep 1000"));
        world.restart(None);
        world.until("the session is gone", || (world.listed() == [id.clone()]).then_some(()));
        world.until("its process is gone", || {
            (world.good("usage", world.containerizer().usage(&id)).processes == Some(1)).then_some(())
        });
        assert_eq!(says(world, &id, "new", "echo still here"), "still here\n");
        assert!(world.good("kill", world.containerizer().kill(&id, 9)));
        assert_eq!(world.wait(&id).status, Some(9));
    });
}

#[test]
fn what_a_session_can_not_have_is_refused() {
    on_this_host("what_a_session_can_not_have", |world| {
        let id = world.id("refuses");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let session = world.child(&id, "s");
        let held = exec(world, &session, request("exec sleep 1000"));
        assert_eq!(refusal(world, &session, request("true")).1, Class::Conflict);
        let inner = world.child(&session, "inner");
        assert_eq!(refusal(world, &inner, request("true")).1, Class::Unsupported);
        assert_eq!(refusal(world, &world.id("top"), request("true")).1, Class::Invalid);
        let long = ContainerId::nested(id.clone(), "x".repeat(240)).expect("an id");
        assert_eq!(refusal(world, &long, request("true")).1, Class::Invalid);
        let update = world.containerizer().update(&session, Default::default(), Default::default());
        assert_eq!(world.answer("update", update).map_err(|e| e.class()), Err(Class::Unsupported));
        assert_eq!(
            world.failure("remove", world.containerizer().remove(&session)),
            "Nested container has not terminated yet"
        );
        assert!(world.good("kill", world.containerizer().kill(&session, 15)));
        assert_eq!(world.wait(&session).status, Some(15));
        drop(held);
    });
}

#[test]
fn of_many_ended_sessions_the_newest_are_remembered() {
    on_this_host("of_many_ended_sessions", |world| {
        let id = world.id("many");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let ids: Vec<ContainerId> = (0..40).map(|n| world.child(&id, &format!("s{n}"))).collect();
        for id in &ids {
            let held = exec(world, id, request("exit 3"));
            assert_eq!(world.wait(id).status, Some(3 << 8));
            drop(held);
        }
        world.until("the first is forgotten", || {
            world.good("wait", world.containerizer().wait(&ids[0])).is_none().then_some(())
        });
        assert_eq!(world.wait(&ids[39]).status, Some(3 << 8));
    });
}

/// CVE-2016-9962, CVE-2019-5736: whoever is in the container looks at every process that comes, as fast as it can.
#[test]
fn nothing_of_a_session_in_the_making_can_be_looked_at_from_inside() {
    on_this_host("nothing_of_a_session", |world| {
        let id = world.id("spy");
        let mut config = config(world, &id, "exec /bin/spy --exact the_spy --nocapture --test-threads 1");
        world.set_variable(&mut config, SPY, "1");
        let program = std::env::current_exe().expect("this program");
        fs::copy(program, ground::rootfs(world.site).join("bin/spy")).expect("room for it");
        start(world, &id, config);
        world.file(&id, "ready");
        let until = Instant::now() + Duration::from_secs(3);
        let mut n = 0;
        while Instant::now() < until {
            let session = world.child(&id, &format!("s{n}"));
            let held = exec(world, &session, request("exec true"));
            assert_eq!(world.wait(&session).status, Some(0));
            drop(held);
            n += 1;
        }
        let sandbox = world.sandbox(&id);
        let found = |name: &str| fs::read_to_string(sandbox.join(name)).unwrap_or_default();
        assert_eq!(found("seen"), "", "after {n} sessions");
        assert!(found("met").len() > 1, "it never met one in the making, in {n} sessions");
    });
}

/// Makes the next one a spy.
const SPY: &str = "BERTH_TEST_SPY";

/// Not a test but what runs in a container of the one above.
#[test]
fn the_spy() {
    if std::env::var_os(SPY).is_none() {
        return;
    }
    let note = |name: &str, text: String| {
        let path = format!("/mnt/mesos/sandbox/{name}");
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        writeln!(file.expect("the sandbox"), "{text}").expect("the sandbox");
    };
    note("ready", String::new());
    // The first is this program's shell, or itself.
    let own = ["1".to_owned(), std::process::id().to_string()];
    loop {
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if !pid.bytes().all(|b| b.is_ascii_digit()) || own.contains(&pid) {
                continue;
            }
            let at = |name: &str| format!("/proc/{pid}/{name}");
            let comm = || fs::read_to_string(at("comm")).unwrap_or_default();
            let before = comm();
            // What it is once it has executed is the container's own.
            if matches!(before.trim(), "" | "sh" | "true" | "busybox") {
                continue;
            }
            let links = ["exe", "cwd", "root"].map(|name| (name.to_owned(), fs::read_link(at(name)).ok()));
            let fds = fs::read_dir(at("fd")).into_iter().flatten().flatten();
            let fds = fds.map(|fd| (format!("{:?}", fd.file_name()), fs::read_link(fd.path()).ok()));
            let mut seen: Vec<_> = links.into_iter().chain(fds).filter(|(_, link)| link.is_some()).collect();
            if fs::File::open(at("mem")).is_ok() {
                seen.push(("mem".to_owned(), None));
            }
            if comm() == before {
                note("met", before.clone());
                for (name, link) in seen {
                    note("seen", format!("{} {name} {link:?}", before.trim()));
                }
            }
        }
    }
}

/// CVE-2024-21626: the working directory leads through a descriptor of whoever enters.
#[test]
fn a_working_directory_that_leads_through_a_descriptor_is_refused() {
    on_this_host("a_working_directory", |world| {
        for number in [3, 5, 7, 9] {
            let id = world.id(&format!("cwd{number}"));
            // On the host's root file system the sandbox has its own path, and is the container's to replace.
            let mut config = world.config(&id, &Script::Sleep);
            let sandbox = world.sandbox(&id);
            let away = sandbox.with_extension("away");
            config.command_info.value = Some(format!(
                "mv {0} {1} && ln -s /proc/self/fd/{number} {0} && : > {1}/ready; exec sleep 1000",
                sandbox.display(),
                away.display()
            ));
            start(world, &id, config);
            world.until("it is replaced", || fs::read(away.join("ready")).ok());
            let (text, _) = refusal(world, &world.child(&id, "s"), request("pwd; ls"));
            assert!(text.contains("working directory"), "{text}");
            let _ = fs::remove_file(&sandbox);
            fs::rename(&away, &sandbox).expect("it is there");
        }
    });
}

/// A container that is ended while commands come into it leaves nothing, whoever was first.
#[test]
fn destroys_and_sessions_at_once_leave_nothing() {
    on_this_host("destroys_and_sessions_at_once", |world| {
        for round in 0..12 {
            let id = world.id(&format!("race{round}"));
            start(world, &id, config(world, &id, "exec sleep 1000"));
            let handle = world.handle();
            let exec = handle.exec().expect("it can run further commands");
            let ids: Vec<ContainerId> = (0..4).map(|n| world.child(&id, &format!("s{n}"))).collect();
            let runs: Vec<_> = ids.iter().map(|id| exec.run(id, request("exec sleep 1000"))).collect();
            std::thread::sleep(Duration::from_micros(700 * round));
            let destroy = world.containerizer().destroy(&id);
            assert_eq!(world.good("destroy", destroy).and_then(|ended| ended.status), Some(9));
            for run in runs {
                // One or the other: what matters is that nothing is left.
                let _ = world.answer("exec", run);
            }
            world.lists(&[]);
        }
    });
}
