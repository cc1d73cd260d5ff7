// SPDX-License-Identifier: Apache-2.0
//! How images are named: references, digests and platforms. Pure text; whoever fetches, stores or lists images
//! uses these types, so that a name is checked once, where it comes in.

mod digest;
mod platform;
mod reference;
#[cfg(test)]
mod tests;

pub use digest::{Algorithm, Digest, DigestError};
pub use platform::{Platform, PlatformError};
pub use reference::{DEFAULT_REGISTRY, Reference, ReferenceError, Registry, Repository, Tag};
