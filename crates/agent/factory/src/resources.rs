// SPDX-License-Identifier: Apache-2.0
//! `resources(flags)`: what the agent offers. What `--resources` names is taken as it stands; of cpus, mem,
//! disk and ports, what it does not name is detected (a name with the amount 0 counts as named).

use berth_model::resources::{ParseError, Parsed, from_flag};
use berth_model::{Class, Resources};

use crate::flags::Flags;
use crate::gpus::{Asked, GpuError, detect};
use crate::host::Host;
use crate::isolation::normalise_isolation;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What [`resources`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Determined {
    /// The resources, in the roles that they belong to.
    pub resources: Resources,
    /// What could not be detected, and what stands in its place.
    pub warnings: Vec<String>,
}

/// Why the agent's resources can not be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ResourcesError {
    /// `--resources` or `--default_role` is wrong; its words are the whole message.
    #[error(transparent)]
    Flag(#[from] ParseError),
    /// The graphics cards do not agree with the rest.
    #[error("Failed to obtain GPU resources: {0}")]
    Gpus(#[from] GpuError),
}

impl ResourcesError {
    /// The line with which the agent exits.
    pub fn fatal(&self) -> String {
        format!("Failed to determine agent resources: {self}")
    }

    /// Always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Determines the agent's resources.
pub fn resources(flags: &Flags, host: &Host) -> Result<Determined, ResourcesError> {
    let text = flags.resources.as_deref().unwrap_or_default();
    let Parsed { mut resources, names: named } = from_flag(text, &flags.default_role)?;
    let mut warnings = Vec::new();
    let mut detected: Vec<String> = Vec::new();
    if !named.contains("cpus") {
        detected.push(format!("cpus:{}", cpus(host, &mut warnings)));
    }
    // A list of isolators that can not be has been refused by `create`; here it has no cards.
    let isolator = normalise_isolation(&flags.isolation).is_ok_and(|isolation| isolation.has("gpu/nvidia"));
    let asked = Asked {
        isolator,
        present: host.nvidia_devices,
        count: named.contains("gpus").then(|| resources.gpus().unwrap_or(0.0)),
        devices: flags.nvidia_gpu_devices.as_deref(),
    };
    if let Some(gpus) = detect(asked)? {
        detected.push(format!("gpus:{gpus}"));
    }
    if !named.contains("mem") {
        detected.push(format!("mem:{}", mem(host, &mut warnings)));
    }
    if !named.contains("disk") {
        detected.push(format!("disk:{}", disk(host, &mut warnings)));
    }
    if !named.contains("ports") {
        detected.push("ports:[31000-32000]".to_owned());
    }
    resources += &from_flag(&detected.join(";"), &flags.default_role)?.resources;
    Ok(Determined { resources, warnings })
}

fn cpus(host: &Host, warnings: &mut Vec<String>) -> u64 {
    match &host.cpus {
        Ok(count) => *count,
        Err(why) => {
            warnings
                .push(format!("Failed to auto-detect the number of cpus to use: '{why}'; defaulting to 1"));
            1
        }
    }
}

/// In MB: all but one GB, or half of what is less than two.
fn mem(host: &Host, warnings: &mut Vec<String>) -> u64 {
    match host.memory {
        Ok(total) if total >= 2 * GIB => (total - GIB) / MIB,
        Ok(total) => total / 2 / MIB,
        Err(ref why) => {
            warnings
                .push(format!("Failed to auto-detect the size of main memory: '{why}' ; defaulting to 1GB"));
            1024
        }
    }
}

/// In MB: all but five GB, or half of what is less than ten.
fn disk(host: &Host, warnings: &mut Vec<String>) -> u64 {
    match host.disk {
        Ok(total) if total >= 10 * GIB => (total - 5 * GIB) / MIB,
        Ok(total) => total / 2 / MIB,
        Err(ref why) => {
            warnings.push(format!("Failed to auto-detect the disk space: '{why}' ; defaulting to 10GB"));
            10_240
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::Launcher;

    fn host() -> Host {
        Host {
            cpus: Ok(4),
            memory: Ok(16 * GIB),
            disk: Ok(100 * GIB),
            launcher: Launcher::Linux,
            nvidia_devices: None,
        }
    }

    /// `--resources` unset, or this.
    fn with(text: Option<&str>, host: &Host) -> Determined {
        let flags = Flags { resources: text.map(str::to_owned), ..Flags::default() };
        resources(&flags, host).unwrap()
    }

    fn parsed(text: &str) -> Resources {
        from_flag(text, "*").unwrap().resources
    }

    #[test]
    fn everything_is_detected_when_nothing_is_named() {
        let found = with(None, &host());
        assert_eq!(found.resources, parsed("cpus:4;mem:15360;disk:97280;ports:[31000-32000]"));
        assert_eq!(found.warnings, [""; 0]);
        assert_eq!(with(Some(""), &host()), found);
        assert_eq!(with(Some(";;"), &host()), found);
    }

    #[test]
    fn small_hosts_offer_half() {
        let host = Host { memory: Ok(2 * GIB - 1), disk: Ok(10 * GIB - 1), ..host() };
        let found = with(Some("ports:[1-2]"), &host).resources;
        assert_eq!(found, parsed("ports:[1-2];cpus:4;mem:1023;disk:5119"));
        let host = Host { memory: Ok(2 * GIB), disk: Ok(10 * GIB), ..host };
        let found = with(Some("ports:[1-2]"), &host).resources;
        assert_eq!(found, parsed("ports:[1-2];cpus:4;mem:1024;disk:5120"));
    }

    #[test]
    fn what_can_not_be_detected_has_a_fallback_and_a_warning() {
        let none = || Err("gone".to_owned());
        let found = with(None, &Host { cpus: none(), memory: none(), disk: none(), ..host() });
        assert_eq!(found.resources, parsed("cpus:1;mem:1024;disk:10240;ports:[31000-32000]"));
        assert_eq!(
            found.warnings,
            [
                "Failed to auto-detect the number of cpus to use: 'gone'; defaulting to 1",
                "Failed to auto-detect the size of main memory: 'gone' ; defaulting to 1GB",
                "Failed to auto-detect the disk space: 'gone' ; defaulting to 10GB",
            ]
        );
    }

    #[test]
    fn what_is_named_is_not_detected_even_with_nothing_of_it() {
        let found = with(Some("cpus : 2.5; mem(ops):512;disk:0"), &host()).resources;
        assert_eq!(found, parsed("cpus:2.5;mem(ops):512;ports:[31000-32000]"));
        // Names are compared whole: `mem` in another name is not `mem`.
        let found = with(Some("memory_bandwidth:7;cpus:1;disk:1;ports:[1-1]"), &host()).resources;
        assert_eq!(found, parsed("memory_bandwidth:7;cpus:1;disk:1;ports:[1-1];mem:15360"));
    }

    #[test]
    fn names_are_found_in_json_too() {
        let json = r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":3}}]"#;
        let found = with(Some(json), &host()).resources;
        assert_eq!(found, parsed("cpus:3;mem:15360;disk:97280;ports:[31000-32000]"));
    }

    #[test]
    fn what_is_detected_belongs_to_the_default_role() {
        let flags = Flags {
            default_role: "ops".to_owned(),
            resources: Some("cpus:1;mem:2;disk(web):3".to_owned()),
            ..Flags::default()
        };
        let found = resources(&flags, &host()).unwrap().resources;
        assert_eq!(found, parsed("cpus(ops):1;mem(ops):2;disk(web):3;ports(ops):[31000-32000]"));
    }

    #[test]
    fn cards_are_counted_only_with_isolator_and_library() {
        let flags = Flags {
            isolation: "filesystem/linux,cgroups/devices,gpu/nvidia".to_owned(),
            resources: Some("cpus:1;mem:2;disk:3;ports:[1-1]".to_owned()),
            ..Flags::default()
        };
        let counted = Host { nvidia_devices: Some(2), ..host() };
        let found = resources(&flags, &counted).unwrap().resources;
        assert_eq!(found, parsed("cpus:1;mem:2;disk:3;ports:[1-1];gpus:2"));
        let found = resources(&flags, &host()).unwrap().resources;
        assert_eq!(found, parsed("cpus:1;mem:2;disk:3;ports:[1-1]"));

        let flags = Flags { resources: Some("gpus:1".to_owned()), ..flags };
        let error = resources(&flags, &counted).unwrap_err();
        assert_eq!(
            error.fatal(),
            "Failed to determine agent resources: Failed to obtain GPU resources: \
             The `gpus` resource cannot be set without also setting `--nvidia_gpu_devices`"
        );
        let flags = Flags { nvidia_gpu_devices: Some(vec![0]), ..Flags::default() };
        assert!(resources(&flags, &host()).unwrap_err().to_string().contains("if the `--isolation` flag"));
    }
}
