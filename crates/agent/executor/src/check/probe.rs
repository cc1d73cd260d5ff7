// SPDX-License-Identifier: Apache-2.0
//! Finds out how a task does.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use berth_model::{ContainerId, DurationText};
use berth_tasks::built_in::{Containers, Ran};

use super::network::{Failure, within};
use super::{Outcome, Plan, Probe, http};
use crate::life::Kind;

/// What a shell says of what SIGKILL ended.
const KILLED: i32 = 128 + 9;

/// Makes a probe of a container, for as long as it may take.
pub(crate) async fn probe(containers: &dyn Containers, id: &ContainerId, kind: Kind, plan: Plan) -> Outcome {
    let Plan { probe, timeout, .. } = plan;
    let took_too_long = |what: &str| {
        let limit = DurationText(timeout.unwrap_or_default());
        Outcome::Failed(format!("{what} timed out after {limit}"))
    };
    let found = match probe {
        Probe::Command(command) => {
            return match containers.exec(id.clone(), *command, BTreeMap::new(), timeout).await {
                // It was ended with the container.
                Ran::Exited(KILLED) if kind == Kind::Member => Outcome::Nothing,
                Ran::Exited(code) => Outcome::Exited(code),
                Ran::TimedOut => took_too_long("Command"),
                Ran::Failed(why) => Outcome::Failed(why),
            };
        }
        Probe::Http { url } => {
            let request = move || http::status(&url, timeout).map_or_else(Outcome::Failed, Outcome::Answered);
            in_time(timeout, within(containers, id, request)).await
        }
        Probe::Tcp { port } => in_time(timeout, within(containers, id, move || connect(port, timeout))).await,
    };
    match found {
        Some(Ok(outcome)) => outcome,
        Some(Err(Failure::Gone)) => Outcome::Nothing,
        Some(Err(Failure::Error(why))) => Outcome::Failed(why),
        None => took_too_long("The connection"),
    }
}

/// The threads have the same limit, and end by it; it is kept here, where nothing of theirs is in the way.
async fn in_time<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}

fn connect(port: u16, limit: Option<Duration>) -> Outcome {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connected = match limit {
        Some(limit) => TcpStream::connect_timeout(&address, limit),
        None => TcpStream::connect(address),
    };
    match connected {
        Ok(_) => Outcome::Connected(true),
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            Outcome::Failed(format!("connect to {address}: {error}"))
        }
        Err(_) => Outcome::Connected(false),
    }
}

#[cfg(test)]
mod tests;
