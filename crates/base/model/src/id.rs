// SPDX-License-Identifier: Apache-2.0
//! Names of things: containers, tasks, executors, frameworks, agents.
//!
//! A value of one of these types is always well formed: text is checked once, where it comes in, and everything
//! below may use it in paths, cgroup names and labels. The rules and the words of the errors are those of Mesos
//! (`validateID` and `validateContainerId`).

use crate::Class;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The most bytes that an id may have.
pub const MAX_ID_LENGTH: usize = 255;
/// The most bytes that one level of a container id may have.
pub const MAX_CONTAINER_ID_LENGTH: usize = 242;
/// The most levels that a container id may have. Mesos has no bound of its own; the kernel nests pid and user
/// namespaces no deeper than this (`pid_namespaces(7)`), and a bound keeps hostile ids from exhausting the stack.
pub const MAX_CONTAINER_DEPTH: usize = 32;

/// Why a text is not an id.
///
/// The messages are part of the API, so they keep Mesos's capitals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No text at all.
    #[error("ID must not be empty")]
    Empty,
    /// More than [`MAX_ID_LENGTH`] bytes.
    #[error("ID must not be greater than 255 characters")]
    TooLong,
    /// The name of a directory itself, `.` or `..`.
    #[error("'{0}' is disallowed")]
    Disallowed(String),
    /// A control character, a slash or a backslash.
    #[error("'{0}' contains invalid characters")]
    InvalidCharacters(String),
    /// More than [`MAX_CONTAINER_ID_LENGTH`] bytes in one level of a container id.
    #[error("'ContainerID.value' '{0}' exceeds the maximum length (242)")]
    ContainerTooLong(String),
    /// A dot (it separates levels) or a space in one level of a container id.
    #[error("'ContainerID.value' '{0}' contains invalid characters")]
    ContainerInvalidCharacters(String),
    /// A level above is wrong.
    #[error("'ContainerID.parent' is invalid: {0}")]
    Parent(Box<IdError>),
    /// More than [`MAX_CONTAINER_DEPTH`] levels.
    #[error("ContainerID is nested deeper than the maximum of 32 levels; use fewer levels")]
    TooDeep,
}

impl IdError {
    /// A wrong id is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Checks the rules that all ids share.
fn check_common(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > MAX_ID_LENGTH {
        return Err(IdError::TooLong);
    }
    if id == "." || id == ".." {
        return Err(IdError::Disallowed(id.to_owned()));
    }
    if id.chars().any(|c| c.is_ascii_control() || c == '/' || c == '\\') {
        return Err(IdError::InvalidCharacters(id.to_owned()));
    }
    Ok(())
}

fn check_container(value: &str) -> Result<(), IdError> {
    check_common(value)?;
    if value.len() > MAX_CONTAINER_ID_LENGTH {
        return Err(IdError::ContainerTooLong(value.to_owned()));
    }
    if value.contains(['.', ' ']) {
        return Err(IdError::ContainerInvalidCharacters(value.to_owned()));
    }
    Ok(())
}

/// The name of a container: a value and, when it is nested, the name of the container around it.
///
/// Its text is the values joined with dots from the outermost level to the innermost: `pod.app.debug`.
/// Ids order by that path, so a container sorts right before those inside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawContainerId")]
pub struct ContainerId {
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Box<ContainerId>>,
}

/// The message as it comes, before it is checked.
#[derive(Deserialize)]
struct RawContainerId {
    value: String,
    #[serde(default)]
    parent: Option<Box<RawContainerId>>,
}

impl TryFrom<RawContainerId> for ContainerId {
    type Error = IdError;

    fn try_from(raw: RawContainerId) -> Result<ContainerId, IdError> {
        // Innermost first, as the message has them; errors of outer levels are wrapped once per level.
        let mut levels = Vec::new();
        let mut next = Some(raw);
        while let Some(level) = next {
            if let Err(error) = check_container(&level.value) {
                let wrap = |inner, _| IdError::Parent(Box::new(inner));
                return Err((0..levels.len()).fold(error, wrap));
            }
            levels.push(level.value);
            if levels.len() > MAX_CONTAINER_DEPTH {
                return Err(IdError::TooDeep);
            }
            next = level.parent.map(|parent| *parent);
        }
        let mut id = None;
        for value in levels.into_iter().rev() {
            id = Some(ContainerId { value, parent: id.map(Box::new) });
        }
        id.ok_or(IdError::Empty)
    }
}

impl ContainerId {
    /// The id of a container that is in no other.
    pub fn new(value: impl Into<String>) -> Result<ContainerId, IdError> {
        let value = value.into();
        check_container(&value)?;
        Ok(ContainerId { value, parent: None })
    }

    /// The id of the container `value` inside `parent`.
    pub fn nested(parent: ContainerId, value: impl Into<String>) -> Result<ContainerId, IdError> {
        let value = value.into();
        check_container(&value)?;
        if parent.depth() >= MAX_CONTAINER_DEPTH {
            return Err(IdError::TooDeep);
        }
        Ok(ContainerId { value, parent: Some(Box::new(parent)) })
    }

    /// The innermost level.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The id of the container around this one.
    pub fn parent(&self) -> Option<&ContainerId> {
        self.parent.as_deref()
    }

    /// Whether this container is in another.
    pub fn is_nested(&self) -> bool {
        self.parent.is_some()
    }

    /// The outermost container around this one, or this one itself.
    pub fn root(&self) -> &ContainerId {
        let mut id = self;
        while let Some(parent) = id.parent() {
            id = parent;
        }
        id
    }

    /// How many levels there are: 1 for a container that is in no other.
    pub fn depth(&self) -> usize {
        self.ancestors().count() + 1
    }

    /// The containers around this one, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = &ContainerId> {
        std::iter::successors(self.parent(), |id| id.parent())
    }

    /// Whether `other` is inside this container, at any depth.
    pub fn contains(&self, other: &ContainerId) -> bool {
        other.ancestors().any(|id| id == self)
    }

    /// The values of all levels, the outermost first.
    pub fn levels(&self) -> Vec<&str> {
        let mut levels: Vec<&str> = std::iter::once(self).chain(self.ancestors()).map(Self::value).collect();
        levels.reverse();
        levels
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.levels().join("."))
    }
}

impl FromStr for ContainerId {
    type Err = IdError;

    /// Reads the dotted text. Errors speak of the level that is wrong.
    fn from_str(text: &str) -> Result<ContainerId, IdError> {
        let mut levels = text.split('.');
        // `split` yields at least one item, also for the empty text.
        let mut id = ContainerId::new(levels.next().unwrap_or_default())?;
        for value in levels {
            id = ContainerId::nested(id, value)?;
        }
        Ok(id)
    }
}

impl Ord for ContainerId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.levels().cmp(&other.levels())
    }
}

impl PartialOrd for ContainerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

macro_rules! plain_id {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "RawId")]
        pub struct $Name {
            value: String,
        }

        impl $Name {
            /// Checks the rules that all ids share.
            pub fn new(value: impl Into<String>) -> Result<$Name, IdError> {
                let value = value.into();
                check_common(&value)?;
                Ok($Name { value })
            }

            /// The text of the id.
            pub fn value(&self) -> &str {
                &self.value
            }
        }

        impl TryFrom<RawId> for $Name {
            type Error = IdError;

            fn try_from(raw: RawId) -> Result<$Name, IdError> {
                $Name::new(raw.value)
            }
        }

        impl FromStr for $Name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<$Name, IdError> {
                $Name::new(text)
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.value)
            }
        }
    };
}

/// The message of a plain id as it comes, before it is checked.
#[derive(Deserialize)]
struct RawId {
    value: String,
}

plain_id! {
    /// The name of a task, given by its framework.
    TaskId
}
plain_id! {
    /// The name of an executor, unique within its framework on one agent.
    ExecutorId
}
plain_id! {
    /// The name of a framework, given by the master.
    FrameworkId
}
plain_id! {
    /// The name of an agent, given by the master.
    AgentId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_text_goes_from_the_root_to_the_leaf() {
        let id: ContainerId = "pod.app.debug".parse().unwrap();
        assert_eq!(id.value(), "debug");
        assert_eq!(id.parent().unwrap().to_string(), "pod.app");
        assert_eq!(id.root().to_string(), "pod");
        assert_eq!(id.depth(), 3);
        assert_eq!(id.levels(), ["pod", "app", "debug"]);
        assert_eq!(id.to_string(), "pod.app.debug");
        assert!(id.root().contains(&id) && !id.contains(id.root()) && !id.contains(&id));
    }

    #[test]
    fn errors_have_the_words_of_mesos() {
        let says = |value: &str| ContainerId::new(value).unwrap_err().to_string();
        assert_eq!(says(""), "ID must not be empty");
        assert_eq!(says(".."), "'..' is disallowed");
        assert_eq!(says("a/b"), "'a/b' contains invalid characters");
        assert_eq!(says("a\\b"), "'a\\b' contains invalid characters");
        assert_eq!(says("a\n"), "'a\n' contains invalid characters");
        assert_eq!(says("a b"), "'ContainerID.value' 'a b' contains invalid characters");
        assert_eq!(says("a.b"), "'ContainerID.value' 'a.b' contains invalid characters");
        assert_eq!(says(&"x".repeat(256)), "ID must not be greater than 255 characters");
        let long = "x".repeat(243);
        assert_eq!(says(&long), format!("'ContainerID.value' '{long}' exceeds the maximum length (242)"));
        assert!(ContainerId::new("x".repeat(242)).is_ok());
        assert!(TaskId::new("x".repeat(255)).is_ok() && TaskId::new("a.b c").is_ok());
        assert_eq!("a..b".parse::<ContainerId>().unwrap_err(), IdError::Empty);
    }

    #[test]
    fn json_nests_parents_and_is_checked() {
        let id: ContainerId =
            serde_json::from_str(r#"{"value":"b","parent":{"value":"a"},"new":1}"#).unwrap();
        assert_eq!(id.to_string(), "a.b");
        assert_eq!(serde_json::to_string(&id).unwrap(), r#"{"value":"b","parent":{"value":"a"}}"#);
        let wrong = r#"{"value":"c","parent":{"value":"b","parent":{"value":"a b"}}}"#;
        let error = serde_json::from_str::<ContainerId>(wrong).unwrap_err().to_string();
        let inner = "'ContainerID.value' 'a b' contains invalid characters";
        assert!(
            error.starts_with(&format!(
                "'ContainerID.parent' is invalid: 'ContainerID.parent' is invalid: {inner}"
            )),
            "{error}"
        );
    }

    #[test]
    fn a_container_sorts_right_before_those_inside_it() {
        let mut ids: Vec<ContainerId> =
            ["b", "a-c", "a.b", "a", "a.b.c", "b.a"].map(|text| text.parse().unwrap()).into();
        ids.sort();
        let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a", "a.b", "a.b.c", "a-c", "b", "b.a"]);
    }

    #[test]
    fn depth_is_bounded_so_that_hostile_ids_can_not_exhaust_the_stack() {
        let deepest = vec!["a"; MAX_CONTAINER_DEPTH].join(".");
        assert_eq!(deepest.parse::<ContainerId>().unwrap().depth(), MAX_CONTAINER_DEPTH);
        assert_eq!((deepest + ".a").parse::<ContainerId>(), Err(IdError::TooDeep));
        assert_eq!(vec!["a"; 1_000_000].join(".").parse::<ContainerId>(), Err(IdError::TooDeep));
    }
}
