// SPDX-License-Identifier: Apache-2.0
//! Removes ended containers that nobody removed: after `--gc_delay`, and sooner the fuller the disk is. As in Mesos,
//! what is older than `gc_delay * max(0, 1 - gc_disk_headroom - used part of the disk)` goes; but whoever launched a
//! container has a minute to ask how it ended.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_api::Refusal;
use berth_proto::convert::container_id_of;
use berth_proto::own::{CollectionExplanation, collection_explanation::Item};
use berth_proto::v1::Metric;

use crate::agent::Inner;
use crate::counters::Counters;
use crate::host::duration;
use crate::lifecycle::{blocking, remove_container};
use crate::pack::pack;
use crate::table::Container;
use crate::watch::hear;

/// How long the store of images may take to answer.
const STORE: Duration = Duration::from_secs(5);

/// So long an ended container stays however full the disk is: its status is lost with it.
const ASKED: Duration = Duration::from_secs(60);

/// Starts to look now and then.
pub(crate) fn start(agent: &Arc<Inner>) {
    let own = Arc::clone(agent);
    agent.tasks.spawn(async move {
        loop {
            tokio::time::sleep(own.flags.disk_watch_interval).await;
            collect(&own).await;
            pack(&own).await;
        }
    });
}

async fn collect(agent: &Arc<Inner>) {
    hear(agent);
    let Ok(oldest) = oldest(agent).await else { return };
    // What is in another one is kept until it is removed, or that one is.
    for container in agent.table.all().into_iter().filter(|container| container.id.parent().is_none()) {
        if age(agent, &container).is_none_or(|age| age < oldest) {
            continue;
        }
        let _operation = agent.operations.begin("collect", Some(&container.id));
        match remove_container(agent, &container).await {
            Ok(()) => {
                Counters::add(&agent.counters.collected);
                tracing::info!(container = %container.id, "collected");
            }
            Err(why) => {
                Counters::add(&agent.counters.not_collected);
                tracing::warn!(container = %container.id, %why, "not collected");
            }
        }
    }
}

/// How many wait to be collected, and how long they may.
pub(crate) async fn measured(agent: &Arc<Inner>) -> Vec<Metric> {
    let pending = agent.table.all().iter().filter(|container| container.has_ended()).count();
    let oldest = oldest(agent)
        .await
        .ok()
        .map(|age| ("slave/executor_directory_max_allowed_age_secs", age.as_secs_f64()));
    let pending = Some(("gc/path_removals_pending", pending as f64));
    let metric = |(name, value): (&str, f64)| Metric { name: name.to_owned(), value: Some(value) };
    pending.into_iter().chain(oldest).map(metric).collect()
}

/// How long ended containers may stay at the present use of the disk.
async fn oldest(agent: &Arc<Inner>) -> Result<Duration, Refusal> {
    let work_dir = agent.flags.work_dir.clone();
    // Without knowing the disk, the delay alone counts.
    let used = blocking(move || used(&work_dir)).await?.unwrap_or(0.0);
    Ok(allowed(agent.flags.gc_delay, agent.flags.gc_disk_headroom, used))
}

fn allowed(delay: Duration, headroom: f64, used: f64) -> Duration {
    delay.mul_f64((1.0 - headroom - used).clamp(0.0, 1.0)).max(delay.min(ASKED))
}

/// The used part of the disk.
fn used(path: &Path) -> Option<f64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    (stat.f_blocks > 0).then(|| 1.0 - stat.f_bavail as f64 / stat.f_blocks as f64)
}

/// How long ago a container ended. When nobody saw that, it counts from when this agent found it so.
fn age(agent: &Inner, container: &Container) -> Option<Duration> {
    let ended = container.now().ended?;
    Some(match ended.at {
        Some(at) => SystemTime::now().duration_since(at).unwrap_or_default(),
        None => agent.started.elapsed(),
    })
}

/// What a collection would do now, and when it would do the rest.
pub(crate) async fn explain(agent: &Arc<Inner>) -> Result<CollectionExplanation, Refusal> {
    hear(agent);
    let oldest = oldest(agent).await?;
    let mut explanation = CollectionExplanation::default();
    for container in agent.table.all().into_iter().filter(|container| container.id.parent().is_none()) {
        let age = age(agent, &container);
        let remaining = age.map(|age| oldest.saturating_sub(age));
        let reason = match (age, remaining) {
            (Some(_), Some(Duration::ZERO)) => "it has ended longer ago than is kept",
            (Some(_), _) => "it has ended",
            _ => "it has not ended",
        };
        let item = Item {
            path: agent.places.sandbox(&container.id).display().to_string(),
            kind: Some("sandbox".to_owned()),
            container_id: Some(container_id_of(&container.id)),
            remaining: remaining.map(duration),
            reason: Some(reason.to_owned()),
            ..Item::default()
        };
        let goes = remaining == Some(Duration::ZERO);
        if goes { &mut explanation.removed } else { &mut explanation.kept }.push(item);
    }
    images(agent, &mut explanation).await;
    Ok(explanation)
}

/// What of it is images. Where they can not be looked at, the rest is told all the same.
async fn images(agent: &Inner, explanation: &mut CollectionExplanation) {
    let Some(pull) = agent.containerizer.pull() else { return };
    let kept = match tokio::time::timeout(STORE, pull.kept()).await {
        Ok(Ok(kept)) => kept,
        Ok(Err(error)) => return tracing::warn!(%error, "images can not be explained"),
        Err(_) => return tracing::warn!("images can not be explained: the store is busy"),
    };
    for image in kept {
        let item = Item {
            path: image.path,
            kind: Some("image".to_owned()),
            bytes: Some(image.bytes),
            reason: Some(image.reason),
            ..Item::default()
        };
        if image.goes { &mut explanation.removed } else { &mut explanation.kept }.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_disk_the_sooner_it_is_collected() {
        let day = Duration::from_secs(86400);
        let hours = |used| allowed(day, 0.1, used).as_secs_f64() / 3600.0;
        assert!((hours(0.0) - 21.6).abs() < 0.01);
        assert!((hours(0.5) - 9.6).abs() < 0.01);
        assert_eq!(allowed(day, 0.1, 0.95), ASKED, "who launched it has a minute to ask for its status");
        assert_eq!(allowed(Duration::from_millis(1), 0.1, 0.95), Duration::from_millis(1));
        assert_eq!(allowed(day, 0.0, -1.0), day, "never longer than the delay");
    }
}
