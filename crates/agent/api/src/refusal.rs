// SPDX-License-Identifier: Apache-2.0
//! How a request fails: a status and a text. Here is the one table from classes of errors to statuses.

use std::fmt;

use berth_model::{Class, ContainerId};
use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderName, HeaderValue, WWW_AUTHENTICATE};

/// A request that is refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    text: Text,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    /// The status itself: `404 Not Found.`
    Bare,
    /// None at all, as for files that do not exist.
    Empty,
    Of(String),
}

impl Refusal {
    /// A status with a text of its own.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: Text::Of(text.into()), header: None }
    }

    /// A status and nothing more to say.
    pub fn bare(status: StatusCode) -> Refusal {
        Refusal { status, text: Text::Bare, header: None }
    }

    /// A status with an empty body.
    pub fn empty(status: StatusCode) -> Refusal {
        Refusal { status, text: Text::Empty, header: None }
    }

    /// What failed with an error of this class.
    pub fn of(class: Class, text: impl Into<String>) -> Refusal {
        Refusal::new(status_of(class), text)
    }

    /// The request itself is wrong.
    pub fn bad_request(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, text)
    }

    /// The agent or the host failed.
    pub fn failed(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// There is no such container, for all calls but a kill.
    pub fn no_container(id: &ContainerId) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, format!("Container {id} cannot be found"))
    }

    /// There is no such container to kill.
    pub fn no_container_to_kill(id: &ContainerId) -> Refusal {
        let text = format!("Container '{id}' cannot be found (or is already killed)");
        Refusal::new(StatusCode::NOT_FOUND, text)
    }

    /// No containerizer takes such a container.
    pub fn unsupported_container() -> Refusal {
        Refusal::bad_request("The provided ContainerInfo is not supported")
    }

    /// Somebody else sends input already.
    pub fn second_input() -> Refusal {
        Refusal::new(StatusCode::CONFLICT, "Multiple input connections are not allowed")
    }

    /// The caller may not do this.
    pub fn forbidden() -> Refusal {
        Refusal::bare(StatusCode::FORBIDDEN)
    }

    /// The caller has not said who it is; `challenge` says how to.
    pub fn unauthorized(challenge: HeaderValue) -> Refusal {
        Refusal { header: Some((WWW_AUTHENTICATE, challenge)), ..Refusal::bare(StatusCode::UNAUTHORIZED) }
    }

    /// Another method than the one that is expected.
    pub fn method(expected: &'static str, received: &hyper::Method) -> Refusal {
        let text = format!(
            "405 Method Not Allowed. Expecting one of {{ '{expected}' }}, but received '{received}'."
        );
        let allow = Some((ALLOW, HeaderValue::from_static(expected)));
        Refusal { header: allow, ..Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text) }
    }

    /// The work for a request ended without an answer.
    pub(crate) fn discarded() -> Refusal {
        Refusal::failed("discarded future")
    }

    /// The same, with a header.
    pub fn with_header(self, name: HeaderName, value: HeaderValue) -> Refusal {
        Refusal { header: Some((name, value)), ..self }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A header beside the text.
    pub(crate) fn header(&self) -> Option<&(HeaderName, HeaderValue)> {
        self.header.as_ref()
    }

    /// The class that the status stands for.
    pub fn class(&self) -> Class {
        match self.status {
            StatusCode::NOT_FOUND => Class::NotFound,
            StatusCode::CONFLICT => Class::Conflict,
            StatusCode::GONE => Class::Gone,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Class::Denied,
            StatusCode::NOT_IMPLEMENTED => Class::Unsupported,
            StatusCode::SERVICE_UNAVAILABLE => Class::Exhausted,
            status if status.is_client_error() => Class::Invalid,
            _ => Class::Internal,
        }
    }
}

/// The body.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Text::Of(text) => f.write_str(text),
            Text::Empty => Ok(()),
            Text::Bare => {
                let reason = self.status.canonical_reason().unwrap_or("Unknown");
                write!(f, "{} {reason}.", self.status.as_str())
            }
        }
    }
}

impl std::error::Error for Refusal {}

const fn status_of(class: Class) -> StatusCode {
    match class {
        Class::NotFound => StatusCode::NOT_FOUND,
        Class::Conflict => StatusCode::CONFLICT,
        Class::Invalid => StatusCode::BAD_REQUEST,
        Class::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Class::Exhausted => StatusCode::SERVICE_UNAVAILABLE,
        Class::Gone => StatusCode::GONE,
        Class::Denied => StatusCode::FORBIDDEN,
        Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_alone_says_its_number_and_its_name() {
        let says = |status| Refusal::bare(StatusCode::from_u16(status).unwrap()).to_string();
        let all = [
            (400, "400 Bad Request."),
            (401, "401 Unauthorized."),
            (403, "403 Forbidden."),
            (404, "404 Not Found."),
            (406, "406 Not Acceptable."),
            (409, "409 Conflict."),
            (415, "415 Unsupported Media Type."),
            (500, "500 Internal Server Error."),
            (501, "501 Not Implemented."),
            (503, "503 Service Unavailable."),
        ];
        for (status, text) in all {
            assert_eq!(says(status), text);
        }
    }

    #[test]
    fn a_class_survives_the_way_through_a_status() {
        let classes = [
            Class::NotFound,
            Class::Conflict,
            Class::Invalid,
            Class::Unsupported,
            Class::Exhausted,
            Class::Gone,
            Class::Denied,
            Class::Internal,
        ];
        for class in classes {
            assert_eq!(Refusal::of(class, "x").class(), class);
        }
    }

    #[test]
    fn texts_of_containers_are_those_of_mesos() {
        let id: ContainerId = "a.b".parse().unwrap();
        assert_eq!(Refusal::no_container(&id).to_string(), "Container a.b cannot be found");
        assert_eq!(
            Refusal::no_container_to_kill(&id).to_string(),
            "Container 'a.b' cannot be found (or is already killed)"
        );
        assert_eq!(Refusal::empty(StatusCode::NOT_FOUND).to_string(), "");
    }
}
