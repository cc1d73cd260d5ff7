// SPDX-License-Identifier: Apache-2.0
//! Resources between messages, sums, and the words of refusals.
//!
//! What is counted here has no allocation role: it belongs to the agent until it is put in a message for a role.

use berth_model::Resources;
use berth_proto::convert::{resources, resources_of};
use berth_proto::v1::{Resource, resource, value};
use serde_json::{Map, Value, json};

/// The role of what is kept for nobody.
pub(crate) const NOBODY: &str = "*";

/// Checks the form of resources: the text says which one is wrong.
pub(crate) fn read(list: &[Resource]) -> Result<Resources, String> {
    for one in list {
        resources(std::slice::from_ref(one))
            .map_err(|error| format!("Resource '{}' is invalid: {}", printed(one), reason(one, &error)))?;
    }
    resources(list).map_err(|error| error.to_string())
}

/// Why, without the name that stands before it already.
fn reason(one: &Resource, error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let prefix = format!("Resource '{}' is invalid: ", one.name);
    text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
}

/// One as it was given, in the form in which sums are printed.
fn printed(one: &Resource) -> String {
    let allocated = one.allocation_info.as_ref().and_then(|info| info.role.as_deref());
    let allocated = allocated.map(|role| format!("(allocated: {role})")).unwrap_or_default();
    let value = match one.r#type() {
        value::Type::Scalar => one.scalar.map_or(0.0, |scalar| scalar.value).to_string(),
        value::Type::Ranges => {
            let ranges = one.ranges.iter().flat_map(|ranges| &ranges.range);
            let ranges: Vec<_> = ranges.map(|range| format!("{}-{}", range.begin, range.end)).collect();
            format!("[{}]", ranges.join(", "))
        }
        value::Type::Set => {
            let items: Vec<_> = one.set.iter().flat_map(|set| set.item.clone()).collect();
            format!("{{{}}}", items.join(", "))
        }
        value::Type::Text => String::new(),
    };
    format!("{}{allocated}:{value}", one.name)
}

/// The same, allocated to nobody.
pub(crate) fn bare(resources: &Resources) -> Resources {
    resources.iter().cloned().map(|one| berth_model::Resource { allocation_role: None, ..one }).collect()
}

/// The same, allocated to a role.
pub(crate) fn allocated(resources: &Resources, role: &str) -> Resources {
    let to_role =
        |one: berth_model::Resource| berth_model::Resource { allocation_role: Some(role.to_owned()), ..one };
    resources.iter().cloned().map(to_role).collect()
}

/// Writes the role into those that lack one.
pub(crate) fn allocate(list: &mut [Resource], role: &str) {
    for one in list {
        let info = one.allocation_info.get_or_insert_default();
        info.role.get_or_insert_with(|| role.to_owned());
    }
}

/// How a framework wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// With `reservations` instead of `role`.
    pub(crate) refined: bool,
    /// With the role that it is allocated to.
    pub(crate) allocation: bool,
}

/// The order in which Mesos tells of resources: what is counted in ranges first.
pub(crate) fn in_order(resources: &Resources) -> Resources {
    let mut list: Vec<_> = resources.iter().cloned().collect();
    list.sort_by_key(|one| matches!(one.value, berth_model::resources::Value::Scalar(_)));
    list.into_iter().collect()
}

/// What operators are told.
pub(crate) const WHOLE: Form = Form { refined: false, allocation: true };

/// Messages: what is counted in ranges first, as Mesos does.
pub(crate) fn messages(resources: &Resources, form: Form) -> Vec<Resource> {
    let mut list = resources_of(resources);
    list.sort_by_key(|one| one.r#type() == value::Type::Scalar);
    for one in &mut list {
        if !form.allocation {
            one.allocation_info = None;
        }
        if !form.refined {
            unrefine(one);
        }
    }
    list
}

/// The form before reservations could be refined, as far as it can hold them.
#[expect(deprecated, reason = "older frameworks know no other form")]
fn unrefine(one: &mut Resource) {
    match &one.reservations[..] {
        [] => one.role = Some(NOBODY.to_owned()),
        [only] => {
            one.role = only.role.clone();
            if only.r#type() == resource::reservation_info::Type::Dynamic {
                one.reservation =
                    Some(resource::ReservationInfo { r#type: None, role: None, ..only.clone() });
            }
            one.reservations.clear();
        }
        _ => {}
    }
}

/// A sum as the older endpoints have it: `disk`, `mem`, `gpus`, `cpus`, and what else there is by name.
pub(crate) fn object(resources: &Resources) -> Value {
    let mut all = Map::new();
    for name in ["disk", "mem", "gpus", "cpus"] {
        all.insert(name.to_owned(), json!(resources.scalar(name).map_or(0.0, |scalar| scalar.to_f64())));
    }
    for name in resources.names() {
        if all.contains_key(name) {
            continue;
        }
        let value = match (resources.scalar(name), resources.ranges(name)) {
            (Some(scalar), _) => json!(scalar.to_f64()),
            (_, Some(ranges)) => json!(ranges.to_string()),
            _ => json!(resources.get(name).map(|one| one.value.to_string()).collect::<Vec<_>>().join(",")),
        };
        all.insert(name.to_owned(), value);
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(name: &str, value: Option<f64>, role: Option<&str>) -> Resource {
        Resource {
            name: name.to_owned(),
            r#type: value::Type::Scalar.into(),
            scalar: value.map(|value| value::Scalar { value }),
            allocation_info: role.map(|role| resource::AllocationInfo { role: Some(role.to_owned()) }),
            ..Resource::default()
        }
    }

    #[test]
    fn a_wrong_amount_is_named_as_it_was_given() {
        let wrong = |one: Resource| read(&[scalar("mem", Some(32.0), Some("dev")), one]).unwrap_err();
        assert_eq!(
            wrong(scalar("cpus", Some(-1.0), Some("dev"))),
            "Resource 'cpus(allocated: dev):-1' is invalid: Invalid scalar resource: value <= 0"
        );
        assert_eq!(
            wrong(scalar("cpus", None, None)),
            "Resource 'cpus:0' is invalid: Invalid scalar resource"
        );
        let text = Resource { r#type: value::Type::Text.into(), ..scalar("x", None, None) };
        assert_eq!(wrong(text), "Resource 'x:' is invalid: Unsupported resource type");
    }

    #[test]
    fn a_role_is_written_where_there_is_none_and_only_there() {
        let mut list = [scalar("cpus", Some(1.0), None), scalar("mem", Some(1.0), Some("other"))];
        allocate(&mut list, "dev");
        let sum = read(&list).unwrap();
        assert_eq!(sum.to_string(), "cpus(allocated: dev):1; mem(allocated: other):1");
        assert_eq!(bare(&sum).to_string(), "cpus:1; mem:1");
        assert_eq!(allocated(&bare(&sum), "x").to_string(), "cpus(allocated: x):1; mem(allocated: x):1");
    }

    #[test]
    fn older_frameworks_are_told_a_role_and_newer_ones_reservations() {
        let text = r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"STATIC","role":"dev"}]},
            {"name":"mem","type":"SCALAR","scalar":{"value":2}}]"#;
        let sum: Resources = serde_json::from_str(text).unwrap();
        let old = messages(&sum, Form { refined: false, allocation: false });
        #[expect(deprecated, reason = "it is what is tested")]
        let roles: Vec<_> = old.iter().map(|one| (one.role.as_deref(), one.reservations.len())).collect();
        assert_eq!(roles, [(Some("dev"), 0), (Some("*"), 0)]);
        let new = messages(&sum, Form { refined: true, allocation: false });
        assert_eq!(new.iter().map(|one| one.reservations.len()).collect::<Vec<_>>(), [1, 0]);
    }
}
