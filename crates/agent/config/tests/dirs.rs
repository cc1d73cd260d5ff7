// SPDX-License-Identifier: Apache-2.0
//! The directories of an agent, on real file systems and against real other processes.
#![expect(clippy::unwrap_used, reason = "in tests, helpers included")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_config::{AgentDirs, DirsError, Resolved, Sources, Which, load};
use berth_model::Class;
use berth_sys::rustix;

struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        Host { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn flags_for(&self, work: &str, runtime: &str) -> Resolved {
        let flag = |name: &str, path: &str| format!("--{name}={}", self.path(path).display()).into();
        let arguments = vec![flag("work_dir", work), flag("runtime_dir", runtime), flag("config_dir", "etc")];
        load(&Sources { arguments, environment: Vec::new(), working_directory: "/".into() }).unwrap()
    }

    fn open_in(&self, work: &str, runtime: &str) -> Result<AgentDirs, DirsError> {
        AgentDirs::open(&self.flags_for(work, runtime))
    }

    fn open(&self) -> Result<AgentDirs, DirsError> {
        self.open_in("work", "run")
    }

    /// The words of a refusal, with the folder's name left out.
    fn refused(&self) -> String {
        self.refused_in("work", "run")
    }

    fn refused_in(&self, work: &str, runtime: &str) -> String {
        let mut error: &dyn std::error::Error = &self.open_in(work, runtime).unwrap_err();
        let mut text = error.to_string();
        while let Some(source) = error.source() {
            text = format!("{text}: {source}");
            error = source;
        }
        text.replace(&self.folder.path().display().to_string(), "DIR")
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Another process that holds an flock of the directory.
fn another_holder(path: &Path) -> Child {
    let mut command = Command::new("flock");
    command.arg("--exclusive").arg(path).arg("cat").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let inode = fs::metadata(path).unwrap().ino();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fs::read_to_string("/proc/locks").unwrap().contains(&format!(":{inode} ")) {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "flock did not lock");
        std::thread::yield_now();
    }
    child
}

#[test]
fn both_are_made_with_their_modes_and_the_instance_id_stays() {
    let host = Host::new();
    let first = host.open_in("a/b/work", "run").unwrap();
    assert!(first.degraded().is_empty());
    let id = first.instance();
    for path in ["a/b/work", "run"] {
        assert_eq!(mode(&host.path(path)), 0o711, "{path}");
    }
    drop(first);
    assert_eq!(host.open_in("a/b/work", "run").unwrap().instance(), id);
    let mut names: Vec<_> = fs::read_dir(host.path("run"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["agent.pid", "instance", "layout"]);
}

#[test]
fn a_mode_that_lets_others_look_is_tightened_and_one_that_lets_them_write_is_refused() {
    let host = Host::new();
    fs::create_dir(host.path("work")).unwrap();
    fs::set_permissions(host.path("work"), fs::Permissions::from_mode(0o755)).unwrap();
    drop(host.open().unwrap());
    assert_eq!(mode(&host.path("work")), 0o711);
    fs::set_permissions(host.path("run"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        host.refused(),
        "--runtime_dir 'DIR/run' has mode 0777, so that others can write in it: use chmod 0711 if you trust what is in it"
    );
    assert_eq!(mode(&host.path("run")), 0o777);
}

#[test]
fn a_second_agent_on_either_directory_is_refused_with_the_pid_of_the_first() {
    let host = Host::new();
    let first = host.open().unwrap();
    let me = std::process::id();
    assert_eq!(
        host.refused_in("work", "other"),
        format!(
            "--work_dir 'DIR/work' is held by process {me}: stop that agent, or give this one another --work_dir"
        )
    );
    assert_eq!(
        host.refused_in("elsewhere", "run"),
        format!(
            "--runtime_dir 'DIR/run' is held by process {me}: stop that agent, or give this one another --runtime_dir"
        )
    );
    assert_eq!(host.open().unwrap_err().class(), Class::Conflict);
    drop(first);
    host.open().unwrap();
}

#[test]
fn a_holder_that_wrote_no_pid_is_found_by_the_kernel_and_its_end_frees_the_directory() {
    let host = Host::new();
    drop(host.open().unwrap());
    fs::remove_file(host.path("run/agent.pid")).unwrap();
    let mut other = another_holder(&host.path("run"));
    let error = host.open().unwrap_err();
    match error {
        DirsError::Held { which: Which::RuntimeDir, pid, .. } => assert_eq!(pid, Some(other.id())),
        other => panic!("{other}"),
    }
    // flock(1) may have started the program it holds the lock for: end both.
    drop(other.stdin.take());
    other.wait().unwrap();
    host.open().unwrap();
}

#[test]
fn a_pid_that_a_dead_agent_left_is_not_taken_for_the_holder() {
    let host = Host::new();
    drop(host.open().unwrap());
    let left = host.path("work/agent.pid");
    let text = fs::read_to_string(&left).unwrap();
    let start = text.find("\"start\":").unwrap();
    fs::write(
        &left,
        format!("{}\"start\":1{}", &text[..start], &text[text[start..].find('}').unwrap() + start..]),
    )
    .unwrap();
    let mut other = another_holder(&host.path("work"));
    let text = host.refused();
    assert!(text.contains(&format!("is held by process {}:", other.id())), "{text}");
    drop(other.stdin.take());
    other.wait().unwrap();
}

#[test]
fn what_mesos_wrote_is_recognised_and_left_as_it_is() {
    for evidence in
        ["meta/slaves/latest", "meta/resources/resources.info", "meta/boot_id", "slaves/S0/frameworks/x"]
    {
        let host = Host::new();
        let file = host.path("work").join(evidence);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, b"\x0a\x04\x00").unwrap();
        let text = host.refused();
        assert!(text.starts_with("--work_dir 'DIR/work' was written by Mesos ('"), "{text}");
        assert!(text.contains("give another --work_dir"), "{text}");
        assert_eq!(host.open().unwrap_err().class(), Class::Unsupported);
        assert!(!host.path("work/layout").exists(), "nothing was written");
    }
    let host = Host::new();
    fs::create_dir_all(host.path("run/containers/d3aa/containers/s1")).unwrap();
    fs::write(host.path("run/containers/d3aa/launch_info"), b"\x0a").unwrap();
    let text = host.refused();
    assert!(
        text.starts_with("--runtime_dir 'DIR/run' was written by Mesos ('containers/d3aa/launch_info'"),
        "{text}"
    );
}

#[test]
fn a_directory_of_ours_with_the_same_places_is_not_taken_for_one_of_mesos() {
    let host = Host::new();
    drop(host.open().unwrap());
    fs::create_dir_all(host.path("work/meta/slaves/S0")).unwrap();
    host.open().unwrap();
}

#[test]
fn a_newer_layout_and_a_swapped_directory_are_refused() {
    let host = Host::new();
    drop(host.open().unwrap());
    assert_eq!(
        host.refused_in("run", "work"),
        "--work_dir 'DIR/run' is another agent's runtime_dir: give this agent directories of its own"
    );
    fs::write(host.path("work/layout"), "{\"format\":\"berth/layout\",\"version\":7,\"of\":\"work_dir\"}\n")
        .unwrap();
    let text = host.refused();
    assert!(
        text.starts_with("read the layout of --work_dir 'DIR/work': DIR/work/layout has version 7"),
        "{text}"
    );
    assert_eq!(host.open().unwrap_err().class(), Class::Unsupported);
}

#[test]
fn a_layout_that_is_torn_is_written_again_and_a_torn_instance_is_refused() {
    let host = Host::new();
    drop(host.open().unwrap());
    fs::create_dir_all(host.path("work/meta/slaves/S0")).unwrap();
    fs::write(host.path("work/layout"), "").unwrap();
    drop(host.open().unwrap());
    assert!(fs::read_to_string(host.path("work/layout")).unwrap().contains("work_dir"));
    fs::write(host.path("run/instance"), "").unwrap();
    let text = host.refused();
    assert!(text.starts_with("read or draw the instance id of --runtime_dir 'DIR/run': "), "{text}");
}

#[test]
fn what_is_no_directory_is_refused() {
    let host = Host::new();
    fs::write(host.path("work"), "").unwrap();
    assert_eq!(host.refused(), "open --work_dir 'DIR/work': Not a directory (os error 20)");
}

/// A file system of its own, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, options: &str) -> Option<Mounted> {
        fs::create_dir_all(at).unwrap();
        let data = std::ffi::CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("tmpfs", at, "tmpfs", flags, Some(data.as_c_str())) {
            Ok(()) => Some(Mounted(at.to_owned())),
            Err(errno) => {
                println!("skipped: mounting needs root ({errno})");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn an_agent_on_a_full_disk_starts_and_says_what_it_lacks() {
    let host = Host::new();
    let Some(_disk) = Mounted::tmpfs(&host.path("work"), "size=256k,mode=0711") else { return };
    drop(host.open().unwrap());
    let filler = host.path("work/filler");
    let full = fs::write(&filler, vec![1; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let agent = host.open().unwrap();
    let [degraded] = agent.degraded() else { panic!("{:?}", agent.degraded()) };
    assert_eq!(degraded.which, Which::WorkDir);
    assert_eq!(
        degraded.reason,
        "nothing can be written in it (No space left on device (os error 28)): remove containers or images, \
         or free space on that file system"
    );
    assert!(matches!(host.open().unwrap_err(), DirsError::Held { .. }), "it is held all the same");
    drop(agent);
    fs::remove_file(filler).unwrap();
    assert!(host.open().unwrap().degraded().is_empty());
}

#[test]
fn an_agent_on_a_new_full_disk_starts_too() {
    let host = Host::new();
    let Some(_disk) = Mounted::tmpfs(&host.path("work"), "size=64k,mode=0711") else { return };
    fs::write(host.path("work/filler"), vec![1; 1 << 20]).unwrap_err();
    let agent = host.open().unwrap();
    assert_eq!(agent.degraded().len(), 1);
    assert!(!host.path("work/layout").exists());
}

#[test]
fn an_agent_on_a_read_only_disk_starts_and_says_so() {
    let host = Host::new();
    let Some(disk) = Mounted::tmpfs(&host.path("work"), "mode=0711") else { return };
    drop(host.open().unwrap());
    rustix::mount::mount_remount(&disk.0, rustix::mount::MountFlags::RDONLY, c"").unwrap();
    let agent = host.open().unwrap();
    assert_eq!(
        agent.degraded()[0].reason,
        "nothing can be written in it (Read-only file system (os error 30)): mount it writable"
    );
}
