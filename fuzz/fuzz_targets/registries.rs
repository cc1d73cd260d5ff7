// SPDX-License-Identifier: Apache-2.0
//! The configuration of registries.
#![no_main]

use std::path::Path;

use berth_registry::{Client, RegistryConfig, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Files that a configuration names are not the matter here.
    if text.contains("ca") || text.contains("cert") || text.contains("cred") || text.contains("key") {
        return;
    }
    let mut config = RegistryConfig::default();
    if config.add(Path::new("registries.toml"), text).is_ok() {
        let client = Client::new(Settings { config, ..Settings::default() })
            .expect("a configuration that was read is one");
        for name in ["a", "r.example/a", "localhost:5000/a"] {
            let name = name.parse().expect("these are names");
            assert!(client.image(&name, None).is_ok());
        }
    }
});
