// SPDX-License-Identifier: Apache-2.0
//! The directory of one pull, and what the pull counts on in the store.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use berth_model::image::Digest;
use berth_record::Sync;
use rustix::fs::FlockOperation;

use crate::error::{Result, StoreError};
use crate::layout::{Held, directory, exists, file_name, fresh_name, try_lock};
use crate::records::{CAP, Relied};
use crate::store::{Store, optional};

/// Removed when dropped, and by others when its process is no more.
pub(crate) struct Staging<'s> {
    store: &'s Store,
    name: String,
    dir: OwnedFd,
    _lock: Held,
    relied: Mutex<Relied>,
}

impl<'s> Staging<'s> {
    pub(crate) fn make(store: &'s Store, for_name: &str) -> Result<Staging<'s>> {
        let name = fresh_name();
        let path = store.path_of("staging").join(&name);
        // Between its making and its locking it looks like a dead one's.
        let _shared = store.layout.share()?;
        let dir = directory(store.layout.staging.as_fd(), name.as_ref(), &path)?;
        let how = FlockOperation::NonBlockingLockExclusive;
        let Some(lock) = try_lock(dir.as_fd(), "lock", how, &path)? else {
            return Err(StoreError::Locked { path, seconds: 0 });
        };
        let relied = Mutex::new(Relied { name: for_name.to_owned(), ..Relied::default() });
        Ok(Staging { store, name, dir, _lock: lock, relied })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.store.path_of("staging").join(&self.name)
    }

    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Keeps a blob from being collected, whether it is here already or comes later.
    pub(crate) fn rely_on_blob(&self, blob: Digest) -> Result<()> {
        self.rely(|relied| relied.blobs.insert(blob))
    }

    /// Keeps a layer from being collected, and answers whether it is here.
    pub(crate) fn rely_on_layer(&self, key: Digest) -> Result<bool> {
        let _shared = self.store.layout.share()?;
        if !exists(self.store.layout.layers.as_fd(), &file_name(&key)) {
            return Ok(false);
        }
        self.rely(|relied| relied.layers.insert(key))?;
        Ok(true)
    }

    /// Keeps a layer that is about to be published.
    pub(crate) fn will_publish(&self, key: Digest) -> Result<()> {
        self.rely(|relied| relied.layers.insert(key))
    }

    fn rely(&self, add: impl FnOnce(&mut Relied) -> bool) -> Result<()> {
        let mut relied = self.relied.lock().unwrap_or_else(PoisonError::into_inner);
        match add(&mut relied) {
            true => berth_record::write(self.dir.as_fd(), "relied", &*relied, Sync::No)
                .map_err(StoreError::record("write what the pull relies on")),
            false => Ok(()),
        }
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // What can not be removed now is removed by the next who opens the store.
        let _ = self.store.discard(self.store.layout.staging.as_fd(), "staging", &self.name);
        let _ = self.store.empty_trash();
    }
}

/// What a living pull relies on.
pub(crate) fn relied_on(store: &Store, staging: &str) -> Result<Relied> {
    let path = store.path_of("staging").join(staging);
    let dir = directory(store.layout.staging.as_fd(), staging.as_ref(), &path)?;
    let read = berth_record::read(dir.as_fd(), "relied", CAP);
    Ok(optional("read what a pull relies on", read)?.unwrap_or_default())
}
