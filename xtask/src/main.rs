// SPDX-License-Identifier: Apache-2.0
//! Checks that CI and people run
fn main() {}
