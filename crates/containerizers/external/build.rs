// SPDX-License-Identifier: Apache-2.0
//! Compiles the messages of Mesos 0.26 that the programs speak, without protoc.

use std::error::Error;

const ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let set = protox::compile(["containerizer.proto"], [ROOT])?;
    prost_build::Config::new().include_file("messages.rs").compile_fds(set)?;
    Ok(())
}
