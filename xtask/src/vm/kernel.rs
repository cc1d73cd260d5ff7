// SPDX-License-Identifier: Apache-2.0
//! The kernel that a VM boots: Debian's cloud kernel, out of its package and not installed on this machine.
//!
//! The package is fetched by apt, which checks its signature, and unpacked below the target folder, where it stays.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::vm::tool::{self, io};

/// The package that depends on the newest kernel of its line.
pub(super) const STANDARD: &str = "linux-image-cloud-amd64";

/// A kernel that lies ready.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its version, as `uname -r` says.
    pub(super) version: String,
    /// The image.
    pub(super) image: PathBuf,
    /// `lib/modules/<version>`, with what depmod writes.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The kernel of a package or of the package that it depends on; fetched if `cache` does not hold it.
    pub(super) fn of(package: &str, cache: &Path) -> Result<Kernel, Error> {
        let package = match tool::output(Command::new("apt-cache").args(["depends", package])) {
            Ok(text) => image_of(package, &text),
            Err(_) => package.to_owned(),
        };
        let folder = cache.join(&package);
        if !folder.is_dir() {
            fetch(&package, &folder)?;
        }
        let version = package.trim_start_matches("linux-image-").to_owned();
        let modules = ["lib/modules", "usr/lib/modules"].map(|m| folder.join(m).join(&version));
        let modules = modules.into_iter().find(|m| m.is_dir()).ok_or_else(|| Error::Vm {
            what: format!("the package {package} has no modules of {version}"),
        })?;
        Ok(Kernel { image: folder.join("boot").join(format!("vmlinuz-{version}")), version, modules })
    }
}

/// The package with the kernel itself: a meta package depends on it.
fn image_of(package: &str, depends: &str) -> String {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-")).unwrap_or(package).to_owned()
}

/// Fetches and unpacks beside its place, and puts it there in one step.
fn fetch(package: &str, folder: &Path) -> Result<(), Error> {
    let room = folder.with_extension(format!("new-{}", std::process::id()));
    std::fs::create_dir_all(&room).map_err(io("make", &room))?;
    let fetched = download(package, &room).and_then(|()| unpack(&room));
    let placed = fetched.and_then(|()| match std::fs::rename(room.join("tree"), folder) {
        // Somebody else was faster.
        Err(_) if folder.is_dir() => Ok(()),
        moved => moved.map_err(io("move into place", folder)),
    });
    let _ = std::fs::remove_dir_all(&room);
    placed
}

fn download(package: &str, room: &Path) -> Result<(), Error> {
    let fetch = || {
        tool::output(
            // As root and not as `_apt`, which may not write here.
            Command::new("apt-get")
                .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
                .current_dir(room)
                .stdin(Stdio::null()),
        )
    };
    match fetch() {
        Ok(_) => Ok(()),
        // The lists of a fresh machine are empty or old.
        Err(_) => {
            tool::output(Command::new("apt-get").args(["-q", "update"]).stdin(Stdio::null()))?;
            fetch().map(|_| ())
        }
    }
}

fn unpack(room: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(room).map_err(io("list", room))?;
    let deb = entries.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "deb"));
    let deb = deb.ok_or_else(|| Error::Vm { what: format!("apt left no package in {}", room.display()) })?;
    let tree = room.join("tree");
    tool::output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&tree))?;
    for base in [tree.clone(), tree.join("usr")] {
        for version in std::fs::read_dir(base.join("lib/modules")).into_iter().flatten().flatten() {
            let depmod = Command::new("busybox")
                .args(["depmod", "-b"])
                .arg(&base)
                .arg(version.file_name())
                .current_dir(version.path())
                .output();
            let good = depmod.is_ok_and(|o| o.status.success());
            if !good || !version.path().join("modules.dep").is_file() {
                return Err(Error::Vm {
                    what: "busybox depmod failed (is busybox-static installed?)".into(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_package_leads_to_the_kernel_and_a_kernel_to_itself() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(image_of("linux-image-cloud-amd64", text), "linux-image-6.1.0-56-cloud-amd64");
        let text = "linux-image-6.1.0-56-cloud-amd64\n  Depends: kmod\n  Depends: linux-base\n";
        assert_eq!(image_of("linux-image-6.1.0-56-cloud-amd64", text), "linux-image-6.1.0-56-cloud-amd64");
    }
}
