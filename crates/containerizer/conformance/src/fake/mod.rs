// SPDX-License-Identifier: Apache-2.0
//! A containerizer in memory that keeps the whole contract: containers are state machines, their "processes"
//! live on a [`FakeHost`] that outlives the containerizer, as a real host does. The suite runs on it, so that
//! a rule which can not be kept is found without a kernel; others use it where any containerizer will do.
//!
//! ```text
//! PREPARING ─▶ ISOLATING ─▶ FETCHING ─▶ RUNNING ◀─▶ PAUSED
//!     └────────────┴────────────┴──────────┴──────────┴──▶ DESTROYING ─▶ TERMINATED
//! ```

mod process;
mod record;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use berth_contract::{
    AgentState, Answer, Containerizer, Error, EventLog, LaunchResult, Limits, Nesting, Pause, Phase, Settled,
    Subscription, Variables, What, ready,
};
use berth_model::{
    Class, ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, Image, MAX_CONTAINER_DEPTH,
    ResourceStatistics, Resources,
};

use crate::site::Site;
use crate::subject::Subject;
use process::{Process, Told};
use record::{FIRST_PID, Record, State};

/// The fake's kernel and disk: everything that stays when the containerizer is gone.
#[derive(Debug, Default)]
pub struct FakeHost {
    state: Mutex<State>,
}

impl FakeHost {
    /// Sends a signal from outside, as an operator would; the containerizer is not told.
    pub fn signal(&self, pid: u32, signal: i32) {
        let mut state = lock(&self.state);
        let mut processes = state.records.values_mut().filter_map(|record| record.process.as_mut());
        if let Some(process) = processes.find(|process| process.pid == pid) {
            process.deliver(signal);
        }
    }
}

/// The containerizer in memory.
#[derive(Debug)]
pub struct FakeContainerizer {
    host: Arc<FakeHost>,
    runtime_dir: PathBuf,
    events: EventLog,
}

impl FakeContainerizer {
    /// A containerizer on the host of this site.
    pub fn new(site: &Site) -> FakeContainerizer {
        FakeContainerizer::publishing(site, EventLog::default())
    }

    /// The same, publishing what happens where others do.
    pub fn publishing(site: &Site, events: EventLog) -> FakeContainerizer {
        FakeContainerizer { host: site.keep::<FakeHost>(), runtime_dir: site.runtime_dir(), events }
    }

    /// The same with everything that the suite has to know about it.
    pub fn subject(site: &Site) -> Subject {
        let host = site.keep::<FakeHost>();
        Subject::new(FakeContainerizer::new(site))
            .told_by(Told::text)
            .with_foreign(record::make_foreign)
            .with_failing(|config| config.command_info.value = Some("fail".to_owned()))
            .with_stalling(|config| config.command_info.value = Some("stall".to_owned()))
            .signalled_by(move |pid, signal| host.signal(pid, signal))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.host.state)
    }

    fn place(&self, id: &ContainerId) -> PathBuf {
        let above = id.parent().map_or_else(|| self.runtime_dir.clone(), |parent| self.place(parent));
        above.join("containers").join(id.value())
    }

    /// Moves a record to another phase and tells everyone.
    fn go(&self, id: &ContainerId, record: &mut Record, to: Phase) -> Result<(), Error> {
        let from = record.phase;
        record.phase = record::next(from, to)?;
        self.events.publish(id, What::Moved { from, to });
        Ok(())
    }

    /// Takes a launch as far as it goes. An error is the launch's failure.
    fn launch_now(
        &self,
        state: &mut State,
        id: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        pid_checkpoint: Option<&Path>,
    ) -> Result<Settled<Result<LaunchResult, Error>>, Error> {
        if state.records.contains_key(id) {
            return Ok(Settled::with(Ok(LaunchResult::AlreadyLaunched)));
        }
        if let Some(parent) = id.parent() {
            record::check_nested(state, parent, &config, pid_checkpoint)?;
        }
        if record::is_foreign(&config) {
            return Ok(Settled::with(Ok(LaunchResult::NotSupported)));
        }
        let mut record = Record::new(config);
        self.events.publish(id, What::Created(record.phase));
        let launched = record.launched.clone();
        match self.steps(state, id, &mut record, environment, pid_checkpoint) {
            Ok(()) => {}
            Err(error) => {
                self.events.publish(id, What::LaunchFailed(error.to_string()));
                record.failed = true;
                let _ = fs::remove_dir_all(self.place(id));
                launched.settle(Err(error));
            }
        }
        state.records.insert(id.clone(), record);
        self.settle_exit(state, id);
        Ok(launched)
    }

    /// The steps of a launch in their order; each is published as it is entered.
    fn steps(
        &self,
        state: &mut State,
        id: &ContainerId,
        record: &mut Record,
        environment: Variables,
        pid_checkpoint: Option<&Path>,
    ) -> Result<(), Error> {
        let text = record.config.command_info.value.clone().unwrap_or_default();
        let told = Told::parse(&text).map_err(|why| Error::other(Class::Invalid, why))?;
        let pid = FIRST_PID + state.pids;
        state.pids += 1;
        let place = self.place(id);
        write(&place.join("pid"), &pid.to_string())?;
        self.go(id, record, Phase::Isolating)?;
        if told == Told::Fail {
            return Err(Error::other(
                Class::Internal,
                format!("isolate {id}: the script says that it fails"),
            ));
        }
        self.go(id, record, Phase::Fetching)?;
        let script = match told {
            Told::Run(script) => script,
            // Nothing more: a destroy will settle it.
            Told::Fail | Told::Stall => return Ok(()),
        };
        if id.parent().is_some() {
            let directory = &record.config.directory;
            fs::create_dir_all(directory).map_err(|error| {
                Error::because(
                    Class::of_io(&error),
                    format!("make the sandbox {}", directory.display()),
                    error,
                )
            })?;
        }
        if let Some(path) = pid_checkpoint {
            write(path, &pid.to_string())?;
        }
        let mut variables = environment;
        variables.extend(record::own_variables(&record.config));
        record.process = Some(Process::start(pid, script, &variables, &record.config.directory));
        self.go(id, record, Phase::Running)?;
        record.launched.settle(Ok(LaunchResult::Success));
        Ok(())
    }

    /// If the process has ended, ends the container.
    fn settle_exit(&self, state: &mut State, id: &ContainerId) {
        let exit = state.records.get(id).and_then(|record| record.process.as_ref()?.status);
        if exit.is_some() {
            self.end(state, id);
        }
    }

    /// Ends a container whatever its state is: children first, then its process, then its record says how.
    fn end(&self, state: &mut State, id: &ContainerId) {
        for child in state.living_children(id) {
            self.end(state, &child);
        }
        let Some(mut record) = state.records.remove(id) else { return };
        if record.phase == Phase::Terminated {
            state.records.insert(id.clone(), record);
            return;
        }
        let during = record.phase;
        // Every living phase may go to DESTROYING, and that to TERMINATED: see `next`.
        let _ = self.go(id, &mut record, Phase::Destroying);
        if let Some(process) = &mut record.process {
            process.deliver(9);
        }
        let unfinished = record.process.is_none();
        let termination = ContainerTermination {
            status: record.process.as_ref().and_then(|process| process.status),
            message: unfinished.then(|| "the launch did not succeed".to_owned()),
            ..ContainerTermination::default()
        };
        record.launched.settle(Err(Error::DestroyedDuring(during)));
        let _ = fs::remove_file(self.place(id).join("pid"));
        let _ = self.go(id, &mut record, Phase::Terminated);
        self.events.publish(id, What::Ended(termination.clone()));
        record.ended.settle(termination);
        if unfinished {
            // A launch that failed has no end to keep: the id is free again.
            let _ = fs::remove_dir_all(self.place(id));
            if id.parent().is_some() {
                let _ = fs::remove_dir_all(&record.config.directory);
            }
            self.tidy(state);
            self.events.publish(id, What::Removed);
        } else {
            state.records.insert(id.clone(), record);
        }
    }

    /// Forgets an ended container, and what was in it.
    fn forget(&self, state: &mut State, id: &ContainerId) {
        for child in state.children(id) {
            self.forget(state, &child);
        }
        if let Some(record) = state.records.remove(id) {
            let _ = fs::remove_dir_all(self.place(id));
            let _ = fs::remove_dir_all(&record.config.directory);
            self.events.publish(id, What::Removed);
        }
        self.tidy(state);
    }

    /// The last one takes the directory that all were in.
    fn tidy(&self, state: &State) {
        if state.records.is_empty() {
            let _ = fs::remove_dir(self.runtime_dir.join("containers"));
        }
    }

    /// Runs `act` on the process of a running container.
    fn with_process<T>(
        &self,
        id: &ContainerId,
        act: impl FnOnce(&mut Record) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut state = self.state();
        let record = state.records.get_mut(id).filter(|record| record.phase != Phase::Terminated);
        let result = act(record.ok_or_else(|| Error::UnknownContainer(id.clone()))?)?;
        self.settle_exit(&mut state, id);
        Ok(result)
    }
}

impl Containerizer for FakeContainerizer {
    fn name(&self) -> &str {
        "fake"
    }

    fn recover(&self, agent: Option<AgentState>) -> Answer<'_, ()> {
        let mut state = self.state();
        let known = |id: &ContainerId| {
            agent.as_ref().is_some_and(|agent| agent.runs.iter().any(|run| run.id == *id && !run.completed))
        };
        let living: Vec<ContainerId> = state.living().cloned().collect();
        for id in living {
            let Some(record) = state.records.get(&id) else { continue };
            let orphan = id.parent().is_none() && record.config.executor_info.is_some() && !known(&id);
            if orphan || record.process.is_none() {
                self.end(&mut state, &id);
                if orphan {
                    self.forget(&mut state, &id);
                }
            } else {
                self.settle_exit(&mut state, &id);
            }
        }
        ready(Ok(()))
    }

    fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        pid_checkpoint: Option<PathBuf>,
    ) -> Answer<'_, LaunchResult> {
        let mut state = self.state();
        match self.launch_now(&mut state, id, config, environment, pid_checkpoint.as_deref()) {
            Ok(launched) => Box::pin(launched.wait()),
            Err(error) => ready(Err(error)),
        }
    }

    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        if let Some(record) = self.state().records.get_mut(id) {
            record.requests = requests;
            record.limits = limits;
        }
        ready(Ok(()))
    }

    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        if !self.state().records.contains_key(id) {
            return ready(Err(Error::UnknownContainer(id.clone())));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        ready(Ok(ResourceStatistics { timestamp: now, ..ResourceStatistics::default() }))
    }

    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus> {
        let state = self.state();
        let Some(record) = state.records.get(id) else {
            return ready(Err(Error::UnknownContainerColon(id.clone())));
        };
        ready(Ok(ContainerStatus {
            container_id: Some(id.clone()),
            executor_pid: record.process.as_ref().map(|process| process.pid),
            ..ContainerStatus::default()
        }))
    }

    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        let Some(ended) = self.state().records.get(id).map(|record| record.ended.clone()) else {
            return ready(Ok(None));
        };
        Box::pin(async move { Ok(Some(ended.wait().await)) })
    }

    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        let ended = {
            let mut state = self.state();
            let ended = state.records.get(id).map(|record| record.ended.clone());
            self.end(&mut state, id);
            ended
        };
        // `end` has settled it.
        ready(Ok(ended.and_then(|ended| ended.get())))
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        let mut state = self.state();
        let Some(record) = state.records.get_mut(id).filter(|record| record.phase != Phase::Terminated)
        else {
            return ready(Ok(false));
        };
        // 64 is the last real-time signal, signal(7).
        if !(0..=64).contains(&signal) {
            return ready(Err(Error::Signal("Invalid argument".to_owned())));
        }
        match &mut record.process {
            Some(process) => {
                process.deliver(signal);
                self.settle_exit(&mut state, id);
            }
            None => self.end(&mut state, id),
        }
        ready(Ok(true))
    }

    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        ready(Ok(self.state().living().cloned().collect()))
    }

    fn knows(&self, id: &ContainerId) -> bool {
        self.state().records.contains_key(id)
    }

    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        let mut state = self.state();
        let alive = state.records.get(id).is_some_and(|record| record.phase != Phase::Terminated);
        let nested = id.parent().is_some();
        ready(match (alive, nested) {
            _ if nested && !state.records.contains_key(id.root()) => Err(Error::UnknownRoot),
            (true, true) => Err(Error::NestedNotTerminated),
            (true, false) => Err(Error::NotTerminated),
            (false, _) => {
                self.forget(&mut state, id);
                Ok(())
            }
        })
    }

    fn prune_images(&self, _excluded: Vec<Image>) -> Answer<'_, ()> {
        ready(Ok(()))
    }

    fn events(&self, since: u64) -> Subscription {
        self.events.since(since)
    }

    fn pause(&self) -> Option<&dyn Pause> {
        Some(self)
    }

    fn nesting(&self) -> Option<&dyn Nesting> {
        Some(self)
    }
}

impl Pause for FakeContainerizer {
    fn freeze(&self, id: &ContainerId) -> Answer<'_, ()> {
        ready(self.with_process(id, |record| {
            if record.phase == Phase::Paused {
                return Ok(());
            }
            self.go(id, record, Phase::Paused)?;
            if let Some(process) = &mut record.process {
                process.stop();
            }
            Ok(())
        }))
    }

    fn thaw(&self, id: &ContainerId) -> Answer<'_, ()> {
        ready(self.with_process(id, |record| {
            if record.phase == Phase::Running {
                return Ok(());
            }
            self.go(id, record, Phase::Running)?;
            if let Some(process) = &mut record.process {
                process.resume();
            }
            Ok(())
        }))
    }
}

impl Nesting for FakeContainerizer {
    fn depth(&self) -> usize {
        MAX_CONTAINER_DEPTH - 1
    }

    fn children(&self, id: &ContainerId) -> Answer<'_, Vec<ContainerId>> {
        ready(Ok(self.state().living_children(id)))
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let above = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(above)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| Error::because(Class::of_io(&error), format!("write {}", path.display()), error))
}

/// Everything that is changed under this lock is whole again before anything can panic.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
