// SPDX-License-Identifier: Apache-2.0
//! The one place that knows both the store and where images come from.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_image::config::ImageConfig;
use berth_image::{Cancel, PullError, Source};
use berth_model::image::{Digest, Platform, Reference};
use berth_registry::explain::Explanation;
use berth_registry::{Client, Push};
use berth_store::{Image, PullRequest, Store, StoreOptions, Watch, sources};

use crate::appc::{AppcImage, Prefix};
use crate::error::{ImagesError, Result};
use crate::name::ImageName;
use crate::upkeep::Bell;

/// How often an image is pulled that others remove at the same moment.
const TRIES: u32 = 3;

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The store's directory, `<work_dir>/store`.
    pub store: PathBuf,
    /// Where `registries.toml` and `registries.d` are.
    pub registries: PathBuf,
    /// `--docker_registry`: the registry of references that name none, or a directory with archives for all of them.
    pub docker_registry: Option<String>,
    /// `--docker_config`.
    pub docker_config: Option<String>,
    /// Where App Container images are looked for (`--appc_simple_discovery_uri_prefix`).
    pub appc: Prefix,
    /// Credentials of a person, for a command that a person runs ([`berth_registry::usual_files`]).
    pub credentials: Vec<PathBuf>,
    /// A registry that sends nothing for so long is given up (`--fetcher_stall_timeout`).
    pub stall: Option<Duration>,
}

impl Settings {
    /// Everything at its default but the store.
    pub fn new(store: PathBuf) -> Settings {
        Settings {
            store,
            registries: "/etc/berth".into(),
            docker_registry: None,
            docker_config: None,
            appc: Prefix::default(),
            credentials: Vec::new(),
            stall: None,
        }
    }

    /// The directory of archives, if `--docker_registry` is one.
    fn archives(&self) -> Option<&Path> {
        self.docker_registry.as_deref().filter(|text| text.starts_with('/')).map(Path::new)
    }
}

/// Which image, and on which terms.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: ImageName,
    /// The image's own credentials: the JSON of a Docker configuration.
    pub secret: Option<Vec<u8>>,
    /// For which platform; none: this machine's.
    pub platform: Option<Platform>,
    /// Whether one that is here will do. Files are looked at each time.
    pub cached: bool,
}

impl Wanted {
    /// An image by name alone.
    pub fn new(name: ImageName) -> Wanted {
        Wanted { name, secret: None, platform: None, cached: true }
    }
}

/// An image that is held for a container, open.
#[derive(Debug)]
pub struct Provisioned {
    /// Which.
    pub image: Image,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its trees, the highest first.
    pub layers: Vec<OwnedFd>,
}

/// Images of one store. Nothing is opened before it is needed.
pub struct Images {
    settings: Settings,
    store: Mutex<Option<Store>>,
    client: Mutex<Option<Client>>,
    bell: Bell,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("store", &self.settings.store).finish_non_exhaustive()
    }
}

impl Images {
    /// With these settings.
    pub fn new(settings: Settings) -> Images {
        Images { settings, store: Mutex::default(), client: Mutex::default(), bell: Bell::default() }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// The store, opened when it was not yet.
    ///
    /// # Errors
    /// It can not be.
    pub fn store(&self) -> Result<Store> {
        let mut slot = lock(&self.store);
        if let Some(store) = &*slot {
            return Ok(store.clone());
        }
        if let Some(work) = self.settings.store.parent() {
            use std::os::unix::fs::DirBuilderExt;
            // As the containers' owner makes it; an error is the store's to tell.
            let _ = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(work);
        }
        let store = Store::open(&self.settings.store, StoreOptions::default())?;
        *slot = Some(store.clone());
        Ok(store)
    }

    /// The client of registries, made when it was not yet: all pulls share its connections and tokens.
    ///
    /// # Errors
    /// The configuration or the credentials are wrong.
    pub fn client(&self) -> Result<Client> {
        let mut slot = lock(&self.client);
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let own = &self.settings;
        let registry = own.docker_registry.as_deref().filter(|_| own.archives().is_none());
        if registry.is_some_and(|registry| registry.starts_with("hdfs:")) {
            return Err(ImagesError::Unsupported(
                "--docker_registry: hdfs is not built into this version: name a registry or a directory"
                    .into(),
            ));
        }
        let mut settings =
            berth_registry::Settings::load(&own.registries, own.docker_config.as_deref(), registry)?
                .with_files(&own.credentials)?;
        if let Some(stall) = own.stall {
            settings.patience.stall = stall;
        }
        let client = Client::new(settings)?;
        *slot = Some(client.clone());
        Ok(client)
    }

    /// Where an image comes from.
    ///
    /// # Errors
    /// The source can not be opened. Registries are not asked for anything yet.
    pub fn source(&self, wanted: &Wanted, cancel: &Cancel) -> Result<Box<dyn Source>> {
        let platform = wanted.platform.clone().unwrap_or_else(Platform::host);
        match (&wanted.name, self.settings.archives()) {
            (ImageName::File { .. }, _) => {
                wanted.name.require_absolute()?;
                let store = self.store()?;
                let name = wanted.name.to_string();
                let opened = sources::open(&name, store.path(), &platform, cancel);
                // The kinds are the same there and here.
                let missing = || PullError::NotFound {
                    from: name.clone(),
                    what: "kind of file".into(),
                    advice: "name a registry's reference".into(),
                };
                Ok(opened.unwrap_or_else(|| Err(missing()))?)
            }
            (ImageName::Appc(name), _) => {
                if let Some(platform) = &wanted.platform {
                    let text =
                        format!("an App Container image for {platform}: name its labels os and arch instead");
                    return Err(ImagesError::Unsupported(text));
                }
                let (store, client) = (self.store()?, || self.client());
                Ok(Box::new(AppcImage::open(name, &self.settings.appc, &client, store.path(), cancel)?))
            }
            (ImageName::Reference(reference), Some(archives)) => {
                let store = self.store()?;
                Ok(Box::new(sources::open_in_directory(archives, reference, store.path(), cancel)?))
            }
            (ImageName::Reference(reference), None) => {
                Ok(Box::new(self.client()?.image(reference, wanted.secret.as_deref())?))
            }
        }
    }

    /// The image, if it is here and one that is here will do.
    ///
    /// # Errors
    /// The store can not be read.
    pub fn find(&self, wanted: &Wanted) -> Result<Option<Image>> {
        if !wanted.cached || wanted.name.is_file() || wanted.platform.is_some() {
            return Ok(None);
        }
        let store = self.store()?;
        let key = wanted.name.key();
        let found = store.find(&key)?;
        if found.is_some() {
            store.touch(&key);
        }
        Ok(found)
    }

    /// Pulls an image, or what of it is not here yet.
    ///
    /// # Errors
    /// It can not be had; the name stands for what it stood for before.
    pub fn pull(&self, wanted: &Wanted, cancel: &Cancel, watch: &dyn Watch) -> Result<Image> {
        self.pull_as(wanted, &wanted.name.key(), cancel, watch)
    }

    /// The same, under another name.
    ///
    /// # Errors
    /// As [`Images::pull`].
    pub fn pull_as(&self, wanted: &Wanted, name: &str, cancel: &Cancel, watch: &dyn Watch) -> Result<Image> {
        let _alone = match &wanted.name {
            // Its archives are fetched before the store knows of any layer, by which pulls wait for each other.
            ImageName::Appc(_) => {
                let alone = self.store()?.alone(name, cancel)?;
                if let Some(image) = self.find(wanted)?.filter(|_| wanted.name.key() == name) {
                    return Ok(image);
                }
                Some(alone)
            }
            _ => None,
        };
        let source = self.source(wanted, cancel)?;
        let request = PullRequest { name, source: source.as_ref(), platform: wanted.platform.clone() };
        let image = self.store()?.pull(&request, cancel, watch)?;
        self.bell.ring();
        Ok(image)
    }

    /// The image from the store, else pulled.
    ///
    /// # Errors
    /// As [`Images::pull`].
    pub fn get(&self, wanted: &Wanted, cancel: &Cancel, watch: &dyn Watch) -> Result<Image> {
        match self.find(wanted)? {
            Some(image) => Ok(image),
            None => self.pull(wanted, cancel, watch),
        }
    }

    /// Gets an image (`found`, if the caller has it already), holds it for `holder` and opens it. When somebody removes
    /// it at the same moment, it is had again.
    ///
    /// # Errors
    /// As [`Images::pull`]; it is not held then.
    pub fn provision(
        &self,
        holder: &str,
        wanted: &Wanted,
        found: Option<Image>,
        cancel: &Cancel,
        watch: &dyn Watch,
    ) -> Result<Provisioned> {
        let mut found = found;
        let mut tries = 1;
        loop {
            let image = match found.take() {
                Some(image) => image,
                None => self.get(wanted, cancel, watch)?,
            };
            match self.hold(holder, image) {
                Err(error) if error.is_incomplete() && tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    fn hold(&self, holder: &str, image: Image) -> Result<Provisioned> {
        let store = self.store()?;
        store.hold(holder, &image)?;
        let open = || -> Result<Provisioned> {
            let layers = store.open_layers(&image)?;
            let config = store.config(&image)?;
            Ok(Provisioned { image: image.clone(), config, layers })
        };
        // What else it holds, for a volume, is in use.
        open().inspect_err(|_| drop(store.let_go(holder, &image)))
    }

    /// What a pull would do; with `look` the hosts are asked for the manifests.
    ///
    /// # Errors
    /// The reference, the configuration or the credentials are wrong; that nothing is found there is told inside.
    pub fn explain(
        &self,
        reference: &Reference,
        secret: Option<&[u8]>,
        platform: &Platform,
        look: bool,
        cancel: &Cancel,
    ) -> Result<Explanation> {
        let present = self.store()?.present()?;
        let look = look.then_some(&present as &dyn Fn(&Digest) -> bool);
        Ok(self.client()?.explain(reference, secret, platform, look, cancel)?)
    }

    /// A push to a repository; blobs are mounted from `from`, if that is at the same registry.
    ///
    /// # Errors
    /// The configuration or the credentials are wrong.
    pub fn push(&self, to: &Reference, from: Option<&Reference>) -> Result<Push> {
        Ok(self.client()?.push_mounting(to, from, None)?)
    }
}

/// Ends what `holder` holds in the store at `path`, whether or not anything was ever pulled there. One call of the
/// kernel's where nothing is held.
///
/// # Errors
/// It is still held.
pub fn release(path: &Path, holder: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path.join("leases").join(holder)) {
        Err(error) if !matches!(error.kind(), std::io::ErrorKind::NotFound) => Err(error),
        _ => Ok(()),
    }
}

/// Whether a file begins as one that is compressed as a whole does.
pub fn is_compressed(file: &std::fs::File) -> bool {
    let mut magic = [0; 6];
    let count = std::os::unix::fs::FileExt::read_at(file, &mut magic, 0).unwrap_or(0);
    matches!(&magic[..count], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', ..])
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
