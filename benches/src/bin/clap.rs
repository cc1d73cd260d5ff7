// SPDX-License-Identifier: Apache-2.0
//! A program that reads its command line and does nothing else: what clap adds to `std` from exec to exit.

use clap::Parser;

/// About as many options as `berth run` has in its common form.
#[derive(Parser)]
struct Options {
    /// CPUs.
    #[arg(long)]
    cpus: Option<f64>,
    /// Memory.
    #[arg(long)]
    memory: Option<String>,
    /// Processes.
    #[arg(long)]
    pids_limit: Option<u64>,
    /// Host name.
    #[arg(long)]
    hostname: Option<String>,
    /// Command.
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

fn main() {
    let options = Options::parse();
    // Use every field, so that none is optimised away.
    let wrong = options.cpus.is_none()
        || options.memory.is_none()
        || options.pids_limit.is_none()
        || options.hostname.is_none()
        || options.command.is_empty();
    std::process::exit(i32::from(wrong));
}
