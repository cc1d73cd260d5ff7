// SPDX-License-Identifier: Apache-2.0
//! A control group for what a tool starts. A template is a script of somebody's: what it leaves in the background, in a
//! session of its own or a child of init's, is still in there, and goes when the tool has ended or is to end.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use berth_cgroup::{Controller, Group, Hierarchies, Limits};

/// How long the killed may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A group that is emptied and removed when it is dropped.
#[derive(Debug)]
pub struct Kennel(Group);

impl Kennel {
    /// Makes the group `path`; none where this host or user can not have it.
    pub fn new(path: &str) -> Option<Kennel> {
        let hierarchies = Hierarchies::probe(Path::new("/sys/fs/cgroup")).ok()?;
        match Group::create(&hierarchies, path, &[Controller::Pids], &Limits::default()) {
            Ok(group) => Some(Kennel(group)),
            Err(berth_cgroup::Error::Exists { .. }) => {
                // Left by one who was killed. Nobody else gives this name.
                drop(Group::open(&hierarchies, path).ok().map(Kennel));
                Group::create(&hierarchies, path, &[Controller::Pids], &Limits::default()).ok().map(Kennel)
            }
            Err(_) => None,
        }
    }

    /// Ends what an earlier kennel of this path holds.
    pub fn empty(path: &str) {
        let hierarchies = Hierarchies::probe(Path::new("/sys/fs/cgroup"));
        drop(hierarchies.ok().and_then(|all| Group::open(&all, path).ok()).map(Kennel));
    }

    /// Ends what kennels hold whose maker was killed: those in the group `above` named `prefix` and the maker's pid.
    pub fn collect(above: &str, prefix: &str) {
        let root = Path::new(Hierarchies::ROOT);
        let places = ["pids", "unified", ""].map(|hierarchy| root.join(hierarchy).join(above));
        for entry in places.iter().flat_map(fs::read_dir).flatten().flatten() {
            let name = entry.file_name();
            let maker = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
            if maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                Kennel::empty(&format!("{above}/{prefix}{}", maker.unwrap_or_default()));
            }
        }
    }

    /// Where a process writes `0` to be in it; none if it takes more than one.
    pub(crate) fn entrance(&self) -> Option<OwnedFd> {
        let mut entrances = self.0.join_fds().ok()?;
        let one = entrances.pop()?;
        entrances.is_empty().then_some(one)
    }

    /// Ends everybody in it.
    pub fn kill(&self) {
        if let Err(error) = self.0.kill_all(Instant::now() + PATIENCE) {
            eprintln!("berth: lxc: {error}");
        }
    }
}

impl Drop for Kennel {
    fn drop(&mut self) {
        self.kill();
        if let Err(error) = self.0.remove(Instant::now() + PATIENCE) {
            eprintln!("berth: lxc: {error}");
        }
    }
}
