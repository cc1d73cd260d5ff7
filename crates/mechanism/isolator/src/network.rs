// SPDX-License-Identifier: Apache-2.0
//! `network/cni` without a CNI configuration: the host's network, or a namespace of its own with loopback up.
//!
//! A container on the host's root file system has the host's network; one with a root file system of its own has
//! none but loopback. The network names `host` and `none` ask for either. Every container has a
//! host name of its own, with the host's network too: Mesos's executors there expect the host's, which is still open.

use crate::{Settings, text};
use berth_launcher::wire::Step;
use berth_launcher::{Container, Error, Isolator, Phase, Plan, Result};
use berth_sys::process::Namespaces;

const NAME: &str = "network/cni";

struct Network;

pub(crate) fn make(_: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Network))
}

/// Whether the container gets a network namespace.
pub(crate) fn is_own(container: &Container<'_>) -> Result<bool> {
    let networks = container.config.container_info.iter().flat_map(|i| &i.network_infos);
    let mut names = networks.map(|n| n.name.as_deref());
    match (names.next(), names.next()) {
        (None, _) => Ok(container.within.is_none() && container.rootfs.is_own()),
        (Some(Some("none")), None) => Ok(true),
        (Some(Some("host") | None), None) if container.within.is_some() => Err(Error::Unsupported(
            "a container in another one has that one's network or a new one: name no network, or 'none'"
                .to_owned(),
        )),
        (Some(Some("host") | None), None) => Ok(false),
        (Some(Some("host" | "none") | None), Some(_)) => Err(Error::Invalid(
            "the networks host and none can not be combined with others: name one network".to_owned(),
        )),
        (Some(Some(other)), _) => Err(Error::Unsupported(format!(
            "no network is named {other:?}: this version has host and none, and no CNI configuration is loaded"
        ))),
    }
}

impl Isolator for Network {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        if is_own(container)? {
            plan.namespaces(Namespaces::NET);
            plan.step(NAME, Phase::Namespace, Step::Loopback {}, "bring the loopback interface up");
        }
        let info = container.config.container_info.as_ref();
        let hostname = info.and_then(|i| i.hostname.as_deref());
        if container.within.is_some() && hostname.is_none() && info.is_none_or(|i| i.network_infos.is_empty())
        {
            // With the parent's network it has the parent's name.
            return Ok(());
        }
        let hostname = match hostname {
            Some(name) => name.to_owned(),
            None => default_hostname(container.id.value()),
        };
        let hostname = hostname.as_str();
        check(hostname)?;
        plan.namespaces(Namespaces::UTS);
        let what = format!("set the host name {hostname:?}");
        plan.step(NAME, Phase::Namespace, Step::Hostname { name: &text(hostname)? }, what);
        Ok(())
    }
}

/// As Docker: the id's beginning, as far as a host name can have it.
fn default_hostname(id: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = id.chars().take(12).map(letter).collect();
    match name.trim_matches('-') {
        "" => "container".to_owned(),
        name => name.to_owned(),
    }
}

/// RFC 1123 labels, and no longer than the kernel takes (64).
fn check(name: &str) -> Result<()> {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if name.len() <= 64 && name.split('.').all(label) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "host name {name:?} is not valid: use at most 64 letters, digits, - and _, in labels separated by dots"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_host_name() {
        for id in ["0123456789abcdef", "berth-tcovw-31", "-", "é@ü+ö:ä~ß=", "_"] {
            let name = default_hostname(id);
            assert!(check(&name).is_ok(), "{id}: {name}");
        }
        assert_eq!(default_hostname("0123456789abcdef"), "0123456789ab");
        assert_eq!(default_hostname("berth-tcovw-31"), "berth-tcovw");
    }
}
