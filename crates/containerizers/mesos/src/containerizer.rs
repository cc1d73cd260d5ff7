// SPDX-License-Identifier: Apache-2.0
//! The native containerizer behind the containerizers' contract.
//!
//! Every container that launches or runs has an owner, who alone changes its state ([`crate::owner`]); the calls here read
//! what owners publish, or put something into their inboxes, and never block. What blocks (removal, recovery) has a thread
//! of its own as long as it takes.
//!
//! Refused, because this version has nothing behind it: secrets.

use crate::entry::Entry;
use crate::fetch::Fetching;
use crate::measure::{self, Groups};
use crate::native::{Directories, Kind, Native};
use crate::owner::Job;
use crate::provision::Provision;
use crate::request::{Request, RootSource};
use crate::shared::{Shared, warn};
use crate::{collect, nested, pause, provision, recover};
use berth_contract::{
    AgentState, Answer, Attach, Containerizer, Error, EventLog, Exec, LaunchResult, Limits, Nesting, Pause,
    Pull, Settled, Subscription, UNKNOWN_DESTROYED, Variables, What, block_on, ready,
};
use berth_isolator::Settings;
use berth_model::{
    Class, ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, ContainerType, Image,
    NativeState, ResourceStatistics, Resources, Variable, VariableType,
};
use berth_sys::Errno;
use berth_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The native containerizer. Dropping it leaves its containers running, for the next one to recover.
pub struct MesosContainerizer {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for MesosContainerizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MesosContainerizer").field("native", &self.shared.native).finish_non_exhaustive()
    }
}

impl MesosContainerizer {
    /// A containerizer on these directories, with these isolators. Nothing is taken over before `recover`.
    ///
    /// # Errors
    /// As [`Native::open`].
    pub fn new(directories: &Directories, settings: &Settings) -> crate::Result<MesosContainerizer> {
        MesosContainerizer::with(directories, settings, None, None)
    }

    /// The same, with images that containers may ask for, and with what brings URIs.
    ///
    /// # Errors
    /// As [`Native::open`].
    pub fn with(
        directories: &Directories,
        settings: &Settings,
        provision: Option<Provision>,
        fetching: Option<Fetching>,
    ) -> crate::Result<MesosContainerizer> {
        let mut native = Native::open(directories, Kind::Agent, settings)?;
        if let Some(provision) = provision {
            native = native.with_images(provision);
        }
        if let Some(fetching) = fetching {
            native = native.with_fetching(fetching);
        }
        let groups = Groups(settings.hierarchies.clone(), settings.groups.clone());
        Ok(MesosContainerizer { shared: Arc::new(Shared::new(native, groups)?) })
    }

    /// The same, telling there what happens.
    #[must_use]
    pub fn publishing(mut self, events: &EventLog) -> MesosContainerizer {
        let shared = Arc::get_mut(&mut self.shared).expect("nobody else has it before it is given away");
        shared.events = events.clone();
        self
    }

    /// The same, with the output of containers kept so.
    #[must_use]
    pub fn with_logger(mut self, logger: berth_logger::Settings) -> MesosContainerizer {
        let shared = Arc::get_mut(&mut self.shared).expect("nobody else has it before it is given away");
        shared.native.logger = logger;
        self
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether a container in another one has limits of its own.
    fn has_groups(&self, id: &ContainerId) -> bool {
        let listed = self.shared.native.look(&id.to_string()).ok().flatten();
        listed.is_some_and(|listed| berth_isolator::owns_groups(&listed.record.config).unwrap_or(false))
    }

    /// Runs what blocks on a thread of its own, and answers what comes of it.
    pub(crate) fn away<T, F>(&self, work: F) -> Answer<'static, T>
    where
        T: Clone + Send + 'static,
        F: FnOnce(&Arc<Shared>) -> Result<T, Error> + Send + 'static,
    {
        let answer = Settled::new();
        let (shared, settle) = (Arc::clone(&self.shared), answer.clone());
        match self.shared.thread(move || {
            let result = work(&shared);
            // Whoever is answered may drop the containerizer, which waits for this thread.
            drop(shared);
            settle.settle(result);
        }) {
            Ok(()) => Box::pin(answer.wait()),
            Err(e) => ready(Err(e)),
        }
    }
}

impl Drop for MesosContainerizer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Containerizer for MesosContainerizer {
    fn name(&self) -> &str {
        "mesos"
    }

    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()> {
        self.away(move |shared| recover::recover(shared, state.as_ref()))
    }

    fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        pid_checkpoint: Option<PathBuf>,
    ) -> Answer<'_, LaunchResult> {
        if self.shared.get(id).is_some() {
            return ready(Ok(LaunchResult::AlreadyLaunched));
        }
        if let Some(parent) = id.parent() {
            return self.launch_nested(id, parent, config, environment, pid_checkpoint.is_some());
        }
        if config.container_info.as_ref().is_some_and(|info| info.r#type != ContainerType::Mesos) {
            return ready(Ok(LaunchResult::NotSupported));
        }
        let entry = match Entry::new(id.clone(), config.directory.clone(), NativeState::Starting) {
            Ok(entry) => Arc::new(entry),
            Err(e) => return ready(Err(e)),
        };
        if !self.shared.add(&entry) {
            return ready(Ok(LaunchResult::AlreadyLaunched));
        }
        let request = request(id, config, environment, pid_checkpoint);
        match self.shared.own(&entry, Job::Launch(Box::new(request))) {
            Ok(()) => Box::pin(entry.launched.wait()),
            Err(e) => ready(Err(e)),
        }
    }

    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        let Some(entry) = self.shared.get(id) else {
            warn(&format!("an update of container {id} is ignored: it is unknown, or has ended"));
            return ready(Ok(()));
        };
        if entry.session {
            let text = format!("session {id} has no limits of its own: update its container");
            return ready(Err(Error::other(Class::Unsupported, text)));
        }
        if id.is_nested() && !self.has_groups(id) {
            let text = format!(
                "container {id} has no limits of its own, but those of the one around it: update that"
            );
            return ready(Err(Error::other(Class::Unsupported, text)));
        }
        let asked = (requests.clone(), limits.clone());
        match measure::limits_of(requests, limits) {
            Ok(limits) => Box::pin(entry.inbox.update(limits, asked).wait()),
            Err(e) => ready(Err(e)),
        }
    }

    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        if self.shared.get(id).is_none() {
            return ready(Err(Error::UnknownContainer(id.clone())));
        }
        // A few small files of the kernel's: nothing that could hang.
        ready(Ok(self.shared.groups.usage(&self.shared.native.places(id).cgroup)))
    }

    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus> {
        let Some(entry) = self.shared.get(id) else {
            return ready(Err(Error::UnknownContainerColon(id.clone())));
        };
        ready(Ok(ContainerStatus {
            cgroup_info: self.shared.groups.mark(&self.shared.native.places(id).cgroup),
            container_id: Some(id.clone()),
            executor_pid: entry.now().process.and_then(|process| u32::try_from(process.pid).ok()),
            ..ContainerStatus::default()
        }))
    }

    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        match self.shared.get(id) {
            Some(entry) => Box::pin(entry.ended.wait()),
            None => ready(Ok(None)),
        }
    }

    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        let Some(entry) = self.shared.get(id) else {
            warn(&format!("{UNKNOWN_DESTROYED} {id}"));
            return ready(Ok(None));
        };
        entry.inbox.destroy();
        Box::pin(entry.ended.wait())
    }

    fn stop_signal(&self, id: &ContainerId) -> Option<i32> {
        self.shared.native.look(&id.to_string()).ok().flatten()?.record.stop_signal
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        let Some(entry) = self.shared.get(id) else { return ready(Ok(false)) };
        let now = entry.now();
        if now.terminated {
            return ready(Ok(false));
        }
        // 64 is the last real-time signal, signal(7); 0 asks whether there is a process.
        if !(0..=64).contains(&signal) {
            return ready(Err(Error::signal(&Errno::INVAL.into())));
        }
        match (now.process, now.state) {
            (Some(process), NativeState::Running | NativeState::Destroying) => {
                ready(match berth_sys::signal::send(&*process.pidfd, signal) {
                    // Whatever the version of control groups, this ends what it is sent to.
                    Ok(()) if signal == 9 && entry.now().paused => {
                        return self.away(move |shared| {
                            pause::let_end(shared, &entry, &shared.native.places(&entry.id).cgroup);
                            Ok(true)
                        });
                    }
                    Ok(()) => Ok(true),
                    Err(Errno::SRCH) => Ok(false),
                    Err(e) => Err(Error::signal(&e.into())),
                })
            }
            // It has ended, and is being cleaned up.
            (None, NativeState::Destroying) => ready(Ok(false)),
            // The command has not begun: there is nothing yet that could heed a signal.
            _ => {
                if signal != 0 {
                    entry.inbox.destroy();
                }
                ready(Ok(true))
            }
        }
    }

    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        let living = |entry: &Arc<Entry>| (!entry.now().terminated).then(|| entry.id.clone());
        ready(Ok(self.shared.all().iter().filter_map(living).collect()))
    }

    fn knows(&self, id: &ContainerId) -> bool {
        self.shared.get(id).is_some()
    }

    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        let Some(entry) = self.shared.get(id) else {
            let root_is_known = id.parent().is_none() || self.shared.get(id.root()).is_some();
            return ready(if root_is_known { Ok(()) } else { Err(Error::UnknownRoot) });
        };
        let (removed, ours) = match entry.claim_removal() {
            Ok(claimed) => claimed,
            Err(e) => return ready(Err(e)),
        };
        if ours {
            return self.away(move |shared| remove(shared, &entry, &removed));
        }
        Box::pin(removed.wait())
    }

    fn remove_here(&self, id: &ContainerId) -> Result<(), Error> {
        if let Some(entry) = self.shared.get(id) {
            let (removed, ours) = entry.claim_removal()?;
            if ours {
                return remove(&self.shared, &entry, &removed);
            }
        }
        block_on(self.remove(id))
    }

    fn prune_images(&self, excluded: Vec<Image>) -> Answer<'_, ()> {
        if self.shared.native.provision.is_none() {
            return ready(Ok(()));
        }
        self.away(move |shared| provision::prune(&shared.native, &excluded))
    }

    fn events(&self, since: u64) -> Subscription {
        self.shared.events.since(since)
    }

    fn metrics(&self) -> Vec<(String, f64)> {
        let counted = self.shared.native.fetching.as_ref().and_then(crate::Fetching::metrics);
        let named = |counted: crate::fetcher::Metrics| {
            [
                ("cache_size_total_bytes", counted.cache_size_total_bytes),
                ("cache_size_used_bytes", counted.cache_size_used_bytes),
                ("task_fetches_failed", counted.task_fetches_failed),
                ("task_fetches_succeeded", counted.task_fetches_succeeded),
            ]
            .map(|(name, count)| (format!("containerizer/fetcher/{name}"), count as f64))
            .to_vec()
        };
        counted.map(named).unwrap_or_default()
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

    fn nesting(&self) -> Option<&dyn Nesting> {
        Some(self)
    }

    fn pull(&self) -> Option<&dyn Pull> {
        self.shared.native.provision.as_ref().map(|_| self as &dyn Pull)
    }
}

/// What the core is asked for.
pub(crate) fn request(
    id: &ContainerId,
    config: ContainerConfig,
    environment: Variables,
    pid_checkpoint: Option<PathBuf>,
) -> Request {
    let root = match &config.rootfs {
        None => RootSource::Host,
        Some(path) => RootSource::Directory(path.clone()),
    };
    Request {
        root,
        working_directory: config.command_info.working_directory.clone(),
        environment: environment.into_iter().collect(),
        // The program of a task does not know that it is the first, and is to heed SIGTERM as it would anywhere.
        init: config.task_info.is_some(),
        // The launch has succeeded when all that was asked for is in force, so when the program was executed.
        notify: true,
        pid_checkpoint,
        ..Request::new(id.clone(), config)
    }
}

/// Refuses what would be left out in silence.
///
/// # Errors
/// [`Class::Unsupported`], with what it is.
pub(crate) fn supported(config: &ContainerConfig) -> crate::Result<()> {
    let refused = |text: &str| Err(berth_launcher::Error::Unsupported(text.to_owned()).into());
    let secret = |v: &&Variable| v.r#type == VariableType::Secret;
    if let Some(secret) = config.command_info.environment.variables.iter().find(secret) {
        // The words of Mesos.
        return refused(&format!(
            "Error: Environment variable '{}' contains secret but no secret resolver provided",
            secret.name
        ));
    }
    Ok(())
}

/// Removes an ended container; how that ends is told to all who asked for it.
fn remove(shared: &Arc<Shared>, entry: &Entry, removed: &Settled<Result<(), Error>>) -> Result<(), Error> {
    let result = forget(shared, entry);
    if result.is_err() {
        entry.disclaim_removal();
    }
    removed.settle(result.clone());
    result
}

/// Takes away what an ended container has left: sandbox, runtime directory, record. In this order: what its supervisor
/// wrote of its end goes last.
fn forget(shared: &Arc<Shared>, entry: &Entry) -> Result<(), Error> {
    for inside in shared.below(&entry.id) {
        // Its container has ended, and so has it. Its sandbox is in that one's.
        if let Ok((removed, true)) = inside.claim_removal() {
            let result = shared.remove(&inside);
            if result.is_ok() {
                shared.forget(&inside.id);
                shared.events.publish(&inside.id, What::Removed);
            } else {
                inside.disclaim_removal();
            }
            removed.settle(result.clone());
            result?;
        }
    }
    match entry.id.is_nested() {
        false => remove_sandbox(&entry.sandbox),
        true if entry.session => Ok(()),
        true => match shared.get(entry.id.root()) {
            Some(outermost) => nested::remove_sandbox(&outermost.sandbox, &entry.id),
            None => Ok(()),
        },
    }
    .map_err(Error::RemoveSandbox)?;
    shared.remove(entry)?;
    shared.forget(&entry.id);
    shared.events.publish(&entry.id, What::Removed);
    Ok(())
}

/// Removes a directory by its name in the one above, whatever the container put into it.
fn remove_sandbox(sandbox: &Path) -> Result<(), String> {
    let Some((above, name)) = sandbox.parent().zip(sandbox.file_name()) else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = match openat(CWD, above, flags, Mode::empty()) {
        Ok(above) => above,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(format!("open {}: {}", above.display(), std::io::Error::from(e))),
    };
    let removal = berth_image::remove_tree(above.as_fd(), name);
    let failures: Vec<String> = removal.failures.iter().map(|f| collect::chain(f)).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_version_would_leave_out_is_refused_by_name() {
        assert!(supported(&ContainerConfig::default()).is_ok());

        let mut config = ContainerConfig::default();
        config.command_info.environment.variables =
            vec![Variable { name: "S".to_owned(), r#type: VariableType::Secret, ..Variable::default() }];
        let error = supported(&config).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
        assert_eq!(
            error.to_string(),
            "Error: Environment variable 'S' contains secret but no secret resolver provided"
        );
    }
}
