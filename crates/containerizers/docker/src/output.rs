// SPDX-License-Identifier: Apache-2.0
//! What a container writes, from the engine's log into the sandbox, where every containerizer has it. The engine keeps it
//! too, so that nothing is lost while no agent is there, and nothing is written twice by the next one: each line comes with
//! its time, and it is written down up to which line everything is in the sandbox. What is there beyond that, by the sizes
//! of the files, is skipped when the log is read again.
//!
//! The times of one stream only grow; lines of the other may come between them with earlier ones, so each stream has its own.
//! Several lines may have one time (podman tells whole seconds), so it is also written down how many with that time are there.

use std::cmp::Ordering;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use berth_contract::Error;
use tokio::time::{Instant, sleep};

use crate::attach::has_terminal;
use crate::engine::{Demultiplexed, EngineError, Source};
use crate::error::warn;
use crate::kept::{Entry, Shared, StreamWritten, Written, key, output, written};
use crate::sandbox;

/// How often it is written down how much is there.
const NOTED: Duration = Duration::from_secs(1);
/// How long to wait for room on the disk.
const FULL: Duration = Duration::from_millis(500);

/// One stream and its file.
#[derive(Debug)]
struct Stream {
    file: Option<File>,
    /// The time of the last line of which everything up to its end is there.
    until: Option<String>,
    /// How many whole lines with that time are there.
    lines: u64,
    /// How many of those this read has come by.
    passed: u64,
    /// Where that line ends in the file.
    whole: u64,
    /// Bytes of the line behind it that have come.
    part: u64,
    /// Bytes of what comes next that are there already.
    skip: u64,
}

impl Stream {
    fn open(entry: &Entry, name: &str, written: StreamWritten) -> Stream {
        let file = match sandbox::open_output(&entry.record.config.directory, name) {
            Ok(file) => Some(file),
            Err(error) => {
                let path = entry.record.config.directory.join(name);
                warn(&format!(
                    "what container {} writes is not kept in {}: {error}",
                    entry.id,
                    path.display()
                ));
                None
            }
        };
        let mut stream = Stream::of(file, written);
        stream.again();
        stream
    }

    fn of(file: Option<File>, written: StreamWritten) -> Stream {
        let StreamWritten { until, lines, size } = written;
        Stream { file, until, lines, passed: 0, whole: size, part: 0, skip: 0 }
    }

    /// The file's size. The container can make it shorter, and then there is nothing to skip.
    fn size(&self) -> u64 {
        self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len())
    }

    /// The log is read again from the last whole line on.
    fn again(&mut self) {
        self.whole = self.whole.min(self.size());
        self.skip = self.size() - self.whole;
        self.part = 0;
        self.passed = 0;
    }

    /// Whether this part of a line, with its time before it, is there already.
    fn has(&mut self, time: &str, text: &[u8]) -> bool {
        match self.until.as_deref().map(|until| compare(time, until)) {
            Some(Ordering::Less) => true,
            Some(Ordering::Equal) if self.passed < self.lines => {
                self.passed += u64::from(text.ends_with(b"\n"));
                true
            }
            _ => false,
        }
    }

    /// A part of a line.
    async fn take(&mut self, time: &str, text: &[u8]) {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(text.len());
        self.skip -= skipped as u64;
        self.part += text.len() as u64;
        self.write(&text[skipped..]).await;
        if text.ends_with(b"\n") {
            let same = self.until.as_deref().is_some_and(|until| compare(time, until).is_eq());
            self.lines = if same { self.lines.saturating_add(1) } else { 1 };
            self.passed = self.lines;
            self.until = Some(time.to_owned());
            self.whole += std::mem::take(&mut self.part);
        }
    }

    /// A full disk is waited for: the engine's log holds the rest meanwhile.
    async fn write(&mut self, mut text: &[u8]) {
        while let (Some(file), false) = (&mut self.file, text.is_empty()) {
            match file.write(text) {
                Ok(written) => text = &text[written..],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => sleep(FULL).await,
                Err(error) => {
                    warn(&format!("output is lost: {error}"));
                    self.file = None;
                }
            }
        }
    }

    /// What is known to be there. The container can write to the file, too: what it added is not taken for the log's.
    fn written(&mut self) -> StreamWritten {
        if self.skip == 0 {
            self.whole = self.size().saturating_sub(self.part);
        }
        StreamWritten { until: self.until.clone(), lines: self.lines, size: self.whole }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Makes the files of one that is about to run, and writes down what is in them before.
pub(crate) fn begin(shared: &Shared, entry: &Entry) -> Result<(), Error> {
    let size = |name: &str| {
        let file = sandbox::open_output(&entry.record.config.directory, name);
        let size = file.and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len());
        StreamWritten { size, ..StreamWritten::default() }
    };
    written(shared, &entry.id, &Written { stdout: size("stdout"), stderr: size("stderr") })
}

/// Copies until the container has ended and everything is there.
pub(crate) async fn copy(shared: &Arc<Shared>, entry: &Arc<Entry>) {
    let before = output(shared, &entry.id).unwrap_or_default();
    let mut copy = Copy {
        noted: before.clone(),
        stdout: Stream::open(entry, "stdout", before.stdout),
        stderr: Stream::open(entry, "stderr", before.stderr),
        tty: has_terminal(entry),
    };
    loop {
        let read = copy.read(shared, entry, true).await;
        copy.note(shared, entry);
        match read {
            // The engine ends it with the container, and also when it is shut down itself.
            Ok(()) => match shared.own.engine.inspect(&key(entry), shared.own.settings.deadlines.ask).await {
                // Who follows a log may be told of its end before its last lines.
                Ok(found) if !found.state.running && copy.read(shared, entry, false).await.is_ok() => {
                    return copy.note(shared, entry);
                }
                Err(error) if error.is_missing() => return,
                _ => {}
            },
            Err(error) if error.is_missing() => return,
            Err(error) if error.is_absence() => {}
            Err(error) => {
                // A log driver that can not be read, for one.
                return warn(&format!("what container {} writes is not copied: {error}", entry.id));
            }
        }
        sleep(shared.own.settings.deadlines.again).await;
    }
}

struct Copy {
    noted: Written,
    stdout: Stream,
    stderr: Stream,
    tty: bool,
}

impl Copy {
    async fn read(&mut self, shared: &Shared, entry: &Entry, follow: bool) -> Result<(), EngineError> {
        let limit = shared.own.settings.deadlines.ask;
        self.stdout.again();
        self.stderr.again();
        if self.tty {
            return self.read_terminal(shared, entry, follow).await;
        }
        // From the older of the two on: the stream that is further has its lines twice, and knows them.
        let since = match (&self.stdout.until, &self.stderr.until) {
            (Some(one), Some(other)) => Some(if compare(one, other).is_lt() { one } else { other }),
            _ => None,
        };
        let since = since.and_then(|time| since_of(time));
        let mut flow = shared.own.engine.logs(&key(entry), since.as_deref(), (true, follow), limit).await?;
        let mut frames = Demultiplexed::default();
        let mut next = Instant::now() + NOTED;
        while let Some(bytes) = flow.next().await? {
            frames.feed(&bytes);
            let strange = |why| EngineError::Strange { call: "logs", why };
            while let Some((source, line)) = frames.next().map_err(strange)? {
                let stream = match source {
                    Source::Stdout => &mut self.stdout,
                    Source::Stderr => &mut self.stderr,
                };
                let (time, text) =
                    timed(line).ok_or_else(|| strange("a line without its time".to_owned()))?;
                if !stream.has(time, text) {
                    stream.take(time, text).await;
                }
            }
            if Instant::now() >= next {
                self.note(shared, entry);
                next = Instant::now() + NOTED;
            }
        }
        Ok(())
    }

    /// A terminal's output has no lines that could be told apart: it is read from the beginning, and what is there skipped.
    async fn read_terminal(
        &mut self,
        shared: &Shared,
        entry: &Entry,
        follow: bool,
    ) -> Result<(), EngineError> {
        let limit = shared.own.settings.deadlines.ask;
        let mut flow = shared.own.engine.logs(&key(entry), None, (false, follow), limit).await?;
        let mut skip = usize::try_from(self.stdout.size()).unwrap_or(usize::MAX);
        while let Some(bytes) = flow.next().await? {
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            self.stdout.write(&bytes[skipped..]).await;
        }
        Ok(())
    }

    fn note(&mut self, shared: &Shared, entry: &Entry) {
        let now = Written { stdout: self.stdout.written(), stderr: self.stderr.written() };
        if now != self.noted {
            shared.noted(entry, written(shared, &entry.id, &now));
            self.noted = now;
        }
    }
}

/// A line and the time before it.
fn timed(line: &[u8]) -> Option<(&str, &[u8])> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let time = std::str::from_utf8(&line[..space]).ok()?;
    moment(time).map(|_| (time, &line[space + 1..]))
}

/// Which of two times is the earlier one.
fn compare(one: &str, other: &str) -> Ordering {
    // Those of one zone and one length are in the order of their texts, which is almost always so.
    if one.len() == other.len() && one.ends_with('Z') && other.ends_with('Z') {
        return one.cmp(other);
    }
    moment(one).cmp(&moment(other))
}

/// From when on lines are asked for so that those of this time come, too.
fn since_of(time: &str) -> Option<String> {
    let (seconds, nanos) = moment(time)?;
    // Who tells whole seconds has lines of every moment in it.
    let seconds = if time.contains('.') { seconds } else { seconds - 1 };
    Some(format!("{seconds}.{nanos:0>9}"))
}

/// `2026-11-26T10:03:05.123456789Z`, or with another zone and no fraction, as seconds since 1970 and nanoseconds.
fn moment(time: &str) -> Option<(i64, u32)> {
    let (date, clock) = time.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, zone) = clock.split_at(clock.find(['Z', '+', '-'])?);
    let zone = match zone {
        "Z" => 0,
        zone => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970 of the Gregorian calendar, counted in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    Some((((days * 24 + hours) * 60 + minutes - zone) * 60 + seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_becomes_seconds_since_1970() {
        assert_eq!(moment("1970-01-01T00:00:00.000000001Z"), Some((0, 1)));
        assert_eq!(moment("2000-02-29T12:00:00Z"), Some((951_825_600, 0)));
        assert_eq!(moment("2026-11-26T10:03:05.123456789Z"), Some((1_795_687_385, 123_456_789)));
        assert_eq!(moment("2026-11-26T11:03:05+01:00"), Some((1_795_687_385, 0)));
        assert_eq!(moment("2026-11-26T04:33:05.5-05:30"), Some((1_795_687_385, 500_000_000)));
        assert_eq!(moment("yesterday"), None);
        assert_eq!(moment("2026-11-26T10:03:05+"), None);
    }

    #[test]
    fn lines_are_asked_for_from_before_the_last_that_is_there() {
        assert_eq!(
            since_of("2026-11-26T10:03:05.123456789Z").as_deref(),
            Some("1795687385.123456789"),
            "the engine sends the line with that very time"
        );
        assert_eq!(since_of("2026-11-26T10:03:05Z").as_deref(), Some("1795687384.000000000"));
    }

    #[test]
    fn a_line_has_its_time_before_it() {
        let line = b"2026-11-26T10:03:05.123456789Z two words\n";
        assert_eq!(timed(line), Some(("2026-11-26T10:03:05.123456789Z", &b"two words\n"[..])));
        assert_eq!(timed(b"no time\n"), None);
        assert_eq!(timed(b""), None);
    }

    #[test]
    fn what_is_there_is_not_written_again_however_the_copy_was_cut() {
        // Each line with a time of its own, and seven with each.
        cut_everywhere("fine", |n| format!("2026-11-26T10:03:05.{n:0>9}Z"));
        cut_everywhere("coarse", |n| format!("2026-11-26T10:03:{:0>2}Z", n / 7));
    }

    fn cut_everywhere(name: &str, time: impl Fn(u32) -> String) {
        let path = std::env::temp_dir().join(format!("berth-docker-output-{name}-{}", std::process::id()));
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let lines: Vec<(String, String)> = (10..99).map(|n| (time(n), format!("line {n}\n"))).collect();
        let whole: String = lines.iter().map(|(_, line)| line.as_str()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for cut in 0..30 {
                let mut noted = StreamWritten::default();
                // Three copies, of which the first two are killed somewhere; each reads from the beginning.
                for end in [10 + cut, 40 + cut, lines.len()] {
                    let mut stream = Stream::of(Some(open()), noted.clone());
                    stream.again();
                    for (at, (time, line)) in lines[..end].iter().enumerate() {
                        // Lines come in parts.
                        let (one, two) = line.as_bytes().split_at(at % 5);
                        if !stream.has(time, one) {
                            stream.take(time, one).await;
                        }
                        if at + 1 == end && end < lines.len() {
                            break;
                        }
                        if !stream.has(time, two) {
                            stream.take(time, two).await;
                        }
                        if at % 7 == 0 {
                            noted = stream.written();
                        }
                    }
                }
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::remove_file(&path).unwrap();
                assert!(text == whole, "cut at {cut}: {text}");
            }
        });
    }
}
