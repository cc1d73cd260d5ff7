// SPDX-License-Identifier: Apache-2.0
//! `berth`: the command line.
//!
//! Without an agent it contains one command at a time (`berth run`), and looks after what was left: every command
//! first collects what a killed one could not clean up.

mod attach;
mod cli;
mod exit;
mod list;
mod logs;
mod open;
mod run;
mod terminal;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            // Docker's code for a command line that it does not understand.
            return ExitCode::from(if e.use_stderr() { exit::OURS } else { 0 });
        }
    };
    let result = match cli.command {
        cli::Command::Run(args) => run::run(&cli.global, *args),
        cli::Command::Ps(args) => list::ps(&cli.global, &args),
        cli::Command::Inspect(args) => list::inspect(&cli.global, &args),
        cli::Command::Logs(args) => logs::logs(&cli.global, &args),
        cli::Command::Kill(args) => list::kill(&cli.global, &args),
        cli::Command::Rm(args) => list::rm(&cli.global, &args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}
