// SPDX-License-Identifier: Apache-2.0
//! The ground that one test stands on: directories, a name that nothing else on the host has, and whatever of
//! a containerizer's world has to outlive the containerizer itself.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ledger::Scope;

/// Directories and a name of its own for one test; everything is removed when it is dropped.
#[derive(Debug)]
pub struct Site {
    root: PathBuf,
    marker: String,
    kept: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

static SITES: AtomicU64 = AtomicU64::new(0);

impl Site {
    /// Makes `<tmp>/berth-<name>-<pid>-<n>/{work,run,sandboxes}`.
    pub fn new(name: &str) -> io::Result<Site> {
        let number = SITES.fetch_add(1, Ordering::Relaxed);
        // None is the beginning of another: what bears a marker is found by its text.
        let marker = format!("berth-{name}-{}-{number:03}", std::process::id());
        let root = std::env::temp_dir().join(&marker);
        // Left by a process with the same id in an earlier life, if it is there at all.
        let _ = fs::remove_dir_all(&root);
        let site = Site { root, marker, kept: Mutex::new(HashMap::new()) };
        for directory in [site.work_dir(), site.runtime_dir(), site.sandboxes()] {
            fs::create_dir_all(&directory)?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        }
        Ok(site)
    }

    /// For `--work_dir`.
    pub fn work_dir(&self) -> PathBuf {
        self.root.join("work")
    }

    /// For `--runtime_dir`.
    pub fn runtime_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Where the tests make sandboxes, as an agent would.
    pub fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    /// A text that only this site has: put it into names, environments and labels, and the ledger finds them.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The cgroup that everything of this site belongs below, in every hierarchy, without a slash in front.
    pub fn cgroup(&self) -> PathBuf {
        Path::new("berth").join(&self.marker)
    }

    /// What the ledger looks at for this site, beside others.
    pub fn scope(&self) -> Scope {
        let directories = [self.work_dir(), self.runtime_dir(), self.sandboxes()];
        Scope::new(self.marker.clone(), directories).with_cgroup(self.cgroup())
    }

    /// Something that stays when a containerizer on this site is dropped and the next one is made, as the
    /// host does: made at the first call, the same afterwards.
    pub fn keep<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let held = kept.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        match Arc::clone(held).downcast() {
            Ok(held) => held,
            Err(_) => unreachable!("a value is kept under its own type only"),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // A mount that a failing test left may show the host's own files; removing would delete those.
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if table.contains(&self.marker) {
            eprintln!("{} is kept: something is still mounted in it", self.root.display());
            return;
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_share_nothing_and_go_with_their_directories() {
        let one = Site::new("site").unwrap();
        let two = Site::new("site").unwrap();
        assert_ne!(one.marker(), two.marker());
        let root = one.root.clone();
        assert!(root.join("work").is_dir());
        drop(one);
        assert!(!root.exists());
        assert!(two.work_dir().is_dir());
    }

    #[test]
    fn what_is_kept_is_one_thing_for_everybody() {
        let site = Site::new("kept").unwrap();
        *site.keep::<Mutex<u8>>().lock().unwrap() = 7;
        assert_eq!(*site.keep::<Mutex<u8>>().lock().unwrap(), 7);
    }
}
