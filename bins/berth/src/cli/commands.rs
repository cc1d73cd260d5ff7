// SPDX-License-Identifier: Apache-2.0
//! The command line of all commands but `run`.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments here are help texts, with brackets of their own"
)]

use crate::cli::{Format, Limiting};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
    /// A line for each instead, such as '{{.state.name}}' or '{{json .limits}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// json, the only format
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on until it ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<String>,
    /// Only what was written there
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<Stream>,
    /// Begin at this byte of --stream
    #[arg(long, value_name = "BYTE", requires = "stream", conflicts_with = "tail")]
    pub(crate) offset: Option<u64>,
    /// Only what was written since then: 2026-11-26T12:00:00Z, seconds since 1970, or a time ago such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only what was written before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Begin each line with the time at which it was written
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Show control sequences to a terminal as they are
    #[arg(long)]
    pub(crate) raw: bool,
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Kill those that run
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Seconds to wait before SIGKILL; -1 waits for ever
    #[arg(short, long = "timeout", alias = "time", value_name = "SECONDS", default_value_t = 10, allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..))]
    pub(crate) time: i64,
    /// The signal to begin with, by name or number; without it the one that the image names, or TERM
    #[arg(short, long)]
    pub(crate) signal: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Names {
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

/// Run a further command in a container of the agent.
///
/// The exit code is the command's; 126 when it can not be executed, 127 when it is not there, 128+n when signal n ended
/// it. The command ends with this one.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Pass standard input on
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set an environment variable; without =VALUE, take it from here
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set the variables of a file: a line NAME=VALUE each, or NAME to take it from here
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<std::path::PathBuf>,
    /// Working directory inside (default: the container's)
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Run as this user of the container
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// The keys that end this command
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Attach this terminal to a container of the agent.
///
/// What it writes from now on is shown, what is typed goes to it, and signals too. The exit code is the container's.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Do not pass standard input on
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Pass signals on
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    /// The keys that detach this terminal and leave the container running
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Processors it may use at most, such as 0.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Memory it may use at most, such as 64m
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Processes it may have at most (-1 for no limit)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    #[command(flatten)]
    pub(crate) limiting: Limiting,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// Keep to whom the files belong (only for copies of files of this host, and to it)
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what a link leads to, if the path names one
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// CONTAINER:PATH, a path of this host, or - for a tar from standard input
    #[arg(value_name = "FROM", allow_hyphen_values = true)]
    pub(crate) from: String,
    /// CONTAINER:PATH, a path of this host, or - for a tar on standard output
    #[arg(value_name = "TO", allow_hyphen_values = true)]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Remove nothing: say what would go, what stays, for how long and why
    #[arg(long)]
    pub(crate) explain: bool,
    /// table or json (of --explain)
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Rename {
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
    #[arg(value_name = "NEW_NAME")]
    pub(crate) new: String,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Once, instead of once a second
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// A line for each, such as '{{.Name}}: {{.CPUPerc}}'; a table, such as 'table {{.Name}}\t{{.MemUsage}}'; or json
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub(crate) format: Option<String>,
    /// table or json (one object for each container and second)
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// Do not shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// First those that came after the event of this number, as far as they are kept
    #[arg(long, value_name = "NUMBER")]
    pub(crate) after: Option<u64>,
    /// table (one line for each) or json (one object for each)
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// Only of these containers
    #[arg(value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Never read here: the agent, and `execute`, read their own flags.
#[derive(Debug, Args)]
pub(crate) struct Agent {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAG")]
    _flags: Vec<std::ffi::OsString>,
}
