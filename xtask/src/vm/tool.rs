// SPDX-License-Identifier: Apache-2.0
//! Running a tool for its output.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;

/// What it printed, when it succeeded.
pub(super) fn output(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command.output().map_err(|source| Error::Start { program: program.clone(), source })?;
    if !done.status.success() {
        let stderr = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(Error::Failed { program, status: done.status, stderr });
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// An error of a file operation, in words.
pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Vm { what: format!("{what} {}: {source}", path.display()) }
}

/// The first of a program's places on PATH or where administrators' programs are.
pub(super) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(program)).find(|file| file.is_file())
}
