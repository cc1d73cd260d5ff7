// SPDX-License-Identifier: Apache-2.0
//! Profiles that are not right: each is refused, and the message says where and why.

use berth_model::Class;
use berth_seccomp::{Action, Comparison, Error, MAX_PROFILE_SIZE, Profile};

fn read(text: &str) -> Result<Profile, Error> {
    Profile::from_json(text.as_bytes())
}

fn message(error: &Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

/// A profile whose second rule is this.
fn with_rule(rule: &str) -> String {
    format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW"}}, {rule}]}}"#
    )
}

#[test]
fn wrong_rules_are_refused_by_place_and_name() {
    let cases = [
        (
            r#"{"names": ["a", "b"], "action": "SCMP_ACT_ALOW"}"#,
            "rule 2 (a, b): there is no action \"SCMP_ACT_ALOW\"",
        ),
        (r#"{"names": ["a", "b", "c", "d"], "action": ""}"#, "rule 2 (a, b, c, …): there is no action"),
        (
            r#"{"names": ["open"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#,
            "4096 is not an error number",
        ),
        (r#"{"names": ["open"], "action": "SCMP_ACT_ERRNO", "errno": "EWHAT"}"#, "\"EWHAT\" is not known"),
        (r#"{"name": "open", "names": ["openat"], "action": "SCMP_ACT_ALLOW"}"#, "both `name` and `names`"),
        (
            r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["SYS_ADMIN"]}}"#,
            "no capability \"SYS_ADMIN\"",
        ),
        (
            r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_ALL"]}}"#,
            "no capability \"CAP_ALL\"",
        ),
        (
            r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["x86_64"]}}"#,
            "no architecture \"x86_64\"",
        ),
        (
            r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4"}}"#,
            "\"4\" is not a kernel version",
        ),
        (
            r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
            "no argument with index 6",
        ),
        (
            r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_IS"}]}"#,
            "no comparison \"SCMP_CMP_IS\"",
        ),
        (
            r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 38, "op": "SCMP_CMP_NE"}, {"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]}"#,
            "index 0 twice",
        ),
        (
            r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 1, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}"#,
            "bits 0x2 of `valueTwo` are not in the mask 0x1",
        ),
    ];
    for (rule, expected) in cases {
        let error = read(&with_rule(rule)).unwrap_err();
        let text = message(&error);
        assert!(text.contains(expected) && text.contains("rule 2 ("), "{text}");
        assert_eq!(error.class(), Class::Invalid, "{text}");
    }
}

#[test]
fn wrong_shapes_are_refused_and_the_key_is_named() {
    let cases = [
        (r#"{"syscalls": []}"#.to_owned(), "defaultAction"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "default": 1}"#.to_owned(), "unknown field `default`"),
        (with_rule(r#"{"names": ["open"]}"#), "action"),
        // Without this check the test of the argument would be lost and all of `open` allowed.
        (with_rule(r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "arg": []}"#), "unknown field `arg`"),
        (
            with_rule(r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "includes": {"cap": []}}"#),
            "unknown field `cap`",
        ),
        (with_rule(r#"{"names": "open", "action": "SCMP_ACT_ALLOW"}"#), "expected a sequence"),
        (
            with_rule(
                r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "args": [{"index": -1, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            "integer `-1`",
        ),
        (
            with_rule(
                r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1.5, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            "floating point",
        ),
        (
            with_rule(r#"{"names": ["open"], "action": "SCMP_ACT_ALLOW", "action": "SCMP_ACT_LOG"}"#),
            "duplicate field `action`",
        ),
        (String::new(), "EOF"),
        ("[]".to_owned(), "invalid"),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), "invalid"),
        (format!(r#"{{"defaultAction": {}"#, "[".repeat(100_000)), "invalid type"),
    ];
    for (text, expected) in cases {
        let error = read(&text).unwrap_err();
        assert!(message(&error).contains(expected), "{}", message(&error));
        assert!(matches!(error, Error::Json(_)));
    }
}

#[test]
fn wrong_profiles_are_refused_as_a_whole() {
    let cases = [
        (r#"{"defaultAction": "ALLOW"}"#, "defaultAction: there is no action \"ALLOW\""),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}"#, "70000 is not an error number"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["X86_64"]}"#, "no architecture \"X86_64\""),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            "`architectures` is given as well",
        ),
    ];
    for (text, expected) in cases {
        let error = read(text).unwrap_err();
        assert!(message(&error).contains(expected), "{}", message(&error));
        assert_eq!(error.class(), Class::Invalid);
    }
    let long = vec![b' '; MAX_PROFILE_SIZE + 1];
    assert!(matches!(Profile::from_json(&long), Err(Error::TooLarge { .. })));
}

#[test]
fn what_is_asked_for_and_not_done_is_refused_as_unsupported() {
    for text in [
        r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock"}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported, "{error}");
        assert!(error.to_string().contains("not supported"), "{error}");
    }
}

#[test]
fn all_forms_of_the_format_are_read() {
    let profile = read(
        r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_RISCV64"], "archMap": null,
        "flags": [], "listenerPath": "", "listenerMetadata": "",
        "syscalls": [
            {"name": "read", "action": "SCMP_ACT_ALLOW", "args": null, "includes": null, "excludes": {}},
            {"names": ["write", "write", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errno": "EINVAL", "comment": "why"},
            {"names": ["open"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0, "args": [
                {"index": 1, "value": 18446744073709551615, "op": "SCMP_CMP_GE"},
                {"index": 2, "value": 12, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["kill"], "action": "SCMP_ACT_KILL"},
            {"names": ["no_such_call"], "action": "SCMP_ACT_LOG"},
            {"names": null, "action": "SCMP_ACT_LOG"}
        ]}"#,
    )
    .unwrap();
    let rules = profile.rules();
    let actions: Vec<Action> = rules.iter().map(|rule| rule.action).collect();
    assert_eq!(actions, [Action::Allow, Action::Errno(22), Action::Errno(0), Action::KillThread]);
    assert_eq!(*rules[1].calls, [1]);
    assert_eq!(rules[2].tests[0].is, Comparison::GreaterOrEqual(u64::MAX));
    assert_eq!(rules[2].tests[1].is, Comparison::Masked { mask: 12, value: 8 });
    assert_eq!(profile.default_action(), Action::Errno(38));
    assert_eq!(profile.unknown_names(), ["no_such_call"]);
    assert_eq!(profile.highest(), Some(62));
}

#[test]
fn a_message_never_carries_a_long_or_unprintable_name() {
    let name = format!("\\u001b[31m{}", "x".repeat(10_000));
    let error = read(&with_rule(&format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_X"}}"#))).unwrap_err();
    let text = error.to_string();
    assert!(text.len() < 500 && !text.contains('\u{1b}'), "{text}");
}
