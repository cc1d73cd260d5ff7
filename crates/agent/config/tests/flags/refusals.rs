// SPDX-License-Identifier: Apache-2.0

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use berth_config::table::{State, rows};
use berth_config::{Ask, Problem, Sources, examine};
use berth_model::Class;
use proptest::prelude::*;

use crate::{given, refused};

#[test]
fn what_is_wrong_is_said_in_the_words_of_mesos_and_what_to_do_follows() {
    let cases: &[(&[&str], &str)] = &[
        (&["--nope=1"], "Failed to load unknown flag 'nope' (command line --nope); see --help for all flags"),
        (
            &["--no-nope"],
            "Failed to load unknown flag 'nope' via 'no-nope' (command line --no-nope); see --help for all flags",
        ),
        (
            &["--strict=maybe"],
            "Failed to load flag 'strict': Failed to load value 'maybe': Expecting a boolean (e.g., true or false) \
             (command line --strict); strict is true or false",
        ),
        (
            &["--work_dir"],
            "Failed to load non-boolean flag 'work_dir': Missing value (command line --work_dir); \
             write --work_dir=VALUE; work_dir is a path",
        ),
        (
            &["--no-work_dir"],
            "Failed to load non-boolean flag 'work_dir' via 'no-work_dir' (command line --no-work_dir); \
             leave it away to have its default",
        ),
        (
            &["--no-strict=true"],
            "Failed to load boolean flag 'strict' via 'no-strict' with value 'true' (command line --no-strict=true); \
             write --no-strict, or --strict=false",
        ),
        (
            &["--gc_delay=1weeks", "--gc-delay=2weeks"],
            "Flag 'gc_delay' is already loaded via name 'gc_delay' (command line --gc-delay); give it once",
        ),
        (
            &["--recover=maybe"],
            "Failed to load flag 'recover': Failed to load value 'maybe': Expecting one of reconnect, cleanup \
             (command line --recover); recover is one of reconnect, cleanup",
        ),
        (
            &["--work_dir="],
            "Failed to load flag 'work_dir': Failed to load value '': Expecting a path, not an empty text \
             (command line --work_dir); work_dir is a path",
        ),
        (
            &["--gc_disk_headroom=1.5"],
            "Failed to load flag 'gc_disk_headroom': '1.5' is not allowed: it is a part of the disk, from 0 to 1 \
             (command line --gc_disk_headroom); give a number such as 0.1",
        ),
        (
            &["--disk_watch_interval=0secs"],
            "Failed to load flag 'disk_watch_interval': '0ns' is not allowed: it must be more than nothing \
             (command line --disk_watch_interval); give a time such as 15secs",
        ),
        (
            &["--work_dir=/x", "--runtime_dir=/x"],
            "--work_dir and --runtime_dir are both '/x' (command line --runtime_dir); one survives reboots and the \
             other must not: give two directories",
        ),
        (
            &["--work_dir=/tmp"],
            "Failed to load flag 'work_dir': '/tmp' is not allowed: the agent owns this directory, and sets its mode \
             (command line --work_dir); name a directory that is for the agent alone",
        ),
        (
            &["start"],
            "Unexpected argument 'start'; the agent takes nothing but flags: --name=value, --name, --no-name",
        ),
    ];
    for (arguments, text) in cases {
        let text = text.replace("--no-strict=true)", "--no-strict)");
        assert_eq!(refused(arguments), [text], "{arguments:?}");
    }
}

#[test]
fn an_unknown_flag_is_refused_with_the_nearest_name() {
    for (wrong, meant) in [
        ("--workdir=/x", "--work_dir"),
        ("--isolaton=x", "--isolation"),
        ("--no-stricct", "--strict"),
        ("--containerizer=mesos", "--containerizers"),
        ("--Gc-Delay=1secs", "--gc_delay"),
    ] {
        let texts = refused(&[wrong]);
        assert!(texts[0].ends_with(&format!("did you mean {meant}?")), "{texts:?}");
    }
}

#[test]
fn a_value_behind_a_space_is_refused_with_the_spelling_that_works() {
    assert_eq!(
        refused(&["--work_dir", "/x"]),
        [
            "Failed to load non-boolean flag 'work_dir': Missing value (command line --work_dir); \
             write --work_dir=VALUE; work_dir is a path",
            "Unexpected argument '/x'; if it is the value of --work_dir, write --work_dir=VALUE",
        ]
    );
    let boolean = refused(&["--strict", "false"]);
    assert_eq!(
        boolean,
        ["Unexpected argument 'false'; if it is the value of --strict, write --strict=VALUE"]
    );
}

#[test]
fn no_flag_that_is_not_built_is_accepted_with_another_value() {
    for row in rows().filter(|row| row.state != State::Built) {
        use berth_factory::FlagKind as Kind;
        let value = match row.kind() {
            Kind::Bool if row.default == Some("true") => "false",
            Kind::Bool => "true",
            Kind::Text if !row.choices.is_empty() => "additive",
            Kind::Text => "anything",
            Kind::Path => "/elsewhere",
            Kind::Duration => "77secs",
            Kind::Bytes => "77MB",
            Kind::Integer | Kind::Number | Kind::Indices => "77",
            Kind::Json => "{\"a\":77}",
        };
        let argument = format!("--{}={value}", row.name);
        let (_, problems) = given(&[&argument], &[]);
        assert_eq!(problems.len(), 1, "{argument}: {problems:?}");
        assert_eq!(problems[0].class(), Class::Unsupported, "{argument}");
        let text = problems[0].to_string();
        let shown = if row.secret { "***" } else { value };
        let start = format!(
            "{} is known from Mesos but not built into this version of berth (value '{shown}') (command line --{})",
            row.name, row.name
        );
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains("leave it away"), "{text}");
    }
}

#[test]
fn a_deprecated_flag_says_what_to_use_instead() {
    let texts = refused(&["--hooks=org_example_Hook"]);
    assert!(texts[0].ends_with("it is deprecated, use --hooks_dir"), "{texts:?}");
}

#[test]
fn an_older_name_is_taken_with_a_warning_and_counts_as_the_same_flag() {
    let texts = refused(&["--slave_subsystems=cpu", "--agent_subsystems=cpu"]);
    assert!(
        texts
            .iter()
            .any(|text| text
                .starts_with("Flag 'agent_subsystems' is already loaded via name 'slave_subsystems'")),
        "{texts:?}"
    );
    let (resolved, problems) = given(&["--executor_secret_key=/k"], &[]);
    assert_eq!(problems.len(), 0);
    assert_eq!(
        resolved.unwrap().warnings,
        [
            "command line --executor_secret_key: 'executor_secret_key' is an older name of 'jwt_secret_key'; use that"
        ]
    );
}

#[test]
fn the_value_of_a_secret_is_never_shown() {
    for value in ["{\"auths\":\"hunter2\"", "{hunter2"] {
        let texts = refused(&[&format!("--docker_config={value}")]);
        assert!(!texts.join("\n").contains("hunter2"), "{texts:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let texts = refused(&["--nope=1", "--gc_delay=x", "--hooks=h", "--gc_disk_headroom=2"]);
    assert_eq!(texts.len(), 4, "{texts:?}");
}

#[test]
fn files_behind_values_are_read_only_if_they_are_files_of_a_sane_size() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    std::fs::write(&other, "file:///etc/passwd").unwrap();
    for (path, why) in [
        ("/dev/zero".to_owned(), "it is not a regular file"),
        ("/nowhere/x".to_owned(), "No such file or directory"),
        ("/tmp".to_owned(), "Is a directory"),
        (other.display().to_string(), "not the name of another file"),
    ] {
        let texts = refused(&[&format!("--resources=file://{path}")]);
        assert!(texts[0].contains(why), "{path}: {texts:?}");
    }
}

#[test]
fn a_socket_that_no_address_can_hold_is_refused() {
    let texts = refused(&[&format!("--runtime_dir=/{}", "r".repeat(100))]);
    assert!(texts[0].contains("a unix socket's path has at most 107 bytes, and this has 112"), "{texts:?}");
}

#[test]
fn help_and_version_are_heard_before_anything_else_is_read() {
    let ask = |arguments: &[&str]| {
        let arguments = arguments.iter().map(Into::into).collect();
        Sources { arguments, environment: Vec::new(), working_directory: "/".into() }.asks()
    };
    assert_eq!(ask(&["--nope", "--help"]), Some(Ask::Help));
    assert_eq!(ask(&["--version"]), Some(Ask::Version));
    assert_eq!(ask(&["--", "--help"]), None);
    assert_eq!(ask(&[]), None);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let bad = OsString::from_vec(vec![b'-', b'-', b'a', 0xff]);
    let environment = vec![("BERTH_WORK_DIR".into(), OsString::from_vec(vec![0xff]))];
    let sources = Sources { arguments: vec![bad], environment, working_directory: "/".into() };
    let (_, problems) = examine(&sources);
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert!(texts[0].starts_with("The argument '--a\u{fffd}' is not UTF-8"), "{texts:?}");
    assert!(texts[1].starts_with("The value of BERTH_WORK_DIR is not UTF-8"), "{texts:?}");
}

/// Command lines that are nearly right.
fn argument() -> impl Strategy<Value = String> {
    let names: Vec<&'static str> = rows().map(|row| row.name).collect();
    let name =
        prop_oneof![proptest::sample::select(names).prop_map(str::to_owned), "[a-z_-]{0,12}", "\\PC{0,12}",];
    let value =
        "(=([0-9]{1,25}[a-zA-Z]{0,5}|\\PC{0,20}|file://[a-z/]{0,5}|[\\[{\"]{1,40}|true|false|/[a-z]{0,5}))?";
    ("(--|--no-|-|)", name, value).prop_map(|(dashes, name, value)| format!("{dashes}{name}{value}"))
}

proptest! {
    #[test]
    fn any_command_line_is_read_or_refused(arguments in proptest::collection::vec(argument(), 0..6)) {
        let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (resolved, problems) = given(&texts, &[]);
        prop_assert!(resolved.is_some() || !problems.is_empty());
        for problem in problems {
            prop_assert!(!problem.to_string().is_empty());
        }
    }

    #[test]
    fn any_configuration_file_is_read_or_refused(text in "([a-z_]{1,12} = ([0-9]{1,5}|'[a-z]{0,5}'|\\[1, 2\\]|\\{a=1\\})?\n?){0,4}\\PC{0,20}") {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), &text).unwrap();
        let (resolved, problems) = examine(&crate::sources(&[], &[], folder.path()));
        prop_assert!(resolved.is_some() || !problems.is_empty());
    }
}

#[test]
fn what_is_no_address_to_serve_on_is_refused() {
    let [text] = &refused(&["--ip=localhost"])[..] else { panic!("one problem") };
    assert!(text.contains("it is no address of IPv4 or IPv6"), "{text}");
    let [text] = &refused(&["--port=65536"])[..] else { panic!("one problem") };
    assert!(text.contains("a port is a number from 0 to 65535"), "{text}");
}

#[test]
fn tcp_is_not_served_to_people_who_are_not_asked_who_they_are() {
    for asked in ["--port=5051", "--ip=127.0.0.1", "--ip=0.0.0.0", "--local_master=127.0.0.1:5050"] {
        let [text] = &refused(&[asked])[..] else { panic!("one problem") };
        assert!(text.contains("would be root of this host, and is not asked who they are"), "{text}");
        assert!(text.contains("--authenticate_http_readwrite and --http_credentials"), "{text}");
        // Whoever says that it is meant has it.
        crate::good(&[asked, "--no-authenticate_http_readwrite"]);
        let credentials = r#"--http_credentials={"credentials":[{"principal":"p","secret":"s"}]}"#;
        crate::good(&[asked, "--authenticate_http_readwrite", credentials]);
    }
}

#[test]
fn who_is_asked_who_they_are_must_have_something_to_say() {
    for asked in ["--authenticate_http_readwrite", "--authenticate_http_readonly"] {
        let [text] = &refused(&[asked])[..] else { panic!("one problem") };
        assert!(text.contains("asks everybody who they are, and nobody could tell"), "{text}");
    }
    for wrong in [r#"{}"#, r#"{"credentials":[]}"#, r#"{"credentials":[{"principal":"p","secret":7}]}"#] {
        let given = format!("--http_credentials={wrong}");
        let [text] = &refused(&["--authenticate_http_readwrite", &given])[..] else { panic!("one problem") };
        assert!(text.contains("'***' is not allowed: it is no list of principals"), "{text}");
    }
}

#[test]
fn a_local_master_has_an_address_and_its_flags_are_nothing_without_it() {
    let [text] = &refused(&["--local_master=here", "--no-authenticate_http_readwrite"])[..] else {
        panic!("one problem")
    };
    assert!(text.contains("it is no address with a port") && text.contains("127.0.0.1:5050"), "{text}");
    for given in ["--allocation_interval=5secs", "--offer_timeout=5secs"] {
        let [text] = &refused(&[given])[..] else { panic!("one problem") };
        assert!(text.contains("is of the local master, and there is none"), "{text}");
    }
}
