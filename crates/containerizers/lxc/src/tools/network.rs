// SPDX-License-Identifier: Apache-2.0
//! Whether what a container's network asks for is there. LXC finds out half-way through a start, and says "Failed to
//! attach … to bridge" among other things.

use std::path::Path;

use super::{Config, Error, Name};

/// The first bridge that the configuration asks for and this host does not have.
pub fn missing_bridge(config: &Config, name: &Name, path: &Path) -> Option<Error> {
    missing_in(config, Path::new("/sys/class/net")).map(|bridge| Error::Bridge {
        bridge,
        name: name.to_string(),
        config: path.to_owned(),
    })
}

fn missing_in(config: &Config, interfaces: &Path) -> Option<String> {
    for line in &config.0 {
        let Some(network) = line.key.strip_prefix("lxc.net.").and_then(|key| key.strip_suffix(".type"))
        else {
            continue;
        };
        if line.value != "veth" || config.get(&line.key) != Some("veth") {
            continue;
        }
        // Without one, the pair is left as it is for somebody else.
        let Some(link) = config.get(&format!("lxc.net.{network}.link")).filter(|link| !link.is_empty())
        else {
            continue;
        };
        let place = interfaces.join(link);
        let is_name = !link.contains('/') && link != "." && link != "..";
        // A bridge of Open vSwitch has no directory `bridge`, and LXC takes it by its own tool.
        if !is_name || !place.exists() {
            return Some(link.escape_debug().to_string());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_that_is_not_there_is_found() {
        let root = std::env::temp_dir().join(format!("berth-lxc-net-{}", std::process::id()));
        std::fs::create_dir_all(root.join("br0")).unwrap();
        let missing = |text: &str| missing_in(&Config::parse(text), &root);
        assert_eq!(missing("lxc.net.0.type = veth\nlxc.net.0.link = br0"), None);
        assert_eq!(missing("lxc.net.0.type = veth\nlxc.net.0.link = br1").as_deref(), Some("br1"));
        assert_eq!(missing("lxc.net.0.type = empty\nlxc.net.0.link = br1"), None);
        assert_eq!(missing("lxc.net.0.type = veth\nlxc.net.0.link = br1\nlxc.net.0.type = none"), None);
        assert_eq!(missing("lxc.net.0.type = veth"), None);
        assert_eq!(missing("lxc.net.0.type = veth\nlxc.net.0.link = ../br0").as_deref(), Some("../br0"));
        std::fs::remove_dir_all(root).unwrap();
    }
}
