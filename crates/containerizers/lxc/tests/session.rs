// SPDX-License-Identifier: Apache-2.0
//! Further commands in LXC's containers, and what containers write, for who attaches: what the suite does not ask.

mod ground;

use std::fs::{self, File};
use std::io::{Read, Write};

use berth_conformance::Site;
use berth_contract::{
    AgentState, Attach, Containerizer, Error, Exec, ExecRequest, ExecSession, Streams, Variables, WindowSize,
};
use berth_lxc::Lxc;
use berth_model::{
    Class, CommandInfo, ContainerConfig, ContainerId, LxcMode, UserNamespace, UserNamespaceMode,
};
use ground::{answer, config, ended, good, id, recovered, settings, start};

/// A site, unless this host lacks something.
fn site(name: &str) -> Option<Site> {
    match ground::lacked() {
        Some(lacked) => {
            ground::skip(&lacked);
            None
        }
        None => Some(Site::new(name).expect("a site")),
    }
}

fn exec(lxc: &Lxc) -> &dyn Exec {
    lxc.exec().expect("the facet")
}

fn attach(lxc: &Lxc) -> &dyn Attach {
    lxc.attach().expect("the facet")
}

fn shell(text: &str) -> ExecRequest {
    let command = CommandInfo { value: Some(text.to_owned()), shell: true, ..CommandInfo::default() };
    ExecRequest { command, environment: Variables::new(), terminal: None }
}

fn session(parent: &ContainerId, name: &str) -> ContainerId {
    ContainerId::nested(parent.clone(), name).expect("an id")
}

fn text(stream: Option<std::os::fd::OwnedFd>) -> String {
    let mut text = String::new();
    File::from(stream.expect("a stream")).read_to_string(&mut text).expect("text");
    text
}

/// Runs text in a container to its end: what it wrote, what it wrote as errors, its status.
fn output(
    lxc: &Lxc,
    parent: &ContainerId,
    name: &str,
    request: ExecRequest,
) -> (String, String, Option<i32>) {
    let id = session(parent, name);
    let ExecSession { streams, .. } = good(exec(lxc).run(&id, request));
    drop(streams.stdin);
    let (stdout, stderr) = (text(streams.stdout), text(streams.stderr));
    let status = ended(lxc, &id).status;
    good(lxc.remove(&id));
    (stdout, stderr, status)
}

fn running(site: &Site, lxc: &Lxc, name: &str, change: impl FnOnce(&mut ContainerConfig)) -> ContainerId {
    let id = id(name);
    let mut config = config(site, &id, "echo first; exec sleep 1000");
    change(&mut config);
    start(lxc, &id, config);
    id
}

#[test]
fn a_command_has_the_containers_namespaces_groups_restraints_and_variables_and_no_descriptor_of_ours() {
    let Some(site) = site("lxc-x-same") else { return };
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "same", |config| {
        config.command_info.environment.variables.push(berth_model::Variable {
            name: "OWN".to_owned(),
            value: Some("the container's".to_owned()),
            ..berth_model::Variable::default()
        });
    });
    let compare = "for n in pid mnt net ipc uts user cgroup; do test $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) || echo $n; done; \
        for p in 1 self; do grep -E '^(Cap|NoNew|Seccomp:)' /proc/$p/status >/tmp/$p; done; cmp /tmp/1 /tmp/self; \
        cat /proc/1/cgroup >/tmp/own; sed 's|/.lxc$|/|' /proc/self/cgroup | diff - /tmp/own";
    assert_eq!(output(&lxc, &id, "compare", shell(compare)), (String::new(), String::new(), Some(0)));

    let mut request = shell("echo \"$OWN, $MORE, $PWD\"; echo error >&2; cat; exit 7");
    request.environment.insert("MORE".to_owned(), "line\nline".to_owned());
    let told = output(&lxc, &id, "variables", request);
    assert_eq!(told.0, "the container's, line\nline, /mnt/mesos/sandbox\n");
    assert_eq!((told.1.as_str(), told.2), ("error\n", Some(7 << 8)));

    // Open on purpose, and not closed when something else is executed: as bad as can be.
    let ours = File::open(site.work_dir()).unwrap();
    berth_sys::rustix::io::fcntl_setfd(&ours, berth_sys::rustix::io::FdFlags::empty()).unwrap();
    let (stdout, ..) = output(&lxc, &id, "descriptors", shell("ls -l /proc/self/fd"));
    let leads: Vec<&str> =
        stdout.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, to)| to).collect();
    assert!(
        !leads.is_empty() && leads.iter().all(|to| to.starts_with("pipe:") || to.starts_with("/proc/")),
        "{stdout}"
    );
    drop(ours);

    let mut request = shell("id -u; cd /; pwd");
    request.command.user = Some("1234".to_owned());
    request.command.working_directory = Some("/".to_owned());
    assert_eq!(output(&lxc, &id, "user", request).0, "1234\n/\n");
    good(lxc.destroy(&id));
}

#[test]
fn what_goes_in_comes_out_until_the_input_is_closed() {
    let Some(site) = site("lxc-x-copy") else { return };
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "copies", |_| {});
    let own = session(&id, "cat");
    let ExecSession { mut streams, .. } = good(exec(&lxc).run(&own, shell("cat")));
    let mut stdin = File::from(streams.stdin.take().unwrap());
    let bytes: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let mut back = Vec::new();
    File::from(streams.stdout.take().unwrap()).read_to_end(&mut back).unwrap();
    writer.join().unwrap().unwrap();
    assert!(back == bytes, "{} bytes came back", back.len());
    assert_eq!(ended(&lxc, &own).status, Some(0));
    good(lxc.destroy(&id));
}

#[test]
fn a_terminal_has_its_size_a_new_size_and_an_end() {
    let Some(site) = site("lxc-x-tty") else { return };
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "terminal", |_| {});
    let own = session(&id, "tty");
    let text = "trap 'stty size; echo resized' WINCH; stty size; echo ready; until test \"$word\" = word; do read -r word; done; echo \"got $word\"; test -t 0 && exit 3";
    let size = |rows, columns| WindowSize { rows, columns };
    let request = ExecRequest { terminal: Some(size(33, 99)), ..shell(text) };
    let ExecSession { mut streams, .. } = good(exec(&lxc).run(&own, request));
    assert!(streams.stderr.is_none(), "on a terminal everything is one stream");
    let mut stdin = File::from(streams.stdin.take().unwrap());
    let mut stdout = File::from(streams.stdout.take().unwrap());
    let mut seen = String::new();
    let mut until = |wanted: &str| {
        let mut room = [0; 4096];
        while !seen.contains(wanted) {
            let count = stdout.read(&mut room).unwrap();
            assert!(count > 0, "{wanted:?} did not come: {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&room[..count]));
        }
        seen.clone()
    };
    assert!(until("ready").contains("33 99"));
    good(attach(&lxc).resize(&own, size(44, 111)));
    // The shell sees to its trap when it has read a line.
    stdin.write_all(b"one\n").unwrap();
    assert!(until("resized").contains("44 111"));
    stdin.write_all(b"word\n").unwrap();
    until("got word");
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(ended(&lxc, &own).status, Some(3 << 8));
    let gone = answer(attach(&lxc).resize(&own, size(1, 1)));
    assert!(gone.is_err_and(|error| error.class() == Class::Conflict));
    good(lxc.destroy(&id));
}

#[test]
fn a_deadly_signal_and_an_exit_are_told_apart_and_signals_reach_the_command_alone() {
    let Some(site) = site("lxc-x-signal") else { return };
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "signals", |_| {});
    let own = session(&id, "traps");
    let ExecSession { mut streams, .. } =
        good(exec(&lxc).run(&own, shell("trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done")));
    let mut ready = [0; 6];
    File::from(streams.stdout.take().unwrap()).read_exact(&mut ready).unwrap();
    assert!(good(lxc.kill(&own, 10)));
    assert_eq!(ended(&lxc, &own).status, Some(5 << 8));
    assert!(!good(lxc.kill(&own, 10)), "it has ended");
    for (number, signal) in [9, 15].into_iter().enumerate() {
        let own = session(&id, &format!("killed{number}"));
        let held = good(exec(&lxc).run(&own, shell("exec sleep 1000")));
        assert!(good(lxc.kill(&own, signal)));
        assert_eq!(ended(&lxc, &own).status, Some(signal), "a signal is no exit with 128 and more");
        drop(held);
    }
    assert_eq!(good(lxc.containers()), std::slice::from_ref(&id));
    let told = output(&lxc, &id, "exits", shell("sleep 0.1; exit 137"));
    assert_eq!(told.2, Some(137 << 8));
    good(lxc.destroy(&id));
}

#[test]
fn what_can_not_be_run_is_refused_with_a_reason() {
    let Some(site) = site("lxc-x-refused") else { return };
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "refuses", |_| {});
    let own = session(&id, "none");
    let plain = |program: &str| {
        let value = Some(program.to_owned());
        let command = CommandInfo {
            value,
            arguments: vec![program.to_owned()],
            shell: false,
            ..CommandInfo::default()
        };
        ExecRequest { command, environment: Variables::new(), terminal: None }
    };
    let refused = |request| answer(exec(&lxc).run(&own, request)).expect_err("it was to be refused").chain();
    let told = refused(plain("no-such-program"));
    assert!(told.contains("no-such-program is not there in /"), "{told}");
    let told = refused(plain("/etc/passwd"));
    assert!(told.contains("/etc/passwd may not be executed"), "{told}");
    let mut request = shell("true");
    request.command.working_directory = Some("/no/such".to_owned());
    let told = refused(request);
    assert!(told.contains("/no/such is no directory"), "{told}");
    let mut request = shell("true");
    request.command.user = Some("nobody-of-that-name".to_owned());
    let told = refused(request);
    assert!(told.contains("nobody-of-that-name"), "{told}");
    // What is found too late for that: a script whose shell is not there, straight from the root directory.
    output(&lxc, &id, "makes", shell("echo '#!/no/such' >/odd; chmod 755 /odd"));
    let mut request = plain("/odd");
    request.command.working_directory = Some("/".to_owned());
    let told = refused(request);
    assert!(told.contains("No such file or directory"), "{told}");
    let pause = lxc.pause().expect("the facet");
    good(pause.freeze(&id));
    let told = refused(shell("true"));
    assert!(told.contains("resume it first"), "{told}");
    good(pause.thaw(&id));
    assert_eq!(output(&lxc, &id, "none", shell("true")).2, Some(0), "the id is free after all that");
    good(lxc.destroy(&id));
}

#[test]
fn commands_of_a_killed_agent_end_with_the_next_one_and_the_container_goes_on() {
    let Some(site) = site("lxc-x-left") else { return };
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "goes-on", |_| {});
    let (plain, terminal) = (session(&id, "plain"), session(&id, "terminal"));
    let first = good(exec(&lxc).run(&plain, shell("exec sleep 2000")));
    let size = Some(WindowSize { rows: 24, columns: 80 });
    let request = ExecRequest { terminal: size, ..shell("exec sleep 3000") };
    let second = good(exec(&lxc).run(&terminal, request));
    let pids = [&plain, &terminal].map(|own| good(lxc.status(own)).executor_pid.expect("a pid"));
    // As a kill does: it has no time to end anything.
    std::mem::forget(lxc);
    let next = Lxc::new(settings(&site), berth_contract::EventLog::default()).unwrap();
    good(next.recover(Some(AgentState::default())));
    assert_eq!(good(next.containers()), std::slice::from_ref(&id));
    for pid in pids {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(
            !line.starts_with(b"sleep"),
            "{pid} goes on: {}",
            fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
        );
    }
    assert_eq!(output(&next, &id, "again", shell("echo again")).0, "again\n");
    drop((first, second));
    good(next.destroy(&id));
}

#[test]
fn an_agent_that_goes_ends_commands_and_leaves_the_container() {
    let Some(site) = site("lxc-x-goes") else { return };
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "stays", |_| {});
    let own = session(&id, "plain");
    let held = good(exec(&lxc).run(&own, shell("exec sleep 2000")));
    drop(lxc);
    let mut nothing = String::new();
    File::from(held.streams.stdout.unwrap()).read_to_string(&mut nothing).unwrap();
    let next = recovered(settings(&site));
    assert_eq!(good(next.containers()), std::slice::from_ref(&id));
    good(next.destroy(&id));
}

#[test]
fn in_a_container_with_mapped_users_a_commands_root_is_nobody_outside() {
    const INSIDE: &str = "BERTH_TEST_WITH_USERS";
    let Some(site) = site("lxc-x-map") else { return };
    if std::env::var_os(INSIDE).is_none() {
        // Where newuidmap is installed, root needs users in two files, which are given in a mount namespace alone.
        let script = "echo root:100000:65536 >\"$2/subid\" && \
            for file in /etc/subuid /etc/subgid; do test ! -e $file || mount --bind \"$2/subid\" $file || exit 1; done; \
            exec \"$1\" --exact --nocapture in_a_container_with_mapped_users_a_commands_root_is_nobody_outside";
        let done = std::process::Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .arg(site.work_dir())
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stdout);
        assert!(
            done.status.success() && told.contains("1 passed"),
            "{told}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        return;
    }
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "mapped", |config| {
        ground::busybox(config);
        let info = config.container_info.as_mut().expect("a container of LXC");
        let users = UserNamespace { mode: UserNamespaceMode::Private, ..UserNamespace::default() };
        info.linux_info.get_or_insert_default().user_namespace = Some(users);
    });
    let own = session(&id, "root");
    let ExecSession { mut streams, .. } = good(exec(&lxc).run(&own, shell("id -u; exec sleep 1000")));
    let mut told = [0; 2];
    File::from(streams.stdout.take().unwrap()).read_exact(&mut told).unwrap();
    assert_eq!(&told, b"0\n");
    let pid = good(lxc.status(&own)).executor_pid.expect("a pid");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{pid}")).unwrap());
    assert!(owner >= 65536, "outside it is user {owner}");
    good(lxc.destroy(&own));
    good(lxc.destroy(&id));
}

#[test]
fn a_command_runs_in_a_system_beside_its_own() {
    let Some(site) = site("lxc-x-system") else { return };
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "system", |config| {
        let lxc = config.container_info.as_mut().and_then(|info| info.lxc.as_mut());
        lxc.expect("a container of LXC").mode = LxcMode::System;
    });
    let told = output(
        &lxc,
        &id,
        "beside",
        shell("cat /proc/1/comm; until ps | grep -q '[s]leep 1000'; do sleep 0.01; done"),
    );
    assert_eq!((told.0.as_str(), told.2), ("init\n", Some(0)));
    good(lxc.destroy(&id));
}

#[test]
fn what_a_container_writes_is_told_to_whoever_attaches_until_it_ends() {
    let Some(site) = site("lxc-x-attach") else { return };
    let lxc = recovered(settings(&site));
    let id = id("writes");
    let text = "echo before; while ! test -e go; do sleep 0.01; done; echo out; echo err >&2; while ! test -e end; do sleep 0.01; done; echo last";
    start(&lxc, &id, config(&site, &id, text));
    let sandbox = site.sandboxes().join("writes");
    while !fs::read_to_string(sandbox.join("stdout")).unwrap().contains("before") {
        std::thread::yield_now();
    }
    let input = answer(attach(&lxc).connect(&id, Streams::Input));
    assert!(matches!(input, Err(Error::AttachDisabled)), "{input:?}");
    let attached = good(attach(&lxc).connect(&id, Streams::Output));
    drop(good(attach(&lxc).connect(&id, Streams::Output)));
    let mut stdout = File::from(attached.stdout.unwrap());
    fs::write(sandbox.join("go"), "").unwrap();
    let mut seen = [0; 4];
    stdout.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"out\n", "nothing of before");
    fs::write(sandbox.join("end"), "").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last\n");
    assert_eq!(self::text(attached.stderr), "err\n");
    assert_eq!(ended(&lxc, &id).status, Some(0));
    let over = answer(attach(&lxc).connect(&id, Streams::Output));
    assert!(matches!(over, Err(Error::AttachEnded)), "{over:?}");
    let unknown = answer(attach(&lxc).connect(&ground::id("unknown"), Streams::Output));
    assert!(unknown.is_err_and(|error| error.class() == Class::NotFound));
}

#[test]
fn the_last_words_on_a_terminal_are_told_to_the_end() {
    let Some(site) = site("lxc-x-tail") else { return };
    let lxc = recovered(settings(&site));
    let id = running(&site, &lxc, "tail", |_| {});
    for round in 0..5 {
        let own = session(&id, &format!("tail{round}"));
        let text = "head -c 12000 /dev/zero | tr '\\0' x; echo; echo LAST";
        let terminal = Some(WindowSize { rows: 24, columns: 80 });
        let ExecSession { streams, .. } = good(exec(&lxc).run(&own, ExecRequest { terminal, ..shell(text) }));
        let told = self::text(streams.stdout);
        assert!(told.len() > 12_000 && told.ends_with("LAST\r\n"), "round {round}: {} bytes", told.len());
        assert_eq!(ended(&lxc, &own).status, Some(0));
    }
    good(lxc.destroy(&id));
}

#[test]
fn what_is_written_at_once_is_told_at_once_to_whoever_attaches() {
    let Some(site) = site("lxc-x-burst") else { return };
    let lxc = recovered(settings(&site));
    let id = id("bursts");
    let burst = |file: &str| {
        format!(
            "while ! test -e {file}; do sleep 0.01; done; dd if=/dev/zero bs=1048576 count=1 2>/dev/null; "
        )
    };
    start(&lxc, &id, config(&site, &id, &[burst("one"), burst("two")].concat()));
    let sandbox = site.sandboxes().join("bursts");
    let attached = good(attach(&lxc).connect(&id, Streams::Output));
    let mut stdout = File::from(attached.stdout.unwrap());
    fs::write(sandbox.join("one"), "").unwrap();
    let mut all = vec![0; 1 << 20];
    // It says nothing more until it is told to.
    stdout.read_exact(&mut all).unwrap();
    fs::write(sandbox.join("two"), "").unwrap();
    stdout.read_exact(&mut all).unwrap();
    assert_eq!(stdout.read(&mut all).unwrap(), 0, "it has ended");
    assert_eq!(ended(&lxc, &id).status, Some(0));
}

#[test]
fn what_a_command_is_told_in_its_variables_is_not_told_to_everybody() {
    let Some(site) = site("lxc-x-secret") else { return };
    let lxc = recovered(settings(&site));
    let secret = format!("hunter-{}", site.marker());
    let id = running(&site, &lxc, "secret", |config| {
        config.command_info.environment.variables.push(berth_model::Variable {
            name: "OF_CONTAINER".to_owned(),
            value: Some(secret.clone()),
            ..berth_model::Variable::default()
        });
    });
    let own = session(&id, "knows");
    let mut request = shell("echo \"$OF_CONTAINER $OF_COMMAND $LD_DEBUG\"; exec sleep 1000");
    request.environment.insert("OF_COMMAND".to_owned(), secret.clone());
    // The C library looks at this one: no process of the host's may have it.
    request.environment.insert("LD_DEBUG".to_owned(), "none".to_owned());
    let ExecSession { mut streams, .. } = good(exec(&lxc).run(&own, request));
    let mut told = vec![0; 2 * secret.len() + 7];
    File::from(streams.stdout.take().unwrap()).read_exact(&mut told).unwrap();
    assert_eq!(String::from_utf8(told).unwrap(), format!("{secret} {secret} none\n"));
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        assert!(!words.contains(&secret), "{words}");
        if words.starts_with("lxc-attach") && words.contains(site.marker()) {
            let own = fs::read(process.path().join("environ")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&own).contains("LD_DEBUG"));
        }
    }
    good(lxc.destroy(&id));
}
