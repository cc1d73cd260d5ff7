// SPDX-License-Identifier: Apache-2.0
//! Links without the C runtime's start files and libraries: `berth-sys` brings the entry point.
fn main() {
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-z,noseparate-code"]
    {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
