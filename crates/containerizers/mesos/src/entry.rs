// SPDX-License-Identifier: Apache-2.0
//! What is known of one container: the state that its owner publishes, the answers that everybody shares, and the
//! inbox through which the owner is told things.
//!
//! ```text
//! callers ── wish (destroy, leave), update ──> inbox ──> owner
//! callers <── published state, launched, ended ─────────── owner (the only writer)
//! ```

use berth_cgroup::Limits;
use berth_contract::{Error, EventLog, LaunchResult, Phase, Settled, What};
use berth_images::Cancel;
use berth_model::{
    Class, ContainerConfig, ContainerId, ContainerTermination, Denied, NativeEvent, NativeState, Resources,
};
use berth_sys::rustix::event::{EventfdFlags, eventfd};
use berth_sys::rustix::io;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How the end of a container is answered, to all who wait.
pub(crate) type End = Result<Option<ContainerTermination>, Error>;

/// One container.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: ContainerId,
    /// Its sandbox on the host.
    pub(crate) sandbox: PathBuf,
    /// How its launch ended.
    pub(crate) launched: Settled<Result<LaunchResult, Error>>,
    /// How it ended.
    pub(crate) ended: Settled<End>,
    pub(crate) inbox: Inbox,
    /// It is a command in a container, and none of its own.
    pub(crate) session: bool,
    now: Mutex<Now>,
    gate: Mutex<()>,
}

/// What the owner publishes.
#[derive(Debug, Clone)]
pub(crate) struct Now {
    pub(crate) state: NativeState,
    /// Nothing is left of it but its record.
    pub(crate) terminated: bool,
    /// Its end was seen, and left what is kept and nothing else.
    pub(crate) cleaned: bool,
    /// Since when.
    pub(crate) ended_at: Option<Instant>,
    /// All its processes are stopped.
    pub(crate) paused: bool,
    /// Its launch failed, and somebody has to destroy it.
    pub(crate) failed: bool,
    /// The state in which it was destroyed, or ended.
    pub(crate) until: Option<NativeState>,
    /// Somebody takes its record away, and this is how that ends.
    removing: Option<Settled<Result<(), Error>>>,
    pub(crate) process: Option<Process>,
}

/// A container's first process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: Arc<OwnedFd>,
}

impl Now {
    /// The state as it is told.
    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            NativeState::Running if self.paused => Phase::Paused,
            state => state.into(),
        }
    }
}

impl Entry {
    /// A container in the state that it has now; its owner is to come.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn new(id: ContainerId, sandbox: PathBuf, state: NativeState) -> Result<Entry, Error> {
        Ok(Entry::with(id, sandbox, state, Inbox::open()?))
    }

    /// The same for a session.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn session(id: ContainerId, state: NativeState) -> Result<Entry, Error> {
        Ok(Entry { session: true, ..Entry::new(id, PathBuf::new(), state)? })
    }

    /// A container that has ended.
    pub(crate) fn ended(id: ContainerId, sandbox: PathBuf, termination: ContainerTermination) -> Entry {
        let entry = Entry::with(id, sandbox, NativeState::Destroying, Inbox::closed());
        {
            let mut now = entry.lock();
            (now.terminated, now.ended_at) = (true, Some(Instant::now()));
        }
        entry.launched.settle(Ok(LaunchResult::Success));
        entry.ended.settle(Ok(Some(termination)));
        entry
    }

    fn with(id: ContainerId, sandbox: PathBuf, state: NativeState, inbox: Inbox) -> Entry {
        let now = Now {
            state,
            terminated: false,
            cleaned: false,
            paused: false,
            ended_at: None,
            failed: false,
            until: None,
            removing: None,
            process: None,
        };
        let (launched, ended) = (Settled::new(), Settled::new());
        let (now, gate) = (Mutex::new(now), Mutex::new(()));
        Entry { id, sandbox, launched, ended, inbox, session: false, now, gate }
    }

    /// What is published.
    pub(crate) fn now(&self) -> Now {
        self.lock().clone()
    }

    /// Held by whoever stops the container, or lets it go on.
    pub(crate) fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All processes were stopped, or let go on. The caller holds the gate.
    pub(crate) fn paused(&self, events: &EventLog, paused: bool) {
        let (from, to) = {
            let mut now = self.lock();
            let from = now.phase();
            now.paused = paused;
            (from, now.phase())
        };
        if from != to {
            events.publish(&self.id, What::Moved { from, to });
        }
    }

    /// The removal of an ended container, and whether it is now the caller's to do.
    ///
    /// # Errors
    /// It has not ended.
    pub(crate) fn claim_removal(&self) -> Result<(Settled<Result<(), Error>>, bool), Error> {
        let mut now = self.lock();
        if !now.terminated {
            return Err(match self.id.is_nested() {
                true => Error::NestedNotTerminated,
                false => Error::NotTerminated,
            });
        }
        let ours = now.removing.is_none();
        Ok((now.removing.get_or_insert_default().clone(), ours))
    }

    /// Gives up a removal that did not succeed.
    pub(crate) fn disclaim_removal(&self) {
        self.lock().removing = None;
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner's calls: nobody else changes the state.
impl Entry {
    /// Moves on, and tells everyone.
    ///
    /// # Errors
    /// The event does not belong to the state.
    pub(crate) fn step(&self, events: &EventLog, event: NativeEvent) -> Result<(), Denied> {
        let (from, to) = {
            let mut now = self.lock();
            let (phase, from) = (now.phase(), now.state);
            now.state = from.next(event)?;
            if now.state == NativeState::Destroying && now.until.is_none() {
                now.until = Some(from);
            }
            (phase, now.phase())
        };
        if from != to {
            events.publish(&self.id, What::Moved { from, to });
        }
        Ok(())
    }

    /// There is a process.
    pub(crate) fn runs(&self, process: Process) {
        self.lock().process = Some(process);
    }

    /// The launch did not succeed; who waits for it is to be told next.
    pub(crate) fn failed(&self, events: &EventLog, error: &Error) {
        self.lock().failed = true;
        events.publish(&self.id, What::LaunchFailed(error.to_string()));
    }

    /// Nothing is left but the record; who waits is to be told next.
    pub(crate) fn terminated(&self, events: &EventLog, termination: &ContainerTermination) {
        let from = {
            let mut now = self.lock();
            (now.terminated, now.ended_at) = (true, Some(Instant::now()));
            now.process = None;
            now.state
        };
        events.publish(&self.id, What::Moved { from: from.into(), to: Phase::Terminated });
        events.publish(&self.id, What::Ended(termination.clone()));
    }

    /// All that is to go at an end is gone.
    pub(crate) fn cleaned(&self) {
        self.lock().cleaned = true;
    }

    /// The process has ended, and its pid belongs to nobody.
    pub(crate) fn lost(&self) {
        self.lock().process = None;
    }
}

/// New limits, and who waits for them.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) limits: Limits,
    /// As they were asked for.
    pub(crate) asked: (Resources, berth_contract::Limits),
    pub(crate) answer: Settled<Result<(), Error>>,
}

/// What the owner is told to do with the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Somebody destroys it.
    pub(crate) destroy: bool,
    /// The containerizer goes, and the container stays as it is.
    pub(crate) leave: bool,
}

/// The way to the owner.
#[derive(Debug)]
pub(crate) struct Inbox {
    letters: Mutex<Letters>,
    /// Said with each wish: ends the pull of an image, during which nobody looks into the inbox.
    cancel: Cancel,
}

#[derive(Debug)]
struct Letters {
    wishes: Wishes,
    updates: VecDeque<Update>,
    /// Readable when there is something; none once the owner has gone.
    bell: Option<Arc<OwnedFd>>,
}

/// More updates than this do not wait for one container: each is the whole truth, so its asker can as well try again.
const UPDATES: usize = 64;

impl Inbox {
    fn open() -> Result<Inbox, Error> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| {
            let e = std::io::Error::from(e);
            Error::because(Class::of_io(&e), "make an event descriptor for the container's owner", e)
        })?;
        Ok(Inbox::with(Some(Arc::new(bell))))
    }

    fn closed() -> Inbox {
        Inbox::with(None)
    }

    fn with(bell: Option<Arc<OwnedFd>>) -> Inbox {
        let wishes = Wishes { destroy: false, leave: false };
        let letters = Mutex::new(Letters { wishes, updates: VecDeque::new(), bell });
        Inbox { letters, cancel: Cancel::new() }
    }

    /// Asks for the container's end.
    pub(crate) fn destroy(&self) {
        self.tell(|letters| letters.wishes.destroy = true);
        self.cancel.cancel();
    }

    /// Asks the owner to leave the container alone.
    pub(crate) fn leave(&self) {
        self.tell(|letters| letters.wishes.leave = true);
        self.cancel.cancel();
    }

    /// Said with the first wish.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Hands in an update; its answer. Where no owner is, there is nothing to limit.
    pub(crate) fn update(
        &self,
        limits: Limits,
        asked: (Resources, berth_contract::Limits),
    ) -> Settled<Result<(), Error>> {
        let answer = Settled::new();
        let mut letters = self.lock();
        let Some(bell) = letters.bell.clone() else {
            answer.settle(Ok(()));
            return answer;
        };
        if letters.updates.len() == UPDATES {
            let why =
                format!("{UPDATES} updates of this container wait already: try again when they are done");
            answer.settle(Err(Error::other(Class::Exhausted, why)));
            return answer;
        }
        letters.updates.push_back(Update { limits, asked, answer: answer.clone() });
        ring(&bell);
        answer
    }

    fn tell(&self, change: impl FnOnce(&mut Letters)) {
        let mut letters = self.lock();
        change(&mut letters);
        if let Some(bell) = &letters.bell {
            ring(bell);
        }
    }

    /// What is wished for, now.
    pub(crate) fn wishes(&self) -> Wishes {
        self.lock().wishes
    }

    /// What becomes readable when there is something new.
    pub(crate) fn bell(&self) -> Option<Arc<OwnedFd>> {
        self.lock().bell.clone()
    }

    /// Takes what has come since the last look.
    pub(crate) fn take(&self) -> (Wishes, VecDeque<Update>) {
        let mut letters = self.lock();
        if let Some(bell) = &letters.bell {
            let _ = io::read(&**bell, &mut [0u8; 8]);
        }
        (letters.wishes, std::mem::take(&mut letters.updates))
    }

    /// The owner goes. Updates that nobody looked at came too late, which is no error.
    pub(crate) fn close(&self) {
        let updates = {
            let mut letters = self.lock();
            letters.bell = None;
            std::mem::take(&mut letters.updates)
        };
        for update in updates {
            update.answer.settle(Ok(()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An eventfd that is full is readable as well.
fn ring(bell: &OwnedFd) {
    let _ = io::write(bell, &1u64.to_ne_bytes());
}

/// Whether a configuration is of an executor: those are the agent's, and end when it does not know them.
pub(crate) fn is_executors(config: &ContainerConfig) -> bool {
    config.executor_info.is_some() || config.task_info.is_some()
}
