// SPDX-License-Identifier: Apache-2.0
//! What the tests of the API share: a client that knows no more of HTTP than it must, so that nothing of ours stands
//! between a test and the bytes, and a comparison of JSON by its shape.

mod http;
pub mod shape;

pub use http::{Answer, Client, Head, PATIENCE, Request, chunk};

/// Lets this process open as many files as the host allows: a test opens a thousand connections.
///
/// # Panics
/// The host allows no more.
pub fn many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    assert!(raised.is_ok(), "raise the limit on open files to {:?}: {raised:?}", limit.maximum);
}
