// SPDX-License-Identifier: Apache-2.0
//! One container as everybody sees it. Its owner, one thread, alone moves it on; others wish, and wait.
//!
//! ```text
//! PROVISIONING (template) ─▶ PREPARING (configuration) ─▶ ISOLATING (lxc-start) ─▶ RUNNING ─▶ DESTROYING ─▶ TERMINATED
//!      └──────────────────────────── failed, destroyed ───────────────────────────────────────▲
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_contract::{Error, LaunchResult, Phase, Settled};
use berth_model::{Class, ContainerId, ContainerTermination};
use berth_sys::rustix::event::{EventfdFlags, eventfd};

use crate::process::Init;
use crate::record::Record;

/// More updates than this do not wait for one container: each is the whole truth, so its asker can as well try again.
const UPDATES: usize = 64;

/// A container.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: ContainerId,
    /// What was asked.
    pub(crate) record: Record,
    pub(crate) launched: Settled<Result<LaunchResult, Error>>,
    pub(crate) ended: Settled<ContainerTermination>,
    now: Mutex<Now>,
    bell: Bell,
}

#[derive(Debug)]
struct Now {
    phase: Phase,
    /// The launch did not succeed, and nobody has destroyed it yet.
    failed: bool,
    destroy: bool,
    init: Option<Init>,
    /// The end of the last update, and how many there are.
    update: Option<Settled<()>>,
    updates: usize,
    removing: Option<Settled<Result<(), Error>>>,
}

/// What a thread that waits can be woken by, once: it stays readable.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> Result<Bell, Error> {
        match eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) {
            Ok(bell) => Ok(Bell(bell)),
            Err(errno) => {
                let error = std::io::Error::from(errno);
                Err(Error::because(Class::of_io(&error), "make an event descriptor", error))
            }
        }
    }

    pub(crate) fn ring(&self) {
        // One that is full is readable as well.
        let _ = berth_sys::rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Entry {
    /// One whose launch begins.
    pub(crate) fn launching(record: Record) -> Result<Entry, Error> {
        Entry::new(record.id.clone(), record, Phase::Provisioning)
    }

    /// One that an earlier agent launched.
    pub(crate) fn running(id: ContainerId, record: Record) -> Result<Entry, Error> {
        let entry = Entry::new(id, record, Phase::Running)?;
        entry.launched.settle(Ok(LaunchResult::Success));
        Ok(entry)
    }

    /// One that has ended.
    pub(crate) fn over(record: Record, termination: ContainerTermination) -> Result<Entry, Error> {
        let entry = Entry::new(record.id.clone(), record, Phase::Terminated)?;
        entry.launched.settle(Ok(LaunchResult::Success));
        entry.ended.settle(termination);
        Ok(entry)
    }

    fn new(id: ContainerId, record: Record, phase: Phase) -> Result<Entry, Error> {
        let now = Now {
            phase,
            failed: false,
            destroy: false,
            init: None,
            update: None,
            updates: 0,
            removing: None,
        };
        Ok(Entry {
            id,
            record,
            launched: Settled::new(),
            ended: Settled::new(),
            now: Mutex::new(now),
            bell: Bell::new()?,
        })
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

    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(crate) fn is_destroyed(&self) -> bool {
        self.lock().destroy
    }

    /// Wishes for its end; true for the one caller who has to bury it, because it has no owner any more.
    pub(crate) fn destroy(&self) -> bool {
        let mut now = self.lock();
        now.destroy = true;
        self.bell.ring();
        std::mem::take(&mut now.failed)
    }

    /// Its launch has failed. True if it is to be buried at once: somebody has destroyed it meanwhile.
    pub(crate) fn fail(&self) -> bool {
        let mut now = self.lock();
        now.failed = !now.destroy;
        now.destroy
    }

    /// Moves it on, and says from where. None if it is there.
    pub(crate) fn go(&self, to: Phase) -> Option<Phase> {
        let mut now = self.lock();
        (now.phase != to).then(|| std::mem::replace(&mut now.phase, to))
    }

    /// Its first process, once it exists.
    pub(crate) fn init(&self) -> Option<Init> {
        self.lock().init.clone()
    }

    /// Its first process exists.
    pub(crate) fn has_init(&self, init: Init) {
        self.lock().init = Some(init);
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
