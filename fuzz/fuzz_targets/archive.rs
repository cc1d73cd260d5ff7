// SPDX-License-Identifier: Apache-2.0
//! Archives of root file systems: unpacked for real, in memory, beside files that must stay as they are.
#![no_main]

mod ground;

use std::fs::File;
use std::io::Write;

use berth_image::{Options, contents, unpack_from};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(archive) = ground::archive(bytes) else { return };
    let ground = ground::Ground::open();
    let options = Options { limits: ground::limits(), ..Options::default() };
    let target = ground.path("target");
    match unpack_from(archive.as_slice(), &target, &options, &mut |_| {}) {
        Ok(made) => assert!(made.path.starts_with(&target) && made.bytes <= options.limits.bytes),
        Err(_) => assert!(!target.exists(), "a failed unpacking leaves something"),
    }
    let file = ground.path("listed");
    let mut listed = File::options().read(true).write(true).create(true).truncate(true).open(file);
    if let Ok(listed) = &mut listed {
        listed.write_all(&archive).expect("memory has room");
        let _ = contents(listed);
    }
    ground.check();
});
