// SPDX-License-Identifier: Apache-2.0
//! Is it still the same machine life, the same process? A pid alone says nothing: it is used again.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which life of the machine: the kernel draws one at each boot (random(4)).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    /// The id of the present life.
    ///
    /// # Errors
    /// [`Error::Io`] when `/proc` can not be read.
    pub fn current() -> Result<BootId> {
        static CURRENT: OnceLock<BootId> = OnceLock::new();
        if let Some(known) = CURRENT.get() {
            return Ok(known.clone());
        }
        let read = BootId::read()?;
        Ok(CURRENT.get_or_init(|| read).clone())
    }

    fn read() -> Result<BootId> {
        const PATH: &str = "/proc/sys/kernel/random/boot_id";
        let failed = |source| Error::Io { what: "read", path: PATH.into(), source };
        let mut buffer = [0; 64];
        let length = read_once(Path::new(PATH), &mut buffer).map_err(failed)?;
        match std::str::from_utf8(&buffer[..length]).map(str::trim_end) {
            Ok(id) if id.len() == 36 => Ok(BootId(id.to_owned())),
            _ => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "not a boot id"))),
        }
    }

    /// As the kernel writes it: 36 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One process of one boot: its pid together with its start time, which no later process of that pid has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its pid in our pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks after boot (field 22 of proc_pid_stat(5)).
    pub start: u64,
}

impl Process {
    /// The process that has this pid now, or none. A zombie is still one.
    ///
    /// # Errors
    /// [`Error::Io`] when `/proc` can not be read.
    pub fn of(pid: u32) -> Result<Option<Process>> {
        let path = format!("/proc/{pid}/stat");
        let mut buffer = [0; 1024];
        match read_once(Path::new(&path), &mut buffer) {
            Ok(length) => match start_time(&buffer[..length]) {
                Some(start) => Ok(Some(Process { pid, start })),
                None => {
                    let source = io::Error::new(io::ErrorKind::InvalidData, "no start time in it");
                    Err(Error::Io { what: "read", path: path.into(), source })
                }
            },
            // ESRCH: it went between open and read.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
            {
                Ok(None)
            }
            Err(source) => Err(Error::Io { what: "read", path: path.into(), source }),
        }
    }

    /// This process.
    ///
    /// # Errors
    /// [`Error::Io`] when `/proc` can not be read.
    pub fn current() -> Result<Process> {
        let pid = std::process::id();
        Process::of(pid)?.ok_or_else(|| Error::Io {
            what: "read",
            path: format!("/proc/{pid}/stat").into(),
            source: io::Error::new(io::ErrorKind::NotFound, "/proc is not of our pid namespace"),
        })
    }

    /// Whether it still exists, as a zombie at least.
    ///
    /// # Errors
    /// [`Error::Io`] when `/proc` can not be read.
    pub fn exists(&self) -> Result<bool> {
        Ok(Process::of(self.pid)? == Some(*self))
    }
}

/// Files of `/proc` that are shorter than the buffer come whole with the first read.
fn read_once(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    File::open(path)?.read(buffer)
}

/// Field 22 of a line of `/proc/PID/stat`. The second field is the command in parentheses, and may itself hold
/// spaces and parentheses; nothing after it does.
fn start_time(line: &[u8]) -> Option<u64> {
    let after = line.iter().rposition(|&byte| byte == b')')? + 1;
    let rest = std::str::from_utf8(&line[after..]).ok()?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_the_same_twice() {
        let id = BootId::current().unwrap();
        assert_eq!(id, BootId::current().unwrap());
        assert_eq!(id.as_str().len(), 36);
    }

    #[test]
    fn a_process_exists_until_it_is_reaped_and_then_its_pid_is_nobody() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap().expect("it was just started");
        assert!(process.exists().unwrap());
        assert!(!Process { start: process.start + 1, ..process }.exists().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.exists().unwrap());
        assert!(Process::current().unwrap().start <= process.start);
    }

    #[test]
    fn a_command_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let line = format!("77 (a) R 1) (b)) {}\n", fields.join(" "));
        assert_eq!(start_time(line.as_bytes()), Some(22));
        assert_eq!(start_time(b"77 (a) R 1 2 3"), None);
        assert_eq!(start_time(b""), None);
    }
}
