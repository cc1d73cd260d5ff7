// SPDX-License-Identifier: Apache-2.0
//! Every unsafe block and raw system call of Berth, one family of calls per file, behind safe signatures.
//!
//! What the `rustix` crate offers safely is used from there (re-exported as [`rustix`], so that the whole
//! house has one syscall layer); here stands only what it lacks: making processes, loading filters, the
//! keyring, signal masks, `mount_setattr`, `PIDFD_GET_INFO`, ptrace, bpf(2), and the start of a program without libc.
//! The crate has no policy and keeps no state. It is `no_std` unless the feature `std` is on, because
//! `berth-init` runs without libc.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod bpf;
#[cfg(feature = "early")]
pub mod early;
pub mod fd;
pub mod keyring;
pub mod landlock;
pub mod memory;
pub mod mounts;
pub mod netdev;
pub mod pidfd;
pub mod probe;
pub mod process;
pub mod ptrace;
mod raw;
pub mod seccomp;
#[cfg(feature = "std")]
pub mod session;
pub mod signal;
#[cfg(feature = "std")]
pub mod spawn;
#[cfg(feature = "start")]
pub mod start;

pub use rustix;
pub use rustix::io::Errno;

/// The result of a system call.
pub type Result<T> = core::result::Result<T, Errno>;
