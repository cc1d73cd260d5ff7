// SPDX-License-Identifier: Apache-2.0
//! What kind of failure an error is. Each face (exit codes, HTTP, gRPC) has one table from here to its own
//! codes, and nothing else decides them.

use std::fmt;

/// The class of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// What was named does not exist.
    NotFound,
    /// It exists already, or another operation holds it.
    Conflict,
    /// The request itself is wrong; repeating it unchanged will fail again.
    Invalid,
    /// The request is right, but this build, kernel or containerizer can not do it.
    Unsupported,
    /// Space, descriptors, ids or another finite thing ran out.
    Exhausted,
    /// It existed and is no more.
    Gone,
    /// The caller or this process lacks a permission.
    Denied,
    /// A fault of ours or of the host.
    Internal,
}

impl Class {
    /// The class that an error number of the kernel belongs to when nothing else is known.
    pub fn of_io(error: &std::io::Error) -> Class {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound => Class::NotFound,
            Kind::AlreadyExists | Kind::ResourceBusy | Kind::WouldBlock => Class::Conflict,
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Class::Denied,
            Kind::StorageFull | Kind::QuotaExceeded | Kind::OutOfMemory => Class::Exhausted,
            Kind::InvalidInput | Kind::InvalidData => Class::Invalid,
            Kind::Unsupported => Class::Unsupported,
            _ => Class::Internal,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::NotFound => "not found",
            Class::Conflict => "conflict",
            Class::Invalid => "invalid",
            Class::Unsupported => "unsupported",
            Class::Exhausted => "exhausted",
            Class::Gone => "gone",
            Class::Denied => "denied",
            Class::Internal => "internal",
        })
    }
}
