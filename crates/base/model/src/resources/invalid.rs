// SPDX-License-Identifier: Apache-2.0
//! Why a resource is refused although it could be read.

use super::role::RoleError;
use crate::Class;

/// What is wrong with a resource. The messages are Mesos's, to the letter, because schedulers and operators see them
/// and search for them; only [`Invalid::ScalarTooLarge`] has no counterpart there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it all")]
pub enum Invalid {
    #[error("Empty resource name")]
    EmptyName,
    #[error("Invalid scalar resource")]
    Scalar,
    #[error("Invalid scalar resource: value <= 0")]
    ScalarNotPositive,
    #[error("Invalid scalar resource: value > 9000000000000000; use a larger unit")]
    ScalarTooLarge,
    #[error("Invalid ranges resource")]
    Ranges,
    #[error("Invalid ranges resource: begin > end")]
    RangeBackwards,
    #[error("Invalid ranges resource: overlapping ranges")]
    RangesOverlap,
    #[error("Invalid set resource")]
    Set,
    #[error("Invalid set resource: duplicated elements")]
    SetDuplicates,
    #[error("Unsupported resource type")]
    UnsupportedType,
    #[error("DiskInfo should not be set for {0} resource")]
    DiskInfo(String),
    #[error("{what} should not be set for {source_type} disk source")]
    DiskSource { what: &'static str, source_type: &'static str },
    #[error("Unsupported 'DiskInfo.Source.Type' in '{0}'")]
    DiskSourceType(String),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error("'Resource.ReservationInfo.{0}' must not be set for the 'Resource.reservation' field")]
    OldReservationField(&'static str),
    #[error("Invalid reservation: role \"*\" cannot be dynamically reserved")]
    DynamicForAnyone,
    #[error("Invalid reservation: 'Resource.ReservationInfo.{0}' field must be set.")]
    ReservationField(&'static str),
    #[error("Invalid reservation: role \"*\" cannot be reserved")]
    ReservedForAnyone,
    #[error("Unsupported 'Resource.ReservationInfo.Type'")]
    ReservationType,
    #[error("Invalid refined reservation: A refined reservation cannot be STATIC")]
    RefinedStatic,
    #[error("Invalid refined reservation: role '{role}' is not a refinement of '{ancestor}'")]
    NotRefined { role: String, ancestor: String },
    #[error(
        "Invalid resource format: 'Resource.role' field with '{role}' does not match the role '{reserved}' in \
         'Resource.reservations'"
    )]
    RoleDiffers { role: String, reserved: String },
    #[error(
        "Invalid resource format: 'Resource.reservation' must not be set if the single reservation in \
         'Resource.reservations' is STATIC"
    )]
    OldAndStatic,
    #[error(
        "Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be both set or both not set \
         if the single reservation in 'Resource.reservations' is DYNAMIC"
    )]
    OldHalfSet,
    #[error(
        "Invalid resource format: 'Resource.reservation.principal' field with '{old}' does not match the principal \
         '{new}' in 'Resource.reservations'"
    )]
    PrincipalDiffers { old: String, new: String },
    #[error(
        "Invalid resource format: 'Resource.reservation.labels' field with '{old}' does not match the labels '{new}' \
         in 'Resource.reservations'"
    )]
    LabelsDiffer { old: String, new: String },
    #[error(
        "Invalid resource format: '{0}' must not be set if there is more than one reservation in \
         'Resource.reservations'"
    )]
    OldAndMany(&'static str),
    #[error("Resource {0} cannot be shared")]
    NotShareable(String),
    #[error("Only persistent volumes can be shared")]
    SharedNotPersistent,
}

impl Invalid {
    /// A wrong resource is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}
