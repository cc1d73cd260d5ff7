// SPDX-License-Identifier: Apache-2.0
//! Builds `berth-init`, which this crate carries inside itself, with its own profile and target folder: it
//! must not share features with the crates around it (it has no standard library).
use std::{env, path::PathBuf, process::Command};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../../..");
    for path in [
        "bins/berth-init",
        "crates/base/sys",
        "crates/mechanism/logger",
        "crates/mechanism/supervisor",
        "Cargo.lock",
        "Cargo.toml",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let target = "x86_64-unknown-linux-gnu";
    let folder = out.join("init");
    let mut cargo = Command::new(env::var_os("CARGO").expect("set by cargo"));
    cargo
        .current_dir(&root)
        .args(["build", "--quiet", "--package", "berth-init", "--profile", "init", "--target", target])
        .arg("--target-dir")
        .arg(&folder);
    // What the outer cargo says of its own build must not reach the inner one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let ours =
            ["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&name.as_str()) || name.starts_with("CARGO_REGISTR");
        if (name.starts_with("CARGO") && !ours)
            || [
                "RUSTFLAGS",
                "RUSTDOCFLAGS",
                "RUSTC",
                "RUSTC_WRAPPER",
                "RUSTC_WORKSPACE_WRAPPER",
                "CLIPPY_ARGS",
                "TARGET",
            ]
            .contains(&name.as_str())
        {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo that builds this crate can be started");
    assert!(status.success(), "building berth-init failed: {status}");
    println!("cargo:rustc-env=BERTH_INIT={}", folder.join(target).join("init/berth-init").display());
}
