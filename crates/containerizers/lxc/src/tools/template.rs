// SPDX-License-Identifier: Apache-2.0
//! Templates: programs that fill a root file system, found by name among LXC's own or by path.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// Where LXC's own are, `lxc-` before each name.
const PLACE: &str = "/usr/share/lxc/templates";

/// A template that can be run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Template {
    /// As it was named.
    pub name: String,
    /// The program.
    pub path: PathBuf,
}

/// LXC's own templates.
///
/// # Errors
/// The directory can not be read; one that is not there has none.
pub fn templates() -> Result<Vec<Template>> {
    let entries = match fs::read_dir(PLACE) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("list", PLACE)(error)),
    };
    let mut found: Vec<Template> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.strip_prefix("lxc-")?.to_owned();
            Some(Template { name, path: entry.path() })
        })
        .collect();
    found.sort();
    Ok(found)
}

impl Template {
    /// The template of a name, or of an absolute path. It runs as root: one that others could have written is refused.
    ///
    /// # Errors
    /// It is not there, is no program, or not root's alone to change.
    pub fn find(text: &str) -> Result<Template> {
        let bad = |why: String| Error::Template { template: text.escape_debug().to_string(), why };
        if text.chars().any(char::is_control) {
            return Err(bad("it has a control character in it".to_owned()));
        }
        let path = match Path::new(text) {
            path if path.is_absolute() => path.to_owned(),
            _ if text.is_empty() || text.starts_with(['.', '-']) || text.contains('/') => {
                return Err(bad("name one of `berth lxc templates`, or give an absolute path".to_owned()));
            }
            _ => Path::new(PLACE).join(format!("lxc-{text}")),
        };
        let metadata = fs::metadata(&path).map_err(|error| {
            bad(format!("{}: {error}; `berth lxc templates` lists what there is", path.display()))
        })?;
        if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
            return Err(bad(format!("{} is not an executable file", path.display())));
        }
        if metadata.mode() & 0o022 != 0 || (metadata.uid() != 0 && metadata.uid() != own()) {
            return Err(bad(format!("{} can be changed by others than its owner and root", path.display())));
        }
        Ok(Template { name: text.to_owned(), path })
    }
}

fn own() -> u32 {
    berth_sys::rustix::process::geteuid().as_raw()
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_template_is_a_name_or_a_program_that_is_roots_alone() {
        for bad in [
            "",
            "../busybox",
            "-x",
            "a/b",
            "a\nb",
            "/no/such/template",
            "no-such-template",
            "/etc/passwd",
            "/tmp",
        ] {
            let error = Template::find(bad).unwrap_err();
            assert_eq!(error.class(), berth_model::Class::Invalid, "{bad:?}");
            assert!(!error.to_string().contains('\n'));
        }
        let path = std::env::temp_dir().join(format!("berth-lxc-template-{}", std::process::id()));
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
        let text = path.to_str().unwrap();
        assert!(Template::find(text).unwrap_err().to_string().contains("changed by others"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Template::find(text).unwrap().path, path);
        fs::remove_file(path).unwrap();
    }
}
