// SPDX-License-Identifier: Apache-2.0
//! A tar archive into a root filesystem.
//!
//! ```text
//! file ─ Intake ─ decoder ─ Outlet ─ Archive ─ (checks) ─ Tree ─ <target>/rootfs
//!          └─────── Budget ──┘
//! ```
//!
//! `<target>` has mode 0700 and keeps it: set-id programs and devices of the image are out of reach of the
//! host's users, whatever mode the image wants for its own top directory, which is `<target>/rootfs`.
//!
//! Decisions:
//! * Leading `/` and `./` are dropped, `..` is refused, everywhere and not only where it would escape.
//! * Devices are skipped and counted: root filesystems carry some, and a container gets its own `/dev`.
//! * Names beginning with `.wh.` are refused. They delete things in a layer of an image and mean nothing in a
//!   root filesystem: who gives such an archive has taken one thing for the other. In a layer they delete
//!   ([`crate::unpack_layer`]).
//! * Extended attributes: `user.*` except `user.overlay.*`, and `security.capability`. Others are counted.
//! * Nothing is synced to disk: a tree that was not recorded as complete is made again.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use berth_model::image::Digest;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::archive::{Archive, Fault, Kind, Member, Sparse};
use crate::below::Below;
use crate::budget::{Budget, Intake, Outlet, Stop, Verdict};
use crate::decode::{self, Compression};
use crate::error::{Limit, Place, UnpackError};
use crate::layer::{Layer, LayerOptions, NotATar, Top};
use crate::limits::Limits;
use crate::name::{Name, NameFault};
use crate::remove::{Removal, remove_tree};
use crate::root::{Root, kind_name, make_dir};
use crate::tree::{Owners, Tree, TreeFault};

/// Bytes moved at once.
pub(crate) const PIECE: usize = 128 << 10;

/// The tree's name in its private directory.
const ROOTFS: &str = "rootfs";

/// How names begin that delete something below: the image specification took it from aufs.
const MARK: &[u8] = b".wh.";
const MARK_OF_AUFS: &[u8] = b".wh..wh.";
const HIDE_OTHERS: &[u8] = b".wh..wh..opq";

/// How to unpack.
#[derive(Clone)]
pub struct Options<'a> {
    /// What the archive may ask for.
    pub limits: Limits,
    /// Whose the files will be.
    pub owners: Owners,
    /// What becomes of device files.
    pub devices: Devices,
    /// Asked at each entry and each MiB, by more than one thread; `true` ends the work with
    /// [`UnpackError::Stopped`].
    pub stop: Stop<'a>,
}

/// What becomes of device files in an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Devices {
    /// They are skipped and counted.
    #[default]
    Skip,
    /// They are made, save a character device 0:0. Only for a tree that is mounted nodev wherever it is.
    Make,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { limits: Limits::default(), owners: Owners::Keep, devices: Devices::Skip, stop: &|| false }
    }
}

/// How far unpacking has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries begun.
    pub entries: u64,
    /// Bytes of files written, without holes.
    pub bytes: u64,
}

/// What was unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// The tree's top directory: `rootfs` in the directory given.
    pub path: PathBuf,
    /// The same, held open.
    pub root: Root,
    /// How the archive was compressed.
    pub compression: Compression,
    /// Entries in the archive, skipped ones included.
    pub entries: u64,
    /// Bytes of files, without holes.
    pub bytes: u64,
    /// Character and block devices that were skipped. Worth a warning when a container needs other devices than
    /// it gets anyway.
    pub skipped_devices: u64,
    /// Extended attributes that were not kept.
    pub dropped_xattrs: u64,
}

/// Unpacks the file `archive` into the directory `target`.
///
/// `target` is made with mode 0700 (its parent must exist), or is an empty directory of ours with that mode. The
/// tree is `target/rootfs`. On any error nothing of it stays, and `target` itself goes if it was made here.
/// `progress` is called at each entry and each MiB.
pub fn unpack(
    archive: &Path,
    target: &Path,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Unpacked, UnpackError> {
    let failed = |errno: Errno| UnpackError::Open { path: archive.into(), source: errno.into() };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(archive, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => unpack_from(File::from(file), target, options, progress),
        found => Err(UnpackError::NotAFile { path: archive.into(), found: kind_name(found) }),
    }
}

/// Unpacks a stream: see [`unpack`]. It is read to its end.
pub fn unpack_from(
    source: impl Read,
    target: &Path,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Unpacked, UnpackError> {
    let mut made = Target::make(target)?;
    let unpacked = Work::new(options, progress).run(source, &made);
    made.settle(unpacked)
}

/// The private directory. Dropped without [`Target::keep`], it takes everything with it.
pub(crate) struct Target<'a> {
    path: &'a Path,
    parent: OwnedFd,
    name: &'a OsStr,
    dir: OwnedFd,
    is_ours: bool,
    armed: bool,
}

impl<'a> Target<'a> {
    pub(crate) fn make(path: &'a Path) -> Result<Target<'a>, UnpackError> {
        let failed =
            |what| move |errno: Errno| UnpackError::Target { what, path: path.into(), source: errno.into() };
        let Some(name) = path.file_name() else {
            return Err(UnpackError::TargetInUse { path: path.into(), why: "has no name of its own" });
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(parent, flags, Mode::empty()).map_err(failed("find the parent of"))?;
        let (dir, is_ours) = match make_dir(parent.as_fd(), Path::new(name), Mode::RWXU) {
            Ok(dir) => (dir, true),
            Err(Errno::EXIST) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let dir = rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(failed("open"))?;
                if let Some(why) = not_private(&dir).map_err(failed("look at"))? {
                    return Err(UnpackError::TargetInUse { path: path.into(), why });
                }
                (dir, false)
            }
            Err(errno) => return Err(failed("make")(errno)),
        };
        Ok(Target { path, parent, name, dir, is_ours, armed: true })
    }

    pub(crate) fn path(&self) -> &Path {
        self.path
    }

    /// Entries made in it shall have the modes of the archive, not what an administrator wants of new files here.
    pub(crate) fn forget_default_acl(&self) {
        let _ = rustix::fs::fremovexattr(&self.dir, "system.posix_acl_default");
    }

    /// Keeps what was made, or takes it away with the error that ended the work.
    pub(crate) fn settle<T>(&mut self, made: Result<T, UnpackError>) -> Result<T, UnpackError> {
        let cause = match made {
            Ok(made) => {
                self.armed = false;
                return Ok(made);
            }
            Err(cause) => cause,
        };
        let removal = self.remove();
        match removal.is_complete() {
            true => Err(cause),
            false => Err(UnpackError::Leftover { target: self.path.into(), removal, cause: Box::new(cause) }),
        }
    }

    fn remove(&mut self) -> Removal {
        self.armed = false;
        let mut removal = remove_tree(self.dir.as_fd(), OsStr::new(ROOTFS));
        if self.is_ours && removal.is_complete() {
            // Only the empty directory: what others put there is not ours to remove.
            match rustix::fs::unlinkat(&self.parent, self.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    let (what, path) = ("remove the directory", PathBuf::from(self.path));
                    removal.failures.push(crate::RemoveFailure { what, path, source: errno.into() });
                }
            }
        }
        removal
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if self.armed {
            // A panic is passing: nobody is left to tell.
            let _ = self.remove();
        }
    }
}

fn not_private(dir: &OwnedFd) -> rustix::io::Result<Option<&'static str>> {
    let stat = rustix::fs::fstat(dir)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(Some("belongs to somebody else"));
    }
    if stat.st_mode & 0o077 != 0 {
        return Ok(Some("is open to others"));
    }
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            return Ok(Some("is not empty"));
        }
    }
    Ok(None)
}

/// One run: where it is and how far it has come.
pub(crate) struct Work<'o, 'p> {
    options: &'o Options<'o>,
    report: &'p mut dyn FnMut(Progress),
    progress: Progress,
    place: Place,
    /// See [`LayerOptions::tree`].
    below: Option<&'static str>,
    skipped_devices: u64,
    dropped_xattrs: u64,
    piece: Vec<u8>,
}

impl<'o, 'p> Work<'o, 'p> {
    pub(crate) fn new(options: &'o Options<'o>, report: &'p mut dyn FnMut(Progress)) -> Work<'o, 'p> {
        Work {
            options,
            report,
            progress: Progress::default(),
            place: Place::start(),
            below: None,
            skipped_devices: 0,
            dropped_xattrs: 0,
            piece: vec![0; PIECE],
        }
    }

    fn run(mut self, source: impl Read, target: &Target<'_>) -> Result<Unpacked, UnpackError> {
        let options = self.options;
        let budget = Budget::new(&options.limits, options.stop);
        let intake = BufReader::with_capacity(PIECE, Intake { source, budget: &budget });
        let opened = match decode::open(intake).map_err(|error| self.broken(&budget, error))? {
            Ok(opened) => opened,
            Err(what) => return Err(UnpackError::Format { what }),
        };
        let stream = BufReader::with_capacity(PIECE, Outlet::new(opened.reader, &budget));
        let mut tree = self.tree(target)?;
        self.entries(&budget, stream, &mut tree)?;
        let dropped_xattrs = self.dropped_xattrs + tree.dropped_xattrs;
        let root = self.finish(tree)?;
        Ok(Unpacked {
            path: target.path.join(ROOTFS),
            root,
            compression: opened.compression,
            entries: self.progress.entries,
            bytes: self.progress.bytes,
            skipped_devices: self.skipped_devices,
            dropped_xattrs,
        })
    }

    /// Unpacks the tar of a layer. What only the reader of the blob knows is filled in by the caller.
    pub(crate) fn run_layer(
        mut self,
        stream: impl Read,
        budget: &Budget<'_>,
        target: &Target<'_>,
        layer: &LayerOptions<'_>,
    ) -> Result<Layer, UnpackError> {
        self.below = layer.tree;
        let mut tree = self.tree(target)?;
        tree.put_on(Below::new(layer.lower));
        if layer.umask_is_zero {
            tree.make_exactly();
        }
        self.entries(budget, stream, &mut tree)?;
        tree.settle().map_err(|fault| self.not_made(fault))?;
        let (bound, hides_all) = (tree.is_bound(), tree.hides_all());
        let top = tree.top().map(|meta| Top { mode: meta.mode.bits(), uid: meta.uid, gid: meta.gid });
        let dropped_xattrs = self.dropped_xattrs + tree.dropped_xattrs;
        let root = self.finish(tree)?;
        Ok(Layer {
            path: target.path.join(ROOTFS),
            root,
            blob: Digest::Sha256([0; 32]),
            blob_size: 0,
            content: Digest::Sha256([0; 32]),
            content_size: 0,
            compression: Compression::None,
            entries: self.progress.entries,
            bytes: self.progress.bytes,
            bound,
            hides_all,
            top,
            skipped_devices: self.skipped_devices,
            dropped_xattrs,
        })
    }

    fn tree(&self, target: &Target<'_>) -> Result<Tree<'o>, UnpackError> {
        let failed = |errno: Errno| UnpackError::Target {
            what: "make the root of the tree in",
            path: target.path.into(),
            source: errno.into(),
        };
        let dir = make_dir(target.dir.as_fd(), Path::new(ROOTFS), Mode::RWXU).map_err(failed)?;
        Tree::new(dir, &self.options.limits, self.options.owners).map_err(|fault| self.not_made(fault))
    }

    fn entries(
        &mut self,
        budget: &Budget<'_>,
        stream: impl Read,
        tree: &mut Tree<'_>,
    ) -> Result<(), UnpackError> {
        let mut archive = Archive::new(stream, &self.options.limits);
        if tree.below.is_some() {
            archive.end_anywhere();
        }
        while let Some(member) = archive.next().map_err(|fault| self.not_read(budget, fault))? {
            self.begin(budget, &member)?;
            self.entry(budget, &mut archive, tree, &member)?;
            self.place.after = true;
        }
        Ok(())
    }

    fn finish(&self, tree: Tree<'_>) -> Result<Root, UnpackError> {
        let root = tree.finish(|| !(self.options.stop)()).map_err(|fault| self.not_made(fault))?;
        root.ok_or_else(|| UnpackError::Stopped { place: self.place.clone() })
    }

    /// Counts an entry and moves the place of errors to it.
    fn begin(&mut self, budget: &Budget<'_>, member: &Member) -> Result<(), UnpackError> {
        self.progress.entries += 1;
        self.place = Place::entry(self.progress.entries, &member.name);
        if self.progress.entries > self.options.limits.entries {
            return Err(self.too_much(Limit::Entries, self.options.limits.entries));
        }
        budget.ask().map_err(|error| self.broken(budget, error))?;
        (self.report)(self.progress);
        Ok(())
    }

    fn entry(
        &mut self,
        budget: &Budget<'_>,
        archive: &mut Archive<impl Read>,
        tree: &mut Tree<'_>,
        member: &Member,
    ) -> Result<(), UnpackError> {
        let Some(name) = self.within(self.name(&member.name)?) else { return Ok(()) };
        if self.below.is_some() && name.is_root() && member.kind != Kind::Directory {
            let why = "the directory that is its tree is something else".to_owned();
            return Err(UnpackError::Refused { place: self.place.clone(), why });
        }
        if let Some(part) = name.parts().find(|part| part.starts_with(MARK)) {
            if tree.below.is_some() {
                return self.mark(tree, &name, member);
            }
            let part = crate::name::shown(part);
            let why =
                format!("{part} is a deletion mark: this is a layer of an image, not a root filesystem");
            return Err(UnpackError::Refused { place: self.place.clone(), why });
        }
        self.dropped_xattrs += member.dropped_xattrs;
        let made = match member.kind {
            Kind::File => return self.file(budget, archive, tree, &name, member),
            Kind::Directory => tree.directory(&name, member),
            Kind::Symlink => tree.symlink(&name, member),
            Kind::HardLink => {
                let Some(target) = self.within(self.name(&member.link)?) else {
                    let why = "a hard link leads out of the directory that is the tree".to_owned();
                    return Err(UnpackError::Refused { place: self.place.clone(), why });
                };
                tree.hard_link(&name, &target)
            }
            Kind::Fifo => tree.fifo(&name, member),
            Kind::Device { block, major, minor } if self.options.devices == Devices::Make => {
                tree.device(&name, member, block, rustix::fs::makedev(major, minor))
            }
            Kind::Device { .. } => {
                self.skipped_devices += 1;
                Ok(())
            }
        };
        made.map_err(|fault| self.not_made(fault))
    }

    /// A name with the prefix of deletion marks. They count by their names: some tools write them as links.
    fn mark(&mut self, tree: &mut Tree<'_>, name: &Name, member: &Member) -> Result<(), UnpackError> {
        let last = name.last().as_os_str().as_bytes();
        // `.wh..wh.aufs`, `.wh..wh.plnk/` and the like: aufs's own, which no other file system knows.
        let of_aufs = |part: &[u8]| part.starts_with(MARK_OF_AUFS) && part != HIDE_OTHERS;
        if name.parts().any(of_aufs) {
            return Ok(());
        }
        let refuse = |why: String| Err(UnpackError::Refused { place: self.place.clone(), why });
        if name.parts().filter(|part| part.starts_with(MARK)).count() > 1 || !last.starts_with(MARK) {
            return refuse("a deletion mark has something in it".to_owned());
        }
        if !matches!(member.kind, Kind::File | Kind::HardLink) {
            return refuse(format!("a deletion mark is {:?} and not a file", member.kind));
        }
        let made = match &last[MARK.len()..] {
            _ if last == HIDE_OTHERS => tree.hide_others(name),
            b"" | b"." | b".." => {
                return refuse("a deletion mark names nothing that can be deleted".to_owned());
            }
            hidden => {
                let mut path = name.parent().as_os_str().as_bytes().to_vec();
                path.push(b'/');
                path.extend_from_slice(hidden);
                let hidden = self.name(&path)?;
                tree.hide(&hidden)
            }
        };
        made.map_err(|fault| self.not_made(fault))
    }

    fn file(
        &mut self,
        budget: &Budget<'_>,
        archive: &mut Archive<impl Read>,
        tree: &mut Tree<'_>,
        name: &Name,
        member: &Member,
    ) -> Result<(), UnpackError> {
        let whole = Sparse { size: member.stored, chunks: vec![(0, member.stored)] };
        let map = member.sparse.as_ref().unwrap_or(&whole);
        if map.size > self.options.limits.file {
            return Err(self.too_much(Limit::File, self.options.limits.file));
        }
        // Holes cost no space here, but whoever copies the tree may fill them.
        budget.expand(map.size - member.stored).map_err(|error| self.broken(budget, error))?;
        let file = tree.file(name, member).map_err(|fault| self.not_made(fault))?;
        for &(offset, length) in &map.chunks {
            self.copy(budget, archive, &file, offset, length)?;
        }
        if map.size > member.stored {
            file.set_len(map.size).map_err(|source| self.not_written(source))?;
        }
        tree.finish_file(&file, member).map_err(|fault| self.not_made(fault))
    }

    /// Moves one piece of a file's data to its place.
    fn copy(
        &mut self,
        budget: &Budget<'_>,
        archive: &mut Archive<impl Read>,
        file: &File,
        mut offset: u64,
        length: u64,
    ) -> Result<(), UnpackError> {
        let end = offset + length;
        while offset < end {
            let most = usize::try_from(end - offset).unwrap_or(usize::MAX).min(PIECE);
            let count = match archive.read_data(&mut self.piece[..most]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(budget, error)),
            };
            if count == 0 {
                return Err(self.broken(budget, io::ErrorKind::UnexpectedEof.into()));
            }
            file.write_all_at(&self.piece[..count], offset).map_err(|source| self.not_written(source))?;
            offset += count as u64;
            let before = self.progress.bytes >> 20;
            self.progress.bytes += count as u64;
            if self.progress.bytes >> 20 != before {
                (self.report)(self.progress);
            }
        }
        Ok(())
    }

    /// The name as the tree has it; nothing for what is not in the tree.
    fn within(&self, name: Name) -> Option<Name> {
        match self.below {
            None => Some(name),
            Some(directory) => name.below(directory.as_bytes()),
        }
    }

    fn name(&self, raw: &[u8]) -> Result<Name, UnpackError> {
        let limits = &self.options.limits;
        Name::parse(raw, limits).map_err(|fault| {
            let refuse = |why: &str| UnpackError::Refused {
                place: self.place.clone(),
                why: format!("the name {} {why}", crate::name::shown(raw)),
            };
            match fault {
                NameFault::Empty => refuse("is empty"),
                NameFault::Nul => refuse("has a zero byte in it"),
                NameFault::Up => refuse("has `..` in it"),
                NameFault::TooLong => self.too_much(Limit::Path, limits.path as u64),
                NameFault::TooDeep => self.too_much(Limit::Depth, limits.depth.into()),
            }
        })
    }

    fn too_much(&self, limit: Limit, allowed: u64) -> UnpackError {
        UnpackError::TooMuch { place: self.place.clone(), limit, allowed }
    }

    fn not_written(&self, source: io::Error) -> UnpackError {
        UnpackError::Write { place: self.place.clone(), what: "write the file", source }
    }

    fn not_made(&self, fault: TreeFault) -> UnpackError {
        let place = self.place.clone();
        match fault {
            TreeFault::Write(what, source) => UnpackError::Write { place, what, source },
            TreeFault::Refused(why) => UnpackError::Refused { place, why },
            TreeFault::TooMuch(limit, allowed) => UnpackError::TooMuch { place, limit, allowed },
        }
    }

    fn not_read(&self, budget: &Budget<'_>, fault: Fault) -> UnpackError {
        let place = self.place.clone();
        match fault {
            Fault::Io(error) => self.broken(budget, error),
            Fault::Malformed(what) => UnpackError::Malformed { place, what },
            Fault::Unsupported(what) => UnpackError::Unsupported { place, what },
            Fault::TooMuch(limit, allowed) => UnpackError::TooMuch { place, limit, allowed },
        }
    }

    /// An error of the stream: ours if the budget has an opinion, the stream's otherwise.
    fn broken(&self, budget: &Budget<'_>, source: io::Error) -> UnpackError {
        let place = self.place.clone();
        let limits = &self.options.limits;
        match budget.verdict() {
            None => match source.downcast::<NotATar>() {
                Ok(NotATar(what)) => UnpackError::Format { what },
                Err(source) => UnpackError::Read { place, source },
            },
            Some(Verdict::Stopped) => UnpackError::Stopped { place },
            Some(Verdict::Over(limit)) => {
                let allowed = if limit == Limit::Ratio { limits.ratio } else { limits.bytes };
                UnpackError::TooMuch { place, limit, allowed }
            }
        }
    }
}
