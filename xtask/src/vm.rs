// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lane vm`, `cargo xtask lane systemd` and `cargo xtask vm`: tests in a VM with nothing but cgroup v2.
//!
//! This machine may have cgroup v1, v2 or both; the VM always has v2 alone, and a kernel of Debian's. It has no
//! network and no compiler: the test programs are built here and copied, and so are the programs of Docker.

mod disk;
mod initramfs;
mod kernel;
mod machine;
mod plan;
mod systemd;
mod tool;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Verdict;
use crate::error::Error;
use crate::programs::Programs;
use crate::tally::{Listener, Tally};
use crate::workspace::Workspace;
use disk::Tree;
use kernel::Kernel;
use machine::{Clock, Ended, Machine};
use plan::{RUNS, Run, SYSTEMD, TIMED};

const INIT: &str = include_str!("vm/init.sh");
const RUN: &str = include_str!("vm/run.sh");

/// Names another kernel, by its package.
const KERNEL: &str = "BERTH_VM_KERNEL";

/// How long a VM may run, from its start: three times of what it does.
const LIMIT: Duration = Duration::from_secs(1800);

/// How long the VM may take to say that a program's time is over.
const NOTICE: Duration = Duration::from_secs(60);

/// Before each line that comes out of the VM.
const MARK: &str = "v2| ";

/// Which host the VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Init {
    /// A plain one, whose init runs the tests.
    Plain,
    /// The same, whose clock counts instructions.
    Timed,
    /// systemd is init, the agent and the tests are units.
    Systemd,
}

impl Init {
    fn plan(self) -> &'static [Run] {
        match self {
            Init::Plain => RUNS,
            Init::Timed => TIMED,
            Init::Systemd => SYSTEMD,
        }
    }
}

/// The lane `vm`: everything in its plans.
pub(crate) fn lane(workspace: &Workspace) -> Result<Tally, Error> {
    run_lane(workspace, &[Init::Plain, Init::Timed])
}

/// The lane `systemd`.
pub(crate) fn systemd_lane(workspace: &Workspace) -> Result<Tally, Error> {
    run_lane(workspace, &[Init::Systemd])
}

fn run_lane(workspace: &Workspace, inits: &[Init]) -> Result<Tally, Error> {
    let mut all = Tally::default();
    for init in inits {
        all += match lacks(*init) {
            Some(lacked) => crate::lane::skipped("the tests in a VM", &lacked),
            None => {
                let runs: Vec<(Run, String)> = init.plan().iter().map(|run| (*run, String::new())).collect();
                boot(workspace, *init, &runs)?
            }
        };
    }
    Ok(all)
}

/// `cargo xtask vm [systemd | timed] [PROGRAM...] [-- ARGUMENT...]`: some test programs only, with these arguments.
pub(crate) fn command(workspace: &Workspace, words: &[String]) -> Result<Verdict, Error> {
    let (targets, arguments) = match words.iter().position(|word| word == "--") {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (words, &[][..]),
    };
    let init = match targets.first().map(String::as_str) {
        Some("systemd") => Init::Systemd,
        Some("timed") => Init::Timed,
        _ => Init::Plain,
    };
    if let Some(lacked) = lacks(init) {
        return Err(Error::Vm { what: format!("this machine lacks {lacked}") });
    }
    let targets = if init == Init::Plain { targets } else { &targets[1..] };
    if let [sh, script] = targets
        && sh == "sh"
    {
        return shell(workspace, init, script);
    }
    let plan = init.plan();
    if let Some(unknown) = targets.iter().find(|name| !plan.iter().any(|run| run.is_called(name))) {
        let known = plan.iter().map(|run| run.target).collect::<Vec<_>>().join(", ");
        return Err(Error::Usage(format!("no test program {unknown:?} runs in this VM, only {known}")));
    }
    let chosen =
        plan.iter().filter(|run| targets.is_empty() || targets.iter().any(|name| run.is_called(name)));
    let arguments: Vec<String> = arguments.iter().map(|word| quote(word)).collect();
    let arguments = arguments.join(" ");
    let runs: Vec<(Run, String)> =
        chosen.map(|run| (Run { seconds: 1000, ..*run }, arguments.clone())).collect();
    let tally = boot(workspace, init, &runs)?;
    tally.print_skips();
    println!("{tally}");
    Ok(Verdict::of(tally.failed == 0))
}

/// `cargo xtask vm [systemd | timed] sh SCRIPT`: a shell script instead of tests, for looking around; `$BERTH_BIN` is there.
fn shell(workspace: &Workspace, init: Init, script: &str) -> Result<Verdict, Error> {
    let room = Room::new()?;
    let programs = Programs::some(workspace, &[])?;
    let list = format!("sh 1000 /tmp /bin/sh -c {}\n", quote(script));
    let machine = prepare(workspace, init, &room, &programs, &list)?;
    let mut heard = Heard::default();
    let ended = machine.run(LIMIT, |line| {
        heard.line(line);
        None
    })?;
    Ok(Verdict::of(heard.is_good(ended, &machine)))
}

/// What this machine lacks to run a VM.
fn lacks(init: Init) -> Option<String> {
    let tools = [machine::QEMU, "busybox", "mke2fs", "apt-get", "dpkg-deb"];
    let more = if init == Init::Systemd { &["mmdebstrap"][..] } else { &[] };
    tools.iter().chain(more).find(|tool| tool::which(tool).is_none()).map(|tool| (*tool).to_owned())
}

fn boot(workspace: &Workspace, init: Init, runs: &[(Run, String)]) -> Result<Tally, Error> {
    let begin = Instant::now();
    let wanted: Vec<(&str, &str)> = runs.iter().map(|(run, _)| (run.folder, run.target)).collect();
    let programs = Programs::some(workspace, &wanted)?;
    let mut heard = Heard::default();
    let mut left = runs;
    // An emulated machine has stood still as a whole, with all its processors busy, once in some dozens of runs: it has
    // another try, from the program on during which it did, and one alone.
    let mut tries = 2;
    loop {
        tries -= 1;
        let room = Room::new()?;
        let mut list = String::new();
        for (run, arguments) in left {
            list.push_str(&line_of(workspace, &programs, run, arguments)?);
        }
        let machine = prepare(workspace, init, &room, &programs, &list)?;
        println!("vm: built in {:.0?}", begin.elapsed());
        let ended = machine.run(LIMIT, |line| {
            heard.line(line);
            let (name, since) = heard.running.as_ref()?;
            let run = runs.iter().find(|(run, _)| run.name() == *name)?;
            Some(*since + Duration::from_secs(run.0.seconds) + NOTICE)
        })?;
        let still = heard.running.as_ref().filter(|_| ended == Ended::Still && tries > 0);
        let at = still.and_then(|(name, _)| left.iter().position(|(run, _)| run.name() == *name));
        let Some(at) = at else {
            let good = heard.is_good(ended, &machine);
            println!("vm: {:.0?} with the build", begin.elapsed());
            return Ok(heard.listener.tally(good, &heard.skips));
        };
        left = &left[at..];
        println!("vm: the VM stood still during {}; the last lines of its console:", left[0].0.name());
        machine.last_words().iter().for_each(|line| println!("console| {line}"));
        println!("vm: it is started again for what is left");
        heard.listener.forget_unended();
        heard.running = None;
    }
}

/// One line of the VM's list.
fn line_of(workspace: &Workspace, programs: &Programs, run: &Run, arguments: &str) -> Result<String, Error> {
    let found = programs.tests.iter().find(|test| test.folder == run.folder && test.target == run.target);
    let Some(test) = found else {
        let what = format!("{} has no test program {}", run.folder, run.target);
        return Err(Error::Vm { what });
    };
    let skip = run.without.iter().map(|part| format!(" --skip {part}"));
    let own: String = run.only.iter().map(|part| format!(" {part}")).chain(skip).collect();
    let arguments = if arguments.is_empty() { own } else { arguments.to_owned() };
    let folder = workspace.root.join(run.folder);
    let (folder, program) = (folder.display(), test.path.display());
    Ok(format!("{} {} {folder} {program} {arguments}\n", run.name(), run.seconds))
}

/// Everything that a VM needs, in `room`.
fn prepare(
    workspace: &Workspace,
    init: Init,
    room: &Room,
    programs: &Programs,
    list: &str,
) -> Result<Machine, Error> {
    let package = std::env::var(KERNEL).unwrap_or_else(|_| kernel::STANDARD.to_owned());
    let kernel = Kernel::of(&package, &cache())?;
    println!("vm: kernel {}", kernel.version);
    let berth = programs.berth()?;
    let root = room.path("root");
    let (tree, words) = match init {
        Init::Plain | Init::Timed => (Tree::new(&root, &kernel)?, ""),
        Init::Systemd => {
            let unit = workspace.root.join("dist/berth.service");
            let unit =
                fs::read_to_string(&unit).map_err(|source| Error::Read { path: unit.clone(), source })?;
            (systemd::tree(&root, &cache(), &kernel, &unit, berth)?, systemd::WORDS)
        }
    };
    for program in programs.tests.iter().map(|test| &test.path).chain(&programs.others) {
        tree.program(program)?;
    }
    tree.write("vm/init", INIT)?;
    tree.write("vm/run", RUN)?;
    tree.write("vm/list", list)?;
    let (clock, slow) = match init {
        Init::Timed => (Clock::Instructions, ""),
        Init::Plain | Init::Systemd => (Clock::Real, "export BERTH_TEST_SLOW=10\n"),
    };
    let environment = format!("export BERTH_BIN={}\n{slow}{}", berth.display(), passed_on());
    tree.write("vm/environment", &environment)?;
    let disks = vec![room.path("root.img"), room.path("data.img"), room.path("io.img")];
    tree.image(&disks[0], 3072)?;
    disk::xfs(&disks[1], 512)?;
    disk::sparse(&disks[2], 64)?;
    let initramfs = room.path("initramfs");
    initramfs::make(&kernel, &initramfs)?;
    let console = room.path("console");
    Ok(Machine { kernel: kernel.image, initramfs, disks, words: words.to_owned(), console, clock })
}

/// Variables of ours are for the tests there, too.
fn passed_on() -> String {
    let own = ["BERTH_BIN", "BERTH_SKIPS", KERNEL];
    let ours =
        std::env::vars().filter(|(name, _)| name.starts_with("BERTH_") && !own.contains(&name.as_str()));
    ours.map(|(name, value)| format!("export {name}={}\n", quote(&value))).collect()
}

/// One word for a shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What is kept from one run to the next.
fn cache() -> PathBuf {
    target().join("vm")
}

/// The target folder: this program is in it.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let found = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    found.map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
}

/// What one run makes, removed with it.
struct Room(PathBuf);

impl Room {
    fn new() -> Result<Room, Error> {
        let path = cache().join(format!("run-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(tool::io("make", &path))?;
        Ok(Room(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What came out of a VM.
#[derive(Default)]
struct Heard {
    listener: Listener,
    skips: String,
    running: Option<(String, Instant)>,
    failed: bool,
    done: bool,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let Some((before, word)) = line.split_once("::vm ") else {
            println!("{MARK}{line}");
            self.listener.hear(line);
            return;
        };
        if !before.is_empty() {
            // The last words of a program, without a newline.
            println!("{MARK}{before}");
            self.listener.hear(before);
        }
        match word.split_once(' ').unwrap_or((word, "")) {
            ("start", name) => self.running = Some((name.to_owned(), Instant::now())),
            ("skip", skip) => {
                self.skips.push_str(skip);
                self.skips.push('\n');
            }
            ("end", rest) => self.end(rest),
            ("done", _) => self.done = true,
            _ => println!("{MARK}{word}"),
        }
    }

    fn end(&mut self, rest: &str) {
        let (code, name) = rest.split_once(' ').unwrap_or((rest, ""));
        let took = self.running.take().map(|(_, since)| since.elapsed()).unwrap_or_default();
        println!("vm: {name}: status {code} after {took:.0?}");
        self.failed |= code != "0";
        if code == "137" {
            println!("vm: {name} was killed: its time was over, or it was out of memory");
        }
    }

    /// Whether all is well; says what is not.
    fn is_good(&self, ended: Ended, machine: &Machine) -> bool {
        if self.done {
            return !self.failed;
        }
        let why = match ended {
            Ended::Off => "the VM died",
            Ended::TimeOver => "the VM was stopped: its time was over",
            Ended::Still => "the VM was stopped: it stood still, though a program's time was over",
        };
        let during = self.running.as_ref().map_or("outside of all tests", |(name, _)| name.as_str());
        println!("vm: {why} ({during}); the last lines of its console:");
        machine.last_words().iter().for_each(|line| println!("console| {line}"));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(lines: &[&str]) -> Heard {
        let mut heard = Heard::default();
        lines.iter().for_each(|line| heard.line(line));
        heard
    }

    fn nothing() -> Machine {
        let path = PathBuf::from("/nonexistent");
        Machine {
            kernel: path.clone(),
            initramfs: path.clone(),
            disks: Vec::new(),
            words: String::new(),
            console: path,
            clock: Clock::Real,
        }
    }

    const GOOD: &str = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished";

    #[test]
    fn results_and_skips_from_the_vm_become_a_tally() {
        let heard = hear(&[
            "::vm start a",
            "running 5 tests",
            GOOD,
            "::vm skip t: no disk",
            "::vm end 0 a",
            "::vm done",
        ]);
        assert!(heard.is_good(Ended::Off, &nothing()));
        let tally = heard.listener.tally(true, &heard.skips);
        assert_eq!(tally.to_string(), "4 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_vm_that_dies_silently_has_failed() {
        let heard = hear(&["::vm start a", "running 5 tests"]);
        let good = heard.is_good(Ended::Off, &nothing());
        assert!(!good);
        assert_eq!(heard.listener.tally(good, "").failed, 1);
        assert!(!hear(&[]).is_good(Ended::TimeOver, &nothing()));
    }

    #[test]
    fn a_program_that_was_killed_has_failed_although_the_vm_went_on() {
        let heard = hear(&["::vm start a", "half a line::vm end 137 a", "::vm done"]);
        assert!(!heard.is_good(Ended::Off, &nothing()));
    }

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quote("it's a"), r"'it'\''s a'");
    }
}
