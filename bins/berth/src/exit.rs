// SPDX-License-Identifier: Apache-2.0
//! Exit codes, as Docker's: 125 when it is our failure, 126 and 127 when the program can not be executed or is not
//! there, the program's own code otherwise, 128+n when signal n ended it. The one table from class to exit code.

use berth_model::Class;
use std::io::Write;

/// Our own failure.
pub(crate) const OURS: u8 = 125;

/// A failure on its way to stderr.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
    advice: Option<std::borrow::Cow<'static, str>>,
}

impl Failure {
    /// A failure with its class.
    pub(crate) fn new(class: Class, error: &dyn std::error::Error) -> Failure {
        Failure { code: OURS, text: chain(error), advice: advice(class).map(Into::into) }
    }

    /// A failure of a containerizer.
    pub(crate) fn of(error: &berth_factory::oneshot::Error) -> Failure {
        let code = error.execute_code();
        let advice = if code.is_some() { None } else { advice(error.class()) };
        Failure { code: code.unwrap_or(OURS), text: chain(error), advice: advice.map(Into::into) }
    }

    /// A question to the agent that was not answered.
    pub(crate) fn client(error: &berth_client::Error) -> Failure {
        Failure { code: OURS, text: chain(error), advice: None }
    }

    /// A failure in words, which may hold what the user gave: made safe for a terminal.
    pub(crate) fn text(text: impl Into<String>) -> Failure {
        Failure { code: OURS, text: printable(&text.into()), advice: None }
    }

    /// What it says.
    pub(crate) fn words(&self) -> &str {
        &self.text
    }

    /// For commands other than `run`, whose failures have the code 1.
    pub(crate) fn code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// With what else may have been meant.
    pub(crate) fn hint(mut self, advice: String) -> Failure {
        self.advice = Some(printable(&advice).into());
        self
    }

    /// Says it.
    pub(crate) fn report(self) -> u8 {
        say(format_args!("berth: {}", self.text));
        if let Some(advice) = self.advice {
            say(format_args!("berth: {advice}"));
        }
        self.code
    }
}

/// The exit code of a container that has ended.
pub(crate) fn code_of(end: &berth_proto::agent::response::WaitContainer) -> Result<u8, Failure> {
    match end.exit_status {
        Some(status) => Ok(u8::try_from(berth_model::WaitStatus(status).shell_code()).unwrap_or(OURS)),
        None => {
            let why = end.message.as_deref().unwrap_or("nobody saw it end");
            Err(Failure::text(format!("the exit status is unknown: {why}")))
        }
    }
}

/// A line on stderr. Who reads it may be gone: that is no reason to end, as it would be with `eprintln!`.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn advice(class: Class) -> Option<&'static str> {
    match class {
        Class::Denied if !berth_sys::rustix::process::geteuid().is_root() => {
            Some("containers are made by root: run it with sudo")
        }
        Class::Exhausted => {
            Some("something ran out on this host: free disk space, memory or processes, and try again")
        }
        _ => None,
    }
}

/// An error with its causes, in one line, made safe for a terminal.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    printable(&text)
}

/// Text of several lines, each made safe for a terminal.
pub(crate) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
