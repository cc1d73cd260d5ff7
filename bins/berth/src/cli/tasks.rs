// SPDX-License-Identifier: Apache-2.0
//! The words of `berth tasks` and `berth task`.

use super::Format;
use clap::{Args, Subcommand};

/// Which master is asked.
#[derive(Debug, Args)]
pub(crate) struct Master {
    /// The master, IP:PORT
    #[arg(long, env = "BERTH_MASTER", value_name = "IP:PORT", default_value = "127.0.0.1:5050")]
    pub(crate) master: String,
    /// Who asks it, where that is asked
    #[arg(long, value_name = "NAME", requires = "secret")]
    pub(crate) principal: Option<String>,
    /// What proves it
    #[arg(long, env = "BERTH_MASTER_SECRET", hide_env_values = true, value_name = "TEXT")]
    pub(crate) secret: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Tasks {
    #[command(flatten)]
    pub(crate) master: Master,
    /// Also those that ended
    #[arg(short, long)]
    pub(crate) all: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Show all that the master knows of a task, as JSON
    Inspect {
        #[command(flatten)]
        master: Master,
        /// Its id
        id: String,
    },
    /// Show what a task wrote
    Logs {
        #[command(flatten)]
        master: Master,
        /// Its id
        id: String,
        /// Options of `berth logs`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        options: Vec<String>,
    },
    /// End a task, as its framework would
    Kill {
        #[command(flatten)]
        master: Master,
        /// How long it may take to end by itself [default: that of the task]
        #[arg(short, long = "timeout", alias = "time", value_name = "SECONDS")]
        timeout: Option<u32>,
        /// Its id
        id: String,
    },
    /// Run a further command in a task's container
    Exec {
        #[command(flatten)]
        master: Master,
        /// Pass standard input on
        #[arg(short, long)]
        interactive: bool,
        /// Give it a terminal
        #[arg(short, long)]
        tty: bool,
        /// Its id
        id: String,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}
