// SPDX-License-Identifier: Apache-2.0
//! `berth logs`.

use crate::attach::write_all;
use crate::cli::{Global, Logs, Stream};
use crate::escaped::Escaped;
use crate::exit::{Failure, say};
use crate::find::Places;
use berth_client::{Agent, Connection, Error, LogRequest, block_on};
use berth_factory::oneshot::{Native, Output, Standing};
use berth_factory::output::{Range, Together, now, watch_path};
use berth_model::{Class, ContainerId};
use berth_proto::own::{self, log_chunk};
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::inotify;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long to wait before output is looked at again.
const SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// … and whether the container still runs.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Shows what it wrote: stdout on stdout, stderr on stderr.
pub(crate) fn logs(global: &Global, args: &Logs) -> Result<u8, Failure> {
    let tail = match args.tail.as_deref() {
        None | Some("all") => None,
        Some(text) => Some(text.parse::<u64>().map_err(|_| {
            Failure::text(format!("--tail {text}: must be a number of lines, or all")).code(1)
        })?),
    };
    let time = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => moment(text, now()).map(Some).ok_or_else(|| {
            let known = "write 2026-11-26T12:00:00Z, seconds since 1970, or a time ago such as 10m";
            Failure::text(format!("--{name} {text}: {known}")).code(1)
        }),
    };
    let request = LogRequest {
        stream: args.stream.map(|stream| match stream {
            Stream::Stdout => own::Stream::Stdout,
            Stream::Stderr => own::Stream::Stderr,
        }),
        since: args.offset,
        tail,
        follow: args.follow,
        since_time: time("since", &args.since)?,
        until_time: time("until", &args.until)?,
    };
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let shown = Shown::new(args);
    let here = {
        let shown = shown.clone();
        async move |native: &Native, name: &str| of_run(native, name, request, shown.clone())
    };
    let agent = &places.agent;
    let there =
        async |_: &mut Connection, id: &ContainerId| of_agent(agent, id, request, shown.clone()).await;
    let shown = block_on(places.at(&args.name, here, there)).map_err(|e| Failure::client(&e))?;
    shown.map_err(|e| e.code(1))?;
    Ok(0)
}

/// A time as people write it, in nanoseconds since 1970: a date and time (UTC, if it does not say), seconds since 1970, or
/// how long before `now`.
fn moment(text: &str, now: u64) -> Option<u64> {
    if let Some((seconds, fraction)) = number(text) {
        return seconds.checked_mul(1_000_000_000)?.checked_add(fraction);
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Some(now.saturating_sub(u64::try_from(ago.as_nanos()).ok()?));
    }
    let (text, offset) = offset(text);
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&full).ok()?;
    let since = u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
    since.checked_add_signed(offset.checked_mul(-1_000_000_000)?)
}

/// `1764158400.5`.
fn number(text: &str) -> Option<(u64, u64)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    Some((seconds.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
}

/// What stands before `+02:00`, and that in seconds.
fn offset(text: &str) -> (&str, i64) {
    let parsed = text.len().checked_sub(6).and_then(|at| {
        let (before, after) = text.split_at_checked(at)?;
        let sign = match after.get(..1)? {
            "+" => 1,
            "-" => -1,
            _ => return None,
        };
        let (hours, minutes) = after[1..].split_once(':')?;
        let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
        before.contains([':']).then_some((before, sign * (hours * 3600 + minutes * 60)))
    });
    parsed.unwrap_or((text, 0))
}

/// How output is shown.
#[derive(Clone)]
struct Shown {
    timestamps: bool,
    stdout: Sink,
    stderr: Sink,
}

/// Where one stream goes.
#[derive(Clone)]
struct Sink {
    /// Something is to be done with what a terminal would obey.
    escaped: Option<Escaped>,
    /// The next byte begins a line.
    fresh: bool,
}

impl Shown {
    fn new(args: &Logs) -> Shown {
        let sink =
            |terminal: bool| Sink { escaped: (terminal && !args.raw).then(Escaped::default), fresh: true };
        Shown {
            timestamps: args.timestamps,
            stdout: sink(std::io::stdout().is_terminal()),
            stderr: sink(std::io::stderr().is_terminal()),
        }
    }

    fn show(&mut self, stream: own::Stream, time: u64, data: &[u8]) {
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let (sink, to): (_, BorrowedFd<'_>) = match stream {
            own::Stream::Stderr => (&mut self.stderr, stderr.as_fd()),
            _ => (&mut self.stdout, stdout.as_fd()),
        };
        if !self.timestamps && sink.escaped.is_none() {
            return write_all(to, data);
        }
        let stamp = self.timestamps.then(|| {
            let time = UNIX_EPOCH.checked_add(Duration::from_nanos(time)).unwrap_or(SystemTime::UNIX_EPOCH);
            format!("{} ", humantime::format_rfc3339_nanos(time))
        });
        write_all(to, &sink.rendered(stamp.as_deref(), data));
    }
}

impl Sink {
    fn rendered(&mut self, stamp: Option<&str>, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() * 2);
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            if let (true, Some(stamp)) = (self.fresh, stamp) {
                out.extend_from_slice(stamp.as_bytes());
            }
            match &mut self.escaped {
                Some(escaped) => escaped.add(line, &mut out),
                None => out.extend_from_slice(line),
            }
            self.fresh = line.ends_with(b"\n");
        }
        out
    }
}

fn missed() {
    say(format_args!("berth: output is missing here: it was rotated away"));
}

/// What a container of the agent wrote.
async fn of_agent(
    agent: &Agent,
    id: &ContainerId,
    request: LogRequest,
    mut shown: Shown,
) -> Result<(), Error> {
    let mut records = agent.logs(id, request).await?;
    while let Some(chunk) = records.next().await? {
        let data = chunk.data.as_deref().unwrap_or_default();
        let time = chunk.time.as_ref().map_or(0, |time| u64::try_from(time.nanoseconds).unwrap_or(0));
        match chunk.r#type() {
            log_chunk::Type::Data => shown.show(chunk.stream(), time, data),
            log_chunk::Type::Missed => missed(),
            _ => {}
        }
    }
    Ok(())
}

/// What a container of a `berth run` wrote.
fn of_run(native: &Native, name: &str, request: LogRequest, mut shown: Shown) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(Class::of_io(&e), &e);
    let mut readers = Vec::new();
    for (output, stream) in [(Output::Stdout, own::Stream::Stdout), (Output::Stderr, own::Stream::Stderr)] {
        if request.stream.is_none_or(|wanted| wanted == stream) {
            readers.push((stream, native.log(name, output).map_err(|e| Failure::of(&e))?));
        }
    }
    let range = Range {
        since: request.since,
        tail: request.tail,
        since_time: request.since_time,
        until_time: request.until_time,
        follow: request.follow,
    };
    let mut logs = Together::new(readers, range).map_err(failed)?;
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watcher = if request.follow { inotify::init(flags).ok() } else { None };
    let mut quiet = 0;
    loop {
        // Looked at before the copy: what it wrote last is copied after it is known to have ended.
        let running = request.follow
            && is_running(native, name)?
            && request.until_time.is_none_or(|until| until > now())
            && !logs.is_done();
        // It is watched before it is looked at, and only when nothing came for a while: who prints without end pays for none.
        let watched = quiet > 4 && watcher.as_ref().is_some_and(|watcher| watch(watcher, &logs));
        let mut any = false;
        while let Some(chunk) = logs.next().map_err(failed)? {
            any = true;
            match chunk.time {
                Some(time) => shown.show(chunk.stream, time, &chunk.data),
                None => missed(),
            }
        }
        if !running {
            return Ok(());
        }
        quiet = if any { 0 } else { quiet + 1 };
        match &watcher {
            Some(watcher) if watched && !any => {
                let told = poll(&mut [PollFd::new(watcher, PollFlags::IN)], Some(&MOMENT));
                if matches!(told, Ok(1..)) {
                    quiet = 0;
                }
                let mut room = [0u8; 4096];
                while matches!(berth_sys::rustix::io::read(watcher, &mut room), Ok(1..)) {}
            }
            _ => drop(poll(&mut [], Some(&SOON))),
        }
    }
}

fn is_running(native: &Native, name: &str) -> Result<bool, Failure> {
    let listed = native.look(name).map_err(|e| Failure::of(&e))?;
    Ok(listed.is_some_and(|l| matches!(l.standing, Standing::Running { .. } | Standing::Launching)))
}

/// Has the next write to any of them told, once.
fn watch(watcher: &OwnedFd, logs: &Together<own::Stream>) -> bool {
    let wanted = inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::MOVE_SELF
        | inotify::WatchFlags::ATTRIB
        | inotify::WatchFlags::ONESHOT;
    logs.readers().all(|reader| {
        let path = reader.file_in_use().map(watch_path);
        path.is_some_and(|path| inotify::add_watch(watcher, path, wanted).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_as_people_write_them() {
        const NOW: u64 = 1_000_000_000_000_000_000;
        const AT: u64 = 1_764_158_400_000_000_000;
        for text in [
            "2025-11-26T12:00:00Z",
            "2025-11-26T12:00:00",
            "2025-11-26 12:00:00",
            "2025-11-26T14:00:00+02:00",
            "2025-11-26T08:30:00-03:30",
            "1764158400",
            "1764158400.0",
        ] {
            assert_eq!(moment(text, NOW), Some(AT), "{text}");
        }
        assert_eq!(moment("1764158400.25", NOW), Some(AT + 250_000_000));
        assert_eq!(moment("2025-11-26", NOW), Some(AT - 12 * 3600 * 1_000_000_000));
        assert_eq!(moment("10m", NOW), Some(NOW - 600_000_000_000));
        assert_eq!(moment("1h30m", NOW), Some(NOW - 5_400_000_000_000));
        for text in ["", "yesterday", "12:00", "1.x", "99999999999999999999", "2025-13-01"] {
            assert_eq!(moment(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn each_line_has_its_time_once_however_it_comes_in_pieces() {
        let mut sink = Sink { escaped: None, fresh: true };
        let mut out = sink.rendered(Some("T1 "), b"a\nb");
        out.extend(sink.rendered(Some("T2 "), b"c\nd\n"));
        assert_eq!(String::from_utf8(out).unwrap(), "T1 a\nT1 bc\nT2 d\n");
    }
}
