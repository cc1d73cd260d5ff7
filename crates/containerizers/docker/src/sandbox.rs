// SPDX-License-Identifier: Apache-2.0
//! The sandbox on the host: directories for volumes, and the files that output goes to. What is in a sandbox belongs
//! to the container, so nothing in it is followed.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

use berth_contract::Error;
pub(crate) use berth_keeper::sandbox::open_directory;
use berth_sys::rustix::fs::{AtFlags, FileType, Mode, OFlags, fchown, fstat, mkdirat, open, openat, statat};
use berth_sys::rustix::io::Errno;
use berth_sys::rustix::process::{Gid, Uid};

use crate::error::{invalid, of_io};
use crate::options::Needed;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes what volumes are made from, where it is not there: a directory, as docker's command line does.
pub(crate) fn make(sandbox: &Path, needed: &[Needed]) -> Result<(), Error> {
    for needed in needed {
        match needed {
            Needed::Host(path) if path.symlink_metadata().is_ok() => {}
            Needed::Host(path) => std::fs::create_dir_all(path)
                .map_err(|error| of_io(format!("make {} for a volume", path.display()), error))?,
            Needed::Sandbox(path) => make_below(sandbox, path)?,
        }
    }
    Ok(())
}

/// The last part may be a file that was fetched; a link on the way is refused: it can lead anywhere.
fn make_below(sandbox: &Path, path: &Path) -> Result<(), Error> {
    let failed = |errno: Errno| {
        let shown = sandbox.join(path);
        match errno {
            Errno::LOOP | Errno::NOTDIR => invalid(format!(
                "{} can not be a volume: a link or a file is on the way to it",
                shown.display()
            )),
            errno => of_io(format!("make {} for a volume", shown.display()), errno.into()),
        }
    };
    let mut above = open(sandbox, DIRECTORY, Mode::empty()).map_err(failed)?;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(failed(Errno::LOOP)) };
        let is_last = parts.peek().is_none();
        match statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile if is_last => return Ok(()),
                FileType::Directory => {}
                _ => return Err(failed(Errno::LOOP)),
            },
            Err(Errno::NOENT) => {
                mkdirat(&above, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
            }
            Err(errno) => return Err(failed(errno)),
        }
        above = openat(&above, name, DIRECTORY, Mode::empty()).map_err(failed)?;
    }
    Ok(())
}

/// A file of the sandbox's own owner, opened to append: a regular one with one name.
///
/// # Errors
/// The container has put something else there.
pub(crate) fn open_output(sandbox: &Path, name: &str) -> io::Result<File> {
    let directory = open_directory(sandbox)?;
    let file = berth_keeper::sandbox::open_output(&directory, name)?;
    let stat = fstat(&file)?;
    let whose = fstat(&directory)?;
    if (stat.st_uid, stat.st_gid) != (whose.st_uid, whose.st_gid) {
        fchown(&file, Some(Uid::from_raw(whose.st_uid)), Some(Gid::from_raw(whose.st_gid)))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::Class;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_volume_in_the_sandbox_is_made_there_and_nowhere_else() {
        let sandbox = std::env::temp_dir().join(format!("berth-docker-volume-{}", std::process::id()));
        std::fs::create_dir(&sandbox).unwrap();
        let needed = |path: &str| make(&sandbox, &[Needed::Sandbox(path.into())]);
        needed("a/b").unwrap();
        needed("a/b").unwrap();
        assert!(sandbox.join("a/b").is_dir());
        std::fs::write(sandbox.join("file"), "").unwrap();
        needed("file").unwrap();
        symlink("/", sandbox.join("out")).unwrap();
        for path in ["out", "out/tmp", "file/x"] {
            let error = needed(path).unwrap_err();
            assert_eq!(error.class(), Class::Invalid, "{path}: {error}");
        }
        assert!(open_output(&sandbox, "out").is_err());
        open_output(&sandbox, "stdout").unwrap();
        berth_keeper::sandbox::remove(&sandbox).unwrap();
        assert!(!sandbox.exists());
        berth_keeper::sandbox::remove(&sandbox).unwrap();
    }
}
