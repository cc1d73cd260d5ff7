// SPDX-License-Identifier: Apache-2.0
//! 1 GiB of lines of 100 bytes from a process through a pipe into the log, against the process writing the file itself.
//!
//! `cargo bench -p berth-logger` prints seconds for each way, in one run, interleaved: `file` is the process with the file as
//! its stdout; `cat` a pipe and the cheapest reader there is; `plain` and `rotating` a pipe and [`Writer`], as the supervisor
//! reads it. `BERTH_FLOOD_MIB` makes it smaller.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_logger::{Directory, Policy, Writer};

const ROUNDS: usize = 3;

fn main() {
    // What cargo passes to a bench is for a harness that is not here.
    let mib: u64 = std::env::var("BERTH_FLOOD_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(1024);
    if std::env::args().nth(1).as_deref() == Some("flood") {
        return flood(mib);
    }
    let ground = tempfile::tempdir().expect("a directory");
    let mut best = vec![Duration::MAX; 4];
    for round in 0..ROUNDS {
        for (at, way) in ["file", "cat", "plain", "rotating"].into_iter().enumerate() {
            let dir = ground.path().join(format!("{way}-{round}"));
            fs::create_dir(&dir).expect("a directory");
            let took = run(way, &dir, mib);
            let written = size(&dir);
            assert!(way == "rotating" || written == mib << 20, "{way} wrote {written} bytes");
            best[at] = best[at].min(took);
            fs::remove_dir_all(&dir).expect("an empty ground");
        }
    }
    let file = best[0].as_secs_f64();
    for (way, took) in ["file", "cat", "plain", "rotating"].into_iter().zip(&best) {
        println!("{way:9} {:.2} s  {:.2} x file", took.as_secs_f64(), took.as_secs_f64() / file);
    }
}

fn size(dir: &Path) -> u64 {
    fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").metadata().expect("a file").len())
        .sum()
}

/// One way, from the start of the process to the last byte in the file.
fn run(way: &str, dir: &Path, mib: u64) -> Duration {
    let began = Instant::now();
    let file = File::options().append(true).create(true).open(dir.join("stdout")).expect("a file");
    if way == "file" {
        wait(start(mib, file.into()));
        return began.elapsed();
    }
    let mut child = start(mib, Stdio::piped());
    let pipe: OwnedFd = child.stdout.take().expect("a pipe").into();
    if way == "cat" {
        let status = Command::new("cat").stdin(pipe).stdout(file).status().expect("cat");
        assert!(status.success());
    } else {
        let policy = if way == "plain" { Policy::UNBOUNDED } else { Policy::rotating(50 << 20) };
        let output =
            Directory::new(File::open(dir).expect("it").into(), b"stdout", 4, 0o640, Some(file.into()));
        let mut writer = Writer::new(output.expect("a good name"), policy, 0, true);
        let mut source = File::from(pipe);
        let mut chunk = vec![0; 64 << 10];
        while let Ok(count @ 1..) = source.read(&mut chunk) {
            writer.feed(&chunk[..count]);
        }
        assert_eq!(writer.lost().bytes, 0);
    }
    wait(child);
    began.elapsed()
}

fn start(mib: u64, stdout: Stdio) -> Child {
    let this = std::env::current_exe().expect("a path");
    let mut command = Command::new(this);
    command.arg("flood").env("BERTH_FLOOD_MIB", mib.to_string()).stdout(stdout).spawn().expect("a process")
}

fn wait(mut child: Child) {
    assert!(child.wait().expect("an end").success());
}

/// The container: lines of 100 bytes, written 4 KiB at a time as libc's stdout would.
fn flood(mib: u64) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let text: Vec<u8> =
        (0..4100).map(|at| if at % 100 == 99 { b'\n' } else { b'a' + (at % 26) as u8 }).collect();
    let total = mib << 20;
    let mut written = 0u64;
    let mut file = File::from(std::os::fd::AsFd::as_fd(&out).try_clone_to_owned().expect("stdout"));
    while written < total {
        let at = (written % 100) as usize;
        let count = 4096.min((total - written) as usize).min(4100 - at);
        file.write_all(&text[at..at + count]).expect("written");
        written += count as u64;
    }
    out.flush().expect("flushed");
}
