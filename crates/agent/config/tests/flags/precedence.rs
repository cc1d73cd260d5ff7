// SPDX-License-Identifier: Apache-2.0

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use berth_config::{Origin, Problem, Resolved, examine, load};

use crate::{given, sources};

/// A configuration directory: `config.toml` and drop-ins.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("config.d")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn resolved(arguments: &[&str], environment: &[(&str, &str)], folder: &Path) -> Resolved {
    load(&sources(arguments, environment, folder)).unwrap()
}

fn refused(files: &[(&str, &str)]) -> Vec<String> {
    let folder = folder(files);
    let (_, problems) = examine(&sources(&[], &[], folder.path()));
    let root = folder.path().display().to_string();
    problems.iter().map(|problem: &Problem| problem.to_string().replace(&root, "DIR")).collect()
}

#[test]
fn the_stronger_source_wins_for_every_pair() {
    let folder = folder(&[
        ("config.toml", "gc_delay = '5secs'\n"),
        ("config.d/10.toml", "gc_delay = '4secs'\n"),
        ("config.d/20.toml", "gc_delay = '3secs'\n"),
        ("config.d/30.toml.bak", "gc_delay = 'nonsense'\n"),
    ]);
    let arguments = ["--gc_delay=0secs"];
    let environment = [("BERTH_GC_DELAY", "1secs"), ("MESOS_GC_DELAY", "2secs")];
    let delay = |arguments: &[&str], environment: &[(&str, &str)]| {
        resolved(arguments, environment, folder.path()).gc_delay.as_secs()
    };
    assert_eq!(delay(&arguments, &environment), 0);
    assert_eq!(delay(&[], &environment), 1);
    assert_eq!(delay(&[], &environment[1..]), 2);
    assert_eq!(delay(&[], &[]), 3);
    fs::remove_file(folder.path().join("config.d/20.toml")).unwrap();
    assert_eq!(delay(&[], &[]), 4);
    fs::remove_dir_all(folder.path().join("config.d")).unwrap();
    assert_eq!(delay(&[], &[]), 5);
    fs::remove_file(folder.path().join("config.toml")).unwrap();
    assert_eq!(delay(&[], &[]), 7 * 24 * 3600);
}

#[test]
fn where_a_value_comes_from_and_what_it_hides_is_remembered() {
    let folder = folder(&[("config.toml", "# a comment\ngc_delay = '5secs'\nstrict = false\n")]);
    let resolved = resolved(&["--gc-delay=1secs"], &[("MESOS_GC_DELAY", "2secs")], folder.path());
    let setting = resolved.setting("gc_delay").unwrap();
    assert_eq!(setting.origin, Origin::CommandLine("gc-delay".to_owned()));
    let file = |line| Origin::File { path: folder.path().join("config.toml"), line };
    assert_eq!(setting.shadowed, [Origin::Environment("MESOS_GC_DELAY".to_owned()), file(2)]);
    assert_eq!(resolved.setting("strict").unwrap().origin, file(3));
    assert!(!resolved.strict);
}

#[test]
fn what_a_stronger_source_gave_wrongly_is_not_taken_from_a_weaker_one() {
    let (_, problems) = given(&["--gc_delay=nonsense"], &[("BERTH_GC_DELAY", "1secs")]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].flag, Some("gc_delay"));
}

#[test]
fn variables_that_are_no_flags_are_left_alone_but_a_slip_is_mentioned() {
    let environment = [
        ("MESOS_SANDBOX", "/mnt"),
        ("MESOS_SOCKET", "/not/ours"),
        ("MESOS_NONSENSE", "1"),
        ("BERTH_BIN", "/bin/berth"),
        ("BERTH_WORKDIR", "/w"),
        ("PATH", "/bin"),
    ];
    let (resolved, problems) = given(&[], &environment);
    assert_eq!(problems, []);
    let resolved = resolved.unwrap();
    assert_eq!(resolved.socket.to_str(), Some("/run/berth/berth.sock"));
    assert_eq!(
        resolved.warnings,
        ["BERTH_WORKDIR is no flag and has no effect; did you mean BERTH_WORK_DIR?"]
    );
}

#[test]
fn the_types_of_toml_are_taken_where_they_fit() {
    let folder = folder(&[(
        "config.toml",
        "strict = false\ngc_disk_headroom = 0.25\nisolation = ['posix/cpu', 'posix/mem']\nlogging-level = 'WARNING'\n",
    )]);
    let resolved = resolved(&[], &[], folder.path());
    assert!(!resolved.strict);
    assert_eq!(resolved.gc_disk_headroom, 0.25);
    assert_eq!(resolved.factory.isolation, "posix/cpu,posix/mem");
    assert_eq!(resolved.gc_delay, Duration::from_secs(604_800));
}

#[test]
fn a_file_is_strict_and_says_where_it_is_wrong() {
    assert_eq!(
        refused(&[("config.toml", "strict = true\n\ngc_dely = '1secs'\n")]),
        ["Failed to load unknown flag 'gc_dely' (DIR/config.toml:3); did you mean gc_delay?"]
    );
    assert_eq!(
        refused(&[("config.d/1.toml", "gc_delay = 5\n")]),
        ["Failed to load flag 'gc_delay': 'a whole number' is not allowed: write it as a text in quotes \
          (DIR/config.d/1.toml:1); gc_delay is a duration such as 10secs, 5mins, 1weeks"]
    );
    assert_eq!(
        refused(&[("config.toml", "\ngc_delay = '5'\n")]),
        [
            "Failed to load flag 'gc_delay': Failed to load value '5': unknown unit '' in '5'; use one of ns, us, ms, \
          secs, mins, hrs, days, weeks (DIR/config.toml:2); gc_delay is a duration such as 10secs, 5mins, 1weeks"
        ]
    );
    let syntax = refused(&[("config.toml", "strict = true\nwork_dir = \n")]);
    assert!(syntax[0].contains("(DIR/config.toml:2); correct that line"), "{syntax:?}");
    let nested = refused(&[("config.toml", "[agent]\nstrict = true\n")]);
    assert!(nested[0].starts_with("Failed to load unknown flag 'agent' (DIR/config.toml:1)"), "{nested:?}");
    assert_eq!(
        refused(&[("config.toml", "gc_delay = '1secs'\ngc-delay = '1secs'\n")]),
        ["Flag 'gc_delay' is already loaded via name 'DIR/config.toml:1' (DIR/config.toml:2); give it once"]
    );
    let own = refused(&[("config.toml", "config_dir = '/etc'\n")]);
    assert!(
        own[0].starts_with("config_dir can not be set in a configuration file (DIR/config.toml:1)"),
        "{own:?}"
    );
}

#[test]
fn a_file_that_others_can_write_or_that_is_none_is_refused() {
    let folder = folder(&[("config.toml", "strict = true\n")]);
    let file = folder.path().join("config.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = || {
        let (_, problems) = examine(&sources(&[], &[], folder.path()));
        problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(refused().contains("its mode 0666 lets others change it; use chmod go-w"), "{}", refused());
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(refused().contains("it is not a regular file"), "{}", refused());
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(refused().contains("it is larger than 1048576 bytes"), "{}", refused());
}

#[test]
fn a_configuration_directory_that_was_named_must_be_there() {
    let (_, problems) = examine(&sources(&[], &[], Path::new("/nowhere/at/all")));
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "Failed to read the configuration file /nowhere/at/all: there is no such directory \
         (command line --config_dir); make it, or leave --config_dir away"
    );
}

#[test]
fn tcp_is_served_only_when_asked_for_and_on_this_host_unless_an_address_is_given() {
    let tcp = |arguments: &[&str]| {
        // What is said of it is tried in refusals.
        let resolved = crate::good(&[arguments, &["--no-authenticate_http_readwrite"]].concat());
        let exposed =
            resolved.warnings.iter().any(|warning| warning.contains("nobody is asked who they are"));
        (resolved.tcp.map(|address| address.to_string()), exposed)
    };
    assert_eq!(tcp(&[]), (None, false));
    assert_eq!(tcp(&["--port=0"]), (Some("127.0.0.1:0".to_owned()), true));
    assert_eq!(tcp(&["--ip=::1"]), (Some("[::1]:5051".to_owned()), true));
    assert_eq!(tcp(&["--ip=0.0.0.0", "--port=1"]), (Some("0.0.0.0:1".to_owned()), true));
}

#[test]
fn schedulers_are_served_only_when_asked_for_and_on_this_host_unless_an_address_is_given() {
    let of = |given: &str| {
        let resolved = crate::good(&[given, "--no-authenticate_http_readwrite"]);
        resolved.local_master.map(|master| (master.address.to_string(), master.allocation_interval.as_secs()))
    };
    assert_eq!(crate::good(&[]).local_master, None);
    assert_eq!(of("--local_master=127.0.0.1:0"), Some(("127.0.0.1:0".to_owned(), 1)));
    assert_eq!(of("--local_master=127.0.0.2"), Some(("127.0.0.2:5050".to_owned(), 1)));
    assert_eq!(of("--local_master=6060"), Some(("127.0.0.1:6060".to_owned(), 1)));
    assert_eq!(of("--local_master=[::1]:5050"), Some(("[::1]:5050".to_owned(), 1)));
}
