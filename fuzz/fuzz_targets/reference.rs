// SPDX-License-Identifier: Apache-2.0
//! Names: whatever is read is written again as the same.
#![no_main]

use berth_model::image::{Digest, Platform, Reference, Registry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<Reference>() {
        assert_eq!(name.to_string().parse::<Reference>().as_ref(), Ok(&name));
        let key: Reference = name.canonical().parse().expect("a canonical form is a name");
        assert_eq!(key.canonical(), name.canonical());
        let registry = name.registry().cloned().unwrap_or_else(Registry::docker);
        assert!(!registry.path_of(name.repository()).split('/').any(|part| matches!(part, "" | "." | "..")));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse::<Platform>().as_ref(), Ok(&platform));
        assert!(platform.fits(&platform).is_some());
    }
    if let Ok(registry) = text.parse::<Registry>() {
        assert_eq!(registry.to_string().parse::<Registry>().as_ref(), Ok(&registry));
    }
});
