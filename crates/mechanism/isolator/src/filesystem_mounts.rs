// SPDX-License-Identifier: Apache-2.0
//! What every container finds mounted: /proc, /dev, /sys, its control groups, its sandbox; what of /proc and /sys is
//! masked or read-only; the terminal. Part of Mesos's `filesystem/linux`, told apart so that it comes after the
//! namespaces that decide it.
//!
//! Acts on the host: clones the sandbox's mount, detached.

use crate::limits::devices_of;
use crate::{Settings, text};
use berth_cgroup::DeviceKind;
use berth_launcher::wire::{self, Step};
use berth_launcher::{Container, Error, Isolator, Phase, Plan, Result};
use berth_model::IpcMode;
use berth_sys::process::Namespaces;
use berth_sys::rustix::mount::MountFlags;

const NAME: &str = "filesystem/mounts";

/// Magic numbers of statfs(2).
const PROC: u64 = 0x9fa0;
const SYSFS: u64 = 0x6265_6572;

const MASKED_PROC: [&std::ffi::CStr; 11] = [
    c"acpi",
    c"asound",
    c"interrupts",
    c"kcore",
    c"keys",
    c"key-users",
    c"latency_stats",
    c"sched_debug",
    c"scsi",
    c"timer_list",
    c"timer_stats",
];
const MASKED_SYS: [&std::ffi::CStr; 2] = [c"firmware", c"devices/virtual/powercap"];
const READ_ONLY_PROC: [&std::ffi::CStr; 5] = [c"bus", c"fs", c"irq", c"sys", c"sysrq-trigger"];

struct Mounts {
    controllers: Vec<(String, String)>,
    unified: bool,
}

pub(crate) fn make(settings: &Settings) -> Result<Box<dyn Isolator>> {
    use berth_cgroup::{Controller, Version};
    let Some(hierarchies) = &settings.hierarchies else {
        return Ok(Box::new(Mounts { controllers: Vec::new(), unified: false }));
    };
    let mut controllers = Vec::new();
    for (controller, name) in
        [(Controller::Cpu, "cpu"), (Controller::Memory, "memory"), (Controller::Pids, "pids")]
    {
        if hierarchies.version_of(controller) == Some(Version::V1) {
            // Controllers that share a hierarchy are mounted by all their names, and /sys/fs/cgroup/cpu is a link.
            let real = std::fs::read_link(hierarchies.root().join(name)).ok();
            let real = real.and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()));
            let options = real.clone().unwrap_or_else(|| name.to_owned());
            controllers.push((name.to_owned(), options));
        }
    }
    let unified = controllers.is_empty();
    Ok(Box::new(Mounts { controllers, unified }))
}

impl Isolator for Mounts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        if container.rootfs.is_shared() {
            // All is there, but for what shows the processes.
            if plan.wanted().has(Namespaces::PID) {
                let mut to = Writer { plan, phase: Phase::Mounts };
                to.proc();
                to.masks(&MASKED_PROC, "/proc");
            }
            return self.enter(container, plan);
        }
        let mut to = Writer { plan, phase: Phase::Mounts };
        to.proc();
        if container.rootfs.is_own() {
            to.dev(container)?;
            to.sys();
        } else {
            to.masks(&MASKED_PROC, "/proc");
            to.step(Step::Enter { target: c"sys", magic: SYSFS }, "enter /sys");
            to.masks(&MASKED_SYS, "/sys");
        }
        to.phase = Phase::Groups;
        self.cgroups(container, &mut to)?;
        terminal(container, wire::TERMINAL_CONSOLE, plan);
        if container.init {
            plan.flag(wire::FLAG_INIT);
        }
        plan.step(NAME, Phase::Gate, Step::Gate {}, "wait for the word to start");
        Ok(())
    }

    fn enter(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        terminal(container, wire::TERMINAL_NO_LINKS, plan);
        if container.init {
            plan.flag(wire::FLAG_INIT);
        }
        plan.step(NAME, Phase::Gate, Step::Gate {}, "wait for the word to start");
        Ok(())
    }

    fn isolate(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        if !container.rootfs.is_own() {
            return Ok(());
        }
        let sandbox =
            container.sandbox.ok_or_else(|| Error::Invalid("the container has no sandbox".to_owned()))?;
        let sandbox = crate::volumes::clone(sandbox, false)
            .map_err(|(what, e)| Error::io(format!("clone the mount of the sandbox: {what}"), e))?;
        let tree = plan.descriptor(sandbox.0);
        let target = container.sandbox_directory.to_string_lossy();
        let step = Step::Volume { tree, target: &text(target.trim_start_matches('/'))?, file: 0 };
        plan.first(NAME, Phase::Volumes, step, format!("mount the sandbox at {target}"));
        Ok(())
    }
}

/// With a root file system of its own, the container's multiplexer is taken in a way (`how`) that is right for it.
fn terminal(container: &Container<'_>, how: u32, plan: &mut Plan) {
    if !container.tty {
        return;
    }
    let size = container.config.container_info.as_ref().and_then(|i| i.tty_info.as_ref());
    if let Some(size) = size.and_then(|t| t.window_size.as_ref()) {
        let fits = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        plan.size(fits(size.rows), fits(size.columns));
    }
    plan.flag(wire::FLAG_TTY);
    let (uid, gid) = (container.user.uid, container.user.gid);
    let (ptmx, how) = if container.rootfs.is_own() { (c"/dev/pts/ptmx", how) } else { (c"/dev/ptmx", 0) };
    plan.step(NAME, Phase::Sealed, Step::Terminal { ptmx, uid, gid, how }, "take a terminal");
}

impl Mounts {
    fn cgroups(&self, container: &Container<'_>, to: &mut Writer<'_>) -> Result<()> {
        let (safe, read_only) =
            (MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, MountFlags::RDONLY);
        if self.unified {
            if !container.rootfs.is_own() {
                // The host's is there, and the kernel takes no file system twice on one mount point.
                to.filesystem(c"sys/fs/cgroup", c"tmpfs", safe, c"mode=755,size=64k");
            }
            to.filesystem(c"sys/fs/cgroup", c"cgroup2", safe | read_only, c"");
            return Ok(());
        }
        to.filesystem(c"sys/fs/cgroup", c"tmpfs", safe, c"mode=755,size=64k");
        for (name, options) in &self.controllers {
            let (name, options) = (text(name)?, text(options)?);
            to.step(Step::Directory { name: &name, mode: 0o755 }, "make a directory for a control group");
            let flags = u64::from((safe | read_only).bits());
            let step = Step::FilesystemHere { name: &name, kind: c"cgroup", flags, data: &options };
            to.step(step, format!("mount control group {name:?}"));
        }
        let flags = u64::from((safe | read_only).bits());
        to.step(Step::Remount { flags }, "make /sys/fs/cgroup read-only");
        Ok(())
    }
}

/// Writes mount steps.
struct Writer<'a> {
    plan: &'a mut Plan,
    phase: Phase,
}

impl Writer<'_> {
    fn step(&mut self, step: Step<'_>, what: impl Into<String>) {
        self.plan.step(NAME, self.phase, step, what);
    }

    fn filesystem(
        &mut self,
        target: &std::ffi::CStr,
        kind: &std::ffi::CStr,
        flags: MountFlags,
        data: &std::ffi::CStr,
    ) {
        let flags = u64::from(flags.bits());
        let what = format!("mount {} on /{}", kind.to_string_lossy(), target.to_string_lossy());
        self.step(Step::Filesystem { target, kind, source: kind, flags, data, mode: 0o755 }, what);
    }

    fn masks(&mut self, names: &[&std::ffi::CStr], below: &str) {
        for name in names {
            self.step(Step::Mask { name }, format!("mask {below}/{}", name.to_string_lossy()));
        }
    }

    fn proc(&mut self) {
        self.filesystem(c"proc", c"proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, c"");
        self.step(Step::Enter { target: c"proc", magic: PROC }, "enter /proc");
        for name in READ_ONLY_PROC {
            self.step(Step::ReadOnly { name }, format!("make /proc/{} read-only", name.to_string_lossy()));
        }
    }

    fn dev(&mut self, container: &Container<'_>) -> Result<()> {
        let (nosuid, noexec) = (MountFlags::NOSUID, MountFlags::NOEXEC);
        self.filesystem(c"dev", c"tmpfs", nosuid | noexec | MountFlags::STRICTATIME, c"mode=755,size=64k");
        for (name, minor) in [(c"null", 3), (c"zero", 5), (c"full", 7), (c"random", 8), (c"urandom", 9)] {
            let step = Step::Node { name, mode: 0o666, major: 1, minor };
            self.step(step, format!("make /dev/{}", name.to_string_lossy()));
        }
        self.step(Step::Node { name: c"tty", mode: 0o666, major: 5, minor: 0 }, "make /dev/tty");
        self.devices(container)?;
        for (name, to) in [
            (c"fd", c"/proc/self/fd"),
            (c"stdin", c"/proc/self/fd/0"),
            (c"stdout", c"/proc/self/fd/1"),
            (c"stderr", c"/proc/self/fd/2"),
            (c"core", c"/proc/kcore"),
            (c"ptmx", c"pts/ptmx"),
        ] {
            self.step(Step::Link { name, to }, format!("make /dev/{}", name.to_string_lossy()));
        }
        let here = |name: &'static std::ffi::CStr, kind, flags: MountFlags, data| Step::FilesystemHere {
            name,
            kind,
            flags: u64::from(flags.bits()),
            data,
        };
        for name in [c"pts", c"shm", c"mqueue"] {
            self.step(Step::Directory { name, mode: 0o755 }, "make a directory in /dev");
        }
        let pts = here(c"pts", c"devpts", nosuid | noexec, c"newinstance,ptmxmode=0666,mode=0620,gid=5");
        self.step(pts, "mount devpts on /dev/pts");
        let size = container.linux().and_then(|l| l.shm_size);
        let data = match size {
            Some(megabytes) => text(&format!("mode=1777,size={megabytes}m"))?,
            None => c"mode=1777".to_owned(),
        };
        let shared = container.linux().and_then(|l| l.ipc_mode) == Some(IpcMode::ShareParent);
        let flags = nosuid | noexec | MountFlags::NODEV;
        let shm = Step::FilesystemHere {
            name: c"shm",
            kind: c"tmpfs",
            flags: u64::from(flags.bits()),
            data: &data,
        };
        self.step(shm, "mount tmpfs on /dev/shm");
        if !shared {
            self.step(here(c"mqueue", c"mqueue", flags, c""), "mount mqueue on /dev/mqueue");
        }
        // Masks need /dev/null, so they come after it.
        self.step(Step::Enter { target: c"proc", magic: PROC }, "enter /proc");
        self.masks(&MASKED_PROC, "/proc");
        Ok(())
    }

    /// Files for the devices that were asked for, and the directories above them.
    fn devices(&mut self, container: &Container<'_>) -> Result<()> {
        let mut made: Vec<String> = Vec::new();
        for device in devices_of(container.config)? {
            for (end, _) in device.name.match_indices('/') {
                let above = &device.name[..end];
                if !made.iter().any(|made| made == above) {
                    let name = text(above)?;
                    self.step(Step::Directory { name: &name, mode: 0o755 }, format!("make /dev/{above}"));
                    made.push(above.to_owned());
                }
            }
            let kind = match device.rule.kind {
                DeviceKind::Char => wire::NODE_CHARACTER,
                DeviceKind::Block => wire::NODE_BLOCK,
            };
            let (major, minor) = (device.rule.major.unwrap_or(0), device.rule.minor.unwrap_or(0));
            let step = Step::Node { name: &text(&device.name)?, mode: device.mode | kind, major, minor };
            self.step(step, format!("make /dev/{}", device.name));
        }
        Ok(())
    }

    fn sys(&mut self) {
        let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        self.filesystem(c"sys", c"sysfs", safe | MountFlags::RDONLY, c"");
        self.masks(&MASKED_SYS, "/sys");
    }
}
