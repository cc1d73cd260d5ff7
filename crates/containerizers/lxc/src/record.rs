// SPDX-License-Identifier: Apache-2.0
//! What is written of a container, so that the next agent knows it.
//!
//! ```text
//! <runtime_dir>/lxc/<id>/
//!   config       what was asked, before anything is made               (intent)
//!   hook         what lxc-start runs when the first process waits
//!   at, go       how the start tells that the first process waits, and hears that it may go on
//!   log          of lxc-start, which stands beside the container: it says how the first process ended
//!   started      the first process and lxc-start, before the first process may go on
//!   launched     the launch has succeeded
//!   attached     how the command of a system container ended
//!   destroying   somebody wants its end
//!   termination  how it ended, before what it held is taken away
//!   tidied       all that is taken away
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_contract::Error;
use berth_model::{Class, ContainerConfig, ContainerId, ContainerTermination};
use berth_record::{BootId, Process, Sync, Versioned};
use berth_sys::rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, unlinkat};
use berth_sys::rustix::io::Errno;
use serde::{Deserialize, Serialize};

const CONFIG: &str = "config";
const LAUNCHED: &str = "launched";
const DESTROYING: &str = "destroying";
const TERMINATION: &str = "termination";
const TIDIED: &str = "tidied";
const STARTED: &str = "started";
/// What is in the directory beside the records.
const FILES: [&str; 6] = ["at", "go", "hook", "log", "attached", "attached.tmp"];
/// No record of ours is larger: arguments and environment are at most 2 MiB each (execve(2)).
const CAP: usize = 16 << 20;

/// What was asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) config: ContainerConfig,
    /// Whether the caller wanted the pid.
    pub(crate) checkpoint: bool,
}

impl Versioned for Record {
    const KIND: &'static str = "lxc-container";
    const VERSION: u32 = 1;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Started {
    /// The container's first process.
    pub(crate) init: Process,
    /// Who stands beside it: lxc-start.
    pub(crate) monitor: Process,
    pub(crate) boot: BootId,
}

impl Versioned for Started {
    const KIND: &'static str = "lxc-started";
    const VERSION: u32 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct Mark {}

impl Versioned for Mark {
    const KIND: &'static str = "lxc-mark";
    const VERSION: u32 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    termination: ContainerTermination,
}

impl Versioned for Ended {
    const KIND: &'static str = "lxc-termination";
    const VERSION: u32 = 1;
}

/// What the records say of a container.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// None if its writer died before it was whole.
    pub(crate) record: Option<Record>,
    pub(crate) started: Option<Started>,
    pub(crate) launched: bool,
    pub(crate) destroying: bool,
    pub(crate) termination: Option<ContainerTermination>,
    pub(crate) tidied: bool,
}

/// The directory of all records.
#[derive(Debug)]
pub(crate) struct Records {
    place: PathBuf,
}

type Result<T> = std::result::Result<T, Error>;

impl Records {
    pub(crate) fn below(runtime_dir: &Path) -> Records {
        Records { place: runtime_dir.join("lxc") }
    }

    /// Makes the directory.
    pub(crate) fn make(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.place)
            .map_err(|error| failed(format!("make {}", self.place.display()), error))
    }

    /// Everything that is there, by the names of the directories.
    pub(crate) fn all(&self) -> Result<Vec<(ContainerId, Found)>> {
        let entries = std::fs::read_dir(&self.place)
            .map_err(|error| failed(format!("list {}", self.place.display()), error))?;
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed(format!("list {}", self.place.display()), error))?;
            let Some(id) = entry.file_name().to_str().and_then(|name| ContainerId::new(name).ok()) else {
                crate::error::warn(&format!("{} is none of ours and is left alone", entry.path().display()));
                continue;
            };
            all.push((id.clone(), self.find(&id)?));
        }
        Ok(all)
    }

    fn find(&self, id: &ContainerId) -> Result<Found> {
        let dir = self.open(id)?;
        berth_record::collect_stale(dir.as_fd()).map_err(of_record)?;
        Ok(Found {
            record: read(&dir, CONFIG)?,
            started: read(&dir, STARTED)?,
            launched: read::<Mark>(&dir, LAUNCHED)?.is_some(),
            destroying: read::<Mark>(&dir, DESTROYING)?.is_some(),
            termination: read::<Ended>(&dir, TERMINATION)?.map(|ended| ended.termination),
            tidied: read::<Mark>(&dir, TIDIED)?.is_some(),
        })
    }

    /// The intent. What an earlier container of the same id left goes first.
    pub(crate) fn begin(&self, record: &Record) -> Result<()> {
        self.make_empty(record)?;
        self.intend(record)
    }

    fn make_empty(&self, record: &Record) -> Result<()> {
        self.remove(&record.id)?;
        let all = self.open_all()?;
        match mkdirat(&all, record.id.value(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => {
                let what = format!("make {}", self.place.join(record.id.value()).display());
                Err(failed(what, errno.into()))
            }
        }
    }

    fn intend(&self, record: &Record) -> Result<()> {
        berth_record::write(self.open(&record.id)?.as_fd(), CONFIG, record, Sync::No).map_err(of_record)
    }

    /// The first process waits to go on.
    pub(crate) fn started(&self, id: &ContainerId, started: &Started) -> Result<()> {
        berth_record::write(self.open(id)?.as_fd(), STARTED, started, Sync::No).map_err(of_record)
    }

    /// The pid of the first process.
    pub(crate) fn init_of(&self, id: &ContainerId) -> Option<u32> {
        let dir = self.open(id).ok()?;
        Some(read::<Started>(&dir, STARTED).ok()??.init.pid)
    }

    /// The container's directory.
    pub(crate) fn place(&self, id: &ContainerId) -> PathBuf {
        self.place.join(id.value())
    }

    /// `launch` has succeeded.
    pub(crate) fn launched(&self, id: &ContainerId) -> Result<()> {
        self.mark(id, LAUNCHED)
    }

    /// Somebody wants its end.
    pub(crate) fn destroying(&self, id: &ContainerId) -> Result<()> {
        self.mark(id, DESTROYING)
    }

    /// How it ended.
    pub(crate) fn ended(&self, id: &ContainerId, termination: &ContainerTermination) -> Result<()> {
        let record = Ended { termination: termination.clone() };
        berth_record::write(self.open(id)?.as_fd(), TERMINATION, &record, Sync::No).map_err(of_record)
    }

    /// The last `destroy` is done.
    pub(crate) fn tidied(&self, id: &ContainerId) -> Result<()> {
        self.mark(id, TIDIED)
    }

    fn mark(&self, id: &ContainerId, name: &str) -> Result<()> {
        berth_record::write(self.open(id)?.as_fd(), name, &Mark {}, Sync::No).map_err(of_record)
    }

    /// Forgets it. Without its intent it is nothing any more, so that goes first.
    pub(crate) fn remove(&self, id: &ContainerId) -> Result<()> {
        let dir = match self.open(id) {
            Err(error) if error.class() == Class::NotFound => return Ok(()),
            dir => dir?,
        };
        for name in [CONFIG, STARTED, LAUNCHED, DESTROYING, TERMINATION, TIDIED].into_iter().chain(FILES) {
            berth_record::remove(dir.as_fd(), name, Sync::No).map_err(of_record)?;
        }
        match unlinkat(self.open_all()?, id.value(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                Err(failed(format!("remove {}", self.place.join(id.value()).display()), errno.into()))
            }
        }
    }

    fn open_all(&self) -> Result<OwnedFd> {
        open(&self.place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(format!("open {}", self.place.display()), errno.into()))
    }

    fn open(&self, id: &ContainerId) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.open_all()?, id.value(), flags, Mode::empty())
            .map_err(|errno| failed(format!("open {}", self.place.join(id.value()).display()), errno.into()))
    }
}

/// A record, if it is there. One that is torn is not: its writer died before anything depended on it.
fn read<T: Versioned>(dir: &OwnedFd, name: &str) -> Result<Option<T>> {
    match berth_record::read(dir.as_fd(), name, CAP) {
        Ok(record) => Ok(Some(record)),
        Err(berth_record::Error::Missing { .. } | berth_record::Error::Torn { .. }) => Ok(None),
        Err(error) => Err(of_record(error)),
    }
}

fn of_record(error: berth_record::Error) -> Error {
    Error::because(error.class(), "the record of a container of LXC", error)
}

fn failed(what: String, error: io::Error) -> Error {
    Error::because(Class::of_io(&error), what, error)
}
