// SPDX-License-Identifier: Apache-2.0
//! Bad input is refused with 125 and one clear line, before anything is made.

use berth_test_kernel::{Ground, Running, ground, skip, this_test};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Each is refused with a message that holds the word, and leaves the host as it was at once.
#[track_caller]
fn all_refused(ground: &Ground, cases: &[(&[&str], &str)]) {
    for (options, word) in cases {
        ground.unchanged(|| ground.run(options, &["echo", "ran"])).refused(125, &[word]);
    }
    // A harmless neighbour works.
    assert_eq!(ground.run(&[], &["echo", "ran"]).good(), "ran\n");
}

#[test]
fn flags_that_are_none_are_refused() {
    let ground = ground!();
    all_refused(
        &ground,
        &[
            (&["--privileged"], "--privileged"),
            (&["--memroy", "1m"], "--memroy"),
            (&["--network", "bridge"], "bridge"),
            (&["--security-opt", "apparmor=x"], "apparmor"),
            (&["--security-opt", "seccomp="], "seccomp"),
            (&["--security-opt", "no-new-privileges=maybe"], "no-new-privileges"),
            (&["-e", "=x"], "--env"),
            (&["--memory"], ""),
        ],
    );
    let nothing = ground.unchanged(|| ground.berth(&["run", "--rm"]));
    nothing.refused(125, &["command"]);
    let relative =
        Running::start(Command::new(ground.program()).args(["--runtime-dir", "relative", "ps"])).end();
    relative.refused(125, &["absolute"]);
}

#[test]
fn resources_that_make_no_sense_are_refused() {
    let ground = ground!();
    let all: [(&[&str], &str); 18] = [
        (&["--memory", "0"], "--memory"),
        (&["--memory=-1"], "--memory"),
        (&["--memory", "lots"], "--memory"),
        (&["--memory", "64q"], "--memory"),
        (&["--memory", "1k"], "--memory"),
        (&["--memory", "99999999999999999999g"], "--memory"),
        (&["--memory", ""], "--memory"),
        (&["--cpus", "0"], "--cpus"),
        (&["--cpus", "nan"], "--cpus"),
        (&["--cpus", "inf"], "--cpus"),
        (&["--cpus", "1e9"], "--cpus"),
        (&["--cpus", "1;reboot"], "--cpus"),
        (&["--pids-limit", "-5"], "--pids-limit"),
        (&["--pids-limit", "many"], "--pids-limit"),
        (&["--ulimit", "nofile"], "--ulimit"),
        (&["--ulimit", "nofile=9:3"], "--ulimit"),
        (&["--ulimit", "files=3"], "--ulimit"),
        (&["--ulimit", "nofile=99999999999999999999"], "--ulimit"),
    ];
    all_refused(&ground, &all);
}

#[test]
fn names_that_are_no_names_are_refused() {
    let ground = ground!();
    let long = "x".repeat(300);
    all_refused(
        &ground,
        &[
            (&["--name", "a/b"], "--name"),
            (&["--name", "a b"], "--name"),
            (&["--name", "a.b"], "--name"),
            (&["--name", &long], "--name"),
            (&["--hostname", "a b"], "host name"),
            (&["--hostname=-a"], "host name"),
            (&["--hostname", ""], "host name"),
            (&["--hostname", &long], "host name"),
            (&["--hostname", "a\nb"], "host name"),
            (&["--cap-add", "CAP_EVERYTHING"], "EVERYTHING"),
            (&["--cap-drop", ""], "capability"),
        ],
    );
}

#[test]
fn users_that_are_none_are_refused() {
    let ground = ground!();
    // A passwd that would make root of what is no number (CVE-2024-40635, CVE-2026-46680).
    let passwd = "root:x:0:0::/root:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n1000\\::x:0:0::/:/bin/sh\n+0:x:0:0::/:/bin/sh\n:x:0:0::/:/bin/sh\n";
    std::fs::write(ground.root().join("etc/passwd"), passwd).unwrap();
    let users = [
        "1000:",
        ":0",
        "+0",
        "1 0",
        "4294967295",
        "4294967296",
        "4294967296:0",
        "0:4294967296",
        "-1",
        "",
        ":",
        "nobody-here",
        "0:nogroup",
        "0x0",
        "00",
        "1000\n0",
        "a:b:c",
        "99999999999999999999999999",
    ];
    for user in users {
        ground.unchanged(|| ground.run(&[&format!("--user={user}")], &["id"])).refused(125, &["user"]);
    }
    // The largest that are numbers are taken as such.
    assert_eq!(
        ground
            .run(&["-u", "2147483648:4294967294"], &["sh", "-c", "grep -E '^[UG]id' /proc/self/status"])
            .good(),
        "Uid:\t2147483648\t2147483648\t2147483648\t2147483648\nGid:\t4294967294\t4294967294\t4294967294\t4294967294\n"
    );
}

#[test]
fn paths_that_lead_nowhere_or_elsewhere_are_refused() {
    let ground = ground!();
    let volume = ground.directory("volume");
    let v = volume.to_str().unwrap();
    let join = |to: &str| format!("{v}{to}");
    let targets = [
        ":/proc",
        ":/proc/sys",
        ":/sys/kernel",
        ":/",
        ":/a/../proc",
        "://proc",
        ":/./sys",
        ":/a/..",
        ":a",
        ":",
        ":/a:rx",
        ":/a:ro:rw",
        "",
    ]
    .map(join);
    for target in &targets {
        ground.unchanged(|| ground.run(&["-v", target], &["true"])).refused(125, &["volume"]);
    }
    let missing = join("/missing:/a");
    all_refused(
        &ground,
        &[
            (&["-v", &missing], "does not exist"),
            (&["-v", "relative:/a"], "absolute"),
            (&["-w", "relative"], "absolute"),
            (&["-w", "/a/../b"], "working directory"),
            (&["-w", ""], "working directory"),
            (&["--rootfs", "/no/such/root"], "/no/such/root"),
            (&["--rootfs", "/dev/null"], "/dev/null"),
            (&["--rootfs", ""], "--rootfs"),
        ],
    );
    let read_only = ground.unchanged(|| ground.berth(&["run", "--rm", "--read-only", "--", "true"]));
    read_only.refused(125, &["read-only"]);
}

#[test]
fn profiles_that_are_none_are_refused() {
    let ground = ground!();
    let big = format!("{{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":\"{}\"}}", "y".repeat(2 << 20));
    let deep = "[".repeat(200_000);
    let contents = [
        ("empty", ""),
        ("text", "not json"),
        ("misspelt", r#"{"defaultAction":"SCMP_ACT_ALLOW","sycalls":[]}"#),
        ("action", r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#),
        ("big", big.as_str()),
        ("deep", deep.as_str()),
        ("null", "\0\0\0"),
    ];
    // Where compiled profiles are kept is made with the first.
    let good = format!("seccomp={}", ground.file("good", r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).display());
    ground.run(&["--security-opt", &good], &["true"]).good();
    for (name, content) in contents {
        let path = ground.file(name, content);
        let option = format!("seccomp={}", path.display());
        ground.unchanged(|| ground.run(&["--security-opt", &option], &["true"])).refused(125, &["profile"]);
    }
    let missing = format!("seccomp={}", ground.path("missing").display());
    let directory = format!("seccomp={}", ground.directory("d").display());
    all_refused(
        &ground,
        &[
            (&["--security-opt", &missing], "missing"),
            (&["--security-opt", &directory], "regular file"),
            (&["--security-opt", "seccomp=/dev/zero"], "regular file"),
        ],
    );
    std::fs::remove_dir_all(ground.runtime_dir().join("seccomp")).unwrap();
}

/// One entry of a tar archive, as ustar has it.
struct Entry<'a> {
    name: &'a str,
    kind: u8,
    link: &'a str,
    content: &'a [u8],
}

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let mut header = [0u8; 512];
        header[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header[100..107].copy_from_slice(b"0000755");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", entry.content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[148..156].copy_from_slice(b"        ");
        header[156] = entry.kind;
        header[157..157 + entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[329..336].copy_from_slice(b"0000010");
        header[337..344].copy_from_slice(b"0000001");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(entry.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn file<'a>(name: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { name, kind: b'0', link: "", content }
}

fn link<'a>(name: &'a str, kind: u8, link: &'a str) -> Entry<'a> {
    Entry { name, kind, link, content: b"" }
}

fn archive(ground: &Ground, name: &str, entries: &[Entry<'_>]) -> PathBuf {
    ground.file(name, tar(entries))
}

#[test]
fn archives_that_reach_outside_are_refused() {
    let ground = ground!();
    let canary = ground.file("canary", "untouched");
    let outside = canary.parent().unwrap().to_str().unwrap().to_owned();
    let through = format!("{outside}/canary");
    let busybox = std::fs::read(ground.root().join("bin/busybox")).unwrap();
    let cases: [(&str, Vec<Entry<'_>>); 7] = [
        ("up.tar", vec![file("../../canary", b"x")]),
        ("mid.tar", vec![file("a/../../../canary", b"x")]),
        ("hard.tar", vec![link("a", b'1', &through), file("a", b"x")]),
        ("hard-up.tar", vec![link("a", b'1', "../../canary")]),
        ("through.tar", vec![link("a", b'2', &outside), file("a/canary", b"x")]),
        ("loop.tar", vec![link("a", b'2', "a"), file("a/b", b"x")]),
        ("name.tar", vec![file("a\u{0}b", b"x"), file("", b"x")]),
    ];
    for (name, entries) in &cases {
        let path = archive(&ground, name, entries);
        let exit = ground.unchanged(|| ground.run(&["--rootfs", path.to_str().unwrap()], &["true"]));
        // Whether it is refused as an archive or as one without the program, nothing of it ran and nothing is left.
        assert!(matches!(exit.code, Some(125 | 127)) && exit.stdout.is_empty(), "{name}: {exit:?}");
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "untouched", "{name}");
    }
    // Links that stay inside by the container's own reckoning are harmless, and work.
    let harmless = [
        file("bin/busybox", &busybox),
        link("bin/echo", b'2', "busybox"),
        link("bin/cat", b'1', "bin/busybox"),
        link("outside", b'2', &through),
    ];
    let path = archive(&ground, "good.tar", &harmless);
    let seen = ground.run(&["--rootfs", path.to_str().unwrap()], &["echo", "ok"]);
    assert_eq!(seen.good(), "ok\n");
    assert_ne!(ground.run(&["--rootfs", path.to_str().unwrap()], &["cat", "/outside"]).code, Some(0));
}

#[test]
fn devices_in_archives_are_not_devices() {
    let ground = ground!();
    let busybox = std::fs::read(ground.root().join("bin/busybox")).unwrap();
    let entries = [
        file("bin/busybox", &busybox),
        link("disk", b'4', ""),
        link("mem", b'3', ""),
        link("fifo", b'6', ""),
    ];
    let path = archive(&ground, "devices.tar", &entries);
    let script = "for f in /disk /mem; do /bin/busybox head -c 1 $f 2>/dev/null | /bin/busybox wc -c; done";
    let exit = ground.run(&["--rootfs", path.to_str().unwrap()], &["/bin/busybox", "sh", "-c", script]);
    assert!(exit.code == Some(125) || exit.stdout == "0\n0\n", "{exit:?}");
}

#[test]
fn damaged_archives_and_bombs_are_refused() {
    let ground = ground!();
    let whole = tar(&[file("bin/a", &[b'x'; 5000])]);
    let mut damaged = whole.clone();
    damaged[0] = b'c';
    for (name, content, word) in [
        ("empty", &b""[..], ""),
        ("text", b"this is not an archive, only text", ""),
        ("cut", &whole[..700], ""),
        ("damaged", &damaged, ""),
        ("cut-gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", ""),
        ("cut-xz", b"\xfd7zXZ\x00\x00\x04", ""),
        ("cut-zst", b"\x28\xb5\x2f\xfd\x04", ""),
    ] {
        let path = ground.file(name, content);
        let exit = ground.unchanged(|| ground.run(&["--rootfs", path.to_str().unwrap()], &["true"]));
        exit.refused(125, &[word]);
        assert!(exit.stderr.contains(path.to_str().unwrap()), "{exit:?}");
    }
    // 64 GB of zeros in some kilobytes.
    let Some(bomb) = bomb(&ground) else { return skip(this_test!(), "gzip") };
    let exit = ground.unchanged(|| ground.run(&["--rootfs", bomb.to_str().unwrap()], &["true"]));
    exit.refused(125, &[bomb.to_str().unwrap()]);
}

/// A gzip file of a tar archive with a file of zeros, a thousand times larger than itself, and again compressed by the
/// same: many members of the same megabyte.
fn bomb(ground: &Ground) -> Option<PathBuf> {
    let mut header = tar(&[file("zeros", b"")])[..512].to_vec();
    // 32 GiB, in the base-256 form.
    header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]);
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let gzip = |content: &[u8]| {
        let mut child =
            Command::new("gzip").arg("-9c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut input = child.stdin.take()?;
        let content = content.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&content));
        let output = child.wait_with_output().ok()?;
        writer.join().ok()?.ok()?;
        output.status.success().then_some(output.stdout)
    };
    let mut bytes = gzip(&header)?;
    let zeros = gzip(&vec![0u8; 64 << 20])?;
    for _ in 0..512 {
        bytes.extend_from_slice(&zeros);
    }
    Some(ground.file("bomb.tar.gz", bytes))
}
