// SPDX-License-Identifier: Apache-2.0
//! What is kept of a container beside what is kept of any:
//!
//! ```text
//! <runtime_dir>/external/<id>/
//!   launch       the process of the call `launch`              (to end what a killed agent left under way)
//!   launched     `launch` has succeeded
//!   wait         the process of the call `wait`                (there is never more than one)
//! ```
//! `termination` is written before the program's last `destroy`, and `tidied` after it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_contract::{Error, EventLog, Limits, Settled};
use berth_keeper::{Bell, Directory, Keeper, Kind, State, Threaded, Threads, of_record};
use berth_model::{ContainerId, ResourceStatistics, Resources};
use berth_record::{BootId, Process, Versioned};
use serde::{Deserialize, Serialize};

use crate::containerizer;
use crate::program::Program;
use crate::sandbox::Sandbox;
use crate::settings::Settings;

/// `launch` has succeeded.
pub(crate) const LAUNCHED: &str = "launched";
/// The calls whose process is written down.
const CALLS: [&str; 2] = ["launch", "wait"];

pub(crate) type Shared = Keeper<Common>;
pub(crate) type Entry = berth_keeper::Entry<Common>;
pub(crate) type Record = berth_keeper::Record<Common>;
pub(crate) type Found = berth_keeper::Found<Common>;

/// What all containers have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) settings: Settings,
    pub(crate) program: Program,
    threads: Threads,
}

/// What is asked beside id and configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Whether the caller wanted the pid.
    pub(crate) checkpoint: bool,
    /// Only the program knows it, and nothing is written of it.
    #[serde(skip)]
    pub(crate) foreign: bool,
}

/// What is so of a container at the moment.
#[derive(Debug)]
pub(crate) struct Now {
    bell: Bell,
    /// The measurement under way, which all who ask meanwhile share.
    usage: Mutex<Option<Settled<Result<ResourceStatistics, Error>>>>,
}

impl Now {
    /// Readable when somebody wants its end.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// A measurement, and whether it is the caller's to make.
    pub(crate) fn usage(&self) -> (Settled<Result<ResourceStatistics, Error>>, bool) {
        let mut usage = self.lock();
        let ours = usage.is_none();
        (usage.get_or_insert_default().clone(), ours)
    }

    /// The measurement is made: the next one who asks makes another.
    pub(crate) fn measured(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Settled<Result<ResourceStatistics, Error>>>> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State for Now {
    fn new() -> Result<Now, Error> {
        Ok(Now { bell: Bell::new()?, usage: Mutex::new(None) })
    }

    fn destroyed(&self) {
        self.bell.ring();
    }
}

impl Kind for Common {
    const NAME: &'static str = "external";
    const WHAT: &'static str = "an external container";
    const RECORD: &'static str = "external-container";
    const MARK: &'static str = "external-mark";
    const ENDED: &'static str = "external-termination";
    const FILES: &'static [&'static str] = &[LAUNCHED, CALLS[0], CALLS[1]];
    type Asked = Asked;
    /// Whether its launch has succeeded.
    type Found = bool;
    type State = Now;

    fn find(directory: &Directory<Common>) -> Result<bool, Error> {
        directory.is_marked(LAUNCHED)
    }
}

impl Threaded for Common {
    fn threads(&self) -> &Threads {
        &self.threads
    }

    fn update(
        shared: &Arc<Shared>,
        entry: &Entry,
        requests: &Resources,
        limits: &Limits,
    ) -> Result<(), Error> {
        containerizer::update(shared, entry, requests, limits)
    }

    fn remove(_: &Shared, entry: &Entry) -> Result<(), Error> {
        given_sandbox(entry).map_or(Ok(()), |given| berth_keeper::sandbox::remove(&given.directory))
    }
}

pub(crate) fn shared(settings: Settings, events: EventLog) -> Result<Shared, Error> {
    let runtime_dir = settings.runtime_dir.clone();
    let common = Common { program: Program::new(&settings), settings, threads: Threads::new()? };
    Ok(Keeper::new(common, &runtime_dir, events))
}

/// The sandbox as it was asked for, if the container was.
pub(crate) fn given_sandbox(entry: &Entry) -> Option<Sandbox> {
    let config = &entry.record.config;
    let given = Sandbox { directory: config.directory.clone(), user: config.user.clone() };
    (!entry.record.own.foreign).then_some(given)
}

/// The sandbox, unless somebody has taken it away: a call that needs none of it does without.
pub(crate) fn sandbox(entry: &Entry) -> Option<Sandbox> {
    given_sandbox(entry).filter(|sandbox| sandbox.directory.is_dir())
}

#[derive(Debug, Serialize, Deserialize)]
struct Call {
    process: Process,
    boot: BootId,
}

impl Versioned for Call {
    const KIND: &'static str = "external-call";
    const VERSION: u32 = 1;
}

/// Writes down the process of a call.
pub(crate) fn calls(shared: &Shared, id: &ContainerId, call: &'static str, pid: u32) -> Result<(), Error> {
    // It has ended already if there is none.
    let Some(process) = Process::of(pid).map_err(of_record::<Common>)? else { return Ok(()) };
    let record = Call { process, boot: BootId::current().map_err(of_record::<Common>)? };
    shared.records.open(id)?.write(call, &record)
}

/// The processes of calls that are still there.
pub(crate) fn left(shared: &Shared, id: &ContainerId) -> Result<Vec<Process>, Error> {
    let (directory, boot) = (shared.records.open(id)?, BootId::current().map_err(of_record::<Common>)?);
    let mut left = Vec::new();
    for call in CALLS {
        if let Some(found) = directory.read::<Call>(call)?.filter(|found| found.boot == boot)
            && found.process.exists().map_err(of_record::<Common>)?
        {
            left.push(found.process);
        }
    }
    Ok(left)
}
