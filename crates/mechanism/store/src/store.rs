// SPDX-License-Identifier: Apache-2.0
//! The store: opening it, looking into it, and holding what is in it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_image::config::ImageConfig;
use berth_image::{CONFIG_MAX, Cancel, Devices, Limits, PullError, Top, digest_of, remove_tree};
use berth_model::image::{Algorithm, Digest};
use berth_record::{BootId, Sync};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use crate::error::{Result, StoreError};
use crate::layout::{Held, Layout, exists, file_name, fresh_name, names, try_lock};
use crate::records::{CAP, Image, LayerRecord, Lease, Named, RootMode, Whole, now};

/// The most bytes of an image's name.
const NAME_MAX: usize = 4096;

/// How the store works.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// What one layer may ask for.
    pub limits: Limits,
    /// What becomes of device files in layers.
    pub devices: Devices,
    /// Layers that one pull fetches and unpacks at the same time.
    pub parallel: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { limits: Limits::default(), devices: Devices::Skip, parallel: 4 }
    }
}

/// See [`Store::alone`].
#[derive(Debug)]
pub struct Alone {
    _held: Held,
}

/// Images on disk. Cheap to clone; several processes may have the same one open.
#[derive(Clone)]
pub struct Store {
    pub(crate) layout: Arc<Layout>,
    pub(crate) options: Arc<StoreOptions>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.layout.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in the directory `path` (`<work_dir>/store`), made if it is not there; its parent must be.
    ///
    /// Removes what killed processes left of pulls and removals, and after a restart of the machine layers that may
    /// never have reached the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path, options: StoreOptions) -> Result<Store> {
        let store = Store { layout: Arc::new(Layout::open(path)?), options: Arc::new(options) };
        store.forget_unsynced()?;
        store.collect_staging()?;
        Ok(store)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.layout.path
    }

    /// What `name` stands for, if all of it is here.
    ///
    /// # Errors
    /// [`StoreError`]; what is incomplete is as good as absent.
    pub fn find(&self, name: &str) -> Result<Option<Image>> {
        let Some(named) = self.named(name)? else { return Ok(None) };
        self.image(&named.manifest)
    }

    /// The record of a name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn named(&self, name: &str) -> Result<Option<Named>> {
        let file = name_file(name)?;
        optional(
            "read the record of an image's name",
            berth_record::read(self.layout.images.as_fd(), &file, CAP),
        )
    }

    /// The image with this manifest, if all of it is here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn image(&self, manifest: &Digest) -> Result<Option<Image>> {
        let image: Option<Image> = optional(
            "read the record of an image",
            berth_record::read(self.layout.manifests.as_fd(), &file_name(manifest), CAP),
        )?;
        Ok(image.filter(|image| self.lacks(image).is_none()))
    }

    /// Where the record of the image with this manifest is, whether or not there is one.
    pub fn record_of(&self, manifest: &Digest) -> PathBuf {
        self.path_of("manifests").join(file_name(manifest))
    }

    /// The first thing that an image lacks.
    pub(crate) fn lacks(&self, image: &Image) -> Option<String> {
        let blobs = [&image.manifest, &image.config];
        if let Some(blob) =
            blobs.into_iter().find(|blob| !exists(self.layout.blobs.as_fd(), &file_name(blob)))
        {
            return Some(format!("blob {blob}"));
        }
        let absent = |key: &Digest| !exists(self.layout.layers.as_fd(), &file_name(key));
        let layer = image.layers.iter().find(|layer| absent(&layer.key))?;
        Some(format!("layer {}", layer.key))
    }

    /// All names, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn names(&self) -> Result<Vec<Named>> {
        let mut all = Vec::new();
        for file in names(self.layout.images.as_fd(), &self.layout.path.join("images"))? {
            let read = berth_record::read(self.layout.images.as_fd(), &file, CAP);
            all.extend(optional::<Named>("read the record of an image's name", read)?);
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// All images, those without a name too, complete or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn images(&self) -> Result<Vec<Image>> {
        let mut all = Vec::new();
        for file in names(self.layout.manifests.as_fd(), &self.layout.path.join("manifests"))? {
            let read = berth_record::read(self.layout.manifests.as_fd(), &file, CAP);
            all.extend(optional::<Image>("read the record of an image", read)?);
        }
        Ok(all)
    }

    /// Gives an image that is here a name, in place of what had it.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] when parts of it are gone.
    pub fn name(&self, name: &str, image: &Image, source: &str) -> Result<()> {
        let file = name_file(name)?;
        let _shared = self.layout.share()?;
        self.require(image, name)?;
        let named = Named {
            name: name.to_owned(),
            manifest: image.manifest,
            source: source.to_owned(),
            pulled: now(),
        };
        berth_record::write(self.layout.images.as_fd(), &file, &named, Sync::No)
            .map_err(StoreError::record("write the record of an image's name"))
    }

    /// Takes a name away; whether there was one. The image stays until it is collected.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn unname(&self, name: &str) -> Result<bool> {
        let _shared = self.layout.share()?;
        self.unname_alone(name)
    }

    pub(crate) fn unname_alone(&self, name: &str) -> Result<bool> {
        let file = name_file(name)?;
        match rustix::fs::unlinkat(&self.layout.images, &file, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => {
                Err(StoreError::io("remove the name", self.layout.path.join("images").join(file))(errno))
            }
        }
    }

    /// Whether a blob need not be fetched: a manifest or configuration that is here, or the blob of a layer that is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn present(&self) -> Result<impl Fn(&Digest) -> bool + use<>> {
        let layers: std::collections::HashSet<Digest> = self
            .images()?
            .into_iter()
            .flat_map(|image| image.layers)
            .filter(|layer| exists(self.layout.layers.as_fd(), &file_name(&layer.key)))
            .map(|layer| layer.blob)
            .collect();
        let layout = self.layout.clone();
        Ok(move |blob: &Digest| layers.contains(blob) || exists(layout.blobs.as_fd(), &file_name(blob)))
    }

    /// A manifest or configuration, byte for byte, its digest compared.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] when it is not here or is damaged.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let cap = usize::try_from(CONFIG_MAX).unwrap_or(usize::MAX);
        let read = berth_record::read_bytes(self.layout.blobs.as_fd(), &file_name(digest), cap);
        let bytes = optional("read a blob", read)?;
        bytes.filter(|bytes| digest_of(digest.algorithm(), bytes) == *digest).ok_or_else(|| {
            StoreError::Incomplete {
                image: digest.to_string(),
                what: format!("blob {digest}, or it is damaged"),
            }
        })
    }

    /// An image's configuration.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`].
    pub fn config(&self, image: &Image) -> Result<ImageConfig> {
        ImageConfig::parse(&self.blob(&image.config)?).map_err(|what| StoreError::Incomplete {
            image: image.manifest.to_string(),
            what: format!("a configuration that can be read ({what})"),
        })
    }

    /// Opens the trees of an image, the highest first, as overlayfs wants them: those that are
    /// hidden by one above are left away. Hold a lease on the image meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`].
    pub fn open_layers(&self, image: &Image) -> Result<Vec<OwnedFd>> {
        let mut open = Vec::with_capacity(image.layers.len());
        for layer in visible(&image.layers).iter().rev() {
            open.push(self.open_layer(&layer.key).map_err(|error| match error {
                StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    StoreError::Incomplete {
                        image: image.manifest.to_string(),
                        what: format!("layer {}", layer.key),
                    }
                }
                error => error,
            })?);
        }
        Ok(open)
    }

    pub(crate) fn open_layer(&self, key: &Digest) -> Result<OwnedFd> {
        let path = Path::new(&file_name(key)).join("rootfs");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.layout.layers, &path, flags, Mode::empty())
            .map_err(StoreError::io("open the layer", self.layout.path.join("layers").join(&path)))
    }

    /// Lets `holder` hold `image` beside what it holds already, so that it is not removed until [`Store::release`].
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] when parts of it are gone.
    pub fn hold(&self, holder: &str, image: &Image) -> Result<()> {
        let file = holder_file(holder)?;
        let _shared = self.layout.share()?;
        self.require(image, holder)?;
        let read = berth_record::read(self.layout.leases.as_fd(), &file, CAP);
        let mut lease = optional::<Lease>("read a lease", read)?.unwrap_or_else(|| Lease {
            holder: holder.to_owned(),
            since: now(),
            images: Vec::new(),
        });
        if !lease.images.contains(image) {
            lease.images.push(image.clone());
            berth_record::write(self.layout.leases.as_fd(), &file, &lease, Sync::No)
                .map_err(StoreError::record("write a lease"))?;
        }
        Ok(())
    }

    /// Lets `holder` hold `image` no longer; what else it holds it goes on holding.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn let_go(&self, holder: &str, image: &Image) -> Result<()> {
        let file = holder_file(holder)?;
        let _shared = self.layout.share()?;
        let read = berth_record::read(self.layout.leases.as_fd(), &file, CAP);
        let Some(mut lease) = optional::<Lease>("read a lease", read)? else { return Ok(()) };
        lease.images.retain(|held| held != image);
        if lease.images.is_empty() {
            return self.release(holder).map(drop);
        }
        berth_record::write(self.layout.leases.as_fd(), &file, &lease, Sync::No)
            .map_err(StoreError::record("write a lease"))
    }

    /// Ends what `holder` holds; whether it held something.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn release(&self, holder: &str) -> Result<bool> {
        let file = holder_file(holder)?;
        match rustix::fs::unlinkat(&self.layout.leases, &file, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => {
                Err(StoreError::io("remove the lease", self.layout.path.join("leases").join(file))(errno))
            }
        }
    }

    /// Everything that is held.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn leases(&self) -> Result<Vec<Lease>> {
        let mut all = Vec::new();
        for file in names(self.layout.leases.as_fd(), &self.layout.path.join("leases"))? {
            let read = berth_record::read(self.layout.leases.as_fd(), &file, CAP);
            all.extend(optional::<Lease>("read a lease", read)?);
        }
        Ok(all)
    }

    /// Notes that a name is in use now: what was not used for longest is collected first.
    pub fn touch(&self, name: &str) {
        let time = |nsec| rustix::fs::Timespec { tv_sec: 0, tv_nsec: nsec };
        let times = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
        if let Ok(file) = name_file(name) {
            // Only the order of collecting depends on it.
            let _ = rustix::fs::utimensat(&self.layout.images, &file, &times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    /// Makes sure that all that is here is on the disk, records and names too. Without this, layers are made again after a
    /// crash of the machine, and names of the last seconds may be lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sync(&self) -> Result<()> {
        let mut unsynced = Vec::new();
        for (file, record) in self.layer_records()? {
            if record.unsynced_since_boot.is_some() {
                unsynced.push((file, record));
            }
        }
        rustix::fs::syncfs(&self.layout.root).map_err(StoreError::io("sync", &self.layout.path))?;
        let _shared = self.layout.share()?;
        for (file, mut record) in unsynced {
            record.unsynced_since_boot = None;
            if let Some(dir) = self.layer_dir(&file)? {
                berth_record::write(dir.as_fd(), "record", &record, Sync::No)
                    .map_err(StoreError::record("write the record of a layer"))?;
            }
        }
        Ok(())
    }

    /// Waits to be the only one who pulls `name`, in all processes, for as long as what it gives is kept.
    ///
    /// # Errors
    /// [`StoreError`], that it was cancelled too.
    pub fn alone(&self, name: &str, cancel: &Cancel) -> Result<Alone> {
        let key = digest_of(Algorithm::Sha256, format!("pull of {name}").as_bytes());
        let held = self.layout.claim(&key, cancel, || {})?;
        held.map(|held| Alone { _held: held })
            .ok_or_else(|| PullError::Cancelled { from: name.to_owned() }.into())
    }

    pub(crate) fn require(&self, image: &Image, name: &str) -> Result<()> {
        match self.lacks(image) {
            None => Ok(()),
            Some(what) => Err(StoreError::Incomplete { image: name.to_owned(), what }),
        }
    }

    fn layer_dir(&self, file: &str) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.layout.layers, file, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => {
                Err(StoreError::io("open the layer", self.layout.path.join("layers").join(file))(errno))
            }
        }
    }

    /// The records of all layers, with the names of their directories. One that can not be read is left away: its
    /// layer is not used either.
    pub(crate) fn layer_records(&self) -> Result<Vec<(String, LayerRecord)>> {
        let mut all = Vec::new();
        for file in names(self.layout.layers.as_fd(), &self.layout.path.join("layers"))? {
            if let Some(record) = self.layer_record(&file)? {
                all.push((file, record));
            }
        }
        Ok(all)
    }

    pub(crate) fn layer_record(&self, file: &str) -> Result<Option<LayerRecord>> {
        let Some(dir) = self.layer_dir(file)? else { return Ok(None) };
        Ok(berth_record::read(dir.as_fd(), "record", CAP).ok())
    }

    /// After a restart of the machine: layers that nobody synced may have holes where data was.
    fn forget_unsynced(&self) -> Result<()> {
        let boot = BootId::current().map_err(StoreError::record("learn which boot this is"))?;
        let root = self.layout.root.as_fd();
        let read = berth_record::read(root, "store", CAP);
        if optional::<Whole>("read the record of the store", read)?.is_some_and(|w| w.boot == boot.as_str()) {
            return Ok(());
        }
        let _alone = self.layout.exclude()?;
        for file in names(self.layout.layers.as_fd(), &self.layout.path.join("layers"))? {
            let record = self.layer_record(&file)?;
            let safe = record.is_some_and(|record| {
                record.unsynced_since_boot.is_none_or(|written| written == boot.as_str())
            });
            if !safe {
                self.discard(self.layout.layers.as_fd(), "layers", &file)?;
            }
        }
        let whole = Whole { boot: boot.as_str().to_owned() };
        match berth_record::write(root, "store", &whole, Sync::No) {
            // A full disk must not keep anybody from making room in it: whoever opens the store next looks again.
            Ok(()) | Err(berth_record::Error::NoSpace { .. }) => Ok(()),
            Err(error) => Err(StoreError::record("write the record of the store")(error)),
        }
    }

    /// Removes the staging directories of pulls that live no more, and what is in the trash.
    pub(crate) fn collect_staging(&self) -> Result<()> {
        let place = self.layout.path.join("staging");
        if !names(self.layout.staging.as_fd(), &place)?.is_empty() {
            let _alone = self.layout.exclude()?;
            for name in names(self.layout.staging.as_fd(), &place)? {
                if !self.is_alive(&name)? {
                    self.discard(self.layout.staging.as_fd(), "staging", &name)?;
                }
            }
        }
        self.empty_trash()
    }

    /// Whether the pull that a staging directory belongs to lives.
    pub(crate) fn is_alive(&self, staging: &str) -> Result<bool> {
        let path = self.layout.path.join("staging").join(staging);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::openat(&self.layout.staging, staging, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(errno) => return Err(StoreError::io("open", path)(errno)),
        };
        let how = FlockOperation::NonBlockingLockExclusive;
        Ok(try_lock(dir.as_fd(), "lock", how, &path)?.is_none())
    }

    /// Moves something to the trash: from now on it is nowhere.
    pub(crate) fn discard(&self, dir: BorrowedFd<'_>, place: &str, name: &str) -> Result<()> {
        match rustix::fs::renameat(dir, name, &self.layout.trash, fresh_name()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // The trash would need a block more. Its record goes first, so it counts for nothing from then on.
            Err(Errno::NOSPC | Errno::DQUOT) => {
                let _ = rustix::fs::unlinkat(dir, format!("{name}/record"), AtFlags::empty());
                let removal = remove_tree(dir, OsStr::new(name));
                match removal.failures.into_iter().next() {
                    None => Ok(()),
                    Some(first) => Err(StoreError::Io {
                        what: "remove",
                        path: self.layout.path.join(place).join(name),
                        source: first.source,
                    }),
                }
            }
            Err(errno) => Err(StoreError::io("discard", self.layout.path.join(place).join(name))(errno)),
        }
    }

    /// Removes what is in the trash. Others may be doing the same.
    pub(crate) fn empty_trash(&self) -> Result<()> {
        let path = self.layout.path.join("trash");
        for name in names(self.layout.trash.as_fd(), &path)? {
            let removal = remove_tree(self.layout.trash.as_fd(), OsStr::new(&name));
            if let Some(first) = removal.failures.first() {
                return Err(StoreError::Leftover {
                    path: path.join(name),
                    count: removal.failures.len() as u64 + removal.more_failures,
                    first: first.source.to_string(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn path_of(&self, place: &str) -> PathBuf {
        self.layout.path.join(place)
    }
}

/// The layers that can be seen: none below one that hides all.
pub(crate) fn visible(layers: &[crate::records::LayerUse]) -> &[crate::records::LayerUse] {
    let from = layers.iter().rposition(|layer| layer.hides_all).unwrap_or(0);
    &layers[from..]
}

/// Mode and owner of the root directory of layers on top of one another.
pub(crate) fn top_of(tops: impl DoubleEndedIterator<Item = Option<Top>>) -> RootMode {
    tops.rev().flatten().next().map(RootMode::from).unwrap_or_default()
}

/// What is missing is nothing; what is torn or was written by another release is as good as missing where it can be
/// had again. All else is an error.
pub(crate) fn optional<T>(what: &'static str, read: berth_record::Result<T>) -> Result<Option<T>> {
    use berth_record::Error;
    match read {
        Ok(found) => Ok(Some(found)),
        Err(Error::Missing { .. } | Error::Torn { .. } | Error::Malformed { .. } | Error::Older { .. }) => {
            Ok(None)
        }
        Err(error) => Err(StoreError::record(what)(error)),
    }
}

fn name_file(name: &str) -> Result<String> {
    let why = match name {
        "" => "it is empty",
        name if name.len() > NAME_MAX => "it is too long",
        name if name.chars().any(char::is_control) => "it has control characters",
        _ => return Ok(digest_of(Algorithm::Sha256, name.as_bytes()).hex()),
    };
    Err(StoreError::Name { name: name.chars().take(100).collect(), why })
}

/// A holder's name as a file's: what is no letter, digit, `-`, `_` or `.` is written as `%` and two digits.
pub(crate) fn holder_file(holder: &str) -> Result<String> {
    let mut file = String::new();
    for (at, byte) in holder.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => file.push(char::from(byte)),
            b'.' if at > 0 => file.push('.'),
            byte => file.push_str(&format!("%{byte:02x}")),
        }
    }
    match file.len() {
        1..=255 => Ok(file),
        0 => Err(StoreError::Name { name: String::new(), why: "a holder needs a name" }),
        // The longest container ids with all their parents: their digest is as good.
        _ => Ok(digest_of(Algorithm::Sha256, holder.as_bytes()).hex()),
    }
}
