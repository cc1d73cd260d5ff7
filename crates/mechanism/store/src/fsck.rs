// SPDX-License-Identifier: Apache-2.0
//! Looking through the whole store for what does not fit together.

use std::os::fd::AsFd;

use rustix::fs::AtFlags;

use crate::error::{Result, StoreError};
use crate::layout::{digest_of_name, file_name, names};
use crate::records::{CAP, Image, Named};
use crate::store::Store;

/// Whether to remove what is found to be wrong. It can all be pulled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Look only.
    No,
    /// Remove it.
    Yes,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// What is wrong, for people.
    pub problems: Vec<String>,
    /// Names looked at.
    pub names: usize,
    /// Images looked at.
    pub images: usize,
    /// Layers looked at.
    pub layers: usize,
    /// Manifests and configurations whose digests were compared.
    pub blobs: usize,
    /// Directories of pulls that live no more. They are no problem: opening the store removes them.
    pub staging: usize,
}

impl Found {
    /// Nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Store {
    /// Looks through the store: every record is read, every blob digested, every reference followed.
    ///
    /// # Errors
    /// [`StoreError`] when something can not even be looked at.
    pub fn fsck(&self, repair: Repair) -> Result<Found> {
        let _alone = self.layout.exclude()?;
        let mut found = Found::default();
        self.check_blobs(repair, &mut found)?;
        self.check_layers(repair, &mut found)?;
        self.check_images(repair, &mut found)?;
        self.check_names(repair, &mut found)?;
        for staging in names(self.layout.staging.as_fd(), &self.path_of("staging"))? {
            if !self.is_alive(&staging)? {
                found.staging += 1;
                if repair == Repair::Yes {
                    self.discard(self.layout.staging.as_fd(), "staging", &staging)?;
                }
            }
        }
        if repair == Repair::Yes {
            for dir in [&self.layout.blobs, &self.layout.manifests, &self.layout.images, &self.layout.leases]
            {
                berth_record::collect_stale(dir.as_fd())
                    .map_err(StoreError::record("remove temporary files"))?;
            }
            self.empty_trash()?;
        }
        Ok(found)
    }

    fn check_blobs(&self, repair: Repair, found: &mut Found) -> Result<()> {
        for name in names(self.layout.blobs.as_fd(), &self.path_of("blobs"))? {
            found.blobs += 1;
            let sound = digest_of_name(&name).is_some_and(|digest| self.blob(&digest).is_ok());
            if !sound {
                found.problems.push(format!("blob {name} is damaged"));
                if repair == Repair::Yes {
                    self.unlink(&self.layout.blobs, "blobs", &name)?;
                }
            }
        }
        Ok(())
    }

    fn check_layers(&self, repair: Repair, found: &mut Found) -> Result<()> {
        for name in names(self.layout.layers.as_fd(), &self.path_of("layers"))? {
            found.layers += 1;
            let problem = match self.layer_record(&name)? {
                None => Some("has no record that can be read"),
                Some(record) if file_name(&record.layer.key) != name => Some("has another layer's record"),
                Some(_) if self.open_layer_named(&name).is_err() => Some("has no tree"),
                Some(_) => None,
            };
            if let Some(problem) = problem {
                found.problems.push(format!("layer {name} {problem}"));
                if repair == Repair::Yes {
                    self.discard(self.layout.layers.as_fd(), "layers", &name)?;
                }
            }
        }
        Ok(())
    }

    fn check_images(&self, repair: Repair, found: &mut Found) -> Result<()> {
        for name in names(self.layout.manifests.as_fd(), &self.path_of("manifests"))? {
            found.images += 1;
            let problem = match berth_record::read::<Image>(self.layout.manifests.as_fd(), &name, CAP) {
                Err(error) => Some(error.to_string()),
                Ok(image) if file_name(&image.manifest) != name => {
                    Some("has another image's record".to_owned())
                }
                Ok(image) => self.lacks(&image).map(|what| format!("lacks {what}")),
            };
            if let Some(problem) = problem {
                found.problems.push(format!("image {name}: {problem}"));
                if repair == Repair::Yes {
                    self.unlink(&self.layout.manifests, "manifests", &name)?;
                }
            }
        }
        Ok(())
    }

    fn check_names(&self, repair: Repair, found: &mut Found) -> Result<()> {
        for name in names(self.layout.images.as_fd(), &self.path_of("images"))? {
            found.names += 1;
            let problem = match berth_record::read::<Named>(self.layout.images.as_fd(), &name, CAP) {
                Err(error) => Some(error.to_string()),
                Ok(named) => match self.image(&named.manifest)? {
                    Some(_) => None,
                    None => Some(format!("{:?} stands for an image that is not here", named.name)),
                },
            };
            if let Some(problem) = problem {
                found.problems.push(format!("name {name}: {problem}"));
                if repair == Repair::Yes {
                    self.unlink(&self.layout.images, "images", &name)?;
                }
            }
        }
        Ok(())
    }

    fn open_layer_named(&self, name: &str) -> rustix::io::Result<()> {
        let path = std::path::Path::new(name).join("rootfs");
        rustix::fs::statat(&self.layout.layers, &path, AtFlags::SYMLINK_NOFOLLOW).map(drop)
    }
}
