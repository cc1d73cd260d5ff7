// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between us and a registry.
//!
//! Every message names the request or the setting, the reason, and what to do. Text that a registry sent is cut
//! and escaped ([`said`]); addresses are shown without their query, headers never.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use berth_image::PullError;
use berth_model::Class;

use crate::address::Zone;
use crate::config::ConfigError;
use crate::credentials::CredentialError;
use crate::url::UrlError;

/// An error of the registry client.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The caller's [`berth_image::Cancel`] was said.
    #[error("{what} was cancelled")]
    Cancelled {
        /// What was under way.
        what: String,
    },
    /// The host has no address.
    #[error("{what}: the name '{host}' has no address; check the name, and this host's resolver")]
    Resolve {
        /// What was tried.
        what: String,
        /// The host.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// An address that whoever chose it may not send us to.
    #[error("{what}: '{host}' is at the {zone} address {address}, where {who} may not send us; {advice}")]
    Address {
        /// What was tried.
        what: String,
        /// The host.
        host: String,
        /// Its address.
        address: IpAddr,
        /// Where that lies.
        zone: Zone,
        /// Who chose the host.
        who: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// No connection.
    #[error("{what}: connect to {to}; is it running, and reachable from here?")]
    Connect {
        /// What was tried.
        what: String,
        /// The machine or proxy.
        to: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The other side is not who it should be, or speaks no TLS.
    #[error(
        "{what}: no secure connection: {why}; set `ca` in its section of registries.toml for a private authority, or `plain_http = true` if it speaks no TLS"
    )]
    Tls {
        /// What was tried.
        what: String,
        /// What the TLS library said.
        why: String,
    },
    /// Nothing, or next to nothing, came for too long.
    #[error("{what}: no progress for {} s ({got} bytes); the registry or the network hangs", after.as_secs_f32())]
    Stalled {
        /// What was tried.
        what: String,
        /// How long.
        after: Duration,
        /// How much came in that time.
        got: u64,
    },
    /// The connection broke.
    #[error("{what}: the connection broke; try again")]
    Broken {
        /// What was tried.
        what: String,
        /// How.
        #[source]
        source: io::Error,
    },
    /// An answer that breaks HTTP or the registry's protocol.
    #[error("{what}: the answer is refused: {why}")]
    Answer {
        /// What was tried.
        what: String,
        /// Which rule it breaks.
        why: String,
    },
    /// A redirect that is not followed.
    #[error("{what}: the redirect to {to} is refused: {why}")]
    Redirect {
        /// What was tried.
        what: String,
        /// Where it leads.
        to: String,
        /// Why it is not followed.
        why: String,
    },
    /// A token server that is not asked.
    #[error("{what}: the registry wants a token from '{realm}', which is refused: {why}")]
    Realm {
        /// What was tried.
        what: String,
        /// The realm of its challenge.
        realm: String,
        /// Why.
        why: String,
    },
    /// The registry or its token server says no.
    #[error("{what}: refused with status {status}{said}; {advice}")]
    Denied {
        /// What was tried.
        what: String,
        /// The status.
        status: u16,
        /// What the registry said.
        said: String,
        /// What to do.
        advice: String,
    },
    /// The registry does not have it.
    #[error("{what}: not found{said}; check the name and the tag")]
    NotFound {
        /// What was tried.
        what: String,
        /// What the registry said.
        said: String,
    },
    /// Any other status.
    #[error("{what}: answered with status {status}{said}")]
    Status {
        /// What was tried.
        what: String,
        /// The status.
        status: u16,
        /// What the registry said.
        said: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// None of the hosts had it.
    #[error("{what}: none of the {} hosts could serve it: {}", tried.len(), tried.join("; "))]
    Everywhere {
        /// What was tried.
        what: String,
        /// One line for each host.
        tried: Vec<String>,
        /// The class of the last error.
        class: Class,
    },
    /// The content differs from its digest.
    #[error("{what}: the registry sent {found} instead of {wanted}; it is corrupt or lies")]
    Digest {
        /// What was tried.
        what: String,
        /// What was asked for.
        wanted: String,
        /// What came.
        found: String,
    },
    /// Not something that can be spoken to.
    #[error("the address '{url}' in {from} is refused: {source}")]
    Url {
        /// The address.
        url: String,
        /// Where it stands.
        from: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// Reading what is to be pushed failed.
    #[error("{what}: read the content to send")]
    Read {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Credentials could not be had.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// Another requester of the same thing got this error.
    #[error(transparent)]
    Shared(#[from] std::sync::Arc<RegistryError>),
}

impl RegistryError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            RegistryError::Cancelled { .. } => Class::Conflict,
            RegistryError::Resolve { .. }
            | RegistryError::Connect { .. }
            | RegistryError::Stalled { .. }
            | RegistryError::Broken { .. } => Class::Internal,
            RegistryError::Status { status: 429 | 507, .. } => Class::Exhausted,
            RegistryError::Status { .. } => Class::Internal,
            RegistryError::Read { source, .. } => Class::of_io(source),
            RegistryError::Address { .. } | RegistryError::Realm { .. } | RegistryError::Redirect { .. } => {
                Class::Denied
            }
            RegistryError::Denied { .. } => Class::Denied,
            RegistryError::NotFound { .. } => Class::NotFound,
            RegistryError::Everywhere { class, .. } => *class,
            RegistryError::Tls { .. }
            | RegistryError::Answer { .. }
            | RegistryError::Digest { .. }
            | RegistryError::Url { .. } => Class::Invalid,
            RegistryError::Config(error) => error.class(),
            RegistryError::Credentials(error) => error.class(),
            RegistryError::Shared(error) => error.class(),
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            RegistryError::Resolve { .. }
            | RegistryError::Connect { .. }
            | RegistryError::Stalled { .. }
            | RegistryError::Broken { .. } => true,
            // 401 is a status only for what could not be sent twice at once (`Session::ask`).
            RegistryError::Status { status, .. } => {
                matches!(status, 401 | 408 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            RegistryError::Shared(error) => error.is_transient(),
            _ => false,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            RegistryError::Cancelled { .. } => true,
            RegistryError::Shared(error) => error.is_cancelled(),
            _ => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::Status { retry_after, .. } => *retry_after,
            RegistryError::Shared(error) => error.retry_after(),
            _ => None,
        }
    }

    /// As the store's kind of error, where `from` is what the source calls itself.
    pub(crate) fn into_pull(self, from: &str) -> PullError {
        match self {
            error if error.is_cancelled() => PullError::Cancelled { from: from.to_owned() },
            error => PullError::Other { class: error.class(), source: Box::new(error) },
        }
    }

    /// The whole chain in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let more = error.to_string();
            // A transparent error tells its source's text as its own.
            if !text.ends_with(&more) {
                text = format!("{text}: {more}");
            }
            next = error.source();
        }
        text
    }
}

/// What a registry said of an error, for a message: its own `code: message` pairs, else nothing. Cut and escaped,
/// since it ends on a person's terminal.
pub(crate) fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
        #[serde(default)]
        details: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    let Ok(Errors { errors, details }) = serde_json::from_slice::<Errors>(body) else { return String::new() };
    let mut lines: Vec<String> = errors
        .into_iter()
        .take(3)
        .map(|one| match (one.code, one.message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (one, other) => one.or(other).unwrap_or_default(),
        })
        .collect();
    lines.extend(details);
    let text = lines.join("; ");
    if text.is_empty() { text } else { format!(" ({})", cut(&text, 200)) }
}

/// A text of somebody else's for a message.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).flat_map(char::escape_debug).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_cut_and_escaped() {
        let body = r#"{"errors":[{"code":"DENIED","message":"no \u001b[31m"},{"code":"X"}]}"#;
        assert_eq!(said(body.as_bytes()), " (DENIED: no \\u{1b}[31m; X)");
        assert_eq!(said(b"<html>"), "");
        assert_eq!(
            said(br#"{"details":"incorrect username or password"}"#),
            " (incorrect username or password)"
        );
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(9000));
        assert!(said(long.as_bytes()).len() < 300);
    }
}
