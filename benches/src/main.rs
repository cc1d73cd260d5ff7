// SPDX-License-Identifier: Apache-2.0
//! Benchmarks paired against peers
fn main() {}
