// SPDX-License-Identifier: Apache-2.0
//! Seccomp profiles and their compiler to short BPF programs.
//!
//! A [`Profile`] says what happens to which system call. It is either [`Profile::default_profile`], which is
//! constant data, or read from Docker's JSON format. [`Profile::compile`] turns it into a [`Program`], the bytes
//! that seccomp(2) loads, for a given bounding set of capabilities. [`Cache`] keeps programs of profiles in
//! files, by hash.
//!
//! The crate owns no task, descriptor or mount, and loads no filter: that is for whoever starts the process. Only
//! [`Cache`] touches the file system, in the directory that it is given.
//!
//! ```no_run
//! use berth_seccomp::{Profile, caps};
//!
//! let program = Profile::default_profile().compile(caps::DOCKER_DEFAULT)?;
//! assert_eq!(program.as_bytes().len(), program.len() * 8);
//! # Ok::<(), berth_seccomp::Error>(())
//! ```

mod assemble;
mod cache;
pub mod caps;
mod compile;
mod default;
mod error;
mod json;
mod kernel;
mod profile;
mod program;
pub mod syscalls;

pub use cache::{Cache, Outcome};
pub use default::{BASIS as DEFAULT_BASIS, VERSION as DEFAULT_VERSION};
pub use error::Error;
pub use json::MAX_SIZE as MAX_PROFILE_SIZE;
pub use kernel::Kernel;
pub use profile::{Action, Comparison, Profile, Rule, Test, USUAL};
pub use program::{Insn, MAX_LEN as MAX_PROGRAM_LEN, Program};
