// SPDX-License-Identifier: Apache-2.0
//! On a host with systemd: a scope for an agent's containers and supervisors (docs/adr/0002-a-scope-of-systemds.md).
//!
//! ```text
//! berth.slice/berth-<instance>.scope/     Delegate=yes: what is below is ours alone
//!     supervisors/                        one per container, and a process that keeps the scope alive without any
//!     containers/<id>/                    limits and device rules
//! ```
//!
//! Asked for by systemd's own `systemd-run`, once in the life of a host; every later agent finds it there. Only on cgroup
//! v2: on v1 systemd leaves groups that it does not know alone.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_cgroup::{Hierarchies, Mode};
use rustix::fs::{Mode as Permissions, OFlags};

use crate::flags::Flags;

/// sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
const SLICE: &str = "berth.slice";
/// How long systemd may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at whether it is there.
const PAUSE: Duration = Duration::from_millis(5);

/// Why there is no scope. The agent goes on without.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// A program of systemd's.
    #[error("run {program}: is systemd installed completely?")]
    Start {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It said no.
    #[error("systemd-run made no scope {unit}: {said}")]
    Refused {
        /// The scope.
        unit: String,
        /// What it said.
        said: String,
    },
    /// It said nothing.
    #[error("systemd-run made no scope {0} within {PATIENCE:?}")]
    Late(String),
    /// A directory of the scope.
    #[error("{what} {}", path.display())]
    Group {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The instance's record.
    #[error("read the instance's id in {}", path.display())]
    Instance {
        /// The runtime directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Sees that there is a scope for these flags' containers, has all supervisors of this process live in it, and names the
/// group that containers are to be in; none where there is no systemd, where `--no-systemd_enable_support` or
/// `--cgroups_root` ask for another place, and on cgroup v1. Blocks.
///
/// # Errors
/// [`ScopeError`]: nothing was changed for the supervisors.
pub fn enter_scope(flags: &Flags) -> Result<Option<String>, ScopeError> {
    let is_v2 = || Hierarchies::probe(Path::new(Hierarchies::ROOT)).is_ok_and(|h| h.mode() == Mode::V2);
    if !wanted(flags) || !Path::new(BOOTED).is_dir() || !rustix::process::geteuid().is_root() || !is_v2() {
        return Ok(None);
    }
    let unit = format!("berth-{}.scope", instance(&flags.runtime_dir)?);
    let scope = match group_of(&unit)? {
        Some(group) => group,
        None => make(&unit)?,
    };
    let place = Path::new(Hierarchies::ROOT).join(scope.trim_start_matches('/'));
    let supervisors = place.join("supervisors");
    for path in [&supervisors, &place.join("containers")] {
        match fs::create_dir(path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(ScopeError::Group { what: "make", path: path.clone(), source });
            }
            _ => {}
        }
    }
    // The keeper is in the scope itself, where no processes may be once limits are handed down.
    empty(&place, &supervisors)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let home = rustix::fs::open(&supervisors, flags, Permissions::empty());
    let home =
        home.map_err(|errno| ScopeError::Group { what: "open", path: supervisors, source: errno.into() })?;
    berth_launcher::place_supervisors(home);
    Ok(Some(format!("{}/containers", scope.trim_start_matches('/'))))
}

/// Whether the flags leave it to us.
fn wanted(flags: &Flags) -> bool {
    flags.loaded.flag("systemd_enable_support", true) && flags.cgroups_root.is_none()
}

fn instance(runtime_dir: &Path) -> Result<berth_record::InstanceId, ScopeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(runtime_dir, flags, Permissions::empty()).map_err(|e| e.into());
    let id = opened.and_then(|fd| {
        berth_record::InstanceId::open(std::os::fd::AsFd::as_fd(&fd)).map_err(|e| Box::new(e).into())
    });
    id.map_err(|source| ScopeError::Instance { path: runtime_dir.to_owned(), source })
}

/// The group of a unit that is there.
fn group_of(unit: &str) -> Result<Option<String>, ScopeError> {
    let asked = Command::new("systemctl")
        .args(["show", "--property=ControlGroup", "--value", unit])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|source| ScopeError::Start { program: "systemctl", source })?;
    let group = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    let is_there = Path::new(Hierarchies::ROOT).join(group.trim_start_matches('/')).is_dir();
    Ok((group.len() > 1 && is_there).then_some(group))
}

/// Has systemd make the scope, around a process that keeps it alive while there is no container: a scope ends with its
/// last process.
fn make(unit: &str) -> Result<String, ScopeError> {
    let mut command = Command::new("systemd-run");
    command.args(["--scope", "--quiet", "--collect", "--slice", SLICE, "--unit", unit]);
    command.args(["--description", "Berth containers", "--property", "Delegate=yes"]);
    command.args(["--property", "TasksMax=infinity", "--property", "TimeoutStopSec=10s"]);
    // Of its own process group: what a terminal sends to the agent is not for it.
    command.args(["--", "sleep", "infinity"]).current_dir("/").env_clear().process_group(0);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // What ends the scope is heard by what keeps it.
    berth_sys::session::unblock(&mut command);
    let mut keeper =
        command.spawn().map_err(|source| ScopeError::Start { program: "systemd-run", source })?;
    let made = wait_for(&mut keeper, unit);
    if made.is_err() {
        let _ = keeper.kill();
        let _ = keeper.wait();
    }
    made
}

/// `systemd-run --scope` puts itself into the scope and then executes what keeps it.
fn wait_for(keeper: &mut Child, unit: &str) -> Result<String, ScopeError> {
    let limit = Instant::now() + PATIENCE;
    let file = format!("/proc/{}/cgroup", keeper.id());
    loop {
        if let Ok(Some(_)) = keeper.try_wait() {
            let said = keeper.stderr.take().and_then(|stderr| io::read_to_string(stderr).ok());
            let said = said.unwrap_or_default().trim().to_owned();
            return Err(ScopeError::Refused { unit: unit.to_owned(), said });
        }
        let groups = fs::read_to_string(&file).unwrap_or_default();
        if let Some(group) = groups.lines().find_map(|l| l.strip_prefix("0::")).filter(|g| g.ends_with(unit))
        {
            return Ok(group.to_owned());
        }
        if Instant::now() >= limit {
            return Err(ScopeError::Late(unit.to_owned()));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Moves the processes of a group to another.
fn empty(from: &Path, to: &Path) -> Result<(), ScopeError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ScopeError::Group { what, path, source }
    };
    let (from, to) = (from.join("cgroup.procs"), to.join("cgroup.procs"));
    let pids = fs::read_to_string(&from).map_err(failed("read", &from))?;
    for pid in pids.lines() {
        match fs::write(&to, pid) {
            // It has just ended.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            moved => moved.map_err(failed("move the keeper of the scope to", &to))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    fn with(words: &[&str]) -> Flags {
        Flags::from(Loaded::read(words.iter().map(|word| (*word).to_owned()), []).unwrap())
    }

    #[test]
    fn a_scope_is_wanted_unless_another_place_is_asked_for() {
        assert!(wanted(&with(&[])));
        assert!(wanted(&with(&["--systemd_enable_support=true"])));
        assert!(!wanted(&with(&["--no-systemd_enable_support"])));
        assert!(!wanted(&with(&["--cgroups_root=mesos"])));
    }

    #[test]
    fn a_keeper_that_ends_says_why_there_is_no_scope() {
        let mut child = Command::new("sh")
            .args(["-c", "echo no such bus >&2; exit 1"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let error = wait_for(&mut child, "berth-1.scope").unwrap_err().to_string();
        assert_eq!(error, "systemd-run made no scope berth-1.scope: no such bus");
    }
}
