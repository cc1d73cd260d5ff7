// SPDX-License-Identifier: Apache-2.0
//! Addresses: the first line is one, the second what a redirect from there says.
#![no_main]

use berth_registry::url::Url;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (base, location) = text.split_once('\n').unwrap_or(("https://r.example/v2/a/blobs/x", text));
    let Ok(base) = base.parse::<Url>() else { return };
    assert_eq!(base.to_string().parse::<Url>().as_ref(), Ok(&base));
    if let Ok(next) = base.join(location) {
        assert_eq!(next.to_string().parse::<Url>().as_ref(), Ok(&next));
        assert!(next.target().starts_with('/') && !next.target().contains(['\r', '\n', ' ']));
        assert!(!next.origin.host.contains(['@', '/', '?', '#', '%', '\\']));
        // A location that names nobody stays where it is.
        if location.starts_with('/') && !location.starts_with("//") {
            assert_eq!(next.origin, base.origin);
        }
    }
    // An address has an end, and encoding makes three bytes of one.
    if text.len() > 2000 {
        return;
    }
    let asked = base.with_query("scope", location);
    assert_eq!(asked.to_string().parse::<Url>().map(|url| url.origin), Ok(base.origin));
});
