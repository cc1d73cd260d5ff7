// SPDX-License-Identifier: Apache-2.0
//! Named files in a directory or in a tar, read without trusting either.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use berth_image::{Content, PullError, Root, contents};
use berth_model::Class;

use super::Part;

/// Links from name to name that are followed in an archive.
const LINKS: u32 = 8;

/// A file's content and its size.
pub(super) type Opened = (Box<dyn Read + Send>, u64);

/// Where named files are.
pub(super) enum Files {
    Directory(Root),
    Archive { file: File, names: HashMap<Vec<u8>, Content> },
}

impl Files {
    pub(super) fn directory(from: &str, path: &Path) -> Result<Files, PullError> {
        Root::at(path).map(Files::Directory).map_err(|error| other(error.class(), from, error))
    }

    pub(super) fn archive(from: &str, file: File) -> Result<Files, PullError> {
        let names = contents(&file).map_err(|error| other(error.class(), from, error))?;
        Ok(Files::Archive { file, names })
    }

    /// Opens a file, and tells its size; nothing if there is none of that name.
    pub(super) fn open(&self, from: &str, name: &str) -> Result<Option<Opened>, PullError> {
        let failed = |source| PullError::Io { from: from.to_owned(), what: format!("open {name:?}"), source };
        match self {
            Files::Directory(root) => match root.open_regular(name, u64::MAX) {
                Ok(file) => {
                    let size = file.metadata().map_err(failed)?.len();
                    Ok(Some((Box::new(file), size)))
                }
                Err(error) if error.class() == Class::NotFound => Ok(None),
                Err(error) => Err(other(error.class(), from, error)),
            },
            Files::Archive { file, names } => {
                let Some((at, left)) = find(names, name) else { return Ok(None) };
                let file = file.try_clone().map_err(failed)?;
                Ok(Some((Box::new(Part { file, at, left }), left)))
            }
        }
    }

    /// Reads a small file whole.
    pub(super) fn read(&self, from: &str, name: &str, max: u64) -> Result<Option<Vec<u8>>, PullError> {
        let Some((reader, size)) = self.open(from, name)? else { return Ok(None) };
        let too_much = || PullError::TooMuch { from: from.to_owned(), what: name.to_owned(), allowed: max };
        if size > max {
            return Err(too_much());
        }
        let mut bytes = Vec::new();
        reader.take(max + 1).read_to_end(&mut bytes).map_err(|source| PullError::Io {
            from: from.to_owned(),
            what: format!("read {name:?}"),
            source,
        })?;
        match bytes.len() as u64 > max {
            true => Err(too_much()),
            false => Ok(Some(bytes)),
        }
    }
}

/// Follows links, which old versions of docker save made where layers are equal. They are text here: nothing is
/// opened by them but parts of the archive.
fn find(names: &HashMap<Vec<u8>, Content>, name: &str) -> Option<(u64, u64)> {
    let mut name = plain(Path::new(""), Path::new(name))?;
    for _ in 0..LINKS {
        match names.get(name.as_bytes())? {
            Content::File { offset, size } => return Some((*offset, *size)),
            Content::Same(target) => name = String::from_utf8(target.clone()).ok()?,
            Content::Link(target) => {
                let target = std::str::from_utf8(target).ok()?;
                name = plain(Path::new(&name).parent()?, Path::new(target))?;
            }
        }
    }
    None
}

/// Joins two paths of an archive, as text; nothing when it leads out.
fn plain(from: &Path, to: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in from.components().chain(to.components()) {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => _ = parts.pop()?,
            Component::CurDir => {}
            Component::RootDir => parts.clear(),
            Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

pub(super) fn other(
    class: Class,
    from: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> PullError {
    #[derive(Debug, thiserror::Error)]
    #[error("{from} can not be read")]
    struct From_ {
        from: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    }
    PullError::Other { class, source: Box::new(From_ { from: from.to_owned(), source: Box::new(error) }) }
}
