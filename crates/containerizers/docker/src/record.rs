// SPDX-License-Identifier: Apache-2.0
//! What is written of a container, so that the next agent knows it.
//!
//! ```text
//! <runtime_dir>/docker/<id>/
//!   config       what was asked, its name and its launch's mark, before anything is made        (intent)
//!   created      the engine's id of it, when the engine has made it
//!   started      it was let run, and its launch will be told as a success
//!   destroying   somebody wants its end
//!   output       how much of what it wrote is in the sandbox
//!   termination  how it ended, and when
//!   cleared      the engine has taken it away
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_contract::{Error, Variables};
use berth_model::{Class, ContainerConfig, ContainerId, ContainerTermination};
use berth_record::{BootId, Process, Sync, Versioned};
use berth_sys::rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, unlinkat};
use berth_sys::rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{of_io, warn};

const CONFIG: &str = "config";
const CREATED: &str = "created";
const STARTED: &str = "started";
const DESTROYING: &str = "destroying";
const OUTPUT: &str = "output";
const TERMINATION: &str = "termination";
const CLEARED: &str = "cleared";
/// No record of ours is larger: arguments and environment are at most 2 MiB each (execve(2)).
const CAP: usize = 16 << 20;

/// What was asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) config: ContainerConfig,
    pub(crate) environment: Variables,
    /// Its name at the engine.
    pub(crate) name: String,
    /// The mark of this launch, which no other launch of this id has.
    pub(crate) launch: String,
}

impl Versioned for Record {
    const KIND: &'static str = "docker-container";
    const VERSION: u32 = 1;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Created {
    engine_id: String,
}

impl Versioned for Created {
    const KIND: &'static str = "docker-created";
    const VERSION: u32 = 1;
}

/// The process of a container that was let run; none if it had ended before anybody could look.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Started {
    process: Option<Process>,
    boot: BootId,
}

impl Versioned for Started {
    const KIND: &'static str = "docker-started";
    const VERSION: u32 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct Mark {}

impl Versioned for Mark {
    const KIND: &'static str = "docker-mark";
    const VERSION: u32 = 1;
}

/// How much of what a container wrote is in the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) stdout: StreamWritten,
    pub(crate) stderr: StreamWritten,
}

/// The same of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamWritten {
    /// The time of the newest line that is whole there; with it are all before it.
    pub(crate) until: Option<String>,
    /// The size of the file behind that line, or before the first.
    pub(crate) size: u64,
}

impl Versioned for Written {
    const KIND: &'static str = "docker-output";
    const VERSION: u32 = 1;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) termination: ContainerTermination,
    /// Seconds since 1970.
    pub(crate) at: u64,
}

impl Versioned for Ended {
    const KIND: &'static str = "docker-termination";
    const VERSION: u32 = 1;
}

/// What the records say of a container.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// None if its writer died before it was whole.
    pub(crate) record: Option<Record>,
    pub(crate) engine_id: Option<String>,
    pub(crate) started: bool,
    /// Its process, if it is still the same that was let run.
    pub(crate) process: Option<Process>,
    pub(crate) destroying: bool,
    pub(crate) ended: Option<Ended>,
    pub(crate) cleared: bool,
}

/// The directory of all records.
#[derive(Debug)]
pub(crate) struct Records {
    place: PathBuf,
}

type Result<T> = std::result::Result<T, Error>;

impl Records {
    pub(crate) fn below(runtime_dir: &Path) -> Records {
        Records { place: runtime_dir.join("docker") }
    }

    /// Makes the directory.
    pub(crate) fn make(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.place)
            .map_err(|error| of_io(format!("make {}", self.place.display()), error))
    }

    /// Everything that is there, by the names of the directories.
    pub(crate) fn all(&self) -> Result<Vec<(ContainerId, Found)>> {
        let list = |error| of_io(format!("list {}", self.place.display()), error);
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.place).map_err(list)? {
            let entry = entry.map_err(list)?;
            let Some(id) = entry.file_name().to_str().and_then(|name| ContainerId::new(name).ok()) else {
                warn(&format!("{} is none of ours and is left alone", entry.path().display()));
                continue;
            };
            all.push((id.clone(), self.find(&id)?));
        }
        Ok(all)
    }

    fn find(&self, id: &ContainerId) -> Result<Found> {
        let dir = self.open(id)?;
        berth_record::collect_stale(dir.as_fd()).map_err(of_record)?;
        let started = read::<Started>(&dir, STARTED)?;
        let boot = BootId::current().map_err(of_record)?;
        let same = |started: &Started| started.boot == boot;
        let process = started.as_ref().filter(|started| same(started)).and_then(|started| started.process);
        let process = process.filter(|process| process.exists().unwrap_or(false));
        Ok(Found {
            record: read(&dir, CONFIG)?,
            engine_id: read::<Created>(&dir, CREATED)?.map(|created| created.engine_id),
            started: started.is_some(),
            process,
            destroying: read::<Mark>(&dir, DESTROYING)?.is_some(),
            ended: read(&dir, TERMINATION)?,
            cleared: read::<Mark>(&dir, CLEARED)?.is_some(),
        })
    }

    /// The intent. What an earlier container of the same id left goes first.
    pub(crate) fn begin(&self, record: &Record) -> Result<()> {
        self.remove(&record.id)?;
        match mkdirat(&self.open_all()?, record.id.value(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                let what = format!("make {}", self.place.join(record.id.value()).display());
                return Err(of_io(what, errno.into()));
            }
        }
        self.write(&record.id, CONFIG, record)
    }

    pub(crate) fn created(&self, id: &ContainerId, engine_id: &str) -> Result<()> {
        self.write(id, CREATED, &Created { engine_id: engine_id.to_owned() })
    }

    pub(crate) fn started(&self, id: &ContainerId, pid: Option<u32>) -> Result<()> {
        // It has ended already if there is none.
        let process = pid.map(Process::of).transpose().map_err(of_record)?.flatten();
        self.write(id, STARTED, &Started { process, boot: BootId::current().map_err(of_record)? })
    }

    pub(crate) fn destroying(&self, id: &ContainerId) -> Result<()> {
        self.write(id, DESTROYING, &Mark {})
    }

    pub(crate) fn written(&self, id: &ContainerId, written: &Written) -> Result<()> {
        self.write(id, OUTPUT, written)
    }

    /// How much of its output is in the sandbox.
    pub(crate) fn output(&self, id: &ContainerId) -> Result<Written> {
        Ok(read(&self.open(id)?, OUTPUT)?.unwrap_or_default())
    }

    pub(crate) fn ended(&self, id: &ContainerId, termination: &ContainerTermination, at: u64) -> Result<()> {
        self.write(id, TERMINATION, &Ended { termination: termination.clone(), at })
    }

    pub(crate) fn cleared(&self, id: &ContainerId) -> Result<()> {
        self.write(id, CLEARED, &Mark {})
    }

    fn write<T: Versioned>(&self, id: &ContainerId, name: &str, record: &T) -> Result<()> {
        berth_record::write(self.open(id)?.as_fd(), name, record, Sync::No).map_err(of_record)
    }

    /// Forgets it. Without its intent it is nothing any more, so that goes first.
    pub(crate) fn remove(&self, id: &ContainerId) -> Result<()> {
        let dir = match self.open(id) {
            Err(error) if error.class() == Class::NotFound => return Ok(()),
            dir => dir?,
        };
        for name in [CONFIG, CREATED, STARTED, DESTROYING, OUTPUT, TERMINATION, CLEARED] {
            berth_record::remove(dir.as_fd(), name, Sync::No).map_err(of_record)?;
        }
        match unlinkat(self.open_all()?, id.value(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                Err(of_io(format!("remove {}", self.place.join(id.value()).display()), errno.into()))
            }
        }
    }

    fn open_all(&self) -> Result<OwnedFd> {
        open(&self.place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| of_io(format!("open {}", self.place.display()), errno.into()))
    }

    fn open(&self, id: &ContainerId) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.open_all()?, id.value(), flags, Mode::empty())
            .map_err(|errno| of_io(format!("open {}", self.place.join(id.value()).display()), errno.into()))
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
    Error::because(error.class(), "the record of a Docker container", error)
}

/// Writes a pid where the agent wants it, whole or not at all, and there after a power failure: it decides by that.
pub(crate) fn write_pid(path: &Path, pid: u32) -> Result<()> {
    let write = || -> io::Result<()> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
        else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not the path of a file"));
        };
        std::fs::create_dir_all(above)?;
        let directory = std::fs::File::open(above)?;
        berth_record::write_atomic(directory.as_fd(), name, pid.to_string().as_bytes(), Sync::Yes)
            .map_err(io::Error::other)
    };
    write().map_err(|error| of_io("Could not checkpoint executor's pid".to_owned(), error))
}
