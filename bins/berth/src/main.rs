// SPDX-License-Identifier: Apache-2.0
//! `berth`: the command line.
//!
//! Without an agent it contains one command at a time (`berth run`), and looks after what was left: every command
//! first collects what a killed one could not clean up. With one it is the agent's client.

#![cfg_attr(not(test), no_main)]

mod about;
mod act;
mod attach;
mod cli;
mod copy;
mod escaped;
mod events;
mod execute;
mod exit;
mod fetch;
mod find;
mod gc;
mod image;
mod inspect;
mod keys;
mod limits;
mod list;
mod logging;
mod logs;
mod lxc;
mod open;
mod options;
mod plain;
mod pod;
mod remote;
mod run;
mod session;
mod stats;
mod task;
mod technology;
mod template;
mod terminal;
mod text;
mod top;

use clap::Parser;

/// The entry, called by the C library.
///
/// Not Rust's own, which reads /proc/self/maps and installs a handler for stack overflows before `main`: a tenth of a
/// millisecond of the three that a whole `berth run` takes. What it also does is done here, or wanted otherwise:
/// descriptors 0–2 are opened when closed, and SIGPIPE keeps its default, so that `berth ps | head` just ends.
#[cfg_attr(not(test), expect(unsafe_code, reason = "a symbol of a fixed name has no safe spelling"))]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn main() -> std::ffi::c_int {
    if berth_sys::fd::open_standard().is_err() {
        return exit::OURS.into();
    }
    // Who starts this may have signals blocked, and whatever is started here would have them blocked too.
    let _ = berth_sys::signal::set_mask(berth_sys::signal::Set::NONE);
    // A child that fetches: this program, started anew. It has its instructions from the socket it was given.
    if std::env::args_os().nth(1).is_some_and(|first| first == "fetch-role") {
        return berth_fetcher::role();
    }
    // What the entry point began (see build.rs) can go on from here.
    berth_factory::oneshot::early::start();
    // The program ends here: nothing may unwind into C. A panic aborts (see the profile), after its message.
    let code = run_command();
    berth_factory::oneshot::early::abandon();
    code.into()
}

fn run_command() -> u8 {
    let plain = plain::read(std::env::args_os().skip(1), |name| std::env::var_os(name));
    if plain.is_none() && std::env::args_os().nth(1).is_some_and(|first| first == "agent") {
        let code = berth_agent::main(std::env::args_os().skip(2).collect());
        return u8::try_from(code).unwrap_or(exit::OURS);
    }
    if plain.is_none() && std::env::args_os().nth(1).is_some_and(|first| first == "execute") {
        return execute::main(std::env::args_os().skip(2).collect());
    }
    let parse = || {
        let mut cli = cli::Cli::try_parse()?;
        cli.mark(&std::env::args_os().collect::<Vec<_>>());
        Ok::<cli::Cli, clap::Error>(cli)
    };
    let cli = match plain.map_or_else(parse, Ok) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            // Docker's code for a command line that it does not understand.
            return if e.use_stderr() { exit::OURS } else { 0 };
        }
    };
    let global = &cli.global;
    let result = match cli.command {
        cli::Command::Run(args) if args.detach || global.socket.is_some() || args.is_foreign() => {
            remote::run(global, &args)
        }
        cli::Command::Run(args) => run::run(global, *args),
        cli::Command::Exec(args) => remote::exec(global, &args),
        cli::Command::Attach(args) => remote::attach(global, &args),
        cli::Command::Ps(args) => list::ps(global, &args),
        cli::Command::Inspect(args) => inspect::inspect(global, &args),
        cli::Command::Logs(args) => logs::logs(global, &args),
        cli::Command::Cp(args) => copy::cp(global, &args),
        cli::Command::Kill(args) => act::kill(global, &args),
        cli::Command::Stop(args) => act::stop(global, &args),
        cli::Command::Wait(args) => act::wait(global, &args),
        cli::Command::Rm(args) => act::rm(global, &args),
        cli::Command::Gc(args) => gc::gc(global, &args),
        cli::Command::Pause(args) => act::pause(global, &args),
        cli::Command::Unpause(args) => act::unpause(global, &args),
        cli::Command::Update(args) => act::update(global, &args),
        cli::Command::Rename(args) => act::rename(global, &args),
        cli::Command::Stats(args) => stats::stats(global, &args),
        cli::Command::Top(args) => top::top(global, &args),
        cli::Command::Events(args) => events::events(global, &args),
        cli::Command::Resources(args) => about::resources(global, &args),
        cli::Command::Version(args) => about::version(global, &args),
        cli::Command::Image(command) => image::image(global, command),
        cli::Command::Pod(command) => pod::pod(global, command),
        cli::Command::Lxc(command) => lxc::lxc(command),
        cli::Command::Tasks(args) => task::tasks(&args),
        cli::Command::Task(command) => task::task(global, command),
        cli::Command::Execute(_) => Err(exit::Failure::text(
            "write the flags after `execute`, as in `berth execute --master=IP:PORT --name=NAME --command=TEXT`",
        )),
        cli::Command::Agent(_) => Err(exit::Failure::text(
            "write the agent's flags after `agent`, as in `berth agent --runtime_dir=DIR`",
        )),
        cli::Command::Completion(args) => about::completion(&args),
    };
    match result {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
