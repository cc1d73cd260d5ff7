// SPDX-License-Identifier: Apache-2.0
//! The file of a pod (docs/pods.md): YAML that is read strictly. What is wrong is told with its line, a key that there is
//! not with the nearest that there is, and nothing that stands in the file is left out.

use crate::exit::Failure;
use crate::limits::bytes;
use berth_model::{
    CommandInfo, ContainerId, ContainerInfo, Image, ImageType, LinuxInfo, MesosInfo, OciImage, SandboxPath,
    SandboxPathType, Variable, Volume, VolumeMode, VolumeSource, VolumeSourceType,
};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use std::collections::{BTreeMap, BTreeSet};

/// No pod's description is longer.
pub(crate) const LONGEST: u64 = 1 << 20;

/// What can be said of a container.
const MEMBER: &[&str] =
    &["name", "image", "command", "user", "workdir", "env", "limits", "volumes", "restart", "read_only"];

/// A pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pod {
    pub(crate) name: ContainerId,
    pub(crate) hostname: Option<String>,
    /// Of all its containers together.
    pub(crate) limits: BTreeMap<String, f64>,
    pub(crate) containers: Vec<Member>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) command: CommandInfo,
    pub(crate) container: ContainerInfo,
    pub(crate) limits: BTreeMap<String, f64>,
    pub(crate) restart: Restart,
}

/// When a container that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    Never,
    /// After another end than with status 0; so often at most.
    OnFailure(Option<u32>),
    Always,
}

impl Restart {
    /// Whether one that ended so, and was started again so often, is started again.
    pub(crate) fn again(self, status: Option<i32>, times: u32) -> bool {
        match self {
            Restart::Never => false,
            Restart::Always => true,
            Restart::OnFailure(most) => status != Some(0) && most.is_none_or(|most| times < most),
        }
    }
}

type Node<'a> = MarkedYaml<'a>;

/// The file, for messages.
#[derive(Clone, Copy)]
struct File<'a>(&'a str);

impl File<'_> {
    fn wrong(self, at: &Node<'_>, what: impl std::fmt::Display) -> Failure {
        Failure::text(format!("{}:{}: {what}", self.0, at.span.start.line()))
    }
}

/// Reads a pod.
///
/// # Errors
/// What is wrong, and in which line.
pub(crate) fn parse(file: &str, text: &str) -> Result<Pod, Failure> {
    let name = file;
    let file = File(file);
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|e| Failure::text(format!("{name}:{}: it is no YAML: {}", e.marker().line(), e.info())))?;
    let [document] = &documents[..] else {
        let count = documents.len();
        return Err(Failure::text(format!("{name}: a pod is one document, and this has {count}")));
    };
    let mut top = Keys::of(file, document, "a pod", &["name", "hostname", "limits", "containers"])?;
    let id = top.must("name")?;
    let text = string(file, id, "name")?;
    Ok(Pod {
        name: ContainerId::new(text).map_err(|e| file.wrong(id, format_args!("name: {e}")))?,
        hostname: top.take("hostname").map(|node| string(file, node, "hostname")).transpose()?,
        limits: top.take("limits").map(|node| limits(file, node)).transpose()?.unwrap_or_default(),
        containers: containers(file, top.must("containers")?)?,
    })
}

fn containers(file: File<'_>, node: &Node<'_>) -> Result<Vec<Member>, Failure> {
    let mut all = Vec::new();
    let mut names = BTreeSet::new();
    for node in sequence(file, node, "containers")? {
        let member = member(file, node)?;
        if !names.insert(member.name.clone()) {
            return Err(file.wrong(node, format_args!("two containers are named {:?}", member.name)));
        }
        all.push(member);
    }
    if all.is_empty() {
        return Err(file.wrong(node, "a pod needs a container"));
    }
    Ok(all)
}

fn member(file: File<'_>, node: &Node<'_>) -> Result<Member, Failure> {
    let mut keys = Keys::of(file, node, "a container", MEMBER)?;
    let named = keys.must("name")?;
    let name = string(file, named, "name")?;
    ContainerId::new(name.clone()).map_err(|e| file.wrong(named, format_args!("name: {e}")))?;
    let mut command = match keys.take("command") {
        Some(node) => self::command(file, node)?,
        None => CommandInfo { shell: false, ..CommandInfo::default() },
    };
    command.user = keys.take("user").map(|node| plain(file, node, "user")).transpose()?;
    let workdir = keys.take("workdir");
    command.working_directory = workdir.map(|node| string(file, node, "workdir")).transpose()?;
    if let Some(node) = keys.take("env") {
        command.environment.variables = env(file, node)?;
    }
    let mut container = ContainerInfo::default();
    let image = keys.take("image");
    if let Some(node) = image {
        let text = string(file, node, "image")?;
        let reference = crate::image::wanted(&text, None).map_err(|e| file.wrong(node, e.words()))?;
        let oci = Some(OciImage { reference: reference.name.to_string(), config: None });
        let image = Image { r#type: ImageType::Oci, oci, cached: true, ..Image::default() };
        container.mesos = Some(MesosInfo { image: Some(image) });
    } else if command.value.is_none() {
        return Err(file.wrong(node, "a container without an image needs a command"));
    }
    if let Some(node) = keys.take("read_only") {
        let read_only_rootfs = Some(boolean(file, node, "read_only")?);
        container.linux_info = Some(LinuxInfo { read_only_rootfs, ..LinuxInfo::default() });
    }
    if let Some(node) = keys.take("volumes") {
        for node in sequence(file, node, "volumes")? {
            container.volumes.push(volume(file, node)?);
        }
    }
    let member = Member {
        name,
        command,
        container,
        limits: keys.take("limits").map(|node| limits(file, node)).transpose()?.unwrap_or_default(),
        restart: keys.take("restart").map_or(Ok(Restart::Never), |node| restart(file, node))?,
    };
    Ok(member)
}

/// A text is for a shell; a list is a program and its arguments.
fn command(file: File<'_>, node: &Node<'_>) -> Result<CommandInfo, Failure> {
    if let YamlData::Sequence(parts) = &node.data {
        let arguments =
            parts.iter().map(|part| plain(file, part, "command")).collect::<Result<Vec<_>, _>>()?;
        let value = arguments.first().cloned();
        if value.is_none() {
            return Err(file.wrong(node, "command: it names no program"));
        }
        return Ok(CommandInfo { shell: false, value, arguments, ..CommandInfo::default() });
    }
    let value = Some(string(file, node, "command")?);
    Ok(CommandInfo { shell: true, value, ..CommandInfo::default() })
}

fn env(file: File<'_>, node: &Node<'_>) -> Result<Vec<Variable>, Failure> {
    let YamlData::Mapping(all) = &node.data else {
        return Err(file.wrong(node, "env: write NAME: VALUE, one in a line"));
    };
    let variable = |(name, value): (&Node<'_>, &Node<'_>)| {
        let value = Some(plain(file, value, "env")?);
        Ok(Variable { name: string(file, name, "env")?, value, ..Variable::default() })
    };
    all.iter().map(variable).collect()
}

fn limits(file: File<'_>, node: &Node<'_>) -> Result<BTreeMap<String, f64>, Failure> {
    let mut keys = Keys::of(file, node, "limits", &["cpus", "memory", "pids"])?;
    let mut all = BTreeMap::new();
    for name in ["cpus", "pids"] {
        if let Some(node) = keys.take(name) {
            let number = number(file, node, name)?;
            all.insert(name.to_owned(), number);
        }
    }
    if let Some(node) = keys.take("memory") {
        let text = plain(file, node, "memory")?;
        let bytes = bytes("memory", &text).map_err(|e| file.wrong(node, e.words()))?;
        all.insert("mem".to_owned(), bytes as f64 / (1024.0 * 1024.0));
    }
    Ok(all)
}

/// A directory that the containers of the pod can share.
fn volume(file: File<'_>, node: &Node<'_>) -> Result<Volume, Failure> {
    let mut keys = Keys::of(file, node, "a volume", &["name", "path", "read_only"])?;
    let named = keys.must("name")?;
    let name = string(file, named, "name")?;
    if ContainerId::new(name.clone()).is_err() || name == "containers" {
        return Err(file.wrong(named, format_args!("name: {name:?} can not be the name of a volume")));
    }
    let target = keys.must("path")?;
    let container_path = string(file, target, "path")?;
    if !container_path.starts_with('/') {
        return Err(file.wrong(target, "path: it must be absolute, as the container sees it"));
    }
    let read_only = keys.take("read_only").map_or(Ok(false), |node| boolean(file, node, "read_only"))?;
    let path = format!("volumes/{name}");
    let sandbox_path = Some(SandboxPath { r#type: SandboxPathType::Parent, path });
    let source = VolumeSource { r#type: VolumeSourceType::SandboxPath, sandbox_path, ..Default::default() };
    let mode = if read_only { VolumeMode::Ro } else { VolumeMode::Rw };
    Ok(Volume { mode, container_path, source: Some(source), ..Volume::default() })
}

fn restart(file: File<'_>, node: &Node<'_>) -> Result<Restart, Failure> {
    let text = string(file, node, "restart")?;
    let wrong = || {
        let what = format_args!("restart: {text:?} is none of never, on-failure, on-failure:N and always")
            .to_string();
        file.wrong(node, what)
    };
    match text.split_once(':') {
        None => match text.as_str() {
            "never" => Ok(Restart::Never),
            "on-failure" => Ok(Restart::OnFailure(None)),
            "always" => Ok(Restart::Always),
            _ => Err(wrong()),
        },
        Some(("on-failure", most)) => {
            most.parse().map(|most| Restart::OnFailure(Some(most))).map_err(|_| wrong())
        }
        Some(_) => Err(wrong()),
    }
}

/// The keys of a mapping.
struct Keys<'a, 'input> {
    file: File<'a>,
    what: &'static str,
    node: &'a Node<'input>,
    left: BTreeMap<String, &'a Node<'input>>,
}

impl<'a, 'input> Keys<'a, 'input> {
    /// All of them; one that there can not be is refused.
    fn of(
        file: File<'a>,
        node: &'a Node<'input>,
        what: &'static str,
        known: &[&str],
    ) -> Result<Self, Failure> {
        let YamlData::Mapping(all) = &node.data else {
            return Err(file.wrong(node, format_args!("{what} is written as KEY: VALUE, one in a line")));
        };
        let mut left = BTreeMap::new();
        for (key, value) in all {
            let name = string(file, key, "a key")?;
            if !known.contains(&name.as_str()) {
                let advice = match nearest(&name, known) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("there are {}", known.join(", ")),
                };
                return Err(file.wrong(key, format_args!("{what} has no {name:?}; {advice}")));
            }
            left.insert(name, value);
        }
        Ok(Keys { file, what, node, left })
    }

    fn take(&mut self, key: &str) -> Option<&'a Node<'input>> {
        let value = self.left.remove(key)?;
        // `key:` with nothing after it.
        (!matches!(&value.data, YamlData::Value(Scalar::Null))).then_some(value)
    }

    fn must(&mut self, key: &str) -> Result<&'a Node<'input>, Failure> {
        let missing = self.file.wrong(self.node, format_args!("{} needs a {key}", self.what));
        self.take(key).ok_or(missing)
    }
}

/// The name that was meant, if one is near.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let nearest = known.iter().copied().min_by_key(|known| distance(known))?;
    // A third of the letters wrong is another word.
    (distance(&nearest) <= (nearest.len().max(name.len()) / 3).max(1)).then_some(nearest)
}

fn sequence<'a, 'input>(
    file: File<'_>,
    node: &'a Node<'input>,
    key: &str,
) -> Result<&'a Vec<Node<'input>>, Failure> {
    match &node.data {
        YamlData::Sequence(all) => Ok(all),
        _ => Err(file.wrong(node, format_args!("{key} is a list: write each after a dash"))),
    }
}

/// A text, and nothing that only looks like one.
fn string(file: File<'_>, node: &Node<'_>, key: &str) -> Result<String, Failure> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Ok(text.to_string()),
        _ => Err(file.wrong(node, format_args!("{key} is a text: put it in quotes"))),
    }
}

/// A text, or a number or truth value as it would be written.
fn plain(file: File<'_>, node: &Node<'_>, key: &str) -> Result<String, Failure> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Ok(text.to_string()),
        YamlData::Value(Scalar::Integer(number)) => Ok(number.to_string()),
        YamlData::Value(Scalar::Boolean(value)) => Ok(value.to_string()),
        _ => Err(file.wrong(node, format_args!("{key} is a text: put it in quotes"))),
    }
}

fn boolean(file: File<'_>, node: &Node<'_>, key: &str) -> Result<bool, Failure> {
    match &node.data {
        YamlData::Value(Scalar::Boolean(value)) => Ok(*value),
        _ => Err(file.wrong(node, format_args!("{key} is true or false"))),
    }
}

fn number(file: File<'_>, node: &Node<'_>, key: &str) -> Result<f64, Failure> {
    let number = match &node.data {
        YamlData::Value(Scalar::Integer(number)) => Some(*number as f64),
        YamlData::Value(Scalar::FloatingPoint(number)) => Some(number.into_inner()),
        _ => None,
    };
    let good = number.filter(|number| number.is_finite() && *number > 0.0);
    good.ok_or_else(|| file.wrong(node, format_args!("{key} is a number greater than 0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\
name: web
hostname: front
limits: {cpus: 1.5, memory: 256m, pids: 100}
containers:
  - name: server
    image: docker.io/library/busybox:1
    command: [httpd, -f, -p, 8080]
    user: 1000
    workdir: /srv
    env: {A: b, N: 3}
    limits:
      memory: 64m
    volumes:
      - {name: data, path: /data, read_only: true}
    restart: on-failure:3
    read_only: true
  - name: other
    command: echo hello
";

    fn wrong(text: &str) -> String {
        format!("{:?}", parse("pod.yaml", text).unwrap_err())
    }

    #[test]
    fn a_whole_description_is_read() {
        let pod = parse("pod.yaml", WHOLE).unwrap();
        assert_eq!((pod.name.value(), pod.hostname.as_deref()), ("web", Some("front")));
        assert_eq!(
            pod.limits,
            [("cpus", 1.5), ("mem", 256.0), ("pids", 100.0)].map(|(n, v)| (n.to_owned(), v)).into()
        );
        let [server, other] = &pod.containers[..] else { panic!("{pod:?}") };
        assert_eq!(server.command.arguments, ["httpd", "-f", "-p", "8080"]);
        assert_eq!(
            (server.command.user.as_deref(), server.restart),
            (Some("1000"), Restart::OnFailure(Some(3)))
        );
        assert_eq!(server.command.environment.variables[1].value.as_deref(), Some("3"));
        assert_eq!(server.container.volumes[0].mode, VolumeMode::Ro);
        assert_eq!(server.limits.get("mem"), Some(&64.0));
        assert_eq!((other.command.shell, other.restart), (true, Restart::Never));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest() {
        let text = WHOLE.replace("    image:", "    imgae:");
        assert!(
            wrong(&text).contains("pod.yaml:6: a container has no \\\"imgae\\\"; did you mean image?"),
            "{}",
            wrong(&text)
        );
        let text = WHOLE.replace("      memory: 64m", "      swap: 64m");
        assert!(
            wrong(&text).contains("pod.yaml:12: limits has no \\\"swap\\\"; there are cpus, memory, pids"),
            "{}",
            wrong(&text)
        );
        assert!(wrong("name: a\ncontainers: []\nports: 3\n").contains("a pod has no"));
        assert!(wrong("name: a\ncontainers: []\n").contains("needs a container"));
    }

    #[test]
    fn what_is_not_what_it_should_be_is_refused() {
        for (text, told) in [
            ("", "0"),
            ("a: [", "no YAML"),
            ("name: a\n---\nname: b\n", "one document"),
            ("name: a.b\ncontainers: [{name: c, command: x}]\n", "invalid characters"),
            ("name: a\n", "needs a containers"),
            ("name: a\ncontainers: [{name: c}]\n", "needs a command"),
            ("name: a\ncontainers: [{name: c, command: x}, {name: c, command: y}]\n", "two containers"),
            ("name: a\ncontainers: [{name: c, command: x, restart: sometimes}]\n", "none of never"),
            ("name: a\ncontainers: [{name: c, command: x, limits: {cpus: -1}}]\n", "greater than 0"),
            (
                "name: a\ncontainers: [{name: c, command: x, volumes: [{name: ../x, path: /a}]}]\n",
                "name of a volume",
            ),
            ("name: a\ncontainers: [{name: c, command: x, volumes: [{name: v, path: a}]}]\n", "absolute"),
        ] {
            assert!(wrong(text).contains(told), "{text}: {}", wrong(text));
        }
    }

    #[test]
    fn rules_say_when_to_start_again() {
        assert!(!Restart::Never.again(Some(256), 0));
        assert!(Restart::Always.again(Some(0), 1000));
        assert!(!Restart::OnFailure(None).again(Some(0), 0));
        assert!(Restart::OnFailure(None).again(None, 1000), "an end that nobody knows is no success");
        assert!(Restart::OnFailure(Some(2)).again(Some(9), 1));
        assert!(!Restart::OnFailure(Some(2)).again(Some(9), 2));
    }
}
