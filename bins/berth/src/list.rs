// SPDX-License-Identifier: Apache-2.0
//! `berth ps`, `inspect`, `kill`, `rm`.

use crate::cli::{Format, Global, Inspect, Kill, Ps, Rm};
use crate::exit::Failure;
use crate::open::open;
use berth_factory::oneshot::{Listed, Standing};
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lists containers, the newest first.
pub(crate) fn ps(global: &Global, args: &Ps) -> Result<u8, Failure> {
    let native = open(global, Vec::new(), false)?;
    let mut all = native.list().map_err(|e| Failure::of(&e).code(1))?;
    all.retain(|l| args.all || matches!(l.standing, Standing::Running { .. } | Standing::Launching));
    if args.quiet {
        for listed in &all {
            println!("{}", listed.record.id);
        }
        return Ok(0);
    }
    if args.output == Format::Json {
        let list: Vec<Value> = all.iter().map(summary).collect();
        println!("{}", plain(&Value::Array(list).to_string()));
        return Ok(0);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "CONTAINER ID",
        "ROOTFS",
        "COMMAND",
        "CREATED",
        "STATUS",
    ]);
    for listed in &all {
        let cut = |text: String, n: usize| match args.no_trunc {
            false if text.chars().count() > n => text.chars().take(n - 1).chain(['…']).collect(),
            _ => text,
        };
        let id = listed.record.id.to_string();
        // A random id is told by its beginning; a name that a person gave is not cut.
        let random = id.len() == 36 && id.bytes().filter(|b| *b == b'-').count() == 4;
        let id = if random && !args.no_trunc { id[..13].to_owned() } else { id };
        let age = ago(listed.record.created_ms);
        table.add_row([
            id,
            cut(escaped(&listed.record.root), 30),
            cut(command(listed), 30),
            age,
            status(listed),
        ]);
    }
    for line in table.lines() {
        println!("{}", line.trim_start().trim_end());
    }
    Ok(0)
}

fn command(listed: &Listed) -> String {
    let command = &listed.record.config.command_info;
    let words: Vec<&str> = if command.arguments.is_empty() {
        command.value.as_deref().into_iter().collect()
    } else {
        command.arguments.iter().map(String::as_str).collect()
    };
    escaped(&words.join(" "))
}

fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// JSON, with the control characters escaped that JSON lets through: DEL, and those that a terminal takes for the
/// beginning of a command (U+0080 to U+009F, ECMA-48).
fn plain(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// As docker says it.
fn ago(at_ms: u64) -> String {
    format!("{} ago", duration(now_ms().saturating_sub(at_ms) / 1000))
}

fn duration(seconds: u64) -> String {
    let (n, unit) = match seconds {
        0 => return "Less than a second".to_owned(),
        s if s < 60 => (s, "second"),
        s if s < 3600 => (s / 60, "minute"),
        s if s < 48 * 3600 => (s / 3600, "hour"),
        s => (s / 86400, "day"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

fn status(listed: &Listed) -> String {
    match &listed.standing {
        Standing::Launching => "Created".to_owned(),
        Standing::Running { .. } => {
            format!("Up {}", duration(now_ms().saturating_sub(listed.record.created_ms) / 1000))
        }
        Standing::Exited { status, at_ms } => {
            format!("Exited ({}) {}", status.shell_code(), ago(*at_ms))
        }
        Standing::Unknown { why } => format!("Unknown: {}", escaped(why)),
    }
}

fn state(standing: &Standing) -> Value {
    match standing {
        Standing::Launching => json!({"status": "launching"}),
        Standing::Running { pid } => json!({"status": "running", "pid": pid}),
        Standing::Exited { status, at_ms } => json!({
            "status": "exited", "exit_code": status.shell_code(), "wait_status": status.0,
            "message": status.to_string(), "finished_ms": at_ms,
        }),
        Standing::Unknown { why } => json!({"status": "unknown", "message": why}),
    }
}

fn summary(listed: &Listed) -> Value {
    json!({
        "id": listed.record.id.to_string(), "rootfs": listed.record.root,
        "command": listed.record.config.command_info.arguments,
        "created_ms": listed.record.created_ms, "state": state(&listed.standing),
    })
}

/// Shows all that is known, one array of all that were named.
pub(crate) fn inspect(global: &Global, args: &Inspect) -> Result<u8, Failure> {
    let native = open(global, Vec::new(), false)?;
    let mut all = Vec::new();
    let mut code = 0;
    for name in &args.names {
        match native.inspect(name) {
            Ok(mut value) => {
                value["state"] = state(&native.look(name).ok().flatten().map_or(
                    Standing::Unknown { why: "it went away while it was looked at".to_owned() },
                    |l| l.standing,
                ));
                all.push(value);
            }
            Err(e) => {
                code = 1;
                let _ = Failure::of(&e).report();
            }
        }
    }
    match serde_json::to_string_pretty(&all) {
        Ok(text) => println!("{}", plain(&text)),
        Err(e) => return Err(Failure::text(e.to_string()).code(1)),
    }
    Ok(code)
}

/// Sends a signal.
pub(crate) fn kill(global: &Global, args: &Kill) -> Result<u8, Failure> {
    let number = signal(&args.signal).ok_or_else(|| {
        Failure::text(format!(
            "--signal {}: must be a name such as TERM, or a number from 1 to 64",
            args.signal
        ))
        .code(1)
    })?;
    let native = open(global, Vec::new(), false)?;
    each(&args.names, |name| match native.kill(name, number) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::text(format!("container {name} is not running"))),
        Err(e) => Err(Failure::of(&e)),
    })
}

/// Removes containers.
pub(crate) fn rm(global: &Global, args: &Rm) -> Result<u8, Failure> {
    let native = open(global, Vec::new(), false)?;
    each(&args.names, |name| match native.remove(name, args.force) {
        Ok(left) if left.is_empty() => Ok(()),
        Ok(left) => Err(Failure::text(format!("could not remove all of {name}: {}", left.join("; ")))),
        Err(e) => Err(Failure::of(&e)),
    })
}

/// Does it for each, printing the names it succeeded for.
fn each(names: &[String], mut act: impl FnMut(&str) -> Result<(), Failure>) -> Result<u8, Failure> {
    let mut code = 0;
    for name in names {
        match act(name) {
            Ok(()) => println!("{name}"),
            Err(failure) => {
                code = 1;
                let _ = failure.report();
            }
        }
    }
    Ok(code)
}

fn signal(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == name).map(|i| i as i32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_without_control_characters_means_the_same() {
        let evil = json!(["a\u{1b}[2J\u{7f}\u{9b}31m\n\\u009b é"]);
        let text = plain(&evil.to_string());
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), evil);
    }
}
