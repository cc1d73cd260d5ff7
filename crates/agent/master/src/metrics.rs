// SPDX-License-Identifier: Apache-2.0
//! What is measured, by Mesos's names.

use std::collections::BTreeMap;

use berth_model::Scalar;

use crate::amounts::bare;
use crate::clock::Now;
use crate::endpoints::used;
use crate::state::State;

/// States of tasks that are counted as they are; the others as they come to their end.
const LIVE: &[&str] = &["staging", "starting", "running", "killing", "unreachable"];
const ENDED: &[&str] = &["finished", "failed", "killed", "lost", "error", "dropped", "gone"];

const CALLS: &[(&str, &str)] = &[
    ("accept", "master/messages_launch_tasks"),
    ("decline", "master/messages_decline_offers"),
    ("revive", "master/messages_revive_offers"),
    ("suppress", "master/messages_suppress_offers"),
    ("kill", "master/messages_kill_task"),
    ("reconcile", "master/messages_reconcile_tasks"),
    ("reconcile_operations", "master/messages_reconcile_operations"),
    ("message", "master/messages_framework_to_executor"),
    ("subscribe", "master/messages_register_framework"),
    ("acknowledge", "master/messages_status_update_acknowledgement"),
];

pub(crate) fn all(state: &State, now: Now) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        all.insert(name.to_owned(), value);
    };
    put("master/uptime_secs", now.wall - state.started);
    put("master/elected", 1.0);
    for (name, value) in [("active", 1.0), ("connected", 1.0), ("inactive", 0.0), ("disconnected", 0.0)] {
        put(&format!("master/slaves_{name}"), value);
    }
    let connected = state.frameworks.values().filter(|framework| framework.stream.is_some()).count() as f64;
    let away = state.frameworks.len() as f64 - connected;
    for (name, value) in
        [("active", connected), ("connected", connected), ("inactive", away), ("disconnected", away)]
    {
        put(&format!("master/frameworks_{name}"), value);
    }
    let used = bare(&used(state));
    for name in ["cpus", "mem", "disk", "gpus"] {
        let [total, used] =
            [&state.total, &used].map(|resources| resources.scalar(name).unwrap_or(Scalar::ZERO).to_f64());
        put(&format!("master/{name}_total"), total);
        put(&format!("master/{name}_used"), used);
        put(&format!("master/{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
    }
    let tasks: Vec<_> = state.frameworks.values().flat_map(|framework| framework.tasks.values()).collect();
    for name in LIVE {
        let full = format!("TASK_{}", name.to_uppercase());
        let count = tasks.iter().filter(|task| task.state().as_str_name() == full).count();
        put(&format!("master/tasks_{name}"), count as f64);
    }
    for name in ENDED {
        let full = format!("TASK_{}", name.to_uppercase());
        let count = state.counters.ended.get(&*full).copied().unwrap_or_default();
        put(&format!("master/tasks_{name}"), count as f64);
    }
    put("allocator/mesos/allocation_runs", state.counters.allocations as f64);
    let available = state.available();
    for name in ["cpus", "mem", "disk"] {
        let [total, free] = [&state.total, &available]
            .map(|resources| resources.scalar(name).unwrap_or(Scalar::ZERO).to_f64());
        put(&format!("allocator/mesos/resources/{name}/total"), total);
        put(&format!("allocator/mesos/resources/{name}/offered_or_allocated"), total - free);
    }
    put("master/outstanding_offers", state.offers.len() as f64);
    for (call, name) in CALLS {
        put(name, state.counters.calls.get(call).copied().unwrap_or_default() as f64);
    }
    put("master/messages_status_update", (state.counters.updates + state.counters.unknown_updates) as f64);
    put("master/valid_status_updates", state.counters.updates as f64);
    put("master/invalid_status_updates", state.counters.unknown_updates as f64);
    put("master/valid_status_update_acknowledgements", state.counters.acknowledged as f64);
    put("master/invalid_status_update_acknowledgements", 0.0);
    all
}
