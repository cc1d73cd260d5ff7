// SPDX-License-Identifier: Apache-2.0
//! A pull of a large image from a real registry is cancelled by a destroy, and nothing goes on. In its long form
//! (`BERTH_DOCKER_PULL=long`) the image is of 2 GB, it is also cancelled late in it, the time is judged, and the image is pulled to
//! its end after that.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod ground;

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_conformance::Site;
use berth_contract::{Containerizer, Next, What};
use berth_model::ContainerConfig;

use ground::{Daemon, How, clear, config, ended, good, id, launch, recovered, settings, start, until};

const LAYERS: usize = 8;
const MIB: usize = 1 << 20;
/// What cancelling may take, where that is judged.
const SOON: Duration = Duration::from_millis(200);

fn is_long() -> bool {
    std::env::var("BERTH_DOCKER_PULL").is_ok_and(|form| form == "long")
}

/// Debian's docker-registry, with one image in it.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// `size` bytes that can not be compressed, in several layers, the first of which is busybox.
    fn with_image(place: &Path, size: usize) -> Registry {
        fill(&place.join("data/docker/registry/v2"), size);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            place.join("data").display()
        );
        fs::write(place.join("registry.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(place.join("registry.yml")).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the registry listens", || TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
        Registry { child, port }
    }

    /// How many connections to it there are: local address and state 01 in proc(5)'s tcp.
    fn connections(&self) -> usize {
        let port = format!(":{:04X} ", self.port);
        let is_ours = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
            format!("{local} ").ends_with(&port) && state == "01"
        };
        ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .map(|table| fs::read_to_string(table).unwrap_or_default().lines().filter(is_ours).count())
            .sum()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As the registry keeps it: a blob by its digest, and links to it from a repository.
fn fill(registry: &Path, size: usize) {
    let repository = registry.join("repositories/large");
    let link = |folder: &str, digest: &str| {
        let folder = repository.join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("link"), digest).unwrap();
    };
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let keep = |file: PathBuf| {
        let digest = digest_of(&file);
        let hex = hex(&digest);
        let blob = registry.join("blobs/sha256").join(&hex[..2]).join(&hex);
        fs::create_dir_all(&blob).unwrap();
        let length = fs::metadata(&file).unwrap().len();
        fs::rename(file, blob.join("data")).unwrap();
        link(&format!("_layers/sha256/{hex}"), &digest);
        (digest, length)
    };
    fs::create_dir_all(registry).unwrap();
    let layers: Vec<(String, u64)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..LAYERS)
            .map(|number| {
                let file = registry.join(format!("layer-{number}"));
                let keep = &keep;
                scope.spawn(move || {
                    layer(&file, number, size / LAYERS);
                    keep(file)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let put = |name: &str, text: &str| {
        fs::write(registry.join(name), text).unwrap();
        keep(registry.join(name))
    };
    let list =
        |each: &dyn Fn(&(String, u64)) -> String| layers.iter().map(each).collect::<Vec<_>>().join(",");
    let config = put(
        "config",
        &format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            list(&|(digest, _)| format!("\"{digest}\""))
        ),
    );
    // Layers that are not compressed: their digest is that of what is in them.
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}]}}"#,
        config.0,
        config.1,
        list(&|(digest, length)| format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{length}}}"#
        ))
    );
    let (digest, _) = put("manifest", &manifest);
    link(&format!("_manifests/revisions/sha256/{}", hex(&digest)), &digest);
    link("_manifests/tags/1/current", &digest);
    link(&format!("_manifests/tags/1/index/sha256/{}", hex(&digest)), &digest);
}

/// A file of random bytes, no two MiB of which are the same; in the first layer busybox, too.
fn layer(path: &Path, number: usize, size: usize) {
    let mut random = vec![0; MIB];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).unwrap();
    let mut tar = tar::Builder::new(BufWriter::with_capacity(MIB, File::create(path).unwrap()));
    if number == 0 {
        let path = std::env::var_os("PATH").unwrap();
        let busybox = std::env::split_paths(&path).map(|dir| dir.join("busybox")).find(|path| path.is_file());
        let busybox = busybox.unwrap();
        tar.append_path_with_name(&busybox, "bin/busybox").unwrap();
        tar.append_path_with_name(&busybox, "bin/sh").unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    let blocks = (0..size / MIB).map(|block| {
        let mut bytes = random.clone();
        bytes[..8].copy_from_slice(&(block as u64).to_be_bytes());
        bytes.rotate_left(block % MIB);
        bytes
    });
    let content = Blocks { blocks: Box::new(blocks), held: Vec::new(), given: 0 };
    tar.append_data(&mut header, format!("random-{number}"), content).unwrap();
    tar.into_inner().unwrap().flush().unwrap();
}

struct Blocks<'a> {
    blocks: Box<dyn Iterator<Item = Vec<u8>> + 'a>,
    held: Vec<u8>,
    given: usize,
}

impl std::io::Read for Blocks<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.given == self.held.len() {
            (self.held, self.given) = (self.blocks.next().unwrap_or_default(), 0);
        }
        let length = to.len().min(self.held.len() - self.given);
        to[..length].copy_from_slice(&self.held[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}

/// By a program that is compiled with optimisations, as this test is not.
fn digest_of(file: &Path) -> String {
    let said = Command::new("sha256sum").arg(file).output().unwrap();
    assert!(said.status.success());
    format!("sha256:{}", &String::from_utf8_lossy(&said.stdout)[..64])
}

/// What the engine has fetched and not put away.
fn partly_there(engine: &Daemon) -> Vec<PathBuf> {
    let folder = engine.root().join("data/tmp");
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn a_pull_of_a_large_image_from_a_registry_is_cancelled_and_nothing_goes_on() {
    if ground::skipped() {
        return;
    }
    if let Some(lacked) = berth_testing::lacks(&["docker-registry"]) {
        return berth_testing::skip(std::thread::current().name().unwrap_or("a test"), &lacked);
    }
    let size = if is_long() { 2048 * MIB } else { 512 * MIB };
    let site = Site::new("large").unwrap();
    let place = site.work_dir().join("registry");
    let registry = Registry::with_image(&place, size);
    let engine = Daemon::start(How::default());
    let before = engine.ledger();
    let docker = Arc::new(recovered(settings(&site, &engine)));
    let of_image = |name: &str| -> (berth_model::ContainerId, ContainerConfig) {
        let own = id(&format!("{}-{name}", site.marker()));
        let mut config = config(&site, &own, "exit 7");
        let info = config.container_info.as_mut().and_then(|info| info.docker.as_mut()).unwrap();
        info.image = format!("127.0.0.1:{}/large:1", registry.port);
        (own, config)
    };
    // After the first bytes; and after a third of all, where there is so much that it is not over a moment later.
    let moments = [("early", 1), ("late", size as u64 / 3)];
    for (name, part) in moments.into_iter().take(if is_long() { 2 } else { 1 }) {
        let (own, config) = of_image(name);
        let mut events = docker.events(0);
        let launched = {
            let (docker, own) = (Arc::clone(&docker), own.clone());
            std::thread::spawn(move || launch(&*docker, &own, config))
        };
        let bytes = until("so much has come", || match events.try_next() {
            Some(Next::Event(event)) if event.container == own => match event.what {
                What::Advanced(advance) => Some(advance.bytes).filter(|bytes| *bytes >= part),
                _ => None,
            },
            _ => None,
        });
        let begun = Instant::now();
        let ended = good(docker.destroy(&own)).unwrap();
        let took = begun.elapsed();
        println!("{name}: a pull of {size} bytes cancelled after {bytes} in {took:?}");
        assert!(!is_long() || took < SOON, "{name}: {took:?}");
        assert_eq!(ended.message.as_deref(), Some("Container destroyed while pulling image"));
        let error = launched.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "Container destroyed during pulling");
        until("the engine has let go of the registry", || (registry.connections() == 0).then_some(()));
        until("the engine has put away what it has", || partly_there(&engine).is_empty().then_some(()));
        good(docker.remove(&own));
        fs::remove_dir_all(site.sandboxes().join(own.value())).unwrap();
        assert_eq!(engine.ledger(), before, "{name}");
    }
    assert_eq!(engine.says(&["images", "-q"]).lines().count(), 1, "there is busybox, and nothing else");
    if is_long() {
        // It was a real image, and nothing is in the way of another pull of it.
        let (own, config) = of_image("whole");
        start(&*docker, &own, config);
        assert_eq!(ended(&*docker, &own).status, Some(7 << 8));
        clear(&*docker, &own);
    }
    drop(registry);
    fs::remove_dir_all(place).unwrap();
}
