// SPDX-License-Identifier: Apache-2.0
//! What one URI of a command asks for, checked before anything starts.
//!
//! Rules and texts are Mesos's (`Fetcher::validateUri`, `Fetcher::basename`), with one addition: `..` in the name in
//! the sandbox is refused here, and not only where it would lead out.

use std::path::{Component, Path, PathBuf};

use berth_model::Uri;
use serde::{Deserialize, Serialize};

/// The longest URI in bytes. Servers take 8,000 (RFC 9110, 4.1); a message to the child must hold it.
pub(crate) const LONGEST: usize = 16 << 10;

/// Where a resource is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file of this host, by its absolute path.
    Local(PathBuf),
    /// http or https, as it was written.
    Http(String),
    /// ftp, as it was written.
    Ftp(String),
    /// Anything else is for an outside program: `s3` for the AWS client where it is installed, all others for Hadoop's.
    External(String),
}

/// What is to happen with a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The URI as it was written, without white space in front.
    pub uri: String,
    /// Where it is.
    pub source: Source,
    /// The name in the sandbox, perhaps with directories.
    pub output: PathBuf,
    /// Whether it becomes executable. It is not unpacked then.
    pub executable: bool,
    /// Whether it is unpacked if its name is that of an archive.
    pub extract: bool,
    /// Whether it may come from the cache.
    pub cache: bool,
}

/// Why a URI is not fetched at all. The texts are Mesos's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Backslash, quote, NUL or another control character.
    #[error("Illegal characters in URI")]
    Characters,
    /// There is nothing behind the host.
    #[error("Malformed URI (missing path): {0}")]
    NoPath(String),
    /// There is no host.
    #[error("Malformed URI (missing host): {0}")]
    NoHost(String),
    /// There is nothing at all.
    #[error("Malformed URI (missing path): the URI is empty")]
    Empty,
    /// It is longer than 16 KiB.
    #[error("URI of {0} bytes is too long: at most {LONGEST} are accepted")]
    TooLong(usize),
    /// The name in the sandbox is empty.
    #[error("URI output file path is empty")]
    OutputEmpty,
    /// The name in the sandbox is absolute, or has `..` in it.
    #[error("URI output file must be within the sandbox directory")]
    OutputOutside,
    /// A relative path needs a place to be relative to.
    #[error(
        "A relative path was passed for the resource but the Mesos framework home was not specified. \
         Please either provide this config option or avoid using a relative path"
    )]
    NoHome,
    /// `file://` with something in place of a path.
    #[error("File URI only supports absolute paths")]
    FileRelative,
    /// Explicitly not supported.
    #[error("ftps is not supported: publish '{0}' by https or ftp")]
    Ftps(String),
}

impl Item {
    /// Checks a URI and decides what it asks for.
    ///
    /// # Errors
    /// It can not be fetched, whatever the world looks like.
    pub fn of(uri: &Uri, frameworks_home: Option<&Path>) -> Result<Item, UriError> {
        let value = uri.value.trim_start();
        if value.len() > LONGEST {
            return Err(UriError::TooLong(value.len()));
        }
        if value.chars().any(|c| c == '\\' || c == '\'' || c.is_control()) {
            return Err(UriError::Characters);
        }
        let base = basename(value)?;
        let output = output(uri.output_file.as_deref().unwrap_or(base))?;
        Ok(Item {
            source: source(value, frameworks_home)?,
            uri: value.to_owned(),
            output,
            executable: uri.executable.unwrap_or(false),
            extract: uri.extract,
            cache: uri.cache.unwrap_or(false),
        })
    }

    /// How it is unpacked, if it is.
    pub fn archive(&self) -> Option<Archive> {
        if self.executable || !self.extract {
            return None;
        }
        Archive::of(&self.output)
    }

    /// The URI without what may be a secret in it: user, password and query.
    pub fn shown(&self) -> String {
        shown(&self.uri)
    }
}

/// A URI without user, password and the values of its query, for messages and logs.
pub fn shown(uri: &str) -> String {
    let (before, query) = match uri.split_once('?') {
        Some((before, _)) if uri.contains("://") => (before, "?…"),
        _ => (uri, ""),
    };
    let hidden = match before.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = match rest.find('/') {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            };
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}{query}")
        }
        None => before.to_owned(),
    };
    hidden.escape_debug().to_string()
}

/// The last part of a URI: its query stays, as in Mesos, so that `x.tgz?sig=1` is no archive.
fn basename(value: &str) -> Result<&str, UriError> {
    if value.is_empty() {
        return Err(UriError::Empty);
    }
    match value.split_once("://") {
        // As in Mesos: a scheme of at least one letter.
        Some((scheme, rest)) if !scheme.is_empty() => match rest.rsplit_once('/') {
            Some((_, base)) if !base.is_empty() => Ok(base),
            _ => Err(UriError::NoPath(shown(value))),
        },
        _ => match value.rsplit('/').next() {
            Some(base) if !base.is_empty() => Ok(base),
            _ => Err(UriError::NoPath(shown(value))),
        },
    }
}

fn source(value: &str, frameworks_home: Option<&Path>) -> Result<Source, UriError> {
    let Some((scheme, rest)) = value.split_once("://").filter(|(scheme, _)| !scheme.is_empty()) else {
        if value.starts_with('/') {
            return Ok(Source::Local(value.into()));
        }
        let home = frameworks_home.filter(|home| !home.as_os_str().is_empty()).ok_or(UriError::NoHome)?;
        return Ok(Source::Local(home.join(value)));
    };
    let scheme = scheme.to_ascii_lowercase();
    let hosted = |source: fn(String) -> Source| match rest.starts_with('/') {
        true => Err(UriError::NoHost(shown(value))),
        false => Ok(source(format!("{scheme}://{rest}"))),
    };
    match scheme.as_str() {
        "file" => {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            match path.starts_with('/') {
                true => Ok(Source::Local(path.into())),
                false => Err(UriError::FileRelative),
            }
        }
        "http" | "https" => hosted(Source::Http),
        "ftp" => hosted(Source::Ftp),
        "ftps" => Err(UriError::Ftps(shown(value))),
        // It becomes an argument of a program: a scheme and never an option.
        _ if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
        {
            Ok(Source::External(format!("{scheme}://{rest}")))
        }
        _ => Err(UriError::Characters),
    }
}

fn output(name: &str) -> Result<PathBuf, UriError> {
    if name.is_empty() {
        return Err(UriError::OutputEmpty);
    }
    if name.contains('\0') {
        return Err(UriError::Characters);
    }
    let mut plain = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => plain.push(part),
            Component::CurDir => {}
            _ => return Err(UriError::OutputOutside),
        }
    }
    match plain.as_os_str().is_empty() || name.ends_with('/') {
        true => Err(UriError::OutputEmpty),
        false => Ok(plain),
    }
}

/// How a resource is unpacked, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Archive {
    /// A tar, compressed or not, or a zip: the first bytes decide, as they do for Mesos's libarchive.
    Tree,
    /// One file, compressed by gzip.
    Gzip,
}

const TREES: &[&str] = &[
    ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip",
    // Not known to Mesos.
    ".tar.zst", ".tzst",
];

impl Archive {
    /// What a name says.
    pub fn of(name: &Path) -> Option<Archive> {
        let name = name.file_name()?.to_str()?;
        if TREES.iter().any(|end| name.ends_with(end)) {
            return Some(Archive::Tree);
        }
        (name.ends_with(".gz") && name.len() > 3).then_some(Archive::Gzip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(value: &str) -> Uri {
        Uri { value: value.into(), extract: true, ..Uri::default() }
    }

    fn item(value: &str) -> Result<Item, UriError> {
        Item::of(&uri(value), Some(Path::new("/home/fw")))
    }

    #[test]
    fn schemes_lead_to_their_sources() {
        let source = |value| item(value).unwrap().source;
        assert_eq!(source("/a/b"), Source::Local("/a/b".into()));
        assert_eq!(source("a/b"), Source::Local("/home/fw/a/b".into()));
        assert_eq!(source("file:///a/b"), Source::Local("/a/b".into()));
        assert_eq!(source("file://localhost/a/b"), Source::Local("/a/b".into()));
        assert_eq!(source("  HTTP://h/x"), Source::Http("http://h/x".into()));
        assert_eq!(source("ftp://h/x"), Source::Ftp("ftp://h/x".into()));
        assert_eq!(source("hdfs://n:9000/x"), Source::External("hdfs://n:9000/x".into()));
        assert_eq!(source("hdfs:///x"), Source::External("hdfs:///x".into()));
        assert_eq!(source("s3://bucket/x"), Source::External("s3://bucket/x".into()));
    }

    #[test]
    fn texts_of_refusals_are_those_of_mesos() {
        let text = |value: &str| item(value).unwrap_err().to_string();
        assert_eq!(text("http://h/a\\b"), "Illegal characters in URI");
        assert_eq!(text("http://h/a'b"), "Illegal characters in URI");
        assert_eq!(text("http://h/a\0b"), "Illegal characters in URI");
        assert_eq!(text("http://h"), "Malformed URI (missing path): http://h");
        assert_eq!(text("http://h/"), "Malformed URI (missing path): http://h/");
        assert_eq!(text("file://a/b"), "File URI only supports absolute paths");
        let relative = Item::of(&uri("a/b"), None).unwrap_err().to_string();
        assert!(
            relative.starts_with("A relative path was passed for the resource but the Mesos framework home")
        );
        let named = |name: &str| {
            let uri = Uri { output_file: Some(name.into()), ..uri("http://h/x") };
            Item::of(&uri, None).map(|item| item.output).map_err(|error| error.to_string())
        };
        assert_eq!(named("").unwrap_err(), "URI output file path is empty");
        assert_eq!(named("/x").unwrap_err(), "URI output file must be within the sandbox directory");
        assert_eq!(named("../x").unwrap_err(), "URI output file must be within the sandbox directory");
        assert_eq!(named("a/../x").unwrap_err(), "URI output file must be within the sandbox directory");
        assert_eq!(named("a/./x").unwrap(), Path::new("a/x"));
    }

    #[test]
    fn names_that_climb_or_are_options_come_to_nothing() {
        assert_eq!(item("http://h/..").unwrap_err(), UriError::OutputOutside);
        assert_eq!(item("http://h/.").unwrap_err(), UriError::OutputEmpty);
        assert_eq!(item("-x://h/y").unwrap_err(), UriError::Characters);
        assert!(matches!(item("http:///x"), Err(UriError::NoHost(_))));
        assert!(matches!(item(&format!("http://h/{}", "x".repeat(LONGEST))), Err(UriError::TooLong(_))));
        assert_eq!(item("http://h/a\nb").unwrap_err(), UriError::Characters);
    }

    #[test]
    fn the_name_decides_what_is_unpacked() {
        let archive = |value: &str| item(value).unwrap().archive();
        for tree in
            ["x.tar", "x.tgz", "x.tar.gz", "x.tbz2", "x.tar.bz2", "x.txz", "x.tar.xz", "x.zip", "x.tar.zst"]
        {
            assert_eq!(archive(&format!("http://h/{tree}")), Some(Archive::Tree), "{tree}");
        }
        assert_eq!(archive("http://h/x.gz"), Some(Archive::Gzip));
        assert_eq!(archive("http://h/.gz"), None);
        assert_eq!(archive("http://h/x.tgz?sig=1"), None);
        let named = Uri { output_file: Some("y.tgz".into()), ..uri("http://h/x?sig=1") };
        assert_eq!(Item::of(&named, None).unwrap().archive(), Some(Archive::Tree));
        let program = Uri { executable: Some(true), ..uri("http://h/x.tgz") };
        assert_eq!(Item::of(&program, None).unwrap().archive(), None);
    }

    #[test]
    fn secrets_in_a_uri_are_not_shown() {
        assert_eq!(shown("http://user:pass@h/x?token=1"), "http://h/x?…");
        assert_eq!(shown("s3://h/x"), "s3://h/x");
        assert_eq!(shown("/what?/x"), "/what?/x");
    }

    proptest::proptest! {
        #[test]
        fn what_is_accepted_stays_in_the_sandbox(value in ".{0,40}", name in proptest::option::of(".{0,20}")) {
            let uri = Uri { output_file: name, ..uri(&value) };
            if let Ok(item) = Item::of(&uri, Some(Path::new("/home"))) {
                let stays = item.output.components().all(|part| matches!(part, Component::Normal(_)));
                proptest::prop_assert!(stays && !item.output.as_os_str().is_empty());
            }
        }
    }
}
