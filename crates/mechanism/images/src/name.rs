// SPDX-License-Identifier: Apache-2.0
//! How an image is named.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use berth_model::Class;
use berth_model::image::{Reference, ReferenceError};

use crate::appc::{AppcName, AppcNameError, KIND as APPC};

/// What stands before the colon of a source that is a file.
const KINDS: &[&str] = &["oci", "oci-archive", "docker-archive", "tar"];

/// A name of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// At a registry: `debian:12`, `registry.example/team/app@sha256:…`.
    Reference(Reference),
    /// In a file or directory of this host: `oci:/srv/layout:tag`, `oci-archive:…`, `docker-archive:…`, `tar:…`.
    ///
    /// These words come before the registry's rule: a repository that is called `tar` is `docker.io/library/tar`.
    File {
        /// Which of the kinds.
        kind: &'static str,
        /// Path, and what of it, after a further colon.
        rest: String,
    },
    /// An App Container image, by simple discovery: `appc:example.com/app:1.0,os=linux,arch=amd64`.
    Appc(AppcName),
}

/// Why a text names no image.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NameError {
    /// Neither a reference nor a kind of file.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No App Container image.
    #[error(transparent)]
    Appc(#[from] AppcNameError),
    /// Without a path.
    #[error("the image '{kind}:' lacks its path; write {kind}:/path")]
    Path {
        /// Which kind of file.
        kind: &'static str,
    },
    /// Relative to nowhere.
    #[error("the image '{0}' must be named by an absolute path")]
    Relative(String),
}

impl NameError {
    /// A wrong name is always a wrong request.
    pub fn class(&self) -> Class {
        match self {
            NameError::Reference(error) => error.class(),
            NameError::Appc(_) | NameError::Path { .. } | NameError::Relative(_) => Class::Invalid,
        }
    }
}

impl ImageName {
    /// The same with a path that is relative to `here` made absolute.
    #[must_use]
    pub fn relative_to(self, here: &Path) -> ImageName {
        match self {
            ImageName::File { kind, rest } if !rest.starts_with('/') => {
                let rest = rest.strip_prefix("./").unwrap_or(&rest);
                ImageName::File { kind, rest: format!("{}/{rest}", here.display()) }
            }
            other => other,
        }
    }

    /// Refuses a path that is relative: nobody can tell to what.
    ///
    /// # Errors
    /// [`NameError::Relative`].
    pub fn require_absolute(&self) -> Result<(), NameError> {
        match self {
            ImageName::File { rest, .. } if !rest.starts_with('/') => {
                Err(NameError::Relative(self.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// The key under which the store has it: what was not named is not added, as with Mesos.
    pub fn key(&self) -> String {
        match self {
            ImageName::Reference(reference) => reference.canonical(),
            ImageName::File { .. } | ImageName::Appc(_) => self.to_string(),
        }
    }

    /// Whether its content can change without anybody pulling: files are looked at each time.
    pub fn is_file(&self) -> bool {
        matches!(self, ImageName::File { .. })
    }

    /// Repository and tag as people list them; `<none>` for what there is not.
    pub fn columns(key: &str) -> (String, String) {
        match key.parse() {
            Ok(ImageName::Reference(reference)) => {
                let tag = match (reference.tag(), reference.digest()) {
                    (Some(tag), _) => tag.to_string(),
                    (None, Some(_)) => "<none>".to_owned(),
                    (None, None) => "latest".to_owned(),
                };
                (reference.name(), tag)
            }
            Ok(ImageName::Appc(name)) => (format!("{APPC}:{}", name.name()), name.version().to_owned()),
            _ => (key.to_owned(), "<none>".to_owned()),
        }
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ImageName, NameError> {
        if let Some((APPC, rest)) = text.split_once(':') {
            return Ok(ImageName::Appc(rest.parse()?));
        }
        let kind = text.split_once(':').and_then(|(kind, rest)| {
            let kind = KINDS.iter().find(|known| **known == kind)?;
            Some((*kind, rest))
        });
        match kind {
            Some((kind, "")) => Err(NameError::Path { kind }),
            Some((kind, rest)) => Ok(ImageName::File { kind, rest: rest.to_owned() }),
            None => Ok(ImageName::Reference(text.parse()?)),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageName::Reference(reference) => reference.fmt(f),
            ImageName::File { kind, rest } => write!(f, "{kind}:{rest}"),
            ImageName::Appc(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ImageName {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_kind_of_file_comes_before_the_registrys_rule() {
        assert_eq!(parse("oci:/a:b"), ImageName::File { kind: "oci", rest: "/a:b".into() });
        assert!(matches!(parse("debian:12"), ImageName::Reference(_)));
        assert!(matches!(parse("appc:a.example/x:1"), ImageName::Appc(_)));
        assert!(matches!("appc:".parse::<ImageName>(), Err(NameError::Appc(_))));
        assert!(matches!(parse("docker.io/library/tar:1"), ImageName::Reference(_)));
        assert!(matches!(parse("127.0.0.1:5000/debian:12"), ImageName::Reference(_)));
        assert!(matches!("oci:".parse::<ImageName>(), Err(NameError::Path { kind: "oci" })));
        assert!("No/Such Image".parse::<ImageName>().is_err());
    }

    #[test]
    fn a_path_is_made_absolute_or_refused() {
        let here = Path::new("/here");
        assert_eq!(parse("tar:./x.tar").relative_to(here).key(), "tar:/here/x.tar");
        assert_eq!(parse("oci:x:tag").relative_to(here).key(), "oci:/here/x:tag");
        assert_eq!(parse("oci:/x:tag").relative_to(here).key(), "oci:/x:tag");
        assert!(parse("oci:x").require_absolute().is_err());
        assert!(parse("oci:/x").require_absolute().is_ok() && parse("x").require_absolute().is_ok());
    }

    #[test]
    fn names_are_listed_as_docker_lists_them() {
        let columns = |key: &str| ImageName::columns(key);
        assert_eq!(columns("debian:12"), ("debian".into(), "12".into()));
        assert_eq!(columns("h:5/a/b"), ("h:5/a/b".into(), "latest".into()));
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert_eq!(columns(&digest), ("a".into(), "<none>".into()));
        assert_eq!(columns("oci:/srv/x"), ("oci:/srv/x".into(), "<none>".into()));
        assert_eq!(
            columns("appc:a.example/x:1,os=linux,arch=amd64"),
            ("appc:a.example/x".into(), "1".into())
        );
    }
}
