// SPDX-License-Identifier: Apache-2.0
//! From a name and the operator's flags to an image in the store, and to what a container gets of it.
//!
//! * [`ImageName`] is how an image is named: a registry's reference, or a kind of file and its path.
//! * [`Images`] turns a name into a source, pulls it into the store, holds it for a container. The one place that
//!   knows both the store and the registries; the command line and the agent use the same.
//! * [`runtime`] is what an image's configuration means for a command: Mesos's table, or Docker's rule.
//!
//! Owns nothing but what it opens when it is first needed: a program that runs no image opens no store.

#![forbid(unsafe_code)]

mod appc;
mod error;
mod images;
mod name;
mod pack;
pub mod runtime;
mod send;
mod upkeep;

pub use appc::{
    AppcName, AppcNameError, Place as AppcPlace, Prefix as AppcPrefix, PrefixError as AppcPrefixError,
};
pub use berth_image::config::{ImageConfig, RuntimeConfig};
pub use berth_image::{Cancel, CancelHook, contents, resolve};
pub use berth_registry::explain::Explanation;
pub use berth_registry::usual_files;
pub use berth_store::{Backend, copy_image};
pub use berth_store::{Event, Image, LayerState, Named, RootMode, Store, StoreError, Unwatched, Watch};
pub use berth_store::{Found, Kept, PruneOptions, Pruned, Repair, Watermarks};
pub use error::{ImagesError, Result};
pub use images::{Images, Provisioned, Settings, Wanted, is_compressed, release};
pub use name::{ImageName, NameError};
pub use send::Sent;
pub use upkeep::{Collecting, Upkept};
