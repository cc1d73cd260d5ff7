// SPDX-License-Identifier: Apache-2.0
//! The command line. What docker has by the same name means the same.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments here are help texts, with brackets of their own"
)]

mod commands;
mod images;
mod limits;
mod pods;
mod tasks;

use crate::technology::Technology;
use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use commands::*;
pub(crate) use images::*;
pub(crate) use limits::Limiting;
pub(crate) use pods::*;
use std::path::PathBuf;
pub(crate) use tasks::*;

/// Contain commands on this machine.
#[derive(Debug, Parser)]
#[command(name = "berth", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where records, locks and sockets are (lost on reboot)
    #[arg(long, alias = "runtime_dir", env = "BERTH_RUNTIME_DIR", value_name = "DIR", default_value = "/run/berth", value_parser = absolute)]
    pub(crate) runtime_dir: PathBuf,
    /// Where sandboxes, output and writable layers are
    #[arg(long, alias = "work_dir", env = "BERTH_WORK_DIR", value_name = "DIR", default_value = "/var/lib/berth", value_parser = absolute)]
    pub(crate) work_dir: PathBuf,
    /// The agent's socket (default: $BERTH_SOCKET, else berth.sock in the runtime directory)
    #[arg(long, value_name = "PATH", value_parser = absolute, global = true)]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in a new container
    Run(Box<Run>),
    /// Run a further command in a container of the agent
    Exec(Exec),
    /// Attach this terminal to a container of the agent
    Attach(Attach),
    /// List containers
    #[command(alias = "ls")]
    Ps(Ps),
    /// Show all that is known of containers, as JSON
    Inspect(Inspect),
    /// Show what a container wrote
    Logs(Logs),
    /// Copy files to or from a container
    Cp(Cp),
    /// Send a signal to containers' first processes
    Kill(Kill),
    /// End containers: SIGTERM, and after a while SIGKILL
    Stop(Stop),
    /// Wait until containers have ended, and print their exit codes
    Wait(Wait),
    /// Remove ended containers
    Rm(Rm),
    /// Remove the ended containers of the agent whose time is over, or say what would go
    Gc(Gc),
    /// Freeze all processes of containers of the agent
    Pause(Names),
    /// Let paused containers go on
    Unpause(Names),
    /// Change the limits of containers of the agent
    Update(Update),
    /// Give a container of the agent another name
    Rename(Rename),
    /// Show what containers of the agent use, once a second
    Stats(Stats),
    /// Show the processes of a container
    Top(Top),
    /// Show what happens to containers of the agent, as it happens
    Events(Events),
    /// Show what the agent has to give
    Resources(Output),
    /// Show the version of this program and of the agent
    Version(Output),
    /// Pull, list and remove images
    #[command(subcommand, after_help = IMAGE)]
    Image(ImageCommand),
    /// Run, list and remove pods of the agent
    #[command(subcommand, after_help = POD)]
    Pod(PodCommand),
    /// Make, run and remove containers of LXC
    #[command(subcommand, after_help = crate::lxc::LXC)]
    Lxc(crate::lxc::LxcCommand),
    /// List the tasks that a master knows
    Tasks(Tasks),
    /// Look at a task, its output, or run a command beside it
    #[command(subcommand)]
    Task(TaskCommand),
    /// Run a task under a master (see `berth execute --help`)
    #[command(disable_help_flag = true)]
    Execute(Agent),
    /// Run the agent (see `berth agent --help`)
    #[command(disable_help_flag = true)]
    Agent(Agent),
    /// Print the completions for a shell
    Completion(Completion),
}

/// What `berth run --help` ends with.
const RUN: &str = "\
The first word is an image, unless -- comes right before it or --rootfs is given. An image is a registry's reference
(debian:12, 127.0.0.1:5000/app) or a file: oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], tar:FILE.
It is pulled when it is not here. Without COMMAND the image's own runs; its entry point, variables, user and directory
count as with docker.

A container on the host's root file system has the host's network; one with a root file system of its own has its own,
with loopback only. The exit code is the command's; 125 when berth itself failed, 126 when the command can not be
executed, 127 when it is not there, 128+n when signal n ended it.

With --detach, or with --socket on the command line, the agent runs it.";

/// Run a command in a new container.
#[derive(Debug, Default, Args)]
#[command(
    disable_help_flag = true,
    after_help = RUN,
    override_usage = "berth run [OPTIONS] IMAGE [COMMAND]...\n       berth run [OPTIONS] -- COMMAND...\n       berth run [OPTIONS] --rootfs PATH COMMAND..."
)]
pub(crate) struct Run {
    /// Have the agent run it, print its id, and do not wait
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Whose container it is: one of the agent's containerizers
    #[arg(long, value_name = "NAME", default_value = "mesos")]
    pub(crate) containerizer: Technology,
    /// For LXC: the template that its files come from, a name or an absolute path
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) template: Option<String>,
    /// For LXC: an option of the template
    #[arg(long, value_name = "OPTION", requires = "template", allow_hyphen_values = true)]
    pub(crate) template_option: Vec<String>,
    /// For LXC: boot its init first, and run the command beside it
    #[arg(long)]
    pub(crate) system: bool,
    /// For LXC: its root is not the host's
    #[arg(long)]
    pub(crate) unprivileged: bool,
    /// The keys that detach this terminal and leave a container of the agent running
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Remove everything of the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
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
    pub(crate) env_file: Vec<PathBuf>,
    /// Mount a host path: /host/path:/container/path[:ro]
    #[arg(short, long = "volume", value_name = "FROM:TO[:ro]")]
    pub(crate) volume: Vec<String>,
    /// The same in words: type=bind,source=/host/path,target=/container/path[,readonly]
    #[arg(long, value_name = "WORDS")]
    pub(crate) mount: Vec<String>,
    /// Fetch this into the sandbox first: URI[,executable][,extract=false][,cache][,output_file=NAME]
    #[arg(long, value_name = "URI[,OPTION...]")]
    pub(crate) uri: Vec<String>,
    /// Working directory inside (default: / with --rootfs, else the sandbox)
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Run as this user: name, uid, name:group or uid:gid
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Name it
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Processors it may use at most, such as 0.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Memory it may use at most, such as 64m
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Processes it may have at most (default 4096; -1 for no limit)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    #[command(flatten)]
    pub(crate) limiting: Limiting,
    /// Who takes what it writes: sandbox (files that it writes itself), rotating (also json-file), local, journald, external,
    /// none
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// max-size=10m, max-file=3, compress=true, mode=blocking|non-blocking|block|drop|spill, max-buffer-size=1m,
    /// program="/path arguments"
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// Let it use a device of the host: /dev/NAME[:/dev/NAME_INSIDE][:rwm]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<String>,
    /// Make its root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Its network: none (loopback only) or host
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<Network>,
    /// A directory, or a tar archive (plain, gzip, xz, zstd), as its root file system
    #[arg(long, value_name = "PATH")]
    pub(crate) rootfs: Option<PathBuf>,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// seccomp=PROFILE.json, seccomp=unconfined, no-new-privileges[=true|false]
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// A limit of setrlimit(2): NAME=SOFT[:HARD]
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Its host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub(crate) help: Option<bool>,
    /// Have a small init reap processes and pass signals on
    #[arg(long)]
    pub(crate) init: bool,
    /// When an image is pulled: missing (files: always), always, or never
    #[arg(long, value_name = "WHEN")]
    pub(crate) pull: Option<Pull>,
    /// The image's platform, such as linux/arm64, if it is not this machine's
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// The image, unless -- or --rootfs says otherwise; the command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE | COMMAND")]
    pub(crate) command: Vec<String>,
    /// Whether `--` came right before them: no image then.
    #[arg(skip)]
    pub(crate) host: bool,
}

impl Run {
    /// Whether it is for another than the native containerizer, which only an agent has.
    pub(crate) fn is_foreign(&self) -> bool {
        self.containerizer != Technology::Mesos
    }

    /// The image, and the words after it: all of them where there is none.
    pub(crate) fn image(&self) -> (Option<&str>, &[String]) {
        match self.command.split_first() {
            Some((image, rest)) if !self.host && self.rootfs.is_none() => (Some(image), rest),
            _ => (None, &self.command),
        }
    }
}

impl Cli {
    /// Notes what clap forgets: whether `--` came right before the words that `run` takes as they are. These are the end
    /// of the command line, whatever is in them.
    pub(crate) fn mark(&mut self, all: &[std::ffi::OsString]) {
        if let Command::Run(run) = &mut self.command {
            let before = all.len().checked_sub(run.command.len() + 1);
            run.host = before.is_some_and(|at| all[at] == "--");
        }
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    Missing,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    None,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Also those that ended
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only some: id, name, status, exited, ancestor, before or since, such as status=exited
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// A line for each, such as '{{.Names}}: {{.Status}}'; a table, such as 'table {{.ID}}\t{{.Image}}'; or json
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["output", "quiet"])]
    pub(crate) format: Option<String>,
    /// The newest so many, in whatever state
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// The newest, in whatever state
    #[arg(short, long, conflicts_with = "last")]
    pub(crate) latest: bool,
    /// Also what each uses of memory and processes (containers of the agent)
    #[arg(long)]
    pub(crate) usage: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// Do not shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

pub(crate) fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() && !path.components().any(|c| c.as_os_str() == "..") {
        Ok(path)
    } else {
        Err("must be an absolute path without '..'".to_owned())
    }
}
