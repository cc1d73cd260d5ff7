// SPDX-License-Identifier: Apache-2.0
//! Tokens: which realms are asked, what they are told, and what they answer.
//!
//! The registry chooses the realm, so a realm is a wish of somebody whom we do not trust:
//!
//! * It is reached over https. Over http only at the registry's own origin, when that is spoken to over http
//!   itself, or where `realms` names it.
//! * It lies no nearer to us than the registry ([`Reach::SentFrom`]), looked at when connecting.
//! * It gets our credentials when it is the registry's own host, a relative of it (`auth.docker.io` for
//!   `registry-1.docker.io`: the same domain above), or named in `realms`. Any other is asked without them.
//! * It may not redirect.
//! * The scope that we ask for is what we are about to do, whatever the challenge says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq_proto::http::HeaderValue;

use crate::url::{Origin, Scheme, Url};

/// Tokens live at least this long for us, at most a day, and end a little before their time.
const SHORT: u64 = 60;
const DAY: u64 = 86_400;
/// So many are kept; with more, the old ones have ended.
const KEPT: usize = 1024;

/// What a token is for: who was asked, about what, as whom.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    pub(crate) scope: Vec<String>,
    /// A user and where its password was found; nobody when asked without.
    pub(crate) who: Option<(String, String)>,
}

/// Tokens that are still good.
#[derive(Default)]
pub(crate) struct Tokens {
    kept: Mutex<HashMap<TokenKey, (HeaderValue, Instant)>>,
}

impl Tokens {
    /// A token that is still good, unless it is the one that was just refused.
    pub(crate) fn get(&self, key: &TokenKey, refused: Option<&HeaderValue>) -> Option<HeaderValue> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, until) = kept.get(key)?;
        if *until > Instant::now() && refused != Some(token) {
            return Some(token.clone());
        }
        kept.remove(key);
        None
    }

    pub(crate) fn keep(&self, key: TokenKey, token: HeaderValue, lives: Duration) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            let now = Instant::now();
            kept.retain(|_, (_, until)| *until > now);
        }
        if kept.len() < KEPT {
            kept.insert(key, (token, Instant::now() + lives));
        }
    }
}

/// What a realm answers.
pub(crate) struct Granted {
    pub(crate) token: HeaderValue,
    pub(crate) lives: Duration,
}

/// Reads the answer of a realm: `token` (Docker) or `access_token` (OAuth).
pub(crate) fn read_grant(body: &[u8]) -> Result<Granted, &'static str> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        token: Option<String>,
        #[serde(default)]
        access_token: Option<String>,
        #[serde(default)]
        expires_in: Option<serde_json::Number>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| "it is not the JSON of a token server")?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token.filter(|token| !token.is_empty()).ok_or("it has neither `token` nor `access_token`")?;
    let token = bearer(token.as_bytes()).ok_or("its token has characters that no header can have")?;
    let seconds =
        answer.expires_in.and_then(|number| number.as_f64()).map_or(SHORT, |number| number.max(0.0) as u64);
    let lives = seconds.clamp(SHORT, DAY);
    Ok(Granted { token, lives: Duration::from_secs(lives - lives / 10) })
}

/// The header that carries a token.
pub(crate) fn bearer(token: &[u8]) -> Option<HeaderValue> {
    sensitive(&[b"Bearer ", token].concat())
}

/// A header that is not printed.
pub(crate) fn sensitive(value: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(value).ok().filter(|value| value.to_str().is_ok())?;
    value.set_sensitive(true);
    Some(value)
}

/// What a realm is to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The registry's own origin.
    Own,
    /// Named by the operator.
    Configured,
    /// A host of the same domain.
    Relative,
    /// Anybody.
    Stranger,
}

/// Whether a realm may be asked, and what it is to the registry.
pub(crate) fn judge(realm: &Url, registry: &Origin, configured: &[Origin]) -> Result<Standing, String> {
    let origin = &realm.origin;
    if configured.contains(origin) {
        return Ok(Standing::Configured);
    }
    if origin == registry {
        return Ok(Standing::Own);
    }
    if origin.scheme != Scheme::Https {
        return Err(format!(
            "tokens are asked for over https only; if {origin} is meant, name it in `realms` of the registry's section in registries.toml"
        ));
    }
    Ok(if are_relatives(&registry.host, &origin.host) { Standing::Relative } else { Standing::Stranger })
}

/// Whether one operator has both hosts: equal, or below the same domain of at least two labels, where the
/// registry's domain is its name without the first label.
///
/// Domains that anybody may register below (`co.uk`) are not known here. That is no hole: a registry can have the
/// credentials that are meant for it by asking for them itself.
fn are_relatives(registry: &str, realm: &str) -> bool {
    if registry == realm {
        return true;
    }
    let is_address = |host: &str| host.parse::<std::net::IpAddr>().is_ok();
    if is_address(registry) || is_address(realm) {
        return false;
    }
    let Some((_, domain)) = registry.split_once('.') else { return false };
    let domain = domain.trim_end_matches('.');
    domain.contains('.')
        && (realm == domain || realm.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

/// What is asked for: ours, unless the registry names something of another kind that we can not know.
///
/// A registry that asks for more of a repository than we are about to do, or for another one, gets a token for
/// what we do. Scopes that are not of repositories are the registry's own business.
pub(crate) fn scope_of(challenge: Option<&str>, ours: &[String]) -> Vec<String> {
    match challenge {
        Some(scope) if !scope.split(' ').any(|part| part.starts_with("repository")) && !ours.is_empty() => {
            let mut all = ours.to_vec();
            all.extend(scope.split(' ').filter(|part| !part.is_empty()).map(str::to_owned));
            all
        }
        _ => ours.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn judged(realm: &str, registry: &str) -> Result<Standing, String> {
        judge(&url(realm), &url(registry).origin, &[url("http://listed.example:1/").origin])
    }

    #[test]
    fn a_realm_is_judged_by_its_origin() {
        use Standing::*;
        for (realm, registry, want) in [
            ("https://auth.docker.io/token", "https://registry-1.docker.io/", Relative),
            ("https://gitlab.com/jwt/auth", "https://registry.gitlab.com/", Relative),
            ("https://r.example:8443/t", "https://r.example/", Relative),
            ("https://r.example/t", "https://r.example/", Own),
            ("http://127.0.0.1:5000/t", "http://127.0.0.1:5000/", Own),
            ("https://evil.example/t", "https://registry-1.docker.io/", Stranger),
            ("https://docker.io.evil.example/t", "https://registry-1.docker.io/", Stranger),
            ("https://xdocker.io/t", "https://registry-1.docker.io/", Stranger),
            ("https://evil.com/t", "https://victim.com/", Stranger),
            ("https://10.0.0.2/t", "https://10.0.0.1/", Stranger),
            ("http://listed.example:1/t", "https://victim.com/", Configured),
        ] {
            assert_eq!(judged(realm, registry), Ok(want), "{realm} of {registry}");
        }
        for (realm, registry) in [
            ("http://auth.docker.io/token", "https://registry-1.docker.io/"),
            ("http://r.example/t", "https://r.example/"),
            ("http://127.0.0.1:5001/t", "http://127.0.0.1:5000/"),
            ("http://169.254.169.254/latest", "https://r.example/"),
        ] {
            assert!(judged(realm, registry).unwrap_err().contains("https only"), "{realm}");
        }
    }

    #[test]
    fn both_names_of_a_token_are_read_and_its_life_is_bounded() {
        let of = |body: &str| {
            read_grant(body.as_bytes()).map(|g| (g.token.to_str().unwrap().to_owned(), g.lives.as_secs()))
        };
        assert_eq!(of(r#"{"token":"a","expires_in":300}"#), Ok(("Bearer a".into(), 270)));
        assert_eq!(of(r#"{"access_token":"b"}"#), Ok(("Bearer b".into(), 54)));
        assert_eq!(of(r#"{"token":"a","access_token":"b"}"#), Ok(("Bearer a".into(), 54)));
        assert_eq!(of(r#"{"token":"a","expires_in":-5}"#), Ok(("Bearer a".into(), 54)));
        assert_eq!(of(r#"{"token":"a","expires_in":1e300}"#).unwrap().1, DAY - DAY / 10);
        for wrong in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"a\nX: y"}"#,
            r#"{"token":"é"}"#,
            "[]",
            r#"{"token":1}"#,
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_kept_per_scope_and_not_given_again_when_refused() {
        let tokens = Tokens::default();
        let key =
            |scope: &str| TokenKey { realm: "r".into(), service: None, scope: vec![scope.into()], who: None };
        tokens.keep(key("a"), bearer(b"1").unwrap(), Duration::from_secs(9));
        tokens.keep(key("old"), bearer(b"2").unwrap(), Duration::ZERO);
        assert_eq!(tokens.get(&key("a"), None), bearer(b"1"));
        assert_eq!(tokens.get(&key("b"), None), None);
        assert_eq!(tokens.get(&key("old"), None), None);
        assert_eq!(tokens.get(&key("a"), bearer(b"1").as_ref()), None);
        assert_eq!(tokens.get(&key("a"), None), None);
    }

    #[test]
    fn no_more_is_asked_for_than_what_is_done() {
        let ours = ["repository:a/b:pull".to_owned()];
        for challenge in [
            None,
            Some("repository:a/b:pull"),
            Some("repository:other:pull,push,delete"),
            Some("repository(plugin):x:*"),
        ] {
            assert_eq!(scope_of(challenge, &ours), ours, "{challenge:?}");
        }
        assert_eq!(scope_of(Some("aws"), &ours), ["repository:a/b:pull", "aws"]);
    }
}
