// SPDX-License-Identifier: Apache-2.0
//! Limits that running containers meet, as their groups tell of them.
//!
//! One that is killed for lack of memory ends, and its termination says why; this here is for what does not end by itself:
//! a child that was killed, a process that could not be made. Who wishes that all end then (`oom_group`) gets it from the
//! kernel on v2, and from here on v1. What a container does all the time is told once a second.

use berth_cgroup::{Group, Limit, Met, Rings};
use berth_launcher::{Heard, Watched};
use berth_model::{Bytes, ContainerLimitation, Reason, Resource, Resources, Scalar};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two of a kind that are told.
const QUIET: Duration = Duration::from_secs(1);

/// What is known of one group.
#[derive(Debug, Default)]
struct Known {
    met: Met,
    told_memory: Option<Instant>,
    told_pids: Option<Instant>,
}

/// What is known of all that are watched.
#[derive(Debug, Default)]
pub(crate) struct Knowledge(Mutex<HashMap<String, Known>>);

impl Knowledge {
    /// What to wait for. What was met before rings at once.
    pub(crate) fn watch(&self, group: &Group) -> berth_cgroup::Result<Vec<Watched>> {
        let bells = group.bells()?;
        self.lock().insert(group.path().to_owned(), Known::default());
        let watched = |bell: berth_cgroup::Bell| Watched {
            urgent: bell.urgent,
            token: match bell.rings {
                Rings::OutOfMemory => 0,
                Rings::Memory => 1,
                Rings::Pids => 2,
            },
            fd: bell.fd,
        };
        Ok(bells.into_iter().map(watched).collect())
    }

    pub(crate) fn forget(&self, group: &str) {
        self.lock().remove(group);
    }

    /// Something rang.
    pub(crate) fn hear(&self, group: Option<&Group>, watched: &Watched) -> Heard {
        berth_cgroup::silence(&watched.fd);
        // Removed: it rings once more, and then never.
        let Some(group) = group else { return Heard::Over };
        let now = group.met();
        let mut all = self.lock();
        let known = all.entry(group.path().to_owned()).or_default();
        let before = std::mem::replace(&mut known.met, now);
        // v1 tells before it kills.
        if watched.token == 0 || now.oom_kills > before.oom_kills {
            if watched.token == 0 && group.limits_applied().oom_group == Some(true) {
                return Heard::Kill(Box::new(memory(group)));
            }
            return match is_due(&mut known.told_memory) {
                true => Heard::Tell(Box::new(memory(group))),
                false => Heard::More,
            };
        }
        if now.pids > before.pids && is_due(&mut known.told_pids) {
            return Heard::Tell(Box::new(pids(group, now.pids)));
        }
        Heard::More
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_due(told: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    if told.is_some_and(|told| now.duration_since(told) < QUIET) {
        return false;
    }
    *told = Some(now);
    true
}

fn memory(group: &Group) -> ContainerLimitation {
    let (usage, applied) = (group.usage(), group.limits_applied());
    let limit = match applied.memory_limit {
        Some(Limit::At(limit)) => Some(limit.0),
        _ => None,
    };
    let peak = usage.memory_peak.map(|bytes| bytes.0).or(limit).unwrap_or(0);
    let mut resources = Resources::new();
    // Only a zero is refused, and then there is nothing to name.
    let _ = resources.try_add(Resource::scalar("mem", Scalar::from_whole(peak >> 20)));
    ContainerLimitation {
        resources,
        message: Some(format!(
            "Memory limit exceeded: Requested: {} Maximum Used: {}",
            limit.map_or("no limit".to_owned(), |limit| Bytes(limit).to_string()),
            Bytes(peak)
        )),
        reason: Some(Reason::ContainerLimitationMemory),
    }
}

fn pids(group: &Group, refused: u64) -> ContainerLimitation {
    let limit = match group.limits_applied().pids_limit {
        Some(Limit::At(limit)) => limit.to_string(),
        _ => "that of a group above".to_owned(),
    };
    ContainerLimitation {
        resources: Resources::new(),
        message: Some(format!("Pids limit reached: {limit}; processes that could not be made: {refused}")),
        reason: Some(Reason::ContainerLimitation),
    }
}
