// SPDX-License-Identifier: Apache-2.0
//! Files of the host, ftp, outside programs, and how the child is confined.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth_fetcher::{How, Local, Stop};
use berth_model::{Class, Uri};
use support::*;

fn open_to_all(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_of_the_host_are_copied_as_their_user_may_read_them() {
    let home = tempfile::tempdir().unwrap();
    open_to_all(home.path(), 0o755);
    fs::write(home.path().join("open"), noise(100_000)).unwrap();
    fs::write(home.path().join("closed"), "secret").unwrap();
    open_to_all(&home.path().join("closed"), 0o600);
    let ground = Ground::new(|config| config.frameworks_home = Some(home.path().into()));
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    for (name, value) in [
        ("absolute", at("open")),
        ("file", format!("file://{}", at("open"))),
        ("localhost", format!("file://localhost{}", at("open"))),
        ("relative", "open".into()),
    ] {
        for uri in [uri(value.clone()), cached(value.clone())] {
            let sandbox = ground.sandbox(&format!("{name}{}", uri.cache.is_some()));
            ground.fetch(&sandbox, &[uri]).unwrap();
            assert!(sandbox.read("open") == noise(100_000), "{name}");
        }
    }
    let refused = |name: &str, value: String| ground.fetch(&ground.sandbox(name), &[uri(value)]).unwrap_err();
    let error = refused("missing", at("missing"));
    assert!(error.to_string().contains("No such file") && error.class() == Class::NotFound, "{error}");
    if is_root() {
        // Even where its user could guess the name, and through the cache.
        let error = refused("closed", at("closed"));
        assert!(error.to_string().contains("Permission denied") && error.class() == Class::Denied, "{error}");
        let sandbox = ground.sandbox("closed-cached");
        ground.fetch(&sandbox, &[cached(at("closed"))]).unwrap_err();
        assert!(sandbox.names().is_empty());
    }
}

#[test]
fn only_regular_files_are_fetched_and_nothing_blocks() {
    let home = tempfile::tempdir().unwrap();
    open_to_all(home.path(), 0o755);
    let fifo = home.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let ground = Ground::new(|_| {});
    for (number, value) in ["/dev/zero", fifo.to_str().unwrap(), "/etc"].into_iter().enumerate() {
        let text = ground.fetch(&ground.sandbox(&number.to_string()), &[uri(value)]).unwrap_err().to_string();
        assert!(text.contains("not a regular file") || text.contains("Permission denied"), "{value}: {text}");
    }
}

#[test]
fn an_operator_may_keep_the_host_s_files_out() {
    let ground = Ground::new(|config| config.local = Local::Never);
    for value in ["/etc/passwd", "file:///etc/passwd"] {
        let error = ground.fetch(&ground.sandbox(&value.len().to_string()), &[uri(value)]).unwrap_err();
        assert!(error.class() == Class::Denied, "{error}");
    }
}

#[test]
fn hadoop_fetches_what_we_do_not_directly_and_for_the_cache() {
    let home = tempfile::tempdir().unwrap();
    open_to_all(home.path(), 0o755);
    fs::create_dir(home.path().join("bin")).unwrap();
    let script = r#"#!/bin/sh
case "$2" in
-du) echo "7  21  $3" ;;
-copyToLocal) [ "$3" = hdfs://name:9000/a/file ] || { echo "no such file: $3" >&2; exit 3; }
    printf content > "$4" && id -u >&2 && echo "home=$HADOOP_HOME" >&2 ;;
esac
"#;
    fs::write(home.path().join("bin/hadoop"), script).unwrap();
    open_to_all(&home.path().join("bin/hadoop"), 0o755);
    let ground = Ground::new(|config| config.hadoop_home = Some(home.path().into()));
    open_to_all(ground.dir.path(), 0o755);
    let value = "hdfs://name:9000/a/file";
    for (uri, hows) in [(uri(value), [How::Fetched; 2]), (cached(value), [How::Copied, How::Cloned])] {
        let sandbox = ground.sandbox(&format!("s{}", uri.cache.is_some()));
        let fetched = ground.fetch(&sandbox, &[uri]).unwrap();
        assert!(hows.contains(&fetched[0].how), "{:?}, {}", fetched[0].how, sandbox.log());
        assert_eq!(sandbox.read("file"), b"content");
        let log = sandbox.log();
        assert!(log.contains(&format!("home={}", home.path().display())), "{log}");
        if is_root() {
            assert!(log.contains(&format!("{NOBODY}\n")), "{log}");
        }
    }
    let renamed = Uri { output_file: Some("d/run".into()), executable: Some(true), ..uri(value) };
    let sandbox = ground.sandbox("renamed");
    ground.fetch(&sandbox, &[renamed]).unwrap();
    assert_eq!(fs::metadata(sandbox.path.join("d/run")).unwrap().permissions().mode() & 0o7777, 0o755);
    let sandbox = ground.sandbox("missing");
    let text = ground.fetch(&sandbox, &[uri("hdfs://name:9000/other")]).unwrap_err().to_string();
    assert!(text.contains("HDFS copyToLocal failed: exit status: 3"), "{text}");
    assert!(sandbox.log().contains("no such file") && sandbox.names().is_empty());
}

#[test]
fn an_outside_program_writes_to_its_sandbox_only() {
    let shared = std::path::Path::new("/dev/shm");
    if berth_sys::landlock::abi().is_err() || !shared.is_dir() {
        return println!("skipped: no Landlock in this kernel, or no /dev/shm that everybody may write to");
    }
    let home = tempfile::tempdir().unwrap();
    open_to_all(home.path(), 0o755);
    fs::create_dir(home.path().join("bin")).unwrap();
    let trace = shared.join(format!("berth-fetcher-test-{}", std::process::id()));
    let script = format!(
        "#!/bin/sh\nprintf content > \"$4\"\nif echo x > {}; then echo ESCAPED >&2; else echo KEPT >&2; fi\n",
        trace.display()
    );
    fs::write(home.path().join("bin/hadoop"), script).unwrap();
    open_to_all(&home.path().join("bin/hadoop"), 0o755);
    let ground = Ground::new(|config| config.hadoop_home = Some(home.path().into()));
    let sandbox = ground.sandbox("s");
    ground.fetch(&sandbox, &[uri("hdfs://name/file")]).unwrap();
    let _ = fs::remove_file(&trace);
    let log = sandbox.log();
    assert!(log.contains("KEPT") && !log.contains("ESCAPED"), "{log}");
    assert_eq!(sandbox.read("file"), b"content");
}

#[test]
fn without_a_program_the_error_says_which_is_missing() {
    let ground = Ground::new(|config| config.client_path = Some("/nowhere".into()));
    for (value, word) in
        [("hdfs://h/x", "the Hadoop client `hadoop`"), ("s3://b/x", "the AWS client `aws` or")]
    {
        let error = ground.fetch(&ground.sandbox(&value[..2]), &[uri(value)]).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.class(), Class::Unsupported);
    }
}

#[test]
fn the_child_is_its_user_without_capabilities_behind_a_filter() {
    let (ground, server) = (
        Ground::new(|_| {}),
        Server::new(|_, stream| {
            head(stream, 200, &["Content-Length: 10"]);
            let _ = stream.read(&mut [0; 16]);
        }),
    );
    let sandbox = ground.sandbox("s");
    let stop = Stop::new().unwrap();
    std::thread::scope(|scope| {
        let fetch = scope.spawn(|| ground.fetch_until(&sandbox, &[uri(server.url("x"))], &stop));
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.asked().is_empty() {
            assert!(Instant::now() < deadline, "no child asks");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = child_status();
        stop.kill();
        fetch.join().unwrap().unwrap_err();
        let line = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        if is_root() {
            assert_eq!(line("Uid:"), format!("{NOBODY} {NOBODY} {NOBODY} {NOBODY}"));
            assert_eq!(line("Groups:"), "");
        }
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(line(set), "0000000000000000", "{set}");
        }
        assert_eq!(
            (line("NoNewPrivs:"), line("Seccomp:"), line("Threads:")),
            ("1".into(), "2".into(), "1".into())
        );
    });
}

/// The status of the one child of this test's thread that has a filter. Other tests of this program have others, all alike.
fn child_status() -> String {
    let parent = std::process::id().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("status")).ok())
        .find(|status| {
            status.starts_with("Name:\tberth-fetch")
                && status.lines().any(|line| line.strip_prefix("PPid:\t") == Some(&parent))
                && status.contains("Seccomp:\t2")
        })
        .expect("a fetching child")
}

/// python3-pyftpdlib, serving a directory.
struct Ftp {
    child: Child,
    port: u16,
}

impl Ftp {
    fn serve(dir: &std::path::Path) -> Option<Ftp> {
        let script = format!(
            "import sys\nfrom pyftpdlib.authorizers import DummyAuthorizer\nfrom pyftpdlib.handlers import FTPHandler\n\
             from pyftpdlib.servers import FTPServer\na = DummyAuthorizer()\na.add_anonymous({dir:?})\n\
             a.add_user('u', 'p w', {dir:?})\nFTPHandler.authorizer = a\ns = FTPServer(('127.0.0.1', 0), FTPHandler)\n\
             print(s.socket.getsockname()[1], flush=True)\ns.serve_forever()\n"
        );
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        match line.trim().parse() {
            Ok(port) => Some(Ftp { child, port }),
            Err(_) => {
                let _ = child.wait();
                None
            }
        }
    }
}

impl Drop for Ftp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ftp_brings_files_with_and_without_a_login() {
    let served = tempfile::tempdir().unwrap();
    fs::create_dir(served.path().join("dir")).unwrap();
    fs::write(served.path().join("dir/a file"), noise(1_000_000)).unwrap();
    let Some(ftp) = Ftp::serve(served.path()) else {
        return println!("skipped: python3-pyftpdlib is not installed");
    };
    let ground = Ground::new(|_| {});
    for (name, login) in [("anonymous", ""), ("login", "u:p%20w@")] {
        let url = format!("ftp://{login}127.0.0.1:{}/dir/a%20file", ftp.port);
        for uri in [uri(url.clone()), cached(url)] {
            let sandbox = ground.sandbox(&format!("{name}{}", uri.cache.is_some()));
            let fetched = ground.fetch(&sandbox, &[uri]).unwrap();
            assert!(sandbox.read("a%20file") == noise(1_000_000));
            assert!(!fetched[0].uri.contains("p%20w") && !sandbox.log().contains("p%20w"));
        }
    }
    let missing = format!("ftp://127.0.0.1:{}/missing", ftp.port);
    let error = ground.fetch(&ground.sandbox("missing"), &[uri(missing)]).unwrap_err();
    assert!(error.to_string().contains("received FTP return code 550"), "{error}");
    let wrong = format!("ftp://u:wrong@127.0.0.1:{}/dir/a%20file", ftp.port);
    let error = ground.fetch(&ground.sandbox("wrong"), &[uri(wrong)]).unwrap_err();
    assert!(error.to_string().contains("received FTP return code 530"), "{error}");
}

/// An ftp server that answers as it is told: a line for each command; `DATA` stands for a data port of its own.
fn hostile(answer: impl Fn(&str, usize, SocketAddr) -> String + Send + 'static, data: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let transfers = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = transfers.local_addr().unwrap();
    let sent = Arc::new(Mutex::new(0usize));
    let count = sent.clone();
    std::thread::spawn(move || {
        for stream in transfers.incoming() {
            *count.lock().unwrap() += 1;
            let _ = stream.unwrap().write_all(data);
        }
    });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let _ = stream.write_all(answer("", 0, address).as_bytes());
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let Ok(line) = line else { break };
                if stream.write_all(answer(&line, *sent.lock().unwrap(), address).as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    port
}

fn usual(line: &str, size: &str, data: SocketAddr) -> String {
    match line.split(' ').next().unwrap_or_default() {
        "" => "220-hello\r\n 220 not the end\r\n220 there\r\n".into(),
        "USER" => "230 in\r\n".into(),
        "TYPE" => "200 ok\r\n".into(),
        "SIZE" => format!("213 {size}\r\n"),
        "EPSV" => format!("229 Extended ({0}{0}{0}{1}{0})\r\n", '|', data.port()),
        "RETR" => "150 here\r\n226 done\r\n".into(),
        _ => "502 no\r\n".into(),
    }
}

#[test]
fn an_ftp_server_can_not_send_us_elsewhere_lie_about_sizes_or_flood() {
    let ground = Ground::new(|config| config.stall_timeout = Duration::from_secs(3));
    let fetch = |name: &str, port: u16| {
        let sandbox = ground.sandbox(name);
        let done = ground.fetch(&sandbox, &[uri(format!("ftp://127.0.0.1:{port}/x"))]);
        (done.map(|_| sandbox.read("x")).map_err(|error| error.to_string()), sandbox)
    };
    // PASV names the metadata service; the port is ours, and the address is not looked at.
    let port = hostile(
        |line, _, data| match line {
            "EPSV" => "500 no\r\n".into(),
            "PASV" => format!("227 go (169,254,169,254,{},{})\r\n", data.port() >> 8, data.port() & 255),
            line => usual(line, "5", data),
        },
        b"12345",
    );
    assert_eq!(fetch("passive", port).0.unwrap(), b"12345");
    let port = hostile(|line, _, data| usual(line, "3", data), b"12345");
    let (done, sandbox) = fetch("longer", port);
    assert!(done.unwrap_err().contains("longer than the 3 bytes"), "{:?}", sandbox.names());
    assert!(sandbox.names().is_empty());
    let port = hostile(|line, _, data| usual(line, "9", data), b"12345");
    let text = fetch("shorter", port).0.unwrap_err();
    assert!(text.contains("Error downloading resource"), "{text}");
    let port = hostile(
        |line, _, data| match line {
            "" => "x".repeat(100_000),
            line => usual(line, "5", data),
        },
        b"",
    );
    assert!(fetch("endless", port).0.unwrap_err().contains("does not end"));
    let port = hostile(
        |line, _, data| match line {
            "" => "220-more\r\n".repeat(10_000),
            line => usual(line, "5", data),
        },
        b"",
    );
    assert!(fetch("lines", port).0.unwrap_err().contains("does not end"));
    let port = hostile(|_, _, _| String::new(), b"");
    assert!(fetch("silent", port).0.unwrap_err().contains("less than 1 byte/s"));
}

#[test]
fn an_ftp_transfer_that_is_cut_goes_on_where_it_was() {
    let port = hostile(
        |line, sent, data| match line.split(' ').next().unwrap_or_default() {
            // The data connection brings five bytes at a time, whatever is asked.
            "REST" if sent == 1 && line == "REST 5" => "350 ok\r\n".into(),
            _ => usual(line, "10", data),
        },
        b"12345",
    );
    let ground = Ground::new(|_| {});
    let sandbox = ground.sandbox("s");
    ground.fetch(&sandbox, &[uri(format!("ftp://127.0.0.1:{port}/x"))]).unwrap();
    assert_eq!(sandbox.read("x"), b"1234512345");
}
