// SPDX-License-Identifier: Apache-2.0
//! Who asks: the first step of every request to what has a realm.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_model::{Class, SecretBytes};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Deserialize;

use crate::Refusal;

/// What a caller authenticates for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Realm {
    /// Looking: `mesos-agent-readonly`.
    ReadOnly,
    /// The API: `mesos-agent-readwrite`.
    ReadWrite,
    /// Looking at the master of one node: `mesos-master-readonly`.
    OfMasterReadOnly,
    /// Its API: `mesos-master-readwrite`.
    OfMasterReadWrite,
    /// Its schedulers: `mesos-master-scheduler`.
    OfMasterScheduler,
}

impl Realm {
    /// The name in challenges.
    pub const fn name(self) -> &'static str {
        match self {
            Realm::ReadOnly => "mesos-agent-readonly",
            Realm::ReadWrite => "mesos-agent-readwrite",
            Realm::OfMasterReadOnly => "mesos-master-readonly",
            Realm::OfMasterReadWrite => "mesos-master-readwrite",
            Realm::OfMasterScheduler => "mesos-master-scheduler",
        }
    }
}

/// Tells who a caller is.
pub trait Authenticate: Send + Sync + 'static {
    /// The principal, none where this realm lets everybody through; or [`Refusal::unauthorized`].
    fn authenticate(&self, realm: Realm, authorization: Option<&str>) -> Result<Option<String>, Refusal>;
}

pub(crate) fn principal(
    authenticate: Option<&dyn Authenticate>,
    realm: Realm,
    headers: &HeaderMap,
) -> Result<Option<String>, Refusal> {
    let Some(authenticate) = authenticate else { return Ok(None) };
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    authenticate.authenticate(realm, authorization)
}

/// A name and its password.
#[derive(Debug, Clone, Deserialize)]
pub struct Credential {
    principal: String,
    #[serde(deserialize_with = "secret")]
    secret: SecretBytes,
}

fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<SecretBytes, D::Error> {
    String::deserialize(from).map(|text| SecretBytes::new(text.into_bytes()))
}

/// Why `--http_credentials` can not be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "credentials are not valid JSON ({reason}); write {{\"credentials\":[{{\"principal\":\"...\",\"secret\":\"...\"}}]}}"
)]
pub struct CredentialsError {
    /// What serde says, without what it read.
    reason: String,
}

impl CredentialsError {
    /// A wrong file is a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// HTTP's basic authentication (RFC 7617) in the realms that ask for it.
#[derive(Debug)]
pub struct HttpBasic {
    credentials: Vec<Credential>,
    realms: Vec<Realm>,
}

impl HttpBasic {
    /// Of the contents of `--http_credentials`, for the realms whose flag is set.
    pub fn new(json: &[u8], realms: impl Into<Vec<Realm>>) -> Result<HttpBasic, CredentialsError> {
        #[derive(Deserialize)]
        struct File {
            credentials: Vec<Credential>,
        }
        // Only where it is wrong, since the words of serde may quote a secret.
        let file: File = serde_json::from_slice(json).map_err(|error| CredentialsError {
            reason: format!("line {} column {}", error.line(), error.column()),
        })?;
        Ok(HttpBasic { credentials: file.credentials, realms: realms.into() })
    }

    fn principal(&self, authorization: &str) -> Option<String> {
        let (scheme, encoded) = authorization.split_once(' ')?;
        if scheme != "Basic" {
            return None;
        }
        let decoded = STANDARD.decode(encoded).ok()?;
        let mut parts = decoded.split(|byte| *byte == b':');
        let (Some(user), Some(secret), None) = (parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let is_it = |known: &&Credential| {
            // Both are looked at to the end, so that the time tells nothing.
            same(known.principal.as_bytes(), user) & same(known.secret.expose_secret(), secret)
        };
        self.credentials.iter().find(is_it).map(|known| known.principal.clone())
    }
}

/// Whether two texts are the same, in a time that depends on their lengths only.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

impl Authenticate for HttpBasic {
    fn authenticate(&self, realm: Realm, authorization: Option<&str>) -> Result<Option<String>, Refusal> {
        if !self.realms.contains(&realm) {
            return Ok(None);
        }
        match authorization.and_then(|authorization| self.principal(authorization)) {
            Some(principal) => Ok(Some(principal)),
            None => {
                let challenge = format!("Basic realm=\"{}\"", realm.name());
                Err(Refusal::unauthorized(
                    HeaderValue::from_str(&challenge).expect("names of realms are plain letters"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic() -> HttpBasic {
        let json =
            br#"{"credentials": [{"principal": "p", "secret": "s3"}, {"principal": "q", "secret": "a:b"}]}"#;
        HttpBasic::new(json, [Realm::ReadWrite]).unwrap()
    }

    fn asks(text: &str) -> Option<String> {
        basic()
            .authenticate(Realm::ReadWrite, Some(&format!("Basic {}", STANDARD.encode(text))))
            .ok()
            .flatten()
    }

    #[test]
    fn the_right_password_lets_in_and_others_do_not() {
        assert_eq!(asks("p:s3"), Some("p".to_owned()));
        for wrong in ["p:s", "p:s33", "p:", "p", "", ":s3", "q:s3", "p:s3:"] {
            assert_eq!(asks(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_secret_with_a_colon_never_matches() {
        assert_eq!(asks("q:a:b"), None);
    }

    #[test]
    fn who_is_refused_learns_the_scheme_and_the_realm() {
        let refusal = basic().authenticate(Realm::ReadWrite, None).unwrap_err();
        assert_eq!((refusal.status().as_u16(), refusal.to_string()), (401, "401 Unauthorized.".to_owned()));
        let (name, value) = refusal.header().unwrap();
        assert_eq!(name.as_str(), "www-authenticate");
        assert_eq!(value, "Basic realm=\"mesos-agent-readwrite\"");
    }

    #[test]
    fn a_realm_without_authentication_lets_everybody_in() {
        assert_eq!(basic().authenticate(Realm::ReadOnly, None), Ok(None));
    }

    #[test]
    fn a_wrong_file_is_refused_without_quoting_it() {
        let error =
            HttpBasic::new(br#"{"credentials": [{"principal": "p", "secret": hunter2}]}"#, []).unwrap_err();
        assert!(!error.to_string().contains("hunter2") && error.to_string().contains("line 1"), "{error}");
        assert!(!format!("{:?}", basic()).contains("s3"));
    }
}
