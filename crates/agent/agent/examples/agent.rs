// SPDX-License-Identifier: Apache-2.0
//! The smallest program around an agent: `berth agent` without the rest of `berth`. The tests start it as a process
//! of its own.

fn main() {
    std::process::exit(berth_agent::main(std::env::args_os().skip(1).collect()));
}
