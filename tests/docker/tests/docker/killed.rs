// SPDX-License-Identifier: Apache-2.0
//! The agent is killed in each state of a container, and the next one ends it: nothing is left, and what is told is exact.

use crate::{ground_of, leave, start};
use berth_test_agent::{Ground, until};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::thread;

/// Takes connections, and never says a word.
fn silent() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            held.push(stream);
        }
    });
    port
}

/// `berth run --detach`, which is under way.
fn run(ground: &Ground, name: &str, options: &[String], image: &str, script: &str) -> Child {
    let mut arguments: Vec<String> =
        ["run", "-d", "--containerizer", "docker", "--network", "none", "--name", name]
            .map(str::to_owned)
            .into();
    arguments.extend_from_slice(options);
    arguments.extend([image, "/bin/sh", "-c", script].map(str::to_owned));
    ground.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn is(ground: &Ground, name: &str, state: &str) {
    until(&format!("{name} is {state}"), || ground.api().state(name).is_ok_and(|now| now == state));
}

#[test]
fn an_agent_that_is_killed_in_any_state_leaves_nothing_and_tells_the_truth() {
    let Some((mut ground, engine)) =
        ground_of("an_agent_that_is_killed_in_any_state_leaves_nothing_and_tells_the_truth")
    else {
        return;
    };
    let before = engine.ledger();
    let port = silent();
    let image = crate::daemon::IMAGE;
    for state in ["FETCHING", "PULLING", "MOUNTING"] {
        let name = ground.name(state.to_lowercase());
        let mut options = Vec::new();
        let mut from = image.to_owned();
        match state {
            "FETCHING" => options = vec!["--uri".to_owned(), format!("http://127.0.0.1:{port}/never")],
            "PULLING" => from = format!("127.0.0.1:{port}/never:1"),
            // The engine is asked for the container, and does not answer yet.
            _ => {}
        }
        let mut client = run(&ground, &name, &options, &from, "exec sleep 1000");
        if state == "MOUNTING" {
            // However far it came, it is stopped there: between the question for the image and the start.
            thread::sleep(std::time::Duration::from_millis(60));
            engine.signal("STOP");
            until("it is somewhere on its way", || ground.api().state(&name).is_ok());
        } else {
            is(&ground, &name, state);
        }
        ground.kill();
        client.wait().unwrap();
        if state == "MOUNTING" {
            engine.signal("CONT");
        }
        start(&mut ground, &engine);
        // Nobody was told that it runs.
        let _ = ground.api().destroy(&name);
        until(&format!("nothing of {state} is left"), || engine.ledger() == before);
        assert!(!ground.api().all().unwrap().contains(&name), "{state}");
    }

    // RUNNING: it goes on, its output too, and its end between two agents is known.
    let (runs, ends) = (ground.name("runs"), ground.name("ends"));
    let script = "cd $MESOS_SANDBOX; echo up; while [ ! -e go ]; do sleep 0.05; done; echo went; exit 7";
    for name in [&runs, &ends] {
        assert!(run(&ground, name, &[], image, script).wait().unwrap().success());
        ground.api().wrote(name, "up\n");
    }
    ground.kill();
    std::fs::write(ground.sandbox(&ends).join("go"), "").unwrap();
    until("it has ended", || {
        engine.says(&["inspect", "-f", "{{.State.Running}}", &format!("mesos-{ends}")]) == "false"
    });
    start(&mut ground, &engine);
    is(&ground, &runs, "RUNNING");
    std::fs::write(ground.sandbox(&runs).join("go"), "").unwrap();
    for name in [&runs, &ends] {
        assert_eq!(ground.api().code(name).unwrap(), Some(7), "{name}");
        assert_eq!(ground.api().logs(name).unwrap().0, "up\nwent\n", "{name}");
        ground.api().remove(name).unwrap();
    }

    // In the midst of its end: the process is gone, and the engine does not say so.
    let name = ground.name("ends2");
    assert!(run(&ground, &name, &[], image, "echo up; exec sleep 1000").wait().unwrap().success());
    ground.api().wrote(&name, "up\n");
    engine.signal("STOP");
    ground.api().kill(&name, 9).unwrap();
    ground.kill();
    engine.signal("CONT");
    start(&mut ground, &engine);
    assert_eq!(ground.api().code(&name).unwrap(), Some(137));
    ground.api().remove(&name).unwrap();
    leave(ground, &engine, &before);
}

#[test]
fn neighbours_are_answered_while_the_engine_is_stopped() {
    let Some((ground, engine)) = ground_of("neighbours_are_answered_while_the_engine_is_stopped") else {
        return;
    };
    let before = engine.ledger();
    let (native, foreign) = (ground.name("native"), ground.name("foreign"));
    let api = ground.api();
    assert!(run(&ground, &foreign, &[], crate::daemon::IMAGE, "exec sleep 1000").wait().unwrap().success());
    engine.signal("STOP");
    // As long as the issue says, where there is time for it.
    let long = berth_test_agent::long();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(if long { 60 } else { 6 });
    let mut slowest = std::time::Duration::ZERO;
    while std::time::Instant::now() < until {
        api.launch(&native, &berth_test_agent::shell("exec sleep 1000")).unwrap();
        for _ in 0..10 {
            let begun = std::time::Instant::now();
            assert_eq!(api.living().unwrap().len(), 2);
            api.inspect(&native).unwrap();
            api.inspect(&foreign).unwrap();
            slowest = slowest.max(begun.elapsed() / 3);
        }
        api.destroy(&native).unwrap();
    }
    println!("the slowest answer beside a stopped engine took {slowest:?}");
    assert!(slowest < std::time::Duration::from_millis(100) * berth_test_agent::slow(), "{slowest:?}");
    engine.signal("CONT");
    api.destroy(&foreign).unwrap();
    leave(ground, &engine, &before);
}
