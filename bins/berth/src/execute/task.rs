// SPDX-License-Identifier: Apache-2.0
//! What flags ask for, as messages.

use std::os::unix::fs::MetadataExt as _;

use berth_model::Resources;
use berth_proto::convert::{resources, resources_of};
use berth_proto::decode_json;
use berth_proto::v1;
use berth_proto::v1::framework_info::{Capability, capability};
use berth_proto::v1::offer::{Operation, operation};
use serde_json::{Value, json};

use super::flags::{Flags, Wrong};

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Task(Box<v1::TaskInfo>),
    Group(v1::TaskGroupInfo),
}

impl Work {
    pub(super) fn of(flags: &Flags) -> Result<Work, Wrong> {
        if let Some(json) = flags.json("task_group")? {
            return message(&json, "task_group").map(Work::Group);
        }
        let json = match flags.json("task")? {
            Some(mut json) => {
                if let Some(fields) = json.as_object_mut() {
                    fields.entry("agent_id").or_insert_with(|| json!({ "value": "" }));
                }
                return message(&json, "task").map(|task| Work::Task(Box::new(task)));
            }
            None => single(flags)?,
        };
        message(&json, "task").map(|task| Work::Task(Box::new(task)))
    }

    /// The ids of all tasks.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Work::Task(task) => vec![task.task_id.value.clone()],
            Work::Group(group) => group.tasks.iter().map(|task| task.task_id.value.clone()).collect(),
        }
    }

    /// That they were given to the master.
    pub(super) fn submitted(&self) -> String {
        match self {
            Work::Task(task) => format!("Submitted task '{}'", task.name),
            Work::Group(_) => format!("Submitted task group with tasks [ {} ]", self.names().join(", ")),
        }
    }

    pub(super) fn framework(&self, flags: &Flags, id: Option<v1::FrameworkId>) -> v1::FrameworkInfo {
        use capability::Type;
        let mut kinds = vec![Type::ReservationRefinement, Type::TaskKillingState, Type::RevocableResources];
        if flags.switch("partition_aware", true) {
            kinds.push(Type::PartitionAware);
        }
        if !flags.list("framework_capabilities").is_empty() {
            kinds.push(Type::GpuResources);
        }
        let capability = |kind: Type| Capability { r#type: Some(kind.into()) };
        #[expect(deprecated, reason = "a framework of one role names it there")]
        v1::FrameworkInfo {
            user: user(),
            name: "mesos-execute instance".to_owned(),
            id,
            role: Some(flags.get("role").unwrap_or("*").to_owned()),
            checkpoint: Some(flags.switch("checkpoint", false)),
            principal: flags.principal.clone(),
            capabilities: kinds.into_iter().map(capability).collect(),
            ..v1::FrameworkInfo::default()
        }
    }

    /// Whether an offer has all that is needed, for whomever it is reserved.
    pub(super) fn fits(&self, offer: &v1::Offer) -> bool {
        let plain = |list: &[v1::Resource]| -> Resources {
            let all = resources(list).unwrap_or_default();
            let bare =
                |one: &berth_model::Resource| berth_model::Resource::new(&*one.name, one.value.clone());
            all.iter().map(bare).collect()
        };
        let need = match self {
            Work::Task(task) => plain(&task.resources),
            Work::Group(group) => {
                let mut sum = plain(&executor(&v1::FrameworkId::default()).resources);
                group.tasks.iter().for_each(|task| sum += &plain(&task.resources));
                sum
            }
        };
        plain(&offer.resources).contains(&need)
    }

    /// What an offer is accepted for.
    pub(super) fn operation(&self, agent: &v1::AgentId, framework: &v1::FrameworkId) -> Operation {
        match self {
            Work::Task(task) => {
                let task = v1::TaskInfo { agent_id: agent.clone(), ..(**task).clone() };
                let launch = Some(operation::Launch { task_infos: vec![task] });
                Operation { r#type: Some(operation::Type::Launch.into()), launch, ..Operation::default() }
            }
            Work::Group(group) => {
                let on_agent = |task: &v1::TaskInfo| v1::TaskInfo { agent_id: agent.clone(), ..task.clone() };
                let tasks = group.tasks.iter().map(on_agent).collect();
                let launch_group = Some(operation::LaunchGroup {
                    executor: executor(framework),
                    task_group: v1::TaskGroupInfo { tasks },
                });
                let kind = Some(operation::Type::LaunchGroup.into());
                Operation { r#type: kind, launch_group, ..Operation::default() }
            }
        }
    }
}

fn executor(framework: &v1::FrameworkId) -> v1::ExecutorInfo {
    let own = berth_model::resources::from_flag("cpus:0.1;mem:32;disk:32", "*");
    v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Default.into()),
        executor_id: v1::ExecutorId { value: "default-executor".to_owned() },
        framework_id: Some(framework.clone()),
        resources: resources_of(&own.map(|parsed| parsed.resources).unwrap_or_default()),
        ..v1::ExecutorInfo::default()
    }
}

fn message<M: prost::Message + prost::Name + Default>(json: &Value, flag: &str) -> Result<M, Wrong> {
    let wrong = |why| Wrong::usage(format!("Failed to load flag '{flag}': {why}"));
    decode_json(json.to_string().as_bytes()).map_err(wrong)
}

/// One task, from the flags that describe it.
fn single(flags: &Flags) -> Result<Value, Wrong> {
    let text = flags.get("resources").unwrap_or("cpus:1;mem:128");
    let parsed = berth_model::resources::from_flag(text, "*")
        .map_err(|why| Wrong::plain(format!("Failed to parse resources '{text}': {why}")))?;
    let name = flags.get("name").unwrap_or_default();
    let mut command = json!({});
    let shell = flags.switch("shell", true);
    match flags.get("command") {
        Some(text) if shell => command["value"] = json!(text),
        // What stands there are the words of a program, the first of which names it.
        Some(text) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            command["shell"] = json!(false);
            if flags.get("docker_image").is_none() {
                command["value"] = json!(words.first());
            }
            command["arguments"] = json!(words);
        }
        None => command["shell"] = json!(false),
    }
    if let Some(Value::Object(variables)) = flags.json("env")? {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let variable = |(name, value): (&String, &Value)| json!({ "name": name, "value": text(value) });
        command["environment"] = json!({ "variables": variables.iter().map(variable).collect::<Vec<_>>() });
    }
    let mut task = json!({
        "name": name,
        "task_id": { "value": name },
        "agent_id": { "value": "" },
        "command": command,
        "resources": parsed.resources,
    });
    if let Some(container) = container(flags)? {
        task["container"] = container;
    }
    Ok(task)
}

/// The container, if anything is said of it.
fn container(flags: &Flags) -> Result<Option<Value>, Wrong> {
    let docker = flags.get("containerizer") == Some("docker");
    let image = flags.get("docker_image");
    let networks = flags.list("networks");
    let mut container = json!({ "type": if docker { "DOCKER" } else { "MESOS" } });
    let mut is_used = docker;
    if docker {
        let network = if networks.is_empty() { "HOST" } else { "USER" };
        container["docker"] = json!({ "image": image, "network": network });
    } else if let Some(name) = image {
        is_used = true;
        container["mesos"] = json!({ "image": { "type": "DOCKER", "docker": { "name": name } } });
    } else if let Some(name) = flags.get("appc_image") {
        is_used = true;
        container["mesos"] = json!({ "image": { "type": "APPC", "appc": { "name": name } } });
    }
    if !networks.is_empty() {
        is_used = true;
        container["network_infos"] =
            networks.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>().into();
    }
    for (flag, field) in [("volumes", "volumes"), ("rlimits", "rlimit_info")] {
        if let Some(value) = flags.json(flag)? {
            is_used = true;
            container[field] = value;
        }
    }
    for field in ["effective_capabilities", "bounding_capabilities"] {
        if let Some(value) = flags.json(field)? {
            is_used = true;
            container["linux_info"][field] = value;
        }
    }
    if flags.switch("tty", false) {
        is_used = true;
        container["tty_info"] = json!({});
    }
    Ok(is_used.then_some(container))
}

/// The name of the user who asks.
fn user() -> String {
    let own = std::fs::metadata("/proc/self").map_or(0, |own| own.uid());
    let all = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = all.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(own)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| if own == 0 { "root".to_owned() } else { own.to_string() })
}
