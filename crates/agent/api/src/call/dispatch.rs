// SPDX-License-Identifier: Apache-2.0
//! Which question to the agent a call is, and how its answer is put. One arm for each type of call.

use std::sync::Arc;
use std::time::Duration;

use berth_model::{ContainerConfig, ContainerId};
use berth_proto::agent::call::Type;
use berth_proto::agent::response::{self, Type as Answered};
use berth_proto::agent::{Call, Response as Message};
use berth_proto::convert::{self, Refused};
use berth_proto::validate::container_of_input;
use berth_proto::{own, v1};
use hyper::StatusCode;

use super::{Checked, Reply, allow};
use crate::core::{Answer, Launched, LogRequest, Session, Show, Stream};
use crate::input::Records;
use crate::output::{self, Record};
use crate::server::Shared;
use crate::{Core, Refusal};

/// What a kill without a signal sends.
const SIGKILL: i32 = 9;

/// The payload of a call. Validation has found it.
macro_rules! payload {
    ($call:ident.$field:ident) => {
        $call.$field.ok_or_else(|| absent(stringify!($field)))?
    };
}

/// An answer with one field set.
macro_rules! message {
    ($kind:ident, $field:ident: $value:expr) => {
        Ok(Reply::Message(Box::new(Message {
            r#type: Some(Answered::$kind.into()),
            $field: Some($value),
            ..Message::default()
        })))
    };
}

impl Checked {
    pub(super) async fn dispatch(self, shared: &Shared) -> Result<Reply, Refusal> {
        let Checked { kind, call, input, form, caller } = self;
        let owner = &shared.core;
        let core = &**owner;
        let object = object(kind, &call)?;
        if asks_for_permission(kind) {
            allow(core, &caller, kind, object.as_ref()).await?;
        }
        let id = || object.clone().ok_or_else(|| absent("container_id"));
        let interval = shared.options.heartbeat;
        match kind {
            Type::Unknown => Err(Refusal::bare(StatusCode::NOT_IMPLEMENTED)),

            // About the agent.
            Type::GetHealth => message!(GetHealth, get_health: response::GetHealth { healthy: true }),
            Type::GetFlags => message!(GetFlags, get_flags: response::GetFlags { flags: core.flags() }),
            Type::GetVersion => {
                message!(GetVersion, get_version: response::GetVersion { version_info: core.version() })
            }
            Type::GetMetrics => {
                let timeout = payload!(call.get_metrics).timeout.map(duration);
                let metrics = core.metrics(timeout).await?;
                message!(GetMetrics, get_metrics: response::GetMetrics { metrics })
            }
            Type::GetLoggingLevel => {
                let level = core.logging_level().await?;
                message!(GetLoggingLevel, get_logging_level: response::GetLoggingLevel { level })
            }
            Type::SetLoggingLevel => {
                let payload = payload!(call.set_logging_level);
                done(owner, move |core| core.set_logging_level(payload.level, duration(payload.duration)))
                    .await
            }
            Type::ListFiles => {
                let file_infos = core.list_files(&payload!(call.list_files).path).await?;
                message!(ListFiles, list_files: response::ListFiles { file_infos })
            }
            Type::ReadFile => {
                let payload = payload!(call.read_file);
                let piece = core.read_file(&payload.path, payload.offset, payload.length).await?;
                message!(ReadFile, read_file: piece)
            }
            Type::GetAgent => message!(GetAgent, get_agent: core.agent().await?),
            Type::GetOperationsInFlight => {
                let operations = core.operations_in_flight().await?;
                message!(GetOperationsInFlight, get_operations_in_flight: operations)
            }
            Type::ExplainGc => message!(ExplainGc, explain_gc: core.explain_gc().await?),
            Type::Subscribe => {
                let since = call.subscribe.and_then(|payload| payload.since);
                Ok(streamed(core.subscribe(since).await?, form, interval))
            }

            // About tasks.
            Type::GetState => message!(GetState, get_state: core.state().await?),
            Type::GetTasks => {
                message!(GetTasks, get_tasks: core.state().await?.get_tasks.unwrap_or_default())
            }
            Type::GetExecutors => {
                message!(GetExecutors, get_executors: core.state().await?.get_executors.unwrap_or_default())
            }
            Type::GetFrameworks => {
                message!(GetFrameworks, get_frameworks: core.state().await?.get_frameworks.unwrap_or_default())
            }

            // About containers.
            Type::GetContainers => {
                let payload = call.get_containers.unwrap_or_default();
                let show = Show {
                    nested: payload.show_nested.unwrap_or_default(),
                    standalone: payload.show_standalone.unwrap_or_default(),
                    ended: payload.show_ended.unwrap_or_default(),
                    summaries: payload.show_summaries.unwrap_or_default(),
                    without_statistics: payload.without_statistics.unwrap_or_default(),
                };
                listed(core.containers(&caller, show).await?)
            }
            Type::LaunchContainer => {
                let payload = payload!(call.launch_container);
                launch(owner, convert::launch(&payload)).await
            }
            Type::LaunchNestedContainer => {
                let payload = payload!(call.launch_nested_container);
                launch(owner, convert::launch_nested(&payload)).await
            }
            Type::LaunchNestedContainerSession => {
                allow(core, &caller, Type::AttachContainerOutput, object.as_ref()).await?;
                let payload = payload!(call.launch_nested_container_session);
                let (id, config) = convert::launch_session(&payload).map_err(refused)?;
                match to_its_end(owner, move |core| core.launch_session(id, config)).await? {
                    Session::Started(stream) => Ok(streamed(stream, form, interval)),
                    Session::Other(launched) => came_of(launched),
                }
            }
            Type::WaitContainer => {
                let id = id()?;
                let termination = core.wait(&id).await?.ok_or_else(|| Refusal::no_container(&id))?;
                message!(WaitContainer, wait_container: convert::termination_of(&termination))
            }
            Type::WaitNestedContainer => {
                let id = id()?;
                let termination = core.wait(&id).await?.ok_or_else(|| Refusal::no_container(&id))?;
                message!(WaitNestedContainer, wait_nested_container: convert::termination_of_nested(&termination))
            }
            Type::KillContainer => kill(owner, id()?, payload!(call.kill_container).signal).await,
            Type::KillNestedContainer => {
                kill(owner, id()?, payload!(call.kill_nested_container).signal).await
            }
            Type::RemoveContainer | Type::RemoveNestedContainer => {
                let id = id()?;
                done(owner, move |core| core.remove(id)).await
            }
            Type::AttachContainerInput => attach_input(core, id()?, input).await,
            Type::AttachContainerOutput => Ok(streamed(core.attach_output(id()?).await?, form, interval)),
            Type::UpdateContainer => {
                let (id, payload) = (id()?, payload!(call.update_container));
                let resources = convert::resources(&payload.resources).map_err(refused)?;
                let limits = convert::limits(&payload.limits).map_err(refused)?;
                done(owner, move |core| core.update(id, resources, limits)).await
            }
            Type::InspectContainer => {
                message!(InspectContainer, inspect_container: core.inspect(&id()?).await?)
            }
            Type::ReadLogs => {
                let (id, payload) = (id()?, payload!(call.read_logs));
                let stream = payload.stream.and_then(|number| own::Stream::try_from(number).ok());
                let follow = payload.follow.unwrap_or_default();
                let nanoseconds = |time: v1::TimeInfo| u64::try_from(time.nanoseconds).unwrap_or(0);
                let since_time = payload.since_time.map(nanoseconds);
                let until_time = payload.until_time.map(nanoseconds);
                let (since, tail) = (payload.since, payload.tail);
                let request = LogRequest { id, stream, since, tail, follow, since_time, until_time };
                Ok(streamed(core.read_logs(request).await?, form, interval))
            }
            Type::Rename => {
                let (id, name) = (id()?, payload!(call.rename).name);
                done(owner, move |core| core.rename(id, name)).await
            }
            Type::Pause => {
                let id = id()?;
                done(owner, move |core| core.pause(id)).await
            }
            Type::Resume => {
                let id = id()?;
                done(owner, move |core| core.resume(id)).await
            }

            // About images.
            Type::PruneImages => {
                let images = call.prune_images.unwrap_or_default().excluded_images;
                let excluded =
                    images.iter().map(convert::image).collect::<Result<_, _>>().map_err(refused)?;
                done(owner, move |core| core.prune_images(excluded)).await
            }
            Type::ExplainPull => {
                let image = convert::image(&payload!(call.explain_pull).image).map_err(refused)?;
                message!(ExplainPull, explain_pull: core.explain_pull(image).await?)
            }

            // About resource providers, of which there are none here.
            Type::GetOperations => message!(GetOperations, get_operations: response::GetOperations {}),
            Type::GetResourceProviders => {
                message!(GetResourceProviders, get_resource_providers: response::GetResourceProviders::default())
            }
            Type::AddResourceProviderConfig => {
                let info = payload!(call.add_resource_provider_config).info;
                let (kind, name) = (info.r#type, info.name);
                Err(Refusal::bad_request(format!(
                    "Failed to validate resource provider config with type '{kind}' and name '{name}': Unknown local \
                     resource provider type '{kind}'"
                )))
            }
            Type::UpdateResourceProviderConfig => {
                let info = payload!(call.update_resource_provider_config).info;
                let (kind, name) = (info.r#type, info.name);
                let text = format!("Resource provider with type '{kind}' and name '{name}' does not exist");
                Err(Refusal::new(StatusCode::CONFLICT, text))
            }
            Type::RemoveResourceProviderConfig => Ok(Reply::Done),
            Type::MarkResourceProviderGone => {
                let id = payload!(call.mark_resource_provider_gone).resource_provider_id.value;
                Err(Refusal::failed(format!("Resource provider '{id}' does not exist")))
            }
        }
    }
}

/// Whether the agent is asked before anything is done. What is only shown it filters itself.
fn asks_for_permission(kind: Type) -> bool {
    !matches!(
        kind,
        Type::Unknown
            | Type::GetHealth
            | Type::GetVersion
            | Type::GetMetrics
            | Type::GetLoggingLevel
            | Type::GetAgent
            | Type::GetState
            | Type::GetTasks
            | Type::GetExecutors
            | Type::GetFrameworks
            | Type::GetContainers
            | Type::GetOperations
            | Type::GetResourceProviders
    )
}

/// The container that a call is about.
fn object(kind: Type, call: &Call) -> Result<Option<ContainerId>, Refusal> {
    macro_rules! of {
        ($field:ident) => {
            call.$field.as_ref().map(|payload| &payload.container_id)
        };
    }
    let id: Option<&v1::ContainerId> = match kind {
        Type::LaunchContainer => of!(launch_container),
        Type::LaunchNestedContainer => of!(launch_nested_container),
        Type::LaunchNestedContainerSession => of!(launch_nested_container_session),
        Type::WaitContainer => of!(wait_container),
        Type::WaitNestedContainer => of!(wait_nested_container),
        Type::KillContainer => of!(kill_container),
        Type::KillNestedContainer => of!(kill_nested_container),
        Type::RemoveContainer => of!(remove_container),
        Type::RemoveNestedContainer => of!(remove_nested_container),
        Type::AttachContainerOutput => of!(attach_container_output),
        Type::UpdateContainer => of!(update_container),
        Type::InspectContainer => of!(inspect_container),
        Type::ReadLogs => of!(read_logs),
        Type::Rename => of!(rename),
        Type::Pause => of!(pause),
        Type::Resume => of!(resume),
        Type::AttachContainerInput => {
            return container_of_input(call)
                .map(Some)
                .map_err(|error| Refusal::bad_request(error.to_string()));
        }
        _ => None,
    };
    id.map(convert::container_id).transpose().map_err(|error| Refusal::bad_request(error.to_string()))
}

fn absent(field: &str) -> Refusal {
    Refusal::bad_request(format!("Expecting '{field}' to be present"))
}

/// What can not be represented is a failure to launch, which Mesos answers with 400 whatever it is.
fn refused(error: Refused) -> Refusal {
    Refusal::bad_request(error.to_string())
}

fn duration(message: v1::DurationInfo) -> Duration {
    Duration::from_nanos(u64::try_from(message.nanoseconds).unwrap_or(0))
}

/// Does what changes something, to its end, whether or not the client is still there: a request's life does not
/// decide a container's.
async fn to_its_end<T: Send + 'static>(
    owner: &Arc<dyn Core>,
    work: impl for<'a> FnOnce(&'a dyn Core) -> Answer<'a, T> + Send + 'static,
) -> Result<T, Refusal> {
    let owner = owner.clone();
    let task = tokio::spawn(async move { work(&*owner).await });
    task.await.unwrap_or_else(|_| Err(Refusal::discarded()))
}

async fn done(
    owner: &Arc<dyn Core>,
    work: impl for<'a> FnOnce(&'a dyn Core) -> Answer<'a, ()> + Send + 'static,
) -> Result<Reply, Refusal> {
    to_its_end(owner, work).await.map(|()| Reply::Done)
}

async fn launch(
    owner: &Arc<dyn Core>,
    what: Result<(ContainerId, ContainerConfig), Refused>,
) -> Result<Reply, Refusal> {
    let (id, config) = what.map_err(refused)?;
    came_of(to_its_end(owner, move |core| core.launch(id, config)).await?)
}

fn came_of(launched: Launched) -> Result<Reply, Refusal> {
    match launched {
        Launched::Started => Ok(Reply::Done),
        Launched::AlreadyLaunched => Ok(Reply::Accepted),
        Launched::NotSupported => Err(Refusal::unsupported_container()),
    }
}

async fn kill(owner: &Arc<dyn Core>, id: ContainerId, signal: Option<i32>) -> Result<Reply, Refusal> {
    let none = Refusal::no_container_to_kill(&id);
    let found = to_its_end(owner, move |core| core.kill(id, signal.unwrap_or(SIGKILL))).await?;
    if found { Ok(Reply::Done) } else { Err(none) }
}

/// Mesos leaves the whole field out when there is no container.
fn listed(containers: Vec<response::get_containers::Container>) -> Result<Reply, Refusal> {
    let get_containers = (!containers.is_empty()).then_some(response::GetContainers { containers });
    let kind = Some(Answered::GetContainers.into());
    Ok(Reply::Message(Box::new(Message { r#type: kind, get_containers, ..Message::default() })))
}

async fn attach_input(core: &dyn Core, id: ContainerId, input: Option<Records>) -> Result<Reply, Refusal> {
    let records = input.ok_or_else(|| Refusal::bad_request("Received EOF while reading request body"))?;
    let (input, mut fault) = records.input();
    let result = tokio::select! {
        biased;
        // A record that is no input ends the call. That the channel closes without one means nothing.
        Ok(refusal) = &mut fault => return Err(refusal),
        result = core.attach_input(id, input) => result,
    };
    // To the agent the input just ended.
    match fault.try_recv() {
        Ok(refusal) => Err(refusal),
        Err(_) => result.map(|()| Reply::Done),
    }
}

fn streamed<T: Record>(stream: Stream<T>, form: super::Form, interval: Duration) -> Reply {
    Reply::Stream(output::respond(stream, form, interval))
}
