// SPDX-License-Identifier: Apache-2.0
//! The temporary root password that some templates make (centos, fedora): a file beside the root file system, for root
//! alone. It is read when somebody asks for it by name, handed over, and written nowhere else.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use berth_sys::rustix::fs::{Mode, OFlags, open};

use super::{Error, Name, Result};

/// The file's name.
pub const PASSWORD: &str = "tmp_root_pass";
/// The longest.
const LONGEST: u64 = 4096;

/// A password. It has no text but the one that is asked for.
pub struct Password(Vec<u8>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Password {
    /// It, for whoever asked.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

/// Where the container's password is, if its template made one. That of centos adds the name once more to the path that it
/// is given.
pub fn password_file(lxcpath: &Path, name: &Name) -> Option<PathBuf> {
    let place = name.place(lxcpath);
    let places = [place.join(PASSWORD), place.join(name.as_str()).join(PASSWORD)];
    places.into_iter().find(|path| path.symlink_metadata().is_ok())
}

/// The container's password.
///
/// # Errors
/// There is none; or the file is a link, no file, somebody else's, or open to others.
pub fn password(lxcpath: &Path, name: &Name) -> Result<Password> {
    if !name.exists(lxcpath) {
        return Err(Error::Missing { name: name.to_string(), path: lxcpath.to_owned() });
    }
    let Some(path) = password_file(lxcpath, name) else {
        return Err(Error::NoPassword { name: name.to_string(), path: name.place(lxcpath) });
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(&path, flags, Mode::empty())
        .map_err(|errno| Error::file("open", path.clone())(errno.into()))
        .map(std::fs::File::from)?;
    let metadata = file.metadata().map_err(Error::file("look at", path.clone()))?;
    let bad = |why| Err(Error::BadPassword { path: path.clone(), why });
    if !metadata.is_file() {
        return bad("it is not a file");
    }
    if metadata.uid() != berth_sys::rustix::process::geteuid().as_raw() {
        return bad("it belongs to somebody else");
    }
    if metadata.mode() & 0o077 != 0 {
        return bad("others may read or write it: make it 0600 and the password another");
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(Error::file("read", path.clone()))?;
    Ok(Password(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_file_of_ours_for_us_alone_is_read() {
        let root = std::env::temp_dir().join(format!("berth-lxc-pass-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("c")).unwrap();
        let name = Name::new("c").unwrap();
        assert!(matches!(password(&root, &name), Err(Error::Missing { .. })));
        fs::write(root.join("c/config"), "").unwrap();
        assert!(matches!(password(&root, &name), Err(Error::NoPassword { .. })));
        let path = root.join("c").join(PASSWORD);
        fs::write(&path, "s3cret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(password(&root, &name), Err(Error::BadPassword { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let told = password(&root, &name).unwrap();
        assert_eq!(told.reveal(), b"s3cret\n");
        assert!(!format!("{told:?}").contains("s3cret"));
        fs::rename(&path, root.join("elsewhere")).unwrap();
        symlink(root.join("elsewhere"), &path).unwrap();
        assert!(password(&root, &name).is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
