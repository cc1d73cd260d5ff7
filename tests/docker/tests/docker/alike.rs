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
