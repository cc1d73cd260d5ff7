// SPDX-License-Identifier: Apache-2.0
//! Images on disk: pulled from any [`berth_image::Source`], shared by layer, held by containers, collected.
//!
//! * [`Store`] is one directory that several processes use at once: an agent and one-shot commands. Whatever has its
//!   final name in it is complete; a process that is killed leaves nothing that counts.
//! * [`Store::pull`] brings an image; [`sources`] are those that are files.
//! * [`Provisioner`] makes root file systems for containers, each of which holds its images by a lease.
//! * [`Store::prune`], [`Store::collect`] and [`Store::fsck`] keep it small and sound.
//! * [`runtime`] says what an image's wishes make of a command.
//!
//! All calls block. Threads are made for a pull and end with it.

#![forbid(unsafe_code)]

mod collect;
mod copy;
mod error;
mod fsck;
mod layers;
mod layout;
mod pull;
mod records;
mod rootfs;
pub mod runtime;
pub mod sources;
mod staging;
mod store;
mod watch;

pub use collect::{Kept, PruneOptions, Pruned, Watermarks};
pub use copy::copy_image;
pub use error::{Result, StoreError};
pub use fsck::{Found, Repair};
pub use pull::PullRequest;
pub use records::{Image, LayerUse, Lease, Named, RootMode};
pub use rootfs::{Backend, Provisioner, Rootfs};
pub use store::{Alone, Store, StoreOptions};
pub use watch::{Event, LayerState, Unwatched, Watch};
