// SPDX-License-Identifier: Apache-2.0
//! From a source to the one manifest that is meant: through indexes, by platform.

use berth_model::image::Platform;

use crate::cancel::Cancel;
use crate::manifest::{Manifest, Parsed, is_layer, parse};
use crate::source::{Document, ManifestRef, PullError, Source};

/// Indexes within indexes that are followed.
const DEPTH: u32 = 4;

/// The image that a source has for a platform.
#[derive(Debug)]
pub struct Resolved {
    /// Its manifest, byte for byte.
    pub document: Document,
    /// What that says.
    pub manifest: Manifest,
    /// The platform by which an index was gone through, if there was one.
    pub chosen: Option<Platform>,
}

/// Finds the manifest for `platform`.
///
/// # Errors
/// [`PullError`]: of the source, or because a document is refused, or nothing is there for the platform.
pub fn resolve(source: &dyn Source, platform: &Platform, cancel: &Cancel) -> Result<Resolved, PullError> {
    let mut which = ManifestRef::Top;
    let mut announced = None;
    let mut chosen = None;
    for _ in 0..DEPTH {
        let document = source.manifest(&which, cancel)?;
        let from = || source.describe();
        let refused = |why: String| PullError::Refused {
            from: from(),
            what: format!("manifest {}", document.digest),
            why,
        };
        // What an index says of a manifest counts as much as what the source says.
        let said = document.media_type.clone().or_else(|| announced.take());
        match parse(&document.bytes, said.as_deref()).map_err(refused)? {
            Parsed::Manifest(manifest) => {
                let foreign = manifest.layers.iter().find(|layer| !is_layer(&layer.media_type));
                if let Some(layer) = foreign {
                    return Err(PullError::Unsupported {
                        from: from(),
                        what: format!("a layer of type {:?}", layer.media_type),
                        advice: "it is not an image to run, or made with tools newer than this one".into(),
                    });
                }
                return Ok(Resolved { document, manifest, chosen });
            }
            Parsed::Index(manifests) => {
                let best = platform.choose(manifests.iter().map(|manifest| manifest.platform.as_ref()));
                // Indexes of one image often name no platform: the image's configuration will.
                let unnamed = || (manifests.len() == 1 && manifests[0].platform.is_none()).then_some(0);
                let Some(best) = best.or_else(unnamed) else {
                    let all: Vec<_> =
                        manifests.iter().filter_map(|m| m.platform.as_ref()).map(|p| p.to_string()).collect();
                    return Err(PullError::NotFound {
                        from: from(),
                        what: format!("image for {platform}"),
                        advice: match all.is_empty() {
                            true => "it lists none for any platform".into(),
                            false => {
                                format!("it has them for {}; name one of these platforms", all.join(", "))
                            }
                        },
                    });
                };
                let manifest = &manifests[best];
                chosen = manifest.platform.clone();
                announced = Some(manifest.media_type.clone()).filter(|named| !named.is_empty());
                which = ManifestRef::Digest(manifest.digest);
            }
        }
    }
    Err(PullError::Refused {
        from: source.describe(),
        what: "its index".into(),
        why: format!("indexes lie within one another more than {DEPTH} deep"),
    })
}
