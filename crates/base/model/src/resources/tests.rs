// SPDX-License-Identifier: Apache-2.0
//! The flag, JSON and sums, by example.

use super::*;

fn parse(text: &str) -> Resources {
    from_flag(text, "*").unwrap_or_else(|error| panic!("{text}: {error}")).resources
}

fn refusal(text: &str) -> String {
    let error = from_flag(text, "*").expect_err(text);
    assert_eq!(error.class(), Class::Invalid);
    assert!(std::error::Error::source(&error).is_none(), "the message holds its cause already");
    error.to_string()
}

/// One entry of JSON with more fields, a volume if it needs one.
fn disk(fields: &str) -> Resources {
    let text = format!(r#"[{{"name":"disk","type":"SCALAR","scalar":{{"value":10}},{fields}}}]"#);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn text_is_read_with_spaces_roles_and_empty_entries() {
    let parsed =
        from_flag(" cpus ( eng ) : 1.5 ;; mem:1e3;ports(*):[ 1 - 2 , 4-5 ];zones:{ a, b ,};x:[]\n", "ops")
            .unwrap();
    assert_eq!(
        parsed.resources.to_string(),
        "cpus(reservations: [(STATIC,eng)]):1.5; mem(reservations: [(STATIC,ops)]):1000; ports:[1-2, 4-5]; \
         zones(reservations: [(STATIC,ops)]):{a, b}"
    );
    assert_eq!(parsed.names, ["cpus", "mem", "ports", "x", "zones"].map(String::from).into());
}

#[test]
fn empty_resources_vanish_but_their_names_are_told() {
    for text in [
        "gpus:0",
        "gpus:0.0",
        "gpus:[]",
        "gpus:{}",
        r#"[{"name":"gpus","type":"SCALAR","scalar":{"value":0}}]"#,
    ] {
        let parsed = from_flag(text, "*").unwrap();
        assert!(parsed.resources.is_empty(), "{text}");
        assert_eq!(parsed.names, BTreeSet::from(["gpus".to_owned()]), "{text}");
    }
    assert_eq!(from_flag("", "*").unwrap(), Parsed::default());
    assert_eq!(from_flag("[]", "*").unwrap(), Parsed::default());
}

#[test]
fn entries_of_one_kind_are_summed() {
    assert_eq!(
        parse("cpus:0.1;cpus:0.2;cpus(a):1").to_string(),
        "cpus:0.3; cpus(reservations: [(STATIC,a)]):1"
    );
    assert_eq!(parse("ports:[1-3];ports:[2-8]").to_string(), "ports:[1-8]");
}

#[test]
fn wrong_text_is_refused_in_the_words_of_mesos() {
    let cases = [
        ("cpus::1", "Bad value for resources, missing or extra ':' in cpus::1"),
        ("a:1; b", "Bad value for resources, missing or extra ':' in  b"),
        ("cpus)r(:1", "Bad value for resources, mismatched parentheses in cpus)r(:1"),
        ("cpus(a)b:1", "Bad value for resources, mismatched parentheses in cpus(a)b:1"),
        ("cpus((a)):1", "Bad value for resources, mismatched parentheses in cpus((a)):1"),
        ("cpus: ", "Failed to parse resource cpus value   error Expecting non-empty string"),
        ("cpus:1)", "Failed to parse resource cpus value 1) error Mismatched brackets"),
        ("ports:[1-2]3", "Failed to parse resource ports value [1-2]3 error Mismatched brackets"),
        ("ports:[1]", r#"Failed to parse resource ports value [1] error Expecting one or more "ranges""#),
        (
            "ports:[1-2,3]",
            r#"Failed to parse resource ports value [1-2,3] error Expecting one or more "ranges""#,
        ),
        (
            "ports:[1-2-3]",
            r#"Failed to parse resource ports value [1-2-3] error Expecting one or more "ranges""#,
        ),
        (
            "ports:[1-x]",
            "Failed to parse resource ports value [1-x] error Expecting non-negative integers in 'x'",
        ),
        (
            "ports:[1-99999999999999999999]",
            "Failed to parse resource ports value [1-99999999999999999999] error Expecting non-negative integers in \
             '99999999999999999999'",
        ),
        (
            "ports:[+1-2]",
            "Failed to parse resource ports value [+1-2] error Expecting non-negative integers in '2'",
        ),
        ("cpus:1e-310", "Failed to parse resource cpus value 1e-310 error Subnormal values not supported"),
        ("cpus:1e-999", "Failed to parse resource cpus value 1e-999 error Subnormal values not supported"),
        ("a:1[2]", "Failed to parse resource a value 1[2] error Unexpected '[' found"),
        ("a:{b}[]", "Failed to parse resource a value {b}[] error Unexpected '[' found"),
        ("a:1{2}", "Failed to parse resource a value 1{2} error Unexpected '{' found"),
        ("a:{b{c}}", "Failed to parse resource a value {b{c}} error Unexpected '{' found"),
        ("cpus:inf", "Bad type for resource cpus value inf type TEXT"),
        ("cpus:nan", "Bad type for resource cpus value nan type TEXT"),
        ("cpus: a b", "Bad type for resource cpus value  a b type TEXT"),
        ("(r):1", "Empty resource name"),
        ("cpus():1", "Role names cannot be the empty string"),
        ("cpus(/a):1", "Role '/a' cannot start with a slash"),
        ("ports:[2-1]", "Invalid ranges resource: begin > end"),
        ("zones:{a,a}", "Invalid set resource: duplicated elements"),
        ("cpus:0.0004", "Invalid scalar resource: value <= 0"),
        ("cpus:1e17", "Invalid scalar resource: value > 9000000000000000; use a larger unit"),
        ("{}", "Bad value for resources, missing or extra ':' in {}"),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), message);
    }
    assert_eq!(
        from_flag("cpus:1", "a//b").unwrap_err().to_string(),
        "Role 'a//b' cannot contain two adjacent slashes"
    );
}

#[test]
fn an_entry_that_can_not_be_read_is_told_before_one_that_makes_no_sense() {
    assert_eq!(refusal("cpus:0.0001;mem"), "Bad value for resources, missing or extra ':' in mem");
}

#[test]
fn a_flag_may_not_say_what_comes_from_frameworks_and_estimators() {
    let entry =
        |fields: &str| format!(r#"[{{"name":"disk","type":"SCALAR","scalar":{{"value":1}},{fields}}}]"#);
    assert_eq!(
        refusal(&entry(r#""disk":{"persistence":{"id":"a"}}"#)),
        "Persistent volumes cannot be specified at the command line"
    );
    assert_eq!(
        refusal(&entry(r#""revocable":{}"#)),
        "Revocable resources cannot be specified at the command line; do not include a 'revocable' key in the \
         resources JSON"
    );
    let dynamic = "Dynamic reservations cannot be specified at the command line; do not include a reservation with \
                   DYNAMIC type in the resources JSON";
    assert_eq!(refusal(&entry(r#""reservations":[{"type":"DYNAMIC","role":"a"}]"#)), dynamic);
    assert_eq!(refusal(&entry(r#""role":"a","reservation":{}"#)), dynamic);
    assert_eq!(
        refusal("a:1;a:[1-2]"),
        "Resources with the same name ('a') but different types are not allowed"
    );
    assert_eq!(parse("a:0;a:[1-2]").to_string(), "a:[1-2]", "what vanished has no type");
}

#[test]
fn json_of_a_flag_takes_the_default_role_unless_it_names_one() {
    let entry =
        |name, fields: &str| format!(r#"{{"name":"{name}","type":"SCALAR","scalar":{{"value":1}}{fields}}}"#);
    let list = [
        entry("a", ""),
        entry("b", r#","role":"*""#),
        entry("c", r#","role":"x""#),
        entry("d", r#","reservations":[{"type":"STATIC","role":"y"}]"#),
    ];
    let parsed = from_flag(&format!("[{}]", list.join(",")), "ops").unwrap();
    let roles: Vec<(&str, &str)> =
        parsed.resources.iter().map(|one| (one.name.as_str(), one.reservation_role())).collect();
    assert_eq!(roles, [("a", "ops"), ("b", "*"), ("c", "x"), ("d", "y")]);
}

#[test]
fn json_of_the_wrong_shape_is_refused_in_the_words_of_mesos() {
    let cases = [
        ("[1]", "Expecting a JSON object"),
        ("[{}]", "Missing required fields: name, type"),
        (r#"[{"name":"a","type":null}]"#, "Missing required fields: type"),
        (r#"[{"type":"SCALAR","scalar":{}}]"#, "Missing required fields: name, scalar.value"),
        (
            r#"[{"name":"a","type":"RANGES","ranges":{"range":[{"begin":1,"end":2},{"begin":3}]}}]"#,
            "Missing required fields: ranges.range[1].end",
        ),
        (
            r#"[{"name":"disk","type":0,"scalar":{"value":1},"disk":{"source":{},"persistence":{},"volume":{}}}]"#,
            "Missing required fields: disk.persistence.id, disk.volume.container_path, disk.volume.mode, \
             disk.source.type",
        ),
        (r#"[{"name":1,"type":"SCALAR"}]"#, "Not expecting a JSON number for field 'name'"),
        (r#"[{"name":"a","type":"SCALAR","scalar":5}]"#, "Not expecting a JSON number for field 'scalar'"),
        (r#"[{"name":"a","type":"SCALAR","scalar":"5"}]"#, "Not expecting a JSON string for field 'scalar'"),
        (
            r#"[{"name":"a","type":"SCALAR","shared":true}]"#,
            "Not expecting a JSON boolean for field 'shared'",
        ),
        (r#"[{"name":["a"],"type":"SCALAR"}]"#, "Not expecting a JSON array for field 'name'"),
        (r#"[{"name":{},"type":"SCALAR"}]"#, "Not expecting a JSON object for field 'name'"),
        (r#"[{"name":"a","type":"NUMBER"}]"#, "Failed to find enum for 'NUMBER'"),
        (r#"[{"name":"a","type":9}]"#, "Not expecting a JSON number for field 'type'"),
        (
            r#"[{"name":"a","type":"SCALAR","scalar":{"value":"x"}}]"#,
            "Failed to parse 'x' as a JSON number for field 'value': expected a number",
        ),
        (
            r#"[{"name":"a","type":"RANGES","ranges":{"range":[{"begin":-1,"end":1.5}]}}]"#,
            "Not expecting the number -1 for field 'begin': give a whole number that is not negative",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), format!("Some JSON resources were not formatted properly: {message}"));
    }
    let error = serde_json::from_str::<Resources>("{}").unwrap_err().to_string();
    assert!(error.contains("expected a sequence"), "{error}");
}

#[test]
fn json_that_makes_no_sense_is_refused_in_the_words_of_mesos() {
    let name = r#""name":"disk""#;
    let one = r#""name":"disk","type":"SCALAR","scalar":{"value":1}"#;
    let fixed = r#"{"type":"STATIC","role":"a"}"#;
    let dynamic = r#"{"type":"DYNAMIC","role":"a","principal":"p","labels":{"labels":[{"key":"k"}]}}"#;
    let refined = r#"{"type":"DYNAMIC","role":"a/b"}"#;
    let cases = [
        (r#""name":"","type":"SCALAR""#.to_owned(), "Empty resource name"),
        (format!(r#"{name},"type":"SCALAR""#), "Invalid scalar resource"),
        (format!(r#"{name},"type":"RANGES","scalar":{{"value":1}}"#), "Invalid ranges resource"),
        (format!(r#"{name},"type":"SET","set":{{}},"ranges":{{}}"#), "Invalid set resource"),
        (format!(r#"{name},"type":"TEXT""#), "Unsupported resource type"),
        (format!(r#"{name},"type":"SCALAR","scalar":{{"value":-1}}"#), "Invalid scalar resource: value <= 0"),
        (
            format!(
                r#"{name},"type":"RANGES","ranges":{{"range":[{{"begin":1,"end":5}},{{"begin":5,"end":5}}]}}"#
            ),
            "Invalid ranges resource: overlapping ranges",
        ),
        (
            r#""name":"cpus","type":"SCALAR","scalar":{"value":1},"disk":{}"#.to_owned(),
            "DiskInfo should not be set for cpus resource",
        ),
        (
            format!(r#"{one},"role":"a","reservation":{{"type":"DYNAMIC"}}"#),
            "'Resource.ReservationInfo.type' must not be set for the 'Resource.reservation' field",
        ),
        (
            format!(r#"{one},"role":"a","reservation":{{"role":"a"}}"#),
            "'Resource.ReservationInfo.role' must not be set for the 'Resource.reservation' field",
        ),
        (
            format!(r#"{one},"reservation":{{}}"#),
            "Invalid reservation: role \"*\" cannot be dynamically reserved",
        ),
        (
            format!(r#"{one},"reservations":[{{"role":"a"}}]"#),
            "Invalid reservation: 'Resource.ReservationInfo.type' field must be set.",
        ),
        (
            format!(r#"{one},"reservations":[{{"type":"STATIC"}}]"#),
            "Invalid reservation: 'Resource.ReservationInfo.role' field must be set.",
        ),
        (
            format!(r#"{one},"reservations":[{{"type":"STATIC","role":"*"}}]"#),
            "Invalid reservation: role \"*\" cannot be reserved",
        ),
        (
            format!(r#"{one},"reservations":[{fixed},{fixed}]"#),
            "Invalid refined reservation: A refined reservation cannot be STATIC",
        ),
        (
            format!(r#"{one},"role":"b","reservations":[{fixed}]"#),
            "Invalid resource format: 'Resource.role' field with 'b' does not match the role 'a' in \
             'Resource.reservations'",
        ),
        (
            format!(r#"{one},"reservation":{{}},"reservations":[{fixed}]"#),
            "Invalid resource format: 'Resource.reservation' must not be set if the single reservation in \
             'Resource.reservations' is STATIC",
        ),
        (
            format!(r#"{one},"role":"a","reservations":[{dynamic}]"#),
            "Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be both set or both not \
             set if the single reservation in 'Resource.reservations' is DYNAMIC",
        ),
        (
            format!(r#"{one},"role":"a","reservation":{{"principal":"q"}},"reservations":[{dynamic}]"#),
            "Invalid resource format: 'Resource.reservation.principal' field with 'q' does not match the principal \
             'p' in 'Resource.reservations'",
        ),
        (
            format!(r#"{one},"role":"a","reservation":{{"principal":"p"}},"reservations":[{dynamic}]"#),
            "Invalid resource format: 'Resource.reservation.labels' field with '{}' does not match the labels '{k}' \
             in 'Resource.reservations'",
        ),
        (
            format!(r#"{one},"role":"a","reservations":[{fixed},{refined}]"#),
            "Invalid resource format: 'Resource.role' must not be set if there is more than one reservation in \
             'Resource.reservations'",
        ),
        (
            format!(r#"{one},"reservation":{{}},"reservations":[{fixed},{refined}]"#),
            "Invalid resource format: 'Resource.reservation' must not be set if there is more than one reservation in \
             'Resource.reservations'",
        ),
        (format!(r#"{one},"shared":{{}}"#), "Only persistent volumes can be shared"),
    ];
    for (fields, message) in cases {
        assert_eq!(refusal(&format!("[{{{fields}}}]")), message);
        let error = serde_json::from_str::<Resources>(&format!("[{{{fields}}}]")).unwrap_err().to_string();
        assert!(error.contains(&format!("is invalid: {message}")), "{error}");
    }
}

#[test]
fn json_is_written_in_the_present_form_and_read_in_both() {
    let old = disk(r#""role":"a","reservation":{"principal":"p"},"unknown":[1]"#);
    let new = disk(r#""reservations":[{"type":"DYNAMIC","role":"a","principal":"p"}],"shared":null"#);
    assert_eq!(old, new);
    assert_eq!(
        serde_json::to_string(&old).unwrap(),
        r#"[{"name":"disk","type":"SCALAR","scalar":{"value":10.0},"reservations":[{"type":"DYNAMIC","role":"a","principal":"p"}]}]"#
    );
    assert_eq!(
        serde_json::to_string(&parse("ports:[1-2,5-6];zones:{b,a}")).unwrap(),
        concat!(
            r#"[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":2},{"begin":5,"end":6}]}},"#,
            r#"{"name":"zones","type":"SET","set":{"item":["a","b"]}}]"#
        )
    );
    assert_eq!(serde_json::to_string(&Resources::default()).unwrap(), "[]");
}

#[test]
fn numbers_in_json_may_come_as_text_or_with_a_fraction_of_zero() {
    let text = r#"[{"name":"ports","type":1,"ranges":{"range":{"begin":"31000","end":32000.0}}},
        {"name":"cpus","type":"SCALAR","scalar":{"value":"0.5"}}]"#;
    assert_eq!(parse(text).to_string(), "ports:[31000-32000]; cpus:0.5");
}

#[test]
fn accessors_sum_over_roles_and_kinds() {
    let mut all = parse("cpus:1.5;cpus(a):2;mem:100.9;disk:1.999;gpus:2;ports:[1-2];ports(a):[3-4];cpu:9");
    let mut revocable = Resource::scalar("cpus", Scalar::from_whole(4));
    revocable.revocable = true;
    all += revocable;
    assert_eq!(all.cpus(), Some(7.5));
    assert_eq!((all.mem(), all.disk(), all.gpus()), (Some(100), Some(1), Some(2.0)));
    assert_eq!(all.ports().unwrap().to_string(), "[1-4]");
    assert_eq!(all.get("cpus").count(), 3);
    assert_eq!(all.names(), BTreeSet::from(["cpu", "cpus", "disk", "gpus", "mem", "ports"]));
    let none = Resources::default();
    assert_eq!(
        (none.cpus(), none.mem(), none.disk(), none.gpus(), none.ports()),
        (None, None, None, None, None)
    );
    assert_eq!(parse("cpus:{a};ports:1").cpus(), None, "a set is no number");
    assert_eq!(parse("cpus:{a};ports:1").ports(), None, "a number is no range");
}

#[test]
fn what_differs_in_anything_stays_apart() {
    let fields = [
        r#""revocable":{}"#,
        r#""allocation_info":{"role":"a"}"#,
        r#""provider_id":{"value":"a"}"#,
        r#""disk":{}"#,
        r#""disk":{"source":{"type":"PATH","path":{"root":"/a"}}}"#,
        r#""reservations":[{"type":"STATIC","role":"a"}]"#,
        r#""reservations":[{"type":"DYNAMIC","role":"a"}]"#,
        r#""reservations":[{"type":"DYNAMIC","role":"a","principal":"p"}]"#,
        r#""reservations":[{"type":"DYNAMIC","role":"a","labels":{"labels":[{"key":"k"}]}}]"#,
    ];
    let mut all = parse("disk:10");
    for (count, field) in fields.iter().enumerate() {
        let one = disk(field);
        assert!(!all.contains(&one), "{field}");
        assert_eq!(all.clone() - &one, all, "{field}");
        all += &one;
        assert_eq!(all.iter().len(), count + 2, "{field}");
        all += &one;
        assert_eq!(all.iter().len(), count + 2, "{field} twice is one entry");
    }
    assert_eq!(all.disk(), Some(10 + 20 * fields.len() as u64));
}

#[test]
fn whole_disks_never_merge_and_are_taken_only_as_they_are() {
    for field in [
        r#""disk":{"source":{"type":"MOUNT","mount":{"root":"/m"}}}"#,
        r#""disk":{"source":{"type":"BLOCK"}}"#,
        r#""disk":{"source":{"type":"RAW","id":"7"}}"#,
        r#""disk":{"persistence":{"id":"v"}}"#,
    ] {
        let one = disk(field);
        let two = one.clone() + &one;
        assert_eq!(two.iter().len(), 2, "{field}");
        assert!(two.contains(&two) && two.contains(&one) && !one.contains(&two), "{field}");
        assert_eq!(two - &one, one, "{field}");
        let mut half = one.iter().next().unwrap().clone();
        half.value = Value::Scalar(Scalar::from_whole(5));
        assert!(!one.contains(&half.clone().into()), "{field}");
        assert_eq!(one.clone() - &half.into(), one, "{field}");
    }
    let raw = disk(r#""disk":{"source":{"type":"RAW","profile":"fast"}}"#);
    assert_eq!((raw.clone() + &raw).iter().len(), 1, "storage without a name is divisible");
}

#[test]
fn a_shared_volume_is_one_entry_that_counts_its_uses() {
    let one = disk(r#""disk":{"persistence":{"id":"v"}},"shared":{}"#);
    let three = one.clone() + &one + &one;
    assert_eq!((three.iter().len(), three.disk()), (1, Some(10)));
    assert!(three.contains(&one) && !one.contains(&three) && three != one);
    assert_eq!(three.clone() - &one - &one, one);
    assert!((one.clone() - &three).is_empty());
    let back: Resources = serde_json::from_str(&serde_json::to_string(&three).unwrap()).unwrap();
    assert_eq!(back, three, "JSON keeps the count");
}

#[test]
fn a_number_that_would_become_negative_is_removed() {
    assert!((parse("cpus:1") - &parse("cpus:1.001")).is_empty());
    assert_eq!(parse("cpus:1;mem:5") - &parse("cpus:2"), parse("mem:5"));
    assert_eq!((parse("ports:[1-10]") - &parse("ports:[5-20]")).to_string(), "ports:[1-4]");
    assert_eq!((parse("zones:{a,b}") - &parse("zones:{b,c}")).to_string(), "zones:{a}");
}

#[test]
fn equality_does_not_look_at_order() {
    assert_eq!(parse("cpus:1;mem:2;zones:{a,b}"), parse("zones:{b,a};mem:2;cpus:1"));
    assert_ne!(parse("cpus:1"), parse("cpus:1;mem:2"));
    assert_ne!(parse("cpus:1;mem:2"), parse("cpus:1"));
}

#[test]
fn resources_that_are_not_valid_change_nothing() {
    let mut all = parse("cpus:1");
    let wrong = Resource::scalar("", Scalar::from_whole(1));
    assert_eq!(all.try_add(wrong.clone()), Err(Invalid::EmptyName));
    all += wrong.clone();
    all -= &wrong;
    all -= &Resource::scalar("cpus", Scalar::ZERO);
    all -= &Resource::scalar("cpus", Scalar::from_thousandths(-5));
    assert_eq!(all, parse("cpus:1"));
    all -= &Resource::scalar("cpus", Scalar::from_thousandths(250));
    assert_eq!(all, parse("cpus:0.75"));
}

#[test]
fn a_filter_keeps_the_uses_of_shared_volumes() {
    let volume = disk(r#""disk":{"persistence":{"id":"v"}},"shared":{}"#);
    let volumes = volume.clone() + &volume;
    assert_eq!((parse("cpus:1") + &volumes).filter(Resource::is_persistent_volume), volumes);
}
