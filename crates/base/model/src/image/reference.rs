// SPDX-License-Identifier: Apache-2.0
//! Names of images: `[REGISTRY[:PORT]/]REPOSITORY[:TAG][@DIGEST]`.
//!
//! The grammar is that of Docker's `reference` package, read as Mesos reads it: the first part is a registry when
//! it has a dot or a colon in it or is `localhost`. What was written is kept as it was (`busybox` and
//! `busybox:latest` are two names); that Docker's registry is meant when none is named, and `library/` when its
//! repositories have one part, is for requests only: [`Reference::registry_or`], [`Registry::path_of`].

use super::{Digest, DigestError};
use crate::Class;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The registry that is meant when none is named.
pub const DEFAULT_REGISTRY: &str = "docker.io";

const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No text at all.
    #[error("the name of an image must not be empty; write [registry/]repository[:tag]")]
    Empty,
    /// More text than a name can have.
    #[error(
        "the name '{0}' is longer than {MAX_NAME} characters; registry and repository together may have no more"
    )]
    TooLong(String),
    /// Capital letters in the repository.
    #[error("the repository of '{0}' has capital letters; repositories are lower case")]
    Uppercase(String),
    /// A registry that is no host, or a port that is no port.
    #[error(
        "'{registry}' in '{reference}' is not a registry; write a host name, an address or [an IPv6 address], and a port from 1 to 65535 if needed"
    )]
    Registry {
        /// All that was given.
        reference: String,
        /// What should be a registry.
        registry: String,
    },
    /// A part of the repository that breaks the grammar.
    #[error(
        "'{part}' in '{reference}' is not part of a repository: lower-case letters and digits, separated by '.', '_', '__' or dashes"
    )]
    Repository {
        /// All that was given.
        reference: String,
        /// The first wrong part between slashes.
        part: String,
    },
    /// A repository of 64 hexadecimal digits.
    #[error("'{0}' looks like the id of an image; a repository can not be 64 hexadecimal digits")]
    LooksLikeId(String),
    /// A tag that breaks the grammar.
    #[error("'{tag}' in '{reference}' is not a tag: a letter, digit or '_', then up to {} more of these, '.' and '-'", MAX_TAG - 1)]
    Tag {
        /// All that was given.
        reference: String,
        /// What should be a tag.
        tag: String,
    },
    /// What follows `@` is no digest.
    #[error("the name '{reference}' has a wrong digest: {source}")]
    Digest {
        /// All that was given.
        reference: String,
        /// Why.
        source: DigestError,
    },
}

impl ReferenceError {
    /// A wrong name is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// A text for an error: what an attacker wrote may be long, and have control characters.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(300).flat_map(char::escape_debug).collect();
    if text.chars().nth(300).is_some() {
        shown.push('…');
    }
    shown
}

/// The host of a registry, and perhaps a port: `registry.example:5000`, `127.0.0.1`, `[::1]:80`. Lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registry {
    host: String,
    port: Option<u16>,
}

impl Registry {
    /// Docker's own registry, `docker.io`.
    pub fn docker() -> Registry {
        Registry { host: DEFAULT_REGISTRY.to_owned(), port: None }
    }

    /// The host as written; an IPv6 address stands in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, when one is named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it is a name of Docker's own registry.
    pub fn is_docker(&self) -> bool {
        let names = matches!(self.host.as_str(), "docker.io" | "index.docker.io" | "registry-1.docker.io");
        // Another port is another service.
        names && self.port.is_none_or(|port| port == 443)
    }

    /// Whether it is this machine by name or address: the only place where plain HTTP needs no permission.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
    }

    /// What requests call a repository of this registry: Docker's repositories of one part are below `library/`.
    pub fn path_of(&self, repository: &Repository) -> String {
        let name = repository.as_str();
        if self.is_docker() && !name.contains('/') { format!("library/{name}") } else { name.to_owned() }
    }
}

impl FromStr for Registry {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Registry, ReferenceError> {
        let wrong = || ReferenceError::Registry { reference: shortened(text), registry: shortened(text) };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or_else(wrong)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or_else(wrong)?),
                };
                (&text[..address.len() + 2], port)
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                let label = |l: &str| {
                    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
                    !l.is_empty() && l.bytes().all(word) && !l.starts_with('-') && !l.ends_with('-')
                };
                if host.len() > MAX_NAME || !host.split('.').all(label) {
                    return Err(wrong());
                }
                (host, port)
            }
        };
        let port = match port {
            None => None,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(wrong)?)
            }
            Some(_) => return Err(wrong()),
        };
        Ok(Registry { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A repository within a registry: `debian`, `library/debian`, `team/app/web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

impl Repository {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Repository, ReferenceError> {
        let shown = || shortened(text);
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(ReferenceError::TooLong(shown()));
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::LooksLikeId(shown()));
        }
        if let Some(part) = text.split('/').find(|part| !is_component(part)) {
            let lowered = text.to_ascii_lowercase();
            if lowered != text && lowered.split('/').all(is_component) {
                return Err(ReferenceError::Uppercase(shown()));
            }
            return Err(ReferenceError::Repository { reference: shown(), part: shortened(part) });
        }
        Ok(Repository(text.to_owned()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let runs_are_separators = bytes
        .split(|b| word(*b))
        .all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-'));
    word(*first) && word(*last) && runs_are_separators
}

/// A tag of a repository: `latest`, `12-slim`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Tag, ReferenceError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = text.len() <= MAX_TAG
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
        match good {
            true => Ok(Tag(text.to_owned())),
            false => Err(ReferenceError::Tag { reference: shortened(text), tag: shortened(text) }),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an image: `registry.example:5000/team/app:1.2`, `busybox@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: Option<Registry>,
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// A name from its parts; refused when registry and repository are too long together.
    pub fn new(
        registry: Option<Registry>,
        repository: Repository,
        tag: Option<Tag>,
        digest: Option<Digest>,
    ) -> Result<Reference, ReferenceError> {
        let reference = Reference { registry, repository, tag, digest };
        // The text must mean the same when it is read again: a repository that looks like it began with a
        // registry needs one before it.
        match reference.to_string().parse::<Reference>() {
            Ok(again) if again == reference => Ok(reference),
            Ok(_) => Err(ReferenceError::Repository {
                reference: reference.to_string(),
                part: reference.repository.to_string(),
            }),
            Err(error) => Err(error),
        }
    }

    /// The registry, when one is named.
    pub fn registry(&self) -> Option<&Registry> {
        self.registry.as_ref()
    }

    /// The registry that is named, or the given one.
    pub fn registry_or<'a>(&'a self, default: &'a Registry) -> &'a Registry {
        self.registry.as_ref().unwrap_or(default)
    }

    /// The repository as it was written.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, when one is named.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, when one is named. It decides; a tag beside it only tells people what was meant.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What requests for the manifest end with: the digest, else the tag, else `latest`.
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_string(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The canonical form that stores use as a key: registry, repository, and the digest or else the tag. What was
    /// not named is not added.
    pub fn canonical(&self) -> String {
        let mut text = self.name();
        match (&self.digest, &self.tag) {
            (Some(digest), _) => text.push_str(&format!("@{digest}")),
            (None, Some(tag)) => text.push_str(&format!(":{tag}")),
            (None, None) => {}
        }
        text
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        match &self.registry {
            Some(registry) => format!("{registry}/{}", self.repository),
            None => self.repository.to_string(),
        }
    }

    /// The same image by digest, without tag.
    pub fn at(&self, digest: Digest) -> Reference {
        Reference { digest: Some(digest), tag: None, ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let shown = || shortened(text);
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest =
                    digest.parse().map_err(|source| ReferenceError::Digest { reference: shown(), source })?;
                (rest, Some(digest))
            }
        };
        let (registry, rest) = match rest.split_once('/') {
            Some((first, rest)) if names_registry(first) => {
                let registry = first.parse::<Registry>().map_err(|_| ReferenceError::Registry {
                    reference: shown(),
                    registry: shortened(first),
                })?;
                (Some(registry), rest)
            }
            _ => (None, rest),
        };
        let (repository, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((repository, tag)) => (repository, Some(tag)),
        };
        let tag = tag.map(str::parse::<Tag>).transpose().map_err(|error| match error {
            ReferenceError::Tag { tag, .. } => ReferenceError::Tag { reference: shown(), tag },
            other => other,
        })?;
        let repository = repository.parse::<Repository>().map_err(|error| match error {
            ReferenceError::Repository { part, .. } => {
                ReferenceError::Repository { reference: shown(), part }
            }
            ReferenceError::Empty => ReferenceError::Repository { reference: shown(), part: String::new() },
            ReferenceError::Uppercase(_) => ReferenceError::Uppercase(shown()),
            other => other,
        })?;
        let reference = Reference { registry, repository, tag, digest };
        if reference.name().len() > MAX_NAME {
            return Err(ReferenceError::TooLong(shown()));
        }
        Ok(reference)
    }
}

/// Whether what stands before the first slash is a registry: Mesos's and Docker's rule.
fn names_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost")
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Reference, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}
