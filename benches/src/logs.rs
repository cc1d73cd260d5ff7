// SPDX-License-Identifier: Apache-2.0
//! 1 GiB of lines of 100 bytes, written 4 KiB at a time: into a plain file, by the same program without and in a container,
//! by a container with the sandbox's logger and somebody who follows it, and through the rotating logger against podman's
//! conmon (k8s-file), in turns.
//!
//! The writer is this program, copied into the root file system. `writer` is what the program itself took, from its first
//! write to its last; `whole` is the command from its start to its end, with all output in the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::rounds::{Stop, check};
use crate::site::find_program;

/// Where the writer tells how long it took.
const TOLD: &str = "told";

/// What was measured, in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Logs {
    mib: u64,
    rows: Vec<Row>,
    skipped: Vec<String>,
    /// A followed container's writer, as a part of a container's that writes a plain file.
    followed: f64,
    /// The same, as a part of a program's in no container.
    against_program: f64,
    /// The rotating logger's whole time, as a part of podman's.
    against_podman: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    writer: f64,
    whole: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Program,
    File,
    Sandbox,
    Followed,
    Rotating,
    Podman,
}

impl Way {
    const ALL: [Way; 6] = [Way::Program, Way::File, Way::Sandbox, Way::Followed, Way::Rotating, Way::Podman];

    fn name(self) -> &'static str {
        match self {
            Way::Program => "plain file, no container",
            Way::File => "berth run, plain file",
            Way::Sandbox => "berth run, sandbox",
            Way::Followed => "berth run, sandbox, logs -f",
            Way::Rotating => "berth run, rotating",
            Way::Podman => "podman run, k8s-file",
        }
    }
}

/// The writer: this program's other side. It writes to stdout, or to a file.
pub(crate) fn flood(mib: &str, path: Option<&str>) {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    let total = mib.parse::<u64>().unwrap_or(1) << 20;
    let text: Vec<u8> =
        (0..4200u32).map(|at| if at % 100 == 99 { b'\n' } else { b'a' + (at % 26) as u8 }).collect();
    let out = match path {
        Some(path) => fs::File::options().create(true).append(true).open(path),
        None => std::io::stdout().as_fd().try_clone_to_owned().map(fs::File::from),
    };
    let Ok(mut out) = out else { return };
    let mut written = 0u64;
    let begun = Instant::now();
    while written < total {
        let from = (written % 100) as usize;
        let count = 4096.min((total - written) as usize);
        if out.write_all(&text[from..from + count]).is_err() {
            return;
        }
        written += count as u64;
    }
    eprintln!("{TOLD} {}", begun.elapsed().as_nanos());
}

/// Measures on `folder`, which is the caller's to remove.
pub(crate) fn measure(
    berth: &Path,
    folder: &Path,
    mib: u64,
    rounds: usize,
    stop: &Stop,
) -> Result<Logs, Error> {
    if !berth.is_file() {
        return Err(Error::NoBerth(berth.to_owned()));
    }
    let folder = folder.join("logs");
    let root = folder.join("root");
    for dir in ["bin", "dev", "proc", "sys", "run", "etc", "tmp"] {
        let path = root.join(dir);
        fs::create_dir_all(&path).map_err(Error::file("make", &path))?;
    }
    let me = std::env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
    let writer = root.join("bin/flood");
    fs::copy(&me, &writer).map_err(Error::file("copy this program to", &writer))?;
    let mut ways: Vec<(Way, Vec<(f64, f64)>)> = Vec::new();
    let mut skipped = Vec::new();
    for way in Way::ALL {
        match way == Way::Podman && find_program("podman").is_none() {
            true => skipped.push("podman: it is not on the path".to_owned()),
            false => ways.push((way, Vec::new())),
        }
    }
    for round in 0..rounds {
        for (way, times) in &mut ways {
            check(stop)?;
            let room = folder.join(format!("{round}"));
            fs::create_dir_all(&room).map_err(Error::file("make", &room))?;
            times.push(turn(*way, berth, &room, &root, mib)?);
            fs::remove_dir_all(&room).map_err(Error::file("remove", &room))?;
            rustix::fs::sync();
        }
    }
    let rows: Vec<Row> = ways
        .iter()
        .map(|(way, times)| {
            let median = |which: fn(&(f64, f64)) -> f64| {
                let mut all: Vec<f64> = times.iter().map(which).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            };
            Row { name: way.name(), writer: median(|time| time.0), whole: median(|time| time.1) }
        })
        .collect();
    let of = |way: Way| rows.iter().find(|row| row.name == way.name());
    let ratio = |one: Option<f64>, other: Option<f64>| Some(one? / other?);
    let writer = |way| of(way).map(|row| row.writer);
    let followed = |than| ratio(writer(Way::Followed), writer(than)).unwrap_or(f64::NAN);
    let against_podman = ratio(of(Way::Rotating).map(|row| row.whole), of(Way::Podman).map(|row| row.whole));
    let (followed, against_program) = (followed(Way::File), followed(Way::Program));
    Ok(Logs { mib, followed, against_program, against_podman, rows, skipped })
}

/// One way: what the writer took, and the whole command.
fn turn(way: Way, berth: &Path, room: &Path, root: &Path, mib: u64) -> Result<(f64, f64), Error> {
    let mib = mib.to_string();
    let ours = |log: &[&str]| {
        let mut command = Command::new(berth);
        command.env("BERTH_RUNTIME_DIR", room.join("run")).env("BERTH_WORK_DIR", room.join("work"));
        command.args(["run", "--name", "flood", "-v"]).arg(format!("{}:/out", room.display()));
        command.args(log).arg("--rootfs").arg(root);
        command.args(["/bin/flood", "flood", &mib]);
        command
    };
    let mut command = match way {
        Way::Program => {
            let mut command = Command::new(root.join("bin/flood"));
            command.args(["flood", &mib]).arg(room.join("file"));
            command
        }
        Way::File => {
            let mut command = ours(&[]);
            command.arg("/out/file");
            command
        }
        Way::Sandbox | Way::Followed => ours(&[]),
        Way::Rotating => {
            ours(&["--log-driver", "rotating", "--log-opt", "max-size=64m", "--log-opt", "max-file=1000"])
        }
        Way::Podman => {
            let mut command = Command::new("podman");
            command.arg("--root").arg(room.join("podman")).arg("--runroot").arg(room.join("podman-run"));
            command.args(["run", "--rm", "--network=none", "--cgroups=disabled", "--log-driver=k8s-file"]);
            command.arg("--log-opt").arg(format!("path={}", room.join("podman.log").display()));
            command
                .args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--rootfs"])
                .arg(root);
            command.args(["/bin/flood", "flood", &mib]);
            command
        }
    };
    command.stdout(Stdio::null()).stdin(Stdio::null()).stderr(Stdio::piped());
    let started = |source| Error::Start { program: way.name().to_owned(), source };
    let begun = Instant::now();
    let child = command.spawn().map_err(started)?;
    let follower = (way == Way::Followed).then(|| follow(berth, room)).transpose()?;
    let output = child.wait_with_output().map_err(started)?;
    let whole = begun.elapsed();
    if let Some(mut follower) = follower {
        // It has read all when it ends.
        follower.wait().map_err(started)?;
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = said.lines().find_map(|line| line.trim().strip_prefix(TOLD)?.trim().parse::<u64>().ok());
    match told {
        Some(told) if output.status.success() => {
            Ok((Duration::from_nanos(told).as_secs_f64(), whole.as_secs_f64()))
        }
        _ => Err(Error::Failed {
            program: way.name().to_owned(),
            when: "flooding its log".to_owned(),
            status: output.status.to_string(),
            output: said,
        }),
    }
}

/// `berth logs -f`, once there is something to follow.
fn follow(berth: &Path, room: &Path) -> Result<std::process::Child, Error> {
    let log: PathBuf = room.join("work/oneshot/flood/stdout");
    while !log.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut command = Command::new(berth);
    command.env("BERTH_RUNTIME_DIR", room.join("run")).env("BERTH_WORK_DIR", room.join("work"));
    command.args(["logs", "-f", "flood"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|source| Error::Start { program: "berth logs".to_owned(), source })
}

impl Logs {
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} MiB of lines of 100 bytes; median, seconds\n\n", self.mib);
        text.push_str(&format!("{:<30}{:>8}{:>8}\n", "", "writer", "whole"));
        for row in &self.rows {
            text.push_str(&format!("{:<30}{:>8.2}{:>8.2}\n", row.name, row.writer, row.whole));
        }
        text.push_str(&format!("\nfollowed / plain file: {:.2}\n", self.followed));
        text.push_str(&format!("followed / plain file without a container: {:.2}\n", self.against_program));
        if let Some(ratio) = self.against_podman {
            text.push_str(&format!("rotating / podman: {ratio:.2}\n"));
        }
        for skipped in &self.skipped {
            text.push_str(&format!("skipped: {skipped}\n"));
        }
        text
    }
}
