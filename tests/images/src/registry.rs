// SPDX-License-Identifier: Apache-2.0
//! Debian's docker-registry on loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A registry that runs. Dropped, it is ended.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Registry {
    /// Starts one with its data below `dir`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(dir: &Path) -> Registry {
        fs::create_dir_all(dir).unwrap_or_else(|e| panic!("make {}: {e}", dir.display()));
        // Somebody else may take the port in between: then it does not come up, and another is tried.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let port = free.unwrap_or_else(|e| panic!("find a port: {e}")).port();
            if let Some(registry) = Registry::on(port, dir) {
                return registry;
            }
        }
        panic!("docker-registry does not come up")
    }

    fn on(port: u16, dir: &Path) -> Option<Registry> {
        let (config, log) = (dir.join(format!("{port}.yml")), dir.join(format!("{port}.log")));
        let text = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: false}}, level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            dir.join("data").display()
        );
        fs::write(&config, text).ok()?;
        let file = fs::File::create(&log).ok()?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(file.try_clone().ok()?)
            .stderr(file)
            .spawn()
            .ok()?;
        let mut registry = Registry { child, port, log };
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if registry.child.try_wait().ok().flatten().is_some() {
                eprintln!("docker-registry: {}", fs::read_to_string(&registry.log).unwrap_or_default());
                return None;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// A reference at this registry.
    pub fn name(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }

    /// How often each blob was sent from it, by digest.
    ///
    /// # Panics
    /// When its log can not be read.
    pub fn sent_blobs(&self) -> std::collections::BTreeMap<String, usize> {
        let log = fs::read_to_string(&self.log).unwrap_or_else(|e| panic!("{}: {e}", self.log.display()));
        let mut sent = std::collections::BTreeMap::new();
        // Apache's combined format: "GET /v2/NAME/blobs/DIGEST HTTP/1.1" 200 …
        for line in log.lines().filter(|line| line.contains("\"GET /v2/") && line.contains("/blobs/")) {
            let Some((_, rest)) = line.split_once("/blobs/") else { continue };
            let digest = rest.split([' ', '?']).next().unwrap_or_default();
            if line.contains("HTTP/1.1\" 200") {
                *sent.entry(digest.to_owned()).or_insert(0) += 1;
            }
        }
        sent
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
