// SPDX-License-Identifier: Apache-2.0
//! The sandbox on the host. What is in it belongs to the container, so nothing in it is followed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_contract::Error;
use berth_record::Sync;
use berth_sys::rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use berth_sys::rustix::io::Errno;

use crate::of_io;

/// Opens it.
///
/// # Errors
/// It is not there, or no directory.
pub fn open_directory(sandbox: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(open(sandbox, flags, Mode::empty())?)
}

/// A regular file with one name, opened to append, made if it is not there.
///
/// # Errors
/// The container has put something else there.
pub fn open_output(sandbox: &OwnedFd, name: &str) -> io::Result<File> {
    // NONBLOCK: a FIFO without a reader would keep us waiting.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file = openat(sandbox, name, flags, Mode::from_raw_mode(0o644))?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file of its own"));
    }
    Ok(File::from(file))
}

/// Removes it, however deep and by whomever it was filled. One that is gone is removed.
///
/// # Errors
/// Something of it stays.
pub fn remove(sandbox: &Path) -> Result<(), Error> {
    let failed = |why: &dyn std::fmt::Display| Error::RemoveSandbox(format!("{}: {why}", sandbox.display()));
    let (Some(above), Some(name)) = (sandbox.parent(), sandbox.file_name()) else {
        return Err(failed(&"it is not the path of a directory"));
    };
    let above = match open(above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(above) => above,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(&io::Error::from(errno))),
    };
    let removal = berth_image::remove_tree(above.as_fd(), name);
    match removal.failures.first() {
        None => Ok(()),
        Some(failure) => Err(failed(&format_args!("{failure}: {}", failure.source))),
    }
}

/// The numbers of a user of this host, given by name or by number; none if the host does not know them.
///
/// # Errors
/// The host's list can not be read.
pub fn user(name: &str) -> io::Result<Option<(u32, u32)>> {
    Ok(user_in(name, &std::fs::read_to_string("/etc/passwd")?))
}

fn user_in(name: &str, passwd: &str) -> Option<(u32, u32)> {
    let number = name.parse::<u32>().ok();
    let mut entries = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some((name, uid.parse::<u32>().ok()?, gid.parse::<u32>().ok()?))
    });
    let found = entries.find(|(own, uid, _)| *own == name || Some(*uid) == number);
    found.map(|(_, uid, gid)| (uid, gid))
}

/// Writes a pid where the agent wants it, whole or not at all, and there after a power failure: it decides by that.
///
/// # Errors
/// It can not be written.
pub fn write_pid(path: &Path, pid: u32) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
        else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not the path of a file"));
        };
        std::fs::create_dir_all(above)?;
        let directory = File::open(above)?;
        berth_record::write_atomic(directory.as_fd(), name, pid.to_string().as_bytes(), Sync::Yes)
            .map_err(io::Error::other)
    };
    write().map_err(of_io("Could not checkpoint executor's pid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_of_any_depth_is_removed() {
        use berth_sys::rustix::fs::mkdirat;
        let sandbox = std::env::temp_dir().join(format!("berth-keeper-deep-{}", std::process::id()));
        std::fs::create_dir(&sandbox).unwrap();
        let mut deepest = open_directory(&sandbox).unwrap();
        for _ in 0..1000 {
            mkdirat(&deepest, "d", Mode::RWXU).unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            deepest = openat(&deepest, "d", flags, Mode::empty()).unwrap();
        }
        let removed = {
            let sandbox = sandbox.clone();
            // Not enough for a call in each level.
            std::thread::Builder::new().stack_size(128 << 10).spawn(move || remove(&sandbox).is_ok())
        };
        assert!(removed.unwrap().join().unwrap() && !sandbox.exists());
        assert!(remove(&sandbox).is_ok(), "what is gone is removed");
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/:/bin/sh\n#\nbob:x:1000:50:Bob:/h:/bin/sh\n";
        assert_eq!(user_in("bob", passwd), Some((1000, 50)));
        assert_eq!(user_in("1000", passwd), Some((1000, 50)));
        assert_eq!(user_in("alice", passwd), None);
    }

    #[test]
    fn output_goes_to_a_file_of_its_own_and_nowhere_else() {
        let sandbox = std::env::temp_dir().join(format!("berth-keeper-output-{}", std::process::id()));
        std::fs::create_dir(&sandbox).unwrap();
        let directory = open_directory(&sandbox).unwrap();
        open_output(&directory, "stdout").unwrap();
        std::os::unix::fs::symlink("/dev/null", sandbox.join("link")).unwrap();
        std::fs::hard_link(sandbox.join("stdout"), sandbox.join("stderr")).unwrap();
        assert!(open_output(&directory, "link").is_err());
        assert!(open_output(&directory, "stderr").is_err());
        remove(&sandbox).unwrap();
    }
}
