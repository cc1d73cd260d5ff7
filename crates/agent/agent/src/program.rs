// SPDX-License-Identifier: Apache-2.0
//! `berth agent`: the process around an agent. Signals are taken before the first thread, a refusal is said on
//! standard error before there is a log, and the exit status is 0 for a stop that was asked for and 1 for all else.

use std::ffi::OsString;
use std::io::Write as _;
use std::time::Duration;

use berth_config::{
    Ask, Recover, Resolved, Signal, Signals, Sources, check_config, check_host, examine, help, load, log,
};
use berth_master::LocalMaster;
use tokio::io::unix::AsyncFd;

use crate::error::chain;
use crate::{Agent, StartError, notify};

const PROGRAM: &str = "berth agent";
/// How many threads may block at the same time.
const BLOCKING: usize = 128;
/// How long a thread for blocking work stays without.
const KEEP: Duration = Duration::from_secs(4);

const COMMANDS: &str = "\
Commands beside running an agent:
  check-config [--json] [FLAGS]   say what an agent with these flags would run with, and what it would refuse
  check-host [--json] [FLAGS]     say what this host offers to containers, and what is missing
  openapi                         print the API of the agent in the words of OpenAPI

";

/// Runs `berth agent` with these arguments (without the names of program and command); the exit status. To be called
/// while the process has one thread.
pub fn main(arguments: Vec<OsString>) -> i32 {
    match arguments.first().and_then(|first| first.to_str()) {
        Some("check-config") => check(arguments, |sources, json| {
            let report = check_config(&sources);
            (if json { report.json() + "\n" } else { report.to_string() }, report.exit_code())
        }),
        Some("check-host") => check(arguments, |sources, json| match examine(&sources) {
            (Some(flags), _) => {
                let report = check_host(&flags);
                (if json { report.json() + "\n" } else { report.to_string() }, report.exit_code())
            }
            (None, problems) => (berth_config::Problems(problems).to_string() + "\n", 1),
        }),
        Some("openapi") => {
            print(&format!("{:#}\n", berth_api::openapi()));
            0
        }
        Some(other) if !other.starts_with('-') => {
            let advice = "use check-config, check-host, openapi, or flags alone to run an agent";
            refuse(&format!("'{}' is no command: {advice}", log::escape(other)))
        }
        _ => {
            // One for each processor is enough; with one for each thread, what ended containers' threads leave adds up.
            let processors = std::thread::available_parallelism().map_or(2, |count| count.get().max(2));
            berth_sys::memory::at_most_arenas(i32::try_from(processors).unwrap_or(i32::MAX));
            run(Sources::of_this_process(arguments))
        }
    }
}

/// Prints a report.
fn check(mut arguments: Vec<OsString>, report: impl Fn(Sources, bool) -> (String, u8)) -> i32 {
    arguments.remove(0);
    let before = arguments.len();
    arguments.retain(|argument| argument != "--json");
    let json = arguments.len() < before;
    let sources = Sources::of_this_process(arguments);
    if let Some(ask) = sources.asks() {
        return answer(ask);
    }
    let (text, code) = report(sources, json);
    print(&text);
    code.into()
}

fn run(sources: Sources) -> i32 {
    if let Some(ask) = sources.asks() {
        return answer(ask);
    }
    let signals = match Signals::take() {
        Ok(signals) => signals,
        Err(source) => return refuse(&chain(&StartError::Process { what: "take signals", source })),
    };
    let flags = match load(&sources) {
        Ok(flags) => flags,
        Err(problems) => return refuse(&problems.to_string()),
    };
    let control = match log::start(flags.logging) {
        Ok(control) => control,
        Err(error) => return refuse(&error.to_string()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("agent")
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(KEEP)
        .on_thread_park(crate::rest::parks)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(source) => return refuse(&chain(&StartError::Process { what: "start threads", source })),
    };
    let result = runtime.block_on(serve(flags, control, signals, &sources));
    // What is stuck in the kernel is left to it.
    runtime.shutdown_background();
    match result {
        Ok(()) => 0,
        Err(error) => refuse(&chain(&error)),
    }
}

/// From the start to the signal that ends it.
async fn serve(
    flags: Resolved,
    control: log::LogControl,
    signals: Signals,
    sources: &Sources,
) -> Result<(), StartError> {
    let recover = flags.recover;
    let signals = crate::pump::watched(signals)
        .map_err(|source| StartError::Process { what: "watch signals", source })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), work_dir = %flags.work_dir.display(), "starting");
    let agent = Agent::start(flags, Some(control)).await?;
    notify::tell(notify::RECOVERING);
    tokio::spawn(crate::rest::rest(agent.events()));
    let mut master = None;
    let result = heed(&agent, recover, &signals, sources, &mut master).await;
    notify::tell(notify::STOPPING);
    if let Some(master) = master {
        master.stop().await;
    }
    agent.stop().await;
    tracing::info!("stopped; containers go on");
    result
}

async fn heed(
    agent: &Agent,
    recover: Recover,
    signals: &AsyncFd<Signals>,
    sources: &Sources,
    master: &mut Option<LocalMaster>,
) -> Result<(), StartError> {
    let mut recovered = false;
    loop {
        tokio::select! {
            result = agent.recovered(), if !recovered => {
                result?;
                recovered = true;
                if recover == Recover::Cleanup {
                    notify::tell(notify::READY);
                    return agent.destroy_all().await;
                }
                *master = agent.local_master().await?;
                notify::tell(notify::READY);
            }
            ready = signals.readable() => {
                let mut ready = ready.map_err(|source| StartError::Process { what: "wait for signals", source })?;
                while let Some(signal) = signals.get_ref().next() {
                    match signal {
                        Signal::Terminate | Signal::Interrupt => return Ok(()),
                        Signal::Reload => reload(agent, sources),
                        Signal::Dump => agent.dump(),
                    }
                }
                ready.clear_ready();
            }
        }
    }
}

/// Puts the level of the log in force that the configuration says now. Everything else waits for a restart.
fn reload(agent: &Agent, sources: &Sources) {
    match load(sources) {
        Ok(flags) => {
            agent.set_log_level(flags.logging.level);
            tracing::info!(logging_level = %flags.logging.level, "reloaded");
        }
        Err(problems) => tracing::error!("not reloaded, the configuration is wrong: {problems}"),
    }
}

fn answer(ask: Ask) -> i32 {
    match ask {
        Ask::Help => print(&format!("{COMMANDS}{}", help(PROGRAM))),
        Ask::Version => print(&format!("berth {}\n", env!("CARGO_PKG_VERSION"))),
    }
    0
}

fn print(text: &str) {
    // Whoever reads it is gone: there is nobody to tell.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn refuse(text: &str) -> i32 {
    for line in text.lines() {
        let _ = writeln!(std::io::stderr().lock(), "{PROGRAM}: {line}");
    }
    1
}
