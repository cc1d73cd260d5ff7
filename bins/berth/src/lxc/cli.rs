// SPDX-License-Identifier: Apache-2.0
//! The command line of `berth lxc`: LXC's own options, by the letters that people know.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments here are help texts, with brackets of their own"
)]

use crate::cli::Format;
use berth_factory::lxc::{LXC_PATH, Name};
use clap::{ArgGroup, Args, Subcommand};
use std::path::PathBuf;

/// What `berth lxc --help` ends with.
pub(crate) const LXC: &str = "\
These are LXC's own containers: what is made here is seen by lxc-ls and the other tools, and the other way round. Options
have LXC's letters, but -o, which chooses table or json where there is something to show. Exit codes are LXC's; 125 when
berth itself failed. LXC has to be installed (on Debian: apt-get install lxc lxc-templates).";

/// What to do with LXC's containers.
#[derive(Debug, Subcommand)]
pub(crate) enum LxcCommand {
    /// List the templates that containers can be made from
    Templates(Shown),
    /// Make a container from a template
    #[command(
        after_help = "The template's own options come after --; `berth lxc create -t NAME -n x -- --help` shows them."
    )]
    Create(Box<Create>),
    /// Print the temporary root password that a template made (root only)
    RootPassword(One),
    /// Start a container, in the background unless -F is given
    Start(Start),
    /// Stop a container: cleanly, and hard after a while
    Stop(Stop),
    /// List containers
    #[command(alias = "list")]
    Ls(Ls),
    /// Show how a container is
    Info(Info),
    /// Run a command, or a shell, in a running container
    Attach(Attach),
    /// Remove a container
    #[command(alias = "rm")]
    Destroy(Destroy),
    /// Copy a container, as a clone, a snapshot, or one that goes when it stops
    Copy(Copy),
    /// Stop all processes of a container where they are
    Freeze(One),
    /// Let them go on
    Unfreeze(One),
}

/// Where containers are, and what LXC tells of its work.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where the containers are
    #[arg(short = 'P', long, value_name = "PATH", default_value = LXC_PATH, value_parser = crate::cli::absolute)]
    pub(crate) lxcpath: PathBuf,
    /// Write LXC's log to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) logfile: Option<PathBuf>,
    /// How much of it: ERROR, WARN, INFO, DEBUG, TRACE
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub(crate) logpriority: Option<String>,
    /// Have LXC say nothing
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// A container, by -n or as a word.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["name", "word"]))]
pub(crate) struct Which {
    /// The container
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
    /// The container
    #[arg(value_name = "NAME")]
    pub(crate) word: Option<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The container
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Name,
    /// The template: a name, an absolute path, or none
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) template: String,
    /// Begin with this configuration (default: /etc/lxc/default.conf)
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How its files are kept: dir, lvm, loop, btrfs, zfs, rbd, overlay, best
    #[arg(short = 'B', long, value_name = "TYPE")]
    pub(crate) bdev: Option<String>,
    /// Its root file system's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<String>,
    /// For -B lvm: the volume (default: the container's name)
    #[arg(long, value_name = "NAME")]
    pub(crate) lvname: Option<String>,
    /// For -B lvm: the group (default: lxc)
    #[arg(long, value_name = "NAME")]
    pub(crate) vgname: Option<String>,
    /// For -B lvm: the thin pool (default: lxc)
    #[arg(long, value_name = "NAME")]
    pub(crate) thinpool: Option<String>,
    /// For -B rbd: the device (default: the container's name)
    #[arg(long, value_name = "NAME")]
    pub(crate) rbdname: Option<String>,
    /// For -B rbd: the pool (default: lxc)
    #[arg(long, value_name = "NAME")]
    pub(crate) rbdpool: Option<String>,
    /// For -B zfs: below which file system (default: tank/lxc)
    #[arg(long, value_name = "PATH")]
    pub(crate) zfsroot: Option<String>,
    /// For -B lvm and loop: the type of its file system
    #[arg(long, value_name = "TYPE")]
    pub(crate) fstype: Option<String>,
    /// For -B lvm and loop: its size
    #[arg(long, value_name = "SIZE")]
    pub(crate) fssize: Option<String>,
    /// Its root is not the host's: users from BASE on (default: root's in /etc/subuid, else 100000)
    #[arg(long, value_name = "BASE", num_args = 0..=1, require_equals = true)]
    pub(crate) unprivileged: Option<Option<u32>>,
    /// How long the template may take, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Options of the template
    #[arg(last = true, value_name = "TEMPLATE OPTIONS", allow_hyphen_values = true)]
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) which: Which,
    /// In the background (default)
    #[arg(short, long, conflicts_with = "foreground")]
    pub(crate) daemon: bool,
    /// With this terminal as its console
    #[arg(short = 'F', long)]
    pub(crate) foreground: bool,
    /// Write the process's number to a file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) pidfile: Option<String>,
    /// Another configuration
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) rcfile: Option<PathBuf>,
    /// Another console
    #[arg(short, long, value_name = "FILE")]
    pub(crate) console: Option<String>,
    /// Write what comes to the console to a file
    #[arg(short = 'L', long, value_name = "FILE")]
    pub(crate) console_log: Option<String>,
    /// Close what is open
    #[arg(short = 'C', long)]
    pub(crate) close_all_fds: bool,
    /// Set a line of the configuration for this start: KEY=VALUE
    #[arg(short = 's', long, value_name = "KEY=VALUE")]
    pub(crate) define: Vec<String>,
    /// Share this container's (or process's) network
    #[arg(long, value_name = "NAME")]
    pub(crate) share_net: Option<String>,
    /// … interprocess communication
    #[arg(long, value_name = "NAME")]
    pub(crate) share_ipc: Option<String>,
    /// … host name
    #[arg(long, value_name = "NAME")]
    pub(crate) share_uts: Option<String>,
    /// … processes
    #[arg(long, value_name = "NAME")]
    pub(crate) share_pid: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to start instead of its init
    #[arg(last = true, value_name = "COMMAND", allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Start it again
    #[arg(short, long)]
    pub(crate) reboot: bool,
    /// Do not wait for it
    #[arg(short = 'W', long)]
    pub(crate) nowait: bool,
    /// Seconds before the hard stop
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) timeout: Option<i64>,
    /// Hard, at once
    #[arg(short, long)]
    pub(crate) kill: bool,
    /// Do without LXC's lock
    #[arg(long)]
    pub(crate) nolock: bool,
    /// Never hard
    #[arg(long)]
    pub(crate) nokill: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only names, one in a line
    #[arg(short = '1', long)]
    pub(crate) line: bool,
    /// With columns (default)
    #[arg(short, long)]
    pub(crate) fancy: bool,
    /// LXC's own table with these columns
    #[arg(short = 'F', long, value_name = "COLUMNS")]
    pub(crate) fancy_format: Option<String>,
    /// Only active ones
    #[arg(long)]
    pub(crate) active: bool,
    /// Only running ones
    #[arg(long)]
    pub(crate) running: bool,
    /// Only frozen ones
    #[arg(long)]
    pub(crate) frozen: bool,
    /// Only stopped ones
    #[arg(long)]
    pub(crate) stopped: bool,
    /// Only those with a configuration
    #[arg(long)]
    pub(crate) defined: bool,
    /// Also containers in containers, so deep
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = "5", require_equals = true)]
    pub(crate) nesting: Option<u32>,
    /// Only names that fit
    #[arg(long, value_name = "REGEX")]
    pub(crate) filter: Option<String>,
    /// Only members of these groups
    #[arg(short, long, value_name = "GROUPS")]
    pub(crate) groups: Option<String>,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) which: Which,
    /// A line of its configuration
    #[arg(short, long, value_name = "KEY")]
    pub(crate) config: Vec<String>,
    /// Its addresses
    #[arg(short, long)]
    pub(crate) ips: bool,
    /// The pid of its init
    #[arg(short, long)]
    pub(crate) pid: bool,
    /// What it uses
    #[arg(short = 'S', long)]
    pub(crate) stats: bool,
    /// Bare numbers
    #[arg(short = 'H', long)]
    pub(crate) no_humanize: bool,
    /// Its state
    #[arg(short, long)]
    pub(crate) state: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The container
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Name,
    /// Keep privileges of the host: CAP, CGROUP, LSM, with | between (all of them without a value)
    #[arg(short, long, value_name = "PRIVILEGES", num_args = 0..=1, require_equals = true)]
    pub(crate) elevated_privileges: Option<Option<String>>,
    /// For a program of this architecture
    #[arg(short, long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// Enter only these namespaces, with | between
    #[arg(short = 's', long, value_name = "FLAGS")]
    pub(crate) namespaces: Option<String>,
    /// Mount /sys and /proc anew
    #[arg(short = 'R', long)]
    pub(crate) remount_sys_proc: bool,
    /// Without the variables from here
    #[arg(long)]
    pub(crate) clear_env: bool,
    /// With the variables from here (LXC's default)
    #[arg(long)]
    pub(crate) keep_env: bool,
    /// Write what comes through the terminal to a file
    #[arg(short = 'L', long, value_name = "FILE")]
    pub(crate) pty_log: Option<String>,
    /// Set a variable: NAME=VALUE
    #[arg(short = 'v', long, value_name = "NAME=VALUE")]
    pub(crate) set_var: Vec<String>,
    /// With --clear-env: but keep this one
    #[arg(long, value_name = "NAME")]
    pub(crate) keep_var: Vec<String>,
    /// As this user
    #[arg(short, long, value_name = "UID")]
    pub(crate) uid: Option<u32>,
    /// As this group
    #[arg(short, long, value_name = "GID")]
    pub(crate) gid: Option<u32>,
    #[command(flatten)]
    pub(crate) common: Common,
    /// The command (default: the user's shell)
    #[arg(last = true, value_name = "COMMAND", allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Destroy {
    #[command(flatten)]
    pub(crate) which: Which,
    /// With all its snapshots
    #[arg(short, long)]
    pub(crate) snapshots: bool,
    /// Stop it first
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// The container
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Name,
    /// The copy
    #[arg(short = 'N', long, value_name = "NAME")]
    pub(crate) newname: Option<Name>,
    /// Where the copy is (default: where the container is)
    #[arg(short = 'p', long, value_name = "PATH", value_parser = crate::cli::absolute)]
    pub(crate) newpath: Option<PathBuf>,
    /// Rename it instead
    #[arg(short = 'R', long)]
    pub(crate) rename: bool,
    /// A snapshot: only what differs is kept
    #[arg(short, long)]
    pub(crate) snapshot: bool,
    /// A snapshot even of one that runs
    #[arg(short, long)]
    pub(crate) allowrunning: bool,
    /// Started, and gone when it stops
    #[arg(short, long)]
    pub(crate) ephemeral: bool,
    /// With -e: with this terminal as its console
    #[arg(short = 'F', long)]
    pub(crate) foreground: bool,
    /// With -e: in the background (default)
    #[arg(short, long)]
    pub(crate) daemon: bool,
    /// With -e: mount a directory: bind=/FROM[:/TO] or overlay=/FROM[:/TO]
    #[arg(short, long, value_name = "MOUNT")]
    pub(crate) mount: Vec<String>,
    /// How its files are kept
    #[arg(short = 'B', long, value_name = "TYPE")]
    pub(crate) backingstorage: Option<String>,
    /// With -e: keep what it writes in memory
    #[arg(short, long)]
    pub(crate) tmpfs: bool,
    /// The size of a new block device
    #[arg(short = 'L', long, value_name = "SIZE")]
    pub(crate) fssize: Option<String>,
    /// With -e: keep what it wrote
    #[arg(short = 'D', long)]
    pub(crate) keepdata: bool,
    /// Keep the host name
    #[arg(short = 'K', long)]
    pub(crate) keepname: bool,
    /// Keep the hardware address
    #[arg(short = 'M', long)]
    pub(crate) keepmac: bool,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Words for hooks
    #[arg(last = true, value_name = "HOOK OPTIONS", allow_hyphen_values = true)]
    pub(crate) options: Vec<String>,
}
