// SPDX-License-Identifier: Apache-2.0
//! An App Container image and all that it depends on, each fetched into a file without a name.
//!
//! What an image depends on stands in its own archive, so nothing is known before that was fetched. One place is looked
//! at once, however many depend on it; a chain that comes back to itself is refused, and so are more than [`IMAGES_MAX`]
//! images or more bytes of them than one layer may have. An id is the digest of an archive: one that differs from what
//! was asked for is refused before its manifest is read.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use berth_image::{Cancel, Hasher, Limits, MANIFEST_MAX, PullError, UnpackError, decompress, file_in};
use berth_model::Class;
use berth_model::image::{Algorithm, Digest};
use berth_registry::url::Url;
use berth_registry::{ChosenBy, Client};
use rustix::fs::{FileType, Mode, OFlags};

use super::manifest::ImageManifest;
use super::name::AppcName;
use crate::error::{ImagesError, Result};

/// The most images that one is made of.
pub(super) const IMAGES_MAX: usize = 100;
/// The file with the manifest.
const MANIFEST: &str = "manifest";

/// Where simple discovery begins, from `--appc_simple_discovery_uri_prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prefix {
    /// Before the path of a file of this host.
    Path(String),
    /// Before the address of a file.
    Address(String),
}

/// The prefix is none. The words are Mesos's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid simple discovery uri prefix: {0}; begin with http://, https:// or /")]
pub struct PrefixError(String);

impl std::str::FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> std::result::Result<Prefix, PrefixError> {
        let wrong = || PrefixError(text.chars().take(200).flat_map(char::escape_debug).collect());
        if text.starts_with('/') {
            return Ok(Prefix::Path(text.to_owned()));
        }
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(wrong());
        }
        // With any name it must be an address.
        format!("{text}name").parse::<Url>().map_err(|_| wrong())?;
        Ok(Prefix::Address(text.to_owned()))
    }
}

impl Default for Prefix {
    /// Mesos's.
    fn default() -> Prefix {
        Prefix::Address("http://".to_owned())
    }
}

impl Prefix {
    /// Where an image is.
    ///
    /// # Errors
    /// A label is missing, or the name makes no address.
    pub fn place(&self, name: &AppcName) -> Result<Place> {
        let rest = name.place()?;
        match self {
            Prefix::Path(before) => Ok(Place::File(format!("{before}{rest}").into())),
            Prefix::Address(before) => {
                let text = format!("{before}{rest}");
                let url = text.parse().map_err(|source| {
                    let from = "--appc_simple_discovery_uri_prefix and the image's name".to_owned();
                    berth_registry::RegistryError::Url { url: text, from, source }
                })?;
                // `https://host/…` names the host; `https://` leaves that to the image.
                let host = before.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
                Ok(Place::Address(url, if host { ChosenBy::Operator } else { ChosenBy::Image }))
            }
        }
    }
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this host.
    File(PathBuf),
    /// Elsewhere, and who chose the host.
    Address(Url, ChosenBy),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::File(path) => path.display().fmt(f),
            Place::Address(url, _) => f.write_str(&url.shown()),
        }
    }
}

/// An archive that is here.
pub(super) struct Fetched {
    pub(super) id: Digest,
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) manifest: ImageManifest,
}

/// Fetches; `client` is asked for only where there is an address.
pub(super) struct Fetching<'a> {
    pub(super) prefix: &'a Prefix,
    pub(super) client: &'a dyn Fn() -> Result<Client>,
    /// A directory for archives while they are unpacked.
    pub(super) scratch: &'a Path,
    pub(super) cancel: &'a Cancel,
    /// Bytes of archives that may still come.
    pub(super) left: u64,
}

/// One image on the way to what it depends on.
struct Step {
    name: AppcName,
    fetched: Fetched,
    next: usize,
}

impl Fetching<'_> {
    /// The image and what it depends on: what is lowest first, the image itself last.
    pub(super) fn all(&mut self, name: &AppcName) -> Result<Vec<Fetched>> {
        let mut done: Vec<Fetched> = Vec::new();
        let mut seen = vec![name.clone()];
        let fetched = self.one(name)?;
        let mut path = vec![Step { name: name.clone(), fetched, next: 0 }];
        while let Some(step) = path.last_mut() {
            let next = step.fetched.manifest.dependencies.get(step.next).cloned();
            step.next += 1;
            let Some(next) = next else {
                let step = path.pop().expect("it was there a line above");
                // Another name of the same archive adds nothing to what lies below.
                if done.iter().all(|other| other.id != step.fetched.id) {
                    done.push(step.fetched);
                }
                continue;
            };
            if let Some(at) = path.iter().position(|step| step.name == next) {
                let round: Vec<_> = path[at..].iter().map(|step| step.name.name()).collect();
                let why = format!("its dependencies go round: {} → {}", round.join(" → "), next.name());
                return Err(self.refused(name, "what it depends on", why));
            }
            if seen.contains(&next) {
                continue;
            }
            if seen.len() >= IMAGES_MAX {
                let why = format!("it is made of more than {IMAGES_MAX} images");
                return Err(self.refused(name, "what it depends on", why));
            }
            seen.push(next.clone());
            let fetched = self.one(&next)?;
            path.push(Step { name: next, fetched, next: 0 });
        }
        Ok(done)
    }

    fn one(&mut self, name: &AppcName) -> Result<Fetched> {
        let place = self.prefix.place(name)?;
        let (id, file, size) = match &place {
            Place::File(path) => {
                self.plain(&mut open(&place, path)?).map_err(|error| self.broken(&place, error))?
            }
            Place::Address(url, by) => {
                let remote = (self.client)()?.file(url, *by)?;
                let taken = remote.fetch(self.cancel, |reader| self.plain(reader))?;
                taken.map_err(|error| self.broken(&place, error))?
            }
        };
        self.left -= size;
        if let Some(wanted) = name.id().filter(|wanted| **wanted != id) {
            let (wanted, found) = (Box::new(*wanted), Box::new(id));
            let what = format!("image {}", name.name());
            return Err(PullError::Digest { from: place.to_string(), what, wanted, found }.into());
        }
        let stop = || self.cancel.is_cancelled();
        let bytes =
            file_in(&file, MANIFEST, MANIFEST_MAX, &stop).map_err(|error| self.unread(&place, error))?;
        let bytes = bytes.ok_or_else(|| {
            self.refused(
                name,
                &place.to_string(),
                "it has no file `manifest`: it is no App Container image".into(),
            )
        })?;
        let manifest = ImageManifest::parse(&bytes, name)
            .map_err(|why| self.refused(name, &format!("the manifest in {place}"), why))?;
        Ok(Fetched { id, file, size, manifest })
    }

    /// What a stream holds when it is not compressed: its digest, a file without a name, and its size.
    fn plain(&self, from: &mut dyn Read) -> io::Result<(Digest, File, u64)> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(self.scratch, flags, Mode::RUSR | Mode::WUSR)?);
        let mut to = Digested { file, hasher: Hasher::new(Algorithm::Sha512), size: 0 };
        let ratio = Limits::default().ratio;
        decompress(Capped { from, left: self.left }, &mut to, self.left, ratio, &|| {
            self.cancel.is_cancelled()
        })?;
        to.file.rewind()?;
        Ok((to.hasher.finish(), to.file, to.size))
    }

    fn broken(&self, place: &Place, error: io::Error) -> ImagesError {
        let from = place.to_string();
        match (self.cancel.is_cancelled(), error.kind()) {
            (true, _) => PullError::Cancelled { from }.into(),
            (_, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput) => {
                PullError::Refused { from, what: "the archive".into(), why: error.to_string() }.into()
            }
            _ => PullError::Io { from, what: "keep the archive".into(), source: error }.into(),
        }
    }

    fn unread(&self, place: &Place, error: UnpackError) -> ImagesError {
        let from = place.to_string();
        match &error {
            UnpackError::Stopped { .. } => PullError::Cancelled { from }.into(),
            _ => {
                let (class, source) = (error.class(), Box::new(Unread { from, source: error }));
                PullError::Other { class, source }.into()
            }
        }
    }

    fn refused(&self, name: &AppcName, what: &str, why: String) -> ImagesError {
        PullError::Refused { from: name.to_string(), what: what.to_owned(), why }.into()
    }
}

/// An archive that is no image.
#[derive(Debug, thiserror::Error)]
#[error("the archive from {from} is refused: {source}")]
struct Unread {
    from: String,
    source: UnpackError,
}

fn open(place: &Place, path: &Path) -> Result<File> {
    let from = || place.to_string();
    let failed = |errno: rustix::io::Errno| match Class::of_io(&errno.into()) {
        Class::NotFound => PullError::NotFound {
            from: from(),
            what: "file there".into(),
            advice: "put the image's archive there, or name another by its labels version, os and arch"
                .into(),
        },
        _ => PullError::Io { from: from(), what: "open the archive".into(), source: errno.into() },
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(PullError::Refused {
            from: from(),
            what: "the archive".into(),
            why: "it is no regular file; put one there".into(),
        }
        .into()),
    }
}

/// Ends a stream that is longer than it may be.
struct Capped<'a> {
    from: &'a mut dyn Read,
    left: u64,
}

impl Read for Capped<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large")),
        }
        Ok(count)
    }
}

struct Digested {
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
