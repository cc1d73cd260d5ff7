// SPDX-License-Identifier: Apache-2.0
//! `/flags` and `/state`: the agent itself. Field names here are those before Mesos's v1 API.

use std::time::UNIX_EPOCH;

use berth_proto::agent::call::Type;
use berth_proto::encode_json;
use berth_proto::v1::{Resource, value};
use serde_json::{Map, Value, json};

use super::{agent_info, message, tree};
use crate::{Caller, Core, Refusal};

/// What agents of Mesos can do that ours can too.
pub const CAPABILITIES: &[&str] =
    &["MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "TASK_RESOURCE_LIMITS"];

/// The role of what is reserved for nobody.
const NOBODY: &str = "*";

/// `/flags`
pub(super) fn flags(core: &dyn Core) -> Value {
    json!({ "flags": all_flags(core) })
}

fn all_flags(core: &dyn Core) -> Value {
    let flag = |flag: berth_proto::v1::Flag| (flag.name, Value::String(flag.value.unwrap_or_default()));
    Value::Object(core.flags().into_iter().map(flag).collect())
}

/// `/state`, without the flags for those who may not see them.
pub(super) async fn state(core: &dyn Core, caller: &Caller) -> Result<Value, Refusal> {
    let info = agent_info(core).await?;
    let started = core.started().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut state = match message(&encode_json(&core.version())) {
        Value::Object(version) => version,
        _ => Map::new(),
    };
    let (unreserved, reserved): (Vec<&Resource>, Vec<&Resource>) =
        info.resources.iter().partition(|resource| role(resource) == NOBODY);
    let roles = by_role(&reserved);
    let of_roles = |put: fn(&[&Resource]) -> Value| {
        Value::Object(roles.iter().map(|(role, resources)| ((*role).to_owned(), put(resources))).collect())
    };
    let frameworks = core.tree().await?;
    let told = |over| -> Vec<Value> {
        frameworks.iter().filter(|framework| framework.over == over).map(tree::framework).collect()
    };
    // What executors that have not ended, and their tasks, have of the agent.
    let living =
        frameworks.iter().flat_map(|framework| &framework.executors).filter(|executor| !executor.over);
    let allocated: Vec<&Resource> = living
        .flat_map(|executor| {
            let tasks = executor.tasks.iter().chain(&executor.queued).flat_map(|task| &task.resources);
            executor.info.resources.iter().chain(tasks)
        })
        .collect();
    let (unreserved_allocated, reserved_allocated): (Vec<&Resource>, Vec<&Resource>) =
        allocated.into_iter().partition(|resource| role(resource) == NOBODY);
    let reserved_allocated: Map<String, Value> = by_role(&reserved_allocated)
        .iter()
        .map(|(role, resources)| ((*role).to_owned(), summary(resources)))
        .collect();
    let own = json!({
        "start_time": started.as_secs_f64(),
        "id": info.id.map(|id| id.value).unwrap_or_default(),
        "pid": core.pid(),
        "hostname": info.hostname,
        "capabilities": CAPABILITIES,
        "resources": summary(&info.resources.iter().collect::<Vec<_>>()),
        "reserved_resources": of_roles(summary),
        "unreserved_resources": summary(&unreserved),
        "reserved_resources_full": of_roles(full),
        "unreserved_resources_full": full(&unreserved),
        "reserved_resources_allocated": reserved_allocated,
        "unreserved_resources_allocated": summary(&unreserved_allocated),
        "resource_providers": [],
        "attributes": {},
        "frameworks": told(false),
        "completed_frameworks": told(true),
    });
    if let Value::Object(own) = own {
        state.extend(own);
    }
    if core.authorize(caller, Type::GetFlags, None).await? {
        state.insert("flags".to_owned(), all_flags(core));
    }
    Ok(Value::Object(state))
}

/// Who a resource is reserved for: the innermost of its reservations.
fn role(resource: &Resource) -> &str {
    resource.reservations.last().and_then(|reservation| reservation.role.as_deref()).unwrap_or(NOBODY)
}

fn by_role<'a>(resources: &[&'a Resource]) -> Vec<(&'a str, Vec<&'a Resource>)> {
    let mut roles: Vec<(&str, Vec<&Resource>)> = Vec::new();
    for resource in resources {
        match roles.iter_mut().find(|(known, _)| *known == role(resource)) {
            Some((_, all)) => all.push(resource),
            None => roles.push((role(resource), vec![resource])),
        }
    }
    roles
}

/// Names and values: scalars are numbers, all others text.
pub(super) fn summary(resources: &[&Resource]) -> Value {
    let mut all: Map<String, Value> =
        ["cpus", "gpus", "mem", "disk"].map(|name| (name.to_owned(), json!(0.0))).into_iter().collect();
    for resource in resources {
        let suffix = if resource.revocable.is_some() { "_revocable" } else { "" };
        let name = format!("{}{suffix}", resource.name);
        let before = all.get(&name);
        let value = if let Some(scalar) = &resource.scalar {
            let sum = before.and_then(Value::as_f64).unwrap_or(0.0) + scalar.value;
            // Three decimals count, as in Mesos: what is added up is told without the dust of binary fractions.
            json!((sum * 1000.0).round() / 1000.0)
        } else {
            let text = resource.ranges.as_ref().map(ranges).or_else(|| resource.set.as_ref().map(set));
            json!(text.unwrap_or_default())
        };
        all.insert(name, value);
    }
    Value::Object(all)
}

fn ranges(ranges: &value::Ranges) -> String {
    let all: Vec<String> =
        ranges.range.iter().map(|range| format!("{}-{}", range.begin, range.end)).collect();
    format!("[{}]", all.join(", "))
}

fn set(set: &value::Set) -> String {
    format!("{{{}}}", set.item.join(", "))
}

/// Whole resources, with the older field for their role beside the newer ones.
fn full(resources: &[&Resource]) -> Value {
    let one = |resource: &&Resource| {
        let mut value = message(&encode_json(*resource));
        value["role"] = json!(role(resource));
        value
    };
    resources.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::decode_json;

    fn resource(text: &str) -> Resource {
        decode_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_summary_has_the_four_numbers_and_all_else() {
        let all = [
            resource(r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1.5}}"#),
            resource(
                r#"{"name":"cpus","type":"SCALAR","scalar":{"value":2},"reservations":[{"type":"STATIC","role":"web"}]}"#,
            ),
            resource(r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"revocable":{}}"#),
            resource(
                r#"{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":2},{"begin":5,"end":5}]}}"#,
            ),
            resource(r#"{"name":"z","type":"SET","set":{"item":["a","b"]}}"#),
        ];
        let all: Vec<&Resource> = all.iter().collect();
        assert_eq!(
            summary(&all).to_string(),
            r#"{"cpus":3.5,"cpus_revocable":1.0,"disk":0.0,"gpus":0.0,"mem":0.0,"ports":"[1-2, 5-5]","z":"{a, b}"}"#
        );
        let tenths = [0.1, 0.2].map(|value| {
            resource(&format!(r#"{{"name":"cpus","type":"SCALAR","scalar":{{"value":{value}}}}}"#))
        });
        assert_eq!(summary(&[&tenths[0], &tenths[1]])["cpus"], json!(0.3));
        assert_eq!((role(all[0]), role(all[1])), ("*", "web"));
        let whole = full(&all[1..2]);
        assert_eq!((&whole[0]["role"], &whole[0]["reservations"][0]["role"]), (&json!("web"), &json!("web")));
    }
}
