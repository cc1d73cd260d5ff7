// SPDX-License-Identifier: Apache-2.0
//! Servers that stall, lie, lead elsewhere, or send what would harm: refused, with words, and nothing left.

use crate::server::{Server, head, ok, stall};
use crate::{leave, run, run_alone};
use berth_test_agent::{Ground, skip};
use std::io::Write;

/// More than 1:1000 after 64 MiB.
fn bomb() -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0u8; 1 << 20];
    (0..96).for_each(|_| gzip.write_all(&zeros).unwrap());
    gzip.finish().unwrap()
}

/// A tar with one entry of this name and kind.
fn tar(name: &[u8], kind: tar::EntryType, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    if !link.is_empty() {
        header.set_link_name_literal(link).unwrap();
    }
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, std::io::empty()).unwrap();
    tar.into_inner().unwrap()
}

fn server() -> Server {
    let bomb = bomb();
    let to = |stream: &mut std::net::TcpStream, location: &str| {
        head(stream, "302 Found", 0, &format!("Location: {location}\r\n"));
    };
    Server::new(move |path, stream| match path {
        "/stall" => {
            head(stream, "200 OK", 1000, "");
            let _ = stream.write_all(b"a few bytes");
            stall(stream);
        }
        "/short" => {
            head(stream, "200 OK", 1000, "");
            let _ = stream.write_all(b"a few bytes");
        }
        "/metadata" => to(stream, "http://169.254.169.254/latest/meta-data/"),
        "/private" => to(stream, "http://10.1.2.3/"),
        "/local" => to(stream, "file:///etc/passwd"),
        "/bomb.tar.gz" | "/bomb.gz" => ok(stream, &bomb),
        "/up.tar" => ok(stream, &tar(b"../../escaped", tar::EntryType::Regular, "")),
        "/device.tar" => ok(stream, &tar(b"../null", tar::EntryType::Char, "")),
        "/noise.tar" => ok(stream, b"this is no archive at all"),
        _ => head(stream, "404 Not Found", 0, ""),
    })
}

/// What is asked for, and a word of the refusal.
const CHEATS: &[(&str, &[&str])] = &[
    ("stall", &["less than 1 byte/s for 1 s (--fetcher_stall_timeout)"]),
    ("short", &["Error downloading resource"]),
    ("metadata", &["is not contacted", "metadata"]),
    ("private", &["is not contacted"]),
    ("local", &["Error downloading resource"]),
    ("bomb.tar.gz", &["Failed to extract archive"]),
    ("bomb.gz", &["Failed to extract", "bomb"]),
    ("up.tar", &["Failed to extract archive"]),
    ("device.tar", &["Failed to extract archive"]),
    ("noise.tar", &["Failed to extract archive"]),
    ("missing", &["received HTTP return code 404"]),
];

#[test]
fn servers_that_cheat_are_refused_with_words_and_leave_nothing() {
    let test = "servers_that_cheat_are_refused_with_words_and_leave_nothing";
    let mut ground = match Ground::new("fetch-cheats") {
        Ok(ground) => ground,
        Err(lacked) => return skip(test, &lacked),
    };
    let mut command = ground.agent();
    command.arg("--fetcher_stall_timeout=1secs");
    ground.start_as(&mut command);
    let server = server();
    for (path, words) in CHEATS {
        let uri = server.url(path);
        // One that is asked again and again takes its time once.
        let through_the_cache = (*path != "short").then(|| format!("{uri},cache"));
        for uri in [uri].into_iter().chain(through_the_cache) {
            let exit = run(&ground, "c", &["-u", "65534:65534", "--uri", &uri], "echo it ran");
            let mut all = vec!["Failed to fetch all URIs for container", "Failed to fetch 'http://127.0.0.1"];
            all.extend(*words);
            exit.refused(125, &all);
        }
        assert!(!ground.sandbox(&ground.name("c")).exists(), "{path}: the sandbox went with the launch");
    }
    // The same rules hold without an agent. (Its stall timeout is a minute.)
    for (path, words) in CHEATS.iter().filter(|(path, _)| *path != "stall") {
        let exit = run_alone(&ground, "c", &["--uri", &server.url(path)], "echo it ran");
        exit.refused(125, words);
    }
    for near in ["escaped", "sandboxes/escaped", "oneshot/escaped"] {
        assert!(!ground.work_dir().join(near).exists(), "{near}");
    }
    leave(ground);
}
