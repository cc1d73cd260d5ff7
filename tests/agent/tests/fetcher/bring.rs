// SPDX-License-Identifier: Apache-2.0
//! What URIs become in a sandbox.

use crate::server::{Server, ok};
use crate::{ground, leave, run, run_alone};
use berth_test_agent::Ground;

fn tar_gz(name: &str, data: &[u8]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, data).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

fn server() -> Server {
    Server::new(|path, stream| match path {
        "/words" => ok(stream, b"some words"),
        "/script" => ok(stream, b"#!/bin/sh\necho it ran\n"),
        "/tree.tar.gz" => ok(stream, &tar_gz("tree/leaf", b"green")),
        _ => ok(stream, b"other"),
    })
}

/// All fields of a URI, by whoever runs it.
fn check(ground: &Ground, by: impl Fn(&Ground, &str, &[&str], &str) -> berth_test_agent::Exit) {
    let server = server();
    let words = server.url("words");
    let script = format!("{},executable,output_file=bin/tool", server.url("script"));
    let tree = server.url("tree.tar.gz");
    let kept = format!("{},extract=false,output_file=kept.tar.gz", server.url("tree.tar.gz"));
    for user in [None, Some("65534:65534")] {
        let mut options = vec!["--uri", &words, "--uri", &script, "--uri", &tree, "--uri", &kept];
        options.extend(user.into_iter().flat_map(|user| ["-u", user]));
        let script = "cat words && echo && bin/tool && cat tree/leaf && echo && \
                      test -f kept.tar.gz && test -f tree.tar.gz && stat -c %u words tree/leaf && id -u";
        let last = if user.is_some() { "user" } else { "root" };
        let exit = by(ground, last, &options, script);
        assert_eq!(exit.code, Some(0), "{exit:?}");
        let uid = user.map_or("0", |_| "65534");
        assert_eq!(exit.stdout, format!("some words\nit ran\ngreen\n{uid}\n{uid}\n{uid}\n"));
        // What the child did is in the container's stderr, as in Mesos.
        assert!(exit.stderr.contains("Fetching URI 'http://127.0.0.1"), "{exit:?}");
    }
}

#[test]
fn an_agents_container_finds_its_uris_before_its_command_begins() {
    let ground = ground!(an_agents_container_finds_its_uris_before_its_command_begins);
    check(&ground, run);
    leave(ground);
}

#[test]
fn a_container_without_an_agent_finds_its_uris_too_but_has_no_cache() {
    let ground = ground!(a_container_without_an_agent_finds_its_uris_too_but_has_no_cache);
    check(&ground, run_alone);
    let exit = run_alone(&ground, "cache", &["--uri", "http://127.0.0.1:1/x,cache"], "true");
    exit.refused(125, &["only an agent keeps a cache"]);
    leave(ground);
}

#[test]
fn what_is_no_uri_is_refused_before_anything_is_made() {
    let ground = ground!(what_is_no_uri_is_refused_before_anything_is_made);
    for (uri, words) in [
        ("http://host", "Could not fetch: Malformed URI (missing path): http://host"),
        ("http://h/a'b", "Could not fetch: Illegal characters in URI"),
        (
            "http://h/x,output_file=../x",
            "Could not fetch: URI output file must be within the sandbox directory",
        ),
        ("a/b", "Could not fetch: A relative path was passed for the resource but the Mesos framework home"),
    ] {
        run(&ground, "bad", &["--uri", uri], "true").refused(125, &[words]);
    }
    let exit = run_alone(&ground, "bad", &["--uri", "http://host"], "true");
    exit.refused(125, &["Could not fetch: Malformed URI (missing path): http://host"]);
    leave(ground);
}
