// SPDX-License-Identifier: Apache-2.0
//! Tokens of executors: what one that the agent has started shows, so that nobody else speaks in its name.
//!
//! A token is a JWT (RFC 7519) over HS256, as Mesos's: it says which executor of which framework in which container its
//! holder is. It does not expire by itself: with its container it is worth nothing.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use jwt_compact::alg::{Hs256, Hs256Key};
use jwt_compact::{AlgorithmExt as _, Header, UntrustedToken, ValidationError};
use serde::{Deserialize, Serialize};

use crate::core::At;

/// Who the holder of a token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The framework.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fid: Option<String>,
    /// The executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eid: Option<String>,
    /// The container of its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<String>,
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claims = serde_json::json!({ "claims": self });
        write!(f, "{claims}")
    }
}

/// Makes tokens, and reads them.
#[derive(Clone)]
pub struct Tokens(Hs256Key);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// With the key of `--jwt_secret_key`.
    pub fn new(key: &[u8]) -> Tokens {
        Tokens(Hs256Key::new(key))
    }

    /// The token of one run of an executor.
    ///
    /// # Errors
    /// None is known: the claims are three texts.
    pub(crate) fn of(&self, at: &At) -> Result<String, String> {
        let claims = Claims {
            fid: Some(at.framework.clone()),
            eid: Some(at.executor.clone()),
            cid: Some(at.container.value().to_owned()),
        };
        let header = Header::empty().with_token_type("JWT");
        let token = Hs256.token(&header, &jwt_compact::Claims::new(claims), &self.0);
        token.map_err(|error| error.to_string())
    }

    /// What a token says, if it was made with this key and holds now.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub fn read(&self, token: &str) -> Result<Claims, &'static str> {
        const NONE: &str = "it is no token";
        let token = UntrustedToken::new(token).map_err(|_| NONE)?;
        let read = Hs256.validator::<Claims>(&self.0).validate(&token).map_err(|error| match error {
            ValidationError::AlgorithmMismatch { .. } => "it is not signed by HS256",
            ValidationError::InvalidSignature => "it is not signed with the key of this agent",
            _ => NONE,
        })?;
        // Those of ours have no end; others may, and then it counts to the second.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let claims = read.claims();
        if claims.expiration.is_some_and(|end| end.timestamp() <= now) {
            return Err("it has expired");
        }
        if claims.not_before.is_some_and(|begin| begin.timestamp() > now) {
            return Err("it does not hold yet");
        }
        Ok(claims.custom.clone())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const KEY: &[u8] = b"a key of more than thirty-two bytes";

    /// Signed by hand, whatever it says.
    fn signed(algorithm: &str, claims: &Value, key: &[u8]) -> String {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": algorithm }).to_string());
        let token = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let key = Hs256Key::new(key);
        let signature = jwt_compact::Algorithm::sign(&Hs256, &key, token.as_bytes());
        let bytes = jwt_compact::AlgorithmSignature::as_bytes(&signature);
        format!("{token}.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    fn hs256(claims: &Value) -> String {
        signed("HS256", claims, KEY)
    }

    #[test]
    fn a_token_says_who_its_holder_is_in_the_form_of_mesos() {
        let at = At { framework: "f".to_owned(), executor: "e".to_owned(), container: "c".parse().unwrap() };
        let tokens = Tokens::new(KEY);
        let token = tokens.of(&at).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let part = |number: usize| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[number]).unwrap()).unwrap()
        };
        assert_eq!(part(0), json!({ "alg": "HS256", "typ": "JWT" }));
        assert_eq!(part(1), json!({ "fid": "f", "eid": "e", "cid": "c" }));
        let claims = tokens.read(&token).unwrap();
        assert_eq!(claims.to_string(), r#"{"claims":{"cid":"c","eid":"e","fid":"f"}}"#);
        assert_eq!(format!("{tokens:?}"), "Tokens");
    }

    #[test]
    fn what_was_made_by_others_or_does_not_hold_now_is_refused() {
        let who = json!({ "fid": "f", "eid": "e", "cid": "c" });
        let with = |name: &str, value: Value| {
            let mut claims = who.clone();
            claims[name] = value;
            hs256(&claims)
        };
        let good = hs256(&who);
        let (head, tail) = good.rsplit_once('.').unwrap();
        let (header, _) = head.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode(r#"{"fid":"g","eid":"e","cid":"c"}"#);
        let none =
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), head.split_once('.').unwrap().1);
        let rows = [
            (signed("HS256", &who, b"another key"), "it is not signed with the key of this agent"),
            (format!("{header}.{other}.{tail}"), "it is not signed with the key of this agent"),
            (signed("HS512", &who, KEY), "it is not signed by HS256"),
            (none, "it is not signed by HS256"),
            (with("exp", json!(1)), "it has expired"),
            (with("nbf", json!(4_000_000_000_u64)), "it does not hold yet"),
            (with("exp", json!("never")), "it is no token"),
            (with("fid", json!(7)), "it is no token"),
            (String::new(), "it is no token"),
            ("a.b.c".to_owned(), "it is no token"),
            ("x".repeat(100_000), "it is no token"),
        ];
        for (token, expected) in rows {
            assert_eq!(Tokens::new(KEY).read(&token), Err(expected), "{}", &token[..token.len().min(80)]);
        }
        assert!(Tokens::new(KEY).read(&with("exp", json!(4_000_000_000_u64))).is_ok());
    }
}
