// SPDX-License-Identifier: Apache-2.0
//! URIs into sandboxes, as users of this host.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use berth_contract::{Advance, Error, EventLog, What};
use berth_fetcher::{Config, Fetcher, Progress, Request, RunAs, Stop};
use berth_model::{Class, ContainerId, Uri};

use crate::{of_io, sandbox};

/// The fetcher of a containerizer, if it was given one: opened by the first that needs it.
#[derive(Debug)]
pub struct Fetching {
    config: Option<Config>,
    /// None until the cache could be opened.
    open: Mutex<Option<Fetcher>>,
}

/// What is fetched for one container, and where to.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// What.
    pub uris: &'a [Uri],
    /// Its sandbox.
    pub directory: OwnedFd,
    /// Where it is told, in the sandbox.
    pub stdout: File,
    /// The same for what goes wrong.
    pub stderr: File,
    /// The user, by name or number; root if none.
    pub user: Option<&'a str>,
}

impl Fetching {
    /// With such a fetcher, or none.
    pub fn new(config: Option<Config>) -> Fetching {
        Fetching { config, open: Mutex::default() }
    }

    /// Fetches, and tells how far it is. It blocks until all is there, something fails, or it is stopped.
    ///
    /// # Errors
    /// There is no fetcher or no such user, or the fetch fails, of its class.
    pub fn fetch(&self, wanted: &Wanted<'_>, stop: &Stop, events: &EventLog) -> Result<(), Error> {
        let fetcher = self.fetcher()?;
        let (uid, gid) = wanted.user.map(whose).transpose()?.unwrap_or((0, 0));
        // Whoever runs in it may be root there, whomever it is fetched as.
        let name = format!("{uid}:{gid}");
        let user = RunAs { name, uid, gid, groups: Vec::new(), has_file_capabilities: true };
        let request = Request {
            container: wanted.id.value(),
            uris: wanted.uris,
            sandbox: wanted.directory.as_fd(),
            stdout: wanted.stdout.as_fd(),
            stderr: wanted.stderr.as_fd(),
            user: Some(&user),
        };
        let tell = |now: Progress<'_>| {
            let advance = Advance {
                what: now.uri.to_owned(),
                index: now.index,
                of: now.of,
                bytes: now.bytes,
                total: now.total,
                unpacking: now.unpacking,
            };
            events.publish(wanted.id, What::Advanced(Box::new(advance)));
        };
        let fetched = fetcher.fetch(&request, stop, &tell);
        fetched.map(drop).map_err(|error| Error::other(error.class(), chain(&error)))
    }

    fn fetcher(&self) -> Result<Fetcher, Error> {
        let none = || Error::other(Class::Unsupported, "URIs can not be fetched here: there is no fetcher");
        let config = self.config.as_ref().ok_or_else(none)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetcher) = &*open {
            return Ok(fetcher.clone());
        }
        let opened = Fetcher::open(config.clone());
        let fetcher = opened.map_err(|error| Error::other(error.class(), chain(&error)))?;
        Ok(open.insert(fetcher).clone())
    }
}

/// The numbers of a user of this host, given by name or by number.
fn whose(name: &str) -> Result<(u32, u32), Error> {
    let known = sandbox::user(name).map_err(of_io("read /etc/passwd"))?;
    known.or_else(|| name.parse().ok().map(|number| (number, number))).ok_or_else(|| {
        let why = format!("URIs are fetched as user '{name}', who is not in this host's /etc/passwd");
        Error::other(Class::NotFound, why)
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_name_or_number() {
        assert_eq!(whose("root").unwrap(), (0, 0));
        assert_eq!(whose("4711").unwrap(), (4711, 4711));
        let error = whose("no such user").unwrap_err();
        assert!(error.class() == Class::NotFound && error.to_string().contains("'no such user'"), "{error}");
    }

    #[test]
    fn without_a_fetcher_nothing_is_fetched() {
        let error = Fetching::new(None).fetcher().unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
    }
}
