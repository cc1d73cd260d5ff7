// SPDX-License-Identifier: Apache-2.0
//! A framework: what it is called and can do, whether somebody listens for it, and what it has.
//!
//! ```text
//!              SUBSCRIBE                 stream gone
//! (nothing) ──────────────> subscribed ─────────────> waiting ──failover_timeout, TEARDOWN──> completed
//!                               ^  │ TEARDOWN            │
//!                               │  └─────────> completed │
//!                               └────── SUBSCRIBE ───────┘
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use berth_model::Resources;
use berth_proto::scheduler::{Event, OfferConstraints};
use berth_proto::v1;
use berth_proto::v1::framework_info::capability::Type as Capability;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::amounts::{Form, NOBODY, bare};

/// Tasks that are kept of a framework after their end.
const COMPLETED_TASKS: usize = 1000;

/// The longest time for which an offer is refused.
const LONGEST_FILTER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where its events go.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: String,
    pub(crate) sender: mpsc::Sender<Event>,
}

/// What it does not want to be offered for a while.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) role: String,
    /// This much or less.
    pub(crate) refused: Resources,
    pub(crate) until: Instant,
}

#[derive(Debug)]
pub(crate) struct Framework {
    /// With its id.
    pub(crate) info: v1::FrameworkInfo,
    pub(crate) stream: Option<Stream>,
    /// It did not read what it was sent.
    pub(crate) cut: bool,
    /// It was there when this master came, and has not said anything yet.
    pub(crate) recovered: bool,
    pub(crate) suppressed: BTreeSet<String>,
    pub(crate) constraints: Option<OfferConstraints>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) tasks: BTreeMap<String, v1::Task>,
    pub(crate) completed_tasks: VecDeque<v1::Task>,
    pub(crate) executors: BTreeMap<String, v1::ExecutorInfo>,
    /// What its tasks and executors hold, by role.
    pub(crate) used: Resources,
    /// When it is given up.
    pub(crate) remove_at: Option<Instant>,
    pub(crate) registered: f64,
    pub(crate) reregistered: f64,
    pub(crate) unregistered: f64,
    /// How many offers it was made, for the order among equals.
    pub(crate) offered: u64,
}

impl Framework {
    pub(crate) fn new(info: v1::FrameworkInfo, wall: f64) -> Framework {
        Framework {
            info,
            stream: None,
            cut: false,
            recovered: false,
            suppressed: BTreeSet::new(),
            constraints: None,
            filters: Vec::new(),
            tasks: BTreeMap::new(),
            completed_tasks: VecDeque::new(),
            executors: BTreeMap::new(),
            used: Resources::new(),
            remove_at: None,
            registered: wall,
            reregistered: wall,
            unregistered: 0.0,
            offered: 0,
        }
    }

    pub(crate) fn id(&self) -> &str {
        self.info.id.as_ref().map_or("", |id| &id.value)
    }

    pub(crate) fn can(&self, capability: Capability) -> bool {
        can(&self.info, capability)
    }

    pub(crate) fn roles(&self) -> Vec<String> {
        roles(&self.info)
    }

    /// How it is told of resources.
    pub(crate) fn form(&self) -> Form {
        Form {
            refined: self.can(Capability::ReservationRefinement),
            allocation: self.can(Capability::MultiRole),
        }
    }

    /// How long it may be away.
    pub(crate) fn patience(&self) -> Duration {
        patience(&self.info)
    }

    /// Sends an event. What does not read what it is sent is cut off.
    pub(crate) fn send(&mut self, event: Event) {
        let Some(stream) = self.stream.as_ref().filter(|_| !self.cut) else { return };
        match stream.sender.try_send(event) {
            Ok(()) => {}
            // The end of the stream is told by its other end.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(
                    framework = self.id(),
                    "a scheduler does not read its events: it is disconnected"
                );
                self.cut = true;
            }
        }
    }

    /// Refuses resources for a while. Less than a round of offers is no while.
    pub(crate) fn refuse(
        &mut self,
        now: Instant,
        role: &str,
        refused: &Resources,
        seconds: Option<f64>,
        round: Duration,
    ) {
        const ASSUMED: f64 = 5.0;
        let seconds = seconds.filter(|seconds| *seconds >= 0.0).unwrap_or(ASSUMED);
        if seconds == 0.0 || refused.is_empty() {
            return;
        }
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_FILTER);
        let until = now + time.max(round).min(LONGEST_FILTER);
        self.filters.push(Filter { role: role.to_owned(), refused: bare(refused), until });
    }

    /// Whether it has refused this much, or more.
    pub(crate) fn refuses(&self, now: Instant, role: &str, offer: &Resources) -> bool {
        self.filters
            .iter()
            .any(|filter| filter.role == role && filter.until > now && filter.refused.contains(offer))
    }

    /// Takes what a task or an executor needs.
    pub(crate) fn charge(&mut self, resources: &Resources) {
        self.used += resources;
    }

    /// Gives it back.
    pub(crate) fn discharge(&mut self, resources: &Resources) {
        self.used -= resources;
    }

    /// Keeps a task that is over.
    pub(crate) fn complete(&mut self, task: v1::Task) {
        if self.completed_tasks.len() == COMPLETED_TASKS {
            self.completed_tasks.pop_front();
        }
        self.completed_tasks.push_back(task);
    }
}

pub(crate) fn can(info: &v1::FrameworkInfo, capability: Capability) -> bool {
    info.capabilities.iter().any(|one| one.r#type.is_some() && one.r#type() == capability)
}

/// The roles that it is subscribed to.
#[expect(deprecated, reason = "frameworks of one role still name it there")]
pub(crate) fn roles(info: &v1::FrameworkInfo) -> Vec<String> {
    if can(info, Capability::MultiRole) {
        return info.roles.clone();
    }
    vec![info.role.clone().unwrap_or_else(|| NOBODY.to_owned())]
}

pub(crate) fn patience(info: &v1::FrameworkInfo) -> Duration {
    Duration::try_from_secs_f64(info.failover_timeout().max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framework(capabilities: &[Capability]) -> Framework {
        let capabilities = capabilities
            .iter()
            .map(|one| v1::framework_info::Capability { r#type: Some((*one).into()) })
            .collect();
        Framework::new(v1::FrameworkInfo { capabilities, ..v1::FrameworkInfo::default() }, 1.0)
    }

    fn cpus(amount: &str) -> Resources {
        berth_model::resources::from_flag(&format!("cpus:{amount}"), "*").unwrap().resources
    }

    #[test]
    fn a_framework_of_one_role_has_it_or_that_of_nobody() {
        assert_eq!(framework(&[]).roles(), ["*"]);
        assert_eq!(framework(&[Capability::MultiRole]).roles(), Vec::<String>::new());
    }

    #[test]
    fn less_than_was_refused_is_refused_until_the_time_is_over_and_more_is_not() {
        let mut framework = framework(&[]);
        let (now, round) = (Instant::now(), Duration::from_secs(1));
        framework.refuse(now, "*", &cpus("2"), Some(10.0), round);
        assert!(framework.refuses(now, "*", &cpus("2")) && framework.refuses(now, "*", &cpus("1")));
        assert!(!framework.refuses(now, "*", &cpus("3")) && !framework.refuses(now, "dev", &cpus("1")));
        assert!(!framework.refuses(now + Duration::from_secs(10), "*", &cpus("1")));
    }

    #[test]
    fn nothing_is_refused_for_no_time_and_short_times_are_a_round() {
        let mut framework = framework(&[]);
        let (now, round) = (Instant::now(), Duration::from_secs(1));
        framework.refuse(now, "*", &cpus("2"), Some(0.0), round);
        assert!(framework.filters.is_empty());
        framework.refuse(now, "*", &cpus("2"), Some(0.001), round);
        framework.refuse(now, "*", &cpus("2"), Some(-3.0), round);
        framework.refuse(now, "*", &cpus("2"), None, round);
        framework.refuse(now, "*", &cpus("2"), Some(1e300), round);
        let times: Vec<_> = framework.filters.iter().map(|filter| (filter.until - now).as_secs()).collect();
        assert_eq!(times, [1, 5, 5, 365 * 24 * 3600]);
    }
}
