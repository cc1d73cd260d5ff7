// SPDX-License-Identifier: Apache-2.0
//! The core over real records, with everything else played.

mod crashes;
mod life;
mod rows;

use super::*;
use crate::store::Store;
use berth_proto::v1::{TaskState, framework_info};
use std::path::PathBuf;

/// Numbers in the place of chance.
struct Counted(u64);

impl World for Counted {
    fn uuid(&mut self) -> [u8; 16] {
        self.0 += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_be_bytes());
        (bytes[6], bytes[8]) = (0x40, 0x80);
        bytes[9..16].copy_from_slice(&self.0.to_be_bytes()[1..]);
        bytes
    }

    fn now(&self) -> f64 {
        1000.5
    }
}

/// A core and its records.
struct Bench {
    core: Core,
    store: Store,
    work: PathBuf,
    _dir: tempfile::TempDir,
    /// So that no uuid comes twice after a restart.
    starts: u64,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Settings::default())
    }

    fn with(settings: Settings) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().to_owned();
        let store = Store::open(&work).unwrap();
        let agent = agent(store.id());
        let mut core = Core::new(agent, settings, Box::new(Counted(0)));
        core.handle(Input::Connected(true));
        Bench { core, store, work, _dir: dir, starts: 0 }
    }

    /// What follows; its records are written.
    fn on(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.core.handle(input);
        self.write(&effects);
        effects
    }

    fn write(&self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Write(write) = effect {
                self.store.write(write).unwrap();
            }
        }
    }

    /// The agent is killed and comes back; a master is there again.
    fn restart(&mut self) -> Vec<Effect> {
        self.starts += 1;
        self.store = Store::open(&self.work).unwrap();
        let settings = self.core.settings.clone();
        self.core = Core::new(agent(self.store.id()), settings, Box::new(Counted(self.starts << 32)));
        let mut effects = self.core.recover(self.store.read().unwrap());
        self.write(&effects);
        effects.extend(self.on(Input::Connected(true)));
        effects
    }

    fn run(&mut self, run: Run) -> Vec<Effect> {
        self.on(Input::Run(Box::new(run)))
    }

    fn at(&self, executor: &str) -> At {
        self.core.executor("f", executor).unwrap().at.clone()
    }

    /// What the executor says of a task.
    fn says(&mut self, at: &At, task: &str, state: TaskState, uuid: u8) -> Vec<Effect> {
        let call = said(at, task, state, uuid);
        self.on(Input::Called { at: at.clone(), call: Box::new(call), status: None })
    }

    /// A running executor of groups or of a framework's, with its first tasks.
    fn running(&mut self, run: Run) -> At {
        let executor = run.executor.clone().unwrap().executor_id.value;
        self.run(run);
        let at = self.at(&executor);
        self.on(Input::Launched { at: at.clone(), result: Ok(true) });
        if self.core.executor("f", &executor).unwrap().kind == Kind::Custom {
            let subscribe = call::Subscribe::default();
            self.on(Input::Subscribed { at: at.clone(), link: 1, pid: None, subscribe });
        }
        at
    }
}

fn agent(id: &str) -> v1::AgentInfo {
    v1::AgentInfo { id: Some(v1::AgentId { value: id.to_owned() }), ..Default::default() }
}

fn framework(aware: bool) -> v1::FrameworkInfo {
    let kind = Some(framework_info::capability::Type::PartitionAware.into());
    v1::FrameworkInfo {
        user: "root".to_owned(),
        id: Some(v1::FrameworkId { value: "f".to_owned() }),
        capabilities: aware.then_some(framework_info::Capability { r#type: kind }).into_iter().collect(),
        ..Default::default()
    }
}

fn resource(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: Some(v1::resource::AllocationInfo { role: Some("*".to_owned()) }),
        ..Default::default()
    }
}

fn task(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        resources: vec![resource("cpus", 1.0), resource("mem", 64.0)],
        ..Default::default()
    }
}

fn command(id: &str) -> Run {
    let value = Some("true".to_owned());
    let command = Some(v1::CommandInfo { value, ..Default::default() });
    Run {
        framework: framework(true),
        executor: None,
        tasks: vec![v1::TaskInfo { command, ..task(id) }],
        group: false,
        launch_executor: true,
    }
}

fn executor_info(id: &str, kind: v1::executor_info::Type) -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        r#type: Some(kind.into()),
        executor_id: v1::ExecutorId { value: id.to_owned() },
        resources: vec![resource("cpus", 0.5)],
        command: Some(v1::CommandInfo { value: Some("./e".to_owned()), ..Default::default() }),
        ..Default::default()
    }
}

fn custom(executor: &str, tasks: &[&str]) -> Run {
    let executor = Some(executor_info(executor, v1::executor_info::Type::Custom));
    Run { executor, tasks: tasks.iter().map(|id| task(id)).collect(), ..command("x") }
}

fn group(executor: &str, tasks: &[&str]) -> Run {
    let executor = Some(executor_info(executor, v1::executor_info::Type::Default));
    Run { executor, tasks: tasks.iter().map(|id| task(id)).collect(), group: true, ..command("x") }
}

fn said(at: &At, task: &str, state: TaskState, uuid: u8) -> Call {
    let status = v1::TaskStatus {
        task_id: v1::TaskId { value: task.to_owned() },
        state: state.into(),
        uuid: Some(vec![uuid; 16]),
        source: Some(v1::task_status::Source::Executor.into()),
        ..Default::default()
    };
    Call {
        executor_id: v1::ExecutorId { value: at.executor.clone() },
        framework_id: v1::FrameworkId { value: at.framework.clone() },
        r#type: Some(call::Type::Update.into()),
        update: Some(call::Update { status }),
        ..Default::default()
    }
}

/// The reports among the effects.
fn reports(effects: &[Effect]) -> Vec<&v1::TaskStatus> {
    fn report(effect: &Effect) -> Option<&v1::TaskStatus> {
        match effect {
            Effect::Report(update) => Some(&update.status),
            _ => None,
        }
    }
    effects.iter().filter_map(report).collect()
}

/// State, reason and words of the only report.
fn only(effects: &[Effect]) -> (String, String, String) {
    let all = reports(effects);
    assert_eq!(all.len(), 1, "{effects:?}");
    said_by(all[0])
}

/// State, reason and words of a report.
fn said_by(status: &v1::TaskStatus) -> (String, String, String) {
    let reason = status.reason.map(|_| status.reason().as_str_name().to_owned());
    (status.state().as_str_name().to_owned(), reason.unwrap_or_default(), status.message().to_owned())
}

/// What executors are told among the effects.
fn told(effects: &[Effect]) -> Vec<event::Type> {
    let event = |effect: &Effect| match effect {
        Effect::Tell { event, .. } => Some(event.r#type()),
        _ => None,
    };
    effects.iter().filter_map(event).collect()
}

fn place(effects: &[Effect], what: impl Fn(&Effect) -> bool) -> usize {
    effects.iter().position(what).unwrap_or_else(|| panic!("{effects:?}"))
}

fn exited(code: i32) -> ContainerTermination {
    ContainerTermination { status: Some(code << 8), ..Default::default() }
}
