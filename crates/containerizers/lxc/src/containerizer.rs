// SPDX-License-Identifier: Apache-2.0
//! The contract's calls.
//!
//! Terminations are kept until they are removed. A signal goes to the container's first process: in application mode the
//! command, which as pid 1 of its namespace is spared what it has no handler for, but SIGKILL and SIGSTOP.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use berth_contract::{
    AgentState, Answer, Containerizer, Error, EventLog, LaunchResult, Limits, Pause, Phase, Settled,
    Subscription, UNKNOWN_DESTROYED, Variables, What, block_on, ready,
};
use berth_model::{
    ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, Image, ResourceStatistics, Resources,
};

use crate::entry::Entry;
use crate::error::warn;
use crate::record::Record;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::{asked, groups, owner, recover, sandbox};

/// The last real-time signal, signal(7).
const LAST_SIGNAL: i32 = 64;

/// Containers of LXC. Dropping it ends the launches that are under way and leaves the containers alone.
#[derive(Debug)]
pub struct Lxc {
    shared: Arc<Shared>,
}

impl Lxc {
    /// Publishes what happens into `events`. LXC is not called before `recover`.
    ///
    /// # Errors
    /// There is no descriptor left for it.
    pub fn new(settings: Settings, events: EventLog) -> Result<Lxc, Error> {
        Ok(Lxc { shared: Arc::new(Shared::new(settings, events)?) })
    }

    /// Work on a thread of its own; its answer.
    fn answer<T: Clone + Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Shared>) -> Result<T, Error> + Send + 'static,
    ) -> Answer<'static, T> {
        let answer = Settled::new();
        let place = answer.clone();
        match self.shared.work(move |shared| {
            place.settle(work(shared));
        }) {
            Ok(()) => Box::pin(answer.wait()),
            Err(error) => ready(Err(error)),
        }
    }
}

impl Drop for Lxc {
    fn drop(&mut self) {
        self.shared.go();
    }
}

impl Containerizer for Lxc {
    fn name(&self) -> &str {
        "lxc"
    }

    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()> {
        self.answer(move |shared| recover::recover(shared, state.as_ref()))
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
        if !asked::is_ours(&config) {
            return ready(Ok(LaunchResult::NotSupported));
        }
        let record = Record { id: id.clone(), config, checkpoint: pid_checkpoint.is_some() };
        let entry = {
            let mut entries = self.shared.entries();
            if entries.contains_key(id) {
                return ready(Ok(LaunchResult::AlreadyLaunched));
            }
            match Entry::launching(record) {
                Ok(entry) => Arc::clone(entries.entry(id.clone()).or_insert(Arc::new(entry))),
                Err(error) => return ready(Err(error)),
            }
        };
        self.shared.events.publish(id, What::Created(Phase::Provisioning));
        let (launched, owned) = (entry.launched.clone(), Arc::clone(&entry));
        let started = self.shared.work(move |shared| {
            owner::launch(shared, &owned, &environment, pid_checkpoint.as_deref());
        });
        if let Err(error) = started {
            self.shared.events.publish(id, What::LaunchFailed(error.to_string()));
            if entry.fail() {
                self.shared.bury(&entry);
            }
            entry.launched.settle(Err(error));
        }
        Box::pin(launched.wait())
    }

    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        let entry = self.shared.get(id).filter(|entry| !entry.is_over() && !entry.is_destroyed());
        let Some(entry) = entry else {
            warn(&format!("an update of container {id} is ignored: it is unknown, or has ended"));
            return ready(Ok(()));
        };
        let (before, own) = match entry.update() {
            Ok(place) => place,
            Err(error) => return ready(Err(error)),
        };
        let (updated, place) = (Arc::clone(&entry), own.clone());
        let answer = Settled::new();
        let told = answer.clone();
        let started = self.shared.work(move |shared| {
            if let Some(before) = before {
                block_on(before.wait());
            }
            told.settle(update(shared, &updated, &requests, &limits));
            updated.updated(&place);
        });
        match started {
            Ok(()) => Box::pin(answer.wait()),
            Err(error) => {
                entry.updated(&own);
                ready(Err(error))
            }
        }
    }

    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        let Some(entry) = self.shared.get(id).filter(|entry| !entry.is_over()) else {
            return ready(Err(Error::UnknownContainer(id.clone())));
        };
        self.answer(move |shared| {
            if !matches!(block_on(entry.launched.wait()), Ok(LaunchResult::Success)) {
                return Err(Error::UnknownContainer(entry.id.clone()));
            }
            Ok(groups::usage(&shared.settings, &entry.id))
        })
    }

    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus> {
        ready(match self.shared.get(id) {
            Some(entry) => Ok(ContainerStatus {
                container_id: Some(id.clone()),
                executor_pid: entry.init().filter(|_| !entry.is_over()).map(|init| init.process.pid),
                ..ContainerStatus::default()
            }),
            None => Err(Error::UnknownContainerColon(id.clone())),
        })
    }

    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        match self.shared.get(id) {
            Some(entry) => {
                let ended = entry.ended.wait();
                Box::pin(async move { Ok(Some(ended.await)) })
            }
            None => ready(Ok(None)),
        }
    }

    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        let Some(entry) = self.shared.get(id) else {
            warn(&format!("{UNKNOWN_DESTROYED} {id}"));
            return ready(Ok(None));
        };
        if entry.destroy() {
            self.shared.bury(&entry);
        }
        let ended = entry.ended.wait();
        Box::pin(async move { Ok(Some(ended.await)) })
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        let Some(entry) = self.shared.get(id).filter(|entry| !entry.is_over()) else {
            return ready(Ok(false));
        };
        if !(0..=LAST_SIGNAL).contains(&signal) {
            return ready(Err(Error::Signal("Invalid argument".to_owned())));
        }
        let Some(init) = entry.init() else {
            if signal != 0 && entry.destroy() {
                self.shared.bury(&entry);
            }
            return ready(Ok(true));
        };
        ready(match berth_sys::signal::send(init.fd.as_fd(), signal) {
            Ok(()) => Ok(true),
            // It has ended, and its owner is about to say so.
            Err(berth_sys::Errno::SRCH) => Ok(false),
            Err(errno) => Err(Error::signal(&errno.into())),
        })
    }

    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        let entries = self.shared.entries();
        ready(Ok(entries.values().filter(|entry| !entry.is_over()).map(|entry| entry.id.clone()).collect()))
    }

    fn knows(&self, id: &ContainerId) -> bool {
        self.shared.entries().contains_key(id)
    }

    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        match begin_removal(&self.shared, id) {
            Err(done) => ready(done),
            Ok((_, removed, false)) => Box::pin(removed.wait()),
            Ok((entry, removed, true)) => {
                let work = {
                    let (entry, removed) = (Arc::clone(&entry), removed.clone());
                    self.shared.work(move |shared| _ = removed.settle(remove(shared, &entry)))
                };
                if let Err(error) = work {
                    entry.kept();
                    removed.settle(Err(error));
                }
                Box::pin(removed.wait())
            }
        }
    }

    fn remove_here(&self, id: &ContainerId) -> Result<(), Error> {
        match begin_removal(&self.shared, id) {
            Err(done) => done,
            Ok((_, removed, false)) => block_on(removed.wait()),
            Ok((entry, removed, true)) => {
                let result = remove(&self.shared, &entry);
                removed.settle(result.clone());
                result
            }
        }
    }

    fn prune_images(&self, _excluded: Vec<Image>) -> Answer<'_, ()> {
        self.answer(|shared| {
            let settings = &shared.settings;
            let mut used = Vec::new();
            for name in crate::base::names(&settings.containers())? {
                let config = crate::tools::Config::read(&settings.containers().join(&name).join("config"));
                let path = config.ok().and_then(|config| config.get("lxc.rootfs.path").map(str::to_owned));
                used.extend(path.and_then(|path| path.split(':').nth(1).map(PathBuf::from)));
            }
            // Whoever launches has no configuration yet.
            let launches = shared.entries().values().any(|entry| entry.phase().is_launching());
            if launches { Ok(()) } else { shared.bases.prune(settings, &used) }
        })
    }

    fn pause(&self) -> Option<&dyn Pause> {
        Some(self)
    }

    fn events(&self, since: u64) -> Subscription {
        self.shared.events.since(since)
    }
}

impl Pause for Lxc {
    fn freeze(&self, id: &ContainerId) -> Answer<'_, ()> {
        self.turn(id, true)
    }

    fn thaw(&self, id: &ContainerId) -> Answer<'_, ()> {
        self.turn(id, false)
    }
}

impl Lxc {
    fn turn(&self, id: &ContainerId, freeze: bool) -> Answer<'_, ()> {
        let Some(entry) = self.shared.get(id) else { return ready(Err(Error::UnknownContainer(id.clone()))) };
        self.answer(move |shared| {
            if !matches!(entry.phase(), Phase::Running | Phase::Paused) {
                let text = format!(
                    "container {} is {}, and only one that runs can be paused",
                    entry.id,
                    entry.phase()
                );
                return Err(Error::other(berth_model::Class::Conflict, text));
            }
            groups::freeze(&shared.settings, &entry.id, freeze)?;
            shared.step(&entry, if freeze { Phase::Paused } else { Phase::Running });
            Ok(())
        })
    }
}

fn update(shared: &Shared, entry: &Entry, requests: &Resources, limits: &Limits) -> Result<(), Error> {
    let id = &entry.id;
    let gone = |why: &str| {
        warn(&format!("an update of container {id} is ignored: {why}"));
        Ok(())
    };
    if !matches!(block_on(entry.launched.wait()), Ok(LaunchResult::Success)) {
        return gone("its launch did not succeed");
    }
    if entry.is_over() || entry.is_destroyed() {
        return gone("it has ended");
    }
    let config =
        ContainerConfig { resources: requests.clone(), limits: limits.clone(), ..ContainerConfig::default() };
    groups::update(&shared.settings, id, &config)
}

type Removal = (Arc<Entry>, Settled<Result<(), Error>>, bool);

/// The removal to make or to wait for, or what is known at once.
fn begin_removal(shared: &Shared, id: &ContainerId) -> Result<Removal, Result<(), Error>> {
    if id.is_nested() {
        let known = shared.entries().contains_key(id.root());
        return Err(if known { Ok(()) } else { Err(Error::UnknownRoot) });
    }
    let entry = shared.get(id).ok_or(Ok(()))?;
    let (removed, ours) = entry.removing().map_err(Err)?;
    Ok((entry, removed, ours))
}

/// The sandbox first, then the record: whoever is killed in between still knows how it ended.
fn remove(shared: &Shared, entry: &Entry) -> Result<(), Error> {
    let result = remove_all(shared, entry);
    match &result {
        Ok(()) => {
            shared.entries().remove(&entry.id);
            shared.events.publish(&entry.id, What::Removed);
        }
        Err(_) => entry.kept(),
    }
    result
}

fn remove_all(shared: &Shared, entry: &Entry) -> Result<(), Error> {
    sandbox::remove(&entry.record.config)?;
    if !asked::keeps(&entry.record.config) {
        crate::tools::remove_tree(&shared.settings.containers(), asked::name(&entry.record).as_str())
            .map_err(crate::error::of_tool)?;
    }
    shared.records.remove(&entry.id).map_err(|error| Error::RemoveRuntimeDirectory(error.chain()))
}
