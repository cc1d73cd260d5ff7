// SPDX-License-Identifier: Apache-2.0
//! Directories of one test, and `berth` in them.

use crate::berth;
use berth_conformance::Site;
use berth_store::{Store, StoreOptions};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The ground of one test. Dropped, it removes the containers and all else.
#[derive(Debug)]
pub struct Ground {
    site: Site,
    berth: PathBuf,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Done {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Done {
    /// What it wrote to stdout, when it succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn good(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:#?}");
        &self.stdout
    }

    /// Asserts that it failed, with all of these words on stderr.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn refused(&self, words: &[&str]) {
        assert!(self.code.is_some_and(|code| code != 0), "{self:#?}");
        let said = self.stderr.to_lowercase();
        assert!(words.iter().all(|word| said.contains(&word.to_lowercase())), "not {words:?}: {self:#?}");
        assert!(!said.contains("panicked"), "{self:#?}");
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Ground {
    /// Directories for a test.
    ///
    /// # Errors
    /// What this machine lacks.
    ///
    /// # Panics
    /// When `berth` can not be built.
    pub fn new(test: &str) -> Result<Ground, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("root".to_owned());
        }
        let berth = berth().unwrap_or_else(|e| panic!("{e}")).to_owned();
        let last = test.rsplit("::").next().unwrap_or(test);
        let site = Site::new(&format!("i-{}", &last[..last.len().min(24)])).unwrap_or_else(|e| panic!("{e}"));
        Ok(Ground { site, berth })
    }

    /// A path of this ground, outside of all that is berth's. Nothing is made there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.site.sandboxes().join(name)
    }

    /// A new directory there.
    ///
    /// # Panics
    /// When it can not be made.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
        path
    }

    /// `--runtime-dir`.
    pub fn runtime_dir(&self) -> PathBuf {
        self.site.runtime_dir()
    }

    /// `--work-dir`.
    pub fn work_dir(&self) -> PathBuf {
        self.site.work_dir()
    }

    /// `berth` with this ground's directories.
    pub fn command(&self) -> Command {
        self.command_in(&self.work_dir())
    }

    /// The same with another work directory.
    pub fn command_in(&self, work: &Path) -> Command {
        let mut command = Command::new(&self.berth);
        command.arg("--runtime-dir").arg(self.runtime_dir()).arg("--work-dir").arg(work);
        command.stdin(Stdio::null()).env("BERTH_REGISTRIES_DIR", self.path("etc"));
        command.env_remove("BERTH_TIMINGS").env("HOME", "/nonexistent");
        command
    }

    /// `berth` with these arguments, to its end.
    ///
    /// # Panics
    /// When it can not be started.
    #[track_caller]
    pub fn berth(&self, args: &[&str]) -> Done {
        self.done(self.command().args(args))
    }

    /// A command to its end.
    ///
    /// # Panics
    /// When it can not be started.
    #[track_caller]
    pub fn done(&self, command: &mut Command) -> Done {
        command.output().unwrap_or_else(|e| panic!("start {command:?}: {e}")).into()
    }

    /// The store of this ground, as `berth` has it.
    ///
    /// # Panics
    /// When it can not be opened.
    pub fn store(&self) -> Store {
        let path = self.work_dir().join("store");
        Store::open(&path, StoreOptions::default()).unwrap_or_else(|e| panic!("open {}: {e}", path.display()))
    }

    /// Asserts that nothing is under way or wrong in the store.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn is_sound(&self) {
        let store = self.work_dir().join("store");
        for empty in ["staging", "trash", "leases"] {
            let left: Vec<_> = fs::read_dir(store.join(empty)).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "in {empty}: {left:?}");
        }
        let fsck = self.berth(&["image", "fsck", "--dry-run"]);
        assert!(fsck.good().starts_with("sound: "), "{fsck:#?}");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let listed = self.command().args(["ps", "-aq", "--no-trunc"]).output();
        let names = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for name in names.unwrap_or_default().lines() {
            let _ = self.command().args(["rm", "-f", name]).output();
        }
        // Its group's directory in each hierarchy, which all of its containers shared.
        let instance = fs::read_to_string(self.runtime_dir().join("instance")).unwrap_or_default();
        let id =
            instance.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() >= 8).map(str::to_owned);
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let berth = hierarchy.path().join("berth");
            if let Some(id) = &id {
                let _ = fs::remove_dir(berth.join(OsStr::new(id)));
            }
            let _ = fs::remove_dir(berth);
        }
    }
}
