// SPDX-License-Identifier: Apache-2.0
//! Programs of profiles that were compiled before, as files.
//!
//! What is saved is the reading of the JSON, which takes far longer than compiling. The default profile needs no
//! cache. A file is named by the hash of everything that decides its content (the version of the compiler, the
//! kernel's version, the capabilities, the bytes of the profile), so it is never out of date, and the directory
//! may be emptied at any time.
//!
//! ```text
//! 0    8  "BTSECBPF"
//! 8    4  version of this layout, little-endian
//! 12   4  number of instructions, little-endian
//! 16  32  the hash that names the file
//! 48  8n  the instructions
//!     32  SHA-256 of all before
//! ```
//!
//! A filter decides what a hostile process may do, so a file is used only if nobody else can have written it: the
//! directory and the file belong to this user and are not writable for others, the file is a regular one and
//! whole. Any other file in its place is ignored and replaced. Writing goes to a file of another name first and
//! is not synced: what a crash leaves torn fails its checksum.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};

use crate::program::{INSN_SIZE, MAX_LEN};
use crate::{Error, Kernel, Profile, Program, compile};

const MAGIC: &[u8; 8] = b"BTSECBPF";
const LAYOUT: u32 = 1;
const HEADER: usize = 48;
const HASH: usize = 32;
const MAX_FILE: usize = HEADER + MAX_LEN * INSN_SIZE + HASH;

/// How many programs are kept; the ones that were written first go first.
const MAX_PROGRAMS: usize = 256;
/// A half-written file that is older than this has no writer any more.
const ABANDONED: Duration = Duration::from_secs(3600);

const SUFFIX: &str = ".bpf";
const PART: &str = ".part";

/// A directory of compiled programs. It may be shared by threads and processes of one user.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    directory: OwnedFd,
}

/// Where a program came from.
#[derive(Debug)]
pub enum Outcome {
    /// From a file.
    Hit,
    /// It was compiled, and a file was written.
    Stored,
    /// It was compiled and is good, but no file could be written. Worth a line in the log.
    NotStored(Error),
}

impl Cache {
    /// Opens the directory `path`, and makes it (mode 0700) if it does not exist; its parent must.
    ///
    /// Fails when it belongs to someone else or others may write to it.
    pub fn open(path: &Path) -> Result<Cache, Error> {
        let failed = |action, source| Error::Cache { action, path: path.to_owned(), source };
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create", error));
            }
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed("open", errno.into()))?;
        let stat = rustix::fs::fstat(&directory).map_err(|errno| failed("stat", errno.into()))?;
        if let Some(problem) = distrust(&stat) {
            return Err(Error::Untrusted { path: path.to_owned(), problem });
        }
        Ok(Cache { path: path.to_owned(), directory })
    }

    /// The program of a profile in Docker's JSON format for the bounding set `caps`, on the running kernel: from
    /// the cache, or else compiled and stored.
    ///
    /// Fails only as reading and compiling the profile does; trouble with the files is in the outcome.
    pub fn program(&self, profile: &[u8], caps: u64) -> Result<(Program, Outcome), Error> {
        let kernel = Kernel::running();
        let key = key(profile, caps, kernel);
        if let Some(program) = self.load(&key) {
            return Ok((program, Outcome::Hit));
        }
        let program = Profile::from_json_for(profile, kernel)?.compile(caps)?;
        let outcome = match self.store(&key, &program) {
            Ok(()) => Outcome::Stored,
            Err(error) => Outcome::NotStored(error),
        };
        Ok((program, outcome))
    }

    /// A file that can not be read or trusted is as good as none.
    fn load(&self, key: &[u8; HASH]) -> Option<Program> {
        // Not blocking, because someone may have put a FIFO there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name(key), flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        if distrust(&stat).is_some() || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut content = Vec::with_capacity(usize::try_from(stat.st_size).ok()?.min(MAX_FILE));
        File::from(file).take(MAX_FILE as u64 + 1).read_to_end(&mut content).ok()?;
        decode(key, &content)
    }

    fn store(&self, key: &[u8; HASH], program: &Program) -> Result<(), Error> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        self.tidy();
        let name = name(key);
        let part = format!("{name}.{}.{}{PART}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let failed = |action, source| Error::Cache { action, path: self.path.join(&part), source };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &part, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed("create", errno.into()))?;
        let stored = File::from(file)
            .write_all(&encode(key, program))
            .map_err(|source| failed("write", source))
            .and_then(|()| {
                rustix::fs::renameat(&self.directory, &part, &self.directory, &name)
                    .map_err(|errno| failed("rename", errno.into()))
            });
        if stored.is_err() {
            // The file is of no use and the first error is the one to tell; tidy() tries again.
            let _ = rustix::fs::unlinkat(&self.directory, &part, AtFlags::empty());
        }
        stored
    }

    /// Makes room for one more program and removes what dead writers left. It is housekeeping: what fails is
    /// tried again with the next program.
    fn tidy(&self) {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return };
        let mut programs = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(text) = name.to_str() else { continue };
            let Some(modified) = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()) else {
                continue;
            };
            if text.ends_with(SUFFIX) {
                programs.push((modified, name));
            } else if text.ends_with(PART) && modified.elapsed().is_ok_and(|age| age > ABANDONED) {
                let _ = rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty());
            }
        }
        programs.sort();
        let surplus = (programs.len() + 1).saturating_sub(MAX_PROGRAMS);
        for (_, name) in &programs[..surplus] {
            let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
        }
    }
}

/// Why someone else may have written this file or directory, if so.
fn distrust(stat: &Stat) -> Option<&'static str> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        Some("it belongs to another user")
    } else if stat.st_mode & 0o022 != 0 {
        Some("others may write to it")
    } else {
        None
    }
}

fn key(profile: &[u8], caps: u64, kernel: Kernel) -> [u8; HASH] {
    Sha256::new()
        .chain_update(b"berth seccomp program\0")
        .chain_update(compile::VERSION.to_le_bytes())
        .chain_update(kernel.major.to_le_bytes())
        .chain_update(kernel.minor.to_le_bytes())
        .chain_update(caps.to_le_bytes())
        .chain_update(profile)
        .finalize()
        .into()
}

fn name(key: &[u8; HASH]) -> String {
    let mut name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    name.push_str(SUFFIX);
    name
}

fn encode(key: &[u8; HASH], program: &Program) -> Vec<u8> {
    let len = u32::try_from(program.len()).expect("a program has at most 4096 instructions");
    let mut content = Vec::with_capacity(HEADER + program.as_bytes().len() + HASH);
    content.extend_from_slice(MAGIC);
    content.extend_from_slice(&LAYOUT.to_le_bytes());
    content.extend_from_slice(&len.to_le_bytes());
    content.extend_from_slice(key);
    content.extend_from_slice(program.as_bytes());
    let checksum = Sha256::digest(&content);
    content.extend_from_slice(&checksum);
    content
}

fn decode(key: &[u8; HASH], content: &[u8]) -> Option<Program> {
    let (body, checksum) = content.split_last_chunk::<HASH>()?;
    let (header, insns) = body.split_at_checked(HEADER)?;
    let len = u32::try_from(insns.len() / INSN_SIZE).ok()?;
    let whole = header[..8] == *MAGIC
        && header[8..12] == LAYOUT.to_le_bytes()
        && header[12..16] == len.to_le_bytes()
        && header[16..48] == *key
        && Sha256::digest(body)[..] == checksum[..];
    whole.then(|| Program::from_bytes(insns).ok()).flatten()
}
