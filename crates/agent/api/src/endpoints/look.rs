// SPDX-License-Identifier: Apache-2.0
//! What can be looked at: containers of executors, what is under way, what is measured, how much is logged.

use std::time::Duration;

use berth_proto::agent::response::{get_containers, get_executors};
use berth_proto::encode_json;
use berth_proto::own::operations_in_flight::Operation;
use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::message;
use super::query::Query;
use crate::answer::Whole;
use crate::server::Shared;
use crate::{Caller, Core, Refusal, Show};

/// Between two answers of statistics.
const PAUSE: Duration = Duration::from_millis(500);
/// Who would wait longer is refused.
const PATIENCE: Duration = Duration::from_secs(30);

/// `/containers`: those of executors.
pub(super) async fn containers(core: &dyn Core, caller: &Caller, query: &Query) -> Result<Value, Refusal> {
    let [container, framework, executor] =
        ["container_id", "framework_id", "executor_id"].map(|name| query.get(name));
    match (container, framework, executor) {
        (None, None, None) | (Some(_), None, None) | (None, Some(_), _) => {}
        _ => {
            return Err(Refusal::bad_request(
                "Supported query parameters are container_id only, framework_id only, or executor_id and framework_id only",
            ));
        }
    }
    let mut all = of_executors(core, caller).await?;
    let is =
        |entry: &Value, name: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| entry[name] == wanted);
    all.retain(|entry| {
        is(entry, "container_id", container)
            && is(entry, "framework_id", framework)
            && is(entry, "executor_id", executor)
    });
    Ok(Value::Array(all))
}

/// The containers of executors, in the words of the older endpoints.
async fn of_executors(core: &dyn Core, caller: &Caller) -> Result<Vec<Value>, Refusal> {
    let state = core.state().await?;
    let executors = state.get_executors.unwrap_or_default().executors;
    let listed = core.containers(caller, Show::default()).await?;
    Ok(listed.iter().map(|container| of_executor(container, &executors)).collect())
}

fn of_executor(container: &get_containers::Container, executors: &[get_executors::Executor]) -> Value {
    let framework = container.framework_id.clone().unwrap_or_default();
    let executor = container.executor_id.clone().unwrap_or_default();
    let info = executors.iter().map(|one| &one.executor_info);
    let info = info
        .into_iter()
        .find(|info| info.executor_id == executor && info.framework_id.as_ref() == Some(&framework));
    let source = info.map(|info| info.source().to_owned()).unwrap_or_default();
    let mut entry = json!({
        "container_id": container.container_id.value,
        "executor_id": executor.value,
        "executor_name": container.executor_name.clone().unwrap_or_default(),
        "framework_id": framework.value,
        "source": source,
    });
    if let Some(status) = &container.container_status {
        entry["status"] = message(&encode_json(status));
    }
    if let Some(statistics) = &container.resource_statistics {
        entry["statistics"] = message(&encode_json(statistics));
    }
    entry
}

/// `/monitor/statistics`: what executors use, twice a second at most.
pub(super) async fn statistics(shared: &Shared, caller: &Caller) -> Result<Value, Refusal> {
    let turn = {
        let mut next = shared.statistics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = Instant::now();
        let turn = next.map_or(now, |next| next.max(now));
        if turn > now + PATIENCE {
            let text = "too many ask for statistics; twice a second is what there is";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        *next = Some(turn + PAUSE);
        turn
    };
    tokio::time::sleep_until(turn).await;
    let mut all = of_executors(&*shared.core, caller).await?;
    all.retain(|entry| entry.get("statistics").is_some());
    for entry in &mut all {
        let Value::Object(fields) = entry else { continue };
        fields.retain(|name, _| !matches!(name.as_str(), "container_id" | "status"));
    }
    Ok(Value::Array(all))
}

/// `/containerizer/debug`
pub(super) async fn pending(core: &dyn Core) -> Result<Value, Refusal> {
    let one = |operation: &Operation| {
        let mut args = Map::new();
        let mut put =
            |name: &str, value: Option<Value>| args.extend(value.map(|value| (name.to_owned(), value)));
        put("container_id", operation.container_id.as_ref().map(|id| message(&encode_json(id))));
        put("step", operation.step.clone().map(Value::String));
        put("age_secs", operation.age.as_ref().map(|age| json!(age.nanoseconds as f64 / 1e9)));
        json!({ "operation": operation.name, "args": args })
    };
    let pending: Vec<Value> = core.operations_in_flight().await?.operations.iter().map(one).collect();
    Ok(json!({ "pending": pending }))
}

/// `/metrics/snapshot`
pub(super) async fn metrics(core: &dyn Core, query: &Query) -> Result<Value, Refusal> {
    let metrics = core.metrics(query.time("timeout")?).await?;
    Ok(Value::Object(metrics.into_iter().map(|metric| (metric.name, json!(metric.value))).collect()))
}

/// `/system/stats.json`: what is measured of the host, under names that are older still.
pub(super) async fn system(core: &dyn Core) -> Result<Value, Refusal> {
    let old = |name: &str| match name.strip_prefix("load_") {
        Some(time) => format!("avg_load_{time}"),
        None => name.to_owned(),
    };
    let of_the_host = |metric: berth_proto::v1::Metric| {
        Some((old(metric.name.strip_prefix("system/")?), json!(metric.value)))
    };
    Ok(Value::Object(core.metrics(None).await?.into_iter().filter_map(of_the_host).collect()))
}

/// `/logging/toggle`: the level, or another one for a while.
pub(super) async fn logging(core: &dyn Core, query: &Query) -> Result<Whole, Refusal> {
    let text = |text: String| Whole::ok("text/plain; charset=utf-8", text.into_bytes());
    let level = match (query.get("level"), query.get("duration")) {
        (None, None) => return Ok(text(format!("{}\n", core.logging_level().await?))),
        (None, Some(_)) => query.need("level")?,
        (Some(level), _) => level,
    };
    query.need("duration")?;
    let number: i64 = level.parse().map_err(|_| {
        Refusal::bad_request(format!("Failed to parse level: Failed to convert '{level}' to number.\n"))
    })?;
    let Ok(number) = u32::try_from(number) else {
        // The level at the start is 0.
        return Err(Refusal::bad_request(format!("'{number}' < original level.\n")));
    };
    let duration = query.time("duration")?.unwrap_or_default();
    core.set_logging_level(number, duration).await?;
    Ok(Whole::empty(StatusCode::OK))
}
