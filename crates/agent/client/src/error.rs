// SPDX-License-Identifier: Apache-2.0
//! Why a question to an agent was not answered. Each error says on which socket what was tried, and what to do.

use std::io;
use std::path::PathBuf;

use berth_model::Class;

/// A question that was not answered, or not with what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error(
        "no agent answers on {socket} ({why}): start one with `berth agent`, or name its socket with --socket or BERTH_SOCKET"
    )]
    NoAgent {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
    /// Somebody is there, but not for us.
    #[error("may not connect to the agent on {socket} ({why}): be root, or in the group of that socket")]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
    /// A connection can not be had for another reason.
    #[error("connect to the agent on {socket} ({why}): see whether it is overloaded, or the path right")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
    /// The connection ended before the answer did.
    #[error("the agent on {socket} went away during {call} ({why}): see whether it runs, and ask again")]
    Lost {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        call: &'static str,
        /// How that showed.
        why: String,
    },
    /// The agent said no.
    #[error("{text}")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// The status of HTTP.
        status: u16,
        /// The agent's words.
        text: String,
    },
    /// The answer is none that an agent gives.
    #[error(
        "what answers on {socket} is no agent that this program knows: {call} gave {why}; see `berth version`"
    )]
    Strange {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        call: &'static str,
        /// What came.
        why: String,
    },
    /// No runtime.
    #[error("make an event loop ({why}): close some files or raise `ulimit -n`")]
    Runtime {
        /// What the kernel said.
        why: io::Error,
    },
}

impl Error {
    pub(crate) fn connect(socket: PathBuf, why: io::Error) -> Error {
        use io::ErrorKind as Kind;
        match why.kind() {
            Kind::NotFound | Kind::ConnectionRefused | Kind::NotADirectory => Error::NoAgent { socket, why },
            Kind::PermissionDenied => Error::Denied { socket, why },
            _ => Error::Connect { socket, why },
        }
    }

    /// What kind of failure it is. A refusal's is told by its status, as the agent made it from the class.
    pub fn class(&self) -> Class {
        match self {
            Error::NoAgent { .. } => Class::NotFound,
            Error::Denied { .. } => Class::Denied,
            Error::Connect { why, .. } | Error::Runtime { why } => Class::of_io(why),
            Error::Lost { .. } => Class::Gone,
            Error::Strange { .. } => Class::Unsupported,
            Error::Refused { status, .. } => match status {
                401 | 403 => Class::Denied,
                404 => Class::NotFound,
                409 => Class::Conflict,
                410 => Class::Gone,
                501 => Class::Unsupported,
                503 => Class::Exhausted,
                400..=499 => Class::Invalid,
                _ => Class::Internal,
            },
        }
    }

    /// Whether there is no agent at all.
    pub fn is_no_agent(&self) -> bool {
        matches!(self, Error::NoAgent { .. })
    }

    /// Whether the agent does not know the container, or the one that a session was to be in: a launch that is refused
    /// for that has the status of all refused launches.
    pub fn is_unknown(&self) -> bool {
        let Error::Refused { text, .. } = self else { return false };
        let no_parent = text.starts_with("Parent container ") && text.ends_with(" does not exist");
        self.class() == Class::NotFound || no_parent
    }

    /// For a refused launch: whether the program could not be executed, and then with which code of a shell: 127 when
    /// it was not found, 126 otherwise. All refused launches have the same status, so the words decide.
    pub fn execute_code(&self) -> Option<u8> {
        let Error::Refused { text, .. } = self else { return None };
        let (_, why) = text.split_once("can not execute ")?;
        let missing = ["No such file or directory", "Not a directory"];
        Some(if missing.iter().any(|words| why.contains(words)) { 127 } else { 126 })
    }
}
