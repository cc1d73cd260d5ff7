// SPDX-License-Identifier: Apache-2.0
//! The blocking core: directories, instance, isolators.

use crate::fetch::Fetching;
use crate::provision::Provision;
use crate::record::{self, LOCK, Listed, PID, Record, STATUS, Standing, UNKNOWN};
use crate::spare::Spares;
use crate::{Error, Result};
use berth_isolator::Settings;
use berth_launcher::{Isolator, Places};
use berth_model::{ContainerId, WaitStatus};
use berth_record::{InstanceId, Lock};
use berth_sys::Errno;
use berth_sys::rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, mkdirat, openat, statat};
use berth_sys::rustix::process::{getpid, set_child_subreaper};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Directories {
    /// `--runtime_dir`, meant to be lost on reboot.
    pub runtime: PathBuf,
    /// `--work_dir`.
    pub work: PathBuf,
    /// `--cgroups_root`, below which each container has its group; `berth/<instance>` when not given.
    pub cgroup: Option<String>,
}

/// Whose containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each with an owner of its own (`berth run`).
    OneShot,
    /// Of one agent.
    Agent,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::OneShot => "oneshot",
            Kind::Agent => "containers",
        }
    }
}

/// Native containers in a pair of directories.
pub struct Native {
    pub(crate) kind: Kind,
    pub(crate) isolators: Vec<Box<dyn Isolator>>,
    pub(crate) runtime: OwnedFd,
    pub(crate) work: OwnedFd,
    /// The lowest layer of every layered root: empty directories for what is mounted.
    pub(crate) skeleton: OwnedFd,
    pub(crate) runtime_path: PathBuf,
    pub(crate) work_path: PathBuf,
    pub(crate) instance: InstanceId,
    pub(crate) cgroup: String,
    /// The store, in which images may be held for containers.
    pub(crate) store: PathBuf,
    /// Which images containers may ask for.
    pub(crate) provision: Option<Provision>,
    /// How output is kept.
    pub(crate) logger: berth_logger::Settings,
    /// What brings URIs.
    pub(crate) fetching: Option<Fetching>,
    /// Where a container sees its sandbox (`--sandbox_directory`).
    pub(crate) sandbox_directory: PathBuf,
    /// Supervisors for the launches to come.
    pub(crate) spares: Spares,
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").field("runtime", &self.runtime_path).field("work", &self.work_path).finish()
    }
}

/// Longest wait for the lock that guards making and collecting containers, which is held for moments.
const DOOR: Duration = Duration::from_secs(10);

impl Native {
    /// Opens the directories, making them when missing (0711 outside, 0700 inside), and builds the isolators.
    ///
    /// # Errors
    /// A directory or the instance's record can not be made, or an isolator not built.
    pub fn open(directories: &Directories, kind: Kind, settings: &Settings) -> Result<Native> {
        if kind == Kind::OneShot {
            // An owner adopts the containers of a supervisor that was killed, and so learns how they ended: at once,
            // and from kernels before 6.15 too (prctl(2), PR_SET_CHILD_SUBREAPER). Its only children are supervisors.
            let _ = set_child_subreaper(Some(getpid()));
        }
        let isolators = berth_isolator::build(settings)?;
        let runtime = outer(&directories.runtime)?;
        let work = outer(&directories.work)?;
        let instance = InstanceId::open(runtime.as_fd())
            .map_err(|source| Error::Record { what: "read the instance's id", source })?;
        let sandbox_directory = PathBuf::from("/mnt/mesos/sandbox");
        let skeleton = skeleton(&work, &directories.work, &sandbox_directory)?;
        Ok(Native {
            kind,
            skeleton,
            isolators,
            runtime: inner(&runtime, kind.name(), &directories.runtime)?,
            work: inner(&work, kind.name(), &directories.work)?,
            runtime_path: directories.runtime.join(kind.name()),
            work_path: directories.work.join(kind.name()),
            cgroup: directories.cgroup.clone().unwrap_or_else(|| format!("berth/{instance}")),
            instance,
            store: directories.work.join("store"),
            provision: None,
            fetching: None,
            logger: berth_logger::Settings::default(),
            sandbox_directory,
            spares: Spares::default(),
        })
    }

    /// The same, with images that containers may ask for.
    #[must_use]
    pub fn with_images(mut self, provision: Provision) -> Native {
        self.store.clone_from(&provision.images.settings().store);
        self.provision = Some(provision);
        self
    }

    /// The same, with output kept so.
    #[must_use]
    pub fn with_logger(mut self, logger: berth_logger::Settings) -> Native {
        self.logger = logger;
        self
    }

    /// The same, with what brings URIs.
    #[must_use]
    pub fn with_fetching(mut self, fetching: Fetching) -> Native {
        self.fetching = Some(fetching);
        self
    }

    /// The instance's id, which is in every control group's path.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Whether there is a container of that name, be it that its record is still to be written.
    ///
    /// # Errors
    /// The directory can not be looked at.
    pub fn is_here(&self, name: &str) -> Result<bool> {
        Ok(self.existing(name)?.is_some())
    }

    /// Where a container has its things.
    pub fn places(&self, id: &ContainerId) -> Places {
        // The levels of a nested one are joined by a dot, which no level has in it.
        let name = id.to_string();
        Places {
            runtime: self.runtime_path.join(&name),
            work: self.work_path.join(&name),
            sandbox: self.work_path.join(&name).join("sandbox"),
            // A nested container's group is in its parent's.
            cgroup: format!("{}/{}", self.cgroup, name.replace('.', "/")),
        }
    }

    /// Guards making and collecting, so that nobody collects a directory whose lock is about to be taken.
    pub(crate) fn door(&self) -> Result<Lock> {
        Lock::acquire(self.runtime.as_fd(), ".door", Instant::now() + DOOR)
            .map_err(|source| Error::Record { what: "wait for another berth command", source })
    }

    /// A container's runtime directory, if it is there.
    pub(crate) fn existing(&self, id: &str) -> Result<Option<OwnedFd>> {
        match directory(self.runtime.as_fd(), id) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::directory("open", self.runtime_path.join(id))(e)),
        }
    }

    /// The names of all containers here.
    ///
    /// # Errors
    /// The directory can not be read.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        names(self.runtime.as_fd()).map_err(Error::directory("list", &self.runtime_path))
    }

    /// Every container, with how it stands. A record that can not be read is left out.
    ///
    /// # Errors
    /// The directory can not be read.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        for name in self.names()? {
            if let Ok(Some(listed)) = self.look(&name) {
                all.push(listed);
            }
        }
        all.sort_by_key(|l| std::cmp::Reverse(l.record.created_ms));
        Ok(all)
    }

    /// Changes a container's record.
    ///
    /// # Errors
    /// It can not be read, or not be written.
    pub(crate) fn rewrite(&self, name: &str, change: impl FnOnce(&mut Record)) -> Result<()> {
        let Some(dir) = self.existing(name)? else { return Ok(()) };
        let mut record = berth_record::read::<Record>(dir.as_fd(), record::CONFIG, record::CAP)
            .map_err(|source| Error::Record { what: "read the container's record", source })?;
        change(&mut record);
        berth_record::write(dir.as_fd(), record::CONFIG, &record, berth_record::Sync::No)
            .map_err(|source| Error::Record { what: "write the container's record", source })
    }

    /// One container, by name.
    ///
    /// # Errors
    /// Its record can not be read.
    pub fn look(&self, name: &str) -> Result<Option<Listed>> {
        let Some(dir) = self.existing(name)? else { return Ok(None) };
        let read = berth_record::read::<Record>(dir.as_fd(), record::CONFIG, record::CAP);
        let record = match read {
            Ok(record) => record,
            Err(berth_record::Error::Missing { .. }) => return Ok(None),
            Err(source) => return Err(Error::Record { what: "read the container's record", source }),
        };
        let standing = standing(dir.as_fd())?;
        // What was removed while it was looked at looks like one that was killed.
        let settled = matches!(standing, Standing::Running { .. } | Standing::Exited { .. });
        let there = || statat(&dir, record::CONFIG, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        Ok((settled || there()).then_some(Listed { record, standing }))
    }
}

/// How a container stands, from its files.
pub(crate) fn standing(dir: BorrowedFd<'_>) -> Result<Standing> {
    let fault = |what| move |source| Error::Record { what, source };
    if let Some((status, at_ms)) = status(dir) {
        return Ok(Standing::Exited { status, at_ms });
    }
    if let Ok(unknown) = berth_record::read::<record::Unknown>(dir, UNKNOWN, record::CAP) {
        return Ok(Standing::Unknown { why: unknown.why });
    }
    if !Lock::is_held(dir, LOCK).map_err(fault("look at the container's lock"))? {
        // Between the look at the record and the look at the lock the container may have ended.
        if let Some((status, at_ms)) = status(dir) {
            return Ok(Standing::Exited { status, at_ms });
        }
        return Ok(Standing::Unknown { why: "its supervisor and its owner were killed".to_owned() });
    }
    match berth_record::read::<record::Pid>(dir, PID, record::CAP) {
        Ok(pid) => Ok(Standing::Running { pid: pid.pid }),
        Err(_) => Ok(Standing::Launching),
    }
}

/// The exit record and when it was written.
pub(crate) fn status(dir: BorrowedFd<'_>) -> Option<(WaitStatus, u64)> {
    let text = berth_record::read_bytes(dir, STATUS, 64).ok()?;
    let number: i32 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    let stat = statat(dir, STATUS, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let at_ms = (stat.st_mtime.max(0) as u64) * 1000 + stat.st_mtime_nsec as u64 / 1_000_000;
    Some((WaitStatus(number), at_ms))
}

pub(crate) fn directory(at: BorrowedFd<'_>, name: &str) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// The entries of a directory but those that begin with a dot.
pub(crate) fn names(dir: BorrowedFd<'_>) -> std::result::Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

/// Opens one of the two outer directories; made with all its parents when missing.
fn outer(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(Error::directory("open", path)),
    }
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |source| Error::Directory { what: "make", path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(failed)?;
    // Whatever the umask was: 0711 lets nobody list it, and what must be traversed can be.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).map_err(failed)?;
    openat(CWD, path, flags, Mode::empty()).map_err(Error::directory("open", path))
}

/// The directories that are mounted on, once for all containers: a root file system that lacks one shows it from here,
/// and nothing has to be made in its writable layer.
fn skeleton(work: &OwnedFd, path: &Path, sandbox: &Path) -> Result<OwnedFd> {
    let deepest = format!("skeleton/{}", sandbox.display().to_string().trim_start_matches('/'));
    let parents = Path::new(&deepest).ancestors().skip(1).filter(|p| !p.as_os_str().is_empty());
    let mut all: Vec<String> = parents.map(|p| p.display().to_string()).collect();
    all.reverse();
    all.extend(["skeleton/dev", "skeleton/proc", "skeleton/sys"].map(str::to_owned));
    all.push(deepest.clone());
    // The last that is made stands for all.
    if directory(work.as_fd(), &deepest).is_err() {
        for name in all {
            match mkdirat(work, name.as_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(Error::directory("make", path.join(name))(e)),
            }
        }
    }
    directory(work.as_fd(), "skeleton").map_err(Error::directory("open", path.join("skeleton")))
}

fn inner(outer: &OwnedFd, name: &str, path: &Path) -> Result<OwnedFd> {
    match directory(outer.as_fd(), name) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(Error::directory("open", path.join(name))),
    }
    match mkdirat(outer, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(Error::directory("make", path.join(name))(e)),
    }
    directory(outer.as_fd(), name).map_err(Error::directory("open", path.join(name)))
}

impl Native {
    /// One of a container's output files, for reading. It is found in a directory of ours, never by a path that the
    /// container can change.
    ///
    /// # Errors
    /// None of that name; no output (its launch has not come so far).
    pub fn output(&self, name: &str, output: crate::Output) -> Result<std::fs::File> {
        if self.existing(name)?.is_none() {
            return Err(Error::NotFound(name.to_owned()));
        }
        let failed = || Error::directory("open the output of", self.work_path.join(name));
        let dir = directory(self.work.as_fd(), name).map_err(failed())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(&dir, output.name(), flags, Mode::empty()).map(std::fs::File::from).map_err(failed())
    }

    /// All that is known of a container: its record, its places, and what its control group says of limits and use.
    ///
    /// # Errors
    /// None of that name; its record can not be read.
    pub fn inspect(&self, name: &str) -> Result<serde_json::Value> {
        let listed = self.look(name)?.ok_or_else(|| Error::NotFound(name.to_owned()))?;
        let places = self.places(&listed.record.id);
        let encoded = berth_record::encode(&listed.record)
            .map_err(|source| Error::Record { what: "read the container's record", source })?;
        let record: serde_json::Value = serde_json::from_slice(&encoded)
            .map_err(|e| Error::Invalid(format!("the record of {name} is not JSON: {e}")))?;
        let group = berth_cgroup::Hierarchies::probe(Path::new("/sys/fs/cgroup"))
            .and_then(|h| berth_cgroup::Group::open(&h, &listed.record.cgroup));
        let (applied, used) = match group {
            Ok(group) => (format!("{:?}", group.limits_applied()), format!("{:?}", group.usage())),
            Err(_) => (String::new(), String::new()),
        };
        Ok(serde_json::json!({
            "id": name, "record": record, "output_lost": self.losses(name), "limits_applied": applied, "usage": used,
            "places": { "runtime": places.runtime, "work": places.work, "sandbox": places.sandbox, "cgroup": places.cgroup },
        }))
    }
}
