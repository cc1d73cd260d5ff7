// SPDX-License-Identifier: Apache-2.0
//! Between the messages and the types of berth-model.
//!
//! Commands, containers and resources go by way of JSON, which the types of the model read and write in Mesos's form:
//! one mapping instead of two, and both sides already test theirs. What is small, frequent or has rules of its own
//! (ids, limits, statistics) is converted field by field. What the model can not hold is refused in words.

mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use berth_model::{Class, ContainerClass, ContainerConfig, ContainerId, IdError, Resources};
use prost::Name;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use report::{statistics_of, status_of, termination_of, termination_of_nested};

use crate::agent::call;
use crate::descriptor::Message;
use crate::json::{self, Defaults};
use crate::v1::{self, value};

/// Why a message has no counterpart in the model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// An id that breaks the rules.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A part that the model reads, and refuses.
    #[error("{0}")]
    Part(String),
    /// A limit that is no amount.
    #[error("limit '{name}' is {value}; give a number that is not negative, or \"Infinity\" for no limit")]
    Limit {
        /// The name of the resource.
        name: String,
        /// What was given.
        value: f64,
    },
    /// A part that exists in Mesos, but not here.
    #[error("'{part}' is not supported; {instead}")]
    Unsupported {
        /// The field.
        part: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
}

impl Refused {
    /// A part that is missing here is unsupported; all else is a wrong request.
    pub fn class(&self) -> Class {
        match self {
            Refused::Unsupported { .. } => Class::Unsupported,
            _ => Class::Invalid,
        }
    }
}

/// A container's id.
pub fn container_id(id: &v1::ContainerId) -> Result<ContainerId, IdError> {
    let levels: Vec<&str> =
        std::iter::successors(Some(id), |id| id.parent.as_deref()).map(|id| id.value.as_str()).collect();
    // The innermost level is checked first; an error of an outer one says so once per level.
    for (depth, value) in levels.iter().enumerate() {
        if let Err(error) = ContainerId::new(*value) {
            return Err((0..depth).fold(error, |error, _| IdError::Parent(Box::new(error))));
        }
    }
    let mut outer_to_inner = levels.into_iter().rev();
    let root = ContainerId::new(outer_to_inner.next().unwrap_or_default())?;
    outer_to_inner.try_fold(root, ContainerId::nested)
}

/// The message of a container's id.
pub fn container_id_of(id: &ContainerId) -> v1::ContainerId {
    let parent = id.parent().map(|parent| Box::new(container_id_of(parent)));
    v1::ContainerId { value: id.value().to_owned(), parent }
}

/// Resources, each checked; empty ones vanish and equal kinds are summed.
pub fn resources(list: &[v1::Resource]) -> Result<Resources, Refused> {
    let mut sum = Resources::new();
    for message in list {
        let resource: berth_model::Resource = through_json(message)?;
        sum.try_add(resource).map_err(|error| Refused::Part(error.to_string()))?;
    }
    Ok(sum)
}

/// The messages of resources.
pub fn resources_of(resources: &Resources) -> Vec<v1::Resource> {
    let tree = serde_json::to_value(resources).expect("resources are always written as JSON");
    let list = tree.as_array().cloned().unwrap_or_default();
    list.iter().map(back_through_json).collect()
}

/// Limits: an amount that is not negative, or infinity.
pub fn limits(limits: &BTreeMap<String, value::Scalar>) -> Result<BTreeMap<String, f64>, Refused> {
    let check = |(name, scalar): (&String, &value::Scalar)| match scalar.value {
        value if value >= 0.0 => Ok((name.clone(), value)),
        value => Err(Refused::Limit { name: name.clone(), value }),
    };
    limits.iter().map(check).collect()
}

/// The messages of limits.
pub fn limits_of(limits: &BTreeMap<String, f64>) -> BTreeMap<String, value::Scalar> {
    limits.iter().map(|(name, value)| (name.clone(), value::Scalar { value: *value })).collect()
}

/// A command.
pub fn command(command: &v1::CommandInfo) -> Result<berth_model::CommandInfo, Refused> {
    through_json(command)
}

/// The message of a command. Values of secrets are left out.
pub fn command_of(command: &berth_model::CommandInfo) -> v1::CommandInfo {
    back_through_json(&to_tree(command))
}

/// A container.
pub fn container(container: &v1::ContainerInfo) -> Result<berth_model::ContainerInfo, Refused> {
    let of_volumes = container.volumes.iter().filter_map(|volume| volume.image.as_ref());
    let own = container.mesos.as_ref().and_then(|mesos| mesos.image.as_ref());
    of_volumes.chain(own).try_for_each(check_image)?;
    through_json(container)
}

/// The message of a container. Values of secrets are left out.
pub fn container_of(container: &berth_model::ContainerInfo) -> v1::ContainerInfo {
    back_through_json(&to_tree(container))
}

/// An image.
pub fn image(image: &v1::Image) -> Result<berth_model::Image, Refused> {
    check_image(image)?;
    through_json(image)
}

/// The message of an image. Values of secrets are left out.
pub fn image_of(image: &berth_model::Image) -> v1::Image {
    back_through_json(&to_tree(image))
}

/// What to launch for LAUNCH_CONTAINER. The sandbox and the user are for the agent to fill in.
pub fn launch(payload: &call::LaunchContainer) -> Result<(ContainerId, ContainerConfig), Refused> {
    let (id, mut config) = what_runs(&payload.container_id, &payload.command, &payload.container)?;
    config.resources = resources(&payload.resources)?;
    config.limits = limits(&payload.limits)?;
    Ok((id, config))
}

/// What to launch for LAUNCH_NESTED_CONTAINER.
pub fn launch_nested(
    payload: &call::LaunchNestedContainer,
) -> Result<(ContainerId, ContainerConfig), Refused> {
    what_runs(&payload.container_id, &payload.command, &payload.container)
}

/// What to launch for LAUNCH_NESTED_CONTAINER_SESSION: part of the container around it.
pub fn launch_session(
    payload: &call::LaunchNestedContainerSession,
) -> Result<(ContainerId, ContainerConfig), Refused> {
    let (id, config) = what_runs(&payload.container_id, &payload.command, &payload.container)?;
    Ok((id, ContainerConfig { container_class: ContainerClass::Debug, ..config }))
}

fn what_runs(
    id: &v1::ContainerId,
    with: &Option<v1::CommandInfo>,
    within: &Option<v1::ContainerInfo>,
) -> Result<(ContainerId, ContainerConfig), Refused> {
    let config = ContainerConfig {
        command_info: with.as_ref().map(command).transpose()?.unwrap_or_default(),
        container_info: within.as_ref().map(container).transpose()?,
        ..ContainerConfig::default()
    };
    Ok((container_id(id)?, config))
}

/// Nothing ever used this field of Mesos, and a pull that goes without it would fail in a way that puzzles.
#[expect(deprecated, reason = "it is looked at to be refused")]
fn check_image(image: &v1::Image) -> Result<(), Refused> {
    match &image.docker {
        Some(docker) if docker.credential.is_some() => Err(Refused::Unsupported {
            part: "docker.credential",
            instead: "put a Docker config.json into 'docker.config'",
        }),
        _ => Ok(()),
    }
}

fn through_json<M: prost::Message + Name, T: DeserializeOwned>(message: &M) -> Result<T, Refused> {
    let text = json::write(Message::of::<M>(), &message.encode_to_vec(), Defaults::Left);
    // By way of a tree, because an error in text would end in a line and a column that nobody sent.
    let tree: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| Refused::Part(error.to_string()))?;
    serde_json::from_value(tree).map_err(|error| Refused::Part(error.to_string()))
}

fn to_tree<T: Serialize>(of_model: &T) -> serde_json::Value {
    serde_json::to_value(of_model).expect("types of the model are always written as JSON")
}

fn back_through_json<M: prost::Message + Name + Default>(tree: &serde_json::Value) -> M {
    let bytes = json::read(Message::of::<M>(), tree).expect("the model writes Mesos's JSON");
    M::decode(bytes.as_slice()).expect("the wire format was just written")
}
