// SPDX-License-Identifier: Apache-2.0
//! Credentials for a pull: from a task's own `.docker/config.json` or `.dockercfg` in its sandbox, where it fetched one, else
//! from `--docker_config`. The home of whoever started the agent is not looked at.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use berth_contract::Error;
use berth_sys::rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::{Deserialize, Serialize};

use crate::error::invalid;

/// No such file of anybody is longer.
const LONGEST: u64 = 1 << 20;
/// What docker's own registry is called in these files.
const HUB: &str = "https://index.docker.io/v1/";

/// The registry that a name leads to, as docker reads names: the first part, if it can be a host.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
}

#[derive(Debug, Serialize)]
struct Header {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    registrytoken: String,
    serveraddress: String,
}

/// The header that a pull of this image is sent with; none without credentials for its registry.
///
/// # Errors
/// What is there is no such configuration.
pub(crate) fn header(image: &str, sandbox: &Path, operators: Option<&str>) -> Result<Option<String>, Error> {
    let (text, whose) = match (own(sandbox), operators) {
        (Some(text), _) => (text, "in the sandbox"),
        (None, Some(text)) => (text.to_owned(), "of --docker_config"),
        (None, None) => return Ok(None),
    };
    of(image, &text).map_err(|why| invalid(format!("the credentials {whose} can not be read: {why}")))
}

/// What the task brought. Nothing in a sandbox is followed out of it.
fn own(sandbox: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let sandbox = berth_sys::rustix::fs::open(sandbox, flags, Mode::empty()).ok()?;
    [".docker/config.json", ".dockercfg"].into_iter().find_map(|name| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(openat2(&sandbox, name, flags, Mode::empty(), resolve).ok()?);
        let mut text = String::new();
        let is_file = file.metadata().ok()?.is_file();
        (is_file && file.take(LONGEST).read_to_string(&mut text).is_ok()).then_some(text)
    })
}

fn of(image: &str, text: &str) -> Result<Option<String>, String> {
    let mut all: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    // The older form has the registries at the top.
    let auths = match all.remove("auths") {
        Some(auths) => auths,
        None => {
            all.retain(|_, entry| entry.get("auth").is_some());
            serde_json::Value::Object(all)
        }
    };
    let auths: BTreeMap<String, Entry> = serde_json::from_value(auths).map_err(|error| error.to_string())?;
    let registry = registry(image);
    let is_it = |name: &str| {
        let host = name.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or_default();
        host == registry
            || (registry == "docker.io" && matches!(host, "index.docker.io" | "registry-1.docker.io"))
    };
    let Some((name, entry)) = auths.into_iter().find(|(name, _)| is_it(name)) else { return Ok(None) };
    let (mut username, mut password) = (entry.username, entry.password);
    if !entry.auth.is_empty() {
        let bytes = STANDARD.decode(entry.auth.trim_end_matches('\0')).map_err(|_| wrong(&name))?;
        let pair = String::from_utf8(bytes).map_err(|_| wrong(&name))?;
        let (user, word) = pair.split_once(':').ok_or_else(|| wrong(&name))?;
        (username, password) = (user.to_owned(), word.trim_end_matches('\0').to_owned());
    }
    let serveraddress = if registry == "docker.io" { HUB.to_owned() } else { registry.to_owned() };
    let header = Header {
        username,
        password,
        identitytoken: entry.identity_token,
        registrytoken: entry.registry_token,
        serveraddress,
    };
    let json = serde_json::to_vec(&header).map_err(|error| error.to_string())?;
    Ok(Some(URL_SAFE.encode(json)))
}

fn wrong(name: &str) -> String {
    format!("'auth' of {name} is not USER:PASSWORD in base64")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(image: &str, text: &str) -> Option<serde_json::Value> {
        let header = of(image, text).unwrap()?;
        Some(serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap())
    }

    #[test]
    fn the_registry_is_the_first_part_of_a_name_that_can_be_a_host() {
        for (image, host) in [
            ("busybox", "docker.io"),
            ("library/busybox:1", "docker.io"),
            ("localhost/x", "localhost"),
            ("127.0.0.1:5000/x/y:z", "127.0.0.1:5000"),
            ("quay.io/a/b@sha256:1", "quay.io"),
        ] {
            assert_eq!(registry(image), host, "{image}");
        }
    }

    #[test]
    fn credentials_are_found_in_both_forms_by_the_registry_of_the_image() {
        let auth = STANDARD.encode("bob:pa:ss");
        let new = format!(r#"{{"auths": {{"127.0.0.1:5000": {{"auth": "{auth}"}}}}, "credsStore": "x"}}"#);
        let found = header_of("127.0.0.1:5000/i", &new).unwrap();
        assert_eq!((&found["username"], &found["password"]), (&"bob".into(), &"pa:ss".into()));
        assert_eq!(header_of("quay.io/i", &new), None);
        let old = format!(r#"{{"https://index.docker.io/v1/": {{"auth": "{auth}", "email": "e"}}}}"#);
        assert_eq!(header_of("busybox", &old).unwrap()["serveraddress"], HUB);
    }

    #[test]
    fn what_is_no_configuration_is_refused_without_showing_it() {
        for text in ["", "[]", r#"{"auths": {"quay.io": {"auth": "secret!"}}}"#] {
            let error = of("quay.io/i", text).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
