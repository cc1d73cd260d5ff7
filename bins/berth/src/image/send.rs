// SPDX-License-Identifier: Apache-2.0
//! Images leave: `push` to a registry, `export` to a file.

use super::{failed, here, store, wanted};
use crate::cli::{Format, ImageExport, ImagePush};
use crate::exit::{Failure, say};
use crate::text::{decimal, show, show_json};
use berth_images::{Cancel, ImageName, Images, Sent};
use serde_json::json;

/// `push`.
pub(super) fn push(images: &Images, args: &ImagePush) -> Result<u8, Failure> {
    let found = here(&store(images)?, &args.image)?;
    let to = args.to.as_deref().unwrap_or(&args.image);
    let ImageName::Reference(to) = wanted(to, None)?.name else {
        return Err(Failure::text(format!("{to} is no registry's reference: name one after the image")));
    };
    let from = found.name.as_ref().and_then(|named| match named.name.parse() {
        Ok(ImageName::Reference(reference)) => Some(reference),
        _ => None,
    });
    let tell = |sent: Sent| {
        if !args.quiet {
            say(format_args!("{}: {} ({})", &sent.blob.hex()[..12], sent.how, decimal(sent.bytes)));
        }
    };
    let digest =
        images.send(&found.image, &to, from.as_ref(), &Cancel::new(), &tell).map_err(|e| failed(&e))?;
    match args.output {
        Format::Table => show(&format!("{digest}\n")),
        Format::Json => show_json(&json!({"reference": to.to_string(), "manifest": digest.to_string()})),
    }
    Ok(0)
}

/// `export`.
pub(super) fn export(images: &Images, args: &ImageExport) -> Result<u8, Failure> {
    let found = here(&store(images)?, &args.image)?;
    let name = found.name.map(|named| named.name);
    let digest =
        images.export(&found.image, name.as_deref(), &args.output, &Cancel::new()).map_err(|e| failed(&e))?;
    show(&format!("{digest}\n"));
    Ok(0)
}
