// SPDX-License-Identifier: Apache-2.0
//! What one rule of the suite holds: a site, the containerizer on it, the ids that were used, and the ledger
//! from before. Every wait has a deadline.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_contract::{AgentState, Answer, Containerizer, Error, LaunchResult, Variables, block_on_until};
use berth_model::{CommandInfo, ContainerConfig, ContainerId, ContainerTermination, Variable};

use crate::exclusive;
use crate::ledger::{Breadth, Ledger, Scope};
use crate::script::Script;
use crate::site::Site;
use crate::subject::{Change, Signal, Subject};

/// No answer may take longer. Generous, for slow engines and busy machines: nobody waits for it when all is
/// well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long nothing may change before what this process holds is counted.
const QUIET: Duration = Duration::from_millis(400);

/// How long the host may take to be as before, once everything was removed.
const SETTLING: Duration = Duration::from_secs(30);

/// The ground under one rule.
pub struct World<'a> {
    /// The site.
    pub site: &'a Site,
    /// `None` only between two containerizers.
    subject: Option<Subject>,
    make: &'a dyn Fn(&Site) -> Subject,
    ids: Mutex<BTreeSet<ContainerId>>,
}

/// Runs one rule beside others, and then demands that the host holds what it held before.
pub fn run(name: &str, rule: fn(&mut World<'_>), make: &dyn Fn(&Site) -> Subject) {
    let _shared = exclusive::shared();
    run_on(name, rule, make, Breadth::Scoped, SETTLING);
}

/// The same, where the host may take only so long to be as before.
pub fn run_within(settling: Duration, name: &str, rule: fn(&mut World<'_>), make: &dyn Fn(&Site) -> Subject) {
    let _shared = exclusive::shared();
    run_on(name, rule, make, Breadth::Scoped, settling);
}

/// Runs one rule while no other runs in this process, and counts the process's descriptors and dead children
/// too.
pub fn run_alone(name: &str, rule: fn(&mut World<'_>), make: &dyn Fn(&Site) -> Subject) {
    let _alone = exclusive::alone();
    run_on(name, rule, make, Breadth::Process, SETTLING);
}

fn run_on(
    name: &str,
    rule: fn(&mut World<'_>),
    make: &dyn Fn(&Site) -> Subject,
    breadth: Breadth,
    settling: Duration,
) {
    // A rule's name is a sentence; a path for a socket has room for 108 bytes.
    let short: String = name.split('_').filter_map(|word| word.chars().next()).collect();
    let site = match Site::new(&short) {
        Ok(site) => site,
        Err(error) => panic!("no site for {name}: {error}"),
    };
    let mut world = World { site: &site, subject: Some(make(&site)), make, ids: Mutex::new(BTreeSet::new()) };
    if let Err(error) = world.answer("recover", world.containerizer().recover(None)) {
        panic!("recover on an empty site: {}", error.chain());
    }
    let scope: Scope = site.scope().with_breadth(breadth);
    let before = match breadth {
        Breadth::Scoped => Ledger::take(&scope),
        // The rule before this one is over; a thread or a client of its may not be quite.
        _ => Ledger::calm(&scope, QUIET, Instant::now() + SETTLING),
    };
    rule(&mut world);
    world.clear();
    if let Err(difference) = before.settle(&scope, Instant::now() + settling) {
        panic!("{name}: the host is not as it was:\n  {}", difference.join("\n  "));
    }
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

impl<'a> World<'a> {
    fn subject(&self) -> &Subject {
        self.subject.as_ref().expect("nobody asks while no containerizer is there")
    }

    /// The containerizer under test.
    pub fn containerizer(&self) -> &dyn Containerizer {
        &*self.subject().containerizer
    }

    /// How its processes get a signal from outside.
    pub fn signal(&self) -> Signal {
        Arc::clone(&self.subject().signal)
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Arc<dyn Containerizer> {
        Arc::clone(&self.subject().containerizer)
    }

    /// Drops the containerizer without a word to its containers, as a killed agent would, and makes the next
    /// one, which recovers from `state`.
    pub fn restart(&mut self, state: Option<AgentState>) {
        self.restart_after(state, || {});
    }

    /// The same; `between` happens while no containerizer is there.
    pub fn restart_after(&mut self, state: Option<AgentState>, between: impl FnOnce()) {
        self.subject = None;
        between();
        self.subject = Some((self.make)(self.site));
        if let Err(error) = self.answer("recover", self.containerizer().recover(state)) {
            panic!("recover: {}", error.chain());
        }
    }

    /// An id that nothing else has, with the site's name in it.
    pub fn id(&self, name: &str) -> ContainerId {
        match ContainerId::new(format!("{}-{name}", self.site.marker())) {
            Ok(id) => self.used(id),
            Err(error) => panic!("'{name}' makes no id: {error}"),
        }
    }

    /// The id of a container in another.
    pub fn child(&self, parent: &ContainerId, name: &str) -> ContainerId {
        match ContainerId::nested(parent.clone(), name) {
            Ok(id) => self.used(id),
            Err(error) => panic!("'{name}' makes no id: {error}"),
        }
    }

    fn used(&self, id: ContainerId) -> ContainerId {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        id
    }

    /// Where the container's sandbox is on the host: made by the agent for a top-level one, below the root's
    /// for a nested one.
    pub fn sandbox(&self, id: &ContainerId) -> PathBuf {
        match id.parent() {
            None => self.site.sandboxes().join(id.value()),
            Some(parent) => self.sandbox(parent).join("containers").join(id.value()),
        }
    }

    /// A configuration that runs a script; the sandbox of a top-level one is made.
    pub fn config(&self, id: &ContainerId, script: &Script) -> ContainerConfig {
        let directory = self.sandbox(id);
        if id.parent().is_none()
            && let Err(error) = fs::create_dir_all(&directory)
        {
            panic!("make the sandbox {}: {error}", directory.display());
        }
        let mut config = ContainerConfig {
            directory,
            command_info: CommandInfo {
                value: Some((self.subject().tell)(script)),
                shell: true,
                ..CommandInfo::default()
            },
            ..ContainerConfig::default()
        };
        if let Some(change) = &self.subject().every {
            change(&mut config);
        }
        config
    }

    /// Adds a variable to a configuration's command.
    pub fn set_variable(&self, config: &mut ContainerConfig, name: &str, value: &str) {
        let variable =
            Variable { name: name.to_owned(), value: Some(value.to_owned()), ..Variable::default() };
        config.command_info.environment.variables.push(variable);
    }

    /// The configuration of another kind of container.
    pub fn foreign(&self, id: &ContainerId) -> Option<ContainerConfig> {
        self.changed(id, self.subject().foreign.as_ref(), "a configuration of another containerizer")
    }

    /// A configuration whose launch fails.
    pub fn failing(&self, id: &ContainerId) -> Option<ContainerConfig> {
        self.changed(id, self.subject().failing.as_ref(), "a configuration whose launch fails")
    }

    /// A configuration whose launch stays under way.
    pub fn stalling(&self, id: &ContainerId) -> Option<ContainerConfig> {
        self.changed(id, self.subject().stalling.as_ref(), "a configuration whose launch stays under way")
    }

    fn changed(&self, id: &ContainerId, change: Option<&Change>, what: &str) -> Option<ContainerConfig> {
        let Some(change) = change else {
            println!("skipped: the subject does not say how to make {what}");
            return None;
        };
        let mut config = self.config(id, &Script::Sleep);
        change(&mut config);
        Some(config)
    }

    /// Says why a rule does not apply.
    pub fn skip(&self, why: &str) {
        println!("skipped: {}: {why}", self.containerizer().name());
    }

    /// What `usage` has to answer to an unknown id.
    pub fn unknown_usage(&self, id: &ContainerId) -> String {
        (self.subject().unknown_usage)(id.clone()).to_string()
    }

    /// What `status` has to answer to an unknown id, if it fails.
    pub fn unknown_status(&self, id: &ContainerId) -> Option<String> {
        self.subject().unknown_status.map(|error| error(id.clone()).to_string())
    }

    /// What `remove` has to answer to a nested id whose root is unknown.
    pub fn unknown_root(&self, root: &ContainerId) -> String {
        (self.subject().unknown_root)(root.clone()).to_string()
    }

    /// What `launch` has to answer to a nested id whose root, and parent, is unknown.
    pub fn unknown_parent(&self, root: &ContainerId) -> String {
        (self.subject().unknown_parent)(root.clone()).to_string()
    }

    /// Waits for an answer.
    pub fn answer<T>(&self, what: &str, answer: Answer<'_, T>) -> Result<T, Error> {
        match block_on_until(answer, deadline()) {
            Some(result) => result,
            None => panic!("{what} was not answered in {PATIENCE:?}"),
        }
    }

    /// Waits for an answer that has to be a good one.
    pub fn good<T>(&self, what: &str, answer: Answer<'_, T>) -> T {
        match self.answer(what, answer) {
            Ok(value) => value,
            Err(error) => panic!("{what}: {}", error.chain()),
        }
    }

    /// Waits for an answer that has to be a failure, and returns its text.
    pub fn failure<T: std::fmt::Debug>(&self, what: &str, answer: Answer<'_, T>) -> String {
        match self.answer(what, answer) {
            Ok(value) => panic!("{what} did not fail: {value:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// Launches a configuration with no environment.
    pub fn launch(&self, id: &ContainerId, config: ContainerConfig) -> Result<LaunchResult, Error> {
        self.answer("launch", self.containerizer().launch(id, config, Variables::new(), None))
    }

    /// Launches a script that has to run.
    pub fn start(&self, id: &ContainerId, script: &Script) {
        match self.launch(id, self.config(id, script)) {
            Ok(LaunchResult::Success) => {}
            Ok(other) => panic!("launch of {id}: {other:?}"),
            Err(error) => panic!("launch of {id}: {}", error.chain()),
        }
    }

    /// The containers that are listed, in the order of their ids.
    pub fn listed(&self) -> Vec<ContainerId> {
        let mut listed = self.good("containers", self.containerizer().containers());
        listed.sort();
        listed
    }

    /// These containers have to be listed, and no others.
    pub fn lists(&self, expected: &[&ContainerId]) {
        let mut expected: Vec<ContainerId> = expected.iter().map(|id| (*id).clone()).collect();
        expected.sort();
        assert_eq!(self.listed(), expected, "the containers that are listed");
    }

    /// Waits for a container that has to be known.
    pub fn wait(&self, id: &ContainerId) -> ContainerTermination {
        match self.good("wait", self.containerizer().wait(id)) {
            Some(termination) => termination,
            None => panic!("wait does not know {id}"),
        }
    }

    /// Waits until a file is in the sandbox, and returns what is in it.
    pub fn file(&self, id: &ContainerId, name: &str) -> String {
        let path = self.sandbox(id).join(name);
        self.until(&format!("{} is there", path.display()), || fs::read_to_string(&path).ok())
    }

    /// Asks until there is an answer; for facts that nobody announces.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = deadline();
        loop {
            if let Some(value) = ask() {
                return value;
            }
            if Instant::now() >= deadline {
                panic!("after {PATIENCE:?} it is still not so that {what}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Destroys and removes every id of this world, children first, and what is left of the sandboxes.
    fn clear(&self) {
        let ids = std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner));
        let mut ids: Vec<ContainerId> = ids.into_iter().collect();
        ids.sort_by_key(|id| std::cmp::Reverse(id.depth()));
        for id in ids {
            let _ = self.good("destroy", self.containerizer().destroy(&id));
            match self.answer("remove", self.containerizer().remove(&id)) {
                // The root went before, by a rule's own hand.
                Ok(()) | Err(Error::UnknownRoot | Error::RootNotFound(_)) => {}
                Err(error) => panic!("remove {id}: {}", error.chain()),
            }
            if id.parent().is_none() {
                // A container that was never launched has a sandbox that only this world knows.
                let _ = fs::remove_dir_all(self.sandbox(&id));
            }
        }
        let left = self.listed();
        assert!(left.is_empty(), "still listed when all were removed: {left:?}");
    }
}
