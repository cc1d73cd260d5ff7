// SPDX-License-Identifier: Apache-2.0
//! Names of containers. LXC takes nearly anything, and makes of it a path, an argument, lines of its configuration and a
//! column of its tables; what could be more than a name in one of these is none.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// The longest: a file name.
const LONGEST: usize = 255;

/// A container's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Takes a name.
    ///
    /// # Errors
    /// It is empty, longer than a file name, begins with `.` or `-`, or has a `/`, a space, `=`, `"`, `'`, `:`, `\` or a
    /// control character in it.
    pub fn new(text: &str) -> Result<Name> {
        let bad = |why: &str| Error::Name { name: text.escape_debug().to_string(), why: why.to_owned() };
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.len() > LONGEST {
            return Err(bad("it is longer than 255 bytes"));
        }
        if text.starts_with(['.', '-']) {
            return Err(bad("it begins with '.' or '-'"));
        }
        match text.chars().find(|c| c.is_control() || c.is_whitespace() || "/=\"':\\".contains(*c)) {
            Some(c) => Err(bad(&format!("it has {c:?} in it"))),
            None => Ok(Name(text.to_owned())),
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its directory.
    pub fn place(&self, lxcpath: &Path) -> PathBuf {
        lxcpath.join(&self.0)
    }

    /// Its configuration.
    pub fn config(&self, lxcpath: &Path) -> PathBuf {
        self.place(lxcpath).join("config")
    }

    /// Whether there is such a container.
    pub fn exists(&self, lxcpath: &Path) -> bool {
        self.config(lxcpath).symlink_metadata().is_ok()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Name> {
        Name::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_name_and_nothing_more() {
        for good in ["a", "cn-centos", "debian.12", "b_1", "berth-0f3a"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "-n",
            "a/b",
            "a b",
            "a\nlxc.hook.start=/x",
            "a=b",
            "a\tb",
            "a\u{1b}[2J",
            "a\"b",
            "a:b",
        ] {
            let error = Name::new(bad).unwrap_err();
            assert_eq!(error.class(), berth_model::Class::Invalid);
            let text = error.to_string();
            assert!(!text.contains(['\n', '\t', '\u{1b}']), "{text:?}");
        }
        assert!(Name::new(&"x".repeat(256)).is_err());
    }
}
