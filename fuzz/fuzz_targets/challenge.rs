// SPDX-License-Identifier: Apache-2.0
//! Challenges: several headers, one to a line.
#![no_main]

use berth_registry::challenge::{Wanted, choose, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let found = parse(bytes.split(|byte| *byte == b'\n'));
    assert!(found.len() <= 16 && found.iter().all(|challenge| challenge.params.len() <= 16));
    if let Some(Wanted::Bearer { realm, service, scope }) = choose(&found) {
        assert!([realm, service, scope].iter().flatten().all(|text| !text.is_empty()));
    }
    // What was read, written as it should be, is read as the same.
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let all_plain = found.iter().all(|c| {
        plain(&c.scheme)
            && !c.params.is_empty()
            && c.params.iter().all(|(name, value)| plain(name) && !value.contains('\u{fffd}'))
    });
    if all_plain {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let written: Vec<String> = found
            .iter()
            .map(|c| {
                let params: Vec<String> =
                    c.params.iter().map(|(n, v)| format!("{n}=\"{}\"", quote(v))).collect();
                format!("{} {}", c.scheme, params.join(","))
            })
            .collect();
        assert_eq!(parse([written.join(", ").as_bytes()]), found);
    }
});
