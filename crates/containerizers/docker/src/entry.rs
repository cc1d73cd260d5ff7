// SPDX-License-Identifier: Apache-2.0
//! One container as everybody sees it. Its owner, one task, alone moves it on; others wish, and wait.
//!
//! ```text
//! FETCHING ─▶ PULLING ─▶ MOUNTING ─▶ RUNNING ⇄ PAUSED
//!     └───────────┴──────────┴──────────┴───────┴──▶ DESTROYING ─▶ TERMINATED
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_contract::{Error, LaunchResult, Phase, Settled};
use berth_fetcher::Stop;
use berth_model::{Class, ContainerId, ContainerTermination, NetworkInfo};
use tokio::sync::watch;

use crate::process::Process;
use crate::record::Record;

/// More updates than this do not wait for one container: each is the whole truth, so its asker can as well try again.
const UPDATES: usize = 64;

/// A container.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: ContainerId,
    pub(crate) record: Record,
    pub(crate) launched: Settled<Result<LaunchResult, Error>>,
    pub(crate) ended: Settled<ContainerTermination>,
    now: Mutex<Now>,
    /// Whether somebody wants its end.
    wish: watch::Sender<bool>,
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
}

#[derive(Debug)]
struct Now {
    phase: Phase,
    facts: Facts,
    /// The launch did not succeed, and nobody has destroyed it yet.
    failed: bool,
    /// What ends a fetch that is under way.
    fetch: Option<Stop>,
    /// The end of the last update, and how many there are.
    update: Option<Settled<()>>,
    updates: usize,
    removing: Option<Settled<Result<(), Error>>>,
}

impl Entry {
    pub(crate) fn new(record: Record, phase: Phase) -> Entry {
        let now = Now {
            phase,
            facts: Facts::default(),
            failed: false,
            fetch: None,
            update: None,
            updates: 0,
            removing: None,
        };
        Entry {
            id: record.id.clone(),
            record,
            launched: Settled::new(),
            ended: Settled::new(),
            now: Mutex::new(now),
            wish: watch::Sender::new(false),
        }
    }

    /// One that an earlier agent launched.
    pub(crate) fn running(record: Record, engine_id: Option<String>) -> Entry {
        let entry = Entry::new(record, Phase::Running);
        entry.change(|facts| facts.engine_id = engine_id);
        entry.launched.settle(Ok(LaunchResult::Success));
        entry
    }

    /// One that has ended.
    pub(crate) fn over(record: Record, engine_id: Option<String>, ended: ContainerTermination) -> Entry {
        let entry = Entry::new(record, Phase::Terminated);
        entry.change(|facts| facts.engine_id = engine_id);
        entry.launched.settle(Ok(LaunchResult::Success));
        entry.ended.settle(ended);
        entry
    }

    /// Whether it is an executor's: those are the agent's, and end when it does not know them.
    pub(crate) fn is_executors(&self) -> bool {
        self.record.config.executor_info.is_some() || self.record.config.task_info.is_some()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase() == Phase::Terminated
    }

    pub(crate) fn facts(&self) -> Facts {
        self.lock().facts.clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock().facts);
    }

    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        self.lock().facts.process.clone()
    }

    /// What the engine is asked by: its own id where it is known, else the name.
    pub(crate) fn key(&self) -> String {
        self.lock().facts.engine_id.clone().unwrap_or_else(|| self.record.name.clone())
    }

    pub(crate) fn is_destroyed(&self) -> bool {
        *self.wish.borrow()
    }

    /// Waits until somebody wants its end.
    pub(crate) async fn destroyed(&self) {
        // The sender is in this entry, so it does not end before.
        let _ = self.wish.subscribe().wait_for(|wish| *wish).await;
    }

    /// Wishes for its end; true for the one caller who has to bury it, because it has no owner any more.
    pub(crate) fn destroy(&self) -> bool {
        let (stop, bury) = {
            let mut now = self.lock();
            self.wish.send_replace(true);
            (now.fetch.clone(), std::mem::take(&mut now.failed))
        };
        if let Some(stop) = stop {
            stop.kill();
        }
        bury
    }

    /// A fetch begins, which a destroy ends. False if that has come already.
    pub(crate) fn fetches(&self, stop: Option<Stop>) -> bool {
        let mut now = self.lock();
        now.fetch = stop;
        !self.is_destroyed()
    }

    /// Its launch has failed. True if it is to be buried at once: somebody has destroyed it meanwhile.
    pub(crate) fn fail(&self) -> bool {
        let mut now = self.lock();
        now.failed = !self.is_destroyed();
        !now.failed
    }

    /// Moves it on, and says from where. None if it is there, or further.
    pub(crate) fn go(&self, to: Phase) -> Option<Phase> {
        let mut now = self.lock();
        let ends = |phase| matches!(phase, Phase::Destroying | Phase::Terminated);
        let back = ends(now.phase) && !(now.phase == Phase::Destroying && to == Phase::Terminated);
        (now.phase != to && !back).then(|| std::mem::replace(&mut now.phase, to))
    }

    /// A place in the order of updates: what to wait for, and what to settle when it is done.
    pub(crate) fn update(&self) -> Result<(Option<Settled<()>>, Settled<()>), Error> {
        let mut now = self.lock();
        if now.updates == UPDATES {
            let why =
                format!("{UPDATES} updates of this container wait already: try again when they are done");
            return Err(Error::other(Class::Exhausted, why));
        }
        now.updates += 1;
        let own = Settled::new();
        Ok((now.update.replace(own.clone()), own))
    }

    pub(crate) fn updated(&self, own: &Settled<()>) {
        own.settle(());
        let mut now = self.lock();
        now.updates -= 1;
        if now.updates == 0 {
            now.update = None;
        }
    }

    /// A removal, and whether it is the caller's to make.
    pub(crate) fn removing(&self) -> Result<(Settled<Result<(), Error>>, bool), Error> {
        let mut now = self.lock();
        if now.phase != Phase::Terminated {
            return Err(Error::NotTerminated);
        }
        let ours = now.removing.is_none();
        Ok((now.removing.get_or_insert_default().clone(), ours))
    }

    /// The removal did not succeed.
    pub(crate) fn kept(&self) {
        self.lock().removing = None;
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Nothing panics half-way through a change.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
