// SPDX-License-Identifier: Apache-2.0
//! Attaching to the streams of running containers. Needs root.

mod ground;

use berth_conformance::{Script, Site, Subject, World, run, run_alone};
use berth_contract::{Attached, ExecRequest, LaunchResult, Streams, Variables, WindowSize};
use berth_model::{
    Class, CommandInfo, ContainerConfig, ContainerId, ContainerInfo, ContainerType, TtyInfo,
    WindowSize as Size,
};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

fn on_this_host(name: &str, test: fn(&mut World<'_>)) {
    match ground::lacked().or_else(|| ground::busybox().is_none().then(|| "a static busybox".to_owned())) {
        Some(lacked) => ground::skip(&lacked),
        None => run(name, test, &|site: &Site| Subject::new(ground::containerizer(site, &[]))),
    }
}

fn config(world: &World<'_>, id: &ContainerId, text: &str) -> ContainerConfig {
    let mut config = world.config(id, &Script::Sleep);
    config.rootfs = Some(ground::rootfs(world.site));
    config.command_info.value = Some(text.to_owned());
    config
}

fn with_terminal(mut config: ContainerConfig) -> ContainerConfig {
    let window_size = Some(Size { rows: 24, columns: 80 });
    let tty_info = Some(TtyInfo { window_size });
    config.container_info =
        Some(ContainerInfo { r#type: ContainerType::Mesos, tty_info, ..ContainerInfo::default() });
    config
}

fn start(world: &World<'_>, id: &ContainerId, config: ContainerConfig) {
    assert_eq!(world.launch(id, config).map_err(|e| e.chain()), Ok(LaunchResult::Success));
}

fn connect(world: &World<'_>, id: &ContainerId, streams: Streams) -> Attached {
    let handle = world.handle();
    let attach = handle.attach().expect("it can attach");
    world.good("attach", attach.connect(id, streams))
}

fn refusal(world: &World<'_>, id: &ContainerId, streams: Streams) -> (String, Class) {
    let handle = world.handle();
    match world.answer("attach", handle.attach().expect("it can attach").connect(id, streams)) {
        Ok(_) => panic!("the attachment was not refused"),
        Err(error) => (error.to_string(), error.class()),
    }
}

fn end_input(world: &World<'_>, id: &ContainerId) {
    let handle = world.handle();
    world.good("end of input", handle.attach().expect("it can attach").end_input(id));
}

fn resize(world: &World<'_>, id: &ContainerId, rows: u16, columns: u16) {
    let handle = world.handle();
    let size = WindowSize { rows, columns };
    world.good("resize", handle.attach().expect("it can attach").resize(id, size));
}

fn rest(stream: Option<OwnedFd>) -> String {
    let mut text = String::new();
    File::from(stream.expect("the stream")).read_to_string(&mut text).expect("what it writes");
    text
}

/// Reads until the text has this in it.
fn until(stream: &mut File, wanted: &str) -> String {
    let mut text = String::new();
    let mut room = [0; 4096];
    while !text.contains(wanted) {
        let n = stream.read(&mut room).expect("what it writes");
        assert_ne!(n, 0, "it ended before {wanted:?}: {text:?}");
        text.push_str(&String::from_utf8_lossy(&room[..n]));
    }
    text
}

#[test]
fn what_is_written_goes_in_and_what_comes_out_is_told_apart() {
    on_this_host("what_is_written", |world| {
        let id = world.id("cat");
        start(world, &id, config(world, &id, "echo before; cat; echo oops >&2; exit 5"));
        world.until("it has begun", || (world.file(&id, "stdout") == "before\n").then_some(()));
        let mut attached = connect(world, &id, Streams::Both);
        let big = "0123456789abcde\n".repeat(32 * 1024);
        let mut stdin = File::from(attached.stdin.take().expect("stdin"));
        stdin.write_all(big.as_bytes()).expect("it is read");
        end_input(world, &id);
        // From now on only: what was there before is in the log.
        assert_eq!(rest(attached.stdout.take()), big);
        assert_eq!(rest(attached.stderr.take()), "oops\n");
        assert_eq!(world.wait(&id).status, Some(5 << 8));
        assert_eq!(refusal(world, &id, Streams::Output).0, "I/O switchboard has shutdown");
        assert_eq!(stdin.write(b"x").map_err(|e| e.kind()), Err(std::io::ErrorKind::BrokenPipe));
    });
}

#[test]
fn a_writer_that_goes_does_not_end_the_input_and_only_one_writes_at_a_time() {
    on_this_host("a_writer_that_goes", |world| {
        let id = world.id("lines");
        start(world, &id, config(world, &id, "while read -r line; do echo got $line; done; echo end"));
        let mut output = connect(world, &id, Streams::Output);
        let mut stdout = File::from(output.stdout.take().expect("stdout"));
        for name in ["one", "two"] {
            let mut first = connect(world, &id, Streams::Input);
            let (text, class) = refusal(world, &id, Streams::Both);
            assert_eq!(
                (text.as_str(), class),
                ("Multiple input connections are not allowed", Class::Conflict)
            );
            let mut stdin = File::from(first.stdin.take().expect("stdin"));
            writeln!(stdin, "{name}").expect("it is read");
            until(&mut stdout, &format!("got {name}\n"));
        }
        // The agent goes, with everything that is attached; the container's input is as it was.
        drop(stdout);
        world.restart(None);
        let mut both = connect(world, &id, Streams::Both);
        let mut stdin = File::from(both.stdin.take().expect("stdin"));
        writeln!(stdin, "three").expect("it is read");
        end_input(world, &id);
        assert_eq!(rest(both.stdout.take()), "got three\nend\n");
        assert_eq!(world.wait(&id).status, Some(0));
    });
}

#[test]
fn input_that_nobody_reads_holds_up_its_writer_only() {
    on_this_host("input_that_nobody_reads", |world| {
        let id = world.id("deaf");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let mut attached = connect(world, &id, Streams::Input);
        let stdin = attached.stdin.take().expect("stdin");
        let flags = berth_sys::rustix::fs::OFlags::NONBLOCK;
        berth_sys::rustix::fs::fcntl_setfl(&stdin, flags).expect("flags");
        let mut stdin = File::from(stdin);
        let mut taken = 0;
        world.until("all room is used", || match stdin.write(&[b'x'; 4096]) {
            Ok(n) => {
                taken += n;
                None
            }
            Err(_) => Some(()),
        });
        assert!(taken < 1 << 20, "{taken}");
        // The supervisor has time for others.
        assert_eq!(refusal(world, &id, Streams::Input).1, Class::Conflict);
        assert!(world.good("kill", world.containerizer().kill(&id, 9)));
        assert_eq!(world.wait(&id).status, Some(9));
    });
}

#[test]
fn any_number_watch_a_terminal_and_one_types() {
    on_this_host("any_number_watch", |world| {
        let id = world.id("tty");
        let text = "stty -echo; while read -r word; do stty size; echo said $word; done";
        start(world, &id, with_terminal(config(world, &id, text)));
        // An agent that came after does it as well.
        world.restart(None);
        let mut watchers: Vec<File> = (0..3)
            .map(|_| File::from(connect(world, &id, Streams::Output).stdout.take().expect("stdout")))
            .collect();
        let mut typing = connect(world, &id, Streams::Both);
        assert!(typing.stderr.is_none());
        resize(world, &id, 11, 33);
        let mut stdin = File::from(typing.stdin.take().expect("stdin"));
        stdin.write_all(b"hello\n").expect("it is read");
        for watcher in &mut watchers {
            let seen = until(watcher, "said hello\r\n");
            assert!(seen.contains("11 33\r\n"), "{seen:?}");
        }
        // One that does not read is no hindrance.
        let idle = connect(world, &id, Streams::Output);
        stdin.write_all(&b"x\n".repeat(2000)).expect("it is read");
        stdin.write_all(b"last\n\x04").expect("it is read");
        let all = rest(typing.stdout.take());
        assert!(all.contains("said last\r\n"), "{:?}", &all[all.len().saturating_sub(200)..]);
        assert_eq!(world.wait(&id).status, Some(0));
        drop(idle);
    });
}

#[test]
fn a_session_with_a_terminal_can_be_typed_into_by_another() {
    on_this_host("a_session_with_a_terminal", |world| {
        let id = world.id("sessions");
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let exec = |name: &str, terminal| {
            let session = world.child(&id, name);
            let command = CommandInfo {
                value: Some("read -r word; echo said $word".to_owned()),
                shell: true,
                ..CommandInfo::default()
            };
            let request = ExecRequest { command, environment: Variables::new(), terminal };
            let handle = world.handle();
            let exec = handle.exec().expect("it can run further commands");
            (session.clone(), world.good("exec", exec.run(&session, request)))
        };
        let (pty, mut held) = exec("pty", Some(WindowSize { rows: 5, columns: 50 }));
        assert_eq!(refusal(world, &pty, Streams::Input).1, Class::Conflict);
        drop(held.streams.stdin.take());
        let mut other = connect(world, &pty, Streams::Input);
        resize(world, &pty, 6, 60);
        File::from(other.stdin.take().expect("stdin")).write_all(b"hi\n").expect("it is read");
        assert!(rest(held.streams.stdout.take()).contains("said hi\r\n"));
        assert_eq!(world.wait(&pty).status, Some(0));
        let (pipes, held) = exec("pipes", None);
        assert_eq!(refusal(world, &pipes, Streams::Output).1, Class::Unsupported);
        drop(held);
        world.wait(&pipes);
    });
}

#[test]
fn what_can_not_be_attached_to_is_refused() {
    on_this_host("what_can_not_be_attached_to", |world| {
        let id = world.id("none");
        assert_eq!(refusal(world, &id, Streams::Both).0, format!("Unknown container {id}"));
        start(world, &id, config(world, &id, "exec sleep 1000"));
        let handle = world.handle();
        let attach = handle.attach().expect("it can attach");
        let text = world.failure("resize", attach.resize(&id, WindowSize { rows: 1, columns: 1 }));
        assert_eq!(text, "Unable to set the window size: the container has no terminal");
        end_input(world, &id);
        assert_eq!(refusal(world, &id, Streams::Input).1, Class::Gone);
    });
}

/// Open descriptors of a process, and its memory in pages.
fn held(pid: u32) -> (usize, usize) {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").count();
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("a process");
    (fds, statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages"))
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("this process").count()
}

fn supervisor_of(world: &World<'_>, id: &ContainerId) -> u32 {
    let pid = world.good("status", world.containerizer().status(id)).executor_pid.expect("it runs");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after = stat.rsplit(')').next().expect("a line");
    after.split(' ').nth(2).and_then(|parent| parent.parse().ok()).expect("its parent")
}

fn cycles(world: &mut World<'_>) {
    // CVE-2022-23471 and its kin; the long form is 10,000.
    let asked = std::env::var("BERTH_ATTACH_CYCLES").ok().and_then(|text| text.parse().ok());
    let count: u32 = asked.unwrap_or(500);
    let (tty, plain) = (world.id("tty"), world.id("plain"));
    start(world, &tty, with_terminal(config(world, &tty, "while :; do echo tick; sleep 0.01; done")));
    start(world, &plain, config(world, &plain, "while :; do echo tick; sleep 0.01; done"));
    let supervisors = [supervisor_of(world, &tty), supervisor_of(world, &plain)];
    let cycle = |n: u32| {
        drop(connect(world, &tty, Streams::Both));
        resize(world, &tty, 10 + (n % 50) as u16, 80);
        drop(connect(world, &plain, if n.is_multiple_of(2) { Streams::Both } else { Streams::Input }));
    };
    let now = || ((held(std::process::id()), threads()), supervisors.map(held));
    // The last reader's thread, and what it held, go by themselves: what counts is the least.
    let least = || {
        let looks = (0..20).map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            now()
        });
        looks.min().expect("twenty")
    };
    (0..100).for_each(cycle);
    let before = least();
    (0..count).for_each(cycle);
    world.until("this process holds no more descriptors and threads than before", || {
        let now = now();
        (now.0.0.0 <= before.0.0.0 && now.0.1 <= before.0.1).then_some(())
    });
    let after = now();
    for (after, before) in after.1.iter().zip(before.1) {
        // Where a reader just left, its supervisor finds out when it is next awake.
        assert!(after.0 <= before.0 + 2, "descriptors of a supervisor: {before:?} {after:?}");
        assert!(after.1 <= before.1 + 4, "pages of a supervisor: {before:?} {after:?}");
    }
    assert!(after.0.0.1 <= before.0.0.1 + 512, "pages of this process: {before:?} {after:?}");
}

#[test]
fn attaching_again_and_again_leaves_nothing() {
    match ground::lacked().or_else(|| ground::busybox().is_none().then(|| "a static busybox".to_owned())) {
        Some(lacked) => ground::skip(&lacked),
        None => run_alone("attaching_again", cycles, &|site: &Site| {
            Subject::new(ground::containerizer(site, &[]))
        }),
    }
}
