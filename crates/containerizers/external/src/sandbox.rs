// SPDX-License-Identifier: Apache-2.0
//! The sandbox as a call of the program has it: its working directory, and the file that its stderr goes to. What is in a
//! sandbox belongs to the container, so nothing in it is followed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use berth_keeper::sandbox;
use berth_sys::rustix::fs::{Gid, Uid, fchown};

use crate::error::{CallError, warn};

/// A sandbox, and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub(crate) directory: PathBuf,
    pub(crate) user: Option<String>,
}

impl Sandbox {
    /// Gives the directory itself to its user, and opens the file for stderr: none, if the container has put something else
    /// there, and then the program's words are dropped.
    pub(crate) fn stderr(&self) -> Result<Option<File>, CallError> {
        let directory = sandbox::open_directory(&self.directory)
            .map_err(|error| CallError::Spawn(named(error, &self.directory)))?;
        let owner = self.owner().map_err(CallError::Chown)?;
        if let Some((uid, gid)) = owner {
            fchown(&directory, Some(uid), Some(gid)).map_err(|errno| CallError::Chown(errno.into()))?;
        }
        let open = sandbox::open_output(&directory, "stderr").and_then(|file| {
            if let Some((uid, gid)) = owner {
                fchown(&file, Some(uid), Some(gid))?;
            }
            Ok(file)
        });
        match open {
            Ok(file) => Ok(Some(file)),
            Err(error) => {
                let path = self.directory.join("stderr");
                warn(&format!("what the program says is not written to {}: {error}", path.display()));
                Ok(None)
            }
        }
    }

    fn owner(&self) -> io::Result<Option<(Uid, Gid)>> {
        let Some(user) = &self.user else { return Ok(None) };
        match sandbox::user(user)? {
            Some((uid, gid)) => Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid)))),
            None => {
                let why = format!("user '{user}' is not in /etc/passwd");
                Err(io::Error::new(io::ErrorKind::NotFound, why))
            }
        }
    }
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("open the sandbox {}: {error}", path.display()))
}
