// SPDX-License-Identifier: Apache-2.0
//! Resources: named amounts that an agent offers and a container is given.
//!
//! A [`Resource`] is one amount of one thing; [`Resources`] is a set of them that can be added, subtracted and
//! compared. They come as text or JSON in the agent's flag ([`from_flag`]) and as JSON in every message (serde).
//! Numbers have three decimals and are kept as whole thousandths, so that what was added can be taken away again
//! without a rest.

mod arithmetic;
mod display;
mod draft;
mod invalid;
mod json;
mod resource;
pub mod role;
mod text;
mod value;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

pub use arithmetic::Resources;
pub use draft::ValueType;
pub use invalid::Invalid;
pub use json::JsonError;
pub use resource::{
    DiskInfo, DiskRoot, DiskSource, DiskSourceType, Persistence, Reservation, ReservationType, Resource,
};
pub use role::RoleError;
pub use text::ValueError;
pub use value::{Range, Ranges, Scalar, Set, Value};

use crate::Class;
use std::collections::{BTreeMap, BTreeSet};

/// What the agent's flag `--resources` says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// The resources; empty ones vanished, equal kinds are summed.
    pub resources: Resources,
    /// Every name that occurred, also of empty resources: what is named is not detected, so `gpus:0` means none.
    pub names: BTreeSet<String>,
}

/// Why the value of `--resources` is refused.
///
/// The messages are, to the letter, what Mesos's agent prints after `Failed to determine agent resources: `, and like
/// there they contain their cause; so there is no further cause in `source()`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// An entry without a name, without a value, or with more than one colon.
    #[error("Bad value for resources, missing or extra ':' in {0}")]
    Colon(String),
    /// Parentheses around the role that do not match.
    #[error("Bad value for resources, mismatched parentheses in {0}")]
    Parentheses(String),
    /// A value that can not be read.
    #[error("Failed to parse resource {name} value {value} error {error}")]
    Value {
        /// The name before the colon.
        name: String,
        /// The value as it was given.
        value: String,
        /// What is wrong with it.
        error: ValueError,
    },
    /// A value that is neither a number nor ranges nor a set.
    #[error("Bad type for resource {name} value {value} type TEXT")]
    Type {
        /// The name before the colon.
        name: String,
        /// The value as it was given.
        value: String,
    },
    /// JSON of the wrong shape.
    #[error("Some JSON resources were not formatted properly: {0}")]
    Json(JsonError),
    /// A resource that can be read but makes no sense.
    #[error("{0}")]
    Invalid(Invalid),
    /// Volumes come from operators and frameworks.
    #[error("Persistent volumes cannot be specified at the command line")]
    PersistentVolume,
    /// Revocable resources come from an estimator.
    #[error(
        "Revocable resources cannot be specified at the command line; do not include a 'revocable' key in the \
         resources JSON"
    )]
    Revocable,
    /// Dynamic reservations come from operators and frameworks.
    #[error(
        "Dynamic reservations cannot be specified at the command line; do not include a reservation with DYNAMIC type \
         in the resources JSON"
    )]
    DynamicReservation,
    /// One name for, say, a number and a set.
    #[error("Resources with the same name ('{0}') but different types are not allowed")]
    DifferentTypes(String),
}

impl ParseError {
    /// A wrong flag is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Reads the value of the agent's flag `--resources`: text such as `cpus:4;mem(eng):1024;ports:[31000-32000]`, or a
/// JSON list of messages. Resources that name no role are reserved for `default_role`, unless that is `*`.
///
/// The caller has read the file already if the flag began with `file://`.
pub fn from_flag(text: &str, default_role: &str) -> Result<Parsed, ParseError> {
    let drafts = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(list @ serde_json::Value::Array(_)) => {
            let mut drafts = json::read_list(&list).map_err(ParseError::Json)?;
            drafts.iter_mut().for_each(|draft| draft.default_role(default_role));
            drafts
        }
        _ => text::read(text, default_role)?,
    };
    let names = drafts.iter().map(|draft| draft.name.clone()).collect();
    let resources =
        drafts.into_iter().map(draft::Draft::check).collect::<Result<_, _>>().map_err(ParseError::Invalid)?;
    refuse_what_no_flag_may_say(&resources)?;
    Ok(Parsed { resources, names })
}

fn refuse_what_no_flag_may_say(resources: &Resources) -> Result<(), ParseError> {
    let mut kinds = BTreeMap::new();
    for resource in resources.iter() {
        if resource.is_persistent_volume() {
            return Err(ParseError::PersistentVolume);
        }
        if resource.revocable {
            return Err(ParseError::Revocable);
        }
        if resource.is_dynamically_reserved() {
            return Err(ParseError::DynamicReservation);
        }
        let kind = resource.value.kind();
        if *kinds.entry(resource.name.as_str()).or_insert(kind) != kind {
            return Err(ParseError::DifferentTypes(resource.name.clone()));
        }
    }
    Ok(())
}
