// SPDX-License-Identifier: Apache-2.0
//! The command of a container: what to fetch, what to run, with which environment.

use crate::Secret;
use crate::wire::{message, wire_enum};

message! {
    /// A command line and what it needs.
    pub struct CommandInfo {
        /// What to bring into the sandbox first.
        uris: Vec<Uri>,
        /// Variables that override the container's.
        environment: Environment,
        /// With `shell` a line for `/bin/sh -c`, else the path of an executable.
        value: Option<String>,
        /// The user to run as.
        user: Option<String>,
        /// Whether `value` is a line for the shell.
        shell: bool = true,
        /// Without `shell`: all arguments, the zeroth (the name) included.
        arguments: Vec<String>,
        /// Where it starts, an absolute path inside; none: the sandbox, or where the parent of a nested one started.
        working_directory: Option<String>,
    }
}

message! {
    /// Something to fetch into the sandbox.
    pub struct Uri {
        /// Where it is.
        value: String,
        /// Whether to make it executable; such a file is not unpacked.
        executable: Option<bool>,
        /// Whether to unpack it when its name is that of an archive.
        extract: bool = true,
        /// Whether to keep it for other containers.
        cache: Option<bool>,
        /// The name in the sandbox, instead of the last part of `value`.
        output_file: Option<String>,
    }
}

message! {
    /// Environment variables in order; a later one of the same name wins.
    pub struct Environment {
        /// The variables.
        variables: Vec<Variable>,
    }
}

message! {
    /// One environment variable.
    pub struct Variable {
        /// The name.
        name: String,
        /// The value, for [`VariableType::Value`].
        value: Option<String>,
        /// Which of the other two fields counts.
        r#type: VariableType,
        /// The value, for [`VariableType::Secret`].
        secret: Option<Secret>,
    }
}

wire_enum! {
    /// How the value of a variable is given.
    #[derive(Default)]
    pub enum VariableType {
        /// Not known.
        Unknown = 0 => "UNKNOWN",
        /// As it stands.
        #[default]
        Value = 1 => "VALUE",
        /// As a secret.
        Secret = 2 => "SECRET",
    }
}
