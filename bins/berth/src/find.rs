// SPDX-License-Identifier: Apache-2.0
//! Whose container is meant: one of a `berth run` without an agent, which is looked for first, or one of the agent.
//!
//! As with docker, a container is named by its id, by its name, or by the beginning of its id where only one begins so.

use crate::cli::Global;
use crate::exit::Failure;
use crate::open::open;
use crate::text::begins;
use berth_client::{Agent, Connection, Error, List};
use berth_factory::oneshot::Native;
use berth_model::ContainerId;
use berth_proto::agent::response::get_containers;
use berth_proto::convert;
use berth_proto::own::Summary;
use std::ffi::OsString;
use std::path::PathBuf;

/// The agent that the command line, the environment or the runtime directory names.
pub(crate) fn agent(global: &Global) -> Agent {
    Agent::at(socket(global, std::env::var_os("BERTH_SOCKET")))
}

fn socket(global: &Global, variable: Option<OsString>) -> PathBuf {
    let named = || variable.filter(|v| !v.is_empty()).map(PathBuf::from);
    global.socket.clone().or_else(named).unwrap_or_else(|| global.runtime_dir.join("berth.sock"))
}

/// Both places where containers are.
pub(crate) struct Places {
    /// None when we are not root, who alone has such containers.
    pub(crate) native: Option<Native>,
    pub(crate) agent: Agent,
    /// Somebody said where the agent is: then it has to be there.
    pub(crate) expected: bool,
}

impl Places {
    /// Opens them; nothing is asked of the agent.
    pub(crate) fn open(global: &Global) -> Result<Places, Failure> {
        let root = berth_sys::rustix::process::geteuid().is_root();
        let native = root.then(|| open(global, Vec::new(), false)).transpose()?;
        let expected =
            global.socket.is_some() || std::env::var_os("BERTH_SOCKET").is_some_and(|v| !v.is_empty());
        Ok(Places { native, agent: agent(global), expected })
    }

    /// Does something to a container, at whoever has it.
    pub(crate) async fn at<T>(
        &self,
        name: &str,
        here: impl AsyncFnOnce(&Native, &str) -> Result<T, Failure>,
        there: impl AsyncFn(&mut Connection, &ContainerId) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        if let Some(native) = &self.native
            && ContainerId::new(name).is_ok()
            && native.is_here(name).map_err(|e| Failure::of(&e))?
        {
            return here(native, name).await;
        }
        let mut connection = match self.agent.connect().await {
            Ok(connection) => Ok(connection),
            Err(error) if error.is_no_agent() && !self.expected => Err(error),
            Err(error) => return Err(Failure::client(&error)),
        };
        if let (Ok(connection), Ok(id)) = (&mut connection, name.parse::<ContainerId>()) {
            match there(connection, &id).await {
                Err(error) if error.is_unknown() => {}
                result => return result.map_err(|e| Failure::client(&e)),
            }
        }
        match self.beginning(name, &mut connection).await? {
            (Some(id), _) => here(self.native.as_ref().ok_or_else(|| unknown(name))?, &id).await,
            (None, Some(id)) => match &mut connection {
                Ok(connection) => there(connection, &id).await.map_err(|e| Failure::client(&e)),
                Err(_) => Err(unknown(name)),
            },
            (None, None) => Err(match connection {
                Ok(_) => unknown(name),
                Err(error) if self.native.is_none() => Failure::client(&error),
                Err(error) => Failure::text(format!(
                    "no container is named {name}: `berth ps -a` lists them; and {error}"
                )),
            }),
        }
    }

    /// The one container whose id begins so: here, or at the agent.
    async fn beginning(
        &self,
        name: &str,
        connection: &mut Result<Connection, Error>,
    ) -> Result<(Option<String>, Option<ContainerId>), Failure> {
        let here = match &self.native {
            Some(native) => native.list().map_err(|e| Failure::of(&e))?,
            None => Vec::new(),
        };
        let here = here.into_iter().map(|listed| listed.record.id).filter(|id| begins(id, name));
        let there = match connection {
            Ok(connection) => ids(connection).await.map_err(|e| Failure::client(&e))?,
            Err(_) => Vec::new(),
        };
        let there = there.into_iter().filter(|id| begins(id, name));
        let mut found: Vec<(bool, ContainerId)> =
            here.map(|id| (true, id)).chain(there.map(|id| (false, id))).collect();
        match found.len() {
            0 => Ok((None, None)),
            1 => Ok(match found.pop() {
                Some((true, id)) => (Some(id.to_string()), None),
                other => (None, other.map(|(_, id)| id)),
            }),
            _ => {
                let all: Vec<String> = found.iter().map(|(_, id)| id.to_string()).collect();
                Err(Failure::text(format!("{name} is the beginning of several: {}", all.join(", "))))
            }
        }
    }
}

/// What is said when a container of a `berth run` without an agent is asked for what only an agent does.
pub(crate) fn agents_only(what: &str, name: &str) -> Failure {
    Failure::text(format!(
        "can not {what} {name}: it is of a `berth run` without an agent; start it with `berth run --detach` or `berth run --socket PATH`"
    ))
}

fn unknown(name: &str) -> Failure {
    Failure::text(format!("no container is named {name}: `berth ps -a` lists them"))
}

/// The ids of all containers of the agent: those that live, and those that ended and are kept.
async fn ids(connection: &mut Connection) -> Result<Vec<ContainerId>, Error> {
    let all = connection.list(List { ended: true, usage: false }).await?.into_iter();
    let id = |summary: Summary| convert::container_id(&summary.container_id).ok();
    Ok(all.filter_map(|container| container.summary.and_then(id)).collect())
}

/// Entries have the innermost level of an id; the status has the whole.
pub(crate) fn id_of(container: get_containers::Container) -> Option<ContainerId> {
    let whole = container.container_status.and_then(|status| status.container_id);
    convert::container_id(&whole.unwrap_or(container.container_id)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_options_the_variables_or_in_the_runtime_directory() {
        let mut global =
            Global { runtime_dir: "/run/x".into(), work_dir: "/w".into(), socket: Some("/s".into()) };
        assert_eq!(socket(&global, Some("/v".into())), PathBuf::from("/s"));
        global.socket = None;
        assert_eq!(socket(&global, Some("/v".into())), PathBuf::from("/v"));
        assert_eq!(socket(&global, Some("".into())), PathBuf::from("/run/x/berth.sock"));
        assert_eq!(socket(&global, None), PathBuf::from("/run/x/berth.sock"));
    }
}
