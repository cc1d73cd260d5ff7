// SPDX-License-Identifier: Apache-2.0
//! A directory or a file of the host as a detached mount of its own, with attributes: the root of a container, a volume.
//!
//! mount_setattr(2) gives a detached mount its attributes (Linux 5.12), all mounts below it in one step. Before that, only
//! a mount that is somewhere can be given some. So there a thread in a mount namespace of its own attaches the clone at a
//! place that nobody else sees, remounts it and each mount below it, and clones it away again.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_sys::mounts::{Attributes, Reach, set_attributes};
use berth_sys::process::{Namespaces, unshare};
use rustix::fs::{CWD, FileType, fstat};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change,
    mount_remount, move_mount, open_tree,
};

use crate::overlay::flags_of;

/// What went wrong: in which step, and why.
pub type Failure = (&'static str, Errno);

/// A detached and private clone of what `from` names, with these attributes; `reach` says whether with all that is mounted
/// below it.
///
/// # Errors
/// What the kernel refused.
pub fn clone_mount(from: BorrowedFd<'_>, reach: Reach, attributes: Attributes) -> Result<OwnedFd, Failure> {
    let mut flags = DETACHED | OpenTreeFlags::AT_EMPTY_PATH;
    if reach == Reach::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(from, c"", flags).map_err(|errno| ("clone the mount", errno))?;
    match set_attributes(tree.as_fd(), c"", reach, attributes, true) {
        Err(Errno::NOSYS) => elsewhere(tree.as_fd(), attributes),
        done => done.map(|()| tree).map_err(|errno| ("set the attributes of its mount", errno)),
    }
}

const DETACHED: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// Without mount_setattr(2).
fn elsewhere(tree: BorrowedFd<'_>, attributes: Attributes) -> Result<OwnedFd, Failure> {
    let is_file = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
    let is_file = fstat(tree).map(is_file).map_err(|errno| ("look at what is mounted", errno))?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("clone".to_owned())
            .spawn_scoped(scope, || in_thread(tree, is_file, attributes))
            .map_err(|_| ("start a thread that sets its attributes", Errno::AGAIN))?;
        thread.join().unwrap_or(Err(("set its attributes in a thread, which panicked", Errno::IO)))
    })
}

/// In a thread of its own, whose mount namespace ends with it.
fn in_thread(tree: BorrowedFd<'_>, is_file: bool, attributes: Attributes) -> Result<OwnedFd, Failure> {
    // Covered in this namespace only. Something of this kind is there on every host.
    let place = if is_file { c"/proc/version" } else { c"/proc" };
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    unshare(Namespaces::MOUNT).map_err(|errno| ("leave the host's mounts for it", errno))?;
    mount_change(c"/", private).map_err(|errno| ("cut the mounts off for it", errno))?;
    // Open before its place may be covered.
    let table = std::fs::File::open("/proc/thread-self/mountinfo").map_err(of("open the table of mounts"))?;
    move_mount(tree, c"", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| ("put it at a place", errno))?;
    mount_change(place, private).map_err(|errno| ("make it private", errno))?;
    let table = io::read_to_string(table).map_err(of("read the table of mounts"))?;
    let bits = u32::try_from(attributes.bits()).unwrap_or(0);
    let set = flags_of(MountAttrFlags::from_bits_retain(bits));
    for mount in below(&table, place) {
        mount_remount(&mount.path, mount.flags | set | MountFlags::BIND, c"")
            .map_err(|errno| ("set the attributes of a mount", errno))?;
    }
    open_tree(CWD, place, DETACHED | OpenTreeFlags::AT_RECURSIVE)
        .map_err(|errno| ("take the mount away from its place", errno))
}

fn of(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| (what, Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// A mount, and what is set of it that a remount would take away.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    path: CString,
    flags: MountFlags,
}

/// The mounts at and below a place, as far as they belong to what was put there last (proc_pid_mountinfo(5)); the table has
/// no order to rely on.
fn below(table: &str, place: &CStr) -> Vec<Mount> {
    let place = place.to_string_lossy();
    let fields = |line: &str| -> Option<(u64, u64, String, MountFlags)> {
        let mut words = line.split(' ');
        let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((id, parent, words.nth(2)?.to_owned(), flags_in(words.next()?)))
    };
    let all: Vec<_> = table.lines().filter_map(fields).collect();
    // Of those at the very place, the one that no other of them is on.
    let at_place = || all.iter().filter(|(_, _, path, _)| *path == place);
    let on_it = |id: u64| at_place().any(|(_, parent, ..)| *parent == id);
    let Some((top, ..)) = at_place().find(|(id, ..)| !on_it(*id)) else { return Vec::new() };
    let mut tree = HashSet::from([*top]);
    loop {
        let before = tree.len();
        tree.extend(
            all.iter()
                .filter(|(_, parent, ..)| tree.contains(parent))
                .map(|(id, ..)| *id)
                .collect::<Vec<_>>(),
        );
        if tree.len() == before {
            break;
        }
    }
    let mount = |path: &str, flags| CString::new(unescaped(path)).ok().map(|path| Mount { path, flags });
    let ours = all.iter().filter(|(id, ..)| tree.contains(id));
    ours.filter_map(|(_, _, path, flags)| mount(path, *flags)).collect()
}

/// Options of a mount as flags. What is not here is not lost by a remount.
fn flags_in(options: &str) -> MountFlags {
    let flag = |option| match option {
        "ro" => MountFlags::RDONLY,
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        _ => MountFlags::empty(),
    };
    options.split(',').map(flag).collect()
}

/// The kernel writes blanks and backslashes in octal.
fn unescaped(path: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let number = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_clone_are_told_from_those_that_it_covers() {
        let table = "40 52 8:1 /v /proc rw,relatime - ext4 /dev/a rw\n\
                     42 41 0:24 / /proc/a\\040b/c rw - tmpfs t rw\n\
                     41 40 0:23 / /proc/a\\040b ro,noexec - tmpfs t rw\n\
                     52 1 0:21 / /proc rw,nosuid - proc proc rw\n\
                     50 52 0:22 / /proc/sys/x rw - t t rw\n\
                     43 1 0:25 / /other rw - tmpfs t rw\n";
        let mount = |path: &CStr, flags| Mount { path: path.to_owned(), flags };
        let wanted = [
            mount(c"/proc", MountFlags::RELATIME),
            mount(c"/proc/a b/c", MountFlags::empty()),
            mount(c"/proc/a b", MountFlags::RDONLY | MountFlags::NOEXEC),
        ];
        assert_eq!(below(table, c"/proc"), wanted);
        assert_eq!(below("", c"/proc"), []);
    }
}
