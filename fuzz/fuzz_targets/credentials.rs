// SPDX-License-Identifier: Apache-2.0
//! Files with credentials: nothing of them is ever in what is printed.
#![no_main]

use berth_registry::AuthFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match AuthFile::parse("the file", bytes) {
        Ok(file) => assert!(format!("{file:?}").len() < 100),
        Err(error) => assert!(error.to_string().len() < 300, "{error}"),
    }
});
