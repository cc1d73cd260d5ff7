// SPDX-License-Identifier: Apache-2.0
//! Resources: named amounts that an agent offers and a container is given.

use serde::{Deserialize, Serialize};

/// One entry of [`Resources`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Resource {
    /// What it is an amount of, for example `cpus`.
    pub name: String,
}

/// A set of [`Resource`]s, in JSON a list.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Resources(Vec<Resource>);
