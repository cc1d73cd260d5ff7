// SPDX-License-Identifier: Apache-2.0
//! The control groups of a container: what is set in them, and whether somebody writes to them.

use rustix::fs::inotify;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files that count or measure, although they can be written to.
const MEASURES: [&str; 6] = ["usage", "failcnt", "force_empty", "events", "stat", "pressure"];

/// The control groups of some containers, in all hierarchies.
#[derive(Debug)]
pub struct Groups(Vec<PathBuf>);

impl Groups {
    /// Those of a container: `path` is that below any hierarchy.
    pub fn of(path: &Path) -> Groups {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        // Links (cpu → cpu,cpuacct) would count a hierarchy twice; file_type does not follow them.
        let hierarchies = hierarchies.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let roots = hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
        Groups(roots.map(|root| root.join(path)).filter(|group| group.is_dir()).collect())
    }

    /// Their directories.
    pub fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    /// What the files hold that can be set, by their paths.
    pub fn settings(&self) -> BTreeMap<PathBuf, String> {
        let files = self.0.iter().flat_map(|group| fs::read_dir(group).into_iter().flatten().flatten());
        let settings = files.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let mode = entry.metadata().ok().filter(fs::Metadata::is_file)?.permissions().mode();
            let is_set = mode & 0o600 == 0o600 && !MEASURES.iter().any(|word| name.contains(word));
            // Some can not be read for a while; what can not be read now is not compared.
            is_set.then(|| Some((entry.path(), fs::read_to_string(entry.path()).ok()?)))?
        });
        settings.collect()
    }

    /// The processes in them and in groups below them: on cgroup v2 that is where those of a session are.
    pub fn processes(&self) -> Vec<u32> {
        let mut groups = self.0.clone();
        let mut next = 0;
        while let Some(group) = groups.get(next) {
            let below = fs::read_dir(group).into_iter().flatten().flatten();
            let below = below.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
            let below: Vec<PathBuf> = below.map(|e| e.path()).collect();
            groups.extend(below);
            next += 1;
        }
        let files = groups.iter().map(|group| fs::read_to_string(group.join("cgroup.procs")));
        let mut all: Vec<u32> = files
            .flatten()
            .flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether there are any.
    pub fn are_there(&self) -> bool {
        self.0.iter().any(|group| group.is_dir())
    }
}

/// Sees who closes a control file that was open for writing. (Their modification times tell nothing: the kernel
/// changes them at no write.)
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    groups: BTreeMap<i32, PathBuf>,
}

impl Watch {
    /// Watches from now on.
    ///
    /// # Panics
    /// It can not.
    pub fn over<'a>(all: impl IntoIterator<Item = &'a Groups>) -> Watch {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).unwrap_or_else(|e| panic!("inotify: {e}"));
        let mut groups = BTreeMap::new();
        for group in all.into_iter().flat_map(|groups| &groups.0) {
            let what = inotify::WatchFlags::CLOSE_WRITE
                | inotify::WatchFlags::ATTRIB
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::DELETE;
            let watch = inotify::add_watch(&inotify, group, what);
            groups.insert(watch.unwrap_or_else(|e| panic!("watch {}: {e}", group.display())), group.clone());
        }
        Watch { inotify, groups }
    }

    /// What was written to since the last look, but for `cgroup.event_control`: a listener of v1 registers there (each agent
    /// anew, for the registration goes with who made it), and nothing of the group changes by that.
    pub fn written(&self) -> Vec<String> {
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut room);
        let mut all = Vec::new();
        loop {
            match events.next() {
                Ok(event) => {
                    let group = self.groups.get(&event.wd()).map(PathBuf::as_path).unwrap_or(Path::new("?"));
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                    if name.as_deref() == Some("cgroup.event_control") {
                        continue;
                    }
                    all.push(format!("{}/{}", group.display(), name.unwrap_or_default()));
                }
                Err(Errno::AGAIN) => return all,
                Err(e) => panic!("read inotify: {e}"),
            }
        }
    }
}
