// SPDX-License-Identifier: Apache-2.0
//! What a call must be before anything is done for it (reference 33.1.2): pure, in Mesos's words.

use berth_proto::scheduler::Call;
use berth_proto::scheduler::call::Type;

use crate::random::is_uuid;

/// Checks a call, and tells its type.
pub(crate) fn validate(call: &Call, principal: Option<&str>) -> Result<Type, String> {
    let kind = call.r#type.and_then(|kind| Type::try_from(kind).ok()).ok_or_else(|| absent("type"))?;
    if kind == Type::Subscribe {
        let subscribe = call.subscribe.as_ref().ok_or_else(|| absent("subscribe"))?;
        if call.framework_id != subscribe.framework_info.id {
            return Err("'framework_id' differs from 'subscribe.framework_info.id'".to_owned());
        }
        return match (principal, &subscribe.framework_info.principal) {
            (Some(authenticated), Some(own)) if authenticated != own => Err(mismatch(authenticated, own)),
            _ => Ok(kind),
        };
    }
    if call.framework_id.is_none() {
        return Err(absent("framework_id"));
    }
    let need = |name: &str, is_there: bool| if is_there { Ok(()) } else { Err(absent(name)) };
    match kind {
        Type::Unknown | Type::Subscribe | Type::Teardown | Type::Revive | Type::Suppress => {}
        Type::Accept => need("accept", call.accept.is_some())?,
        Type::Decline => need("decline", call.decline.is_some())?,
        Type::AcceptInverseOffers => need("accept_inverse_offers", call.accept_inverse_offers.is_some())?,
        Type::DeclineInverseOffers => need("decline_inverse_offers", call.decline_inverse_offers.is_some())?,
        Type::Kill => need("kill", call.kill.is_some())?,
        Type::Shutdown => need("shutdown", call.shutdown.is_some())?,
        Type::Reconcile => need("reconcile", call.reconcile.is_some())?,
        Type::ReconcileOperations => need("reconcile_operations", call.reconcile_operations.is_some())?,
        Type::Message => need("message", call.message.is_some())?,
        Type::Request => need("request", call.request.is_some())?,
        Type::Acknowledge => {
            let acknowledge = call.acknowledge.as_ref().ok_or_else(|| absent("acknowledge"))?;
            uuid(&acknowledge.uuid)?;
        }
        Type::AcknowledgeOperationStatus => {
            let acknowledge = call.acknowledge_operation_status.as_ref();
            let acknowledge = acknowledge.ok_or_else(|| absent("acknowledge_operation_status"))?;
            uuid(&acknowledge.uuid)?;
            need("agent_id", acknowledge.agent_id.is_some())?;
        }
        Type::UpdateFramework => {
            let update = call.update_framework.as_ref().ok_or_else(|| absent("update_framework"))?;
            if call.framework_id != update.framework_info.id {
                return Err("'framework_id' differs from 'update_framework.framework_info.id'".to_owned());
            }
        }
    }
    Ok(kind)
}

/// Who asks is not whose framework it is.
pub(crate) fn mismatch(authenticated: &str, own: &str) -> String {
    format!(
        "Authenticated principal '{authenticated}' does not match principal '{own}' set in `FrameworkInfo`"
    )
}

fn absent(field: &str) -> String {
    format!("Expecting '{field}' to be present")
}

fn uuid(bytes: &[u8]) -> Result<(), String> {
    if is_uuid(bytes) { Ok(()) } else { Err("Not a valid UUID".to_owned()) }
}
