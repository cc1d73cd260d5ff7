// SPDX-License-Identifier: Apache-2.0
//! Random and awkward profiles: the program must answer as the profile says.

use berth_seccomp::{Error, Profile, caps, syscalls};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::oracle::{Spec, SpecFilter, SpecRule};

const OPS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

fn value() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 2, 38, 0x5412, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, 1 << 32];
    let high =
        [(1 << 32) + 1, (5 << 32) | 7, (5 << 32) | 8, (6 << 32), u64::MAX << 32, u64::MAX - 1, u64::MAX];
    prop_oneof![
        6 => select([edges.as_slice(), high.as_slice()].concat()),
        1 => any::<u64>(),
        1 => any::<u32>().prop_map(u64::from),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        // Few, so that rules meet.
        6 => select(vec!["read", "write", "open", "ioctl", "socket", "clone", "removexattrat", "accept"])
            .prop_map(str::to_owned),
        3 => (0..470u16).prop_map(|number| syscalls::name(number).unwrap_or("socketcall").to_owned()),
        1 => Just("no_such_call".to_owned()),
    ]
}

fn action() -> impl Strategy<Value = (String, Option<u64>)> {
    prop_oneof![
        4 => Just(("SCMP_ACT_ALLOW".to_owned(), None)),
        4 => (Just("SCMP_ACT_ERRNO".to_owned()), select(vec![None, Some(1), Some(22), Some(38), Some(4095)])),
        1 => (Just("SCMP_ACT_TRACE".to_owned()), select(vec![None, Some(7)])),
        3 => select(vec!["LOG", "TRAP", "KILL", "KILL_THREAD", "KILL_PROCESS"])
            .prop_map(|name| (format!("SCMP_ACT_{name}"), None)),
    ]
}

fn args() -> impl Strategy<Value = Vec<(u8, String, u64, u64)>> {
    let index = prop_oneof![3 => Just(0u8), 1 => 0..6u8];
    btree_map(index, (select(OPS.to_vec()), value(), value()), 0..3).prop_map(|args| {
        args.into_iter()
            .map(|(index, (op, value, two))| {
                let two = if op == "MASKED_EQ" { two & value } else { two };
                (index, format!("SCMP_CMP_{op}"), value, two)
            })
            .collect()
    })
}

fn filter() -> impl Strategy<Value = SpecFilter> {
    let caps = || vec(select(vec!["CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_NICE"]).prop_map(str::to_owned), 0..2);
    let arches = vec(select(vec!["amd64", "x86", "arm64"]).prop_map(str::to_owned), 0..2);
    let kernel = prop_oneof![4 => Just(None), 1 => Just(Some((4, 8))), 1 => Just(Some((7, 0)))];
    prop_oneof![
        3 => Just(SpecFilter::default()),
        1 => (arches, caps(), kernel)
            .prop_map(|(arches, caps, min_kernel)| SpecFilter { arches, caps, min_kernel }),
    ]
}

fn rule() -> impl Strategy<Value = SpecRule> {
    (vec(name(), 0..6), action(), args(), filter(), filter()).prop_map(
        |(names, (action, errno), args, includes, excludes)| SpecRule {
            names,
            action,
            errno,
            args,
            includes,
            excludes,
        },
    )
}

fn spec() -> impl Strategy<Value = Spec> {
    (action(), vec(rule(), 0..12)).prop_map(|((action, errno), rules)| Spec { action, errno, rules })
}

fn set() -> impl Strategy<Value = u64> {
    select(vec![0, caps::ALL, caps::DOCKER_DEFAULT, 1 << 21, 1 << 39, 1 << 21 | 1 << 23])
}

fn assert_equivalent(spec: &Spec, set: u64) {
    const KERNEL: berth_seccomp::Kernel = berth_seccomp::Kernel { major: 6, minor: 18 };
    let profile = Profile::from_json_for(&spec.to_json(), KERNEL).unwrap();
    spec.assert_equals(&profile.compile(set).unwrap(), set, (6, 18));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_profiles_do_what_they_say(spec in spec(), set in set()) {
        assert_equivalent(&spec, set);
    }

    #[test]
    fn random_text_is_refused_or_read_but_never_a_panic(text in vec(any::<u8>(), 0..200)) {
        let _ = Profile::from_json(&text);
    }

    #[test]
    fn a_profile_with_a_byte_changed_is_refused_or_read_but_never_a_panic(
        spec in spec(), at in any::<usize>(), byte in any::<u8>(),
    ) {
        let mut text = spec.to_json();
        let at = at % text.len();
        text[at] = byte;
        if let Ok(profile) = Profile::from_json(&text) {
            let _ = profile.compile(0);
        }
    }
}

fn allow(name: &str) -> SpecRule {
    SpecRule { names: vec![name.to_owned()], action: "SCMP_ACT_ALLOW".to_owned(), ..SpecRule::default() }
}

fn errno(name: &str, number: u64) -> SpecRule {
    SpecRule { action: "SCMP_ACT_ERRNO".to_owned(), errno: Some(number), ..allow(name) }
}

fn when(rule: SpecRule, args: &[(u8, &str, u64, u64)]) -> SpecRule {
    let args = args.iter().map(|(index, op, value, two)| (*index, format!("SCMP_CMP_{op}"), *value, *two));
    SpecRule { args: args.collect(), ..rule }
}

fn deny_all(rules: Vec<SpecRule>) -> Spec {
    Spec { action: "SCMP_ACT_ERRNO".to_owned(), errno: Some(1), rules }
}

#[test]
fn a_different_answer_for_every_call_needs_far_jumps_and_gets_them() {
    let rules: Vec<SpecRule> = (0..470u16)
        .filter_map(|number| Some(errno(syscalls::name(number)?, 100 + u64::from(number))))
        .collect();
    let spec = deny_all(rules);
    let program = Profile::from_json(&spec.to_json()).unwrap().compile(0).unwrap();
    assert!(program.len() > 512, "{}", program.len());
    assert_equivalent(&spec, 0);
}

#[test]
fn tests_of_arguments_far_from_the_tree_are_reached() {
    // Each call has code of its own for its tests, far more than a comparison can skip.
    let rules: Vec<SpecRule> = (0..300u16)
        .filter_map(|number| {
            let value = u64::from(number) << 30;
            Some(when(
                allow(syscalls::name(number)?),
                &[(0, "GT", value, 0), (5, "MASKED_EQ", 0xff00, 0x4200)],
            ))
        })
        .collect();
    assert_equivalent(&deny_all(rules), 0);
}

#[test]
fn many_values_of_one_argument_become_a_tree() {
    let values = (0..64u64).map(|step| step * step);
    let spec = deny_all(values.map(|value| when(allow("ioctl"), &[(1, "EQ", value, 0)])).collect());
    let program = Profile::from_json(&spec.to_json()).unwrap().compile(0).unwrap();
    let call = crate::bpf::Call::new(16, [0, 63 * 63, 0, 0, 0, 0]);
    assert!(crate::bpf::run(&program, &call).1 < 20);
    assert_equivalent(&spec, 0);
}

#[test]
fn every_comparison_holds_at_the_edges_of_both_halves() {
    let edges = [0, 1, 0xffff_fffe, 0xffff_ffff, 1 << 32, (1 << 32) + 1, (7 << 32) | 0xffff_ffff, 8 << 32];
    for value in edges.into_iter().chain([u64::MAX - 1, u64::MAX, u64::MAX << 32, 1 << 63]) {
        for op in OPS {
            let twos = [0, value, value & 0xffff_ffff, value & 0xffff_0000_ffff_0000];
            for two in twos.into_iter().take(if op == "MASKED_EQ" { 4 } else { 1 }) {
                for index in [0, 5] {
                    let args = [(index, op, value, two)];
                    let allowed = deny_all(vec![when(allow("read"), &args)]);
                    let rules = vec![when(errno("read", 5), &args)];
                    let refused = Spec { action: "SCMP_ACT_ALLOW".into(), errno: None, rules };
                    for spec in [allowed, refused] {
                        let program = Profile::from_json(&spec.to_json()).unwrap().compile(0).unwrap();
                        spec.assert_equals_for(0..2, &program, 0, (6, 18));
                    }
                }
            }
        }
    }
}

#[test]
fn of_rules_that_contradict_each_other_the_strictest_wins_or_the_first_without_tests() {
    const ALLOW: u32 = 0x7fff_0000;
    let hole = || when(errno("ioctl", 13), &[(1, "MASKED_EQ", 0xffff_ffff, 0x5412)]);
    let kill =
        || SpecRule { action: "SCMP_ACT_KILL_PROCESS".into(), ..when(allow("ioctl"), &[(0, "EQ", 7, 0)]) };
    let door = || when(allow("ioctl"), &[(2, "NE", 3, 0)]);
    let (plain, refuse) = (|| allow("ioctl"), |number| errno("ioctl", number));
    let error = |number: u32| 0x0005_0000 | number;
    // The rules, and the answers to: nothing in particular, request 0x5412, descriptor 7.
    let cases = [
        (vec![plain(), hole(), kill()], [ALLOW, error(13), 0x8000_0000]),
        (vec![kill(), hole(), plain()], [ALLOW, error(13), 0x8000_0000]),
        (vec![hole(), plain()], [ALLOW, error(13), ALLOW]),
        (vec![plain(), refuse(22), hole()], [ALLOW, error(13), ALLOW]),
        (vec![refuse(22), plain(), hole()], [error(22), error(22), error(22)]),
        (vec![hole(), refuse(22)], [error(22), error(13), error(22)]),
        (vec![door(), refuse(22)], [error(22), error(22), error(22)]),
        // Refusing with 1 is the default, so that rule says nothing.
        (vec![refuse(1), door(), hole()], [ALLOW, error(13), ALLOW]),
        (vec![refuse(1), plain()], [ALLOW, ALLOW, ALLOW]),
    ];
    for (rules, expected) in cases {
        let spec = deny_all(rules);
        let program = Profile::from_json(&spec.to_json()).unwrap().compile(0).unwrap();
        let answers = [[0; 6], [0, 0x5412, 0, 0, 0, 0], [7, 0, 0, 0, 0, 0]]
            .map(|args| crate::bpf::run(&program, &crate::bpf::Call::new(16, args)).0);
        assert_eq!(answers, expected, "{spec:?}");
        spec.assert_equals_for(15..18, &program, 0, (6, 18));
    }
}

#[test]
fn a_profile_of_nothing_but_a_default_is_that_default() {
    for action in ["ALLOW", "LOG", "ERRNO", "TRAP", "KILL", "KILL_PROCESS", "TRACE"] {
        let spec = Spec { action: format!("SCMP_ACT_{action}"), errno: None, rules: vec![] };
        assert_equivalent(&spec, 0);
        let program = Profile::from_json(&spec.to_json()).unwrap().compile(0).unwrap();
        assert!(program.len() <= 7, "{program:?}");
    }
}

#[test]
fn a_filter_that_the_kernel_would_not_take_is_refused() {
    let rules =
        (0..1500u64).map(|value| when(allow("read"), &[(0, "EQ", value << 33, 0), (1, "EQ", value, 0)]));
    let profile = Profile::from_json(&deny_all(rules.collect()).to_json()).unwrap();
    let error = profile.compile(0).unwrap_err();
    assert!(matches!(error, Error::TooLong { limit: 4096 }), "{error}");
}
