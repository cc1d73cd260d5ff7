// SPDX-License-Identifier: Apache-2.0
//! URIs into the sandbox, before anything of the container is made; a destroy ends that.

use std::os::fd::AsFd;

use berth_contract::{Advance, Error, What};
use berth_fetcher::{Progress, RunAs, Stop};
use berth_keeper::sandbox::{open_directory, user};
use berth_model::Class;

use crate::error::of_io;
use crate::kept::{Entry, Shared};
use crate::sandbox;

/// Fetches what is asked for. Whether the fetch was ended by a destroy is for the caller to see.
pub(crate) fn fetch(shared: &Shared, entry: &Entry) -> Result<(), Error> {
    let stop = Stop::new().map_err(of_io("make what would end the fetch"))?;
    // A destroy says first that it is wished, and looks for a fetch then: one of the two sees the other.
    entry.own.fetches(Some(stop.clone()));
    let fetched = if entry.is_destroyed() { Ok(()) } else { here(shared, entry, &stop) };
    entry.own.fetches(None);
    fetched
}

fn here(shared: &Shared, entry: &Entry, stop: &Stop) -> Result<(), Error> {
    let config = &entry.record.config;
    let fetcher = shared.own.fetcher()?;
    let none = || Error::other(Class::Unsupported, "URIs can not be fetched here: there is no fetcher");
    let fetcher = fetcher.ok_or_else(none)?;
    let at = |what: &str| of_io(format!("open {what} of the sandbox {}", config.directory.display()));
    let directory = open_directory(&config.directory).map_err(at("the directory"))?;
    let stdout = sandbox::output(config, "stdout").map_err(at("stdout"))?;
    let stderr = sandbox::output(config, "stderr").map_err(at("stderr"))?;
    // As that user of this host: as root, a command of somebody else's could read what root may.
    let name = config.command_info.user.as_ref().or(config.user.as_ref());
    let (uid, gid) = name.map(String::as_str).map(whose).transpose()?.unwrap_or((0, 0));
    let user =
        RunAs { name: format!("{uid}:{gid}"), uid, gid, groups: Vec::new(), has_file_capabilities: true };
    let request = berth_fetcher::Request {
        container: entry.id.value(),
        uris: &config.command_info.uris,
        sandbox: directory.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
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
        shared.events.publish(&entry.id, What::Advanced(Box::new(advance)));
    };
    let fetched = fetcher.fetch(&request, stop, &tell);
    fetched.map(drop).map_err(|error| Error::because(error.class(), "fetch", error))
}

fn whose(name: &str) -> Result<(u32, u32), Error> {
    let known = user(name).map_err(of_io("read /etc/passwd"))?;
    known.or_else(|| name.parse().ok().map(|number| (number, number))).ok_or_else(|| {
        let why = format!("URIs are fetched as user '{name}', who is not in this host's /etc/passwd");
        Error::other(Class::NotFound, why)
    })
}
