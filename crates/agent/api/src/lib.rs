// SPDX-License-Identifier: Apache-2.0
//! The agent's HTTP face.
//!
//! It owns the listeners, the connections and the order in which a request is looked at (reference 30.2): who asks,
//! whether the agent is ready, in which form the request and its answer are, whether the call makes sense. It knows
//! nothing of containers: what is left of a request goes to a [`Core`], which answers with data, a stream, or a
//! [`Refusal`].
//!
//! Tasks: one for each listener, one for each connection, and one for each call under way that changes something,
//! so that it comes to its end though the client goes away. Everything that a client can send is bounded by
//! [`Limits`]; what it can make the agent send is asked for only as fast as it reads.

mod answer;
mod auth;
mod body;
mod call;
mod core;
mod endpoints;
mod executor;
mod input;
mod listen;
mod message;
mod negotiate;
mod openapi;
mod output;
mod patience;
mod refusal;
mod route;
mod server;

pub use crate::core::{
    Answer, Caller, Core, ExecutorTree, FrameworkTree, Launched, LogRequest, Peer, Session, Show, Stream,
    stream_of,
};
pub use answer::{Body, Whole, refused};
pub use auth::{Authenticate, Credential, CredentialsError, HttpBasic, Realm};
pub use body::whole as whole_body;
pub use endpoints::{CAPABILITIES, Query, as_json};
pub use executor::{EXECUTORS, Executors};
pub use hyper::StatusCode;
pub use hyper::header::HeaderValue;
pub use listen::{BindError, Listener, UnixAccess};
pub use message::{Messages, Sent};
pub use negotiate::{accepted_encoding, accepts_gzip, encoding_of};
pub use openapi::openapi;
pub use refusal::Refusal;
pub use server::{Answering, Handler, Limits, Options, serve, serve_with};
