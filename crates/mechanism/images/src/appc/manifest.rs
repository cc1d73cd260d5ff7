// SPDX-License-Identifier: Apache-2.0
//! The manifest in an App Container image: what it is, what it depends on, how it runs.

use std::collections::BTreeMap;

use berth_image::config::{Empty, RuntimeConfig};
use serde::Deserialize;

use super::fetch::IMAGES_MAX;
use super::name::AppcName;

/// What we take of a manifest.
#[derive(Debug)]
pub(super) struct ImageManifest {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) dependencies: Vec<AppcName>,
    /// Its app, as images of Docker say it.
    pub(super) app: Option<RuntimeConfig>,
    /// When it was made, as it says.
    pub(super) created: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    ac_kind: String,
    #[allow(dead_code, reason = "it must be there, and all versions have what is read here")]
    ac_version: String,
    name: String,
    #[serde(default)]
    labels: Vec<Pair>,
    #[serde(default)]
    annotations: Vec<Pair>,
    #[serde(default)]
    dependencies: Vec<RawDependency>,
    app: Option<RawApp>,
}

#[derive(Deserialize)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct RawDependency {
    #[serde(rename = "imageName")]
    name: String,
    #[serde(rename = "imageID")]
    id: Option<String>,
    #[serde(default)]
    labels: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawApp {
    #[serde(default)]
    exec: Vec<String>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    working_directory: String,
    #[serde(default)]
    environment: Vec<Pair>,
    #[serde(default)]
    mount_points: Vec<MountPoint>,
}

#[derive(Deserialize)]
struct MountPoint {
    path: String,
}

impl ImageManifest {
    /// Reads the manifest of the image that `wanted` asked for. What it depends on gets os and arch from it, where the
    /// dependency does not say.
    ///
    /// # Errors
    /// What is wrong with it, for people; it follows "is refused:".
    pub(super) fn parse(bytes: &[u8], wanted: &AppcName) -> Result<ImageManifest, String> {
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
        if raw.ac_kind != "ImageManifest" {
            return Err(format!("its acKind is {:?} and not ImageManifest", short(&raw.ac_kind)));
        }
        if raw.name != wanted.name() {
            return Err(format!("it is of an image named {:?}", short(&raw.name)));
        }
        let labels: BTreeMap<String, String> =
            raw.labels.into_iter().map(|pair| (pair.name, pair.value)).collect();
        for (label, value) in wanted.labels() {
            if labels.get(label).is_some_and(|has| has != value) {
                let has = short(&labels[label]);
                return Err(format!("its label {label} is {has:?}, and {value:?} was asked for"));
            }
        }
        if raw.dependencies.len() > IMAGES_MAX {
            return Err(format!("it depends on {} images", raw.dependencies.len()));
        }
        let dependencies = raw.dependencies.into_iter().map(|one| {
            let mut has: BTreeMap<_, _> =
                one.labels.into_iter().map(|pair| (pair.name, pair.value)).collect();
            for label in ["os", "arch"] {
                let of_ours = wanted.labels().get(label).or_else(|| labels.get(label));
                if let (false, Some(value)) = (has.contains_key(label), of_ours) {
                    has.insert(label.to_owned(), value.clone());
                }
            }
            AppcName::new(&one.name, has, one.id.as_deref())
                .map_err(|error| format!("what it depends on: {error}"))
        });
        let created = raw.annotations.into_iter().find(|pair| pair.name == "created").map(|pair| pair.value);
        Ok(ImageManifest {
            dependencies: dependencies.collect::<Result<_, _>>()?,
            labels,
            app: raw.app.map(app).transpose()?,
            created,
        })
    }
}

/// The app in the words of an image's configuration. Arguments that are given come in the place of `exec[1..]`, so the
/// first is the entry point and the others are the command.
fn app(raw: RawApp) -> Result<RuntimeConfig, String> {
    for (field, value) in [("user", &raw.user), ("group", &raw.group)] {
        if value.contains(['/', ':']) {
            return Err(format!(
                "its {field} is that of the file {:?}, and only names and numbers are supported: set it by one of these",
                short(value)
            ));
        }
    }
    let user = match (raw.user.is_empty(), raw.group.is_empty()) {
        (true, true) => String::new(),
        (_, true) => raw.user,
        (true, false) => format!("0:{}", raw.group),
        (false, false) => format!("{}:{}", raw.user, raw.group),
    };
    let mut exec = raw.exec.into_iter();
    let entrypoint = exec.next().map(|first| vec![first]);
    let cmd: Vec<String> = exec.collect();
    Ok(RuntimeConfig {
        user,
        env: raw.environment.into_iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect(),
        entrypoint,
        cmd: (!cmd.is_empty()).then_some(cmd),
        working_dir: raw.working_directory,
        volumes: raw.mount_points.into_iter().map(|point| (point.path, Empty::default())).collect(),
        ..RuntimeConfig::default()
    })
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn wanted() -> AppcName {
        "example.com/app:1.0,os=linux,arch=amd64".parse().unwrap()
    }

    fn manifest() -> Value {
        json!({"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/app",
            "labels": [{"name": "version", "value": "1.0"}, {"name": "os", "value": "linux"}],
            "dependencies": [{"imageName": "example.com/base", "imageID": format!("sha512-{}", "0a".repeat(64)),
                "labels": [{"name": "version", "value": "2"}]}],
            "app": {"exec": ["/bin/app", "-a", "-b"], "user": "app", "group": "4", "workingDirectory": "/srv",
                "environment": [{"name": "A", "value": "b=c"}], "mountPoints": [{"name": "data", "path": "/data"}],
                "isolators": [{"name": "resource/cpu", "value": {}}]},
            "annotations": [{"name": "created", "value": "2015-01-01T00:00:00Z"}]})
    }

    fn with(key: &str, value: Value) -> Result<ImageManifest, String> {
        let mut document = manifest();
        document[key] = value;
        ImageManifest::parse(document.to_string().as_bytes(), &wanted())
    }

    #[test]
    fn the_app_becomes_what_images_of_docker_say() {
        let read = ImageManifest::parse(manifest().to_string().as_bytes(), &wanted()).unwrap();
        let app = read.app.unwrap();
        assert_eq!(app.entrypoint.unwrap(), ["/bin/app"]);
        assert_eq!(app.cmd.unwrap(), ["-a", "-b"]);
        assert_eq!((app.user.as_str(), app.working_dir.as_str()), ("app:4", "/srv"));
        assert_eq!((app.env, app.volumes.len()), (vec!["A=b=c".to_owned()], 1));
        let base = &read.dependencies[0];
        assert_eq!(base.place().unwrap(), "example.com/base-2-linux-amd64.aci");
        assert!(base.id().is_some());
        assert!(with("app", Value::Null).unwrap().app.is_none());
    }

    #[test]
    fn a_manifest_of_something_else_is_refused() {
        for (key, value, word) in [
            ("acKind", json!("PodManifest"), "PodManifest"),
            ("acVersion", json!(null), "null"),
            ("name", json!("example.com/other"), "example.com/other"),
            ("labels", json!([{"name": "version", "value": "2.0"}]), "2.0"),
            ("labels", json!([{"name": "os", "value": "freebsd"}]), "freebsd"),
            ("dependencies", json!([{"imageName": "../../etc"}]), "etc"),
            (
                "dependencies",
                json!([{"imageName": "a", "labels": [{"name": "version", "value": "../x"}]}]),
                "version",
            ),
            ("dependencies", json!([{"imageName": "a", "imageID": "sha512-12"}]), "sha512-12"),
            ("dependencies", json!(vec![json!({"imageName": "a"}); IMAGES_MAX + 1]), "depends on"),
            ("app", json!({"exec": ["/x"], "user": "/etc/passwd", "group": "0"}), "/etc/passwd"),
            ("app", json!({"exec": ["/x"], "user": "0:0", "group": "0"}), "0:0"),
            ("app", json!({"exec": "/x"}), "manifest"),
        ] {
            let error = with(key, value).unwrap_err();
            assert!(error.contains(word), "{key}: {error}");
        }
        let twice = manifest().to_string().replacen('{', r#"{"name":"example.com/app","#, 1);
        assert!(ImageManifest::parse(twice.as_bytes(), &wanted()).is_err());
    }
}
