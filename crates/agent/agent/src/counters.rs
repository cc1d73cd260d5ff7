// SPDX-License-Identifier: Apache-2.0
//! What the agent counts and measures of itself (GET_METRICS). Names that Mesos has keep them; the others begin with
//! `berth/`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_contract::Phase;
use berth_model::resources::{Resource, Resources, Value};
use berth_proto::v1::Metric;

use berth_tasks::Engine;

use crate::table::Table;

/// What only grows, from the start of the agent.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) launches: AtomicU64,
    pub(crate) launch_failures: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) removed: AtomicU64,
    pub(crate) sessions: AtomicU64,
    /// Launches with a root file system of their own.
    pub(crate) new_rootfs: AtomicU64,
    /// Containers that could not be destroyed.
    pub(crate) destroy_errors: AtomicU64,
    /// Ended containers that a collection removed.
    pub(crate) collected: AtomicU64,
    /// Those that it could not remove.
    pub(crate) not_collected: AtomicU64,
    /// Records that a recovery could not read.
    pub(crate) recovery_errors: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn metric(name: &str, value: f64) -> Metric {
    Metric { name: name.to_owned(), value: Some(value) }
}

/// Everything that is known without asking anybody.
pub(crate) fn own(
    counters: &Counters,
    table: &Table,
    engine: &Engine,
    uptime: Duration,
    recovery: Option<Duration>,
) -> Vec<Metric> {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let mut metrics = vec![
        metric("berth/containers_removed", count(&counters.removed)),
        metric("berth/containers_terminated", count(&counters.ended)),
        metric("berth/launch_failures", count(&counters.launch_failures)),
        metric("berth/launches", count(&counters.launches)),
        metric("berth/sessions", count(&counters.sessions)),
        metric("containerizer/mesos/container_destroy_errors", count(&counters.destroy_errors)),
        metric("containerizer/mesos/filesystem/containers_new_rootfs", count(&counters.new_rootfs)),
        metric("gc/path_removals_failed", count(&counters.not_collected)),
        metric("gc/path_removals_succeeded", count(&counters.collected)),
        metric("slave/container_launch_errors", count(&counters.launch_failures)),
        metric("slave/recovery_errors", count(&counters.recovery_errors)),
        metric("slave/uptime_secs", uptime.as_secs_f64()),
    ];
    metrics.extend(recovery.map(|time| metric("slave/recovery_time_secs", time.as_secs_f64())));
    metrics.extend(by_state(table));
    metrics.extend(engine.metrics().into_iter().map(|(name, value)| metric(&format!("slave/{name}"), value)));
    metrics.extend(OF_OTHERS.iter().map(|name| metric(name, 0.0)));
    metrics
}

/// What Mesos counts of resource providers, and of containers that give way to others: this agent has none of them, so
/// these are 0 until it does. Dashboards that are made for Mesos's agents look for all of them.
const OF_OTHERS: &[&str] = &[
    "resource_provider_manager/events/disconnect",
    "resource_provider_manager/events/subscribe",
    "resource_provider_manager/subscribed",
    "slave/executors_preempted",
];

/// What the agent has of each resource, and how much of it the containers that live have asked for. In Mesos that is
/// what tasks have; here no others ask.
pub(crate) fn of_resources(total: &Resources, table: &Table) -> Vec<Metric> {
    let living: Vec<_> = table.all().into_iter().filter(|container| crate::watch::lives(container)).collect();
    let records: Vec<_> = living.iter().filter_map(|container| container.record()).collect();
    let mut metrics = Vec::new();
    for name in ["cpus", "disk", "gpus", "mem"] {
        for (suffix, revocable) in [("", false), ("_revocable", true)] {
            let total = amount(total, name, revocable);
            let used: f64 =
                records.iter().map(|record| amount(&record.config.resources, name, revocable)).sum();
            let percent = if total > 0.0 { used / total } else { 0.0 };
            for (what, value) in [("total", total), ("used", used), ("percent", percent)] {
                metrics.push(metric(&format!("slave/{name}{suffix}_{what}"), value));
            }
        }
    }
    metrics
}

fn amount(resources: &Resources, name: &str, revocable: bool) -> f64 {
    let is_it = |resource: &&Resource| resource.name == name && resource.revocable == revocable;
    let scalar = |resource: &Resource| match &resource.value {
        Value::Scalar(scalar) => scalar.thousandths() as f64 / 1000.0,
        _ => 0.0,
    };
    resources.iter().filter(is_it).map(scalar).sum()
}

fn by_state(table: &Table) -> Vec<Metric> {
    let (mut launching, mut running, mut paused, mut destroying, mut ended) = (0, 0, 0, 0, 0);
    for container in table.all() {
        let now = container.now();
        *match now.phase {
            _ if now.ended.is_some() => &mut ended,
            Phase::Running => &mut running,
            Phase::Paused => &mut paused,
            Phase::Destroying => &mut destroying,
            Phase::Terminated => &mut ended,
            _ => &mut launching,
        } += 1;
    }
    [
        ("launching", launching),
        ("running", running),
        ("paused", paused),
        ("destroying", destroying),
        ("kept", ended),
    ]
    .into_iter()
    .map(|(state, count)| metric(&format!("berth/containers_{state}"), f64::from(count)))
    .collect()
}

/// What the kernel says of this process and host; reads a few files of `/proc`.
pub(crate) fn of_the_system() -> Vec<Metric> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().split(' ').next()?.parse().ok()
    };
    let mut metrics = Vec::new();
    let mut put = |name: &str, value: Option<f64>| metrics.extend(value.map(|value| metric(name, value)));
    let status = read("/proc/self/status");
    put("berth/process/rss_bytes", line(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024.0));
    put("berth/process/threads", line(&status, "Threads:"));
    // The directory's own descriptor is one of them.
    let fds = std::fs::read_dir("/proc/self/fd").map(|entries| entries.count().saturating_sub(1));
    put("berth/process/open_fds", fds.ok().map(|count| count as f64));
    let memory = read("/proc/meminfo");
    put("system/mem_total_bytes", line(&memory, "MemTotal:").map(|kilobytes| kilobytes * 1024.0));
    put("system/mem_free_bytes", line(&memory, "MemFree:").map(|kilobytes| kilobytes * 1024.0));
    let load = read("/proc/loadavg");
    let mut load = load.split(' ').map(|number| number.parse().ok());
    for name in ["system/load_1min", "system/load_5min", "system/load_15min"] {
        put(name, load.next().flatten());
    }
    let cpus = std::thread::available_parallelism().ok();
    put("system/cpus_total", cpus.map(|count| count.get() as f64));
    metrics
}
