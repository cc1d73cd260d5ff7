// SPDX-License-Identifier: Apache-2.0
//! Documents of images: the first byte chooses what they are announced as.
#![no_main]

use berth_image::manifest::{self, Parsed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, document)) = bytes.split_first() else { return };
    let types = [
        manifest::OCI_INDEX,
        manifest::OCI_MANIFEST,
        manifest::DOCKER_LIST,
        manifest::DOCKER_MANIFEST,
        manifest::DOCKER_SCHEMA1,
        manifest::DOCKER_SCHEMA1_SIGNED,
    ];
    let said = types.get(usize::from(choice % 7)).copied();
    if let Ok(Parsed::Manifest(manifest)) = manifest::parse(document, said) {
        assert!((1..=manifest::LAYERS_MAX).contains(&manifest.layers.len()));
        assert!(manifest.blobs().count() >= manifest.layers.len());
    }
    let _ = berth_image::config::ImageConfig::parse(document);
});
