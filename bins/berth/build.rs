// SPDX-License-Identifier: Apache-2.0
//! The program is entered at `berth_entry`, which begins a container before the C library has started
//! (`berth_sys::early`).
fn main() {
    for argument in ["-Wl,-u,berth_entry", "-Wl,-e,berth_entry"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
