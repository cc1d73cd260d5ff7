// SPDX-License-Identifier: Apache-2.0
//! The calls by name, with types of the model where it has some. What is left out here can be sent with
//! [`Connection::call`].

use std::collections::BTreeMap;

use berth_model::{CommandInfo, ContainerId, ContainerInfo, Resources};
use berth_proto::agent::call::{self, Type};
use berth_proto::agent::response::{GetAgent, WaitContainer, get_containers};
use berth_proto::agent::{Call, ProcessIo, Response};
use berth_proto::convert::{self, container_id_of};
use berth_proto::{own, v1};

use crate::{Agent, Connection, Error, Records, Reply};

/// What to launch.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// The command.
    pub command: CommandInfo,
    /// The container.
    pub container: Option<ContainerInfo>,
    /// Requests.
    pub resources: Resources,
    /// Limits by the names of resources.
    pub limits: BTreeMap<String, f64>,
}

/// What to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct List {
    /// Also those that have ended and are kept, but for sessions.
    pub ended: bool,
    /// Also what each uses, which has to be measured.
    pub usage: bool,
}

/// What came of a launch that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launched {
    /// It runs.
    Started,
    /// One of that name was there.
    AlreadyThere,
}

/// Which part of what a container wrote.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogRequest {
    /// Written where; none: both.
    pub stream: Option<own::Stream>,
    /// From this byte on; only with `stream` and without `tail`.
    pub since: Option<u64>,
    /// Only the last lines, of both streams together.
    pub tail: Option<u64>,
    /// On until it ends.
    pub follow: bool,
    /// Only what was written then or later, in nanoseconds since 1970.
    pub since_time: Option<u64>,
    /// Only what was written before.
    pub until_time: Option<u64>,
}

fn time_info(nanoseconds: u64) -> v1::TimeInfo {
    v1::TimeInfo { nanoseconds: i64::try_from(nanoseconds).unwrap_or(i64::MAX) }
}

macro_rules! call {
    ($kind:ident) => {
        Call { r#type: Some(Type::$kind.into()), ..Call::default() }
    };
    ($kind:ident, $field:ident: $payload:expr) => {
        Call { r#type: Some(Type::$kind.into()), $field: Some($payload), ..Call::default() }
    };
}

impl Connection {
    /// The agent's build.
    ///
    /// # Errors
    /// It was not answered, or refused; so for all calls.
    pub async fn version(&mut self) -> Result<v1::VersionInfo, Error> {
        let answer = self.ask(&call!(GetVersion), |r| r.get_version).await?;
        Ok(answer.version_info)
    }

    /// The agent itself, above all its resources.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn agent(&mut self) -> Result<GetAgent, Error> {
        self.ask(&call!(GetAgent), |r| r.get_agent).await
    }

    /// All containers: of executors, standalone and nested ones.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn containers(&mut self) -> Result<Vec<get_containers::Container>, Error> {
        self.listed(call::GetContainers::default()).await
    }

    /// All containers, each with its summary, in one answer.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn list(&mut self, list: List) -> Result<Vec<get_containers::Container>, Error> {
        let all = self
            .listed(call::GetContainers {
                show_ended: Some(list.ended),
                show_summaries: Some(true),
                without_statistics: Some(!list.usage),
                ..call::GetContainers::default()
            })
            .await?;
        match all.iter().all(|container| container.summary.is_some()) {
            true => Ok(all),
            false => Err(self.strange("GET_CONTAINERS", "containers without their summaries")),
        }
    }

    async fn listed(&mut self, what: call::GetContainers) -> Result<Vec<get_containers::Container>, Error> {
        let (show_nested, show_standalone) = (Some(true), Some(true));
        let all = call::GetContainers { show_nested, show_standalone, ..what };
        let call = call!(GetContainers, get_containers: all);
        // An agent without any leaves the field out.
        let answer = self.ask(&call, |r| Some(r.get_containers.unwrap_or_default())).await?;
        Ok(answer.containers)
    }

    /// What a collection would remove now, what it would keep, and why.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn explain_gc(&mut self) -> Result<own::CollectionExplanation, Error> {
        self.ask(&call!(ExplainGc), |r| r.explain_gc).await
    }

    /// All containers at the top, also those that have ended and are kept: Mesos lists only those that live, so this
    /// asks what a collection would look at. Cheaper than [`Connection::containers`], since nothing is measured.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn kept(&mut self) -> Result<Vec<v1::ContainerId>, Error> {
        let all = self.explain_gc().await?;
        let items = all.removed.into_iter().chain(all.kept);
        let mut ids: Vec<v1::ContainerId> = items.filter_map(|item| item.container_id).collect();
        ids.dedup();
        Ok(ids)
    }

    /// Launches a container.
    ///
    /// # Errors
    /// As [`Connection::version`]; a container that did not come up is a refusal too.
    pub async fn launch(&mut self, id: &ContainerId, launch: &Launch) -> Result<Launched, Error> {
        let payload = call::LaunchContainer {
            container_id: container_id_of(id),
            command: Some(convert::command_of(&launch.command)),
            resources: convert::resources_of(&launch.resources),
            container: launch.container.as_ref().map(convert::container_of),
            limits: convert::limits_of(&launch.limits),
        };
        match self.call(&call!(LaunchContainer, launch_container: payload)).await? {
            Reply::Accepted => Ok(Launched::AlreadyThere),
            _ => Ok(Launched::Started),
        }
    }

    /// Waits until a container has ended.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn wait(&mut self, id: &ContainerId) -> Result<WaitContainer, Error> {
        let payload = call::WaitContainer { container_id: container_id_of(id) };
        self.ask(&call!(WaitContainer, wait_container: payload), |r| r.wait_container).await
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn kill(&mut self, id: &ContainerId, signal: i32) -> Result<(), Error> {
        let payload = call::KillContainer { container_id: container_id_of(id), signal: Some(signal) };
        self.tell(&call!(KillContainer, kill_container: payload)).await
    }

    /// Removes what is kept of a container that has ended.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn remove(&mut self, id: &ContainerId) -> Result<(), Error> {
        let payload = call::RemoveContainer { container_id: container_id_of(id) };
        self.tell(&call!(RemoveContainer, remove_container: payload)).await
    }

    /// Sets all requests and limits anew.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn update(
        &mut self,
        id: &ContainerId,
        resources: Vec<v1::Resource>,
        limits: &BTreeMap<String, f64>,
    ) -> Result<(), Error> {
        let limits = convert::limits_of(limits);
        let payload = call::UpdateContainer { container_id: container_id_of(id), resources, limits };
        self.tell(&call!(UpdateContainer, update_container: payload)).await
    }

    /// Everything there is to know about a container.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn inspect(&mut self, id: &ContainerId) -> Result<own::Inspection, Error> {
        let payload = call::InspectContainer { container_id: container_id_of(id) };
        self.ask(&call!(InspectContainer, inspect_container: payload), |r| r.inspect_container).await
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn rename(&mut self, id: &ContainerId, name: &str) -> Result<(), Error> {
        let payload = call::Rename { container_id: container_id_of(id), name: name.to_owned() };
        self.tell(&call!(Rename, rename: payload)).await
    }

    /// Stops all processes of a container.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn pause(&mut self, id: &ContainerId) -> Result<(), Error> {
        let payload = call::Pause { container_id: container_id_of(id) };
        self.tell(&call!(Pause, pause: payload)).await
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As [`Connection::version`].
    pub async fn resume(&mut self, id: &ContainerId) -> Result<(), Error> {
        let payload = call::Resume { container_id: container_id_of(id) };
        self.tell(&call!(Resume, resume: payload)).await
    }

    async fn tell(&mut self, call: &Call) -> Result<(), Error> {
        self.call(call).await.map(|_| ())
    }

    async fn ask<T>(&mut self, call: &Call, part: impl FnOnce(Response) -> Option<T>) -> Result<T, Error> {
        let found = match self.call(call).await? {
            Reply::Message(message) => part(*message),
            _ => None,
        };
        let name = call.r#type().as_str_name();
        found.ok_or_else(|| self.strange(name, "another answer than was asked for"))
    }
}

impl Agent {
    /// Runs a command in a container and streams what it writes; none if there is one of that name. The command ends
    /// with the stream.
    ///
    /// # Errors
    /// It was not answered, or refused; a command that did not come up is a refusal too.
    pub async fn session(
        &self,
        id: &ContainerId,
        command: &CommandInfo,
        container: Option<&ContainerInfo>,
    ) -> Result<Option<Records<ProcessIo>>, Error> {
        let payload = call::LaunchNestedContainerSession {
            container_id: container_id_of(id),
            command: Some(convert::command_of(command)),
            container: container.map(convert::container_of),
        };
        self.stream(&call!(LaunchNestedContainerSession, launch_nested_container_session: payload)).await
    }

    /// What a container writes from now on.
    ///
    /// # Errors
    /// It was not answered, or refused.
    pub async fn attach_output(&self, id: &ContainerId) -> Result<Records<ProcessIo>, Error> {
        let payload = call::AttachContainerOutput { container_id: container_id_of(id) };
        self.streamed(&call!(AttachContainerOutput, attach_container_output: payload)).await
    }

    /// What a container wrote.
    ///
    /// # Errors
    /// It was not answered, or refused.
    pub async fn logs(&self, id: &ContainerId, request: LogRequest) -> Result<Records<own::LogChunk>, Error> {
        let payload = call::ReadLogs {
            container_id: container_id_of(id),
            stream: request.stream.map(Into::into),
            since: request.since,
            tail: request.tail,
            follow: Some(request.follow),
            since_time: request.since_time.map(time_info),
            until_time: request.until_time.map(time_info),
        };
        self.streamed(&call!(ReadLogs, read_logs: payload)).await
    }

    /// What happens: from now on, or after the event of this number.
    ///
    /// # Errors
    /// It was not answered, or refused.
    pub async fn events(&self, since: Option<u64>) -> Result<Records<own::Event>, Error> {
        self.streamed(&call!(Subscribe, subscribe: call::Subscribe { since })).await
    }

    async fn streamed<T: prost::Message + prost::Name + Default>(
        &self,
        call: &Call,
    ) -> Result<Records<T>, Error> {
        let name = call.r#type().as_str_name();
        let strange = || Error::Strange {
            socket: self.socket().to_owned(),
            call: name,
            why: "status 202 instead of a stream".to_owned(),
        };
        self.stream(call).await?.ok_or_else(strange)
    }
}
