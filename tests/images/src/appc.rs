// SPDX-License-Identifier: Apache-2.0
//! App Container images made by tar, and a small server that has them.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A manifest of an image of that name for this machine, with these fields beside.
///
/// # Panics
/// When `fields` is no object.
pub fn manifest(name: &str, fields: &Value) -> Value {
    let arch = berth_model::image::Platform::host().architecture;
    let mut all = json!({"acKind": "ImageManifest", "acVersion": "0.8.11", "name": name,
        "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": arch}]});
    let map = all.as_object_mut().unwrap_or_else(|| panic!("an object"));
    map.extend(fields.as_object().unwrap_or_else(|| panic!("an object")).clone());
    all
}

/// An archive with a tree and a manifest, by GNU tar, compressed by gzip or not.
///
/// # Panics
/// When there is no tar.
pub fn aci(dir: &Path, manifest: &Value, tree: impl FnOnce(&Path), gzip: bool) -> Vec<u8> {
    let root = dir.join("rootfs");
    fs::create_dir_all(&root).unwrap_or_else(|e| panic!("make {}: {e}", root.display()));
    tree(&root);
    fs::write(dir.join("manifest"), manifest.to_string()).unwrap_or_else(|e| panic!("write a manifest: {e}"));
    let archive = dir.join("archive");
    let (dir, to) = (dir.display().to_string(), archive.display().to_string());
    let kind = if gzip { "-czf" } else { "-cf" };
    crate::tool(
        "tar",
        &[kind, &to, "--numeric-owner", "--owner=0", "--group=0", "-C", &dir, "manifest", "rootfs"],
    );
    fs::read(&archive).unwrap_or_else(|e| panic!("read an archive: {e}"))
}

/// The id of an archive that is not compressed.
pub fn id(archive: &[u8]) -> String {
    format!("sha512-{}", berth_image::digest_of(berth_model::image::Algorithm::Sha512, archive).hex())
}

/// What a server has at a path.
#[derive(Debug, Clone)]
pub enum Held {
    /// A file.
    File(Vec<u8>),
    /// Somewhere else to look.
    Moved(String),
    /// Only the first half of a file, the first time; then all of it.
    Broken(Vec<u8>),
    /// For any path that ends so: an image that depends on another such one.
    Endless,
}

type All = Arc<Mutex<(BTreeMap<String, Held>, Vec<String>)>>;

/// A server of files on loopback, one request for each connection. It ends with the test's process.
#[derive(Debug)]
pub struct Files {
    port: u16,
    all: All,
}

impl Files {
    /// Starts one.
    ///
    /// # Panics
    /// When it can not listen.
    pub fn start() -> Files {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("listen: {e}"));
        let port = listener.local_addr().unwrap_or_else(|e| panic!("my address: {e}")).port();
        let all = All::default();
        let held = Arc::clone(&all);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let held = Arc::clone(&held);
                std::thread::spawn(move || drop(answer(&stream, &held)));
            }
        });
        Files { port, all }
    }

    /// Has something at a path.
    pub fn put(&self, path: &str, held: Held) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).0.insert(path.to_owned(), held);
    }

    /// Has an image of that name for this machine.
    pub fn image(&self, name: &str, version: &str, archive: Vec<u8>) {
        self.put(&path(name, version), Held::File(archive));
    }

    /// What to put before the names of images.
    pub fn prefix(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The paths that were asked for, in their order.
    pub fn asked(&self) -> Vec<String> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

/// Where simple discovery looks for an image for this machine.
pub fn path(name: &str, version: &str) -> String {
    let arch = berth_model::image::Platform::host().architecture;
    format!("/{name}-{version}-linux-{arch}.aci")
}

fn answer(stream: &TcpStream, all: &All) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let held = {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.1.push(path.clone());
        let held = all.0.get(&path).cloned();
        if let Some(Held::Broken(bytes)) = &held {
            all.0.insert(path.clone(), Held::File(bytes.clone()));
        }
        held.or_else(|| all.0.get("*").cloned())
    };
    let mut to = stream;
    let (status, more, body, told) = match held {
        None => ("404 Not Found", String::new(), Vec::new(), 0),
        Some(Held::File(bytes)) => ("200 OK", String::new(), bytes.clone(), bytes.len()),
        Some(Held::Moved(to)) => ("302 Found", format!("Location: {to}\r\n"), Vec::new(), 0),
        Some(Held::Broken(bytes)) => {
            ("200 OK", String::new(), bytes[..bytes.len() / 2].to_vec(), bytes.len())
        }
        Some(Held::Endless) => {
            let bytes = endless(&path);
            ("200 OK", String::new(), bytes.clone(), bytes.len())
        }
    };
    write!(to, "HTTP/1.1 {status}\r\n{more}Content-Length: {told}\r\nConnection: close\r\n\r\n")?;
    to.write_all(&body)
}

/// An image `bomb/N` that depends on `bomb/N+1`.
fn endless(path: &str) -> Vec<u8> {
    let name = path.trim_start_matches('/').split('-').next().unwrap_or_default();
    let number: u64 = name.rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let next = json!({"dependencies": [{"imageName": format!("bomb/{}", number + 1)}]});
    let text = manifest(name, &next).to_string();
    crate::Layer::of(&[
        crate::Entry::File("manifest", 0o644, text.as_bytes()),
        crate::Entry::Dir("rootfs", 0o755),
    ])
    .bytes()
}
