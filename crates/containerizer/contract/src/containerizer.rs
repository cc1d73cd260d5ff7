// SPDX-License-Identifier: Apache-2.0
//! The contract that every containerizer keeps. Each method says what it promises; `berth-conformance` tests
//! it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use berth_model::{
    ContainerConfig, ContainerId, ContainerInfo, ContainerStatus, ContainerTermination, ExecutorInfo, Image,
    ResourceStatistics, Resources,
};

use crate::{Answer, Attach, Error, Exec, Nesting, Pause, Pull, Subscription, block_on, ready};

/// Variables for a container's processes, by name. A later writer of a name replaces an earlier one.
pub type Variables = BTreeMap<String, String>;

/// Limits by resource name (`cpus` in processors, `mem` in MB); infinity means that there is none.
pub type Limits = BTreeMap<String, f64>;

/// How a launch ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaunchResult {
    /// The container runs.
    Success,
    /// There is a record with this id (living, failed, or ended and not removed); nothing was done.
    AlreadyLaunched,
    /// Not a container of this containerizer's kind; nothing was done and nothing was left, so that another
    /// may try with the same id and sandbox.
    NotSupported,
}

/// What the agent remembers of the containers it launched, for [`Containerizer::recover`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentState {
    /// The newest run of each executor.
    pub runs: Vec<KnownRun>,
}

/// One executor's run as the agent's own records have it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownRun {
    /// The container.
    pub id: ContainerId,
    /// The executor in it.
    pub executor: Option<ExecutorInfo>,
    /// The container that was asked for, when it is not the executor's.
    pub container: Option<ContainerInfo>,
    /// Its sandbox on the host.
    pub directory: PathBuf,
    /// The pid that the launch checkpointed; `None` if it did not come so far, or after a reboot.
    pub pid: Option<u32>,
    /// Whether the agent has seen its end.
    pub completed: bool,
}

/// One technology of containers: launches them, watches them, limits them, takes them away.
///
/// **Answers.** A call takes effect no later than the first poll of its [`Answer`], and dropping the answer
/// never undoes or disturbs anything. Calls may come from any number of threads.
///
/// **Where we differ from Mesos**, for every containerizer: a termination is kept, for top-level containers
/// too, until [`remove`](Containerizer::remove), so a [`wait`](Containerizer::wait) or destroy after the exit
/// answers it; `kill`, `status` and `remove` are there for all; an `update` of an id that is gone succeeds
/// everywhere (the composing containerizer of Mesos fails it).
pub trait Containerizer: Send + Sync {
    /// The name it goes by in `--containerizers`.
    fn name(&self) -> &str;

    /// Takes over what an earlier agent left. Called once, before any other call.
    ///
    /// Containers that run and are known (from `state`, or standalone ones from the containerizer's own
    /// records) are re-adopted: they can be waited for, limited and destroyed as before. Containers on the
    /// host that nobody knows, or all executors' containers when `state` is `None`, are destroyed and cleaned
    /// up. What ended meanwhile has its termination with the exact status if a record of it was written.
    /// Everything static that the containerizer keeps on the host is made here at the latest. A failure makes
    /// the agent exit.
    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()>;

    /// Launches a container.
    ///
    /// `environment` goes to the container's process, below the command's own variables. With
    /// `pid_checkpoint` the process's pid is written there, as decimal text, *before* the process may run the
    /// command.
    ///
    /// On success the process has been made and everything that was asked for is in force. After a failure,
    /// or when the answer was dropped, the caller **must** call [`destroy`](Containerizer::destroy)
    /// (MESOS-6214): until then the record stays, and says why. A failed launch leaves nothing on the host
    /// but that record.
    ///
    /// A destroy that arrives during the launch makes it fail (`Container destroyed during preparing` and so
    /// on), or, if it had succeeded already, leaves the success in place; an id that was destroyed is never
    /// brought back by a launch that was under way.
    ///
    /// A nested id needs its parent to be there and alive; see [`Nesting`].
    fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        pid_checkpoint: Option<PathBuf>,
    ) -> Answer<'_, LaunchResult>;

    /// Sets the *complete* new requests and limits; what is not named any more is no longer limited.
    ///
    /// A limit that can not be enforced fails the call. An id that is unknown, ended, or being destroyed is
    /// no error (a warning is logged): the container may end at any moment. Calls for one container take
    /// effect in the order they were made in.
    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()>;

    /// What the container uses now. Parts that can not be measured are absent. Unknown id:
    /// [`Error::UnknownContainer`](crate::Error::UnknownContainer).
    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics>;

    /// Where the container is: addresses, pid. Parts that can not be had are absent. Answers for one
    /// container come in the order of the calls. Unknown id:
    /// [`Error::UnknownContainerColon`](crate::Error::UnknownContainerColon).
    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus>;

    /// Waits for the container's end; `None` for an id without a record.
    ///
    /// Any number may wait, before and after the end, and all get the same termination. When it is answered,
    /// the container has been cleaned up. It fails only if the clean-up failed, never because of a destroy.
    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>>;

    /// Ends the container and takes everything away that it holds, then answers as
    /// [`wait`](Containerizer::wait) does.
    ///
    /// Legal in every state and idempotent; all who destroy or wait share one termination. Nested containers
    /// go first, children before parents. What is under way (a fetch, a pull, a hook) is cancelled at once.
    /// An unknown id is answered with `None` and the warning [`UNKNOWN_DESTROYED`]. Of a launch that failed
    /// it also takes the record away.
    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>>;

    /// Sends a signal to the container's first process; `false` for an id that is unknown or has ended. If
    /// there is no process yet, the container is destroyed and `true` returned. No termination is implied:
    /// the process may ignore the signal. A number that is no signal fails with
    /// [`Error::Signal`](crate::Error::Signal).
    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool>;

    /// The signal that asks the container to end, where its image says so. It may read a record of it, and waits for
    /// nothing.
    fn stop_signal(&self, id: &ContainerId) -> Option<i32> {
        let _ = id;
        None
    }

    /// What it is called where it really is, if that has names of its own: at an engine, for one. At once, without a question
    /// to anybody else.
    fn underlying_name(&self, id: &ContainerId) -> Option<String> {
        let _ = id;
        None
    }

    /// What the engine behind it says of a container, in that engine's own words: of Docker the array that `docker inspect`
    /// writes. None without such an engine, and of an id that is unknown.
    fn describe(&self, id: &ContainerId) -> Answer<'_, Option<Vec<u8>>> {
        let _ = id;
        ready(Ok(None))
    }

    /// Every id that is launching, running or being destroyed, nested ones too; and those whose launch
    /// failed, until they are destroyed. Ended ones are not listed, though they have a record.
    fn containers(&self) -> Answer<'_, Vec<ContainerId>>;

    /// Whether there is a record with this id: of a launch under way, of a container that lives, has failed or has ended.
    /// At once, and without a question to anybody else.
    fn knows(&self, id: &ContainerId) -> bool;

    /// Forgets a container that has ended: its sandbox first, then runtime directory and record; so whoever is killed in
    /// between still knows how it ended.
    ///
    /// A living one fails with [`Error::NestedNotTerminated`](crate::Error::NestedNotTerminated) or
    /// [`Error::NotTerminated`](crate::Error::NotTerminated). An id that is gone already is a success; a
    /// nested id whose root is unknown fails with [`Error::UnknownRoot`](crate::Error::UnknownRoot).
    fn remove(&self, id: &ContainerId) -> Answer<'_, ()>;

    /// The same for who may block: done when it returns. One that would only wait for a thread of its own does it on the
    /// caller's.
    ///
    /// # Errors
    /// As those of `remove`.
    fn remove_here(&self, id: &ContainerId) -> Result<(), Error> {
        block_on(self.remove(id))
    }

    /// Deletes the images that no container uses and that are not in `excluded`. A containerizer without a
    /// store of its own has nothing to do.
    fn prune_images(&self, excluded: Vec<Image>) -> Answer<'_, ()>;

    /// Follows what happens to the containers, from the first event with a number greater than `since` that
    /// is still kept (0: the oldest).
    fn events(&self, since: u64) -> Subscription;

    /// What it counts, by the names of the agent's metrics.
    fn metrics(&self) -> Vec<(String, f64)> {
        Vec::new()
    }

    /// Connecting to the streams of running containers, if this technology can.
    fn attach(&self) -> Option<&dyn Attach> {
        None
    }

    /// Running further commands in a running container, if this technology can.
    fn exec(&self) -> Option<&dyn Exec> {
        None
    }

    /// Stopping and resuming all processes of a container, if this technology can.
    fn pause(&self) -> Option<&dyn Pause> {
        None
    }

    /// Explaining its pulls of images, if it pulls them itself.
    fn pull(&self) -> Option<&dyn Pull> {
        None
    }

    /// Containers in containers, if this technology can. Without it, a launch with a nested id fails with
    /// [`Error::NestedUnsupported`](crate::Error::NestedUnsupported).
    fn nesting(&self) -> Option<&dyn Nesting> {
        None
    }
}

/// The warning about a destroy of an id without a record; the id follows.
pub const UNKNOWN_DESTROYED: &str = "Attempted to destroy unknown container";

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not compile if the contract or a facet is not object safe, or can not be shared between threads.
    #[test]
    fn the_contract_and_its_facets_are_object_safe_and_shared() {
        fn shared<T: Send + Sync + ?Sized>() -> usize {
            std::mem::size_of::<&T>()
        }
        let wide = 2 * std::mem::size_of::<usize>();
        assert_eq!(shared::<dyn Containerizer>(), wide);
        assert_eq!(shared::<dyn Attach>(), wide);
        assert_eq!(shared::<dyn Exec>(), wide);
        assert_eq!(shared::<dyn Pause>(), wide);
        assert_eq!(shared::<dyn Pull>(), wide);
        assert_eq!(shared::<dyn Nesting>(), wide);
    }
}
