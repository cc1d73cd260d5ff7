// SPDX-License-Identifier: Apache-2.0
//! LXC's tools on this terminal: its words and exit codes as they are.

use super::failed;
use crate::exit::Failure;
use berth_factory::lxc::{Call, Change, Half, Name, log_errors};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

/// Runs it here. Signals of the terminal reach it as they reach us.
pub(crate) fn on(call: Call<'_>) -> Result<u8, Failure> {
    let mut command = call.command().map_err(|error| failed(&error))?;
    run(&mut command)
}

/// The same for what changes one container, by a mark that tells of one who is killed meanwhile.
pub(crate) fn changing(call: Call<'_>, half: Half, change: Change) -> Result<u8, Failure> {
    let code = half.command(&call, change).map_err(|error| failed(&error)).and_then(|mut it| run(&mut it))?;
    match (code, change) {
        (0, _) => half.end(),
        (_, Change::Copy) => {
            half.take_back().map_err(|error| failed(&error).code(1))?;
            half.end();
        }
        // Of one that was killed what is there now is not known; the next command sees to it.
        (128.., Change::Destroy) => {}
        (_, Change::Destroy) => half.end(),
    }
    Ok(code)
}

fn run(command: &mut Command) -> Result<u8, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| Failure::text(format!("start {program}: {error}")))?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}

/// The same with a log of its own, whose errors are told when it fails.
pub(crate) fn with_log(call: Call<'_>, words: &[String], name: &Name) -> Result<u8, Failure> {
    let log = Scratch::new("log", b"")?;
    let call = call.option("--logfile=", &log.0).option("--logpriority=", "ERROR").words(words);
    let code = on(call)?;
    if code != 0 {
        let text = std::fs::read(&log.0).unwrap_or_default();
        let words = log_errors(&text);
        if !words.is_empty() {
            super::remark(&format!("LXC's log of '{name}' says: {words}"));
        }
    }
    Ok(code)
}

/// A file for one command.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// With this in it, for us alone.
    pub(crate) fn new(kind: &str, content: &[u8]) -> Result<Scratch, Failure> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let failed =
            |path: &std::path::Path, error| Failure::text(format!("make {}: {error}", path.display()));
        for round in 0..100u32 {
            let path = std::env::temp_dir().join(format!("berth-lxc-{}-{round}.{kind}", std::process::id()));
            let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            match made {
                Ok(mut file) => {
                    let scratch = Scratch(path);
                    file.write_all(content).map_err(|error| failed(&scratch.0, error))?;
                    return Ok(scratch);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path, error)),
            }
        }
        Err(Failure::text(
            "make a file for LXC: too many of our name are in the directory for temporary files",
        ))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
