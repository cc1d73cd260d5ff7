// SPDX-License-Identifier: Apache-2.0
//! The calls of the contract: each finds the child whose container it is about.
//!
//! **Where we differ from Mesos** (its composing containerizer keeps a map of its own): the operator's order is kept; an id
//! that a child has already is told as such and no other child is asked; an update of an id that is gone succeeds; two
//! children that claim one id after a restart are told of; one child that can not recover does not take the others away,
//! unless the operator wants that, and what nobody else knows may be its, and is not removed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use berth_contract::{
    AgentState, Answer, Attach, Containerizer, Error, EventLog, Exec, LaunchResult, Limits, Nesting, Pause,
    Pull, Subscription, UNKNOWN_DESTROYED, Variables, ready,
};
use berth_model::{
    ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, Image, ResourceStatistics, Resources,
};

use crate::driver::{Driver, all};
use crate::launch::{Asked, Child, Inner};

/// Whether one child that can not recover keeps the agent from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strict {
    /// It does.
    Yes,
    /// The others go on without it; a container that nobody else takes is refused with its reason.
    No,
}

/// Several containerizers in one. Dropping it leaves their containers alone.
pub struct ComposingContainerizer {
    pub(crate) inner: Arc<Inner>,
    pub(crate) driver: Driver,
    events: EventLog,
    strict: Strict,
}

impl std::fmt::Debug for ComposingContainerizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.inner.children.iter().map(|child| child.containerizer.name()).collect();
        f.debug_struct("ComposingContainerizer")
            .field("children", &names)
            .field("strict", &self.strict)
            .finish()
    }
}

impl ComposingContainerizer {
    /// Asks `children` in this order. All of them publish into `events`, so that there is one order of what happens.
    ///
    /// # Errors
    /// That of making the thread which carries launches on.
    pub fn new(
        children: Vec<Arc<dyn Containerizer>>,
        events: EventLog,
        strict: Strict,
    ) -> std::io::Result<ComposingContainerizer> {
        let inner = Arc::new(Inner::new(children));
        Ok(ComposingContainerizer { inner, driver: Driver::start()?, events, strict })
    }
}

impl Containerizer for ComposingContainerizer {
    fn name(&self) -> &str {
        "composing"
    }

    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()> {
        let (inner, strict) = (Arc::clone(&self.inner), self.strict);
        self.driver.answer(async move { recover(&inner, state, strict).await })
    }

    fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        pid_checkpoint: Option<PathBuf>,
    ) -> Answer<'_, LaunchResult> {
        if id.parent().is_some() {
            return match self.inner.owner_of_root(id) {
                Some(child) => child.launch(id, config, environment, pid_checkpoint),
                None => ready(Err(Error::RootNotFound(id.root().clone()))),
            };
        }
        if !self.inner.claim(id) {
            return ready(Ok(LaunchResult::AlreadyLaunched));
        }
        let inner = Arc::clone(&self.inner);
        let asked = Asked { id: id.clone(), config, environment, pid_checkpoint };
        self.driver.answer(async move { inner.launch(asked).await })
    }

    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        match self.inner.owner(id) {
            Some(child) => child.update(id, requests, limits),
            None => {
                warn(&format!("an update of container {id} is ignored: it is unknown, or has ended"));
                ready(Ok(()))
            }
        }
    }

    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        match self.inner.owner(id) {
            Some(child) => child.usage(id),
            None => ready(Err(Error::ContainerNotFound)),
        }
    }

    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus> {
        match self.inner.owner(id) {
            Some(child) => child.status(id),
            None => ready(Err(Error::ContainerNotFound)),
        }
    }

    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        match self.inner.owner_of_root(id) {
            Some(child) => child.wait(id),
            None => ready(Ok(None)),
        }
    }

    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        if let Some(asked) = self.inner.stop(id) {
            return asked.destroy(id);
        }
        match self.inner.owner_of_root(id) {
            Some(child) => child.destroy(id),
            None => {
                warn(&format!("{UNKNOWN_DESTROYED} {id}"));
                ready(Ok(None))
            }
        }
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        match self.inner.owner(id) {
            Some(child) => child.kill(id, signal),
            None => ready(Ok(false)),
        }
    }

    fn stop_signal(&self, id: &ContainerId) -> Option<i32> {
        self.inner.owner(id)?.stop_signal(id)
    }

    fn underlying_name(&self, id: &ContainerId) -> Option<String> {
        self.inner.owner(id)?.underlying_name(id)
    }

    fn describe(&self, id: &ContainerId) -> Answer<'_, Option<Vec<u8>>> {
        match self.inner.owner(id) {
            Some(child) => child.describe(id),
            None => ready(Ok(None)),
        }
    }

    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        let inner = Arc::clone(&self.inner);
        self.driver.answer(async move {
            // First those under way: one that its child takes meanwhile is then found at least once.
            let mut ids = inner.claimed();
            for listed in all(inner.up().map(|child| child.containers()).collect()).await {
                ids.extend(listed?);
            }
            ids.sort();
            ids.dedup();
            Ok(ids)
        })
    }

    fn knows(&self, id: &ContainerId) -> bool {
        self.inner.claimed().contains(id) || self.inner.owner(id).is_some()
    }

    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        match self.inner.owner_of_root(id) {
            Some(child) => child.remove(id),
            None if id.parent().is_some() => ready(Err(Error::RootNotFound(id.root().clone()))),
            None => ready(self.inner.is_nobodys(id)),
        }
    }

    fn remove_here(&self, id: &ContainerId) -> Result<(), Error> {
        match self.inner.owner_of_root(id) {
            Some(child) => child.remove_here(id),
            None if id.parent().is_some() => Err(Error::RootNotFound(id.root().clone())),
            None => self.inner.is_nobodys(id),
        }
    }

    fn prune_images(&self, excluded: Vec<Image>) -> Answer<'_, ()> {
        let inner = Arc::clone(&self.inner);
        self.driver.answer(async move {
            let asked = inner.up().map(|child| child.prune_images(excluded.clone())).collect();
            all(asked).await.into_iter().collect()
        })
    }

    fn events(&self, since: u64) -> Subscription {
        self.events.since(since)
    }

    fn metrics(&self) -> Vec<(String, f64)> {
        // Each may say more of itself; whether it takes containers at all is known here.
        let up = |child: &Child| {
            let up = f64::from(u8::from(child.down.get().is_none()));
            (format!("containerizer/{}/up", child.containerizer.name()), up)
        };
        let all = self.inner.children.iter();
        all.flat_map(|child| std::iter::once(up(child)).chain(child.containerizer.metrics())).collect()
    }

    fn attach(&self) -> Option<&dyn Attach> {
        self.inner.children.iter().any(|child| child.containerizer.attach().is_some()).then_some(self)
    }

    fn exec(&self) -> Option<&dyn Exec> {
        self.inner.children.iter().any(|child| child.containerizer.exec().is_some()).then_some(self)
    }

    fn pause(&self) -> Option<&dyn Pause> {
        self.inner.children.iter().any(|child| child.containerizer.pause().is_some()).then_some(self)
    }

    fn pull(&self) -> Option<&dyn Pull> {
        // Who pulls has no container to be found by: the first in the operator's order answers.
        self.inner.up().find_map(|child| child.pull())
    }

    fn nesting(&self) -> Option<&dyn Nesting> {
        self.inner.children.iter().any(|child| child.containerizer.nesting().is_some()).then_some(self)
    }
}

/// All recover at once, from the same state; each picks its own.
async fn recover(inner: &Inner, state: Option<AgentState>, strict: Strict) -> Result<(), Error> {
    let answers = inner.children.iter().map(|child| child.containerizer.recover(state.clone())).collect();
    let mut failed = None;
    for (child, result) in inner.children.iter().zip(all(answers).await) {
        if let Err(error) = result {
            if strict == Strict::No {
                warn(&format!(
                    "the {} containerizer could not recover and takes no containers: {}",
                    child.containerizer.name(),
                    error.chain()
                ));
            }
            failed.get_or_insert_with(|| error.clone());
            // Set once: recover is called once.
            let _ = child.down.set(error);
        }
    }
    if let Some(error) = failed.filter(|_| strict == Strict::Yes || inner.up().next().is_none()) {
        return Err(error);
    }
    told_once(inner).await
}

/// Says which containers are claimed twice. The first in the operator's order has them.
async fn told_once(inner: &Inner) -> Result<(), Error> {
    let mut owners: BTreeMap<ContainerId, &str> = BTreeMap::new();
    let lists = all(inner.up().map(|child| child.containers()).collect()).await;
    for (child, listed) in inner.up().zip(lists) {
        for id in listed? {
            if let Some(first) = owners.get(&id) {
                warn(&format!(
                    "container {id} is claimed by {first} and by {}: {first} has it",
                    child.name()
                ));
            } else {
                owners.insert(id, child.name());
            }
        }
    }
    Ok(())
}

/// Tells the operator what is not worth a failure.
fn warn(text: &str) {
    eprintln!("berth: {text}");
}
