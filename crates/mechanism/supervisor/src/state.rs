// SPDX-License-Identifier: Apache-2.0
//! What one supervisor hands to the program that goes on in its place: numbers, and descriptors by number, in a memory
//! file at the place where a fresh one has its owner's socket.

use crate::supervise::OWNER;
use berth_sys::process::{Pointers, execute};
use berth_sys::rustix::fd::{AsFd, AsRawFd, OwnedFd};
use berth_sys::rustix::fs::{FileType, MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use berth_sys::rustix::io::{FdFlags, fcntl_setfd, pread, pwrite, write};
use berth_sys::{Errno, Result, fd};
use core::ffi::CStr;

/// Raised when the order or the meaning of the words changes.
const VERSION: i32 = 4;
const WORDS: usize = 64;

/// Whose place the program takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Role {
    Supervisor = 0,
    Child = 1,
}

/// Words in the making, or being read.
pub(crate) struct Saved {
    words: [i32; WORDS],
    at: usize,
    /// Everything fitted and every descriptor was there.
    whole: Result<()>,
}

impl Saved {
    pub(crate) fn new(role: Role) -> Saved {
        let mut saved = Saved { words: [0; WORDS], at: 0, whole: Ok(()) };
        saved.put(VERSION);
        saved.put(role as i32);
        saved
    }

    pub(crate) fn put(&mut self, word: i32) {
        match self.words.get_mut(self.at) {
            Some(slot) => *slot = word,
            None => self.whole = Err(Errno::NOSPC),
        }
        self.at += 1;
    }

    /// Notes a descriptor, which stays open at the exec.
    pub(crate) fn descriptor(&mut self, fd: Option<&OwnedFd>) {
        if let Some(fd) = fd
            && let Err(e) = fcntl_setfd(fd, FdFlags::empty())
        {
            self.whole = Err(e);
        }
        self.put(fd.map_or(-1, AsRawFd::as_raw_fd));
    }

    /// Executes `program` with the words; returns only to say why it could not. What was marked to stay open then does,
    /// which is harmless in a program that executes nothing else.
    #[cfg_attr(
        not(feature = "early"),
        expect(dead_code, reason = "a program of its own leaves for no other")
    )]
    pub(crate) fn execute(&self, program: &[u8], title: &CStr) -> Errno {
        let run = || -> Result<Errno> {
            self.whole?;
            let program = sealed(c"berth-init", program)?;
            let state = memfd_create(c"berth-state", MemfdFlags::CLOEXEC)?;
            let mut bytes = [0u8; WORDS * 4];
            for (to, word) in bytes.chunks_exact_mut(4).zip(self.words) {
                to.copy_from_slice(&word.to_le_bytes());
            }
            if pwrite(&state, &bytes, 0)? != bytes.len() {
                return Err(Errno::IO);
            }
            fd::place(state.as_fd(), OWNER)?;
            let (mut argv, mut envp) = ([0usize; 3], [0usize; 1]);
            let argv = Pointers::fill(&mut argv, [c"berth-init", title].into_iter())?;
            let envp = Pointers::fill(&mut envp, core::iter::empty())?;
            Ok(execute(program.as_fd(), argv, envp))
        };
        run().unwrap_or_else(|e| e)
    }

    /// The words that another wrote, and who is to go on with them.
    pub(crate) fn read(state: &OwnedFd) -> Result<(Role, Saved)> {
        let mut bytes = [0u8; WORDS * 4];
        if pread(state, &mut bytes, 0)? != bytes.len() {
            return Err(Errno::PROTO);
        }
        let mut saved = Saved { words: [0; WORDS], at: 0, whole: Ok(()) };
        for (word, from) in saved.words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = i32::from_le_bytes([from[0], from[1], from[2], from[3]]);
        }
        if saved.take()? != VERSION {
            return Err(Errno::PROTO);
        }
        let role = saved.take()?;
        let role = [Role::Supervisor, Role::Child].into_iter().find(|r| *r as i32 == role);
        Ok((role.ok_or(Errno::PROTO)?, saved))
    }

    pub(crate) fn take(&mut self) -> Result<i32> {
        let word = self.words.get(self.at).copied().ok_or(Errno::PROTO)?;
        self.at += 1;
        Ok(word)
    }

    pub(crate) fn take_descriptor(&mut self) -> Result<Option<OwnedFd>> {
        let number = self.take()?;
        if number < 0 {
            return Ok(None);
        }
        let descriptor = fd::inherited(number)?;
        fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
        Ok(Some(descriptor))
    }
}

/// The file with the words, if that is what this program was started with.
pub(crate) fn inherited() -> Result<OwnedFd> {
    let file = fd::inherited(OWNER)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile {
        return Ok(file);
    }
    // A socket: its owner's. It stays open.
    core::mem::forget(file);
    Err(Errno::NOTSOCK)
}

/// A memory file with that content which nobody can change any more.
pub fn sealed(name: &CStr, content: &[u8]) -> Result<OwnedFd> {
    let file = filled(name, content)?;
    fcntl_add_seals(&file, SEALS)?;
    Ok(file)
}

/// The same of a program that stays executable too, whatever is done to it; none before Linux 6.3, which has no seal for that.
pub fn sealed_program(name: &CStr, content: &[u8]) -> Result<Option<OwnedFd>> {
    /// F_SEAL_EXEC of linux/fcntl.h.
    const MODE: SealFlags = SealFlags::from_bits_retain(0x20);
    let file = filled(name, content)?;
    match fcntl_add_seals(&file, SEALS | MODE) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::INVAL) => Ok(None),
        Err(e) => Err(e),
    }
}

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

fn filled(name: &CStr, content: &[u8]) -> Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = content;
    while !rest.is_empty() {
        let n = write(&file, rest)?;
        rest = &rest[n..];
    }
    Ok(file)
}
