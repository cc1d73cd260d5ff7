// SPDX-License-Identifier: Apache-2.0
//! Whether a task does well: its check, and its health check.
//!
//! ```text
//! started ──delay──> probe ──outcome──> what is to be said
//!                      ^                     │
//!                      └──────interval───────┘
//! ```
//!
//! Here is what follows from outcomes, without doing anything; [`probe`] finds outcomes. Both kinds are the same but for
//! what they say: a check says each result that differs from the one before, and a health check only good or bad, which
//! ends the task when it is bad too often in a row.

mod http;
mod network;
pub(crate) mod probe;
#[cfg(test)]
mod tests;

use std::time::Duration;

use berth_model::CommandInfo;
use berth_proto::convert;
use berth_proto::v1::network_info::Protocol;
use berth_proto::v1::{self, CheckStatusInfo, TaskInfo, TaskStatus, check_info, health_check};

use crate::clock::seconds;
use crate::kept::Kept;
use crate::life::empty_result;

/// How a probe is made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Probe {
    /// By a command in the container.
    Command(Box<CommandInfo>),
    /// By a request, to a port of the container's network.
    Http { url: String },
    /// By a connection.
    Tcp { port: u16 },
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The command exited.
    Exited(i32),
    /// The server answered.
    Answered(u16),
    /// There was a connection, or none.
    Connected(bool),
    /// It could not be found out, for this reason.
    Failed(String),
    /// It is not known whether it could be found out: the container is gone, or the agent was in the way.
    Nothing,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Check,
    Health,
}

/// What is to be said of a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// Its check has another result.
    Result(CheckStatusInfo),
    /// Its health is good; or bad, and it is to be killed or not.
    Health { healthy: bool, kill: bool },
}

/// When and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) probe: Probe,
    /// None: as long as it takes.
    pub(crate) timeout: Option<Duration>,
    delay: Duration,
    interval: Duration,
}

#[derive(Debug, Clone)]
struct Check {
    plan: Plan,
    empty: CheckStatusInfo,
    said: CheckStatusInfo,
}

#[derive(Debug, Clone)]
struct Health {
    plan: Plan,
    /// Until then what is bad does not count, unless it was good once.
    grace: Duration,
    limit: u32,
    was_healthy: bool,
    failures: u32,
}

/// The checks of one task.
#[derive(Debug, Clone)]
pub(crate) struct Checks {
    started: Duration,
    check: Option<Check>,
    health: Option<Health>,
}

impl Checks {
    /// The checks of a task that started then, and of which this was written down and said.
    pub(crate) fn new(task: &TaskInfo, started: Duration, kept: &Kept, last: Option<&TaskStatus>) -> Checks {
        let named = |what: &str, plan: Result<Plan, String>| match plan {
            Ok(plan) => Some(plan),
            Err(error) => {
                tracing::warn!(task = %task.task_id.value, error = %error, "the {what} of a task can not be made; it goes without");
                None
            }
        };
        let check = task.check.as_ref().and_then(|check| {
            let plan = named("check", plan_of_check(check))?;
            let empty = empty_result(check);
            let said = last.and_then(|last| last.check_status).unwrap_or(empty);
            Some(Check { plan, empty, said })
        });
        let health = task.health_check.as_ref().and_then(|health| {
            let plan = named("health check", plan_of_health(health))?;
            let grace = started.saturating_add(seconds(health.grace_period_seconds()));
            Some(Health {
                plan,
                grace,
                limit: health.consecutive_failures(),
                was_healthy: kept.was_healthy,
                failures: kept.failures,
            })
        });
        Checks { started, check, health }
    }

    /// Which there are, and when each is made first.
    pub(crate) fn first(&self) -> impl Iterator<Item = (Which, Duration)> {
        [Which::Check, Which::Health].into_iter().filter_map(|which| {
            let plan = self.plan(which)?;
            Some((which, self.started.saturating_add(plan.delay)))
        })
    }

    /// When the one that was over now is made again.
    pub(crate) fn again(&self, which: Which, now: Duration) -> Option<Duration> {
        Some(now.saturating_add(self.plan(which)?.interval))
    }

    pub(crate) fn plan(&self, which: Which) -> Option<&Plan> {
        match which {
            Which::Check => self.check.as_ref().map(|check| &check.plan),
            Which::Health => self.health.as_ref().map(|health| &health.plan),
        }
    }

    /// How its health has been: good once, and bad so often since.
    pub(crate) fn health(&self) -> (bool, u32) {
        self.health.as_ref().map_or((false, 0), |health| (health.was_healthy, health.failures))
    }

    /// A probe is over.
    pub(crate) fn heard(&mut self, which: Which, outcome: &Outcome, now: Duration) -> Option<Verdict> {
        if *outcome == Outcome::Nothing {
            return None;
        }
        match which {
            Which::Check => self.check.as_mut()?.heard(outcome).map(Verdict::Result),
            Which::Health => {
                let (healthy, kill) = self.health.as_mut()?.heard(outcome, now)?;
                Some(Verdict::Health { healthy, kill })
            }
        }
    }
}

impl Check {
    /// The result, when it is another. What failed has none.
    fn heard(&mut self, outcome: &Outcome) -> Option<CheckStatusInfo> {
        let mut result = self.empty;
        match *outcome {
            Outcome::Exited(code) => result.command.get_or_insert_default().exit_code = Some(code),
            Outcome::Answered(code) => result.http.get_or_insert_default().status_code = Some(code.into()),
            Outcome::Connected(connected) => result.tcp.get_or_insert_default().succeeded = Some(connected),
            Outcome::Failed(_) | Outcome::Nothing => {}
        }
        (result != self.said).then(|| {
            self.said = result;
            result
        })
    }
}

impl Health {
    fn heard(&mut self, outcome: &Outcome, now: Duration) -> Option<(bool, bool)> {
        let good = match outcome {
            Outcome::Exited(code) => *code == 0,
            Outcome::Answered(code) => (200..400).contains(code),
            Outcome::Connected(connected) => *connected,
            Outcome::Failed(_) | Outcome::Nothing => false,
        };
        if good {
            let told = self.was_healthy && self.failures == 0;
            (self.was_healthy, self.failures) = (true, 0);
            return (!told).then_some((true, false));
        }
        if !self.was_healthy && now <= self.grace {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        Some((false, self.failures >= self.limit))
    }
}

fn plan_of_check(check: &v1::CheckInfo) -> Result<Plan, String> {
    let missing = |what: &str| format!("it has no '{what}' though its type says so");
    let probe = match check_info::Type::try_from(check.r#type.unwrap_or_default()) {
        Ok(check_info::Type::Command) => {
            command(&check.command.as_ref().ok_or_else(|| missing("command"))?.command)?
        }
        Ok(check_info::Type::Http) => {
            let http = check.http.as_ref().ok_or_else(|| missing("http"))?;
            request("http", "127.0.0.1", http.port, http.path.as_deref())?
        }
        Ok(check_info::Type::Tcp) => {
            Probe::Tcp { port: port(check.tcp.as_ref().ok_or_else(|| missing("tcp"))?.port)? }
        }
        _ => return Err("its type is not known; use COMMAND, HTTP or TCP".to_owned()),
    };
    Ok(Plan {
        probe,
        timeout: timeout(check.timeout_seconds()),
        delay: seconds(check.delay_seconds()),
        interval: seconds(check.interval_seconds()),
    })
}

fn plan_of_health(health: &v1::HealthCheck) -> Result<Plan, String> {
    let missing = |what: &str| format!("it has no '{what}' though its type says so");
    let probe = match health_check::Type::try_from(health.r#type.unwrap_or_default()) {
        Ok(health_check::Type::Command) => {
            command(health.command.as_ref().ok_or_else(|| missing("command"))?)?
        }
        Ok(health_check::Type::Http) => {
            let http = health.http.as_ref().ok_or_else(|| missing("http"))?;
            let host = match http.protocol() {
                Protocol::IPv6 => "[::1]",
                Protocol::IPv4 => "127.0.0.1",
            };
            request(http.scheme.as_deref().unwrap_or("http"), host, http.port, http.path.as_deref())?
        }
        // As in Mesos, whose `protocol` of a connection has no effect.
        Ok(health_check::Type::Tcp) => {
            Probe::Tcp { port: port(health.tcp.as_ref().ok_or_else(|| missing("tcp"))?.port)? }
        }
        _ => return Err("its type is not known; use COMMAND, HTTP or TCP".to_owned()),
    };
    Ok(Plan {
        probe,
        timeout: timeout(health.timeout_seconds()),
        delay: seconds(health.delay_seconds()),
        interval: seconds(health.interval_seconds()),
    })
}

fn command(command: &v1::CommandInfo) -> Result<Probe, String> {
    let command = convert::command(command).map_err(|error| format!("its command: {error}"))?;
    Ok(Probe::Command(Box::new(command)))
}

fn request(scheme: &str, host: &str, number: u32, path: Option<&str>) -> Result<Probe, String> {
    if !matches!(scheme, "http" | "https") {
        return Err(format!("its scheme is {scheme:?}; use http or https"));
    }
    let path = path.unwrap_or_default();
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    Ok(Probe::Http { url: format!("{scheme}://{host}:{}{slash}{path}", port(number)?) })
}

fn port(number: u32) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("its port is {number}, and the last that there is 65535"))
}

fn timeout(value: f64) -> Option<Duration> {
    Some(seconds(value)).filter(|timeout| !timeout.is_zero())
}
