// SPDX-License-Identifier: Apache-2.0
//! A resource as it was written, in either form, before it is checked: amounts as given, the role perhaps in the
//! fields `role` and `reservation` that Mesos had before reservations could be refined.

use super::display::print_labels;
use super::resource::validate_reservations;
use super::role::{self, ANYONE};
use super::{DiskInfo, Invalid, Range, Ranges, Reservation, ReservationType, Resource, Scalar, Set, Value};
use crate::Labels;
use crate::wire::wire_enum;
use serde::Deserialize;

wire_enum! {
    /// What kind of value a resource says it has.
    pub enum ValueType {
        /// A number.
        Scalar = 0 => "SCALAR",
        /// Ranges.
        Ranges = 1 => "RANGES",
        /// A set.
        Set = 2 => "SET",
        /// Free text; no resource may have it.
        Text = 3 => "TEXT",
    }
}

/// A value as a text gives it.
#[derive(Debug)]
pub(super) enum DraftValue {
    Scalar(f64),
    Ranges(Vec<Range>),
    Set(Vec<String>),
}

/// The message `Resource`, fields as they come.
#[derive(Debug, Deserialize)]
pub(super) struct Draft {
    pub(super) name: String,
    #[serde(rename = "type")]
    kind: ValueType,
    scalar: Option<DraftScalar>,
    ranges: Option<DraftRanges>,
    set: Option<DraftSet>,
    role: Option<String>,
    reservation: Option<DraftReservation>,
    #[serde(default)]
    reservations: Vec<DraftReservation>,
    disk: Option<DiskInfo>,
    revocable: Option<Present>,
    shared: Option<Present>,
    allocation_info: Option<DraftAllocation>,
    provider_id: Option<DraftId>,
}

#[derive(Debug, Deserialize)]
struct DraftScalar {
    value: f64,
}

#[derive(Debug, Deserialize)]
struct DraftRanges {
    #[serde(default)]
    range: Vec<Range>,
}

#[derive(Debug, Deserialize)]
struct DraftSet {
    #[serde(default)]
    item: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct DraftReservation {
    #[serde(rename = "type")]
    kind: Option<ReservationType>,
    role: Option<String>,
    principal: Option<String>,
    labels: Option<Labels>,
}

/// A message without fields, whose presence says it all.
#[derive(Debug, Deserialize)]
struct Present {}

#[derive(Debug, Deserialize)]
struct DraftAllocation {
    role: Option<String>,
}

#[derive(Debug, Deserialize)]
struct DraftId {
    value: String,
}

impl Draft {
    /// What `name(role):value` says.
    pub(super) fn of_text(name: String, role: String, value: DraftValue) -> Draft {
        let (mut scalar, mut ranges, mut set) = (None, None, None);
        let kind = match value {
            DraftValue::Scalar(value) => {
                scalar = Some(DraftScalar { value });
                ValueType::Scalar
            }
            DraftValue::Ranges(range) => {
                ranges = Some(DraftRanges { range });
                ValueType::Ranges
            }
            DraftValue::Set(item) => {
                set = Some(DraftSet { item });
                ValueType::Set
            }
        };
        Draft {
            name,
            kind,
            scalar,
            ranges,
            set,
            role: Some(role),
            reservation: None,
            reservations: Vec::new(),
            disk: None,
            revocable: None,
            shared: None,
            allocation_info: None,
            provider_id: None,
        }
    }

    /// Reserves it for the role unless it says itself for whom it is.
    pub(super) fn default_role(&mut self, role: &str) {
        if self.role.is_none() && self.reservations.is_empty() {
            self.role = Some(role.to_owned());
        }
    }

    /// The valid resource in the present form, or the first thing that is wrong, in Mesos's order.
    pub(super) fn check(mut self) -> Result<Resource, Invalid> {
        if self.name.is_empty() {
            return Err(Invalid::EmptyName);
        }
        let mut resource = Resource {
            value: self.value()?,
            disk: self.disk.take(),
            revocable: self.revocable.is_some(),
            shared: self.shared.is_some(),
            allocation_role: self.allocation_info.take().map(|info| info.role.unwrap_or_default()),
            provider_id: self.provider_id.take().map(|id| id.value),
            ..Resource::new(std::mem::take(&mut self.name), Value::Scalar(Scalar::ZERO))
        };
        resource.validate_disk()?;
        resource.reservations =
            if self.reservations.is_empty() { self.old_reservations()? } else { self.new_reservations()? };
        resource.validate()?;
        Ok(resource)
    }

    fn value(&mut self) -> Result<Value, Invalid> {
        match (self.kind, self.scalar.take(), self.ranges.take(), self.set.take()) {
            (ValueType::Scalar, Some(scalar), None, None) => {
                Scalar::from_input(scalar.value).map(Value::Scalar)
            }
            (ValueType::Ranges, None, Some(ranges), None) => {
                Ranges::from_input(ranges.range).map(Value::Ranges)
            }
            (ValueType::Set, None, None, Some(set)) => Set::from_input(set.item).map(Value::Set),
            (ValueType::Scalar, ..) => Err(Invalid::Scalar),
            (ValueType::Ranges, ..) => Err(Invalid::Ranges),
            (ValueType::Set, ..) => Err(Invalid::Set),
            (ValueType::Text, ..) => Err(Invalid::UnsupportedType),
        }
    }

    /// From `role` and `reservation`: a role alone is a static reservation, both together a dynamic one.
    fn old_reservations(&self) -> Result<Vec<Reservation>, Invalid> {
        let role = self.role.as_deref().unwrap_or(ANYONE);
        role::validate(role)?;
        let Some(reservation) = &self.reservation else {
            return Ok(if role == ANYONE { Vec::new() } else { vec![Reservation::of_flags(role)] });
        };
        if reservation.kind.is_some() {
            return Err(Invalid::OldReservationField("type"));
        }
        if reservation.role.is_some() {
            return Err(Invalid::OldReservationField("role"));
        }
        if role == ANYONE {
            return Err(Invalid::DynamicForAnyone);
        }
        Ok(vec![Reservation {
            kind: ReservationType::Dynamic,
            role: role.to_owned(),
            principal: reservation.principal.clone(),
            labels: reservation.labels.clone(),
        }])
    }

    /// From `reservations`; the old fields may say the same, but nothing else.
    fn new_reservations(&self) -> Result<Vec<Reservation>, Invalid> {
        let complete = |draft: &DraftReservation| {
            Ok(Reservation {
                kind: draft.kind.ok_or(Invalid::ReservationField("type"))?,
                role: draft.role.clone().ok_or(Invalid::ReservationField("role"))?,
                principal: draft.principal.clone(),
                labels: draft.labels.clone(),
            })
        };
        let reservations = self.reservations.iter().map(complete).collect::<Result<Vec<_>, Invalid>>()?;
        validate_reservations(&reservations)?;
        match reservations.as_slice() {
            [single] => self.agrees_with(single)?,
            _ if self.role.is_some() => return Err(Invalid::OldAndMany("Resource.role")),
            _ if self.reservation.is_some() => return Err(Invalid::OldAndMany("Resource.reservation")),
            _ => {}
        }
        Ok(reservations)
    }

    fn agrees_with(&self, single: &Reservation) -> Result<(), Invalid> {
        if let Some(role) = self.role.as_ref().filter(|role| **role != single.role) {
            return Err(Invalid::RoleDiffers { role: role.clone(), reserved: single.role.clone() });
        }
        if single.kind == ReservationType::Static {
            return if self.reservation.is_some() { Err(Invalid::OldAndStatic) } else { Ok(()) };
        }
        let old = match (&self.role, &self.reservation) {
            (None, None) => return Ok(()),
            (Some(_), Some(old)) => old,
            _ => return Err(Invalid::OldHalfSet),
        };
        if old.principal != single.principal {
            let text = |principal: &Option<String>| principal.clone().unwrap_or_default();
            return Err(Invalid::PrincipalDiffers {
                old: text(&old.principal),
                new: text(&single.principal),
            });
        }
        if old.labels != single.labels {
            let text = |labels: &Option<Labels>| print_labels(&labels.clone().unwrap_or_default());
            return Err(Invalid::LabelsDiffer { old: text(&old.labels), new: text(&single.labels) });
        }
        Ok(())
    }
}
