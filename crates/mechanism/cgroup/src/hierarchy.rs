// SPDX-License-Identifier: Apache-2.0
//! Which controllers there are, where, and of which version.
//!
//! Found by the file system's magic number at the usual places, one `open`, `fstatfs` and `fstat` for each: a
//! mount table may hold thousands of lines on a host with many containers, and is not read. Controllers that
//! are mounted together (`cpu` is then a link to `cpu,cpuacct`) are found to be one hierarchy by device and
//! inode.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode as FileMode, OFlags};
use rustix::io::Errno;

use crate::controller::cpuset;
use crate::tree;
use crate::{Controller, Error, Limits, Result, Ways};

/// linux/magic.h
const CGROUP_SUPER_MAGIC: u64 = 0x27_e0eb;
/// linux/magic.h
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// How often a group's parents are made again when somebody prunes them at the same time.
const TRIES: usize = 8;

/// Which interface a controller has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// A hierarchy for each controller, or for a few.
    V1,
    /// One hierarchy for all.
    V2,
}

/// How the host is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Only v1 hierarchies.
    V1,
    /// Only the v2 hierarchy.
    V2,
    /// v1 hierarchies, and v2 at `unified` with the controllers that no v1 hierarchy took.
    Hybrid,
}

/// The hierarchies of a host. Cheap to clone; keep one for the life of the process.
#[derive(Debug, Clone)]
pub struct Hierarchies {
    inner: Arc<Inner>,
    ways: Ways,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    mode: Mode,
    places: Vec<Place>,
    /// For each controller the index of its place.
    of: [Option<usize>; Controller::ALL.len()],
    tree: Tree,
}

/// One hierarchy.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) version: Version,
    pub(crate) path: PathBuf,
    fd: OwnedFd,
    identity: (u64, u64),
}

/// What holds the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    /// The kernel: control files come and go with their directory.
    Kernel,
    /// Plain directories: control files are made when written, and removed with their directory.
    StandIn,
}

impl Hierarchies {
    /// Where hierarchies are mounted on every host.
    pub const ROOT: &str = "/sys/fs/cgroup";

    /// Finds the hierarchies at [`Self::ROOT`], or another `root`.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] when there is none, [`Error::Io`].
    pub fn probe(root: &Path) -> Result<Hierarchies> {
        let top = open_path(root).map_err(|errno| match errno {
            Errno::NOENT => Error::NoHierarchy { root: root.to_owned() },
            errno => Error::Io { what: "open", path: root.to_owned(), source: errno.into() },
        })?;
        let version = |fd: BorrowedFd<'_>| match rustix::fs::fstatfs(fd).map(|stat| stat.f_type as u64) {
            Ok(CGROUP_SUPER_MAGIC) => Some(Version::V1),
            Ok(CGROUP2_SUPER_MAGIC) => Some(Version::V2),
            _ => None,
        };
        if version(top.as_fd()) == Some(Version::V2) {
            return Inner::unified(root, top, Tree::Kernel);
        }
        Inner::mounted(root, top.as_fd(), Tree::Kernel, version)
    }

    /// Takes plain directories for hierarchies, for tests that have none or must not touch them: `root` itself
    /// for [`Mode::V2`]; folders named like controllers for [`Mode::V1`], and `unified` as well for
    /// [`Mode::Hybrid`]. Control files are made when they are written; `cgroup.controllers` is to be put there
    /// beforehand.
    ///
    /// # Errors
    /// As [`Self::probe`].
    pub fn stand_in(root: &Path, mode: Mode) -> Result<Hierarchies> {
        let top = open_path(root).map_err(|errno| Error::Io {
            what: "open",
            path: root.to_owned(),
            source: errno.into(),
        })?;
        match mode {
            Mode::V2 => Inner::unified(root, top, Tree::StandIn),
            Mode::V1 => Inner::mounted(root, top.as_fd(), Tree::StandIn, |_| Some(Version::V1)),
            Mode::Hybrid => {
                let unified = open_in(top.as_fd(), "unified").and_then(identity).ok();
                Inner::mounted(root, top.as_fd(), Tree::StandIn, |fd| match identity(fd) {
                    Ok(this) if Some(this) == unified => Some(Version::V2),
                    _ => Some(Version::V1),
                })
            }
        }
    }

    /// The same, without some of the better ways of newer kernels: for tests of the other ones.
    #[must_use]
    pub fn with_ways(mut self, ways: Ways) -> Hierarchies {
        self.ways = ways;
        self
    }

    pub(crate) fn ways(&self) -> Ways {
        self.ways
    }

    /// How the host is set up.
    pub fn mode(&self) -> Mode {
        self.inner.mode
    }

    /// Where the hierarchies are mounted.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The version of a controller, or none if the host does not offer it.
    pub fn version_of(&self, controller: Controller) -> Option<Version> {
        self.place_of(controller).map(|place| self.inner.places[place].version)
    }

    /// The ids of the groups directly below `prefix` in any hierarchy, sorted. For recovery.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Io`].
    pub fn list(&self, prefix: &str) -> Result<Vec<String>> {
        check_path(prefix)?;
        let mut ids = Vec::new();
        for place in &self.inner.places {
            let failed = |errno: Errno| Error::Io {
                what: "list",
                path: place.path.join(prefix),
                source: errno.into(),
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&place.fd, prefix, flags, FileMode::empty()) {
                // A name that is not UTF-8 can not be an id of ours.
                Ok(dir) => ids.extend(
                    tree::children(&dir)
                        .map_err(failed)?
                        .into_iter()
                        .filter_map(|name| name.into_string().ok()),
                ),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// Removes `path` and the groups above it, as far up as they are empty: what [`crate::Group::create`] made
    /// on its way down. Whatever is in use stays.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Io`].
    pub fn prune(&self, path: &str) -> Result<()> {
        check_path(path)?;
        for index in 0..self.inner.places.len() {
            for ancestor in std::iter::successors(Some(path), |path| Some(path.rsplit_once('/')?.0)) {
                match self.rmdir(index, ancestor) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(Errno::BUSY | Errno::NOTEMPTY) => break,
                    Err(errno) => return Err(self.io("remove", index, ancestor, errno)),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn place(&self, index: usize) -> &Place {
        &self.inner.places[index]
    }

    pub(crate) fn places(&self) -> std::ops::Range<usize> {
        0..self.inner.places.len()
    }

    pub(crate) fn place_of(&self, controller: Controller) -> Option<usize> {
        self.inner.of[controller.index()]
    }

    /// The places in which a group must be: those of what is wanted, where there is one, and those of the
    /// limits, without which it is an error.
    pub(crate) fn places_for(&self, wanted: &[Controller], limits: &Limits) -> Result<Vec<usize>> {
        let mut places = Vec::with_capacity(Controller::ALL.len());
        if self.inner.mode == Mode::V2 {
            places.push(0);
        }
        for controller in Controller::ALL {
            let place = match (self.place_of(controller), controller.needed_for(limits)) {
                (None, Some(limit)) => {
                    return Err(Error::NoController { limit, controller, advice: self.advice(controller) });
                }
                (Some(place), Some(_)) => place,
                (Some(place), None) if wanted.contains(&controller) => place,
                (_, None) => continue,
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(places)
    }

    fn advice(&self, controller: Controller) -> String {
        let root = self.inner.root.display();
        match (self.inner.mode, controller) {
            (Mode::V2, Controller::NetCls | Controller::NetPrio) => "cgroup v2 has none".to_owned(),
            (Mode::V2, _) => format!(
                "have it handed down to {root}/cgroup.controllers (not disabled at boot, not mounted as v1, delegated)"
            ),
            _ => format!(
                "mount it (mount -t cgroup -o {controller} {controller} {root}/{controller}; not if the kernel was booted with cgroup_disable={controller})"
            ),
        }
    }

    /// Makes the group's directory in one place, its parents too if they are missing.
    pub(crate) fn mkdir(&self, index: usize, path: &str) -> rustix::io::Result<()> {
        for _ in 0..TRIES {
            match self.mkdir_one(index, path) {
                Err(Errno::NOENT) => self.make_parents(index, path)?,
                other => return other,
            }
        }
        Err(Errno::NOENT)
    }

    /// Makes all groups above `path`.
    pub(crate) fn make_parents(&self, index: usize, path: &str) -> rustix::io::Result<()> {
        for (end, _) in path.match_indices('/') {
            match self.mkdir_one(index, &path[..end]) {
                // Not there: its parent was pruned just now, and the caller comes again.
                Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn mkdir_one(&self, index: usize, path: &str) -> rustix::io::Result<()> {
        let made = rustix::fs::mkdirat(&self.place(index).fd, path, FileMode::from_raw_mode(0o755));
        let is_cpuset =
            self.place(index).version == Version::V1 && self.place_of(Controller::Cpuset) == Some(index);
        match made {
            // Also one that is there: its maker may not have come so far.
            Ok(()) | Err(Errno::EXIST) if is_cpuset => self.fill_cpuset(index, path).and(made),
            made => made,
        }
    }

    /// v1: a new group has no processors and no memory nodes, and could not be joined; it gets its parent's.
    fn fill_cpuset(&self, index: usize, path: &str) -> rustix::io::Result<()> {
        let place = self.place_fd(index);
        let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
        for file in [cpuset::CPUS, cpuset::MEMS] {
            let own = format!("{path}/{file}");
            let empty = tree::read(place, &own).map_or(true, |text| text.trim_ascii().is_empty());
            if !empty {
                continue;
            }
            let above = match tree::read(place, &format!("{parent}/{file}")) {
                Ok(above) => above,
                // A stand-in's root has none.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            let open = self.open_file(place, &own, OFlags::WRONLY)?;
            rustix::io::write(&open, &above)?;
        }
        Ok(())
    }

    /// A descriptor of the group's directory in one place.
    pub(crate) fn open(&self, index: usize, path: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.place(index).fd, path, flags, FileMode::empty())
    }

    /// Opens a control file for writing.
    pub(crate) fn open_file(
        &self,
        dir: BorrowedFd<'_>,
        file: &str,
        access: OFlags,
    ) -> rustix::io::Result<OwnedFd> {
        let make = match self.inner.tree {
            Tree::Kernel => OFlags::empty(),
            Tree::StandIn => OFlags::CREATE | OFlags::TRUNC,
        };
        rustix::fs::openat(dir, file, access | make | OFlags::CLOEXEC, FileMode::from_raw_mode(0o644))
    }

    pub(crate) fn place_fd(&self, index: usize) -> BorrowedFd<'_> {
        self.place(index).fd.as_fd()
    }

    /// Removes one group without anything in it.
    pub(crate) fn rmdir(&self, index: usize, path: &str) -> rustix::io::Result<()> {
        let place = self.place_fd(index);
        if self.inner.tree == Tree::StandIn {
            let dir = self.open(index, path)?;
            stand_in_clear(dir.as_fd())?;
        }
        rustix::fs::unlinkat(place, path, AtFlags::REMOVEDIR)
    }

    pub(crate) fn is_stand_in(&self) -> bool {
        self.inner.tree == Tree::StandIn
    }

    /// Removes one group and all below it.
    pub(crate) fn remove_tree(&self, index: usize, path: &str) -> rustix::io::Result<()> {
        if self.place(index).version == Version::V2 {
            // Most have it and nothing else below them; what is in the way is met again below.
            let _ = self.rmdir(index, &format!("{path}/{}", crate::group::LEAF));
        }
        match self.rmdir(index, path) {
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            other => return other,
        }
        let dir = self.open(index, path)?;
        let stand_in = self.inner.tree == Tree::StandIn;
        tree::remove_below(dir.as_fd(), &|parent, name| {
            if stand_in {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                stand_in_clear(rustix::fs::openat(parent, name, flags, FileMode::empty())?.as_fd())?;
            }
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
        })?;
        self.rmdir(index, path)
    }

    pub(crate) fn io(&self, what: &'static str, index: usize, path: &str, errno: Errno) -> Error {
        Error::Io { what, path: self.place(index).path.join(path), source: errno.into() }
    }
}

impl Inner {
    /// v2 alone.
    fn unified(root: &Path, top: OwnedFd, tree: Tree) -> Result<Hierarchies> {
        let mut inner = Inner {
            root: root.to_owned(),
            mode: Mode::V2,
            places: Vec::with_capacity(1),
            of: [None; Controller::ALL.len()],
            tree,
        };
        inner.add_unified(root.to_owned(), top)?;
        for controller in Controller::ALL {
            if controller.is_in_every_group() {
                inner.of[controller.index()] = Some(0);
            }
        }
        Ok(Hierarchies { inner: Arc::new(inner), ways: Ways::default() })
    }

    /// v1, perhaps with v2 beside it.
    fn mounted(
        root: &Path,
        top: BorrowedFd<'_>,
        tree: Tree,
        version: impl Fn(BorrowedFd<'_>) -> Option<Version>,
    ) -> Result<Hierarchies> {
        let mut inner = Inner {
            root: root.to_owned(),
            mode: Mode::V1,
            places: Vec::with_capacity(Controller::ALL.len() + 1),
            of: [None; Controller::ALL.len()],
            tree,
        };
        for controller in Controller::ALL {
            let Ok(fd) = open_in(top, controller.name()) else { continue };
            if version(fd.as_fd()) == Some(Version::V1) {
                let place = inner.add(Version::V1, root.join(controller.name()), fd)?;
                inner.of[controller.index()] = Some(place);
            }
        }
        if let Ok(fd) = open_in(top, "unified")
            && version(fd.as_fd()) == Some(Version::V2)
        {
            inner.mode = Mode::Hybrid;
            inner.add_unified(root.join("unified"), fd)?;
            // Part of every group of v2, where v1 has none.
            for controller in [Controller::Freezer, Controller::Devices, Controller::PerfEvent] {
                inner.of[controller.index()].get_or_insert(inner.places.len() - 1);
            }
        }
        if inner.places.is_empty() {
            return Err(Error::NoHierarchy { root: root.to_owned() });
        }
        Ok(Hierarchies { inner: Arc::new(inner), ways: Ways::default() })
    }

    /// The index of a hierarchy, which may be known under another name already.
    fn add(&mut self, version: Version, path: PathBuf, fd: OwnedFd) -> Result<usize> {
        let identity = identity(&fd).map_err(|errno| Error::Io {
            what: "stat",
            path: path.clone(),
            source: errno.into(),
        })?;
        if let Some(known) = self.places.iter().position(|place| place.identity == identity) {
            return Ok(known);
        }
        self.places.push(Place { version, path, fd, identity });
        Ok(self.places.len() - 1)
    }

    /// v2, with those of its controllers that no v1 hierarchy has.
    fn add_unified(&mut self, path: PathBuf, fd: OwnedFd) -> Result<()> {
        const FILE: &str = "cgroup.controllers";
        let offered = tree::read(fd.as_fd(), FILE).map_err(|errno| Error::Io {
            what: "read",
            path: path.join(FILE),
            source: errno.into(),
        })?;
        let place = self.add(Version::V2, path, fd)?;
        for name in String::from_utf8_lossy(&offered).split_ascii_whitespace() {
            let known =
                Controller::ALL.into_iter().find(|controller| controller.name_on(Version::V2) == name);
            if let Some(controller) = known.filter(|controller| controller.is_enabled_by_parent()) {
                self.of[controller.index()].get_or_insert(place);
            }
        }
        Ok(())
    }
}

/// A group's path is relative, and each part a name that the kernel takes.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let bad = |why| Err(Error::Path { path: path.chars().take(300).collect(), why });
    if path.len() > 4000 {
        return bad("it is longer than 4000 bytes");
    }
    for part in path.split('/') {
        match part {
            "" => return bad("it has an empty part, or begins or ends with '/'"),
            "." | ".." => return bad("it leaves its own place by '.' or '..'"),
            part if part.len() > 255 => return bad("a part is longer than 255 bytes"),
            part if part.chars().any(char::is_control) => return bad("it has a control character"),
            _ => {}
        }
    }
    Ok(())
}

fn open_path(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, FileMode::empty())
}

/// Follows links: `cpu` may be one to `cpu,cpuacct`. The folder is the host's.
fn open_in(top: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(top, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, FileMode::empty())
}

fn identity(fd: impl AsFd) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// In a stand-in, control files do not go with their directory by themselves.
fn stand_in_clear(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(dir, ".", flags, FileMode::empty())?;
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        if entry.file_type() == FileType::RegularFile {
            rustix::fs::unlinkat(&dir, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}
