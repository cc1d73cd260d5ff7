// SPDX-License-Identifier: Apache-2.0
//! What a registry asks for with `WWW-Authenticate`.
//!
//! Real headers break the grammar of RFC 9110 in every way: several challenges in one header or in many, commas
//! inside and outside of quotes, parameters without a comma between them, quotes that never end, a realm that is
//! not there. Each of these is read as far as it makes sense, since a registry that can not be asked is worse than
//! one that was asked for a little less; nothing of it is believed (`realm` is judged in `token`).

/// The most challenges, and the most parameters of one, that are looked at.
const MOST: usize = 16;

/// One challenge: a scheme and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Challenge {
    /// In lower case.
    pub scheme: String,
    /// Names in lower case, in their order.
    pub params: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter of that name that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, value)| value.as_str())
    }
}

/// What of it all we can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A token from a realm. Each part may be missing.
    Bearer {
        /// Where tokens are made.
        realm: Option<String>,
        /// For whom.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
    /// A user and a password.
    Basic,
}

/// The challenges of all these headers.
pub fn parse<'a>(headers: impl IntoIterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    for header in headers {
        let mut input = Input { bytes: header, at: 0 };
        // A parameter belongs to a challenge of the same header.
        let mut current: Option<Challenge> = None;
        while let Some(word) = input.word() {
            match (input.value(), &mut current) {
                (Value::Param(value), Some(challenge)) if challenge.params.len() < MOST => {
                    challenge.params.push((word.to_ascii_lowercase(), value));
                }
                // One without a scheme before it, or one too many.
                (Value::Param(_), _) => {}
                // The rest of a token68 ("Negotiate YII=="): not a scheme, and of no use to us.
                (Value::Padding, _) => {}
                (Value::None, _) => {
                    found.extend(current.take());
                    if found.len() >= MOST {
                        return found;
                    }
                    current = Some(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() });
                }
            }
        }
        found.extend(current);
    }
    found.truncate(MOST);
    found
}

/// The best of them: a token that can be had, a password, a token whose realm has to be looked for.
pub fn choose(challenges: &[Challenge]) -> Option<Wanted> {
    let of = |scheme: &str, realm: bool| {
        challenges.iter().find(|c| c.scheme == scheme && (!realm || c.get("realm").is_some()))
    };
    let bearer = |challenge: &Challenge| {
        let text = |name| challenge.get(name).map(str::to_owned);
        Wanted::Bearer { realm: text("realm"), service: text("service"), scope: text("scope") }
    };
    of("bearer", true)
        .map(bearer)
        .or_else(|| of("basic", false).map(|_| Wanted::Basic))
        .or_else(|| of("bearer", false).map(bearer))
}

enum Value {
    None,
    Param(String),
    Padding,
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, these: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&these) {
            self.at += 1;
        }
    }

    /// The next run of word characters, past whatever is none.
    fn word(&mut self) -> Option<String> {
        loop {
            self.skip(|b| !is_word(b) && b != b'"');
            match self.peek()? {
                // A quoted text where a word should be: whatever is in it is not for us.
                b'"' => drop(self.quoted()),
                _ => break,
            }
        }
        let start = self.at;
        self.skip(is_word);
        Some(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned())
    }

    /// What follows a word: `=` and a value, padding, or neither.
    fn value(&mut self) -> Value {
        let before = self.at;
        self.skip(is_space);
        if self.peek() != Some(b'=') {
            self.at = before;
            return Value::None;
        }
        self.at += 1;
        self.skip(is_space);
        match self.peek() {
            Some(b'"') => Value::Param(self.quoted()),
            Some(b'=') | None => {
                self.skip(|b| b == b'=');
                Value::Padding
            }
            // An empty value, as in `realm=,service=x`.
            Some(b',') => Value::Param(String::new()),
            Some(_) => {
                // Addresses come without quotes too, and have characters that words have not.
                let start = self.at;
                self.skip(|b| !matches!(b, b',' | b'"') && !is_space(b));
                Value::Param(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned())
            }
        }
    }

    /// The text between quotes, escapes undone; one that never ends goes to the end.
    fn quoted(&mut self) -> String {
        self.at += 1;
        let mut text = Vec::new();
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => {
                    text.extend(self.peek());
                    self.at += 1;
                }
                other => text.push(other),
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Those of a token, and of a token68.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(header: &str) -> Option<Wanted> {
        choose(&parse([header.as_bytes()]))
    }

    fn bearer(realm: &str, service: &str, scope: &str) -> Option<Wanted> {
        let text = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        Some(Wanted::Bearer { realm: text(realm), service: text(service), scope: text(scope) })
    }

    #[test]
    fn the_headers_of_real_registries_are_understood() {
        for (header, want) in [
            // Docker Hub, quay.io, ghcr.io, GitLab, Azure, Google, Amazon, Harbor, Artifactory, Nexus, Gitea.
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull""#,
                bearer(
                    "https://auth.docker.io/token",
                    "registry.docker.io",
                    "repository:library/debian:pull",
                ),
            ),
            (
                r#"Bearer realm="https://quay.io/v2/auth",service="quay.io",scope="repository:a/b:pull""#,
                bearer("https://quay.io/v2/auth", "quay.io", "repository:a/b:pull"),
            ),
            (
                r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull""#,
                bearer("https://ghcr.io/token", "ghcr.io", "repository:user/image:pull"),
            ),
            (
                r#"Bearer realm="https://gitlab.com/jwt/auth",service="container_registry",scope="repository:g/p:pull",error="invalid_token""#,
                bearer("https://gitlab.com/jwt/auth", "container_registry", "repository:g/p:pull"),
            ),
            (
                r#"Bearer realm="https://my.azurecr.io/oauth2/token",service="my.azurecr.io",scope="repository:x:pull", Basic realm="my""#,
                bearer("https://my.azurecr.io/oauth2/token", "my.azurecr.io", "repository:x:pull"),
            ),
            (
                r#"Bearer realm="https://gcr.io/v2/token",service="gcr.io""#,
                bearer("https://gcr.io/v2/token", "gcr.io", ""),
            ),
            (
                r#"Basic realm="https://1.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#,
                Some(Wanted::Basic),
            ),
            (r#"Basic realm="harbor""#, Some(Wanted::Basic)),
            (r#"BASIC realm="Sonatype Nexus Repository Manager""#, Some(Wanted::Basic)),
            (
                r#"Bearer realm="https://art.example/artifactory/api/docker/r/v2/token",service="art.example""#,
                bearer("https://art.example/artifactory/api/docker/r/v2/token", "art.example", ""),
            ),
            (
                r#"Bearer realm="https://git.example/v2/token",service="container_registry",scope="*""#,
                bearer("https://git.example/v2/token", "container_registry", "*"),
            ),
            // Commas and quotes within quotes (MESOS-10092 and others).
            (
                r#"Bearer realm="https://a.example/t?x=1,2",service="a, \"b\"",scope="repository:x:pull,push""#,
                bearer("https://a.example/t?x=1,2", "a, \"b\"", "repository:x:pull,push"),
            ),
            (r#"Basic realm="Registry, the private one", charset="UTF-8""#, Some(Wanted::Basic)),
            // Not as it should be.
            ("Bearer realm=https://a.example/t,service=s", bearer("https://a.example/t", "s", "")),
            (r#"bearer REALM = "https://a.example/t" Service="s""#, bearer("https://a.example/t", "s", "")),
            (r#"Bearer service="s""#, bearer("", "s", "")),
            (r#"Bearer realm="",service="s""#, bearer("", "s", "")),
            ("Bearer realm=,service=s", bearer("", "s", "")),
            ("Bearer", bearer("", "", "")),
            ("Basic", Some(Wanted::Basic)),
            (r#"Bearer realm="https://a.example/t"#, bearer("https://a.example/t", "", "")),
            (r#"Negotiate, Basic realm="x""#, Some(Wanted::Basic)),
            (r#"Negotiate YII==, Bearer realm="https://a.example/t""#, bearer("https://a.example/t", "", "")),
            (r#"NTLM TlRM=,Basic realm=x"#, Some(Wanted::Basic)),
            (r#"Basic realm="x", Bearer service="s""#, Some(Wanted::Basic)),
            (r#",, ,Basic realm="x",,"#, Some(Wanted::Basic)),
            (r#"Digest realm="x",nonce="Basic""#, None),
            (r#"realm="Basic realm=x""#, None),
            (r#""Basic realm""#, None),
            ("", None),
            ("=", None),
            ("\"", None),
        ] {
            assert_eq!(one(header), want, "{header}");
        }
    }

    #[test]
    fn several_headers_are_one_list_and_parameters_stay_with_theirs() {
        let found = parse([&br#"Basic realm="x""#[..], &br#"scope="y", Bearer realm="https://z/""#[..]]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].params, [("realm".to_owned(), "x".to_owned())]);
        assert_eq!(choose(&found), bearer("https://z/", "", ""));
    }

    #[test]
    fn the_first_of_two_realms_counts() {
        assert_eq!(one(r#"Bearer realm="https://a/",realm="https://b/""#), bearer("https://a/", "", ""));
    }

    #[test]
    fn there_is_an_end_to_what_is_looked_at() {
        let many = "Basic x=y,".repeat(5000);
        assert_eq!(parse([many.as_bytes()]).len(), MOST);
        let params = format!("Bearer {}", "a=b,".repeat(5000));
        assert_eq!(parse([params.as_bytes()])[0].params.len(), MOST);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(header in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse([&header[..]]).len() <= MOST);
        }

        #[test]
        fn well_formed_challenges_are_read_as_they_were_written(
            list in prop::collection::vec(
                ("[A-Za-z][A-Za-z0-9-]{0,8}", prop::collection::vec(("[a-z][a-z0-9_]{0,6}", "[ -~]{0,20}"), 1..4)),
                1..5,
            )
        ) {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let written: Vec<String> = list.iter().map(|(scheme, params)| {
                let params: Vec<String> = params.iter().map(|(n, v)| format!("{n}=\"{}\"", quote(v))).collect();
                format!("{scheme} {}", params.join(", "))
            }).collect();
            let read = parse([written.join(", ").as_bytes()]);
            let want: Vec<Challenge> = list.into_iter()
                .map(|(scheme, params)| Challenge { scheme: scheme.to_ascii_lowercase(), params })
                .collect();
            prop_assert_eq!(read, want);
        }
    }
}
