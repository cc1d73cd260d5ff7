// SPDX-License-Identifier: Apache-2.0
//! From a source into the store.
//!
//! ```text
//! manifest (index, platform) ─> configuration ─> layers, several at a time, the lowest first ─> records, name
//! ```
//!
//! Nothing has its final name before it is complete and verified, and the records come last: a pull that is killed
//! at any moment leaves a staging directory without a living owner, which the next who opens the store removes, and
//! layers that the next pull finds here.
//!
//! Each layer is made by one process at a time (a claim); others wait for it and then find it. A layer waits for
//! those below only if it needs them (see [`berth_image::unpack_layer`]); the lowest unfinished one never does, so
//! there is always one that goes on.

use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::PoisonError;

use berth_image::config::ImageConfig;
use berth_image::manifest::{ConfigSource, Manifest, chain, tree_key};
use berth_image::{CONFIG_MAX, Cancel, Descriptor, PullError, Resolved, Source, digest_of, resolve};
use berth_model::image::{Algorithm, Digest, Platform};
use berth_record::{Sync, write_atomic};

use crate::error::{Result, StoreError};
use crate::layers::Pulling;
use crate::layout::{exists, file_name};
use crate::records::Image;
use crate::staging::Staging;
use crate::store::{Store, top_of};
use crate::watch::{Event, Watch};

/// What to pull.
pub struct PullRequest<'a> {
    /// The name that the image gets.
    pub name: &'a str,
    /// Where it comes from.
    pub source: &'a dyn Source,
    /// For which platform. Without one, this machine's, and an image for another is refused.
    pub platform: Option<Platform>,
}

impl Store {
    /// Pulls an image, or what of it is not here yet, and names it.
    ///
    /// # Errors
    /// [`StoreError`]; the name then stands for what it stood for before.
    pub fn pull(&self, request: &PullRequest<'_>, cancel: &Cancel, watch: &dyn Watch) -> Result<Image> {
        let wanted = request.platform.clone().unwrap_or_else(Platform::host);
        let resolved = resolve(request.source, &wanted, cancel)?;
        let (manifest, digest) = (&resolved.manifest, resolved.document.digest);
        watch.event(Event::Resolved { manifest: &digest, layers: &manifest.layers });
        let image = match self.image(&digest)? {
            Some(image) => {
                for index in 0..manifest.layers.len() {
                    watch.event(Event::Layer { index, state: crate::LayerState::Present });
                }
                image
            }
            None => self.bring(request, &wanted, &resolved, cancel, watch)?,
        };
        self.name(request.name, &image, &request.source.describe())?;
        Ok(image)
    }

    fn bring(
        &self,
        request: &PullRequest<'_>,
        wanted: &Platform,
        resolved: &Resolved,
        cancel: &Cancel,
        watch: &dyn Watch,
    ) -> Result<Image> {
        let (source, manifest, document) = (request.source, &resolved.manifest, &resolved.document);
        let staging = Staging::make(self, request.name)?;
        staging.rely_on_blob(document.digest)?;
        let (config_digest, bytes) = self.bring_config(&staging, source, manifest, cancel)?;
        let refused = |why: String| PullError::Refused {
            from: source.describe(),
            what: format!("configuration {config_digest}"),
            why,
        };
        let config = ImageConfig::parse(&bytes).map_err(refused)?;
        check(&config, manifest, wanted, request, resolved).map_err(|error| match error {
            Unfit::Refused(why) => refused(why),
            Unfit::Platform(what) => PullError::Unsupported {
                from: source.describe(),
                what,
                advice: "name its platform if you mean it, or pull another".into(),
            },
        })?;
        let made =
            Pulling::new(self, &staging, source, &manifest.layers, &config.contents, cancel, watch).run()?;
        let image = Image {
            manifest: document.digest,
            config: config_digest,
            top: top_of(made.iter().map(|layer| layer.top)),
            layers: made.into_iter().map(|layer| layer.used).collect(),
        };
        self.publish(&image, &document.bytes, &bytes)?;
        Ok(image)
    }

    /// The configuration: from the store, or fetched by one of all who want it.
    fn bring_config(
        &self,
        staging: &Staging<'_>,
        source: &dyn Source,
        manifest: &Manifest,
        cancel: &Cancel,
    ) -> Result<(Digest, Vec<u8>)> {
        let descriptor = match &manifest.config {
            ConfigSource::Inline(bytes) => return Ok((digest_of(Algorithm::Sha256, bytes), bytes.clone())),
            ConfigSource::Blob(descriptor) => descriptor,
        };
        let digest = descriptor.digest;
        staging.rely_on_blob(digest)?;
        let Some(_claim) = self.layout.claim(&digest, cancel, || {})? else {
            return Err(PullError::Cancelled { from: source.describe() }.into());
        };
        if exists(self.layout.blobs.as_fd(), &file_name(&digest))
            && let Ok(bytes) = self.blob(&digest)
        {
            return Ok((digest, bytes));
        }
        let bytes = fetch_small(source, descriptor, "configuration", cancel)?;
        self.put_blob(&digest, &bytes)?;
        Ok((digest, bytes))
    }

    fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        write_atomic(self.layout.blobs.as_fd(), &file_name(digest), bytes, Sync::No)
            .map_err(StoreError::record("write a blob"))
    }

    fn publish(&self, image: &Image, manifest: &[u8], config: &[u8]) -> Result<()> {
        let _shared = self.layout.share()?;
        self.put_blob(&image.manifest, manifest)?;
        self.put_blob(&image.config, config)?;
        self.require(image, &image.manifest.to_string())?;
        berth_record::write(self.layout.manifests.as_fd(), &file_name(&image.manifest), image, Sync::No)
            .map_err(StoreError::record("write the record of an image"))
    }
}

enum Unfit {
    Refused(String),
    Platform(String),
}

/// Whether the configuration fits to the manifest and to this machine.
fn check(
    config: &ImageConfig,
    manifest: &Manifest,
    wanted: &Platform,
    request: &PullRequest<'_>,
    resolved: &Resolved,
) -> std::result::Result<(), Unfit> {
    let (layers, contents) = (manifest.layers.len(), config.contents.len());
    let knows_contents = matches!(manifest.config, ConfigSource::Blob(_));
    if contents != layers && (knows_contents && contents != 0) {
        return Err(Unfit::Refused(format!("it lists {contents} layers, and the manifest {layers}")));
    }
    let Some(made_for) = &config.platform else { return Ok(()) };
    if made_for.os != "linux" {
        return Err(Unfit::Platform(format!("an image for {made_for}")));
    }
    // Who has chosen a platform, by name or from an index, gets it, whatever this processor is.
    let chosen = request.platform.is_some() || resolved.chosen.is_some();
    match chosen || wanted.fits(made_for).is_some() {
        true => Ok(()),
        false => Err(Unfit::Platform(format!("an image for {made_for} on {wanted}"))),
    }
}

/// Fetches a small blob into memory, and verifies it.
fn fetch_small(source: &dyn Source, blob: &Descriptor, what: &str, cancel: &Cancel) -> Result<Vec<u8>> {
    let from = source.describe();
    let what = format!("{what} {}", blob.digest);
    let most = blob.size.unwrap_or(CONFIG_MAX).min(CONFIG_MAX);
    if blob.size.is_some_and(|size| size > CONFIG_MAX) {
        return Err(PullError::TooMuch { from, what, allowed: CONFIG_MAX }.into());
    }
    let mut bytes = Vec::new();
    let read = source.blob(blob, 0, cancel)?.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| PullError::of_io(error, &from, format!("read {what}")))?;
    if bytes.len() as u64 > most {
        return Err(PullError::TooMuch { from, what, allowed: most }.into());
    }
    let found = digest_of(blob.digest.algorithm(), &bytes);
    match found == blob.digest {
        true => Ok(bytes),
        false => {
            let (wanted, found) = (Box::new(blob.digest), Box::new(found));
            Err(PullError::Digest { from, what, wanted, found }.into())
        }
    }
}

/// What layers are claimed by: each with all that is below it, so that two pulls never wait for one another.
pub(crate) fn claims(layers: &[Descriptor], contents: &[Digest]) -> Vec<Digest> {
    match contents.len() == layers.len() {
        true => {
            let keys = layers.iter().zip(contents).map(|(l, content)| tree_key(&l.media_type, content));
            chain(&keys.collect::<Vec<_>>())
        }
        false => chain(&layers.iter().map(|layer| layer.digest).collect::<Vec<_>>()),
    }
}

/// The first error of several threads; that something was cancelled only where there is no other.
#[derive(Default)]
pub(crate) struct FirstError(Mutex<Option<StoreError>>);

impl FirstError {
    pub(crate) fn set(&self, error: StoreError) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(is_cancelled) {
            *slot = Some(error);
        }
    }

    pub(crate) fn take(&self) -> Option<StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn is_cancelled(error: &StoreError) -> bool {
    matches!(error, StoreError::Pull(PullError::Cancelled { .. }))
}
