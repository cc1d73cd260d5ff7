// SPDX-License-Identifier: Apache-2.0
//! Running one of LXC's tools: a deadline, a way to cancel, an end for everything that it started, and a bound on what is
//! kept of what it says.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use berth_sys::rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::{Error, Kennel, Name, Result};

/// How much of what a tool writes is kept.
const KEPT: usize = 1 << 20;
/// How much of its last words an error tells.
const TAIL: usize = 1500;
/// How much is read at once.
const PIECE: usize = 32 << 10;
/// What a tool looks for programs in; a template finds its own, too.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Enters the kennel, whose door is its input, before anything else.
const ENTER: &str = "echo 0 >&0 && exec \"$@\" </dev/null";

/// What is told of a tool's output as it comes.
pub type Progress<'a> = &'a mut dyn FnMut(&[u8]);

/// A call of a tool that is to be made.
#[derive(Debug)]
pub struct Call<'a> {
    program: &'static str,
    name: String,
    arguments: Vec<OsString>,
    deadline: Option<Duration>,
    cancel: Option<BorrowedFd<'a>>,
    kennel: Option<&'a Kennel>,
    environment: Vec<(OsString, OsString)>,
}

/// What came of it.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote, as much as is kept.
    pub stdout: Vec<u8>,
    /// The last of what it wrote as errors and otherwise.
    pub words: String,
}

/// Whether a tool is there.
pub fn installed(program: &str) -> bool {
    SEARCH.split(':').any(|place| Path::new(place).join(program).is_file())
}

/// LXC's version, as `lxc-start` tells it.
///
/// # Errors
/// LXC is not installed, or does not answer.
pub fn version() -> Result<String> {
    let ended = Call::bare("lxc-start", "").argument("--version").deadline(Duration::from_secs(10)).run()?;
    Ok(String::from_utf8_lossy(&ended.stdout).trim().to_owned())
}

impl<'a> Call<'a> {
    /// A tool that works on one container.
    pub fn new(program: &'static str, lxcpath: &Path, name: &Name) -> Call<'a> {
        Call::bare(program, name.as_str()).option("--lxcpath=", lxcpath).option("--name=", name.as_str())
    }

    /// A tool as it is.
    pub fn bare(program: &'static str, name: &str) -> Call<'a> {
        Call {
            program,
            name: name.to_owned(),
            arguments: Vec::new(),
            deadline: None,
            cancel: None,
            kennel: None,
            environment: Vec::new(),
        }
    }

    /// One more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// An option and its value in one argument, so that no value is taken for an option.
    #[must_use]
    pub fn option(mut self, option: &str, value: impl AsRef<OsStr>) -> Self {
        let mut argument = OsString::from(option);
        argument.push(value);
        self.arguments.push(argument);
        self
    }

    /// All words after `--`.
    #[must_use]
    pub fn words<T: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        let mut words = words.into_iter().peekable();
        if words.peek().is_some() {
            self.arguments.push("--".into());
        }
        self.arguments.extend(words.map(|word| word.as_ref().to_owned()));
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// It ends when this is readable.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: BorrowedFd<'a>) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Where it and all that it starts is.
    #[must_use]
    pub fn inside(mut self, kennel: Option<&'a Kennel>) -> Self {
        self.kennel = kennel;
        self
    }

    /// A variable for the tool itself.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The command as it is, for who has a use of its own for it: streams and environment are the caller's.
    ///
    /// # Errors
    /// It is not installed.
    pub fn command(&self) -> Result<Command> {
        if !installed(self.program) {
            return Err(Error::NotInstalled(self.program));
        }
        let mut command = Command::new(self.program);
        command.args(&self.arguments).env("PATH", SEARCH);
        Ok(command)
    }

    /// Runs it; a status that is not success is an error.
    ///
    /// # Errors
    /// It is not installed, fails, is late, is cancelled.
    pub fn run(&self) -> Result<Ended> {
        self.run_telling(&mut |_| {})
    }

    /// The same, and tells what it says as it says it.
    ///
    /// # Errors
    /// As [`run`](Call::run).
    pub fn run_telling(&self, progress: Progress<'_>) -> Result<Ended> {
        let ended = self.end(progress)?;
        match ended.status.success() {
            true => Ok(ended),
            false => Err(self.failed(&ended)),
        }
    }

    /// The error of a status that is not success.
    pub fn failed(&self, ended: &Ended) -> Error {
        let (program, name) = (self.program, self.name.clone());
        Error::Failed { program, name, status: ended.status.code(), words: ended.words.clone() }
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// It is not installed, is late, is cancelled.
    pub fn end(&self, progress: Progress<'_>) -> Result<Ended> {
        let start = |source| Error::Start { program: self.program, source };
        let mut running = self.start()?;
        let mut streams = Streams::of(&mut running.child).map_err(start)?;
        let until = self.deadline.map(|deadline| Instant::now() + deadline);
        let stopped = loop {
            streams.read(progress);
            if running.is_over() {
                break None;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break self.deadline;
            }
            if wait(&[self.cancel], &streams, &running.pidfd, left) {
                break Some(Duration::ZERO);
            }
        };
        if stopped.is_some() {
            running.kill(self.kennel);
        }
        let status = running.child.wait().map_err(start)?;
        // Whoever holds a pipe still is left behind, and not waited for.
        if let Some(kennel) = self.kennel {
            kennel.kill();
        }
        streams.read(progress);
        let words = streams.words();
        let (program, name) = (self.program, self.name.clone());
        match stopped {
            None => Ok(Ended { status, stdout: streams.kept, words }),
            Some(Duration::ZERO) => Err(Error::Cancelled { program, name }),
            Some(limit) => Err(Error::Late { program, name, limit, words }),
        }
    }

    fn start(&self) -> Result<Running> {
        if !installed(self.program) {
            return Err(Error::NotInstalled(self.program));
        }
        let door = self.kennel.and_then(Kennel::entrance);
        let mut command = match &door {
            Some(_) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", ENTER, "sh", self.program]);
                command
            }
            None => Command::new(self.program),
        };
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", SEARCH)
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8");
        // What the operator says of proxies and mirrors is for templates.
        command.envs(std::env::vars_os().filter(|(name, _)| passed(name)));
        command.envs(self.environment.iter().cloned());
        command
            .stdin(door.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = berth_sys::session::lead(&mut command)
            .spawn()
            .map_err(|source| Error::Start { program: self.program, source })?;
        Running::of(child).map_err(|source| Error::Start { program: self.program, source })
    }
}

/// Variables of this process that tools and templates get.
fn passed(name: &OsStr) -> bool {
    const NAMES: [&str; 16] = [
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "MIRROR",
        "SECURITY_MIRROR",
        "SUITE",
        // Where templates keep what they have downloaded, and what some are told of root's password.
        "LXC_CACHE_PATH",
        "root_password",
        "root_display_password",
        "root_store_password",
        "root_expire_password",
        "TMPDIR",
        "BERTH_TEST_MARKER",
    ];
    NAMES.iter().any(|passed| name == *passed)
}

/// A process in a session of its own.
#[derive(Debug)]
struct Running {
    child: Child,
    pidfd: OwnedFd,
}

impl Running {
    fn of(child: Child) -> io::Result<Running> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a process without a pid"))?;
        Ok(Running { child, pidfd: pidfd_open(pid, PidfdFlags::empty())? })
    }

    fn is_over(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    fn kill(&mut self, kennel: Option<&Kennel>) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        if let Some(kennel) = kennel {
            kennel.kill();
        }
        let _ = self.child.kill();
    }
}

/// What a tool writes.
#[derive(Debug)]
struct Streams {
    out: Option<File>,
    err: Option<File>,
    kept: Vec<u8>,
    tail: Vec<u8>,
}

impl Streams {
    fn of(child: &mut Child) -> io::Result<Streams> {
        let out = child.stdout.take().map(|out| File::from(OwnedFd::from(out)));
        let err = child.stderr.take().map(|err| File::from(OwnedFd::from(err)));
        for file in [&out, &err].into_iter().flatten() {
            let flags = fcntl_getfl(file)?;
            fcntl_setfl(file, flags | OFlags::NONBLOCK)?;
        }
        Ok(Streams { out, err, kept: Vec::new(), tail: Vec::new() })
    }

    /// Takes what is there, without waiting; a bound, so that a deadline comes to its turn.
    fn read(&mut self, progress: Progress<'_>) {
        let mut piece = [0u8; PIECE];
        for which in [true, false] {
            for _ in 0..32 {
                let stream = if which { &mut self.out } else { &mut self.err };
                let Some(file) = stream else { break };
                let read = match file.read(&mut piece) {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => 0,
                };
                if read == 0 {
                    *stream = None;
                    break;
                }
                let piece = &piece[..read];
                progress(piece);
                if which {
                    let room = KEPT.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(&piece[..read.min(room)]);
                }
                self.tail.extend_from_slice(piece);
                let over = self.tail.len().saturating_sub(TAIL);
                self.tail.drain(..over);
            }
        }
    }

    /// The last words, in one line that a terminal can take.
    fn words(&self) -> String {
        last_words(&self.tail)
    }
}

/// The last words of a text, in one line that a terminal can take.
pub fn last_words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(8)..];
    last.join("; ").chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What went wrong, by a log of LXC's: its errors without time and place, the first ones, for what follows them is what they
/// led to.
pub fn log_errors(text: &[u8]) -> String {
    const MOST: usize = 3;
    let text = String::from_utf8_lossy(text);
    let errors = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" ERROR ")?;
        let mut parts = rest.splitn(3, " - ");
        let (_, _, words) = (parts.next()?, parts.next()?, parts.next()?);
        // Told for each question while it runs, by a tool that is older than its library.
        (!words.contains("Unsupported config key")).then(|| last_words(words.as_bytes()))
    });
    errors.take(MOST).collect::<Vec<_>>().join("; ")
}

/// Waits for something to happen; true if it was cancelled.
fn wait(
    cancels: &[Option<BorrowedFd<'_>>],
    streams: &Streams,
    process: &OwnedFd,
    left: Option<Duration>,
) -> bool {
    let mut fds: Vec<PollFd<'_>> =
        cancels.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let bells = fds.len();
    fds.push(PollFd::new(process, PollFlags::IN));
    fds.extend(
        [&streams.out, &streams.err]
            .into_iter()
            .flatten()
            .map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)),
    );
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    // An interruption is as good as an event: everything is looked at again.
    let _ = poll(&mut fds, left.as_ref());
    fds[..bells].iter().any(|fd| !fd.revents().is_empty())
}

impl Ended {
    /// The exit code that a shell would tell.
    pub fn code(&self) -> u8 {
        code(self.status)
    }
}

/// The exit code that a shell would tell.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(deadline: Duration) -> Call<'static> {
        let mut call = Call::bare("sh", "x").deadline(deadline);
        call.arguments.push("-c".into());
        call
    }

    #[test]
    fn what_it_says_is_kept_within_bounds_and_told_as_it_comes() {
        let mut told = 0;
        let ended = call(Duration::from_secs(30))
            .argument("head -c 3000000 /dev/zero; echo; echo last words >&2")
            .end(&mut |piece| told += piece.len())
            .unwrap();
        assert_eq!(ended.stdout.len(), KEPT);
        assert!(told > 3_000_000, "{told}");
        assert!(ended.words.ends_with("last words"), "{}", ended.words);
    }

    #[test]
    fn one_that_is_late_is_killed_with_its_children() {
        let error =
            call(Duration::from_millis(200)).argument("sleep 1000 & echo $!; wait").run().unwrap_err();
        let Error::Late { words, .. } = &error else { panic!("{error}") };
        let pid: u32 = words.trim().parse().unwrap();
        // It may be a moment until its parent, init, has reaped it.
        let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let until = Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(Instant::now() < until, "{pid} lives");
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_that_is_cancelled_says_so() {
        use berth_sys::rustix::event::{EventfdFlags, eventfd};
        let bell = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
        let error = call(Duration::from_secs(60)).argument("sleep 1000").cancelled_by(bell.as_fd()).run();
        assert!(matches!(error, Err(Error::Cancelled { .. })), "{error:?}");
    }

    #[test]
    fn a_failure_tells_the_code_and_the_last_words() {
        let error = call(Duration::from_secs(60)).argument("echo no, never >&2; exit 7").run().unwrap_err();
        assert_eq!(error.to_string(), "sh of 'x' failed (exit code 7): no, never");
        let error = Call::bare("lxc-no-such-tool", "x").run().unwrap_err();
        assert!(error.to_string().contains("install LXC"), "{error}");
    }

    #[test]
    fn the_first_errors_of_a_log_are_told_without_their_place() {
        let log = b"lxc-start u1 20261126102835.748 ERROR    conf - ../src/lxc/conf.c:lxc_map_ids:3708 - newuidmap - no\n\
            lxc-start u1 20261126102835.748 INFO     start - a.c:b:1 - fine\n\
            lxc-start u1 20261126102835.749 ERROR    confile - a.c:b:2 - Unsupported config key \"x\"\n\
            lxc-start u1 20261126102835.749 ERROR    start - a.c:b:3 - Failed\n";
        assert_eq!(log_errors(log), "newuidmap - no; Failed");
        assert_eq!(log_errors(b""), "");
    }

    #[test]
    fn words_that_would_move_a_cursor_do_not() {
        assert_eq!(last_words(b"a\x1b[2Jb\r\n\nc"), "a?[2Jb; c");
    }
}
