// SPDX-License-Identifier: Apache-2.0
//! One group: a directory of the same path in every hierarchy that it needs.
//!
//! On the path of a launch, so counted: for each hierarchy one `mkdirat` and one `openat`; for each value
//! `openat`, `write`, `pread`, `close`. Parents are made when the kernel says that they are missing, not before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::controller::memory;
use crate::hierarchy::check_path;
use crate::tree::{self, Files};
use crate::{Check, Controller, Error, Hierarchies, Limits, Result, Version, Write};

/// Between two attempts to remove a group whose last process is just exiting.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// A group that exists. Dropping it changes nothing on the host.
#[derive(Debug)]
pub struct Group {
    hierarchies: Hierarchies,
    path: String,
    dirs: Vec<Place>,
}

/// The group's directory in one hierarchy.
#[derive(Debug)]
struct Place {
    index: usize,
    dir: OwnedFd,
}

impl Group {
    /// Makes the group `path` (such as `berth/<instance>/<id>`) and applies the limits. It gets a directory in
    /// the hierarchy of every controller that a limit needs, and of those `wanted` as well that the host has.
    /// Parents are made if missing; on v2 the controllers are enabled in them. When it fails, nothing that it
    /// made for the group itself is left.
    ///
    /// # Errors
    /// [`Error::NoController`], [`Error::Inexpressible`], [`Error::Invalid`], [`Error::Path`] before anything is
    /// done; [`Error::Exists`] when any hierarchy has that group already; [`Error::Apply`],
    /// [`Error::NotApplied`], [`Error::Enable`], [`Error::Io`]; [`Error::Undo`] when something is left.
    pub fn create(
        hierarchies: &Hierarchies,
        path: &str,
        wanted: &[Controller],
        limits: &Limits,
    ) -> Result<Group> {
        check_path(path)?;
        let places = hierarchies.places_for(wanted, limits)?;
        let mut writes = planned(hierarchies, limits)?;
        writes.retain(|write| !write.is_default);
        let dirs = Vec::with_capacity(places.len());
        let mut group = Group { hierarchies: hierarchies.clone(), path: path.to_owned(), dirs };
        let made = group.make(&places, wanted, limits).and_then(|()| group.write(&writes));
        match made {
            Ok(()) => Ok(group),
            Err(cause) => Err(group.undo(cause)),
        }
    }

    /// The group `path` as it is found, in whichever hierarchies have it: for recovery and clean-up.
    ///
    /// # Errors
    /// [`Error::NotFound`] when none has it, [`Error::Path`], [`Error::Io`].
    pub fn open(hierarchies: &Hierarchies, path: &str) -> Result<Group> {
        check_path(path)?;
        let mut dirs = Vec::new();
        for index in hierarchies.places() {
            match hierarchies.open(index, path) {
                Ok(dir) => dirs.push(Place { index, dir }),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(hierarchies.io("open", index, path, errno)),
            }
        }
        if dirs.is_empty() {
            return Err(Error::NotFound { path: path.to_owned(), root: hierarchies.root().to_owned() });
        }
        Ok(Group { hierarchies: hierarchies.clone(), path: path.to_owned(), dirs })
    }

    /// The path, relative to each hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is there still, in any hierarchy.
    pub fn exists(&self) -> bool {
        self.dirs.iter().any(|place| self.hierarchies.open(place.index, &self.path).is_ok())
    }

    /// Descriptors through which a process puts itself into the group: it writes `0` to each of them, and then
    /// unshares its cgroup namespace if it is to have its own. Write-only, close-on-exec. On v1 they are of the
    /// `tasks` files and move the writing *thread*, so it must be the only one of its process; on v2 of
    /// `cgroup.procs`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn join_fds(&self) -> Result<Vec<OwnedFd>> {
        let open = |place: &Place| {
            let file = match self.hierarchies.place(place.index).version {
                Version::V1 => "tasks",
                Version::V2 => "cgroup.procs",
            };
            self.hierarchies
                .open_file(place.dir.as_fd(), file, OFlags::WRONLY)
                .map_err(|errno| self.io("open for joining", place, file, errno))
        };
        self.dirs.iter().map(open).collect()
    }

    /// Applies other limits to the group; what is absent stays as it is. Both directions are tried: a memory
    /// limit below what is in use is refused by v1 if that can not be reclaimed, and enforced by v2 even by
    /// killing. After an error, the limits before the one that is named are applied.
    ///
    /// # Errors
    /// [`Error::NoController`] when the group is not in the hierarchy that a limit needs; otherwise as
    /// [`Group::create`].
    pub fn update(&self, limits: &Limits) -> Result<()> {
        self.hierarchies.places_for(&[], limits)?;
        let mut writes = planned(&self.hierarchies, limits)?;
        if let Some((dir, Version::V1)) = self.dir_of(Controller::Memory) {
            memory::sort_for_update(&mut writes, memory::sum_now(&Files::new(dir)));
        }
        self.write(&writes)
    }

    /// The processes in the group and in groups below it, as far as our pid namespace sees them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn processes(&self) -> Result<Vec<u32>> {
        let mut pids = Vec::new();
        for place in &self.dirs {
            let mut read = |dir: BorrowedFd<'_>| match tree::read(dir, "cgroup.procs") {
                Ok(text) => {
                    let text = String::from_utf8_lossy(&text);
                    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
                    Ok(())
                }
                // Gone meanwhile; or a threaded group of v2, whose processes its parent lists.
                Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(()),
                Err(errno) => Err(errno),
            };
            match tree::walk(place.dir.as_fd(), &mut read) {
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(self.io("list the processes of", place, "", errno)),
            }
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Removes the group everywhere, and what the container made below it. That it is gone already is fine, so
    /// this may be called again. Waits until `deadline` for processes that are exiting; it kills none.
    ///
    /// # Errors
    /// [`Error::Busy`] with who is still in it; [`Error::Io`]. All hierarchies are tried in any case.
    pub fn remove(&self, deadline: Instant) -> Result<()> {
        let mut left: Vec<&Place> = self.dirs.iter().collect();
        let mut pause = SHORTEST_PAUSE;
        let mut failure = None;
        loop {
            left.retain(|place| match self.hierarchies.remove_tree(place.index, &self.path) {
                // ENODEV, ENOENT: removed by another in the middle of our walk.
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => false,
                Err(Errno::BUSY | Errno::NOTEMPTY) => true,
                Err(errno) => {
                    failure.get_or_insert_with(|| self.io("remove", place, "", errno));
                    false
                }
            });
            let Some(first) = left.first() else { return failure.map_or(Ok(()), Err) };
            let time = deadline.saturating_duration_since(Instant::now());
            if time.is_zero() {
                let path = self.hierarchies.place(first.index).path.join(&self.path);
                return Err(Error::Busy { path, pids: self.processes().unwrap_or_default() });
            }
            std::thread::sleep(pause.min(time));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The group's directory in this controller's hierarchy.
    pub(crate) fn dir_of(&self, controller: Controller) -> Option<(BorrowedFd<'_>, Version)> {
        let index = self.hierarchies.place_of(controller)?;
        let place = self.dirs.iter().find(|place| place.index == index)?;
        Some((place.dir.as_fd(), self.hierarchies.place(index).version))
    }

    /// The group's directories with their versions.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Version)> {
        self.dirs.iter().map(|place| (place.dir.as_fd(), self.hierarchies.place(place.index).version))
    }

    pub(crate) fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    fn make(&mut self, places: &[usize], wanted: &[Controller], limits: &Limits) -> Result<()> {
        for &index in places {
            if self.hierarchies.place(index).version == Version::V2 {
                self.enable(index, wanted, limits)?;
            }
            match self.hierarchies.mkdir(index, &self.path) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let path = self.hierarchies.place(index).path.join(&self.path);
                    return Err(Error::Exists { path });
                }
                Err(errno) => return Err(self.hierarchies.io("make", index, &self.path, errno)),
            }
            match self.hierarchies.open(index, &self.path) {
                Ok(dir) => self.dirs.push(Place { index, dir }),
                Err(errno) => {
                    let error = self.hierarchies.io("open", index, &self.path, errno);
                    // Made and not yet in the list of what is to be undone.
                    let _ = self.hierarchies.rmdir(index, &self.path);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// v2: sees that the parent hands down the controllers, from the top of the hierarchy on if it does not.
    fn enable(&self, index: usize, wanted: &[Controller], limits: &Limits) -> Result<()> {
        const FILE: &str = "cgroup.subtree_control";
        let place = self.hierarchies.place_fd(index);
        let needed: Vec<&str> = Controller::ALL
            .into_iter()
            .filter(|controller| {
                controller.is_enabled_by_parent()
                    && self.hierarchies.place_of(*controller) == Some(index)
                    && (wanted.contains(controller) || limits.need(*controller).is_some())
            })
            .map(Controller::name)
            .collect();
        let enabled_in = |file: &str| match tree::read(place, file) {
            Ok(text) => {
                let text = String::from_utf8_lossy(&text);
                // A stand-in holds what was written, with the signs.
                let has = |name: &&str| {
                    text.split_ascii_whitespace().any(|word| word.trim_start_matches('+') == *name)
                };
                Ok(needed.iter().all(has))
            }
            Err(errno) => Err(errno),
        };
        let control =
            |group: &str| if group.is_empty() { FILE.to_owned() } else { format!("{group}/{FILE}") };
        let parent = self.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if needed.is_empty() || enabled_in(&control(parent)).is_ok_and(|enabled| enabled) {
            return Ok(());
        }
        self.hierarchies
            .make_parents(index, &self.path)
            .map_err(|errno| self.hierarchies.io("make the parents of", index, &self.path, errno))?;
        let value = needed.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
        let ends = self.path.match_indices('/').map(|(end, _)| end);
        for end in std::iter::once(0).chain(ends) {
            let file = control(&self.path[..end]);
            if enabled_in(&file).is_ok_and(|enabled| enabled) {
                continue;
            }
            let written = self
                .hierarchies
                .open_file(place, &file, OFlags::WRONLY)
                .and_then(|open| rustix::io::write(&open, value.as_bytes()));
            if let Err(errno) = written {
                return Err(Error::Enable {
                    controllers: value,
                    path: self.hierarchies.place(index).path.join(&file),
                    hint: match errno {
                        Errno::BUSY => "processes are in that very group; move them to a group below it",
                        Errno::NOENT => "the group above does not hand it down",
                        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                            "run as root, or have the group delegated"
                        }
                        _ => "the kernel refused",
                    },
                    source: errno.into(),
                });
            }
        }
        Ok(())
    }

    /// Writes values in order, and sees that they are kept.
    fn write(&self, writes: &[Write]) -> Result<()> {
        let mut open: Option<(&'static str, OwnedFd)> = None;
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
                _ => {
                    let file = self.hierarchies.open_file(dir, write.file, access).map_err(failed)?;
                    &open.insert((write.file, file)).1
                }
            };
            rustix::io::retry_on_intr(|| rustix::io::write(file, write.value.as_bytes())).map_err(failed)?;
            if write.check == Check::None {
                continue;
            }
            let mut buffer = [0; 64];
            let length =
                rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut buffer[..], 0)).map_err(failed)?;
            let found = String::from_utf8_lossy(&buffer[..length]);
            if !is_kept(write, found.trim_end()) {
                return Err(Error::NotApplied {
                    limit: write.limit,
                    controller: write.controller,
                    path: self.file_path(write),
                    value: write.value.to_string(),
                    found: found.trim_end().to_owned(),
                });
            }
        }
        Ok(())
    }

    fn refused(&self, write: &Write, errno: Errno) -> Error {
        Error::Apply {
            limit: write.limit,
            controller: write.controller,
            path: self.file_path(write),
            value: write.value.to_string(),
            hint: match errno {
                Errno::NOENT => "this kernel was built or booted without it; start without that limit",
                Errno::BUSY => {
                    "more is in use now and can not be reclaimed; ask for more, or free some first"
                }
                Errno::INVAL | Errno::RANGE => "the kernel takes no such value, or a group above allows less",
                Errno::ACCESS | Errno::PERM | Errno::ROFS => "run as root, or have the group delegated",
                _ => "the kernel refused",
            },
            source: errno.into(),
        }
    }

    fn file_path(&self, write: &Write) -> std::path::PathBuf {
        let hierarchy = self.hierarchies.place_of(write.controller);
        let root = hierarchy.map_or(self.hierarchies.root(), |index| &self.hierarchies.place(index).path);
        root.join(&self.path).join(write.file)
    }

    fn undo(&self, cause: Error) -> Error {
        for place in self.dirs.iter().rev() {
            match self.hierarchies.rmdir(place.index, &self.path) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let path = self.hierarchies.place(place.index).path.join(&self.path);
                    return Error::Undo { cause: Box::new(cause), path, source: errno.into() };
                }
            }
        }
        cause
    }

    fn io(&self, what: &'static str, place: &Place, file: &str, errno: Errno) -> Error {
        let mut path = self.hierarchies.place(place.index).path.join(&self.path);
        if !file.is_empty() {
            path.push(file);
        }
        Error::Io { what, path, source: errno.into() }
    }
}

/// All that the limits become on this host, each controller in its version.
fn planned(hierarchies: &Hierarchies, limits: &Limits) -> Result<Vec<Write>> {
    let mut writes = Vec::with_capacity(8);
    for controller in Controller::ALL {
        if let Some(version) = hierarchies.version_of(controller) {
            controller.writes(limits, version, &mut writes)?;
        }
    }
    Ok(writes)
}

/// Whether what is read back is what was asked.
fn is_kept(write: &Write, found: &str) -> bool {
    if write.value == found {
        return true;
    }
    match (write.check, found.parse::<u64>(), write.value.parse::<u64>()) {
        (Check::Pages, Ok(found), Ok(asked)) => found == asked - asked % rustix::param::page_size() as u64,
        // "-1" on v1 reads as the largest number.
        (Check::Pages, Ok(found), Err(_)) => memory::is_unlimited(found),
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
            file: "f",
            value: value.into(),
            check: Check::Pages,
            is_default: false,
        }
    }

    #[test]
    fn a_value_is_kept_when_it_reads_the_same_or_in_whole_pages() {
        assert!(is_kept(&pages("max"), "max"));
        assert!(is_kept(&pages("-1"), "9223372036854771712"));
        assert!(!is_kept(&pages("-1"), "4096"));
        let page = rustix::param::page_size();
        assert!(is_kept(&pages("16777217"), "16777216"));
        assert!(!is_kept(&pages("16777216"), &(16777216 - page).to_string()));
        assert!(!is_kept(&pages("18446744073709551615"), "9223372036854771712"));
        assert!(!is_kept(&Write { check: Check::Exact, ..pages("3") }, "2"));
        assert!(memory::is_unlimited(9_223_372_036_854_771_712));
    }
}
