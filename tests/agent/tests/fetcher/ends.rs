// SPDX-License-Identifier: Apache-2.0
//! A fetch that is cut short: by a destroy, by a signal to the command line, by the death of the agent.

use crate::server::{Server, head, stall};
use crate::{cached, command, ground, leave};
use berth_client::{Agent, Launch};
use berth_model::Uri;
use berth_proto::own::event;
use berth_test_agent::{Ground, soon, until};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Below the minute after which a server that stalls is given up, and far above what ending a process takes on a busy
/// machine.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Sends a part of what it announces.
fn server() -> Server {
    Server::new(|_, stream| {
        head(stream, "200 OK", 100 << 20, "");
        let _ = stream.write_all(&vec![b'x'; 3 << 20]);
        stall(stream);
    })
}

/// The command lines of fetching children.
fn children(ground: &Ground) -> usize {
    ground.processes().iter().filter(|process| process.contains("fetch-role")).count()
}

fn is_fetching(ground: &Ground, name: &str) -> bool {
    ground.api().state(name).is_ok_and(|state| state == "FETCHING")
}

fn launch(ground: &Ground, name: &str, uri: Uri) -> Result<berth_client::Launched, berth_client::Error> {
    let launch = Launch { command: command("true", vec![uri]), ..Launch::default() };
    let id = name.parse().unwrap();
    ground.api().on(async |c| c.launch(&id, &launch).await)
}

#[test]
fn a_destroy_ends_a_fetch_at_once_and_a_shared_download_with_the_last_of_its_containers() {
    let ground =
        ground!(a_destroy_ends_a_fetch_at_once_and_a_shared_download_with_the_last_of_its_containers);
    let server = server();
    let names = [ground.name("a"), ground.name("b")];
    std::thread::scope(|scope| {
        let launches = names.each_ref().map(|name| {
            let (ground, uri) = (&ground, cached(server.url("file")));
            scope.spawn(move || launch(ground, name, uri))
        });
        for (name, launch) in names.iter().zip(launches) {
            until(&format!("{name} is in FETCHING"), || is_fetching(&ground, name));
            until("it has a child", || server.asked() > 0);
            let begun = Instant::now();
            ground.api().kill(name, 9).unwrap();
            let error = launch.join().unwrap().unwrap_err().to_string();
            assert!(error.contains("Container destroyed during fetching"), "{error}");
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        }
    });
    assert_eq!(server.asked(), 1);
    until("the download has ended", || {
        std::fs::read_dir(ground.work_dir().join("fetch/files")).unwrap().count() == 0
    });
    leave(ground);
}

#[test]
fn a_killed_agent_takes_its_fetches_along_and_leaves_nothing() {
    let mut ground = ground!(a_killed_agent_takes_its_fetches_along_and_leaves_nothing);
    let server = server();
    let names = [ground.name("direct"), ground.name("cached")];
    std::thread::scope(|scope| {
        let direct = Uri { extract: true, value: server.url("file"), ..Uri::default() };
        for (name, uri) in names.iter().zip([direct, cached(server.url("other"))]) {
            let api = ground.api();
            scope.spawn(move || {
                let launch = Launch { command: command("true", vec![uri]), ..Launch::default() };
                let id = name.parse().unwrap();
                api.on(async |c| c.launch(&id, &launch).await).unwrap_err();
            });
        }
        for name in &names {
            until(&format!("{name} is in FETCHING"), || is_fetching(&ground, name));
        }
        until("both downloads have begun", || server.asked() == 2);
        ground.kill();
    });
    until("no child is left", || children(&ground) == 0);
    ground.start();
    assert_eq!(ground.api().all().unwrap(), [""; 0], "nobody knows of the containers");
    for name in &names {
        assert!(!ground.sandbox(name).exists());
    }
    leave(ground);
}

#[test]
fn a_signal_to_the_command_line_ends_the_fetch_with_its_container() {
    let ground = ground!(a_signal_to_the_command_line_ends_the_fetch_with_its_container);
    let socket = ground.socket().display().to_string();
    for agent in [true, false] {
        let server = server();
        let (name, uri) = (ground.name("c"), server.url("file"));
        let mut words = vec!["run", "--rm", "--name", &name, "--uri", &uri];
        words.extend(agent.then_some(["--socket", &socket]).into_iter().flatten());
        words.extend(["--", "true"]);
        let mut command = ground.command(&words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("its download has begun", || server.asked() > 0);
        let begun = Instant::now();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let output = ground.output(child, "berth run");
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        assert!(String::from_utf8_lossy(&output.stderr).contains("ended by a signal"), "{output:?}");
    }
    until("no child is left", || children(&ground) == 0);
    leave(ground);
}

#[test]
fn how_far_a_fetch_is_is_told_in_events() {
    let ground = ground!(how_far_a_fetch_is_is_told_in_events);
    let server = server();
    let (name, uri) = (ground.name("c"), server.url("file"));
    let agent = Agent::at(ground.socket());
    std::thread::scope(|scope| {
        let seen = scope.spawn(move || {
            berth_client::block_on(async {
                let mut events = agent.events(None).await?;
                let limit = soon();
                while let Some(event) = events.next().await? {
                    assert!(Instant::now() < limit, "no event of it in time");
                    if event.r#type() == event::Type::Advanced {
                        return Ok::<_, berth_client::Error>(event.advance);
                    }
                }
                Ok(None)
            })
        });
        let launching = scope.spawn(|| {
            let uri = Uri { extract: true, value: uri.clone(), ..Uri::default() };
            launch(&ground, &name, uri).unwrap_err();
        });
        until("it is in FETCHING", || is_fetching(&ground, &name));
        let advance = seen.join().unwrap().unwrap().unwrap().expect("an event told of it");
        assert_eq!((advance.index(), advance.count(), advance.what()), (0, 1, uri.as_str()));
        assert_eq!(advance.total_bytes, Some(100 << 20));
        ground.api().kill(&name, 9).unwrap();
        launching.join().unwrap();
    });
    leave(ground);
}
