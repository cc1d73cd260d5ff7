// SPDX-License-Identifier: Apache-2.0
//! Commands: only their environment can be wrong by itself.

use crate::v1::environment::{Variable, variable::Type};
use crate::v1::{CommandInfo, Secret, secret};

/// What is wrong with a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it all")]
pub enum CommandInvalid {
    #[error("Environment variable '{0}' of type 'SECRET' must have a secret set")]
    NoSecret(String),
    #[error("Environment variable '{0}' of type 'SECRET' must not have a value set")]
    SecretWithValue(String),
    #[error("Environment variable '{name}' specifies an invalid secret: {error}")]
    Secret { name: String, error: SecretInvalid },
    #[error(
        "Environment variable '{0}' specifies a secret containing null bytes, which is not allowed in the environment"
    )]
    SecretWithNul(String),
    #[error("Environment variable '{0}' of type 'VALUE' must have a value set")]
    NoValue(String),
    #[error("Environment variable '{0}' of type 'VALUE' must not have a secret set")]
    ValueWithSecret(String),
    #[error("Environment variable of type 'UNKNOWN' is not allowed")]
    UnknownType,
}

/// What is wrong with a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it all")]
pub enum SecretInvalid {
    #[error("Secret of type REFERENCE must have the 'reference' field set")]
    NoReference,
    #[error("Secret '{0}' of type REFERENCE must not have the 'value' field set")]
    ReferenceWithValue(String),
    #[error("Secret of type VALUE must have the 'value' field set")]
    NoValue,
    #[error("Secret of type VALUE must not have the 'reference' field set")]
    ValueWithReference,
    #[error("Secret of type UNKNOWN is not allowed; use REFERENCE or VALUE")]
    UnknownType,
}

/// Checks a command.
///
/// # Errors
/// What is wrong with it.
pub fn validate(command: &CommandInfo) -> Result<(), CommandInvalid> {
    command.environment.iter().flat_map(|environment| &environment.variables).try_for_each(variable)
}

fn variable(variable: &Variable) -> Result<(), CommandInvalid> {
    let name = || variable.name.clone();
    // An unset or unknown type is the default, which is VALUE.
    match variable.r#type() {
        Type::Unknown => Err(CommandInvalid::UnknownType),
        Type::Value if variable.value.is_none() => Err(CommandInvalid::NoValue(name())),
        Type::Value if variable.secret.is_some() => Err(CommandInvalid::ValueWithSecret(name())),
        Type::Value => Ok(()),
        Type::Secret => {
            let secret = variable.secret.as_ref().ok_or_else(|| CommandInvalid::NoSecret(name()))?;
            if variable.value.is_some() {
                return Err(CommandInvalid::SecretWithValue(name()));
            }
            check_secret(secret).map_err(|error| CommandInvalid::Secret { name: name(), error })?;
            let has_nul = secret.value.as_ref().is_some_and(|value| value.data.contains(&0));
            if has_nul { Err(CommandInvalid::SecretWithNul(name())) } else { Ok(()) }
        }
    }
}

/// Whether the field that the type names is set, and no other.
pub(super) fn check_secret(secret: &Secret) -> Result<(), SecretInvalid> {
    match (secret.r#type(), &secret.reference, &secret.value) {
        (secret::Type::Reference, None, _) => Err(SecretInvalid::NoReference),
        (secret::Type::Reference, Some(reference), Some(_)) => {
            Err(SecretInvalid::ReferenceWithValue(reference.name.clone()))
        }
        (secret::Type::Value, _, None) => Err(SecretInvalid::NoValue),
        (secret::Type::Value, Some(_), Some(_)) => Err(SecretInvalid::ValueWithReference),
        (secret::Type::Unknown, ..) => Err(SecretInvalid::UnknownType),
        _ => Ok(()),
    }
}
