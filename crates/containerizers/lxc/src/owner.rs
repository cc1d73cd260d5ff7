// SPDX-License-Identifier: Apache-2.0
//! The thread that owns a container, from its launch to its end.
//!
//! The start in its parts, so that what is written down comes before what it announces:
//!
//! ```text
//! agent                                  lxc-start, a session of its own         first process
//! intent written, base and snapshot made
//! at, go made; lxc-start started ──────> namespaces, mounts, groups ──────────> made, and waits
//!                                        hook: tells its pid ─> at
//! pid file and `started` written
//! go ──────────────────────────────────> hook ends ───────────────────────────> program executed
//! `launched` written                     stands beside, logs how it ends
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_contract::{Error, LaunchResult, Phase, Variables};
use berth_keeper::sandbox::write_pid;
use berth_model::{Class, ContainerTermination, LxcMode, WaitStatus};
use berth_record::{BootId, Process};
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use crate::asked::{self, Run};
use crate::error::{of_io, of_tool, warn};
use crate::kept::{Entry, LAUNCHED, Shared, Started, init_of, started};
use crate::process::{self, Init, Monitor};
use crate::tools::{self, Call, Config, Line};
use crate::{base, fetch, groups, sandbox};

/// How long the killed may take.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// How often the first process is looked at until it has executed its program, which takes it a moment.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000 };
/// The hook: it tells the pid, and waits.
const HOOK: &str = "lxc.hook.start-host";

/// The two parts of a launch that can fail differently.
enum Failure {
    Failed(Error),
    /// The containerizer goes; the next agent takes away what is there.
    Left,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Failed(error)
    }
}

/// Launches a container and owns it.
pub(crate) fn launch(shared: &Arc<Shared>, entry: &Entry, environment: &Variables, pid_file: Option<&Path>) {
    match try_launch(shared, entry, environment, pid_file) {
        Ok(mut monitor) => {
            shared.step(entry, Phase::Running);
            entry.launched.settle(Ok(LaunchResult::Success));
            watch(shared, entry, &mut monitor);
        }
        Err(Failure::Failed(error)) => {
            clean(shared, entry);
            shared.failed(entry, error, "the launch did not succeed");
        }
        Err(Failure::Left) => shared.left(entry),
    }
}

fn still_wanted(shared: &Shared, entry: &Entry, phase: Phase) -> Result<(), Failure> {
    if shared.is_leaving() {
        return Err(Failure::Left);
    }
    if entry.is_destroyed() { Err(Error::DestroyedDuring(phase).into()) } else { Ok(()) }
}

fn try_launch(
    shared: &Arc<Shared>,
    entry: &Entry,
    environment: &Variables,
    pid_file: Option<&Path>,
) -> Result<Monitor, Failure> {
    let (settings, record) = (&shared.own.settings, &entry.record);
    still_wanted(shared, entry, Phase::Provisioning)?;
    let (lxc, map) = asked::source(&record.config)?;
    shared.records.begin(record)?;
    if !record.config.command_info.uris.is_empty() {
        let fetched = fetch::fetch(shared, entry);
        still_wanted(shared, entry, Phase::Fetching)?;
        fetched?;
        shared.step(entry, Phase::Provisioning);
    }
    let base = match (&lxc.template, &lxc.clone_from) {
        (Some(template), _) => {
            shared.own.bases.of_template(settings, entry, template, &lxc.template_options, map)?
        }
        (None, Some(name)) => base::of_container(settings, name)?,
        (None, None) => unreachable!("refused before"),
    };
    still_wanted(shared, entry, Phase::Provisioning)?;
    shared.step(entry, Phase::Preparing);
    let name = asked::name(record);
    let place = name.place(&settings.containers());
    if place.symlink_metadata().is_ok() {
        // Left by an earlier container of this id, whose record is gone.
        tools::remove_tree(&settings.containers(), name.as_str()).map_err(of_tool)?;
    }
    let run = asked::prepare(settings, record, environment, &base, &place, map)?;
    still_wanted(shared, entry, Phase::Preparing)?;
    shared.step(entry, Phase::Isolating);
    let mut monitor = start(shared, entry, &run)?;
    match let_go(shared, entry, &run, &mut monitor, pid_file) {
        Ok(()) => Ok(monitor),
        Err(failure) => {
            if matches!(failure, Failure::Failed(_)) {
                monitor.kill();
                monitor.wait(AFTER_KILL);
            }
            Err(failure)
        }
    }
}

/// Starts lxc-start, with the two pipes of its hook.
fn start(shared: &Shared, entry: &Entry, run: &Run) -> Result<Monitor, Error> {
    let (settings, record) = (&shared.own.settings, &entry.record);
    let name = asked::name(record);
    let place = shared.records.place(&entry.id);
    let (at, go) = (place.join("at"), place.join("go"));
    for path in [&at, &go] {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|errno| of_io(format!("make {}", path.display()))(errno.into()))?;
    }
    // LXC puts `exec` before it and words behind it, so that it has to be one program. Paths in single quotes: `plain` has
    // no quote in it.
    let hook = place.join("hook");
    let script = format!("echo $LXC_PID >'{}' && read -r go <'{}'\n", asked::plain(&at)?, asked::plain(&go)?);
    std::fs::write(&hook, script).map_err(of_io(format!("write {}", hook.display())))?;
    let hook = format!("/bin/sh '{}'", asked::plain(&hook)?);
    let config = name.config(&settings.containers());
    let line = Config(vec![Line::new(HOOK, hook).map_err(of_tool)?]).to_string();
    let appended =
        File::options().append(true).open(&config).and_then(|mut file| file.write_all(line.as_bytes()));
    appended.map_err(of_io(format!("write {}", config.display())))?;
    let output =
        |name| sandbox::output(&record.config, name).map_err(of_io(format!("open {name} in the sandbox")));
    let call = Call::new("lxc-start", &settings.containers(), &name)
        .argument("--foreground")
        .argument("--close-all-fds")
        .option("--logfile=", place.join("log"))
        .option("--logpriority=", "DEBUG");
    let call = match run.mode {
        LxcMode::Application => call.words(&run.words),
        LxcMode::System => call,
    };
    let mut command = call.command().map_err(of_tool)?;
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    command.env_clear().env("PATH", path).current_dir("/");
    command.stdin(Stdio::null()).stdout(output("stdout")?).stderr(output("stderr")?);
    let child = berth_sys::session::lead(&mut command).spawn().map_err(of_io("start lxc-start"))?;
    Monitor::started(child).map_err(of_io("open the process lxc-start"))
}

/// From the start of lxc-start until the program is executed.
fn let_go(
    shared: &Shared,
    entry: &Entry,
    run: &Run,
    monitor: &mut Monitor,
    pid_file: Option<&Path>,
) -> Result<(), Failure> {
    let place = shared.records.place(&entry.id);
    let pipe = |name: &str| {
        open(place.join(name), OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| of_io(format!("open {}", place.join(name).display()))(errno.into()))
    };
    let (at, go) = (pipe("at")?, pipe("go")?);
    let until = Instant::now() + shared.own.settings.start;
    let pid = loop {
        still_wanted(shared, entry, Phase::Isolating)?;
        if let Some(pid) = told(&at) {
            break pid;
        }
        if monitor.is_over() {
            return Err(not_started(shared, entry, "lxc-start ended before there was a first process").into());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = format!("there was no first process within {:?}", shared.own.settings.start);
            return Err(not_started(shared, entry, &text).into());
        }
        let left = Timespec::try_from(left).ok();
        let mut fds = [
            PollFd::new(&at, PollFlags::IN),
            PollFd::new(&monitor.fd, PollFlags::IN),
            PollFd::from_borrowed_fd(entry.own.bell(), PollFlags::IN),
            PollFd::from_borrowed_fd(shared.leave_bell().as_fd(), PollFlags::IN),
        ];
        let _ = poll(&mut fds, left.as_ref());
    };
    let gone =
        |what: &str| not_started(shared, entry, &format!("{what} ended before the first process was let go"));
    let process = Process::of(pid).ok().flatten().ok_or_else(|| gone(&format!("process {pid}")))?;
    let fd = process::open(process).ok_or_else(|| gone(&format!("the process {pid}")))?;
    let init = Init { process, fd: Arc::new(fd) };
    if let Some(logs) = &run.logs {
        logs.check(pid)?;
    }
    if let Some(path) = pid_file {
        write_pid(path, pid)?;
    }
    let monitor_process = monitor.process().ok_or_else(|| gone("lxc-start"))?;
    let boot = BootId::current().map_err(|error| Error::because(error.class(), "the boot's id", error))?;
    started(shared, &entry.id, &Started { init: process, monitor: monitor_process, boot })?;
    still_wanted(shared, entry, Phase::Isolating)?;
    entry.own.has_init(init.clone());
    berth_sys::rustix::io::write(&go, b"go\n")
        .map_err(|errno| of_io("let the first process go on")(errno.into()))?;
    executed(shared, entry, &init, monitor)?;
    if run.mode == LxcMode::System {
        attach(shared, entry, run)?;
    }
    shared.records.open(&entry.id)?.mark(LAUNCHED)?;
    Ok(())
}

/// The pid that the hook has told.
fn told(at: &OwnedFd) -> Option<u32> {
    let mut text = [0u8; 32];
    let read = berth_sys::rustix::io::read(at, &mut text).ok()?;
    std::str::from_utf8(&text[..read]).ok()?.trim().parse().ok()
}

/// Waits until the first process is no longer LXC's own program. Nothing can be waited for that says so: a process that
/// executes is not told of by the kernel. It takes a millisecond.
fn executed(shared: &Shared, entry: &Entry, init: &Init, monitor: &mut Monitor) -> Result<(), Failure> {
    let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = monitor.process().and_then(|process| program(process.pid));
    let until = Instant::now() + shared.own.settings.start;
    loop {
        if process::is_readable(&init.fd) {
            // It has ended: by itself, or because there was nothing to execute.
            monitor.wait(AFTER_KILL);
            let log = std::fs::read(shared.records.place(&entry.id).join("log")).unwrap_or_default();
            if String::from_utf8_lossy(&log).contains("Failed to exec") {
                return Err(not_started(shared, entry, "the program can not be executed").into());
            }
            return Ok(());
        }
        if program(init.process.pid).is_some_and(|now| Some(now) != own) {
            return Ok(());
        }
        still_wanted(shared, entry, Phase::Isolating)?;
        if Instant::now() >= until {
            return Err(not_started(shared, entry, "the program was not executed in time").into());
        }
        let _ = poll(&mut [PollFd::from_borrowed_fd(entry.own.bell(), PollFlags::IN)], Some(&LOOK));
    }
}

/// The command of a system container. A shell of the host waits for lxc-attach and writes down its status, so that it
/// is there for the next agent.
fn attach(shared: &Shared, entry: &Entry, run: &Run) -> Result<(), Error> {
    const NOTE: &str =
        "cd \"$1\" && shift && { \"$@\"; printf '%s\\n' $? >attached.tmp && mv attached.tmp attached; }";
    let (settings, record) = (&shared.own.settings, &entry.record);
    let place = shared.records.place(&entry.id);
    let call = Call::new("lxc-attach", &settings.containers(), &asked::name(record));
    let Entering { call, words, kept } = entering(call, &run.variables, run.user, &run.directory, &run.words);
    let inner = call.words(words).command().map_err(of_tool)?;
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", NOTE, "sh"]).arg(&place).arg(inner.get_program()).args(inner.get_args());
    let output =
        |name| sandbox::output(&record.config, name).map_err(of_io(format!("open {name} in the sandbox")));
    command.env_clear().envs(kept).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(output("stdout")?).stderr(output("stderr")?);
    // lxc-attach would pass them on.
    berth_sys::session::close_others(&mut command);
    let mut child = berth_sys::session::lead(&mut command).spawn().map_err(of_io("start lxc-attach"))?;
    // It ends with the container at the latest.
    let reaper = std::thread::Builder::new().name("lxc-reap".to_owned()).stack_size(64 << 10);
    reaper.spawn(move || drop(child.wait())).map(drop).map_err(of_io("make a thread for lxc-attach"))
}

/// How lxc-attach is told what to run.
pub(crate) struct Entering<'a> {
    /// With its options.
    pub(crate) call: Call<'a>,
    /// The words behind them.
    pub(crate) words: Vec<String>,
    /// Variables of its own, which it hands on: everybody on the host can read its words, and only root these.
    pub(crate) kept: Vec<(String, String)>,
}

/// Whether the C library, a shell or LXC looks at a variable itself: such a one is given by words, so that the container's
/// configuration has no say in a process of the host.
fn is_of_tools(name: &str) -> bool {
    const BEGINNINGS: [&str; 12] = [
        "LD_", "GLIBC_", "MALLOC_", "LXC_", "OPENSSL_", "SSL_", "DBUS_", "XDG_", "LC_", "NIS_", "RES", "BASH",
    ];
    const NAMES: [&str; 31] = [
        "ATTY",
        "FUNCNAME",
        "HISTSIZE",
        "LINENO",
        "MAIL",
        "MAILPATH",
        "OPTIND",
        "PPID",
        "PATH",
        "HOME",
        "SHELL",
        "ENV",
        "IFS",
        "PS1",
        "PS2",
        "PS4",
        "PWD",
        "OLDPWD",
        "CDPATH",
        "TERM",
        "TMPDIR",
        "LANG",
        "LOCPATH",
        "NLSPATH",
        "GCONV_PATH",
        "GETCONF_DIR",
        "HOSTALIASES",
        "LOCALDOMAIN",
        "TZ",
        "TZDIR",
        "_",
    ];
    // What is no name to a shell, it does not hand on.
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    !is_plain
        || name.starts_with(|first: char| first.is_ascii_digit())
        || NAMES.contains(&name)
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// How lxc-attach is told what to run. It begins in the root directory.
pub(crate) fn entering<'a>(
    call: Call<'a>,
    variables: &[(String, String)],
    user: Option<(u32, u32)>,
    directory: &str,
    words: &[String],
) -> Entering<'a> {
    let mut call = call.argument("--clear-env");
    let mut kept = Vec::new();
    for (name, value) in variables {
        if is_of_tools(name) {
            call = call.option("--set-var=", format!("{name}={value}"));
        } else {
            call = call.option("--keep-var=", name);
            kept.push((name.clone(), value.clone()));
        }
    }
    if let Some((uid, gid)) = user {
        call = call.option("--uid=", uid.to_string()).option("--gid=", gid.to_string());
    }
    if directory == "/" {
        return Entering { call, words: words.to_vec(), kept };
    }
    let shell = ["/bin/sh", "-c", "cd \"$1\" && shift && exec \"$@\"", "sh", directory].map(str::to_owned);
    Entering { call, words: shell.into_iter().chain(words.iter().cloned()).collect(), kept }
}

/// What lxc-start said of a start that came to nothing.
fn not_started(shared: &Shared, entry: &Entry, what: &str) -> Error {
    let log = std::fs::read(shared.records.place(&entry.id).join("log")).unwrap_or_default();
    let words = tools::log_errors(&log);
    let text = format!(
        "start container {}: {what}: {words}; `lxc-checkconfig` tells what this kernel lacks",
        entry.id
    );
    Error::other(Class::Internal, text)
}

/// Watches a running container until its end, and makes that end known.
pub(crate) fn watch(shared: &Arc<Shared>, entry: &Entry, monitor: &mut Monitor) {
    let is_system = asked::is_system(&entry.record.config);
    let place = shared.records.place(&entry.id);
    let notes = if is_system { inotify(&place) } else { None };
    while !monitor.is_over() && !entry.is_destroyed() {
        if shared.is_leaving() {
            // The container goes on.
            return;
        }
        if is_system && attached(&place).is_some() {
            break;
        }
        let mut fds = vec![
            PollFd::new(&monitor.fd, PollFlags::IN),
            PollFd::from_borrowed_fd(entry.own.bell(), PollFlags::IN),
            PollFd::from_borrowed_fd(shared.leave_bell().as_fd(), PollFlags::IN),
        ];
        fds.extend(notes.iter().map(|notes| PollFd::new(notes, PollFlags::IN)));
        let _ = poll(&mut fds, None);
        if let Some(notes) = &notes {
            let _ = berth_sys::rustix::io::read(notes, &mut [0u8; 4096]);
        }
    }
    if entry.is_destroyed() {
        shared.noted(entry, shared.records.destroying(&entry.id));
    }
    // Whatever is known of the command was known before it is ended.
    let command = is_system.then(|| attached(&place)).flatten();
    shared.step(entry, Phase::Destroying);
    end(shared, entry, monitor, is_system);
    finish(shared, entry, command);
}

/// Tells when a file is put into the directory.
fn inotify(place: &Path) -> Option<OwnedFd> {
    use berth_sys::rustix::fs::inotify;
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    inotify::add_watch(&fd, place, inotify::WatchFlags::MOVED_TO).ok()?;
    Some(fd)
}

/// How the command of a system container ended: a shell's number.
fn attached(place: &Path) -> Option<WaitStatus> {
    let mut text = String::new();
    File::open(place.join("attached")).ok()?.take(16).read_to_string(&mut text).ok()?;
    let code: i32 = text.trim().parse().ok()?;
    Some(WaitStatus(if (129..=192).contains(&code) { code - 128 } else { code << 8 }))
}

/// Ends what runs: a system cleanly, if it does so in time; everything else at once.
fn end(shared: &Shared, entry: &Entry, monitor: &mut Monitor, is_system: bool) {
    let settings = &shared.own.settings;
    if is_system && !monitor.is_over() {
        let stop = Call::new("lxc-stop", &settings.containers(), &asked::name(&entry.record))
            .option("--timeout=", settings.grace.as_secs().to_string())
            .deadline(settings.grace + AFTER_KILL);
        if let Err(error) = stop.end(&mut |_| {}) {
            warn(&format!("container {}: {}", entry.id, error.chain()));
        }
    }
    let go_on;
    if !monitor.is_over() {
        if let Some(init) = entry.own.init() {
            let _ = groups::freeze(settings, &entry.id, false);
            let _ = berth_sys::signal::send(init.fd.as_fd(), 9);
            // One that was killed where it waited: its hook, and with it lxc-start, would wait for ever. Held until the end, for
            // the hook may be just about to open it.
            let go = shared.records.place(&entry.id).join("go");
            go_on = open(go, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok();
            if let Some(go) = &go_on {
                let _ = berth_sys::rustix::io::write(go, b"go\n");
            }
        }
        if !monitor.wait(AFTER_KILL) {
            warn(&format!("container {}: lxc-start did not end with its container and is killed", entry.id));
            monitor.kill();
            monitor.wait(AFTER_KILL);
        }
    }
}

/// Takes down how it ended, then all that it held, and tells everyone.
pub(crate) fn finish(shared: &Arc<Shared>, entry: &Entry, command: Option<WaitStatus>) {
    let place = shared.records.place(&entry.id);
    let log = std::fs::read(place.join("log")).unwrap_or_default();
    let init = init_of(shared, &entry.id);
    let own = init.and_then(|pid| process::status_in(&log, pid));
    let termination = match command.or(own) {
        Some(status) => ContainerTermination { status: Some(status.0), ..ContainerTermination::default() },
        None => {
            let message =
                "the exit status is unknown: lxc-start was killed, and nobody else saw the container end";
            ContainerTermination { message: Some(message.to_owned()), ..ContainerTermination::default() }
        }
    };
    shared.noted(entry, shared.records.ended(&entry.id, &termination));
    shared.step(entry, Phase::Destroying);
    shared.own.sessions.end_below(&entry.id);
    clean(shared, entry);
    shared.noted(entry, shared.records.tidied(&entry.id));
    shared.terminated(entry, termination);
}

/// Takes away all that a container may hold, whatever it came to.
pub(crate) fn clean(shared: &Shared, entry: &Entry) {
    let settings = &shared.own.settings;
    groups::remove(settings, &entry.id);
    if asked::keeps(&entry.record.config) && entry.own.init().is_some() {
        // Not ours any more, and the next agent's neither.
        let place = asked::name(&entry.record).place(&settings.containers());
        if let Err(error) = File::create(place.join(base::KEPT)) {
            warn(&format!("container {}: keep {}: {error}", entry.id, place.display()));
        }
        return;
    }
    let name = asked::name(&entry.record);
    if let Err(error) = tools::remove_tree(&settings.containers(), name.as_str()) {
        warn(&format!("container {}: {}", entry.id, error.chain()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_of_the_host_would_heed_is_given_by_words_and_all_else_is_not() {
        let names =
            ["LD_PRELOAD", "PATH", "OPTIND", "1ST", "a-b", "LXC_CACHE_PATH", "TOKEN", "_X", "MESOS_SANDBOX"];
        let variables: Vec<_> = names.map(|name| (name.to_owned(), format!("of {name}"))).to_vec();
        let call = Call::new("lxc-attach", Path::new("/c"), &tools::Name::new("n").unwrap());
        let entering = entering(call, &variables, None, "/", &[]);
        let kept: Vec<_> = entering.kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(kept, ["TOKEN", "_X", "MESOS_SANDBOX"]);
    }
}
