// SPDX-License-Identifier: Apache-2.0
//! The logs of a system: its `/var/log` is the directory `log` of the sandbox, so that the journal and what a syslog daemon
//! writes is there while the system runs, and when it is gone.
//!
//! What programs expect there, a directory with an owner and a mode each (journald keeps its journal on disk only where
//! `/var/log/journal` is), is made as it is in the root file system; files are not copied.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use berth_contract::Error;
use berth_image::Root;
use berth_keeper::sandbox::open_directory;
use berth_model::{Class, Volume};
use berth_sys::rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat};
use berth_sys::rustix::io::Errno;

use crate::error::{of_io, warn};
use crate::tools::IdMap;

/// Where a system has them.
pub(crate) const PLACE: &str = "/var/log";
/// Where they are in the sandbox.
const NAME: &str = "log";
/// How many directories are made in it.
const MOST: usize = 256;

/// The directory in the sandbox.
#[derive(Debug)]
pub(crate) struct Logs(OwnedFd);

impl Logs {
    /// Makes the directory; none where the root file system has its own somewhere else (a link), or a volume is there.
    pub(crate) fn make(
        sandbox: &Path,
        rootfs: &Path,
        volumes: &[Volume],
        map: Option<IdMap>,
    ) -> Result<Option<Logs>, Error> {
        let place = Path::new(PLACE);
        let meets = |path: &Path| path.starts_with(place) || place.starts_with(path);
        if volumes.iter().any(|volume| meets(Path::new(&volume.container_path))) {
            return Ok(None);
        }
        let own = rootfs.join("var/log");
        for path in [rootfs.join("var"), own.clone()] {
            if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()) {
                warn(&format!("{} is no directory: the system's logs stay in it", path.display()));
                return Ok(None);
            }
        }
        let above = open_directory(sandbox).map_err(of_io(format!("open {}", sandbox.display())))?;
        let root = map.map_or(0, |map| map.base);
        let like = own.symlink_metadata().ok();
        let directory = directory(&above, NAME, like.as_ref(), root).map_err(|errno| {
            let why = format!(
                "make {}, which is {PLACE} of the system: {errno}; nothing else may have that name",
                sandbox.join(NAME).display()
            );
            Error::other(Class::Conflict, why)
        })?;
        for entry in fs::read_dir(&own).into_iter().flatten().flatten().take(MOST) {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            let name = entry.file_name();
            if let (true, Some(name)) = (metadata.is_dir(), name.to_str()) {
                self::directory(&directory, name, Some(&metadata), root)
                    .map_err(|errno| of_io(format!("make {name} in the sandbox's {NAME}"))(errno.into()))?;
            }
        }
        Ok(Some(Logs(directory)))
    }

    /// What to tell LXC to mount: a path, for a descriptor of ours leads into another mount namespace.
    pub(crate) fn source(sandbox: &Path) -> PathBuf {
        sandbox.join(NAME)
    }

    /// Says so if something else was mounted in the container of this process: whoever owns the sandbox could have put a link
    /// at the path meanwhile. Nothing of the container has run yet.
    pub(crate) fn check(&self, pid: u32) -> Result<(), Error> {
        let numbers = |fd: &OwnedFd| fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let inside = Root::at(Path::new(&format!("/proc/{pid}/root"))).and_then(|root| root.open_dir(PLACE));
        let is_ours = inside.ok().and_then(|inside| numbers(&inside)) == numbers(&self.0);
        match is_ours {
            true => Ok(()),
            false => {
                let why = format!(
                    "{PLACE} of the container is not {NAME} of its sandbox: somebody changed it while LXC mounted it"
                );
                Err(Error::other(Class::Conflict, why))
            }
        }
    }
}

/// A directory like another one, or one that was there already.
fn directory(above: &OwnedFd, name: &str, like: Option<&fs::Metadata>, root: u32) -> Result<OwnedFd, Errno> {
    let made = match mkdirat(above, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(above, name, flags, Mode::empty())?;
    if made {
        let (uid, gid) = like.map_or((root, root), |like| (like.uid(), like.gid()));
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        fchmod(&fd, Mode::from_raw_mode(like.map_or(0o755, |like| like.mode() & 0o7777)))?;
    }
    Ok(fd)
}
