// SPDX-License-Identifier: Apache-2.0
//! Images that are files: layouts and archives of OCI, archives of docker save, plain root filesystems.
//!
//! | | |
//! |---|---|
//! | `oci:DIR[:TAG]` | an image layout in a directory |
//! | `oci-archive:FILE[:TAG]` | one in a tar |
//! | `docker-archive:FILE[:REFERENCE]` | what `docker save` writes, now and in its old form |
//! | `tar:FILE` | a root filesystem as a tar: an image of one layer |
//!
//! An archive that is compressed as a whole is uncompressed first, into a file without a name in the store. Whoever
//! names such a file trusts its path; what is in it is an attacker's.

mod archive;
mod docker;
mod oci;
mod plain;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use berth_image::{Cancel, PullError, Source, decompress};
use berth_model::image::{Platform, Reference};
use rustix::fs::{FileType, Mode, OFlags};

pub use docker::DockerArchive;
pub use oci::OciLayout;
pub use plain::PlainTar;

/// The most bytes of an index of a layout, or of a list of what an archive holds.
const INDEX_MAX: u64 = 4 << 20;
/// The most bytes of an archive that was compressed as a whole, and the most that one byte of it may become.
const WHOLE_MAX: u64 = 64 << 30;
const WHOLE_RATIO: u64 = 1000;

/// Opens a source that is named by kind and path. Nothing when `name` has none of the kinds: it is a reference then.
///
/// `scratch` is a directory for archives that have to be uncompressed; `platform` chooses among images of a layout
/// that have the same tag.
///
/// # Errors
/// [`PullError`].
pub fn open(
    name: &str,
    scratch: &Path,
    platform: &Platform,
    cancel: &Cancel,
) -> Option<Result<Box<dyn Source>, PullError>> {
    let (kind, rest) = name.split_once(':')?;
    fn boxed<S: Source + 'static>(source: Result<S, PullError>) -> Result<Box<dyn Source>, PullError> {
        source.map(|source| Box::new(source) as Box<dyn Source>)
    }
    Some(match kind {
        "oci" => {
            let (path, tag) = path_and_tag(rest);
            boxed(OciLayout::directory(name, &path, tag, platform))
        }
        "oci-archive" => {
            let (path, tag) = path_and_tag(rest);
            boxed(OciLayout::archive(name, &path, tag, platform, scratch, cancel))
        }
        "docker-archive" => {
            let (path, reference) = path_and_tag(rest);
            boxed(DockerArchive::open(name, &path, reference, scratch, cancel))
        }
        "tar" => boxed(PlainTar::open(name, Path::new(rest), platform, cancel)),
        _ => return None,
    })
}

/// Opens an image of a directory of archives, as `--docker_registry=/path` of Mesos means it: `<directory>/<reference
/// as it was written>.tar`, a reference with a registry or a namespace in directories below.
///
/// # Errors
/// [`PullError`].
pub fn open_in_directory(
    directory: &Path,
    reference: &Reference,
    scratch: &Path,
    cancel: &Cancel,
) -> Result<DockerArchive, PullError> {
    let name = reference.canonical();
    let path = directory.join(format!("{name}.tar"));
    if !path.exists() {
        return Err(PullError::NotFound {
            from: directory.display().to_string(),
            what: format!("archive for image '{name}' at '{}'", path.display()),
            advice: "put it there with `docker save`".into(),
        });
    }
    DockerArchive::open(&name, &path, Some(&name), scratch, cancel)
}

/// A path that exists is one, colons and all. Otherwise what follows the first colon is a tag.
fn path_and_tag(rest: &str) -> (PathBuf, Option<&str>) {
    if Path::new(rest).exists() {
        return (rest.into(), None);
    }
    // The longest part that exists: `/dir:with:colons:tag`, `FILE:registry:5000/name:tag`.
    for (at, _) in rest.rmatch_indices(':') {
        if Path::new(&rest[..at]).exists() {
            return (rest[..at].into(), Some(&rest[at + 1..]));
        }
    }
    match rest.split_once(':') {
        Some((path, tag)) => (path.into(), Some(tag)),
        None => (rest.into(), None),
    }
}

/// Opens a regular file whose path is trusted.
fn open_regular(from: &str, path: &Path) -> Result<File, PullError> {
    let failed = |source: io::Error| PullError::Io {
        from: from.to_owned(),
        what: format!("open {}", path.display()),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(PullError::Refused {
            from: from.to_owned(),
            what: path.display().to_string(),
            why: "it is no regular file; name one".into(),
        }),
    }
}

/// Opens an archive; one that is compressed is uncompressed into `scratch`.
fn open_archive(from: &str, path: &Path, scratch: &Path, cancel: &Cancel) -> Result<File, PullError> {
    let file = open_regular(from, path)?;
    let mut magic = [0; 6];
    let count = read_at(&file, &mut magic, 0);
    if matches!(&magic[..count], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', ..]) {
        let what = || format!("uncompress {}", path.display());
        let failed = |source| PullError::Io { from: from.to_owned(), what: what(), source };
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let plain = rustix::fs::open(scratch, flags, Mode::RUSR | Mode::WUSR);
        let mut plain = File::from(plain.map_err(|errno| failed(errno.into()))?);
        let stop = || cancel.is_cancelled();
        decompress(&file, &mut plain, WHOLE_MAX, WHOLE_RATIO, &stop).map_err(|error| match stop() {
            true => PullError::Cancelled { from: from.to_owned() },
            false => failed(error),
        })?;
        return Ok(plain);
    }
    Ok(file)
}

fn read_at(file: &File, buf: &mut [u8], offset: u64) -> usize {
    std::os::unix::fs::FileExt::read_at(file, buf, offset).unwrap_or(0)
}

/// A part of a file, read at its own pace.
struct Part {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let count = std::os::unix::fs::FileExt::read_at(&self.file, &mut buf[..most], self.at)?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_the_path_and_the_rest_the_tag() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a:b");
        std::fs::create_dir(&odd).unwrap();
        let odd = odd.to_str().unwrap();
        assert_eq!(path_and_tag(odd), (odd.into(), None));
        let tagged = format!("{odd}:host:5000/x:1");
        assert_eq!(path_and_tag(&tagged), (odd.into(), Some("host:5000/x:1")));
        assert_eq!(path_and_tag("/nowhere/x:tag"), ("/nowhere/x".into(), Some("tag")));
    }
}
