// SPDX-License-Identifier: Apache-2.0
//! What can be looked at: containers of executors, what is under way, what is measured, how much is logged.

use std::time::Duration;

use berth_proto::encode_json;
use berth_proto::own::operations_in_flight::Operation;
use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::message;
use super::query::Query;
use crate::answer::Whole;
use crate::server::Shared;
use crate::{Core, Refusal};

/// Between two answers of statistics.
const PAUSE: Duration = Duration::from_millis(500);
/// Who would wait longer is refused.
const PATIENCE: Duration = Duration::from_secs(30);

/// `/containers`: those of executors, of which there are none before there are tasks.
pub(super) fn containers(query: &Query) -> Result<Value, Refusal> {
    let [container, framework, executor] =
        ["container_id", "framework_id", "executor_id"].map(|name| query.get(name).is_some());
    match (container, framework, executor) {
        (false, false, false) | (true, false, false) | (false, true, _) => Ok(json!([])),
        _ => Err(Refusal::bad_request(
            "Supported query parameters are container_id only, framework_id only, or executor_id and framework_id only",
        )),
    }
}

/// `/monitor/statistics`: what executors use, twice a second at most.
pub(super) async fn statistics(shared: &Shared) -> Result<Value, Refusal> {
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
    Ok(json!([]))
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
