// SPDX-License-Identifier: Apache-2.0
//! An OCI configuration that is equal in effect to what the floor program does, for crun and runc.
//!
//! The seccomp section is made from the same profile as our own filter, rule by rule, so that libseccomp inside
//! the peers has the same policy to compile.

use std::path::Path;

use berth_seccomp::{Action, Comparison, Profile, Rule, Test, caps, syscalls};
use serde_json::{Value, json};

use crate::plan;

/// The text of `config.json`. `group` is the cgroup path below each hierarchy.
pub(crate) fn config(rootfs: &Path, group: &str, command: &[&str]) -> Value {
    let kept = plan::CAPABILITIES;
    let namespaces = ["pid", "mount", "ipc", "uts", "network", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": command,
            "env": [plan::ENVIRONMENT],
            "cwd": "/",
            "capabilities": {"bounding": kept, "effective": kept, "permitted": kept},
            "noNewPrivileges": true,
        },
        "root": {"path": rootfs, "readonly": false},
        "hostname": plan::HOSTNAME,
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": group,
            "resources": {
                "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
                "memory": {"limit": 64 << 20},
                "pids": {"limit": 50},
            },
            "namespaces": namespaces,
            "seccomp": seccomp(&Profile::default_profile(), caps::DOCKER_DEFAULT),
            "maskedPaths": plan::MASKED,
            "readonlyPaths": plan::READ_ONLY,
        },
    })
}

fn mount(target: &str, kind: &str, options: &[&str]) -> Value {
    json!({"destination": target, "type": kind, "source": kind, "options": options})
}

/// The one mount that a new pid namespace needs.
pub(crate) fn proc() -> Value {
    mount("/proc", "proc", &["nosuid", "noexec", "nodev"])
}

/// Where devices are made.
pub(crate) fn dev() -> Value {
    mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"])
}

fn mounts() -> Value {
    json!([
        proc(),
        dev(),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "tmpfs", &["nosuid", "noexec", "nodev", "ro", "mode=755"]),
    ])
}

/// The profile as the OCI runtime specification has it (config-linux.md, "seccomp"), for one bounding set.
fn seccomp(profile: &Profile, bounding: u64) -> Value {
    let (action, number) = action(profile.default_action());
    let rules: Vec<Value> =
        profile.rules().iter().filter(|rule| rule.applies(bounding)).map(seccomp_rule).collect();
    json!({
        "defaultAction": action,
        "defaultErrnoRet": number,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    })
}

fn seccomp_rule(rule: &Rule) -> Value {
    let names: Vec<&str> = rule.calls.iter().filter_map(|number| syscalls::name(*number)).collect();
    let (action, number) = action(rule.action);
    let tests: Vec<Value> = rule.tests.iter().map(argument).collect();
    let mut object = json!({"names": names, "action": action, "args": tests});
    if let Some(number) = number {
        object["errnoRet"] = number.into();
    }
    object
}

fn action(action: Action) -> (&'static str, Option<u16>) {
    match action {
        Action::Allow => ("SCMP_ACT_ALLOW", None),
        Action::Log => ("SCMP_ACT_LOG", None),
        Action::Trace(message) => ("SCMP_ACT_TRACE", Some(message)),
        Action::Errno(number) => ("SCMP_ACT_ERRNO", Some(number)),
        Action::Trap => ("SCMP_ACT_TRAP", None),
        Action::KillThread => ("SCMP_ACT_KILL_THREAD", None),
        Action::KillProcess => ("SCMP_ACT_KILL_PROCESS", None),
    }
}

fn argument(test: &Test) -> Value {
    let (operator, value, second) = match test.is {
        Comparison::NotEqual(value) => ("SCMP_CMP_NE", value, 0),
        Comparison::Less(value) => ("SCMP_CMP_LT", value, 0),
        Comparison::LessOrEqual(value) => ("SCMP_CMP_LE", value, 0),
        Comparison::Equal(value) => ("SCMP_CMP_EQ", value, 0),
        Comparison::GreaterOrEqual(value) => ("SCMP_CMP_GE", value, 0),
        Comparison::Greater(value) => ("SCMP_CMP_GT", value, 0),
        Comparison::Masked { mask, value } => ("SCMP_CMP_MASKED_EQ", mask, value),
    };
    json!({"index": test.arg, "value": value, "valueTwo": second, "op": operator})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_get_the_limits_of_the_floor_program() {
        let config = config(Path::new("/r"), "/g", &["/bin/true"]);
        assert_eq!(config["linux"]["resources"]["cpu"]["quota"], 50_000);
        assert_eq!(config["linux"]["resources"]["memory"]["limit"], 67_108_864);
        assert_eq!(config["linux"]["namespaces"].as_array().unwrap().len(), 6);
        assert_eq!(config["process"]["args"], json!(["/bin/true"]));
    }

    #[test]
    fn the_agent_gets_the_limits_of_the_peers() {
        let config = config(Path::new("/r"), "/g", &["/bin/true"]);
        let resources = &config["linux"]["resources"];
        let of = |wanted: &str| plan::LIMITS.iter().find(|(name, _)| *name == wanted).unwrap().1;
        assert_eq!(resources["cpu"]["quota"].as_f64(), Some(of("cpus") * 100_000.0));
        assert_eq!(resources["memory"]["limit"].as_f64(), Some(of("mem") * 1024.0 * 1024.0));
        assert_eq!(resources["pids"]["limit"].as_f64(), Some(of("pids")));
    }

    #[test]
    fn the_peers_get_every_rule_that_applies_and_no_other() {
        let profile = Profile::default_profile();
        let section = seccomp(&profile, caps::DOCKER_DEFAULT);
        let applying = profile.rules().iter().filter(|rule| rule.applies(caps::DOCKER_DEFAULT)).count();
        let rules = section["syscalls"].as_array().unwrap();
        assert_eq!(rules.len(), applying);
        let allowed = |name: &str| {
            rules.iter().any(|rule| {
                rule["action"] == "SCMP_ACT_ALLOW" && rule["names"].as_array().unwrap().contains(&json!(name))
            })
        };
        assert!(allowed("execve") && allowed("chroot"));
        assert!(!allowed("mount") && !allowed("reboot"));
    }
}
