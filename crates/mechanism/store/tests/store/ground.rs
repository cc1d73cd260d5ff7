// SPDX-License-Identifier: Apache-2.0
//! Places, tools, images made by others, and trees written down so that they can be compared.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_image::{Cancel, Devices, Source, digest_of};
use berth_model::image::{Algorithm, Platform};
use berth_store::{
    Backend, Image, Provisioner, PullRequest, Result, Rootfs, Store, StoreOptions, Unwatched, sources,
};
use berth_sys::mounts::Attributes;

/// Says what a test lacks, root or one of these programs. True: it does nothing.
pub(crate) fn lacks(tools: &[&str]) -> bool {
    let root = (!rustix::process::geteuid().is_root()).then(|| "root".to_owned());
    let lacked = root.or_else(|| berth_testing::lacks(tools));
    if let Some(lacked) = &lacked {
        berth_testing::skip(std::thread::current().name().unwrap_or("a test"), lacked);
    }
    lacked.is_some()
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn sh(dir: &Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A directory with a store and a provisioner in it.
pub(crate) struct Ground {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) provisioner: Provisioner,
}

impl Ground {
    pub(crate) fn new() -> Ground {
        Ground::with(StoreOptions { devices: Devices::Make, ..StoreOptions::default() })
    }

    pub(crate) fn with(options: StoreOptions) -> Ground {
        let dir = tempfile::Builder::new().prefix("berth-store-").tempdir().unwrap();
        Ground::in_dir(dir, options)
    }

    pub(crate) fn in_dir(dir: tempfile::TempDir, options: StoreOptions) -> Ground {
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        let provisioner = Provisioner::open(&dir.path().join("provisioner"), store.clone()).unwrap();
        Ground { dir, store, provisioner }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn open(&self, name: &str) -> Box<dyn Source> {
        sources::open(name, self.store.path(), &Platform::host(), &Cancel::new()).unwrap().unwrap()
    }

    pub(crate) fn pull(&self, name: &str) -> Result<Image> {
        let source = sources::open(name, self.store.path(), &Platform::host(), &Cancel::new()).unwrap()?;
        self.pull_from(name, source.as_ref())
    }

    pub(crate) fn pull_from(&self, name: &str, source: &dyn Source) -> Result<Image> {
        let request = PullRequest { name, source, platform: None };
        self.store.pull(&request, &Cancel::new(), &Unwatched)
    }

    /// A root file system of the image, mounted, and what is in it.
    pub(crate) fn tree(&self, holder: &str, image: &Image, backend: Backend) -> (Rootfs, OwnedFd, Tree) {
        let rootfs = self.provisioner.provision(holder, image, backend).unwrap();
        let mount = rootfs.mount(None, Attributes::NODEV).unwrap();
        let tree = tree(Path::new(&format!("/proc/self/fd/{}", mount.as_raw_fd())));
        (rootfs, mount, tree)
    }

    /// What is in staging or in the trash.
    pub(crate) fn rubbish(&self) -> Vec<PathBuf> {
        let list =
            |name: &str| fs::read_dir(self.path("store").join(name)).unwrap().map(|e| e.unwrap().path());
        list("staging").chain(list("trash")).collect()
    }
}

/// Everything about a tree that an image says: by path.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

pub(crate) fn tree(top: &Path) -> Tree {
    let mut all = Tree::new();
    let mut inodes: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(at) = todo.pop() {
        let mut names: Vec<_> =
            fs::read_dir(top.join(&at)).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        let mut dirs = Vec::new();
        for name in names {
            let path = at.join(name);
            let meta = fs::symlink_metadata(top.join(&path)).unwrap();
            all.insert(path.clone(), describe(&top.join(&path), &path, &meta, &mut inodes));
            if meta.is_dir() {
                dirs.push(path);
            }
        }
        todo.extend(dirs.into_iter().rev());
    }
    // A name alone may still count more than one: overlayfs counts those that it hides.
    for paths in inodes.values().filter(|paths| paths.len() > 1) {
        for path in paths {
            *all.get_mut(path).unwrap() += &format!(" same as {:?}", paths[0]);
        }
    }
    let meta = fs::metadata(top).unwrap();
    all.insert("/".into(), format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid()));
    all
}

fn describe(at: &Path, path: &Path, meta: &fs::Metadata, inodes: &mut HashMap<u64, Vec<PathBuf>>) -> String {
    let kind = meta.file_type();
    let mut text = format!("{:o} {}:{} {}", meta.mode(), meta.uid(), meta.gid(), xattrs(at));
    if kind.is_file() {
        let mut content = Vec::new();
        fs::File::open(at).unwrap().read_to_end(&mut content).unwrap();
        text += &format!(" {} {}", meta.len(), digest_of(Algorithm::Sha256, &content).short());
    }
    if kind.is_symlink() {
        text += &format!(" -> {:?}", fs::read_link(at).unwrap());
    }
    if kind.is_char_device() || kind.is_block_device() {
        text += &format!(" dev {:x}", meta.rdev());
    }
    if !kind.is_dir() && meta.nlink() > 1 {
        inodes.entry(meta.ino()).or_default().push(path.to_owned());
    }
    if !kind.is_dir() {
        text += &format!(" {}", meta.mtime());
    }
    text
}

fn xattrs(at: &Path) -> String {
    let mut list = vec![0; 64 << 10];
    let count = rustix::fs::llistxattr(at, &mut list[..]).unwrap_or(0);
    let mut all: Vec<String> = list[..count]
        .split(|&byte| byte == 0)
        .filter(|name| name.starts_with(b"user.") || *name == b"security.capability")
        .map(|name| {
            let mut value = vec![0; 4096];
            let name = std::str::from_utf8(name).unwrap();
            let length = rustix::fs::lgetxattr(at, name, &mut value[..]).unwrap();
            format!("{name}={:?}", &value[..length])
        })
        .collect();
    all.sort();
    all.join(",")
}

/// Fails with all differences, not only the first.
pub(crate) fn same(what: &str, ours: &Tree, theirs: &Tree) {
    let mut differences = Vec::new();
    for path in ours.keys().chain(theirs.keys().filter(|path| !ours.contains_key(*path))) {
        let (mine, other) = (ours.get(path), theirs.get(path));
        if mine != other {
            differences.push(format!("{path:?}\n  ours   {mine:?}\n  theirs {other:?}"));
        }
    }
    let (shown, count) = (&differences[..differences.len().min(30)], differences.len());
    assert!(differences.is_empty(), "{what}: {count} differences\n{}", shown.join("\n"));
    assert!(ours.len() > 1, "{what}: there is nothing to compare");
}

/// Layers that do everything a layer can do, as tars in `dir`, the lowest first.
pub(crate) fn layers(dir: &Path) -> Vec<PathBuf> {
    sh(dir, BASE);
    sh(dir, CHANGES);
    sh(dir, UNLISTED);
    sh(dir, AGAIN);
    (1..=4).map(|number| dir.join(format!("{number}.tar"))).collect()
}

const BASE: &str = r#"
mkdir -p 1/usr/lib/deep/er 1/usr/bin 1/etc/opt 1/tmp 1/d/sub 1/var/gone/x 1/srv/opaque/below 1/home/u
cd 1
chmod 0711 usr; chmod 1777 tmp; chmod 2755 etc/opt; chmod 0700 home/u; chown 1000:1001 home/u
ln -s usr/lib lib; ln -s /usr/bin bin; ln -s nowhere dangling; ln -s /etc/passwd home/u/link
echo root:x:0:0:root:/root:/bin/sh > etc/passwd; : > etc/empty
head -c 1000000 /dev/urandom > usr/lib/big; truncate -s 3M usr/lib/sparse; printf x | dd of=usr/lib/sparse bs=1 seek=2000000 conv=notrunc 2>/dev/null
cp /bin/true usr/bin/suid; chmod 4755 usr/bin/suid; cp /bin/true usr/bin/caps; setcap cap_net_bind_service+ep usr/bin/caps
cp /bin/true usr/bin/sgid; chown 0:42 usr/bin/sgid; chmod 2711 usr/bin/sgid
echo same > d/one; ln d/one d/sub/two; ln d/one usr/three
echo mine > home/u/file; chown 70000:70001 home/u/file
setfattr -n user.note -v hello d/sub; setfattr -n user.note -v world etc/empty
mkfifo var/fifo; mknod var/null c 1 3; mknod var/disk b 8 1
echo a > var/gone/x/f; echo b > srv/opaque/below/f; echo c > srv/opaque/f; echo d > d/replaced; mkdir etc/dir; echo e > etc/dir/f
long=usr/lib/deep/er/$(printf 'n%.0s' $(seq 1 200)); echo long > $long; ln -s $(printf 'l%.0s' $(seq 1 150)) usr/longlink
echo odd > "d/with space"; echo odd > "d/$(printf 'new\nline')"; echo ü > d/ünï; echo no > d/x.wh.y; echo f > d/kept
touch -d '2001-02-03 04:05:06.789' d/kept; chmod 0000 d/kept
chown 5:6 .; chmod 0751 .
tar --format=pax --xattrs --xattrs-include='*' --numeric-owner --sort=name -cf ../1.tar .
"#;

const CHANGES: &str = r"
mkdir -p 2/var 2/srv/opaque 2/d 2/etc 2/usr/lib 2/home/u; cd 2
touch var/.wh.gone srv/opaque/.wh..wh..opq d/.wh.with\ space etc/.wh.passwd d/.wh.never-there
echo new > srv/opaque/new
mkdir d/replaced; echo inside > d/replaced/f
echo now-a-file > etc/dir
mkdir lib; echo own > lib/f
echo changed > d/one
touch d/.wh.sub; mkdir d/sub; echo fresh > d/sub/fresh
chmod 0750 home/u; chown 1000:1001 home/u
cp /bin/true usr/lib/caps2; setcap cap_sys_ptrace+ep usr/lib/caps2
tar --format=pax --xattrs --xattrs-include='*' --numeric-owner --sort=name -cf ../2.tar var srv d etc lib usr home
";

/// Entries whose directories are below, or behind links that are below.
const UNLISTED: &str = r"
mkdir -p 3/bin 3/usr/lib 3/usr/bin 3/nowhere/at/all 3/home/u; cd 3
echo through > bin/through; echo x > nowhere/at/all/x; echo y > home/u/y; touch home/u/.wh.file
tar --format=gnu --numeric-owner -cf ../3.tar bin/through nowhere/at/all/x home/u/y home/u/.wh.file
mkdir h; echo big > h/big; ln h/big h/big2; cd h
";

const AGAIN: &str = r"
mkdir -p 4/etc 4/srv 4/var; cd 4
echo back > etc/passwd; touch srv/.wh.opaque; mkdir var/gone; chmod 0700 var/gone; touch etc/.wh.dir
tar --format=ustar --numeric-owner --sort=name -cf ../4.tar etc/passwd etc/.wh.dir srv/.wh.opaque var/gone
";

/// An image layout with these layers, made by umoci.
pub(crate) fn layout(dir: &Path, tag: &str, layers: &[PathBuf]) {
    let layout = dir.join("layout");
    let image = format!("{}:{tag}", layout.display());
    if !layout.exists() {
        run("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    }
    run("umoci", &["new", "--image", &image]);
    for layer in layers {
        run("umoci", &["raw", "add-layer", "--image", &image, layer.to_str().unwrap()]);
    }
}

/// What umoci makes of it.
pub(crate) fn umoci(dir: &Path, tag: &str) -> Tree {
    let bundle = dir.join(format!("bundle-{tag}"));
    let image = format!("{}:{tag}", dir.join("layout").display());
    run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]);
    tree(&bundle.join("rootfs"))
}

/// A real root file system as a tar, made once on a machine; nothing where that can not be done.
pub(crate) fn debian() -> Option<PathBuf> {
    if lacks(&["mmdebstrap"]) {
        return None;
    }
    let cache =
        std::env::var_os("BERTH_TEST_CACHE").map_or_else(|| "/var/tmp/berth-test".into(), PathBuf::from);
    fs::create_dir_all(&cache).unwrap();
    let (tar, lock) = (cache.join("debian.tar"), cache.join("debian.lock"));
    let lock = fs::File::create(lock).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !tar.exists() {
        let new = cache.join("debian.new.tar");
        // Mirrors are not always fresh; what is in it does not matter here.
        let stale = "--aptopt=Acquire::Check-Valid-Until \"false\"";
        let made = Command::new("mmdebstrap")
            .args(["--variant=minbase", stale, "stable"])
            .arg(&new)
            .output()
            .unwrap();
        if !made.status.success() {
            eprintln!("skipped: mmdebstrap failed: {}", String::from_utf8_lossy(&made.stderr));
            return None;
        }
        fs::rename(new, &tar).unwrap();
    }
    Some(tar)
}
