// SPDX-License-Identifier: Apache-2.0
//! `DockerInfo.parameters`: options of `docker run`, as people know them from its command line, for the API. What this does
//! not know is refused by name: an option that is left out in silence may be the one that contains something.

use std::collections::BTreeMap;

use berth_contract::Error;
use berth_model::{Bytes, Parameter};

use crate::engine::{
    Addresses, Create, Device, DeviceRequest, Empty, Endpoint, HostConfig, NetworkingConfig, PortBinding,
    Texts, Ulimit,
};
use crate::error::{invalid, unsupported};

/// What is decided elsewhere, and would be lost or do harm here.
const OURS: &[(&str, &str)] = &[
    ("name", "containers are named by the containerizer"),
    ("rm", "the containerizer removes what has ended (--docker_remove_delay)"),
    ("restart", "who launched a container decides whether it is launched again"),
    ("detach", "the containerizer waits for every container"),
    ("cidfile", "`berth inspect` shows the engine's name"),
    ("env-file", "give the variables themselves"),
    ("label-file", "give the labels themselves"),
];

/// Puts options into a container's configuration, in their order. Says whether one of them is about name servers.
///
/// # Errors
/// One is not known, or its value can not be read.
pub(crate) fn apply(parameters: &[Parameter], create: &mut Create) -> Result<(), Error> {
    let mut endpoint = Endpoint::default();
    let mut networks = 0;
    for Parameter { key, value } in parameters {
        let wrong = |what: &str| invalid(format!("parameter '{key}={value}': {what}"));
        if let Some((_, why)) = OURS.iter().find(|(name, _)| name == key) {
            return Err(match key.as_str() {
                "name" => invalid("Parameter in DockerInfo must not be 'name'"),
                "restart" if value == "no" => continue,
                _ => unsupported(format!("parameter '{key}' is not taken: {why}")),
            });
        }
        if matches!(key.as_str(), "net" | "network") {
            networks += 1;
            if networks > 1 {
                return Err(wrong("a container has one network here: give the option once"));
            }
            create.host_config.network_mode = network(value);
            continue;
        }
        let known = text(key, value, create)
            || endpoint_of(key, value, &mut endpoint)
            || switch(key, value, create).map_err(|what| wrong(&what))?
            || number(key, value, &mut create.host_config).map_err(|what| wrong(&what))?
            || compound(key, value, create).map_err(|what| wrong(&what))?;
        if !known {
            let text = format!(
                "parameter '{key}' is not known to the Docker containerizer, which speaks to the engine itself: \
                 use what DockerInfo has for it, or leave it away"
            );
            return Err(unsupported(text));
        }
    }
    if endpoint != Endpoint::default() {
        let network = create.host_config.network_mode.clone();
        let endpoints_config = BTreeMap::from([(network, endpoint)]);
        create.networking_config = Some(NetworkingConfig { endpoints_config });
    }
    Ok(())
}

/// Whether one of the options says which name servers a container gets.
pub(crate) fn sets_dns(parameters: &[Parameter]) -> bool {
    const KEYS: [&str; 4] = ["dns", "dns-search", "dns-opt", "dns-option"];
    parameters.iter().any(|parameter| KEYS.contains(&parameter.key.as_str()))
}

/// The command line says "bridge" to what the API calls so, too.
fn network(value: &str) -> String {
    if value.is_empty() { "default".to_owned() } else { value.to_owned() }
}

/// Those whose value is taken as it is.
fn text(key: &str, value: &str, create: &mut Create) -> bool {
    let host = &mut create.host_config;
    let own = || value.to_owned();
    match key {
        "add-host" => host.extra_hosts.push(own()),
        "cap-add" => host.cap_add.push(own()),
        "cap-drop" => host.cap_drop.push(own()),
        "cgroup-parent" => host.cgroup_parent = own(),
        "cgroupns" => host.cgroupns_mode = own(),
        "cpuset-cpus" => host.cpuset_cpus = own(),
        "cpuset-mems" => host.cpuset_mems = own(),
        "device-cgroup-rule" => host.device_cgroup_rules.push(own()),
        "dns" => host.dns.push(own()),
        "dns-opt" | "dns-option" => host.dns_options.push(own()),
        "dns-search" => host.dns_search.push(own()),
        "domainname" => create.domainname = own(),
        "entrypoint" => create.entrypoint = Some(if value.is_empty() { vec![] } else { vec![own()] }),
        "env" | "e" => create.env.push(own()),
        "group-add" => host.group_add.push(own()),
        "hostname" | "h" => create.hostname = own(),
        "ipc" => host.ipc_mode = own(),
        "isolation" => host.isolation = own(),
        "link" => host.links.push(own()),
        "log-driver" => host.log_config.r#type = own(),
        "mac-address" => create.mac_address = own(),
        "pid" => host.pid_mode = own(),
        "runtime" => host.runtime = own(),
        "security-opt" => host.security_opt.push(own()),
        "stop-signal" => create.stop_signal = own(),
        "user" | "u" => create.user = own(),
        "userns" => host.userns_mode = own(),
        "uts" => host.uts_mode = own(),
        "volume" | "v" => host.binds.push(own()),
        "volume-driver" => host.volume_driver = own(),
        "volumes-from" => host.volumes_from.push(own()),
        "workdir" | "w" => create.working_dir = own(),
        _ => return false,
    }
    true
}

fn endpoint_of(key: &str, value: &str, endpoint: &mut Endpoint) -> bool {
    match key {
        "network-alias" | "net-alias" => endpoint.aliases.push(value.to_owned()),
        "ip" => endpoint.ipam.get_or_insert_with(Addresses::default).v4 = value.to_owned(),
        "ip6" => endpoint.ipam.get_or_insert_with(Addresses::default).v6 = value.to_owned(),
        _ => return false,
    }
    true
}

/// Those that are on or off.
fn switch(key: &str, value: &str, create: &mut Create) -> Result<bool, String> {
    let on = || match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("it is true or false".to_owned()),
    };
    let host = &mut create.host_config;
    match key {
        "init" => host.init = Some(on()?),
        "interactive" | "i" => create.open_stdin = on()?,
        "oom-kill-disable" => host.oom_kill_disable = Some(on()?),
        "privileged" => host.privileged = on()?,
        "publish-all" | "P" => host.publish_all_ports = on()?,
        "read-only" => host.readonly_rootfs = on()?,
        "tty" | "t" => create.tty = on()?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn number(key: &str, value: &str, host: &mut HostConfig) -> Result<bool, String> {
    let whole = || value.parse::<i64>().map_err(|_| "it is a whole number".to_owned());
    match key {
        "blkio-weight" => {
            host.blkio_weight = value.parse().map_err(|_| "it is a whole number".to_owned())?;
        }
        "cpu-period" => host.limits.cpu_period = whole()?,
        "cpu-quota" => host.limits.cpu_quota = whole()?,
        "cpu-shares" | "c" => host.limits.cpu_shares = whole()?,
        "cpus" => {
            let cpus: f64 = value.parse().map_err(|_| "it is a number".to_owned())?;
            if !(cpus.is_finite() && cpus >= 0.0) {
                return Err("it is a number of processors".to_owned());
            }
            // The engine takes one of the two.
            (host.limits.cpu_period, host.limits.cpu_quota) = (0, 0);
            host.nano_cpus = (cpus * 1e9) as i64;
        }
        "memory" | "m" => host.limits.memory = bytes(value)?,
        "memory-reservation" => host.limits.memory_reservation = bytes(value)?,
        "memory-swap" => host.limits.memory_swap = bytes(value)?,
        "memory-swappiness" => host.memory_swappiness = Some(whole()?),
        "oom-score-adj" => host.oom_score_adj = whole()?,
        "pids-limit" => host.limits.pids_limit = Some(whole()?),
        "shm-size" => host.shm_size = bytes(value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Those with parts.
fn compound(key: &str, value: &str, create: &mut Create) -> Result<bool, String> {
    let pair = || value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let named = || pair().ok_or_else(|| "it is NAME=VALUE".to_owned());
    let host = &mut create.host_config;
    match key {
        "device" => host.devices.push(device(value)),
        "expose" => _ = create.exposed_ports.insert(port(value), Empty {}),
        "gpus" => host.device_requests.push(gpus(value)?),
        "label" | "l" => {
            let (name, value) = pair().unwrap_or((value.to_owned(), String::new()));
            if name.starts_with("org.apache.berth.") {
                return Err("labels with this name are the containerizer's".to_owned());
            }
            create.labels.insert(name, value);
        }
        "log-opt" => host.log_config.config.extend([named()?]),
        "publish" | "p" => publish(value, create)?,
        "storage-opt" => host.storage_opt.get_or_insert_with(Texts::new).extend([named()?]),
        "sysctl" => host.sysctls.extend([named()?]),
        "tmpfs" => {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            host.tmpfs.insert(path.to_owned(), options.to_owned());
        }
        "ulimit" => host.ulimits.push(ulimit(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// As docker's command line: `64m`; and as all our flags: `64MB`.
fn bytes(value: &str) -> Result<i64, String> {
    if value == "-1" {
        return Ok(-1);
    }
    let lower = value.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match lower[digits.len()..].trim_end_matches('b') {
        "" => 1u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err("it is a number with b, k, m, g or t behind it".to_owned()),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let bytes =
        number.map(Bytes).ok_or_else(|| "it is a number with b, k, m, g or t behind it".to_owned())?;
    i64::try_from(bytes.0).map_err(|_| "it is too much".to_owned())
}

/// `HOST[:CONTAINER[:ACCESS]]`
fn device(value: &str) -> Device {
    let mut parts = value.splitn(3, ':');
    let host = parts.next().unwrap_or_default();
    let (second, third) = (parts.next(), parts.next());
    let is_access = |text: &str| !text.is_empty() && text.chars().all(|c| matches!(c, 'r' | 'w' | 'm'));
    let (inside, access) = match (second, third) {
        (Some(second), None) if is_access(second) => (host, second),
        (second, third) => (second.unwrap_or(host), third.unwrap_or("rwm")),
    };
    Device {
        path_on_host: host.to_owned(),
        path_in_container: inside.to_owned(),
        cgroup_permissions: access.to_owned(),
    }
}

/// `all`, a number, or `device=ID`.
fn gpus(value: &str) -> Result<DeviceRequest, String> {
    let capabilities = vec![vec!["gpu".to_owned()]];
    let request = DeviceRequest { capabilities, ..DeviceRequest::default() };
    if value == "all" {
        return Ok(DeviceRequest { count: -1, ..request });
    }
    if let Some(ids) = value.strip_prefix("device=") {
        return Ok(DeviceRequest { device_ids: ids.split(',').map(str::to_owned).collect(), ..request });
    }
    let count = value.parse().map_err(|_| "it is `all`, a number, or device=ID".to_owned())?;
    Ok(DeviceRequest { count, ..request })
}

/// `[IP:][HOST:]CONTAINER[/PROTOCOL]`
fn publish(value: &str, create: &mut Create) -> Result<(), String> {
    let mut parts = value.rsplitn(3, ':');
    let inside = parts.next().filter(|inside| !inside.is_empty()).ok_or("it names no port")?;
    let host_port = parts.next().unwrap_or_default().to_owned();
    let host_ip = parts.next().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let number = inside.split('/').next().unwrap_or_default();
    if number.contains('-') || host_port.contains('-') {
        return Err("ranges are not taken: give each port".to_owned());
    }
    if number.parse::<u16>().is_err() || !(host_port.is_empty() || host_port.parse::<u16>().is_ok()) {
        return Err("it is [ADDRESS:][HOST PORT:]CONTAINER PORT[/PROTOCOL]".to_owned());
    }
    let port = port(inside);
    create.exposed_ports.insert(port.clone(), Empty {});
    create.host_config.port_bindings.entry(port).or_default().push(PortBinding { host_ip, host_port });
    Ok(())
}

fn port(text: &str) -> String {
    if text.contains('/') { text.to_ascii_lowercase() } else { format!("{text}/tcp") }
}

/// `NAME=SOFT[:HARD]`
fn ulimit(value: &str) -> Result<Ulimit, String> {
    let wrong = || "it is NAME=SOFT[:HARD]".to_owned();
    let (name, numbers) = value.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = numbers.split_once(':').unwrap_or((numbers, numbers));
    let number = |text: &str| match text {
        "unlimited" => Ok(-1),
        text => text.parse::<i64>().map_err(|_| wrong()),
    };
    Ok(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(parameters: &[(&str, &str)]) -> Result<Create, String> {
        let all: Vec<Parameter> = parameters
            .iter()
            .map(|(key, value)| Parameter { key: (*key).to_owned(), value: (*value).to_owned() })
            .collect();
        let mut create = Create::default();
        apply(&all, &mut create).map_err(|error| error.to_string())?;
        Ok(create)
    }

    #[test]
    fn options_of_docker_run_become_fields_of_the_api() {
        let create = applied(&[
            ("cap-add", "NET_ADMIN"),
            ("memory", "64m"),
            ("ulimit", "nofile=10:20"),
            ("device", "/dev/fuse:rw"),
            ("publish", "127.0.0.1:8080:80"),
            ("publish", "53/UDP"),
            ("tmpfs", "/t:size=1m"),
            ("net", "host"),
            ("ip", "10.0.0.5"),
            ("network-alias", "web"),
            ("cpus", "1.5"),
            ("init", "true"),
            ("label", "a=b"),
        ])
        .unwrap();
        let host = &create.host_config;
        assert_eq!(host.cap_add, ["NET_ADMIN"]);
        assert_eq!((host.limits.memory, host.nano_cpus, host.init), (64 << 20, 1_500_000_000, Some(true)));
        assert_eq!((host.ulimits[0].soft, host.ulimits[0].hard), (10, 20));
        assert_eq!(
            (&*host.devices[0].path_in_container, &*host.devices[0].cgroup_permissions),
            ("/dev/fuse", "rw")
        );
        assert_eq!(host.port_bindings["80/tcp"][0].host_port, "8080");
        assert_eq!(host.port_bindings["80/tcp"][0].host_ip, "127.0.0.1");
        assert_eq!(host.port_bindings["53/udp"][0].host_port, "");
        assert_eq!((&*host.tmpfs["/t"], &*host.network_mode), ("size=1m", "host"));
        assert_eq!(create.labels["a"], "b");
        let endpoints = create.networking_config.unwrap().endpoints_config;
        assert_eq!(endpoints["host"].aliases, ["web"]);
        assert_eq!(endpoints["host"].ipam.as_ref().unwrap().v4, "10.0.0.5");
    }

    #[test]
    fn what_is_not_known_or_ours_is_refused_by_name() {
        let refused = |key, value| applied(&[(key, value)]).unwrap_err();
        assert_eq!(refused("name", "x"), "Parameter in DockerInfo must not be 'name'");
        assert!(refused("health-cmd", "x").contains("'health-cmd'"));
        assert!(refused("restart", "always").contains("launched again"));
        assert!(refused("memory", "lots").contains("memory=lots"));
        assert!(refused("label", "org.apache.berth.container=x").contains("containerizer's"));
        assert!(refused("publish", "1-5:1-5").contains("ranges"));
        assert!(applied(&[("net", "a"), ("network", "b")]).is_err());
        assert!(applied(&[("restart", "no")]).is_ok());
    }

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, size) in
            [("5", 5), ("5b", 5), ("5k", 5 << 10), ("5KB", 5 << 10), ("2g", 2 << 30), ("-1", -1)]
        {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "m", "5x", "99999999999t", "-5"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
