// SPDX-License-Identifier: Apache-2.0
//! The agent's side: what is fetched by whom, what comes from the cache, and what goes wrong.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_model::{Class, Uri};

use crate::cache::{Cache, Found, Id, Key, Outcome, Ready, SoFar, Waiter};
use crate::config::{Config, Local};
use crate::error::{FetchError, OpenError};
use crate::place::{Order, put};
use crate::role::STAGED;
use crate::stop::{Stop, wait_for};
use crate::uri::{Item, Source};
use crate::wire::{FromChild, Job, Setup, ToChild, User};
use crate::worker::{Silence, StartError, Worker};

/// Who a container runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// The name, which divides the cache; a number as text where there is no name.
    pub name: String,
    /// Its number on the host.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
    /// Whether the container will have a capability that gets around the modes of files of the host's root
    /// (`CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_CHOWN`, `CAP_LINUX_IMMUTABLE`, `CAP_SYS_ADMIN`), without a user namespace
    /// of its own. It gets no file that others get too.
    pub has_file_capabilities: bool,
}

/// What a container asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The container, for messages.
    pub container: &'a str,
    /// `CommandInfo.uris`.
    pub uris: &'a [Uri],
    /// The sandbox, which exists and belongs to the user.
    pub sandbox: BorrowedFd<'a>,
    /// The container's stdout, open for appending: children write there.
    pub stdout: BorrowedFd<'a>,
    /// The container's stderr.
    pub stderr: BorrowedFd<'a>,
    /// Who it runs as; nobody named: who the agent is.
    pub user: Option<&'a RunAs>,
}

/// How a resource came into the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// Fetched there directly.
    Fetched,
    /// Unpacked from the file in the cache.
    Extracted,
    /// A copy of the file in the cache.
    Copied,
    /// A file of its own that shares its blocks with the one in the cache.
    Cloned,
    /// Another name of the file in the cache, read-only.
    Linked,
}

/// One resource that is in the sandbox now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its URI without what may be secret.
    pub uri: String,
    /// Its name in the sandbox.
    pub output: PathBuf,
    /// How it came there.
    pub how: How,
    /// Its size, or that of its content where it was unpacked.
    pub bytes: u64,
}

/// How far a fetch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Which of the URIs, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// It, without what may be secret.
    pub uri: &'a str,
    /// Bytes that have arrived, or were unpacked.
    pub bytes: u64,
    /// Bytes that there will be, where that is known.
    pub total: Option<u64>,
    /// Whether it is being unpacked.
    pub unpacking: bool,
}

/// Numbers for the agent's metrics, by Mesos's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metrics {
    /// `containerizer/fetcher/task_fetches_succeeded`
    pub task_fetches_succeeded: u64,
    /// `containerizer/fetcher/task_fetches_failed`
    pub task_fetches_failed: u64,
    /// `containerizer/fetcher/cache_size_total_bytes`
    pub cache_size_total_bytes: u64,
    /// `containerizer/fetcher/cache_size_used_bytes`
    pub cache_size_used_bytes: u64,
}

/// The fetcher of an agent: one for all containers, used from any thread.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

/// Downloads for the cache at one moment; more of them wait for their turn.
const AT_ONCE: u32 = 16;

struct Shared {
    config: Config,
    /// None: nothing is kept for others.
    cache: Option<Cache>,
    slots: Slots,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Opens the cache, which is emptied.
    ///
    /// # Errors
    /// The directory can not be used.
    pub fn open(config: Config) -> Result<Fetcher, OpenError> {
        let cache = Cache::open(&config.cache_dir, config.cache_size)?;
        Ok(Fetcher::with(config, Some(cache)))
    }

    /// One that keeps nothing, and touches no directory but sandboxes: for one container. What is to come from the cache
    /// is fetched directly, with a warning in the container's stderr.
    pub fn without_cache(config: Config) -> Fetcher {
        Fetcher::with(config, None)
    }

    fn with(config: Config, cache: Option<Cache>) -> Fetcher {
        let (succeeded, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Fetcher { shared: Arc::new(Shared { config, cache, slots: Slots::new(AT_ONCE), succeeded, failed }) }
    }

    /// Whether URIs can be fetched at all, as far as that is known without fetching: for a launch that is to fail early.
    ///
    /// # Errors
    /// One of them can not.
    pub fn check(&self, uris: &[Uri]) -> Result<(), FetchError> {
        self.shared.plan(uris).map(drop)
    }

    /// Brings all URIs into the sandbox, in their order. Blocks; `stop` ends it at once from any other thread.
    ///
    /// # Errors
    /// One is not there. Those before it are.
    pub fn fetch(
        &self,
        request: &Request<'_>,
        stop: &Stop,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<Vec<Fetched>, FetchError> {
        if request.uris.is_empty() {
            return Ok(Vec::new());
        }
        let fetched = self.shared.fetch(request, stop, progress);
        let counter = if fetched.is_ok() { &self.shared.succeeded } else { &self.shared.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        fetched
    }

    /// Numbers so far.
    pub fn metrics(&self) -> Metrics {
        let (used, total) = self.shared.cache.as_ref().map_or((0, 0), Cache::sizes);
        Metrics {
            task_fetches_succeeded: self.shared.succeeded.load(Ordering::Relaxed),
            task_fetches_failed: self.shared.failed.load(Ordering::Relaxed),
            cache_size_total_bytes: total,
            cache_size_used_bytes: used,
        }
    }
}

impl Shared {
    /// For those who have something of it already.
    fn cache(&self) -> &Cache {
        self.cache.as_ref().expect("leases and downloads are of a cache that there is")
    }

    fn plan(&self, uris: &[Uri]) -> Result<Vec<Item>, FetchError> {
        let home = self.config.frameworks_home.as_deref();
        uris.iter()
            .map(|uri| {
                let shown = || crate::uri::shown(&uri.value);
                let item = Item::of(uri, home).map_err(|reason| FetchError::Uri { uri: shown(), reason })?;
                match (&item.source, self.config.local) {
                    (Source::Local(_), Local::Never) => Err(FetchError::Item {
                        uri: shown(),
                        text: "this agent fetches no files of its own host".into(),
                        class: Class::Denied,
                    }),
                    _ => Ok(item),
                }
            })
            .collect()
    }

    fn fetch(
        self: &Arc<Self>,
        request: &Request<'_>,
        stop: &Stop,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<Vec<Fetched>, FetchError> {
        let items = self.plan(request.uris)?;
        if stop.is_killed() {
            return Err(FetchError::Stopped);
        }
        // Downloads for the cache begin together, while the first item is under way.
        let mut leases = Vec::new();
        for item in &items {
            leases.push(match &self.cache {
                Some(cache) if item.cache => Some(self.acquire(cache, request, item)?),
                _ => None,
            });
        }
        let mut run =
            Run { shared: self, request, stop, progress, items: &items, strict: None, clients: None };
        items
            .iter()
            .zip(leases)
            .enumerate()
            .map(|(index, (item, lease))| run.item(index, item, lease))
            .collect()
    }

    /// Finds a resource in the cache, or begins its download.
    fn acquire(
        self: &Arc<Self>,
        cache: &Cache,
        request: &Request<'_>,
        item: &Item,
    ) -> Result<Lease, FetchError> {
        let user = request.user.map(|user| user.name.clone()).unwrap_or_default();
        let key = Key { user, uri: item.uri.clone() };
        let failed = |error| FetchError::host("look into the fetcher cache", error);
        let (id, state) = match cache.acquire(&key).map_err(failed)? {
            Found::Ready(id, ready) => (id, LeaseState::Ready(ready)),
            Found::Pending(id, waiter) => (id, LeaseState::Pending(waiter)),
            Found::New(id, waiter, name) => {
                self.begin(id, name, &waiter, request, item);
                (id, LeaseState::Pending(waiter))
            }
        };
        Ok(Lease { shared: self.clone(), id, state })
    }

    /// Starts a download for the cache on a thread of its own: it ends with the last who waits, not with the first.
    fn begin(self: &Arc<Self>, id: Id, name: String, waiter: &Waiter, request: &Request<'_>, item: &Item) {
        let begun = || -> io::Result<()> {
            let streams = [request.stdout.try_clone_to_owned()?, request.stderr.try_clone_to_owned()?];
            let download = Download {
                id,
                name,
                item: item.clone(),
                user: request.user.cloned(),
                streams,
                so_far: waiter.so_far.clone(),
            };
            let shared = self.clone();
            std::thread::Builder::new().name("fetch".into()).stack_size(256 << 10).spawn(move || {
                let outcome = download.run(&shared);
                shared.cache().finish(download.id, outcome);
            })?;
            Ok(())
        };
        if let Err(error) = begun() {
            self.cache().finish(id, Err(format!("begin the download: {error}")));
        }
    }

    fn setup(&self, items: &[Item], user: Option<&RunAs>) -> Setup {
        let local = items.iter().filter_map(|item| match &item.source {
            Source::Local(path) => Some(path.clone()),
            _ => None,
        });
        Setup {
            user: user.map(|user| User { uid: user.uid, gid: user.gid, groups: user.groups.clone() }),
            stall_ms: u64::try_from(self.config.stall_timeout.as_millis()).unwrap_or(u64::MAX),
            egress: self.config.egress.clone(),
            proxies: self.config.proxies.clone(),
            certificates: self.config.certificates.clone(),
            limits: self.config.limits.clone(),
            local: local.collect(),
            clients: None,
            sandbox: false,
        }
    }
}

/// A number of turns.
struct Slots {
    free: Mutex<u32>,
    freed: Condvar,
}

struct Turn<'s>(&'s Slots);

impl Slots {
    fn new(free: u32) -> Slots {
        Slots { free: Mutex::new(free), freed: Condvar::new() }
    }

    /// Waits for a turn; none when that is stopped.
    fn take(&self, stop: &Stop) -> Option<Turn<'_>> {
        const LOOK: Duration = Duration::from_millis(100);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            if stop.is_killed() {
                return None;
            }
            free = self.freed.wait_timeout(free, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

fn job(item: &Item, cached: bool) -> Job {
    Job {
        source: item.source.clone(),
        shown: item.shown(),
        output: item.output.clone(),
        executable: item.executable,
        archive: item.archive().filter(|_| !cached),
        cached,
    }
}

/// A place in the cache that is in use.
struct Lease {
    shared: Arc<Shared>,
    id: Id,
    state: LeaseState,
}

enum LeaseState {
    Ready(Ready),
    Pending(Waiter),
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.cache().release(self.id);
    }
}

/// One fetch.
struct Run<'a> {
    shared: &'a Arc<Shared>,
    request: &'a Request<'a>,
    stop: &'a Stop,
    progress: &'a dyn Fn(Progress<'_>),
    items: &'a [Item],
    /// The child that does what we do ourselves, and the one that starts outside programs.
    strict: Option<Worker>,
    clients: Option<Worker>,
}

impl Run<'_> {
    fn item(&mut self, index: usize, item: &Item, lease: Option<Lease>) -> Result<Fetched, FetchError> {
        if self.stop.is_killed() {
            return Err(FetchError::Stopped);
        }
        let uri = item.shown();
        let fetched = |how, bytes| Fetched { uri: uri.clone(), output: item.output.clone(), how, bytes };
        if let Some(lease) = &lease {
            match self.wait(index, item, lease)? {
                Ok(ready) => {
                    let (how, bytes) = self.retrieve(index, item, &ready)?;
                    return Ok(fetched(how, bytes));
                }
                Err(why) => self.warn(&format!(
                    "Reverting to fetching directly into the sandbox for '{uri}', due to failure to fetch through the \
                     cache, with error: {why}"
                )),
            }
        }
        drop(lease);
        if item.cache && self.shared.cache.is_none() {
            self.warn(&format!("'{uri}' is fetched directly into the sandbox: no agent, so no cache"));
        }
        let bytes = self.ask(index, item, &ToChild::Fetch(job(item, false)), None)?;
        Ok(fetched(How::Fetched, bytes))
    }

    /// Waits for the download of this or another container.
    fn wait(&self, index: usize, item: &Item, lease: &Lease) -> Result<Outcome, FetchError> {
        let waiter = match &lease.state {
            LeaseState::Ready(ready) => return Ok(Ok(ready.clone())),
            LeaseState::Pending(waiter) => waiter,
        };
        loop {
            if let Some(outcome) = waiter.outcome.get() {
                return Ok(outcome.clone());
            }
            let soon = Instant::now() + Duration::from_millis(500);
            let fds = [self.stop.bell.as_fd(), waiter.bell.as_fd()];
            match wait_for(&fds, Some(soon)) {
                Ok(Some(0)) => return Err(FetchError::Stopped),
                Ok(Some(_)) => {}
                Ok(None) => {
                    let total = waiter.so_far.total.load(Ordering::Relaxed);
                    let bytes = waiter.so_far.bytes.load(Ordering::Relaxed);
                    self.report(index, item, bytes, Some(total).filter(|total| *total > 0), false);
                }
                Err(error) => {
                    return Err(FetchError::host("wait for the download of another container", error));
                }
            }
        }
    }

    /// From the cache into the sandbox.
    fn retrieve(&mut self, index: usize, item: &Item, ready: &Ready) -> Result<(How, u64), FetchError> {
        let failed = |what: &str, error| {
            FetchError::host(
                format!("Failed to fetch '{}': {what} in the fetcher cache", item.shown()),
                error,
            )
        };
        if item.archive().is_some() {
            let file =
                self.shared.cache().open_file(ready).map_err(|error| failed("open its file", error))?;
            let bytes = self.ask(index, item, &ToChild::Extract(job(item, false)), Some(&file))?;
            return Ok((How::Extracted, bytes));
        }
        let order = Order {
            sandbox: self.request.sandbox,
            output: &item.output,
            executable: item.executable,
            user: self.request.user,
            share_above: self.shared.config.share_above,
        };
        let how = put(self.shared.cache(), ready, &order, &self.stop.bell)
            .map_err(|error| failed("put its file into the sandbox from where it is", error))?;
        how.map(|how| (how, ready.size)).ok_or(FetchError::Stopped)
    }

    /// Gives the child of this fetch something to do, and waits for it.
    fn ask(
        &mut self,
        index: usize,
        item: &Item,
        what: &ToChild,
        file: Option<&File>,
    ) -> Result<u64, FetchError> {
        // What is already in the cache needs no program, whoever fetched it.
        let external = file.is_none() && matches!(item.source, Source::External(_));
        let slot = if external { &mut self.clients } else { &mut self.strict };
        let mut worker = match slot.take() {
            Some(worker) => worker,
            None => self.start(item, external)?,
        };
        worker.say(what, file).map_err(|error| FetchError::host("speak to the fetching process", error))?;
        let answer = loop {
            match worker.hear(&self.stop.bell) {
                Ok(FromChild::Progress { bytes, total, unpacking }) => {
                    self.report(index, item, bytes, total, unpacking);
                }
                Ok(FromChild::Done { bytes }) => break Ok(bytes),
                Ok(FromChild::Failed { class, text }) => {
                    let text = text.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"");
                    break Err(FetchError::Item { uri: item.shown(), text, class: class.into() });
                }
                Ok(_) => break Err(died(item, "spoke out of turn".into())),
                Err(silence) => break Err(silent(item, silence)),
            }
        };
        if answer.is_ok() {
            *(if external { &mut self.clients } else { &mut self.strict }) = Some(worker);
        }
        answer
    }

    fn start(&self, item: &Item, external: bool) -> Result<Worker, FetchError> {
        let config = &self.shared.config;
        let mut setup = self.shared.setup(self.items, self.request.user);
        setup.sandbox = true;
        setup.clients = external.then(|| config.clients());
        let streams = [self.request.stdout, self.request.stderr];
        Worker::start(&config.program, streams, &setup, Some(self.request.sandbox), &self.stop.bell)
            .map_err(|error| not_started(item, error))
    }

    fn report(&self, index: usize, item: &Item, bytes: u64, total: Option<u64>, unpacking: bool) {
        let uri = item.shown();
        (self.progress)(Progress { index, of: self.items.len(), uri: &uri, bytes, total, unpacking });
    }

    /// A line in the container's stderr. It may be full; nothing depends on it.
    fn warn(&self, line: &str) {
        let plain: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = rustix::io::write(self.request.stderr, format!("{plain}\n").as_bytes());
    }
}

/// A download for the cache.
struct Download {
    id: Id,
    name: String,
    item: Item,
    user: Option<RunAs>,
    streams: [OwnedFd; 2],
    so_far: Arc<SoFar>,
}

impl Download {
    fn run(&self, shared: &Shared) -> Outcome {
        let gone = || Err("nobody waits for it".into());
        let Some(stop) = shared.cache().stop_of(self.id) else { return gone() };
        let Some(_turn) = shared.slots.take(&stop) else { return gone() };
        if !matches!(self.item.source, Source::External(_)) {
            return self.fetch(shared, &stop, None);
        }
        let ids = self.user.as_ref().filter(|_| rustix::process::geteuid().is_root());
        let (uid, gid) = (ids.map(|user| user.uid), ids.map(|user| user.gid));
        let staged = shared.cache().stage(&self.name, uid, gid);
        let (dir, path) = staged.map_err(|error| format!("make a directory for the download: {error}"))?;
        let outcome = self.fetch(shared, &stop, Some((dir, path)));
        shared.cache().unstage(&self.name);
        outcome
    }

    fn fetch(&self, shared: &Shared, stop: &Stop, staging: Option<(OwnedFd, PathBuf)>) -> Outcome {
        let mut setup = shared.setup(std::slice::from_ref(&self.item), self.user.as_ref());
        setup.clients = staging.as_ref().map(|(_, path)| {
            let mut clients = shared.config.clients();
            clients.staging = Some(path.clone());
            clients
        });
        let streams = [self.streams[0].as_fd(), self.streams[1].as_fd()];
        let mut worker = Worker::start(&shared.config.program, streams, &setup, None, &stop.bell)
            .map_err(|error| not_started(&self.item, error).to_string())?;
        let failed = |what: &str, error: io::Error| format!("{what}: {error}");
        worker
            .say(&ToChild::Fetch(job(&self.item, true)), None)
            .map_err(|error| failed("speak to the fetching process", error))?;
        let mut file = None;
        loop {
            match worker.hear(&stop.bell) {
                Ok(FromChild::Size(total)) if file.is_none() => {
                    let size = self.reserve(shared, total)?;
                    let made = shared
                        .cache()
                        .create(&self.name)
                        .map_err(|error| failed("make a file of the cache", error))?;
                    let handed = match staging {
                        // A program makes a file of its own.
                        Some(_) => File::open("/dev/null"),
                        None => made.try_clone(),
                    };
                    let handed = handed.map_err(|error| failed("hold a file of the cache", error))?;
                    worker
                        .say(&ToChild::Go { most: size }, Some(&handed))
                        .map_err(|error| failed("speak to the fetching process", error))?;
                    file = Some((made, size));
                }
                Ok(FromChild::Progress { bytes, total, .. }) => {
                    self.so_far.bytes.store(bytes, Ordering::Relaxed);
                    self.so_far.total.store(total.unwrap_or(0), Ordering::Relaxed);
                }
                Ok(FromChild::Done { .. }) => break,
                Ok(FromChild::Failed { text, .. }) => return Err(text),
                Ok(_) => return Err("the fetching process spoke out of turn".into()),
                Err(silence) => return Err(silent(&self.item, silence).to_string()),
            }
        }
        // It is dead before its file is trusted.
        drop(worker);
        let (file, most) = file.ok_or("the fetching process did not ask for room")?;
        if let Some((dir, _)) = &staging {
            adopt(dir, &file, most).map_err(|error| failed("take what the program fetched", error))?;
        }
        self.seal(&file, most)
    }

    fn reserve(&self, shared: &Shared, total: Option<u64>) -> Result<u64, String> {
        match total {
            None => Err("No URL content-length available".into()),
            Some(0) => Err(format!("URI reported content-length 0: {}", self.item.shown())),
            Some(size) => shared.cache().reserve(self.id, size).map(|()| size),
        }
    }

    /// From now on nobody changes it.
    fn seal(&self, file: &File, most: u64) -> Outcome {
        use rustix::fs::{Mode, fchmod};
        let failed = |error: io::Error| format!("look at the file of the cache: {error}");
        let stat = rustix::fs::fstat(file).map_err(|error| failed(error.into()))?;
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > most {
            return Err(format!("it has {size} bytes, more than the {most} that were announced"));
        }
        let executable = self.item.executable;
        let mode = Mode::from_raw_mode(if executable { 0o555 } else { 0o444 });
        fchmod(file, mode).map_err(|error| failed(error.into()))?;
        let written = (stat.st_mtime as i64, stat.st_mtime_nsec as i64);
        Ok(Ready { name: self.name.clone(), size, executable, written })
    }
}

/// Copies what an outside program made: the file is the user's, who may still have it open.
fn adopt(dir: &OwnedFd, to: &File, most: u64) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from: File = openat(dir, STAGED, flags, Mode::empty())?.into();
    if !from.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if rustix::fs::ioctl_ficlone(to, &from).is_ok() {
        return Ok(());
    }
    let copied = io::copy(&mut io::Read::take(from, most.saturating_add(1)), &mut { to })?;
    match copied > most {
        true => Err(io::Error::other(format!("it has more than the {most} bytes that were announced"))),
        false => Ok(()),
    }
}

fn died(item: &Item, how: String) -> FetchError {
    FetchError::Died { uri: item.shown(), how }
}

fn silent(item: &Item, silence: Silence) -> FetchError {
    match silence {
        Silence::Stopped => FetchError::Stopped,
        Silence::Stuck(time) => FetchError::Stuck { uri: item.shown(), seconds: time.as_secs() },
        Silence::Died(how) => died(item, how),
        Silence::Io(error) => FetchError::host("hear from the fetching process", error),
    }
}

fn not_started(item: &Item, error: StartError) -> FetchError {
    match error {
        StartError::Io { what, source } => FetchError::host(format!("Could not fetch URIs: {what}"), source),
        StartError::Refused { class, text } => FetchError::Item { uri: item.shown(), text, class },
        StartError::Silent(silence) => silent(item, silence),
    }
}
