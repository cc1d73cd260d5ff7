// SPDX-License-Identifier: Apache-2.0
//! Input, output, terminals, signals and exit codes.

use berth_test_kernel::{Running, Terminal, ground};
use rustix::process::Signal;
use std::io::Write;
use std::process::Stdio;

#[test]
fn stdout_and_stderr_stay_apart() {
    let ground = ground!();
    let exit = ground.sh(&[], "echo out; echo err >&2; echo out2; printf 'no end'");
    assert_eq!(
        (exit.code, exit.stdout.as_str(), exit.stderr.as_str()),
        (Some(0), "out\nout2\nno end", "err\n")
    );
}

#[test]
fn without_i_the_input_is_empty() {
    let ground = ground!();
    let mut command = ground.run_command(&[], &["cat"]);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut input = running.stdin().unwrap();
    let _ = input.write_all(b"not for you");
    assert_eq!(running.end().good(), "");
}

#[test]
fn with_i_the_input_is_passed_on_to_its_end() {
    let ground = ground!();
    let mut command = ground.run_command(&["-i"], &["sha256sum"]);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut input = running.stdin().unwrap();
    let data = vec![b'x'; 3_000_001];
    input.write_all(&data).unwrap();
    drop(input);
    // sha256 of 3000001 times x.
    let seen = running.end();
    let expected = ground.file("data", &data);
    let host = std::process::Command::new("sha256sum")
        .stdin(std::fs::File::open(expected).unwrap())
        .output()
        .unwrap();
    assert_eq!(seen.good(), String::from_utf8_lossy(&host.stdout));
}

#[test]
fn input_that_nobody_reads_holds_nothing_up() {
    let ground = ground!();
    let mut command = ground.run_command(&["-i"], &["sh", "-c", "head -c 1 >/dev/null; echo done"]);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut input = running.stdin().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&vec![b'x'; 1 << 20]));
    assert_eq!(running.end().good(), "done\n");
    // Nobody holds the other end any more.
    writer.join().unwrap().unwrap_err();
}

#[test]
fn a_program_that_closes_its_input_runs_on() {
    let ground = ground!();
    let mut command = ground.run_command(&["-i"], &["sh", "-c", "exec <&-; sleep 0.3; echo done"]);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let input = running.stdin();
    let ended = running.end();
    assert_eq!(ended.good(), "done\n");
    drop(input);
}

#[test]
fn fifty_megabytes_arrive_complete() {
    let ground = ground!();
    let mut command = ground.run_command(
        &[],
        &[
            "sh",
            "-c",
            "yes 0123456789012345678901234567890123456789012345678 | head -c 50000000; echo end >&2",
        ],
    );
    let exit = Running::start(&mut command).end();
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), "end\n"));
    assert_eq!(exit.stdout.len(), 50_000_000);
    let line = "0123456789012345678901234567890123456789012345678\n";
    assert!(exit.stdout.as_bytes().chunks(50).all(|chunk| chunk == line.as_bytes()));
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_container() {
    let ground = ground!();
    let name = ground.name("a");
    let mut command = ground.run_command(&["--name", &name], &["sh", "-c", "seq 200000; exit 3"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let log = ground.berth(&["logs", &name]);
    assert_eq!(log.good().lines().count(), 200_000);
}

#[test]
fn every_exit_code_is_passed_on() {
    let ground = ground!();
    for code in 0..=255 {
        let exit = ground.sh(&[], &format!("exit {code}"));
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(code), ""), "{code}");
    }
}

#[test]
fn a_program_that_is_not_there_is_127_and_one_that_can_not_be_executed_126() {
    let ground = ground!();
    std::fs::write(ground.root().join("bin/text"), "echo never\n").unwrap();
    for (program, code) in
        [("nothing", 127), ("/bin/nothing", 127), ("/etc/passwd", 126), ("/etc", 126), ("/etc/passwd/x", 127)]
    {
        let exit = ground.unchanged(|| ground.run(&[], &[program]));
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(code), ""), "{program}: {exit:?}");
        assert!(exit.stderr.contains(program) && exit.stderr.lines().count() == 1, "{exit:?}");
    }
    // A script whose interpreter is missing, and a file of no known format.
    for (name, content, code) in [("script", "#!/no/such\n", 127), ("garbage", "\u{1}\u{2}garbage", 126)] {
        let path = ground.root().join("bin").join(name);
        berth_testing::script(&path, content);
        assert_eq!(ground.run(&[], &[name]).code, Some(code), "{name}");
    }
}

#[test]
fn a_signal_that_ends_it_is_128_and_its_number() {
    let ground = ground!();
    // A first process that signals itself is spared by the kernel (pid_namespaces(7)), so its child does it.
    for (signal, code) in [(1, 129), (6, 134), (9, 137), (11, 139), (15, 143)] {
        assert_eq!(ground.sh(&[], &format!("sh -c 'kill -{signal} $$'; exit $?")).code, Some(code));
        assert_eq!(
            ground.sh(&["--init"], &format!("kill -{signal} $$")).code,
            Some(code),
            "{signal} with init"
        );
    }
    let name = ground.name("a");
    let mut running = ground.start(&["--name", &name], "echo up; sleep 60");
    running.says("up");
    ground.berth(&["kill", &name]).good();
    assert_eq!(running.end().code, Some(137));
    assert!(ground.berth(&["ps", "-a"]).good().contains("Exited (137)"));
}

#[test]
fn signals_to_berth_run_reach_the_program() {
    let ground = ground!();
    for (name, signal) in [
        ("TERM", Signal::TERM),
        ("INT", Signal::INT),
        ("HUP", Signal::HUP),
        ("USR1", Signal::USR1),
        ("QUIT", Signal::QUIT),
    ] {
        let script =
            format!("trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done");
        let mut running = ground.start(&[], &script);
        running.says("ready");
        running.signal(signal);
        let ended = running.end();
        assert_eq!((ended.code, ended.stdout), (Some(5), format!("ready\ngot {name}\n")), "{name}");
    }
}

#[test]
fn a_terminal_has_the_size_the_name_and_the_devices_of_one() {
    let ground = ground!();
    let script = "tty; stty size; echo $TERM; stat -c '%F %t:%T' /dev/console; test -t 0 && test -t 1 && test -t 2 && echo all; \
                  ls /dev/pts; echo to-tty > /dev/tty; readlink /proc/self/fd/0; echo over";
    let shown = Terminal::start(&mut ground.run_command(&["-it"], &["sh", "-c", script]), 33, 111).end();
    let lines: Vec<&str> = shown.stdout.lines().map(str::trim_end).collect();
    let expected = [
        "/dev/pts/0",
        "33 111",
        "xterm",
        "character special file 88:0",
        "all",
        "0",
        "ptmx",
        "to-tty",
        "/dev/pts/0",
        "over",
    ];
    let squeezed: Vec<&str> = lines
        .iter()
        .flat_map(|l| if l.starts_with('0') { l.split_whitespace().collect() } else { vec![*l] })
        .collect();
    assert_eq!((shown.code, squeezed), (Some(0), expected.to_vec()), "{shown:?}");
}

#[test]
fn what_is_typed_is_passed_on_and_control_c_interrupts() {
    let ground = ground!();
    let script =
        "trap 'exit 130' INT; echo ready; read line; echo \"read $line\"; while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(&mut ground.run_command(&["-it"], &["sh", "-c", script]), 24, 80);
    terminal.shows("ready");
    terminal.types("hello\r");
    terminal.shows("read hello");
    terminal.types("\x03");
    assert_eq!(terminal.end().code, Some(130));
    // Without a trap too, under --init.
    let command = &mut ground.run_command(&["-it", "--init"], &["sh", "-c", "echo ready; exec sleep 60"]);
    let mut terminal = Terminal::start(command, 24, 80);
    terminal.shows("ready");
    terminal.types("\x03");
    assert_eq!(terminal.end().code, Some(130));
}

#[test]
fn a_new_size_reaches_the_program() {
    let ground = ground!();
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(&mut ground.run_command(&["-it"], &["sh", "-c", script]), 24, 80);
    terminal.shows("ready");
    terminal.resize(44, 132);
    terminal.shows("44 132");
    terminal.signal(Signal::KILL);
}

#[test]
fn a_terminal_for_a_user_is_the_users() {
    let ground = ground!();
    let script = "stat -c '%u %a' $(tty); echo x > /dev/tty && echo opened";
    let shown =
        Terminal::start(&mut ground.run_command(&["-it", "-u", "bob"], &["sh", "-c", script]), 24, 80).end();
    assert!(shown.stdout.contains("1000 620") && shown.stdout.contains("opened"), "{shown:?}");
}

#[test]
fn output_of_a_terminal_is_complete_and_in_the_log() {
    let ground = ground!();
    let name = ground.name("a");
    let command = &mut ground.run_command(&["-t", "--name", &name], &["sh", "-c", "seq 20000; exit 4"]);
    let shown = Terminal::start(command, 24, 80).end();
    assert_eq!((shown.code, shown.stdout.lines().count()), (Some(4), 20_000));
    // Our own terminal was not made raw, because no input was to be passed on: it adds its own carriage returns.
    assert_eq!(ground.berth(&["logs", &name]).good(), shown.stdout.replace("\r\r\n", "\r\n"));
}

#[test]
fn a_terminal_works_on_the_hosts_root_file_system() {
    let ground = ground!();
    let mut command = ground.command();
    command.args(["run", "--rm", "-it", "--name", &ground.name("host"), "--", "sh", "-c", "tty; stty size"]);
    let shown = Terminal::start(&mut command, 21, 77).end();
    assert!(
        shown.code == Some(0) && shown.stdout.contains("/dev/pts/") && shown.stdout.contains("21 77"),
        "{shown:?}"
    );
}

#[test]
fn a_terminal_without_one_to_pass_on_is_refused_or_has_no_input() {
    let ground = ground!();
    ground.unchanged(|| ground.run(&["-it"], &["true"])).refused(125, &["not a terminal"]);
    let exit = ground.sh(&["-t"], "test -t 1 && echo terminal");
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(0), "terminal\r\n"), "{exit:?}");
}
