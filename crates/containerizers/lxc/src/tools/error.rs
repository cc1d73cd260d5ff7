// SPDX-License-Identifier: Apache-2.0
//! How something asked of LXC failed: the step, LXC's own last words, and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use berth_model::Class;

use super::USERS;

/// The failure of one thing asked of LXC.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a name of a container.
    #[error("'{name}' can not be the name of a container: {why}; use letters, digits, '.', '_' and '-'")]
    Name {
        /// It, escaped.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a line of a configuration.
    #[error("'{key}' can not be set in LXC's configuration: {why}")]
    Setting {
        /// The key, escaped.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A template that can not be run.
    #[error("template '{template}' can not be used: {why}")]
    Template {
        /// It, escaped.
        template: String,
        /// What is wrong.
        why: String,
    },
    /// Somebody else copies or removes it.
    #[error("container '{name}' is being made or removed by another command: wait for that, or end it")]
    Busy {
        /// Which.
        name: String,
    },
    /// There is no such program.
    #[error("{0} is not installed: install LXC (on Debian: apt-get install lxc lxc-templates)")]
    NotInstalled(&'static str),
    /// A program could not be started.
    #[error("start {program}")]
    Start {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file.
    #[error("{what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A tool said no.
    #[error("{program} of '{name}' failed{}{}", coded(.status), said(.words))]
    Failed {
        /// Which.
        program: &'static str,
        /// The container.
        name: String,
        /// Its exit code; none if a signal ended it.
        status: Option<i32>,
        /// What it said last.
        words: String,
    },
    /// A tool took too long.
    #[error("{program} of '{name}' did not end within {limit:?} and was killed with all that it had started{}", said(.words))]
    Late {
        /// Which.
        program: &'static str,
        /// The container.
        name: String,
        /// How long it had.
        limit: Duration,
        /// What it said last.
        words: String,
    },
    /// Somebody wanted its end.
    #[error("{program} of '{name}' was cancelled")]
    Cancelled {
        /// Which.
        program: &'static str,
        /// The container.
        name: String,
    },
    /// The bridge of the container's network is not there.
    #[error(
        "bridge {bridge} of '{name}' is not on this host: start what makes it (for lxcbr0: systemctl start lxc-net, or \
         /usr/libexec/lxc/lxc-net start), or set lxc.net.0.type to none or empty in {config}"
    )]
    Bridge {
        /// Its name.
        bridge: String,
        /// The container.
        name: String,
        /// Where it is asked for.
        config: PathBuf,
    },
    /// Root may not map these users.
    #[error(
        "users {base} to {last} can not be mapped: {file} does not give them to root, and newuidmap, which LXC uses because \
         it is installed, takes only those; add root:{base}:{USERS} to /etc/subuid and /etc/subgid", last = base + (USERS - 1)
    )]
    NotMapped {
        /// The first.
        base: u32,
        /// Where it was looked for.
        file: &'static str,
    },
    /// There is no such container.
    #[error("there is no container '{name}' in {path}")]
    Missing {
        /// The container.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It has no temporary root password.
    #[error(
        "container '{name}' has no file tmp_root_pass in {path}: its template made none, or it printed the password while it ran"
    )]
    NoPassword {
        /// The container.
        name: String,
        /// Its directory.
        path: PathBuf,
    },
    /// The file with the password is not what a template makes.
    #[error("{path} is not read: {why}")]
    BadPassword {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

fn coded(status: &Option<i32>) -> String {
    match status {
        Some(code) => format!(" (exit code {code})"),
        None => " (a signal ended it)".to_owned(),
    }
}

fn said(words: &str) -> String {
    match words.trim() {
        "" => String::new(),
        words => format!(": {words}"),
    }
}

impl Error {
    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match self {
            Error::NotMapped { .. } | Error::Name { .. } | Error::Setting { .. } | Error::Template { .. } => {
                Class::Invalid
            }
            Error::NotInstalled(_) => Class::Unsupported,
            Error::Start { source, .. } | Error::File { source, .. } => Class::of_io(source),
            Error::Failed { .. } | Error::Late { .. } => Class::Internal,
            Error::Cancelled { .. } => Class::Gone,
            Error::Bridge { .. } | Error::Missing { .. } | Error::NoPassword { .. } => Class::NotFound,
            Error::Busy { .. } | Error::BadPassword { .. } => Class::Conflict,
        }
    }

    /// A failure on a file.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { what, path, source }
    }

    /// With all causes.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text.push_str(&format!(": {error}"));
            next = error.source();
        }
        text
    }
}
