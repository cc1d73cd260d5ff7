// SPDX-License-Identifier: Apache-2.0
//! The facet Exec: further processes in a running container, each with an owner like a container ([`crate::owner`]).

use crate::containerizer::MesosContainerizer;
use crate::entry::Entry;
use crate::owner::{Handed, Job};
use crate::session::{self, Session};
use berth_contract::{Answer, Error, Exec, ExecRequest, ExecSession, LaunchResult, ready};
use berth_model::{Class, ContainerId, NativeState};
use std::sync::Arc;

impl Exec for MesosContainerizer {
    fn run(&self, id: &ContainerId, request: ExecRequest) -> Answer<'_, ExecSession> {
        let handed = Handed::default();
        let entry = match self.begin_session(id, request, &handed) {
            Ok(entry) => entry,
            Err(e) => return ready(Err(e)),
        };
        Box::pin(async move {
            let launched = entry.launched.wait().await?;
            match (launched, handed.take()) {
                (LaunchResult::Success, Some(streams)) => Ok(ExecSession { id: entry.id.clone(), streams }),
                _ => Err(Error::DestroyedWhileLaunching),
            }
        })
    }
}

impl MesosContainerizer {
    fn begin_session(
        &self,
        id: &ContainerId,
        request: ExecRequest,
        handed: &Handed,
    ) -> Result<Arc<Entry>, Error> {
        session::check(id, &request)?;
        let parent = id.parent().ok_or(Error::UnknownRoot)?;
        let shared = self.shared();
        let missing = || Error::ParentMissing(parent.clone());
        let container = shared.get(parent).ok_or_else(missing)?;
        if container.session {
            let text = format!("{parent} is no container of its own: no session in sessions");
            return Err(Error::other(Class::Unsupported, text));
        }
        let record = shared.native.look(&parent.to_string());
        let record = record.ok().flatten().ok_or_else(missing)?.record;
        let entry = Arc::new(Entry::session(id.clone(), NativeState::Starting)?);
        if !shared.add(&entry) {
            return Err(Error::other(
                Class::Conflict,
                format!("container {id} exists already: choose another id"),
            ));
        }
        // Only now: whoever ends the container says so before it looks for sessions to be ended first. So either this
        // one is found there, or the end is found here.
        let now = container.now();
        let refused = match (now.state, now.process) {
            _ if now.terminated => missing(),
            (NativeState::Destroying, _) => Error::ParentDestroying(parent.clone()),
            (NativeState::Running, _) if now.paused => Error::other(
                Class::Conflict,
                format!("container {parent} is paused, and so would be what is run in it: resume it first"),
            ),
            (NativeState::Running, Some(process)) => {
                let session = Session {
                    id: id.clone(),
                    parent: record,
                    pid: process.pid,
                    pidfd: process.pidfd,
                    request,
                    watch: None,
                };
                let job = Job::Session { session: Box::new(session), handed: handed.clone() };
                shared.own(&entry, job)?;
                return Ok(entry);
            }
            _ => Error::other(
                Class::Conflict,
                format!("container {parent} does not run yet: wait for its launch"),
            ),
        };
        shared.forget(id);
        Err(refused)
    }
}
