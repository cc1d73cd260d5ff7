// SPDX-License-Identifier: Apache-2.0
//! The messages of the agent's API, their JSON, their validation, and RecordIO.
//!
//! This crate owns no task, file or socket: it turns bytes into messages and back, and messages into the types of
//! berth-model. The .proto files below `proto/` are the documentation of the messages; [`v1`] and [`agent`] are
//! Mesos's, with our extensions in them, [`own`] are ours.
//!
//! ```text
//! JSON ──serde_json──> tree ──descriptor──> wire format ──prost──> struct ──validate──> convert ──> berth-model
//! ```
//!
//! Mesos's JSON is not the one that protobuf defines (names, numbers, enums and errors differ), so the mapping is
//! our own, driven by tables made from the .proto files at build time. It goes by the wire format, which keeps it
//! free of generated code: what a struct can be encoded to, it can write, and what it reads, a struct can decode.

mod codec;
pub mod convert;
mod descriptor;
mod json;
pub mod messages;
pub mod recordio;
pub mod schema;
mod secret;
mod text;
pub mod validate;
mod wire;

pub use codec::{DecodeError, Encoding, decode_json, decode_protobuf, encode_json, encode_protobuf};
pub use json::ConvertError;
pub use messages::berth::v1 as own;
pub use messages::mesos::internal;
pub use messages::mesos::v1;
pub use messages::mesos::v1::{agent, executor, master, scheduler};
pub use text::text;
pub use validate::validate;
