// SPDX-License-Identifier: Apache-2.0
//! Layers on top of another one: unpacked for real, with deletion marks and what is taken up from below.
#![no_main]

mod ground;

use berth_image::{Devices, LayerOptions, Options, Owners, Root, unpack_layer};
use berth_model::image::Algorithm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(archive) = ground::archive(bytes) else { return };
    let ground = ground::Ground::open();
    let lower = || Root::at(&ground.path("below")).map(Some).map_err(std::io::Error::other);
    let options =
        Options { limits: ground::limits(), owners: Owners::Keep, devices: Devices::Skip, stop: &|| false };
    let layer = LayerOptions {
        lower: &lower,
        blob: Algorithm::Sha256,
        content: Algorithm::Sha256,
        umask_is_zero: false,
        failed: &|| {},
    };
    let target = ground.path("target");
    match unpack_layer(archive.as_slice(), &target, &options, &layer, &mut |_| {}) {
        Ok(made) => {
            assert_eq!(made.blob_size, archive.len() as u64);
            assert!(made.path.starts_with(&target) && made.bytes <= options.limits.bytes);
        }
        Err(_) => assert!(!target.exists(), "a failed unpacking leaves something"),
    }
    ground.check();
});
