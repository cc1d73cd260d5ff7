// SPDX-License-Identifier: Apache-2.0
//! `disk/du`: what a container keeps on the disk, looked at now and then (`--container_disk_watch_interval`), and the end of
//! one that keeps more than the `disk` it asked for (`--enforce_container_disk_quota`). Without enforcement the request is
//! one for offers only, as in Mesos.
//!
//! What counts are the blocks of its sandbox and of its writable layer; a file with several names there once. The quota
//! stands in the file `disk` of the runtime directory, where a later agent finds it. A tree is read by descriptor, follows
//! no link and leaves other file systems out; one that is too deep to be measured is over its quota.

use crate::Settings;
use berth_launcher::{Container, Error, Heard, Isolator, Places, Plan, Result, Watched};
use berth_model::{Bytes, ContainerId, ContainerLimitation, Reason, Resource, Resources, Scalar};
use berth_sys::Errno;
use berth_sys::rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use berth_sys::rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

const NAME: &str = "disk/du";
const QUOTA: &str = "disk";
/// A descriptor is held for each level.
const DEPTH: usize = 200;

/// How disks are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskWatch {
    /// `--container_disk_watch_interval`.
    pub interval: Duration,
}

struct Du {
    /// None: nothing is enforced, so nothing is looked at.
    watch: Option<DiskWatch>,
}

pub(crate) fn make(settings: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Du { watch: settings.disk }))
}

impl Isolator for Du {
    fn name(&self) -> &'static str {
        NAME
    }

    fn isolate(&self, container: &Container<'_>, _: &mut Plan) -> Result<()> {
        let (Some(_), Some(megabytes)) = (self.watch, container.config.resources.disk()) else {
            return Ok(());
        };
        let quota = megabytes.saturating_mul(1 << 20);
        std::fs::write(container.places.runtime.join(QUOTA), quota.to_string())
            .map_err(|e| Error::io("write down how much disk the container may use", e))
    }

    fn watch(&self, _: &ContainerId, places: &Places) -> Result<Vec<Watched>> {
        let (Some(watch), Some(_)) = (self.watch, quota(places)) else { return Ok(Vec::new()) };
        let time = Timespec::try_from(watch.interval).unwrap_or(Timespec { tv_sec: 15, tv_nsec: 0 });
        let timer = || -> std::result::Result<OwnedFd, Errno> {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            let every = Itimerspec { it_interval: time, it_value: time };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
            Ok(timer)
        };
        let fd = timer().map_err(|e| Error::io("make a timer to look at the container's disk", e))?;
        Ok(vec![Watched { fd, urgent: false, token: 0 }])
    }

    fn heard(&self, _: &ContainerId, places: &Places, watched: &Watched) -> Heard {
        let _ = berth_sys::rustix::io::read(&watched.fd, &mut [0u8; 8]);
        let Some(quota) = quota(places) else { return Heard::Over };
        match used(places) {
            Measured::Bytes(used) if used <= quota => Heard::More,
            Measured::Bytes(used) => over(quota, &Bytes(used).to_string()),
            Measured::TooDeep => over(quota, &format!("more than {DEPTH} levels, which are not measured")),
        }
    }

    fn cleanup(&self, _: &ContainerId, places: &Places) -> Result<()> {
        if self.watch.is_none() {
            return Ok(());
        }
        match std::fs::remove_file(places.runtime.join(QUOTA)) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove the note of how much disk the container may use", e))
            }
            _ => Ok(()),
        }
    }
}

fn quota(places: &Places) -> Option<u64> {
    std::fs::read_to_string(places.runtime.join(QUOTA)).ok()?.parse().ok()
}

/// The words are Mesos's.
fn over(quota: u64, used: &str) -> Heard {
    let mut resources = Resources::new();
    // Only a zero is refused, and then there is nothing to name.
    let _ = resources.try_add(Resource::scalar("disk", Scalar::from_whole(quota >> 20)));
    Heard::Kill(Box::new(ContainerLimitation {
        resources,
        message: Some(format!("Disk usage ({used}) exceeds quota ({})", Bytes(quota))),
        reason: Some(Reason::ContainerLimitationDisk),
    }))
}

#[derive(Debug, PartialEq, Eq)]
enum Measured {
    Bytes(u64),
    TooDeep,
}

fn used(places: &Places) -> Measured {
    let mut walk = Walk { seen: HashSet::new(), bytes: 0, device: 0 };
    let parts = [places.sandbox.clone(), places.work.join("upper")];
    let fits = parts.iter().all(|part| walk.tree(part));
    if fits { Measured::Bytes(walk.bytes) } else { Measured::TooDeep }
}

struct Walk {
    /// Files with several names that were counted.
    seen: HashSet<(u64, u64)>,
    bytes: u64,
    device: u64,
}

impl Walk {
    /// Whether all of it could be measured. What is not there uses nothing.
    fn tree(&mut self, path: &Path) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(top) = openat(CWD, path, flags, Mode::empty()) else { return true };
        self.device = fstat(&top).map_or(0, |stat| stat.st_dev);
        self.below(&top, 0)
    }

    fn below(&mut self, dir: &OwnedFd, depth: usize) -> bool {
        if depth > DEPTH {
            return false;
        }
        let Ok(entries) = Dir::read_from(dir) else { return true };
        for entry in entries.map_while(|entry| entry.ok()) {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // Gone meanwhile.
            let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if stat.st_dev != self.device
                || (stat.st_nlink > 1 && !directory && !self.seen.insert((stat.st_dev, stat.st_ino)))
            {
                continue;
            }
            self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if directory
                && let Ok(inner) = openat(dir, name, flags, Mode::empty())
                && !self.below(&inner, depth + 1)
            {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ground(std::path::PathBuf);

    impl Ground {
        fn new(name: &str) -> Ground {
            let path = std::env::temp_dir().join(format!("berth-du-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.join("sandbox/deep")).unwrap();
            Ground(path)
        }

        fn places(&self) -> Places {
            let at = |name: &str| self.0.join(name);
            Places {
                runtime: self.0.clone(),
                work: at("work"),
                sandbox: at("sandbox"),
                cgroup: String::new(),
            }
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn blocks_count_once_and_links_lead_nowhere() {
        let ground = Ground::new("count");
        let sandbox = ground.0.join("sandbox");
        let bytes = || match used(&ground.places()) {
            Measured::Bytes(bytes) => bytes,
            Measured::TooDeep => panic!("two levels are too deep"),
        };
        let before = bytes();
        std::fs::write(sandbox.join("deep/file"), vec![1u8; 1 << 20]).unwrap();
        std::fs::hard_link(sandbox.join("deep/file"), sandbox.join("again")).unwrap();
        std::os::unix::fs::symlink("/usr", sandbox.join("usr")).unwrap();
        let now = bytes() - before;
        assert!((1 << 20..2 << 20).contains(&now), "{now}");
    }

    #[test]
    fn who_keeps_more_than_the_quota_ends_with_the_words_of_mesos_and_who_does_not_goes_on() {
        let ground = Ground::new("quota");
        let du = Du { watch: Some(DiskWatch { interval: Duration::from_millis(1) }) };
        let (id, places) = (ContainerId::new("a").unwrap(), ground.places());
        assert!(du.watch(&id, &places).unwrap().is_empty(), "no quota was asked for");
        std::fs::write(ground.0.join(QUOTA), (1 << 20).to_string()).unwrap();
        let watched = du.watch(&id, &places).unwrap();
        assert_eq!(du.heard(&id, &places, &watched[0]), Heard::More);
        std::fs::write(ground.0.join("sandbox/file"), vec![1u8; 2 << 20]).unwrap();
        let Heard::Kill(limitation) = du.heard(&id, &places, &watched[0]) else { panic!("it goes on") };
        let message = limitation.message.unwrap();
        assert!(
            message.starts_with("Disk usage (") && message.ends_with(") exceeds quota (1MB)"),
            "{message}"
        );
        assert_eq!(limitation.reason, Some(Reason::ContainerLimitationDisk));
        assert_eq!(limitation.resources.disk(), Some(1));
        du.cleanup(&id, &places).unwrap();
        assert_eq!(quota(&places), None);
    }

    #[test]
    fn a_tree_that_is_too_deep_to_be_measured_is_over_its_quota() {
        let ground = Ground::new("deep");
        let mut path = ground.0.join("sandbox");
        (0..DEPTH + 2).for_each(|_| path.push("d"));
        std::fs::create_dir_all(&path).unwrap();
        assert_eq!(used(&ground.places()), Measured::TooDeep);
    }
}
