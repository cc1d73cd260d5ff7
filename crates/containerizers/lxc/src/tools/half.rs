// SPDX-License-Identifier: Apache-2.0
//! What LXC has no mark for: a container that is being copied, or taken away, and looks like a whole one all the while.
//!
//! ```text
//! .berth-half.NAME made, locked ── lxc-copy, lxc-destroy ── removed, when the tool has done what it was to do
//!                                   └─ has the lock as well
//! ```
//! A mark that nobody has locked was left by one who was killed with LXC's tool; the next command about this name takes away
//! what there is of it. LXC's own tools see a file whose name begins with a dot, and pass it over.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use berth_sys::rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, fstat, open, statat, unlink};
use berth_sys::rustix::io::{Errno, FdFlags, fcntl_setfd};

use super::clear::take_away;
use super::{Call, Error, Name, Result, info};

/// How long those who were killed may take to be gone, with their lock.
const DYING: Duration = Duration::from_secs(2);
const ROUND: Duration = Duration::from_millis(5);
/// Runs the tool, and removes the mark (`$1`) when it has ended with a status of less than `$2`. Also when whoever called is
/// gone by then.
const NOTE: &str =
    "mark=$1 most=$2; shift 2; \"$@\"; code=$?; [ $code -ge $most ] || rm -f -- \"$mark\"; exit $code";

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is made of another one. When that fails there is to be nothing.
    Copy,
    /// It is taken away. When LXC refuses that, it is whole.
    Destroy,
}

/// A change of one container, which nobody else changes meanwhile.
#[derive(Debug)]
pub struct Half {
    lock: OwnedFd,
    mark: PathBuf,
    lxcpath: PathBuf,
    name: Name,
    left: bool,
}

fn mark_of(lxcpath: &Path, name: &Name) -> PathBuf {
    lxcpath.join(format!(".berth-half.{name}"))
}

/// Whether there is a mark: somebody changes this container now, or was killed at it.
pub fn is_marked(lxcpath: &Path, name: &Name) -> bool {
    statat(CWD, mark_of(lxcpath, name), AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Whether somebody who was killed has left this container half-made.
pub fn is_half(lxcpath: &Path, name: &Name) -> bool {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mark = open(mark_of(lxcpath, name), flags, Mode::empty());
    mark.is_ok_and(|mark| flock(&mark, FlockOperation::NonBlockingLockShared).is_ok()) && !runs(lxcpath, name)
}

/// One that runs is whole: somebody has started it.
fn runs(lxcpath: &Path, name: &Name) -> bool {
    info(lxcpath, name).is_ok_and(|info| info.state != "STOPPED")
}

impl Half {
    /// Begins a change.
    ///
    /// # Errors
    /// Somebody else is at it, or the mark can not be made.
    pub fn begin(lxcpath: &Path, name: &Name) -> Result<Half> {
        let mark = mark_of(lxcpath, name);
        let failed = |errno: Errno| Error::file("make the mark", mark.clone())(errno.into());
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let until = Instant::now() + DYING;
        loop {
            let (lock, left) =
                match open(&mark, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
                    Ok(lock) => (lock, false),
                    Err(Errno::EXIST) => match open(&mark, flags, Mode::empty()) {
                        Err(Errno::NOENT) => continue,
                        lock => (lock.map_err(failed)?, true),
                    },
                    Err(errno) => return Err(failed(errno)),
                };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                // Those who were killed have it until they are gone; flock(2) knows no deadline.
                Err(Errno::AGAIN) if Instant::now() < until => {
                    std::thread::sleep(ROUND);
                    continue;
                }
                Err(Errno::AGAIN) => return Err(Error::Busy { name: name.to_string() }),
                Err(errno) => return Err(failed(errno)),
            }
            // It may have been removed between the two.
            let number = |stat: berth_sys::rustix::fs::Stat| (stat.st_dev, stat.st_ino);
            let ours = fstat(&lock).map(number).ok();
            if ours.is_some() && statat(CWD, &mark, AtFlags::SYMLINK_NOFOLLOW).map(number).ok() == ours {
                return Ok(Half { lock, mark, lxcpath: lxcpath.to_owned(), name: name.clone(), left });
            }
        }
    }

    /// Takes away what was left by one who was killed; whether there was anything.
    ///
    /// # Errors
    /// Something of it stays.
    pub fn clear_left(&mut self) -> Result<bool> {
        let is_left = self.left && !runs(&self.lxcpath, &self.name);
        self.left = false;
        if is_left {
            self.clear()?;
        }
        Ok(is_left)
    }

    /// Takes away what there is of it.
    ///
    /// # Errors
    /// Something of it stays.
    pub fn clear(&self) -> Result<()> {
        take_away(&self.lxcpath, &self.name)
    }

    /// Takes away what a copy that failed has left. One that runs by now is somebody else's, whom LXC let in first.
    ///
    /// # Errors
    /// Something of it stays.
    pub fn take_back(&self) -> Result<()> {
        if runs(&self.lxcpath, &self.name) { Ok(()) } else { self.clear() }
    }

    /// The tool that makes the change, with the lock.
    ///
    /// # Errors
    /// It is not installed.
    pub fn command(&self, call: &Call<'_>, change: Change) -> Result<Command> {
        let tool = call.command()?;
        // Only this process's next children have it, and it has one thread.
        fcntl_setfd(&self.lock, FdFlags::empty())
            .map_err(|errno| Error::file("share the lock of", self.mark.clone())(errno.into()))?;
        let mut command = Command::new("/bin/sh");
        let most = if change == Change::Copy { "1" } else { "128" };
        command.args(["-c", NOTE, "sh"]).arg(&self.mark).arg(most);
        command.arg(tool.get_program()).args(tool.get_args());
        for (name, value) in tool.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        Ok(command)
    }

    /// The change is over: what there is now is whole, or nothing.
    pub fn end(self) {
        let _ = unlink(&self.mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_one_changers_until_it_ends_and_tells_of_one_who_was_killed() {
        let place = std::env::temp_dir().join(format!("berth-lxc-half-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir(&place).unwrap();
        let name = Name::new("box").unwrap();
        let mut first = Half::begin(&place, &name).unwrap();
        assert!(!first.clear_left().unwrap());
        assert!(matches!(Half::begin(&place, &name), Err(Error::Busy { .. })));
        assert!(!is_half(&place, &name), "somebody is at it");
        std::fs::create_dir_all(place.join("box/rootfs")).unwrap();
        // As a kill does.
        drop(first);
        assert!(is_half(&place, &name));
        let mut second = Half::begin(&place, &name).unwrap();
        assert!(second.clear_left().unwrap());
        assert!(!second.clear_left().unwrap());
        second.end();
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        assert!(matches!(Half::begin(&place.join("none"), &name), Err(Error::File { .. })));
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_a_mark_is_not_followed() {
        let place = std::env::temp_dir().join(format!("berth-lxc-half-link-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir(&place).unwrap();
        let name = Name::new("box").unwrap();
        std::os::unix::fs::symlink(place.join("elsewhere"), mark_of(&place, &name)).unwrap();
        assert!(matches!(Half::begin(&place, &name), Err(Error::File { .. })));
        assert!(!is_half(&place, &name));
        assert!(!place.join("elsewhere").exists());
        std::fs::remove_dir_all(place).unwrap();
    }
}
