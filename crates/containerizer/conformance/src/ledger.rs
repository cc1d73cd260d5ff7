// SPDX-License-Identifier: Apache-2.0
//! The leak ledger: what the host holds, written down before and after, so that "nothing stays behind" is a
//! comparison and not a hope.
//!
//! Other tests and other people share the host, so a ledger has a [`Scope`]: things that name the scope's
//! marker or lie below its directories and cgroups are always counted; what can not be attributed
//! (descriptors without a path, dead children, network namespaces, interfaces, the number of mounts) is
//! counted when [`Breadth`] says that this process, or the whole host, is ours alone for the moment.
//!
//! Only `std` and what the kernel shows in `/proc` and `/sys` (proc(5), sysfs(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much may be attributed to the scope without its name on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breadth {
    /// Only what bears the marker or lies in the scope's places: other tests may run beside.
    Scoped,
    /// Also every descriptor and every dead child of this process: nothing else may run in this process.
    Process,
    /// Also the namespaces, interfaces, loop devices and the number of mounts of the host: nothing else may
    /// run on it.
    Host,
}

/// What a ledger looks at.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Text that is in the command line or the environment of everything started for the scope.
    pub marker: String,
    /// Part of the path of every cgroup of the scope, below any hierarchy: `berth/<instance>`.
    pub cgroup: Option<PathBuf>,
    /// Directories of the scope: work_dir, runtime_dir. Listed whole, mounts on and below them counted.
    pub directories: Vec<PathBuf>,
    /// How much else is ours.
    pub breadth: Breadth,
}

impl Scope {
    /// A scope of one marker and some directories, [`Breadth::Scoped`].
    pub fn new(marker: impl Into<String>, directories: impl IntoIterator<Item = PathBuf>) -> Scope {
        Scope {
            marker: marker.into(),
            cgroup: None,
            directories: directories.into_iter().collect(),
            breadth: Breadth::Scoped,
        }
    }

    /// The same with cgroups whose path has `path` in it.
    pub fn with_cgroup(mut self, path: impl Into<PathBuf>) -> Scope {
        self.cgroup = Some(path.into());
        self
    }

    /// The same with another breadth.
    pub fn with_breadth(mut self, breadth: Breadth) -> Scope {
        self.breadth = breadth;
        self
    }

    fn holds(&self, path: &Path) -> bool {
        self.directories.iter().any(|directory| path.starts_with(directory))
    }

    fn holds_cgroup(&self, path: &Path) -> bool {
        let Some(part) = &self.cgroup else { return false };
        let part: Vec<_> =
            part.components().filter(|c| !matches!(c, std::path::Component::RootDir)).collect();
        let path: Vec<_> = path.components().collect();
        !part.is_empty() && path.windows(part.len()).any(|window| window == part)
    }
}

/// What the host held at one moment. Each entry is one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    scope_text: String,
    entries: BTreeSet<String>,
}

impl Ledger {
    /// Writes down everything in the scope. What vanishes while it is being read was not there; what can not
    /// be read for another reason is an entry of its own, so that it is seen.
    pub fn take(scope: &Scope) -> Ledger {
        let mut entries = BTreeSet::new();
        processes(scope, &mut entries);
        mounts(scope, &mut entries);
        cgroups(scope, &mut entries);
        files(scope, &mut entries);
        descriptors(scope, &mut entries);
        loop_devices(scope, &mut entries);
        if scope.breadth >= Breadth::Host {
            network(&mut entries);
        }
        Ledger { scope_text: scope.marker.clone(), entries }
    }

    /// What the host holds when it has held the same for `quiet`, or at `deadline`: whoever was here before may have
    /// begun to close what it had and not come to the end.
    pub fn calm(scope: &Scope, quiet: Duration, deadline: Instant) -> Ledger {
        let (mut ledger, mut since) = (Ledger::take(scope), Instant::now());
        while since.elapsed() < quiet && Instant::now() < deadline {
            std::thread::sleep((quiet / 8).min(deadline.saturating_duration_since(Instant::now())));
            let now = Ledger::take(scope);
            if !diff(&ledger, &now).is_empty() {
                (ledger, since) = (now, Instant::now());
            }
        }
        ledger
    }

    /// The lines, sorted.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(String::as_str)
    }

    /// Takes ledgers until one equals this one, or until `deadline`; then the difference is the error.
    pub fn settle(&self, scope: &Scope, deadline: Instant) -> Result<(), Vec<String>> {
        let mut pause = Duration::from_millis(1);
        loop {
            let difference = diff(self, &Ledger::take(scope));
            if difference.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(difference);
            }
            // There is nothing to be woken by: a process table and a mount table tell nobody. Look again,
            // less and less.
            std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// What one ledger has and the other has not: `left behind: …` and `lost: …`.
pub fn diff(before: &Ledger, after: &Ledger) -> Vec<String> {
    let more = after.entries.difference(&before.entries).map(|entry| format!("left behind: {entry}"));
    let less = before.entries.difference(&after.entries).map(|entry| format!("lost: {entry}"));
    more.chain(less).collect()
}

/// Processes whose cgroup, environment or command line names the scope, and (of this process) dead children.
fn processes(scope: &Scope, entries: &mut BTreeSet<String>) {
    let own = std::process::id();
    for pid in numbers(Path::new("/proc")) {
        if pid == own {
            continue;
        }
        let place = PathBuf::from(format!("/proc/{pid}"));
        let Some(stat) = fs::read_to_string(place.join("stat")).ok() else { continue };
        let (name, state, parent, started) = parse_stat(&stat);
        if state == "Z" {
            if scope.breadth >= Breadth::Process && parent == own {
                entries.insert(format!("dead child {pid} ({name}) that was never waited for"));
            }
            continue;
        }
        let in_cgroup = fs::read_to_string(place.join("cgroup")).is_ok_and(|text| {
            text.lines()
                .filter_map(|line| line.splitn(3, ':').nth(2))
                .any(|path| scope.holds_cgroup(Path::new(path)))
        });
        let marked = |file: &str| contains(&place.join(file), scope.marker.as_bytes());
        if in_cgroup || marked("cmdline") || marked("environ") {
            entries.insert(format!("process {pid} ({name}), started at tick {started}"));
        }
    }
}

/// The command name, the state letter, the parent and the start time of a line of `/proc/<pid>/stat`.
fn parse_stat(stat: &str) -> (&str, &str, u32, &str) {
    // The name stands in parentheses and may have any characters in it, parentheses too: the last one ends
    // it.
    let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { return ("?", "?", 0, "?") };
    let mut rest = stat[close + 1..].split_ascii_whitespace();
    let state = rest.next().unwrap_or("?");
    let parent = rest.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    // Field 22 of proc_pid_stat(5); state is field 3 and the parent field 4.
    let started = rest.nth(17).unwrap_or("?");
    (&stat[open + 1..close], state, parent, started)
}

fn contains(file: &Path, needle: &[u8]) -> bool {
    if needle.is_empty() {
        return false;
    }
    let Ok(mut file) = fs::File::open(file) else { return false };
    let mut text = Vec::new();
    // What was read before an error (the process died) counts.
    let _ = file.read_to_end(&mut text);
    text.windows(needle.len()).any(|window| window == needle)
}

/// Mounts on or below the scope's directories, and of the host how many there are.
fn mounts(scope: &Scope, entries: &mut BTreeSet<String>) {
    let table = match fs::read("/proc/self/mountinfo") {
        Ok(table) => table,
        Err(error) => {
            entries.insert(format!("/proc/self/mountinfo can not be read: {error}"));
            return;
        }
    };
    let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut count = 0usize;
    for line in lines {
        count += 1;
        // "36 35 98:0 /root /point options ... - type source superoptions", with octal escapes.
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(id) = fields.next() else { continue };
        let (Some(root), Some(point)) = (fields.nth(2), fields.next()) else { continue };
        let point = PathBuf::from(OsStr::from_bytes(&unescape(point)));
        if scope.holds(&point) {
            let (id, root) = (String::from_utf8_lossy(id), String::from_utf8_lossy(root));
            entries.insert(format!("mount {id} on {} (root {root})", point.display()));
        }
    }
    if scope.breadth >= Breadth::Host {
        entries.insert(format!("{count} mounts on the host"));
    }
}

/// Undoes the `\040` of mountinfo.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let octal = text.get(at + 1..at + 4).filter(|d| d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match (text[at], octal) {
            (b'\\', Some(digits)) => {
                let value = digits.iter().fold(0u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                out.push(u8::try_from(value).unwrap_or(b'?'));
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Every cgroup of the scope, in every hierarchy below `/sys/fs/cgroup`.
fn cgroups(scope: &Scope, entries: &mut BTreeSet<String>) {
    if scope.cgroup.is_none() {
        return;
    }
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            // Links (cpu → cpu,cpuacct) would count a hierarchy twice; file_type does not follow them.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if scope.holds_cgroup(&path) {
                    entries.insert(format!("cgroup {}", path.display()));
                }
                open.push(path);
            }
        }
    }
}

/// Every file, directory, link and socket below the scope's directories, with its kind.
fn files(scope: &Scope, entries: &mut BTreeSet<String>) {
    let mut open = scope.directories.clone();
    while let Some(directory) = open.pop() {
        let listing = match fs::read_dir(&directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                entries.insert(format!("directory {} can not be read: {error}", directory.display()));
                continue;
            }
        };
        for entry in listing.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            let word = if kind.is_dir() {
                "directory"
            } else if kind.is_symlink() {
                "link"
            } else if kind.is_socket() {
                "socket"
            } else if kind.is_fifo() {
                "fifo"
            } else {
                "file"
            };
            entries.insert(format!("{word} {}", path.display()));
            if kind.is_dir() {
                open.push(path);
            }
        }
    }
}

/// Descriptors of this process: those that lie in the scope, or all of them.
fn descriptors(scope: &Scope, entries: &mut BTreeSet<String>) {
    let place = Path::new("/proc/self/fd");
    let mut of_scope: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for number in numbers(place) {
        // The descriptor that lists the directory is among them, and closed by now: its link is gone.
        let Ok(target) = fs::read_link(place.join(number.to_string())) else { continue };
        if scope.breadth >= Breadth::Process {
            entries.insert(format!("descriptor {number} of this process: {}", target.display()));
        } else if scope.holds(&target) {
            *of_scope.entry(target).or_default() += 1;
        }
    }
    // Other tests open and close beside, so that what is opened again has another number.
    for (target, count) in of_scope {
        entries.insert(format!("descriptor ({count} of them) of this process: {}", target.display()));
    }
}

/// Loop devices over files of the scope, or all of them.
fn loop_devices(scope: &Scope, entries: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_bytes().starts_with(b"loop") {
            continue;
        }
        let Ok(backing) = fs::read(entry.path().join("loop/backing_file")) else { continue };
        let backing = PathBuf::from(OsStr::from_bytes(backing.trim_ascii_end()));
        if scope.breadth >= Breadth::Host || scope.holds(&backing) {
            entries.insert(format!("loop device {} over {}", name.display(), backing.display()));
        }
    }
}

/// Network namespaces that some process is in, and the interfaces of ours.
fn network(entries: &mut BTreeSet<String>) {
    for pid in numbers(Path::new("/proc")) {
        if let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/net")) {
            entries.insert(format!("network namespace {}", namespace.display()));
        }
    }
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        entries.insert(format!("interface {}", entry.file_name().display()));
    }
}

/// The entries of a directory that are numbers.
fn numbers(directory: &Path) -> Vec<u32> {
    let listing = fs::read_dir(directory).into_iter().flatten().flatten();
    listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Site;
    use std::process::{Command, Stdio};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// Two ledgers around `act`; what the second has more.
    fn seen(scope: &Scope, act: impl FnOnce()) -> Vec<String> {
        let before = Ledger::take(scope);
        act();
        diff(&before, &Ledger::take(scope))
    }

    #[test]
    fn a_process_is_seen_by_its_environment_until_it_is_gone() {
        let site = Site::new("ledger-process").unwrap();
        let scope = site.scope();
        let before = Ledger::take(&scope);
        let mut child = Command::new("sleep")
            .arg("1000")
            .env("BERTH_TEST_MARKER", site.marker())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // Spawn returns after the exec, so the environment is the new one.
        let difference = diff(&before, &Ledger::take(&scope));
        assert_eq!(difference.len(), 1, "{difference:?}");
        assert!(difference[0].starts_with(&format!("left behind: process {}", child.id())), "{difference:?}");
        assert_eq!(before.settle(&scope, Instant::now()).unwrap_err(), difference);
        child.kill().unwrap();
        child.wait().unwrap();
        before.settle(&scope, soon()).unwrap();
    }

    #[test]
    fn what_is_about_to_go_is_waited_for() {
        let site = Site::new("ledger-calm").unwrap();
        let (scope, going) = (site.scope(), site.work_dir().join("going"));
        fs::create_dir_all(&going).unwrap();
        let calm = Ledger::take(&scope);
        let files: Vec<_> = (0..5).map(|n| going.join(n.to_string())).collect();
        files.iter().for_each(|file| fs::write(file, "").unwrap());
        let goes = std::thread::spawn(move || {
            for file in files {
                std::thread::sleep(Duration::from_millis(20));
                fs::remove_file(file).unwrap();
            }
        });
        let taken = Ledger::calm(&scope, Duration::from_millis(400), soon());
        goes.join().unwrap();
        assert_eq!(diff(&calm, &taken), [""; 0]);
        // What never rests is looked at when the time is over.
        let now = Instant::now();
        Ledger::calm(&scope, Duration::from_secs(1000), now + Duration::from_millis(1));
        assert!(now.elapsed() < Duration::from_secs(100));
    }

    #[test]
    fn a_mount_is_seen_until_it_is_taken_away() {
        let site = Site::new("ledger-mount").unwrap();
        let point = site.work_dir().join("a mount");
        fs::create_dir_all(&point).unwrap();
        let scope = site.scope();
        let before = Ledger::take(&scope);
        let mount = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&point).output().unwrap();
        if !mount.status.success() {
            println!("skipped: mounting needs root: {}", String::from_utf8_lossy(&mount.stderr));
            return;
        }
        let difference = diff(&before, &Ledger::take(&scope));
        assert!(Command::new("umount").arg(&point).status().unwrap().success());
        assert_eq!(difference.len(), 1, "{difference:?}");
        assert!(difference[0].contains(&format!("on {}", point.display())), "{difference:?}");
        before.settle(&scope, soon()).unwrap();
    }

    #[test]
    fn a_cgroup_is_seen_until_it_is_removed() {
        let site = Site::new("ledger-cgroup").unwrap();
        let scope = site.scope();
        let part = scope.cgroup.clone().unwrap();
        let hierarchy = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.join("cgroup.procs").exists());
        let before = Ledger::take(&scope);
        let Some(group) = hierarchy.map(|path| path.join(&part)) else {
            println!("skipped: no cgroup hierarchy below /sys/fs/cgroup");
            return;
        };
        if let Err(error) = fs::create_dir_all(&group) {
            println!("skipped: making a cgroup needs root: {error}");
            return;
        }
        let difference = diff(&before, &Ledger::take(&scope));
        fs::remove_dir(&group).unwrap();
        // The folder above is shared with whoever else tests; it goes with the last of them.
        let _ = fs::remove_dir(group.parent().unwrap());
        assert_eq!(difference, [format!("left behind: cgroup {}", group.display())]);
        before.settle(&scope, soon()).unwrap();
    }

    #[test]
    fn files_directories_and_links_are_seen() {
        let site = Site::new("ledger-files").unwrap();
        let place = site.runtime_dir().join("containers/a");
        let difference = seen(&site.scope(), || {
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("pid"), "1").unwrap();
            std::os::unix::fs::symlink("nowhere", place.join("latest")).unwrap();
        });
        assert_eq!(
            difference,
            [
                format!("left behind: directory {}", place.parent().unwrap().display()),
                format!("left behind: directory {}", place.display()),
                format!("left behind: file {}", place.join("pid").display()),
                format!("left behind: link {}", place.join("latest").display()),
            ]
        );
    }

    #[test]
    fn a_descriptor_in_the_scope_is_seen_beside_other_tests() {
        let site = Site::new("ledger-descriptor").unwrap();
        let path = site.work_dir().join("open");
        fs::write(&path, "").unwrap();
        let mut file = None;
        let difference = seen(&site.scope(), || file = Some(fs::File::open(&path).unwrap()));
        assert_eq!(difference.len(), 1, "{difference:?}");
        assert!(difference[0].ends_with(&format!("of this process: {}", path.display())), "{difference:?}");
        drop(file);
        assert_eq!(Ledger::take(&site.scope()).entries().filter(|e| e.starts_with("descriptor")).count(), 0);
    }

    #[test]
    fn what_went_missing_is_said_too() {
        let site = Site::new("ledger-lost").unwrap();
        let path = site.work_dir().join("kept");
        fs::write(&path, "").unwrap();
        let difference = seen(&site.scope(), || fs::remove_file(&path).unwrap());
        assert_eq!(difference, [format!("lost: file {}", path.display())]);
    }

    #[test]
    fn a_cgroup_path_is_matched_by_whole_names() {
        let scope = Scope::new("m", []).with_cgroup("/berth/one");
        assert!(scope.holds_cgroup(Path::new("/berth/one/c")));
        assert!(scope.holds_cgroup(Path::new("/sys/fs/cgroup/memory/system.slice/berth/one")));
        assert!(!scope.holds_cgroup(Path::new("/berth/one2")));
        assert!(!Scope::new("m", []).holds_cgroup(Path::new("/")));
    }

    #[test]
    fn a_stat_line_with_parentheses_in_the_name_is_read() {
        let line = "12 (a) b (c) S 34 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 777 99";
        assert_eq!(parse_stat(line), ("a) b (c", "S", 34, "777"));
        assert_eq!(parse_stat("nonsense"), ("?", "?", 0, "?"));
    }

    #[test]
    fn the_escapes_of_the_mount_table_are_undone() {
        assert_eq!(unescape(br"/a\040b\134\1"), br"/a b\\1");
    }
}
