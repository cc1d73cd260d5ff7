// SPDX-License-Identifier: Apache-2.0
//! A client of image registries (Docker Registry HTTP API v2, OCI distribution) that trusts none of them.
//!
//! [`Client`] is made once from [`Settings`] and shared. [`Client::image`] is an image as a [`Source`] of the store:
//! its documents are verified here, its blobs by the store, which reads each byte anyway. [`Client::push`] sends.
//! [`Client::explain`] tells what a pull would do.
//!
//! What is decided here, and where:
//!
//! * which hosts are asked, in which order, and how they are spoken to: [`config`] (`registries.toml`), `host`;
//! * who we are to whom: [`credentials`], `helper`; a secret has a type that is not printed;
//! * what a registry may make us do: `session` (redirects), `token` (realms), [`address`] (which machines), each
//!   with the rule in its documentation;
//! * how long is waited, and for what: [`Patience`]; how often is tried: [`Retries`];
//! * how a request travels: `exchange`, over `connect`, `socket`, `tls`, `proxy`.
//!
//! The crate owns idle connections and tokens, in memory only. A resolver that hangs leaves a thread behind until it
//! gives up; nothing else outlives a call. All calls block, and end as soon as their [`Cancel`] is said.
//!
//! [`Source`]: berth_image::Source
//! [`Cancel`]: berth_image::Cancel

#![forbid(unsafe_code)]

pub mod address;
pub mod challenge;
mod client;
pub mod config;
mod connect;
pub mod credentials;
mod document;
mod error;
mod exchange;
pub mod explain;
mod file;
pub mod flight;
mod helper;
mod host;
mod image;
mod proxy;
mod push;
mod retry;
mod session;
mod socket;
mod tls;
mod token;
pub mod url;

pub use client::{Client, Settings};
pub use config::{ConfigError, Fallback, RegistryConfig};
pub use credentials::{AuthFile, CredentialError, usual_files};
pub use error::RegistryError;
pub use file::{ChosenBy, RemoteFile};
pub use host::Role;
pub use image::{RemoteImage, Served};
pub use push::{Open, Push, Pushed};
pub use retry::Retries;
pub use socket::Patience;
