// SPDX-License-Identifier: Apache-2.0
//! What may be run as a hook: what only root could have put there.
//!
//! A directory in which others may make files of their own (`/tmp`, with its sticky bit) may be above: they can not put
//! another in the place of root's.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::Error;

/// Write, for the group and for others.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;
const EXECUTABLE: u32 = 0o111;

fn look(path: &Path) -> Result<Metadata, Error> {
    path.symlink_metadata().map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn not_one(path: &Path, why: &str) -> Error {
    Error::NotOne { path: path.to_owned(), why: why.to_owned() }
}

/// Whether only root can change this.
fn check_owner(path: &Path, meta: &Metadata, sticky: bool) -> Result<(), Error> {
    if meta.uid() != 0 {
        return Err(not_one(path, "it is not root's; chown root it"));
    }
    if meta.mode() & WRITABLE != 0 && !(sticky && meta.mode() & STICKY != 0) {
        return Err(not_one(path, "others than root may write it; chmod go-w it"));
    }
    Ok(())
}

/// A directory and all above it.
pub(crate) fn check_above(directory: &Path) -> Result<(), Error> {
    check_directory(directory)?;
    directory.ancestors().skip(1).try_for_each(|above| check_owner(above, &look(above)?, true))
}

pub(crate) fn check_directory(directory: &Path) -> Result<(), Error> {
    let meta = look(directory)?;
    if !meta.is_dir() {
        return Err(not_one(directory, "it is no directory; put hooks into a directory of that name"));
    }
    check_owner(directory, &meta, false)
}

/// A hook itself.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    let meta = look(path)?;
    if !meta.is_file() {
        return Err(not_one(path, "it is no file; put the program itself there, or take it away"));
    }
    check_owner(path, &meta, false)?;
    if meta.mode() & EXECUTABLE == 0 {
        return Err(not_one(path, "it is not executable; chmod +x it, or take it away"));
    }
    Ok(())
}

/// What is in a directory; each can be a word.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let read = |source| Error::Read { path: directory.to_owned(), source };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(read)? {
        let entry = entry.map_err(read)?;
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match entry.file_name().into_string() {
            Ok(name) if name.chars().all(good) && !name.starts_with('.') => all.push(name),
            _ => {
                let why = "its name is not of letters, digits, '-', '_' and '.'; call it otherwise, or take it away";
                return Err(not_one(&entry.path(), why));
            }
        }
    }
    Ok(all)
}
