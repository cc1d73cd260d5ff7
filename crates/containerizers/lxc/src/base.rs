// SPDX-License-Identifier: Apache-2.0
//! What templates made, kept: a container of LXC that never runs, by template and options. Each container's root file system
//! is a snapshot of one, so that only the first of a kind waits for the template.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_contract::{Error, Phase};
use berth_model::Class;

use crate::error::{of_io, of_tool, warn};
use crate::kept::Entry;
use crate::sandbox;
use crate::settings::Settings;
use crate::tools::{self, Call, Config, IdMap, Kennel, Name, Template};

/// What ends the name of a template's configuration, beside the records, while it works.
const CONFIGURATION: &str = ".conf";
/// Written last: without it, the template did not come to its end.
const WHOLE: &str = "berth-whole";
/// In a container's directory that stays when ours goes.
pub(crate) const KEPT: &str = "berth-kept";
/// How long one waits for another who makes the same, before it looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// A root file system to make snapshots of, with what LXC is to know about it.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) rootfs: PathBuf,
    pub(crate) config: Config,
    /// A temporary root password that the template made.
    pub(crate) password: Option<PathBuf>,
}

/// Those that are being made now.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    busy: Mutex<BTreeSet<String>>,
    done: Condvar,
}

/// A place among those; given back when it is dropped.
struct Turn<'a>(&'a Bases, String);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.0.busy).remove(&self.1);
        self.0.done.notify_all();
    }
}

impl Bases {
    fn turn(&self, key: &str, entry: &Entry) -> Result<Turn<'_>, Error> {
        let mut busy = lock(&self.busy);
        while busy.contains(key) {
            if entry.is_destroyed() {
                return Err(Error::DestroyedDuring(Phase::Provisioning));
            }
            busy = self.done.wait_timeout(busy, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        busy.insert(key.to_owned());
        Ok(Turn(self, key.to_owned()))
    }

    /// The base of a template with these options, made if it is not there.
    pub(crate) fn of_template(
        &self,
        settings: &Settings,
        entry: &Entry,
        template: &str,
        options: &[String],
        map: Option<IdMap>,
    ) -> Result<Base, Error> {
        let template = Template::find(template).map_err(of_tool)?;
        let key = key(&template, options, map);
        let _turn = self.turn(&key, entry)?;
        let place = settings.bases().join(&key);
        if place.join(WHOLE).exists() {
            return base(&place);
        }
        let name = Name::new(&key).map_err(of_tool)?;
        tools::remove_tree(&settings.bases(), &key).map_err(of_tool)?;
        run(settings, entry, &name, &template, options, map)?;
        fs::write(place.join(WHOLE), format!("{}\n{}\n", template.path.display(), options.join("\n")))
            .map_err(of_io(format!("write {}", place.join(WHOLE).display())))?;
        base(&place)
    }

    /// Removes those that none of `used` is a snapshot of.
    pub(crate) fn prune(&self, settings: &Settings, used: &[PathBuf]) -> Result<(), Error> {
        for key in names(&settings.bases())? {
            let busy = lock(&self.busy);
            let place = settings.bases().join(&key);
            if busy.contains(&key) || used.iter().any(|path| path.starts_with(&place)) {
                continue;
            }
            // Held: nobody begins to use what goes.
            tools::remove_tree(&settings.bases(), &key).map_err(of_tool)?;
        }
        Ok(())
    }
}

/// Whether a template came to its end.
pub(crate) fn is_whole(settings: &Settings, name: &str) -> bool {
    settings.bases().join(name).join(WHOLE).exists()
}

/// Removes the configurations of templates that were at work when their agent was killed.
pub(crate) fn remove_configurations(settings: &Settings) -> Result<(), Error> {
    let place = settings.runtime_dir.join("lxc");
    for name in names(&place)? {
        if name.starts_with('.') && name.ends_with(CONFIGURATION) {
            let path = place.join(name);
            fs::remove_file(&path).map_err(of_io(format!("remove {}", path.display())))?;
        }
    }
    Ok(())
}

/// The names in a directory; none if it is not there.
pub(crate) fn names(place: &Path) -> Result<Vec<String>, Error> {
    match fs::read_dir(place) {
        Ok(entries) => {
            Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(of_io(format!("list {}", place.display()))(error)),
    }
}

fn run(
    settings: &Settings,
    entry: &Entry,
    name: &Name,
    template: &Template,
    options: &[String],
    map: Option<IdMap>,
) -> Result<(), Error> {
    // The network is each container's own.
    let mut config = vec![tools::Line::new("lxc.net.0.type", "empty").map_err(of_tool)?];
    if let Some(map) = map {
        config.extend(map.lines().map_err(of_tool)?);
    }
    let file = settings.runtime_dir.join("lxc").join(format!(".{name}{CONFIGURATION}"));
    fs::write(&file, Config(config).to_string()).map_err(of_io(format!("write {}", file.display())))?;
    let kennel_path = kennel(settings, name.as_str());
    let kennel = Kennel::new(&kennel_path);
    // What the template says goes where the container's own errors go.
    let mut words = sandbox::output(&entry.record.config, "stderr").ok();
    let given =
        if template.name.starts_with('/') { template.path.as_os_str() } else { template.name.as_ref() };
    let made = Call::new("lxc-create", &settings.bases(), name)
        .option("--template=", given)
        .option("--config=", &file)
        .words(options)
        .deadline(settings.create)
        .cancelled_by(entry.own.bell())
        .inside(kennel.as_ref())
        .run_telling(&mut |piece| {
            if let Some(file) = &mut words {
                let _ = file.write_all(piece);
            }
        });
    drop(kennel);
    let _ = fs::remove_file(&file);
    match made {
        Ok(_) => Ok(()),
        Err(error) => {
            for left in
                [tools::clear(&settings.bases(), name), tools::remove_tree(&settings.bases(), name.as_str())]
            {
                if let Err(left) = left {
                    warn(&left.chain());
                }
            }
            Err(match error {
                tools::Error::Cancelled { .. } => Error::DestroyedDuring(Phase::Provisioning),
                error => of_tool(error),
            })
        }
    }
}

/// The control group of a template at work.
pub(crate) fn kennel(settings: &Settings, key: &str) -> String {
    format!("{}/{key}.create", settings.cgroup)
}

fn base(place: &Path) -> Result<Base, Error> {
    let config = Config::read(&place.join("config")).map_err(of_tool)?;
    let rootfs = rootfs(&config).unwrap_or_else(|| place.join("rootfs"));
    let name = place.file_name().and_then(|name| tools::Name::new(name.to_str()?).ok());
    let password = name.zip(place.parent()).and_then(|(name, above)| tools::password_file(above, &name));
    Ok(Base { rootfs, config, password })
}

/// The directory of a root file system that is one.
fn rootfs(config: &Config) -> Option<PathBuf> {
    let path = config.get("lxc.rootfs.path")?;
    let path = path.strip_prefix("dir:").unwrap_or(path);
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// The base that somebody's own container is. It has to stand still.
pub(crate) fn of_container(settings: &Settings, name: &str) -> Result<Base, Error> {
    let name = Name::new(name).map_err(of_tool)?;
    let info = tools::info(&settings.lxc_path, &name).map_err(of_tool)?;
    if info.state != "STOPPED" {
        let why = format!("container '{name}' is {}: stop it, or make a copy of it to clone", info.state);
        return Err(Error::other(Class::Conflict, why));
    }
    let config = Config::read(&name.config(&settings.lxc_path)).map_err(of_tool)?;
    let rootfs = rootfs(&config).ok_or_else(|| {
        let kind = config.get("lxc.rootfs.path").unwrap_or("nothing").to_owned();
        let why = format!(
            "container '{name}' has its files in {kind}, and only those in a directory can be cloned here"
        );
        Error::other(Class::Unsupported, why)
    })?;
    Ok(Base { rootfs, config, password: None })
}

/// A name for what a template with these options makes.
fn key(template: &Template, options: &[String], map: Option<IdMap>) -> String {
    let mut hasher = DefaultHasher::new();
    (&template.path, options, map.map(|map| map.base)).hash(&mut hasher);
    // Another program by the same path is another template.
    if let Ok(metadata) = fs::metadata(&template.path) {
        use std::os::unix::fs::MetadataExt;
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()).hash(&mut hasher);
    }
    format!("base-{:016x}", hasher.finish())
}

/// Makes a directory that others may pass through: the root of an unprivileged container is one of them.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(of_io(format!("make {}", path.display())))?;
    let fd = fs::File::open(path).map_err(of_io(format!("open {}", path.display())))?;
    berth_sys::rustix::fs::fchmod(fd.as_fd(), berth_sys::rustix::fs::Mode::from_raw_mode(mode))
        .map_err(|errno| of_io(format!("set the mode of {}", path.display()))(errno.into()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
