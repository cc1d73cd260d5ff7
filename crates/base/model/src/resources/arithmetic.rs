// SPDX-License-Identifier: Apache-2.0
//! Sums, differences and comparison of resources.
//!
//! Two resources of the same kind (everything but the value is equal) merge into one entry. Disks that can only be
//! had whole stay entries of their own, and shared volumes are one entry with a count of its uses.

use super::{Invalid, Ranges, Resource, Scalar, Value};
use std::collections::BTreeSet;
use std::ops::{Add, AddAssign, Sub, SubAssign};

/// A set of resources, in JSON a list of messages. Empty resources are never in it, and all that are in it are valid.
///
/// Equality does not look at order: two are equal if each contains the other.
#[derive(Debug, Clone, Default)]
pub struct Resources(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    resource: Resource,
    /// 1, or the number of uses of a shared volume.
    uses: u64,
}

impl Resources {
    /// Nothing.
    pub fn new() -> Resources {
        Resources::default()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its entries, each shared volume once.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Resource> + '_ {
        self.0.iter().map(|entry| &entry.resource)
    }

    /// Its entries, each shared volume once for each of its uses.
    pub(super) fn iter_uses(&self) -> impl Iterator<Item = &Resource> + '_ {
        self.0.iter().flat_map(|entry| (0..entry.uses).map(|_| &entry.resource))
    }

    /// The entries with one name, over all roles and kinds.
    pub fn get<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Resource> + 'a {
        self.iter().filter(move |resource| resource.name == name)
    }

    /// The names that occur.
    pub fn names(&self) -> BTreeSet<&str> {
        self.iter().map(|resource| resource.name.as_str()).collect()
    }

    /// The entries that a condition holds for; a shared volume keeps its uses.
    pub fn filter(&self, mut condition: impl FnMut(&Resource) -> bool) -> Resources {
        Resources(self.0.iter().filter(|entry| condition(&entry.resource)).cloned().collect())
    }

    /// The sum of the numbers with one name, over all roles and kinds; none if there is no such number.
    pub fn scalar(&self, name: &str) -> Option<Scalar> {
        let mut sum = None;
        for resource in self.get(name) {
            if let Value::Scalar(scalar) = &resource.value {
                *sum.get_or_insert(Scalar::ZERO) += *scalar;
            }
        }
        sum
    }

    /// All ranges with one name, over all roles and kinds; none if there are no such ranges.
    pub fn ranges(&self, name: &str) -> Option<Ranges> {
        let mut sum: Option<Ranges> = None;
        for resource in self.get(name) {
            if let Value::Ranges(ranges) = &resource.value {
                *sum.get_or_insert_default() += ranges;
            }
        }
        sum
    }

    /// Processors.
    pub fn cpus(&self) -> Option<f64> {
        self.scalar("cpus").map(Scalar::to_f64)
    }

    /// Graphics processors.
    pub fn gpus(&self) -> Option<f64> {
        self.scalar("gpus").map(Scalar::to_f64)
    }

    /// Memory in MiB, truncated.
    pub fn mem(&self) -> Option<u64> {
        self.scalar("mem").map(Scalar::whole)
    }

    /// Disk space in MiB, truncated.
    pub fn disk(&self) -> Option<u64> {
        self.scalar("disk").map(Scalar::whole)
    }

    /// Ports of the host.
    pub fn ports(&self) -> Option<Ranges> {
        self.ranges("ports")
    }

    /// Adds a resource if it is valid.
    pub fn try_add(&mut self, resource: Resource) -> Result<(), Invalid> {
        resource.validate()?;
        self.add_entry(Entry { resource, uses: 1 });
        Ok(())
    }

    /// Whether all of `that` is in it.
    pub fn contains(&self, that: &Resources) -> bool {
        let mut left = self.clone();
        that.0.iter().all(|entry| left.take_entry(entry))
    }

    fn add_entry(&mut self, that: Entry) {
        if that.resource.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|own| merges(&own.resource, &that.resource)) {
            Some(own) if own.resource.shared => own.uses = own.uses.saturating_add(that.uses),
            Some(own) => own.resource.value.add(&that.resource.value),
            None => self.0.push(that),
        }
    }

    /// Takes away what there is of an entry. A number or count that would become negative is removed: Mesos does so,
    /// and callers that care ask [`Resources::contains`] before.
    fn subtract_entry(&mut self, that: &Entry) {
        if let Some(at) = self.counterpart(that) {
            self.subtract_at(at, that);
        }
    }

    /// Takes away an entry if all of it is there.
    fn take_entry(&mut self, that: &Entry) -> bool {
        let Some(at) = self.counterpart(that) else { return false };
        let own = &self.0[at];
        let covered = own.uses >= that.uses && own.resource.value.contains(&that.resource.value);
        if covered {
            self.subtract_at(at, that);
        }
        covered
    }

    /// The entry that another one is taken from. If several could be it, they are equal.
    fn counterpart(&self, that: &Entry) -> Option<usize> {
        self.0.iter().position(|own| is_part_of(&that.resource, &own.resource))
    }

    fn subtract_at(&mut self, at: usize, that: &Entry) {
        let own = &mut self.0[at];
        if own.resource.shared {
            own.uses = own.uses.saturating_sub(that.uses);
        } else {
            own.resource.value.subtract(&that.resource.value);
        }
        let negative = matches!(own.resource.value, Value::Scalar(scalar) if scalar < Scalar::ZERO);
        if own.uses == 0 || negative || own.resource.is_empty() {
            self.0.remove(at);
        }
    }
}

/// Whether everything but the value is equal.
fn is_same_kind(left: &Resource, right: &Resource) -> bool {
    let same_disk = match (&left.disk, &right.disk) {
        (Some(left), Some(right)) => left.is_same(right),
        (None, None) => true,
        _ => false,
    };
    same_disk
        && left.name == right.name
        && left.value.kind() == right.value.kind()
        && left.allocation_role == right.allocation_role
        && left.reservations == right.reservations
        && left.provider_id == right.provider_id
        && left.revocable == right.revocable
        && left.shared == right.shared
}

fn is_exclusive(resource: &Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.is_exclusive())
}

/// Whether two resources are one entry when they are added.
fn merges(own: &Resource, that: &Resource) -> bool {
    is_same_kind(own, that) && if own.shared { own.value == that.value } else { !is_exclusive(own) }
}

/// Whether `that` can be taken away from `own`.
fn is_part_of(that: &Resource, own: &Resource) -> bool {
    is_same_kind(own, that) && (own.value == that.value || !(own.shared || is_exclusive(own)))
}

impl PartialEq for Resources {
    fn eq(&self, that: &Resources) -> bool {
        self.contains(that) && that.contains(self)
    }
}

impl Eq for Resources {}

impl AddAssign<Resource> for Resources {
    /// A resource that is not valid adds nothing, see [`Resources::try_add`].
    fn add_assign(&mut self, that: Resource) {
        let _invalid_adds_nothing = self.try_add(that);
    }
}

impl SubAssign<&Resource> for Resources {
    /// A resource that is not valid takes nothing away.
    fn sub_assign(&mut self, that: &Resource) {
        if that.validate().is_ok() && !that.is_empty() {
            self.subtract_entry(&Entry { resource: that.clone(), uses: 1 });
        }
    }
}

impl AddAssign<&Resources> for Resources {
    fn add_assign(&mut self, that: &Resources) {
        that.0.iter().for_each(|entry| self.add_entry(entry.clone()));
    }
}

impl SubAssign<&Resources> for Resources {
    fn sub_assign(&mut self, that: &Resources) {
        that.0.iter().for_each(|entry| self.subtract_entry(entry));
    }
}

impl Add<&Resources> for Resources {
    type Output = Resources;

    fn add(mut self, that: &Resources) -> Resources {
        self += that;
        self
    }
}

impl Sub<&Resources> for Resources {
    type Output = Resources;

    fn sub(mut self, that: &Resources) -> Resources {
        self -= that;
        self
    }
}

/// Resources that are not valid are left out.
impl Extend<Resource> for Resources {
    fn extend<I: IntoIterator<Item = Resource>>(&mut self, resources: I) {
        resources.into_iter().for_each(|resource| *self += resource);
    }
}

/// Resources that are not valid are left out.
impl FromIterator<Resource> for Resources {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Resources {
        let mut sum = Resources::new();
        sum.extend(resources);
        sum
    }
}

impl From<Resource> for Resources {
    fn from(resource: Resource) -> Resources {
        Resources::from_iter([resource])
    }
}
