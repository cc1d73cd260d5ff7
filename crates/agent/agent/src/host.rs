// SPDX-License-Identifier: Apache-2.0
//! What the agent says of itself and its host, and how times are put in messages.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_model::Resources;
use berth_proto::agent::response::GetAgent;
use berth_proto::convert::resources_of;
use berth_proto::v1;

/// A length of time, as messages have it.
pub(crate) fn duration(time: Duration) -> v1::DurationInfo {
    v1::DurationInfo { nanoseconds: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX) }
}

/// A moment, as messages have it.
pub(crate) fn moment(time: SystemTime) -> v1::TimeInfo {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    v1::TimeInfo { nanoseconds: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX) }
}

/// The build.
pub(crate) fn version() -> v1::VersionInfo {
    v1::VersionInfo { version: env!("CARGO_PKG_VERSION").to_owned(), ..v1::VersionInfo::default() }
}

/// The name of this host.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The answer to GET_AGENT.
pub(crate) fn agent(resources: &Resources, port: Option<u16>) -> GetAgent {
    let info = v1::AgentInfo {
        hostname: hostname(),
        port: port.map(i32::from),
        resources: resources_of(resources),
        ..v1::AgentInfo::default()
    };
    GetAgent { agent_info: Some(info), ..GetAgent::default() }
}
