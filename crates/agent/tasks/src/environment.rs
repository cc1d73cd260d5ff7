// SPDX-License-Identifier: Apache-2.0
//! The environment of executors (reference 31 §2): what their libraries find the agent by.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use berth_proto::v1;

use crate::core::At;
use crate::text::duration;
use crate::token::Tokens;

/// What of it is the same for all.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `--executor_environment_variables`.
    pub variables: BTreeMap<String, String>,
    /// The agent's process id: `slave(1)@address:port`.
    pub pid: String,
    /// The address that processes of the host listen at, for drivers that speak by messages.
    pub ip: Option<String>,
    /// What the tokens of frameworks' executors are made with, if they get any.
    pub tokens: Option<Tokens>,
    /// Its address and port, if it has one.
    pub endpoint: Option<String>,
    /// The socket for executors, if there is one.
    pub domain_socket: Option<String>,
    /// `--executor_shutdown_grace_period`.
    pub shutdown_grace: Duration,
    /// `--recovery_timeout`.
    pub recovery_timeout: Duration,
    /// `--executor_reregistration_timeout`.
    pub backoff: Duration,
}

impl Default for Surroundings {
    fn default() -> Surroundings {
        Surroundings {
            variables: BTreeMap::new(),
            pid: "slave(1)@127.0.0.1:5051".to_owned(),
            ip: None,
            tokens: None,
            endpoint: None,
            domain_socket: None,
            shutdown_grace: Duration::from_secs(5),
            recovery_timeout: Duration::from_secs(900),
            backoff: Duration::from_secs(2),
        }
    }
}

impl Surroundings {
    /// The variables of one executor.
    pub(crate) fn of(
        &self,
        at: &At,
        executor: &v1::ExecutorInfo,
        agent: &v1::AgentInfo,
        directory: &Path,
    ) -> BTreeMap<String, String> {
        let own = executor.shutdown_grace_period.as_ref();
        let grace = own.map(|own| Duration::from_nanos(own.nanoseconds.max(0).cast_unsigned()));
        // Where a driver listens that speaks by messages: what it would find by the name of the host may be anything.
        let ip = if has_own_network(executor) { Some("0.0.0.0".to_owned()) } else { self.ip.clone() };
        let mut all: BTreeMap<String, String> =
            ip.map(|ip| ("LIBPROCESS_IP".to_owned(), ip)).into_iter().collect();
        all.extend(self.variables.clone());
        let mut set = |name: &str, value: String| all.insert(name.to_owned(), value);
        set("LIBPROCESS_PORT", "0".to_owned());
        set("MESOS_FRAMEWORK_ID", at.framework.clone());
        set("MESOS_EXECUTOR_ID", at.executor.clone());
        set("MESOS_DIRECTORY", directory.display().to_string());
        set("MESOS_SLAVE_ID", agent.id.clone().unwrap_or_default().value);
        set("MESOS_SLAVE_PID", self.pid.clone());
        // Everything is always written down, whether or not the framework asks for it.
        set("MESOS_CHECKPOINT", "1".to_owned());
        set("MESOS_HTTP_COMMAND_EXECUTOR", "1".to_owned());
        set("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", duration(grace.unwrap_or(self.shutdown_grace)));
        set("MESOS_RECOVERY_TIMEOUT", duration(self.recovery_timeout));
        set("MESOS_SUBSCRIPTION_BACKOFF_MAX", duration(self.backoff));
        if let Some(endpoint) = &self.endpoint {
            set("MESOS_AGENT_ENDPOINT", endpoint.clone());
        }
        if let Some(socket) = &self.domain_socket {
            set("MESOS_DOMAIN_SOCKET", socket.clone());
        }
        all
    }
}

/// Whether the addresses of the host are none of an executor's.
fn has_own_network(executor: &v1::ExecutorInfo) -> bool {
    use v1::container_info::docker_info::Network;
    let Some(container) = &executor.container else { return false };
    let named = container.network_infos.iter().any(|network| network.name.is_some());
    named || container.docker.as_ref().is_some_and(|docker| docker.network() != Network::Host)
}

/// The role that a task's resources are of.
pub(crate) fn role(task: &v1::TaskInfo) -> Option<String> {
    task.resources.first()?.allocation_info.as_ref()?.role.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_finds_the_agent_and_itself_in_its_environment() {
        let at = At { framework: "f".to_owned(), executor: "e".to_owned(), container: "c".parse().unwrap() };
        let agent =
            v1::AgentInfo { id: Some(v1::AgentId { value: "a-S0".to_owned() }), ..Default::default() };
        let surroundings = Surroundings {
            variables: BTreeMap::from([
                ("X".to_owned(), "1".to_owned()),
                ("LIBPROCESS_PORT".to_owned(), "9".to_owned()),
            ]),
            endpoint: Some("10.0.0.1:5051".to_owned()),
            pid: "slave(1)@10.0.0.1:5051".to_owned(),
            ip: Some("10.0.0.1".to_owned()),
            ..Surroundings::default()
        };
        let grace = v1::DurationInfo { nanoseconds: 90_000_000_000 };
        let executor = v1::ExecutorInfo { shutdown_grace_period: Some(grace), ..Default::default() };
        let all = surroundings.of(&at, &executor, &agent, Path::new("/w/s"));
        let expected = [
            ("LIBPROCESS_IP", "10.0.0.1"),
            ("LIBPROCESS_PORT", "0"),
            ("MESOS_AGENT_ENDPOINT", "10.0.0.1:5051"),
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_DIRECTORY", "/w/s"),
            ("MESOS_EXECUTOR_ID", "e"),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "90secs"),
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_HTTP_COMMAND_EXECUTOR", "1"),
            ("MESOS_RECOVERY_TIMEOUT", "15mins"),
            ("MESOS_SLAVE_ID", "a-S0"),
            ("MESOS_SLAVE_PID", "slave(1)@10.0.0.1:5051"),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs"),
            ("X", "1"),
        ];
        let all: Vec<(&str, &str)> =
            all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(all, expected);
        // One with a network of its own has other addresses.
        let network = v1::NetworkInfo { name: Some("n".to_owned()), ..Default::default() };
        let container = v1::ContainerInfo { network_infos: vec![network], ..Default::default() };
        let executor = v1::ExecutorInfo { container: Some(container), ..Default::default() };
        let own = surroundings.of(&at, &executor, &agent, Path::new("/w/s"));
        assert_eq!(own["LIBPROCESS_IP"], "0.0.0.0");
    }
}
