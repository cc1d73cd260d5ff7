// SPDX-License-Identifier: Apache-2.0
//! Directories with an agent in them, a terminal, and patience.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_testing::Exit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{read, write};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Longer than anything takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent in directories of its own. Dropped, nothing of it is left.
pub(crate) struct Ground {
    directory: tempfile::TempDir,
    agent: Option<Child>,
}

/// A ground with an agent, or the reason why there is none is told.
macro_rules! ground {
    ($test:literal) => {
        match $crate::ground::Ground::with_agent() {
            Some(ground) => ground,
            None => return berth_testing::skip($test, "root and control groups"),
        }
    };
}
pub(crate) use ground;

impl Ground {
    /// Directories without an agent.
    pub(crate) fn bare() -> Ground {
        let ground = Ground { directory: tempfile::tempdir().unwrap(), agent: None };
        std::fs::create_dir(ground.path("etc")).unwrap();
        ground
    }

    pub(crate) fn with_agent() -> Option<Ground> {
        let groups = ["cgroup.procs", "memory/cgroup.procs"];
        let groups = groups.iter().any(|file| std::path::Path::new("/sys/fs/cgroup").join(file).exists());
        (rustix::process::geteuid().is_root() && groups).then(|| {
            let mut ground = Ground::bare();
            ground.start_agent();
            ground
        })
    }

    pub(crate) fn start_agent(&mut self) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        // On a host with systemd a scope would stay behind.
        command.args(["agent", "--no-systemd_enable_support"]);
        command.envs(self.variables()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.agent = Some(command.spawn().unwrap());
        self.until("the agent answers", || self.berth(["resources"]).code == Some(0));
    }

    pub(crate) fn signal_agent(&mut self, signal: Signal) {
        let mut agent = self.agent.take().unwrap();
        kill_process(Pid::from_child(&agent), signal).unwrap();
        agent.wait().unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> String {
        self.path("run/berth.sock").to_str().unwrap().to_owned()
    }

    fn variables(&self) -> [(&'static str, PathBuf); 3] {
        let run = self.path("run");
        [
            ("BERTH_RUNTIME_DIR", run),
            ("BERTH_WORK_DIR", self.path("work")),
            ("BERTH_CONFIG_DIR", self.path("etc")),
        ]
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(arguments).envs(self.variables()).env_remove("BERTH_SOCKET").stdin(Stdio::null());
        command
    }

    pub(crate) fn berth<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Exit {
        self.command(arguments).output().unwrap().into()
    }

    /// With something to read.
    pub(crate) fn fed(&self, input: &str, arguments: &[&str]) -> Exit {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// One that runs until it is ended.
    pub(crate) fn started(&self, name: &str) {
        let script = "trap 'echo bye; exit 7' TERM; echo up; echo err >&2; while :; do sleep 0.05; done";
        let started = self.berth(["run", "-d", "--name", name, "--memory", "64m", "--", "sh", "-c", script]);
        assert_eq!(started.good(), format!("{name}\n"));
        self.until("it is up", || self.berth(["logs", name]).stdout == "up\n");
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !is() {
            let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(Instant::now() < limit, "{what}: not in time; the agent's log:\n{}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.agent.is_none() && self.path("work/meta").exists() {
            self.start_agent();
        }
        let all = self.berth(["ps", "-aq"]).stdout;
        if !all.is_empty() {
            self.berth(["rm", "-f"].into_iter().chain(all.lines()));
        }
        if self.agent.is_some() {
            self.signal_agent(Signal::TERM);
        }
        let instance = std::fs::read_to_string(self.path("run/instance")).unwrap_or_default();
        let Some(id) = instance.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() >= 8) else {
            return;
        };
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(controller.path().join("berth").join(id));
        }
        let _ = std::fs::remove_dir(format!("/sys/fs/cgroup/berth/{id}"));
    }
}

/// A command on a terminal of its own. Dropped, it is killed.
pub(crate) struct Terminal {
    master: OwnedFd,
    child: Child,
    seen: Vec<u8>,
}

impl Terminal {
    /// Not its controlling terminal: what is typed reaches the container as bytes.
    pub(crate) fn start(mut command: Command, rows: u16, columns: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = open(name.as_c_str(), flags, Mode::empty()).unwrap();
        let again = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(again()).stdout(again()).stderr(again());
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        Terminal { master, child: command.spawn().unwrap(), seen: Vec::new() }
    }

    pub(crate) fn types(&self, text: &str) {
        write(&self.master, text.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
        self.signal(Signal::WINCH);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until it is shown after what was looked for before.
    #[track_caller]
    pub(crate) fn shows(&mut self, word: &str) {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.screen().find(word) {
                let rest = self.screen()[at + word.len()..].to_owned();
                self.seen = rest.into_bytes();
                return;
            }
            assert!(self.look(limit), "{word:?} is not shown, but {:?}", self.screen());
        }
    }

    /// Whether it is shown soon.
    pub(crate) fn screen_has(&mut self, word: &str) -> bool {
        self.look(Instant::now() + Duration::from_millis(50));
        self.screen().contains(word)
    }

    fn look(&mut self, limit: Instant) -> bool {
        let left = limit.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        if matches!(poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&left)), Ok(0)) {
            return false;
        }
        let mut room = [0u8; 4096];
        match read(&self.master, &mut room) {
            Ok(n @ 1..) => {
                self.seen.extend_from_slice(&room[..n]);
                true
            }
            // EIO: nobody holds the other end any more.
            _ => false,
        }
    }

    /// Its exit code, and what it showed last.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let limit = Instant::now() + PATIENCE;
        // The command held the other end for its children as well as for itself.
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < limit, "it does not end: {:?}", self.screen());
            self.look(Instant::now() + Duration::from_millis(20));
        }
        while self.look(Instant::now() + Duration::from_millis(20)) {}
        (self.child.wait().unwrap().code(), self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
