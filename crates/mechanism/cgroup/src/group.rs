// SPDX-License-Identifier: Apache-2.0
//! One group: a directory of the same path in every hierarchy that it needs.
//!
//! On the path of a launch, so counted: for each hierarchy one `mkdirat` and one `openat`; for each value
//! `openat`, `write`, `pread`, `close` (`apply.rs`). Parents are made when the kernel says that they are missing, not before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::apply;
use crate::hierarchy::check_path;
use crate::tree;
use crate::{Controller, Error, Hierarchies, Limits, Result, Version, Way};

/// Between two attempts to remove a group whose last process is just exiting.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// Below each group of v2, for its processes. Ids of containers have no dot, so none can take the name.
pub(crate) const LEAF: &str = "berth.leaf";

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
        let mut writes = apply::planned(hierarchies, limits)?;
        writes.retain(|write| !write.is_default);
        let dirs = Vec::with_capacity(places.len());
        let mut group = Group { hierarchies: hierarchies.clone(), path: path.to_owned(), dirs };
        let made = group.make(&places, wanted, limits).and_then(|()| group.apply(&writes, limits));
        match made {
            Ok(()) => Ok(group),
            Err(cause) => Err(group.undo(cause)),
        }
    }

    /// Makes the group `path` wherever it is missing, in the hierarchies of those `wanted` that the host has, for groups of
    /// containers below it; on v2 the controllers are enabled in the groups above it. Several may do so at once: what is
    /// there stays, and nothing is taken back, since somebody may have made a group in it by then.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Enable`], [`Error::Io`].
    pub fn ensure(hierarchies: &Hierarchies, path: &str, wanted: &[Controller]) -> Result<()> {
        check_path(path)?;
        let group = Group { hierarchies: hierarchies.clone(), path: path.to_owned(), dirs: Vec::new() };
        for index in hierarchies.places_for(wanted, &Limits::default())? {
            if hierarchies.place(index).version == Version::V2 {
                group.enable(index, wanted, &Limits::default())?;
            }
            match hierarchies.mkdir(index, path) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(hierarchies.io("make", index, path, errno)),
            }
        }
        Ok(())
    }

    /// The group `path` as it is found, in whichever hierarchies have it: for recovery and clean-up.
    ///
    /// # Errors
    /// [`Error::NotFound`] when none has it, [`Error::Path`], [`Error::Io`].
    pub fn open(hierarchies: &Hierarchies, path: &str) -> Result<Group> {
        Group::open_in(hierarchies, path, hierarchies.places())
    }

    /// The same in some places alone.
    pub(crate) fn open_in(
        hierarchies: &Hierarchies,
        path: &str,
        places: impl IntoIterator<Item = usize>,
    ) -> Result<Group> {
        check_path(path)?;
        let mut dirs = Vec::new();
        for index in places {
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

    /// Removes the group `path` wherever it is, in as few calls as can be; `false` when something is left, because somebody
    /// is in it or below it: then [`Group::open`] and [`Group::remove`] tell what.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn remove_empty(hierarchies: &Hierarchies, path: &str) -> Result<bool> {
        check_path(path)?;
        let gone = |removed| matches!(removed, Ok(()) | Err(Errno::NOENT));
        let mut all = true;
        for index in hierarchies.places() {
            if hierarchies.place(index).version == Version::V2 {
                // It may have no leaf, and what is wrong with one is wrong with the group, too.
                let _ = hierarchies.rmdir(index, &format!("{path}/{LEAF}"));
            }
            all &= gone(hierarchies.rmdir(index, path));
        }
        Ok(all)
    }

    /// The path of the group that a process is in, given what `/proc/PID/cgroup` says: on v2 that is its leaf's.
    pub fn path_of_member(path: &str) -> &str {
        path.strip_suffix(LEAF).and_then(|path| path.strip_suffix('/')).unwrap_or(path)
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
    /// `cgroup.procs` in a leaf below the group, which is made if it is not there: a group that hands controllers
    /// down may hold no processes, and so whatever is in a container may get groups with limits of their own.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn join_fds(&self) -> Result<Vec<OwnedFd>> {
        let open = |place: &Place| match self.version(place) {
            Version::V1 => self.tasks(place, place.dir.as_fd()),
            Version::V2 => self.tasks(place, self.leaf(place)?.as_fd()),
        };
        self.dirs.iter().map(open).collect()
    }

    /// The same for a process that makes a cgroup namespace on its way: what it joins before, and what afterwards.
    ///
    /// A namespace is rooted in the group where it is made. On v2 that is to be the group itself and not its leaf, for
    /// programs look for their limits at their root (`memory.max`, `cpu.max`). The kernel has processes there as long as
    /// no controllers are handed down, and a container that begins has nobody yet to hand them to.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn entrance_fds(&self) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>)> {
        let before = self.dirs.iter().map(|place| self.tasks(place, place.dir.as_fd()));
        let leaves = self.dirs.iter().filter(|place| self.version(place) == Version::V2);
        let after = leaves.map(|place| self.tasks(place, self.leaf(place)?.as_fd()));
        Ok((before.collect::<Result<_>>()?, after.collect::<Result<_>>()?))
    }

    fn version(&self, place: &Place) -> Version {
        self.hierarchies.place(place.index).version
    }

    /// The file by which a process joins the directory of a group.
    fn tasks(&self, place: &Place, dir: BorrowedFd<'_>) -> Result<OwnedFd> {
        let file = match self.version(place) {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        self.hierarchies
            .open_file(dir, file, OFlags::WRONLY)
            .map_err(|errno| self.io("open for joining", place, file, errno))
    }

    /// The directory of v2 in which a process may be born (clone3(2), `CLONE_INTO_CGROUP`), and with it be in every
    /// hierarchy of the group: none where a v1 hierarchy has to be joined as well, or where that is switched off.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn birth_place(&self) -> Result<Option<OwnedFd>> {
        match &self.dirs[..] {
            [only]
                if self.hierarchies.place(only.index).version == Version::V2
                    && self.hierarchies.ways().has(Way::CloneInto) =>
            {
                let leaf = self.leaf(only)?;
                // Not by a descriptor that is only a path.
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let open = rustix::fs::openat(&leaf, ".", flags, rustix::fs::Mode::empty());
                open.map(Some).map_err(|errno| self.io("open", only, LEAF, errno))
            }
            _ => Ok(None),
        }
    }

    /// v2: where the group's processes are.
    fn leaf(&self, place: &Place) -> Result<OwnedFd> {
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        match rustix::fs::mkdirat(&place.dir, LEAF, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.io("make", place, LEAF, errno)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&place.dir, LEAF, flags, rustix::fs::Mode::empty())
            .map_err(|errno| self.io("open", place, LEAF, errno))
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

    /// How many processes the first of its hierarchies lists, in the group and those below it.
    pub(crate) fn count_processes(&self) -> Result<usize> {
        let Some(place) = self.dirs.first() else { return Ok(0) };
        let mut count = 0;
        let mut read = |dir: BorrowedFd<'_>| match tree::read(dir, "cgroup.procs") {
            Ok(text) => {
                count += text.iter().filter(|byte| **byte == b'\n').count();
                Ok(())
            }
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno),
        };
        tree::walk(place.dir.as_fd(), &mut read)
            .map(|()| count)
            .map_err(|errno| self.io("count the processes of", place, "", errno))
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

    /// Whether it has a directory in that place.
    pub(crate) fn is_in(&self, index: usize) -> bool {
        self.dirs.iter().any(|place| place.index == index)
    }

    /// Takes its directory in a place away again, which nobody has joined.
    pub(crate) fn leave(&mut self, index: usize) {
        let _ = self.hierarchies.rmdir(index, &self.path);
        self.dirs.retain(|place| place.index != index);
    }

    /// Its directory in a place, where it has one.
    pub(crate) fn dir_in(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.dirs.iter().find(|place| place.index == index).map(|place| place.dir.as_fd())
    }

    pub(crate) fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    pub(crate) fn make(&mut self, places: &[usize], wanted: &[Controller], limits: &Limits) -> Result<()> {
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
    pub(crate) fn enable(&self, index: usize, wanted: &[Controller], limits: &Limits) -> Result<()> {
        const FILE: &str = "cgroup.subtree_control";
        let place = self.hierarchies.place_fd(index);
        let needed: Vec<&str> = Controller::ALL
            .into_iter()
            .filter(|controller| {
                controller.is_enabled_by_parent()
                    && self.hierarchies.place_of(*controller) == Some(index)
                    && (wanted.contains(controller) || controller.needed_for(limits).is_some())
            })
            .map(|controller| controller.name_on(Version::V2))
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
