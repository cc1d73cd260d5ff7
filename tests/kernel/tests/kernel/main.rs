// SPDX-License-Identifier: Apache-2.0
//! What the kernel does for a container of `berth run`, as seen from inside and from the host. `attacks` replays what
//! others fell for; docs/security.md has the table.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

mod attacks;
mod inside;
mod limits;
mod lists;
mod older;
mod options;
mod races;
mod refusals;
mod roots;
mod streams;
mod stress;
