// SPDX-License-Identifier: Apache-2.0
//! Images: from what a container asks for to the layers of its root file system, and what its configuration means for
//! the command (Mesos's provisioner and its isolator `docker/runtime`).
//!
//! It happens when the container has its record, so whoever is killed here leaves something by which the rest is found:
//! the lease by which the image is held goes with the container (see `collect`). A pull may take long. It ends at once
//! when the container is destroyed, and goes on as long as something comes ([`Images`] gives up registries that stall).

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use berth_contract::{Answer, Error as Refused, ImageKept, LayerExplained, Pull, PullExplained};
use berth_image::Top;
use berth_images::runtime::{self, Rule};
use berth_images::{
    AppcName, AppcNameError, Backend, Cancel, Collecting, Image, ImageName, Images, ImagesError, Provisioned,
    PruneOptions, Unwatched, Upkept, Wanted,
};
use berth_launcher::{ImageVolume, Places, Rootfs};
use berth_model::image::Platform;
use berth_model::{Class, ContainerConfig, ContainerId, ImageType, LinuxInfo, NativeEvent, Secret};
use berth_record::Sync as Durable;
use berth_sys::rustix::fs::{Mode, mkdirat};

use crate::collect::chain;
use crate::containerizer::MesosContainerizer;
use crate::native::Native;
use crate::record::CONFIG;
use crate::request::{Request, RootSource, Watch};
use crate::rootfs::UNPACKED;
use crate::shared::warn;
use crate::{Error, Result};

/// Which images the operator lets containers have.
#[derive(Debug, Clone)]
pub struct Provision {
    /// Where they come from and where they are.
    pub images: Arc<Images>,
    /// Whether those of type DOCKER.
    pub docker: bool,
    /// Whether those of type OCI.
    pub oci: bool,
    /// Whether those of type APPC.
    pub appc: bool,
    /// Whether the manifests of those count (the isolator `appc/runtime`).
    pub appc_runtime: bool,
    /// Whether their configurations count for nothing (`--docker_ignore_runtime`).
    pub ignore_runtime: bool,
    /// How root file systems are made of them (`--image_provisioner_backend`).
    pub backend: Backend,
    /// When those that nobody uses are collected (`--image_gc_config`).
    pub collecting: Option<Collecting>,
}

impl Provision {
    /// The name under which an image is in the store.
    ///
    /// # Errors
    /// It names none.
    pub fn key_of(image: &berth_model::Image) -> Result<String> {
        if image.r#type == ImageType::Appc {
            return Ok(ImageName::Appc(appc_name(image)?).key());
        }
        let none = || Error::Invalid("an image names nothing: give docker.name or oci.reference".to_owned());
        let text = text_of(image).ok_or_else(none)?;
        let name: ImageName =
            text.parse().map_err(|e: berth_images::NameError| Error::Invalid(e.to_string()))?;
        Ok(name.key())
    }
}

/// An image that a root file system is to be made of.
#[derive(Clone)]
pub struct ImageSource {
    /// Where it comes from.
    pub images: Arc<Images>,
    /// Which.
    pub wanted: Wanted,
    /// The same, where the caller has it already.
    pub found: Option<Image>,
    /// By which rule its configuration completes the command; none: not at all.
    pub rule: Option<Rule>,
    /// How its root file system is made.
    pub backend: Backend,
    /// Ends its pull.
    pub cancel: Cancel,
    /// Who is told how far its pull is.
    pub watch: Option<Arc<dyn berth_images::Watch + Send + Sync>>,
}

impl ImageSource {
    /// An image by name.
    pub fn new(images: Arc<Images>, wanted: Wanted) -> ImageSource {
        let (found, rule, cancel, watch) = (None, Some(Rule::Docker), Cancel::new(), None);
        let backend = Backend::default();
        ImageSource { images, wanted, found, rule, backend, cancel, watch }
    }
}

impl fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.wanted.name)
    }
}

/// The image that a configuration asks for, if it does and has no root file system already.
///
/// # Errors
/// One that there can not be, in Mesos's words where it has some.
pub(crate) fn asked(
    provision: Option<&Provision>,
    config: &ContainerConfig,
    cancel: &Cancel,
) -> Result<Option<ImageSource>> {
    let mesos = config.container_info.as_ref().and_then(|info| info.mesos.as_ref());
    let Some(image) = mesos.and_then(|mesos| mesos.image.as_ref()).filter(|_| config.rootfs.is_none()) else {
        return Ok(None);
    };
    source_of(provision, image, cancel).map(Some)
}

/// The images that a configuration's volumes ask for, in their order.
///
/// # Errors
/// As [`asked`].
pub(crate) fn volumes_asked(
    native: &Native,
    config: &ContainerConfig,
    cancel: &Cancel,
) -> Result<Vec<ImageSource>> {
    let volumes = config.container_info.iter().flat_map(|info| &info.volumes);
    // As the isolator counts them.
    let alone = volumes.filter(|volume| volume.host_path.is_none() && volume.source.is_none());
    let images: Vec<_> = alone.filter_map(|volume| volume.image.as_ref()).collect();
    if !images.is_empty() && !native.isolators.iter().any(|isolator| isolator.name() == "volume/image") {
        let text = "volumes that are images need the isolator 'volume/image': add it to --isolation";
        return Err(berth_launcher::Error::Unsupported(text.to_owned()).into());
    }
    images.into_iter().map(|image| source_of(native.provision.as_ref(), image, cancel)).collect()
}

fn source_of(
    provision: Option<&Provision>,
    image: &berth_model::Image,
    cancel: &Cancel,
) -> Result<ImageSource> {
    let unsupported = |what: &str| {
        let text = format!("Unsupported container image type: {what}");
        Error::from(berth_launcher::Error::Unsupported(text))
    };
    let allowed = |is: fn(&Provision) -> bool| provision.filter(|provision| is(provision));
    let lacks = |what: &str| Error::Invalid(format!("the image lacks its field '{what}'"));
    let (provision, text, secret, rule) = match image.r#type {
        ImageType::Docker => {
            let provision = allowed(|p| p.docker).ok_or_else(|| unsupported("DOCKER"))?;
            let docker = image.docker.as_ref().ok_or_else(|| lacks("docker"))?;
            (provision, &docker.name, docker.config.as_ref(), Rule::Mesos)
        }
        ImageType::Oci => {
            let provision = allowed(|p| p.oci).ok_or_else(|| unsupported("OCI"))?;
            let oci = image.oci.as_ref().ok_or_else(|| lacks("oci"))?;
            (provision, &oci.reference, oci.config.as_ref(), Rule::Docker)
        }
        ImageType::Appc => {
            let provision = allowed(|p| p.appc).ok_or_else(|| unsupported("APPC"))?;
            let wanted = Wanted { cached: image.cached, ..Wanted::new(ImageName::Appc(appc_name(image)?)) };
            let source = ImageSource::new(Arc::clone(&provision.images), wanted);
            let rule = provision.appc_runtime.then_some(Rule::Mesos);
            return Ok(ImageSource { rule, backend: provision.backend, cancel: cancel.clone(), ..source });
        }
    };
    let failed = |why: String| Error::Invalid(format!("Failed to parse docker image '{text}': {why}"));
    let name: ImageName = text.parse().map_err(|e: berth_images::NameError| failed(e.to_string()))?;
    match &name {
        ImageName::Reference(_) => {}
        ImageName::Appc(_) => return Err(failed("it is an image of type APPC".to_owned())),
        ImageName::File { .. } if image.r#type == ImageType::Docker => {
            return Err(failed("files are images of type OCI".to_owned()));
        }
        ImageName::File { .. } => name.require_absolute().map_err(|e| failed(e.to_string()))?,
    }
    let wanted =
        Wanted { secret: secret.map(credentials).transpose()?, cached: image.cached, ..Wanted::new(name) };
    let rule = (!provision.ignore_runtime).then_some(rule);
    let source = ImageSource::new(Arc::clone(&provision.images), wanted);
    Ok(ImageSource { rule, backend: provision.backend, cancel: cancel.clone(), ..source })
}

/// The name in an image of type APPC, with which it can be looked for.
fn appc_name(image: &berth_model::Image) -> Result<AppcName> {
    let lacks = || Error::Invalid("the image of type APPC lacks its field 'appc'".to_owned());
    let appc = image.appc.as_ref().ok_or_else(lacks)?;
    let labels = appc.labels.iter().flat_map(|labels| &labels.labels);
    let labels = labels.map(|label| (label.key.clone(), label.value.clone().unwrap_or_default()));
    let invalid = |error: AppcNameError| Error::Invalid(error.to_string());
    let name = AppcName::new(&appc.name, labels, appc.id.as_deref()).map_err(invalid)?;
    name.place().map_err(invalid)?;
    Ok(name)
}

fn credentials(secret: &Secret) -> Result<Vec<u8>> {
    let text =
        "the image's config is a secret by reference, and no secret resolver is provided: give its value";
    let unsupported = || berth_launcher::Error::Unsupported(text.to_owned());
    Ok(secret.exposed().ok_or_else(unsupported)?.to_vec())
}

impl Native {
    /// Who holds an image for a container. There is one agent for a work directory, and one container of a name.
    pub(crate) fn holder(&self, id: &ContainerId) -> String {
        format!("{}.{id}", self.kind.name())
    }

    /// Brings a container's image, holds it, and completes what was asked by what the image says. The record is
    /// written anew: what runs in the container later begins as its first process does.
    pub(crate) fn provision(
        &self,
        request: &mut Request,
        dir: &OwnedFd,
        work: &OwnedFd,
        places: &Places,
    ) -> Result<Rootfs> {
        let RootSource::Image(source) = request.root.clone() else {
            return Err(Error::Invalid("the container has no image".to_owned()));
        };
        let got = self.bring(request, &source)?;
        let directories = complete(request, &source, &got)?;
        let record = self.record(request, places)?;
        berth_record::write(dir.as_fd(), CONFIG, &record, Durable::No)
            .map_err(|source| Error::Record { what: "write the container's record", source })?;
        let Provisioned { image, layers, .. } = got;
        let path = PathBuf::from(source.wanted.name.to_string());
        if source.backend == Backend::Copy {
            let copied = copied(&source, &image, &layers, work, places, &directories);
            return copied.or_else(|error| Err(cut_short(request, &source, error)?));
        }
        let top = Top { mode: image.top.mode, uid: image.top.uid, gid: image.top.gid };
        Ok(Rootfs::Layered { path, layers, top: Some(top), directories })
    }

    /// Brings an image, and holds it for a container.
    fn bring(&self, request: &mut Request, source: &ImageSource) -> Result<Provisioned> {
        let holder = self.holder(&request.id);
        let (wanted, watch) = (&source.wanted, source.watch.as_deref());
        let watch: &dyn berth_images::Watch = watch.map_or(&Unwatched, |watch| watch);
        let got = source.images.provision(&holder, wanted, source.found.clone(), &source.cancel, watch);
        got.or_else(|error| Err(cut_short(request, source, Error::image(source, error))?))
    }

    /// Brings the images of a container's volumes: held by the same lease.
    pub(crate) fn provision_volumes(&self, request: &mut Request) -> Result<()> {
        for source in std::mem::take(&mut request.volumes) {
            let got = self.bring(request, &source)?;
            let top = got.image.top;
            request.image_volumes.push(ImageVolume {
                name: source.wanted.name.to_string(),
                layers: got.layers,
                top: Some(Top { mode: top.mode, uid: top.uid, gid: top.gid }),
            });
        }
        Ok(())
    }
}

/// Why an image could not be had: when the container was destroyed meanwhile, that is why.
fn cut_short(request: &mut Request, source: &ImageSource, error: Error) -> Result<Error> {
    if source.cancel.is_cancelled() {
        Watch::tell(&mut request.watch, NativeEvent::Provisioned)?;
    }
    Ok(error)
}

/// A root file system of the container's own (`copy`), below its directory.
fn copied(
    source: &ImageSource,
    image: &Image,
    layers: &[OwnedFd],
    work: &OwnedFd,
    places: &Places,
    directories: &[String],
) -> Result<Rootfs> {
    let path = places.work.join(UNPACKED);
    let failed = |what| Error::directory(what, &path);
    mkdirat(work, UNPACKED, Mode::RWXU).map_err(failed("make"))?;
    let dir = crate::native::directory(work.as_fd(), UNPACKED).map_err(failed("open"))?;
    let copy = berth_images::copy_image(layers, image.top, &dir, &path, &source.cancel);
    copy.map_err(|error| Error::image(source, error.into()))?;
    let root =
        dir.try_clone().map_err(|e| Error::Directory { what: "open", path: path.clone(), source: e })?;
    let made = berth_image::Root::of(root).and_then(|root| {
        let mode = Mode::from_bits_truncate(0o755);
        directories.iter().try_for_each(|directory| root.create_dir_all(directory, mode).map(drop))
    });
    let what = "make a directory that the image's configuration names in";
    made.map_err(|e| Error::Directory { what, path: path.clone(), source: std::io::Error::other(e) })?;
    Ok(Rootfs::Own { path, dir })
}

/// Completes a request by an image's configuration; the directories that are to be there.
fn complete(request: &mut Request, source: &ImageSource, got: &Provisioned) -> Result<Vec<String>> {
    if source.backend == Backend::Bind {
        if got.layers.len() > 1 {
            // The words of Mesos.
            let text = "Multiple layers are not supported by the bind backend; use overlay or copy";
            return Err(berth_launcher::Error::Unsupported(text.to_owned()).into());
        }
        let info = request.config.container_info.get_or_insert_default();
        info.linux_info.get_or_insert_with(LinuxInfo::default).read_only_rootfs = Some(true);
    }
    let Some(rule) = source.rule else { return Ok(Vec::new()) };
    let command = &mut request.config.command_info;
    let wishes =
        runtime::wishes(command, &got.config.runtime, rule).map_err(|e| Error::Invalid(e.to_string()))?;
    if !command.shell {
        command.value = Some(wishes.program.path);
        command.arguments = wishes.program.argv;
    }
    // Above what the caller gives to all, below what was asked for.
    request.environment.extend(wishes.environment);
    if request.config.user.is_none() {
        request.config.user = wishes.user;
    }
    if request.working_directory.is_none() {
        let root = || (rule == Rule::Docker).then(|| "/".to_owned());
        request.working_directory = wishes.working_directory.or_else(root);
    }
    request.stop_signal = wishes.stop_signal;
    let start = request.working_directory.iter().filter(|path| path.starts_with('/')).cloned();
    Ok(wishes.volumes.into_iter().chain(start).collect())
}

/// Removes the images that no container holds, but those that are named.
///
/// # Errors
/// Some are left.
pub(crate) fn prune(native: &Native, excluded: &[berth_model::Image]) -> std::result::Result<(), Refused> {
    let Some(provision) = &native.provision else { return Ok(()) };
    let always = provision.collecting.iter().flat_map(|collecting| collecting.marks.excluded.iter().cloned());
    let keep = excluded.iter().filter_map(|image| Provision::key_of(image).ok()).chain(always);
    let options = PruneOptions { named: true, keep: keep.collect(), dry_run: false };
    let prune = || Ok::<_, ImagesError>(provision.images.store()?.prune(&options)?);
    prune().map(drop).map_err(|error| Refused::other(error.class(), chain(&error)))
}

fn text_of(image: &berth_model::Image) -> Option<&str> {
    let docker = image.docker.as_ref().map(|docker| docker.name.as_str());
    docker.or(image.oci.as_ref().map(|oci| oci.reference.as_str()))
}

/// Looks after the store as long as the containerizer is there: see [`Images::look_after`].
pub(crate) fn look_after(provision: &Provision) {
    let report = |upkept: &Upkept| match upkept {
        Upkept::Collected(pruned) => warn(&format!(
            "the disk of the images is full: {} images and {} layers that nobody uses were removed, about {} bytes",
            pruned.images.len(),
            pruned.layers.len(),
            pruned.bytes()
        )),
        Upkept::Failed(error) => {
            warn(&format!("the store of images can not be looked after: {}", chain(error)))
        }
    };
    if let Err(error) = provision.images.look_after(provision.collecting.clone(), report) {
        warn(&format!("the store of images is not looked after, for want of a thread: {error}"));
    }
}

impl Pull for MesosContainerizer {
    fn explain(&self, image: berth_model::Image) -> Answer<'_, PullExplained> {
        self.away(move |shared| {
            let refused = |error: Error| Refused::other(error.class(), chain(&error));
            let mut config = ContainerConfig::default();
            let mesos = berth_model::MesosInfo { image: Some(image.clone()) };
            config.container_info =
                Some(berth_model::ContainerInfo { mesos: Some(mesos), ..Default::default() });
            let asked = asked(shared.native.provision.as_ref(), &config, &Cancel::new()).map_err(refused)?;
            let source = asked.ok_or_else(|| Refused::other(Class::Invalid, "no image is named"))?;
            explain(&source).map_err(|error| Refused::other(error.class(), chain(&error)))
        })
    }

    fn kept(&self) -> Answer<'_, Vec<ImageKept>> {
        self.away(|shared| {
            let Some(provision) = &shared.native.provision else { return Ok(Vec::new()) };
            kept(provision).map_err(|error| Refused::other(error.class(), chain(&error)))
        })
    }
}

/// What a collection would do to each image now.
fn kept(provision: &Provision) -> std::result::Result<Vec<ImageKept>, ImagesError> {
    let collecting = provision.collecting.as_ref();
    if !provision.images.settings().store.exists() {
        return Ok(Vec::new());
    }
    let store = provision.images.store()?;
    let keep = collecting.iter().flat_map(|collecting| collecting.marks.excluded.iter().cloned()).collect();
    let pruned = store.prune(&PruneOptions { named: true, keep, dry_run: true })?;
    let (usage, names) = (store.usage()?, store.names()?);
    let per_cent = |part: f64| format!("{:.0} %", part * 100.0);
    let fate = match collecting.map(|collecting| &collecting.marks) {
        None => "it stays until PRUNE_IMAGES: there is no --image_gc_config".to_owned(),
        Some(marks) if usage > marks.high => format!(
            "what was not used for longest goes until the disk is {} full: it is {}",
            per_cent(marks.low),
            per_cent(usage)
        ),
        Some(marks) => {
            format!(
                "it stays until the disk is more than {} full: it is {}",
                per_cent(marks.high),
                per_cent(usage)
            )
        }
    };
    let goes = collecting.is_some_and(|collecting| usage > collecting.marks.high);
    let mut all = Vec::new();
    for digest in &pruned.images {
        let called = names.iter().filter(|named| named.manifest == *digest).map(|named| named.name.as_str());
        let called = called.collect::<Vec<_>>().join(", ");
        let called = if called.is_empty() { "without a name".to_owned() } else { called };
        all.push(ImageKept {
            path: store.record_of(digest).display().to_string(),
            bytes: store.image(digest)?.map_or(0, |image| image.size()),
            goes,
            reason: format!("{called}: no container holds it; {fate}"),
        });
    }
    all.extend(pruned.kept.into_iter().map(|image| ImageKept {
        path: store.record_of(&image.image).display().to_string(),
        bytes: image.bytes,
        goes: false,
        reason: match image.holders.is_empty() {
            true => format!("{}: the operator excludes it", image.names.join(", ")),
            false => format!("{}: held by {}", image.names.join(", "), image.holders.join(", ")),
        },
    }));
    Ok(all)
}

fn explain(source: &ImageSource) -> std::result::Result<PullExplained, ImagesError> {
    let (images, wanted) = (&source.images, &source.wanted);
    let platform = wanted.platform.clone().unwrap_or_else(Platform::host);
    let layer = |digest: String, bytes, present| LayerExplained { digest, bytes, present };
    if let ImageName::Appc(name) = &wanted.name {
        // What it is made of is in its archives, which an explanation does not fetch.
        return Ok(PullExplained {
            reference: name.to_string(),
            source: Some(images.settings().appc.place(name)?.to_string()),
            digest: images.find(wanted)?.map(|image| image.manifest.to_string()),
            layers: Vec::new(),
        });
    }
    let ImageName::Reference(reference) = &wanted.name else {
        let opened = images.source(wanted, &source.cancel)?;
        let resolved = berth_images::resolve(opened.as_ref(), &platform, &source.cancel)?;
        let present = images.store()?.present()?;
        let blobs = resolved.manifest.layers.iter();
        return Ok(PullExplained {
            reference: wanted.name.to_string(),
            source: Some(opened.describe()),
            digest: Some(resolved.document.digest.to_string()),
            layers: blobs.map(|b| layer(b.digest.to_string(), b.size, present(&b.digest))).collect(),
        });
    };
    let told = images.explain(reference, wanted.secret.as_deref(), &platform, true, &source.cancel)?;
    if let Some(problem) = told.problem {
        return Err(ImagesError::NotFound { what: told.meaning, problem });
    }
    let found = told.resolved;
    let is_layer = |kind: &str| !kind.contains("config") && !kind.contains("container.image");
    let blobs = found.iter().flat_map(|found| &found.blobs).filter(|blob| is_layer(&blob.media_type));
    Ok(PullExplained {
        reference: told.meaning,
        layers: blobs.map(|b| layer(b.digest.to_string(), b.size, b.present)).collect(),
        source: found.as_ref().map(|found| found.host.clone()),
        digest: found.map(|found| found.manifest.to_string()),
    })
}

impl Error {
    pub(crate) fn image(source: &ImageSource, error: ImagesError) -> Error {
        Error::Image { name: source.wanted.name.to_string(), source: Box::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::{AppcImage, ContainerInfo, DockerImage, MesosInfo, OciImage};

    fn config(image: berth_model::Image) -> ContainerConfig {
        let mesos = Some(MesosInfo { image: Some(image) });
        let info = ContainerInfo { mesos, ..ContainerInfo::default() };
        ContainerConfig { container_info: Some(info), ..ContainerConfig::default() }
    }

    fn docker(name: &str) -> ContainerConfig {
        let docker = Some(DockerImage { name: name.into(), ..DockerImage::default() });
        config(berth_model::Image { r#type: ImageType::Docker, docker, ..Default::default() })
    }

    fn oci(reference: &str) -> ContainerConfig {
        let oci = Some(OciImage { reference: reference.into(), ..OciImage::default() });
        config(berth_model::Image { r#type: ImageType::Oci, oci, ..Default::default() })
    }

    fn provision(docker: bool, oci: bool) -> Provision {
        let images = Arc::new(Images::new(berth_images::Settings::new("/nowhere".into())));
        let (backend, collecting) = (Backend::default(), None);
        let (appc, appc_runtime) = (false, true);
        Provision { images, docker, oci, appc, appc_runtime, ignore_runtime: false, backend, collecting }
    }

    fn appc(name: &str, labels: &[(&str, &str)]) -> ContainerConfig {
        let label = |(key, value): &(&str, &str)| berth_model::Label {
            key: (*key).into(),
            value: Some((*value).into()),
        };
        let labels = Some(berth_model::Labels { labels: labels.iter().map(label).collect() });
        let appc = Some(AppcImage { name: name.into(), id: None, labels });
        config(berth_model::Image { r#type: ImageType::Appc, appc, ..Default::default() })
    }

    #[test]
    fn an_appc_image_is_known_by_its_name_and_all_its_labels() {
        let provided = Provision { appc: true, ..provision(false, false) };
        let asked = |provision: &Provision, config| asked(Some(provision), &config, &Cancel::new());
        let labels = [("os", "linux"), ("version", "1.0"), ("arch", "amd64")];
        let source = asked(&provided, appc("a.example/x", &labels)).unwrap().unwrap();
        assert_eq!(source.wanted.name.key(), "appc:a.example/x:1.0,arch=amd64,os=linux");
        assert_eq!(source.rule, Some(Rule::Mesos));
        let without = Provision { appc_runtime: false, ..provided.clone() };
        assert_eq!(asked(&without, appc("a.example/x", &labels)).unwrap().unwrap().rule, None);
        let lacking = asked(&provided, appc("a.example/x", &labels[1..])).unwrap_err();
        assert_eq!(lacking.to_string(), "Failed to form simple discovery url: label 'os' is missing");
        assert_eq!(lacking.class(), Class::Invalid);
        assert!(asked(&provided, appc("../x", &labels)).is_err());
        // Who may name images of one kind names those of another by no trick.
        assert!(asked(&provision(true, true), oci("appc:a.example/x")).is_err());
        assert!(asked(&provision(true, true), docker("appc:a.example/x")).is_err());
    }

    #[test]
    fn what_no_provider_has_is_refused_in_the_words_of_mesos() {
        let asked = |provision: Option<&Provision>, config| asked(provision, &config, &Cancel::new());
        let refused = |provision: Option<&Provision>, config: ContainerConfig| {
            let error = asked(provision, config).unwrap_err();
            (error.class(), error.to_string())
        };
        let both = provision(true, true);
        let appc = berth_model::Image {
            r#type: ImageType::Appc,
            appc: Some(AppcImage::default()),
            ..Default::default()
        };
        let words = |kind: &str| (Class::Unsupported, format!("Unsupported container image type: {kind}"));
        assert_eq!(refused(Some(&both), config(appc)), words("APPC"));
        assert_eq!(refused(None, docker("busybox")), words("DOCKER"));
        assert_eq!(refused(Some(&provision(true, false)), oci("busybox")), words("OCI"));
        assert_eq!(refused(Some(&both), docker("No")).0, Class::Invalid);
        assert_eq!(refused(Some(&both), docker("oci:/x")).0, Class::Invalid);
        assert_eq!(refused(Some(&both), oci("oci:x")).0, Class::Invalid);
        assert!(asked(None, ContainerConfig::default()).unwrap().is_none());
        let source = asked(Some(&both), oci("oci:/srv/x:tag")).unwrap().unwrap();
        assert_eq!((source.rule, source.wanted.name.key()), (Some(Rule::Docker), "oci:/srv/x:tag".into()));
    }
}
