// SPDX-License-Identifier: Apache-2.0
//! A child that answers what a test tells it to, when it is told to.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses its part; a poisoned lock is a failed test"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_contract::{
    AgentState, Answer, Containerizer, Error, EventLog, LaunchResult, Limits, NestedContainer, Nesting,
    Settled, Subscription, Variables, ready,
};
use berth_model::{
    Class, ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, Image, ResourceStatistics,
    Resources,
};

/// What it says to a launch. Without one of these it is not supported.
#[derive(Clone)]
pub(crate) enum Say {
    Now(Result<LaunchResult, Error>),
    /// When the gate is opened.
    Later(Settled<Result<LaunchResult, Error>>),
}

pub(crate) struct Scripted {
    name: &'static str,
    events: EventLog,
    say: Mutex<BTreeMap<ContainerId, Say>>,
    /// What it has a record of, with the end when it has ended.
    records: Mutex<BTreeMap<ContainerId, Settled<ContainerTermination>>>,
    calls: Mutex<Vec<String>>,
    pub(crate) recovery: Mutex<Option<Error>>,
    /// Whether it takes containers in containers.
    pub(crate) nests: AtomicBool,
}

impl Scripted {
    pub(crate) fn new(name: &'static str, events: &EventLog) -> Scripted {
        Scripted {
            name,
            events: events.clone(),
            say: Mutex::default(),
            records: Mutex::default(),
            calls: Mutex::default(),
            recovery: Mutex::default(),
            nests: AtomicBool::new(false),
        }
    }

    pub(crate) fn says(&self, id: &ContainerId, say: Say) {
        self.say.lock().unwrap().insert(id.clone(), say);
    }

    /// Gives it a record, as one that it recovers.
    pub(crate) fn has(&self, id: &ContainerId) {
        self.records.lock().unwrap().insert(id.clone(), Settled::new());
    }

    pub(crate) fn ends(&self, id: &ContainerId) {
        if let Some(ended) = self.records.lock().unwrap().get(id) {
            ended.settle(ContainerTermination { status: Some(9), ..ContainerTermination::default() });
        }
    }

    pub(crate) fn called(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn call(&self, what: &str, id: &ContainerId) {
        self.calls.lock().unwrap().push(format!("{what} {id}"));
    }

    fn end_of(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        let ended = self.records.lock().unwrap().get(id).cloned();
        Box::pin(async move {
            match ended {
                None => Ok(None),
                Some(ended) => Ok(Some(ended.wait().await)),
            }
        })
    }
}

pub(crate) fn failure() -> Error {
    Error::other(Class::Internal, "the test says so")
}

impl Containerizer for Scripted {
    fn name(&self) -> &str {
        self.name
    }
    fn recover(&self, _: Option<AgentState>) -> Answer<'_, ()> {
        ready(self.recovery.lock().unwrap().clone().map_or(Ok(()), Err))
    }
    fn launch(
        &self,
        id: &ContainerId,
        _: ContainerConfig,
        _: Variables,
        _: Option<PathBuf>,
    ) -> Answer<'_, LaunchResult> {
        self.call("launch", id);
        let say = self.say.lock().unwrap().get(id).cloned();
        let id = id.clone();
        let recorded = move |result: Result<LaunchResult, Error>| {
            if !matches!(result, Ok(LaunchResult::NotSupported)) {
                self.records.lock().unwrap().entry(id).or_default();
            }
            result
        };
        match say {
            None => ready(Ok(LaunchResult::NotSupported)),
            Some(Say::Now(result)) => ready(recorded(result)),
            Some(Say::Later(gate)) => Box::pin(async move { recorded(gate.wait().await) }),
        }
    }
    fn update(&self, id: &ContainerId, _: Resources, _: Limits) -> Answer<'_, ()> {
        self.call("update", id);
        ready(Ok(()))
    }
    fn usage(&self, _: &ContainerId) -> Answer<'_, ResourceStatistics> {
        ready(Err(Error::Unsupported))
    }
    fn status(&self, _: &ContainerId) -> Answer<'_, ContainerStatus> {
        ready(Err(Error::Unsupported))
    }
    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        self.call("wait", id);
        self.end_of(id)
    }
    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        self.call("destroy", id);
        self.ends(id);
        let answer = self.end_of(id);
        let failed = matches!(self.say.lock().unwrap().get(id), Some(Say::Now(Err(_))));
        if failed {
            self.records.lock().unwrap().remove(id);
        }
        answer
    }
    fn kill(&self, _: &ContainerId, _: i32) -> Answer<'_, bool> {
        ready(Ok(true))
    }
    fn stop_signal(&self, id: &ContainerId) -> Option<i32> {
        self.knows(id).then_some(3)
    }
    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        let records = self.records.lock().unwrap();
        ready(Ok(records
            .iter()
            .filter(|(_, ended)| ended.get().is_none())
            .map(|(id, _)| id.clone())
            .collect()))
    }
    fn knows(&self, id: &ContainerId) -> bool {
        self.records.lock().unwrap().contains_key(id)
    }
    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        self.records.lock().unwrap().remove(id);
        ready(Ok(()))
    }
    fn prune_images(&self, _: Vec<Image>) -> Answer<'_, ()> {
        self.calls.lock().unwrap().push("prune".to_owned());
        ready(self.recovery.lock().unwrap().clone().map_or(Ok(()), Err))
    }
    fn events(&self, since: u64) -> Subscription {
        self.events.since(since)
    }
    fn nesting(&self) -> Option<&dyn Nesting> {
        self.nests.load(Ordering::Relaxed).then_some(self as _)
    }
}

impl Nesting for Scripted {
    fn depth(&self) -> usize {
        1
    }
    fn children(&self, _: &ContainerId) -> Answer<'_, Vec<ContainerId>> {
        ready(Ok(Vec::new()))
    }
    fn kept(&self, id: &ContainerId) -> Option<NestedContainer> {
        let of =
            |created_ms| NestedContainer { config: ContainerConfig::default(), created_ms, session: false };
        self.knows(id.root()).then(|| of(7))
    }
}
