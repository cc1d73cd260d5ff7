// SPDX-License-Identifier: Apache-2.0
//! Names, and what becomes of images without them: `rm`, `tag`, `prune`, `gc`, `fsck`.

use super::{here, store, store_failed, wanted};
use crate::cli::{Format, ImageFsck, ImageGc, ImagePrune, ImageRm, ImageTag};
use crate::exit::{Failure, say};
use crate::text::{decimal, escaped, show, show_json};
use berth_images::{Images, Kept, PruneOptions, Pruned, Repair, Store};
use serde_json::{Value, json};
use std::fmt::Write;

/// `rm`: all names of an image that is named by its id.
pub(super) fn rm(images: &Images, args: &ImageRm) -> Result<u8, Failure> {
    let store = store(images)?;
    let mut code = 0;
    for text in &args.images {
        if let Err(failure) = remove(&store, text, args.force) {
            code = failure.code(1).report();
        }
    }
    let pruned = store.prune(&PruneOptions::default()).map_err(store_failed)?;
    show(&pruned.images.iter().map(|image| format!("Deleted: {image}\n")).collect::<String>());
    Ok(code)
}

fn remove(store: &Store, text: &str, force: bool) -> Result<(), Failure> {
    let found = here(store, text)?;
    let names: Vec<String> = match found.name {
        Some(named) => vec![named.name],
        None => {
            let all = store.names().map_err(store_failed)?;
            all.into_iter().filter(|n| n.manifest == found.image.manifest).map(|n| n.name).collect()
        }
    };
    let leases = store.leases().map_err(store_failed)?;
    let holder = leases.iter().find(|lease| lease.images.contains(&found.image));
    if let Some(lease) = holder.filter(|_| !force) {
        return Err(Failure::text(format!(
            "image {text} is held by container {}: end that first, or take only the name away with --force",
            lease.holder
        )));
    }
    for name in names {
        store.unname(&name).map_err(store_failed)?;
        show(&format!("Untagged: {}\n", escaped(&name)));
    }
    Ok(())
}

/// `tag`.
pub(super) fn tag(images: &Images, args: &ImageTag) -> Result<u8, Failure> {
    let store = store(images)?;
    let found = here(&store, &args.image)?;
    let name = wanted(&args.name, None)?.name.key();
    let source = found.name.map_or_else(|| found.image.manifest.to_string(), |named| named.source);
    store.name(&name, &found.image, &source).map_err(store_failed)?;
    Ok(0)
}

/// `prune`.
pub(super) fn prune(images: &Images, args: &ImagePrune) -> Result<u8, Failure> {
    let options = PruneOptions { named: args.all, ..PruneOptions::default() };
    let pruned = store(images)?.prune(&options).map_err(store_failed)?;
    tell(&pruned, args.output, false);
    Ok(0)
}

/// `gc`: the same by another name, which can explain itself.
pub(super) fn gc(images: &Images, args: &ImageGc) -> Result<u8, Failure> {
    let options = PruneOptions { named: args.all, dry_run: args.explain, ..PruneOptions::default() };
    let store = store(images)?;
    let pruned = store.prune(&options).map_err(store_failed)?;
    if args.explain && args.output == Format::Table {
        let usage = store.usage().map_err(store_failed)?;
        show(&format!("{} is {:.0} % full\n", store.path().display(), usage * 100.0));
    }
    tell(&pruned, args.output, args.explain);
    Ok(0)
}

fn tell(pruned: &Pruned, output: Format, explain: bool) {
    if output == Format::Json {
        let kept = |kept: &Kept| {
            json!({"image": kept.image.to_string(), "names": kept.names, "holders": kept.holders,
                "why": why(kept), "bytes": kept.bytes})
        };
        let layers: Vec<Value> = pruned
            .layers
            .iter()
            .map(|(key, bytes)| json!({"layer": key.to_string(), "bytes": bytes}))
            .collect();
        show_json(&json!({
            "dry_run": explain,
            "names": pruned.names,
            "images": pruned.images.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "layers": layers,
            "bytes": pruned.bytes(),
            "kept": pruned.kept.iter().map(kept).collect::<Vec<_>>(),
        }));
        return;
    }
    let mut text = String::new();
    let verb = if explain { "would go" } else { "removed" };
    for name in &pruned.names {
        let _ = writeln!(text, "{verb}: name {}", escaped(name));
    }
    for image in &pruned.images {
        let _ = writeln!(text, "{verb}: image {image}");
    }
    for (layer, bytes) in &pruned.layers {
        let _ = writeln!(text, "{verb}: layer {layer} {}", decimal(*bytes));
    }
    if explain {
        for kept in &pruned.kept {
            let _ = writeln!(
                text,
                "stays: image {} {}: {}",
                kept.image,
                decimal(kept.bytes),
                escaped(&why(kept))
            );
        }
    }
    let _ = writeln!(text, "Total reclaimed space: {}", decimal(pruned.bytes()));
    show(&text);
}

fn why(kept: &Kept) -> String {
    match kept.named {
        true => format!("it is named {}", kept.names.join(", ")),
        false => format!("containers hold it: {}", kept.holders.join(", ")),
    }
}

/// `fsck`: the exit code is 1 when something was wrong.
pub(super) fn fsck(images: &Images, args: &ImageFsck) -> Result<u8, Failure> {
    let repair = if args.dry_run { Repair::No } else { Repair::Yes };
    let found = store(images)?.fsck(repair).map_err(store_failed)?;
    match args.output {
        Format::Json => show_json(&json!({
            "sound": found.is_sound(), "problems": found.problems, "names": found.names, "images": found.images,
            "layers": found.layers, "blobs": found.blobs, "staging": found.staging,
        })),
        Format::Table => {
            for problem in &found.problems {
                say(format_args!("{}", escaped(problem)));
            }
            let word = if found.is_sound() { "sound" } else { "not sound" };
            show(&format!(
                "{word}: {} names, {} images, {} layers, {} blobs, {} left by killed pulls\n",
                found.names, found.images, found.layers, found.blobs, found.staging
            ));
        }
    }
    Ok(u8::from(!found.is_sound()))
}
