// SPDX-License-Identifier: Apache-2.0
//! The structs that prost makes from the .proto files, whose comments are their documentation. Use them by the shorter
//! paths that the crate's root gives.

#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
