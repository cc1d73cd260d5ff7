// SPDX-License-Identifier: Apache-2.0
//! Supervisor and container init: one thread, static, small
fn main() {}
