// SPDX-License-Identifier: Apache-2.0
//! Control groups: which controllers, of which version, and whether we may use them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use berth_cgroup::{Controller, Hierarchies, Mode, Version};
use berth_sys::probe::{Sleeper, UserNamespace};
use berth_sys::process::Namespaces;
use berth_sys::rustix::fs::{Access, access};

use super::{Found, Probe, Site, Subject};

const fn group(name: &'static str, needed: bool, cost: &'static str, look: fn(&Site) -> Found) -> Probe {
    Probe { subject: Subject::Cgroups, name, needed, cost, look }
}

pub(super) const PROBES: &[Probe] = &[
    group("hierarchies", true, "no limits, and no sure end of a container's processes", |_| {
        probe().map(|found| mode(found.mode())).into()
    }),
    group("controller cpu", true, "limits on processor time are refused", |_| controller(Controller::Cpu)),
    group("controller cpuacct", false, "the processor time of a container is not reported", |_| {
        controller(Controller::Cpuacct)
    }),
    group("controller memory", true, "limits on memory are refused", |_| controller(Controller::Memory)),
    group("controller pids", true, "limits on processes are refused", |_| controller(Controller::Pids)),
    group("controller devices", true, "containers that may make device files are refused", |_| devices()),
    group("controller cpuset", false, "lists of processors and memory nodes are refused", |_| {
        controller(Controller::Cpuset)
    }),
    group("controller io", false, "limits on disks are refused", |_| controller(Controller::Io)),
    group("weights for disks", false, "a weight for disks is refused", |_| weights()),
    group("controller hugetlb", false, "limits on huge pages are refused", |_| {
        controller(Controller::Hugetlb)
    }),
    group(
        "controller net_cls",
        false,
        "packets can not be marked (--cgroups_net_cls_primary_handle)",
        |_| controller(Controller::NetCls),
    ),
    group("controller perf_event", false, "the isolator cgroups/perf_event is refused", |_| {
        controller(Controller::PerfEvent)
    }),
    group("delegation", true, "no limits: control groups can not be made here", |_| delegation().into()),
    group("clone3 into a group", false, "a process is moved after its start, which is slower", |_| {
        in_unified(|path| {
            let dir = File::open(path).map_err(|error| format!("open {}: {error}", path.display()))?;
            let child = Sleeper::start(Namespaces::default(), UserNamespace::Shared, Some(dir.as_fd()));
            let child = child.map_err(|errno| format!("clone3: {errno}"))?;
            let held = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            let inside = held.lines().any(|line| line == child.pid().to_string());
            if inside {
                Ok("a process was born in one".to_owned())
            } else {
                Err("the process is elsewhere".to_owned())
            }
        })
    }),
    group("cgroup.kill", false, "the processes of a group are ended one by one", |_| {
        in_unified(|path| match path.join("cgroup.kill").exists() {
            true => Ok("a whole group is ended at once".to_owned()),
            false => Err("the kernel has no such file".to_owned()),
        })
    }),
    group("memory.reclaim", false, "a lower memory limit makes room more slowly (cgroup v2)", |_| {
        in_unified(|path| {
            let root = path.parent().unwrap_or(path);
            let enabled = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            match path.join("memory.reclaim").exists() || root.join("memory.reclaim").exists() {
                true => Ok("room is asked for".to_owned()),
                false if !enabled.split_ascii_whitespace().any(|name| name == "memory") => {
                    Err("the v2 hierarchy has no memory controller".to_owned())
                }
                false => Err("the kernel has no such file".to_owned()),
            }
        })
    }),
    group(
        "favordynmods",
        false,
        "joining a v1 group from outside waits for the kernel; berth joins from inside",
        |_| favordynmods(),
    ),
];

fn probe() -> Result<Hierarchies, String> {
    Hierarchies::probe(Path::new(Hierarchies::ROOT)).map_err(|error| error.to_string())
}

fn mode(mode: Mode) -> String {
    match mode {
        Mode::V1 => "v1",
        Mode::V2 => "v2",
        Mode::Hybrid => "v1, and v2 beside it",
    }
    .to_owned()
}

fn controller(controller: Controller) -> Found {
    let hierarchies = match probe() {
        Ok(hierarchies) => hierarchies,
        Err(why) => return Found::Missing(why),
    };
    match hierarchies.version_of(controller) {
        Some(Version::V1) => Found::there(format!(
            "v1, at {}",
            hierarchies.root().join(controller.name_on(Version::V1)).display()
        )),
        Some(Version::V2) => Found::there("v2"),
        None => Found::Missing("no hierarchy has it".to_owned()),
    }
}

/// On v2 a program, which has to be taken by the kernel.
fn devices() -> Found {
    let found = controller(Controller::Devices);
    let is_v2 = probe().is_ok_and(|all| all.version_of(Controller::Devices) == Some(Version::V2));
    match berth_cgroup::probe_device_filter() {
        Ok(()) if is_v2 => Found::there("v2, by a program that the kernel takes"),
        Err(error) if is_v2 => Found::Missing(said(&error)),
        _ => found,
    }
}

/// An error with what the kernel said.
fn said(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Which disks heed them.
fn weights() -> Found {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let heeds = |path: &Path| {
        fs::read_to_string(path.join("queue/scheduler")).is_ok_and(|text| text.contains("[bfq]"))
    };
    let names: Vec<String> = disks
        .filter(|disk| heeds(&disk.path()))
        .map(|disk| disk.file_name().to_string_lossy().into_owned())
        .collect();
    match names.is_empty() {
        true => Found::Missing(
            "no disk has the scheduler bfq (write it to /sys/block/DISK/queue/scheduler)".to_owned(),
        ),
        false => Found::there(format!("by the scheduler bfq of {}", names.join(", "))),
    }
}

/// The roots of the hierarchies that controllers are used in.
fn roots() -> Result<Vec<(PathBuf, Version)>, String> {
    let hierarchies = probe()?;
    let mut roots = Vec::new();
    for controller in Controller::ALL {
        let root = match hierarchies.version_of(controller) {
            Some(Version::V1) => (hierarchies.root().join(controller.name()), Version::V1),
            Some(Version::V2) => (unified(&hierarchies).ok_or("no v2 hierarchy")?, Version::V2),
            None => continue,
        };
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

fn unified(hierarchies: &Hierarchies) -> Option<PathBuf> {
    match hierarchies.mode() {
        Mode::V1 => None,
        Mode::V2 => Some(hierarchies.root().to_owned()),
        Mode::Hybrid => Some(hierarchies.root().join("unified")),
    }
}

/// A group of this process's own, removed at the end.
struct Group(PathBuf);

impl Group {
    fn make(root: &Path) -> Result<Group, String> {
        let path = root.join(format!("berth-probe-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("make {}: {error}", path.display()))?;
        Ok(Group(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process has been reaped; the kernel may need a moment to notice.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// Whether a group can be made in each hierarchy, and joined. Controllers of v2 are not switched on for it: that
/// would stay.
fn delegation() -> Result<String, String> {
    let mut count = 0;
    for (root, version) in roots()? {
        let group = Group::make(&root)?;
        let (join, above) = match version {
            Version::V1 => (group.0.join("tasks"), None),
            Version::V2 => (group.0.join("cgroup.procs"), Some(root.join("cgroup.subtree_control"))),
        };
        for file in [Some(join), above].into_iter().flatten() {
            access(&file, Access::WRITE_OK).map_err(|errno| format!("write {}: {errno}", file.display()))?;
        }
        count += 1;
    }
    match count {
        0 => Err("no hierarchy has a controller that berth uses".to_owned()),
        1 => Ok("a group was made".to_owned()),
        count => Ok(format!("a group was made in each of {count} hierarchies")),
    }
}

fn in_unified(act: impl FnOnce(&Path) -> Result<String, String>) -> Found {
    let found = probe().and_then(|hierarchies| {
        let root = unified(&hierarchies).ok_or("this is a facility of v2, which is not mounted")?;
        let group = Group::make(&root)?;
        act(&group.0)
    });
    found.into()
}

/// An option of the v2 mount, and of each v1 hierarchy (Documentation/admin-guide/cgroup-v2.rst).
fn favordynmods() -> Found {
    let mounts = match fs::read_to_string("/proc/self/mountinfo") {
        Ok(mounts) => mounts,
        Err(error) => return Found::Missing(format!("read /proc/self/mountinfo: {error}")),
    };
    let with = mounts.lines().filter_map(|line| line.split_once(" - ")).filter(|(_, rest)| {
        rest.starts_with("cgroup") && rest.split([' ', ',']).any(|option| option == "favordynmods")
    });
    match with.count() {
        0 => Found::Missing("no hierarchy is mounted with it".to_owned()),
        count => Found::there(format!("{count} hierarchies are mounted with it")),
    }
}
