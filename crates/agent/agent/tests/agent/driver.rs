// SPDX-License-Identifier: Apache-2.0
//! Executors that speak by messages, the older driver. The container of one waits; the test is its process, and speaks
//! as the recording of Mesos's own in `tests/recorded/driver.txt`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use berth_proto::internal::{
    ExecutorRegisteredMessage, ExecutorReregisteredMessage, ExecutorToFrameworkMessage,
    FrameworkToExecutorMessage, KillTaskMessage, ReconnectExecutorMessage, RegisterExecutorMessage,
    ReregisterExecutorMessage, RunTaskMessage, ShutdownExecutorMessage, StatusUpdate,
    StatusUpdateAcknowledgementMessage, StatusUpdateMessage,
};
use berth_proto::v1::{self, TaskState, framework_info, value};
use berth_proto::{decode_protobuf, encode_protobuf, text};
use berth_tasks::link::Run;
use prost::Name;

use crate::client::PATIENCE;
use crate::ground::{Ground, on};
use crate::tasks::Told;

const RECORDED: &str = include_str!("../recorded/driver.txt");
const FRAMEWORK: &str = "b1a39906-75c3-4b66-9721-8027c53d64ee-0000";
const AGENT: &str = "b1a39906-75c3-4b66-9721-8027c53d64ee-S0";
const EXECUTOR: &str = "wire-21154";

/// A process that sends messages and takes them.
struct Process {
    upid: String,
    inbox: Receiver<(String, String, Vec<u8>)>,
    /// What the agent has connected.
    accepted: Arc<Mutex<Vec<TcpStream>>>,
    out: Option<TcpStream>,
}

impl Process {
    fn new(id: &str) -> Process {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upid = format!("{id}@{}", listener.local_addr().unwrap());
        let path = format!("/{id}/");
        let (sender, inbox) = channel();
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&accepted);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                all.lock().unwrap().push(stream.try_clone().unwrap());
                let (sender, path) = (sender.clone(), path.clone());
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    while let Some((line, headers, body)) = request(&mut stream) {
                        let name =
                            line.strip_prefix("POST ").and_then(|line| line.strip_prefix(path.as_str()));
                        let name = name.and_then(|name| name.strip_suffix(" HTTP/1.1")).unwrap().to_owned();
                        let from = headers["libprocess-from"].clone();
                        if sender.send((name, from, body)).is_err() {
                            return;
                        }
                        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
                        if stream.get_mut().write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Process { upid, inbox, accepted, out: None }
    }

    /// Breaks the connections that the agent has made.
    fn cut(&self) {
        for stream in self.accepted.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Sends a message as libprocess does: in one chunk, and waits for nothing.
    fn send<M: prost::Message + Name>(&mut self, to: SocketAddr, message: &M) {
        let body = encode_protobuf(message);
        self.send_raw(to, &M::full_name(), &body);
    }

    fn send_raw(&mut self, to: SocketAddr, name: &str, body: &[u8]) {
        let upid = &self.upid;
        let mut bytes = format!(
            "POST /slave(1)/{name} HTTP/1.1\r\nUser-Agent: libprocess/{upid}\r\nLibprocess-From: {upid}\r\n\
             Connection: Keep-Alive\r\nHost: {to}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        bytes.extend(b"\r\n0\r\n\r\n");
        let out = self.out.get_or_insert_with(|| TcpStream::connect(to).unwrap());
        out.write_all(&bytes).unwrap();
    }

    /// The next message, which is one of this kind.
    fn gets<M: prost::Message + Name + Default>(&self) -> M {
        let (name, _, body) =
            self.inbox.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{}: {e}", M::full_name()));
        assert_eq!(name, M::full_name());
        decode_protobuf(&body).unwrap()
    }

    /// The same, and where the sender says that it is.
    fn gets_from<M: prost::Message + Name + Default>(&self) -> (SocketAddr, M) {
        let (name, from, body) = self.inbox.recv_timeout(PATIENCE).unwrap();
        assert_eq!(name, M::full_name());
        (from.strip_prefix("slave(1)@").unwrap().parse().unwrap(), decode_protobuf(&body).unwrap())
    }
}

/// A request: its first line, its headers by their names in small letters, and its body.
fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, BTreeMap<String, String>, Vec<u8>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((lines[0].clone(), headers, body))
}

fn framework_id() -> v1::FrameworkId {
    v1::FrameworkId { value: FRAMEWORK.to_owned() }
}

fn executor_id() -> v1::ExecutorId {
    v1::ExecutorId { value: EXECUTOR.to_owned() }
}

fn register() -> RegisterExecutorMessage {
    RegisterExecutorMessage { framework_id: framework_id(), executor_id: executor_id() }
}

fn report(ground: &Ground, task: &str, state: TaskState, uuid: u8) -> StatusUpdate {
    let agent = ground.tasks().info().id;
    StatusUpdate {
        framework_id: framework_id(),
        executor_id: Some(executor_id()),
        slave_id: agent.clone(),
        status: v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state.into(),
            agent_id: agent,
            ..Default::default()
        },
        timestamp: 1_795_455_597.5,
        uuid: Some(vec![uuid; 16]),
        latest_state: None,
    }
}

fn says(ground: &Ground, process: &mut Process, task: &str, state: TaskState, uuid: u8) {
    let message =
        StatusUpdateMessage { update: report(ground, task, state, uuid), pid: Some(process.upid.clone()) };
    process.send(ground.tcp().unwrap(), &message);
}

/// The task of the recording, for an executor that waits.
fn recorded(task: &str, launch_executor: bool) -> Run {
    let resource = |name: &str, value: f64| v1::Resource {
        name: name.to_owned(),
        scalar: Some(value::Scalar { value }),
        allocation_info: Some(v1::resource::AllocationInfo { role: Some("*".to_owned()) }),
        ..Default::default()
    };
    use framework_info::capability::Type as Can;
    let capabilities =
        [Can::ReservationRefinement, Can::TaskKillingState, Can::RevocableResources, Can::PartitionAware];
    let capability = |can: Can| framework_info::Capability { r#type: Some(can.into()) };
    let resources = vec![resource("cpus", 0.1), resource("mem", 32.0)];
    #[expect(deprecated, reason = "it was recorded so")]
    let executor = v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: EXECUTOR.to_owned() },
        command: Some(v1::CommandInfo {
            value: Some("/bin/sleep".to_owned()),
            shell: Some(false),
            arguments: vec!["sleep".to_owned(), "1000".to_owned()],
            ..Default::default()
        }),
        resources: resources.clone(),
        name: Some(format!("Command Executor (Task: {EXECUTOR}) (Command: sh -c 'sleep 1')")),
        source: Some(EXECUTOR.to_owned()),
        ..Default::default()
    };
    #[expect(deprecated, reason = "it was recorded so")]
    let framework = v1::FrameworkInfo {
        user: "root".to_owned(),
        name: "mesos-execute instance".to_owned(),
        id: Some(v1::FrameworkId { value: FRAMEWORK.to_owned() }),
        checkpoint: Some(false),
        role: Some("*".to_owned()),
        capabilities: capabilities.map(capability).to_vec(),
        ..Default::default()
    };
    Run {
        framework,
        executor: Some(executor),
        tasks: vec![v1::TaskInfo {
            name: task.to_owned(),
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: v1::AgentId { value: AGENT.to_owned() },
            resources,
            command: Some(v1::CommandInfo {
                value: Some("sleep 1".to_owned()),
                shell: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        }],
        group: false,
        launch_executor,
    }
}

/// A message as the recording has it: with the names of Mesos's types without a version, and its agent's id.
fn as_recorded<M: prost::Message + Name>(ground: &Ground, message: &M) -> String {
    let own = ground.tasks().info().id.unwrap().value;
    text(message).replace("agent_id {", "slave_id {").replace(&own, AGENT)
}

/// The first recorded message of a kind.
fn recording<M: Name>() -> &'static str {
    let name = M::full_name();
    let mut all = RECORDED.split("=== ").filter_map(|part| part.split_once('\n'));
    all.find(|(kind, _)| *kind == name).unwrap_or_else(|| panic!("{name} was not recorded")).1
}

/// Takes a part out of a text, with what is within it, and says which fields that has.
fn without(text: &str, part: &str) -> (String, Vec<String>) {
    let (mut rest, mut names) = (String::new(), Vec::new());
    let mut inside = false;
    for line in text.lines() {
        match line {
            _ if line == format!("{part} {{") => inside = true,
            "}" if inside => inside = false,
            _ if inside => names.extend(
                line.strip_prefix("  ")
                    .filter(|line| !line.starts_with(' '))
                    .map(|line| line.split([':', ' ']).next().unwrap().to_owned()),
            ),
            _ => rest += &format!("{line}\n"),
        }
    }
    names.retain(|name| name != "}");
    names.dedup();
    (rest, names)
}

/// An agent with an address, and an executor that has registered with it by a message and has its task.
fn registered(ground: &mut Ground) -> (Told, Process) {
    ground.with("--ip=127.0.0.1");
    ground.with("--port=0");
    ground.with("--no-authenticate_http_readwrite");
    ground.with("--executor_reregistration_timeout=15secs");
    ground.start();
    let told = Told::of(ground);
    told.give(recorded(EXECUTOR, true));
    let mut process = Process::new("executor(1)");
    register_once_known(ground, &mut process);
    let said: ExecutorRegisteredMessage = process.gets();
    let (rest, agent) = without(&as_recorded(ground, &said), "slave_info");
    let (expected, expected_agent) = without(recording::<ExecutorRegisteredMessage>(), "slave_info");
    let command = |text: &str| without(text, "  command").0;
    assert_eq!(
        rest.replace("\"/bin/sleep\"", "\"/usr/libexec/mesos/mesos-executor\"")
            .replace("\"sleep\"", "\"mesos-executor\"")
            .replace("\"1000\"", "\"--launcher_dir=/usr/libexec/mesos\""),
        expected.replace("\\'", "'"),
        "{}",
        command(&rest)
    );
    // Whether the agent checkpoints is no field of v1 any more: all do.
    for field in expected_agent.into_iter().filter(|field| field != "checkpoint") {
        assert!(agent.contains(&field), "{field} is not in {agent:?}");
    }
    let said: RunTaskMessage = process.gets();
    // Its first field is what drivers before 1.0 need, and later ones do not look at.
    let (told_task, framework) = without(&as_recorded(ground, &said), "framework_id");
    assert_eq!(framework, ["value"]);
    let (expected, _) = without(recording::<RunTaskMessage>(), "resource_version_uuids");
    assert_eq!(told_task, expected.replace("launch_executor: true\n", "").replace("\\'", "'"));
    (told, process)
}

/// The agent starts the executor when it has the task; who comes before that is told to end.
fn register_once_known(ground: &Ground, process: &mut Process) {
    berth_testing::until("the agent knows the executor", || {
        let state = ground.call(&serde_json::json!({ "type": "GET_EXECUTORS" })).json();
        state["get_executors"]["executors"].as_array().is_some_and(|all| !all.is_empty())
    });
    process.send(ground.tcp().unwrap(), &register());
}

#[test]
fn an_executor_speaks_by_messages_as_recorded() {
    on("driver", |ground| {
        let (told, mut process) = registered(ground);
        // One after the other, and no answer is waited for.
        let states = [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFinished];
        for (uuid, state) in (1..).zip(states) {
            says(ground, &mut process, EXECUTOR, state, uuid);
        }
        for uuid in 1..=3 {
            let kept: StatusUpdateAcknowledgementMessage = process.gets();
            let told = as_recorded(ground, &kept);
            let lines = |text: &str| text.lines().filter(|line| !line.starts_with("uuid")).count();
            assert_eq!(lines(&told), lines(recording::<StatusUpdateAcknowledgementMessage>()), "{told}");
            assert_eq!(kept.uuid, vec![uuid; 16]);
            assert_eq!(
                (kept.task_id.value.as_str(), kept.framework_id.value.as_str()),
                (EXECUTOR, FRAMEWORK)
            );
        }
        for state in states {
            let status = told.next();
            assert_eq!(status.state(), state);
            assert_eq!(status.executor_id.unwrap().value, EXECUTOR);
            assert_eq!(status.source.map(|_| ()), Some(()));
            assert_eq!(status.timestamp, Some(1_795_455_597.5));
        }
        let data = b"for its scheduler".to_vec();
        let slave_id = ground.tasks().info().id.unwrap();
        let (framework_id, executor_id) = (framework_id(), executor_id());
        let message = ExecutorToFrameworkMessage { slave_id, framework_id, executor_id, data };
        process.send(ground.tcp().unwrap(), &message);
        told.agent.message(FRAMEWORK, EXECUTOR, b"for its executor".to_vec());
        let said: FrameworkToExecutorMessage = process.gets();
        assert_eq!((said.executor_id.value.as_str(), &*said.data), (EXECUTOR, &b"for its executor"[..]));
        told.agent.shutdown_executor(FRAMEWORK, EXECUTOR);
        let shutdown: ShutdownExecutorMessage = process.gets();
        assert_eq!(text(&shutdown), recording::<ShutdownExecutorMessage>());
    });
}

fn reregister(updates: Vec<StatusUpdate>) -> ReregisterExecutorMessage {
    ReregisterExecutorMessage {
        executor_id: executor_id(),
        framework_id: framework_id(),
        tasks: Vec::new(),
        updates,
    }
}

#[test]
fn it_comes_back_to_a_restarted_agent_with_what_it_said_meanwhile() {
    on("driveragain", |ground| {
        let (told, mut process) = registered(ground);
        says(ground, &mut process, EXECUTOR, TaskState::TaskRunning, 1);
        process.gets::<StatusUpdateAcknowledgementMessage>();
        assert_eq!(told.next().state(), TaskState::TaskRunning);
        told.give(recorded("two", false));
        assert_eq!(process.gets::<RunTaskMessage>().task.task_id.value, "two");
        says(ground, &mut process, "two", TaskState::TaskRunning, 2);
        process.gets::<StatusUpdateAcknowledgementMessage>();
        assert_eq!(told.next().state(), TaskState::TaskRunning);
        ground.stop();

        // It is another address, which is learnt from who asks.
        ground.start();
        let told = Told::of(ground);
        process.out = None;
        let (to, said) = process.gets_from::<ReconnectExecutorMessage>();
        assert_eq!(Some(to), ground.tcp());
        assert_eq!(as_recorded(ground, &said), recording::<ReconnectExecutorMessage>());
        // Killed before it is back.
        told.agent.kill(FRAMEWORK, "two", None);
        process.send(to, &reregister(vec![report(ground, EXECUTOR, TaskState::TaskFinished, 3)]));
        let said: ExecutorReregisteredMessage = process.gets();
        let fields = |text: &str| without(text, "slave_info");
        let (ours, recorded) =
            (fields(&as_recorded(ground, &said)), fields(recording::<ExecutorReregisteredMessage>()));
        assert_eq!(ours.0, recorded.0);
        let mut rest = [
            process.inbox.recv_timeout(PATIENCE).unwrap().0,
            process.inbox.recv_timeout(PATIENCE).unwrap().0,
        ];
        rest.sort();
        assert_eq!(rest, [KillTaskMessage::full_name(), StatusUpdateAcknowledgementMessage::full_name()]);
        assert_eq!(told.next().state(), TaskState::TaskFinished);
        says(ground, &mut process, "two", TaskState::TaskKilled, 4);
        assert_eq!(told.next().state(), TaskState::TaskKilled);
        // Its container lives on, and it hears of a second registration of its own nothing.
        process.gets::<StatusUpdateAcknowledgementMessage>();
        process.send(to, &reregister(Vec::new()));
        told.give(self::recorded("three", false));
        assert_eq!(process.gets::<RunTaskMessage>().task.task_id.value, "three");
    });
}

#[test]
fn a_broken_connection_is_made_again_and_nothing_is_lost() {
    on("driverbroken", |ground| {
        let (told, mut process) = registered(ground);
        says(ground, &mut process, EXECUTOR, TaskState::TaskRunning, 1);
        process.gets::<StatusUpdateAcknowledgementMessage>();
        assert_eq!(told.next().state(), TaskState::TaskRunning);
        // Whether the kill goes into the broken connection or not: it is told.
        process.cut();
        told.agent.kill(FRAMEWORK, EXECUTOR, None);
        let (to, _) = process.gets_from::<ReconnectExecutorMessage>();
        process.send(to, &reregister(Vec::new()));
        process.gets::<ExecutorReregisteredMessage>();
        process.gets::<KillTaskMessage>();
        says(ground, &mut process, EXECUTOR, TaskState::TaskKilled, 2);
        assert_eq!(told.next().state(), TaskState::TaskKilled);
    });
}

#[test]
fn strangers_are_told_to_end_and_not_listened_to() {
    on("driverstrange", |ground| {
        let (told, mut process) = registered(ground);
        let to = ground.tcp().unwrap();
        says(ground, &mut process, EXECUTOR, TaskState::TaskRunning, 1);
        process.gets::<StatusUpdateAcknowledgementMessage>();
        assert_eq!(told.next().state(), TaskState::TaskRunning);
        let mut stranger = Process::new("executor(2)");
        stranger.send(to, &register());
        stranger.gets::<ShutdownExecutorMessage>();
        stranger.send(to, &reregister(Vec::new()));
        stranger.gets::<ShutdownExecutorMessage>();
        let unknown = v1::FrameworkId { value: "nobody".to_owned() };
        stranger.send(to, &RegisterExecutorMessage { framework_id: unknown, ..register() });
        stranger.gets::<ShutdownExecutorMessage>();
        // What is no message, and what says that it is a report of a task's.
        for name in ["mesos.internal.StatusUpdateMessage", "mesos.internal.Nonsense"] {
            stranger.send_raw(to, name, b"\xff\xff\xff");
        }
        says(ground, &mut stranger, EXECUTOR, TaskState::TaskFailed, 2);
        // Its own says on, and is the next that is heard.
        says(ground, &mut process, EXECUTOR, TaskState::TaskFinished, 3);
        let status = told.next();
        assert_eq!((status.state(), status.uuid()), (TaskState::TaskFinished, &[3; 16][..]));
        // A group can not be sent; the executor stays.
        let group = Run { group: true, ..recorded("group", false) };
        told.give(group);
        let status = told.next();
        assert_eq!(status.state(), TaskState::TaskDropped);
        assert_eq!(status.reason(), v1::task_status::Reason::TaskGroupInvalid);
        process.gets::<StatusUpdateAcknowledgementMessage>();
        told.give(recorded("two", false));
        assert_eq!(process.gets::<RunTaskMessage>().task.task_id.value, "two");
    });
}

#[test]
fn where_executors_show_tokens_messages_are_refused() {
    on("drivertoken", |ground| {
        let key = crate::tokens::key(ground);
        ground.with(&format!("--jwt_secret_key={key}"));
        ground.with("--authenticate_http_executors");
        ground.with("--ip=127.0.0.1");
        ground.with("--port=0");
        ground.with("--no-authenticate_http_readwrite");
        ground.start();
        let mut process = Process::new("executor(1)");
        process.send(ground.tcp().unwrap(), &register());
        let mut answer = String::new();
        BufReader::new(process.out.take().unwrap()).read_line(&mut answer).unwrap();
        assert_eq!(answer, "HTTP/1.1 401 Unauthorized\r\n");
    });
}

#[test]
fn strangers_that_take_nothing_hold_nothing() {
    on("driverdeaf", |ground| {
        ground.with("--ip=127.0.0.1");
        ground.with("--port=0");
        ground.with("--no-authenticate_http_readwrite");
        ground.start();
        // Connections are completed by the kernel, and nobody takes what comes through them.
        let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = deaf.local_addr().unwrap().port();
        let mut process = Process::new("executor(1)");
        process.upid = format!("executor(1)@127.0.0.1:{port}");
        for _ in 0..100 {
            process.send(ground.tcp().unwrap(), &register());
        }
        let answers = BufReader::new(process.out.as_ref().unwrap().try_clone().unwrap()).lines();
        let taken = answers.map_while(Result::ok).filter(|line| line.starts_with("HTTP/1.1 202")).take(100);
        assert_eq!(taken.count(), 100);
        let held = || {
            let remote = format!(":{port:04X}");
            let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
            // The third column is the other end, and the fourth says 01 for a connection that is open on this side.
            let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            fields.filter(|line| line[2].ends_with(&remote) && line[3] == "01").count()
        };
        assert!(held() <= 32, "{} connections", held());
        berth_testing::until("they are given up", || held() == 0);
    });
}
