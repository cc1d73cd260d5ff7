// SPDX-License-Identifier: Apache-2.0
//! `berth lxc` beside LXC's own tools, and `berth agent` over LXC: what it owes to containers there when it is killed.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod debian;
mod killed;
mod password;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use berth_test_agent::{Ground, Terminal, skip};
use berth_testing::{Build, berth};

fn lacked() -> Option<&'static str> {
    let there = |path: &str| Path::new(path).exists();
    match (there("/usr/bin/lxc-start"), there("/usr/share/lxc/templates/lxc-busybox"), there("/bin/busybox"))
    {
        (true, true, true) => None,
        (true, true, false) => Some("busybox-static"),
        _ => Some("lxc and lxc-templates"),
    }
}

/// A ground with an agent over LXC; none, and that is told, where there can be none.
fn ground_of(test: &str) -> Option<Ground> {
    if let Some(lacked) = lacked() {
        skip(test, lacked);
        return None;
    }
    let name: String = test.split('_').filter_map(|word| word.chars().next()).take(8).collect();
    match Ground::new(&format!("lxc-{name}")) {
        Ok(mut ground) => {
            start(&mut ground, "mesos,lxc");
            Some(ground)
        }
        Err(lacked) => {
            skip(test, &lacked);
            None
        }
    }
}

/// Starts the agent (again).
fn start(ground: &mut Ground, containerizers: &str) {
    let mut command = ground.agent();
    command.arg(format!("--containerizers={containerizers}"));
    ground.start_as(&mut command);
}

const LXC: [&str; 5] = ["run", "--containerizer", "lxc", "--template", "busybox"];

fn run<'a>(options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    LXC.iter().chain(options).copied().chain(["--"]).chain(command.iter().copied()).collect()
}

/// The processes of LXC that work below this ground.
fn left(ground: &Ground) -> Vec<String> {
    let place = ground.work_dir().display().to_string();
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        (line.starts_with("lxc-") && line.contains(&place)).then_some(line)
    });
    lines.collect()
}

#[test]
fn the_walk_of_lxc_is_the_same_with_both() {
    if let Some(lacked) = lacked() {
        return skip("the_walk_of_lxc_is_the_same_with_both", lacked);
    }
    let program = berth(Build::Plain).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/lxc-walk.sh");
    let done = Command::new("sh").arg(script).arg(program).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && stdout.contains("all is as it should be"), "{stdout}\n{stderr}");
}

#[test]
fn names_that_are_more_than_names_are_refused_with_a_word() {
    let program = berth(Build::Plain).unwrap();
    for bad in ["a/b", "a\nlxc.hook.start=/x", "a=b", "../x", ".x", "a b"] {
        for command in ["start", "stop", "info", "destroy", "freeze", "root-password"] {
            let name = format!("--name={bad}");
            let done = Command::new(program).args(["lxc", command, &name]).output().unwrap();
            let words = String::from_utf8_lossy(&done.stderr);
            assert!(
                !done.status.success() && words.contains("can not be the name of a container"),
                "{command} {bad:?}: {words}"
            );
        }
    }
    let done =
        Command::new(program).args(["lxc", "start", "-s", "lxc.a\nlxc.b=x", "nobody-here"]).output().unwrap();
    assert!(!done.status.success());
}

#[test]
fn a_command_runs_in_a_container_and_beside_an_init() {
    let Some(mut ground) = ground_of("a_command_runs_in_a_container_and_beside_an_init") else { return };
    let done = ground
        .berth(run(&["--rm", "-e", "A=a value"], &["sh", "-c", "echo \"$A\"; cat /proc/1/comm; exit 3"]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), "a value\nsh\n"), "{done:?}");
    let done = ground.berth(run(&["--rm", "--system"], &["sh", "-c", "cat /proc/1/comm; exit 4"]));
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stdout.contains("init\n"), "{done:?}");
    let done = ground.berth(["run", "--containerizer", "lxc", "busybox", "true"]);
    assert!(done.code == Some(125) && done.stderr.contains("--template"), "{done:?}");
    let done = ground.berth(run(&[], &["/no/such/program"]));
    assert!(done.code != Some(0) && done.stderr.contains("/no/such/program"), "{done:?}");
    // URIs are in the sandbox before it runs, and one that can not be had is told.
    let file = ground.work_dir().with_file_name("a-file");
    fs::write(&file, "fetched\n").unwrap();
    let uri = format!("file://{}", file.display());
    let done = ground.berth(run(&["--rm", "--uri", &uri], &["cat", "a-file"]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "fetched\n"), "{done:?}");
    let done = ground.berth(run(&["--uri", &format!("{uri}-not")], &["true"]));
    assert!(done.code != Some(0) && done.stderr.contains("a-file-not"), "{done:?}");
    // Kept, as it should be: what the template made.
    ground.stop();
    fs::remove_dir_all(ground.work_dir().join("lxc")).unwrap();
    let _ = fs::remove_dir_all(ground.runtime_dir().join("lxc"));
    assert_eq!(left(&ground), Vec::<String>::new());
}

#[test]
fn what_is_not_there_for_containers_of_lxc_is_refused_by_name() {
    let Some(mut ground) = ground_of("what_is_not_there_for_containers_of_lxc_is_refused_by_name") else {
        return;
    };
    let name = ground.name("runs");
    ground.berth(run(&["-d", "--name", &name], &["sleep", "1000"])).good();
    let done = ground.berth(run(&["-d", "-t"], &["true"]));
    assert!(done.code != Some(0) && done.stderr.contains("there is no terminal"), "{done:?}");
    let done = ground.berth(["exec", &name, "/no/such/program"]);
    assert!(done.code != Some(0) && done.stderr.contains("/no/such/program is not there"), "{done:?}");
    // It goes on.
    assert_eq!(ground.api().state(&name).unwrap(), "RUNNING");
    ground.api().destroy(&name).unwrap();
    assert_eq!(left(&ground), Vec::<String>::new());
    ground.stop();
    fs::remove_dir_all(ground.work_dir().join("lxc")).unwrap();
}

#[test]
fn commands_run_in_a_container_and_what_it_writes_is_shown() {
    let Some(mut ground) = ground_of("commands_run_in_a_container_and_what_it_writes_is_shown") else {
        return;
    };
    let name = ground.name("runs");
    let script =
        "until [ -e go ]; do sleep 0.05; done; echo written; until [ -e end ]; do sleep 0.05; done; exit 7";
    ground.berth(run(&["-d", "--name", &name, "-e", "A=of the container"], &["sh", "-c", script])).good();
    let done = ground.berth(["exec", &name, "sh", "-c", "echo \"$A\"; echo error >&2; pwd; exit 9"]);
    let told = (done.code, done.stdout.as_str(), done.stderr.as_str());
    assert_eq!(told, (Some(9), "of the container\n/mnt/mesos/sandbox\n", "error\n"));
    let mut command = ground.command(["exec", "-i", &name, "cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"in and out\n").unwrap();
    assert_eq!(ground.output(child, "exec -i cat").stdout, b"in and out\n");

    let mut terminal = Terminal::start(&mut ground.command(["exec", "-it", &name, "sh"]), 33, 77);
    terminal.types("stty size; tty -s || echo no terminal\n");
    terminal.shows("33 77");
    terminal.resize(44, 88);
    terminal.types("until [ \"$(stty size)\" = '44 88' ]; do :; done; echo resi''zed\n");
    terminal.shows("resized");
    // What hears of it is there before it is told, and whenever it comes.
    terminal
        .types("sh -c \"trap 'echo int''errupted; exit' INT; echo re''ady; while :; do sleep 0.1; done\"\n");
    terminal.shows("ready");
    terminal.types("\u{3}");
    terminal.shows("interrupted");
    terminal.types("exit 9\n");
    assert_eq!(terminal.end().code, Some(9));

    // Whoever attaches sees what is written from then on, and the end.
    let mut command = ground.command(["attach", "--no-stdin", &name]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    berth_testing::until("it is attached", || {
        let own = format!("/proc/{}/fd", ground.process().pid());
        let fds = fs::read_dir(own).unwrap().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to.ends_with(format!("{name}/stdout")))
    });
    fs::write(ground.sandbox(&name).join("go"), "").unwrap();
    ground.api().wrote(&name, "written\n");

    // A client that goes takes its command along; so does an agent that is killed, and both leave the container alone.
    let word = format!("10{}", std::process::id());
    let sleeps = || {
        let lines = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|it| fs::read(it.path().join("cmdline")).ok());
        lines.filter(|line| *line == format!("sleep\0{word}\0").into_bytes()).count()
    };
    let mut client = ground.command(["exec", &name, "sleep", &word]).stdout(Stdio::null()).spawn().unwrap();
    berth_testing::until("its command runs", || sleeps() == 1);
    client.kill().unwrap();
    client.wait().unwrap();
    berth_testing::until("its command is gone", || sleeps() == 0);
    let mut client = ground.command(["exec", &name, "sleep", &word]).stderr(Stdio::null()).spawn().unwrap();
    berth_testing::until("the next runs", || sleeps() == 1);
    fs::write(ground.sandbox(&name).join("end"), "").unwrap();
    let attached = ground.output(child, "attach");
    assert_eq!(
        (attached.status.code(), attached.stdout.as_slice()),
        (Some(7), b"written\n".as_slice()),
        "{attached:?}"
    );
    client.wait().unwrap();
    assert_eq!(sleeps(), 0, "a command outlives its container");

    // Signals that the agent reads itself are blocked in none of these.
    let name = ground.name("hears");
    let script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done";
    ground.berth(run(&["-d", "--name", &name], &["sh", "-c", script])).good();
    ground.api().wrote(&name, "up\n");
    ground.berth(["stop", &name]).good();
    assert_eq!(ground.api().code(&name).unwrap(), Some(5));

    let name = ground.name("stays");
    ground.berth(run(&["-d", "--name", &name], &["sleep", "1000"])).good();
    let mut client = ground.command(["exec", &name, "sleep", &word]).stderr(Stdio::null()).spawn().unwrap();
    berth_testing::until("the last runs", || sleeps() == 1);
    ground.kill();
    client.wait().unwrap();
    start(&mut ground, "mesos,lxc");
    assert_eq!(sleeps(), 0, "a command outlives the agent and the next one's start");
    assert_eq!(ground.berth(["exec", &name, "echo", "again"]).good(), "again\n");
    ground.api().destroy(&name).unwrap();
    assert_eq!(left(&ground), Vec::<String>::new());
    ground.stop();
    fs::remove_dir_all(ground.work_dir().join("lxc")).unwrap();
}

#[test]
fn an_agent_that_is_killed_leaves_twenty_containers_to_the_next_one() {
    let Some(mut ground) = ground_of("an_agent_that_is_killed_leaves_twenty_containers_to_the_next_one")
    else {
        return;
    };
    // The first makes what the template makes.
    assert_eq!(ground.berth(run(&["--rm"], &["true"])).code, Some(0));
    let names: Vec<String> = (0..20).map(|number| ground.name(number)).collect();
    // Some are there and some are under way when it is killed.
    let begun: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let script = format!("until [ -e go ]; do sleep 0.1; done; exit {}", 10 + number);
            let mut command = ground.command(run(&["-d", "--name", name], &["sh", "-c", &script]));
            let child = command
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            if number < 12 {
                assert!({
                    let mut child = child;
                    child.wait().unwrap().success()
                });
                None
            } else {
                Some(child)
            }
        })
        .collect();
    ground.kill();
    for mut child in begun.into_iter().flatten() {
        child.wait().unwrap();
    }
    // These end while there is no agent.
    for name in &names[..6] {
        fs::write(ground.sandbox(name).join("go"), "").unwrap();
    }
    let place = ground.work_dir().join("lxc/containers");
    berth_testing::until("six have ended by themselves", || {
        let living = left(&ground);
        names[..6]
            .iter()
            .all(|name| !living.iter().any(|line| line.contains(&format!("--name=berth-{name} "))))
    });
    start(&mut ground, "mesos,lxc");
    let api = ground.api();
    for (number, name) in names.iter().enumerate().take(12) {
        if number >= 6 {
            fs::write(ground.sandbox(name).join("go"), "").unwrap();
        }
        assert_eq!(api.code(name).unwrap(), Some((10 + number as i32) << 8).map(|word| word >> 8), "{name}");
    }
    // Of those that were under way each is whole, or gone and says why.
    for name in &names[12..] {
        if ground.sandbox(name).is_dir() {
            let _ = fs::write(ground.sandbox(name).join("go"), "");
        }
        let _ = api.destroy(name);
    }
    for name in &names[..12] {
        api.remove(name).unwrap();
    }
    assert_eq!(left(&ground), Vec::<String>::new());
    assert_eq!(fs::read_dir(place).unwrap().count(), 0);
    ground.stop();
    fs::remove_dir_all(ground.work_dir().join("lxc")).unwrap();
}
