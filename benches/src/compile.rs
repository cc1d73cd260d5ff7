// SPDX-License-Identifier: Apache-2.0
//! The yardsticks in C, compiled anew for every run so that the figures belong to the source beside them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::Error;

const FLOOR: &str = include_str!("../floor/floor.c");
const EMPTY: &str = include_str!("../floor/empty.c");
const STATIC: [&str; 3] = ["-O2", "-static", "-no-pie"];
const NO_LIBC: [&str; 4] = ["-nostdlib", "-ffreestanding", "-fno-stack-protector", "-DFREESTANDING"];

/// Makes `floor`, `floor-nolibc`, `empty` and `empty-nolibc` in `folder`.
pub(crate) fn all(folder: &Path) -> Result<(), Error> {
    for (name, source) in [("floor", FLOOR), ("empty", EMPTY)] {
        let file = folder.join(name).with_extension("c");
        fs::write(&file, source).map_err(Error::file("write", file.clone()))?;
        one(&file, &folder.join(name), &[])?;
        one(&file, &folder.join(format!("{name}-nolibc")), &NO_LIBC)?;
    }
    Ok(())
}

fn one(source: &Path, program: &Path, more: &[&str]) -> Result<(), Error> {
    let output =
        Command::new("cc").args(STATIC).args(more).arg("-o").args([program, source]).output().map_err(
            |source| Error::Start { program: "cc (install gcc and libc6-dev)".to_owned(), source },
        )?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        program: "cc".to_owned(),
        when: format!("compiling {}", source.display()),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
