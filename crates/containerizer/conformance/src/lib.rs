// SPDX-License-Identifier: Apache-2.0
//! One suite that every containerizer passes, a fake one, and the leak ledger.
//!
//! * [`suite!`] makes a test of every rule of the contract, for any containerizer.
//! * [`ask`] is for the tests that a containerizer has beside.
//! * [`fake`] is a containerizer in memory that keeps all of them.
//! * [`ledger`] writes down what the host holds, and says what was left behind.
//!
//! For tests only: nothing that ships depends on it.

pub mod ask;
pub mod exclusive;
pub mod fake;
pub mod ledger;
pub mod rules;
pub mod rules_more;
mod script;
mod site;
mod subject;
mod suite;
mod world;

pub use fake::{FakeContainerizer, FakeHost};
pub use ledger::{Breadth, Ledger, Scope, diff};
pub use script::Script;
pub use site::Site;
pub use subject::{Change, Signal, Subject, Tell};
pub use suite::every_rule_is_kept_or_declared;
pub use world::{PATIENCE, World, run, run_alone, run_within};

/// Gives the closure of [`suite!`] its type, which it can not find from where it stands.
#[doc(hidden)]
pub fn closure<S: Into<Subject>, F: Fn(&Site) -> S>(make: F) -> F {
    make
}
