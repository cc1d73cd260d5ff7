// SPDX-License-Identifier: Apache-2.0
//! Layers on top of one another, as a detached mount.
//!
//! Everything is named by descriptors, so no character of a path is taken for an option, and nothing shows in the
//! host's mount table: the last descriptor's end is the unmount. How descriptors are told to the kernel depends on it:
//!
//! * [`Way::Descriptors`] (Linux 6.13): `lowerdir+` takes them as they are, as many as overlayfs stacks (500).
//! * [`Way::Names`] (6.5): `lowerdir+` takes a path, `/proc/self/fd/<n>`, for each.
//! * [`Way::Page`] (before): mount(2), whose options must fit into a page. The names are the numbers of the
//!   descriptors, relative to `/proc/self/fd`: 500 of them fit. Such a mount has to be made at a place, so this is done
//!   by a thread in a mount namespace of its own, where the layers are opened again, and the mount is cloned away.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use berth_model::Class;
use berth_sys::process::{Namespaces, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    open_tree,
};

/// What is put together. All descriptors are of directories; `O_PATH` is enough.
#[derive(Debug, Default)]
pub struct Layers<'a> {
    /// Read-only trees, the highest first. One is enough with an `upper`, two without.
    pub lower: Vec<BorrowedFd<'a>>,
    /// Where changes go, and a scratch directory beside it on the same file system.
    pub upper: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// Changes need not survive a crash of the machine: nothing is synced.
    pub volatile: bool,
}

/// How the kernel is told: see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// `lowerdir+` with descriptors.
    Descriptors,
    /// `lowerdir+` with names.
    Names,
    /// Options in a page.
    Page,
}

/// Why the layers were not put together.
#[derive(Debug, thiserror::Error)]
#[error("mount an overlay of {layers} layers: {what}{said}")]
pub struct OverlayError {
    layers: usize,
    what: &'static str,
    said: Said,
    #[source]
    source: io::Error,
}

/// What the kernel said beside an error number.
#[derive(Debug, Default)]
struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.0.escape_debug()),
        }
    }
}

impl OverlayError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self.source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NODEV | Errno::NOSYS | Errno::INVAL) => Class::Unsupported,
            _ => Class::of_io(&self.source),
        }
    }
}

/// Mounts `layers` with `attributes` (nodev, read-only, …), the best way that this kernel has.
///
/// # Errors
/// [`OverlayError`], with the kernel's own words where it has some.
pub fn mount(layers: &Layers<'_>, attributes: MountAttrFlags) -> Result<OwnedFd, OverlayError> {
    match mount_by(Way::Descriptors, layers, attributes) {
        Err(error) if unknown(&error) => {}
        done => return done,
    }
    match mount_by(Way::Names, layers, attributes) {
        Err(error) if unknown(&error) || is_legacy(&error) => mount_by(Way::Page, layers, attributes),
        done => done,
    }
}

/// The kernel knows no such option, or not with such a value, or not these calls.
fn unknown(error: &OverlayError) -> bool {
    let errno = error.source.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) && error.what == OPTION
}

/// Before 6.5, overlayfs takes any text as an option, and looks at it only when it is put together. What is wrong for
/// another reason is then said by the last way, too.
fn is_legacy(error: &OverlayError) -> bool {
    error.source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && error.what == TOGETHER
}

/// What is said to go wrong when an option is not taken.
const OPTION: &str = "set an option";
/// What is said to go wrong when the options do not fit.
const TOGETHER: &str = "put it together";

/// Mounts in this way and no other: [`mount`] chooses; this is for those who test the ways.
///
/// # Errors
/// [`OverlayError`].
pub fn mount_by(way: Way, layers: &Layers<'_>, attributes: MountAttrFlags) -> Result<OwnedFd, OverlayError> {
    let failed = |what: &'static str, context: Option<&OwnedFd>, errno: Errno| OverlayError {
        layers: layers.lower.len(),
        what,
        said: context.map(said).unwrap_or_default(),
        source: errno.into(),
    };
    if way == Way::Page {
        return by_page(layers, attributes).map_err(|(what, errno)| failed(what, None, errno));
    }
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| failed("begin (is the kernel's overlay module there?)", None, errno))?;
    let set = |key: &CStr, fd: BorrowedFd<'_>| match way {
        Way::Descriptors => fsconfig_set_fd(&context, key, fd),
        _ => fsconfig_set_string(&context, key, name(fd)),
    };
    for lower in &layers.lower {
        set(c"lowerdir+", *lower).map_err(|errno| failed(OPTION, Some(&context), errno))?;
    }
    if let Some((upper, work)) = layers.upper {
        set(c"upperdir", upper).map_err(|errno| failed(OPTION, Some(&context), errno))?;
        set(c"workdir", work).map_err(|errno| failed(OPTION, Some(&context), errno))?;
        if layers.volatile {
            // Kernels before 5.10 sync; that is all.
            let _ = fsconfig_set_flag(&context, c"volatile");
        }
    }
    fsconfig_create(&context).map_err(|errno| failed(TOGETHER, Some(&context), errno))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| failed("mount it", Some(&context), errno))
}

fn name(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The kernel's log of a mount under way; its first line.
fn said(context: &OwnedFd) -> Said {
    let mut text = [0u8; 512];
    let count = rustix::io::read(context, &mut text).unwrap_or(0);
    Said(String::from_utf8_lossy(&text[..count]).trim_start_matches("e ").trim_end().to_owned())
}

type Step<T> = Result<T, (&'static str, Errno)>;

fn by_page(layers: &Layers<'_>, attributes: MountAttrFlags) -> Step<OwnedFd> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("overlay".to_owned())
            .spawn_scoped(scope, || in_thread(layers, attributes))
            .map_err(|_| ("start a thread for it", Errno::AGAIN))?;
        thread.join().unwrap_or(Err(("its thread panicked", Errno::IO)))
    })
}

/// The same directory as this namespace has it: overlayfs takes none of another's. It may not have been moved, which
/// nobody but us could do.
fn here(fd: BorrowedFd<'_>) -> Step<OwnedFd> {
    let identity = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let again = || {
        let path = rustix::fs::readlink(name(fd), Vec::new())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let again = rustix::fs::open(path, flags, Mode::empty())?;
        match identity(again.as_fd())? == identity(fd)? {
            true => Ok(again),
            false => Err(Errno::STALE),
        }
    };
    again().map_err(|errno| ("find a layer by its path", errno))
}

/// In a thread of its own, whose mount namespace and working directory end with it.
fn in_thread(layers: &Layers<'_>, attributes: MountAttrFlags) -> Step<OwnedFd> {
    // Covered in this namespace only. It exists, since the names of descriptors are in it.
    const PLACE: &CStr = c"/proc";
    unshare(Namespaces::MOUNT).map_err(|errno| ("leave the host's mounts for it", errno))?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|errno| ("cut the mounts off for it", errno))?;
    let lower: Vec<_> = layers.lower.iter().map(|fd| here(*fd)).collect::<Step<_>>()?;
    let upper = layers.upper.map(|(upper, work)| Ok((here(upper)?, here(work)?))).transpose()?;
    let number = |fd: &OwnedFd| fd.as_raw_fd().to_string();
    let mut options = format!("lowerdir={}", lower.iter().map(number).collect::<Vec<_>>().join(":"));
    if let Some((upper, work)) = &upper {
        options += &format!(",upperdir={},workdir={}", number(upper), number(work));
    }
    rustix::process::chdir(c"/proc/self/fd").map_err(|errno| ("go to the descriptors for it", errno))?;
    let text = |options: &str| CString::new(options).map_err(|_| ("write its options", Errno::INVAL));
    let flags = flags_of(attributes);
    let with = |options: &str| -> Step<()> {
        rustix::mount::mount(c"overlay", PLACE, c"overlay", flags, &*text(options)?)
            .map_err(|errno| ("mount it", errno))
    };
    let mounted = match layers.volatile && upper.is_some() {
        true => with(&format!("{options},volatile")),
        false => Err(("mount it", Errno::INVAL)),
    };
    match mounted {
        Err((_, Errno::INVAL)) => with(&options)?,
        done => done?,
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, PLACE, flags).map_err(|errno| ("take the mount away from its place", errno))
}

/// The same attributes for mount(2).
pub(crate) fn flags_of(attributes: MountAttrFlags) -> MountFlags {
    let mut flags = MountFlags::empty();
    for (attribute, flag) in [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
    ] {
        if attributes.contains(attribute) {
            flags |= flag;
        }
    }
    flags
}
