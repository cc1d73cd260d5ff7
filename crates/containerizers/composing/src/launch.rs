// SPDX-License-Identifier: Apache-2.0
//! A launch that goes from child to child.
//!
//! ```text
//! asked the first ── not supported ──▶ asked the next ── … ──▶ nobody left: not supported
//!       │                   │
//!       │ any other answer  │ destroyed meanwhile
//!       ▼                   ▼
//!  that is the answer     failed, and no other is asked
//! ```
//!
//! A destroy finds a launch under one lock with the question to a child: so either the child knows the container, and is
//! told, or it is never asked.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use berth_contract::{Containerizer, Error, LaunchResult, Variables};
use berth_model::{Class, ContainerConfig, ContainerId};

/// One containerizer of several.
pub(crate) struct Child {
    pub(crate) containerizer: Arc<dyn Containerizer>,
    /// Why it takes nothing, if it could not recover.
    pub(crate) down: std::sync::OnceLock<Error>,
}

/// What the launches under way share with the calls.
pub(crate) struct Inner {
    pub(crate) children: Vec<Child>,
    launching: Mutex<HashMap<ContainerId, Launching>>,
}

/// A launch under way.
#[derive(Clone, Copy)]
struct Launching {
    /// Who was asked last.
    child: usize,
    /// Nobody else shall be asked.
    destroyed: bool,
}

/// What a container is asked for; each child that is asked gets a copy.
pub(crate) struct Asked {
    pub(crate) id: ContainerId,
    pub(crate) config: ContainerConfig,
    pub(crate) environment: Variables,
    pub(crate) pid_checkpoint: Option<PathBuf>,
}

impl Inner {
    pub(crate) fn new(children: Vec<Arc<dyn Containerizer>>) -> Inner {
        let child = |containerizer| Child { containerizer, down: std::sync::OnceLock::new() };
        Inner { children: children.into_iter().map(child).collect(), launching: Mutex::new(HashMap::new()) }
    }

    /// Those that could recover.
    pub(crate) fn up(&self) -> impl Iterator<Item = &Arc<dyn Containerizer>> {
        self.children.iter().filter(|child| child.down.get().is_none()).map(|child| &child.containerizer)
    }

    /// Whose the container is.
    pub(crate) fn owner(&self, id: &ContainerId) -> Option<&Arc<dyn Containerizer>> {
        self.up().find(|child| child.knows(id))
    }

    /// Whose it is or, nested, would be.
    pub(crate) fn owner_of_root(&self, id: &ContainerId) -> Option<&Arc<dyn Containerizer>> {
        self.owner(id).or_else(|| self.owner(id.root()))
    }

    /// Takes an id for a launch; `false` when somebody has it.
    pub(crate) fn claim(&self, id: &ContainerId) -> bool {
        let mut launching = self.launching();
        if launching.contains_key(id) || self.owner(id).is_some() {
            return false;
        }
        launching.insert(id.clone(), Launching { child: 0, destroyed: false });
        true
    }

    /// The ids of launches under way.
    pub(crate) fn claimed(&self) -> Vec<ContainerId> {
        self.launching().keys().cloned().collect()
    }

    /// A destroy: no further child is asked. Returns who was asked last, if a launch is under way.
    pub(crate) fn stop(&self, id: &ContainerId) -> Option<&Arc<dyn Containerizer>> {
        let mut launching = self.launching();
        let launch = launching.get_mut(id)?;
        launch.destroyed = true;
        self.children.get(launch.child).map(|child| &child.containerizer)
    }

    /// Asks one after the other.
    pub(crate) async fn launch(&self, asked: Asked) -> Result<LaunchResult, Error> {
        let result = self.ask_all(&asked).await;
        self.launching().remove(&asked.id);
        result
    }

    async fn ask_all(&self, asked: &Asked) -> Result<LaunchResult, Error> {
        for (index, child) in self.children.iter().enumerate() {
            if child.down.get().is_some() {
                continue;
            }
            match self.ask(index, child, asked).await? {
                LaunchResult::NotSupported => {}
                // Of two, so told to who asked: no other child is tried for an id that exists.
                answer => return Ok(answer),
            }
        }
        if self.launching().get(&asked.id).is_some_and(|launch| launch.destroyed) {
            return Err(Error::DestroyedWhileLaunching);
        }
        match self.down() {
            None => Ok(LaunchResult::NotSupported),
            Some((name, why)) => Err(Error::because(
                Class::Internal,
                format!(
                    "no containerizer took container {}, and {name} was not asked, because it could not recover \
                     (mend it and start the agent anew)",
                    asked.id
                ),
                why.clone(),
            )),
        }
    }

    /// That nobody has a container; which can not be said while one is down that may.
    pub(crate) fn is_nobodys(&self, id: &ContainerId) -> Result<(), Error> {
        match self.down() {
            None => Ok(()),
            Some((name, why)) => Err(Error::because(
                Class::Internal,
                format!(
                    "container {id} may be one of the {name} containerizer, which could not recover (mend it and start \
                     the agent anew)"
                ),
                why.clone(),
            )),
        }
    }

    fn down(&self) -> Option<(&str, &Error)> {
        self.children.iter().find_map(|child| Some((child.containerizer.name(), child.down.get()?)))
    }

    /// Asks one child, unless there was a destroy. The question and the note of it are one step for who destroys.
    async fn ask(&self, index: usize, child: &Child, asked: &Asked) -> Result<LaunchResult, Error> {
        let mut answer = None;
        std::future::poll_fn(|context| {
            let mut under_way = match &answer {
                None => Some(self.launching()),
                Some(_) => None,
            };
            if let Some(launching) = &mut under_way {
                match launching.get_mut(&asked.id) {
                    Some(launch) if launch.destroyed => {
                        return Poll::Ready(Err(Error::DestroyedWhileLaunching));
                    }
                    Some(launch) => launch.child = index,
                    None => {}
                }
            }
            let answer = answer.get_or_insert_with(|| {
                let Asked { id, config, environment, pid_checkpoint } = asked;
                child.containerizer.launch(id, config.clone(), environment.clone(), pid_checkpoint.clone())
            });
            answer.as_mut().poll(context)
        })
        .await
    }

    fn launching(&self) -> MutexGuard<'_, HashMap<ContainerId, Launching>> {
        // Whole between any two of its statements.
        self.launching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
