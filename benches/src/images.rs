// SPDX-License-Identifier: Apache-2.0
//! What it takes to bring an image: a cold pull from a registry on loopback until it could run, against docker, podman,
//! ctr, and skopeo with umoci, in turns; and how long a warm one needs to become a root file system.
//!
//! The image is a Debian with Python and Perl, and five more layers of many small files out of it: more than 500 MB.
//! It is made once on a machine, in a cache (`BERTH_TEST_CACHE`, else /var/tmp/berth-test). Each daemon is one of the
//! bench's own with a root of its own, up before the time begins; every store is empty at the beginning of each turn.
//!
//! Nothing is removed between turns: for a minute and more ext4 gives out no inode that was freed, and looks at each of
//! them for every file that is made. Whoever pulls after a removal of forty thousand files pays ten times over, for the
//! files of the one before. So a round's stores go together, and the next round waits.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::rounds::{Stop, check};
use crate::stats;

/// RECENTCY_MIN of the kernel's fs/ext4/ialloc.c, and some.
const FORGETS: Duration = Duration::from_secs(70);
/// How long a daemon may take to come up.
const COMES_UP: Duration = Duration::from_secs(60);
const LAYERS: u32 = 5;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Images {
    /// Bytes of the tars in the image.
    bytes: u64,
    /// Bytes that are sent.
    compressed: u64,
    layers: usize,
    rounds: usize,
    pulls: Vec<Pull>,
    skipped: Vec<String>,
    /// The time of ours as a part of that of the best other.
    ratio: Option<f64>,
    /// The most that our pull had in memory, in MiB.
    peak_mib: f64,
    /// From an image in the store to its layers opened and leased, median of the phase, in milliseconds.
    provision_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Pull {
    name: &'static str,
    seconds: Vec<f64>,
    median: f64,
}

/// Whoever pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Berth,
    Docker,
    Podman,
    Ctr,
    SkopeoUmoci,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Berth, Kind::Docker, Kind::Podman, Kind::Ctr, Kind::SkopeoUmoci];

    fn name(self) -> &'static str {
        match self {
            Kind::Berth => "berth image pull",
            Kind::Docker => "docker pull",
            Kind::Podman => "podman pull",
            Kind::Ctr => "ctr images pull",
            Kind::SkopeoUmoci => "skopeo copy, umoci unpack",
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Berth => &[],
            Kind::Docker => &["docker", "dockerd", "containerd"],
            Kind::Podman => &["podman"],
            Kind::Ctr => &["ctr", "containerd"],
            Kind::SkopeoUmoci => &["skopeo", "umoci"],
        }
    }
}

/// Measures on `folder`, which is the caller's to remove.
pub(crate) fn measure(berth: &Path, folder: &Path, rounds: usize, stop: &Stop) -> Result<Images, Error> {
    if !berth.is_file() {
        return Err(Error::NoBerth(berth.to_owned()));
    }
    let layout = layout(stop)?;
    let registry = Registry::start(folder)?;
    let name = registry.name("bench/image:1");
    let from = format!("oci:{}:t", layout.display());
    let to = format!("docker://{name}");
    done(
        "fill the registry",
        Command::new("skopeo").args([
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            &from,
            &to,
        ]),
    )?;
    let mut bench = Bench { berth, folder, name, rooms: Vec::new() };
    let (mut takers, mut skipped) = (Vec::new(), Vec::new());
    for kind in Kind::ALL {
        match kind.programs().iter().find(|program| !on_path(program)) {
            Some(missing) => skipped.push(format!("{}: there is no {missing} on the path", kind.name())),
            None => takers.push((kind, Vec::new())),
        }
    }
    let mut peak: u64 = 0;
    let mut ours = PathBuf::new();
    for round in 0..rounds {
        if round > 0 {
            bench.rooms.drain(..).for_each(|room| remove(&room));
            rustix::fs::sync();
            let until = Instant::now() + FORGETS;
            while Instant::now() < until {
                check(stop)?;
                thread::sleep(Duration::from_millis(200));
            }
        }
        let mut failed = Vec::new();
        // Whoever comes first comes after the registry was filled: each round begins with another.
        for turn in 0..takers.len() {
            check(stop)?;
            let at = (turn + round) % takers.len();
            let (kind, times) = &mut takers[at];
            match bench.turn(*kind, stop) {
                Ok((time, most)) => {
                    if *kind == Kind::Berth {
                        ours = bench.rooms.last().cloned().unwrap_or_default();
                    }
                    times.push(time.as_secs_f64());
                    // It takes minutes: whoever ends it early knows as much as there is.
                    eprintln!("{}: {:.2} s", kind.name(), time.as_secs_f64());
                    peak = peak.max(most);
                }
                Err(error) if *kind == Kind::Berth => return Err(error),
                Err(error) => {
                    skipped.push(format!("{}: {}", kind.name(), crate::chain(&error)));
                    failed.push(at);
                }
            }
        }
        failed.sort_unstable();
        failed.into_iter().rev().for_each(|at| drop(takers.remove(at)));
    }
    let median = |seconds: &[f64]| stats::median(seconds).unwrap_or_default();
    let pulls: Vec<Pull> = takers
        .into_iter()
        .map(|(kind, seconds)| Pull { name: kind.name(), median: median(&seconds), seconds })
        .collect();
    let best = pulls.iter().skip(1).map(|pull| pull.median).fold(f64::INFINITY, f64::min);
    let ratio = best.is_finite().then(|| pulls[0].median / best);
    let (bytes, compressed, layers) = bench.size(&ours)?;
    let provision_ms = bench.warm(&ours, rounds * 10, stop)?;
    bench.rooms.iter().for_each(|room| remove(room));
    #[expect(clippy::cast_precision_loss, reason = "kibibytes of one process")]
    let peak_mib = peak as f64 / 1024.0;
    Ok(Images { bytes, compressed, layers, rounds, pulls, skipped, ratio, peak_mib, provision_ms })
}

impl Images {
    pub(crate) fn text(&self) -> String {
        let (all, sent) = (self.bytes / 1_000_000, self.compressed / 1_000_000);
        let mut text = format!(
            "{} layers, {all} MB, {sent} MB as sent; {} rounds, cold, from loopback\n",
            self.layers, self.rounds
        );
        for pull in &self.pulls {
            let each: Vec<String> = pull.seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
            text += &format!("  {:<28} {:>7.2} s   ({})\n", pull.name, pull.median, each.join(" "));
        }
        self.skipped.iter().for_each(|why| text += &format!("  skipped {why}\n"));
        if let Some(ratio) = self.ratio {
            text += &format!("  berth takes {ratio:.3} of the time of the best other\n");
        }
        text += &format!("  peak memory of berth: {:.0} MiB\n", self.peak_mib);
        if let Some(time) = self.provision_ms {
            text += &format!("  a warm image is provisioned in {time:.2} ms\n");
        }
        text
    }
}

struct Bench<'a> {
    berth: &'a Path,
    folder: &'a Path,
    name: String,
    /// Of the turns of this round.
    rooms: Vec<PathBuf>,
}

impl Bench<'_> {
    /// One cold pull: its time, and what it had in memory at most (KiB, ours only).
    fn turn(&mut self, kind: Kind, stop: &Stop) -> Result<(Duration, u64), Error> {
        let room = self.folder.join(format!("room-{}", self.rooms.len()));
        self.rooms.push(room.clone());
        fs::create_dir_all(&room).map_err(Error::file("make", &room))?;
        let path = |name: &str| room.join(name).display().to_string();
        let daemon = match kind {
            Kind::Docker => Some(self.dockerd(&room, stop)?),
            Kind::Ctr => Some(self.containerd(&room, stop)?),
            _ => None,
        };
        // What others wrote must not be written back in our time, and the other way round.
        rustix::fs::sync();
        let begun = Instant::now();
        let mut peak = 0;
        match kind {
            Kind::Berth => peak = watched(self.ours(&room).args(["image", "pull", "-q", &self.name]))?,
            Kind::Docker => {
                let host = format!("unix://{}", path("docker.sock"));
                done("pull", Command::new("docker").args(["-H", &host, "pull", "-q", &self.name]))?;
            }
            Kind::Podman => {
                let places =
                    ["--root", &path("root"), "--runroot", &path("run"), "--storage-driver", "overlay"];
                done(
                    "pull",
                    Command::new("podman").args(places).args([
                        "pull",
                        "-q",
                        "--tls-verify=false",
                        &self.name,
                    ]),
                )?;
            }
            Kind::Ctr => {
                let pull = ["--address", &path("ctr.sock"), "images", "pull", "--plain-http", &self.name];
                done("pull", Command::new("ctr").args(pull))?;
            }
            Kind::SkopeoUmoci => {
                let (from, to) = (format!("docker://{}", self.name), format!("oci:{}:t", path("layout")));
                let copy = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", &from, &to];
                done("pull", Command::new("skopeo").args(copy))?;
                let image = format!("{}:t", path("layout"));
                done("unpack", Command::new("umoci").args(["unpack", "--image", &image, &path("bundle")]))?;
            }
        }
        let time = begun.elapsed();
        drop(daemon);
        Ok((time, peak))
    }

    fn ours(&self, room: &Path) -> Command {
        let mut command = Command::new(self.berth);
        command.arg("--work-dir").arg(room.join("work")).arg("--runtime-dir").arg(room.join("run"));
        command
    }

    fn dockerd(&self, room: &Path, stop: &Stop) -> Result<Daemon, Error> {
        let socket = room.join("docker.sock");
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(room.join("data")).arg("--exec-root").arg(room.join("exec"));
        command.arg("--pidfile").arg(room.join("pid")).arg("-H").arg(format!("unix://{}", socket.display()));
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        Daemon::start(command, &socket, room, stop)
    }

    fn containerd(&self, room: &Path, stop: &Stop) -> Result<Daemon, Error> {
        let socket = room.join("ctr.sock");
        let config = room.join("containerd.toml");
        let text = format!(
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\nroot = {:?}\nstate = {:?}\n[grpc]\naddress = {:?}\n",
            room.join("root"),
            room.join("state"),
            socket
        );
        fs::write(&config, text).map_err(Error::file("write", &config))?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(config);
        Daemon::start(command, &socket, room, stop)
    }

    fn size(&self, room: &Path) -> Result<(u64, u64, usize), Error> {
        let mut inspect = self.ours(room);
        let output = done("inspect", inspect.args(["image", "inspect", &self.name]))?;
        let all: serde_json::Value = serde_json::from_str(&output).unwrap_or_default();
        let layers = all[0]["Layers"].as_array().cloned().unwrap_or_default();
        let sum = |key: &str| layers.iter().filter_map(|layer| layer[key].as_u64()).sum();
        Ok((sum("Bytes"), sum("Size"), layers.len()))
    }

    /// The phase in which an image that is there becomes layers that are held and open.
    fn warm(&self, room: &Path, times: usize, stop: &Stop) -> Result<Option<f64>, Error> {
        let mut all = Vec::new();
        for _ in 0..times {
            check(stop)?;
            let mut run = self.ours(room);
            run.args(["run", "--rm", &self.name, "true"]).env("BERTH_TIMINGS", "1");
            let output = run.output().map_err(|source| Error::Start { program: "berth".into(), source })?;
            let line = String::from_utf8_lossy(&output.stderr).into_owned();
            let phases: serde_json::Value = serde_json::from_str(line.trim()).unwrap_or_default();
            all.extend(phases["provision"].as_f64().map(|microseconds| microseconds / 1000.0));
        }
        Ok(stats::median(&all))
    }
}

/// A daemon of the bench's own. Dropped, it is ended, and waited for.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(
        mut command: Command,
        socket: &Path,
        room: &Path,
        stop: &Stop,
    ) -> Result<Daemon, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let log = room.join("log");
        let file = fs::File::create(&log).map_err(Error::file("make", &log))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        let mut daemon = Daemon(child.map_err(|source| Error::Start { program: program.clone(), source })?);
        let deadline = Instant::now() + COMES_UP;
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            check(stop)?;
            let ended = daemon.0.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&log).unwrap_or_default();
                let output = log.lines().rev().take(3).collect::<Vec<_>>().join("; ");
                let status = ended.map_or_else(|| "nothing".to_owned(), |status| status.to_string());
                return Err(Error::Failed { program, when: "it was to come up".to_owned(), status, output });
            }
            thread::sleep(Duration::from_millis(50));
        }
        // A socket is there before all that is behind it.
        thread::sleep(Duration::from_secs(1));
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(0)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.0.try_wait().ok().flatten().is_none() {
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Debian's docker-registry.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    fn start(folder: &Path) -> Result<Registry, Error> {
        let (config, data) = (folder.join("registry.yml"), folder.join("registry"));
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(Error::file("find a port of", "127.0.0.1"))?.port();
        let text = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}, level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            data.display()
        );
        fs::write(&config, text).map_err(Error::file("write", &config))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::Start { program: "docker-registry".into(), source })?;
        let registry = Registry { child, port };
        let deadline = Instant::now() + COMES_UP;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                let (program, when) = ("docker-registry".to_owned(), "it was to come up".to_owned());
                return Err(Error::Failed { program, when, status: "nothing".into(), output: String::new() });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    fn name(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The image, as a layout of OCI in the cache.
fn layout(stop: &Stop) -> Result<PathBuf, Error> {
    let cache =
        std::env::var_os("BERTH_TEST_CACHE").map_or_else(|| "/var/tmp/berth-test".into(), PathBuf::from);
    let (layout, new) = (cache.join("bench-image"), cache.join("bench-image.new"));
    if layout.join("index.json").exists() {
        return Ok(layout);
    }
    remove(&new);
    let tree = new.join("tree");
    fs::create_dir_all(&tree).map_err(Error::file("make", &tree))?;
    let text = |path: &Path| path.display().to_string();
    let base = text(&new.join("base.tar"));
    done(
        "make a Debian",
        Command::new("mmdebstrap").args([
            "--variant=minbase",
            "--include=python3,perl",
            "--aptopt=Acquire::Check-Valid-Until \"false\"",
            "stable",
            &base,
        ]),
    )?;
    done("unpack it", Command::new("tar").args(["-C", &text(&tree), "--exclude=./dev/*", "-xf", &base]))?;
    let made = text(&new.join("layout"));
    let image = format!("{made}:t");
    done("make a layout", Command::new("umoci").args(["init", "--layout", &made]))?;
    done("make an image", Command::new("umoci").args(["new", "--image", &image]))?;
    done("add a layer", Command::new("umoci").args(["raw", "add-layer", "--image", &image, &base]))?;
    for layer in 1..=LAYERS {
        check(stop)?;
        let tar = text(&new.join("layer.tar"));
        let rename = format!("s,^,opt/copy{layer}/,");
        let what = "usr/share usr/lib/python3* usr/lib/x86_64-linux-gnu/perl*";
        let script = format!("cd {} && tar --transform '{rename}' --sort=name -cf {tar} {what}", text(&tree));
        done("make a layer", Command::new("sh").args(["-c", &script]))?;
        done("add a layer", Command::new("umoci").args(["raw", "add-layer", "--image", &image, &tar]))?;
    }
    fs::rename(&made, &layout).map_err(Error::file("rename", &made))?;
    remove(&new);
    Ok(layout)
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs somebody's program, which has to succeed; what it wrote.
pub(crate) fn done(when: &str, command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rev().take(3).collect::<Vec<_>>().join("; ");
    Err(Error::Failed { program, when: when.to_owned(), status: output.status.to_string(), output: said })
}

/// The same, and the most that it had in memory (KiB), looked at as it runs: that number only grows.
fn watched(command: &mut Command) -> Result<u64, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = spawned.map_err(|source| Error::Start { program: program.clone(), source })?;
    let mut most = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(peak.unwrap_or(0));
        match child.try_wait().map_err(Error::file("wait for", &program))? {
            Some(status) if status.success() => return Ok(most),
            Some(status) => {
                let (when, output) = ("pull".to_owned(), String::new());
                return Err(Error::Failed { program, when, status: status.to_string(), output });
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn remove(path: &Path) {
    // What daemons leave mounted there goes first.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let text = path.display().to_string();
    let below =
        table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(&text));
    let mut below: Vec<&str> = below.collect();
    below.sort_unstable_by_key(|point| std::cmp::Reverse(point.len()));
    for point in below {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
    let _ = fs::remove_dir_all(path);
}
