// SPDX-License-Identifier: Apache-2.0
//! Bringing images into the store, and what that would do.

use super::{failed, here, store, store_failed, wanted};
use crate::cli::{Format, ImageExplain, ImageImport, ImagePull};
use crate::exit::Failure;
use crate::image::progress::Progress;
use crate::text::{decimal, escaped, show, show_json};
use berth_images::{AppcName, Cancel, Explanation, Image, ImageName, Images, Wanted};
use serde_json::json;
use std::fmt::Write;
use std::path::Path;

/// `pull`.
pub(super) fn pull(images: &Images, args: &ImagePull) -> Result<u8, Failure> {
    let wanted = Wanted { cached: false, ..wanted(&args.image, args.platform.as_deref())? };
    let key = wanted.name.key();
    bring(images, &wanted, &key, args.quiet, args.output)
}

/// `import`.
pub(super) fn import(images: &Images, args: &ImageImport) -> Result<u8, Failure> {
    let from = match args.from.parse() {
        Ok(name @ ImageName::File { .. }) => name.to_string(),
        _ => format!("{}:{}", kind(Path::new(&args.from))?, args.from),
    };
    let from = wanted(&from, None)?;
    let name = match &args.name {
        Some(name) => wanted(name, None)?.name.key(),
        None => from.name.key(),
    };
    bring(images, &from, &name, args.quiet, args.output)
}

/// What a path holds. An archive that is compressed as a whole has to be told.
fn kind(path: &Path) -> Result<&'static str, Failure> {
    let wrong = |why: String| Failure::text(format!("{}: {why}", path.display()));
    let found = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?;
    if found.is_dir() {
        return Ok("oci");
    }
    let file = std::fs::File::open(path).map_err(|e| wrong(e.to_string()))?;
    let kinds = "say what it is, as in oci-archive:FILE, docker-archive:FILE or tar:FILE";
    // A root file system has more files than an archive of an image may have, and may be compressed.
    let Ok(names) = berth_images::contents(&file) else {
        let packed = berth_images::is_compressed(&file);
        return if packed { Err(wrong(format!("it is compressed as a whole: {kinds}"))) } else { Ok("tar") };
    };
    let has = |name: &str| names.contains_key(name.as_bytes());
    Ok(if has("oci-layout") && has("index.json") {
        "oci-archive"
    } else if has("manifest.json") || has("repositories") {
        "docker-archive"
    } else {
        "tar"
    })
}

fn bring(images: &Images, wanted: &Wanted, key: &str, quiet: bool, output: Format) -> Result<u8, Failure> {
    let progress = if quiet { Progress::silent() } else { Progress::new(&wanted.name.to_string()) };
    let pulled = images.pull_as(wanted, key, &Cancel::new(), &progress);
    progress.done();
    let image = pulled.map_err(|e| failed(&e))?;
    match output {
        Format::Table => show(&format!("{}\n", image.manifest)),
        Format::Json => show_json(&brought(key, &image)),
    }
    Ok(0)
}

fn brought(key: &str, image: &Image) -> serde_json::Value {
    let layers: Vec<_> = image.layers.iter().map(|layer| layer.blob.to_string()).collect();
    json!({
        "name": key,
        "manifest": image.manifest.to_string(),
        "id": image.config.to_string(),
        "layers": layers,
        "bytes": image.size(),
    })
}

/// `explain-pull`.
pub(super) fn explain(images: &Images, args: &ImageExplain) -> Result<u8, Failure> {
    let wanted = wanted(&args.reference, args.platform.as_deref())?;
    if let ImageName::Appc(name) = &wanted.name {
        return explain_appc(images, name, args.output);
    }
    let ImageName::Reference(reference) = &wanted.name else {
        return explain_file(images, &wanted, args.output);
    };
    let platform = wanted.platform.clone().unwrap_or_else(berth_model::image::Platform::host);
    let explanation =
        images.explain(reference, None, &platform, !args.offline, &Cancel::new()).map_err(|e| failed(&e))?;
    match args.output {
        Format::Json => show_json(&serde_json::to_value(&explanation).unwrap_or_default()),
        Format::Table => show(&words(&explanation)),
    }
    Ok(u8::from(explanation.problem.is_some()))
}

/// What it is made of stands in its archives alone, so only its own place can be told.
fn explain_appc(images: &Images, name: &AppcName, output: Format) -> Result<u8, Failure> {
    let place = images.settings().appc.place(name).map_err(|e| failed(&e))?;
    let now = here(&store(images)?, &name.to_string()).ok().map(|now| now.image.manifest.to_string());
    match output {
        Format::Json => show_json(&json!({
            "reference": name.to_string(), "place": place.to_string(), "named_here": now,
        })),
        Format::Table => show(&format!(
            "{}\n  by simple discovery at {}\n  {}\n",
            escaped(&name.to_string()),
            escaped(&place.to_string()),
            now.map_or_else(|| "not here".to_owned(), |manifest| format!("here as {manifest}")),
        )),
    }
    Ok(0)
}

fn explain_file(images: &Images, wanted: &Wanted, output: Format) -> Result<u8, Failure> {
    let store = store(images)?;
    let now = here(&store, &wanted.name.to_string()).ok();
    let source = images.source(wanted, &Cancel::new()).map_err(|e| failed(&e))?;
    let platform = wanted.platform.clone().unwrap_or_else(berth_model::image::Platform::host);
    let resolved =
        berth_images::resolve(source.as_ref(), &platform, &Cancel::new()).map_err(|e| failed(&e.into()))?;
    let present = store.present().map_err(store_failed)?;
    let layers: Vec<_> = resolved
        .manifest
        .layers
        .iter()
        .map(|layer| (layer.digest.to_string(), layer.size, present(&layer.digest)))
        .collect();
    match output {
        Format::Json => {
            let layers: Vec<_> = layers
                .iter()
                .map(|(digest, size, present)| json!({"digest": digest, "size": size, "present": present}))
                .collect();
            show_json(&json!({
                "reference": wanted.name.to_string(),
                "manifest": resolved.document.digest.to_string(),
                "named_here": now.map(|now| now.image.manifest.to_string()),
                "layers": layers,
            }));
        }
        Format::Table => {
            let mut text =
                format!("{}\n  a file of this host: nobody is asked\n", escaped(&wanted.name.to_string()));
            let _ = writeln!(text, "  manifest {}", resolved.document.digest);
            for (digest, size, present) in layers {
                text += &blob(&digest, size, present);
            }
            show(&text);
        }
    }
    Ok(0)
}

fn blob(digest: &str, size: Option<u64>, present: bool) -> String {
    let size = size.map_or_else(|| "size unknown".to_owned(), decimal);
    format!("  {} {digest} {size}\n", if present { "here " } else { "fetch" })
}

fn words(all: &Explanation) -> String {
    let mut text = format!("{}\n", escaped(&all.reference));
    let _ = writeln!(text, "  means {} for {}", escaped(&all.meaning), all.platform);
    for (at, host) in all.hosts.iter().enumerate() {
        let _ = write!(
            text,
            "  {}. {} ({:?}, {})",
            at + 1,
            host.url,
            host.role,
            if host.tls { "TLS" } else { "plain http" }
        );
        if let Some(proxy) = &host.proxy {
            let _ = write!(text, ", through {proxy}");
        }
        if let Some(file) = &host.configured_in {
            let _ = write!(text, ", as {file} says");
        }
        let _ = match (&host.credentials, &host.credentials_problem) {
            (Some(who), _) => writeln!(text, "\n     as {} of {}", escaped(&who.user), escaped(&who.source)),
            (None, Some(why)) => writeln!(text, "\n     without credentials: {}", escaped(why)),
            (None, None) => writeln!(text, "\n     without credentials"),
        };
    }
    let _ = writeln!(text, "  fallback to the registry itself: {:?}", all.fallback);
    if let Some(found) = &all.resolved {
        let _ = writeln!(text, "  {} has {}", escaped(&found.host), found.digest);
        if !found.offered.is_empty() {
            let _ = writeln!(text, "  for {}; chosen {}", escaped(&found.offered.join(", ")), found.manifest);
        }
        for one in &found.blobs {
            text += &blob(&one.digest.to_string(), one.size, one.present);
        }
        let _ = writeln!(text, "  {} to fetch", decimal(found.to_fetch));
    }
    if let Some(problem) = &all.problem {
        let _ = writeln!(text, "  not to be had: {}", escaped(problem));
    }
    text
}
