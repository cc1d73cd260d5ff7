// SPDX-License-Identifier: Apache-2.0
//! The contract's calls.
//!
//! **Where we differ from Mesos**, beside what `options` and `owner` say: a known id is ALREADY_LAUNCHED; terminations are kept
//! until they are removed, and an agent that restarts knows its containers by its own records; signals are sent, and limits
//! may be lowered; the engine may be gone, or silent, at any time; and a task of the command executor is the container itself
//! (its command, its image): the agent has that executor built in, so nothing runs beside the container or around it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_contract::{
    AgentState, Answer, Attach, Containerizer, Error, EventLog, Exec, ExecRequest, ExecSession, LaunchResult,
    Limits, Pause, Phase, Settled, Subscription, Variables, What, ready,
};
use berth_keeper::{check_signal, end_of};
use berth_model::{
    Class, ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, ContainerType, Image,
    ResourceStatistics, Resources,
};
use berth_sys::rustix::io::Errno;
use tokio::runtime::Runtime;

use crate::engine::EngineError;
use crate::error::of_io;
use crate::kept::{Asked, Entry, Record, Shared, key, shared};
use crate::reaper::{self, Whose};
use crate::settings::Settings;
use crate::{exec, launch, measure, names, recover};

const SIGKILL: i32 = 9;
/// How long what blocks may take to end when the containerizer goes.
const LEAVING: Duration = Duration::from_secs(10);
/// How often an engine is asked whether it is there, that nobody asks anything else.
const PROBE: Duration = Duration::from_secs(5);

/// Containers of a Docker engine. Dropping it ends the questions that are under way and leaves the containers alone.
#[derive(Debug)]
pub struct Docker {
    shared: Arc<Shared>,
    /// None when it goes.
    runtime: Option<Runtime>,
}

impl Docker {
    /// Publishes what happens into `events`. The engine is not spoken to before `recover`, and need not be there then.
    ///
    /// # Errors
    /// There are no threads or descriptors left for it.
    pub fn new(settings: Settings, events: EventLog) -> Result<Docker, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("docker")
            .thread_stack_size(512 << 10)
            .enable_all()
            .build()
            .map_err(|error| of_io("make the threads of the Docker containerizer".to_owned(), error))?;
        let shared = Arc::new(shared(settings, events));
        Ok(Docker { shared, runtime: Some(runtime) })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(work);
        }
    }

    /// Work that goes on whoever waits for it; its answer.
    pub(crate) fn answer<T, W>(&self, work: impl FnOnce(Arc<Shared>) -> W) -> Answer<'static, T>
    where
        T: Clone + Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let answer = Settled::new();
        let (place, work) = (answer.clone(), work(Arc::clone(&self.shared)));
        self.spawn(async move { _ = place.settle(work.await) });
        Box::pin(answer.wait())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // A runtime may not be waited for on a thread of another.
        let ends = std::thread::Builder::new().spawn(move || runtime.shutdown_timeout(LEAVING));
        if let Ok(thread) = ends {
            let _ = thread.join();
        }
    }
}

impl Containerizer for Docker {
    fn name(&self) -> &str {
        "docker"
    }

    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()> {
        let probing = Arc::clone(&self.shared);
        self.spawn(async move {
            loop {
                let _ = probing.own.engine.ping(probing.own.settings.deadlines.ask).await;
                tokio::time::sleep(PROBE).await;
            }
        });
        self.answer(|shared| async move { recover::recover(&shared, state).await })
    }

    fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        pid_checkpoint: Option<PathBuf>,
    ) -> Answer<'_, LaunchResult> {
        if id.is_nested() {
            return ready(Err(Error::NestedUnsupported));
        }
        if config.container_info.as_ref().is_none_or(|info| info.r#type != ContainerType::Docker) {
            // A known id is another containerizer's business, too, when it asks for that.
            let known = self.knows(id);
            return ready(Ok(if known { LaunchResult::AlreadyLaunched } else { LaunchResult::NotSupported }));
        }
        let launch = match mark() {
            Ok(launch) => launch,
            Err(error) => return ready(Err(error)),
        };
        let own = Asked { environment, name: names::name(id), launch };
        let record = Record { id: id.clone(), config, own };
        let entry = match self.shared.create(record, Phase::Fetching) {
            Ok(Some(entry)) => entry,
            Ok(None) => return ready(Ok(LaunchResult::AlreadyLaunched)),
            Err(error) => return ready(Err(error)),
        };
        let (shared, launched) = (Arc::clone(&self.shared), entry.launched.clone());
        self.spawn(async move { launch::launch(&shared, &entry, pid_checkpoint.as_deref()).await });
        Box::pin(launched.wait())
    }

    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        match self.shared.turn(id) {
            Ok(turn) => self.answer(|shared| async move {
                turn.comes().await;
                measure::update(&shared, &turn.entry, &requests, &limits).await
            }),
            Err(done) => ready(done),
        }
    }

    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        let Some(entry) = self.shared.living(id) else {
            return ready(Err(Error::UnknownContainerColon(id.clone())));
        };
        ready(Ok(measure::usage(&self.shared, &entry)))
    }

    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus> {
        if let Some(session) = self.shared.own.sessions.get(id) {
            let executor_pid = session.pid().filter(|_| !session.is_over());
            let container_id = Some(id.clone());
            return ready(Ok(ContainerStatus { container_id, executor_pid, ..ContainerStatus::default() }));
        }
        let Some(entry) = self.shared.get(id) else {
            return ready(Err(Error::UnknownContainerColon(id.clone())));
        };
        let facts = entry.own.facts();
        ready(Ok(ContainerStatus {
            container_id: Some(id.clone()),
            executor_pid: facts.process.map(|process| process.pid),
            network_infos: facts.networks,
            ..ContainerStatus::default()
        }))
    }

    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        match self.shared.own.sessions.get(id) {
            Some(session) => end_of(&session.ended),
            None => self.shared.wait(id),
        }
    }

    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        if let Some(session) = self.shared.own.sessions.get(id) {
            let _ = session.signal(SIGKILL);
            return end_of(&session.ended);
        }
        self.shared.destroy(id)
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        if let Some(session) = self.shared.own.sessions.get(id).filter(|session| !session.is_over()) {
            return ready(check_signal(signal).and_then(|()| session.signal(signal)));
        }
        let entry = match self.shared.for_signal(id, signal) {
            Ok(entry) => entry,
            Err(answer) => return ready(answer),
        };
        if entry.phase().is_launching() {
            // There is nothing yet that could heed a signal.
            if signal != 0 {
                self.shared.end(&entry);
            }
            return ready(Ok(true));
        }
        let note = move |entry: &Entry| entry.own.change(|facts| facts.signal = Some(signal));
        match entry.own.process() {
            Some(process) => match process.signal(signal) {
                Ok(()) => {
                    note(&entry);
                    if signal == SIGKILL && entry.phase() == Phase::Paused {
                        return self
                            .answer(|shared| async move { resume(&shared, &entry).await.map(|()| true) });
                    }
                    ready(Ok(true))
                }
                Err(Errno::SRCH) => ready(Ok(false)),
                Err(errno) => ready(Err(Error::signal(&errno.into()))),
            },
            None => self.answer(|shared| async move {
                note(&entry);
                match shared.own.engine.kill(&key(&entry), signal, shared.own.settings.deadlines.kill).await {
                    Ok(()) => Ok(true),
                    Err(error) if error.is_missing() || error.is_conflict() => Ok(false),
                    Err(error) => {
                        Err(error.because(&format!("Failed to kill container {}", entry.record.own.name)))
                    }
                }
            }),
        }
    }

    fn underlying_name(&self, id: &ContainerId) -> Option<String> {
        Some(self.shared.get(id)?.record.own.name.clone())
    }

    fn stop_signal(&self, id: &ContainerId) -> Option<i32> {
        self.shared.get(id)?.own.facts().stop_signal
    }

    fn describe(&self, id: &ContainerId) -> Answer<'_, Option<Vec<u8>>> {
        let Some(entry) = self.shared.get(id) else { return ready(Ok(None)) };
        self.answer(|shared| async move {
            let limit = shared.own.settings.deadlines.ask;
            match shared.own.engine.describe(&key(&entry), limit).await {
                // As the command line writes it, which may be asked of several.
                Ok(one) => Ok(Some([b"[", one.trim_ascii(), b"]"].concat())),
                Err(error) if error.is_missing() => Ok(None),
                Err(error) => {
                    Err(error.because(&format!("Failed to inspect container {}", entry.record.own.name)))
                }
            }
        })
    }

    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        let mut all = self.shared.own.sessions.living();
        all.extend(self.shared.containers());
        ready(Ok(all))
    }

    fn knows(&self, id: &ContainerId) -> bool {
        self.shared.knows(id) || self.shared.own.sessions.get(id).is_some()
    }

    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        if id.is_nested() {
            return ready(self.remove_session(id));
        }
        let (entry, removed, ours) = match self.shared.removal(id) {
            Ok(removal) => removal,
            Err(done) => return ready(done),
        };
        if ours {
            let (shared, place) = (Arc::clone(&self.shared), removed.clone());
            self.spawn(async move {
                let so_far = remove(&shared, &entry).await;
                place.settle(shared.removed(&entry, so_far));
            });
        }
        Box::pin(removed.wait())
    }

    fn prune_images(&self, _excluded: Vec<Image>) -> Answer<'_, ()> {
        // The engine's images are not ours alone.
        ready(Ok(()))
    }

    fn events(&self, since: u64) -> Subscription {
        self.shared.events.since(since)
    }

    fn metrics(&self) -> Vec<(String, f64)> {
        let number = |name: &str, value: f64| (format!("containerizer/docker/{name}"), value);
        vec![
            number("engine_up", f64::from(u8::from(self.shared.own.engine.is_up()))),
            number("image_pull/count", self.shared.own.pulls.load(Ordering::Relaxed) as f64),
            number("image_pull_ms", self.shared.own.pull_time.load(Ordering::Relaxed) as f64),
        ]
    }

    fn attach(&self) -> Option<&dyn Attach> {
        Some(self)
    }

    fn exec(&self) -> Option<&dyn Exec> {
        Some(self)
    }

    fn pause(&self) -> Option<&dyn Pause> {
        Some(self)
    }
}

impl Docker {
    fn remove_session(&self, id: &ContainerId) -> Result<(), Error> {
        if !self.shared.knows(id.root()) {
            return Err(Error::UnknownRoot);
        }
        match self.shared.own.sessions.get(id) {
            Some(session) if !session.is_over() => Err(Error::NestedNotTerminated),
            Some(_) => {
                self.shared.own.sessions.remove(id);
                self.shared.events.publish(id, What::Removed);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// One that runs, or is stopped.
    fn running(&self, id: &ContainerId) -> Result<Arc<Entry>, Error> {
        let entry = self.shared.get(id).filter(|entry| !entry.is_over());
        let entry = entry.ok_or_else(|| Error::UnknownContainer(id.clone()))?;
        match entry.phase() {
            Phase::Running | Phase::Paused => Ok(entry),
            phase => {
                let text = format!("container {id} is {phase}: only what runs can be paused and resumed");
                Err(Error::other(Class::Conflict, text))
            }
        }
    }
}

impl Exec for Docker {
    fn run(&self, id: &ContainerId, request: ExecRequest) -> Answer<'_, ExecSession> {
        let (shared, own) = (Arc::clone(&self.shared), id.clone());
        let (place, answer) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            // Whoever does not wait for it any more does not want it.
            if let Err(Ok(session)) = place.send(exec::run(&shared, &own, request).await) {
                let session: ExecSession = session;
                if let Some(session) = shared.own.sessions.get(&session.id) {
                    let _ = session.signal(SIGKILL);
                }
            }
        });
        Box::pin(async move { answer.await.unwrap_or(Err(Error::DestroyedWhileLaunching)) })
    }
}

impl Pause for Docker {
    fn freeze(&self, id: &ContainerId) -> Answer<'_, ()> {
        let entry = match self.running(id) {
            Ok(entry) => entry,
            Err(error) => return ready(Err(error)),
        };
        self.answer(|shared| async move {
            if entry.phase() == Phase::Paused {
                return Ok(());
            }
            match shared.own.engine.pause(&key(&entry), shared.own.settings.deadlines.ask).await {
                // "is already paused"
                Err(EngineError::Refused { status: 409 | 500, message })
                    if message.contains("already paused") => {}
                Err(error) => {
                    return Err(
                        error.because(&format!("Failed to pause container {}", entry.record.own.name))
                    );
                }
                Ok(()) => {}
            }
            shared.step(&entry, Phase::Paused);
            Ok(())
        })
    }

    fn thaw(&self, id: &ContainerId) -> Answer<'_, ()> {
        match self.running(id) {
            Ok(entry) => self.answer(|shared| async move { resume(&shared, &entry).await }),
            Err(error) => ready(Err(error)),
        }
    }
}

async fn resume(shared: &Shared, entry: &Entry) -> Result<(), Error> {
    match shared.own.engine.unpause(&key(entry), shared.own.settings.deadlines.ask).await {
        Err(EngineError::Refused { status: 409 | 500, message }) if message.contains("not paused") => {}
        Err(error) => {
            return Err(error.because(&format!("Failed to resume container {}", entry.record.own.name)));
        }
        Ok(()) => {}
    }
    shared.step(entry, Phase::Running);
    Ok(())
}

/// What the engine has, then the sandbox; the record goes last.
async fn remove(shared: &Arc<Shared>, entry: &Arc<Entry>) -> Result<(), Error> {
    if !entry.own.facts().cleared {
        // First, for a moment: what the engine still has mounted can not be removed.
        reaper::remove(shared, &Whose::of(entry)).await.map_err(|error| {
            error.because(&format!("Failed to remove container {}", entry.record.own.name))
        })?;
        reaper::cleared(shared, entry);
    }
    let directory = entry.record.config.directory.clone();
    let removed = tokio::task::spawn_blocking(move || berth_keeper::sandbox::remove(&directory)).await;
    removed.unwrap_or_else(|error| Err(Error::RemoveSandbox(error.to_string())))?;
    shared.own.sessions.remove_below(&entry.id);
    Ok(())
}

/// A text that no other launch has.
fn mark() -> Result<String, Error> {
    use std::io::Read;
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| of_io("read /dev/urandom".to_owned(), error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
