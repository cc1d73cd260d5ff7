// SPDX-License-Identifier: Apache-2.0
//! An executor over HTTP that behaves badly, for tests: `executor DIRECTORY`, in a container of an agent's.
//!
//! What it does with a task is in the number of the task (`t17`): it exits, loses its connection, is deaf for a while,
//! says things twice. What it did is in a file of its own in the directory, a line each, written before it is done:
//!
//! ```text
//! got TASK               say TASK STATE UUID MESSAGE      kept TASK UUID      lost     deaf     twice     exit
//! ```

#![allow(clippy::unwrap_used, reason = "it is a part of a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use berth_proto::executor::{Call, Event, call, event};
use berth_proto::recordio::Decoder;
use berth_proto::{Encoding, v1};

/// An answer takes no longer, or its connection is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Without an agent for so long, it goes.
const ALONE: Duration = Duration::from_secs(120);
/// Between two tries to reach the agent.
const AGAIN: Duration = Duration::from_millis(10);
/// A task that is to be killed waits for that.
const UNTIL_KILLED: Duration = Duration::from_secs(3600);
/// How long it does not read when it is deaf.
const DEAF: Duration = Duration::from_millis(300);

struct Executor {
    endpoint: String,
    framework: String,
    id: String,
    /// Empty when it was given none.
    token: String,
    encoding: Encoding,
    journal: File,
    seed: u64,
    /// Tasks of which no report was acknowledged.
    fresh: BTreeMap<String, v1::TaskInfo>,
    /// Reports that were not, in their order.
    unacknowledged: Vec<v1::TaskStatus>,
    /// When which task is to end.
    due: BTreeSet<(Instant, String)>,
    /// It does not read before.
    deaf: Option<Instant>,
    lost: bool,
}

fn number(task: &str) -> u64 {
    task[1..].parse().unwrap()
}

/// What comes in over a connection, as far as it came.
struct Stream {
    socket: TcpStream,
    /// Not yet taken apart.
    raw: Vec<u8>,
    decoder: Decoder,
}

impl Stream {
    fn read(&mut self) -> std::io::Result<()> {
        let mut piece = [0; 4096];
        let count = self.socket.read(&mut piece)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.raw.extend_from_slice(&piece[..count]);
        Ok(())
    }

    /// The head of an answer; its status.
    fn head(&mut self) -> std::io::Result<u16> {
        loop {
            if let Some(end) = self.raw.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.raw.drain(..end + 4).collect();
                let head = String::from_utf8_lossy(&head).into_owned();
                return head
                    .split(' ')
                    .nth(1)
                    .and_then(|word| word.parse().ok())
                    .ok_or_else(|| Error::other(head));
            }
            self.read()?;
        }
    }

    /// The records of whole chunks that are there.
    fn records(&mut self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while let Some(end) = self.raw.windows(2).position(|two| two == b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(&self.raw[..end]).unwrap(), 16).unwrap();
            if self.raw.len() < end + 2 + length + 2 {
                break;
            }
            let chunk: Vec<u8> = self.raw.drain(..end + 2 + length + 2).skip(end + 2).take(length).collect();
            let mut rest = &chunk[..];
            while let Some(record) = self.decoder.next(&mut rest).unwrap() {
                records.push(record);
            }
        }
        records
    }
}

impl Executor {
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) % below
    }

    fn note(&mut self, line: &str) {
        self.journal.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn exit(&mut self) -> ! {
        self.note("exit");
        std::process::exit(0)
    }

    /// Sends a call; the connection, when its answer's head has this status.
    fn send(&self, kind: call::Type, more: Call, status: u16) -> std::io::Result<Stream> {
        let call = Call {
            executor_id: v1::ExecutorId { value: self.id.clone() },
            framework_id: v1::FrameworkId { value: self.framework.clone() },
            r#type: Some(kind.into()),
            ..more
        };
        let body = self.encoding.encode(&call);
        let socket = TcpStream::connect(&self.endpoint)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let (host, media) = (&self.endpoint, self.encoding.media_type());
        let mut request = format!(
            "POST /slave(1)/api/v1/executor HTTP/1.1\r\nHost: {host}\r\nContent-Type: {media}\r\nAccept: {media}\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
            self.token,
            body.len()
        )
        .into_bytes();
        request.extend(body);
        let mut stream = Stream { socket, raw: Vec::new(), decoder: Decoder::new(1 << 20) };
        stream.socket.write_all(&request)?;
        match stream.head()? {
            got if got == status => Ok(stream),
            other => Err(Error::other(other.to_string())),
        }
    }

    fn subscribe(&self) -> std::io::Result<Stream> {
        let unacknowledged_updates =
            self.unacknowledged.iter().map(|status| call::Update { status: status.clone() }).collect();
        let unacknowledged_tasks = self.fresh.values().cloned().collect();
        let subscribe = call::Subscribe { unacknowledged_tasks, unacknowledged_updates };
        self.send(call::Type::Subscribe, Call { subscribe: Some(subscribe), ..Call::default() }, 200)
    }

    fn post(&mut self, status: &v1::TaskStatus) {
        let update = Some(call::Update { status: status.clone() });
        if !self.lost && self.send(call::Type::Update, Call { update, ..Call::default() }, 202).is_err() {
            // It is said again with the next subscription.
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.note("lost");
        self.lost = true;
    }

    fn report(&mut self, task: &str, state: v1::TaskState) -> v1::TaskStatus {
        let mut uuid: Vec<u8> = (0..16).map(|_| u8::try_from(self.random(256)).unwrap()).collect();
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let message = format!("{} says so", self.id);
        let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        self.note(&format!("say {task} {} {hex} {message}", state.as_str_name()));
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state.into(),
            source: Some(v1::task_status::Source::Executor.into()),
            uuid: Some(uuid),
            message: Some(message),
            ..v1::TaskStatus::default()
        };
        self.unacknowledged.push(status.clone());
        status
    }

    fn say(&mut self, task: &str, state: v1::TaskState) {
        let status = self.report(task, state);
        self.post(&status);
    }

    /// A task is to end, each in its way.
    fn end(&mut self, task: &str) {
        let number = number(task);
        let state =
            if number.is_multiple_of(2) { v1::TaskState::TaskFinished } else { v1::TaskState::TaskFailed };
        // Deaths are rare: all tasks of an executor go with it.
        match number % 10 {
            1 if number % 20 == 1 => self.exit(),
            2 if number % 20 == 2 => {
                self.say(task, state);
                self.exit();
            }
            3 => {
                self.lose();
                self.say(task, state);
            }
            4 => {
                self.say(task, state);
                self.lose();
            }
            5 => {
                self.note("deaf");
                self.deaf = Some(Instant::now() + DEAF);
                self.say(task, state);
            }
            6 => {
                self.note("twice");
                let status = self.report(task, state);
                self.post(&status);
                self.post(&status);
            }
            _ => self.say(task, state),
        }
    }

    fn hear(&mut self, event: Event) {
        match event.r#type() {
            event::Type::Launch => {
                let task = event.launch.unwrap().task;
                let id = task.task_id.value.clone();
                self.note(&format!("got {id}"));
                self.fresh.insert(id.clone(), task);
                self.say(&id, v1::TaskState::TaskRunning);
                let after = match number(&id) % 10 {
                    7 => UNTIL_KILLED,
                    _ => Duration::from_millis(self.random(400)),
                };
                self.due.insert((Instant::now() + after, id));
            }
            event::Type::Kill => {
                let id = event.kill.unwrap().task_id.value;
                let due = self.due.iter().find(|(_, due)| *due == id).cloned();
                // One that has ended has said so.
                if let Some(due) = due {
                    self.due.remove(&due);
                    self.say(&id, v1::TaskState::TaskKilled);
                }
            }
            event::Type::Acknowledged => {
                let acknowledged = event.acknowledged.unwrap();
                let uuid: String = acknowledged.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
                self.note(&format!("kept {} {uuid}", acknowledged.task_id.value));
                self.fresh.remove(&acknowledged.task_id.value);
                self.unacknowledged.retain(|status| status.uuid() != acknowledged.uuid);
            }
            event::Type::Shutdown => self.exit(),
            _ => {}
        }
    }

    /// Speaks over one connection until that is lost.
    fn speak(&mut self, stream: &mut Stream) {
        self.lost = false;
        while !self.lost {
            for record in stream.records() {
                self.hear(self.encoding.decode(&record).unwrap());
            }
            let now = Instant::now();
            if let Some(first) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
                self.due.remove(&first);
                self.end(&first.1);
                continue;
            }
            let next = self.due.first().map_or(PATIENCE, |(at, _)| *at - now).max(Duration::from_millis(1));
            if let Some(deaf) = self.deaf.and_then(|until| until.checked_duration_since(now)) {
                std::thread::sleep(deaf.min(next));
                continue;
            }
            stream.socket.set_read_timeout(Some(next)).unwrap();
            match stream.read() {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => self.lose(),
            }
        }
    }
}

fn main() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let directory = std::env::args().nth(1).unwrap();
    let container = variable("MESOS_DIRECTORY").rsplit('/').next().unwrap().to_owned();
    let id = variable("MESOS_EXECUTOR_ID");
    let journal =
        File::options().append(true).create(true).open(format!("{directory}/{id}.{container}")).unwrap();
    let seed = container.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let mut executor = Executor {
        endpoint: variable("MESOS_AGENT_ENDPOINT"),
        framework: variable("MESOS_FRAMEWORK_ID"),
        token: std::env::var("MESOS_EXECUTOR_AUTHENTICATION_TOKEN").unwrap_or_default(),
        encoding: if seed.is_multiple_of(2) { Encoding::Json } else { Encoding::Protobuf },
        id,
        journal,
        seed,
        fresh: BTreeMap::new(),
        unacknowledged: Vec::new(),
        due: BTreeSet::new(),
        deaf: None,
        lost: false,
    };
    let mut since = Instant::now();
    while since.elapsed() < ALONE {
        match executor.subscribe() {
            Ok(mut stream) => {
                executor.speak(&mut stream);
                since = Instant::now();
            }
            Err(_) => std::thread::sleep(AGAIN),
        }
    }
    executor.exit();
}
