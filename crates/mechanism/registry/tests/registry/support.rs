// SPDX-License-Identifier: Apache-2.0
//! Servers of the tests, and small words for what they all do.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth_image::{Cancel, Descriptor, Document, ManifestRef, PullError, Source, digest_of};
use berth_model::image::{Algorithm, Digest};
use berth_registry::{AuthFile, Client, Patience, RegistryConfig, Retries, Settings};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A request as a server saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

/// A server that says whatever a test wants.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers each request with what `answer` writes; the connection is closed when that says `false`.
    pub(crate) fn start(answer: impl Fn(&Seen, &mut TcpStream) -> bool + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        // It ends with the test's process; a test has few.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), log, answer) = (stream, Arc::clone(&log), Arc::clone(&answer)) else {
                    return;
                };
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(request) = read_request(&mut reader) {
                        log.lock().unwrap().push(request.clone());
                        if !answer(&request, &mut stream) {
                            stream.shutdown(std::net::Shutdown::Both).ok();
                            return;
                        }
                    }
                });
            }
        });
        Server { address, seen }
    }

    /// Answers with a status, headers and a body, by the request.
    pub(crate) fn simple(
        answer: impl Fn(&Seen) -> (u16, Vec<(&'static str, String)>, Vec<u8>) + Send + Sync + 'static,
    ) -> Server {
        Server::start(move |request, stream| {
            let (status, headers, body) = answer(request);
            respond(stream, request, status, &headers, &body)
        })
    }

    pub(crate) fn registry(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests for paths with that in them.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.target.contains(part)).count()
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut seen = Seen { method: words.next()?, target: words.next()?, ..Seen::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => seen.headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let length = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    seen.body = vec![0; length];
    reader.read_exact(&mut seen.body).ok()?;
    Some(seen)
}

pub(crate) fn respond(
    stream: &mut TcpStream,
    request: &Seen,
    status: u16,
    headers: &[(&'static str, String)],
    body: &[u8],
) -> bool {
    let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.push_str("\r\n");
    let body = if request.method == "HEAD" { &[] } else { body };
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_ok()
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    digest_of(Algorithm::Sha256, bytes)
}

/// An image of one layer in a registry of our own.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) layer: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

impl Image {
    pub(crate) fn new(layer: Vec<u8>) -> Image {
        let config =
            br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
        let part = |kind: &str, bytes: &[u8]| {
            format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, sha256(bytes), bytes.len())
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
            part("application/vnd.oci.image.config.v1+json", &config),
            part("application/vnd.oci.image.layer.v1.tar", &layer)
        );
        Image { layer, config, manifest: manifest.into_bytes() }
    }

    pub(crate) fn blob(&self) -> Descriptor {
        blob(&self.layer)
    }

    /// What an honest registry answers.
    pub(crate) fn serve(&self, request: &Seen) -> (u16, Vec<(&'static str, String)>, Vec<u8>) {
        let path = request.path();
        if path.contains("/manifests/") {
            return (200, vec![("Content-Type", MANIFEST.to_owned())], self.manifest.clone());
        }
        for bytes in [&self.layer, &self.config] {
            if path.ends_with(&format!("/blobs/{}", sha256(bytes))) {
                return (200, Vec::new(), bytes.clone());
            }
        }
        (404, Vec::new(), br#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such thing"}]}"#.to_vec())
    }
}

pub(crate) fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        digest: sha256(bytes),
        size: Some(bytes.len() as u64),
        platform: None,
    }
}

/// Settings that wait for milliseconds, not minutes.
pub(crate) fn quick(config: &str) -> Settings {
    let mut read = RegistryConfig::default();
    read.add(Path::new("/test/registries.toml"), config).unwrap();
    Settings {
        config: read,
        patience: Patience {
            connect: Duration::from_secs(5),
            stall: Duration::from_millis(600),
            least: 1000,
            document: Duration::from_secs(3),
        },
        retries: Retries { tries: 3, first: Duration::from_millis(4), longest: Duration::from_millis(20) },
        ..Settings::default()
    }
}

pub(crate) fn client(config: &str) -> Client {
    Client::new(quick(config)).unwrap()
}

/// A client that knows a password for a registry.
pub(crate) fn client_of(registry: &str, user: &str, password: &str, config: &str) -> Client {
    let mut settings = quick(config);
    let json = format!(r#"{{"auths":{{"{registry}":{{"username":"{user}","password":"{password}"}}}}}}"#);
    settings.credentials.push(AuthFile::parse("the test", json.as_bytes()).unwrap());
    Client::new(settings).unwrap()
}

pub(crate) fn manifest_by(client: &Client, reference: &str) -> Result<Document, PullError> {
    let image = client.image(&reference.parse().unwrap(), None).unwrap();
    image.manifest(&ManifestRef::Top, &Cancel::new())
}

pub(crate) fn blob_by(
    client: &Client,
    reference: &str,
    blob: &Descriptor,
    offset: u64,
) -> Result<Vec<u8>, PullError> {
    let image = client.image(&reference.parse().unwrap(), None).unwrap();
    let mut reader = image.blob(blob, offset, &Cancel::new())?;
    let mut bytes = Vec::new();
    let read = reader.read_to_end(&mut bytes);
    read.map_err(|error| PullError::of_io(error, "test", "blob")).map(|_| bytes)
}

/// The whole chain of an error.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

pub(crate) fn has(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|dir| dir.join(program).is_file())
}

/// Debian's docker-registry on a port of its own, with a store of its own; ends when dropped.
pub(crate) struct DockerRegistry {
    child: Child,
    pub(crate) address: SocketAddr,
    dir: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts one; `auth` and `http` are parts of its configuration. `None`, and the skip is told, without it.
    pub(crate) fn start(test: &str, auth: &str, http: &str) -> Option<DockerRegistry> {
        let dir = tempfile::tempdir().unwrap();
        DockerRegistry::start_in(test, dir, auth, http)
    }

    pub(crate) fn start_in(
        test: &str,
        dir: tempfile::TempDir,
        auth: &str,
        http: &str,
    ) -> Option<DockerRegistry> {
        if !has("docker-registry") {
            berth_testing::skip(test, "the program docker-registry (Debian's package of that name)");
            return None;
        }
        let root = dir.path().join("store");
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
             http:\n  addr: 127.0.0.1:0\n{http}{auth}compatibility:\n  schema1:\n    enabled: true\n",
            root.display()
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut told = String::new();
        let address = loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                panic!("docker-registry ended:\n{told}");
            }
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end =
                    rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
                break rest[..end].parse().unwrap();
            }
            told.push_str(&line);
        };
        // Nobody else reads it, and a full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Some(DockerRegistry { child, address, dir })
    }

    pub(crate) fn registry(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits for a fact.
pub(crate) fn eventually(what: &str, fact: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fact() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes that no compression and no accident makes.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(count)
    .collect()
}
