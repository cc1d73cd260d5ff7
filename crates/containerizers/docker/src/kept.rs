// SPDX-License-Identifier: Apache-2.0
//! What is kept of a container beside what is kept of any:
//!
//! ```text
//! <runtime_dir>/docker/<id>/
//!   config       with its name and its launch's mark
//!   created      the engine's id of it, when the engine has made it
//!   started      it was let run, and its launch will be told as a success
//!   volumes      the persistent ones, once an update has changed them
//!   output       how much of what it wrote is in the sandbox
//!   cleared      the engine has taken it away: what other kinds call tidied
//! ```

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_cgroup::Hierarchies;
use berth_contract::{Error, EventLog, Variables};
use berth_fetcher::Stop;
use berth_keeper::{Directory, Fetching, Keeper, Kind, State, of_record};
use berth_model::{ContainerId, NetworkInfo};
use berth_record::{BootId, Versioned};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::exec::Sessions;
use crate::process::Process;
use crate::settings::Settings;
use crate::volumes::Persistent;

const CREATED: &str = "created";
const STARTED: &str = "started";
const OUTPUT: &str = "output";
const VOLUMES: &str = "volumes";

pub(crate) type Shared = Keeper<Common>;
pub(crate) type Entry = berth_keeper::Entry<Common>;
pub(crate) type Record = berth_keeper::Record<Common>;
pub(crate) type Found = berth_keeper::Found<Common>;

/// What all containers have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) settings: Settings,
    pub(crate) engine: Engine,
    pub(crate) sessions: Sessions,
    pub(crate) hierarchies: Option<Hierarchies>,
    /// Pulls so far, and how long they took, in milliseconds.
    pub(crate) pulls: AtomicU64,
    pub(crate) pull_time: AtomicU64,
    pub(crate) fetching: Fetching,
}

impl Common {
    pub(crate) fn pulled(&self, took: Duration) {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        self.pull_time.fetch_add(took.as_millis() as u64, Ordering::Relaxed);
    }
}

pub(crate) fn shared(settings: Settings, events: EventLog) -> Shared {
    let runtime_dir = settings.runtime_dir.clone();
    let common = Common {
        engine: Engine::at(&settings.socket, settings.client.as_deref()),
        sessions: Sessions::default(),
        // Without control groups there is nothing to measure.
        hierarchies: Hierarchies::probe(Path::new(Hierarchies::ROOT)).ok(),
        pulls: AtomicU64::new(0),
        pull_time: AtomicU64::new(0),
        fetching: Fetching::new(settings.fetcher.clone()),
        settings,
    };
    Keeper::new(common, &runtime_dir, events)
}

/// What is asked beside id and configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) environment: Variables,
    /// Its name at the engine.
    pub(crate) name: String,
    /// The mark of this launch, which no other launch of this id has.
    pub(crate) launch: String,
}

/// What is so at the moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// The engine's id of it, when it has made it.
    pub(crate) engine_id: Option<String>,
    /// Its first process, while it is known.
    pub(crate) process: Option<Arc<Process>>,
    pub(crate) networks: Vec<NetworkInfo>,
    pub(crate) stop_signal: Option<i32>,
    /// Whether the engine has nothing of it any more.
    pub(crate) cleared: bool,
    /// The last deadly signal that was sent to it here.
    pub(crate) signal: Option<i32>,
    /// Whether somebody writes what it reads.
    pub(crate) input: bool,
    /// The persistent volumes that are mounted in it.
    pub(crate) volumes: BTreeSet<Persistent>,
    /// What ends a fetch that is under way.
    fetch: Option<Stop>,
}

/// The same, to be changed.
#[derive(Debug, Default)]
pub(crate) struct Now(Mutex<Facts>);

impl Now {
    pub(crate) fn facts(&self) -> Facts {
        self.lock().clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock());
    }

    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        self.lock().process.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State for Now {
    fn new() -> Result<Now, Error> {
        Ok(Now::default())
    }

    fn destroyed(&self) {
        let stop = self.lock().fetch.clone();
        if let Some(stop) = stop {
            stop.kill();
        }
    }
}

/// A fetch begins, which a destroy ends. False if that has come already.
pub(crate) fn fetches(entry: &Entry, stop: Option<Stop>) -> bool {
    // A destroy says first that it is wished, and looks for a fetch then: one of the two sees the other.
    entry.own.change(|facts| facts.fetch = stop);
    !entry.is_destroyed()
}

/// What the engine is asked by: its own id where it is known, else the name.
pub(crate) fn key(entry: &Entry) -> String {
    entry.own.facts().engine_id.unwrap_or_else(|| entry.record.own.name.clone())
}

/// What the records say of the launch.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) engine_id: Option<String>,
    pub(crate) started: bool,
    /// Its persistent volumes, where they are not those of its configuration any more.
    pub(crate) volumes: Option<BTreeSet<Persistent>>,
    /// Its process, if it is still the same that was let run.
    pub(crate) process: Option<berth_record::Process>,
}

impl Kind for Common {
    const NAME: &'static str = "docker";
    const WHAT: &'static str = "a Docker container";
    const RECORD: &'static str = "docker-container";
    const MARK: &'static str = "docker-mark";
    const ENDED: &'static str = "docker-termination";
    const TIDIED: &'static str = "cleared";
    const FILES: &'static [&'static str] = &[CREATED, STARTED, OUTPUT, VOLUMES];
    type Asked = Asked;
    type Found = Launched;
    type State = Now;

    fn find(directory: &Directory<Common>) -> Result<Launched, Error> {
        let started = directory.read::<Started>(STARTED)?;
        let boot = BootId::current().map_err(of_record::<Common>)?;
        let process = started.as_ref().filter(|started| started.boot == boot).and_then(|it| it.process);
        Ok(Launched {
            engine_id: directory.read::<Created>(CREATED)?.map(|created| created.engine_id),
            started: started.is_some(),
            volumes: directory.read::<Mounted>(VOLUMES)?.map(|mounted| mounted.volumes),
            process: process.filter(|process| process.exists().unwrap_or(false)),
        })
    }

    fn ending(shared: &Shared, entry: &Entry) {
        shared.own.sessions.end_below(shared, &entry.id);
    }
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
    process: Option<berth_record::Process>,
    boot: BootId,
}

impl Versioned for Started {
    const KIND: &'static str = "docker-started";
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
    /// How many whole lines with that time are there. Older records do not say so, and mean all.
    #[serde(default = "all")]
    pub(crate) lines: u64,
    /// The size of the file behind that line, or before the first.
    pub(crate) size: u64,
}

fn all() -> u64 {
    u64::MAX
}

impl Versioned for Written {
    const KIND: &'static str = "docker-output";
    const VERSION: u32 = 1;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mounted {
    volumes: BTreeSet<Persistent>,
}

impl Versioned for Mounted {
    const KIND: &'static str = "docker-volumes";
    const VERSION: u32 = 1;
}

/// These are its persistent volumes now.
pub(crate) fn mounted(
    shared: &Shared,
    id: &ContainerId,
    volumes: &BTreeSet<Persistent>,
) -> Result<(), Error> {
    shared.records.open(id)?.write(VOLUMES, &Mounted { volumes: volumes.clone() })
}

/// The engine has made it.
pub(crate) fn created(shared: &Shared, id: &ContainerId, engine_id: &str) -> Result<(), Error> {
    shared.records.open(id)?.write(CREATED, &Created { engine_id: engine_id.to_owned() })
}

/// It was let run.
pub(crate) fn started(shared: &Shared, id: &ContainerId, pid: Option<u32>) -> Result<(), Error> {
    // It has ended already if there is none.
    let process = pid.map(berth_record::Process::of).transpose().map_err(of_record::<Common>)?.flatten();
    let boot = BootId::current().map_err(of_record::<Common>)?;
    shared.records.open(id)?.write(STARTED, &Started { process, boot })
}

/// So much of its output is in the sandbox.
pub(crate) fn written(shared: &Shared, id: &ContainerId, written: &Written) -> Result<(), Error> {
    shared.records.open(id)?.write(OUTPUT, written)
}

/// How much of its output is in the sandbox.
pub(crate) fn output(shared: &Shared, id: &ContainerId) -> Result<Written, Error> {
    Ok(shared.records.open(id)?.read(OUTPUT)?.unwrap_or_default())
}
