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

use berth_contract::{Answer, Error as Refused, LayerExplained, Pull, PullExplained};
use berth_image::Top;
use berth_images::runtime::{self, Rule};
use berth_images::{
    Cancel, Image, ImageName, Images, ImagesError, Provisioned, PruneOptions, Unwatched, Wanted,
};
use berth_launcher::{Places, Rootfs};
use berth_model::image::Platform;
use berth_model::{Class, ContainerConfig, ContainerId, ImageType, NativeEvent, Secret};
use berth_record::Sync as Durable;

use crate::collect::chain;
use crate::containerizer::MesosContainerizer;
use crate::native::Native;
use crate::record::CONFIG;
use crate::request::{Request, RootSource, Watch};
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
    /// Whether their configurations count for nothing (`--docker_ignore_runtime`).
    pub ignore_runtime: bool,
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
    /// Ends its pull.
    pub cancel: Cancel,
    /// Who is told how far its pull is.
    pub watch: Option<Arc<dyn berth_images::Watch + Send + Sync>>,
}

impl ImageSource {
    /// An image by name.
    pub fn new(images: Arc<Images>, wanted: Wanted) -> ImageSource {
        let (found, rule, cancel, watch) = (None, Some(Rule::Docker), Cancel::new(), None);
        ImageSource { images, wanted, found, rule, cancel, watch }
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
        ImageType::Appc => return Err(unsupported("APPC")),
    };
    let failed = |why: String| Error::Invalid(format!("Failed to parse docker image '{text}': {why}"));
    let name: ImageName = text.parse().map_err(|e: berth_images::NameError| failed(e.to_string()))?;
    if name.is_file() {
        if image.r#type == ImageType::Docker {
            return Err(failed("files are images of type OCI".to_owned()));
        }
        name.require_absolute().map_err(|e| failed(e.to_string()))?;
    }
    let wanted =
        Wanted { secret: secret.map(credentials).transpose()?, cached: image.cached, ..Wanted::new(name) };
    let rule = (!provision.ignore_runtime).then_some(rule);
    let source = ImageSource::new(Arc::clone(&provision.images), wanted);
    Ok(Some(ImageSource { rule, cancel: cancel.clone(), ..source }))
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
    pub(crate) fn provision(&self, request: &mut Request, dir: &OwnedFd, places: &Places) -> Result<Rootfs> {
        let RootSource::Image(source) = request.root.clone() else {
            return Err(Error::Invalid("the container has no image".to_owned()));
        };
        let holder = self.holder(&request.id);
        let (wanted, watch) = (&source.wanted, source.watch.as_deref());
        let watch: &dyn berth_images::Watch = watch.map_or(&Unwatched, |watch| watch);
        let got = source.images.provision(&holder, wanted, source.found.clone(), &source.cancel, watch);
        let got = match got {
            Ok(got) => got,
            Err(error) => {
                // When it was destroyed, that is why.
                if source.cancel.is_cancelled() {
                    Watch::tell(&mut request.watch, NativeEvent::Provisioned)?;
                }
                return Err(Error::image(&source, error));
            }
        };
        let directories = complete(request, &source, &got)?;
        let record = self.record(request, places)?;
        berth_record::write(dir.as_fd(), CONFIG, &record, Durable::No)
            .map_err(|source| Error::Record { what: "write the container's record", source })?;
        let Provisioned { image, layers, .. } = got;
        let top = Top { mode: image.top.mode, uid: image.top.uid, gid: image.top.gid };
        let path = PathBuf::from(wanted.name.to_string());
        Ok(Rootfs::Layered { path, layers, top: Some(top), directories })
    }
}

/// Completes a request by an image's configuration; the directories that are to be there.
fn complete(request: &mut Request, source: &ImageSource, got: &Provisioned) -> Result<Vec<String>> {
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
    let keep = excluded.iter().filter_map(|image| text_of(image)?.parse::<ImageName>().ok());
    let options = PruneOptions { named: true, keep: keep.map(|name| name.key()).collect(), dry_run: false };
    let prune = || Ok::<_, ImagesError>(provision.images.store()?.prune(&options)?);
    prune().map(drop).map_err(|error| Refused::other(error.class(), chain(&error)))
}

fn text_of(image: &berth_model::Image) -> Option<&str> {
    let docker = image.docker.as_ref().map(|docker| docker.name.as_str());
    docker.or(image.oci.as_ref().map(|oci| oci.reference.as_str()))
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
}

fn explain(source: &ImageSource) -> std::result::Result<PullExplained, ImagesError> {
    let (images, wanted) = (&source.images, &source.wanted);
    let platform = wanted.platform.clone().unwrap_or_else(Platform::host);
    let layer = |digest: String, bytes, present| LayerExplained { digest, bytes, present };
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
        Provision { images, docker, oci, ignore_runtime: false }
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
