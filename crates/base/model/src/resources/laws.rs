// SPDX-License-Identifier: Apache-2.0
//! What holds for all resources.

use super::*;
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Value> {
    (1..1_000_000_000_000_i64).prop_map(|thousandths| Value::Scalar(Scalar::from_thousandths(thousandths)))
}

fn ranges() -> impl Strategy<Value = Value> {
    prop::collection::vec((0..60_u64, 0..10_u64), 1..6).prop_map(|list| {
        Value::Ranges(list.into_iter().map(|(begin, length)| begin..=begin + length).collect())
    })
}

fn set() -> impl Strategy<Value = Value> {
    prop::collection::btree_set("[a-e]", 1..5).prop_map(|items| Value::Set(items.into_iter().collect()))
}

/// For anyone and nothing special. The name says the kind, since a flag takes one kind for each name.
fn plain() -> impl Strategy<Value = Resource> {
    let named = |prefix: &'static str| "[a-c]".prop_map(move |rest| format!("{prefix}{rest}"));
    prop_oneof![(named("n"), scalar()), (named("r"), ranges()), (named("s"), set())]
        .prop_map(|(name, value)| Resource::new(name, value))
}

fn reservations() -> impl Strategy<Value = Vec<Reservation>> {
    let principal = prop::option::of("[pq]");
    (any::<bool>(), 0..3_usize, principal).prop_map(|(fixed, depth, principal)| {
        (0..depth)
            .map(|at| Reservation {
                kind: if fixed && at == 0 { ReservationType::Static } else { ReservationType::Dynamic },
                principal: principal.clone(),
                ..Reservation::of_flags(["a", "a/b"][at])
            })
            .collect()
    })
}

fn disk() -> impl Strategy<Value = DiskInfo> {
    let kind = prop::sample::select(&DiskSourceType::ALL[1..]);
    let source =
        (kind, prop::option::of("[x-z]")).prop_map(|(kind, id)| DiskSource { id, ..DiskSource::new(kind) });
    let persistence = "[vw]".prop_map(|id| Persistence { id, principal: None });
    (prop::option::of(source), prop::option::of(persistence)).prop_map(|(source, persistence)| DiskInfo {
        persistence,
        volume: None,
        source,
    })
}

/// Amounts that often are equal, so that whole disks meet their like.
fn disks() -> impl Strategy<Value = Resource> {
    (1..3_u64, disk(), any::<bool>()).prop_map(|(size, disk, shared)| Resource {
        shared: shared && disk.persistence.is_some(),
        disk: Some(disk),
        ..Resource::scalar("disk", Scalar::from_whole(size))
    })
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let role = prop::option::of("[ab]");
    let provider = prop::option::of("[ab]");
    (prop_oneof![plain(), disks()], reservations(), any::<bool>(), role, provider).prop_map(
        |(resource, reservations, revocable, allocation_role, provider_id)| Resource {
            reservations,
            revocable,
            allocation_role,
            provider_id,
            ..resource
        },
    )
}

fn sum_of(one: impl Strategy<Value = Resource>) -> impl Strategy<Value = Resources> {
    prop::collection::vec(one, 0..8).prop_map(Resources::from_iter)
}

/// Without ranges and sets, where taking away twice what was there twice leaves nothing.
fn numbers(resources: &Resources) -> Resources {
    resources.filter(|resource| resource.value.kind() == ValueType::Scalar)
}

proptest! {
    #[test]
    fn everything_made_here_is_valid(resource in any_resource()) {
        prop_assert_eq!(resource.validate(), Ok(()));
    }

    #[test]
    fn printed_text_reads_as_the_same(resources in sum_of(plain())) {
        prop_assume!(!resources.is_empty());
        let parsed = from_flag(&resources.to_string(), "*").unwrap();
        prop_assert_eq!(&parsed.resources, &resources);
        prop_assert_eq!(parsed.resources.to_string(), resources.to_string());
        prop_assert!(parsed.names.iter().map(String::as_str).eq(resources.names()));
    }

    #[test]
    fn json_reads_as_the_same(resources in sum_of(any_resource())) {
        let text = serde_json::to_string(&resources).unwrap();
        let back: Resources = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&back, &resources);
        prop_assert!(back.iter().eq(resources.iter()), "entry for entry");
    }

    #[test]
    fn addition_is_commutative(a in sum_of(any_resource()), b in sum_of(any_resource())) {
        prop_assert_eq!(a.clone() + &b, b + &a);
    }

    #[test]
    fn addition_is_associative(
        a in sum_of(any_resource()), b in sum_of(any_resource()), c in sum_of(any_resource()),
    ) {
        prop_assert_eq!((a.clone() + &b) + &c, a + &(b + &c));
    }

    #[test]
    fn what_was_added_can_be_taken_away(a in sum_of(any_resource()), b in sum_of(any_resource())) {
        let sum = a.clone() + &b;
        prop_assert_eq!(numbers(&sum) - &numbers(&b), numbers(&a));
        let apart = a.clone() - &b;
        let ranges_and_sets = |all: &Resources| all.filter(|one| one.value.kind() != ValueType::Scalar);
        prop_assert_eq!(ranges_and_sets(&sum) - &ranges_and_sets(&b), ranges_and_sets(&apart));
    }

    #[test]
    fn a_sum_contains_its_parts(a in sum_of(any_resource()), b in sum_of(any_resource())) {
        let sum = a.clone() + &b;
        prop_assert!(sum.contains(&a) && sum.contains(&b) && sum.contains(&sum));
        prop_assert!(a.contains(&Resources::default()));
        prop_assert_eq!(a.contains(&sum), a == sum);
        if a.contains(&b) {
            prop_assert_eq!((a.clone() - &b) + &b, a);
        }
    }

    #[test]
    fn no_entry_is_empty_and_merging_again_changes_nothing(a in sum_of(any_resource()), b in sum_of(any_resource())) {
        for resources in [a.clone() + &b, a.clone() - &b] {
            prop_assert!(resources.iter().all(|resource| !resource.is_empty() && resource.validate().is_ok()));
            let again: Resources = resources.iter_uses().cloned().collect();
            prop_assert!(again.iter().eq(resources.iter()));
        }
    }

    #[test]
    fn accessors_follow_sums(a in sum_of(plain()), b in sum_of(plain())) {
        let sum = a.clone() + &b;
        for name in sum.names() {
            let whole = |all: &Resources| all.scalar(name).map_or(0, Scalar::thousandths);
            prop_assert_eq!(whole(&sum), whole(&a) + whole(&b));
        }
    }

    #[test]
    fn no_text_panics(text in ".*", role in "\\PC{0,4}") {
        let _either_is_fine = from_flag(&text, &role);
    }

    #[test]
    fn no_text_that_is_nearly_right_panics(text in "([a-z(){}:;,.0-9eE+*/\\[\\] \n-]|ports:|\\[1-2|,3-4\\]|\\{a,b\\}){0,24}") {
        if let Ok(parsed) = from_flag(&text, "*") {
            let printed = parsed.resources.to_string();
            prop_assert!(!printed.is_empty());
        }
    }

    #[test]
    fn no_json_panics(value in json()) {
        let list = serde_json::Value::Array(vec![value]);
        let _either_is_fine = from_flag(&list.to_string(), "*");
        if let Ok(resources) = serde_json::from_value::<Resources>(list) {
            prop_assert!(resources.iter().all(|resource| resource.validate().is_ok()));
        }
    }
}

/// Objects whose fields often have names of the message, with values of any shape.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let text = prop::sample::select(vec![
        "", "a", "SCALAR", "RANGES", "SET", "TEXT", "STATIC", "DYNAMIC", "disk", "1", "-1",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-2..3_i64).prop_map(Into::into),
        text.prop_map(Into::into),
    ];
    let key = prop::sample::select(vec![
        "name",
        "type",
        "scalar",
        "ranges",
        "set",
        "role",
        "disk",
        "reservation",
        "revocable",
        "shared",
        "allocation_info",
        "provider_id",
        "reservations",
        "value",
        "range",
        "begin",
        "end",
        "item",
        "principal",
        "labels",
        "key",
        "persistence",
        "volume",
        "source",
        "id",
        "path",
        "mount",
        "root",
        "mode",
        "container_path",
    ]);
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(|fields| {
                let named = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
                let mut object: serde_json::Map<_, _> = [("name", "disk"), ("type", "SCALAR")]
                    .map(|(k, v)| (k.to_owned(), v.into()))
                    .into_iter()
                    .collect();
                object.extend(named);
                serde_json::Value::Object(object)
            }),
        ]
    })
}
