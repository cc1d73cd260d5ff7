// SPDX-License-Identifier: Apache-2.0
//! Names of App Container images, and where simple discovery looks for them.
//!
//! A name and its labels come from whoever may launch containers, or from an image that depends on another; they
//! become an address, or a path on this host. So they are checked by the specification's own rule for identifiers, which
//! knows no `..`, and a label that is part of an address has nothing but letters, digits and `._~+-`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use berth_model::image::{Digest, Platform};

/// What stands before such a name in a text.
pub(crate) const KIND: &str = "appc";

/// The most bytes of a name, and of a label's name or value. A path has no longer names.
const MAX: usize = 250;
/// The most labels.
const LABELS: usize = 64;

/// The name of an App Container image: `appc:example.com/app:1.0,arch=amd64,os=linux`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppcName {
    name: String,
    labels: BTreeMap<String, String>,
    id: Option<Digest>,
}

/// Why there is no such image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppcNameError {
    /// Not what the specification calls an identifier.
    #[error(
        "'{0}' is no name of an App Container image: use lower-case letters and digits, with one of ._~/- between them"
    )]
    Name(String),
    /// A label that is none.
    #[error("the label '{0}' of an App Container image {1}")]
    Label(String, &'static str),
    /// An id that is none.
    #[error("'{0}' is no id of an App Container image: write sha512- and 128 hexadecimal digits")]
    Id(String),
    /// A label that is needed. The words are Mesos's.
    #[error("Failed to form simple discovery url: label '{0}' is missing")]
    Missing(&'static str),
}

impl AppcName {
    /// A name with its labels, and its id where one is known.
    ///
    /// # Errors
    /// [`AppcNameError`].
    pub fn new(
        name: &str,
        labels: impl IntoIterator<Item = (String, String)>,
        id: Option<&str>,
    ) -> Result<AppcName, AppcNameError> {
        if !is_identifier(name, true) {
            return Err(AppcNameError::Name(cut(name)));
        }
        let mut all = BTreeMap::new();
        for (label, value) in labels {
            let wrong = |why| Err(AppcNameError::Label(cut(&label), why));
            if !is_identifier(&label, false) {
                return wrong(
                    "is no identifier: use lower-case letters and digits, with one of ._~- between",
                );
            }
            let in_address = matches!(label.as_str(), "version" | "os" | "arch");
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~+-".contains(&b);
            let good =
                |b: u8| if in_address { plain(b) } else { b.is_ascii_graphic() && !b",@".contains(&b) };
            if value.is_empty() || value.len() > MAX || !value.bytes().all(good) {
                return wrong("has a value with characters that no discovery can use");
            }
            if all.insert(label.clone(), value).is_some() {
                return wrong("is there twice");
            }
            if all.len() > LABELS {
                return wrong("is one too many");
            }
        }
        let id = id.map(|id| id_of(id).ok_or_else(|| AppcNameError::Id(cut(id)))).transpose()?;
        Ok(AppcName { name: name.to_owned(), labels: all, id })
    }

    /// The same with the labels os and arch of a platform, where it has none.
    #[must_use]
    pub fn on(mut self, platform: &Platform) -> AppcName {
        let mut give = |label: &str, value: &str| {
            self.labels.entry(label.to_owned()).or_insert_with(|| value.to_owned());
        };
        give("os", &platform.os);
        give("arch", &platform.architecture);
        self
    }

    /// The name alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its labels, by their names.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The digest of its archive, where it is known.
    pub fn id(&self) -> Option<&Digest> {
        self.id.as_ref()
    }

    /// `latest`, or what the label says.
    pub fn version(&self) -> &str {
        self.labels.get("version").map_or("latest", String::as_str)
    }

    /// What follows the prefix where simple discovery looks.
    ///
    /// # Errors
    /// [`AppcNameError::Missing`].
    pub fn place(&self) -> Result<String, AppcNameError> {
        let label = |name| self.labels.get(name).ok_or(AppcNameError::Missing(name));
        Ok(format!("{}-{}-{}-{}.aci", self.name, self.version(), label("os")?, label("arch")?))
    }
}

/// The specification's AC Identifier, or with slashes allowed its AC Name: runs of lower-case letters and digits with one
/// of `-._~` (or a slash) between them.
fn is_identifier(text: &str, slashes: bool) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let between = |b: u8| b"-._~".contains(&b) || (slashes && b == b'/');
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(|b| inner(*b));
    bytes.len() <= MAX
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| inner(*b) || between(*b))
        && bytes.windows(2).all(|pair| inner(pair[0]) || inner(pair[1]))
}

fn id_of(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix("sha512-")?;
    format!("sha512:{hex}").parse().ok()
}

fn cut(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

impl FromStr for AppcName {
    type Err = AppcNameError;

    /// `NAME[:VERSION][,LABEL=VALUE…][@sha512-…]`, what follows `appc:`. Without os and arch, this machine's.
    fn from_str(text: &str) -> Result<AppcName, AppcNameError> {
        let (text, id) = match text.split_once('@') {
            Some((text, id)) => (text, Some(id)),
            None => (text, None),
        };
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        let (name, version) = match first.split_once(':') {
            Some((name, version)) => (name, Some(("version".to_owned(), version.to_owned()))),
            None => (first, None),
        };
        let mut labels: Vec<_> = version.into_iter().collect();
        for part in parts {
            let pair = part.split_once('=');
            let (label, value) =
                pair.ok_or(AppcNameError::Label(cut(part), "has no value: write LABEL=VALUE"))?;
            labels.push((label.to_owned(), value.to_owned()));
        }
        Ok(AppcName::new(name, labels, id)?.on(&Platform::host()))
    }
}

impl fmt::Display for AppcName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KIND}:{}", self.name)?;
        if let Some(version) = self.labels.get("version") {
            write!(f, ":{version}")?;
        }
        for (label, value) in self.labels.iter().filter(|(label, _)| *label != "version") {
            write!(f, ",{label}={value}")?;
        }
        match &self.id {
            Some(id) => write!(f, "@sha512-{}", id.hex()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AppcName, AppcNameError> {
        text.parse()
    }

    #[test]
    fn a_name_is_looked_for_by_version_os_and_architecture() {
        let name = parse("example.com/app:1.0,os=linux,arch=amd64,channel=beta").unwrap();
        assert_eq!(name.place().unwrap(), "example.com/app-1.0-linux-amd64.aci");
        assert_eq!(name.to_string(), "appc:example.com/app:1.0,arch=amd64,channel=beta,os=linux");
        let id = format!("sha512-{}", "ab".repeat(64));
        let name = parse(&format!("app,os=linux,arch=amd64@{id}")).unwrap();
        assert_eq!(
            (name.version(), name.place().unwrap().as_str()),
            ("latest", "app-latest-linux-amd64.aci")
        );
        assert_eq!(parse(&name.to_string()["appc:".len()..]).unwrap(), name);
        let host = Platform::host();
        assert_eq!(parse("app").unwrap().labels()["arch"], host.architecture);
        let bare = AppcName::new("app", [("os".to_owned(), "linux".to_owned())], None).unwrap();
        let missing = bare.place().unwrap_err().to_string();
        assert_eq!(missing, "Failed to form simple discovery url: label 'arch' is missing");
    }

    #[test]
    fn no_name_and_no_label_leads_anywhere_else() {
        for bad in [
            "",
            "/etc/passwd",
            "../up",
            "a/../b",
            "a//b",
            "a/",
            "a/.b",
            "App",
            "a b",
            "a%2e",
            "a?x",
            "a#x",
            "a\0",
            "user@host",
            "a:",
            "a:1/../../x",
            "a:..%2f",
            "a:1?x",
            "a,os",
            "a,os=",
            "a,os=../x",
            "a,arch=a/b",
            "a,os=a,os=b",
            "a,Label=x",
            "a,l/l=x",
            "a,x=a b",
            "a,x=\n",
            "a@sha256-00",
            "a@sha512-00",
            "a:1,version=2",
        ] {
            parse(bad).expect_err(bad);
        }
        parse(&"a".repeat(MAX + 1)).unwrap_err();
        let many: Vec<_> = (0..=LABELS).map(|n| (format!("l{n}"), "x".to_owned())).collect();
        AppcName::new("a", many, None).unwrap_err();
    }
}
