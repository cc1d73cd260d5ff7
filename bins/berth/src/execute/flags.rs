// SPDX-License-Identifier: Apache-2.0
//! The flags of `berth execute`: `--name=value`, `--switch` and `--no-switch`, as Mesos's programs take them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use berth_model::parse_duration;
use berth_proto::Encoding;

/// What is wrong with them, and whether all of them should be shown.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) text: String,
    pub(super) usage: bool,
}

impl Wrong {
    pub(super) fn plain(text: impl Into<String>) -> Wrong {
        Wrong { text: text.into(), usage: false }
    }

    pub(super) fn usage(text: impl Into<String>) -> Wrong {
        Wrong { text: text.into(), usage: true }
    }
}

const KNOWN: &[(&str, &str)] = &[
    ("master", "The master, as IP:PORT; required"),
    ("name", "The name of the task, and its id"),
    ("command", "The command: text for a shell, unless --no-shell"),
    ("shell", "Whether the command is text for a shell (default: true)"),
    ("env", "The task's environment: a JSON object, or the path of a file with one"),
    ("resources", "What the task gets (default: cpus:1;mem:128)"),
    ("task", "The task as JSON (TaskInfo), or the path of a file with it"),
    ("task_group", "A group of tasks as JSON (TaskGroupInfo), or the path of a file with it"),
    ("role", "The role whose resources are used (default: *)"),
    ("principal", "Who asks"),
    ("secret", "What proves it"),
    ("checkpoint", "Said of the framework; the agent always keeps its tasks over a restart (default: false)"),
    ("containerizer", "mesos or docker (default: mesos)"),
    ("docker_image", "The Docker image of the task"),
    ("appc_image", "The Appc image of the task"),
    ("volumes", "Volumes of the task's container: a JSON list, or the path of a file with one"),
    ("networks", "Names of networks that the container joins, with commas between"),
    ("rlimits", "Limits of setrlimit(2): JSON (RLimitInfo), or the path of a file with it"),
    ("effective_capabilities", "Capabilities that the task has: JSON (CapabilityInfo)"),
    ("bounding_capabilities", "Capabilities that the task can get: JSON (CapabilityInfo)"),
    ("tty", "Give the task a terminal (default: false)"),
    ("framework_capabilities", "Further capabilities of the framework: GPU_RESOURCES"),
    ("kill_after", "Kill the task so long after it runs, such as 10secs"),
    ("content_type", "protobuf or json (default: protobuf)"),
    ("partition_aware", "Understand states of agents that are away (default: true)"),
];

const SWITCHES: &[&str] = &["shell", "checkpoint", "tty", "partition_aware"];

/// All flags, for people.
pub(super) fn usage() -> String {
    let mut text = String::from("Usage: berth execute [options]\n\n");
    for (name, help) in KNOWN {
        let written =
            if SWITCHES.contains(name) { format!("--[no-]{name}") } else { format!("--{name}=VALUE") };
        text.push_str(&format!("  {written:<32} {help}\n"));
    }
    text
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Flags {
    pub(super) master: String,
    pub(super) principal: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) encoding: Encoding,
    pub(super) kill_after: Option<Duration>,
    given: BTreeMap<&'static str, String>,
}

impl Flags {
    pub(super) fn parse(arguments: &[OsString]) -> Result<Flags, Wrong> {
        let mut given = BTreeMap::new();
        for argument in arguments {
            let argument = argument.to_string_lossy();
            let Some(flag) = argument.strip_prefix("--") else {
                return Err(Wrong::usage(format!("Failed to parse '{argument}': flags begin with --")));
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => match flag.strip_prefix("no-") {
                    Some(name) => (name, "false".to_owned()),
                    None => (flag, "true".to_owned()),
                },
            };
            let Some((known, _)) = KNOWN.iter().find(|(known, _)| *known == name.replace('-', "_")) else {
                return Err(Wrong::usage(format!("Failed to load unknown flag '{name}'")));
            };
            if !SWITCHES.contains(known) && !flag.contains('=') {
                return Err(Wrong::usage(format!("Failed to load flag '{name}': Missing value")));
            }
            given.insert(*known, value);
        }
        let mut flags = Flags {
            master: given.get("master").cloned().unwrap_or_default(),
            principal: given.get("principal").cloned(),
            secret: given.get("secret").cloned(),
            encoding: Encoding::Protobuf,
            kill_after: None,
            given,
        };
        flags.check()?;
        Ok(flags)
    }

    fn check(&mut self) -> Result<(), Wrong> {
        if self.master.is_empty() {
            return Err(Wrong::usage("Missing required option --master"));
        }
        let kind = self.get("content_type").unwrap_or("protobuf").to_owned();
        self.encoding = match &*kind {
            "json" | "application/json" => Encoding::Json,
            "protobuf" | "application/x-protobuf" => Encoding::Protobuf,
            other => return Err(Wrong::usage(format!("Invalid content type '{other}'"))),
        };
        if let Some(text) = self.get("kill_after") {
            let time = parse_duration(text);
            let wrong = |why| Wrong::usage(format!("Failed to load flag 'kill_after': {why}"));
            self.kill_after = Some(time.map_err(wrong)?);
        }
        for name in SWITCHES {
            if self.get(name).is_some_and(|value| !matches!(value, "true" | "false" | "1" | "0")) {
                return Err(Wrong::usage(format!(
                    "Failed to load flag '{name}': Expecting a boolean (e.g., true or false)"
                )));
            }
        }
        let whole = [self.get("task").is_some(), self.get("task_group").is_some()];
        match whole {
            [true, true] => Err(Wrong::usage(
                "Either task or task group should be set but not both. Provide only one of --task OR --task_group",
            )),
            [false, false] => self.check_single(),
            _ => {
                let mut clash = vec!["name", "command", "env", "appc_image", "docker_image", "volumes"];
                if self.get("task").is_some() {
                    clash.push("networks");
                }
                match clash.into_iter().find(|name| self.get(name).is_some()) {
                    Some(name) => Err(Wrong::usage(format!(
                        "--{name} can not be given together with --task or --task_group: write it into the JSON"
                    ))),
                    None => Ok(()),
                }
            }
        }
    }

    fn check_single(&self) -> Result<(), Wrong> {
        for name in ["name", "command"] {
            let is_there = self.get(name).is_some_and(|value| !value.is_empty());
            let image_has_it = name == "command" && self.get("docker_image").is_some();
            if !is_there && !image_has_it {
                return Err(Wrong::usage(format!("Missing required option --{name}")));
            }
        }
        let containerizer = self.get("containerizer").unwrap_or("mesos");
        if !matches!(containerizer, "mesos" | "docker") {
            return Err(Wrong::usage(format!("Unsupported containerizer: {containerizer}")));
        }
        if self.get("docker_image").is_some() && self.get("appc_image").is_some() {
            return Err(Wrong::usage("Flags '--docker_image' and '--appc_image' are both set"));
        }
        if containerizer == "docker" {
            if self.get("docker_image").is_none() {
                return Err(Wrong::usage(
                    "Missing required option --docker_image for --containerizer=docker",
                ));
            }
            if self.switch("tty", false) {
                return Err(Wrong::usage("'DockerContainerizer' does not support --tty"));
            }
            if self.get("networks").is_some_and(|networks| networks.contains(',')) {
                return Err(Wrong::usage("'DockerContainerizer' supports one network only"));
            }
        }
        if let Some(other) =
            self.list("framework_capabilities").into_iter().find(|one| *one != "GPU_RESOURCES")
        {
            return Err(Wrong::usage(format!("Unsupported framework capability: {other}")));
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    pub(super) fn switch(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| matches!(value, "true" | "1"))
    }

    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        self.get(name).map(|text| text.split(',').filter(|one| !one.is_empty()).collect()).unwrap_or_default()
    }

    /// The JSON of a flag: as it is, or in the file that it names.
    pub(super) fn json(&self, name: &str) -> Result<Option<serde_json::Value>, Wrong> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let failed = |why: String| Wrong::usage(format!("Failed to load flag '{name}': {why}"));
        let path = text.strip_prefix("file://").or_else(|| text.starts_with('/').then_some(text));
        let text = match path {
            Some(path) => {
                std::fs::read_to_string(path).map_err(|why| failed(format!("read {path}: {why}")))?
            }
            None => text.to_owned(),
        };
        serde_json::from_str(&text).map(Some).map_err(|why| failed(why.to_string()))
    }
}
