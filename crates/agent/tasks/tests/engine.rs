// SPDX-License-Identifier: Apache-2.0
//! The engine with its thread, records and timers, over containers and executors that are played.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use berth_contract::Settled;
use berth_model::{CommandInfo, ContainerConfig, ContainerId, ContainerTermination};
use berth_proto::executor::{Call, call, event};
use berth_proto::v1::{self, TaskState};
use berth_tasks::built_in::{BuiltIn, Containers, Later, Ran, Start, Work};
use berth_tasks::contain::{Containing, Launch};
use berth_tasks::link::{Master, Run, StatusUpdate};
use berth_tasks::{Engine, Events, Parts, Settings, Surroundings, Unheard};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Containers that do nothing until they are told to end.
#[derive(Default)]
struct Played {
    ends: Mutex<BTreeMap<ContainerId, Settled<Option<ContainerTermination>>>>,
    launched: Mutex<Vec<Launch>>,
    /// Whose status was asked for.
    asked: Mutex<Vec<ContainerId>>,
    /// Whether that is not answered.
    silent: Mutex<bool>,
    dir: PathBuf,
}

impl Played {
    fn end(&self, id: &ContainerId, status: i32) {
        let termination = ContainerTermination { status: Some(status), ..Default::default() };
        self.ends.lock().unwrap().get(id).unwrap().settle(Some(termination));
    }
}

/// The same, as a built-in executor sees it.
struct Inside;

impl Containers for Inside {
    fn launch(
        &self,
        _: ContainerId,
        _: ContainerConfig,
        _: BTreeMap<String, String>,
    ) -> Later<'_, Result<(), String>> {
        Box::pin(async { Err("not here".to_owned()) })
    }

    fn wait(&self, _: ContainerId) -> Later<'_, Option<ContainerTermination>> {
        Box::pin(async { None })
    }

    fn kill(&self, _: ContainerId, _: i32) -> Later<'_, bool> {
        Box::pin(async { false })
    }

    fn destroy(&self, _: ContainerId) -> Later<'_, ()> {
        Box::pin(async {})
    }

    fn remove(&self, _: ContainerId) -> Later<'_, ()> {
        Box::pin(async {})
    }

    fn exec(
        &self,
        _: ContainerId,
        _: CommandInfo,
        _: BTreeMap<String, String>,
        _: Option<std::time::Duration>,
    ) -> Later<'_, Ran> {
        Box::pin(async { Ran::Exited(0) })
    }

    fn pid(&self, _: ContainerId) -> Later<'_, Option<u32>> {
        Box::pin(async { None })
    }
}

impl Containing for Played {
    fn launch(&self, launch: Launch) -> Later<'_, Result<bool, String>> {
        self.ends.lock().unwrap().insert(launch.id.clone(), Settled::new());
        let fails = launch.config.command_info.value.as_deref() == Some("no such program");
        self.launched.lock().unwrap().push(launch);
        Box::pin(async move { if fails { Err("no such file".to_owned()) } else { Ok(true) } })
    }

    fn exists(&self, id: &ContainerId) -> bool {
        self.ends.lock().unwrap().contains_key(id)
    }

    fn wait(&self, id: ContainerId) -> Later<'_, Option<ContainerTermination>> {
        let ended = self.ends.lock().unwrap().get(&id).cloned();
        Box::pin(async move {
            match ended {
                Some(ended) => ended.wait().await,
                None => None,
            }
        })
    }

    fn limit(
        &self,
        _: ContainerId,
        _: Vec<v1::Resource>,
        _: BTreeMap<String, v1::value::Scalar>,
    ) -> Later<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn destroy(&self, id: ContainerId) -> Later<'_, ()> {
        self.end(&id, 9);
        Box::pin(async {})
    }

    fn status(&self, id: ContainerId) -> Later<'_, v1::ContainerStatus> {
        let container_id = Some(berth_proto::convert::container_id_of(&id));
        self.asked.lock().unwrap().push(id);
        let silent = *self.silent.lock().unwrap();
        Box::pin(async move {
            if silent {
                std::future::pending::<()>().await;
            }
            v1::ContainerStatus { container_id, executor_pid: Some(7), ..Default::default() }
        })
    }

    fn sandbox(&self, id: &ContainerId) -> PathBuf {
        self.dir.join(id.value())
    }

    fn containers(&self) -> Arc<dyn Containers> {
        Arc::new(Inside)
    }
}

/// Says that its task runs, and how it ended.
struct Speaker;

impl BuiltIn for Speaker {
    fn start(&self, start: Start) -> Work {
        Box::pin(async move {
            let Start { mut events, calls, ended, executor, recovered, .. } = start;
            let say = |state: TaskState, uuid: u8| {
                let status = v1::TaskStatus {
                    task_id: v1::TaskId { value: executor.executor_id.value.clone() },
                    state: state.into(),
                    uuid: Some(vec![uuid; 16]),
                    ..Default::default()
                };
                let update = Some(call::Update { status });
                let r#type = Some(call::Type::Update.into());
                let _ = calls.send(Box::new(Call { r#type, update, ..Default::default() }));
            };
            if recovered.is_empty() {
                assert_eq!(events.recv().await.unwrap().r#type(), event::Type::Launch);
                say(TaskState::TaskRunning, 1);
            }
            let status = ended.wait().await.and_then(|ended| ended.status);
            say(if status == Some(0) { TaskState::TaskFinished } else { TaskState::TaskFailed }, 2);
        })
    }
}

/// A master that passes on what it hears.
struct Heard(UnboundedSender<StatusUpdate>);

impl Master for Heard {
    fn update(&self, update: StatusUpdate) {
        let _ = self.0.send(update);
    }

    fn message(&self, _: &str, _: &str, _: Vec<u8>) {}

    fn executor_exited(&self, _: &str, _: &str, _: i32) {}
}

fn engine(work: &Path, containers: &Arc<Played>) -> Engine {
    let parts = Parts {
        agent: v1::AgentInfo::default(),
        settings: Settings::default(),
        commands: Arc::new(Speaker),
        groups: Arc::new(Speaker),
        group_command: CommandInfo::default(),
    };
    let engine = Engine::open(work, parts).unwrap();
    let known = engine.read().unwrap();
    assert!(known.runs.iter().all(|run| !run.completed));
    engine.begin(Arc::clone(containers) as Arc<dyn Containing>, Surroundings::default());
    engine
}

fn master(engine: &Engine) -> UnboundedReceiver<StatusUpdate> {
    let (sender, receiver) = unbounded_channel();
    engine.agent_side().connect(Arc::new(Heard(sender)));
    receiver
}

fn run(task: &str, command: &str, executor: Option<&str>) -> Run {
    let id = Some(v1::FrameworkId { value: "f".to_owned() });
    let info = |executor: &str| v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: executor.to_owned() },
        command: Some(v1::CommandInfo { value: Some("./e".to_owned()), ..Default::default() }),
        ..Default::default()
    };
    let command = v1::CommandInfo { value: Some(command.to_owned()), ..Default::default() };
    let task = v1::TaskInfo {
        task_id: v1::TaskId { value: task.to_owned() },
        command: executor.is_none().then_some(command),
        ..Default::default()
    };
    Run {
        framework: v1::FrameworkInfo { user: "root".to_owned(), id, ..Default::default() },
        executor: executor.map(info),
        tasks: vec![task],
        group: false,
        launch_executor: true,
    }
}

fn uuid(update: &StatusUpdate) -> Vec<u8> {
    update.status.uuid.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_through_the_engine_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let containers = Arc::new(Played { dir: dir.path().join("s"), ..Played::default() });
    let first = engine(dir.path(), &containers);
    let mut heard = master(&first);
    first.agent_side().run(run("t", "true", None));
    let running = heard.recv().await.unwrap();
    assert_eq!((running.status.state(), running.executor.as_deref()), (TaskState::TaskRunning, Some("t")));
    assert_eq!(running.status.container_status.as_ref().unwrap().executor_pid, Some(7));
    let launch = containers.launched.lock().unwrap()[0].clone();
    assert_eq!(launch.config.command_info.value.as_deref(), Some("true"));
    assert!(launch.config.task_info.is_some() && launch.config.executor_info.is_some());
    assert_eq!(launch.environment["MESOS_EXECUTOR_ID"], "t");
    let sandbox = std::fs::read_link(Path::new(&launch.environment["MESOS_DIRECTORY"])).unwrap();
    assert_eq!(sandbox, dir.path().join("s").join(launch.id.value()));
    let id = first.id().to_owned();
    first.stop().await;
    drop(first);

    // It ends while no agent is there.
    containers.end(&launch.id, 0);
    let second = engine(dir.path(), &containers);
    assert_eq!(second.id(), id);
    let mut heard = master(&second);
    let again = heard.recv().await.unwrap();
    assert_eq!(uuid(&again), uuid(&running), "what was not acknowledged is told again");
    second.agent_side().acknowledge("f", "t", &uuid(&again));
    let finished = heard.recv().await.unwrap();
    assert_eq!(finished.status.state(), TaskState::TaskFinished);
    second.agent_side().acknowledge("f", "t", &uuid(&finished));
    second.stop().await;

    let third = engine(dir.path(), &containers);
    let state = third.state().get_tasks.unwrap();
    assert_eq!((state.completed_tasks.len(), state.launched_tasks.len()), (1, 0));
    assert_eq!(third.container("f", "t"), Some(launch.id));
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_fails_is_told_once_with_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let containers = Arc::new(Played { dir: dir.path().join("s"), ..Played::default() });
    let engine = engine(dir.path(), &containers);
    let mut heard = master(&engine);
    engine.agent_side().run(run("t", "no such program", None));
    let failed = heard.recv().await.unwrap();
    assert_eq!(failed.status.message(), "Failed to launch container: no such file");
    engine.stop().await;
}

/// A call of the executor `e` of the framework `f`.
fn call(kind: call::Type) -> Call {
    Call {
        executor_id: v1::ExecutorId { value: "e".to_owned() },
        framework_id: v1::FrameworkId { value: "f".to_owned() },
        r#type: Some(kind.into()),
        ..Default::default()
    }
}

/// It says that a task runs, in a container of this name.
fn report(task: &str, uuid: u8, container: Option<&ContainerId>) -> Call {
    let container_id = container.map(berth_proto::convert::container_id_of);
    let status = v1::TaskStatus {
        task_id: v1::TaskId { value: task.to_owned() },
        state: TaskState::TaskRunning.into(),
        uuid: Some(vec![uuid; 16]),
        container_status: container_id
            .map(|id| v1::ContainerStatus { container_id: Some(id), ..v1::ContainerStatus::default() }),
        ..Default::default()
    };
    Call { update: Some(call::Update { status }), ..call(call::Type::Update) }
}

/// An executor can be spoken for once its container was asked for.
async fn asked_for(containers: &Played) {
    while containers.launched.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

async fn next(events: &mut Events) -> Option<event::Type> {
    let event = std::future::poll_fn(|context| match events.poll_next(context) {
        Poll::Ready(event) => Poll::Ready(event),
        Poll::Pending => Poll::Pending,
    });
    event.await.map(|event| event.r#type())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_of_a_frameworks_subscribes_reports_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let containers = Arc::new(Played { dir: dir.path().join("s"), ..Played::default() });
    let engine = engine(dir.path(), &containers);
    let mut heard = master(&engine);
    assert_eq!(engine.hears("f", "e", call::Type::Subscribe, None), Err(Unheard::Framework));
    engine.agent_side().run(run("t", "", Some("e")));
    asked_for(&containers).await;
    assert_eq!(engine.hears("f", "x", call::Type::Subscribe, None), Err(Unheard::Executor));
    assert_eq!(engine.hears("f", "e", call::Type::Update, None), Err(Unheard::NotSubscribed));
    assert_eq!(engine.hears("f", "e", call::Type::Subscribe, None), Ok(()));
    let mut events = engine.subscribe(call(call::Type::Subscribe)).unwrap();
    assert_eq!(next(&mut events).await, Some(event::Type::Subscribed));
    assert_eq!(next(&mut events).await, Some(event::Type::Launch));
    assert!(engine.call(report("t", 1, None)));
    assert_eq!(heard.recv().await.unwrap().status.state(), TaskState::TaskRunning);
    assert_eq!(next(&mut events).await, Some(event::Type::Acknowledged));
    // A second stream takes the place of the first.
    let mut second = engine.subscribe(call(call::Type::Subscribe)).unwrap();
    assert_eq!(next(&mut events).await, None);
    assert_eq!(next(&mut second).await, Some(event::Type::Subscribed));
    engine.agent_side().shutdown_executor("f", "e");
    assert_eq!(next(&mut second).await, Some(event::Type::Shutdown));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_does_not_read_or_says_too_much_costs_no_more_than_its_room() {
    let dir = tempfile::tempdir().unwrap();
    let containers = Arc::new(Played { dir: dir.path().join("s"), ..Played::default() });
    let engine = engine(dir.path(), &containers);
    let mut heard = master(&engine);
    engine.agent_side().run(run("t", "", Some("e")));
    asked_for(&containers).await;
    let mut events = engine.subscribe(call(call::Type::Subscribe)).unwrap();
    assert_eq!(next(&mut events).await, Some(event::Type::Subscribed));
    // More than an executor's room for what it has not read: the stream ends behind that.
    for _ in 0..20_000 {
        engine.agent_side().message("f", "e", b"hear me".to_vec());
    }
    // What comes after all of them has been heard.
    engine.call(report("t", 1, None));
    heard.recv().await.unwrap();
    let mut unread = 0;
    while next(&mut events).await.is_some() {
        unread += 1;
    }
    assert!((16_384..20_000).contains(&unread), "{unread}");
    let mut events = engine.subscribe(call(call::Type::Subscribe)).unwrap();
    assert_eq!(next(&mut events).await, Some(event::Type::Subscribed), "it may come back");
    // What it says is looked at one after the other; the containers' answer to the first takes its time.
    *containers.silent.lock().unwrap() = true;
    let taken = (0..1000).filter(|_| engine.call(report("t", 2, None))).count();
    assert!((1..1000).contains(&taken), "{taken}");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_learns_nothing_of_the_containers_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let containers = Arc::new(Played { dir: dir.path().join("s"), ..Played::default() });
    let engine = engine(dir.path(), &containers);
    let mut heard = master(&engine);
    engine.agent_side().run(run("t", "", Some("e")));
    asked_for(&containers).await;
    let own = containers.launched.lock().unwrap()[0].id.clone();
    let mut events = engine.subscribe(call(call::Type::Subscribe)).unwrap();
    assert_eq!(next(&mut events).await, Some(event::Type::Subscribed));
    let below = ContainerId::nested(own.clone(), "below").unwrap();
    let other = "other".parse().unwrap();
    for (uuid, named) in [(1, &other), (2, &below)] {
        engine.call(report("t", uuid, Some(named)));
        let told = heard.recv().await.unwrap();
        engine.agent_side().acknowledge("f", "t", &[uuid; 16]);
        assert!(told.status.container_status.unwrap().executor_pid.is_some());
        let asked = containers.asked.lock().unwrap().pop().unwrap();
        assert_eq!(asked, if *named == other { own.clone() } else { below.clone() });
    }
    engine.stop().await;
}
