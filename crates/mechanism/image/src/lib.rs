// SPDX-License-Identifier: Apache-2.0
//! Root filesystems from archives, and safe work inside trees that somebody else wrote.
//!
//! Everything here takes for granted that the tree, the archive and the files in it come from an attacker. So:
//!
//! * [`Root`] holds a directory open, and every path is resolved by the kernel below it (`openat2` with
//!   `RESOLVE_IN_ROOT`): a link can point anywhere and still leads nowhere but into the tree.
//! * [`unpack`] turns a tar (plain, gzip, zstd or xz) into a tree inside a private directory, with limits on
//!   bytes, ratio, entries, depth and names, and leaves nothing behind when it fails.
//! * [`unpack_layer`] does the same with a layer of an image, for overlayfs: reading and writing in two threads.
//! * [`overlay::mount`] puts layers on top of one another, by descriptors, however many.
//! * [`clone_mount`] makes a detached mount of a directory or a file of the host, with attributes, on every kernel.
//! * [`remove_tree`] removes a tree by descriptors, however deep, and never leaves its mount.
//! * [`Source`] is the door between a store of images and where they come from, with [`Cancel`] to end a pull.
//! * [`resolve_user`] looks a user up in the tree's own `passwd` and `group`.
//!
//! The crate owns no state, and no thread outlives a call: a caller gives directories and gets answers. All calls block; long
//! ones take a hook that stops them.

#![forbid(unsafe_code)]

mod archive;
mod below;
mod budget;
mod cancel;
mod clone;
pub mod config;
mod contents;
mod decode;
mod error;
mod hash;
mod layer;
mod limits;
pub mod manifest;
mod name;
pub mod overlay;
mod pax;
mod remove;
mod resolve;
mod root;
mod source;
mod tree;
mod unpack;
mod user;

pub use below::Lower;
pub use cancel::{Cancel, CancelHook};
pub use clone::{Failure, clone_mount};
pub use contents::{Content, contents, file_in};
pub use decode::{Compression, decompress};
pub use error::{Limit, Place, UnpackError};
pub use hash::{Hashed, Hasher, digest_of};
pub use layer::{Layer, LayerOptions, Top, unpack_layer};
pub use limits::Limits;
pub use remove::{Removal, RemoveFailure, remove_tree};
pub use resolve::{Resolved, resolve};
pub use root::{Root, RootError};
pub use source::{CONFIG_MAX, Descriptor, Document, MANIFEST_MAX, ManifestRef, PullError, Source};
pub use tree::Owners;
pub use unpack::{Devices, Options, Progress, Unpacked, unpack, unpack_from};
pub use user::{ResolvedUser, UserError, resolve_user};
