// SPDX-License-Identifier: Apache-2.0
//! The `berth` that is tested: the one that `BERTH_BIN` names, or one that is built here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// As in `.cargo/config.toml`.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As it ships.
    Plain,
    /// With its fault points.
    Faults,
}

/// The program to be tested.
///
/// It is built once, in a folder of its own below the target folder of these tests: that one is locked by the cargo that
/// runs them.
///
/// # Errors
/// It can not be built, in words.
pub fn berth(build: Build) -> Result<&'static Path, String> {
    static PLAIN: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    static FAULTS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = match build {
        Build::Plain => PLAIN.get_or_init(|| find("kernel", &[])),
        Build::Faults => FAULTS.get_or_init(|| find("faults", &["--features", "faults"])),
    };
    found.as_deref().map_err(Clone::clone)
}

fn find(folder: &str, features: &[&str]) -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("BERTH_BIN") {
        return std::path::absolute(&path).map_err(|e| format!("BERTH_BIN {}: {e}", path.display()));
    }
    let own = std::env::current_exe().map_err(|e| format!("who am I: {e}"))?;
    let target = own
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .ok_or_else(|| format!("{} is in no target folder of cargo", own.display()))?
        .join(folder);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.."))
        .args(["build", "--quiet", "--package", "berth"])
        .args(features)
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        .output()
        .map_err(|e| format!("start cargo: {e}"))?;
    if !built.status.success() {
        return Err(format!("building berth failed:\n{}", String::from_utf8_lossy(&built.stderr)));
    }
    Ok(target.join(TARGET).join("debug/berth"))
}
