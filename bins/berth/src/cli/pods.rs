// SPDX-License-Identifier: Apache-2.0
//! The command line of `berth pod`.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments here are help texts, with brackets of their own"
)]

use crate::cli::Format;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What `berth pod --help` ends with.
pub(crate) const POD: &str = "\
A pod is containers of the agent that share a network with nothing but loopback, a host name and directories. Its
containers are reached like others, as POD.CONTAINER: `berth logs web.server`, `berth exec web.server sh`. What a pod's
file can say is told in docs/pods.md.";

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum PodCommand {
    /// Run a pod, and stay with it to restart what its file says
    Run(PodRun),
    /// List pods, with their containers
    Ps(PodPs),
    /// End pods: SIGTERM to their containers, and after a while SIGKILL
    Stop(PodStop),
    /// Remove ended pods
    Rm(PodRm),
}

#[derive(Debug, Args)]
pub(crate) struct PodRun {
    /// Print its name, and do not stay: then nothing can be restarted
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// The pod's description in YAML; - is standard input
    #[arg(value_name = "FILE.yaml")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PodPs {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct PodStop {
    /// Seconds to wait before SIGKILL
    #[arg(short, long = "timeout", alias = "time", value_name = "SECONDS", default_value_t = 10)]
    pub(crate) time: u64,
    #[arg(required = true, value_name = "POD")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PodRm {
    /// End those that run
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(required = true, value_name = "POD")]
    pub(crate) names: Vec<String>,
}
