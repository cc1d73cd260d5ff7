// SPDX-License-Identifier: Apache-2.0
//! Roles: who a resource is reserved for or allocated to. A role is `*` (anyone) or a path of names, `eng/web`.

use crate::Class;

/// The role of resources that are reserved for nobody.
pub const ANYONE: &str = "*";

/// Why a text is not a role. The messages are Mesos's, to the letter, because operators search for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// No text at all.
    #[error("Role names cannot be the empty string")]
    Empty,
    /// `/eng`.
    #[error("Role '{0}' cannot start with a slash")]
    StartsWithSlash(String),
    /// `eng/`.
    #[error("Role '{0}' cannot end with a slash")]
    EndsWithSlash(String),
    /// `eng//web`.
    #[error("Role '{0}' cannot contain two adjacent slashes")]
    AdjacentSlashes(String),
    /// `.`, `..` or `*` as one name of the path.
    #[error("Role '{role}' cannot include '{component}' as a component")]
    Component {
        /// The whole role.
        role: String,
        /// The name that is refused.
        component: String,
    },
    /// `-eng`: would look like an option in scripts.
    #[error("Role component '{0}' is invalid because it starts with a dash")]
    Dash(String),
    /// White space or a delete character.
    #[error("Role component '{0}' is invalid because it contains backspace or whitespace")]
    Whitespace(String),
}

impl RoleError {
    /// A wrong role is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Checks that a text is a role.
pub fn validate(role: &str) -> Result<(), RoleError> {
    if role == ANYONE {
        return Ok(());
    }
    if role.is_empty() {
        return Err(RoleError::Empty);
    }
    if role.starts_with('/') {
        return Err(RoleError::StartsWithSlash(role.to_owned()));
    }
    if role.ends_with('/') {
        return Err(RoleError::EndsWithSlash(role.to_owned()));
    }
    if role.contains("//") {
        return Err(RoleError::AdjacentSlashes(role.to_owned()));
    }
    role.split('/').try_for_each(|component| validate_component(role, component))
}

/// Whether `role` is below `ancestor`: `eng/web` is below `eng`, `eng` and `engine` are not.
pub fn is_strictly_below(role: &str, ancestor: &str) -> bool {
    role.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

fn validate_component(role: &str, component: &str) -> Result<(), RoleError> {
    if matches!(component, "." | ".." | ANYONE) {
        return Err(RoleError::Component { role: role.to_owned(), component: component.to_owned() });
    }
    if component.starts_with('-') {
        return Err(RoleError::Dash(component.to_owned()));
    }
    if component.contains(|letter| matches!(letter, '\t'..='\r' | ' ' | '\x7f')) {
        return Err(RoleError::Whitespace(component.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_of_names_are_roles() {
        for role in ["*", "eng", "eng/web", "a.b", "a-b", "...", "a*", "ä"] {
            assert_eq!(validate(role), Ok(()), "{role}");
        }
    }

    #[test]
    fn wrong_roles_are_refused_in_the_words_of_mesos() {
        let cases = [
            ("", "Role names cannot be the empty string"),
            ("/", "Role '/' cannot start with a slash"),
            ("/a", "Role '/a' cannot start with a slash"),
            ("a/", "Role 'a/' cannot end with a slash"),
            ("a//b", "Role 'a//b' cannot contain two adjacent slashes"),
            (".", "Role '.' cannot include '.' as a component"),
            ("..", "Role '..' cannot include '..' as a component"),
            ("a/../b", "Role 'a/../b' cannot include '..' as a component"),
            ("a/*", "Role 'a/*' cannot include '*' as a component"),
            ("a/-b", "Role component '-b' is invalid because it starts with a dash"),
            ("a b", "Role component 'a b' is invalid because it contains backspace or whitespace"),
            ("a\x0bb", "Role component 'a\x0bb' is invalid because it contains backspace or whitespace"),
        ];
        for (role, text) in cases {
            let error = validate(role).unwrap_err();
            assert_eq!(error.to_string(), text);
            assert_eq!(error.class(), Class::Invalid);
        }
    }

    #[test]
    fn only_a_longer_path_is_below_a_role() {
        assert!(is_strictly_below("eng/web", "eng"));
        assert!(is_strictly_below("eng/web/a", "eng"));
        for (role, ancestor) in [("eng", "eng"), ("engine", "eng"), ("eng", "eng/web"), ("ops/web", "eng")] {
            assert!(!is_strictly_below(role, ancestor), "{role} {ancestor}");
        }
    }
}
