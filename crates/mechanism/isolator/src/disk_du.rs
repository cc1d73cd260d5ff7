// SPDX-License-Identifier: Apache-2.0
//! `disk/du`: what a container keeps on the disk, looked at now and then (`--container_disk_watch_interval`), and the end of
//! one that keeps more than the `disk` it asked for (`--enforce_container_disk_quota`). Without enforcement the request is
//! one for offers only, as in Mesos.
//!
//! What counts are the blocks of its sandbox, of its writable layer and of those above its volumes that are images; a file
//! with several names there once. The quota stands in the file `disk` of the runtime directory, where a later agent finds
//! it. A tree is read by descriptor, follows no link and leaves other file systems out; one that is too deep to be measured
//! is over its quota.
//!
//! A tree may be large, and may be made larger while it is read: each look has a thread of its own (`du`), so that the
//! container's owner hears of other things meanwhile. It ends as soon as there is too much, and with the watch.

use crate::Settings;
use berth_launcher::{Container, Error, Heard, Isolator, Places, Plan, Result, Watched};
use berth_model::{Bytes, ContainerId, ContainerLimitation, Reason, Resource, Resources, Scalar};
use berth_sys::Errno;
use berth_sys::rustix::event::{PollFd, PollFlags, poll};
use berth_sys::rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use berth_sys::rustix::io::{read, write};
use berth_sys::rustix::pipe::{PipeFlags, pipe_with};
use berth_sys::rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const NAME: &str = "disk/du";
const QUOTA: &str = "disk";
/// A descriptor is held for each level.
const DEPTH: usize = 200;
/// Room for as many levels.
const STACK: usize = 1 << 20;
/// After so many entries it is asked whether anybody waits for what a look finds.
const ASKED: u64 = 256;
/// What is told of a tree that is too deep.
const TOO_DEEP: u64 = u64::MAX;

/// The tokens of what is watched: it is time to look, and a look found too much.
const TIME: u32 = 0;
const FOUND: u32 = 1;

/// How disks are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskWatch {
    /// `--container_disk_watch_interval`.
    pub interval: Duration,
}

struct Du {
    /// None: nothing is enforced, so nothing is looked at.
    watch: Option<DiskWatch>,
    looks: Mutex<HashMap<ContainerId, Arc<Look>>>,
}

/// The looks at what one container keeps.
struct Look {
    /// Where too much is told. When nobody has its other end any more, nobody waits.
    tell: OwnedFd,
    /// There is one at a time, and none after the one that found too much.
    busy: AtomicBool,
}

pub(crate) fn make(settings: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Du::new(settings.disk)))
}

impl Du {
    fn new(watch: Option<DiskWatch>) -> Du {
        Du { watch, looks: Mutex::default() }
    }

    fn looks(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<Look>>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to look, unless that is under way.
    fn look(&self, id: &ContainerId, places: &Places, quota: u64) {
        let Some(look) = self.looks().get(id).cloned() else { return };
        if look.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        let (own, places) = (Arc::clone(&look), places.clone());
        let thread = std::thread::Builder::new().name("du".to_owned()).stack_size(STACK);
        // When there can be no thread now, there may be one at the next time.
        if thread.spawn(move || own.run(&places, quota)).is_err() {
            look.busy.store(false, Ordering::SeqCst);
        }
    }
}

impl Look {
    fn run(&self, places: &Places, quota: u64) {
        let found = match measure(places, quota, &|| self.is_left()) {
            Measured::Within(_) | Measured::Stopped => return self.busy.store(false, Ordering::SeqCst),
            Measured::Over(bytes) => bytes,
            Measured::TooDeep => TOO_DEEP,
        };
        let _ = write(&self.tell, &found.to_ne_bytes());
    }

    /// Nobody waits.
    fn is_left(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut slot = [PollFd::new(&self.tell, PollFlags::empty())];
        matches!(poll(&mut slot, Some(&at_once)), Ok(1..))
    }
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

    fn watch(&self, id: &ContainerId, places: &Places) -> Result<Vec<Watched>> {
        let (Some(watch), Some(_)) = (self.watch, quota(places)) else { return Ok(Vec::new()) };
        let time = Timespec::try_from(watch.interval).unwrap_or(Timespec { tv_sec: 15, tv_nsec: 0 });
        let timer = || -> std::result::Result<OwnedFd, Errno> {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            let every = Itimerspec { it_interval: time, it_value: time };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
            Ok(timer)
        };
        let timer = timer().map_err(|e| Error::io("make a timer to look at the container's disk", e))?;
        let (found, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|e| Error::io("make a pipe for what is found on the container's disk", e))?;
        self.looks().insert(id.clone(), Arc::new(Look { tell, busy: AtomicBool::new(false) }));
        let watched = |fd, token| Watched { fd, urgent: false, token };
        Ok(vec![watched(timer, TIME), watched(found, FOUND)])
    }

    fn heard(&self, id: &ContainerId, places: &Places, watched: &Watched) -> Heard {
        let mut told = [0u8; 8];
        let read = read(&watched.fd, &mut told);
        let Some(quota) = quota(places) else { return Heard::Over };
        match (watched.token, read) {
            (FOUND, Ok(8)) => match u64::from_ne_bytes(told) {
                TOO_DEEP => over(quota, &format!("more than {DEPTH} levels, which are not measured")),
                used => over(quota, &Bytes(used).to_string()),
            },
            // Nobody will look any more.
            (FOUND, Ok(_)) => Heard::Over,
            (FOUND, Err(_)) => Heard::More,
            _ => {
                self.look(id, places, quota);
                Heard::More
            }
        }
    }

    fn cleanup(&self, id: &ContainerId, places: &Places) -> Result<()> {
        if self.watch.is_none() {
            return Ok(());
        }
        self.looks().remove(id);
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

/// What a look came to.
#[derive(Debug, PartialEq, Eq)]
enum Measured {
    Within(u64),
    /// At least that much.
    Over(u64),
    TooDeep,
    Stopped,
}

fn measure(places: &Places, quota: u64, stop: &dyn Fn() -> bool) -> Measured {
    let mut walk = Walk { seen: HashSet::new(), bytes: 0, entries: 0, device: 0, quota, stop };
    // The scratch room of a volume's layer is its container's doing, too.
    let parts = [places.sandbox.clone(), places.work.join("upper"), places.work.join("volumes")];
    match parts.iter().try_for_each(|part| walk.tree(part)) {
        Ok(()) => Measured::Within(walk.bytes),
        Err(why) => why,
    }
}

struct Walk<'a> {
    /// Files with several names that were counted.
    seen: HashSet<(u64, u64)>,
    bytes: u64,
    entries: u64,
    device: u64,
    quota: u64,
    stop: &'a dyn Fn() -> bool,
}

impl Walk<'_> {
    /// What is not there uses nothing.
    fn tree(&mut self, path: &Path) -> std::result::Result<(), Measured> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(top) = openat(CWD, path, flags, Mode::empty()) else { return Ok(()) };
        self.device = fstat(&top).map_or(0, |stat| stat.st_dev);
        self.below(&top, 0)
    }

    fn below(&mut self, dir: &OwnedFd, depth: usize) -> std::result::Result<(), Measured> {
        if depth > DEPTH {
            return Err(Measured::TooDeep);
        }
        let Ok(entries) = Dir::read_from(dir) else { return Ok(()) };
        for entry in entries.map_while(|entry| entry.ok()) {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries.is_multiple_of(ASKED) && (self.stop)() {
                return Err(Measured::Stopped);
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
            if self.bytes > self.quota {
                return Err(Measured::Over(self.bytes));
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if directory && let Ok(inner) = openat(dir, name, flags, Mode::empty()) {
                self.below(&inner, depth + 1)?;
            }
        }
        Ok(())
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
        let bytes = || match measure(&ground.places(), u64::MAX, &|| false) {
            Measured::Within(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        let before = bytes();
        std::fs::write(sandbox.join("deep/file"), vec![1u8; 1 << 20]).unwrap();
        std::fs::hard_link(sandbox.join("deep/file"), sandbox.join("again")).unwrap();
        std::os::unix::fs::symlink("/usr", sandbox.join("usr")).unwrap();
        let now = bytes() - before;
        assert!((1 << 20..2 << 20).contains(&now), "{now}");
        let before = bytes();
        let layer = ground.0.join("work/volumes/0/upper");
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::write(layer.join("file"), vec![1u8; 1 << 20]).unwrap();
        let now = bytes() - before;
        assert!(now >= 1 << 20, "what is written to the volume of an image counts: {now}");
    }

    /// What is told by the second descriptor, once it is.
    fn found(du: &Du, id: &ContainerId, places: &Places, watched: &[Watched]) -> Heard {
        let mut slot = [PollFd::new(&watched[1].fd, PollFlags::IN)];
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut slot, Some(&limit)), Ok(1), "nothing was told");
        du.heard(id, places, &watched[1])
    }

    #[test]
    fn who_keeps_more_than_the_quota_ends_with_the_words_of_mesos_and_who_does_not_goes_on() {
        let ground = Ground::new("quota");
        let du = Du::new(Some(DiskWatch { interval: Duration::from_millis(1) }));
        let (id, places) = (ContainerId::new("a").unwrap(), ground.places());
        assert!(du.watch(&id, &places).unwrap().is_empty(), "no quota was asked for");
        std::fs::write(ground.0.join(QUOTA), (1 << 20).to_string()).unwrap();
        let watched = du.watch(&id, &places).unwrap();
        assert!(matches!(measure(&places, 1 << 20, &|| false), Measured::Within(_)));
        std::fs::write(ground.0.join("sandbox/file"), vec![1u8; 2 << 20]).unwrap();
        // Whoever hears that it is time does not wait until all was looked at.
        assert_eq!(du.heard(&id, &places, &watched[0]), Heard::More);
        let Heard::Kill(limitation) = found(&du, &id, &places, &watched) else { panic!("it goes on") };
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
    fn a_look_ends_when_nobody_waits_for_it_however_much_there_is() {
        let ground = Ground::new("left");
        for n in 0..2 * ASKED {
            std::fs::write(ground.0.join(format!("sandbox/{n}")), "").unwrap();
        }
        let (found, tell) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let look = Look { tell, busy: AtomicBool::new(true) };
        let whole = measure(&ground.places(), u64::MAX, &|| look.is_left());
        assert!(matches!(whole, Measured::Within(_)), "{whole:?}");
        drop(found);
        assert_eq!(measure(&ground.places(), u64::MAX, &|| look.is_left()), Measured::Stopped);
    }

    #[test]
    fn a_tree_that_is_too_deep_to_be_measured_is_over_its_quota() {
        let ground = Ground::new("deep");
        let mut path = ground.0.join("sandbox");
        (0..DEPTH + 2).for_each(|_| path.push("d"));
        std::fs::create_dir_all(&path).unwrap();
        assert_eq!(measure(&ground.places(), u64::MAX, &|| false), Measured::TooDeep);
    }
}
