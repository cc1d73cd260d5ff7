// SPDX-License-Identifier: Apache-2.0
//! An executor that is a container: it speaks `/api/v1/executor` from within one, with nothing there but itself.
//!
//! A task runs until it is killed, or is finished at once if its data is `finish`. When the agent goes it is looked for again,
//! and told again what it has not acknowledged.

#![allow(clippy::unwrap_used, reason = "it is a part of a test")]

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use berth_proto::executor::{Call, Event, call, event};
use berth_proto::recordio::Decoder;
use berth_proto::v1::{ExecutorId, FrameworkId, TaskInfo, TaskState, TaskStatus, task_status};
use berth_proto::{Encoding, decode_json};

/// Nobody looks for an agent for ever.
const TRIES: u32 = 600;
/// How long one that has gone is left alone: it takes a moment to come back.
const AGAIN: Duration = Duration::from_millis(100);

struct Executor {
    address: String,
    token: Option<String>,
    id: ExecutorId,
    framework: FrameworkId,
    tasks: Vec<TaskInfo>,
    updates: Vec<TaskStatus>,
}

fn main() {
    let var = |name: &str| std::env::var(name).unwrap();
    let mut executor = Executor {
        address: var("MESOS_AGENT_ENDPOINT"),
        token: std::env::var("MESOS_EXECUTOR_AUTHENTICATION_TOKEN").ok(),
        id: ExecutorId { value: var("MESOS_EXECUTOR_ID") },
        framework: FrameworkId { value: var("MESOS_FRAMEWORK_ID") },
        tasks: Vec::new(),
        updates: Vec::new(),
    };
    println!("executor {} in {}", executor.id.value, var("MESOS_SANDBOX"));
    for _ in 0..TRIES {
        match executor.listen() {
            Ok(true) => return,
            Ok(false) => println!("the agent has gone"),
            Err(error) => println!("{error}"),
        }
        std::thread::sleep(AGAIN);
    }
}

impl Executor {
    /// From one subscription to its end; whether that is this executor's.
    fn listen(&mut self) -> std::io::Result<bool> {
        let updates = self.updates.iter().cloned().map(|status| call::Update { status }).collect();
        let subscribe =
            call::Subscribe { unacknowledged_tasks: self.tasks.clone(), unacknowledged_updates: updates };
        let kind = call::Type::Subscribe;
        let mut stream = self.post(kind, Call { subscribe: Some(subscribe), ..Call::default() })?;
        let mut decoder = Decoder::new(1 << 20);
        while let Some(chunk) = chunk(&mut stream)? {
            let mut rest = &chunk[..];
            while let Some(record) = decoder.next(&mut rest).map_err(std::io::Error::other)? {
                let event: Event = decode_json(&record).map_err(std::io::Error::other)?;
                if self.hear(event)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn hear(&mut self, event: Event) -> std::io::Result<bool> {
        match event.r#type() {
            event::Type::Subscribed => println!("subscribed"),
            event::Type::Launch => {
                let task = event.launch.unwrap().task;
                println!("launched {}", task.task_id.value);
                self.tasks.push(task.clone());
                self.report(&task.task_id.value, TaskState::TaskRunning)?;
                if task.data() == b"finish" {
                    self.report(&task.task_id.value, TaskState::TaskFinished)?;
                }
            }
            event::Type::Kill => {
                self.report(&event.kill.unwrap().task_id.value, TaskState::TaskKilled)?;
            }
            event::Type::Acknowledged => {
                let heard = event.acknowledged.unwrap();
                self.updates.retain(|status| status.uuid() != heard.uuid);
                self.tasks.retain(|task| task.task_id != heard.task_id);
            }
            event::Type::Shutdown => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    fn report(&mut self, task: &str, state: TaskState) -> std::io::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        // Unlike any other: nothing else here is made at random.
        let mut uuid = (now.as_nanos() + self.updates.len() as u128).to_be_bytes();
        // As if it were a random one.
        (uuid[6], uuid[8]) = (0x40, 0x80);
        let uuid = uuid.to_vec();
        let status = TaskStatus {
            task_id: berth_proto::v1::TaskId { value: task.to_owned() },
            state: state.into(),
            uuid: Some(uuid),
            timestamp: Some(now.as_secs_f64()),
            source: Some(task_status::Source::Executor.into()),
            executor_id: Some(self.id.clone()),
            ..TaskStatus::default()
        };
        self.updates.push(status.clone());
        let update = call::Update { status };
        // If nobody is there it is told with the next subscription.
        self.post(call::Type::Update, Call { update: Some(update), ..Call::default() }).map(drop)
    }

    fn post(&self, kind: call::Type, call: Call) -> std::io::Result<BufReader<TcpStream>> {
        let (executor_id, framework_id) = (self.id.clone(), self.framework.clone());
        let call = Call { executor_id, framework_id, r#type: Some(kind.into()), ..call };
        let body = Encoding::Json.encode(&call);
        let mut stream = TcpStream::connect(&self.address)?;
        let mut head = format!("POST /slave(1)/api/v1/executor HTTP/1.1\r\nHost: {}\r\n", self.address);
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        head.push_str("Content-Type: application/json\r\nAccept: application/json\r\n");
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(&[head.as_bytes(), &body].concat())?;
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            lines.push(line);
        }
        let status = lines.first().map(String::as_str).unwrap_or_default();
        if status.contains(" 200 ") || status.contains(" 202 ") {
            return Ok(reader);
        }
        Err(std::io::Error::other(format!("the agent answers {status:?}")))
    }
}

/// The next chunk of a body that comes in chunks; none at its end.
fn chunk(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
    if size == 0 {
        return Ok(None);
    }
    let mut bytes = vec![0; size + 2];
    stream.read_exact(&mut bytes)?;
    bytes.truncate(size);
    Ok(Some(bytes))
}
