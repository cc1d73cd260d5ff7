// SPDX-License-Identifier: Apache-2.0
//! Putting limits in force: written in order, read back, compared. What was written of an update that fails is put back to
//! what it was.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::controller::{cpuset, devices, io, memory};
use crate::lower::Room;
use crate::tree::Files;
use crate::{Check, Controller, Error, Group, Hierarchies, Limit, Limits, Result, Version, Write};
use crate::{filter, lower};

/// How long the kernel may take to make room for a lower limit.
const RECLAIM: Duration = Duration::from_secs(5);

/// A file as it was.
struct Before<'a> {
    write: &'a Write,
    text: String,
}

impl Group {
    /// Applies other limits to the group; what is absent stays as it is. A memory limit below what is in use makes the
    /// kernel drop page cache, on v2 slowly before the limit is set, so that it never kills for it; it is refused when
    /// what is left can not be dropped. Where the group is not in the hierarchy that a limit needs, it gets there with all
    /// its processes. After an error the limits are those from before.
    ///
    /// # Errors
    /// [`Error::NoController`]; [`Error::InUse`]; [`Error::Half`] when a limit could not be put back; otherwise as
    /// [`Group::create`].
    pub fn update(&mut self, limits: &Limits) -> Result<()> {
        let limits = &self.with_lists(limits.clone());
        let members = self.processes()?;
        let new = self.reach(limits)?;
        let applied = self
            .write_update(limits)
            .and_then(|()| new.iter().try_for_each(|index| self.bring(*index, members.clone())));
        if applied.is_err() {
            // Whom the kernel has moved already stays, and so does the directory: without limits.
            new.into_iter().for_each(|index| self.leave(index));
        }
        applied
    }

    /// Sees that the group has what the limits need; the places that it was not in before.
    fn reach(&mut self, limits: &Limits) -> Result<Vec<usize>> {
        let needed = self.hierarchies().places_for(&[], limits)?;
        let mut new = Vec::new();
        for index in needed {
            if self.hierarchies().place(index).version == Version::V2 {
                self.enable(index, &[], limits)?;
            }
            if !self.is_in(index) {
                self.make(&[index], &[], limits)?;
                new.push(index);
            }
        }
        Ok(new)
    }

    /// Moves the group's processes to its directory in a place, and those that they make meanwhile.
    fn bring(&self, index: usize, mut members: Vec<u32>) -> Result<()> {
        let Some(dir) = self.dir_in(index) else { return Ok(()) };
        let mut moved = std::collections::BTreeSet::new();
        // Whose parent is moved is born there; so this ends.
        while !members.is_empty() {
            let failed = |errno: Errno| self.hierarchies().io("join", index, self.path(), errno);
            let file = self.hierarchies().open_file(dir, "cgroup.procs", OFlags::WRONLY).map_err(failed)?;
            for pid in &members {
                match rustix::io::write(&file, pid.to_string().as_bytes()) {
                    // Ended meanwhile.
                    Ok(_) | Err(Errno::SRCH) => {}
                    Err(errno) => return Err(failed(errno)),
                }
            }
            moved.extend(members);
            members = self.processes()?.into_iter().filter(|pid| !moved.contains(pid)).collect();
        }
        Ok(())
    }

    fn write_update(&self, limits: &Limits) -> Result<()> {
        let mut writes = planned(self.hierarchies(), limits)?;
        if let Some((dir, Version::V1)) = self.dir_of(Controller::Memory) {
            memory::sort_for_update(&mut writes, memory::sum_now(&Files::new(dir)));
        }
        if let Some((dir, Version::V1)) = self.dir_of(Controller::Devices) {
            let now = Files::new(dir).with(devices::LIST, str::to_owned);
            devices::sort_for_update(&mut writes, &now.unwrap_or_default());
        }
        let room = self.make_room(limits)?;
        let applied = self.apply(&writes, limits);
        // Nothing of it is needed any more: the limit is there now, or is not to be.
        drop(room);
        applied
    }

    /// An empty list, for "those of the group above", is written out: v1 takes none, and v2 none where processes are (up
    /// to Linux 6.1 at least).
    fn with_lists(&self, mut limits: Limits) -> Limits {
        let Some((dir, version)) = self.dir_of(Controller::Cpuset) else { return limits };
        let lists = [(&mut limits.cpuset_cpus, cpuset::CPUS), (&mut limits.cpuset_mems, cpuset::MEMS)];
        for (list, file) in lists {
            if list.as_ref().is_none_or(|list| !list.is_empty()) {
                continue;
            }
            let own = Files::new(dir).with(file, |text| text.trim().is_empty());
            // In a hierarchy of the kernel's, `..` is the group above.
            let above = match version {
                Version::V1 => format!("../{file}"),
                Version::V2 => format!("../{file}.effective"),
            };
            *list = match own {
                Some(true) if version == Version::V2 => None,
                _ => Files::new(dir).with(&above, |text| text.parse().ok()).flatten(),
            };
        }
        limits
    }

    /// Sees that what is in use fits into a lower memory limit, before that is written.
    fn make_room(&self, limits: &Limits) -> Result<Option<Room>> {
        let Some(Limit::At(asked)) = limits.memory_limit else { return Ok(None) };
        let Some((dir, version)) = self.dir_of(Controller::Memory) else { return Ok(None) };
        if self.hierarchies().is_stand_in() {
            return Ok(None);
        }
        let ways = self.hierarchies().ways();
        lower::make_room(dir, version, asked, ways, Instant::now() + RECLAIM)
            .map_err(|failed| self.lower_failed(failed))
    }

    fn lower_failed(&self, failed: lower::Failed) -> Error {
        match failed {
            lower::Failed::InUse { asked, used, what } => {
                Error::InUse { limit: memory::LIMIT, asked: asked.into(), used: used.into(), what }
            }
            lower::Failed::Kernel(file, errno) => Error::Io {
                what: "make room for a lower memory limit by",
                path: format!("{}/{file}", self.path()).into(),
                source: errno.into(),
            },
        }
    }

    /// Writes values in order, sees that they are kept, and puts the device list of v2 in force.
    pub(crate) fn apply(&self, writes: &[Write], limits: &Limits) -> Result<()> {
        if limits.io_weight.is_some() {
            self.weights_are_heeded()?;
        }
        self.wish_group_kill(limits)?;
        let mut before = Vec::with_capacity(writes.len());
        let applied = self.write(writes, &mut before).and_then(|()| self.effective(limits)).and_then(|()| {
            match (&limits.devices, self.dir_of(Controller::Devices)) {
                (Some(rules), Some((_, Version::V2))) if !self.hierarchies().is_stand_in() => {
                    self.filter(rules)
                }
                _ => Ok(()),
            }
        });
        applied.map_err(|cause| match self.put_back(before) {
            None => cause,
            Some((left, errno)) => Error::Half { cause: Box::new(cause), left, source: errno.into() },
        })
    }

    /// v1 has no file for it, so the wish is kept with the group as an attribute of its directory: it is there for
    /// whoever watches the group next, and goes with it.
    fn wish_group_kill(&self, limits: &Limits) -> Result<()> {
        let Some(wish) = limits.oom_group else { return Ok(()) };
        let Some((dir, Version::V1)) = self.dir_of(Controller::Memory) else { return Ok(()) };
        let (path, flags) = (format!("/proc/self/fd/{}", dir.as_raw_fd()), rustix::fs::XattrFlags::empty());
        let kept = match wish {
            true => rustix::fs::setxattr(path, memory::GROUP_KILL, b"1", flags),
            false => rustix::fs::removexattr(path, memory::GROUP_KILL),
        };
        match kept {
            Ok(()) => Ok(()),
            Err(Errno::NODATA) if !wish => Ok(()),
            // A stand-in on a file system without them.
            Err(_) if self.hierarchies().is_stand_in() => Ok(()),
            Err(errno) => Err(Error::Io {
                what: "keep the wish for a group kill at",
                path: self.path_of(Controller::Memory, ""),
                source: errno.into(),
            }),
        }
    }

    fn filter(&self, rules: &[crate::DeviceRule]) -> Result<()> {
        let Some((dir, _)) = self.dir_of(Controller::Devices) else { return Ok(()) };
        // Programs are attached by an open directory; ours is only a path.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = rustix::fs::openat(dir, ".", flags, rustix::fs::Mode::empty())
            .map_err(|errno| Error::Io { what: "open", path: self.path().into(), source: errno.into() })?;
        filter::apply(open.as_fd(), rules, self.hierarchies().ways())
    }

    /// A weight that no disk's scheduler looks at would be a limit that is dropped in silence.
    fn weights_are_heeded(&self) -> Result<()> {
        let Some(place) = self.hierarchies().place_of(Controller::Io) else { return Ok(()) };
        let root = self.hierarchies().place_fd(place);
        if self.hierarchies().is_stand_in() || io::heeds_weights(&Files::new(root)) {
            return Ok(());
        }
        Err(Error::Inexpressible {
            limit: "disk weight",
            why: "no disk of this host has a scheduler that heeds weights: write bfq to its /sys/block/DISK/queue/scheduler, or start without the weight",
        })
    }

    /// v2 takes processors that the groups above do not have, and leaves them out.
    fn effective(&self, limits: &Limits) -> Result<()> {
        let Some((dir, version)) = self.dir_of(Controller::Cpuset) else { return Ok(()) };
        let Some((file, found)) = cpuset::missing(&Files::new(dir), version, limits) else { return Ok(()) };
        let asked = if file == cpuset::CPUS { &limits.cpuset_cpus } else { &limits.cpuset_mems };
        Err(Error::NotApplied {
            limit: if file == cpuset::CPUS { "list of processors" } else { "list of memory nodes" },
            controller: Controller::Cpuset,
            path: self.path_of(Controller::Cpuset, &format!("{file}.effective")),
            value: asked.as_ref().map(ToString::to_string).unwrap_or_default(),
            found,
        })
    }

    fn write<'a>(&self, writes: &'a [Write], before: &mut Vec<Before<'a>>) -> Result<()> {
        let mut open: Option<(&str, OwnedFd)> = None;
        for write in writes {
            let (dir, failed) = match self.dir_of(write.controller) {
                Some((dir, _)) => (dir, |errno| self.refused(write, errno)),
                None => {
                    return Err(Error::NoController {
                        limit: write.limit,
                        controller: write.controller,
                        advice: "the group was made without it; make it with that limit".to_owned(),
                    });
                }
            };
            let access = if write.check == Check::None { OFlags::WRONLY } else { OFlags::RDWR };
            let file = match open {
                // A list goes line by line into the same file.
                Some((name, ref file)) if name == write.file => file,
                _ => match self.hierarchies().open_file(dir, &write.file, access) {
                    Ok(file) => &open.insert((&write.file, file)).1,
                    Err(Errno::NOENT) if write.if_present => continue,
                    Err(errno) => return Err(failed(errno)),
                },
            };
            if write.check != Check::None {
                before.push(Before { write, text: text_of(file.as_fd()).unwrap_or_default() });
            }
            let put =
                || rustix::io::retry_on_intr(|| rustix::io::write(file, write.value.as_bytes())).map(drop);
            match put() {
                Err(Errno::BUSY) if write.file == memory::V1_LIMIT || write.file == memory::V1_SUM => {
                    lower::again(dir, put).map_err(failed)?;
                }
                put => put.map_err(failed)?,
            }
            if write.check == Check::None {
                continue;
            }
            let found = text_of(file.as_fd()).map_err(failed)?;
            if !is_kept(write, &found) {
                return Err(Error::NotApplied {
                    limit: write.limit,
                    controller: write.controller,
                    path: self.path_of(write.controller, &write.file),
                    value: write.value.to_string(),
                    found: found.trim_end().to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Puts files back to what they were, the last first; the one that could not be, if any.
    fn put_back(&self, before: Vec<Before<'_>>) -> Option<(std::path::PathBuf, Errno)> {
        let mut left = None;
        for Before { write, text } in before.into_iter().rev() {
            let value = former(write, &text);
            let (Some((dir, _)), false) = (self.dir_of(write.controller), value == write.value) else {
                continue;
            };
            let written = self
                .hierarchies()
                .open_file(dir, &write.file, OFlags::WRONLY)
                .and_then(|file| rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes())));
            if let Err(errno) = written {
                left.get_or_insert((self.path_of(write.controller, &write.file), errno));
            }
        }
        left
    }

    fn refused(&self, write: &Write, errno: Errno) -> Error {
        // v1 has tried by itself to make room.
        if let (Errno::BUSY, memory::V1_LIMIT | memory::V1_SUM, Ok(asked)) =
            (errno, &*write.file, write.value.parse::<u64>())
            && let Some((dir, version)) = self.dir_of(Controller::Memory)
        {
            return self.lower_failed(lower::in_use(dir, version, crate::Bytes(asked)));
        }
        Error::Apply {
            limit: write.limit,
            controller: write.controller,
            path: self.path_of(write.controller, &write.file),
            value: write.value.trim_end().to_owned(),
            hint: match errno {
                Errno::NOENT => "this kernel was built or booted without it; start without that limit",
                Errno::BUSY => {
                    "more is in use now and can not be reclaimed; ask for more, or free some first"
                }
                Errno::NODEV => "there is no such disk, or it is a partition: name the whole disk",
                Errno::ACCESS if write.controller == Controller::Cpuset => {
                    "the group above does not have all of them; ask for those in its file of the same name"
                }
                Errno::INVAL | Errno::RANGE => "the kernel takes no such value, or a group above allows less",
                Errno::ACCESS | Errno::PERM | Errno::ROFS => "run as root, or have the group delegated",
                _ => "the kernel refused",
            },
            source: errno.into(),
        }
    }

    fn path_of(&self, controller: Controller, file: &str) -> std::path::PathBuf {
        let hierarchy = self.hierarchies().place_of(controller);
        let root = hierarchy.map_or(self.hierarchies().root(), |index| &self.hierarchies().place(index).path);
        root.join(self.path()).join(file)
    }
}

/// All that the limits become on this host, each controller in its version.
pub(crate) fn planned(hierarchies: &Hierarchies, limits: &Limits) -> Result<Vec<Write>> {
    let mut writes = Vec::with_capacity(8);
    for controller in Controller::ALL {
        if let Some(version) = hierarchies.version_of(controller) {
            controller.writes(limits, version, &mut writes)?;
        }
    }
    Ok(writes)
}

/// What a file reads as, from its beginning. Values are short; lists of lines are as long as there are disks.
fn text_of(file: BorrowedFd<'_>) -> rustix::io::Result<String> {
    let mut buffer = [0; 4096];
    let length = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut buffer[..], 0))?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// What to write so that a file reads as it did.
fn former(write: &Write, text: &str) -> String {
    let value = &write.value;
    let device = match (write.check, value.split_once(' ')) {
        (Check::Line, Some((device, _))) => device,
        _ if text.trim().is_empty() => return "\n".to_owned(),
        _ => return text.trim_end().to_owned(),
    };
    let line = text.lines().find(|line| line.strip_prefix(device).is_some_and(|rest| rest.starts_with(' ')));
    match line {
        Some(line) => line.to_owned(),
        None if value.contains('=') => format!("{device} rbps=max wbps=max riops=max wiops=max"),
        None => format!("{device} 0"),
    }
}

/// Whether what is read back is what was asked.
fn is_kept(write: &Write, found: &str) -> bool {
    let trimmed = found.trim_end();
    if write.value == trimmed {
        return true;
    }
    let whole = |asked: u64, page: u64| asked - asked % page;
    match (write.check, trimmed.parse::<u64>(), write.value.parse::<u64>()) {
        (Check::Pages, Ok(found), Ok(asked)) => found == whole(asked, rustix::param::page_size() as u64),
        (Check::HugePages(page), Ok(found), Ok(asked)) => found == whole(asked, page),
        // "-1" on v1 reads as the largest number.
        (Check::Pages | Check::HugePages(_), Ok(found), Err(_)) => memory::is_unlimited(found),
        (Check::List, ..) => trimmed.parse::<crate::IdList>() == write.value.parse(),
        (Check::Line, ..) => io::is_kept(&write.value, found),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::memory;

    fn pages(value: &'static str) -> Write {
        Write {
            controller: Controller::Memory,
            limit: "memory limit",
            file: "f".into(),
            value: value.into(),
            check: Check::Pages,
            is_default: false,
            if_present: false,
        }
    }

    #[test]
    fn a_value_is_kept_when_it_reads_the_same_or_in_whole_pages() {
        assert!(is_kept(&pages("max"), "max\n"));
        assert!(is_kept(&pages("-1"), "9223372036854771712"));
        assert!(!is_kept(&pages("-1"), "4096"));
        let page = rustix::param::page_size();
        assert!(is_kept(&pages("16777217"), "16777216"));
        assert!(!is_kept(&pages("16777216"), &(16777216 - page).to_string()));
        assert!(!is_kept(&pages("18446744073709551615"), "9223372036854771712"));
        assert!(!is_kept(&Write { check: Check::Exact, ..pages("3") }, "2"));
        assert!(is_kept(&Write { check: Check::HugePages(2 << 20), ..pages("5000000") }, "4194304"));
        assert!(is_kept(&Write { check: Check::List, ..pages("0,1") }, "0-1\n"));
        assert!(!is_kept(&Write { check: Check::List, ..pages("0,1") }, "0\n"));
        assert!(memory::is_unlimited(9_223_372_036_854_771_712));
    }

    #[test]
    fn a_file_is_put_back_to_what_it_read() {
        assert_eq!(former(&pages("5"), "max\n"), "max");
        let list = Write { check: Check::List, ..pages("1") };
        assert_eq!(former(&list, "\n"), "\n");
        let line = |value| Write { check: Check::Line, ..pages(value) };
        assert_eq!(former(&line("8:0 55"), "7:0 3\n8:0 44\n"), "8:0 44");
        assert_eq!(former(&line("8:0 55"), "8:01 44\n"), "8:0 0");
        assert_eq!(former(&line("8:0 rbps=1"), ""), "8:0 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(former(&line("50"), "default 100\n"), "default 100");
    }
}
