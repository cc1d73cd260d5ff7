// SPDX-License-Identifier: Apache-2.0
//! Carries out what the core decides.
//!
//! ```text
//! master, executors, timers, containers ──Input──> inbox ──> one thread: core.handle ──Effect, one after another──┐
//!       ^                                                                                                         │
//!       └─── what takes time: a task of its own each, that ends by another Input <────────────────────────────────┘
//! ```
//!
//! Records are written on that thread, so nothing that follows from one is done before it is there. A disk that can
//! not be written holds everything up until it can: what is not written down is not promised to anybody.

pub(crate) mod executors;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_contract::{AgentState, KnownRun, Settled};
use berth_model::{CommandInfo, ContainerId, ContainerTermination};
use berth_proto::agent::response::GetState;
use berth_proto::executor::{Call, Event};
use berth_proto::v1;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::built_in::{BuiltIn, Start};
use crate::contain::Containing;
use crate::core::{At, Core, Effect, FrameworkView, Input, Kind, NotLaunched, Settings, World, Write};
use crate::environment::Surroundings;
use crate::launch;
use crate::link::{AgentSide, Held, Master, Run};
use crate::store::{Error, Store};

/// How long a disk that can not be written is left alone.
const AGAIN: Duration = Duration::from_secs(1);
/// Calls of all executors that the core has before it.
const BEFORE_IT: usize = 1024;

/// What an engine is made of.
pub struct Parts {
    /// The agent; its id is the engine's to set.
    pub agent: v1::AgentInfo,
    /// What the operator has set.
    pub settings: Settings,
    /// The executor of commands.
    pub commands: Arc<dyn BuiltIn>,
    /// The executor of groups.
    pub groups: Arc<dyn BuiltIn>,
    /// What holds the container of a group.
    pub group_command: CommandInfo,
}

/// Frameworks, executors and tasks of one agent.
pub struct Engine {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    core: Mutex<Core>,
    agent: v1::AgentInfo,
    store: Store,
    inbox: Sender<Option<Input>>,
    outbox: Mutex<Option<Receiver<Option<Input>>>>,
    master: Mutex<Option<Arc<dyn Master>>>,
    links: Mutex<Links>,
    parts: Parts,
    /// Set when the engine begins.
    world: Mutex<Option<Surrounded>>,
    stop: watch::Sender<bool>,
    alive: Mutex<Option<mpsc::Sender<Infallible>>>,
    gone: tokio::sync::Mutex<mpsc::Receiver<Infallible>>,
    /// Room for calls before the core.
    room: Semaphore,
}

/// What is there once the agent is.
#[derive(Clone)]
struct Surrounded {
    containing: Arc<dyn Containing>,
    surroundings: Arc<Surroundings>,
    runtime: Handle,
}

/// Where executors listen.
#[derive(Default)]
struct Links {
    /// Of each run; with the number of its stream.
    live: BTreeMap<At, Link>,
    /// Streams that the core has not heard of yet.
    coming: BTreeMap<u64, mpsc::Sender<Event>>,
    last: u64,
    /// The ends of containers of built-in executors.
    ends: BTreeMap<At, Settled<Option<ContainerTermination>>>,
    /// Where calls of each run are put in order.
    calls: BTreeMap<At, mpsc::Sender<Call>>,
    /// Runs whose records could not be written, before they are launched.
    unwritten: BTreeMap<At, String>,
}

enum Link {
    /// Within the agent.
    BuiltIn(mpsc::UnboundedSender<Box<Event>>),
    /// Whoever is at the other end may not read.
    Stream(mpsc::Sender<Event>),
}

impl Link {
    /// Whether it could be told, or has ended by itself.
    fn tell(&self, event: Event) -> bool {
        match self {
            Link::BuiltIn(events) => drop(events.send(Box::new(event))),
            Link::Stream(events) => {
                return !matches!(events.try_send(event), Err(mpsc::error::TrySendError::Full(_)));
            }
        }
        true
    }
}

struct Clock;

impl World for Clock {
    fn uuid(&mut self) -> [u8; 16] {
        crate::uuid::random()
    }

    fn now(&self) -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}

impl Engine {
    /// Opens the records, or makes the first. Nothing is looked at yet.
    ///
    /// # Errors
    /// The disk.
    pub fn open(work_dir: &Path, mut parts: Parts) -> Result<Engine, Error> {
        let store = Store::open(work_dir)?;
        parts.agent.id = Some(v1::AgentId { value: store.id().to_owned() });
        let agent = parts.agent.clone();
        let core = Mutex::new(Core::new(agent.clone(), parts.settings.clone(), Box::new(Clock)));
        let (inbox, outbox) = channel();
        let (alive, gone) = mpsc::channel(1);
        let shared = Shared {
            core,
            agent,
            store,
            inbox,
            outbox: Mutex::new(Some(outbox)),
            master: Mutex::default(),
            links: Mutex::default(),
            parts,
            world: Mutex::default(),
            stop: watch::channel(false).0,
            alive: Mutex::new(Some(alive)),
            gone: tokio::sync::Mutex::new(gone),
            room: Semaphore::new(BEFORE_IT),
        };
        Ok(Engine { shared: Arc::new(shared), worker: Mutex::default() })
    }

    /// Reads what was there; what the containerizer is to know of it. Blocks.
    ///
    /// # Errors
    /// The disk. What is torn or missing is none.
    pub fn read(&self) -> Result<AgentState, Error> {
        let found = self.shared.store.read()?;
        let mut runs = Vec::new();
        for executor in
            found.iter().flat_map(|framework| &framework.executors).filter(|executor| !executor.over)
        {
            runs.push(KnownRun {
                id: executor.at.container.clone(),
                executor: launch::executor_of(&executor.info).ok(),
                container: None,
                directory: self.shared.store.sandbox_link(&executor.at),
                pid: None,
                completed: false,
            });
        }
        let effects = lock(&self.shared.core).recover(found);
        // Carried out when the engine begins.
        for effect in effects {
            if let Effect::Look(at) = effect {
                let _ = self.shared.inbox.send(Some(Input::Looked { at, exists: false }));
            } else if let Effect::Write(write) = &effect
                && let Err(error) = self.shared.store.write(write)
            {
                tracing::warn!("left of a task: {}", error.chain());
            } else if let Effect::After(..) = effect {
                // Of a framework that was being ended: its executors are ended at once.
            }
        }
        Ok(AgentState { runs })
    }

    /// Begins: the containers are taken over. Needs a runtime of tokio.
    pub fn begin(&self, containing: Arc<dyn Containing>, surroundings: Surroundings) {
        let surroundings = Arc::new(surroundings);
        let world = Surrounded { containing, surroundings, runtime: Handle::current() };
        *lock(&self.shared.world) = Some(world.clone());
        let Some(outbox) = lock(&self.shared.outbox).take() else { return };
        let shared = Arc::clone(&self.shared);
        let _ = self.shared.inbox.send(Some(Input::Recovered));
        let worker = std::thread::Builder::new().name("tasks".to_owned()).spawn(move || {
            while let Ok(Some(input)) = outbox.recv() {
                let input = match input {
                    // It was read before anybody could be asked.
                    Input::Looked { at, .. } => {
                        let exists = world.containing.exists(&at.container);
                        if exists {
                            shared.watch(&world, &at);
                        }
                        Input::Looked { at, exists }
                    }
                    input => input,
                };
                let was_called = matches!(input, Input::Called { .. });
                let effects = lock(&shared.core).handle(input);
                for effect in effects {
                    shared.carry_out(&world, effect);
                }
                if was_called {
                    shared.room.add_permits(1);
                }
            }
        });
        match worker {
            Ok(worker) => *lock(&self.worker) = Some(worker),
            Err(error) => tracing::error!(%error, "no thread for tasks: none can be run"),
        }
    }

    /// Stops at once; everything goes on that runs. Blocks for a moment.
    pub async fn stop(&self) {
        self.shared.stop.send_replace(true);
        let _ = self.shared.inbox.send(None);
        lock(&self.shared.alive).take();
        self.shared.gone.lock().await.recv().await;
        let worker = lock(&self.worker).take();
        if let Some(worker) = worker {
            let _ = tokio::task::spawn_blocking(move || worker.join()).await;
        }
        *lock(&self.shared.master) = None;
        *lock(&self.shared.world) = None;
        *lock(&self.shared.links) = Links::default();
    }

    /// The agent, as a master sees it.
    pub fn agent_side(&self) -> Arc<dyn AgentSide> {
        Arc::clone(&self.shared) as Arc<dyn AgentSide>
    }

    /// The agent's id.
    pub fn id(&self) -> &str {
        self.shared.store.id()
    }

    /// The answer to GET_STATE.
    pub fn state(&self) -> GetState {
        lock(&self.shared.core).state()
    }

    /// Everything, each with what belongs to it.
    pub fn tree(&self) -> Vec<FrameworkView> {
        lock(&self.shared.core).tree()
    }

    /// What is counted, by the names of Mesos's metrics without `slave/`.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        lock(&self.shared.core).metrics()
    }

    /// Whose container this is: of which framework, and of which executor, with its name.
    pub fn owner(&self, container: &ContainerId) -> Option<(v1::FrameworkId, v1::ExecutorInfo)> {
        let core = lock(&self.shared.core);
        let all = core.frameworks.values().chain(&core.completed);
        let executors = all.flat_map(|framework| framework.executors.values().chain(&framework.completed));
        let mut found = executors.filter(|executor| executor.at.container == *container);
        let executor = found.next()?;
        Some((v1::FrameworkId { value: executor.at.framework.clone() }, executor.info.clone()))
    }

    /// The container of the newest run of an executor.
    pub fn container(&self, framework: &str, executor: &str) -> Option<ContainerId> {
        let core = lock(&self.shared.core);
        if let Some(executor) = core.executor(framework, executor) {
            return Some(executor.at.container.clone());
        }
        let all = core.frameworks.get(framework).into_iter();
        let over = core
            .completed
            .iter()
            .filter(|over| over.info.id.as_ref().is_some_and(|id| id.value == framework));
        let runs = all.chain(over).flat_map(|framework| framework.completed.iter().rev());
        runs.filter(|run| run.at.executor == executor).map(|run| run.at.container.clone()).next()
    }
}

impl Shared {
    fn send(&self, input: Input) {
        let _ = self.inbox.send(Some(input));
    }

    /// Runs it to its end or the engine's.
    fn spawn(&self, runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
        let Some(alive) = lock(&self.alive).clone() else { return };
        let mut stop = self.stop.subscribe();
        runtime.spawn(async move {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => {}
                () = work => {}
            }
            drop(alive);
        });
    }

    /// Hears of the end of a container.
    fn watch(self: &Arc<Shared>, world: &Surrounded, at: &At) {
        let (containing, weak, at) = (Arc::clone(&world.containing), Arc::downgrade(self), at.clone());
        self.spawn(&world.runtime, async move {
            let termination = containing.wait(at.container.clone()).await;
            if let Some(shared) = weak.upgrade() {
                shared.send(Input::Ended { at, termination });
            }
        });
    }

    fn carry_out(self: &Arc<Shared>, world: &Surrounded, effect: Effect) {
        match effect {
            Effect::Write(write) => {
                self.write(&write);
                if let crate::core::Write::Over(at) = &write
                    && let Some((framework, executor)) = lock(&self.core).completed_run(at)
                {
                    let _runtime = world.runtime.enter();
                    world.containing.over(framework, executor, at.container.clone());
                }
            }
            Effect::Launch(launch) => self.launch(world, *launch),
            Effect::Limit { at, resources, limits } => {
                let (containing, weak) = (Arc::clone(&world.containing), Arc::downgrade(self));
                self.spawn(&world.runtime, async move {
                    let result = containing.limit(at.container.clone(), resources, limits).await;
                    if let Some(shared) = weak.upgrade() {
                        shared.send(Input::Limited { at, result });
                    }
                });
            }
            Effect::Destroy(at) => {
                let containing = Arc::clone(&world.containing);
                self.spawn(&world.runtime, async move { containing.destroy(at.container).await });
            }
            Effect::Look(at) => self.send(Input::Looked { at, exists: false }),
            Effect::Start { at, kind, executor, recovered } => {
                self.start(world, at, kind, *executor, recovered)
            }
            Effect::Link { at, link } => {
                let mut links = lock(&self.links);
                if let Some(events) = links.coming.remove(&link) {
                    // The one before is closed by this.
                    links.live.insert(at, Link::Stream(events));
                }
            }
            Effect::Unlink(at) => {
                let mut links = lock(&self.links);
                if matches!(links.live.get(&at), Some(Link::Stream(_))) {
                    links.live.remove(&at);
                    links.calls.remove(&at);
                }
            }
            Effect::Tell { at, event } => {
                let mut links = lock(&self.links);
                if links.live.get(&at).is_some_and(|link| !link.tell(*event)) {
                    tracing::warn!(container = %at.container, "an executor does not read: its stream is closed");
                    // Its end of the stream tells the core.
                    links.live.remove(&at);
                }
            }
            Effect::Settle { at, termination } => {
                if let Some(ended) = lock(&self.links).ends.get(&at) {
                    ended.settle(termination);
                }
            }
            Effect::After(time, timer) => {
                let weak = Arc::downgrade(self);
                self.spawn(&world.runtime, async move {
                    tokio::time::sleep(time).await;
                    if let Some(shared) = weak.upgrade() {
                        shared.send(Input::Timer(timer));
                    }
                });
            }
            Effect::Report(update) => self.to_master(|master| master.update(*update)),
            Effect::Say { framework, executor, data } => {
                self.to_master(|master| master.message(&framework, &executor, data));
            }
            Effect::Exited { framework, executor, status } => {
                self.to_master(|master| master.executor_exited(&framework, &executor, status));
            }
        }
    }

    fn to_master(&self, tell: impl FnOnce(&dyn Master)) {
        // Not under the lock: it may ask back.
        let master = lock(&self.master).clone();
        if let Some(master) = master {
            tell(&*master);
        }
    }

    /// Writes a record. What is not launched yet can still be refused; all else waits for the disk.
    fn write(&self, write: &Write) {
        let mut told = false;
        while let Err(error) = self.store.write(write) {
            match write {
                Write::Executor { at, .. } | Write::Task { at, .. }
                    if !lock(&self.links).live.contains_key(at) =>
                {
                    lock(&self.links).unwritten.insert(at.clone(), error.chain());
                    return;
                }
                Write::ForgetExecutor(_) | Write::ForgetFramework(_) | Write::ForgetRefused { .. } => {
                    return tracing::warn!("left of a task: {}", error.chain());
                }
                _ => {}
            }
            if !std::mem::replace(&mut told, true) {
                let why = error.chain();
                tracing::error!(why, "tasks stand still: free space or mend the disk of --work_dir");
            }
            if *self.stop.borrow() {
                return;
            }
            std::thread::sleep(AGAIN);
        }
        if told {
            tracing::info!("tasks go on");
        }
    }

    fn launch(self: &Arc<Shared>, world: &Surrounded, asked: crate::core::Launch) {
        let at = asked.at.clone();
        let sandbox = world.containing.sandbox(&at.container);
        let unwritten = lock(&self.links).unwritten.remove(&at);
        let placed = match unwritten {
            Some(why) => Err(why),
            None => self.store.link_sandbox(&at, &sandbox).map_err(|error| error.chain()),
        };
        if let Err(why) = placed {
            let directory = self.store.sandbox_link(&at);
            let why = format!("Failed to create executor directory '{}': {why}", directory.display());
            self.send(Input::Launched { at: at.clone(), result: Err(NotLaunched::NoPlace(why)) });
            let termination = Some(ContainerTermination::default());
            return self.send(Input::Ended { at, termination });
        }
        let directory = self.store.sandbox_link(&at);
        let surroundings = Arc::clone(&world.surroundings);
        let (containing, weak, own) = (Arc::clone(&world.containing), Arc::downgrade(self), world.clone());
        let (agent, group_command) = (self.agent.clone(), self.parts.group_command.clone());
        self.spawn(&world.runtime, async move {
            let made = launch::launch(&asked, &surroundings, &agent, &group_command, &directory);
            let result = match made {
                Ok(launch) => containing.launch(launch).await,
                Err(why) => Err(why),
            };
            let Some(shared) = weak.upgrade() else { return };
            let ended = match &result {
                Ok(true) => None,
                // Nobody knows a container of this name.
                Ok(false) => Some(None),
                Err(_) => Some(Some(ContainerTermination::default())),
            };
            shared.send(Input::Launched { at: at.clone(), result: result.map_err(NotLaunched::Failed) });
            match ended {
                None => shared.watch(&own, &at),
                Some(termination) => shared.send(Input::Ended { at, termination }),
            }
        });
    }

    fn start(
        self: &Arc<Shared>,
        world: &Surrounded,
        at: At,
        kind: Kind,
        executor: v1::ExecutorInfo,
        recovered: Vec<crate::built_in::Recovered>,
    ) {
        let (events, hears) = mpsc::unbounded_channel();
        let (calls, mut says) = mpsc::unbounded_channel();
        let ended = Settled::new();
        {
            let mut links = lock(&self.links);
            links.live.insert(at.clone(), Link::BuiltIn(events));
            links.ends.insert(at.clone(), ended.clone());
        }
        let framework =
            lock(&self.core).frameworks.get(&at.framework).map(|framework| framework.info.clone());
        let own = executor.shutdown_grace_period.as_ref();
        let grace = own.map(|own| Duration::from_nanos(own.nanoseconds.max(0).cast_unsigned()));
        let start = Start {
            shutdown_grace: grace.unwrap_or(self.parts.settings.shutdown_grace),
            executor,
            framework: framework.unwrap_or_default(),
            agent: self.agent.clone(),
            container: at.container.clone(),
            ended,
            events: hears,
            calls,
            containers: world.containing.containers(),
            records: self.store.records(&at),
            recovered,
        };
        let part = match kind {
            Kind::Command => &self.parts.commands,
            Kind::Group | Kind::Custom => &self.parts.groups,
        };
        let work = part.start(start);
        let (containing, weak) = (Arc::clone(&world.containing), Arc::downgrade(self));
        self.spawn(&world.runtime, async move {
            // On its own, so that its panic is its end and no more.
            let mut works = JoinSet::new();
            works.spawn(work);
            let over = async {
                if let Some(Err(error)) = works.join_next().await {
                    tracing::error!(%error, "a built-in executor failed; its tasks end with their container");
                }
            };
            // What it said until its end comes before its end.
            let heard = async {
                while let Some(call) = says.recv().await {
                    executors::pass_on(&weak, &*containing, &at, *call).await;
                }
            };
            tokio::join!(over, heard);
            let Some(shared) = weak.upgrade() else { return };
            {
                let mut links = lock(&shared.links);
                links.live.remove(&at);
                links.ends.remove(&at);
            }
            shared.send(Input::Over { at });
        });
    }
}

impl AgentSide for Shared {
    fn info(&self) -> v1::AgentInfo {
        self.agent.clone()
    }

    fn connect(&self, master: Arc<dyn Master>) -> Held {
        let held = lock(&self.core).held();
        *lock(&self.master) = Some(master);
        self.send(Input::Connected(true));
        held
    }

    fn disconnect(&self) {
        *lock(&self.master) = None;
        self.send(Input::Connected(false));
    }

    fn run(&self, run: Run) {
        self.send(Input::Run(Box::new(run)));
    }

    fn kill(&self, framework: &str, task: &str, policy: Option<v1::KillPolicy>) {
        self.send(Input::Kill { framework: framework.to_owned(), task: task.to_owned(), policy });
    }

    fn shutdown_executor(&self, framework: &str, executor: &str) {
        let (framework, executor) = (framework.to_owned(), executor.to_owned());
        self.send(Input::ShutdownExecutor { framework, executor });
    }

    fn shutdown_framework(&self, framework: &str) {
        self.send(Input::ShutdownFramework { framework: framework.to_owned() });
    }

    fn message(&self, framework: &str, executor: &str, data: Vec<u8>) {
        let (framework, executor) = (framework.to_owned(), executor.to_owned());
        self.send(Input::Message { framework, executor, data });
    }

    fn acknowledge(&self, framework: &str, task: &str, uuid: &[u8]) {
        let (framework, task) = (framework.to_owned(), task.to_owned());
        self.send(Input::Acknowledge { framework, task, uuid: uuid.to_vec() });
    }

    fn update_framework(&self, framework: v1::FrameworkInfo) {
        self.send(Input::UpdateFramework(Box::new(framework)));
    }
}

/// Nothing that holds one of these locks can panic half-way through a change.
fn lock<T>(inner: &Mutex<T>) -> MutexGuard<'_, T> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}
