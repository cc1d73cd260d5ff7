// SPDX-License-Identifier: Apache-2.0
//! Everything that the bench makes on the host, and its removal.
//!
//! ```text
//! <disk>/berthbench-<pid>/       bin/ (floor, floor-nolibc, empty, ...)   filter
//!                                disk/ and tmpfs/ (a mount), each a stage:
//!                                rootfs/ floor/ work/ bundle-<n>/ state/ (always a tmpfs, as /run is: run/ crun/ runc/)
//! /sys/fs/cgroup/<controller>/berthbench-<pid>/     parent of the groups of the floor program, crun and runc
//! ```
//!
//! A [`Site`] removes all of it when dropped. What a bench that was killed left behind, the next one removes:
//! the pid in the name says whose it was.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, io, process};

use berth_seccomp::{Profile, caps};
use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;
use crate::{compile, namespace, plan};

const PREFIX: &str = "berthbench-";
const HIERARCHIES: &str = "/sys/fs/cgroup";

/// The scratch folder, the groups and the stages.
#[derive(Debug)]
pub(crate) struct Site {
    folder: PathBuf,
    name: String,
    pub(crate) stages: Vec<Stage>,
}

/// A root filesystem and room for state on one kind of storage.
#[derive(Debug)]
pub(crate) struct Stage {
    /// "tmpfs", "disk" or the folder that was asked for.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// Whether the floor program mounts its overlay `volatile`: it saves a sync where there is a disk.
    pub(crate) volatile: bool,
}

impl Site {
    /// Makes everything. `storage` is the one folder to measure on; without it a tmpfs and a folder below `disk`.
    pub(crate) fn create(disk: &Path, storage: Option<&Path>) -> Result<Site, Error> {
        let home = storage.unwrap_or(disk);
        sweep(home);
        let name = format!("{PREFIX}{}", process::id());
        let folder = home.join(&name);
        make_folder(&folder)?;
        // From here on the drop of `site` undoes whatever has been done.
        let mut site = Site { folder, name, stages: Vec::new() };
        site.create_groups()?;
        make_folder(&site.bin())?;
        compile::all(&site.bin())?;
        site.write_filter()?;
        if let Some(storage) = storage {
            site.add_stage("storage", storage.display().to_string())?;
        } else {
            site.add_stage("tmpfs", "tmpfs".to_owned())?;
            site.add_stage("disk", "disk".to_owned())?;
        }
        Ok(site)
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// The raw instructions of the default profile, for the floor program.
    pub(crate) fn filter(&self) -> PathBuf {
        self.folder.join("filter")
    }

    /// The parent group, relative to each hierarchy.
    pub(crate) fn group(&self) -> &str {
        &self.name
    }

    fn create_groups(&self) -> Result<(), Error> {
        for controller in plan::CONTROLLERS {
            let hierarchy = Path::new(HIERARCHIES).join(controller);
            if !hierarchy.join("tasks").exists() {
                return Err(Error::NoHierarchy(controller));
            }
            make_folder(&hierarchy.join(&self.name))?;
        }
        Ok(())
    }

    fn write_filter(&self) -> Result<(), Error> {
        let program = Profile::default_profile().compile(caps::DOCKER_DEFAULT).map_err(Error::Seccomp)?;
        fs::write(self.filter(), program.as_bytes()).map_err(Error::file("write", self.filter()))
    }

    fn add_stage(&mut self, folder: &str, name: String) -> Result<(), Error> {
        let folder = self.folder.join(folder);
        make_folder(&folder)?;
        let on_tmpfs = name == "tmpfs";
        if on_tmpfs {
            namespace::mount_tmpfs(&folder)?;
        }
        let stage = Stage { name, folder, volatile: !on_tmpfs };
        for part in ["floor", "work", "state"] {
            make_folder(&stage.folder.join(part))?;
        }
        if !on_tmpfs {
            namespace::mount_tmpfs(&stage.folder.join("state"))?;
        }
        for runtime in ["run", "crun", "runc"] {
            make_folder(&stage.state(runtime))?;
        }
        stage.fill_rootfs()?;
        self.stages.push(stage);
        Ok(())
    }
}

impl Stage {
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// Where a runtime keeps what is lost on reboot.
    pub(crate) fn state(&self, runtime: &str) -> PathBuf {
        self.folder.join("state").join(runtime)
    }

    /// The bundle of that name for crun or runc, with this configuration.
    pub(crate) fn bundle(&self, name: &str, config: &serde_json::Value) -> Result<PathBuf, Error> {
        let folder = self.folder.join(format!("bundle-{name}"));
        fs::create_dir_all(&folder).map_err(Error::file("make", folder.clone()))?;
        let file = folder.join("config.json");
        fs::write(&file, config.to_string()).map_err(Error::file("write", file))?;
        Ok(folder)
    }

    /// Busybox and the directories that get something mounted on them.
    fn fill_rootfs(&self) -> Result<(), Error> {
        let rootfs = self.rootfs();
        for part in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            let folder = rootfs.join(part);
            fs::create_dir_all(&folder).map_err(Error::file("make", folder.clone()))?;
        }
        let busybox = find_program("busybox").ok_or(Error::NoBusybox("busybox"))?;
        fs::copy(&busybox, rootfs.join("bin/busybox")).map_err(Error::file("copy", busybox))?;
        for applet in
            ["true", "sh", "sleep", "cat", "ls", "grep", "awk", "sort", "sed", "hostname", "tr", "head", "wc"]
        {
            let link = rootfs.join("bin").join(applet);
            symlink("busybox", &link).map_err(Error::file("link", link.clone()))?;
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for problem in remove_groups(&self.name) {
            eprintln!("berth-bench: {problem}");
        }
        if let Err(error) = remove_folder(&self.folder) {
            eprintln!("berth-bench: remove {}: {error}; remove it by hand", self.folder.display());
        }
    }
}

/// The first executable of that name on the path, or where Debian keeps programs for root.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::create_dir(folder).map_err(Error::file("make", folder))
}

/// Unmounts what is mounted below first, so that the removal never leaves the file system it is on.
fn remove_folder(folder: &Path) -> io::Result<()> {
    namespace::unmount_below(folder)?;
    fs::remove_dir_all(folder)
}

/// Removes what benches that no longer run left on this disk and in the hierarchies.
fn sweep(home: &Path) {
    let is_dead = |name: &str| {
        let pid = name.strip_prefix(PREFIX).filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()));
        pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    for name in names_in(home).into_iter().filter(|name| is_dead(name)) {
        if let Err(error) = remove_folder(&home.join(&name)) {
            eprintln!("berth-bench: remove {} of an earlier run: {error}", home.join(name).display());
        }
    }
    let mut stale: Vec<String> =
        hierarchies().iter().flat_map(|folder| names_in(folder)).filter(|name| is_dead(name)).collect();
    stale.sort_unstable();
    stale.dedup();
    for problem in stale.iter().flat_map(|name| remove_groups(name)) {
        eprintln!("berth-bench: {problem}");
    }
}

/// Every v1 hierarchy: crun and runc make their groups in all of them.
fn hierarchies() -> Vec<PathBuf> {
    let folders = names_in(Path::new(HIERARCHIES)).into_iter().map(|name| Path::new(HIERARCHIES).join(name));
    folders.filter(|folder| folder.join("tasks").is_file()).collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Ends what still runs in our groups and removes them from every hierarchy. Returns what could not be removed.
fn remove_groups(name: &str) -> Vec<String> {
    hierarchies()
        .iter()
        .map(|hierarchy| hierarchy.join(name))
        .filter(|group| group.is_dir())
        .filter_map(|group| {
            remove_group(&group).err().map(|error| format!("remove {}: {error}", group.display()))
        })
        .collect()
}

/// Children first. A group with a dying process is busy for a moment: tried again until a deadline.
fn remove_group(group: &Path) -> io::Result<()> {
    for child in names_in(group).iter().map(|name| group.join(name)).filter(|path| path.is_dir()) {
        remove_group(&child)?;
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let members = fs::read_to_string(group.join("cgroup.procs"))?;
        for pid in members.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
            // It may have ended by itself in between; whether it is gone, the removal tells.
            let _ = kill_process(pid, Signal::KILL);
        }
        match fs::remove_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}
