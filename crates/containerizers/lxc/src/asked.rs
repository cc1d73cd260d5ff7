// SPDX-License-Identifier: Apache-2.0
//! What was asked, as lines of LXC's configuration. Everything is kept or refused; nothing is dropped in silence.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use berth_contract::{Error, Variables};
use berth_image::{Root, resolve_user};
use berth_isolator::DEFAULT_CAPABILITIES;
use berth_model::{
    Capability, CommandInfo, ContainerConfig, ContainerInfo, ContainerType, LxcInfo, LxcMode,
    UserNamespaceMode, VolumeMode,
};

use crate::base::Base;
use crate::error::{invalid, of_io, of_tool, unsupported};
use crate::groups;
use crate::kept::Record;
use crate::logs::{self, Logs};
use crate::settings::Settings;
use crate::system;
use crate::tools::{self, Config, IdMap, Key, Line, check_value};

/// LXC's own filter of system calls.
const FILTER: &str = "/usr/share/lxc/config/common.seccomp";
/// Lines of a template that are ours to say.
const OURS: &[&str] = &[
    "lxc.rootfs.",
    "lxc.uts.name",
    "lxc.net.",
    "lxc.log.",
    "lxc.console.",
    "lxc.cgroup.dir",
    "lxc.cgroup.relative",
    "lxc.idmap",
    "lxc.execute.",
    "lxc.ephemeral",
    "lxc.start.",
    "lxc.apparmor.",
];
/// Devices that everybody may use: null, zero, full, tty, random, urandom, console, ptmx, terminals; and any may be made.
const DEVICES: &[&str] = &[
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
];

/// What is to be run, and how.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) mode: LxcMode,
    pub(crate) words: Vec<String>,
    /// For a command in a system container.
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) directory: String,
    /// Where a system's logs go, to see that LXC has mounted that and nothing else.
    pub(crate) logs: Option<Logs>,
}

/// Whether a configuration is for this containerizer.
pub(crate) fn is_ours(config: &ContainerConfig) -> bool {
    config.container_info.as_ref().is_some_and(|info| info.r#type == ContainerType::Lxc)
}

fn info(config: &ContainerConfig) -> Result<(&ContainerInfo, LxcInfo), Error> {
    let info =
        config.container_info.as_ref().ok_or_else(|| invalid("a container of LXC without container_info"))?;
    Ok((info, info.lxc.clone().unwrap_or_default()))
}

/// What LXC is to clone, and the users it has.
pub(crate) fn source(config: &ContainerConfig) -> Result<(LxcInfo, Option<IdMap>), Error> {
    let (info, lxc) = info(config)?;
    match (&lxc.template, &lxc.clone_from) {
        (Some(_), Some(_)) => {
            return Err(invalid("lxc.template and lxc.clone_from are both given: choose one"));
        }
        (None, None) => return Err(invalid("a container of LXC needs lxc.template or lxc.clone_from")),
        _ => {}
    }
    if let Some(option) = lxc.template_options.iter().find(|option| option.chars().any(char::is_control)) {
        return Err(invalid(format!("template option {option:?} has a control character in it")));
    }
    if info.tty_info.is_some() {
        return Err(unsupported("there is no terminal"));
    }
    if info.docker.is_some() || info.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) {
        return Err(invalid(
            "an image of docker or mesos in a container of LXC: its files come from a template",
        ));
    }
    let map = match info.linux_info.as_ref().and_then(|linux| linux.user_namespace.as_ref()) {
        Some(users) if users.mode == UserNamespaceMode::Private => {
            if !users.uid_maps.is_empty() || !users.gid_maps.is_empty() {
                return Err(unsupported(
                    "users are mapped as a whole range: uid_maps and gid_maps can not be chosen",
                ));
            }
            Some(IdMap::find(None).map_err(of_tool)?)
        }
        _ => None,
    };
    Ok((lxc, map))
}

/// Whether its init boots.
pub(crate) fn is_system(config: &ContainerConfig) -> bool {
    let lxc = config.container_info.as_ref().and_then(|info| info.lxc.as_ref());
    lxc.is_some_and(|lxc| lxc.mode == LxcMode::System)
}

/// Whether LXC's container stays when ours goes.
pub(crate) fn keeps(config: &ContainerConfig) -> bool {
    let lxc = config.container_info.as_ref().and_then(|info| info.lxc.as_ref());
    lxc.is_some_and(|lxc| lxc.keep_rootfs == Some(true))
}

/// The container's directory: its configuration, and the snapshot of its root file system.
pub(crate) fn prepare(
    settings: &Settings,
    record: &Record,
    environment: &Variables,
    base: &Base,
    place: &Path,
    map: Option<IdMap>,
) -> Result<Run, Error> {
    let (info, lxc) = info(&record.config)?;
    let mut run = run(settings, record, environment, base, lxc.mode)?;
    let delta = place.join("overlay/delta");
    crate::base::make_directory(place, if map.is_some() { 0o711 } else { 0o700 })?;
    crate::base::make_directory(&delta, 0o755)?;
    let mut lines = Vec::new();
    let mut say = |key: &str, value: String| -> Result<(), Error> {
        lines.push(Line::new(key, value).map_err(of_tool)?);
        Ok(())
    };
    for line in &base.config.0 {
        if !OURS.iter().any(|ours| line.key.starts_with(ours)) {
            // What the template wrote stays as it is: it ran as root.
            say(&line.key, line.value.clone())?;
        }
    }
    let templates = |key: &str| base.config.0.iter().any(|line| line.key.starts_with(key));
    say("lxc.rootfs.path", format!("overlay:{}:{}", plain(&base.rootfs)?, plain(&delta)?))?;
    let hostname = info.hostname.clone().unwrap_or_else(|| record.id.value().chars().take(63).collect());
    say("lxc.uts.name", hostname)?;
    if let Some(map) = map {
        for line in map.lines().map_err(of_tool)? {
            say(&line.key, line.value)?;
        }
        for path in [place.join("overlay"), delta.clone()] {
            std::os::unix::fs::chown(&path, Some(map.base), Some(map.base))
                .map_err(of_io(format!("give {} to the container's root", path.display())))?;
        }
    }
    network(info, &lxc, &mut say)?;
    let [own, monitor, pivot] = groups::paths(settings, &record.id);
    say("lxc.cgroup.dir.container", own)?;
    say("lxc.cgroup.dir.monitor", monitor)?;
    say("lxc.cgroup.dir.monitor.pivot", pivot)?;
    if !templates("lxc.cgroup.devices") && !templates("lxc.include") {
        for prefix in ["lxc.cgroup.devices", "lxc.cgroup2.devices"] {
            say(&format!("{prefix}.deny"), "a".to_owned())?;
            for device in DEVICES {
                say(&format!("{prefix}.allow"), (*device).to_owned())?;
            }
        }
    }
    if !templates("lxc.mount.auto") && !templates("lxc.include") {
        say("lxc.mount.auto", "cgroup:mixed proc:mixed sys:mixed".to_owned())?;
    }
    privileges(info, lxc.mode, &mut say)?;
    mount(&settings.sandbox_directory, &record.config.directory, false, &base.rootfs, &delta, map, &mut say)?;
    let sandbox = &record.config.directory;
    if lxc.mode == LxcMode::System {
        system::check(&base.rootfs)?;
    }
    if lxc.mode == LxcMode::System
        && let Some(logs) = Logs::make(sandbox, &base.rootfs, &info.volumes, map)?
    {
        let place = Path::new(logs::PLACE);
        mount(place, &Logs::source(sandbox), false, &base.rootfs, &delta, map, &mut say)?;
        run.logs = Some(logs);
    }
    volumes(settings, record, info, base, &delta, map, &mut say)?;
    rlimits(info, &mut say)?;
    if lxc.mode == LxcMode::Application {
        say("lxc.console.path", "none".to_owned())?;
        say("lxc.init.cwd", run.directory.clone())?;
        for (name, value) in &run.variables {
            check_value("lxc.environment", value).map_err(|_| {
                invalid(format!("variable {name} has a control character in it, which LXC can not take"))
            })?;
            say("lxc.environment", format!("{name}={value}"))?;
        }
        if let Some((uid, gid)) = run.user {
            say("lxc.init.uid", uid.to_string())?;
            say("lxc.init.gid", gid.to_string())?;
        }
    } else {
        // What lxc-start writes to is the sandbox's file, already open.
        say("lxc.console.logfile", "/proc/self/fd/1".to_owned())?;
    }
    for parameter in &lxc.config {
        let key = Key::allowed(&parameter.key).map_err(of_tool)?;
        say(key.as_str(), parameter.value.clone())?;
    }
    lines.extend(groups::lines(&record.config)?);
    let config = Config(lines);
    let name = name(record);
    if let Some(error) = tools::missing_bridge(&config, &name, &place.join("config")) {
        return Err(of_tool(error));
    }
    write(place, &config, base)?;
    Ok(run)
}

/// LXC's name of the container.
pub(crate) fn name(record: &Record) -> tools::Name {
    tools::Name::new(&format!("berth-{}", record.id.value()))
        .expect("an id has nothing in it that a name has not")
}

fn write(place: &Path, config: &Config, base: &Base) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let create = |name: &str, bytes: &[u8], mode: u32| {
        let path = place.join(name);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        file.and_then(|mut file| file.write_all(bytes)).map_err(of_io(format!("write {}", path.display())))
    };
    // Variables may be secret.
    create("config", config.to_string().as_bytes(), 0o600)?;
    if let Some(password) = &base.password {
        let metadata =
            password.symlink_metadata().map_err(of_io(format!("look at {}", password.display())))?;
        if metadata.is_file() && metadata.len() <= 4096 {
            let bytes = fs::read(password).map_err(of_io(format!("read {}", password.display())))?;
            create(tools::PASSWORD, &bytes, metadata.permissions().mode() & 0o700)?;
        }
    }
    Ok(())
}

/// A path that needs no quotes of any kind.
pub(crate) fn plain(path: &Path) -> Result<String, Error> {
    let text = path.to_str().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || "/._-+@,".contains(c);
    match text.starts_with('/') && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(invalid(format!(
            "{path:?} can not be told to LXC: use letters, digits and ._-+@, in work and runtime directories"
        ))),
    }
}

fn run(
    settings: &Settings,
    record: &Record,
    environment: &Variables,
    base: &Base,
    mode: LxcMode,
) -> Result<Run, Error> {
    let command = &record.config.command_info;
    let words = words(command)?;
    let directory = directory(settings, command);
    let variables = variables(settings, record, environment)?;
    let user = command.user.as_ref().or(record.config.user.as_ref());
    let user = user.map(|user| user_in(base, user)).transpose()?;
    Ok(Run { mode, words, user, variables: variables.into_iter().collect(), directory, logs: None })
}

/// The program and its arguments.
pub(crate) fn words(command: &CommandInfo) -> Result<Vec<String>, Error> {
    let value = command.value.clone().ok_or_else(|| invalid("a container of LXC without a command"))?;
    let words: Vec<String> = if command.shell {
        vec!["/bin/sh".to_owned(), "-c".to_owned(), value]
    } else {
        let rest = command.arguments.iter().skip(1).cloned();
        std::iter::once(value).chain(rest).collect()
    };
    if words[0].chars().any(char::is_control) || words[0].is_empty() {
        return Err(invalid(format!("program {:?} has a control character in its name, or none", words[0])));
    }
    Ok(words)
}

/// Where a command begins.
pub(crate) fn directory(settings: &Settings, command: &CommandInfo) -> String {
    let own = command.working_directory.clone();
    own.unwrap_or_else(|| settings.sandbox_directory.display().to_string())
}

/// The container's own variables.
pub(crate) fn variables(
    settings: &Settings,
    record: &Record,
    environment: &Variables,
) -> Result<Variables, Error> {
    let mut variables = environment.clone();
    variables.insert("MESOS_SANDBOX".to_owned(), settings.sandbox_directory.display().to_string());
    add_variables(&mut variables, &record.config.command_info)?;
    Ok(variables)
}

/// Those of a command on top of others.
pub(crate) fn add_variables(variables: &mut Variables, command: &CommandInfo) -> Result<(), Error> {
    for variable in &command.environment.variables {
        let Some(value) = &variable.value else {
            return Err(unsupported("secret variables are not resolved"));
        };
        variables.insert(variable.name.clone(), value.clone());
    }
    match variables.keys().find(|name| !is_variable(name)) {
        Some(name) => Err(invalid(format!("{name:?} can not be the name of a variable"))),
        None => Ok(()),
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains('=') && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

fn user_in(base: &Base, user: &str) -> Result<(u32, u32), Error> {
    let root = Root::at(&base.rootfs).map_err(|error| invalid(format!("the root file system: {error}")))?;
    let found = resolve_user(&root, user)
        .map_err(|error| Error::because(error.class(), format!("user '{user}'"), error))?;
    Ok((found.uid, found.gid))
}

type Say<'a> = &'a mut dyn FnMut(&str, String) -> Result<(), Error>;

fn network(info: &ContainerInfo, lxc: &LxcInfo, say: Say<'_>) -> Result<(), Error> {
    if lxc.config.iter().any(|line| line.key.starts_with("lxc.net.")) {
        if !info.network_infos.is_empty() {
            return Err(invalid("the network is given by network_infos and by lxc.net lines: choose one"));
        }
        return Ok(());
    }
    let mut number = 0;
    for network in &info.network_infos {
        if !network.port_mappings.is_empty() || !network.ip_addresses.is_empty() {
            return Err(unsupported("addresses and ports of a network are not set (lxc.net lines can)"));
        }
        match network.name.as_deref() {
            None | Some("host") => say(&format!("lxc.net.{number}.type"), "none".to_owned())?,
            Some("none") => say(&format!("lxc.net.{number}.type"), "empty".to_owned())?,
            Some(bridge) => {
                say(&format!("lxc.net.{number}.type"), "veth".to_owned())?;
                say(&format!("lxc.net.{number}.link"), bridge.to_owned())?;
                say(&format!("lxc.net.{number}.flags"), "up".to_owned())?;
            }
        }
        number += 1;
    }
    if number == 0 { say("lxc.net.0.type", "empty".to_owned()) } else { Ok(()) }
}

fn privileges(info: &ContainerInfo, mode: LxcMode, say: Say<'_>) -> Result<(), Error> {
    let linux = info.linux_info.clone().unwrap_or_default();
    if linux.share_pid_namespace == Some(true) || linux.ipc_mode.is_some() || linux.shm_size.is_some() {
        return Err(unsupported("namespaces of processes and memory are always the container's own"));
    }
    if linux.read_only_rootfs == Some(true) || !linux.cdi_devices.is_empty() {
        return Err(unsupported("a read-only root file system and CDI devices are not made"));
    }
    let asked = linux.effective_capabilities.or(linux.bounding_capabilities).or(linux.capability_info);
    let kept: Option<Vec<Capability>> = match asked {
        Some(asked) => Some(asked.capabilities),
        None if mode == LxcMode::Application => {
            let is_default =
                |capability: &&Capability| DEFAULT_CAPABILITIES & (1 << (**capability as u32)) != 0;
            Some(Capability::ALL.iter().filter(is_default).copied().collect())
        }
        None => None,
    };
    if let Some(kept) = kept {
        // What the template drops and what is kept can not both be said: the second is complete.
        say("lxc.cap.drop", String::new())?;
        say("lxc.cap.keep", String::new())?;
        let names: Vec<String> = kept.iter().map(|capability| capability.name().to_lowercase()).collect();
        say("lxc.cap.keep", if names.is_empty() { "none".to_owned() } else { names.join(" ") })?;
    }
    if mode == LxcMode::Application {
        say("lxc.no_new_privs", "1".to_owned())?;
    }
    match linux.seccomp {
        Some(seccomp) if seccomp.profile_name.is_some() => {
            return Err(unsupported("profiles of seccomp are LXC's own"));
        }
        Some(seccomp) if seccomp.unconfined == Some(true) => {}
        _ if Path::new(FILTER).exists() => say("lxc.seccomp.profile", FILTER.to_owned())?,
        _ => {}
    }
    for device in &linux.devices {
        let inside = device.container_path.as_deref().unwrap_or(&device.path);
        let metadata =
            fs::metadata(&device.path).map_err(of_io(format!("look at the device {}", device.path)))?;
        let kind = match metadata.mode() & 0o170_000 {
            0o020_000 => 'c',
            0o060_000 => 'b',
            _ => return Err(invalid(format!("{} is not a device", device.path))),
        };
        let access = device.access.as_deref().unwrap_or("rwm");
        if access.is_empty() || !access.chars().all(|c| "rwm".contains(c)) {
            return Err(invalid(format!("access {access:?} to a device is not of r, w and m")));
        }
        let number = metadata.rdev();
        let (major, minor) = (berth_sys::rustix::fs::major(number), berth_sys::rustix::fs::minor(number));
        for prefix in ["lxc.cgroup.devices.allow", "lxc.cgroup2.devices.allow"] {
            say(prefix, format!("{kind} {major}:{minor} {access}"))?;
        }
        let target = inside
            .strip_prefix("/dev/")
            .filter(|rest| Path::new(rest).components().all(|c| matches!(c, Component::Normal(_))));
        let target = target.ok_or_else(|| invalid(format!("device {inside} is not below /dev")))?;
        // /dev is made anew at each start, by LXC: there is nothing of anybody's in it.
        say(
            "lxc.mount.entry",
            format!("{} dev/{} none bind,create=file 0 0", field(&device.path)?, field(target)?),
        )?;
    }
    Ok(())
}

fn volumes(
    settings: &Settings,
    record: &Record,
    info: &ContainerInfo,
    base: &Base,
    delta: &Path,
    map: Option<IdMap>,
    say: Say<'_>,
) -> Result<(), Error> {
    for volume in &info.volumes {
        if volume.image.is_some() || volume.source.is_some() {
            return Err(unsupported("volumes are directories of the host"));
        }
        let Some(host) = &volume.host_path else { return Err(unsupported("a volume needs a host_path")) };
        let from = if host.starts_with('/') {
            PathBuf::from(host)
        } else {
            return Err(unsupported("a volume's host_path has to be absolute"));
        };
        if !from.is_dir() {
            return Err(invalid(format!("volume {host} is not a directory of this host")));
        }
        let to = if volume.container_path.starts_with('/') {
            PathBuf::from(&volume.container_path)
        } else {
            return Err(unsupported("a volume's container_path has to be absolute"));
        };
        if to.starts_with(&settings.sandbox_directory) {
            return Err(unsupported("a volume in the sandbox is not mounted"));
        }
        let _ = record;
        mount(&to, &from, volume.mode == VolumeMode::Ro, &base.rootfs, delta, map, say)?;
    }
    Ok(())
}

/// A mount, whose mount point is made in the container's own layer: LXC would make it by path, and a link in the root file
/// system could lead that anywhere.
fn mount(
    to: &Path,
    from: &Path,
    read_only: bool,
    lower: &Path,
    delta: &Path,
    map: Option<IdMap>,
    say: Say<'_>,
) -> Result<(), Error> {
    let (mut below, mut own) = (Some(lower.to_owned()), delta.to_owned());
    let mut target = PathBuf::new();
    for part in to.components() {
        let part = match part {
            Component::RootDir => continue,
            Component::Normal(part) => part,
            _ => {
                return Err(invalid(format!(
                    "{} is not a place to mount at: it has . or .. in it",
                    to.display()
                )));
            }
        };
        target.push(part);
        own.push(part);
        below = below.map(|below| below.join(part)).filter(|below| below.symlink_metadata().is_ok());
        let mut mode = 0o755;
        let mut owner = map.map_or((0, 0), |map| (map.base, map.base));
        if let Some(path) = &below {
            let metadata = path.symlink_metadata().map_err(of_io(format!("look at {}", path.display())))?;
            if !metadata.is_dir() {
                return Err(invalid(format!(
                    "/{} is no directory in the root file system (a link, perhaps): nothing is mounted through it; name the place that it leads to",
                    target.display()
                )));
            }
            mode = metadata.mode() & 0o7777;
            owner = (metadata.uid(), metadata.gid());
        }
        if own.symlink_metadata().is_err() {
            let made = fs::create_dir(&own)
                .and_then(|()| std::os::unix::fs::chown(&own, Some(owner.0), Some(owner.1)))
                .and_then(|()| fs::set_permissions(&own, fs::Permissions::from_mode(mode)));
            made.map_err(of_io(format!("make {}", own.display())))?;
        }
    }
    let options = if read_only { "bind,ro" } else { "bind" };
    let text = |path: &Path| field(path.to_str().unwrap_or_default());
    say("lxc.mount.entry", format!("{} {} none {options} 0 0", text(from)?, text(&target)?))
}

/// A field of fstab(5).
fn field(text: &str) -> Result<String, Error> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(invalid(format!("path {text:?} is empty or has a control character in it")));
    }
    Ok(text.replace('\\', "\\134").replace(' ', "\\040"))
}

fn rlimits(info: &ContainerInfo, say: Say<'_>) -> Result<(), Error> {
    let Some(all) = &info.rlimit_info else { return Ok(()) };
    for limit in &all.rlimits {
        let name = format!("{:?}", limit.r#type).to_lowercase();
        if name == "unknown" {
            return Err(invalid("a resource limit of an unknown kind"));
        }
        let value = match (limit.soft, limit.hard) {
            (Some(soft), Some(hard)) if soft <= hard => format!("{soft}:{hard}"),
            (None, None) => "unlimited".to_owned(),
            _ => {
                return Err(invalid(format!(
                    "resource limit {name}: give soft and hard, the soft one not above the hard one"
                )));
            }
        };
        say(&format!("lxc.prlimit.{name}"), value)?;
    }
    Ok(())
}
