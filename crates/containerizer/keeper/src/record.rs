// SPDX-License-Identifier: Apache-2.0
//! What is written of a container, so that the next agent knows it: a directory `<runtime_dir>/<kind>/<id>/` with
//!
//! ```text
//! config        what was asked, before anything is made            (intent)
//! destroying    somebody wants its end
//! termination   how it ended, and when
//! tidied        what it held is taken away: the last thing that is done   (a kind may call it otherwise)
//! ```
//! and what the kind itself writes there.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_contract::Error;
use berth_model::{Class, ContainerConfig, ContainerId, ContainerTermination};
use berth_record::{Sync, Versioned};
use berth_sys::rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, unlinkat};
use berth_sys::rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::{of_io, seconds, warn};

const CONFIG: &str = "config";
const DESTROYING: &str = "destroying";
const TERMINATION: &str = "termination";
/// No record of ours is larger: arguments and environment are at most 2 MiB each (execve(2)).
const CAP: usize = 16 << 20;

type Result<T> = std::result::Result<T, Error>;

/// What was asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Record<K: Kind> {
    /// Its id.
    pub id: ContainerId,
    /// Its configuration.
    pub config: ContainerConfig,
    /// What the kind knows beside.
    #[serde(flatten)]
    pub own: K::Asked,
}

impl<K: Kind> Record<K> {
    /// Whether it is an executor's: those are the agent's, and end when it does not know them.
    pub fn is_executors(&self) -> bool {
        self.config.executor_info.is_some() || self.config.task_info.is_some()
    }
}

impl<K: Kind> Versioned for Record<K> {
    const KIND: &'static str = K::RECORD;
    const VERSION: u32 = 1;
}

#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct Mark<K> {
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K: Kind> Versioned for Mark<K> {
    const KIND: &'static str = K::MARK;
    const VERSION: u32 = 1;
}

/// How a container ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Ended<K> {
    /// In what way.
    pub termination: ContainerTermination,
    /// Seconds since 1970; 0 where that was not written down.
    #[serde(default)]
    pub at: u64,
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K: Kind> Versioned for Ended<K> {
    const KIND: &'static str = K::ENDED;
    const VERSION: u32 = 1;
}

/// What the records say of a container.
#[derive(Debug)]
pub struct Found<K: Kind> {
    /// None if its writer died before it was whole.
    pub record: Option<Record<K>>,
    /// Somebody wanted its end.
    pub destroying: bool,
    /// How it ended, if it has.
    pub ended: Option<Ended<K>>,
    /// What it held is taken away.
    pub tidied: bool,
    /// What the kind reads beside.
    pub own: K::Found,
}

/// The open directory of one container.
pub struct Directory<K> {
    fd: OwnedFd,
    kind: PhantomData<K>,
}

impl<K: Kind> Directory<K> {
    /// A record, if it is there. One that is torn is not: its writer died before anything depended on it.
    ///
    /// # Errors
    /// It can not be read, or is none of this kind.
    pub fn read<T: Versioned>(&self, name: &str) -> Result<Option<T>> {
        match berth_record::read(self.fd.as_fd(), name, CAP) {
            Ok(record) => Ok(Some(record)),
            Err(berth_record::Error::Missing { .. } | berth_record::Error::Torn { .. }) => Ok(None),
            Err(error) => Err(of_record::<K>(error)),
        }
    }

    /// Writes a record, whole or not at all.
    ///
    /// # Errors
    /// It can not be written.
    pub fn write<T: Versioned>(&self, name: &str, record: &T) -> Result<()> {
        berth_record::write(self.fd.as_fd(), name, record, Sync::No).map_err(of_record::<K>)
    }

    /// Says that something is so.
    ///
    /// # Errors
    /// It can not be written.
    pub fn mark(&self, name: &str) -> Result<()> {
        self.write(name, &Mark::<K> { kind: PhantomData })
    }

    /// Whether it was said.
    ///
    /// # Errors
    /// It can not be read.
    pub fn is_marked(&self, name: &str) -> Result<bool> {
        Ok(self.read::<Mark<K>>(name)?.is_some())
    }
}

impl<K> AsFd for Directory<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The directory of all records of a kind.
pub struct Records<K> {
    place: PathBuf,
    kind: PhantomData<K>,
}

impl<K> fmt::Debug for Records<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Records").field(&self.place).finish()
    }
}

impl<K: Kind> Records<K> {
    /// Those below `--runtime_dir`.
    pub fn below(runtime_dir: &Path) -> Records<K> {
        Records { place: runtime_dir.join(K::NAME), kind: PhantomData }
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// It can not be made.
    pub fn make(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.place)
            .map_err(of_io(format!("make {}", self.place.display())))
    }

    /// Everything that is there, by the names of the directories.
    ///
    /// # Errors
    /// Something of ours can not be read.
    pub fn all(&self) -> Result<Vec<(ContainerId, Found<K>)>> {
        let list = |error| of_io(format!("list {}", self.place.display()))(error);
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.place).map_err(list)? {
            let entry = entry.map_err(list)?;
            let Some(id) = entry.file_name().to_str().and_then(|name| ContainerId::new(name).ok()) else {
                warn::<K>(&format!("{} is none of ours and is left alone", entry.path().display()));
                continue;
            };
            all.push((id.clone(), self.find(&id)?));
        }
        Ok(all)
    }

    fn find(&self, id: &ContainerId) -> Result<Found<K>> {
        let directory = self.open(id)?;
        berth_record::collect_stale(directory.as_fd()).map_err(of_record::<K>)?;
        Ok(Found {
            record: directory.read(CONFIG)?,
            destroying: directory.is_marked(DESTROYING)?,
            ended: directory.read(TERMINATION)?,
            tidied: directory.is_marked(K::TIDIED)?,
            own: K::find(&directory)?,
        })
    }

    /// The intent. What an earlier container of the same id left goes first.
    ///
    /// # Errors
    /// It can not be written, or the other can not be removed.
    pub fn begin(&self, record: &Record<K>) -> Result<()> {
        self.make_empty(&record.id)?.write(CONFIG, record)
    }

    /// The same of one that is there already, with this mark, which comes first: an intent without it is a launch that was
    /// cut short.
    ///
    /// # Errors
    /// As those of `begin`.
    pub fn adopt(&self, record: &Record<K>, mark: &str) -> Result<()> {
        let directory = self.make_empty(&record.id)?;
        directory.mark(mark)?;
        directory.write(CONFIG, record)
    }

    fn make_empty(&self, id: &ContainerId) -> Result<Directory<K>> {
        self.remove(id)?;
        match mkdirat(&self.open_all()?, id.value(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.open(id),
            Err(errno) => Err(self.failed("make", id)(errno)),
        }
    }

    /// Somebody wants its end.
    ///
    /// # Errors
    /// It can not be written.
    pub fn destroying(&self, id: &ContainerId) -> Result<()> {
        self.open(id)?.mark(DESTROYING)
    }

    /// How it ended, now.
    ///
    /// # Errors
    /// It can not be written.
    pub fn ended(&self, id: &ContainerId, termination: &ContainerTermination) -> Result<()> {
        let record = Ended::<K> { termination: termination.clone(), at: seconds() as u64, kind: PhantomData };
        self.open(id)?.write(TERMINATION, &record)
    }

    /// What it held is taken away.
    ///
    /// # Errors
    /// It can not be written.
    pub fn tidied(&self, id: &ContainerId) -> Result<()> {
        self.open(id)?.mark(K::TIDIED)
    }

    /// Forgets it. Without its intent it is nothing any more, so that goes first.
    ///
    /// # Errors
    /// Something of it stays.
    pub fn remove(&self, id: &ContainerId) -> Result<()> {
        let directory = match self.open(id) {
            Err(error) if error.class() == Class::NotFound => return Ok(()),
            directory => directory?,
        };
        for name in [CONFIG, DESTROYING, TERMINATION, K::TIDIED].iter().chain(K::FILES) {
            berth_record::remove(directory.as_fd(), name, Sync::No).map_err(of_record::<K>)?;
        }
        match unlinkat(self.open_all()?, id.value(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", id)(errno)),
        }
    }

    /// The path of a container's directory.
    pub fn place(&self, id: &ContainerId) -> PathBuf {
        self.place.join(id.value())
    }

    /// A container's directory.
    ///
    /// # Errors
    /// It can not be opened; of class not found, if there is none.
    pub fn open(&self, id: &ContainerId) -> Result<Directory<K>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            openat(self.open_all()?, id.value(), flags, Mode::empty()).map_err(self.failed("open", id))?;
        Ok(Directory { fd, kind: PhantomData })
    }

    fn open_all(&self) -> Result<OwnedFd> {
        open(&self.place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| of_io(format!("open {}", self.place.display()))(errno.into()))
    }

    fn failed(&self, what: &str, id: &ContainerId) -> impl FnOnce(Errno) -> Error {
        let tried = format!("{what} {}", self.place(id).display());
        move |errno| of_io(tried)(io::Error::from(errno))
    }
}

/// A failure on a record.
pub fn of_record<K: Kind>(error: berth_record::Error) -> Error {
    Error::because(error.class(), format!("the record of {}", K::WHAT), error)
}
