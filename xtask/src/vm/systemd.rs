// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lane systemd`: a VM whose init is systemd, with the agent's unit as it is shipped.
//!
//! Its root file system is Debian's systemd with what that needs, unpacked and not installed (mmdebstrap's variant
//! `extract`): a quarter of the time, and no script of a package runs on this machine. It is kept below the target folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::vm::disk::Tree;
use crate::vm::kernel::Kernel;
use crate::vm::tool::{self, io};

/// Words for the kernel.
pub(super) const WORDS: &str =
    "berth.init=/lib/systemd/systemd systemd.unit=berth-tests.target systemd.show_status=0";

const PACKAGES: &str =
    "base-files,bash,coreutils,dash,dbus,grep,login,mount,procps,sed,systemd,systemd-sysv,util-linux";

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
messagebus:x:100:100::/nonexistent:/usr/sbin/nologin
systemd-network:x:101:101::/:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";

const GROUP: &str = "\
root:x:0:
adm:x:4:
tty:x:5:
disk:x:6:
utmp:x:43:
systemd-journal:x:99:
messagebus:x:100:
systemd-network:x:101:
nogroup:x:65534:
";

const TARGET: &str = "\
[Unit]
Requires=basic.target dbus.socket berth-tests.service
After=basic.target dbus.socket
AllowIsolate=yes
";

const TESTS: &str = "\
[Unit]
After=basic.target dbus.socket
Requires=dbus.socket
[Service]
Type=exec
ExecStart=/vm/run
StandardOutput=null
StandardError=null
";

/// Makes the tree of the root disk in `root`, with the unit in the file `unit` and this `berth`.
pub(super) fn tree(
    root: &Path,
    cache: &Path,
    kernel: &Kernel,
    unit: &str,
    berth: &Path,
) -> Result<Tree, Error> {
    let debian = debian(cache)?;
    tool::output(Command::new("cp").arg("-a").arg(&debian).arg(root))?;
    let tree = Tree::over(root);
    for folder in ["vm", "data", "srv"] {
        tree.folder(folder)?;
    }
    tree.busybox_alone()?;
    tree.modules(kernel)?;
    tree.link("dash", "bin/sh")?;
    tree.text("etc/passwd", PASSWD)?;
    tree.text("etc/group", GROUP)?;
    tree.text("etc/hostname", "berth-vm\n")?;
    tree.text("etc/machine-id", "0123456789abcdef0123456789abcdef\n")?;
    tree.text("etc/fstab", "")?;
    // Else /tmp is emptied at boot, and perhaps a target folder is in it.
    tree.folder("etc/tmpfiles.d")?;
    tree.text("etc/tmpfiles.d/tmp.conf", "")?;
    tree.text("etc/systemd/system/berth-tests.target", TARGET)?;
    tree.text("etc/systemd/system/berth-tests.service", TESTS)?;
    // As a package would install it.
    tree.text("lib/systemd/system/berth.service", unit)?;
    tree.program_as(berth, Path::new("/usr/bin/berth"))?;
    Ok(tree)
}

/// Debian's tree, made when `cache` does not hold it.
fn debian(cache: &Path) -> Result<PathBuf, Error> {
    let folder = cache.join("debian-systemd");
    if folder.is_dir() {
        return Ok(folder);
    }
    let room = cache.join(format!("debian-systemd.new-{}", std::process::id()));
    println!("vm: making a root file system with systemd");
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let made = tool::output(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=extract", "--mode=root", "--include", PACKAGES])
            .arg(suite(&release))
            .arg(&room)
            .stdin(Stdio::null()),
    );
    let placed = made.and_then(|_| match std::fs::rename(&room, &folder) {
        // Somebody else was faster.
        Err(_) if folder.is_dir() => Ok(()),
        moved => moved.map_err(io("move into place", &folder)),
    });
    let _ = std::fs::remove_dir_all(&room);
    placed.map(|()| folder)
}

/// The suite of this machine, if it is one of Debian's.
fn suite(os_release: &str) -> &str {
    let value = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"'))
    };
    match (value("ID"), value("VERSION_CODENAME")) {
        (Some("debian"), Some(suite)) => suite,
        _ => "bookworm",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_is_this_machines_where_that_is_debians() {
        assert_eq!(suite("ID=debian\nVERSION_CODENAME=trixie\n"), "trixie");
        assert_eq!(suite("ID=ubuntu\nVERSION_CODENAME=noble\n"), "bookworm");
        assert_eq!(suite("ID=\"debian\"\nVERSION_CODENAME=\"bookworm\"\n"), "bookworm");
    }
}
