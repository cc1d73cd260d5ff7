// SPDX-License-Identifier: Apache-2.0
//! `POST /api/v1` for operators (reference 33.11): what there is, in Mesos's v1 messages, and what happens, as a
//! stream. What changes a cluster is refused by name.

use std::sync::Arc;

use berth_api::{Body, CAPABILITIES, Refusal, StatusCode, Whole, accepted_encoding};
use berth_proto::master::call::Type;
use berth_proto::master::response::{self, Type as Answered, get_agents, get_executors, get_frameworks};
use berth_proto::master::{Call, Response as Message, Role};
use berth_proto::v1;
use berth_proto::v1::agent_info::{Capability, capability};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};

use crate::amounts::{WHOLE, allocated, messages};
use crate::endpoints::{of_role, offered, subscribed, used};
use crate::framework::Framework;
use crate::http::{Face, not_acceptable};
use crate::metrics;
use crate::state::{Offer, State};
use crate::stream::Events;
use crate::watch;

pub(crate) async fn answer(
    face: &Arc<Face>,
    request: Request<Incoming>,
    gzip: bool,
) -> Result<Response<Body>, Refusal> {
    let (call, headers) = face.message::<Call>(request, "Call").await?;
    let kind = validate(&call)
        .map_err(|why| Refusal::bad_request(format!("Failed to validate master::Call: {why}")))?;
    let encoding = accepted_encoding(&headers).ok_or_else(not_acceptable)?;
    if kind == Type::Subscribe {
        let version = face.version.version.clone();
        let queue = face.look_and_change(move |state| watch::subscribe(state, &version)).await?;
        let events = Events::new(queue, encoding, watch::heartbeat, None);
        let mut response = Response::new(events.boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
        return Ok(response);
    }
    let whole = match tell(face, kind, call).await? {
        Some(message) => Whole::ok(encoding.media_type(), encoding.encode(&message)),
        None => Whole::empty(StatusCode::OK),
    };
    Ok(whole.respond(gzip).await)
}

fn validate(call: &Call) -> Result<Type, String> {
    let need = |name: &str, is_there: bool| {
        if is_there { Ok(()) } else { Err(format!("Expecting '{name}' to be present")) }
    };
    let kind = call.r#type.and_then(|kind| Type::try_from(kind).ok());
    let kind = kind.ok_or_else(|| "Expecting 'type' to be present".to_owned())?;
    match kind {
        Type::GetMetrics => need("get_metrics", call.get_metrics.is_some())?,
        Type::SetLoggingLevel => need("set_logging_level", call.set_logging_level.is_some())?,
        Type::ListFiles => need("list_files", call.list_files.is_some())?,
        Type::ReadFile => need("read_file", call.read_file.is_some())?,
        Type::Teardown => need("teardown", call.teardown.is_some())?,
        Type::KillTask => need("kill_task", call.kill_task.is_some())?,
        _ => {}
    }
    Ok(kind)
}

fn message(kind: Answered) -> Message {
    Message { r#type: Some(kind.into()), ..Message::default() }
}

/// The answer, if it has a body.
async fn tell(face: &Arc<Face>, kind: Type, call: Call) -> Result<Option<Message>, Refusal> {
    let version = face.version.version.clone();
    Ok(Some(match kind {
        Type::GetHealth => {
            let get_health = Some(response::GetHealth { healthy: true });
            Message { get_health, ..message(Answered::GetHealth) }
        }
        Type::GetFlags => {
            let get_flags = Some(response::GetFlags { flags: face.flags.clone() });
            Message { get_flags, ..message(Answered::GetFlags) }
        }
        Type::GetVersion => {
            let get_version = Some(response::GetVersion { version_info: face.version.clone() });
            Message { get_version, ..message(Answered::GetVersion) }
        }
        Type::GetMetrics => {
            let all = face.look(metrics::all).await?;
            let metric = |(name, value)| v1::Metric { name, value: Some(value) };
            let get_metrics = Some(response::GetMetrics { metrics: all.into_iter().map(metric).collect() });
            Message { get_metrics, ..message(Answered::GetMetrics) }
        }
        Type::GetLoggingLevel => {
            let level = match &face.core {
                Some(core) => core.logging_level().await?,
                None => 0,
            };
            let get_logging_level = Some(response::GetLoggingLevel { level });
            Message { get_logging_level, ..message(Answered::GetLoggingLevel) }
        }
        Type::SetLoggingLevel => {
            let (Some(core), Some(set)) = (&face.core, call.set_logging_level) else {
                return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "this master has no log of its own"));
            };
            let time = u64::try_from(set.duration.nanoseconds).unwrap_or(0);
            core.set_logging_level(set.level, std::time::Duration::from_nanos(time)).await?;
            return Ok(None);
        }
        // A master has no sandboxes.
        Type::ListFiles | Type::ReadFile => return Err(Refusal::empty(StatusCode::NOT_FOUND)),
        Type::GetState => {
            let get_state = Some(face.look(move |state, _| whole(state, &version)).await?);
            Message { get_state, ..message(Answered::GetState) }
        }
        Type::GetAgents => {
            let get_agents = Some(face.look(move |state, _| agents(state, &version)).await?);
            Message { get_agents, ..message(Answered::GetAgents) }
        }
        Type::GetFrameworks => {
            let get_frameworks = Some(face.look(|state, _| frameworks(state)).await?);
            Message { get_frameworks, ..message(Answered::GetFrameworks) }
        }
        Type::GetExecutors => {
            let get_executors = Some(face.look(|state, _| executors(state)).await?);
            Message { get_executors, ..message(Answered::GetExecutors) }
        }
        Type::GetTasks => {
            let get_tasks = Some(face.look(|state, _| tasks(state)).await?);
            Message { get_tasks, ..message(Answered::GetTasks) }
        }
        Type::GetRoles => {
            let get_roles = Some(face.look(|state, _| roles(state)).await?);
            Message { get_roles, ..message(Answered::GetRoles) }
        }
        Type::GetWeights => message(Answered::GetWeights),
        Type::GetMaster => {
            let master = |state: &State| response::GetMaster {
                master_info: Some(state.master.clone()),
                start_time: Some(state.started),
                elected_time: Some(state.started),
            };
            let get_master = Some(face.look(move |state, _| master(state)).await?);
            Message { get_master, ..message(Answered::GetMaster) }
        }
        Type::GetMaintenanceStatus => {
            let get_maintenance_status = Some(response::GetMaintenanceStatus::default());
            Message { get_maintenance_status, ..message(Answered::GetMaintenanceStatus) }
        }
        Type::GetMaintenanceSchedule => {
            let get_maintenance_schedule = Some(response::GetMaintenanceSchedule::default());
            Message { get_maintenance_schedule, ..message(Answered::GetMaintenanceSchedule) }
        }
        Type::GetQuota => {
            Message { get_quota: Some(response::GetQuota::default()), ..message(Answered::GetQuota) }
        }
        Type::GetOperations => {
            Message { get_operations: Some(response::Nothing::default()), ..message(Answered::GetOperations) }
        }
        Type::Teardown => {
            let id = call.teardown.map(|teardown| teardown.framework_id.value).unwrap_or_default();
            if !face.remove(id).await? {
                return Err(Refusal::bad_request("No framework found with specified ID"));
            }
            return Ok(None);
        }
        Type::KillTask => {
            let Some(kill) = call.kill_task else { return Ok(None) };
            let (task, framework) = (kill.task_id.value.clone(), kill.framework_id.value);
            if !face
                .look_and_change(move |state| {
                    state.kill_for_operator(&framework, kill.task_id.value, kill.kill_policy)
                })
                .await?
            {
                let text = format!("no task '{task}' of this framework runs");
                return Err(Refusal::new(StatusCode::NOT_FOUND, text));
            }
            return Ok(None);
        }
        Type::Unknown | Type::Subscribe => return Err(Refusal::bare(StatusCode::NOT_IMPLEMENTED)),
        Type::UpdateWeights
        | Type::ReserveResources
        | Type::UnreserveResources
        | Type::CreateVolumes
        | Type::DestroyVolumes
        | Type::UpdateMaintenanceSchedule
        | Type::StartMaintenance
        | Type::StopMaintenance
        | Type::SetQuota
        | Type::RemoveQuota
        | Type::MarkAgentGone => {
            let text =
                format!("{} is of a cluster: the master of one node does not do it", kind.as_str_name());
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, text));
        }
    }))
}

/// A moment, as messages have it.
fn moment(wall: f64) -> v1::TimeInfo {
    v1::TimeInfo { nanoseconds: (wall * 1e9) as i64 }
}

pub(crate) fn whole(state: &State, version: &str) -> response::GetState {
    response::GetState {
        get_tasks: Some(tasks(state)),
        get_executors: Some(executors(state)),
        get_frameworks: Some(frameworks(state)),
        get_agents: Some(agents(state, version)),
    }
}

fn agents(state: &State, version: &str) -> response::GetAgents {
    let known = CAPABILITIES.iter().filter_map(|name| capability::Type::from_str_name(name));
    let agent = get_agents::Agent {
        agent_info: v1::AgentInfo { checkpoint: Some(true), ..state.agent.clone() },
        active: true,
        deactivated: Some(false),
        version: version.to_owned(),
        pid: Some(state.agent_pid()),
        registered_time: Some(moment(state.started)),
        reregistered_time: None,
        total_resources: messages(&state.total, WHOLE),
        allocated_resources: messages(&used(state), WHOLE),
        offered_resources: messages(&offered(state, None), WHOLE),
        capabilities: known.map(|kind| Capability { r#type: Some(kind.into()) }).collect(),
    };
    response::GetAgents { agents: vec![agent], recovered_agents: Vec::new() }
}

fn frameworks(state: &State) -> response::GetFrameworks {
    let told = |one: &Framework| framework(state, one);
    response::GetFrameworks {
        frameworks: state.frameworks.values().map(told).collect(),
        completed_frameworks: state.completed.iter().map(told).collect(),
    }
}

pub(crate) fn framework(state: &State, framework: &Framework) -> get_frameworks::Framework {
    let id = framework.id();
    let offers = state.offers.iter().filter(|(_, offer)| offer.framework == id);
    let offered = offers.clone().fold(berth_model::Resources::new(), |sum, (_, offer)| {
        sum + &allocated(&offer.resources, &offer.role)
    });
    let is_over = framework.unregistered > 0.0;
    get_frameworks::Framework {
        framework_info: framework.info.clone(),
        active: framework.stream.is_some(),
        connected: framework.stream.is_some(),
        recovered: framework.recovered,
        registered_time: Some(moment(framework.registered)),
        reregistered_time: Some(moment(framework.reregistered)),
        unregistered_time: is_over.then(|| moment(framework.unregistered)),
        offers: offers.map(|(id, offer): (&String, &Offer)| state.offer_message(id, offer)).collect(),
        allocated_resources: messages(&framework.used, WHOLE),
        offered_resources: messages(&offered, WHOLE),
        offer_constraints: Some(framework.constraints.clone().unwrap_or_default()),
    }
}

fn executors(state: &State) -> response::GetExecutors {
    let all = state.frameworks.values().flat_map(|framework| framework.executors.values());
    let agent_id = state.agent.id.clone().unwrap_or_default();
    let told = |info: &v1::ExecutorInfo| get_executors::Executor {
        executor_info: info.clone(),
        agent_id: agent_id.clone(),
    };
    response::GetExecutors { executors: all.map(told).collect() }
}

fn tasks(state: &State) -> response::GetTasks {
    let all = state.frameworks.values().chain(&state.completed);
    response::GetTasks {
        tasks: state.frameworks.values().flat_map(|one| one.tasks.values().cloned()).collect(),
        unreachable_tasks: Vec::new(),
        completed_tasks: all.flat_map(|one| one.completed_tasks.iter().cloned()).collect(),
    }
}

fn roles(state: &State) -> response::GetRoles {
    let told = |(name, frameworks): (String, Vec<String>)| {
        let (allocated, offered) = of_role(state, &name);
        let both = allocated + &offered;
        let scalars = both.filter(|one| matches!(one.value, berth_model::resources::Value::Scalar(_)));
        Role {
            name,
            weight: 1.0,
            frameworks: frameworks.into_iter().map(|value| v1::FrameworkId { value }).collect(),
            resources: berth_proto::convert::resources_of(&scalars),
        }
    };
    response::GetRoles { roles: subscribed(state).into_iter().map(told).collect() }
}
