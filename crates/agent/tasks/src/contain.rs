// SPDX-License-Identifier: Apache-2.0
//! What the engine asks of the agent's containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_model::{ContainerConfig, ContainerId, ContainerTermination};
use berth_proto::v1;

use crate::built_in::{Containers, Later};

/// A container to launch.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its id.
    pub id: ContainerId,
    /// What it is best called, if that is free and can be a name.
    pub name: String,
    /// What runs in it. Its directory is for the agent to choose: see [`Containing::sandbox`].
    pub config: ContainerConfig,
    /// Variables below the command's own.
    pub environment: BTreeMap<String, String>,
}

/// The agent's containers, as the engine of tasks sees them.
pub trait Containing: Send + Sync {
    /// Launches a container. `false`: there is no containerizer for it. A failed launch leaves nothing.
    ///
    /// # Errors
    /// Why it was not launched, for a task's message.
    fn launch(&self, launch: Launch) -> Later<'_, Result<bool, String>>;

    /// Whether there is a record of a container.
    fn exists(&self, id: &ContainerId) -> bool;

    /// Waits for its end; `None` for one that nobody knows.
    fn wait(&self, id: ContainerId) -> Later<'_, Option<ContainerTermination>>;

    /// Sets its requests and limits anew. One that has ended is no error.
    ///
    /// # Errors
    /// What can not be enforced, for a task's message.
    fn limit(
        &self,
        id: ContainerId,
        resources: Vec<v1::Resource>,
        limits: BTreeMap<String, v1::value::Scalar>,
    ) -> Later<'_, Result<(), String>>;

    /// Ends it at once, with everything in it.
    fn destroy(&self, id: ContainerId) -> Later<'_, ()>;

    /// Where it is and who it is; without what can not be had soon.
    fn status(&self, id: ContainerId) -> Later<'_, v1::ContainerStatus>;

    /// Where its sandbox is, or will be.
    fn sandbox(&self, id: &ContainerId) -> std::path::PathBuf;

    /// An executor is over, with all that its tasks had to say. Nothing waits for what follows from it. Called within
    /// the runtime.
    fn over(&self, framework: v1::FrameworkInfo, executor: v1::ExecutorInfo, id: ContainerId) {
        drop((framework, executor, id));
    }

    /// What built-in executors may do.
    fn containers(&self) -> Arc<dyn Containers>;
}
