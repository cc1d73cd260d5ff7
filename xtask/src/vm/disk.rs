// SPDX-License-Identifier: Apache-2.0
//! The disks of a VM: the one with the root file system, and those that tests fill and throttle.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::vm::kernel::Kernel;
use crate::vm::tool::{self, io, which};

/// What tests start, beside busybox. What this machine lacks, the VM lacks.
const TOOLS: [&str; 35] = [
    "apparmor_parser",
    "bash",
    "bzip2",
    "cat",
    "containerd",
    "containerd-shim-runc-v2",
    "crun",
    "dash",
    "docker",
    "dockerd",
    "flock",
    "gzip",
    "ip",
    "mkfifo",
    "mkfs.ext4",
    "mount",
    "nsenter",
    "perl",
    "ps",
    "runc",
    "setpriv",
    "sha256sum",
    "sleep",
    "strace",
    "stress-ng",
    "tar",
    "timeout",
    "true",
    "umount",
    "unshare",
    "xz",
    "zstd",
    "losetup",
    "stat",
    "rm",
];

/// Those of LXC, and what confines what it starts.
const OF_LXC: [&str; 11] = [
    "apparmor_parser",
    "lxc-attach",
    "lxc-copy",
    "lxc-create",
    "lxc-destroy",
    "lxc-info",
    "lxc-ls",
    "lxc-start",
    "lxc-stop",
    "lxc-unshare",
    "lxc-usernsexec",
];
/// What those read that is no library: templates and configurations, where root file systems are mounted, profiles.
const FOLDERS: [&str; 3] = ["/usr/share/lxc", "/lib/x86_64-linux-gnu/lxc", "/etc/apparmor.d"];

/// The folder from which the root disk is made.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The plain parts: busybox, tools with their libraries, the kernel's modules, users.
    pub(super) fn new(root: &Path, kernel: &Kernel) -> Result<Tree, Error> {
        let tree = Tree { root: root.to_owned() };
        for folder in [
            "bin",
            "data",
            "dev",
            "etc",
            "lib/modules",
            "mnt",
            "proc",
            "root",
            "run",
            "sbin",
            "sys",
            "tmp",
            "usr/lib",
            "var/tmp",
            "var/lib",
            "vm",
        ] {
            tree.folder(folder)?;
        }
        for (link, folder) in [("usr/bin", "../bin"), ("usr/sbin", "../sbin")] {
            tree.link(folder, link)?;
        }
        tree.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")?;
        tree.write("etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
        tree.write("etc/hostname", "berth-vm\n")?;
        // apparmor_parser says that it lacks it where it is to say its version.
        tree.folder("etc/apparmor")?;
        tree.write("etc/apparmor/parser.conf", "")?;
        tree.busybox()?;
        for tool in TOOLS.into_iter().chain(OF_LXC) {
            if let Some(path) = which(tool) {
                tree.tool(tool, &path)?;
            }
        }
        for folder in FOLDERS.map(Path::new) {
            tree.tree(folder)?;
        }
        let _ = fs::remove_file(tree.root.join("bin/sh"));
        tree.link("dash", "bin/sh")?;
        tree.modules(kernel)?;
        Ok(tree)
    }

    /// A root file system that lies in `root` already.
    pub(super) fn over(root: &Path) -> Tree {
        Tree { root: root.to_owned() }
    }

    /// The kernel's modules, and the program with which it loads them.
    pub(super) fn modules(&self, kernel: &Kernel) -> Result<(), Error> {
        let modules = self.root.join("lib/modules");
        self.folder("lib/modules")?;
        self.folder("sbin")?;
        tool::output(Command::new("cp").arg("-a").arg(&kernel.modules).arg(&modules))?;
        // Where the kernel looks for it.
        self.link("../bin/busybox", "sbin/modprobe")
    }

    fn busybox(&self) -> Result<(), Error> {
        let busybox = self.busybox_alone()?;
        let applets = tool::output(Command::new(&busybox).arg("--list"))?;
        for applet in applets.lines().filter(|name| !["busybox", "init"].contains(name)) {
            self.link("busybox", &format!("bin/{applet}"))?;
        }
        Ok(())
    }

    /// busybox without its applets.
    pub(super) fn busybox_alone(&self) -> Result<PathBuf, Error> {
        let busybox = which("busybox").ok_or(Error::Vm { what: "busybox is not on PATH".into() })?;
        self.copy(&busybox, "bin/busybox")?;
        Ok(busybox)
    }

    /// A program of this machine, and the libraries that it is linked with, at the places where they are here.
    fn tool(&self, name: &str, path: &Path) -> Result<(), Error> {
        let place = self.root.join("bin").join(name);
        let _ = fs::remove_file(&place);
        fs::copy(path, &place).map_err(io("copy", path))?;
        // A script or a static program has none.
        let libraries = tool::output(Command::new("ldd").arg(path)).unwrap_or_default();
        for library in libraries_of(&libraries) {
            let place = self.root.join(library.trim_start_matches('/'));
            if place.exists() {
                continue;
            }
            self.folder(&Path::new(library).parent().unwrap_or(Path::new("/")).to_string_lossy())?;
            fs::copy(library, &place).map_err(io("copy", Path::new(library)))?;
        }
        Ok(())
    }

    /// A folder of this machine, where there is one.
    fn tree(&self, folder: &Path) -> Result<(), Error> {
        let Some(above) = folder.parent().filter(|_| folder.is_dir()) else { return Ok(()) };
        self.folder(&above.to_string_lossy())?;
        let to = self.root.join(above.strip_prefix("/").unwrap_or(above));
        tool::output(Command::new("cp").arg("-a").arg(folder).arg(to)).map(|_| ())
    }

    /// A program of ours, without what only a debugger reads, at the very path where it was built: tests know their
    /// helpers by it.
    pub(super) fn program(&self, path: &Path) -> Result<(), Error> {
        self.program_as(path, path)
    }

    /// The same at another path.
    pub(super) fn program_as(&self, path: &Path, to: &Path) -> Result<(), Error> {
        let place = self.root.join(to.strip_prefix("/").unwrap_or(to));
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(io("make", folder))?;
        }
        let strip = Command::new("strip").args(["--strip-debug", "-o"]).arg(&place).arg(path).status();
        if strip.is_ok_and(|status| status.success()) {
            return Ok(());
        }
        fs::copy(path, &place).map(|_| ()).map_err(io("copy", path))
    }

    pub(super) fn folder(&self, path: &str) -> Result<(), Error> {
        let place = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(&place).map_err(io("make", &place))
    }

    fn copy(&self, from: &Path, to: &str) -> Result<(), Error> {
        fs::copy(from, self.root.join(to)).map(|_| ()).map_err(io("copy", from))
    }

    pub(super) fn link(&self, to: &str, name: &str) -> Result<(), Error> {
        let place = self.root.join(name);
        if place.exists() || place.is_symlink() {
            return Ok(());
        }
        symlink(to, &place).map_err(io("link", &place))
    }

    /// A file that may be read by all.
    pub(super) fn text(&self, path: &str, text: &str) -> Result<(), Error> {
        let place = self.root.join(path);
        let _ = fs::remove_file(&place);
        fs::write(&place, text).map_err(io("write", &place))
    }

    /// A text file that may be executed.
    pub(super) fn write(&self, path: &str, text: &str) -> Result<(), Error> {
        use std::os::unix::fs::PermissionsExt;
        let place = self.root.join(path);
        fs::write(&place, text).map_err(io("write", &place))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).map_err(io("set the mode of", &place))
    }

    /// Makes an ext4 disk of it.
    pub(super) fn image(&self, to: &Path, megabytes: u64) -> Result<(), Error> {
        sparse(to, megabytes)?;
        let mke2fs = which("mke2fs").ok_or(Error::Vm { what: "mke2fs is not on PATH (e2fsprogs)".into() })?;
        // Without a journal: nobody looks at this disk again after a crash.
        let options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"];
        tool::output(Command::new(mke2fs).args(options).arg(&self.root).arg(to)).map(|_| ())
    }
}

/// The paths that `ldd` found.
fn libraries_of(ldd: &str) -> impl Iterator<Item = &str> {
    ldd.lines().filter_map(|line| {
        let line = line.trim();
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        path.split(" (").next().filter(|path| path.starts_with('/'))
    })
}

/// A disk of zeros that takes no room yet.
pub(super) fn sparse(to: &Path, megabytes: u64) -> Result<(), Error> {
    let file = fs::File::create(to).map_err(io("make", to))?;
    file.set_len(megabytes << 20).map_err(io("set the size of", to))
}

/// A disk with an empty xfs, or with nothing where this machine can not make one.
pub(super) fn xfs(to: &Path, megabytes: u64) -> Result<(), Error> {
    sparse(to, megabytes)?;
    match which("mkfs.xfs") {
        Some(mkfs) => tool::output(Command::new(mkfs).args(["-q", "-f"]).arg(to)).map(|_| ()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_where_ldd_says() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibz.so.1 => /lib/x/libz.so.1 (0x2)\n\t/lib64/ld.so (0x3)\n\tstatically linked\n";
        assert_eq!(libraries_of(text).collect::<Vec<_>>(), ["/lib/x/libz.so.1", "/lib64/ld.so"]);
    }
}
