// SPDX-License-Identifier: Apache-2.0
//! The workspace as cargo and git see it: its members with their dependencies, and its files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::Error;

/// The members of the workspace and where it is.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) members: Vec<Member>,
}

/// One crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Relative to the root, with slashes: `crates/base/model`.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// The names of its test programs.
    pub(crate) tests: Vec<String>,
}

/// What a crate depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The folder, when it is a crate of this workspace.
    pub(crate) folder: Option<String>,
}

/// The table of Cargo.toml that names the dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

impl Workspace {
    /// Asks `cargo metadata` (format version 1), without resolving what is outside.
    pub(crate) fn open() -> Result<Workspace, Error> {
        let output = output(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
        Workspace::parse(&output)
    }

    fn parse(json: &[u8]) -> Result<Workspace, Error> {
        let metadata: Metadata = serde_json::from_slice(json).map_err(Error::Metadata)?;
        let root = metadata.workspace_root;
        let folder = |path: &Path| path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
        let dependency = |d: &MetadataDependency| Dependency {
            name: d.name.clone(),
            kind: match d.kind.as_deref() {
                Some("dev") => Kind::Dev,
                Some("build") => Kind::Build,
                _ => Kind::Normal,
            },
            folder: d.path.as_deref().map(folder),
        };
        let members = metadata
            .packages
            .iter()
            .map(|p| Member {
                name: p.name.clone(),
                folder: folder(p.manifest_path.parent().unwrap_or(&root)),
                dependencies: p.dependencies.iter().map(dependency).collect(),
                tests: p.targets.iter().filter(|t| t.kind == ["test"]).map(|t| t.name.clone()).collect(),
            })
            .collect();
        Ok(Workspace { root, members })
    }

    /// The files that git tracks, and those that it would track if they were added; relative to the root.
    ///
    /// `safe.directory`: a checkout in CI often belongs to another user than the one that runs the check.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let listed = output(
            Command::new("git")
                .args([
                    "-c",
                    "safe.directory=*",
                    "ls-files",
                    "-z",
                    "--cached",
                    "--others",
                    "--exclude-standard",
                ])
                .current_dir(&self.root),
        )?;
        let mut files: Vec<PathBuf> = String::from_utf8_lossy(&listed)
            .split_terminator('\0')
            .map(PathBuf::from)
            .filter(|file| self.root.join(file).is_file())
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// A file of the workspace as text; bytes that are no UTF-8 are replaced.
    pub(crate) fn read(&self, file: &Path) -> Result<String, Error> {
        let path = self.root.join(file);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(source) => Err(Error::Read { path, source }),
        }
    }
}

/// The cargo that runs us, or the one on PATH, as a shell would start it.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_xtask(&mut command);
    command
}

/// Takes from a command what cargo told us of this program. Some crates' build scripts (ring's) ask to be run again when that
/// has changed, and half of everything is built again with them.
pub(crate) fn forget_xtask(command: &mut Command) {
    let is_ours = |name: &str| {
        let names =
            ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
        names.contains(&name)
            || ["CARGO_PKG_", "CARGO_BIN_"].iter().any(|begin| name.starts_with(begin))
            || ["OUT_DIR", "RUST_RECURSION_COUNT"].contains(&name)
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_ours) {
            command.env_remove(name);
        }
    }
}

/// True when `cargo NAME` is installed. A rustup proxy without its component exists and fails.
pub(crate) fn has_cargo_command(name: &str) -> bool {
    let mut probe = cargo();
    probe.args([name, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

fn output(command: &mut Command) -> Result<Vec<u8>, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed { program, status: output.status, stderr })
}

// The part of cargo's format that we read.
// https://doc.rust-lang.org/cargo/commands/cargo-metadata.html#json-format

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<MetadataDependency>,
    #[serde(default)]
    targets: Vec<MetadataTarget>,
}

#[derive(Deserialize)]
struct MetadataTarget {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct MetadataDependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_not_told_of_this_program() {
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some(), "cargo tells a test of its crate");
        let told = cargo();
        let removed: Vec<_> =
            told.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        for name in ["CARGO_PKG_NAME", "CARGO_PKG_VERSION", "CARGO_MANIFEST_DIR"] {
            assert!(removed.contains(&name.as_ref()), "{name}: {removed:?}");
        }
        assert!(!removed.contains(&"CARGO_HOME".as_ref()) && !removed.contains(&"PATH".as_ref()));
    }

    #[test]
    fn metadata_gives_folders_kinds_and_which_dependencies_are_ours() {
        let json = br#"{"workspace_root": "/w", "packages": [
            {"name": "berth-record", "manifest_path": "/w/crates/base/record/Cargo.toml",
             "targets": [{"name": "berth_record", "kind": ["lib"]}, {"name": "host", "kind": ["test"]}], "dependencies": [
                {"name": "berth-model", "kind": null, "path": "/w/crates/base/model"},
                {"name": "serde", "kind": null},
                {"name": "tempfile", "kind": "dev"},
                {"name": "cc", "kind": "build"}]}]}"#;
        let workspace = Workspace::parse(json).unwrap();
        let member = &workspace.members[0];
        assert_eq!(member.folder, "crates/base/record");
        assert_eq!(member.tests, ["host"]);
        let seen: Vec<_> =
            member.dependencies.iter().map(|d| (d.name.as_str(), d.kind, d.folder.as_deref())).collect();
        assert_eq!(
            seen,
            [
                ("berth-model", Kind::Normal, Some("crates/base/model")),
                ("serde", Kind::Normal, None),
                ("tempfile", Kind::Dev, None),
                ("cc", Kind::Build, None)
            ]
        );
    }
}
