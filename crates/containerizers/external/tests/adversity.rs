// SPDX-License-Identifier: Apache-2.0
//! Programs that hang, die, flood, lie, and never read. Each has the documented failure, and nothing else suffers.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod ground;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_conformance::Site;
use berth_contract::{Containerizer, Error, EventLog, LaunchResult, Limits};
use berth_external::{Deadlines, External, Settings};
use berth_model::{Class, ContainerId, ExecutorInfo, Resources};
use ground::{failure, good, id};

/// What a program does that does nothing wrong. A `wait` ends when there is a file `end`, which `destroy` makes; it says
/// status = 0 (3). The usage is timestamp = 1.0 (1).
const WELL: &[(&str, &str)] = &[
    ("recover", ":"),
    ("containers", r"printf '\0\0\0\0'"),
    ("launch", "cat > /dev/null"),
    (
        "wait",
        r#"cat > /dev/null; while ! test -e "$ASIDE/end"; do sleep 0.05; done; printf '\002\000\000\000\030\000'"#,
    ),
    ("update", "cat > /dev/null"),
    ("usage", r"cat > /dev/null; printf '\011\0\0\0\011\0\0\0\0\0\0\360\077'"),
    ("destroy", r#"cat > /dev/null; : > "$ASIDE/end""#),
];

struct Ground {
    site: Site,
    aside: PathBuf,
}

impl Ground {
    fn new(name: &str) -> Ground {
        let site = Site::new(name).unwrap();
        let aside = ground::aside(&site);
        Ground { site, aside }
    }

    /// Makes the program one that differs from [`WELL`] in these subcommands.
    fn behave(&self, different: &[(&str, &str)]) -> String {
        let mut text = String::from("case $1 in\n");
        for (subcommand, does) in different.iter().chain(WELL) {
            text.push_str(&format!("{subcommand}) {does} ;;\n"));
        }
        ground::program(&self.site, &format!("{text}esac"))
    }

    fn settings(&self, different: &[(&str, &str)]) -> Settings {
        // Without the shell in between, whose pid it would be.
        let mut settings = ground::settings(&self.site, format!("exec {}", self.behave(different)));
        settings.environment.push(("ASIDE".into(), self.aside.clone().into()));
        settings.deadlines.grace = Duration::from_millis(300);
        settings
    }

    fn with(&self, different: &[(&str, &str)]) -> External {
        ground::recovered(self.settings(different))
    }

    /// With a container that runs.
    fn running(&self, different: &[(&str, &str)]) -> (External, ContainerId) {
        let (external, id) = (self.with(different), id("x"));
        ground::start(&external, &id, ground::config(&self.site, &id, "-"));
        (external, id)
    }

    fn launch_failure(&self, launch: &str) -> String {
        let (external, id) = (self.with(&[("launch", launch)]), id("x"));
        let config = ground::config(&self.site, &id, "-");
        let error = ground::launch(&external, &id, config).expect_err("the launch was meant to fail");
        // The record stays, and says so, until it is destroyed.
        assert_eq!(good(external.containers()), std::slice::from_ref(&id));
        good(external.destroy(&id));
        assert!(!external.knows(&id));
        error.to_string()
    }

    fn stderr(&self, id: &ContainerId) -> Vec<u8> {
        fs::read(self.site.sandboxes().join(id.value()).join("stderr")).unwrap_or_default()
    }
}

/// Nobody whose environment names the site is left.
fn nobody_is_left(site: &Site) {
    let marker = format!("SITE={}", site.marker());
    ground::until("no process of the program is left", || {
        let entries = fs::read_dir("/proc").unwrap();
        let living = entries.flatten().filter(|entry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.windows(marker.len()).any(|window| window == marker.as_bytes())
        });
        (living.count() == 0).then_some(())
    });
}

#[test]
fn a_launch_that_fails_says_how_and_what_the_program_said() {
    let ground = Ground::new("launch");
    assert_eq!(
        ground.launch_failure("cat > /dev/null; echo 'no such image' >&2; exit 7"),
        "Could not launch container 'x': Externel containerizer exited with status 7 \
         (its stderr ends with \"no such image\")"
    );
    assert!(
        ground.launch_failure("kill -9 $$").starts_with(
            "Could not launch container 'x': Externel containerizer terminated with signal Killed"
        )
    );
    let text = ground.launch_failure("exec > /dev/null 2>&1; /no/such/program");
    assert!(text.contains("exited with status 127"), "{text}");
}

#[test]
fn a_launch_that_can_not_begin_says_why() {
    let ground = Ground::new("begin");
    let (external, id) = (ground.with(&[]), id("x"));
    let config = ground::config(&ground.site, &id, "-");
    let launch = |config, pid| {
        let text = failure(external.launch(&id, config, Default::default(), pid));
        good(external.destroy(&id));
        text
    };
    let mut of_nobody = config.clone();
    of_nobody.user = Some("no-such-user".to_owned());
    assert_eq!(
        launch(of_nobody, None),
        "Launch of container 'x' failed: Failed to chown work directory: user 'no-such-user' is not in /etc/passwd"
    );
    let mut nowhere = config.clone();
    nowhere.directory = ground.aside.join("nowhere");
    let text = launch(nowhere, None);
    assert!(text.starts_with("Launch of container 'x' failed: Failed to execute"), "{text}");
    assert!(text.contains("nowhere"), "{text}");
    let above_is_a_file = ground.aside.join("program").join("forked.pid");
    assert_eq!(launch(config.clone(), Some(above_is_a_file)), "Could not checkpoint executor's pid");
    nobody_is_left(&ground.site);
    ground::start(&external, &id, config);
}

#[test]
fn a_program_that_can_not_be_started_is_the_failure_of_each_call() {
    let ground = Ground::new("none");
    let mut settings = ground.settings(&[]);
    settings.path = None;
    let external = External::new(settings, EventLog::default()).unwrap();
    assert_eq!(failure(external.recover(None)), "Recover failed: containerizer_path not set");
    let mut settings = ground.settings(&[]);
    settings.path = Some("/no/such/program".to_owned());
    let external = External::new(settings, EventLog::default()).unwrap();
    assert_eq!(
        failure(external.recover(None)),
        "Recover failed: Externel containerizer exited with status 127"
    );
}

#[test]
fn a_list_that_is_none_keeps_the_agent_from_starting() {
    let ground = Ground::new("list");
    let failing = |does: &str| {
        let mut settings = ground.settings(&[("containers", does)]);
        settings.deadlines.containers = Duration::from_millis(300);
        let external = External::new(settings, EventLog::default()).unwrap();
        failure(external.recover(None))
    };
    for (does, text) in [
        (":", "Could not receive any result"),
        (
            r"printf '\001'",
            "Could not receive any result: Failed to read size: hit EOF unexpectedly, possible corruption",
        ),
        (
            r"printf '\011\0\0\0abc'",
            "Could not receive any result: Failed to read message of size 9 bytes: hit EOF unexpectedly, possible \
             corruption",
        ),
        (r"printf '\002\0\0\0\377\377'", "Could not receive any result: Failed to deserialize message"),
        (r"printf '\0\0\0\0'; exit 4", "Externel containerizer exited with status 4"),
        (
            r"printf '\0\0\0\0'; kill -11 $$",
            "Externel containerizer terminated with signal Segmentation fault",
        ),
        ("sleep 1000", "External containerizer did not end within 300ms"),
        ("exec yes >&2", "External containerizer did not end within 300ms"),
    ] {
        let said = failing(does);
        assert!(said.starts_with(&format!("Containers failed: {text}")), "{does}: {said}");
    }
    // What follows a record is nobody's.
    ground.with(&[("containers", r"printf '\0\0\0\0and more'")]);
}

#[test]
fn a_recovery_that_hangs_or_fails_keeps_the_agent_from_starting() {
    let ground = Ground::new("hangs");
    let late = "External containerizer did not end within 200ms";
    for (does, text) in [
        ("sleep 1000 & sleep 1000", late),
        ("exec yes", late),
        ("exec yes >&2", late),
        ("kill -11 $$", "Externel containerizer terminated with signal Segmentation fault"),
        (
            "printf garbage; head -c 3000000 /dev/zero >&2; exit 7",
            "Externel containerizer exited with status 7",
        ),
    ] {
        let mut settings = ground.settings(&[("recover", does)]);
        settings.deadlines.recover = Duration::from_millis(200);
        let external = External::new(settings, EventLog::default()).unwrap();
        let said = failure(external.recover(None));
        assert!(said.starts_with(&format!("Recover failed: {text}")), "{does}: {said}");
        nobody_is_left(&ground.site);
    }
    // It has nothing to say, and whatever it says is nobody's.
    ground.with(&[("recover", "printf garbage")]);
}

#[test]
fn usage_and_update_that_fail_do_not_harm_the_container() {
    let ground = Ground::new("usage");
    let mut settings = ground.settings(&[]);
    settings.deadlines = Deadlines {
        usage: Duration::from_millis(300),
        update: Duration::from_millis(300),
        ..settings.deadlines
    };
    let external = ground::recovered(settings);
    let id = id("x");
    ground::start(&external, &id, ground::config(&ground.site, &id, "-"));
    let late = "External containerizer did not end within 300ms";
    for (does, text) in [
        (":", "Could not receive any result"),
        (r"printf '\011\0'", "Could not receive any result: Failed to read size: hit EOF"),
        (r"printf '\004\0\0\0garb'", "Could not receive any result: Failed to deserialize message"),
        (r"printf '\0\0\0\0'", "Could not receive any result: Failed to deserialize message"),
        (
            r"printf '\377\377\377\377'",
            "Could not receive any result: Failed to read message of size 4294967295",
        ),
        ("kill -11 $$", "Externel containerizer terminated with signal Segmentation fault"),
        // The status is judged before the message.
        (
            r"printf '\011\0\0\0\011\0\0\0\0\0\0\360\077'; exit 3",
            "Externel containerizer exited with status 3",
        ),
        ("sleep 1000", late),
        ("yes", late),
        ("exec yes >&2", late),
        // One that closes everything and stays.
        ("exec < /dev/null > /dev/null 2>&1; sleep 1000", late),
    ] {
        ground.behave(&[("usage", does)]);
        let said = failure(external.usage(&id));
        assert!(said.starts_with(&format!("Usage on container 'x' failed: {text}")), "{does}: {said}");
    }
    for (does, text) in [
        ("exit 5", "Externel containerizer exited with status 5"),
        ("kill -11 $$", "Externel containerizer terminated with signal Segmentation fault"),
        ("sleep 1000", late),
        ("exec yes >&2", late),
        ("exec yes", late),
        // What nobody asked for does not matter.
        ("head -c 3000000 /dev/zero >&2; exit 5", "Externel containerizer exited with status 5"),
    ] {
        ground.behave(&[("update", does)]);
        let said = failure(external.update(&id, Resources::default(), Limits::new()));
        assert!(said.starts_with(&format!("Update of container 'x' failed: {text}")), "{does}: {said}");
    }
    // Of each call a MiB at most, and three of them were floods.
    assert!(ground.stderr(&id).len() <= 3 << 20, "a flood is not kept");
    ground.behave(&[]);
    assert_eq!(good(external.usage(&id)).timestamp, 1.0);
    good(external.update(&id, Resources::default(), Limits::new()));
    assert_eq!(good(external.containers()), std::slice::from_ref(&id));
    assert_eq!(good(external.destroy(&id)).unwrap().status, Some(0), "the word of its `wait`");
    drop(external);
    nobody_is_left(&ground.site);
}

#[test]
fn a_wait_that_fails_ends_the_container_with_the_reason() {
    for (number, (does, text)) in [
        ("kill -9 $$", "Externel containerizer terminated with signal Killed"),
        ("exit 6", "Externel containerizer exited with status 6"),
        (":", "Could not receive any result"),
        (r"printf '\004\0\0\0garb'", "Could not receive any result: Failed to deserialize message"),
        ("head -c 3000000 /dev/zero >&2; exit 6", "Externel containerizer exited with status 6"),
    ]
    .into_iter()
    .enumerate()
    {
        let ground = Ground::new(&format!("wait{number}"));
        let (external, id) = ground.running(&[("wait", does)]);
        let termination = ground::ended(&external, &id);
        assert_eq!((termination.status, termination.message.as_deref()), (None, Some(text)), "{does}");
        assert!(ground.aside.join("end").exists(), "the program was not told to let go of it");
        good(external.remove(&id));
    }
}

#[test]
fn a_complete_message_counts_though_wait_exits_with_the_containers_own_status() {
    let ground = Ground::new("lenient");
    let (external, id) = ground.running(&[("wait", r"printf '\003\0\0\0\030\200\006'; exit 3")]);
    let termination = ground::ended(&external, &id);
    assert_eq!((termination.status, termination.message), (Some(3 << 8), None));
}

#[test]
fn a_destroy_that_fails_or_hangs_still_ends_the_wait_and_says_so() {
    for (number, (does, text)) in [
        ("exit 9", "Destroy of container 'x' failed: Externel containerizer exited with status 9"),
        (
            "kill -9 $$",
            "Destroy of container 'x' failed: Externel containerizer terminated with signal Killed",
        ),
        ("exec yes >&2", "Destroy of container 'x' failed: External containerizer did not end within 300ms"),
        (
            "head -c 3000000 /dev/zero >&2; printf garbage; exit 9",
            "Destroy of container 'x' failed: Externel containerizer exited with status 9",
        ),
        ("sleep 1000", "Destroy of container 'x' failed: External containerizer did not end within 300ms"),
    ]
    .into_iter()
    .enumerate()
    {
        let ground = Ground::new(&format!("destroy{number}"));
        // What `wait` starts is in its session, and in a group of its own it still is.
        let mut settings =
            ground.settings(&[("destroy", does), ("wait", "sleep 1000 & set -m; sleep 1000 & wait")]);
        settings.deadlines.destroy = Duration::from_millis(300);
        let external = ground::recovered(settings);
        let id = id("x");
        ground::start(&external, &id, ground::config(&ground.site, &id, "-"));
        let termination = good(external.destroy(&id)).unwrap();
        assert_eq!(termination.status, Some(9), "the raw status of the killed `wait`");
        let message = termination.message.unwrap();
        assert!(message.starts_with(text), "{message}");
        nobody_is_left(&ground.site);
    }
}

#[test]
fn a_program_that_never_reads_a_large_message_blocks_nobody() {
    let ground = Ground::new("unread");
    let large = |id: &ContainerId| {
        let mut config = ground::config(&ground.site, id, "-");
        config.executor_info = Some(ExecutorInfo { data: vec![7; 1 << 20], ..ExecutorInfo::default() });
        config
    };
    let mut settings = ground.settings(&[("launch", r#": > "$ASIDE/started"; sleep 1000"#)]);
    settings.deadlines.launch = Duration::from_secs(2);
    let external = ground::recovered(settings);
    let (stuck, other) = (id("stuck"), id("other"));
    let launch = external.launch(&stuck, large(&stuck), Default::default(), None);
    ground::until("the program runs", || ground.aside.join("started").exists().then_some(()));
    ground.behave(&[]);
    ground::start(&external, &other, ground::config(&ground.site, &other, "-"));
    assert_eq!(good(external.usage(&other)).timestamp, 1.0);
    let text = failure(launch);
    assert!(
        text.starts_with("Could not launch container 'stuck': External containerizer did not end within 2s")
    );
    // One that ends without having read it has failed, and the pipe's signal kills nobody.
    for (does, text) in [
        ("exit 0", "Launch of container 'early' failed: Failed to write protobuf to pipe: Broken pipe"),
        (
            "exec < /dev/null; sleep 0.2",
            "Launch of container 'early' failed: Failed to write protobuf to pipe: Broken pipe",
        ),
        ("exit 3", "Could not launch container 'early': Externel containerizer exited with status 3"),
    ] {
        ground.behave(&[("launch", does)]);
        let early = id("early");
        let error = ground::launch(&external, &early, large(&early)).unwrap_err();
        assert_eq!(error.to_string(), text);
        good(external.destroy(&early));
    }
    // A small one fits the pipe, so who does not look at it has not failed for that.
    ground.behave(&[("launch", "exit 0")]);
    let small = id("small");
    ground::start(&external, &small, ground::config(&ground.site, &small, "-"));
    // And one that is read, is read whole.
    ground.behave(&[("launch", r#"head -c 4 > "$ASIDE/size"; cat > "$ASIDE/body""#)]);
    let whole = id("whole");
    ground::start(&external, &whole, large(&whole));
    let size = fs::read(ground.aside.join("size")).unwrap();
    let body = fs::read(ground.aside.join("body")).unwrap();
    assert_eq!(u32::from_ne_bytes(size.try_into().unwrap()) as usize, body.len());
    assert!(body.len() > 1 << 20);
}

#[test]
fn a_launch_that_writes_without_end_to_its_stdout_or_stderr_has_not_failed_for_that() {
    let ground = Ground::new("floods");
    let (external, id) = ground
        .running(&[("launch", "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; cat > /dev/null")]);
    assert_eq!(ground.stderr(&id).len(), 3_000_000);
    assert_eq!(good(external.destroy(&id)).unwrap().status, Some(0));
}

#[test]
fn what_a_launch_leaves_behind_goes_on_writing_to_the_sandbox_also_without_us() {
    let ground = Ground::new("daemon");
    let later = r#"cat > /dev/null; setsid sh -c 'while ! test -e "$ASIDE/go"; do sleep 0.02; done; echo later >&2' &"#;
    let begun = Instant::now();
    let (external, id) = ground.running(&[("launch", later)]);
    assert!(begun.elapsed() < Duration::from_secs(30), "it was waited for");
    assert_eq!(ground.stderr(&id), b"");
    drop(external);
    fs::write(ground.aside.join("go"), "").unwrap();
    ground::until("its words are there", || (ground.stderr(&id) == b"later\n").then_some(()));
    nobody_is_left(&ground.site);
}

#[test]
fn nothing_that_a_container_puts_in_place_of_stderr_is_followed() {
    let ground = Ground::new("link");
    let victim = ground.aside.join("victim");
    fs::write(&victim, "as it was").unwrap();
    let id = id("x");
    let config = ground::config(&ground.site, &id, "-");
    let place = config.directory.join("stderr");
    let external = ground.with(&[
        ("launch", "cat > /dev/null; echo harm >&2"),
        ("usage", r"echo harm >&2; printf '\011\0\0\0\011\0\0\0\0\0\0\360\077'"),
    ]);
    symlink(&victim, &place).unwrap();
    ground::start(&external, &id, config);
    good(external.usage(&id));
    fs::remove_file(&place).unwrap();
    fs::hard_link(&victim, &place).unwrap();
    good(external.usage(&id));
    fs::remove_file(&place).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&place).status().unwrap().success());
    good(external.usage(&id));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was");
}

#[test]
fn a_launch_that_hangs_is_ended_by_a_destroy_at_once() {
    let ground = Ground::new("hung");
    let external = ground.with(&[("launch", r#": > "$ASIDE/started"; sleep 1000 & sleep 1000"#)]);
    let id = id("x");
    let launch = external.launch(&id, ground::config(&ground.site, &id, "-"), Default::default(), None);
    let update = external.update(&id, Resources::default(), Limits::new());
    ground::until("the program runs", || ground.aside.join("started").exists().then_some(()));
    assert!(good(external.destroy(&id)).is_some());
    assert_eq!(failure(launch), "Container destroyed during preparing");
    good(update);
    assert!(ground.aside.join("end").exists(), "the program was not told to let go of it");
    assert!(!external.knows(&id));
    nobody_is_left(&ground.site);
}

#[test]
fn sigkill_is_a_destroy_and_other_signals_are_refused() {
    let ground = Ground::new("signal");
    let (external, id) = ground.running(&[]);
    let Err(error) = ground::answer(external.kill(&id, 15)) else { panic!("there is no word for SIGTERM") };
    assert!(matches!(error, Error::Unsupported) && error.class() == Class::Unsupported);
    assert!(good(external.kill(&id, 0)));
    assert_eq!(good(external.containers()), std::slice::from_ref(&id));
    assert!(good(external.kill(&id, 9)));
    assert_eq!(ground::ended(&external, &id).status, Some(0), "as its `wait` says");
    assert!(!good(external.kill(&id, 9)));
}

#[test]
fn a_status_is_not_supported_only_if_the_operator_says_so() {
    let ground = Ground::new("status");
    let id = id("x");
    let external = ground.with(&[("launch", "exit 3")]);
    let error = ground::launch(&external, &id, ground::config(&ground.site, &id, "-")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Could not launch container 'x': Externel containerizer exited with status 3"
    );
    good(external.destroy(&id));
    drop(external);
    let mut settings = ground.settings(&[("launch", "exit 3")]);
    settings.not_supported_status = Some(3);
    let external = ground::recovered(settings);
    let launched = ground::launch(&external, &id, ground::config(&ground.site, &id, "-"));
    assert_eq!(launched.map_err(|error| error.chain()), Ok(LaunchResult::NotSupported));
    assert!(!external.knows(&id));
}

#[test]
fn two_hundred_waiting_containers_do_not_slow_other_calls() {
    const MANY: usize = 200;
    let ground = Ground::new("many");
    let mut settings = ground.settings(&[("wait", "exec sleep 1000"), ("destroy", "exit 0")]);
    settings.deadlines.grace = Duration::ZERO;
    let external = ground::recovered(settings);
    let ids: Vec<ContainerId> = (0..MANY).map(|number| id(&format!("c{number}"))).collect();
    let start = |id: &ContainerId| {
        (id.clone(), external.launch(id, ground::config(&ground.site, id, "-"), Default::default(), None))
    };
    let median = |id: &ContainerId| {
        let mut times: Vec<Duration> = (0..15)
            .map(|_| {
                let begun = Instant::now();
                good(external.usage(id));
                begun.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    assert_eq!(good(start(&ids[0]).1), LaunchResult::Success);
    let alone = median(&ids[0]);
    let launches: Vec<_> = ids[1..].iter().map(start).collect();
    for (id, launch) in launches {
        assert_eq!(ground::answer(launch).map_err(|error| error.chain()), Ok(LaunchResult::Success), "{id}");
    }
    assert_eq!(good(external.containers()).len(), MANY);
    let beside = median(&ids[0]);
    println!("usage with 1 waiting container: {alone:?}; with {MANY}: {beside:?}");
    // Loose, for busy machines; in Mesos 0.26 so many would stall every call.
    assert!(beside < alone * 4 + Duration::from_millis(250), "{alone:?} became {beside:?}");
    let destroys: Vec<_> = ids.iter().map(|id| external.destroy(id)).collect();
    for destroy in destroys {
        assert_eq!(good(destroy).unwrap().status, Some(9));
    }
    drop(external);
    nobody_is_left(&ground.site);
}

#[test]
fn the_metrics_say_how_the_program_does() {
    let ground = Ground::new("health");
    let says = |external: &External, name: &str| {
        let name = format!("containerizer/external/{name}");
        external.metrics().into_iter().find(|(known, _)| *known == name).expect("it is there").1
    };
    // It hangs when there is a file, and is gone when there is another.
    let usage = r#"cat > /dev/null; test -e "$ASIDE/hang" && sleep 1000; test -e "$ASIDE/gone" && exec /no/such/program; \
                   printf '\011\0\0\0\011\0\0\0\0\0\0\360\077'"#;
    let mut settings = ground.settings(&[("usage", usage)]);
    settings.deadlines = Deadlines { usage: Duration::from_secs(1), ..settings.deadlines };
    let external = ground::recovered(settings);
    let id = id("x");
    ground::start(&external, &id, ground::config(&ground.site, &id, "-"));
    good(external.usage(&id));
    assert_eq!((says(&external, "program_up"), says(&external, "calls_failed")), (1.0, 0.0));
    fs::write(ground.aside.join("hang"), "").unwrap();
    failure(external.usage(&id));
    assert_eq!((says(&external, "program_up"), says(&external, "calls_late")), (0.0, 1.0));
    fs::remove_file(ground.aside.join("hang")).unwrap();
    good(external.usage(&id));
    assert_eq!((says(&external, "program_up"), says(&external, "calls_failed")), (1.0, 1.0));
    fs::write(ground.aside.join("gone"), "").unwrap();
    failure(external.usage(&id));
    assert_eq!((says(&external, "program_up"), says(&external, "calls_failed")), (0.0, 2.0));
    good(external.destroy(&id));
    assert_eq!(says(&external, "program_up"), 1.0);
    assert!(says(&external, "calls") >= 6.0);
}
