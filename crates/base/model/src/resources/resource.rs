// SPDX-License-Identifier: Apache-2.0
//! One entry: a name, a value, and everything that keeps it apart from other entries of the same name.

use super::role::{self, ANYONE};
use super::{Invalid, Scalar, Value};
use crate::wire::wire_enum;
use crate::{Labels, Volume};
use serde::{Deserialize, Serialize};

/// An amount of one thing, the message `Resource` in its present form (`reservations`, not `role`).
///
/// The fields are open, so a value of this type need not be valid: [`Resource::validate`] tells. Whatever this crate
/// reads is valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// What it is an amount of, for example `cpus` (whole processors), `mem` and `disk` (MiB) or `ports`.
    pub name: String,
    /// How much.
    pub value: Value,
    /// Who it is reserved for; each one refines the one before it, none means anyone.
    pub reservations: Vec<Reservation>,
    /// Only for `disk`: which disk or volume.
    pub disk: Option<DiskInfo>,
    /// Whether it may be taken back at any time.
    pub revocable: bool,
    /// Whether several containers may use it at once; only for persistent volumes.
    pub shared: bool,
    /// The role it is allocated to; present on everything that containerizers get.
    pub allocation_role: Option<String>,
    /// The provider it comes from, if not the agent itself.
    pub provider_id: Option<String>,
}

impl Resource {
    /// A resource for anyone, allocated to nobody.
    pub fn new(name: impl Into<String>, value: Value) -> Resource {
        Resource {
            name: name.into(),
            value,
            reservations: Vec::new(),
            disk: None,
            revocable: false,
            shared: false,
            allocation_role: None,
            provider_id: None,
        }
    }

    /// A number of something, for anyone, allocated to nobody.
    pub fn scalar(name: impl Into<String>, scalar: Scalar) -> Resource {
        Resource::new(name, Value::Scalar(scalar))
    }

    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// The role it is reserved for, `*` if for anyone.
    pub fn reservation_role(&self) -> &str {
        self.reservations.last().map_or(ANYONE, |reservation| &reservation.role)
    }

    /// Whether it was reserved while the agent ran, not by its flags.
    pub fn is_dynamically_reserved(&self) -> bool {
        self.reservations.last().is_some_and(|last| last.kind == ReservationType::Dynamic)
    }

    /// Whether it is a volume that outlives the container.
    pub fn is_persistent_volume(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.persistence.is_some())
    }

    /// Checks everything that Mesos checks, in its order.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.validate_name()?;
        if matches!(self.value, Value::Scalar(scalar) if scalar < Scalar::ZERO) {
            return Err(Invalid::ScalarNotPositive);
        }
        self.validate_disk()?;
        validate_reservations(&self.reservations)?;
        self.validate_shared()
    }

    fn validate_name(&self) -> Result<(), Invalid> {
        if self.name.is_empty() { Err(Invalid::EmptyName) } else { Ok(()) }
    }

    pub(super) fn validate_disk(&self) -> Result<(), Invalid> {
        let Some(disk) = &self.disk else { return Ok(()) };
        if self.name != "disk" {
            return Err(Invalid::DiskInfo(self.name.clone()));
        }
        disk.source.as_ref().map_or(Ok(()), DiskSource::validate)
    }

    fn validate_shared(&self) -> Result<(), Invalid> {
        if self.shared && self.name != "disk" {
            return Err(Invalid::NotShareable(self.name.clone()));
        }
        if self.shared && !self.is_persistent_volume() {
            return Err(Invalid::SharedNotPersistent);
        }
        Ok(())
    }
}

/// Checks a stack of reservations: real roles, each strictly below the one before, static only the first.
pub(super) fn validate_reservations(reservations: &[Reservation]) -> Result<(), Invalid> {
    for reservation in reservations {
        role::validate(&reservation.role)?;
        if reservation.role == ANYONE {
            return Err(Invalid::ReservedForAnyone);
        }
        if reservation.kind == ReservationType::Unknown {
            return Err(Invalid::ReservationType);
        }
    }
    for pair in reservations.windows(2) {
        let (ancestor, refined) = (&pair[0].role, &pair[1]);
        if refined.kind == ReservationType::Static {
            return Err(Invalid::RefinedStatic);
        }
        if !role::is_strictly_below(&refined.role, ancestor) {
            return Err(Invalid::NotRefined { role: refined.role.clone(), ancestor: ancestor.clone() });
        }
    }
    Ok(())
}

wire_enum! {
    /// How a reservation was made.
    pub enum ReservationType {
        /// Not known; refused.
        Unknown = 0 => "UNKNOWN",
        /// By the flags of the agent.
        Static = 1 => "STATIC",
        /// By a framework or an operator while the agent ran.
        Dynamic = 2 => "DYNAMIC",
    }
}

/// A reservation for a role, the message `ReservationInfo`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reservation {
    /// How it was made.
    #[serde(rename = "type")]
    pub kind: ReservationType,
    /// Whom it is for.
    pub role: String,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Labels of whoever made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

impl Reservation {
    /// The reservation that `name(role):value` makes.
    pub fn of_flags(role: impl Into<String>) -> Reservation {
        Reservation { kind: ReservationType::Static, role: role.into(), principal: None, labels: None }
    }
}

/// Which disk or volume a `disk` resource is, the message `DiskInfo`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DiskInfo {
    /// Present if it outlives the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// Where the container sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Absent for the disk of the agent's work directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<DiskSource>,
}

impl DiskInfo {
    /// Whether both are the same disk. Where containers see it and who made it do not count: the volume tells how a
    /// resource is used, not which one it is.
    pub fn is_same(&self, that: &DiskInfo) -> bool {
        let id = |disk: &DiskInfo| disk.persistence.as_ref().map(|persistence| persistence.id.clone());
        self.source == that.source && id(self) == id(that)
    }

    /// Whether it can only be had as a whole, so that two of them never merge.
    pub fn is_exclusive(&self) -> bool {
        let whole = |source: &DiskSource| match source.kind {
            DiskSourceType::Mount | DiskSourceType::Block => true,
            DiskSourceType::Raw => source.id.is_some(),
            DiskSourceType::Path | DiskSourceType::Unknown => false,
        };
        self.persistence.is_some() || self.source.as_ref().is_some_and(whole)
    }
}

/// What makes a disk a persistent volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Persistence {
    /// The name of the volume, unique in its role on its agent.
    pub id: String,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

wire_enum! {
    /// What kind of disk it is.
    pub enum DiskSourceType {
        /// Not known; refused.
        Unknown = 0 => "UNKNOWN",
        /// A directory; can be divided.
        Path = 1 => "PATH",
        /// A filesystem of its own.
        Mount = 2 => "MOUNT",
        /// A block device.
        Block = 3 => "BLOCK",
        /// Storage of a provider that is none of these yet.
        Raw = 4 => "RAW",
    }
}

/// The message `DiskInfo.Source`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskSource {
    /// What kind of disk it is.
    #[serde(rename = "type")]
    pub kind: DiskSourceType,
    /// For [`DiskSourceType::Path`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<DiskRoot>,
    /// For [`DiskSourceType::Mount`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<DiskRoot>,
    /// The name that a provider gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What a provider says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Labels>,
    /// The profile it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Who made the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
}

impl DiskSource {
    /// A disk of some kind, nothing else known.
    pub fn new(kind: DiskSourceType) -> DiskSource {
        DiskSource { kind, path: None, mount: None, id: None, metadata: None, profile: None, vendor: None }
    }

    fn validate(&self) -> Result<(), Invalid> {
        match self.kind {
            DiskSourceType::Path | DiskSourceType::Mount => Ok(()),
            DiskSourceType::Unknown => Err(Invalid::DiskSourceType(self.to_string())),
            DiskSourceType::Block | DiskSourceType::Raw => {
                let what = match (&self.mount, &self.path) {
                    (Some(_), _) => "Mount",
                    (None, Some(_)) => "Path",
                    (None, None) => return Ok(()),
                };
                Err(Invalid::DiskSource { what, source_type: self.kind.name() })
            }
        }
    }
}

/// Where a disk is on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskRoot {
    /// Its path; a relative one is below the agent's work directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Resource {
        Resource::scalar("disk", Scalar::from_whole(10))
    }

    fn persistent(id: &str) -> DiskInfo {
        DiskInfo { persistence: Some(Persistence { id: id.into(), principal: None }), ..DiskInfo::default() }
    }

    fn reserved(kind: ReservationType, role: &str) -> Reservation {
        Reservation { kind, ..Reservation::of_flags(role) }
    }

    #[test]
    fn wrong_resources_are_refused_in_the_words_of_mesos() {
        let source = |kind| Some(DiskInfo { source: Some(DiskSource::new(kind)), ..DiskInfo::default() });
        let mut with_mount = source(DiskSourceType::Block);
        with_mount.as_mut().unwrap().source.as_mut().unwrap().mount = Some(DiskRoot::default());
        let mut with_path = source(DiskSourceType::Raw);
        with_path.as_mut().unwrap().source.as_mut().unwrap().path = Some(DiskRoot::default());
        let (fixed, dynamic) = (ReservationType::Static, ReservationType::Dynamic);
        let stacked = |list: &[(ReservationType, &str)]| Resource {
            reservations: list.iter().map(|(kind, role)| reserved(*kind, role)).collect(),
            ..disk()
        };
        let cases = [
            (Resource { name: String::new(), ..disk() }, "Empty resource name"),
            (Resource::scalar("cpus", Scalar::from_thousandths(-1)), "Invalid scalar resource: value <= 0"),
            (
                Resource { name: "cpus".into(), disk: Some(persistent("a")), ..disk() },
                "DiskInfo should not be set for cpus resource",
            ),
            (
                Resource { disk: source(DiskSourceType::Unknown), ..disk() },
                "Unsupported 'DiskInfo.Source.Type' in 'UNKNOWN'",
            ),
            (Resource { disk: with_mount, ..disk() }, "Mount should not be set for BLOCK disk source"),
            (Resource { disk: with_path, ..disk() }, "Path should not be set for RAW disk source"),
            (stacked(&[(fixed, "*")]), "Invalid reservation: role \"*\" cannot be reserved"),
            (stacked(&[(fixed, "..")]), "Role '..' cannot include '..' as a component"),
            (stacked(&[(ReservationType::Unknown, "a")]), "Unsupported 'Resource.ReservationInfo.Type'"),
            (
                stacked(&[(fixed, "a"), (fixed, "a/b")]),
                "Invalid refined reservation: A refined reservation cannot be STATIC",
            ),
            (
                stacked(&[(fixed, "a"), (dynamic, "a/b"), (dynamic, "a/c")]),
                "Invalid refined reservation: role 'a/c' is not a refinement of 'a/b'",
            ),
            (
                Resource { shared: true, ..Resource::new("cpus", disk().value) },
                "Resource cpus cannot be shared",
            ),
            (Resource { shared: true, ..disk() }, "Only persistent volumes can be shared"),
        ];
        for (resource, text) in cases {
            let error = resource.validate().unwrap_err();
            assert_eq!(error.to_string(), text);
            assert_eq!(error.class(), crate::Class::Invalid);
        }
    }

    #[test]
    fn good_resources_pass() {
        let stack = vec![reserved(ReservationType::Static, "a"), reserved(ReservationType::Dynamic, "a/b")];
        let resource = Resource { shared: true, disk: Some(persistent("v")), reservations: stack, ..disk() };
        assert_eq!(resource.validate(), Ok(()));
        assert_eq!(resource.reservation_role(), "a/b");
        assert!(resource.is_dynamically_reserved() && resource.is_persistent_volume());
        assert_eq!(disk().reservation_role(), "*");
        assert_eq!(Resource::scalar("cpus", Scalar::ZERO).validate(), Ok(()), "zero vanishes later");
    }

    #[test]
    fn where_a_volume_is_mounted_does_not_make_it_another_disk() {
        let volume = Some(Volume { container_path: "data".into(), ..Volume::default() });
        assert!(persistent("v").is_same(&DiskInfo { volume, ..persistent("v") }));
        assert!(!persistent("v").is_same(&persistent("w")));
        assert!(!persistent("v").is_same(&DiskInfo::default()));
    }
}
