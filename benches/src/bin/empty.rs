// SPDX-License-Identifier: Apache-2.0
//! A program that does nothing: what `std` costs from exec to exit, static and non-PIE.

fn main() {}
