// SPDX-License-Identifier: Apache-2.0
//! What tests of programs stand on: the `berth` to be tested ([`berth`]), what a command did ([`Exit`], [`Running`]), a
//! terminal to run it on ([`Terminal`]), a program for it to run ([`script`]), patience ([`until`]), and how a test says
//! that it lacks something ([`skip`]).
//!
//! For tests only: nothing that ships depends on it. It knows programs, not crates, so that tests of every layer can
//! stand on it.

mod binary;
mod exit;
mod patience;
mod running;
mod script;
mod skip;
mod terminal;

pub use binary::{Build, berth};
pub use exit::Exit;
pub use patience::{PATIENCE, soon, until};
pub use running::Running;
pub use script::script;
pub use skip::{lacks, skip};
pub use terminal::Terminal;
