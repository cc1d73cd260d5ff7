// SPDX-License-Identifier: Apache-2.0
//! What is asked by GET (reference 33.10): the shapes and names from before Mesos's v1 API, which command lines read.

use berth_api::{Body, CAPABILITIES, Query, Refusal, StatusCode, Whole, as_json};
use berth_proto::{encode_json, v1};
use hyper::{Response, Uri};
use serde_json::{Map, Value, json};

use crate::amounts::{WHOLE, allocated, bare, messages, object, read};
use crate::framework::Framework;
use crate::http::Face;
use crate::metrics;
use crate::state::{Offer, State};
use berth_model::Resources;
use berth_proto::v1::framework_info::capability::Type as Capability;

const COUNTED: &[&str] = &[
    "TASK_STAGING",
    "TASK_STARTING",
    "TASK_RUNNING",
    "TASK_KILLING",
    "TASK_FINISHED",
    "TASK_KILLED",
    "TASK_FAILED",
    "TASK_LOST",
    "TASK_ERROR",
    "TASK_UNREACHABLE",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Health,
    Version,
    Flags,
    Metrics,
    Slaves,
    Tasks,
    Frameworks,
    State,
    Summary,
    Roles,
}

impl Endpoint {
    /// Whether it is only for those who say who they are, where that is asked.
    pub(crate) fn is_asked_who(self) -> bool {
        !matches!(self, Endpoint::Health | Endpoint::Version)
    }
}

pub(crate) async fn answer(
    face: &Face,
    endpoint: Endpoint,
    uri: &Uri,
    gzip: bool,
) -> Result<Response<Body>, Refusal> {
    let query = Query::of(uri);
    let value = match endpoint {
        Endpoint::Health => return Ok(Whole::empty(StatusCode::OK).respond(gzip).await),
        Endpoint::Version => as_value(&face.version),
        Endpoint::Flags => json!({ "flags": flags(&face.flags) }),
        Endpoint::Metrics => {
            query.time("timeout")?;
            face.look(|state, now| {
                let all = metrics::all(state, now);
                Value::Object(all.into_iter().map(|(name, value)| (name, json!(value))).collect())
            })
            .await?
        }
        Endpoint::Slaves => {
            let id = query.get("slave_id").map(str::to_owned);
            let version = face.version.version.clone();
            face.look(move |state, _| {
                let is_asked = id.is_none_or(|id| id == state.agent_id());
                let slaves: Vec<_> = is_asked.then(|| full_slave(state, &version)).into_iter().collect();
                json!({ "slaves": slaves, "recovered_slaves": [] })
            })
            .await?
        }
        Endpoint::Tasks => {
            let wanted = Wanted::of(&query);
            face.look(move |state, _| tasks(state, &wanted)).await?
        }
        Endpoint::Frameworks => {
            let id = query.get("framework_id").map(str::to_owned);
            face.look(move |state, _| frameworks(state, id.as_deref())).await?
        }
        Endpoint::State => {
            let (version, all) = (face.version.clone(), flags(&face.flags));
            face.look(move |state, _| whole(state, &version, all)).await?
        }
        Endpoint::Summary => {
            let version = face.version.version.clone();
            face.look(move |state, _| summary(state, &version)).await?
        }
        Endpoint::Roles => face.look(|state, _| roles(state)).await?,
    };
    Ok(as_json(value.to_string(), &query)?.respond(gzip).await)
}

fn flags(all: &[v1::Flag]) -> Value {
    let flag = |flag: &v1::Flag| (flag.name.clone(), json!(flag.value.clone().unwrap_or_default()));
    Value::Object(all.iter().map(flag).collect())
}

/// A message as JSON.
pub(crate) fn as_value<M: prost::Message + prost::Name>(message: &M) -> Value {
    serde_json::from_slice(&encode_json(message)).expect("the JSON of a message is JSON")
}

fn join(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            one.extend(other);
            Value::Object(one)
        }
        (one, _) => one,
    }
}

/// What all frameworks have, and what they are offered; of one framework, if it is named.
pub(crate) fn used(state: &State) -> Resources {
    let mut sum = Resources::new();
    state.frameworks.values().for_each(|framework| sum += &framework.used);
    sum
}

pub(crate) fn offered(state: &State, framework: Option<&str>) -> Resources {
    let mut sum = Resources::new();
    let is_its = |offer: &&Offer| framework.is_none_or(|id| id == offer.framework);
    state.offers.values().filter(is_its).for_each(|offer| sum += &allocated(&offer.resources, &offer.role));
    sum
}

fn full(resources: &Resources) -> Value {
    Value::Array(messages(resources, WHOLE).iter().map(as_value).collect())
}

/// The agent.
fn slave(state: &State, version: &str) -> Value {
    let unreserved = state.total.filter(|one| one.reservations.is_empty());
    let attribute = |one: &v1::Attribute| {
        let value = match (&one.scalar, &one.text) {
            (Some(scalar), _) => json!(scalar.value),
            (_, Some(text)) => json!(text.value),
            _ => json!(as_value(one)),
        };
        (one.name.clone(), value)
    };
    let attributes: Map<String, Value> = state.agent.attributes.iter().map(attribute).collect();
    json!({
        "id": state.agent_id(),
        "hostname": state.agent.hostname,
        "port": state.agent.port(),
        "attributes": attributes,
        "pid": state.agent_pid(),
        "registered_time": state.started,
        "resources": object(&state.total),
        "used_resources": object(&bare(&used(state))),
        "offered_resources": object(&bare(&offered(state, None))),
        "reserved_resources": by_reservation(state, object),
        "unreserved_resources": object(&unreserved),
        "active": true,
        "deactivated": false,
        "version": version,
        "capabilities": CAPABILITIES,
    })
}

fn by_reservation(state: &State, put: fn(&Resources) -> Value) -> Value {
    let reserved = state.total.filter(|one| !one.reservations.is_empty());
    let mut roles: Vec<String> = reserved.iter().map(|one| one.reservation_role().to_owned()).collect();
    roles.sort();
    roles.dedup();
    let of = |role: &String| put(&reserved.filter(|one| one.reservation_role() == role));
    Value::Object(roles.iter().map(|role| (role.clone(), of(role))).collect())
}

fn full_slave(state: &State, version: &str) -> Value {
    let unreserved = state.total.filter(|one| one.reservations.is_empty());
    let more = json!({
        "reserved_resources_full": by_reservation(state, full),
        "unreserved_resources_full": full(&unreserved),
        "used_resources_full": full(&used(state)),
        "offered_resources_full": full(&offered(state, None)),
    });
    join(slave(state, version), more)
}

/// What is told of a framework everywhere.
fn head(state: &State, framework: &Framework) -> Value {
    let info = &framework.info;
    let capabilities = info.capabilities.iter().filter(|one| one.r#type.is_some());
    json!({
        "id": framework.id(),
        "name": info.name,
        "used_resources": object(&bare(&framework.used)),
        "offered_resources": object(&bare(&offered(state, Some(framework.id())))),
        "capabilities": capabilities.map(|one| one.r#type().as_str_name()).collect::<Vec<_>>(),
        "hostname": info.hostname(),
        "webui_url": info.webui_url(),
        "active": framework.stream.is_some(),
        "connected": framework.stream.is_some(),
        "recovered": framework.recovered,
    })
}

fn labels(labels: Option<&v1::Labels>) -> Option<Value> {
    Some(Value::Array(labels?.labels.iter().map(as_value).collect()))
}

fn framework(state: &State, framework: &Framework) -> Value {
    let info = &framework.info;
    let offers = state.offers.iter().filter(|(_, offer)| offer.framework == framework.id());
    let offer = |(id, offer): (&String, &Offer)| {
        json!({
            "id": id,
            "framework_id": offer.framework,
            "allocation_info": { "role": offer.role },
            "slave_id": state.agent_id(),
            "resources": object(&offer.resources),
        })
    };
    let executors = framework.executors.values().map(|one| executor(state, one));
    let mut more = json!({
        "user": info.user,
        "failover_timeout": info.failover_timeout(),
        "checkpoint": info.checkpoint(),
        "registered_time": framework.registered,
        "unregistered_time": framework.unregistered,
        "resources": object(&(bare(&framework.used) + &bare(&offered(state, Some(framework.id()))))),
        "tasks": framework.tasks.values().map(task).collect::<Vec<_>>(),
        "unreachable_tasks": [],
        "completed_tasks": framework.completed_tasks.iter().map(task).collect::<Vec<_>>(),
        "offers": offers.map(offer).collect::<Vec<_>>(),
        "executors": executors.collect::<Vec<_>>(),
        "offer_constraints": framework.constraints.as_ref().map_or(json!({}), as_value),
    });
    if let Some(principal) = &info.principal {
        more["principal"] = json!(principal);
    }
    if framework.reregistered != framework.registered {
        more["reregistered_time"] = json!(framework.reregistered);
    }
    if framework.can(Capability::MultiRole) {
        more["roles"] = json!(framework.roles());
    } else {
        more["role"] = json!(framework.roles().concat());
    }
    if let Some(labels) = labels(info.labels.as_ref()) {
        more["labels"] = labels;
    }
    join(head(state, framework), more)
}

/// The role that resources are given to.
fn role(resources: &[v1::Resource]) -> &str {
    resources.iter().find_map(|one| one.allocation_info.as_ref()?.role.as_deref()).unwrap_or("*")
}

fn executor(state: &State, info: &v1::ExecutorInfo) -> Value {
    let command = info.command.as_ref();
    let mut of_command = json!({
        "argv": command.map_or(&[][..], |command| &command.arguments),
        "uris": command.map_or(Vec::new(), |command| command.uris.iter().map(as_value).collect()),
    });
    if let Some(value) = command.and_then(|command| command.value.as_ref()) {
        of_command["value"] = json!(value);
    }
    let mut told = json!({
        "executor_id": info.executor_id.value,
        "name": info.name(),
        "framework_id": info.framework_id.as_ref().map_or("", |id| &id.value),
        "command": of_command,
        "resources": object(&bare(&read(&info.resources).unwrap_or_default())),
        "role": role(&info.resources),
        "slave_id": state.agent_id(),
    });
    if let Some(labels) = labels(info.labels.as_ref()) {
        told["labels"] = labels;
    }
    if info.r#type.is_some() {
        told["type"] = json!(info.r#type().as_str_name());
    }
    told
}

fn task(task: &v1::Task) -> Value {
    let mut told = json!({
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.as_ref().map_or("", |id| &id.value),
        "slave_id": task.agent_id.value,
        "state": task.state().as_str_name(),
        "resources": object(&bare(&read(&task.resources).unwrap_or_default())),
        "role": role(&task.resources),
        "statuses": task.statuses.iter().map(status).collect::<Vec<_>>(),
    });
    if !task.limits.is_empty() {
        let limit = |(name, scalar): (&String, &v1::value::Scalar)| {
            let value = if scalar.value.is_finite() { json!(scalar.value) } else { json!("Infinity") };
            (name.clone(), value)
        };
        told["limits"] = Value::Object(task.limits.iter().map(limit).collect());
    }
    if let Some(user) = &task.user {
        told["user"] = json!(user);
    }
    if let Some(labels) = labels(task.labels.as_ref()) {
        told["labels"] = labels;
    }
    if let Some(discovery) = &task.discovery {
        told["discovery"] = as_value(discovery);
    }
    if let Some(container) = &task.container {
        told["container"] = as_value(container);
    }
    if let Some(check) = &task.health_check {
        told["health_check"] = as_value(check);
    }
    told
}

fn status(status: &v1::TaskStatus) -> Value {
    let mut told = json!({ "state": status.state().as_str_name(), "timestamp": status.timestamp() });
    if let Some(labels) = labels(status.labels.as_ref()) {
        told["labels"] = labels;
    }
    if let Some(container) = &status.container_status {
        let mut container = as_value(container);
        if let Value::Object(fields) = &mut container {
            fields.remove("executor_pid");
        }
        told["container_status"] = container;
    }
    if let Some(healthy) = status.healthy {
        told["healthy"] = json!(healthy);
    }
    told
}

fn frameworks(state: &State, id: Option<&str>) -> Value {
    let is_asked = |framework: &&Framework| id.is_none_or(|id| id == framework.id());
    let told = |one: &Framework| framework(state, one);
    json!({
        "frameworks": state.frameworks.values().filter(is_asked).map(told).collect::<Vec<_>>(),
        "completed_frameworks": state.completed.iter().filter(is_asked).map(told).collect::<Vec<_>>(),
        "unregistered_frameworks": [],
    })
}

/// Which tasks are asked for.
struct Wanted {
    framework: Option<String>,
    task: Option<String>,
    limit: Option<usize>,
    offset: usize,
    ascending: bool,
}

impl Wanted {
    fn of(query: &Query) -> Wanted {
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<i64>().ok());
        let limit = match number("limit") {
            None => Some(100),
            // All of them; with an offset it is no number of tasks.
            Some(-1) if number("offset").is_none_or(|offset| offset == 0) => None,
            Some(limit) => Some(usize::try_from(limit).unwrap_or(0)),
        };
        Wanted {
            framework: query.get("framework_id").map(str::to_owned),
            task: query.get("task_id").map(str::to_owned),
            limit,
            offset: number("offset").and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0),
            ascending: query.get("order") == Some("asc"),
        }
    }
}

fn tasks(state: &State, wanted: &Wanted) -> Value {
    let frameworks = state.frameworks.values().chain(&state.completed);
    let frameworks = frameworks.filter(|one| wanted.framework.as_deref().is_none_or(|id| id == one.id()));
    let tasks = frameworks.flat_map(|one| one.tasks.values().chain(&one.completed_tasks));
    let is_asked = |one: &&v1::Task| wanted.task.as_deref().is_none_or(|id| id == one.task_id.value);
    let mut tasks: Vec<&v1::Task> = tasks.filter(is_asked).collect();
    let since = |task: &v1::Task| task.statuses.first().map_or(0.0, v1::TaskStatus::timestamp);
    tasks.sort_by(|one, other| since(one).total_cmp(&since(other)));
    if !wanted.ascending {
        tasks.reverse();
    }
    let page = tasks.into_iter().skip(wanted.offset).take(wanted.limit.unwrap_or(usize::MAX));
    json!({ "tasks": page.map(task).collect::<Vec<_>>() })
}

fn whole(state: &State, version: &v1::VersionInfo, flags: Value) -> Value {
    let master = &state.master;
    let pid = master.pid.clone().unwrap_or_default();
    let capabilities = master.capabilities.iter().map(|one| one.r#type().as_str_name()).collect::<Vec<_>>();
    let own = json!({
        "start_time": state.started,
        "elected_time": state.started,
        "id": master.id,
        "pid": pid,
        "hostname": master.hostname(),
        "capabilities": capabilities,
        "activated_slaves": 1.0,
        "deactivated_slaves": 0.0,
        "unreachable_slaves": 0.0,
        "leader": pid,
        "leader_info": { "id": master.id, "pid": pid, "port": master.port, "hostname": master.hostname() },
        "flags": flags,
        "slaves": [slave(state, &version.version)],
        "recovered_slaves": [],
        "orphan_tasks": [],
    });
    join(join(as_value(version), own), frameworks(state, None))
}

fn counts<'a>(tasks: impl Iterator<Item = &'a v1::Task> + Clone) -> Value {
    let count = |name: &&str| {
        let number = tasks.clone().filter(|task| task.state().as_str_name() == *name).count();
        ((*name).to_owned(), json!(number))
    };
    Value::Object(COUNTED.iter().map(count).collect())
}

fn summary(state: &State, version: &str) -> Value {
    let all = state.frameworks.values().chain(&state.completed);
    let of = |one: &Framework| one.tasks.values().chain(&one.completed_tasks).cloned().collect::<Vec<_>>();
    let tasks: Vec<v1::Task> = all.flat_map(of).collect();
    let ids: Vec<_> = state.frameworks.keys().collect();
    let agent = join(slave(state, version), counts(tasks.iter()));
    let agent = join(agent, json!({ "framework_ids": ids }));
    let told = |one: &Framework| {
        let own = of(one);
        let is_here = !own.is_empty() || state.offers.values().any(|offer| offer.framework == one.id());
        let slaves: Vec<_> = is_here.then(|| state.agent_id()).into_iter().collect();
        join(join(head(state, one), counts(own.iter())), json!({ "slave_ids": slaves }))
    };
    json!({
        "hostname": state.master.hostname(),
        "slaves": [agent],
        "frameworks": state.frameworks.values().map(told).collect::<Vec<_>>(),
    })
}

/// Roles that somebody is subscribed to, and those frameworks.
pub(crate) fn subscribed(state: &State) -> Vec<(String, Vec<String>)> {
    let mut roles: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for (id, framework) in &state.frameworks {
        for role in framework.roles() {
            roles.entry(role).or_default().push(id.clone());
        }
    }
    roles.into_iter().collect()
}

/// What a role has and is offered.
pub(crate) fn of_role(state: &State, role: &str) -> (Resources, Resources) {
    let is_its = |one: &berth_model::Resource| one.allocation_role.as_deref() == Some(role);
    (bare(&used(state).filter(is_its)), bare(&offered(state, None).filter(is_its)))
}

fn roles(state: &State) -> Value {
    let told = |(name, frameworks): (String, Vec<String>)| {
        let (allocated, offered) = of_role(state, &name);
        let reserved =
            state.total.filter(|one| one.reservation_role() == name && !one.reservations.is_empty());
        json!({
            "name": name,
            "weight": 1.0,
            "quota": {
                "role": name,
                "guarantee": {},
                "limit": {},
                "consumed": object(&allocated),
            },
            "resources": object(&(allocated.clone() + &offered)),
            "allocated": object(&allocated),
            "offered": object(&offered),
            "reserved": object(&reserved),
            "frameworks": frameworks,
        })
    };
    json!({ "roles": subscribed(state).into_iter().map(told).collect::<Vec<_>>() })
}
