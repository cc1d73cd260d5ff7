// SPDX-License-Identifier: Apache-2.0
//! `berth-bench`: what one contained command costs, paired against the floor program and against peers.
//!
//! The bench owns one folder, one group in each of three cgroup hierarchies and one mount namespace, and removes
//! or leaves all of them when it ends, also by ^C. docs/performance.md says what is measured and how to read it.

mod agent;
mod check;
mod compile;
mod contestant;
mod docker;
mod error;
mod images;
mod logs;
mod lxc;
mod machine;
mod memory;
mod namespace;
mod oci;
mod phases;
mod plan;
mod procfs;
mod quiet;
mod report;
mod rounds;
mod site;
mod stats;
mod tasks;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

use agent::{AgentReport, Part, Scale};
use contestant::{Kind, Programs};
use error::Error;
use machine::Machine;
use report::{Phases, Report, Skipped, Table, Version};
use rounds::{Pace, Stop};
use site::{Site, Stage};

/// Measure one contained command from launch to exit, against the least that the kernel needs and against peers.
#[derive(Debug, Parser)]
#[command(name = "berth-bench")]
struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// How often each command is timed
    #[arg(short = 'n', long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000), global = true)]
    times: u32,
    /// 20 times: to see that it works, not to quote
    #[arg(long, global = true)]
    quick: bool,
    /// Measure on this folder only, instead of on a tmpfs and on a disk
    #[arg(long, value_name = "DIR", global = true)]
    storage: Option<PathBuf>,
    /// Where the folder on a disk is made
    #[arg(long, value_name = "DIR", default_value = "/var/tmp", global = true)]
    disk: PathBuf,
    /// The program to measure; the one beside this program when absent
    #[arg(long, value_name = "PATH", global = true)]
    berth: Option<PathBuf>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Format::Table, global = true)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

const IN_FLIGHT: usize = 16;
const FLEET: usize = 500;
/// Each takes LXC's tools half a second with what is between.
const MOST_OF_LXC: usize = 50;
/// Docker takes as long.
const MOST_OF_DOCKER: usize = 50;

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// The memory of supervisors beside running containers
    Memory {
        /// How many containers to run at once
        #[arg(short, long, default_value_t = 50)]
        containers: usize,
    },
    /// The same through the API of an agent: launches, further processes, lists, recovery and memory
    Agent {
        /// How many containers are launched at once
        #[arg(long, default_value_t = IN_FLIGHT)]
        in_flight: usize,
        /// How many containers are to run for lists, recovery and memory
        #[arg(short, long, default_value_t = FLEET)]
        containers: usize,
        /// Measure this alone; can be given several times
        #[arg(long, value_enum, value_name = "PART")]
        only: Vec<Part>,
    },
    /// A cold pull from a registry on loopback, in turns with docker, podman, ctr, and skopeo with umoci
    Images {
        /// How many turns
        #[arg(short, long, default_value_t = 3)]
        rounds: usize,
    },
    /// 1 GiB of lines through the loggers, in turns with a plain file and podman
    Logs {
        /// How many turns
        #[arg(short, long, default_value_t = 3)]
        rounds: usize,
        /// MiB that are written
        #[arg(long, default_value_t = 1024)]
        mib: u64,
    },
    /// Tasks of a scheduler over the master of this node: their latency, their rate, and the agent's memory under many
    Tasks {
        /// How many tasks are to run at once for the memory
        #[arg(long, default_value_t = FLEET)]
        running: usize,
    },
    /// Launches of LXC's containers from a template, in turns with lxc-start of one that is there
    Lxc,
    /// Launches of a Docker engine's containers, in turns with the engine's own create and start
    Docker,
    /// What each container looks like from within, compared with that of the floor program
    Check,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [flood, mib, path @ ..] = words.as_slice()
        && flood == "flood"
    {
        logs::flood(mib, path.first().map(String::as_str));
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth-bench: {}", chain(&error));
            match error {
                Error::Interrupted => ExitCode::from(130),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    namespace::enter()?;
    let stop = rounds::stop_on_signals()?;
    let programs = Programs::find(options.berth_path()?);
    let site = Site::create(&options.disk, options.storage.as_deref())?;
    let text = match &options.action {
        None => {
            let report = measure(options, &programs, &site, &stop)?;
            match options.output {
                Format::Table => report.text(),
                Format::Json => json(&report),
            }
        }
        Some(Action::Memory { containers }) => memory_text(options, &programs, &site, *containers, &stop)?,
        Some(Action::Agent { in_flight, containers, only }) => {
            let scale = Scale {
                only: only.clone(),
                times: options.times(),
                in_flight: *in_flight,
                containers: *containers,
            };
            agent_text(options, &programs, &site, &scale, &stop)?
        }
        Some(Action::Images { rounds }) => {
            let folder = site.stages.last().map(|stage| stage.folder.clone()).unwrap_or_default();
            let measured = images::measure(&programs.berth, &folder, *rounds, &stop)?;
            match options.output {
                Format::Table => measured.text(),
                Format::Json => json(&measured),
            }
        }
        Some(Action::Logs { rounds, mib }) => {
            let folder = site.stages.last().map(|stage| stage.folder.clone()).unwrap_or_default();
            let measured = logs::measure(&programs.berth, &folder, *mib, *rounds, &stop)?;
            match options.output {
                Format::Table => measured.text(),
                Format::Json => json(&measured),
            }
        }
        Some(Action::Tasks { running }) => {
            let measured = tasks::measure(&programs, &site, options.times(), *running, &stop)?;
            match options.output {
                Format::Table => measured.text(),
                Format::Json => json(&measured),
            }
        }
        Some(Action::Lxc) => {
            if let Some(reason) = lxc::missing(&programs) {
                return Err(Error::Missing { what: "containers of LXC", reason });
            }
            let measured = lxc::measure(&programs, &site, options.times(), &stop)?;
            match options.output {
                Format::Table => measured.text(),
                Format::Json => json(&measured),
            }
        }
        Some(Action::Docker) => {
            if let Some(reason) = docker::missing(&programs) {
                return Err(Error::Missing { what: "containers of Docker", reason });
            }
            let measured = docker::measure(&programs, &site, options.times(), &stop)?;
            match options.output {
                Format::Table => measured.text(),
                Format::Json => json(&measured),
            }
        }
        Some(Action::Check) => check_text(&programs, &site, &stop)?,
    };
    // Clean up before the answer: whoever reads it may start the next measurement.
    drop(site);
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::Output)
}

impl Options {
    fn times(&self) -> usize {
        if self.quick { 20 } else { self.times as usize }
    }

    fn berth_path(&self) -> Result<PathBuf, Error> {
        match &self.berth {
            Some(path) => Ok(path.clone()),
            None => beside("berth"),
        }
    }
}

/// A program in the folder of this one.
fn beside(name: &str) -> Result<PathBuf, Error> {
    let me = std::env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
    Ok(me.with_file_name(name))
}

fn measure(options: &Options, programs: &Programs, site: &Site, stop: &Stop) -> Result<Report, Error> {
    let machine = Machine::look(options.storage.as_deref().unwrap_or(&options.disk));
    let (kinds, skipped) = who_takes_part(programs, site, stop)?;
    let mut report = Report {
        machine,
        times: options.times(),
        versions: kinds.iter().filter_map(|kind| version(programs, *kind)).collect(),
        skipped,
        runs: Vec::new(),
        exec_to_exit: exec_to_exit(options, site, stop)?,
        phases: Vec::new(),
        agent: None,
        lxc: None,
        docker: None,
    };
    for stage in &site.stages {
        for pace in [Pace::BURSTS, Pace::ONE_BY_ONE, Pace::PAUSES] {
            let names: Vec<&'static str> = kinds.iter().map(|kind| kind.name()).collect();
            let commands: Result<Vec<Command>, Error> = kinds
                .iter()
                .map(|kind| contestant::command(*kind, programs, site, stage, plan::COMMAND))
                .collect();
            let timed = rounds::run(commands?, options.times(), pace, stop)?;
            report.runs.push(Table::new(stage.name.clone(), pace.name, &names, &timed));
        }
        report.phases.extend(phases_on(stage, options.times(), &kinds, programs, site, stop)?);
    }
    if kinds.contains(&Kind::Berth) {
        let scale =
            Scale { only: Vec::new(), times: options.times(), in_flight: IN_FLIGHT, containers: FLEET };
        report.agent = Some(agent::measure(programs, site, &scale, stop)?);
    }
    match lxc::missing(programs) {
        Some(reason) => report.skipped.push(Skipped { name: "containers of LXC", reason }),
        None => report.lxc = Some(lxc::measure(programs, site, options.times().min(MOST_OF_LXC), stop)?),
    }
    match docker::missing(programs) {
        Some(reason) => report.skipped.push(Skipped { name: "containers of Docker", reason }),
        None => {
            let times = options.times().min(MOST_OF_DOCKER);
            report.docker = Some(docker::measure(programs, site, times, stop)?);
        }
    }
    Ok(report)
}

/// Those that are there and can run the command at all. Only the floor program must.
fn who_takes_part(programs: &Programs, site: &Site, stop: &Stop) -> Result<(Vec<Kind>, Vec<Skipped>), Error> {
    let (mut kinds, mut skipped) = (Vec::new(), Vec::new());
    for kind in Kind::ALL {
        rounds::check(stop)?;
        match why_not(kind, programs, site) {
            Ok(None) => kinds.push(kind),
            Ok(Some(reason)) => skipped.push(Skipped { name: kind.name(), reason }),
            Err(error) if matches!(kind, Kind::Floor | Kind::FloorNoLibc) => return Err(error),
            Err(error) => skipped.push(Skipped { name: kind.name(), reason: chain(&error) }),
        }
    }
    Ok((kinds, skipped))
}

fn why_not(kind: Kind, programs: &Programs, site: &Site) -> Result<Option<String>, Error> {
    let missing = programs.missing(kind);
    if missing.is_none() {
        for stage in &site.stages {
            let command = contestant::command(kind, programs, site, stage, plan::COMMAND)?;
            contestant::prove(command, "tried once before the rounds")?;
        }
    }
    Ok(missing)
}

fn version(programs: &Programs, kind: Kind) -> Option<Version> {
    Some(Version { name: kind.name(), version: programs.version(kind)? })
}

/// Programs that do nothing: what a process costs by the way it is built.
fn exec_to_exit(options: &Options, site: &Site, stop: &Stop) -> Result<Table, Error> {
    let busybox = site.stages.first().map(|stage| stage.rootfs().join("bin/true"));
    let candidates = [
        ("C, no libc", Some(site.bin().join("empty-nolibc"))),
        ("C, static glibc", Some(site.bin().join("empty"))),
        ("Rust std, static", Some(beside("berth-bench-empty")?)),
        ("Rust std and clap, static", Some(beside("berth-bench-clap")?)),
        ("busybox true, static", busybox),
    ];
    let found =
        candidates.into_iter().filter_map(|(name, path)| Some((name, path.filter(|path| path.is_file())?)));
    let (names, paths): (Vec<&'static str>, Vec<PathBuf>) = found.unzip();
    let commands = paths.iter().map(|path| {
        let mut command = Command::new(path);
        if path.ends_with("berth-bench-clap") {
            command.args([
                "--cpus",
                "0.5",
                "--memory",
                "64m",
                "--pids-limit",
                "50",
                "--hostname",
                "bench",
                "--",
                "true",
            ]);
        }
        command
    });
    let timed = rounds::run(commands.collect(), options.times(), Pace::BURSTS, stop)?;
    Ok(Table::new("none".to_owned(), Pace::BURSTS.name, &names, &timed))
}

/// What the floor program and berth say about their own phases.
fn phases_on(
    stage: &Stage,
    times: usize,
    kinds: &[Kind],
    programs: &Programs,
    site: &Site,
    stop: &Stop,
) -> Result<Vec<Phases>, Error> {
    let floor = || Ok(contestant::floor("floor", site, stage, &["-p"], plan::COMMAND));
    let mut found = vec![("floor", phases::collect(floor, times, stop)?)];
    if kinds.contains(&Kind::Berth) {
        let berth = || {
            let mut command = contestant::command(Kind::Berth, programs, site, stage, plan::COMMAND)?;
            command.env("BERTH_TIMINGS", "1");
            Ok(command)
        };
        found.push(("berth run", phases::collect(berth, times, stop)?));
    }
    found.retain(|(_, phases)| !phases.is_empty());
    Ok(found.into_iter().map(|(name, phases)| Phases { name, storage: stage.name.clone(), phases }).collect())
}

fn memory_text(
    options: &Options,
    programs: &Programs,
    site: &Site,
    containers: usize,
    stop: &Stop,
) -> Result<String, Error> {
    let mut text = String::new();
    // The storage does not matter to the supervisor: the first is as good as any.
    for stage in site.stages.iter().take(1) {
        let memory = memory::measure(containers, programs, site, stage, stop)?;
        text += &match options.output {
            Format::Json => json(&memory),
            Format::Table => format!(
                "{} supervisors beside {} containers, unique set size: median {:.1} KiB, max {:.1} KiB\n",
                memory.supervisors, memory.containers, memory.median_kib, memory.max_kib
            ),
        };
    }
    Ok(text)
}

fn agent_text(
    options: &Options,
    programs: &Programs,
    site: &Site,
    scale: &Scale,
    stop: &Stop,
) -> Result<String, Error> {
    #[derive(serde::Serialize)]
    struct Whole {
        machine: Machine,
        versions: Vec<Version>,
        agent: AgentReport,
    }
    if programs.missing(Kind::Berth).is_some() {
        return Err(Error::NoBerth(programs.berth.clone()));
    }
    let machine = Machine::look(options.storage.as_deref().unwrap_or(&options.disk));
    let versions = [Kind::Berth, Kind::Crun].into_iter().filter_map(|kind| version(programs, kind)).collect();
    let whole = Whole { machine, versions, agent: agent::measure(programs, site, scale, stop)? };
    if options.output == Format::Json {
        return Ok(json(&whole));
    }
    let mut text = format!("{}\n", whole.machine.lines());
    whole.versions.iter().for_each(|version| text += &format!("{}: {}\n", version.name, version.version));
    whole.agent.text(&mut text);
    Ok(text)
}

fn check_text(programs: &Programs, site: &Site, stop: &Stop) -> Result<String, Error> {
    let (kinds, skipped) = who_takes_part(programs, site, stop)?;
    let mut text = String::new();
    for skipped in skipped {
        text += &format!("{}: {}\n", skipped.name, skipped.reason);
    }
    for stage in site.stages.iter().take(1) {
        let (floor, others) = check::compare(&kinds, programs, site, stage, stop)?;
        text += &format!("floor: {} facts\n  {}\n", floor.len(), floor.join("\n  "));
        for other in others {
            text += &format!("{}: {} facts, compared with the floor\n", other.name, other.facts);
            text += &other.missing.iter().map(|fact| format!("  - {fact}\n")).collect::<String>();
            text += &other.added.iter().map(|fact| format!("  + {fact}\n")).collect::<String>();
        }
    }
    Ok(text)
}

fn json(value: &impl serde::Serialize) -> String {
    // Our reports have string keys and no failing parts, which is all that could go wrong.
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}

/// The error and everything that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
