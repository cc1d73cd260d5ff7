// SPDX-License-Identifier: Apache-2.0
//! What `check-config` says, beside what a Mesos agent said to the same flags.
#![expect(clippy::unwrap_used, reason = "in tests, helpers included")]

use std::fs;

use berth_config::{ConfigReport, Sources, check_config};

fn check(arguments: &[&str]) -> ConfigReport {
    let empty = tempfile::tempdir().unwrap();
    let config_dir = format!("--config_dir={}", empty.path().display());
    let arguments = arguments.iter().copied().chain([config_dir.as_str()]).map(Into::into).collect();
    check_config(&Sources { arguments, environment: Vec::new(), working_directory: "/cwd".into() })
}

fn problems(arguments: &[&str]) -> Vec<String> {
    check(arguments).problems.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn the_defaults_are_good() {
    let report = check(&[]);
    assert_eq!(report.problems, []);
    assert_eq!(report.exit_code(), 0);
    assert!(report.to_string().ends_with("the configuration is good\n"), "{report}");
}

/// From the recording of a Mesos agent's starts: arguments, and the first thing that it said.
const RECORDED: &[(&[&str], &str)] = &[
    (
        &["--containerizers=mesos,mesos"],
        "Failed to create a containerizer: Duplicate entries found in --containerizer flag 'mesos,mesos'",
    ),
    (&["--containerizers="], "Failed to create a containerizer: Unknown or unsupported containerizer: "),
    (
        &["--isolation=cgroups/cpu,cgroups/cpu"],
        "Failed to create a containerizer: Could not create MesosContainerizer: Duplicate entries found in \
         --isolation flag '[ cgroups/cpu, cgroups/cpu ]'",
    ),
    (
        &["--isolation=filesystem/linux,filesystem/posix"],
        "Failed to create a containerizer: Could not create MesosContainerizer: Using multiple filesystem isolators \
         simultaneously is disallowed",
    ),
    (
        &["--isolation=network/cni,network/port_mapping,cgroups/cpu"],
        "Failed to create a containerizer: Could not create MesosContainerizer: Using multiple network isolators \
         simultaneously is disallowed",
    ),
    (
        &["--launcher=nope"],
        "Failed to create a containerizer: Could not create MesosContainerizer: Failed to create launcher: Unknown or \
         unsupported launcher: nope",
    ),
    (
        &["--resources=cpus"],
        "Failed to determine agent resources: Bad value for resources, missing or extra ':' in cpus",
    ),
    (
        &["--resources=cpus:abc"],
        "Failed to determine agent resources: Bad type for resource cpus value abc type TEXT",
    ),
    (
        &["--resources=ports:[1-"],
        "Failed to determine agent resources: Failed to parse resource ports value [1- error Mismatched brackets",
    ),
    (&["--nope=1"], "Failed to load unknown flag 'nope'"),
    (&["--gc_delay=1weeks", "--gc_delay=2weeks"], "Flag 'gc_delay' is already loaded via name 'gc_delay'"),
];

#[test]
fn what_mesos_refused_is_refused_in_its_words() {
    for (arguments, words) in RECORDED {
        let found = problems(arguments);
        assert_eq!(found.len(), 1, "{arguments:?}: {found:?}");
        assert!(found[0].starts_with(words), "{arguments:?}: {found:?}");
        assert_eq!(check(arguments).exit_code(), 1);
    }
}

#[test]
fn what_the_makers_would_refuse_for_the_flags_is_found_without_making_anything() {
    let found = problems(&["--launcher=posix"]);
    assert!(found[0].ends_with("the 'linux' launcher must be used"), "{found:?}");
    let found = problems(&["--isolation=filesystem/linux"]);
    assert!(found[0].contains("containers without the isolator"), "{found:?}");
    let unknown = format!("--isolation={},nope", berth_factory::DEFAULT_ISOLATION);
    assert_eq!(
        problems(&[&unknown]),
        [
            "Failed to create a containerizer: Could not create MesosContainerizer: Unknown or unsupported isolator 'nope'"
        ]
    );
    let found = problems(&["--cgroups_root=/"]);
    assert!(found[0].contains("--cgroups_root must name a control group"), "{found:?}");
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    let report = check(&[&format!("--work_dir={}", work.display())]);
    assert!(report.ok, "{report}");
    assert!(!work.exists());
}

#[test]
fn each_flag_is_printed_with_its_value_and_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, "gc_delay = '2weeks'\nstrict = false\n").unwrap();
    let arguments = vec![format!("--config_dir={}", folder.path().display()).into(), "--strict".into()];
    let environment = vec![("MESOS_WORK_DIR".into(), "/m".into())];
    let report = check_config(&Sources { arguments, environment, working_directory: "/".into() });
    let text = report.to_string();
    let row = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap();
        line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    let file = file.display();
    assert_eq!(row("gc_delay"), format!("gc_delay 2weeks {file}:1"));
    assert_eq!(row("strict"), format!("strict true command line --strict (over {file}:2)"));
    assert_eq!(row("work_dir"), "work_dir /m environment MESOS_WORK_DIR");
    assert_eq!(row("socket"), "socket /run/berth/berth.sock default");
    assert_eq!(row("resources"), "resources - default");
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["ok"], true);
    let flags = json["flags"].as_array().unwrap();
    let flag = flags.iter().find(|flag| flag["name"] == "gc_delay").unwrap();
    assert_eq!(flag["origin"], format!("{file}:1"));
    assert_eq!(flag["built"], true);
    assert!(flags.iter().any(|flag| flag["name"] == "docker_mesos_image" && flag["built"] == false));
}

#[test]
fn no_value_can_move_the_cursor_of_who_reads_the_report() {
    let report = check(&["--resources=\x1b[2J", "--cgroups_root=a\nb\x1b[1m"]);
    assert!(!report.to_string().contains('\x1b'), "{report}");
    assert!(!report.json().contains('\x1b'));
}

#[test]
fn a_problem_has_its_class_and_flag_for_programs() {
    let report = check(&["--hooks=x"]);
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["problems"][0]["class"], "unsupported");
    assert_eq!(json["problems"][0]["flag"], "hooks");
    assert_eq!(json["ok"], false);
}

#[test]
fn hooks_that_an_agent_would_not_run_are_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("pre-launch")).unwrap();
    let hook = dir.path().join("pre-launch/50-policy");
    std::fs::write(&hook, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let flag = format!("--hooks_dir={}", dir.path().display());
    let json: serde_json::Value = serde_json::from_str(&check(&[&flag]).json()).unwrap();
    assert_eq!((&json["ok"], &json["problems"][0]["flag"]), (&false.into(), &"hooks_dir".into()), "{json}");
    assert!(
        json["problems"][0]["message"].as_str().unwrap().contains("50-policy can not be a hook"),
        "{json}"
    );
}
