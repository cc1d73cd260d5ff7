// SPDX-License-Identifier: Apache-2.0
//! Where the agent's log lines go: standard error, one line per event (41.7).
//!
//! A subscriber of `tracing` of our own instead of the usual one, because it is smaller than configuring that:
//! events only (a line stands for itself, spans are not kept), one level that can be changed while running,
//! and three things that must hold for every line whoever wrote it: it is *one* line, nothing in it can move a
//! terminal's cursor, and fields that are named like secrets have no value.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::{FileType, fstat};

use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The longest line; more is cut off, and said to be.
const LONGEST: usize = 16 * 1024;

/// Parts of a field's name that make its value a secret.
const SECRET_NAMES: &[&str] =
    &["secret", "password", "passwd", "token", "credential", "authorization", "environment"];

/// How the agent logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// The least severe level that is written.
    pub level: Level,
    /// How a line looks.
    pub format: Format,
}

/// How severe an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Someone must act.
    Error,
    /// Something is degraded.
    Warn,
    /// The life of containers, one line for each transition.
    Info,
    /// For who looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time LEVEL target: message key=value`.
    Text,
    /// One JSON object.
    Json,
}

impl Level {
    /// Reads the value of `--logging_level`, with Mesos's spellings too.
    pub fn parse(text: &str) -> Option<Level> {
        Some(match text.to_ascii_lowercase().as_str() {
            "error" => Level::Error,
            "warn" | "warning" => Level::Warn,
            "info" => Level::Info,
            "debug" => Level::Debug,
            "trace" => Level::Trace,
            _ => return None,
        })
    }

    fn filter(self) -> LevelFilter {
        match self {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }

    const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    fn from_u8(number: u8) -> Level {
        Level::ALL.get(usize::from(number)).copied().unwrap_or(Level::Trace)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        })
    }
}

/// Changes the level of the log while it is in use.
#[derive(Debug, Clone)]
pub struct LogControl {
    level: Arc<AtomicU8>,
}

impl LogControl {
    /// The level in force.
    pub fn level(&self) -> Level {
        Level::from_u8(self.level.load(Ordering::Relaxed))
    }

    /// Puts another in force, for every thread.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
        // Callsites remember whether anybody wanted them.
        tracing::callsite::rebuild_interest_cache();
    }
}

/// There is a log already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("start the log: this process has one already; start it once, at the beginning")]
pub struct AlreadyLogging;

impl AlreadyLogging {
    /// A fault of the caller.
    pub fn class(&self) -> berth_model::Class {
        berth_model::Class::Conflict
    }
}

/// From here on, events of this process are written to standard error.
///
/// # Errors
/// The process has a subscriber already.
pub fn start(logging: Logging) -> Result<LogControl, AlreadyLogging> {
    let is_file = fstat(io::stderr()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    let (sink, control) = Sink::new(logging, Patient { is_file, stuck: false });
    tracing::subscriber::set_global_default(sink).map_err(|_| AlreadyLogging)?;
    Ok(control)
}

/// Standard error, which may be a pipe that nobody reads. Whoever logs does not wait for that: lines are lost then.
struct Patient {
    /// It is a file, which has nobody who reads it and is always ready.
    is_file: bool,
    /// The last line was not taken.
    stuck: bool,
}

/// A pipe that poll(2) says can be written takes this much at once (PIPE_BUF, pipe(7)).
const AT_ONCE: usize = 4096;
/// How long a reader may keep one line waiting.
const PATIENCE: Duration = Duration::from_millis(200);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        if self.is_file {
            return stderr.lock().write(bytes);
        }
        let patience = if self.stuck { Duration::ZERO } else { PATIENCE };
        let timeout = Timespec::try_from(patience).ok();
        let ready = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], timeout.as_ref())?;
        self.stuck = ready == 0;
        if self.stuck {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stderr.lock().write(&bytes[..bytes.len().min(AT_ONCE)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A subscriber that writes lines to `W`.
#[derive(Debug)]
pub struct Sink<W> {
    level: Arc<AtomicU8>,
    format: Format,
    to: Mutex<W>,
    /// Lines that `W` did not take, since the last one that it did.
    lost: AtomicU64,
}

impl<W: Write + Send + 'static> Sink<W> {
    /// One that writes there, and what changes its level.
    pub fn new(logging: Logging, to: W) -> (Sink<W>, LogControl) {
        let level = Arc::new(AtomicU8::new(logging.level as u8));
        let control = LogControl { level: level.clone() };
        (Sink { level, format: logging.format, to: Mutex::new(to), lost: AtomicU64::new(0) }, control)
    }

    /// Says that lines are missing. The last of them may have been cut off, so this begins a new one.
    fn lost(&self, lines: u64) -> String {
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let message = format!("{lines} lines of the log are lost: nobody took them");
        match self.format {
            Format::Text => format!("\n{time} WARN  {}: {message}\n", module_path!()),
            Format::Json => {
                let line = serde_json::json!({
                    "time": time.to_string(), "level": "warn", "target": module_path!(), "message": message,
                });
                format!("\n{line}\n")
            }
        }
    }

    fn filter(&self) -> LevelFilter {
        Level::from_u8(self.level.load(Ordering::Relaxed)).filter()
    }
}

impl<W: Write + Send + 'static> Subscriber for Sink<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.filter()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter())
    }

    // Spans are never enabled; these are here because the trait wants them.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = match self.format {
            Format::Text => fields.text(SystemTime::now(), event.metadata()),
            Format::Json => fields.json(SystemTime::now(), event.metadata()),
        };
        line.push('\n');
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            line.insert_str(0, &self.lost(lost));
        }
        // Whoever reads the log is gone, or late, or its disk is full: the containers matter more.
        match to.write_all(line.as_bytes()) {
            Ok(()) => self.lost.store(0, Ordering::Relaxed),
            Err(_) => self.lost.store(lost + 1, Ordering::Relaxed),
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    pairs: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: serde_json::Value) {
        let name = field.name();
        if name == "message" {
            self.message = match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            return;
        }
        let lower = name.to_ascii_lowercase();
        let secret = SECRET_NAMES.iter().any(|part| lower.contains(part));
        self.pairs.push((name, if secret { "***".into() } else { value }));
    }

    fn text(&self, time: SystemTime, metadata: &Metadata<'_>) -> String {
        let time = humantime::format_rfc3339_millis(time);
        let mut line =
            format!("{time} {:5} {}: {}", metadata.level(), metadata.target(), escape(&self.message));
        for (name, value) in &self.pairs {
            let text = match value {
                serde_json::Value::String(text) => quoted(text),
                other => other.to_string(),
            };
            let _ = write!(line, " {name}={text}");
        }
        cut(line)
    }

    fn json(&self, time: SystemTime, metadata: &Metadata<'_>) -> String {
        let mut object = serde_json::Map::new();
        let mut put = |name: &str, value: serde_json::Value| {
            // The first of a name stays: an event's field can not pass for the event's own level or time.
            let name = if object.contains_key(name) { format!("field.{name}") } else { name.to_owned() };
            object.insert(name, value);
        };
        put("time", humantime::format_rfc3339_millis(time).to_string().into());
        put("level", metadata.level().to_string().to_ascii_lowercase().into());
        put("target", metadata.target().into());
        put("message", cut(self.message.clone()).into());
        for (name, value) in &self.pairs {
            let value = match value {
                serde_json::Value::String(text) => cut(text.clone()).into(),
                other => other.clone(),
            };
            put(name, value);
        }
        let line = serde_json::Value::Object(object).to_string();
        // JSON escapes only what is below the space. All that is left of it stands within strings, and below U+FFFF.
        let mut escaped = String::with_capacity(line.len());
        for letter in line.chars() {
            if letter.is_control() || is_invisible(letter) {
                let _ = write!(escaped, "\\u{:04x}", u32::from(letter));
            } else {
                escaped.push(letter);
            }
        }
        escaped
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.add(field, text.into());
    }
}

/// A text of which nothing can begin a new line, move a cursor or turn the direction of writing.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            letter if letter.is_control() || is_invisible(letter) => {
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Letters that show nothing, and change how others are shown.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A value as it stands behind `key=`: in quotes if it is empty or would run into what follows.
fn quoted(text: &str) -> String {
    let escaped = escape(text);
    let plain = |letter: char| !letter.is_whitespace() && !matches!(letter, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(plain) && escaped == text {
        return escaped;
    }
    format!("\"{}\"", escape(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn cut(mut line: String) -> String {
    if line.len() <= LONGEST {
        return line;
    }
    let more = line.len() - LONGEST;
    let mut end = LONGEST;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    let _ = write!(line, " ... ({more} bytes more)");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(level: Level, format: Format, act: impl FnOnce(&LogControl)) -> String {
        let page = Page::default();
        let (sink, control) = Sink::new(Logging { level, format }, page.clone());
        tracing::subscriber::with_default(sink, || act(&control));
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_has_time_level_target_message_and_pairs() {
        let line = written(Level::Info, Format::Text, |_| {
            tracing::warn!(target: "berth::test", container = "c1", pid = 7, why = "no space", "it failed");
        });
        let (time, rest) = line.split_once(' ').unwrap();
        humantime::parse_rfc3339(time).unwrap();
        assert_eq!(rest, "WARN  berth::test: it failed container=c1 pid=7 why=\"no space\"\n");
    }

    #[test]
    fn the_same_line_as_json_is_one_object() {
        let line = written(Level::Info, Format::Json, |_| {
            tracing::info!(target: "berth::test", container = "c\n1", ok = true, level = "mine", "started");
        });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(value["level"], "info");
        assert_eq!(value["field.level"], "mine");
        assert_eq!(value["message"], "started");
        assert_eq!(value["container"], "c\n1");
        assert_eq!(value["ok"], true);
    }

    #[test]
    fn the_level_can_be_changed_while_running() {
        let lines = written(Level::Warn, Format::Text, |control| {
            let say = |text: &str| tracing::info!("{text}");
            say("one");
            control.set_level(Level::Info);
            assert_eq!(control.level(), Level::Info);
            say("two");
            control.set_level(Level::Error);
            say("three");
        });
        assert!(!lines.contains("one") && lines.contains("two") && !lines.contains("three"), "{lines}");
    }

    #[test]
    fn a_container_can_not_forge_a_line_or_move_the_cursor() {
        let line = written(Level::Info, Format::Text, |_| {
            let hostile = "x\n2026-01-01T00:00:00Z ERROR a: b\x1b[2J\u{202e}";
            tracing::info!(said = hostile, "it says {hostile}");
        });
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.contains('\x1b') && !line.contains('\u{202e}'), "{line}");
    }

    #[test]
    fn fields_that_are_named_like_secrets_have_no_value() {
        for format in [Format::Text, Format::Json] {
            let line = written(Level::Info, format, |_| {
                let secret = berth_model::SecretBytes::new("hunter2");
                tracing::info!(registry_password = "hunter2", auth_token = ?secret, %secret, "pull");
            });
            assert!(line.contains("***") && !line.contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_says_so() {
        let line = written(Level::Info, Format::Text, |_| tracing::info!("{}", "ä".repeat(LONGEST)));
        assert!(line.len() < LONGEST + 64 && line.contains("bytes more"), "{}", line.len());
    }

    /// Takes nothing while it is shut.
    struct Gate(Arc<(std::sync::atomic::AtomicBool, Mutex<Vec<u8>>)>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.0.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.0.1.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_takes_are_lost_and_counted() {
        for format in [Format::Text, Format::Json] {
            let inner = Arc::new((true.into(), Mutex::new(Vec::new())));
            let (sink, _) = Sink::new(Logging { level: Level::Info, format }, Gate(Arc::clone(&inner)));
            tracing::subscriber::with_default(sink, || {
                tracing::info!("one");
                tracing::info!("two");
                inner.0.store(false, Ordering::Relaxed);
                tracing::info!("three");
                tracing::info!("four");
            });
            let text = String::from_utf8(inner.1.lock().unwrap().clone()).unwrap();
            let lines: Vec<&str> = text.trim_start().lines().collect();
            assert_eq!(lines.len(), 3, "{text}");
            assert!(lines[0].contains("2 lines of the log are lost"), "{text}");
            assert!(lines[1].contains("three") && lines[2].contains("four"), "{text}");
        }
    }

    #[test]
    fn levels_have_the_spellings_of_mesos_too() {
        assert_eq!(Level::parse("WARNING"), Some(Level::Warn));
        assert_eq!(Level::parse("ERROR"), Some(Level::Error));
        assert_eq!(Level::parse("loud"), None);
        for level in Level::ALL {
            assert_eq!(Level::parse(&level.to_string()), Some(level));
            assert_eq!(Level::from_u8(level as u8), level);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_one_line(text in "\\PC*|[\\x00-\\x7f]*|.*") {
            for format in [Format::Text, Format::Json] {
                let line = written(Level::Info, format, |_| tracing::info!(said = &*text, "{text}"));
                prop_assert_eq!(line.matches('\n').count(), 1);
                prop_assert!(!line.trim_end_matches('\n').contains(char::is_control));
                if format == Format::Json {
                    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
                    prop_assert_eq!(value["said"].as_str(), Some(&*text));
                }
            }
        }
    }
}
