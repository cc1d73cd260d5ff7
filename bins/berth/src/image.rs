// SPDX-License-Identifier: Apache-2.0
//! `berth image`, and the images of `berth run`: the store is used directly, beside an agent or without one.

mod bring;
mod keep;
mod list;
mod progress;
mod send;

use crate::cli::{Global, ImageCommand, Pull, Run};
use crate::exit::Failure;
use berth_factory::oneshot::ImageSource;
use berth_images::{
    AppcPrefixError, Cancel, Image, ImageName, Images, ImagesError, Named, Settings, Store, Wanted,
    usual_files,
};
use progress::Progress;
use std::path::PathBuf;
use std::sync::Arc;

/// Does what is asked.
pub(crate) fn image(global: &Global, command: ImageCommand) -> Result<u8, Failure> {
    let images = images(global)?;
    let done = match command {
        ImageCommand::Pull(args) => bring::pull(&images, &args),
        ImageCommand::Import(args) => bring::import(&images, &args),
        ImageCommand::ExplainPull(args) => bring::explain(&images, &args),
        ImageCommand::Push(args) => send::push(&images, &args),
        ImageCommand::Export(args) => send::export(&images, &args),
        ImageCommand::Ls(args) => list::ls(&images, &args),
        ImageCommand::Inspect(args) => list::inspect(&images, &args),
        ImageCommand::Rm(args) => keep::rm(&images, &args),
        ImageCommand::Tag(args) => keep::tag(&images, &args),
        ImageCommand::Prune(args) => keep::prune(&images, &args),
        ImageCommand::Gc(args) => keep::gc(&images, &args),
        ImageCommand::Fsck(args) => keep::fsck(&images, &args),
    };
    done.map_err(|failure| failure.code(1))
}

/// The images of the work directory, with a person's credentials.
pub(crate) fn images(global: &Global) -> Result<Images, Failure> {
    const PREFIX: &str = "BERTH_APPC_SIMPLE_DISCOVERY_URI_PREFIX";
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let own = Settings::new(global.work_dir.join("store"));
    let prefix = variable(PREFIX).map(|text| text.parse()).transpose();
    let prefix = prefix.map_err(|e: AppcPrefixError| Failure::text(format!("{PREFIX}: {e}")))?;
    Ok(Images::new(Settings {
        appc: prefix.unwrap_or_default(),
        registries: variable("BERTH_REGISTRIES_DIR").map_or(own.registries, PathBuf::from),
        docker_registry: variable("BERTH_DOCKER_REGISTRY"),
        docker_config: variable("BERTH_DOCKER_CONFIG"),
        credentials: usual_files(|name| std::env::var_os(name).map(PathBuf::from)),
        ..own
    }))
}

/// What `berth run` runs: pulled now, if it is not here.
pub(crate) fn for_run(global: &Global, args: &Run, text: &str) -> Result<ImageSource, Failure> {
    let wanted =
        Wanted { cached: args.pull != Some(Pull::Always), ..wanted(text, args.platform.as_deref())? };
    let images = images(global)?;
    let found = match (images.find(&wanted).map_err(|e| failed(&e))?, args.pull) {
        (Some(image), _) => image,
        (None, Some(Pull::Never)) => {
            let text = format!(
                "there is no image {text} here, and --pull never: `berth image pull {text}` brings it"
            );
            return Err(Failure::text(text));
        }
        (None, _) => {
            let progress = Progress::new(&wanted.name.to_string());
            let pulled = images.pull(&wanted, &Cancel::new(), &progress);
            progress.done();
            pulled.map_err(|e| unpulled(&e, text))?
        }
    };
    let found = Some(found);
    Ok(ImageSource { found, ..ImageSource::new(Arc::new(images), wanted) })
}

/// What `berth run` asks the agent for. Docker's rule holds for images of this type.
pub(crate) fn for_agent(args: &Run, text: &str) -> Result<berth_model::Image, Failure> {
    use berth_model::{AppcImage, Image, ImageType, OciImage};
    let cached = args.pull != Some(Pull::Always);
    Ok(match wanted(text, None)?.name {
        ImageName::Appc(name) => {
            let label = |(key, value): (&String, &String)| berth_model::Label {
                key: key.clone(),
                value: Some(value.clone()),
            };
            let labels = Some(berth_model::Labels { labels: name.labels().iter().map(label).collect() });
            let id = name.id().map(|id| format!("sha512-{}", id.hex()));
            let appc = Some(AppcImage { name: name.name().to_owned(), id, labels });
            Image { r#type: ImageType::Appc, appc, cached, ..Default::default() }
        }
        name => {
            let oci = Some(OciImage { reference: name.to_string(), config: None });
            Image { r#type: ImageType::Oci, oci, cached, ..Default::default() }
        }
    })
}

/// A word that is no image may be meant as a program.
fn unpulled(error: &ImagesError, word: &str) -> Failure {
    let failure = failed(error);
    match word.contains(['/', ':', '.', '@']) {
        true => failure,
        false => failure.hint(format!(
            "{word} is taken as an image; to run a program of this host: berth run -- {word} …"
        )),
    }
}

/// The image that a text names, relative paths from here.
pub(crate) fn wanted(text: &str, platform: Option<&str>) -> Result<Wanted, Failure> {
    let name: ImageName = text.parse().map_err(|e: berth_images::NameError| Failure::new(e.class(), &e))?;
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let platform = platform.map(str::parse).transpose();
    let platform = platform.map_err(|e: berth_model::image::PlatformError| Failure::new(e.class(), &e))?;
    Ok(Wanted { platform, ..Wanted::new(name.relative_to(&here)) })
}

pub(crate) fn failed(error: &ImagesError) -> Failure {
    Failure::new(error.class(), error)
}

fn store_failed(error: berth_images::StoreError) -> Failure {
    failed(&ImagesError::from(error))
}

fn store(images: &Images) -> Result<Store, Failure> {
    images.store().map_err(|e| failed(&e))
}

/// An image that is here, with the name by which it was found.
struct Here {
    name: Option<Named>,
    image: Image,
}

/// Finds it by name, or by the beginning of its id.
fn here(store: &Store, text: &str) -> Result<Here, Failure> {
    let key = wanted(text, None).map(|wanted| wanted.name.key());
    if let Ok(key) = &key {
        // `debian` is what `debian:latest` is, to people.
        for key in [key.clone(), format!("{key}:latest"), key.trim_end_matches(":latest").to_owned()] {
            let Some(name) = store.named(&key).map_err(store_failed)? else { continue };
            if let Some(image) = store.image(&name.manifest).map_err(store_failed)? {
                return Ok(Here { name: Some(name), image });
            }
        }
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let begins = |image: &Image| image.config.hex().starts_with(hex) || image.manifest.hex().starts_with(hex);
    let is_id = hex.len() >= 4 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let mut all = match is_id {
        true => store.images().map_err(store_failed)?,
        false => Vec::new(),
    };
    all.retain(begins);
    match all.len() {
        1 => Ok(Here { name: None, image: all.remove(0) }),
        0 => Err(failed(&ImagesError::from(berth_images::StoreError::NotFound(text.to_owned())))),
        _ => Err(Failure::text(format!("the id {text} is the beginning of several: write more of it"))),
    }
}
