// SPDX-License-Identifier: Apache-2.0
//! Checks that CI and people run: `cargo xtask help` lists them.
//!
//! A plain program with few dependencies, so that a machine with nothing but Rust can run it. It owns no
//! files outside the temporary folder; everything it starts ends before it does.

mod check;
mod error;
mod lane;
mod layers;
mod lexer;
mod programs;
mod readme;
mod shell;
mod skips;
mod sources;
mod tally;
mod vm;
mod workspace;

use std::process::ExitCode;

use error::Error;
use workspace::Workspace;

const HELP: &str = "\
cargo xtask check [STEP...]   formatting, lints, layers, licences, documentation (all steps, or those named)
cargo xtask layers            the direction of imports between the crates
cargo xtask lane NAME...      run tests: unit, one of the folders of tests/ (kernel, faults, ...), vm, systemd,
                              readme, all
cargo xtask readme [FILE]     run the commands of README.md (or FILE) and compare what they print
cargo xtask vm [systemd] [PROGRAM...] [-- ARGUMENT...]
                              run test programs in a VM with cgroup v2, with arguments for libtest
cargo xtask vm [systemd] sh SCRIPT
                              run a shell script there instead
cargo xtask help              this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {}", error.chain());
            ExitCode::from(2)
        }
    }
}

/// What a command found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nothing to object to.
    Good,
    /// Something failed and has been printed.
    Bad,
}

impl Verdict {
    fn of(good: bool) -> Verdict {
        if good { Verdict::Good } else { Verdict::Bad }
    }
}

fn run(arguments: &[String]) -> Result<Verdict, Error> {
    let Some((command, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(Verdict::Bad);
    };
    match command.as_str() {
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(Verdict::Good)
        }
        "check" => check::run(&Workspace::open()?, rest),
        "layers" => check::run(&Workspace::open()?, &["layers".to_owned()]),
        "lane" => lane::run(&Workspace::open()?, rest),
        "vm" => vm::command(&Workspace::open()?, rest),
        "readme" => {
            let workspace = Workspace::open()?;
            let file = match rest {
                [] => workspace.root.join("README.md"),
                [file] => file.into(),
                _ => return Err(Error::Usage("readme takes at most one file".to_owned())),
            };
            let tally = readme::run(&workspace, &file)?;
            tally.print_skips();
            println!("{tally}");
            Ok(Verdict::of(tally.failed == 0))
        }
        other => Err(Error::Usage(format!("there is no command {other:?}"))),
    }
}
