// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeSet;
use std::time::Duration;

use berth_config::Recover;
use berth_config::table::{State, find, rows};
use berth_config::{Origin, Value};

use crate::good;
use crate::names::{NAMES, OLDER_NAMES};

#[test]
fn every_flag_of_mesos_that_touches_containers_is_known() {
    for name in NAMES {
        assert!(find(name).is_some_and(|row| row.name == *name), "{name}");
        assert!(find(&name.replace('_', "-")).is_some(), "{name} with hyphens");
    }
    for (older, name) in OLDER_NAMES {
        assert_eq!(find(older).unwrap().name, *name);
    }
}

#[test]
fn every_flag_of_the_factory_is_known_and_has_no_type_of_its_own() {
    for known in berth_factory::KNOWN {
        let row = find(known.name).unwrap_or_else(|| panic!("{} is not in the table", known.name));
        assert_eq!(row.kind(), known.kind, "{}", known.name);
    }
}

#[test]
fn every_row_has_a_type_a_default_of_that_type_and_words() {
    let mut names = BTreeSet::new();
    for row in rows() {
        assert!(names.insert(row.name), "{} stands there twice", row.name);
        if let Some(default) = row.default {
            let plain = default.replace("<work_dir>", "/w").replace("<runtime_dir>", "/r");
            let value = Value::parse(row.kind(), &plain).unwrap_or_else(|why| panic!("{}: {why}", row.name));
            assert_eq!(Value::parse(row.kind(), &value.to_string()), Ok(value), "{}", row.name);
            assert!(row.choices.is_empty() || row.choices.contains(&default), "{}", row.name);
        }
        assert!(row.help.len() > 5 && !row.help.ends_with('.'), "{}", row.name);
        assert!(row.help.starts_with(|letter: char| letter.is_uppercase()), "{}", row.name);
    }
}

#[test]
fn what_is_built_here_is_built_in_the_factory_too() {
    for row in rows().filter(|row| row.state == State::Built) {
        assert!(row.factory().is_none_or(|known| known.built), "{}", row.name);
    }
}

#[test]
fn an_agent_without_flags_has_the_defaults() {
    let resolved = good(&[]);
    assert_eq!(resolved.work_dir.to_str(), Some("/var/lib/berth"));
    assert_eq!(resolved.runtime_dir.to_str(), Some("/run/berth"));
    assert_eq!(resolved.socket.to_str(), Some("/run/berth/berth.sock"));
    assert_eq!(resolved.gc_delay, Duration::from_secs(7 * 24 * 3600));
    assert_eq!(resolved.recover, Recover::Reconnect);
    assert!(resolved.strict);
    assert_eq!(resolved.factory.isolation, berth_factory::DEFAULT_ISOLATION);
    assert!(
        resolved
            .settings()
            .iter()
            .all(|setting| setting.origin == Origin::Default || setting.row.name == "config_dir")
    );
}

#[test]
fn places_below_a_directory_follow_it_and_relative_ones_are_made_absolute() {
    let resolved = good(&["--runtime-dir=r", "--work_dir=/w/../v"]);
    assert_eq!(resolved.runtime_dir.to_str(), Some("/cwd/r"));
    assert_eq!(resolved.socket.to_str(), Some("/cwd/r/berth.sock"));
    assert_eq!(resolved.factory.runtime_dir, resolved.runtime_dir);
    let fetch = resolved.setting("fetcher_cache_dir").unwrap().text();
    assert_eq!(fetch.as_deref(), Some("/w/../v/fetch"));
}

#[test]
fn booleans_may_stand_alone_and_be_negated_and_hyphens_are_underscores() {
    assert!(!good(&["--no-strict"]).strict);
    assert!(good(&["--strict"]).strict);
    assert!(!good(&["--strict=0"]).strict);
    assert_eq!(good(&["--gc-delay=2hrs"]).gc_delay, Duration::from_secs(7200));
}

#[test]
fn a_flag_that_is_not_built_is_accepted_with_its_default_whatever_its_spelling() {
    good(&["--perf_interval=60secs", "--no-docker_volume_chown"]);
    good(&["--work_dir=/w", "--perf_duration=10000ms"]);
    let resolved = good(&["--docker_volume_chown=false"]);
    assert_eq!(resolved.factory.loaded.get("docker_volume_chown"), None, "nothing is behind it");
}

#[test]
fn the_factory_gets_what_was_given() {
    let resolved =
        good(&["--isolation=posix/cpu", "--cgroups_root=x", "--seccomp_config_dir=p", "--resources=cpus:1"]);
    assert_eq!(resolved.factory.isolation, "posix/cpu");
    assert_eq!(resolved.factory.loaded.get("cgroups_root"), Some("x"));
    assert_eq!(resolved.factory.loaded.get("seccomp_config_dir"), Some("/cwd/p"));
    assert_eq!(resolved.factory.resources.as_deref(), Some("cpus:1"));
    assert_eq!(resolved.factory.launcher.as_deref(), Some("linux"));
}

#[test]
fn a_value_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resources");
    std::fs::write(&file, "cpus:2\n").unwrap();
    let resolved = good(&[&format!("--resources=file://{}", file.display())]);
    assert_eq!(resolved.factory.resources.as_deref(), Some("cpus:2"));
    assert_eq!(resolved.setting("resources").unwrap().text().as_deref(), Some("cpus:2"));
}

#[test]
fn get_flags_has_every_flag_with_a_value_sorted_as_text() {
    let flags = good(&["--gc_delay=60secs"]).flags();
    assert!(flags.is_sorted());
    let get = |name: &str| flags.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
    assert_eq!(get("gc_delay"), Some("1mins"));
    assert_eq!(get("strict"), Some("true"));
    assert_eq!(get("gc_disk_headroom"), Some("0.1"));
    assert_eq!(get("frameworks_home"), Some(""));
    assert_eq!(get("resources"), None);
}
