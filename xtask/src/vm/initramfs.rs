// SPDX-License-Identifier: Apache-2.0
//! What the kernel is started with: busybox, the few modules without which it sees no disk, and a script that goes
//! over to the disk. (Containers need a root that `pivot_root` takes, which an initramfs is not.)
//!
//! The format is cpio's "newc" (Documentation/driver-api/early-userspace/buffer-format.rst), which is a header of
//! hexadecimal numbers before each name and content: less to write down than a dependency.

use std::path::Path;
use std::process::Command;

use crate::error::Error;
use crate::vm::kernel::Kernel;
use crate::vm::tool::{self, io};

const SCRIPT: &str = include_str!("initramfs.sh");

/// In the order of need.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_console"];

const FILE: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;
const DEVICE: u32 = 0o020_600;

/// Makes the archive for a kernel.
pub(super) fn make(kernel: &Kernel, to: &Path) -> Result<(), Error> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "modules", "root"] {
        archive.add(folder, FOLDER, (0, 0), &[]);
    }
    // The kernel opens it before the script runs.
    archive.add("dev/console", DEVICE, (5, 1), &[]);
    let busybox = tool::which("busybox").ok_or(Error::Vm { what: "busybox is not on PATH".into() })?;
    archive.add("bin/busybox", FILE, (0, 0), &read(&busybox)?);
    archive.add("init", FILE, (0, 0), SCRIPT.as_bytes());
    let dependencies = kernel.modules.join("modules.dep");
    let dependencies = String::from_utf8_lossy(&read(&dependencies)?).into_owned();
    let mut order = String::new();
    for path in needed(&dependencies) {
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.trim_end_matches(".xz");
        archive.add(&format!("modules/{name}"), FILE, (0, 0), &module(&kernel.modules.join(path))?);
        order.push_str(name);
        order.push('\n');
    }
    archive.add("modules/order", FILE, (0, 0), order.as_bytes());
    std::fs::write(to, archive.finish()).map_err(io("write", to))
}

/// The files of the modules and of what they need, each after what it needs. A module that is missing is built in.
fn needed(dependencies: &str) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    for module in MODULES {
        let line = dependencies.lines().find_map(|line| {
            let (file, needs) = line.split_once(':')?;
            let name = file.rsplit('/').next()?.split('.').next()?;
            (name.replace('-', "_") == module).then_some((file, needs))
        });
        let Some((file, needs)) = line else { continue };
        // modules.dep lists the nearest first.
        for path in needs.split_whitespace().rev().chain([file]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    order
}

fn module(path: &Path) -> Result<Vec<u8>, Error> {
    if path.extension().is_some_and(|e| e == "xz") {
        let done = Command::new("xz").arg("-dc").arg(path).output();
        let done = done.map_err(|source| Error::Start { program: "xz".into(), source })?;
        return Ok(done.stdout);
    }
    read(path)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// A cpio archive as it grows.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(content.len()).expect("no part of an initramfs has 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        let numbers = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0]
            .map(|n| format!("{n:08x}"));
        self.bytes.extend_from_slice(b"070701");
        self.bytes.extend_from_slice(numbers.concat().as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_needs_and_only_once() {
        let text = "kernel/a/virtio.ko:\n\
                    kernel/a/virtio_ring.ko: kernel/a/virtio.ko\n\
                    kernel/a/virtio-pci.ko: kernel/a/virtio_ring.ko kernel/a/virtio.ko\n\
                    kernel/b/virtio_blk.ko.xz: kernel/a/virtio_ring.ko kernel/a/virtio.ko\n";
        assert_eq!(
            needed(text),
            [
                "kernel/a/virtio.ko",
                "kernel/a/virtio_ring.ko",
                "kernel/a/virtio-pci.ko",
                "kernel/b/virtio_blk.ko.xz"
            ]
        );
    }

    #[test]
    fn busybox_reads_the_archive() {
        let Some(busybox) = tool::which("busybox") else { return };
        let folder = std::env::temp_dir().join(format!("berth-cpio-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut archive = Archive::default();
        archive.add("one", FOLDER, (0, 0), &[]);
        archive.add("one/two", FILE, (0, 0), b"three");
        std::fs::write(folder.join("a.cpio"), archive.finish()).unwrap();
        let script = format!("cd {} && busybox cpio -id <a.cpio && cat one/two", folder.display());
        let done = Command::new(busybox).args(["sh", "-c", &script]).output().unwrap();
        let _ = std::fs::remove_dir_all(&folder);
        assert_eq!(String::from_utf8_lossy(&done.stdout), "three", "{done:?}");
    }
}
