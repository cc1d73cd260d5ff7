// SPDX-License-Identifier: Apache-2.0
//! The command line: the same words for each technology.

use crate::{ground_of, leave};

#[test]
fn every_command_works_alike_for_each_containerizer() {
    let Some((ground, engine)) = ground_of("every_command_works_alike_for_each_containerizer") else {
        return;
    };
    let before = engine.ledger();
    let script = "echo up; trap 'exit 5' TERM; while :; do sleep 0.1; done";
    for containerizer in ["mesos", "docker"] {
        let name = ground.name(containerizer);
        let mut words =
            vec!["run", "-d", "--containerizer", containerizer, "--name", &name, "--memory", "64m"];
        words.extend(if containerizer == "docker" {
            [crate::daemon::IMAGE, "/bin/sh"]
        } else {
            ["--", "/bin/sh"]
        });
        words.extend(["-c", script]);
        assert_eq!(ground.berth(&words).good().trim(), name);
        ground.api().wrote(&name, "up\n");
        let says = |words: &[&str]| ground.berth(words).good().to_owned();
        assert!(says(&["ps"]).contains(&name));
        assert_eq!(says(&["logs", &name]), "up\n");
        assert_eq!(says(&["exec", &name, "/bin/sh", "-c", "echo inside"]), "inside\n");
        assert_eq!(ground.berth(["exec", &name, "/bin/sh", "-c", "exit 9"]).code, Some(9));
        assert!(
            says(&["stats", "--no-stream", &name]).contains("64"),
            "{}",
            says(&["stats", "--no-stream", &name])
        );
        says(&["update", "--memory", "96m", &name]);
        let inspected = says(&["inspect", &name]);
        if containerizer == "docker" {
            assert!(inspected.contains(&format!("mesos-{name}")), "{inspected}");
            let memory = engine.says(&["inspect", "-f", "{{.HostConfig.Memory}}", &format!("mesos-{name}")]);
            assert_eq!(memory, (96 << 20).to_string());
        }
        says(&["stop", &name]);
        assert_eq!(ground.api().code(&name).unwrap(), Some(5), "{containerizer}");
        says(&["rm", &name]);
    }
    // To its end, with its output and its status.
    let done = ground.berth([
        "run",
        "--containerizer",
        "docker",
        "--network",
        "none",
        "--rm",
        crate::daemon::IMAGE,
        "/bin/sh",
        "-c",
        "echo out; exit 4",
    ]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(4), "out\n"));
    let none = ground.berth(["run", "--containerizer", "docker", "--", "true"]);
    assert!(none.stderr.contains("needs an image"), "{}", none.stderr);
    leave(ground, &engine, &before);
}

#[test]
fn what_an_operators_program_runs_is_used_by_the_same_commands() {
    let test = "what_an_operators_program_runs_is_used_by_the_same_commands";
    if let Some(lacked) = berth_testing::lacks(&["python3"]) {
        return berth_test_agent::skip(test, &lacked);
    }
    let Some((mut ground, engine)) = ground_of(test) else { return };
    let before = engine.ledger();
    ground.stop();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/external-containerizer.py");
    let flags = ["docker,mesos,external".to_owned(), format!("exec /usr/bin/python3 -BSE {example}")];
    let flags = [format!("--containerizers={}", flags[0]), format!("--containerizer_path={}", flags[1])];
    crate::start_with(&mut ground, &engine, &flags);
    let says = |words: &[&str]| {
        let exit = ground.berth(words);
        assert_eq!(exit.code, Some(0), "{words:?}: {exit:?}");
        exit.stdout
    };
    let name = ground.name("external");
    let script = "echo up; trap 'exit 5' TERM; while :; do sleep 0.1; done";
    let run = ["run", "-d", "--containerizer", "external", "--name", &name, "--", "/bin/sh", "-c", script];
    assert_eq!(says(&run).trim(), name);
    ground.api().wrote(&name, "up\n");
    assert!(says(&["ps"]).contains(&name));
    assert_eq!(says(&["logs", &name]), "up\n");
    assert!(says(&["inspect", &name]).contains("\"EXTERNAL\""), "{}", says(&["inspect", &name]));
    assert!(says(&["stats", "--no-stream", &name]).contains(&name));
    says(&["update", "--memory", "96m", &name]);
    // Its protocol has no words for these.
    for words in [&["exec", &name, "true"][..], &["pause", &name], &["kill", "-s", "TERM", &name]] {
        let exit = ground.berth(words);
        assert!(exit.code != Some(0) && exit.stderr.contains("Unsupported"), "{words:?}: {exit:?}");
    }
    // Nor for asking it to end: it is ended.
    says(&["stop", &name]);
    assert_eq!(ground.api().code(&name).unwrap(), Some(137));
    says(&["rm", &name]);
    // To its end.
    let run = ["run", "--containerizer", "external", "--rm", "--", "/bin/sh", "-c", "echo out; exit 4"];
    let done = ground.berth(run);
    assert_eq!((done.code, done.stdout.as_str()), (Some(4), "out\n"));
    ground.stop();
    for place in [ground.runtime_dir(), ground.work_dir()] {
        std::fs::remove_dir(place.join("external")).unwrap();
    }
    crate::start(&mut ground, &engine);
    leave(ground, &engine, &before);
}
