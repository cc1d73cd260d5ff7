// SPDX-License-Identifier: Apache-2.0
//! Grounds of one test: a sandbox, a fetcher, and servers that answer as they are told.

#![allow(dead_code, clippy::unwrap_used, reason = "for tests, each of which uses a part of it")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_fetcher::{Config, FetchError, Fetched, Fetcher, Program, Request, RunAs, Stop};
use berth_model::Uri;

/// Nobody: an unprivileged user that every host has.
pub(crate) const NOBODY: u32 = 65534;

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn nobody() -> Option<RunAs> {
    is_root().then(|| RunAs {
        name: "nobody".into(),
        uid: NOBODY,
        gid: NOBODY,
        groups: vec![],
        has_file_capabilities: false,
    })
}

pub(crate) fn uri(value: impl Into<String>) -> Uri {
    Uri { value: value.into(), extract: true, ..Uri::default() }
}

pub(crate) fn cached(value: impl Into<String>) -> Uri {
    Uri { cache: Some(true), ..uri(value) }
}

pub(crate) struct Ground {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) fetcher: Fetcher,
    pub(crate) user: Option<RunAs>,
}

impl Ground {
    pub(crate) fn new(change: impl FnOnce(&mut Config)) -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("cache"));
        config.program =
            Program { path: env!("CARGO_BIN_EXE_berth-fetch-role").into(), argument: c"fetch-role".into() };
        config.stall_timeout = Duration::from_secs(5);
        change(&mut config);
        let fetcher = Fetcher::open(config).unwrap();
        Ground { dir, fetcher, user: nobody() }
    }

    pub(crate) fn sandbox(&self, name: &str) -> Sandbox {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        if let Some(user) = &self.user {
            std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).unwrap();
        }
        let log = self.dir.path().join(format!("{name}.stderr"));
        Sandbox { path, log }
    }

    pub(crate) fn fetch(&self, sandbox: &Sandbox, uris: &[Uri]) -> Result<Vec<Fetched>, FetchError> {
        self.fetch_until(sandbox, uris, &Stop::new().unwrap())
    }

    pub(crate) fn fetch_until(
        &self,
        sandbox: &Sandbox,
        uris: &[Uri],
        stop: &Stop,
    ) -> Result<Vec<Fetched>, FetchError> {
        let dir = File::open(&sandbox.path).unwrap();
        let log = File::options().append(true).create(true).open(&sandbox.log).unwrap();
        let request = Request {
            container: "c",
            uris,
            sandbox: dir.as_fd(),
            stdout: log.as_fd(),
            stderr: log.as_fd(),
            user: self.user.as_ref(),
        };
        self.fetcher.fetch(&request, stop, &|_| {})
    }
}

pub(crate) struct Sandbox {
    pub(crate) path: PathBuf,
    pub(crate) log: PathBuf,
}

impl Sandbox {
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path.join(name)).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// All names in it, sorted, with those of directories.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut all = Vec::new();
        walk(&self.path, &self.path, &mut all);
        all.sort();
        all
    }
}

fn walk(top: &Path, dir: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        all.push(entry.path().strip_prefix(top).unwrap().to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            walk(top, &entry.path(), all);
        }
    }
}

/// What a client asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    /// How many requests came before, all paths together.
    pub(crate) number: usize,
}

type Answer = dyn Fn(&Asked, &mut TcpStream) + Send + Sync;

/// An http server that says what it is told to.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log): (Arc<Answer>, _) = (Arc::new(answer), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || {
                    let Some(mut asked) = read(&stream) else { return };
                    {
                        let mut log = log.lock().unwrap();
                        asked.number = log.len();
                        log.push(asked.clone());
                    }
                    answer(&asked, &mut stream);
                });
            }
        });
        Server { address, asked }
    }

    /// A server with one answer for all paths.
    pub(crate) fn of(body: Vec<u8>) -> Server {
        Server::new(move |_, stream| ok(stream, &body))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Asked { path, headers, number: 0 })
}

pub(crate) fn ok(stream: &mut TcpStream, body: &[u8]) {
    head(stream, 200, &[&format!("Content-Length: {}", body.len())]);
    let _ = stream.write_all(body);
}

pub(crate) fn head(stream: &mut TcpStream, status: u16, headers: &[&str]) {
    let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    let _ = stream.write_all(text.as_bytes());
}

/// Bytes that are not the same anywhere.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(count + 8);
    while out.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(count);
    out
}

/// The words of an error, with its causes.
pub(crate) fn words(error: &FetchError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
