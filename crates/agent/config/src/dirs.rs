// SPDX-License-Identifier: Apache-2.0
//! The two directories of an agent: made, looked at, locked.
//!
//! ```text
//! <work_dir> 0711      layout     which directory this is, and the version of what is in it
//!                      agent.pid  who holds it
//! <runtime_dir> 0711   layout, agent.pid, instance
//! ```
//!
//! The lock is an flock(2) of the directory itself, not of a file in it: it can be taken on a full disk and on
//! one that is mounted read-only, it can not be removed or replaced while it is held, and systemd-tmpfiles
//! leaves a directory alone that is locked so. `agent.pid` says who holds it, for people; what counts is the lock.
//! Every copy of the descriptor holds it, so processes that live longer than the agent must be started before it
//! is taken, or execute a program (the descriptor is close-on-exec).

use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_model::Class;
use berth_record::{BootId, InstanceId, Lock, Process, Sync, Versioned};
use berth_sys::rustix;
use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::resolved::Resolved;

const LAYOUT: &str = "layout";
const PID: &str = "agent.pid";
/// Both records are a line.
const CAP: usize = 4096;
const MODE: u32 = 0o711;
/// systemd-tmpfiles holds such a lock for moments.
const PATIENCE: Duration = Duration::from_secs(1);
/// As much as must be writable for an agent to be whole: some records.
const ENOUGH: usize = 64 * 1024;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// `--work_dir`.
    WorkDir,
    /// `--runtime_dir`.
    RuntimeDir,
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Which::WorkDir => "work_dir",
            Which::RuntimeDir => "runtime_dir",
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Layout {
    of: Which,
}

impl Versioned for Layout {
    const KIND: &'static str = "layout";
    const VERSION: u32 = 1;
}

#[derive(Serialize, Deserialize)]
struct Holder {
    process: Process,
    boot: BootId,
}

impl Versioned for Holder {
    const KIND: &'static str = "agent-pid";
    const VERSION: u32 = 1;
}

/// The directories of this agent, held until it is dropped.
#[derive(Debug)]
pub struct AgentDirs {
    work: Lock,
    runtime: Lock,
    instance: InstanceId,
    degraded: Vec<Degraded>,
}

/// Why an agent can not do everything: a directory in which it can not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    /// Which directory.
    pub which: Which,
    /// Where it is.
    pub path: PathBuf,
    /// What is the matter, and what helps.
    pub reason: String,
}

/// Why the directories can not be used.
#[derive(Debug, thiserror::Error)]
pub enum DirsError {
    /// Another agent has it.
    #[error(
        "--{which} '{path}' is held by {}: stop that agent, or give this one another --{which}", holder(.pid)
    )]
    Held {
        /// Which directory.
        which: Which,
        /// Where it is.
        path: PathBuf,
        /// The holder, if it can be found out.
        pid: Option<u32>,
    },
    /// Mesos wrote it.
    #[error(
        "--{which} '{path}' was written by Mesos ('{evidence}' is there), and berth does not read Mesos's records: \
         give another --{which}; or stop the Mesos agent, let its tasks end, and move this directory away"
    )]
    Mesos {
        /// Which directory.
        which: Which,
        /// Where it is.
        path: PathBuf,
        /// What gives it away.
        evidence: String,
    },
    /// It is the other one of the two.
    #[error("--{which} '{path}' is another agent's {is}: give this agent directories of its own")]
    Swapped {
        /// What it was given as.
        which: Which,
        /// Where it is.
        path: PathBuf,
        /// What it is.
        is: Which,
    },
    /// Others can change it.
    #[error("--{which} '{path}' {why}")]
    Unsafe {
        /// Which directory.
        which: Which,
        /// Where it is.
        path: PathBuf,
        /// How, and what helps.
        why: String,
    },
    /// A record in it can not be read or made.
    #[error("{what} of --{which} '{path}'")]
    Record {
        /// What was tried.
        what: &'static str,
        /// Which directory.
        which: Which,
        /// Where it is.
        path: PathBuf,
        /// Why it failed, and what to do.
        source: Box<berth_record::Error>,
    },
    /// The kernel refused.
    #[error("{what} --{which} '{path}'")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Which directory.
        which: Which,
        /// Where it is.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl DirsError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            DirsError::Held { .. } | DirsError::Swapped { .. } => Class::Conflict,
            DirsError::Mesos { .. } => Class::Unsupported,
            DirsError::Unsafe { .. } => Class::Denied,
            DirsError::Record { source, .. } => source.class(),
            DirsError::Io { source, .. } => Class::of_io(source),
        }
    }
}

impl AgentDirs {
    /// Makes both directories if they are missing, and holds them.
    ///
    /// # Errors
    /// [`DirsError`]. A disk that is full or read-only is none as long as what is there suffices: see
    /// [`AgentDirs::degraded`].
    pub fn open(flags: &Resolved) -> Result<AgentDirs, DirsError> {
        let mut degraded = Vec::new();
        let work = Place::open(Which::WorkDir, &flags.work_dir)?.hold(&mut degraded)?;
        let runtime = Place::open(Which::RuntimeDir, &flags.runtime_dir)?;
        let path = runtime.path;
        let runtime = runtime.hold(&mut degraded)?;
        let instance = InstanceId::open(runtime.as_fd()).map_err(|source| DirsError::Record {
            what: "read or draw the instance id",
            which: Which::RuntimeDir,
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        Ok(AgentDirs { work, runtime, instance, degraded })
    }

    /// The work directory.
    pub fn work(&self) -> BorrowedFd<'_> {
        self.work.as_fd()
    }

    /// The runtime directory.
    pub fn runtime(&self) -> BorrowedFd<'_> {
        self.runtime.as_fd()
    }

    /// Which of several agents on this host: it stands in the name of everything that others see.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Directories that can not be written. Unless there are none, nothing may be launched; what is there can be
    /// listed, and removed to make room.
    pub fn degraded(&self) -> &[Degraded] {
        &self.degraded
    }
}

/// One directory on its way.
struct Place<'a> {
    which: Which,
    path: &'a Path,
    fd: OwnedFd,
}

impl<'a> Place<'a> {
    fn open(which: Which, path: &'a Path) -> Result<Place<'a>, DirsError> {
        let failed = |what| move |source| DirsError::Io { what, which, path: path.to_owned(), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                let made = DirBuilder::new().recursive(true).mode(MODE).create(path);
                made.map_err(failed("make"))?;
                let fd = openat(CWD, path, flags, Mode::empty());
                let fd = fd.map_err(io::Error::from).map_err(failed("open"))?;
                // Whatever the umask was.
                let mode = Mode::from_raw_mode(MODE);
                rustix::fs::fchmod(&fd, mode).map_err(io::Error::from).map_err(failed("set the mode of"))?;
                fd
            }
            other => other.map_err(io::Error::from).map_err(failed("open"))?,
        };
        Ok(Place { which, path, fd })
    }

    fn hold(self, degraded: &mut Vec<Degraded>) -> Result<Lock, DirsError> {
        self.check_owner()?;
        self.lock()?;
        // What a killed writer left; a file that stays is in nobody's way.
        let _ = berth_record::collect_stale(self.fd.as_fd());
        self.check_layout(degraded)?;
        if let Err(error) = self.tighten().and_then(|()| self.try_to_write()) {
            self.degrade(&error, degraded)?;
        }
        self.leave_pid();
        Ok(Lock::from_fd(self.fd))
    }

    fn io(&self, what: &'static str) -> impl Fn(io::Error) -> DirsError {
        let (which, path) = (self.which, self.path.to_owned());
        move |source| DirsError::Io { what, which, path: path.clone(), source }
    }

    /// Whoever can write here can put records before an agent that believes them.
    fn check_owner(&self) -> Result<(), DirsError> {
        let stat = rustix::fs::fstat(&self.fd).map_err(io::Error::from).map_err(self.io("stat"))?;
        let me = rustix::process::geteuid().as_raw();
        let mode = stat.st_mode & 0o7777;
        let why = if stat.st_uid != 0 && stat.st_uid != me {
            format!("belongs to uid {}, neither root nor this user: use chown, or give another", stat.st_uid)
        } else if mode & 0o022 != 0 {
            format!(
                "has mode {mode:04o}, so that others can write in it: use chmod 0711 if you trust what is in it"
            )
        } else {
            return Ok(());
        };
        Err(DirsError::Unsafe { which: self.which, path: self.path.to_owned(), why })
    }

    fn lock(&self) -> Result<(), DirsError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let operation = FlockOperation::NonBlockingLockExclusive;
            match rustix::io::retry_on_intr(|| rustix::fs::flock(&self.fd, operation)) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => {
                    let pid = self.holder();
                    return Err(DirsError::Held { which: self.which, path: self.path.to_owned(), pid });
                }
                Err(errno) => return Err(self.io("lock")(errno.into())),
            }
        }
    }

    /// Who holds the lock: as it wrote itself if it lives, or as the kernel lists it.
    fn holder(&self) -> Option<u32> {
        let written: Option<Holder> = berth_record::read(self.fd.as_fd(), PID, CAP).ok();
        let lives = |holder: &Holder| {
            BootId::current().is_ok_and(|boot| boot == holder.boot)
                && holder.process.exists().unwrap_or(false)
        };
        if let Some(holder) = written.filter(lives) {
            return Some(holder.process.pid);
        }
        let stat = rustix::fs::fstat(&self.fd).ok()?;
        let device = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        holder_in(&std::fs::read_to_string("/proc/locks").ok()?, device, stat.st_ino)
    }

    /// Whether this is a directory of ours, of a version that this build knows. One that says nothing yet is, unless
    /// Mesos has been there.
    fn check_layout(&self, degraded: &mut Vec<Degraded>) -> Result<(), DirsError> {
        let failed = |what, source| DirsError::Record {
            what,
            which: self.which,
            path: self.path.to_owned(),
            source: Box::new(source),
        };
        match berth_record::read::<Layout>(self.fd.as_fd(), LAYOUT, CAP) {
            Ok(layout) if layout.of == self.which => return Ok(()),
            Ok(layout) => {
                let (which, path, is) = (self.which, self.path.to_owned(), layout.of);
                return Err(DirsError::Swapped { which, path, is });
            }
            Err(berth_record::Error::Missing { .. }) => {
                if let Some(evidence) = self.evidence_of_mesos()? {
                    return Err(DirsError::Mesos { which: self.which, path: self.path.to_owned(), evidence });
                }
            }
            // Its only content is what is about to be written: a machine that died meanwhile lost nothing.
            Err(berth_record::Error::Torn { .. }) => {}
            Err(other) => return Err(failed("read the layout", other)),
        }
        // The work directory survives the machine, so this must too before anything else is written.
        let sync = if self.which == Which::WorkDir { Sync::Yes } else { Sync::No };
        match berth_record::write(self.fd.as_fd(), LAYOUT, &Layout { of: self.which }, sync) {
            Ok(()) => Ok(()),
            Err(error) => match cause(&error) {
                Some(source) => self.degrade(source, degraded),
                None => Err(failed("write the layout", error)),
            },
        }
    }

    /// A file or directory that only a Mesos agent makes.
    fn evidence_of_mesos(&self) -> Result<Option<String>, DirsError> {
        let there = |name: &str| rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if self.which == Which::WorkDir {
            let names = ["meta/slaves", "meta/resources/resources.info", "meta/boot_id", "slaves"];
            return Ok(names.into_iter().find(|name| there(name)).map(str::to_owned));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(containers) = openat(&self.fd, "containers", flags, Mode::empty()) else { return Ok(None) };
        let entries =
            Dir::new(containers).map_err(io::Error::from).map_err(self.io("list the containers of"))?;
        for entry in entries {
            let entry = entry.map_err(io::Error::from).map_err(self.io("list the containers of"))?;
            let launch_info = format!("containers/{}/launch_info", entry.file_name().to_string_lossy());
            if there(&launch_info) {
                return Ok(Some(launch_info));
            }
        }
        Ok(None)
    }

    fn tighten(&self) -> io::Result<()> {
        let mode = rustix::fs::fstat(&self.fd)?.st_mode & 0o7777;
        if mode != MODE {
            rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(MODE))?;
        }
        Ok(())
    }

    /// Writes, without leaving anything.
    fn try_to_write(&self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = match openat(&self.fd, ".", flags, Mode::RUSR | Mode::WUSR) {
            // A file system without unnamed files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let bytes = vec![0; ENOUGH];
                let name = "agent.probe";
                let written = berth_record::write_atomic(self.fd.as_fd(), name, &bytes, Sync::No);
                let _ = berth_record::remove(self.fd.as_fd(), name, Sync::No);
                return written.map_err(io::Error::other);
            }
            other => other?,
        };
        std::fs::File::from(file).write_all(&[0; ENOUGH])
    }

    /// Notes that the directory can not be written, if that is what the error says.
    fn degrade(&self, error: &io::Error, degraded: &mut Vec<Degraded>) -> Result<(), DirsError> {
        let helps = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "remove containers or images, or free space on that file system"
            }
            io::ErrorKind::ReadOnlyFilesystem => "mount it writable",
            _ => return Err(self.io("write in")(io::Error::new(error.kind(), error.to_string()))),
        };
        if degraded.iter().all(|degraded| degraded.which != self.which) {
            let reason = format!("nothing can be written in it ({error}): {helps}");
            degraded.push(Degraded { which: self.which, path: self.path.to_owned(), reason });
        }
        Ok(())
    }

    /// Says who holds the directory. Only for people, so that a failure costs nothing.
    fn leave_pid(&self) {
        let (Ok(process), Ok(boot)) = (Process::current(), BootId::current()) else { return };
        let _ = berth_record::write(self.fd.as_fd(), PID, &Holder { process, boot }, Sync::No);
    }
}

/// What the kernel said below a record's error.
fn cause(error: &berth_record::Error) -> Option<&io::Error> {
    match error {
        berth_record::Error::NoSpace { source, .. }
        | berth_record::Error::Unsynced { source, .. }
        | berth_record::Error::Io { source, .. } => Some(source),
        _ => None,
    }
}

/// The holder of an flock in `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 1234 fe:00:131 0 EOF` (proc_locks(5)).
fn holder_in(locks: &str, (major, minor): (u32, u32), inode: u64) -> Option<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let mut lines = locks.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&&*file))?;
    line.get(4)?.parse().ok().filter(|pid| *pid != 0)
}
