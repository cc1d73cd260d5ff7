// SPDX-License-Identifier: Apache-2.0
//! What a container is asked to be: Mesos's `ContainerConfig` and the messages in it.
//!
//! Names and defaults are Mesos's (proto2), so that its JSON reads as it stands. Types that Mesos has only as a message around one text (ids) are that text.

mod container;
mod linux;
mod process;
mod task;

pub use container::*;
pub use linux::*;
pub use process::*;
pub use task::*;

use crate::resources::Resources;
use crate::wire::{message, wire_enum};
use std::collections::BTreeMap;
use std::path::PathBuf;

wire_enum! {
    /// What kind of container it is.
    #[derive(Default)]
    pub enum ContainerClass {
        /// A container of its own.
        #[default]
        Default = 1 => "DEFAULT",
        /// One that shares namespaces, root filesystem and limits with its parent, as `exec` makes.
        Debug = 2 => "DEBUG",
    }
}

message! {
    /// Everything that a containerizer is told at launch.
    pub struct ContainerConfig {
        /// The sandbox on the host; always set.
        directory: PathBuf,
        /// The user to run as; unset: the agent's own.
        user: Option<String>,
        /// The root filesystem on the host; filled in from the image.
        rootfs: Option<PathBuf>,
        /// Set for a container that runs an executor; unset for nested and standalone ones.
        executor_info: Option<ExecutorInfo>,
        /// Set only for a task that the agent's own command executor runs.
        task_info: Option<TaskInfo>,
        /// The command: a copy of the executor's, or that of the nested or standalone container.
        command_info: CommandInfo,
        /// The container that was asked for, if one was.
        container_info: Option<ContainerInfo>,
        /// Requests.
        resources: Resources,
        /// Limits by resource name, in the units of resources (CPUs, MiB); infinity is no limit.
        #[serde(with = "crate::number::limits")]
        limits: BTreeMap<String, f64>,
        /// Whether the container is one of its own or part of another.
        container_class: ContainerClass,
        /// Directories on the host that count towards the disk use of the container; filled in from the image.
        ephemeral_volumes: Vec<String>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, TaskState};

    #[test]
    fn absent_fields_take_the_defaults_of_mesos() {
        let config: ContainerConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, ContainerConfig::default());
        assert!(config.command_info.shell);
        assert_eq!(serde_json::to_string(&config).unwrap(), r#"{"container_class":"DEFAULT"}"#);
    }

    #[test]
    fn json_of_mesos_is_read_and_unknown_fields_are_ignored() {
        let text = r#"{
            "directory": "/s", "user": "nobody", "container_class": "DEBUG", "not_ours": {"a": [1]},
            "executor_info": {"executor_id": {"value": "e"}, "framework_id": {"value": "f"}, "type": "CUSTOM"},
            "task_info": {"task_id": {"value": "t"}, "agent_id": {"value": "a"}, "data": "AAE=",
                "kill_policy": {"grace_period": {"nanoseconds": 5}}},
            "command_info": {"shell": false, "value": "/bin/ls", "arguments": ["ls", "-l"],
                "uris": [{"value": "http://h/x", "extract": false}],
                "environment": {"variables": [{"name": "A", "value": "1"},
                    {"name": "B", "type": "SECRET", "secret": {"type": "VALUE", "value": {"data": "eA=="}}}]}},
            "container_info": {"type": "MESOS", "hostname": "h",
                "mesos": {"image": {"type": "DOCKER", "docker": {"name": "busybox"}}},
                "volumes": [{"container_path": "/v", "mode": "RO", "source":
                    {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "p"}}}],
                "linux_info": {"bounding_capabilities": {"capabilities": ["CHOWN", "NET_RAW"]},
                    "ipc_mode": "PRIVATE", "shm_size": 64, "share_cgroups": false,
                    "seccomp": {"unconfined": true}},
                "rlimit_info": {"rlimits": [{"type": "RLMT_NOFILE", "soft": 10, "hard": 20}]},
                "tty_info": {"window_size": {"rows": 24, "columns": 80}}},
            "limits": {"cpus": 1.5, "mem": "Infinity", "disk": {"value": 3}}
        }"#;
        let config: ContainerConfig = serde_json::from_str(text).unwrap();
        let executor = config.executor_info.as_ref().unwrap();
        assert_eq!((executor.executor_id.as_str(), executor.framework_id.as_str()), ("e", "f"));
        let task = config.task_info.as_ref().unwrap();
        assert_eq!((task.task_id.as_str(), task.data.as_slice()), ("t", &[0u8, 1][..]));
        assert!(!config.command_info.shell && !config.command_info.uris[0].extract);
        let variables = &config.command_info.environment.variables;
        assert_eq!(variables[1].secret.as_ref().unwrap().exposed(), Some(&b"x"[..]));
        let container = config.container_info.as_ref().unwrap();
        assert_eq!(container.volumes[0].mode, VolumeMode::Ro);
        let image = container.mesos.as_ref().unwrap().image.as_ref().unwrap();
        assert!(image.cached && image.docker.as_ref().unwrap().name == "busybox");
        let linux = container.linux_info.as_ref().unwrap();
        assert_eq!((linux.shm_size, linux.share_cgroups), (Some(64), Some(false)));
        assert_eq!(container.rlimit_info.as_ref().unwrap().rlimits[0].r#type, RLimitType::Nofile);
        assert_eq!(config.limits["mem"], f64::INFINITY);
        assert_eq!((config.limits["cpus"], config.limits["disk"]), (1.5, 3.0));
    }

    #[test]
    fn infinity_survives_json_and_what_is_no_amount_is_refused() {
        let limits = BTreeMap::from([("cpus".to_owned(), 0.5), ("mem".to_owned(), f64::INFINITY)]);
        let config = ContainerConfig { limits, ..Default::default() };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""limits":{"cpus":0.5,"mem":"Infinity"}"#), "{text}");
        assert_eq!(serde_json::from_str::<ContainerConfig>(&text).unwrap(), config);
        for wrong in [r#""NaN""#, r#""-Infinity""#, "null", "{}", r#"{"value":{"value":1}}"#, "[1]"] {
            let text = format!(r#"{{"limits":{{"cpus":{wrong}}}}}"#);
            assert!(serde_json::from_str::<ContainerConfig>(&text).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_enums_are_those_of_mesos() {
        assert_eq!(RLimitType::Nofile.name(), "RLMT_NOFILE");
        assert_eq!(RLimitType::from_number(16), Some(RLimitType::Stack));
        assert_eq!(ContainerType::from_number(100), Some(ContainerType::Lxc));
        assert_eq!(TaskState::from_number(13).unwrap().to_string(), "TASK_UNKNOWN");
        assert_eq!(Reason::ContainerLimitationMemory.number(), 8);
        let error = "RLMT_NO".parse::<RLimitType>().unwrap_err().to_string();
        assert!(
            error.starts_with("'RLMT_NO' is not a value of RLimitType; use one of UNKNOWN, RLMT_AS"),
            "{error}"
        );
    }
}
