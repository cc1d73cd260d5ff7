// SPDX-License-Identifier: Apache-2.0
//! The plain command lines of `berth run`, read without clap.
//!
//! clap builds its tables of all options before it looks at the first argument, which takes as long as 4 % of a whole
//! `berth run`. So a command line that has nothing special in it is read here, by the same rules; for every other one,
//! above all for every one that is wrong, the answer is `None`, and clap reads it. A test compares the two.

use crate::cli::{Cli, Command, Global, Network, Run, absolute};
use std::ffi::OsString;
use std::path::PathBuf;

/// Reads it, without the program's name.
pub(crate) fn read(
    args: impl IntoIterator<Item = OsString>,
    from: impl Fn(&str) -> Option<OsString>,
) -> Option<Cli> {
    let mut args = args.into_iter().map(|arg| arg.into_string().ok());
    let (mut runtime, mut work) = (None, None);
    loop {
        let arg = args.next()??;
        match option(&arg) {
            ("--runtime-dir", value) => once(&mut runtime, take(value, &mut args)?)?,
            ("--work-dir", value) => once(&mut work, take(value, &mut args)?)?,
            ("run", None) => break,
            _ => return None,
        }
    }
    let directory = |given: Option<String>, variable: &str, otherwise: &str| -> Option<PathBuf> {
        let text = match given {
            Some(text) => text,
            None => from(variable).map_or(Some(otherwise.to_owned()), |v| v.into_string().ok())?,
        };
        absolute(&text).ok()
    };
    let global = Global {
        runtime_dir: directory(runtime, "BERTH_RUNTIME_DIR", "/run/berth")?,
        work_dir: directory(work, "BERTH_WORK_DIR", "/var/lib/berth")?,
        socket: None,
    };
    Some(Cli { global, command: Command::Run(Box::new(run(&mut args)?)) })
}

fn run(args: &mut impl Iterator<Item = Option<String>>) -> Option<Run> {
    let mut run = Run::default();
    let mut network = None;
    let (mut pids, mut rootfs) = (None, None);
    let command = loop {
        let arg = args.next()??;
        let (name, value) = option(&arg);
        match name {
            "--rm" => flag(&mut run.rm, value)?,
            "-i" | "--interactive" => flag(&mut run.interactive, value)?,
            "-t" | "--tty" => flag(&mut run.tty, value)?,
            "--read-only" => flag(&mut run.read_only, value)?,
            "--init" => flag(&mut run.init, value)?,
            "-e" | "--env" => run.env.push(take(value, args)?),
            "-v" | "--volume" => run.volume.push(take(value, args)?),
            "-w" | "--workdir" => once(&mut run.workdir, take(value, args)?)?,
            "-u" | "--user" => once(&mut run.user, take(value, args)?)?,
            "--name" => once(&mut run.name, take(value, args)?)?,
            "--cpus" => once(&mut run.cpus, take(value, args)?)?,
            "-m" | "--memory" => once(&mut run.memory, take(value, args)?)?,
            "--hostname" => once(&mut run.hostname, take(value, args)?)?,
            "--pids-limit" => once(&mut pids, take(value, args)?)?,
            "--rootfs" => once(&mut rootfs, take(value, args)?)?,
            "--network" => once(&mut network, take(value, args)?)?,
            "--" => {
                run.host = true;
                break args.next()??;
            }
            other if other.starts_with('-') || other.is_empty() => return None,
            _ => break arg,
        }
    };
    run.command = std::iter::once(Some(command)).chain(args).collect::<Option<Vec<_>>>()?;
    if run.command.iter().any(|part| part == "--") {
        return None;
    }
    run.rootfs = rootfs.map(PathBuf::from);
    run.pids_limit = pids.map(|n| n.parse()).transpose().ok()?;
    run.network = match network.as_deref() {
        None => None,
        Some("none") => Some(Network::None),
        Some("host") => Some(Network::Host),
        Some(_) => return None,
    };
    Some(run)
}

/// `--name=value` or `--name`.
fn option(arg: &str) -> (&str, Option<&str>) {
    match arg.split_once('=') {
        Some((name, value)) if arg.starts_with("--") => (name, Some(value)),
        _ => (arg, None),
    }
}

/// An option's value: after the `=`, or the next argument. One that is empty or looks like an option is for clap.
fn take(value: Option<&str>, args: &mut impl Iterator<Item = Option<String>>) -> Option<String> {
    let value = match value {
        Some(value) => value.to_owned(),
        None => args.next()??,
    };
    (!value.is_empty() && !value.starts_with('-')).then_some(value)
}

fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

fn flag(slot: &mut bool, value: Option<&str>) -> Option<()> {
    let first = !std::mem::replace(slot, true);
    (first && value.is_none()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const WORDS: &[&str] = &[
        "run",
        "--rm",
        "--rm=yes",
        "-i",
        "-t",
        "-it",
        "--tty",
        "--read-only",
        "--init",
        "-e",
        "--env",
        "--env=A=B",
        "-eA=1",
        "A=B",
        "A",
        "-v",
        "/a:/b",
        "--volume=/a:/b:ro",
        "-w",
        "/x",
        "--workdir",
        "-u",
        "1:2",
        "--user=root",
        "--name",
        "one",
        "--name=",
        "--cpus",
        "0.5",
        "--cpus=2",
        "-m",
        "64m",
        "--memory=1g",
        "--hostname",
        "here",
        "--pids-limit",
        "50",
        "--pids-limit=-1",
        "--rootfs",
        "/r",
        "--rootfs=/r",
        "--network",
        "none",
        "--network=host",
        "--network=bridge",
        "--",
        "sh",
        "-c",
        "true",
        "",
        "--unknown",
        "--runtime-dir",
        "/run/x",
        "--work-dir=/w",
        "--work-dir",
        "../w",
        "ps",
        "--help",
        "--init=",
        "-",
        "=",
        "--cap-add",
        "ALL",
        "--ulimit=nofile=1:2",
        "-n",
        "--work_dir",
        "a=b=c",
        "-d",
        "--detach",
        "-dit",
        "--detach-keys",
        "--detach-keys=ctrl-a",
        "--socket",
        "--socket=/s",
        "/run/s",
    ];

    fn agree(args: &[&str]) -> bool {
        let given = args.iter().map(OsString::from);
        let Some(plain) = read(given.clone(), |_| None) else { return false };
        let all = std::iter::once(OsString::from("berth")).chain(given);
        let mut clap = Cli::try_parse_from(all.clone())
            .unwrap_or_else(|e| panic!("clap refuses {args:?}, which was read: {e}"));
        clap.mark(&all.collect::<Vec<_>>());
        assert_eq!(format!("{plain:?}"), format!("{clap:?}"), "{args:?}");
        true
    }

    #[test]
    fn what_is_read_is_what_clap_reads() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut read = 0;
        for _ in 0..40_000 {
            let mut args: Vec<&str> = (0..next(10)).map(|_| WORDS[next(WORDS.len())]).collect();
            if next(4) > 0 {
                args.insert(0, "run");
            }
            read += usize::from(agree(&args));
        }
        assert!(read > 500, "only {read} of the command lines were read here");
    }

    #[test]
    fn the_usual_ones_are_read_here() {
        for line in [
            "run true",
            "run --rm -- true",
            "--runtime-dir /a --work-dir=/b run --rm --network none --cpus 0.5 --memory 64m --pids-limit 50 --hostname x --rootfs /r -- true -x --y",
            "run -i -t -e A=B -v /a:/b --name n -u 1000:1000 -w /tmp --init --read-only --rootfs=/r sh -c ls",
        ] {
            assert!(agree(&line.split(' ').collect::<Vec<_>>()), "{line}");
        }
    }

    #[test]
    fn what_needs_the_agent_is_left_to_clap() {
        for line in ["run -d true", "run --detach -- true", "--socket /s run true", "run --socket=/s true"] {
            let args: Vec<&str> = line.split(' ').collect();
            assert!(read(args.iter().map(OsString::from), |_| None).is_none(), "{line}");
            let all = std::iter::once("berth").chain(args);
            let cli = Cli::try_parse_from(all).unwrap_or_else(|e| panic!("{line}: {e}"));
            let Command::Run(run) = cli.command else { panic!("{line}") };
            assert!(run.detach || cli.global.socket.is_some(), "{line}");
        }
    }

    #[test]
    fn the_environment_names_directories_too() {
        let variable = |name: &str| (name == "BERTH_WORK_DIR").then(|| OsString::from("/elsewhere"));
        let cli = read(["run", "true"].map(OsString::from), variable).expect("plain");
        assert_eq!(cli.global.work_dir, PathBuf::from("/elsewhere"));
        assert!(read(["run", "true"].map(OsString::from), |_| Some("relative".into())).is_none());
    }
}
