// SPDX-License-Identifier: Apache-2.0
//! What kinds of containers differ in, as far as it is kept here.

use std::fmt::Debug;

use berth_contract::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::Entry;
use crate::keeper::Keeper;
use crate::record::Directory;

/// A kind of containers, and what all of its containers have in common: settings, a connection.
pub trait Kind: Debug + Send + Sync + Sized + 'static {
    /// The containerizer's name: also of the directory of the records.
    const NAME: &'static str;
    /// One of its containers, for people.
    const WHAT: &'static str;
    /// The format of what was asked.
    const RECORD: &'static str;
    /// The format of what is so or not.
    const MARK: &'static str;
    /// The format of how it ended.
    const ENDED: &'static str;
    /// The file that says that nothing is left but the record.
    const TIDIED: &'static str = "tidied";
    /// What else may be in the directory of a record.
    const FILES: &'static [&'static str];
    /// What is written of what was asked, beside id and configuration.
    type Asked: Debug + Clone + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What the records say beside what all say.
    type Found: Debug;
    /// What is so of a container at the moment.
    type State: State;

    /// Reads its own records.
    ///
    /// # Errors
    /// One can not be read.
    fn find(directory: &Directory<Self>) -> Result<Self::Found, Error>;

    /// A container's end is about to be told: whatever ends with it has ended.
    fn ending(keeper: &Keeper<Self>, entry: &Entry<Self>) {
        let _ = (keeper, entry);
    }
}

/// What is so of one container, as its kind sees it.
pub trait State: Debug + Send + Sync + Sized + 'static {
    /// Of one that begins.
    ///
    /// # Errors
    /// There is nothing left to make it of.
    fn new() -> Result<Self, Error>;

    /// Somebody wants the container's end: whoever works on it is woken.
    fn destroyed(&self);
}
