// SPDX-License-Identifier: Apache-2.0
//! URIs into the sandbox, before anything of the container is made; a destroy ends that.

use berth_contract::Error;
use berth_fetcher::Stop;
use berth_keeper::Wanted;
use berth_keeper::sandbox::open_directory;

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
    let at = |what: &str| of_io(format!("open {what} of the sandbox {}", config.directory.display()));
    let wanted = Wanted {
        id: &entry.id,
        uris: &config.command_info.uris,
        directory: open_directory(&config.directory).map_err(at("the directory"))?,
        stdout: sandbox::output(config, "stdout").map_err(at("stdout"))?,
        stderr: sandbox::output(config, "stderr").map_err(at("stderr"))?,
        // As that user of this host: as root, a command of somebody else's could read what root may.
        user: config.command_info.user.as_deref().or(config.user.as_deref()),
    };
    shared.own.fetching.fetch(&wanted, stop, &shared.events)
}
