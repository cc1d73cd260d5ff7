// SPDX-License-Identifier: Apache-2.0
//! One container as everybody sees it. Its owner, one task or thread, alone moves it on; others wish, and wait.
//!
//! ```text
//! (the kind's own phases of a launch) ──▶ RUNNING ⇄ PAUSED ──▶ DESTROYING ──▶ TERMINATED
//!                 └───────── failed, destroyed ────────────────────▲
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_contract::{Error, LaunchResult, Phase, Settled, block_on};
use berth_model::{Class, ContainerId, ContainerTermination};

use crate::kind::{Kind, State};
use crate::record::Record;

/// More updates than this do not wait for one container: each is the whole truth, so its asker can as well try again.
const UPDATES: usize = 64;

/// A container.
#[derive(Debug)]
pub struct Entry<K: Kind> {
    /// Its id.
    pub id: ContainerId,
    /// What was asked.
    pub record: Record<K>,
    /// What its launch came to.
    pub launched: Settled<Result<LaunchResult, Error>>,
    /// How it ended.
    pub ended: Settled<ContainerTermination>,
    /// What the kind knows of it.
    pub own: K::State,
    wish: Settled<()>,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    phase: Phase,
    /// The launch did not succeed, and nobody has destroyed it yet.
    failed: bool,
    /// The end of the last update, and how many there are.
    update: Option<Settled<()>>,
    updates: usize,
    removing: Option<Settled<Result<(), Error>>>,
}

impl<K: Kind> Entry<K> {
    /// One whose launch begins.
    ///
    /// # Errors
    /// As those of the kind's state.
    pub fn new(record: Record<K>, phase: Phase) -> Result<Entry<K>, Error> {
        Ok(Entry {
            id: record.id.clone(),
            record,
            launched: Settled::new(),
            ended: Settled::new(),
            own: K::State::new()?,
            wish: Settled::new(),
            now: Mutex::new(Now { phase, failed: false, update: None, updates: 0, removing: None }),
        })
    }

    /// One that an earlier agent launched.
    ///
    /// # Errors
    /// As those of the kind's state.
    pub fn running(record: Record<K>) -> Result<Entry<K>, Error> {
        let entry = Entry::new(record, Phase::Running)?;
        entry.launched.settle(Ok(LaunchResult::Success));
        Ok(entry)
    }

    /// One that has ended.
    ///
    /// # Errors
    /// As those of the kind's state.
    pub fn over(record: Record<K>, termination: ContainerTermination) -> Result<Entry<K>, Error> {
        let entry = Entry::new(record, Phase::Terminated)?;
        entry.launched.settle(Ok(LaunchResult::Success));
        entry.ended.settle(termination);
        Ok(entry)
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Has it ended?
    pub fn is_over(&self) -> bool {
        self.phase() == Phase::Terminated
    }

    /// Does somebody want its end?
    pub fn is_destroyed(&self) -> bool {
        self.wish.get().is_some()
    }

    /// Waits until somebody wants its end.
    pub async fn destroyed(&self) {
        self.wish.wait().await;
    }

    /// Waits for its launch, and tells whether it is there.
    pub fn has_come_up(&self) -> bool {
        matches!(block_on(self.launched.wait()), Ok(LaunchResult::Success))
    }

    /// Wishes for its end; true for the one caller who has to bury it, because it has no owner any more.
    #[must_use]
    pub fn destroy(&self) -> bool {
        let bury = {
            let mut now = self.lock();
            self.wish.settle(());
            std::mem::take(&mut now.failed)
        };
        self.own.destroyed();
        bury
    }

    /// Its launch has failed. True if it is to be buried at once: somebody has destroyed it meanwhile.
    #[must_use]
    pub fn fail(&self) -> bool {
        let mut now = self.lock();
        now.failed = !self.is_destroyed();
        !now.failed
    }

    /// Moves it on, and says from where. None if it is there, or further.
    pub fn go(&self, to: Phase) -> Option<Phase> {
        let mut now = self.lock();
        let ends = |phase| matches!(phase, Phase::Destroying | Phase::Terminated);
        let back = ends(now.phase) && !(now.phase == Phase::Destroying && to == Phase::Terminated);
        (now.phase != to && !back).then(|| std::mem::replace(&mut now.phase, to))
    }

    /// A removal, and whether it is the caller's to make.
    ///
    /// # Errors
    /// It has not ended.
    pub fn removing(&self) -> Result<(Settled<Result<(), Error>>, bool), Error> {
        let mut now = self.lock();
        if now.phase != Phase::Terminated {
            return Err(Error::NotTerminated);
        }
        let ours = now.removing.is_none();
        Ok((now.removing.get_or_insert_default().clone(), ours))
    }

    /// Does something that a removal must not meet, unless there is one: what is written beside it would outlive the record.
    pub fn unless_removed<T>(&self, note: impl FnOnce() -> T) -> Option<T> {
        let now = self.lock();
        now.removing.is_none().then(note)
    }

    /// The removal did not succeed.
    pub fn kept(&self) {
        self.lock().removing = None;
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Nothing panics half-way through a change.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the order of a container's updates, until it is dropped.
#[derive(Debug)]
pub struct Turn<K: Kind> {
    /// The container.
    pub entry: Arc<Entry<K>>,
    before: Option<Settled<()>>,
    done: Settled<()>,
}

impl<K: Kind> Turn<K> {
    /// The next one.
    ///
    /// # Errors
    /// Too many wait.
    pub fn of(entry: Arc<Entry<K>>) -> Result<Turn<K>, Error> {
        let done = Settled::new();
        let before = {
            let mut now = entry.lock();
            if now.updates == UPDATES {
                let why =
                    format!("{UPDATES} updates of this container wait already: try again when they are done");
                return Err(Error::other(Class::Exhausted, why));
            }
            now.updates += 1;
            now.update.replace(done.clone())
        };
        Ok(Turn { entry, before, done })
    }

    /// Waits for those before it.
    pub async fn comes(&self) {
        if let Some(before) = &self.before {
            before.wait().await;
        }
    }
}

impl<K: Kind> Drop for Turn<K> {
    fn drop(&mut self) {
        self.done.settle(());
        let mut now = self.entry.lock();
        now.updates -= 1;
        if now.updates == 0 {
            now.update = None;
        }
    }
}
