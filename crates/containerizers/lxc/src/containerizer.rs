// SPDX-License-Identifier: Apache-2.0
//! The contract's calls.
//!
//! Terminations are kept until they are removed. A signal goes to the container's first process: in application mode the
//! command, which as pid 1 of its namespace is spared what it has no handler for, but SIGKILL and SIGSTOP; in system mode
//! the init, for which SIGTERM means something else to each (systemd starts anew), so that it gets the one that stops it.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use berth_contract::{
    AgentState, Answer, Attach, Containerizer, Error, EventLog, Exec, LaunchResult, Limits, Pause, Phase,
    Subscription, Variables, ready,
};
use berth_keeper::{check_signal, end_of};
use berth_model::{
    ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, Image, ResourceStatistics, Resources,
};

use crate::kept::{Asked, Entry, Record, Shared, shared};
use crate::settings::Settings;
use crate::{asked, groups, owner, recover, session, system};

/// SIGTERM: a wish that it end.
const TERMINATE: i32 = 15;

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
        Ok(Lxc { shared: Arc::new(shared(settings, events)?) })
    }
}

impl Drop for Lxc {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

impl Containerizer for Lxc {
    fn name(&self) -> &str {
        "lxc"
    }

    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()> {
        self.shared.answer(move |shared| recover::recover(shared, state.as_ref()))
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
        let own = Asked { checkpoint: pid_checkpoint.is_some(), environment: environment.clone() };
        let record = Record { id: id.clone(), config, own };
        let first = match record.config.command_info.uris.is_empty() {
            true => Phase::Provisioning,
            false => Phase::Fetching,
        };
        self.shared.launch(record, first, move |shared, entry| {
            owner::launch(shared, entry, &environment, pid_checkpoint.as_deref());
        })
    }

    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        self.shared.update(id, requests, limits)
    }

    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        let Some(entry) = self.shared.living(id) else {
            return ready(Err(Error::UnknownContainer(id.clone())));
        };
        self.shared.answer(move |shared| {
            if !entry.has_come_up() {
                return Err(Error::UnknownContainer(entry.id.clone()));
            }
            Ok(groups::usage(&shared.own.settings, &entry.id))
        })
    }

    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus> {
        if let Some(session) = self.shared.own.sessions.get(id) {
            let executor_pid = session.pid().filter(|_| !session.is_over());
            let container_id = Some(id.clone());
            return ready(Ok(ContainerStatus { container_id, executor_pid, ..ContainerStatus::default() }));
        }
        ready(match self.shared.get(id) {
            Some(entry) => Ok(ContainerStatus {
                container_id: Some(id.clone()),
                executor_pid: entry.own.init().filter(|_| !entry.is_over()).map(|init| init.process.pid),
                ..ContainerStatus::default()
            }),
            None => Err(Error::UnknownContainerColon(id.clone())),
        })
    }

    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        match self.shared.own.sessions.get(id) {
            Some(session) => end_of(&session.ended),
            None => self.shared.wait(id),
        }
    }

    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        match self.shared.own.sessions.get(id) {
            Some(session) => {
                session.end();
                end_of(&session.ended)
            }
            None => self.shared.destroy(id),
        }
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        if let Some(session) = self.shared.own.sessions.get(id).filter(|session| !session.is_over()) {
            return ready(check_signal(signal).and_then(|()| session.signal(signal)));
        }
        let entry = match self.shared.for_signal(id, signal) {
            Ok(entry) => entry,
            Err(answer) => return ready(answer),
        };
        let Some(init) = entry.own.init() else {
            if signal != 0 {
                self.shared.end(&entry);
            }
            return ready(Ok(true));
        };
        let signal = if signal == TERMINATE { self.wish(&entry, init.process.pid) } else { signal };
        ready(match berth_sys::signal::send(init.fd.as_fd(), signal) {
            Ok(()) => Ok(true),
            // It has ended, and its owner is about to say so.
            Err(berth_sys::Errno::SRCH) => Ok(false),
            Err(errno) => Err(Error::signal(&errno.into())),
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
        match id.is_nested() {
            true => ready(session::remove(&self.shared, id)),
            false => self.shared.remove(id),
        }
    }

    fn remove_here(&self, id: &ContainerId) -> Result<(), Error> {
        self.shared.remove_here(id)
    }

    fn prune_images(&self, _excluded: Vec<Image>) -> Answer<'_, ()> {
        self.shared.answer(|shared| {
            let settings = &shared.own.settings;
            let mut used = Vec::new();
            for name in crate::base::names(&settings.containers())? {
                let config = crate::tools::Config::read(&settings.containers().join(&name).join("config"));
                let path = config.ok().and_then(|config| config.get("lxc.rootfs.path").map(str::to_owned));
                used.extend(path.and_then(|path| path.split(':').nth(1).map(PathBuf::from)));
            }
            // Whoever launches has no configuration yet.
            let launches = shared.entries().values().any(|entry| entry.phase().is_launching());
            if launches { Ok(()) } else { shared.own.bases.prune(settings, &used) }
        })
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
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The signal by which the first process is asked to end.
    fn wish(&self, entry: &Entry, pid: u32) -> i32 {
        if !asked::is_system(&entry.record.config) {
            return TERMINATE;
        }
        let place = asked::name(&entry.record).config(&self.shared.own.settings.containers());
        crate::tools::Config::read(&place).map_or(TERMINATE, |config| system::halt(&config, pid))
    }

    fn turn(&self, id: &ContainerId, freeze: bool) -> Answer<'_, ()> {
        let Some(entry) = self.shared.get(id) else { return ready(Err(Error::UnknownContainer(id.clone()))) };
        self.shared.answer(move |shared| {
            if !matches!(entry.phase(), Phase::Running | Phase::Paused) {
                let text = format!(
                    "container {} is {}, and only one that runs can be paused",
                    entry.id,
                    entry.phase()
                );
                return Err(Error::other(berth_model::Class::Conflict, text));
            }
            groups::freeze(&shared.own.settings, &entry.id, freeze)?;
            shared.step(&entry, if freeze { Phase::Paused } else { Phase::Running });
            Ok(())
        })
    }
}
