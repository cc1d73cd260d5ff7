// SPDX-License-Identifier: Apache-2.0
//! The layers of one pull: several at a time, each fetched, verified and unpacked as it comes.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_image::manifest::{tree_key, tree_of};
use berth_image::overlay::{Layers, mount};
use berth_image::{
    Cancel, CancelHook, Descriptor, Layer, LayerOptions, Options, Owners, PullError, Root, Source, Top,
    UnpackError, remove_tree, unpack_layer,
};
use berth_model::image::{Algorithm, Digest};
use berth_record::{BootId, Sync};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::error::{Result, StoreError};
use crate::layout::file_name;
use crate::pull::{FirstError, claims};
use crate::records::{LayerRecord, LayerUse, RootMode};
use crate::staging::Staging;
use crate::store::{Store, visible};
use crate::watch::{Event, LayerState, Watch};

/// Progress is told at least so many bytes apart.
const TELL_EVERY: u64 = 256 << 10;

/// A layer that is in the store.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) used: LayerUse,
    pub(crate) top: Option<Top>,
}

/// Layers under way.
pub(crate) struct Pulling<'a> {
    store: &'a Store,
    staging: &'a Staging<'a>,
    source: &'a dyn Source,
    layers: &'a [Descriptor],
    /// What the configuration says of them; nothing in Docker's first schema.
    contents: &'a [Digest],
    claims: Vec<Digest>,
    cancel: Cancel,
    _hook: CancelHook,
    watch: &'a dyn Watch,
    next: AtomicUsize,
    made: Mutex<Vec<Option<Made>>>,
    changed: Condvar,
    error: FirstError,
}

impl<'a> Pulling<'a> {
    pub(crate) fn new(
        store: &'a Store,
        staging: &'a Staging<'a>,
        source: &'a dyn Source,
        layers: &'a [Descriptor],
        contents: &'a [Digest],
        cancel: &Cancel,
        watch: &'a dyn Watch,
    ) -> Pulling<'a> {
        let (cancel, hook) = cancel.child();
        Pulling {
            store,
            staging,
            source,
            layers,
            contents: if contents.len() == layers.len() { contents } else { &[] },
            claims: claims(layers, contents),
            cancel,
            _hook: hook,
            watch,
            next: AtomicUsize::new(0),
            made: Mutex::new(vec![None; layers.len()]),
            changed: Condvar::new(),
            error: FirstError::default(),
        }
    }

    /// Makes all layers, and answers them, the lowest first.
    pub(crate) fn run(self) -> Result<Vec<Made>> {
        let workers = self.store.options.parallel.clamp(1, self.layers.len().max(1));
        std::thread::scope(|scope| {
            for number in 0..workers {
                let thread = std::thread::Builder::new().name(format!("layer-{number}"));
                if let Err(source) = thread.spawn_scoped(scope, || self.work()) {
                    let path = self.staging.path();
                    self.fail(StoreError::Io { what: "start a thread for", path, source });
                }
            }
        });
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let made = self.made.into_inner().unwrap_or_else(PoisonError::into_inner);
        let count = made.len();
        let made: Vec<_> = made.into_iter().flatten().collect();
        match made.len() == count {
            true => Ok(made),
            false => Err(PullError::Cancelled { from: self.source.describe() }.into()),
        }
    }

    fn work(&self) {
        // Files can then be made with their modes. Where it is refused, that takes two calls more for each.
        let exact = berth_sys::process::unshare_file_attributes().is_ok();
        if exact {
            rustix::process::umask(Mode::empty());
        }
        loop {
            let index = self.next.fetch_add(1, Ordering::SeqCst);
            if index >= self.layers.len() || self.cancel.is_cancelled() {
                return;
            }
            match self.layer(index, exact) {
                Ok(made) => {
                    self.slots()[index] = Some(made);
                    self.changed.notify_all();
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    fn fail(&self, error: StoreError) {
        self.error.set(error);
        self.cancel.cancel();
        self.changed.notify_all();
    }

    fn layer(&self, index: usize, exact: bool) -> Result<Made> {
        // A layer that an image has twice is made once.
        if let Some(content) = self.contents.get(index)
            && let Some(same) = self.contents[..index].iter().position(|other| other == content)
            && self.layers[same].media_type == self.layers[index].media_type
        {
            self.wait_for(same..same + 1)?;
        }
        if let Some(made) = self.present(index)? {
            return Ok(made);
        }
        let waiting = || self.tell(index, LayerState::Waiting);
        let Some(_claim) = self.store.layout.claim(&self.claims[index], &self.cancel, waiting)? else {
            return Err(self.cancelled());
        };
        if let Some(made) = self.present(index)? {
            return Ok(made);
        }
        let layer = match self.fetch(index, exact) {
            // Of a source with several places, asking again means another one.
            Err(error) if may_be_the_place(&error) && !self.cancel.is_cancelled() => {
                let _ = remove_tree(self.staging.dir().as_fd(), OsStr::new(&index.to_string()));
                self.fetch(index, exact).map_err(|_| error)?
            }
            fetched => fetched?,
        };
        let made = self.publish(index, layer)?;
        self.tell(index, LayerState::Done);
        Ok(made)
    }

    fn present(&self, index: usize) -> Result<Option<Made>> {
        let Some(content) = self.contents.get(index) else { return Ok(None) };
        for key in [self.key(index, content), self.claims[index]] {
            if !self.staging.rely_on_layer(key)? {
                continue;
            }
            // One whose record can not be read is of no use; it is collected some time.
            let Some(record) = self.store.layer_record(&file_name(&key))? else { continue };
            let wanted = self.layers[index].digest;
            // The blob may be another with the same content, compressed in another way.
            let used = LayerUse { blob: wanted, ..record.layer };
            self.tell(index, LayerState::Present);
            let top = record.top.map(|top| Top { mode: top.mode, uid: top.uid, gid: top.gid });
            return Ok(Some(Made { used, top }));
        }
        Ok(None)
    }

    fn fetch(&self, index: usize, exact: bool) -> Result<Layer> {
        let blob = &self.layers[index];
        self.tell(index, LayerState::Fetching { done: 0, total: blob.size });
        // Ends with the pull, or alone when the layer can not be written.
        let (attempt, _hook) = self.cancel.child();
        let reader =
            Measured { reader: self.source.blob(blob, 0, &attempt)?, pulling: self, index, done: 0, told: 0 };
        let content = self.contents.get(index).map_or(Algorithm::Sha256, Digest::algorithm);
        let stop = || attempt.is_cancelled();
        let lower = || self.below(index);
        // Whether this layer is the one that fails, and not one that ends with the others.
        let genuine = AtomicBool::new(true);
        let failed = || {
            genuine.store(!attempt.is_cancelled(), Ordering::SeqCst);
            attempt.cancel();
        };
        let options = Options {
            limits: self.store.options.limits.clone(),
            owners: Owners::Keep,
            devices: self.store.options.devices,
            stop: &stop,
        };
        let how = LayerOptions {
            lower: &lower,
            blob: blob.digest.algorithm(),
            content,
            umask_is_zero: exact,
            tree: tree_of(&blob.media_type),
            failed: &failed,
        };
        let target = self.staging.path().join(index.to_string());
        let layer = unpack_layer(reader, &target, &options, &how, &mut |_| {})
            .map_err(|error| self.not_unpacked(blob, error, genuine.load(Ordering::SeqCst)))?;
        let from = || self.source.describe();
        if layer.blob != blob.digest || blob.size.is_some_and(|size| size != layer.blob_size) {
            let (wanted, found) = (Box::new(blob.digest), Box::new(layer.blob));
            return Err(PullError::Digest { from: from(), what: "layer".into(), wanted, found }.into());
        }
        match self.contents.get(index) {
            Some(wanted) if *wanted != layer.content => Err(StoreError::Content {
                layer: blob.digest,
                from: from(),
                wanted: Box::new(*wanted),
                found: Box::new(layer.content),
            }),
            _ => Ok(layer),
        }
    }

    fn not_unpacked(&self, blob: &Descriptor, error: UnpackError, genuine: bool) -> StoreError {
        if !genuine && matches!(error, UnpackError::Read { .. } | UnpackError::Write { .. }) {
            return self.cancelled();
        }
        let source = match error {
            UnpackError::Read { source, place } => match source.downcast::<PullError>() {
                Ok(error) => return error.into(),
                Err(source) => UnpackError::Read { source, place },
            },
            UnpackError::Stopped { .. } => return self.cancelled(),
            error => error,
        };
        StoreError::Unpack { layer: blob.digest, from: self.source.describe(), source: Box::new(source) }
    }

    fn publish(&self, index: usize, layer: Layer) -> Result<Made> {
        let key = match layer.bound && index > 0 {
            false => self.key(index, &layer.content),
            true => self.chain_of(index, layer.content)?,
        };
        let used = LayerUse {
            key,
            content: layer.content,
            blob: layer.blob,
            blob_size: layer.blob_size,
            content_size: layer.content_size,
            hides_all: layer.hides_all,
        };
        let boot = BootId::current().map_err(StoreError::record("learn which boot this is"))?;
        let record = LayerRecord {
            layer: used.clone(),
            top: layer.top.map(RootMode::from),
            entries: layer.entries,
            bytes: layer.bytes,
            skipped_devices: layer.skipped_devices,
            dropped_xattrs: layer.dropped_xattrs,
            unsynced_since_boot: Some(boot.as_str().to_owned()),
        };
        let name = index.to_string();
        let dir = crate::layout::directory(
            self.staging.dir().as_fd(),
            name.as_ref(),
            &self.staging.path().join(&name),
        )?;
        berth_record::write(dir.as_fd(), "record", &record, Sync::No)
            .map_err(StoreError::record("write the record of a layer"))?;
        let _shared = self.store.layout.share()?;
        self.staging.will_publish(key)?;
        match rustix::fs::renameat(self.staging.dir(), &name, &self.store.layout.layers, file_name(&key)) {
            Ok(()) => {}
            // Somebody made it on top of other layers at the same time.
            Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            Err(errno) => {
                let path = self.store.path_of("layers").join(file_name(&key));
                return Err(StoreError::io("put the layer at", path)(errno));
            }
        }
        Ok(Made { used, top: layer.top })
    }

    /// The name of a layer that depends on none below it.
    fn key(&self, index: usize, content: &Digest) -> Digest {
        tree_key(&self.layers[index].media_type, content)
    }

    /// The name of a layer that depends on those below it.
    fn chain_of(&self, index: usize, content: Digest) -> Result<Digest> {
        let below = self.wait_for(0..index)?;
        let below = below.iter().map(|made| made.used.content).chain([content]);
        let contents: Vec<_> = below.enumerate().map(|(index, content)| self.key(index, &content)).collect();
        berth_image::manifest::chain(&contents)
            .pop()
            .ok_or_else(|| StoreError::Unsupported("an image without layers".into()))
    }

    /// The merged tree below a layer, when all of it is here.
    fn below(&self, index: usize) -> io::Result<Option<Root>> {
        if index == 0 {
            return Ok(None);
        }
        let below = self.wait_for(0..index).map_err(|_| io::Error::other("the layers below did not come"))?;
        let used: Vec<_> = below.into_iter().map(|made| made.used).collect();
        let open: Result<Vec<OwnedFd>> =
            visible(&used).iter().rev().map(|layer| self.store.open_layer(&layer.key)).collect();
        let mut open = open.map_err(io::Error::other)?;
        if open.len() == 1 {
            return open.pop().map(Root::of).transpose().map_err(io::Error::other);
        }
        let lower = open.iter().map(AsFd::as_fd).collect();
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
        let merged = mount(&Layers { lower, ..Layers::default() }, attributes).map_err(io::Error::other)?;
        Root::of(merged).map(Some).map_err(io::Error::other)
    }

    /// Waits for these layers.
    fn wait_for(&self, which: std::ops::Range<usize>) -> Result<Vec<Made>> {
        let mut slots = self.slots();
        while slots[which.clone()].iter().any(Option::is_none) {
            if self.cancel.is_cancelled() {
                return Err(self.cancelled());
            }
            let wait = self.changed.wait_timeout(slots, Duration::from_millis(50));
            slots = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(slots[which].iter().flatten().cloned().collect())
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Option<Made>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancelled(&self) -> StoreError {
        PullError::Cancelled { from: self.source.describe() }.into()
    }

    fn tell(&self, index: usize, state: LayerState) {
        self.watch.event(Event::Layer { index, state });
    }
}

/// Whether the error may come from where the blob was fetched, and not from the image.
fn may_be_the_place(error: &StoreError) -> bool {
    match error {
        StoreError::Pull(PullError::Digest { .. } | PullError::TooMuch { .. }) => true,
        StoreError::Unpack { source, .. } => matches!(
            **source,
            UnpackError::Read { .. } | UnpackError::Malformed { .. } | UnpackError::Format { .. }
        ),
        _ => false,
    }
}

/// Tells how far a blob has come, and ends one that is longer than it should be.
struct Measured<'p> {
    reader: Box<dyn Read + Send>,
    pulling: &'p Pulling<'p>,
    index: usize,
    done: u64,
    told: u64,
}

impl Read for Measured<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buf)?;
        self.done += count as u64;
        let total = self.pulling.layers[self.index].size;
        if let Some(allowed) = total
            && self.done > allowed
        {
            let (from, what) = (self.pulling.source.describe(), "layer".to_owned());
            return Err(PullError::TooMuch { from, what, allowed }.into_io());
        }
        if self.done - self.told >= TELL_EVERY {
            self.told = self.done;
            self.pulling.tell(self.index, LayerState::Fetching { done: self.done, total });
        }
        Ok(count)
    }
}
