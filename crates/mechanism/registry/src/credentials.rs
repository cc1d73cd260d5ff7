// SPDX-License-Identifier: Apache-2.0
//! Who we are to a registry: Docker's `config.json`, `auth.json` of the containers tools, an image's own secret.
//!
//! Sources are asked in their order, and the first that has something for a registry decides. Within one, the
//! longest key wins that is the repository, one of the namespaces above it, or the registry. A key matches its
//! registry alone: Docker's three names are one, but `docker.io.example` is somebody else, although Mesos takes
//! every host with `docker.io` in it for Docker's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use berth_image::Cancel;
use berth_model::image::{DEFAULT_REGISTRY, Registry, Repository};
use berth_model::{Class, SecretBytes};
use serde::Deserialize;

use crate::helper;

/// The most bytes of a file with credentials.
const MAX: u64 = 1 << 20;
/// What helpers call Docker's registry.
const DOCKER_SERVER: &str = "https://index.docker.io/v1/";

/// Base64 as it is found in the wild: with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why credentials can not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialError {
    /// A file that can not be read.
    #[error("read the credentials in {from}: {why}; correct its path or its permissions")]
    Read {
        /// The file or setting.
        from: String,
        /// What the kernel said.
        why: String,
    },
    /// Not the JSON that it should be.
    #[error(
        "the credentials in {from} are malformed: {why}; write {{\"auths\": {{\"registry\": {{\"auth\": \"base64 of user:password\"}}}}}}"
    )]
    Malformed {
        /// The file or setting.
        from: String,
        /// What is wrong, without any of the text.
        why: String,
    },
    /// A helper that does not help.
    #[error("ask the credential helper '{name}' about {server}: {why}")]
    Helper {
        /// Its name.
        name: String,
        /// Which server it was asked for.
        server: String,
        /// What went wrong.
        why: String,
    },
    /// Somebody said so.
    #[error("asking the credential helper '{name}' was cancelled")]
    Cancelled {
        /// The helper.
        name: String,
    },
}

impl CredentialError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            CredentialError::Read { .. } => Class::Denied,
            CredentialError::Malformed { .. } => Class::Invalid,
            CredentialError::Helper { .. } => Class::Internal,
            CredentialError::Cancelled { .. } => Class::Conflict,
        }
    }
}

/// What proves who we are. Nothing of it is printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        secret: SecretBytes,
    },
    /// A token that is exchanged for others at the realm (OAuth's refresh token).
    Identity {
        /// The token.
        secret: SecretBytes,
    },
    /// A token that is used as it is.
    Bearer {
        /// The token.
        secret: SecretBytes,
    },
}

impl Credential {
    /// What people may see of it.
    pub fn user(&self) -> &str {
        match self {
            Credential::Password { user, .. } => user,
            Credential::Identity { .. } | Credential::Bearer { .. } => "<token>",
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({} ***)", self.user())
    }
}

/// A credential and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The credential.
    pub credential: Credential,
    /// The file, flag or helper that has it.
    pub source: String,
}

/// One file, flag or secret with credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthFile {
    from: String,
    auths: BTreeMap<String, Entry>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthFile({}, {} registries)", self.from, self.auths.len() + self.helpers.len())
    }
}

#[derive(Deserialize, Default, Clone, PartialEq, Eq)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(rename = "credHelpers", default)]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore", default)]
    store: Option<String>,
}

impl AuthFile {
    /// Reads the flag `--docker_config`: JSON, or the path of a file with it.
    pub fn of_flag(text: &str) -> Result<AuthFile, CredentialError> {
        match text.trim_start().starts_with('{') {
            true => AuthFile::parse("--docker_config", text.as_bytes()),
            false => {
                let path = Path::new(text.strip_prefix("file://").unwrap_or(text));
                AuthFile::open(path)?.ok_or_else(|| CredentialError::Read {
                    from: path.display().to_string(),
                    why: "there is no such file".to_owned(),
                })
            }
        }
    }

    /// Reads a file; `None` when there is none.
    pub fn open(path: &Path) -> Result<Option<AuthFile>, CredentialError> {
        let from = path.display().to_string();
        let wrong = |why: String| CredentialError::Read { from: from.clone(), why };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(wrong(error.to_string())),
        };
        if !file.metadata().map_err(|error| wrong(error.to_string()))?.is_file() {
            return Err(wrong("it is not a regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        let read = std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX + 1), &mut bytes);
        read.map_err(|error| wrong(error.to_string()))?;
        if bytes.len() as u64 > MAX {
            return Err(wrong(format!("it has more than {MAX} bytes")));
        }
        AuthFile::parse(&from, &bytes).map(Some)
    }

    /// Reads the JSON of `config.json`, `auth.json` or the older bare map; `from` is what people call it.
    pub fn parse(from: &str, json: &[u8]) -> Result<AuthFile, CredentialError> {
        // Errors of the parser quote what they did not like, and that may be a password: only the place is told.
        let wrong = |error: serde_json::Error| CredentialError::Malformed {
            from: from.to_owned(),
            why: format!("line {}, column {}", error.line(), error.column()),
        };
        let whole: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(wrong)?;
        let is_new = ["auths", "credHelpers", "credsStore"].iter().any(|key| whole.contains_key(*key));
        let (auths, helpers, store) = if is_new {
            let Written { auths, helpers, store } = serde_json::from_slice(json).map_err(wrong)?;
            (auths.unwrap_or_default(), helpers.unwrap_or_default(), store.filter(|name| !name.is_empty()))
        } else {
            // The bare map has registries only; a config.json without credentials has settings only.
            let entry = |(key, value): (String, serde_json::Value)| {
                let is_entry = value.get("auth").is_some_and(serde_json::Value::is_string);
                is_entry.then(|| serde_json::from_value(value).ok().map(|entry| (key, entry))).flatten()
            };
            (whole.into_iter().filter_map(entry).collect(), BTreeMap::new(), None)
        };
        let keyed = |key: String| key_of(&key);
        Ok(AuthFile {
            from: from.to_owned(),
            auths: auths.into_iter().map(|(key, entry)| (keyed(key), entry)).collect(),
            helpers: helpers.into_iter().map(|(key, name)| (keyed(key), name)).collect(),
            store,
        })
    }

    /// What it has for a repository of a registry.
    pub(crate) fn find(
        &self,
        registry: &Registry,
        repository: Option<&Repository>,
        cancel: &Cancel,
    ) -> Result<Option<Found>, CredentialError> {
        let path = std::env::var_os("PATH");
        let host = name_of(registry);
        let server = if host == DEFAULT_REGISTRY { DOCKER_SERVER } else { &host };
        let ask = |name: &str| {
            let found = helper::ask(name, server, path.as_deref(), cancel)?;
            let source = format!("helper docker-credential-{name} of {}", self.from);
            Ok(found.map(|credential| Found { credential, source }))
        };
        if let Some(name) = self.helpers.get(&host) {
            return ask(name);
        }
        for key in keys_for(&host, repository) {
            if let Some(credential) =
                self.auths.get(&key).map(|entry| self.read(&key, entry)).transpose()?.flatten()
            {
                return Ok(Some(Found { credential, source: self.from.clone() }));
            }
        }
        self.store.as_deref().map_or(Ok(None), ask)
    }

    fn read(&self, key: &str, entry: &Entry) -> Result<Option<Credential>, CredentialError> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&entry.identitytoken) {
            return Ok(Some(Credential::Identity { secret: SecretBytes::new(token) }));
        }
        if let Some(token) = filled(&entry.registrytoken) {
            return Ok(Some(Credential::Bearer { secret: SecretBytes::new(token) }));
        }
        if let (Some(user), Some(password)) = (filled(&entry.username), filled(&entry.password)) {
            return Ok(Some(Credential::Password { user, secret: SecretBytes::new(password) }));
        }
        let Some(auth) = filled(&entry.auth) else { return Ok(None) };
        let wrong = |why: &str| CredentialError::Malformed {
            from: self.from.clone(),
            why: format!("`auth` of '{key}' {why}"),
        };
        let pair = BASE64.decode(auth.trim()).map_err(|_| wrong("is not base64"))?;
        let colon = pair
            .iter()
            .position(|b| *b == b':')
            .ok_or_else(|| wrong("has no colon between user and password"))?;
        let user = std::str::from_utf8(&pair[..colon]).map_err(|_| wrong("has a user that is not UTF-8"))?;
        // Old clients padded with NULs.
        let end = pair.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1).max(colon + 1);
        Ok(Some(Credential::Password {
            user: user.to_owned(),
            secret: SecretBytes::new(&pair[colon + 1..end]),
        }))
    }
}

/// The name that all names of a registry have here.
pub(crate) fn name_of(registry: &Registry) -> String {
    if registry.is_docker() { DEFAULT_REGISTRY.to_owned() } else { registry.to_string() }
}

/// A key as people write it: perhaps with a scheme and a path that mean nothing, perhaps with a namespace.
fn key_of(key: &str) -> String {
    let key = key.trim().trim_end_matches('/');
    let (had_scheme, rest) = match key.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, key),
    };
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host =
        host.parse::<Registry>().map_or_else(|_| host.to_ascii_lowercase(), |registry| name_of(&registry));
    match path {
        Some(path) if !had_scheme && !matches!(path, "v1" | "v2") => format!("{host}/{path}"),
        _ => host,
    }
}

/// The keys that may stand for a repository, the longest first.
fn keys_for(host: &str, repository: Option<&Repository>) -> Vec<String> {
    let mut key = repository.map_or_else(|| host.to_owned(), |repository| format!("{host}/{repository}"));
    let mut keys = Vec::new();
    loop {
        keys.push(key.clone());
        match key.rfind('/') {
            Some(slash) => key.truncate(slash),
            None => return keys,
        }
    }
}

/// The files that tools of people keep credentials in, in the order in which they are asked. `look_up` reads a
/// variable of the environment.
pub fn usual_files(look_up: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let set = |name: &str| look_up(name).filter(|path| path.is_absolute());
    let home = set("HOME");
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let runtime = set("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")).unwrap_or_else(|| {
        let user = rustix::process::getuid().as_raw();
        PathBuf::from(format!("/run/containers/{user}/auth.json"))
    });
    let config =
        set("XDG_CONFIG_HOME").or_else(|| below_home(".config")).map(|dir| dir.join("containers/auth.json"));
    let docker = set("DOCKER_CONFIG").or_else(|| below_home(".docker")).map(|dir| dir.join("config.json"));
    [set("REGISTRY_AUTH_FILE"), Some(runtime), config, docker, below_home(".dockercfg")]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(json: &str, registry: &str, repository: &str) -> Option<(String, String)> {
        let file = AuthFile::parse("test", json.as_bytes()).unwrap();
        let repository = repository.parse().unwrap();
        let found = file.find(&registry.parse().unwrap(), Some(&repository), &Cancel::new()).unwrap()?;
        let secret = match &found.credential {
            Credential::Password { secret, .. }
            | Credential::Identity { secret }
            | Credential::Bearer { secret } => secret,
        };
        Some((
            found.credential.user().to_owned(),
            String::from_utf8(secret.expose_secret().to_vec()).unwrap(),
        ))
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        for (entry, want) in [
            (r#"{"auth":"dTpw"}"#, pair("u", "p")),
            (r#"{"auth":"dTpwOnE=","email":"x"}"#, pair("u", "p:q")),
            (r#"{"auth":"dTpwOnE"}"#, pair("u", "p:q")),
            (r#"{"auth":"dTpwAAAA"}"#, pair("u", "p")),
            (r#"{"username":"u","password":"p"}"#, pair("u", "p")),
            (r#"{"auth":"dTpw","identitytoken":"t"}"#, pair("<token>", "t")),
            (r#"{"registrytoken":"r"}"#, pair("<token>", "r")),
            ("{}", None),
        ] {
            let json = format!(r#"{{"auths":{{"r.example":{entry}}},"HttpHeaders":{{}}}}"#);
            assert_eq!(find(&json, "r.example", "a"), want, "{entry}");
        }
        assert_eq!(
            find(r#"{"https://r.example/v1/":{"auth":"dTpw","email":"x"}}"#, "r.example", "a"),
            pair("u", "p")
        );
        assert_eq!(find(r#"{"detachKeys":"ctrl-q"}"#, "r.example", "a"), None);
    }

    #[test]
    fn a_key_matches_its_registry_and_no_other() {
        let json = |key: &str| format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#);
        for (key, registry, matches) in [
            ("r.example", "r.example", true),
            ("https://R.example/v2/", "r.example", true),
            ("r.example:5000", "r.example:5000", true),
            ("r.example", "r.example:5000", false),
            ("r.example:5000", "r.example", false),
            ("r.example", "xr.example", false),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("docker.io", "registry-1.docker.io", true),
            ("docker.io", "docker.io.example", false),
            ("docker.io.example", "docker.io", false),
            ("index.docker.io.evil.example", "docker.io", false),
        ] {
            assert_eq!(find(&json(key), registry, "a").is_some(), matches, "{key} for {registry}");
        }
    }

    #[test]
    fn the_longest_namespace_wins() {
        let json = r#"{"auths":{
            "r.example":{"username":"host","password":"1"},
            "r.example/team":{"username":"team","password":"1"},
            "r.example/team/app":{"username":"app","password":"1"}}}"#;
        for (repository, user) in [
            ("team/app", "app"),
            ("team/app/x", "app"),
            ("team/apple", "team"),
            ("teams/app", "host"),
            ("x", "host"),
        ] {
            assert_eq!(find(json, "r.example", repository).unwrap().0, user, "{repository}");
        }
    }

    #[test]
    fn an_error_tells_the_place_and_nothing_of_the_text() {
        for json in [
            "{\"auths\":{\"r\":{\"auth\":hunter2}}}",
            "{\"auths\":{\"r\":{\"auth\":[\"hunter2\"]}}}",
            "{\"auths\":\"hunter2\"}",
            "[\"hunter2\"]",
            "hunter2",
        ] {
            let error = AuthFile::parse("file x", json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("file x") && !error.contains("hunter2"), "{error}");
        }
        let file = AuthFile::parse("x", br#"{"auths":{"r.example":{"auth":"hunter2"}}}"#).unwrap();
        let error = file.find(&"r.example".parse().unwrap(), None, &Cancel::new()).unwrap_err().to_string();
        assert!(error.contains("r.example") && !error.contains("hunter2"), "{error}");
        let found =
            find(r#"{"auths":{"r.example":{"username":"u","password":"hunter2"}}}"#, "r.example", "a")
                .unwrap();
        let credential = Credential::Password { user: found.0, secret: SecretBytes::new(found.1) };
        assert_eq!(format!("{credential:?}"), "Credential(u ***)");
        assert!(!format!("{file:?}").contains("hunter2"));
    }

    #[test]
    fn the_flag_is_a_path_or_the_text_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"auths":{"r":{"auth":"dTpw"}}}"#).unwrap();
        for flag in [
            path.display().to_string(),
            format!("file://{}", path.display()),
            std::fs::read_to_string(&path).unwrap(),
        ] {
            assert_eq!(AuthFile::of_flag(&flag).unwrap().auths.len(), 1, "{flag}");
        }
        assert!(AuthFile::of_flag("/nowhere/at/all").unwrap_err().to_string().contains("no such file"));
        assert!(AuthFile::open(dir.path()).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn files_are_asked_in_the_order_that_people_know() {
        let env = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/home/u")),
            "XDG_RUNTIME_DIR" => Some(PathBuf::from("/run/user/7")),
            "XDG_CONFIG_HOME" => Some(PathBuf::from("relative")),
            _ => None,
        };
        let files: Vec<String> = usual_files(env).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            files,
            [
                "/run/user/7/containers/auth.json",
                "/home/u/.config/containers/auth.json",
                "/home/u/.docker/config.json",
                "/home/u/.dockercfg",
            ]
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            if let Ok(file) = AuthFile::parse("x", text.as_bytes()) {
                drop(file.auths.iter().map(|(key, entry)| file.read(key, entry)).collect::<Vec<_>>());
            }
        }

        #[test]
        fn any_pair_is_found_again(user in "[^:\\x00]{1,10}", password in "[^\\x00]{0,20}") {
            use base64::engine::general_purpose::STANDARD;
            let auth = STANDARD.encode(format!("{user}:{password}"));
            let json = format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#);
            prop_assert_eq!(find(&json, "r.example", "a"), pair(&user, &password));
        }
    }
}
