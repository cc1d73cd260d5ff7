// SPDX-License-Identifier: Apache-2.0
//! What is kept of a container beside what is kept of any:
//!
//! ```text
//! <runtime_dir>/lxc/<id>/
//!   hook         what lxc-start runs when the first process waits
//!   at, go       how the start tells that the first process waits, and hears that it may go on
//!   log          of lxc-start, which stands beside the container: it says how the first process ended
//!   started      the first process and lxc-start, before the first process may go on
//!   launched     the launch has succeeded
//!   attached     how the command of a system container ended
//!   sessions     what lxc-attach says of further commands that it could not start
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_contract::{Error, EventLog, Limits, Variables};
use berth_fetcher::Stop;
use berth_keeper::{Bell, Directory, Fetching, Keeper, Kind, State, Threaded, Threads};
use berth_model::{ContainerConfig, ContainerId, Resources};
use berth_record::{BootId, Process, Versioned};
use serde::{Deserialize, Serialize};

use crate::base::Bases;
use crate::process::Init;
use crate::session::Sessions;
use crate::settings::Settings;
use crate::{asked, groups};

/// The launch has succeeded.
pub(crate) const LAUNCHED: &str = "launched";
const STARTED: &str = "started";

pub(crate) type Shared = Keeper<Common>;
pub(crate) type Entry = berth_keeper::Entry<Common>;
pub(crate) type Record = berth_keeper::Record<Common>;
pub(crate) type Found = berth_keeper::Found<Common>;

/// What all containers have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) settings: Settings,
    pub(crate) bases: Bases,
    pub(crate) sessions: Sessions,
    threads: Threads,
    pub(crate) fetching: Fetching,
}

/// What is asked beside id and configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Whether the caller wanted the pid.
    pub(crate) checkpoint: bool,
    /// What the caller gave beside the configuration's own.
    #[serde(default)]
    pub(crate) environment: Variables,
}

/// What is so of a container at the moment.
#[derive(Debug)]
pub(crate) struct Now {
    bell: Bell,
    init: Mutex<Option<Init>>,
    /// What ends a fetch that is under way.
    fetch: Mutex<Option<Stop>>,
}

impl Now {
    /// Readable when somebody wants its end.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Its first process, once it exists.
    pub(crate) fn init(&self) -> Option<Init> {
        self.lock().clone()
    }

    /// Its first process exists.
    pub(crate) fn has_init(&self, init: Init) {
        *self.lock() = Some(init);
    }

    /// A fetch begins, or is over.
    pub(crate) fn fetches(&self, stop: Option<Stop>) {
        *self.fetch.lock().unwrap_or_else(PoisonError::into_inner) = stop;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Init>> {
        self.init.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State for Now {
    fn new() -> Result<Now, Error> {
        Ok(Now { bell: Bell::new()?, init: Mutex::new(None), fetch: Mutex::new(None) })
    }

    fn destroyed(&self) {
        self.bell.ring();
        let fetch = self.fetch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(stop) = fetch {
            stop.kill();
        }
    }
}

/// What the records say of the launch.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) started: Option<Started>,
    pub(crate) launched: bool,
}

impl Kind for Common {
    const NAME: &'static str = "lxc";
    const WHAT: &'static str = "a container of LXC";
    const RECORD: &'static str = "lxc-container";
    const MARK: &'static str = "lxc-mark";
    const ENDED: &'static str = "lxc-termination";
    const FILES: &'static [&'static str] =
        &[STARTED, LAUNCHED, "at", "go", "hook", "log", "attached", "attached.tmp", crate::session::LOG];
    type Asked = Asked;
    type Found = Launched;
    type State = Now;

    fn find(directory: &Directory<Common>) -> Result<Launched, Error> {
        Ok(Launched { started: directory.read(STARTED)?, launched: directory.is_marked(LAUNCHED)? })
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
        let (resources, limits) = (requests.clone(), limits.clone());
        let config = ContainerConfig { resources, limits, ..ContainerConfig::default() };
        groups::update(&shared.own.settings, &entry.id, &config)
    }

    fn remove(shared: &Shared, entry: &Entry) -> Result<(), Error> {
        let config = &entry.record.config;
        berth_keeper::sandbox::remove(&config.directory)?;
        shared.own.sessions.remove_below(&entry.id);
        if asked::keeps(config) {
            return Ok(());
        }
        let (containers, name) = (shared.own.settings.containers(), asked::name(&entry.record));
        crate::tools::remove_tree(&containers, name.as_str()).map_err(crate::error::of_tool)
    }
}

pub(crate) fn shared(settings: Settings, events: EventLog) -> Result<Shared, Error> {
    let runtime_dir = settings.runtime_dir.clone();
    let fetching = Fetching::new(settings.fetcher.clone());
    let common = Common {
        settings,
        bases: Bases::default(),
        sessions: Sessions::default(),
        threads: Threads::new()?,
        fetching,
    };
    Ok(Keeper::new(common, &runtime_dir, events))
}

/// The processes of a container, from before its program is executed.
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

/// Writes down that the first process waits to go on.
pub(crate) fn started(shared: &Shared, id: &ContainerId, started: &Started) -> Result<(), Error> {
    shared.records.open(id)?.write(STARTED, started)
}

/// The pid of the first process.
pub(crate) fn init_of(shared: &Shared, id: &ContainerId) -> Option<u32> {
    Some(shared.records.open(id).ok()?.read::<Started>(STARTED).ok()??.init.pid)
}
