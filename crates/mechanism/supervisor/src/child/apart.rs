// SPDX-License-Identifier: Apache-2.0
//! Leaving the owner's memory before the program: what a child that was made early (`berth_sys::early`) may execute itself,
//! and how all else is executed.

#[cfg(feature = "early")]
use super::join;
use super::{Before, Child, Released, not_dumpable};
use crate::state::Saved;
use crate::wire::MAX_DESCRIPTORS;
use berth_sys::memory::Mapping;
use berth_sys::rustix::fd::AsFd;
use berth_sys::{Errno, Result};
#[cfg(feature = "early")]
use {
    crate::state::Role,
    berth_sys::fd,
    berth_sys::rustix::fd::BorrowedFd,
    berth_sys::rustix::fs::{self, CWD, FileType, Mode, OFlags, ResolveFlags},
    core::ffi::CStr,
};

/// Goes on with what [`Child::go_on_apart`] left: the last steps of a plan, which need no descriptor.
pub(crate) fn resume(mut saved: Saved) -> Result<()> {
    not_dumpable()?;
    let (flags, done) = (saved.take()? as u32, saved.take()? as u32);
    let (length, from) = (saved.take()? as usize, saved.take()? as usize);
    let plan = saved.take_descriptor()?.ok_or(Errno::BADF)?;
    let supervisor = saved.take_descriptor()?.ok_or(Errno::BADF)?;
    let mapping = Mapping::of_sealed(&plan, length)?;
    drop(plan);
    let mut child = Child {
        flags,
        size: (0, 0),
        fds: [const { None }; MAX_DESCRIPTORS],
        filled: 0,
        done,
        supervisor: supervisor.as_fd(),
        before: Before { apart: true, ..Before::default() },
        own_dev: false,
        root: None,
        null: None,
        released: Released::No,
    };
    child.part(mapping.bytes(), from);
    // The part ends with the program.
    Err(Errno::PROTO)
}

#[cfg(feature = "early")]
impl Child<'_> {
    /// Whether a program can be executed from a process that is the host's `berth`, as one that shares its owner's memory
    /// is: `/proc/self/exe` would name that file, and who can have it executed (as a script's interpreter, say) could
    /// later write to it (CVE-2019-5736). A binary in the container's own root file system, reached without magic links,
    /// is executed by no such name. The supervisor looks at what was executed all the same.
    pub(super) fn is_plain(&self, file: &CStr, path: &CStr) -> Result<bool> {
        let mount_of = |fd: BorrowedFd<'_>| -> Option<(u64, bool)> {
            let mask = fs::StatxFlags::MNT_ID | fs::StatxFlags::TYPE;
            let stat = fs::statx(fd, c"", fs::AtFlags::EMPTY_PATH, mask).ok()?;
            let known = stat.stx_mask & mask.bits() == mask.bits();
            let regular = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
            known.then_some((stat.stx_mnt_id, regular))
        };
        let plain = |candidate: &CStr| -> Option<bool> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            let program = match fs::openat2(CWD, candidate, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
            {
                Ok(program) => program,
                Err(Errno::NOENT | Errno::NOTDIR) => return None,
                Err(_) => return Some(false),
            };
            let mut magic = [0u8; 4];
            let (Some((root, _)), Some((mount, true))) =
                (mount_of(self.root().ok()?), mount_of(program.as_fd()))
            else {
                return Some(false);
            };
            let read = berth_sys::rustix::io::pread(&program, &mut magic, 0);
            Some(mount == root && read == Ok(4) && magic == *b"\x7fELF")
        };
        if file.to_bytes().contains(&b'/') {
            return Ok(plain(file).unwrap_or(true));
        }
        for directory in path.to_bytes().split(|b| *b == b':') {
            let mut candidate = [0u8; 4096];
            let Some(candidate) = join(&mut candidate, directory, file.to_bytes()) else { continue };
            // All that are there: which one it will be depends on what the user may execute.
            if plain(candidate) == Some(false) {
                return Ok(false);
            }
        }
        // When there is none, the attempt will tell.
        Ok(true)
    }

    /// Executes `berth-init`, which carries out the rest of this part: limits, the gate, credentials, the program.
    pub(super) fn go_on_apart(&self, part: &[u8], from: usize) -> Result<()> {
        berth_sys::early::free()?;
        let plan = crate::sealed(c"berth-plan", part)?;
        let supervisor = fd::duplicate(self.supervisor)?;
        let mut saved = Saved::new(Role::Child);
        saved.put(self.flags as i32);
        saved.put(self.done as i32);
        saved.put(part.len() as i32);
        saved.put(from as i32);
        saved.descriptor(Some(&plan));
        saved.descriptor(Some(&supervisor));
        Err(saved.execute(berth_sys::early::program(), c""))
    }
}
