// SPDX-License-Identifier: Apache-2.0
//! What must survive the agent, on the disk: places as in Mesos, contents ours, one JSON object a record.
//!
//! ```text
//! <work_dir>/meta/slaves/latest -> <agent>
//! <work_dir>/meta/slaves/<agent>/slave.info
//!     frameworks/<framework>/framework.info
//!         refused/<task>/                task.info task.updates
//!         executors/<executor>/runs/latest -> <container>
//!         executors/<executor>/runs/<container>/
//!             executor.info              and its framework's description, in case that one is lost
//!             http.marker                it has subscribed
//!             pids/libprocess.pid        or registered, by messages: the process that it is
//!             executor.sentinel          it is over
//!             records/                   a built-in executor's own
//!             tasks/<task>/              task.info, delivered (its executor has it), task.updates
//! <work_dir>/slaves/<agent>/frameworks/<framework>/executors/<executor>/runs/<container> -> its sandbox
//! ```
//!
//! `task.updates` grows by a line for each report and each acknowledgement. A line that was not written to its end is
//! cut off. Values of secrets are never written. Nothing is synced: what a killed agent has written is there; what a
//! power failure takes is the memory of tasks that it ended, and whoever reads copes with every file torn or missing.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use berth_model::ContainerId;
use berth_proto::{decode_json, encode_json, v1};
use berth_record::{Sync, Versioned};
use prost::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::{At, Found, FoundExecutor, FoundFramework, FoundTask, Kind, Place, Write};

/// There for an executor that has subscribed.
const MARKER: &str = "http.marker";
/// Where the process is written down that an executor is which speaks by messages.
const PID: &str = "pids/libprocess.pid";
/// No record is larger.
const CAP: usize = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct AgentRecord {
    id: String,
}

impl Versioned for AgentRecord {
    const KIND: &'static str = "agent";
    const VERSION: u32 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct FrameworkRecord {
    framework: Value,
    #[serde(default)]
    over: bool,
}

impl Versioned for FrameworkRecord {
    const KIND: &'static str = "framework";
    const VERSION: u32 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct ExecutorRecord {
    executor: Value,
    framework: Value,
    kind: String,
    created_ms: u64,
}

impl Versioned for ExecutorRecord {
    const KIND: &'static str = "executor";
    const VERSION: u32 = 1;
}

#[derive(Debug, Serialize, Deserialize)]
struct TaskRecord {
    task: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    executor: Option<String>,
}

impl Versioned for TaskRecord {
    const KIND: &'static str = "task";
    const VERSION: u32 = 1;
}

/// A line of `task.updates`.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update: Option<Value>,
    /// The uuid of a report that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ack: Option<String>,
}

impl Versioned for Line {
    const KIND: &'static str = "task-update";
    const VERSION: u32 = 1;
}

/// Why something can not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("{what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A record.
    #[error(transparent)]
    Record(#[from] berth_record::Error),
}

impl Error {
    /// The disk is at fault, mostly.
    pub fn class(&self) -> berth_model::Class {
        match self {
            Error::File { .. } => berth_model::Class::Exhausted,
            Error::Record(error) => error.class(),
        }
    }

    /// With everything below it, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}

type Result<T> = std::result::Result<T, Error>;

/// The records of one agent.
#[derive(Debug)]
pub(crate) struct Store {
    meta: PathBuf,
    sandboxes: PathBuf,
    id: String,
}

impl Store {
    /// Finds the agent's own place, or makes one.
    pub(crate) fn open(work_dir: &Path) -> Result<Store> {
        let slaves = work_dir.join("meta/slaves");
        make(&slaves, 0o700)?;
        let latest = slaves.join("latest");
        let id = match fs::read_link(&latest) {
            Ok(target) => target.file_name().map(|name| name.to_string_lossy().into_owned()),
            Err(_) => None,
        };
        let id = match id {
            Some(id) => id,
            None => {
                let id = format!("{}-S0", crate::uuid::text(&crate::uuid::random()));
                let dir = slaves.join(&id);
                make(&dir, 0o700)?;
                write(&dir, "slave.info", &AgentRecord { id: id.clone() })?;
                link(&dir, &latest)?;
                id
            }
        };
        let meta = slaves.join(&id);
        make(&meta.join("frameworks"), 0o700)?;
        let sandboxes = work_dir.join("slaves").join(&id);
        make(&sandboxes, 0o711)?;
        Ok(Store { meta, sandboxes, id })
    }

    /// The agent's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn framework(&self, id: &str) -> PathBuf {
        self.meta.join("frameworks").join(id)
    }

    fn runs(&self, at: &At) -> PathBuf {
        self.framework(&at.framework).join("executors").join(&at.executor).join("runs")
    }

    fn run(&self, at: &At) -> PathBuf {
        self.runs(at).join(at.container.value())
    }

    /// Where a built-in executor keeps what is its own.
    pub(crate) fn records(&self, at: &At) -> PathBuf {
        self.run(at).join("records")
    }

    fn task(&self, at: &At, task: &str) -> PathBuf {
        self.run(at).join("tasks").join(task)
    }

    fn place(&self, place: &Place, task: &str) -> PathBuf {
        match place {
            Place::Run(at) => self.task(at, task),
            Place::Refused(framework) => self.framework(framework).join("refused").join(task),
        }
    }

    /// Where users look for a sandbox.
    pub(crate) fn sandbox_link(&self, at: &At) -> PathBuf {
        let below =
            self.sandboxes.join("frameworks").join(&at.framework).join("executors").join(&at.executor);
        below.join("runs").join(at.container.value())
    }

    /// Makes what leads to a sandbox.
    pub(crate) fn link_sandbox(&self, at: &At, sandbox: &Path) -> Result<()> {
        let own = self.sandbox_link(at);
        let runs = own.parent().expect("a run is in a directory");
        make(runs, 0o711)?;
        link(sandbox, &own)?;
        link(&own, &runs.join("latest"))
    }

    /// Carries one out.
    pub(crate) fn write(&self, what: &Write) -> Result<()> {
        match what {
            Write::Framework { info, over } => {
                let dir = self.framework(&info.id.clone().unwrap_or_default().value);
                make(&dir, 0o700)?;
                write(&dir, "framework.info", &FrameworkRecord { framework: tree(&**info), over: *over })
            }
            Write::Executor { at, info, kind } => {
                let dir = self.run(at);
                make(&dir.join("tasks"), 0o700)?;
                if kind.is_built_in() {
                    make(&dir.join("records"), 0o700)?;
                }
                let framework = read::<FrameworkRecord>(&self.framework(&at.framework), "framework.info")
                    .map_or(Value::Null, |record| record.framework);
                let created_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let record = ExecutorRecord {
                    executor: tree(&**info),
                    framework,
                    kind: name_of(*kind).to_owned(),
                    created_ms: u64::try_from(created_ms).unwrap_or(u64::MAX),
                };
                write(&dir, "executor.info", &record)?;
                link(&dir, &self.runs(at).join("latest"))
            }
            Write::Task { at, info, group } => {
                let dir = self.task(at, &info.task_id.value);
                make(&dir, 0o700)?;
                write(&dir, "task.info", &TaskRecord { task: tree(&**info), group: *group, executor: None })
            }
            Write::Refused { framework, executor, info } => {
                let dir = self.place(&Place::Refused(framework.clone()), &info.task_id.value);
                make(&dir, 0o700)?;
                // What a task of the same name left is over.
                remove(&dir.join("task.updates"), |path| fs::remove_file(path))?;
                write(
                    &dir,
                    "task.info",
                    &TaskRecord { task: tree(&**info), group: None, executor: executor.clone() },
                )
            }
            Write::Delivered { at, task } => mark(&self.task(at, task).join("delivered")),
            Write::Registered { at, pid } => register(&self.run(at), pid.as_deref()),
            Write::Over(at) => mark(&self.run(at).join("executor.sentinel")),
            Write::Update { place, task, status } => {
                let line = Line { update: Some(tree(&**status)), ack: None };
                append(&self.place(place, task).join("task.updates"), &line)
            }
            Write::Ack { place, task, uuid } => {
                let line = Line { update: None, ack: Some(hex(uuid)) };
                append(&self.place(place, task).join("task.updates"), &line)
            }
            Write::ForgetRefused { framework, task } => {
                remove(&self.place(&Place::Refused(framework.clone()), task), |path| fs::remove_dir_all(path))
            }
            Write::ForgetExecutor(at) => {
                let (own, run) = (self.sandbox_link(at), self.run(at));
                remove(&own, |path| fs::remove_file(path))?;
                remove(&run, |path| fs::remove_dir_all(path))?;
                leave(&own);
                leave(&run);
                Ok(())
            }
            Write::ForgetFramework(id) => {
                remove(&self.sandboxes.join("frameworks").join(id), |path| fs::remove_dir_all(path))?;
                remove(&self.framework(id), |path| fs::remove_dir_all(path))
            }
        }
    }

    /// Reads everything. What is torn or missing is told, and left out.
    pub(crate) fn read(&self) -> Result<Vec<FoundFramework>> {
        let mut all = Vec::new();
        for (id, dir) in entries(&self.meta.join("frameworks"))? {
            all.extend(self.read_framework(&id, &dir)?);
        }
        Ok(all)
    }

    fn read_framework(&self, id: &str, dir: &Path) -> Result<Option<FoundFramework>> {
        let own = read::<FrameworkRecord>(dir, "framework.info").map_err(|error| warn(&error)).ok();
        let mut info = own.as_ref().and_then(|own| message::<v1::FrameworkInfo>(&own.framework));
        let mut found = Vec::new();
        for (executor, dir) in entries(&dir.join("executors"))? {
            for (container, dir) in entries(&dir.join("runs"))? {
                let Ok(container) = ContainerId::new(container) else { continue };
                let at = At { framework: id.to_owned(), executor: executor.clone(), container };
                let record = match read::<ExecutorRecord>(&dir, "executor.info") {
                    Ok(record) => record,
                    Err(error) => {
                        // Its container, if there is one, goes as those do that nobody knows.
                        warn(&error);
                        continue;
                    }
                };
                info = info.or_else(|| message(&record.framework));
                found.push((record.created_ms, read_run(at, &dir, &record)?));
            }
        }
        let mut refused = Vec::new();
        for (task, dir) in entries(&dir.join("refused"))? {
            let (found, executor) = read_task(&task, &dir)?;
            refused.push((executor, found));
        }
        found.sort_by_key(|(created, _)| *created);
        let Some(info) = info else {
            tracing::warn!(framework = id, "nothing is left that describes this framework; it is left alone");
            return Ok(None);
        };
        let info = v1::FrameworkInfo { id: Some(v1::FrameworkId { value: id.to_owned() }), ..info };
        let over = own.is_some_and(|own| own.over);
        let mut executors: Vec<FoundExecutor> = Vec::new();
        for (_, run) in found {
            // Of one executor only the newest run can go on.
            for before in executors.iter_mut().filter(|before| before.at.executor == run.at.executor) {
                before.over = true;
            }
            executors.push(run);
        }
        Ok(Some(FoundFramework { info, over, executors, refused }))
    }
}

fn read_run(at: At, dir: &Path, record: &ExecutorRecord) -> Result<FoundExecutor> {
    let mut tasks = Vec::new();
    for (task, dir) in entries(&dir.join("tasks"))? {
        tasks.push(read_task(&task, &dir)?.0);
    }
    let info = message::<v1::ExecutorInfo>(&record.executor).unwrap_or_default();
    // One that is torn is none: the executor is waited for, and ended if it does not come.
    let pid = fs::read_to_string(dir.join(PID)).ok().filter(|pid| pid.contains('@'));
    let executor_id = v1::ExecutorId { value: at.executor.clone() };
    let framework_id = Some(v1::FrameworkId { value: at.framework.clone() });
    Ok(FoundExecutor {
        info: v1::ExecutorInfo { executor_id, framework_id, ..info },
        kind: kind_of(&record.kind),
        over: dir.join("executor.sentinel").exists(),
        registered: dir.join(MARKER).exists() || pid.is_some(),
        pid,
        tasks,
        at,
    })
}

/// Says how an executor is reached: it comes by itself, or is a process that is sent messages.
fn register(run: &Path, pid: Option<&str>) -> Result<()> {
    let place = run.join(PID);
    match pid {
        None => {
            remove(&place, |path| fs::remove_file(path))?;
            mark(&run.join(MARKER))
        }
        Some(pid) => {
            let pids = place.parent().expect("it is in a directory");
            make(pids, 0o700)?;
            // It comes to its place whole.
            let new = pids.join(".new");
            fs::write(&new, pid).map_err(failed("write", &new))?;
            fs::rename(&new, &place).map_err(failed("write", &place))?;
            remove(&run.join(MARKER), |path| fs::remove_file(path))
        }
    }
}

/// A task, and what was to run it if it was refused.
fn read_task(id: &str, dir: &Path) -> Result<(FoundTask, Option<String>)> {
    let record = read::<TaskRecord>(dir, "task.info").map_err(|error| warn(&error)).ok();
    let info = record.as_ref().and_then(|record| message::<v1::TaskInfo>(&record.task)).unwrap_or_default();
    // Without its description, its reports are still to be told.
    let info = v1::TaskInfo { task_id: v1::TaskId { value: id.to_owned() }, ..info };
    let group = record.as_ref().and_then(|record| record.group);
    let reports = read_lines(&dir.join("task.updates"))?;
    let delivered = dir.join("delivered").exists();
    Ok((FoundTask { info, group, delivered, reports }, record.and_then(|record| record.executor)))
}

/// The lines of `task.updates`; one that was not written to its end is cut off.
fn read_lines(path: &Path) -> Result<Vec<Found>> {
    let mut text = Vec::new();
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed("open", path)(source)),
    };
    file.read_to_end(&mut text).map_err(failed("read", path))?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    if whole < text.len() {
        tracing::warn!(path = %path.display(), "its last line was not written to its end, and is cut off");
        file.set_len(whole as u64).map_err(failed("cut", path))?;
    }
    let mut found = Vec::new();
    for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match berth_record::decode::<Line>(&path.display().to_string(), line) {
            Ok(Line { update: Some(update), .. }) => {
                found.extend(message(&update).map(|status| Found::Update(Box::new(status))));
            }
            Ok(Line { ack: Some(ack), .. }) => found.extend(unhex(&ack).map(Found::Ack)),
            Ok(_) => {}
            Err(error) => warn(&error),
        }
    }
    Ok(found)
}

fn warn(error: &berth_record::Error) {
    tracing::warn!(%error, "a record is left out");
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Command => "command",
        Kind::Group => "group",
        Kind::Custom => "custom",
    }
}

fn kind_of(name: &str) -> Kind {
    match name {
        "command" => Kind::Command,
        "group" => Kind::Group,
        _ => Kind::Custom,
    }
}

/// A message as a tree, without values of secrets: as records have it.
pub fn tree<M: prost::Message + Name>(message: &M) -> Value {
    let mut tree = serde_json::from_slice(&encode_json(message)).expect("the JSON of a message is JSON");
    strip(&mut tree);
    tree
}

/// Takes the value out of every secret: `{"type": "VALUE", "value": {"data": …}}`.
fn strip(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            let is_secret = fields.get("type").is_some_and(|kind| kind == "VALUE")
                && fields.get("value").is_some_and(|value| value.get("data").is_some());
            if is_secret {
                fields.remove("value");
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn message<M: prost::Message + Name + Default>(tree: &Value) -> Option<M> {
    let decoded = decode_json::<M>(tree.to_string().as_bytes());
    decoded.map_err(|error| tracing::warn!(%error, "a part of a record is left out")).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File { what, path: path.to_owned(), source }
}

fn make(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("make the directory", path))
}

fn open(path: &Path) -> Result<fs::File> {
    fs::File::open(path).map_err(failed("open", path))
}

fn write<T: Versioned>(dir: &Path, name: &str, record: &T) -> Result<()> {
    Ok(berth_record::write(open(dir)?.as_fd(), name, record, Sync::No)?)
}

fn read<T: Versioned>(dir: &Path, name: &str) -> berth_record::Result<T> {
    match fs::File::open(dir) {
        Ok(open) => berth_record::read(open.as_fd(), name, CAP),
        Err(_) => Err(berth_record::Error::Missing { path: dir.join(name) }),
    }
}

fn mark(path: &Path) -> Result<()> {
    fs::write(path, []).map_err(failed("write", path))
}

/// Replaces a link.
fn link(target: &Path, path: &Path) -> Result<()> {
    remove(path, |path| fs::remove_file(path))?;
    symlink(target, path).map_err(failed("make the link", path))
}

/// Adds a line, or nothing at all.
fn append(path: &Path, line: &Line) -> Result<()> {
    let bytes = berth_record::encode(line)?;
    let mut file =
        OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed("open", path))?;
    let before = file.metadata().map_err(failed("look at", path))?.len();
    file.write_all(&bytes).map_err(|source| {
        // What was written of it would be a part of the next one.
        let _ = file.set_len(before);
        failed("write", path)(source)
    })
}

/// That it is not there is fine.
fn remove(path: &Path, how: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    match how(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Takes away what leads to a run that is gone, where nothing else is there: `runs/latest`, and the directories above.
fn leave(run: &Path) {
    let Some(runs) = run.parent() else { return };
    let latest = runs.join("latest");
    if fs::read_link(&latest).is_ok_and(|target| target.file_name() == run.file_name()) {
        let _ = fs::remove_file(&latest);
    }
    // One that has something else in it stays.
    let _ = fs::remove_dir(runs);
    let _ = runs.parent().map(fs::remove_dir);
}

/// The directories in one, by name; none in one that is not there.
fn entries(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    let listed = match fs::read_dir(path) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed("list", path)(source)),
    };
    let mut all = Vec::new();
    for entry in listed {
        let entry = entry.map_err(failed("list", path))?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let (true, Ok(name)) = (is_directory, entry.file_name().into_string()) {
            all.push((name, entry.path()));
        }
    }
    all.sort();
    Ok(all)
}
