// SPDX-License-Identifier: Apache-2.0
//! What tests stand on: directories and control groups of their own, an agent on them, and at the end a look for what
//! is left on the host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use berth_agent::{Agent, StartError};
use berth_cgroup::Hierarchies;
use berth_config::{Resolved, Sources, load};
use berth_conformance::{Ledger, Scope, Site};
use berth_contract::Containerizer;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::client::{self, Answer, PATIENCE, Pending, Records, about};

/// Runs a test on ground of its own, if containers can be made here.
pub(crate) fn on(name: &str, test: impl FnOnce(&mut Ground)) {
    if let Some(lacked) = lacked() {
        return berth_testing::skip(name, &lacked);
    }
    let mut ground = Ground::new(name);
    let tested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&mut ground)));
    match tested {
        Ok(()) => ground.leave(),
        Err(panic) => {
            ground.rescue();
            std::panic::resume_unwind(panic);
        }
    }
}

fn lacked() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root: containers are made by root".to_owned());
    }
    Hierarchies::probe(Path::new(Hierarchies::ROOT)).err().map(|e| format!("control groups: {e}"))
}

/// Directories, and perhaps an agent on them.
pub(crate) struct Ground {
    pub(crate) site: Site,
    scope: Scope,
    before: Ledger,
    runtime: Runtime,
    agent: Option<Agent>,
    more: Vec<String>,
}

impl Ground {
    fn new(name: &str) -> Ground {
        let site = Site::new(name).unwrap();
        let scope = site.scope();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Ground { before: Ledger::take(&scope), scope, site, runtime, agent: None, more: Vec::new() }
    }

    /// Further flags of the agents to come.
    pub(crate) fn with(&mut self, flag: &str) {
        self.more.push(flag.to_owned());
    }

    /// None of the further flags any more.
    pub(crate) fn without(&mut self) {
        self.more.clear();
    }

    /// The flags of an agent here.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let own = [
            format!("--work_dir={}", self.site.work_dir().display()),
            format!("--runtime_dir={}", self.site.runtime_dir().display()),
            format!("--cgroups_root={}", self.site.cgroup().display()),
        ];
        own.into_iter().chain(self.more.iter().cloned()).collect()
    }

    fn flags(&self) -> Resolved {
        let arguments = self.arguments().into_iter().map(Into::into).collect();
        let sources = Sources { arguments, environment: Vec::new(), working_directory: "/".into() };
        load(&sources).unwrap()
    }

    /// An agent over a containerizer that is not the factory's.
    pub(crate) fn start_with(
        &mut self,
        make: impl FnOnce(&Resolved) -> Result<Arc<dyn Containerizer>, StartError> + Send + 'static,
    ) {
        let agent = self.runtime.block_on(Agent::start_with(self.flags(), None, make)).unwrap();
        self.runtime.block_on(agent.recovered()).unwrap();
        self.agent = Some(agent);
    }

    pub(crate) fn try_start(&mut self) -> Result<(), StartError> {
        let agent = self.runtime.block_on(Agent::start(self.flags(), None))?;
        let recovered = self.runtime.block_on(agent.recovered());
        match recovered {
            Ok(()) => self.agent = Some(agent),
            Err(_) => self.runtime.block_on(agent.stop()),
        }
        recovered
    }

    pub(crate) fn start(&mut self) {
        if let Err(error) = self.try_start() {
            panic!("no agent: {error:?}");
        }
    }

    pub(crate) fn stop(&mut self) {
        let agent = self.agent.take().unwrap();
        self.runtime.block_on(agent.stop());
    }

    /// A second agent on the same directories.
    pub(crate) fn second(&self) -> Result<(), StartError> {
        self.runtime.block_on(Agent::start(self.flags(), None)).map(|_| ())
    }

    pub(crate) fn tasks(&self) -> Arc<dyn berth_tasks::link::AgentSide> {
        self.agent.as_ref().unwrap().tasks()
    }

    pub(crate) fn tcp(&self) -> Option<std::net::SocketAddr> {
        self.agent.as_ref().unwrap().tcp()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.site.runtime_dir().join("berth.sock")
    }

    pub(crate) fn call(&self, call: &Value) -> Answer {
        client::call(&self.socket(), call)
    }

    pub(crate) fn send(&self, call: &Value) -> Pending {
        client::send(&self.socket(), call).unwrap()
    }

    pub(crate) fn stream(&self, call: &Value) -> Records {
        client::stream(&self.socket(), call)
    }

    pub(crate) fn launch(&self, id: &str, command: &str) {
        let answer = self.call(&client::launch(id, command));
        assert_eq!(answer.says(), (200, ""), "launch of {id}");
    }

    /// How a container ended.
    pub(crate) fn wait(&self, id: &str) -> Value {
        self.call(&about("WAIT_CONTAINER", id)).json()["wait_container"].clone()
    }

    pub(crate) fn kill(&self, id: &str) -> Answer {
        self.call(&about("KILL_CONTAINER", id))
    }

    pub(crate) fn remove(&self, id: &str) -> Answer {
        self.call(&about("REMOVE_CONTAINER", id))
    }

    pub(crate) fn inspect(&self, id: &str) -> Value {
        self.call(&about("INSPECT_CONTAINER", id)).json()["inspect_container"].clone()
    }

    /// The ids of the standalone containers that live.
    pub(crate) fn listed(&self) -> Vec<String> {
        let call = json!({ "type": "GET_CONTAINERS", "get_containers": { "show_standalone": true } });
        let answer = self.call(&call).json();
        let containers = answer["get_containers"]["containers"].as_array().cloned().unwrap_or_default();
        containers.iter().map(|c| c["container_id"]["value"].as_str().unwrap().to_owned()).collect()
    }

    /// Ends everything after a test has failed.
    fn rescue(mut self) {
        if self.agent.is_some() || self.try_start().is_ok() {
            let agent = self.agent.take().unwrap();
            let _ = self.runtime.block_on(agent.destroy_all());
            self.runtime.block_on(agent.stop());
        }
        if let Ok(hierarchies) = Hierarchies::probe(Path::new(Hierarchies::ROOT)) {
            let _ = hierarchies.prune(&self.site.cgroup().display().to_string());
        }
    }

    /// Ends everything, and looks for what is left.
    fn leave(mut self) {
        if self.agent.is_none() {
            self.start();
        }
        let explained = self.call(&json!({ "type": "EXPLAIN_GC" })).json()["explain_gc"].clone();
        for list in ["removed", "kept"] {
            for item in explained[list].as_array().cloned().unwrap_or_default() {
                // Images are among them, and go with the directories.
                let Some(id) = item["container_id"]["value"].as_str().map(str::to_owned) else { continue };
                self.kill(&id);
                // An executor's goes by itself when it has ended, at any of these moments. What is left is looked for below.
                if self.call(&about("WAIT_CONTAINER", &id)).status != 404 {
                    let removed = self.remove(&id);
                    assert!(matches!(removed.status, 200 | 404), "removal of {id}: {removed:?}");
                }
            }
        }
        self.stop();
        let Ground { site, scope, before, runtime, .. } = self;
        drop(runtime);
        let hierarchies = Hierarchies::probe(Path::new(Hierarchies::ROOT)).unwrap();
        let _ = hierarchies.prune(&site.cgroup().display().to_string());
        for directory in ["meta/containers", "sandboxes", "containers"] {
            let Ok(entries) = std::fs::read_dir(site.work_dir().join(directory)) else { continue };
            let left: Vec<_> = entries.collect();
            assert!(left.is_empty(), "left in {directory}: {left:?}");
        }
        // What an agent keeps on purpose.
        let directories = [site.work_dir(), site.runtime_dir()];
        for directory in directories {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let removed =
                    if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                removed.unwrap();
            }
        }
        if let Err(left) = before.settle(&scope, Instant::now() + PATIENCE) {
            panic!("left on the host: {left:#?}");
        }
    }
}
