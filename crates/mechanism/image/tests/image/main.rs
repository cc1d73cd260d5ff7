// SPDX-License-Identifier: Apache-2.0
//! Attacks on the unpacker, the remover and the user lookup, each with a harmless neighbour that works.
//!
//! Run as root they check owners, devices and mounts too; what an unprivileged run lacks is printed.

#![allow(clippy::unwrap_used, reason = "a test that can not prepare itself has failed")]

mod archives;
mod compressed;
mod good;
mod hostile;
mod layers;
mod limits;
mod overlay;
mod remove;
mod root;
mod streams;
mod user;
