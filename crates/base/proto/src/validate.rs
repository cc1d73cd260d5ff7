// SPDX-License-Identifier: Apache-2.0
//! What a call must be before anything is done for it. The checks, their order and their words are Mesos's; those of
//! our own calls are in the same style.

mod command;
mod container;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use berth_model::{Class, ContainerId, IdError, Resources};

pub use command::{CommandInvalid, SecretInvalid, validate as validate_command};
pub use container::{ContainerInvalid, VolumeInvalid, validate as validate_container};
pub use stream::{InputInvalid, container_of_input, process_io_of_input};

use crate::agent::Call;
use crate::agent::call::{self, Type};
use crate::convert;
use crate::v1::{CommandInfo, ContainerInfo, value};

/// A call that is refused, in the words of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Failed to validate agent::Call: {0}")]
pub struct CallInvalid(pub Invalid);

impl CallInvalid {
    /// Always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// What is wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it all")]
pub enum Invalid {
    #[error("Expecting '{0}' to be present")]
    Absent(&'static str),
    #[error("'{field}.container_id' is invalid: {error}")]
    Id { field: &'static str, error: IdError },
    #[error("'rename.name' is invalid: {0}")]
    Name(IdError),
    #[error("Expecting '{0}.container_id.parent' to be present")]
    NoParent(&'static str),
    #[error("'{field}.command' is invalid: {error}")]
    Command { field: &'static str, error: CommandInvalid },
    #[error("'{field}.container' is invalid: {error}")]
    Container { field: &'static str, error: ContainerInvalid },
    #[error("'{0}' is unknown")]
    Unknown(&'static str),
    #[error("Invalid resources: {0}")]
    Resources(String),
    #[error("Invalid GPU resources: The 'gpus' resource must be an unsigned integer")]
    Gpus,
    #[error("'{field}.limits' is invalid: {error}")]
    Limits { field: &'static str, error: String },
    #[error("'launch_container.resources' must be unreserved")]
    Reserved,
    #[error("'launch_container.resources' may not use persistent volumes")]
    PersistentVolume,
    #[error("'launch_container.resources' must be non-revocable")]
    Revocable,
    #[error(
        "'launch_container' is invalid: containers nested at the second level or greater cannot specify {0}"
    )]
    DeepWith(&'static str),
    #[error(
        "'{0}' is invalid: containers nested at the second level or greater cannot set 'share_cgroups' to 'false'"
    )]
    DeepOwnCgroups(&'static str),
    #[error(
        "'launch_container' is invalid: containers without a parent cannot set 'share_cgroups' to 'true'"
    )]
    RootSharesCgroups,
    #[error(
        "'launch_nested_container_session.container.linux_info' is invalid: 'share_cgroups' cannot be set to 'false' \
         for nested container sessions"
    )]
    SessionOwnCgroups,
    #[error("Expecting '{0}_resource_provider_config.info.id' to be unset")]
    ProviderId(&'static str),
    #[error("'read_logs.{0}' and 'read_logs.{1}' exclude each other")]
    Both(&'static str, &'static str),
    #[error("Expecting 'read_logs.stream' to be present with 'read_logs.since': an offset is of one stream")]
    OffsetWithoutStream,
}

/// Checks a call whose required fields are all set, and tells its type. UNKNOWN is a type too.
pub fn validate(call: &Call) -> Result<Type, CallInvalid> {
    let kind = call.r#type.and_then(|number| Type::try_from(number).ok());
    let kind = kind.ok_or(CallInvalid(Invalid::Absent("type")))?;
    validate_payload(kind, call).map_err(CallInvalid)?;
    Ok(kind)
}

/// The payload, or the words that it is missing.
fn need<'a, T>(field: &'static str, payload: &'a Option<T>) -> Result<&'a T, Invalid> {
    payload.as_ref().ok_or(Invalid::Absent(field))
}

fn present<T>(field: &'static str, payload: &Option<T>) -> Result<(), Invalid> {
    need(field, payload).map(drop)
}

/// Checks the id in a payload that has little else.
macro_rules! check_id {
    ($call:ident.$field:ident) => {{
        let field = stringify!($field);
        let payload = need(field, &$call.$field)?;
        id(field, &payload.container_id)?
    }};
}

fn validate_payload(kind: Type, call: &Call) -> Result<(), Invalid> {
    match kind {
        Type::Unknown
        | Type::GetHealth
        | Type::GetFlags
        | Type::GetVersion
        | Type::GetLoggingLevel
        | Type::GetState
        | Type::GetContainers
        | Type::GetFrameworks
        | Type::GetExecutors
        | Type::GetTasks
        | Type::GetAgent
        | Type::GetResourceProviders
        | Type::GetOperations
        | Type::PruneImages
        | Type::Subscribe
        | Type::GetOperationsInFlight
        | Type::ExplainGc => {}
        Type::GetMetrics => present("get_metrics", &call.get_metrics)?,
        Type::SetLoggingLevel => present("set_logging_level", &call.set_logging_level)?,
        Type::ListFiles => present("list_files", &call.list_files)?,
        Type::ReadFile => present("read_file", &call.read_file)?,
        Type::LaunchNestedContainer => {
            launch_nested(need("launch_nested_container", &call.launch_nested_container)?)?
        }
        Type::WaitNestedContainer => nested("wait_nested_container", check_id!(call.wait_nested_container))?,
        Type::KillNestedContainer => nested("kill_nested_container", check_id!(call.kill_nested_container))?,
        Type::RemoveNestedContainer => {
            nested("remove_nested_container", check_id!(call.remove_nested_container))?
        }
        Type::LaunchNestedContainerSession => {
            session(need("launch_nested_container_session", &call.launch_nested_container_session)?)?;
        }
        Type::AttachContainerInput => input(need("attach_container_input", &call.attach_container_input)?)?,
        Type::AttachContainerOutput => drop(check_id!(call.attach_container_output)),
        Type::LaunchContainer => launch(need("launch_container", &call.launch_container)?)?,
        Type::WaitContainer => drop(check_id!(call.wait_container)),
        Type::KillContainer => drop(check_id!(call.kill_container)),
        Type::RemoveContainer => drop(check_id!(call.remove_container)),
        Type::AddResourceProviderConfig => {
            let payload = need("add_resource_provider_config", &call.add_resource_provider_config)?;
            unset_id("add", payload.info.id.is_some())?;
        }
        Type::UpdateResourceProviderConfig => {
            let payload = need("update_resource_provider_config", &call.update_resource_provider_config)?;
            unset_id("update", payload.info.id.is_some())?;
        }
        Type::RemoveResourceProviderConfig => {
            present("remove_resource_provider_config", &call.remove_resource_provider_config)?;
        }
        Type::MarkResourceProviderGone => {
            present("mark_resource_provider_gone", &call.mark_resource_provider_gone)?;
        }
        Type::UpdateContainer => update(need("update_container", &call.update_container)?)?,
        Type::InspectContainer => drop(check_id!(call.inspect_container)),
        Type::ReadLogs => read_logs(need("read_logs", &call.read_logs)?)?,
        Type::ExplainPull => present("explain_pull", &call.explain_pull)?,
        Type::Rename => {
            drop(check_id!(call.rename));
            let name = &need("rename", &call.rename)?.name;
            drop(ContainerId::new(name).map_err(Invalid::Name)?);
        }
        Type::Pause => drop(check_id!(call.pause)),
        Type::Resume => drop(check_id!(call.resume)),
    }
    Ok(())
}

fn id(field: &'static str, id: &crate::v1::ContainerId) -> Result<ContainerId, Invalid> {
    convert::container_id(id).map_err(|error| Invalid::Id { field, error })
}

fn nested(field: &'static str, id: ContainerId) -> Result<(), Invalid> {
    if id.is_nested() { Ok(()) } else { Err(Invalid::NoParent(field)) }
}

fn unset_id(verb: &'static str, is_set: bool) -> Result<(), Invalid> {
    if is_set { Err(Invalid::ProviderId(verb)) } else { Ok(()) }
}

fn what_runs(
    field: &'static str,
    command: &Option<CommandInfo>,
    container: &Option<ContainerInfo>,
) -> Result<(), Invalid> {
    if let Some(command) = command {
        command::validate(command).map_err(|error| Invalid::Command { field, error })?;
    }
    if let Some(container) = container {
        container::validate(container).map_err(|error| Invalid::Container { field, error })?;
    }
    Ok(())
}

fn share_cgroups(container: &Option<ContainerInfo>) -> Option<bool> {
    container.as_ref()?.linux_info.as_ref()?.share_cgroups
}

fn launch_nested(payload: &call::LaunchNestedContainer) -> Result<(), Invalid> {
    let field = "launch_nested_container";
    let id = id(field, &payload.container_id)?;
    let depth = id.depth();
    nested(field, id)?;
    if depth > 2 && share_cgroups(&payload.container) == Some(false) {
        return Err(Invalid::DeepOwnCgroups(field));
    }
    what_runs(field, &payload.command, &payload.container)
}

fn session(payload: &call::LaunchNestedContainerSession) -> Result<(), Invalid> {
    let field = "launch_nested_container_session";
    nested(field, id(field, &payload.container_id)?)?;
    what_runs(field, &payload.command, &payload.container)?;
    if share_cgroups(&payload.container) == Some(false) { Err(Invalid::SessionOwnCgroups) } else { Ok(()) }
}

fn input(payload: &call::AttachContainerInput) -> Result<(), Invalid> {
    use call::attach_container_input::Type;
    let kind = payload.r#type.and_then(|number| Type::try_from(number).ok());
    match kind.ok_or(Invalid::Absent("attach_container_input.type"))? {
        Type::Unknown => Err(Invalid::Unknown("attach_container_input.type")),
        Type::ContainerId => {
            let container_id = need("attach_container_input.container_id", &payload.container_id)?;
            drop(id("attach_container_input", container_id)?);
            Ok(())
        }
        Type::ProcessIo => stream::process_io(payload).map(drop).map_err(|error| match error {
            // Here the words do not say what it is instead.
            InputInvalid::Absent(field) => Invalid::Absent(field),
            InputInvalid::Unknown(field) => Invalid::Unknown(field),
            _ => Invalid::Absent("attach_container_input.process_io"),
        }),
    }
}

fn launch(payload: &call::LaunchContainer) -> Result<(), Invalid> {
    let field = "launch_container";
    let id = id(field, &payload.container_id)?;
    let resources = resources(&payload.resources)?;
    limits(field, &payload.limits)?;
    let share_cgroups = share_cgroups(&payload.container);
    match id.depth() {
        1 => standalone(&resources, share_cgroups)?,
        2 => {}
        _ if !payload.resources.is_empty() => return Err(Invalid::DeepWith("resources")),
        _ if !payload.limits.is_empty() => return Err(Invalid::DeepWith("resource limits")),
        _ if share_cgroups == Some(false) => return Err(Invalid::DeepOwnCgroups(field)),
        _ => {}
    }
    what_runs(field, &payload.command, &payload.container)
}

/// Nobody offered these resources, so they can be nobody's.
fn standalone(resources: &Resources, share_cgroups: Option<bool>) -> Result<(), Invalid> {
    for resource in resources.iter() {
        if !resource.reservations.is_empty() {
            return Err(Invalid::Reserved);
        }
        if resource.is_persistent_volume() {
            return Err(Invalid::PersistentVolume);
        }
        if resource.revocable {
            return Err(Invalid::Revocable);
        }
    }
    if share_cgroups == Some(true) { Err(Invalid::RootSharesCgroups) } else { Ok(()) }
}

fn update(payload: &call::UpdateContainer) -> Result<(), Invalid> {
    let field = "update_container";
    drop(id(field, &payload.container_id)?);
    drop(resources(&payload.resources)?);
    limits(field, &payload.limits)
}

fn read_logs(payload: &call::ReadLogs) -> Result<(), Invalid> {
    drop(id("read_logs", &payload.container_id)?);
    match (payload.since, payload.tail, payload.stream) {
        (Some(_), Some(_), _) => Err(Invalid::Both("since", "tail")),
        (Some(_), None, None) => Err(Invalid::OffsetWithoutStream),
        _ => Ok(()),
    }
}

fn resources(list: &[crate::v1::Resource]) -> Result<Resources, Invalid> {
    let resources = convert::resources(list).map_err(|error| Invalid::Resources(error.to_string()))?;
    match resources.scalar("gpus") {
        Some(gpus) if gpus.thousandths() % 1000 != 0 => Err(Invalid::Gpus),
        _ => Ok(resources),
    }
}

fn limits(field: &'static str, limits: &BTreeMap<String, value::Scalar>) -> Result<(), Invalid> {
    match convert::limits(limits) {
        Ok(_) => Ok(()),
        Err(error) => Err(Invalid::Limits { field, error: error.to_string() }),
    }
}
