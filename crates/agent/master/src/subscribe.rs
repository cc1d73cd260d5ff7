// SPDX-License-Identifier: Apache-2.0
//! Whether a framework may be what it says it is (reference 33.3.1): pure, in Mesos's order and words.

use std::collections::BTreeSet;

use berth_model::TaskId;
use berth_model::resources::role;
use berth_proto::scheduler::OfferConstraints;
use berth_proto::scheduler::attribute_constraint::{Predicate, Selector};
use berth_proto::v1::FrameworkInfo;
use berth_proto::v1::framework_info::capability::Type as Capability;

use crate::framework::{can, roles};

/// What can be said of the framework alone: rows 1 to 7.
#[expect(deprecated, reason = "frameworks of one role still name it there")]
pub(crate) fn framework(info: &FrameworkInfo) -> Result<(), String> {
    let multi = can(info, Capability::MultiRole);
    if multi && info.role.is_some() {
        return Err(
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable".to_owned()
        );
    }
    if !multi && !info.roles.is_empty() {
        let text = "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable";
        return Err(text.to_owned());
    }
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<_> = info.roles.iter().filter(|role| !seen.insert(*role)).collect();
    if !twice.is_empty() {
        return Err(format!("'FrameworkInfo.roles' contains duplicate items: {}", braced(twice)));
    }
    for one in &info.roles {
        role::validate(one)
            .map_err(|error| format!("'FrameworkInfo.roles' contains invalid role: {error}"))?;
    }
    if let Some(one) = &info.role {
        role::validate(one).map_err(|error| format!("'FrameworkInfo.role' is not a valid role: {error}"))?;
    }
    if let Some(id) = info.id.as_ref().filter(|id| !id.value.is_empty()) {
        TaskId::new(&*id.value).map_err(|error| error.to_string())?;
    }
    for filters in info.offer_filters.values() {
        for least in filters.min_allocatable_resources.iter().flat_map(|least| &least.quantities) {
            quantities(least.quantities.iter().map(|(name, scalar)| (name.as_str(), scalar.value)))?;
        }
    }
    let nanoseconds = info.failover_timeout() * 1e9;
    if nanoseconds.is_nan() || nanoseconds.abs() >= i64::MAX as f64 {
        let timeout = short(info.failover_timeout());
        return Err(format!("The framework failover_timeout ({timeout}) is invalid"));
    }
    Ok(())
}

fn quantities<'a>(all: impl ExactSizeIterator<Item = (&'a str, f64)>) -> Result<(), String> {
    if all.len() == 0 {
        return Err("Resource quantities must contain at least one quantity".to_owned());
    }
    for (name, value) in all {
        let wrong = |why: &str| Err(format!("Invalid resource quantity for '{name}': {why}"));
        match value {
            value if value.is_nan() => return wrong("NaN not supported"),
            value if value.is_infinite() => return wrong("Infinite values not supported"),
            value if value < 0.0 => return wrong("Negative values not supported"),
            _ => {}
        }
    }
    Ok(())
}

/// What is said of its roles: rows 11 to 13.
pub(crate) fn of_roles(
    info: &FrameworkInfo,
    suppressed: &[String],
    constraints: Option<&OfferConstraints>,
) -> Result<(), String> {
    let roles: BTreeSet<_> = roles(info).into_iter().collect();
    let unknown: BTreeSet<_> = suppressed.iter().filter(|role| !roles.contains(*role)).collect();
    if !unknown.is_empty() {
        return Err(format!("Suppressed roles {} are not contained in the set of roles", braced(unknown)));
    }
    let constraints = constraints.iter().flat_map(|all| &all.role_constraints);
    for (role, _) in constraints.clone() {
        if !roles.contains(role) {
            return Err(format!(
                "Offer constraints specify `role_constraints` for a role '{role}'not contained in the set of roles"
            ));
        }
    }
    for (role, of_role) in constraints {
        for group in &of_role.groups {
            if group.attribute_constraints.is_empty() {
                return Err(format!(
                    "Offer constraints are not valid: 'OfferConstraints::RoleConstraints::groups' for role {role}\
                     contains an empty RoleConstraints::Group"
                ));
            }
            for one in &group.attribute_constraints {
                constraint(one.selector.as_ref(), one.predicate.as_ref())
                    .map_err(|why| format!("Offer constraints are not valid: {why}"))?;
            }
        }
    }
    Ok(())
}

fn constraint(selector: Option<&Selector>, predicate: Option<&Predicate>) -> Result<(), String> {
    let selector = selector.ok_or("'AttributeConstraint::selector' must be set")?;
    if selector.attribute_name.is_none() && selector.pseudoattribute_type.is_none() {
        return Err("exactly one of 'AttributeConstraint::Selector::name' or \
                    'AttributeConstraint::Selector::pseudoattribute_type' must be set"
            .to_owned());
    }
    let predicate = predicate.ok_or("'AttributeConstraint::predicate' must be set")?;
    if predicate.text_matches.is_some() || predicate.text_not_matches.is_some() {
        return Err("regular expressions are not supported by this master; use text_equals".to_owned());
    }
    if *predicate == Predicate::default() {
        return Err("unknown predicate type".to_owned());
    }
    Ok(())
}

/// A set as Mesos prints it.
pub(crate) fn braced<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.as_ref().to_owned()).collect();
    format!("{{ {} }}", items.join(", "))
}

/// A number with six digits, as C prints it.
pub(crate) fn short(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    if rounded != 0.0 && !(1e-4..1e6).contains(&rounded.abs()) && rounded.is_finite() {
        let text = format!("{rounded:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    rounded.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::decode_json;
    use berth_proto::scheduler::Call;

    fn refused(subscribe: &str) -> String {
        let text = format!(r#"{{"type":"SUBSCRIBE","subscribe":{subscribe}}}"#);
        let subscribe = decode_json::<Call>(text.as_bytes()).unwrap().subscribe.unwrap();
        let info = &subscribe.framework_info;
        framework(info)
            .and_then(|()| of_roles(info, &subscribe.suppressed_roles, subscribe.offer_constraints.as_ref()))
            .err()
            .unwrap_or_default()
    }

    fn info(more: &str) -> String {
        refused(&format!(r#"{{"framework_info":{{"user":"root","name":"n"{more}}}}}"#))
    }

    #[test]
    fn roles_are_checked_in_the_words_of_mesos() {
        let multi = r#","capabilities":[{"type":"MULTI_ROLE"}]"#;
        assert_eq!(info(""), "");
        assert_eq!(
            info(&format!(r#"{multi},"role":"a""#)),
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
        );
        assert_eq!(
            info(r#","roles":["a"]"#),
            "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"
        );
        assert_eq!(
            info(&format!(r#"{multi},"roles":["a","a"]"#)),
            "'FrameworkInfo.roles' contains duplicate items: { a }"
        );
        assert_eq!(
            info(&format!(r#"{multi},"roles":["."]"#)),
            "'FrameworkInfo.roles' contains invalid role: Role '.' cannot include '.' as a component"
        );
        assert_eq!(
            info(r#","role":"/a""#),
            "'FrameworkInfo.role' is not a valid role: Role '/a' cannot start with a slash"
        );
    }

    #[test]
    fn ids_and_times_are_checked() {
        assert_eq!(info(r#","id":{"value":"a/b"}"#), "'a/b' contains invalid characters");
        assert_eq!(info(r#","id":{"value":""}"#), "");
        assert_eq!(info(r#","failover_timeout":1e30"#), "The framework failover_timeout (1e+30) is invalid");
        assert_eq!(info(r#","failover_timeout":-1"#), "");
        assert_eq!(
            info(r#","offer_filters":{"*":{"min_allocatable_resources":{"quantities":[{}]}}}"#),
            "Resource quantities must contain at least one quantity"
        );
    }

    #[test]
    fn what_is_said_of_roles_must_be_of_roles_that_it_has() {
        let with =
            |more: &str| refused(&format!(r#"{{"framework_info":{{"user":"root","name":"n"}}{more}}}"#));
        assert_eq!(
            with(r#","suppressed_roles":["zzz"]"#),
            "Suppressed roles { zzz } are not contained in the set of roles"
        );
        let constraints = |role: &str, group: &str| {
            with(&format!(
                r#","offer_constraints":{{"role_constraints":{{"{role}":{{"groups":[{group}]}}}}}}"#
            ))
        };
        assert_eq!(
            constraints("zzz", "{}"),
            "Offer constraints specify `role_constraints` for a role 'zzz'not contained in the set of roles"
        );
        assert_eq!(
            constraints("*", "{}"),
            "Offer constraints are not valid: 'OfferConstraints::RoleConstraints::groups' for role *contains an \
             empty RoleConstraints::Group"
        );
        let exists =
            r#"{"attribute_constraints":[{"selector":{"attribute_name":"a"},"predicate":{"exists":{}}}]}"#;
        assert_eq!(constraints("*", exists), "");
    }

    #[test]
    fn numbers_are_printed_with_six_digits() {
        assert_eq!(
            [short(1e30), short(0.001), short(16.0), short(123_456_789.0)],
            ["1e+30", "0.001", "16", "1.23457e+08"]
        );
    }
}
