// SPDX-License-Identifier: Apache-2.0
//! Removing images that nobody needs: by hand, or when the disk fills.
//!
//! Never goes what a container holds, what a living pull relies on, and what has a name (unless names are to go
//! too). Things are removed in the reverse order of their making (name, record, blobs and layers), each by one
//! rename or unlink: whoever is killed in between leaves less than before, and nothing that points to what is gone.
//! The lock is held to decide and to rename; the files themselves go after that. None of it needs space.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;

use berth_model::image::Digest;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::error::{Result, StoreError};
use crate::layout::{digest_of_name, file_name, names};
use crate::records::Image;
use crate::staging::relied_on;
use crate::store::Store;

/// What to remove.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Named images too, and not only what has no name any more.
    pub named: bool,
    /// Names that stay all the same.
    pub keep: Vec<String>,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Names.
    pub names: Vec<String>,
    /// Images, by manifest.
    pub images: Vec<Digest>,
    /// Layers, and the bytes of their tars.
    pub layers: Vec<(Digest, u64)>,
    /// What stays.
    pub kept: Vec<Kept>,
}

impl Pruned {
    /// Bytes of the tars of all layers that go: about what is freed.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// An image that stays, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its manifest.
    pub image: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// Containers that hold it.
    pub holders: Vec<String>,
    /// Whether its name alone keeps it.
    pub named: bool,
    /// Bytes of the tars in its layers.
    pub bytes: u64,
}

/// When to collect: parts of the file system that are in use.
#[derive(Debug, Clone)]
pub struct Watermarks {
    /// Above it collecting begins.
    pub high: f64,
    /// There it ends.
    pub low: f64,
    /// Names that are never collected.
    pub excluded: Vec<String>,
}

impl Default for Watermarks {
    fn default() -> Watermarks {
        Watermarks { high: 0.9, low: 0.8, excluded: Vec::new() }
    }
}

impl Store {
    /// Removes what nobody needs: see [`PruneOptions`].
    ///
    /// # Errors
    /// [`StoreError`]. What could be removed until then is.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned> {
        let pruned = {
            let _alone = self.layout.exclude()?;
            self.prune_alone(options)?
        };
        if !options.dry_run {
            self.empty_trash()?;
        }
        Ok(pruned)
    }

    /// Removes the images that were not used for longest, until the file system has room again. Answers nothing when
    /// it has room as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn collect(&self, marks: &Watermarks) -> Result<Option<Pruned>> {
        if self.usage()? <= marks.high {
            return Ok(None);
        }
        let mut all = self.prune(&PruneOptions::default())?;
        for name in self.by_last_use()? {
            if self.usage()? <= marks.low {
                break;
            }
            if marks.excluded.contains(&name) {
                continue;
            }
            let keep =
                self.names()?.into_iter().map(|named| named.name).filter(|other| *other != name).collect();
            let pruned = self.prune(&PruneOptions { named: true, keep, dry_run: false })?;
            all.names.extend(pruned.names);
            all.images.extend(pruned.images);
            all.layers.extend(pruned.layers);
            all.kept = pruned.kept;
        }
        Ok(Some(all))
    }

    /// The part of the store's file system that is in use, from 0 to 1.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn usage(&self) -> Result<f64> {
        let stat = rustix::fs::fstatvfs(&self.layout.root)
            .map_err(StoreError::io("look at the disk of", self.path()))?;
        #[expect(clippy::cast_precision_loss, reason = "a part of a disk need not be exact")]
        let free = stat.f_bavail as f64 / stat.f_blocks.max(1) as f64;
        Ok((1.0 - free).clamp(0.0, 1.0))
    }

    /// Names, the one that was not used for longest first.
    fn by_last_use(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for file in names(self.layout.images.as_fd(), &self.path_of("images"))? {
            let Ok(stat) = rustix::fs::statat(&self.layout.images, &file, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let read = berth_record::read(self.layout.images.as_fd(), &file, crate::records::CAP);
            let named: Option<crate::records::Named> =
                crate::store::optional("read the record of an image's name", read)?;
            all.extend(named.map(|named| (stat.st_mtime, stat.st_mtime_nsec, named.name)));
        }
        all.sort();
        Ok(all.into_iter().map(|(.., name)| name).collect())
    }

    fn prune_alone(&self, options: &PruneOptions) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let mut holders: HashMap<Digest, Vec<String>> = HashMap::new();
        let (mut layers, mut blobs) = (HashSet::new(), HashSet::new());
        let mut need = |image: &Image| {
            layers.extend(image.layers.iter().map(|layer| layer.key));
            blobs.extend([image.manifest, image.config]);
        };
        for lease in self.leases()? {
            for image in &lease.images {
                need(image);
                holders.entry(image.manifest).or_default().push(lease.holder.clone());
            }
        }
        let mut kept: HashMap<Digest, Vec<String>> = HashMap::new();
        for named in self.names()? {
            let held = holders.contains_key(&named.manifest);
            if !options.named || held || options.keep.contains(&named.name) {
                kept.entry(named.manifest).or_default().push(named.name);
                continue;
            }
            if !options.dry_run {
                self.unname_alone(&named.name)?;
            }
            pruned.names.push(named.name);
        }
        for image in self.images()? {
            let names = kept.get(&image.manifest).cloned().unwrap_or_default();
            let held_by = holders.get(&image.manifest).cloned().unwrap_or_default();
            if !names.is_empty() || !held_by.is_empty() {
                need(&image);
                let (named, bytes) = (held_by.is_empty(), image.size());
                pruned.kept.push(Kept { image: image.manifest, names, holders: held_by, named, bytes });
                continue;
            }
            if !options.dry_run {
                self.unlink(&self.layout.manifests, "manifests", &file_name(&image.manifest))?;
            }
            pruned.images.push(image.manifest);
        }
        let mut pulls = 0;
        for staging in names(self.layout.staging.as_fd(), &self.path_of("staging"))? {
            if self.is_alive(&staging)? {
                pulls += 1;
                let relied = relied_on(self, &staging)?;
                layers.extend(relied.layers);
                blobs.extend(relied.blobs);
            }
        }
        for name in names(self.layout.layers.as_fd(), &self.path_of("layers"))? {
            let key = digest_of_name(&name);
            if key.is_some_and(|key| layers.contains(&key)) {
                continue;
            }
            let size = self.layer_record(&name)?.map_or(0, |record| record.layer.content_size);
            if !options.dry_run {
                self.discard(self.layout.layers.as_fd(), "layers", &name)?;
            }
            pruned.layers.extend(key.map(|key| (key, size)));
        }
        if options.dry_run {
            return Ok(pruned);
        }
        for name in names(self.layout.blobs.as_fd(), &self.path_of("blobs"))? {
            if !digest_of_name(&name).is_some_and(|blob| blobs.contains(&blob)) {
                self.unlink(&self.layout.blobs, "blobs", &name)?;
            }
        }
        if pulls == 0 {
            for name in names(self.layout.claims.as_fd(), &self.path_of("claims"))? {
                self.unlink(&self.layout.claims, "claims", &name)?;
            }
        }
        Ok(pruned)
    }

    pub(crate) fn unlink(&self, dir: impl AsFd, place: &str, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(StoreError::io("remove", self.path_of(place).join(name))(errno)),
        }
    }
}
