// SPDX-License-Identifier: Apache-2.0
//! What the options of `run` mean: from words to a container's configuration, the same with an agent and without.

use crate::cli::{Network, Run};
use crate::exit::Failure;
use crate::limits;
use crate::terminal;
use berth_factory::oneshot::DEFAULT_CAPABILITIES;
use berth_model::{
    Bytes, Capabilities, Capability, CapabilityInfo, ContainerConfig, ContainerId, ContainerInfo,
    ContainerType, LinuxInfo, NetworkInfo, RLimit, RLimitInfo, RLimitType, SeccompInfo, TtyInfo, Variable,
    Volume, VolumeMode, WindowSize,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What `--pids-limit` is when it is not given: enough for anything but a fork bomb.
const PIDS: i64 = 4096;

/// `--name`, or a random id.
pub(crate) fn id(args: &Run) -> Result<ContainerId, Failure> {
    match &args.name {
        Some(name) => ContainerId::new(name.as_str()).map_err(|e| Failure::text(format!("--name: {e}"))),
        None => random_id(),
    }
}

/// Everything but the root file system.
pub(crate) fn config(args: &Run, security: &Security) -> Result<ContainerConfig, Failure> {
    let mut config = ContainerConfig { user: args.user.clone(), ..ContainerConfig::default() };
    config.command_info.shell = false;
    let (image, words) = args.image();
    // With an image, its entry point and these words make the command.
    config.command_info.value = words.first().filter(|_| image.is_none()).cloned();
    config.command_info.arguments = words.to_vec();
    config.command_info.environment.variables = variables(&args.env_file, &args.env)?;
    config.command_info.uris = crate::fetch::uris(args)?;
    config.limits = limits(args)?;
    for list in limits::lists(&args.limiting)? {
        config.resources.try_add(list).map_err(|e| Failure::text(e.to_string()))?;
    }
    config.container_info = Some(container_info(args, security)?);
    Ok(config)
}

/// The variables of `--env-file` and `--env`; of two of a name the later counts, and `--env` before any file.
pub(crate) fn variables(files: &[PathBuf], env: &[String]) -> Result<Vec<Variable>, Failure> {
    let mut all: Vec<Variable> = Vec::new();
    let mut add = |one: Option<Variable>| {
        if let Some(one) = one {
            all.retain(|known| known.name != one.name);
            all.push(one);
        }
    };
    for file in files {
        in_file(file)?.into_iter().for_each(|one| add(Some(one)));
    }
    for text in env {
        add(variable(text)?);
    }
    Ok(all)
}

/// A file of variables, as docker reads it: values are taken as they stand, quotes and all.
fn in_file(path: &Path) -> Result<Vec<Variable>, Failure> {
    let wrong = |why: &str| Failure::text(format!("--env-file {}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| wrong(&e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
    let mut all = Vec::new();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong(&format!("line {} has no name of a variable: write NAME=VALUE", at + 1)));
        }
        all.extend(variable(line)?);
    }
    Ok(all)
}

/// `--security-opt`.
pub(crate) struct Security {
    seccomp: Option<SeccompInfo>,
    pub(crate) no_new_privileges: bool,
}

/// Reads it.
pub(crate) fn security(options: &[String]) -> Result<Security, Failure> {
    let mut security = Security { seccomp: None, no_new_privileges: true };
    for option in options {
        let (name, value) = option.split_once(['=', ':']).unwrap_or((option, "true"));
        match (name, value) {
            ("no-new-privileges", "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("seccomp", "unconfined") => {
                security.seccomp = Some(SeccompInfo { unconfined: Some(true), ..SeccompInfo::default() });
            }
            ("seccomp", path) if !path.is_empty() && path != "true" => {
                let path = std::path::absolute(path)
                    .map_err(|e| Failure::text(format!("seccomp profile {path}: {e}")))?;
                let name = path.to_string_lossy().into_owned();
                security.seccomp = Some(SeccompInfo { profile_name: Some(name), ..SeccompInfo::default() });
            }
            _ => {
                return Err(Failure::text(format!(
                    "--security-opt {option}: known are seccomp=PROFILE.json, seccomp=unconfined and no-new-privileges[=true|false]"
                )));
            }
        }
    }
    Ok(security)
}

/// 128 random bits as a UUID of version 4, as Mesos's agent makes them.
pub(crate) fn random_id() -> Result<ContainerId, Failure> {
    let mut b = [0u8; 16];
    let flags = berth_sys::rustix::rand::GetRandomFlags::empty();
    berth_sys::rustix::rand::getrandom(&mut b, flags)
        .map_err(|e| Failure::text(format!("make a random id: {e}")))?;
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
    let text = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    ContainerId::new(text).map_err(|e| Failure::text(e.to_string()))
}

/// `NAME=VALUE`, or `NAME` to take it from here (nothing when it is not set here).
fn variable(text: &str) -> Result<Option<Variable>, Failure> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var_os(text).map(|v| v.to_string_lossy().into_owned())),
    };
    if name.is_empty() {
        return Err(Failure::text(format!("--env {text}: a variable needs a name before the =")));
    }
    Ok(value.map(|value| Variable { name: name.to_owned(), value: Some(value), ..Variable::default() }))
}

fn limits(args: &Run) -> Result<BTreeMap<String, f64>, Failure> {
    let mut limits = BTreeMap::new();
    set_limits(
        &mut limits,
        args.cpus.as_deref(),
        args.memory.as_deref(),
        Some(args.pids_limit.unwrap_or(PIDS)),
    )?;
    limits::set(&mut limits, &args.limiting)?;
    Ok(limits)
}

/// Sets the limits that are given; 0 and -1 take the limit on processes away.
pub(crate) fn set_limits(
    limits: &mut BTreeMap<String, f64>,
    cpus: Option<&str>,
    memory: Option<&str>,
    pids: Option<i64>,
) -> Result<(), Failure> {
    if let Some(text) = cpus {
        let cpus: f64 = text.parse().unwrap_or(f64::NAN);
        let host = processors();
        if !(cpus.is_finite() && cpus >= 0.01) || text.starts_with('+') {
            return Err(Failure::text(format!(
                "--cpus {text}: must be a number of at least 0.01, such as 0.5"
            )));
        }
        if cpus > host {
            return Err(Failure::text(format!("--cpus {text}: this host has {host}: ask for at most that")));
        }
        limits.insert("cpus".to_owned(), cpus);
    }
    if let Some(text) = memory {
        let bytes = Bytes::parse_docker(text).map_err(|e| Failure::text(format!("--memory: {e}")))?.0;
        if bytes < 256 * 1024 {
            return Err(Failure::text(format!("--memory {text}: no program starts with less than 256k")));
        }
        limits.insert("mem".to_owned(), bytes as f64 / (1024.0 * 1024.0));
    }
    match pids {
        None => {}
        Some(0 | -1) => drop(limits.remove("pids")),
        Some(n) if n > 0 => {
            limits.insert("pids".to_owned(), n as f64);
        }
        Some(n) => {
            return Err(Failure::text(format!("--pids-limit {n}: must be at least 1, or -1 for no limit")));
        }
    }
    Ok(())
}

/// The processors that this process may use.
fn processors() -> f64 {
    let set = berth_sys::rustix::thread::sched_getaffinity(None);
    set.map_or(1.0, |set| f64::from(set.count().max(1)))
}

fn container_info(args: &Run, security: &Security) -> Result<ContainerInfo, Failure> {
    let mut info = ContainerInfo { r#type: ContainerType::Mesos, ..ContainerInfo::default() };
    info.hostname = args.hostname.clone();
    let volumes = args.volume.iter().map(|v| volume(v)).chain(args.mount.iter().map(|m| mount(m)));
    info.volumes = volumes.collect::<Result<_, _>>()?;
    if let Some(network) = args.network {
        let name = if network == Network::None { "none" } else { "host" };
        info.network_infos = vec![NetworkInfo { name: Some(name.to_owned()), ..NetworkInfo::default() }];
    }
    let mut linux = LinuxInfo { seccomp: security.seccomp.clone(), ..LinuxInfo::default() };
    if args.read_only {
        linux.read_only_rootfs = Some(true);
    }
    linux.devices = args.device.iter().map(|device| limits::device(device)).collect::<Result<_, _>>()?;
    if !args.cap_add.is_empty() || !args.cap_drop.is_empty() {
        linux.bounding_capabilities = Some(capabilities(&args.cap_add, &args.cap_drop)?);
    }
    info.linux_info = Some(linux);
    if !args.ulimit.is_empty() {
        let rlimits = args.ulimit.iter().map(|u| ulimit(u)).collect::<Result<_, _>>()?;
        info.rlimit_info = Some(RLimitInfo { rlimits });
    }
    if args.tty {
        info.tty_info = Some(tty_info());
    }
    Ok(info)
}

/// A terminal of the size of ours.
pub(crate) fn tty_info() -> TtyInfo {
    let window_size =
        terminal::size().map(|(rows, columns)| WindowSize { rows: rows.into(), columns: columns.into() });
    TtyInfo { window_size }
}

fn volume(text: &str) -> Result<Volume, Failure> {
    let wrong =
        |why: &str| Failure::text(format!("--volume {text}: {why}; write /host/path:/container/path[:ro]"));
    let parts: Vec<&str> = text.split(':').collect();
    let (from, to, mode) = match parts[..] {
        [from, to] => (from, to, VolumeMode::Rw),
        [from, to, "rw"] => (from, to, VolumeMode::Rw),
        [from, to, "ro"] => (from, to, VolumeMode::Ro),
        [_, _, other] => return Err(wrong(&format!("{other:?} is neither ro nor rw"))),
        _ => return Err(wrong("it needs a host path and a container path")),
    };
    let from =
        host_path(from).ok_or_else(|| wrong("the host path must be absolute, or begin with ./ or ../"))?;
    if !to.starts_with('/') {
        return Err(wrong("the container path must be absolute"));
    }
    Ok(Volume { container_path: to.to_owned(), host_path: Some(from), mode, ..Volume::default() })
}

/// A path of this host: absolute, or plainly relative to here, as docker has it; a bare name would be a volume's.
fn host_path(text: &str) -> Option<String> {
    let relative = matches!(text, "." | "..") || text.starts_with("./") || text.starts_with("../");
    match relative {
        true => std::path::absolute(text).ok()?.canonicalize().ok()?.into_os_string().into_string().ok(),
        false => text.starts_with('/').then(|| text.to_owned()),
    }
}

/// docker's longer form of `--volume`.
fn mount(text: &str) -> Result<Volume, Failure> {
    let wrong = |why: &str| {
        Failure::text(format!(
            "--mount {text}: {why}; write type=bind,source=/host/path,target=/container/path[,readonly]"
        ))
    };
    let (mut kind, mut from, mut to, mut mode) = (None, None, None, VolumeMode::Rw);
    for word in text.split(',') {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("type", Some(value)) => kind = Some(value),
            ("source" | "src", Some(value)) => from = Some(value),
            ("target" | "destination" | "dst", Some(value)) => to = Some(value),
            ("readonly" | "ro", None | Some("true" | "1")) => mode = VolumeMode::Ro,
            ("readonly" | "ro", Some("false" | "0")) => mode = VolumeMode::Rw,
            _ => return Err(wrong(&format!("{word:?} is not known here"))),
        }
    }
    match kind {
        Some("bind") => {}
        Some(other) => return Err(wrong(&format!("of the types only bind is known here, not {other:?}"))),
        None => return Err(wrong("it needs a type")),
    }
    let (Some(from), Some(to)) = (from, to) else { return Err(wrong("it needs a source and a target")) };
    let from =
        host_path(from).ok_or_else(|| wrong("the source must be absolute, or begin with ./ or ../"))?;
    if !to.starts_with('/') {
        return Err(wrong("the target must be absolute"));
    }
    Ok(Volume { container_path: to.to_owned(), host_path: Some(from), mode, ..Volume::default() })
}

fn capabilities(add: &[String], drop: &[String]) -> Result<CapabilityInfo, Failure> {
    // As with Docker: all that we have to give. Who was started with fewer than all can not give the rest.
    let all = berth_sys::rustix::thread::capabilities(None)
        .map_err(|e| Failure::text(format!("look at our own capabilities: {e}")))?
        .permitted
        .bits();
    let parse = |name: &String| -> Result<u64, Failure> {
        if name.eq_ignore_ascii_case("all") {
            return Ok(all);
        }
        let one: Capability = name.parse().map_err(|e| Failure::text(format!("capability {name}: {e}")))?;
        Ok(std::iter::once(one).collect::<Capabilities>().0)
    };
    let is_all = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("all"));
    // As Docker: ALL first, single ones then override it.
    let mut set = if is_all(add) {
        all
    } else if is_all(drop) {
        0
    } else {
        DEFAULT_CAPABILITIES
    };
    for name in drop {
        let bits = parse(name)?;
        if bits != all {
            set &= !bits;
        }
    }
    for name in add {
        set |= parse(name)?;
    }
    Ok(CapabilityInfo { capabilities: Capabilities(set).iter().collect() })
}

fn ulimit(text: &str) -> Result<RLimit, Failure> {
    let wrong = |why: &str| {
        Failure::text(format!("--ulimit {text}: {why}; write NAME=SOFT[:HARD], such as nofile=1024:2048"))
    };
    let (name, values) = text.split_once('=').ok_or_else(|| wrong("there is no ="))?;
    let r#type = match name {
        "as" => RLimitType::As,
        "core" => RLimitType::Core,
        "cpu" => RLimitType::Cpu,
        "data" => RLimitType::Data,
        "fsize" => RLimitType::Fsize,
        "locks" => RLimitType::Locks,
        "memlock" => RLimitType::Memlock,
        "msgqueue" => RLimitType::Msgqueue,
        "nice" => RLimitType::Nice,
        "nofile" => RLimitType::Nofile,
        "nproc" => RLimitType::Nproc,
        "rss" => RLimitType::Rss,
        "rtprio" => RLimitType::Rtprio,
        "rttime" => RLimitType::Rttime,
        "sigpending" => RLimitType::Sigpending,
        "stack" => RLimitType::Stack,
        _ => return Err(wrong(&format!("no limit is named {name:?}"))),
    };
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().map_err(|_| wrong(&format!("{text:?} is not a number")))
        }
        text => Err(wrong(&format!("{text:?} is not a number"))),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if soft > hard {
        return Err(wrong("the soft limit is above the hard one"));
    }
    Ok(RLimit { r#type, soft: Some(soft), hard: Some(hard) })
}
