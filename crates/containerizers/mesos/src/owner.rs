// SPDX-License-Identifier: Apache-2.0
//! The owner of one container, which launches it, or takes it over, and stays with it to its end. Nobody else changes its
//! state.
//!
//! ```text
//! launch ─> started ─> watch ─> end            what it does; each may be cut short by a destroy
//!    └─────────┴─> failed ─> (destroy) ─> gone
//! adopt ────────────> watch ─> end
//! ```
//! It is a thread of the pool as long as it has something to do, and a moment longer: many containers end soon. Then the
//! one [`Watcher`](crate::watcher::Watcher) waits in its place, and when something has come another thread goes on with
//! what it left ([`Parked`]). Never two at a time.

use crate::adopt::Adopted;
use crate::collect::chain;
use crate::containerizer;
use crate::entry::{Entry, Process, Update, Wishes};
use crate::fetch::WatchFetch;
use crate::live::{Ending, Live, Outcome};
use crate::nested;
use crate::pause;
use crate::provision;
use crate::record::{self, TERMINATION, Terminated};
use crate::request::{Request, RootSource, Watch};
use crate::session::Session;
use crate::shared::{Shared, warn};
use crate::watcher::Waits;
use crate::watching::Watching;
use berth_contract::{Advance, Attached, Error, LaunchResult, Phase, What, block_on_until};
use berth_launcher::{Event, Places};
use berth_model::{
    Class, ContainerLimitation, ContainerTermination, Denied, NativeEvent, NativeState, Resources, TaskState,
};
use berth_record::Sync;
use berth_sys::Errno;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What an owner begins with.
pub(crate) enum Job {
    /// A container to be.
    Launch(Box<Request>),
    /// A further process in a container, and where its streams go.
    Session { session: Box<Session>, handed: Handed },
}

/// Where the streams of a session are put until who asked for it takes them. When nobody does, they close.
#[derive(Clone, Default)]
pub(crate) struct Handed(Arc<Mutex<Option<Attached>>>);

impl Handed {
    pub(crate) fn put(&self, streams: Attached) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(streams);
    }

    pub(crate) fn take(&self) -> Option<Attached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How long a thread stays with a container that runs, before it leaves the waiting to the watcher.
const STAYS: Duration = Duration::from_millis(40);

/// How long what is in a container may take to end before it does.
const SESSIONS: Duration = Duration::from_secs(30);

/// How long nothing is told of a fetch after something was.
const TOLD: Duration = Duration::from_millis(300);

/// How many ended sessions of one container are remembered.
const REMEMBERED: usize = 32;

/// A container that exists, however we came to it.
enum Held {
    Launched(Box<Live>),
    Adopted(Box<Adopted>),
}

/// What an owner waits with.
enum Stage {
    /// A container that runs; it is to be forgotten when it has ended, if nobody knows it.
    Runs { held: Held, watching: Watching, forget: bool },
    /// Its launch failed for this reason, and somebody is to destroy it.
    Failed { why: String },
}

impl Stage {
    /// Has the isolators watch a container that stays; most that end soon cost nothing for it. A session is watched with its
    /// container.
    fn watch(&mut self, shared: &Shared, entry: &Entry) {
        if let Stage::Runs { held, watching, .. } = self
            && !watching.is_open()
            && !entry.session
        {
            *watching = Watching::open(&shared.native, &entry.id, held.places());
        }
    }
}

/// What has come of waiting.
enum Waited {
    /// The container ended.
    Ended(Ending),
    /// One whose launch failed was destroyed.
    Destroyed,
    /// The containerizer goes; the container stays.
    Left,
    /// Nothing, in the time that there was.
    Nothing,
}

/// Why the owner stops before the container's end is settled.
enum Stop {
    /// The containerizer goes; the container stays.
    Leave,
    /// The launch failed.
    Failed(crate::Error),
}

/// Begins. Whatever happens, who waits is answered; unless the containerizer goes, and nobody waits.
pub(crate) fn run(shared: &Arc<Shared>, entry: &Arc<Entry>, job: Job) {
    guarded(shared, entry, |owner| match job {
        Job::Launch(request) => owner.launch(*request),
        Job::Session { session, handed } => owner.session(*session, handed),
    });
}

/// Takes over a container that runs: nothing is to be done with it now.
///
/// # Errors
/// It can not be waited for.
pub(crate) fn adopt(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    adopted: Box<Adopted>,
    forget: bool,
) -> Result<(), Error> {
    entry.launched.settle(Ok(LaunchResult::Success));
    let mut stage = Stage::Runs { held: Held::Adopted(adopted), watching: Watching::default(), forget };
    stage.watch(shared, entry);
    match park(shared, entry, stage) {
        Ok(()) => Ok(()),
        Err(stage) => {
            let (own, entry) = (Arc::clone(shared), Arc::clone(entry));
            shared.thread(move || guarded(&own, &entry, |owner| owner.go_on(stage, STAYS)))
        }
    }
}

/// Does something as the owner, which goes when this ends, unless the watcher waits in its place.
fn guarded(shared: &Arc<Shared>, entry: &Arc<Entry>, work: impl FnOnce(&Owner<'_>) -> Goes) {
    let mut guard = Guard { entry, stays: false };
    guard.stays = matches!(work(&Owner { shared, entry }), Goes::NotYet);
}

/// Whether the owner has nothing to do any more.
enum Goes {
    Now,
    /// It is parked.
    NotYet,
}

/// Answers what a panic would leave open.
struct Guard<'a> {
    entry: &'a Entry,
    stays: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        self.entry.inbox.close();
        if std::thread::panicking() {
            let text = "the container's owner panicked; restart the agent to take the container over again";
            let error = Error::other(Class::Internal, text);
            self.entry.launched.settle(Err(error.clone()));
            self.entry.ended.settle(Err(error));
        }
    }
}

/// An owner that waits, and is no thread meanwhile.
struct Parked {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    bell: Option<Arc<OwnedFd>>,
    stage: Stage,
}

impl Waits for Parked {
    fn sources(&self) -> Vec<(BorrowedFd<'_>, epoll::EventFlags)> {
        let plain = |fd| (fd, epoll::EventFlags::IN);
        let mut all: Vec<_> = self.bell.as_deref().map(|bell| plain(bell.as_fd())).into_iter().collect();
        if let Stage::Runs { held, watching, .. } = &self.stage {
            let (first, second) = held.sources();
            all.extend([first].into_iter().chain(second).map(plain).chain(watching.sources()));
        }
        all
    }

    fn resume(self: Box<Self>) {
        let Parked { shared, entry, stage, bell } = *self;
        drop(bell);
        guarded(&shared, &entry, |owner| owner.go_on(stage, Duration::ZERO));
    }
}

/// Leaves the waiting to the watcher; gives it back when that can not.
fn park(shared: &Arc<Shared>, entry: &Arc<Entry>, stage: Stage) -> Result<(), Stage> {
    let bell = entry.inbox.bell();
    let parked = Parked { shared: Arc::clone(shared), entry: Arc::clone(entry), bell, stage };
    shared.watcher.park(Box::new(parked)).map_err(|parked| parked.stage)
}

struct Owner<'a> {
    shared: &'a Arc<Shared>,
    entry: &'a Arc<Entry>,
}

impl Owner<'_> {
    fn launch(&self, mut request: Request) -> Goes {
        // The first step of a new record is always allowed.
        let _ = self.entry.step(&self.shared.events, NativeEvent::Accepted);
        if let Err(e) = containerizer::supported(&request.config) {
            return self.failed(e);
        }
        let provision = self.shared.native.provision.as_ref();
        match provision::asked(provision, &request.config, self.entry.inbox.cancel()) {
            Ok(None) => {}
            Ok(Some(image)) => request.root = RootSource::Image(Box::new(image)),
            Err(e) => return self.failed(e),
        }
        match provision::volumes_asked(&self.shared.native, &request.config, self.entry.inbox.cancel()) {
            Ok(volumes) => request.volumes = volumes,
            Err(e) => return self.failed(e),
        }
        request.watch = Some(self.watch_launch());
        request.cancel = self.entry.inbox.cancel().clone();
        if !request.config.command_info.uris.is_empty() {
            request.fetching = Some(self.watch_fetch());
        }
        let mut live = match self.shared.native.launch(request, &mut |_| {}) {
            Ok(live) => live,
            Err(e) => return self.failed(e),
        };
        self.entry.runs(Process { pid: live.pid(), pidfd: live.shared_pidfd() });
        match self.started(&live) {
            Ok(()) => {
                live.runs();
                self.entry.launched.settle(Ok(LaunchResult::Success));
                self.stay(Held::Launched(Box::new(live)))
            }
            Err(Stop::Leave) => Goes::Now,
            Err(Stop::Failed(cause)) => {
                self.entry.lost();
                self.failed(self.abandoned(live, cause))
            }
        }
    }

    fn session(&self, mut session: Session, handed: Handed) -> Goes {
        let _ = self.entry.step(&self.shared.events, NativeEvent::Accepted);
        session.watch = Some(self.watch_launch());
        let failed = match self.shared.native.session(session) {
            Err(cause) => cause,
            Ok((mut live, streams)) => {
                self.entry.runs(Process { pid: live.pid(), pidfd: live.shared_pidfd() });
                match self.started(&live) {
                    Ok(()) => {
                        live.runs();
                        handed.put(streams);
                        drop(handed);
                        self.entry.launched.settle(Ok(LaunchResult::Success));
                        return self.stay(Held::Launched(Box::new(live)));
                    }
                    Err(Stop::Leave) => return Goes::Now,
                    Err(Stop::Failed(cause)) => {
                        self.entry.lost();
                        self.abandoned(live, cause)
                    }
                }
            }
        };
        let error = self.error_of(&failed);
        // Nothing is left of it, and nobody has to destroy it: when this is told, the id is free.
        self.entry.failed(&self.shared.events, &error);
        self.gone(&error.to_string());
        self.entry.launched.settle(Err(error));
        Goes::Now
    }

    /// Publishes the phases of a launch as they end, and ends the launch when somebody destroys it.
    fn watch_launch(&self) -> Watch {
        let (shared, entry) = (Arc::clone(self.shared), Arc::clone(self.entry));
        Watch(Box::new(move |event| {
            if entry.inbox.wishes().destroy {
                let _ = entry.step(&shared.events, NativeEvent::Destroy);
            }
            entry.step(&shared.events, event).map_err(|e| crate::Error::Destroyed(e.to_string()))
        }))
    }

    /// Publishes how far a fetch is, some times a second at most.
    fn watch_fetch(&self) -> WatchFetch {
        let (shared, entry) = (Arc::clone(self.shared), Arc::clone(self.entry));
        let last: Mutex<Option<(Instant, usize)>> = Mutex::new(None);
        WatchFetch(Box::new(move |now| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|(at, index)| index == now.index && at.elapsed() < TOLD) {
                return;
            }
            *last = Some((Instant::now(), now.index));
            let advance = Advance {
                what: now.uri.to_owned(),
                index: now.index,
                of: now.of,
                bytes: now.bytes,
                total: now.total,
                unpacking: now.unpacking,
            };
            shared.events.publish(&entry.id, What::Advanced(Box::new(advance)));
        }))
    }

    /// Waits until the program was executed, and all that was asked for is in force.
    fn started(&self, live: &Live) -> Result<(), Stop> {
        let events = &self.shared.events;
        let denied = |e: Denied| Stop::Failed(crate::Error::Destroyed(e.to_string()));
        loop {
            let waited = self.wait(live.supervisor().socket(), None, None, None);
            let told = waited.is_some_and(|([told, _], _)| told);
            let wishes = self.heed(live.places());
            if wishes.destroy {
                live.kill();
                pause::let_session_end(self.shared, self.entry);
                let _ = self.entry.step(events, NativeEvent::Destroy);
                return self.entry.step(events, NativeEvent::Isolated).map_err(denied);
            }
            if wishes.leave {
                return Err(Stop::Leave);
            }
            if !told {
                continue;
            }
            let event = live.supervisor().next();
            if matches!(event, Event::Running) {
                // With URIs that was told before they were fetched.
                if self.entry.now().state == NativeState::Isolating {
                    self.entry.step(events, NativeEvent::Isolated).map_err(denied)?;
                }
                return self.entry.step(events, NativeEvent::Fetched).map_err(denied);
            }
            if let Some(ending) = live.judge(event).map_err(Stop::Failed)? {
                return Err(Stop::Failed(ended_early(&ending)));
            }
        }
    }

    /// Applies the updates that have come; what else is wished.
    fn heed(&self, places: &Places) -> Wishes {
        let (wishes, updates) = self.entry.inbox.take();
        for update in updates {
            let updated = self.shared.groups.update(&places.cgroup, &update.limits);
            if updated.is_ok() && self.entry.id.is_nested() {
                self.note_limits(update.asked);
            }
            update.answer.settle(updated);
        }
        wishes
    }

    /// Writes down what a container within another was given: who lists them has no record of it. (Of one at the top the
    /// agent has.)
    fn note_limits(&self, (resources, limits): (Resources, berth_contract::Limits)) {
        let change = |record: &mut record::Record| {
            (record.config.resources, record.config.limits) = (resources, limits);
        };
        if let Err(error) = self.shared.native.rewrite(&self.entry.id.to_string(), change) {
            warn(&format!("the new limits of {} are in force, and are forgotten: {error}", self.entry.id));
        }
    }

    /// Ends what there is of a container whose launch failed.
    fn abandoned(&self, live: Live, cause: crate::Error) -> crate::Error {
        let undoing = live.abandon(&self.shared.native);
        match undoing.is_empty() {
            true => cause,
            false => crate::Error::Undo { cause: Box::new(cause), undoing },
        }
    }

    /// The launch failed: the record says so until somebody destroys it.
    fn failed(&self, cause: crate::Error) -> Goes {
        let error = self.error_of(&cause);
        let why = error.to_string();
        self.entry.failed(&self.shared.events, &error);
        self.entry.launched.settle(Err(error));
        self.go_on(Stage::Failed { why }, STAYS)
    }

    fn error_of(&self, cause: &crate::Error) -> Error {
        // A container that ends takes what was begun in it along, at any step: that is then why.
        if let Some(parent) = self.entry.id.parent() {
            match self.shared.get(parent).map(|container| container.now()) {
                None => return Error::ParentMissing(parent.clone()),
                Some(now) if nested::is_ending(&now) => return Error::ParentDestroying(parent.clone()),
                Some(_) => {}
            }
        }
        match (cause, self.entry.now().until) {
            (crate::Error::Destroyed(_), Some(state)) => Error::DestroyedDuring(Phase::from(state)),
            _ => Error::other(cause.class(), chain(cause)),
        }
    }

    /// Waits until a launch that failed is destroyed.
    fn wait_for_destroy(&self, until: Option<Instant>) -> Waited {
        loop {
            let (wishes, updates) = self.entry.inbox.take();
            settle_late(updates);
            if wishes.destroy {
                return Waited::Destroyed;
            }
            if wishes.leave {
                return Waited::Left;
            }
            let Some(bell) = self.entry.inbox.bell() else { return Waited::Left };
            if !wait(&mut [PollFd::new(&*bell, PollFlags::IN)], until) {
                return Waited::Nothing;
            }
        }
    }

    /// Somebody destroyed what never ran: its record goes too, and the id is free.
    fn gone(&self, why: &str) {
        let _ = self.entry.step(&self.shared.events, NativeEvent::Destroy);
        let termination = ContainerTermination {
            message: Some(format!("the launch did not succeed: {why}")),
            ..ContainerTermination::default()
        };
        self.entry.terminated(&self.shared.events, &termination);
        self.shared.forget(&self.entry.id);
        self.entry.inbox.close();
        self.shared.events.publish(&self.entry.id, What::Removed);
        self.entry.ended.settle(Ok(Some(termination)));
    }

    /// Stays with a running container to its end.
    fn stay(&self, held: Held) -> Goes {
        self.go_on(Stage::Runs { held, watching: Watching::default(), forget: false }, STAYS)
    }

    /// Waits, for so long on this thread, and does what is to be done then.
    fn go_on(&self, mut stage: Stage, stays: Duration) -> Goes {
        let mut until = Some(Instant::now() + stays);
        loop {
            let waited = match &mut stage {
                Stage::Runs { held, watching, .. } => self.watch(held, watching, until),
                Stage::Failed { .. } => self.wait_for_destroy(until),
            };
            if matches!(waited, Waited::Nothing) {
                stage.watch(self.shared, self.entry);
                match park(self.shared, self.entry, stage) {
                    Ok(()) => return Goes::NotYet,
                    // There is this thread at least.
                    Err(back) => (stage, until) = (back, None),
                }
                continue;
            }
            match stage {
                Stage::Runs { held, watching, forget } => {
                    if let Waited::Ended(ending) = waited {
                        self.end(held, &ending, watching.killed());
                    }
                    if forget {
                        self::forget(self.shared, self.entry);
                    }
                }
                Stage::Failed { why } => {
                    if matches!(waited, Waited::Destroyed) {
                        self.gone(&why);
                    }
                }
            }
            return Goes::Now;
        }
    }

    /// Waits for the end, and does meanwhile what is asked.
    fn watch(&self, held: &mut Held, watching: &mut Watching, until: Option<Instant>) -> Waited {
        loop {
            let (first, second) = held.sources();
            let Some((ready, heard)) = self.wait(first, second, Some(watching), until) else {
                return Waited::Nothing;
            };
            let wishes = self.heed(held.places());
            let isolators = &self.shared.native.isolators;
            if !heard.is_empty() {
                for met in watching.hear(isolators, &self.entry.id, held.places(), &heard) {
                    self.shared.events.publish(&self.entry.id, What::Limited(met));
                }
                if watching.killed().is_some() {
                    self.entry.inbox.destroy();
                }
            }
            if ready[0] {
                // Its supervisor has ended: it was killed, and does not die while it is stopped.
                pause::let_end(self.shared, self.entry, &held.places().cgroup);
            }
            if let Some(ending) = held.hear(ready) {
                return Waited::Ended(ending);
            }
            if wishes.destroy {
                // Nothing leaves DESTROYING, and a second time changes nothing.
                let _ = self.entry.step(&self.shared.events, NativeEvent::Destroy);
                self.kill(held.pidfd(), held.places());
            } else if wishes.leave {
                return Waited::Left;
            }
        }
    }

    /// Waits for one of two descriptors, for what isolators watch, or for the inbox; which of the two is readable, and which
    /// of the watched, none when none of them is. `None` when nothing was until then.
    fn wait(
        &self,
        first: BorrowedFd<'_>,
        second: Option<BorrowedFd<'_>>,
        watching: Option<&Watching>,
        until: Option<Instant>,
    ) -> Option<([bool; 2], Vec<bool>)> {
        let bell = self.entry.inbox.bell();
        let mut polled = Vec::with_capacity(3);
        polled.push(PollFd::from_borrowed_fd(first, PollFlags::IN));
        polled.extend(second.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        polled.extend(bell.as_deref().map(|bell: &OwnedFd| PollFd::new(bell, PollFlags::IN)));
        let further = polled.len();
        polled.extend(watching.into_iter().flat_map(Watching::polled));
        if !wait(&mut polled, until) {
            return None;
        }
        let ready = |polled: &PollFd<'_>| !polled.revents().is_empty();
        let heard = match polled[further..].iter().any(ready) {
            true => polled[further..].iter().map(ready).collect(),
            false => Vec::new(),
        };
        Some(([ready(&polled[0]), second.is_some() && ready(&polled[1])], heard))
    }

    /// The process ended: all that the container holds is released, and everybody told.
    fn end(&self, held: Held, ending: &Ending, killed: Option<&ContainerLimitation>) {
        let _ = self.entry.step(&self.shared.events, NativeEvent::Destroy);
        // It may have been stopped at the moment of its end.
        pause::let_end(self.shared, self.entry, &held.places().cgroup);
        self.end_inside();
        self.entry.lost();
        let mut termination = self.shared.groups.termination(&held.places().cgroup, ending);
        if let (Some(killed), None) = (killed, termination.reason) {
            // The group says nothing of the limit for which we ended it.
            termination.message.clone_from(&killed.message);
            (termination.reason, termination.state) = (killed.reason, Some(TaskState::Failed));
            termination.limited_resources = killed.resources.clone();
        }
        if termination.message.is_some() {
            // Without it the status is still told after a restart.
            let _ = self.keep(&termination);
        }
        let outcome = held.finish(self.shared, ending.clone());
        self.entry.inbox.close();
        self.shared.followers.end(&self.entry.id);
        if !outcome.left.is_empty() {
            self.entry.ended.settle(Err(Error::CleanUp(outcome.left.join("; "))));
            return;
        }
        self.entry.cleaned();
        self.entry.terminated(&self.shared.events, &termination);
        self.entry.ended.settle(Ok(Some(termination)));
        self.forget_oldest();
    }

    /// Kills the container, what is in it first; of a stopped one all are killed before they are let go on.
    fn kill(&self, first: BorrowedFd<'_>, places: &Places) {
        // It is being destroyed: once nobody is at the gate, nobody stops it any more.
        let stopped = {
            let _gate = self.entry.gate();
            self.entry.now().paused
        };
        if stopped {
            let _ = berth_sys::signal::send(first, 9);
            pause::let_end(self.shared, self.entry, &places.cgroup);
        }
        self.end_inside();
        let _ = berth_sys::signal::send(first, 9);
        pause::let_session_end(self.shared, self.entry);
    }

    /// Ends what runs in the container beside its own, and waits for it.
    fn end_inside(&self) {
        let sessions: Vec<_> =
            self.shared.inside(&self.entry.id).into_iter().filter(|entry| !entry.now().terminated).collect();
        for session in &sessions {
            session.inbox.destroy();
        }
        let deadline = Instant::now() + SESSIONS;
        for session in sessions {
            if block_on_until(session.ended.wait(), deadline).is_none() {
                warn(&format!(
                    "container {} has not ended {} s after it was killed",
                    session.id,
                    SESSIONS.as_secs()
                ));
            }
        }
    }

    /// Whoever runs a command in a container each second removes none of them.
    fn forget_oldest(&self) {
        let Some(parent) = self.entry.id.parent().filter(|_| self.entry.session) else { return };
        let ended =
            |entry: Arc<Entry>| Some((entry.now().ended_at?, entry)).filter(|(_, entry)| entry.session);
        let mut ended: Vec<_> = self.shared.inside(parent).into_iter().filter_map(ended).collect();
        ended.sort_by_key(|(at, _)| *at);
        let surplus = ended.len().saturating_sub(REMEMBERED);
        for (_, entry) in ended.into_iter().take(surplus) {
            forget(self.shared, &entry);
        }
    }

    /// Writes down what is to be said beside the status.
    fn keep(&self, termination: &ContainerTermination) -> crate::Result<()> {
        let Some(dir) = self.shared.native.existing(&self.entry.id.to_string())? else { return Ok(()) };
        let record = Terminated { termination: termination.clone() };
        berth_record::write(dir.as_fd(), TERMINATION, &record, Sync::No)
            .map_err(|source| crate::Error::Record { what: "write how the container ended", source })
    }
}

impl Held {
    fn pidfd(&self) -> BorrowedFd<'_> {
        match self {
            Held::Launched(live) => live.pidfd(),
            Held::Adopted(adopted) => adopted.pidfd(),
        }
    }

    fn places(&self) -> &Places {
        match self {
            Held::Launched(live) => live.places(),
            Held::Adopted(adopted) => adopted.places(),
        }
    }

    fn sources(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        match self {
            Held::Launched(live) => (live.supervisor().socket(), None),
            Held::Adopted(adopted) => adopted.sources(),
        }
    }

    /// Hears what the sources that are `ready` have to say.
    fn hear(&mut self, [first, second]: [bool; 2]) -> Option<Ending> {
        match self {
            Held::Launched(live) if first => match live.judge(live.supervisor().next()) {
                Ok(ending) => ending,
                // Nothing can fail after the program was executed.
                Err(e) => Some(Ending::Unknown(chain(&e))),
            },
            Held::Adopted(adopted) => {
                let told = if second { adopted.hear() } else { None };
                told.or_else(|| first.then(|| adopted.ended()))
            }
            Held::Launched(_) => None,
        }
    }

    fn finish(self, shared: &Shared, ending: Ending) -> Outcome {
        match self {
            Held::Launched(live) => live.finish(&shared.native, ending),
            Held::Adopted(adopted) => adopted.finish(&shared.native, ending),
        }
    }
}

/// Takes away what is left of an ended container that nobody knows, but its sandbox: that is the agent's.
fn forget(shared: &Shared, entry: &Entry) {
    // Not ended (the containerizer goes), or somebody removes it already.
    let Ok((removed, true)) = entry.claim_removal() else { return };
    let result = shared.remove(entry);
    match &result {
        Ok(()) => {
            shared.forget(&entry.id);
            shared.events.publish(&entry.id, What::Removed);
        }
        Err(e) => {
            warn(&format!("container {}: {e}", entry.id));
            entry.disclaim_removal();
        }
    }
    removed.settle(result);
}

/// A container that ended before its program was executed, and did not say why.
fn ended_early(ending: &Ending) -> crate::Error {
    let how = match ending {
        Ending::Status(status) => status.to_string(),
        Ending::Unknown(why) => why.clone(),
    };
    crate::Error::Early(how)
}

/// Updates of what does not run came too late, which is no error.
fn settle_late(updates: impl IntoIterator<Item = Update>) {
    for update in updates {
        update.answer.settle(Ok(()));
    }
}

/// Waits until one of them is readable; `false` when the time was over before.
fn wait(polled: &mut [PollFd<'_>], until: Option<Instant>) -> bool {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let time = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(polled, time.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(0) => return false,
            // Short of memory: looking again is all there is to do, and the caller does.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// What was written down of an end, when there was more to say than a status.
pub(crate) fn kept(dir: BorrowedFd<'_>) -> Option<ContainerTermination> {
    let kept = berth_record::read::<Terminated>(dir, TERMINATION, record::CAP).ok()?;
    Some(kept.termination)
}
