// SPDX-License-Identifier: Apache-2.0
//! `ls` and `inspect`.

use super::{here, store, store_failed};
use crate::cli::{Format, ImageInspect, ImageLs};
use crate::exit::Failure;
use crate::text::{Look, ago, colours, decimal, escaped, plain, rfc3339, show, show_json, table};
use berth_images::{Image, ImageConfig, ImageName, Images, Named, Store};
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

struct Row {
    name: Option<Named>,
    image: Image,
    config: Option<ImageConfig>,
}

/// `ls`.
pub(super) fn ls(images: &Images, args: &ImageLs) -> Result<u8, Failure> {
    let mut rows = rows(&store(images)?, args.all)?;
    if let Some(wanted) = &args.repository {
        rows.retain(|row| {
            row.name.as_ref().is_some_and(|named| ImageName::columns(&named.name).0 == *wanted)
        });
    }
    let id = |image: &Image| match args.no_trunc {
        true => image.config.to_string(),
        false => image.config.hex()[..12].to_owned(),
    };
    if args.quiet {
        let mut ids: Vec<String> = Vec::new();
        for row in &rows {
            let id = id(&row.image);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        show(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
        return Ok(0);
    }
    match args.output {
        Format::Json => rows.iter().for_each(|row| show_json(&as_json(row))),
        Format::Table => {
            let rows = rows.iter().map(|row| {
                let none = || ("<none>".to_owned(), "<none>".to_owned());
                let (repository, tag) =
                    row.name.as_ref().map_or_else(none, |named| ImageName::columns(&named.name));
                let created = row.config.as_ref().and_then(created_ms).map_or("N/A".to_owned(), ago);
                let size = decimal(row.image.size());
                (Look::Plain, vec![escaped(&repository), escaped(&tag), id(&row.image), created, size])
            });
            show(&table(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], rows.collect(), colours()));
        }
    }
    Ok(0)
}

fn rows(store: &Store, all: bool) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for named in store.names().map_err(store_failed)? {
        if let Some(image) = store.image(&named.manifest).map_err(store_failed)? {
            let config = store.config(&image).ok();
            rows.push(Row { name: Some(named), image, config });
        }
    }
    if all {
        let nameless = |image: &Image| rows.iter().all(|row| row.image.manifest != image.manifest);
        let more: Vec<Image> = store.images().map_err(store_failed)?.into_iter().filter(nameless).collect();
        rows.extend(more.into_iter().map(|image| Row {
            name: None,
            config: store.config(&image).ok(),
            image,
        }));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.name.as_ref().map(|named| named.pulled)));
    Ok(rows)
}

fn created_ms(config: &ImageConfig) -> Option<u64> {
    let time = humantime::parse_rfc3339_weak(config.created.as_deref()?).ok()?;
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn as_json(row: &Row) -> Value {
    json!({
        "name": row.name.as_ref().map(|named| &named.name),
        "id": row.image.config.to_string(),
        "manifest": row.image.manifest.to_string(),
        "created": row.config.as_ref().and_then(|config| config.created.clone()),
        "bytes": row.image.size(),
        "layers": row.image.layers.len(),
    })
}

/// `inspect`: an array, in docker's words where docker has some.
pub(super) fn inspect(images: &Images, args: &ImageInspect) -> Result<u8, Failure> {
    let store = store(images)?;
    let mut all = Vec::new();
    for text in &args.images {
        let found = here(&store, text)?;
        all.push(describe(&store, &found.image)?);
    }
    match &args.format {
        None => {
            let text = serde_json::to_string_pretty(&all).unwrap_or_default();
            show(&format!("{}\n", plain(&text)));
        }
        Some(template) => {
            let template = crate::template::Template::parse(template)?;
            all.iter().try_for_each(|one| {
                show(&format!("{}\n", template.render(one)?));
                Ok::<_, Failure>(())
            })?;
        }
    }
    Ok(0)
}

fn describe(store: &Store, image: &Image) -> Result<Value, Failure> {
    let config = store.config(image).map_err(store_failed)?;
    let names: Vec<Named> = store.names().map_err(store_failed)?;
    let names: Vec<&Named> = names.iter().filter(|named| named.manifest == image.manifest).collect();
    let leases = store.leases().map_err(store_failed)?;
    let holders = leases.iter().filter(|lease| lease.images.contains(image));
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| {
            json!({
                "Digest": layer.blob.to_string(), "Size": layer.blob_size,
                "DiffId": layer.content.to_string(), "Bytes": layer.content_size,
            })
        })
        .collect();
    let pulled =
        |named: &Named| rfc3339(i64::try_from(named.pulled).unwrap_or(0).saturating_mul(1_000_000_000));
    Ok(json!({
        "Id": image.config.to_string(),
        "Digest": image.manifest.to_string(),
        "RepoTags": names.iter().map(|named| &named.name).collect::<Vec<_>>(),
        "Sources": names.iter().map(|n| json!({"Name": n.name, "From": n.source, "Pulled": pulled(n)})).collect::<Vec<_>>(),
        "Created": config.created,
        "Os": config.platform.as_ref().map(|platform| &platform.os),
        "Architecture": config.platform.as_ref().map(|platform| &platform.architecture),
        "Variant": config.platform.as_ref().and_then(|platform| platform.variant.as_ref()),
        "Size": image.size(),
        "Config": config.runtime,
        "Layers": layers,
        "HeldBy": holders.map(|lease| &lease.holder).collect::<Vec<_>>(),
    }))
}
