// SPDX-License-Identifier: Apache-2.0
//! What a launch costs above the engine's own create and start, through the same socket, in pairs. To measure:
//! `BERTH_DOCKER_PAIRS=50 cargo test --profile quick -p berth-docker --test overhead -- --nocapture`.

mod ground;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use berth_conformance::Site;
use ground::{Daemon, clear, config, id, recovered, settings, start};

/// Asks the engine by hand; the body of its answer.
fn ask(engine: &Daemon, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(engine.socket()).expect("the engine's socket");
    let request = format!(
        "POST /v1.41{path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 20"), "{text}");
    text
}

fn by_hand(engine: &Daemon, site: &Site, name: &str) -> Duration {
    let sandbox = site.sandboxes().display().to_string();
    let body = format!(
        r#"{{"Image": "{}", "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "exec sleep 1000"], "HostConfig":
        {{"NetworkMode": "host", "LogConfig": {{"Type": "json-file"}},
          "Mounts": [{{"Type": "bind", "Source": "{sandbox}", "Target": "/mnt/mesos/sandbox"}}]}}}}"#,
        ground::IMAGE
    );
    let begun = Instant::now();
    ask(engine, &format!("/containers/create?name={name}"), &body);
    ask(engine, &format!("/containers/{name}/start"), "");
    let took = begun.elapsed();
    engine.says(&["rm", "-f", name]);
    took
}

#[test]
fn launches_are_measured_against_create_and_start() {
    if ground::skipped() {
        return;
    }
    let pairs: usize = std::env::var("BERTH_DOCKER_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let engine = ground::daemon::shared();
    let site = Site::new("overhead").expect("a site");
    let docker = recovered(settings(&site, engine));
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for pair in 0..=pairs {
        let own = id(&format!("{}-{pair}", site.marker()));
        let hand = by_hand(engine, &site, &format!("hand-{own}"));
        let config = config(&site, &own, "exec sleep 1000");
        let begun = Instant::now();
        start(&docker, &own, config);
        let took = begun.elapsed();
        clear(&docker, &own);
        // The first pair warms both.
        if pair > 0 {
            plain.push(hand);
            ours.push(took);
        }
    }
    plain.sort();
    ours.sort();
    let (plain, ours) = (plain[plain.len() / 2], ours[ours.len() / 2]);
    let ratio = ours.as_secs_f64() / plain.as_secs_f64();
    println!("{pairs} pairs: create and start {plain:?}, launch {ours:?}, {ratio:.3} times as long");
}
