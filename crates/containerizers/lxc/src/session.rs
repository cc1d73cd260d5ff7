// SPDX-License-Identifier: Apache-2.0
//! The facet Exec: further commands in a running container, by `lxc-attach`, which gives each the container's namespaces,
//! groups, users, capabilities and filter.
//!
//! ```text
//! a thread of ours ── lxc-attach, a session of its own ── the command, in the container
//!        │                 └─ three pipes to the caller, or a terminal, which the thread serves ([`crate::terminal`])
//!        └─ holds both by descriptor, so that the command's exact end is known, and signals reach it and nobody else
//! ```
//! lxc-attach passes on what it has open, so it is given its streams and no other descriptor. A session is known by its
//! nested id until that is removed, or its container is. It ends with its container and with the agent; those that a killed
//! agent leaves are found by the words of their lxc-attach, and ended by the next one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_contract::{
    Answer, Attached, Error, Exec, ExecRequest, ExecSession, Phase, Settled, What, WindowSize,
    block_on_until, ready,
};
use berth_image::{Root, resolve_user};
use berth_keeper::Bell;
use berth_model::{Class, ContainerId, ContainerTermination, WaitStatus};
use berth_record::Process;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::{OFlags, fstat};
use berth_sys::rustix::pipe::{PipeFlags, pipe_with};

use crate::containerizer::Lxc;
use crate::error::{invalid, of_io, of_tool, warn};
use crate::kept::{Entry, Shared};
use crate::process::{self, Init, Monitor};
use crate::settings::Settings;
use crate::terminal::{self, Terminal};
use crate::tools::{self, Call};
use crate::{asked, owner};

/// What lxc-attach says goes there; by that word such a process is known.
pub(crate) const LOG: &str = "sessions";
/// How much may be said there before it is emptied.
const LOG_FULL: u64 = 64 << 10;
/// How often a command is looked at until its program runs, which takes it some milliseconds: nothing tells that.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000 };
/// How long after those in it the first process of a container may take to be gone.
const GOING: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How long lxc-attach may take to notice that its command was killed.
const NOTICE: Duration = Duration::from_secs(2);
/// How long all sessions of a container may take to end.
const ENDING: Duration = Duration::from_secs(10);
/// Where programs are looked for, as lxc-attach does.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SIGKILL: i32 = 9;

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: ContainerId,
    pub(crate) ended: Settled<ContainerTermination>,
    /// Rung when somebody wants its end.
    bell: Bell,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    process: Option<Init>,
    terminal: Option<Terminal>,
    destroyed: bool,
    /// The last signal that it was sent.
    sent: i32,
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<ContainerId, Arc<Session>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(crate) fn is_over(&self) -> bool {
        self.ended.get().is_some()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process().map(|init| init.process.pid)
    }

    fn process(&self) -> Option<Init> {
        lock(&self.now).process.clone()
    }

    fn is_destroyed(&self) -> bool {
        lock(&self.now).destroyed
    }

    /// Wishes for its end.
    pub(crate) fn end(&self) {
        lock(&self.now).destroyed = true;
        self.bell.ring();
    }

    /// False when there is no process any more.
    pub(crate) fn signal(&self, signal: i32) -> Result<bool, Error> {
        lock(&self.now).sent = signal;
        match self.process().map(|init| berth_sys::signal::send(init.fd.as_fd(), signal)) {
            None | Some(Err(berth_sys::Errno::SRCH)) => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(errno)) => Err(Error::signal(&errno.into())),
        }
    }

    /// Tells its terminal its size; none if it has no terminal.
    pub(crate) fn resize(&self, size: WindowSize) -> Option<Result<(), Error>> {
        lock(&self.now).terminal.as_ref().map(|terminal| terminal.resize(size))
    }
}

impl Sessions {
    pub(crate) fn get(&self, id: &ContainerId) -> Option<Arc<Session>> {
        lock(&self.0).get(id).cloned()
    }

    /// The ids of those that live.
    pub(crate) fn living(&self) -> Vec<ContainerId> {
        let all = lock(&self.0);
        all.values().filter(|session| !session.is_over()).map(|session| session.id.clone()).collect()
    }

    /// Forgets those of a container that is removed.
    pub(crate) fn remove_below(&self, parent: &ContainerId) {
        lock(&self.0).retain(|id, _| id.parent() != Some(parent));
    }

    /// Ends those of a container that has ended, and waits for that.
    pub(crate) fn end_below(&self, parent: &ContainerId) {
        let below: Vec<_> =
            lock(&self.0).values().filter(|session| session.id.parent() == Some(parent)).cloned().collect();
        below.iter().for_each(|session| session.end());
        let until = Instant::now() + ENDING;
        for session in below {
            if block_on_until(session.ended.wait(), until).is_none() {
                warn(&format!("command {} did not end with its container in {ENDING:?}", session.id));
            }
        }
    }
}

/// Forgets a session that has ended.
pub(crate) fn remove(shared: &Shared, id: &ContainerId) -> Result<(), Error> {
    if !shared.knows(id.root()) {
        return Err(Error::UnknownRoot);
    }
    match shared.own.sessions.get(id) {
        Some(session) if !session.is_over() => Err(Error::NestedNotTerminated),
        Some(_) => {
            lock(&shared.own.sessions.0).remove(id);
            shared.events.publish(id, What::Removed);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Ends the commands that an agent has left which was killed.
pub(crate) fn end_left(settings: &Settings) {
    for (tool, words) in process::tools_at_work("lxc-attach", &settings.containers()) {
        let is_session = process::split(&words)
            .iter()
            .any(|word| word.strip_prefix("--logfile=").is_some_and(|path| is_log(Path::new(path))));
        if let Some(mut attach) = is_session.then(|| Monitor::adopted(tool)).flatten() {
            for child in children(tool.pid) {
                let child = Process::of(child).ok().flatten();
                if let Some(fd) = child.and_then(process::open) {
                    let _ = berth_sys::signal::send(fd.as_fd(), SIGKILL);
                }
            }
            if !attach.wait(NOTICE) {
                attach.kill();
                attach.wait(NOTICE);
            }
        }
    }
}

/// The caller's ends of a session's streams, from its thread to who asked for it.
type Handed = Arc<Mutex<Option<Attached>>>;

/// Ends a session that nobody waits for any more.
struct Wanted(Option<Arc<Session>>);

impl Drop for Wanted {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            session.end();
        }
    }
}

impl Exec for Lxc {
    fn run(&self, id: &ContainerId, request: ExecRequest) -> Answer<'_, ExecSession> {
        let (session, entry) = match begin(self.shared(), id) {
            Ok(begun) => begun,
            Err(error) => return ready(Err(error)),
        };
        let (handed, started) = (Handed::default(), Settled::new());
        let (own, place, streams) = (Arc::clone(&session), started.clone(), Arc::clone(&handed));
        let work = self.shared().work(move |shared| match start(shared, &own, &entry, &request) {
            Ok((attach, outer, sides)) => {
                *lock(&streams) = Some(outer);
                drop(streams);
                shared.events.publish(&own.id, What::Created(Phase::Running));
                place.settle(Ok(()));
                watch(shared, &own, &entry, attach, sides);
            }
            Err(error) => {
                lock(&shared.own.sessions.0).remove(&own.id);
                // For who ends its container meanwhile.
                own.ended.settle(ContainerTermination::default());
                place.settle(Err(error));
            }
        });
        if let Err(error) = work {
            lock(&self.shared().own.sessions.0).remove(id);
            session.ended.settle(ContainerTermination::default());
            return ready(Err(error));
        }
        let wanted = Wanted(Some(session));
        let id = id.clone();
        Box::pin(async move {
            let mut wanted = wanted;
            started.wait().await?;
            let streams = lock(&handed).take().ok_or(Error::DestroyedWhileLaunching)?;
            drop(wanted.0.take());
            Ok(ExecSession { id, streams })
        })
    }
}

/// Takes the id, if its container runs.
fn begin(shared: &Arc<Shared>, id: &ContainerId) -> Result<(Arc<Session>, Arc<Entry>), Error> {
    let parent = id.parent().ok_or(Error::UnknownRoot)?;
    let missing = || Error::ParentMissing(parent.clone());
    let entry = shared.get(parent).filter(|entry| !entry.is_over()).ok_or_else(missing)?;
    let session = Session {
        id: id.clone(),
        ended: Settled::new(),
        bell: Bell::new()?,
        now: Mutex::new(Now::default()),
    };
    let session = Arc::new(session);
    {
        let mut sessions = lock(&shared.own.sessions.0);
        if sessions.contains_key(id) {
            let text = format!("container {id} exists already: choose another id");
            return Err(Error::other(Class::Conflict, text));
        }
        sessions.insert(id.clone(), Arc::clone(&session));
    }
    // Only now: whoever ends the container says so before it looks for sessions to be ended first. So either this one is
    // found there, or the end is found here.
    let text = match entry.phase() {
        Phase::Running => return Ok((session, entry)),
        Phase::Paused => {
            format!("container {parent} is paused, and so would be what is run in it: resume it first")
        }
        phase if phase.is_launching() => {
            format!("container {parent} does not run yet: wait for its launch")
        }
        phase => {
            give_up(shared, &session);
            return Err(match phase {
                Phase::Destroying => Error::ParentDestroying(parent.clone()),
                _ => missing(),
            });
        }
    };
    give_up(shared, &session);
    Err(Error::other(Class::Conflict, text))
}

fn give_up(shared: &Shared, session: &Session) {
    lock(&shared.own.sessions.0).remove(&session.id);
    session.ended.settle(ContainerTermination::default());
}

/// What is to be run, after all that can be looked at before.
fn plan(
    shared: &Shared,
    entry: &Entry,
    init: &Init,
    request: &ExecRequest,
    log: &Path,
) -> Result<std::process::Command, Error> {
    let (settings, record, command) = (&shared.own.settings, &entry.record, &request.command);
    let root = Root::at(Path::new(&format!("/proc/{}/root", init.process.pid)));
    // Looked at after it was opened.
    if !init.process.exists().unwrap_or(false) {
        return Err(Error::ParentDestroying(entry.id.clone()));
    }
    let root = root.map_err(|error| Error::because(error.class(), "open the container's root", error))?;
    let own = &record.config.command_info;
    let user = command.user.as_ref().or(own.user.as_ref()).or(record.config.user.as_ref());
    let user = user.map(|user| {
        let found = resolve_user(&root, user)
            .map_err(|error| Error::because(error.class(), format!("user '{user}'"), error))?;
        Ok((found.uid, found.gid))
    });
    let user = user.transpose()?;
    let words = asked::words(command)?;
    let directory = match &command.working_directory {
        Some(directory) => directory.clone(),
        None => asked::directory(settings, own),
    };
    let mut variables = asked::variables(settings, record, &record.own.environment)?;
    variables.extend(request.environment.clone());
    if request.terminal.is_some() && !variables.contains_key("TERM") {
        variables.insert("TERM".to_owned(), "xterm".to_owned());
    }
    asked::add_variables(&mut variables, command)?;
    if root.open_dir(&directory).is_err() {
        return Err(invalid(format!("{directory} is no directory in container {}", entry.id)));
    }
    let path = variables.get("PATH").map_or(SEARCH, String::as_str);
    find(&root, &words[0], &directory, path)?;
    let variables: Vec<(String, String)> = variables.into_iter().collect();
    let call = Call::new("lxc-attach", &settings.containers(), &asked::name(record))
        .argument("--quiet")
        .option("--logfile=", log)
        .option("--logpriority=", "ERROR");
    let owner::Entering { call, words, kept } = owner::entering(call, &variables, user, &directory, &words);
    let mut command = call.words(words).command().map_err(of_tool)?;
    command.env_clear().envs(kept).env("PATH", SEARCH).current_dir("/");
    berth_sys::session::close_others(&mut command);
    Ok(command)
}

/// Says so if a program is not there. What else keeps it from running is told by its status, and on its stream of errors.
fn find(root: &Root, program: &str, directory: &str, search: &str) -> Result<(), Error> {
    let places: Vec<PathBuf> = match program.contains('/') {
        true => vec![Path::new(directory).join(program)],
        false => search.split(':').map(|place| Path::new(directory).join(place).join(program)).collect(),
    };
    let mut why = "is not there";
    for place in &places {
        let Some(stat) = root.open(place, OFlags::PATH).ok().and_then(|fd| fstat(&fd).ok()) else { continue };
        let is_file = stat.st_mode & 0o170_000 == 0o100_000;
        if is_file && stat.st_mode & 0o111 != 0 {
            return Ok(());
        }
        why = if is_file { "may not be executed" } else { "is no file" };
    }
    let whence = if program.contains('/') { String::new() } else { format!(" in {search}") };
    Err(invalid(format!("the command can not be run: {program} {why}{whence} of the container")))
}

/// What a thread of ours serves while the command runs.
type Sides = Option<terminal::Copier>;

/// Starts the command. Its program runs, or has ended, when this returns.
fn start(
    shared: &Shared,
    session: &Session,
    entry: &Entry,
    request: &ExecRequest,
) -> Result<(Monitor, Attached, Sides), Error> {
    let init = entry.own.init().ok_or_else(|| Error::ParentMissing(entry.id.clone()))?;
    let log = Log::new(&shared.records.place(&entry.id));
    let mut command = plan(shared, entry, &init, request, &log.0)?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| of_io("make a pipe")(errno.into()));
    let (outer, sides) = match request.terminal {
        None => {
            let ((stdin_of, stdin), (stdout, stdout_of), (stderr, stderr_of)) = (pipe()?, pipe()?, pipe()?);
            command.stdin(stdin_of).stdout(stdout_of).stderr(stderr_of);
            berth_sys::session::lead(&mut command);
            (Attached { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) }, None)
        }
        Some(size) => {
            let (terminal, slave) = Terminal::open(size)?;
            let copy = || slave.try_clone().map_err(of_io("copy a descriptor"));
            command.stdin(copy()?).stdout(copy()?).stderr(slave);
            berth_sys::session::lead_on_terminal(&mut command);
            let ((stdin_of, stdin), (stdout, stdout_of)) = (pipe()?, pipe()?);
            let copier = terminal.copier(stdin_of, stdout_of)?;
            lock(&session.now).terminal = Some(terminal);
            (Attached { stdin: Some(stdin), stdout: Some(stdout), stderr: None }, Some(copier))
        }
    };
    let child = command.spawn().map_err(of_io("start lxc-attach"))?;
    // It holds our copies of the command's ends.
    drop(command);
    let mut attach = Monitor::started(child).map_err(of_io("open the process lxc-attach"))?;
    match executed(shared, session, &init, &mut attach) {
        Ok(()) => {}
        Err(error) => {
            kill(session, &mut attach);
            return Err(error);
        }
    }
    if let Some(terminal) = &lock(&session.now).terminal {
        terminal.pass();
    }
    let words = log.words();
    match attach.code() {
        // It has something to say only of what it could not start.
        Some(code) if code != 0 && !words.is_empty() => {
            let text = format!("run a command in container {}: {}", entry.id, tools::log_errors(&words));
            Err(Error::other(Class::Invalid, text))
        }
        _ => Ok((attach, outer, sides)),
    }
}

/// What lxc-attach says of one start: the end of what all have said of this container's.
struct Log(PathBuf, u64);

impl Log {
    fn new(place: &Path) -> Log {
        let path = place.join(LOG);
        let said = path.metadata().map_or(0, |metadata| metadata.len());
        if said > LOG_FULL {
            let _ = fs::File::options().write(true).truncate(true).open(&path);
        }
        Log(path, if said > LOG_FULL { 0 } else { said })
    }

    fn words(&self) -> Vec<u8> {
        let mut words = Vec::new();
        if let Ok(mut file) = fs::File::open(&self.0) {
            let _ =
                file.seek(SeekFrom::Start(self.1)).and_then(|_| file.take(LOG_FULL).read_to_end(&mut words));
        }
        words
    }
}

/// Whether a file is one of these logs.
fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(LOG))
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Waits until the command's program is executed: it is in the container's namespace of processes, and no longer LXC's own.
fn executed(shared: &Shared, session: &Session, init: &Init, attach: &mut Monitor) -> Result<(), Error> {
    let program = |pid: u32| fs::metadata(format!("/proc/{pid}/exe")).ok().map(|it| (it.dev(), it.ino()));
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inside = namespace(init.process.pid);
    let tool = attach.process().map(|process| process.pid).unwrap_or_default();
    let until = Instant::now() + shared.own.settings.start;
    while !attach.is_over() {
        if session.process().is_none() {
            let is_it = |pid: &u32| inside.is_some() && namespace(*pid) == inside;
            let found =
                children(tool).into_iter().find(is_it).and_then(|pid| Process::of(pid).ok().flatten());
            let found =
                found.and_then(|process| Some(Init { process, fd: Arc::new(process::open(process)?) }));
            lock(&session.now).process = found;
        }
        if let Some(process) = session.process()
            && let Some(now) = program(process.process.pid)
            // Looked at each time: lxc-attach executes a copy of itself first.
            && program(tool).is_some_and(|own| own != now)
        {
            return Ok(());
        }
        if session.is_destroyed() || shared.is_leaving() {
            return Err(Error::DestroyedWhileLaunching);
        }
        if Instant::now() >= until {
            let text = format!("command {} did not begin in {:?}", session.id, shared.own.settings.start);
            return Err(Error::other(Class::Internal, text));
        }
        let mut fds = [
            PollFd::new(&attach.fd, PollFlags::IN),
            PollFd::from_borrowed_fd(session.bell.as_fd(), PollFlags::IN),
        ];
        let _ = poll(&mut fds, Some(&LOOK));
    }
    Ok(())
}

/// Serves a session until it has ended, and makes that known.
fn watch(shared: &Arc<Shared>, session: &Session, entry: &Entry, mut attach: Monitor, mut sides: Sides) {
    while !attach.is_over() && !session.is_destroyed() && !shared.is_leaving() {
        let mut fds = vec![
            PollFd::new(&attach.fd, PollFlags::IN),
            PollFd::from_borrowed_fd(session.bell.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(shared.leave_bell().as_fd(), PollFlags::IN),
        ];
        if let Some(sides) = &sides {
            sides.wishes(&mut fds);
        }
        let _ = poll(&mut fds, None);
        drop(fds);
        if let Some(sides) = &mut sides {
            sides.copy();
        }
    }
    kill(session, &mut attach);
    let status = status(session, entry, &mut attach);
    lock(&session.now).terminal = None;
    let message = status.is_none().then(|| "the exit status is unknown: lxc-attach was killed".to_owned());
    let termination =
        ContainerTermination { message, status: status.map(|it| it.0), ..ContainerTermination::default() };
    shared.events.publish(&session.id, What::Moved { from: Phase::Running, to: Phase::Terminated });
    shared.events.publish(&session.id, What::Ended(termination.clone()));
    session.ended.settle(termination);
    // What it has written last is still to be read.
    if let Some(sides) = sides {
        sides.finish(shared.leave_bell().as_fd());
    }
}

/// Ends the command, and lxc-attach with it.
fn kill(session: &Session, attach: &mut Monitor) {
    if attach.is_over() {
        return;
    }
    let _ = session.signal(SIGKILL);
    if session.process().is_none() || !attach.wait(NOTICE) {
        attach.kill();
        attach.wait(NOTICE);
    }
}

/// Whether a container ends: what is in it is killed a moment before its first process is gone.
fn ends(entry: &Entry) -> bool {
    let Some(init) = entry.own.init().filter(|_| !entry.is_destroyed()) else { return true };
    let mut fds = [PollFd::new(&*init.fd, PollFlags::IN)];
    poll(&mut fds, Some(&GOING)).is_ok_and(|count| count > 0)
}

/// How it ended: exactly, where the kernel tells (Linux 6.15); lxc-attach makes 128 and the signal of it.
fn status(session: &Session, entry: &Entry, attach: &mut Monitor) -> Option<WaitStatus> {
    let exact = session.process().and_then(|init| berth_sys::pidfd::exit_status(&*init.fd).ok().flatten());
    if let Some(exact) = exact {
        return Some(WaitStatus(exact));
    }
    let told = WaitStatus(attach.code()?);
    match told.exited() {
        None if session.is_destroyed() => Some(WaitStatus::KILLED),
        None => None,
        // An exit by such a number is one, unless somebody sent that signal, or all in the container were killed.
        Some(code) if (129..=192).contains(&code) && lock(&session.now).sent == code - 128 => {
            Some(WaitStatus(code - 128))
        }
        Some(137) if ends(entry) => Some(WaitStatus::KILLED),
        Some(_) => Some(told),
    }
}
