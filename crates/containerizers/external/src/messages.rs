// SPDX-License-Identifier: Apache-2.0
//! The structs that prost makes from the files below `proto/`, whose comments are their documentation.

// What only holds other types (`Value`) is made by nobody.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
