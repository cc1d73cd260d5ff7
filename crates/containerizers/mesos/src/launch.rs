// SPDX-License-Identifier: Apache-2.0
//! The launch pipeline.
//!
//! ```text
//! open the root, resolve the user, prepare    nothing is made: bad input ends here
//! supervisor                                  which makes its child and the namespaces meanwhile
//! lock and record                             the intent, before anything that it announces
//! directories, output files                   (an archive is unpacked now, and its supervisor started after)
//! isolate                                     control group, writable layer, detached mounts
//! plan to the child, URIs fetched while it waits at the gate, pid recorded, go
//! ```
//! A failure after the record undoes all in reverse and removes the record after it; a kill anywhere leaves the record,
//! by which the next command finds the rest (`collect`).

use crate::fault;
use crate::fetch::{self, Ends};
use crate::live::Live;
use crate::native::{self, Kind, Native};
use crate::nested;
use crate::output::{self, Pipes};
use crate::record::{CONFIG, LOCK, PID, Pid, Record, STATUS_BEFORE};
use crate::request::{Output, Request, RootSource, Timings, Watch};
use crate::{Error, Result, rootfs};
use berth_image::{Progress, ResolvedUser};
use berth_launcher::{Container, Event, Part, Phase, Places, Plan, Rootfs, Supervisor, Within, wire};
use berth_logger::Driver;
use berth_model::{ContainerConfig, ContainerId, NativeEvent};
use berth_record::{BootId, Lock, Sync};
use berth_sys::Errno;
use berth_sys::rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Uid, fchown, linkat, mkdirat, openat, unlinkat,
};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where programs are looked for when the container's environment has no PATH.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Native {
    /// Launches a container. It has passed the gate when this returns: it runs, or is about to execute its program.
    ///
    /// # Errors
    /// Whatever kept it from running; nothing of it is left then.
    pub fn launch(&self, mut request: Request, progress: &mut dyn FnMut(Progress)) -> Result<Live> {
        let _launching = (self.kind == Kind::Agent).then(|| self.spares.launching());
        let mut timings = Timings::start();
        let mut places = self.places(&request.id);
        if !request.config.directory.as_os_str().is_empty() {
            places.sandbox = request.config.directory.clone();
        }
        if let Some(around) = &request.within {
            places.sandbox = nested::sandbox_of(&around.sandbox, &request.id);
        }
        let logger = self.settings_of(&request)?;
        let piped = logger.is_piped();
        request.logger = Some(logger);
        self.check_uris(fetch::wanted(&request))?;
        let opened = match &request.within {
            Some(around) if request.shares_root() => Some(around.root()?),
            _ => rootfs::open(&request.root)?,
        };
        if !matches!(request.root, RootSource::Image(_)) {
            arguments(&request.config)?;
        }
        // What can be refused is refused now; for an archive the user is known only when it is unpacked.
        let checked = match opened {
            Some(root) => Some(self.check(&request, root, &places)?),
            None => None,
        };
        timings.mark("check");
        // The supervisor makes its child's namespaces, the longest part of a launch, while we do the rest. Neither
        // needs a record: both end by themselves when we do.
        // A pull may take long, and needs none.
        let pulls = matches!(request.root, RootSource::Image(_)) || !request.volumes.is_empty();
        if request.supervisor.is_none() && !pulls {
            self.begin(&mut request, checked.as_ref())?;
        }
        let mut supervisor = request.supervisor.take();
        if let (Some(supervisor), true) = (&mut supervisor, piped) {
            supervisor.apart()?;
        }
        if let (Some(supervisor), Some(checked)) = (&mut supervisor, &checked) {
            prepare(supervisor, &request, &checked.plan)?;
        }
        timings.mark("spawn");
        let made = self.make(&mut request, &places, checked, &mut supervisor, &mut timings, progress);
        match (made, supervisor) {
            (Ok(made), Some(supervisor)) => {
                let mut live = Live::new(request.id.clone(), places, supervisor, made, request.remove);
                live.timings(&timings);
                match fault::point("go") {
                    Ok(()) => Ok(live),
                    Err(cause) => match live.abandon(self) {
                        undoing if undoing.is_empty() => Err(cause),
                        undoing => Err(Error::Undo { cause: Box::new(cause), undoing }),
                    },
                }
            }
            (Err(failed), supervisor) => {
                // Ends the child too, so that what is undone is in nobody's use.
                if let Some(supervisor) = supervisor {
                    supervisor.abort();
                }
                Err(failed.undo(self, &places))
            }
            (Ok(_), None) => Err(berth_launcher::Error::Gone("the start of the container").into()),
        }
    }

    /// Has a supervisor come: an agent's may be there already.
    fn begin(&self, request: &mut Request, checked: Option<&Checked>) -> Result<()> {
        let alone = self.kind == Kind::Agent && request.within.is_none();
        if let (true, Some(checked)) = (alone, checked) {
            request.supervisor = self.spares.take(checked.plan.wanted(), &request.title());
        }
        match request.supervisor {
            Some(_) => Ok(()),
            None => request.begin(),
        }
    }

    /// Asks every isolator; nothing is made.
    fn check(&self, request: &Request, root: Rootfs, places: &Places) -> Result<Checked> {
        let user = rootfs::user(&root, request.config.user.as_deref())?;
        let mut plan = Plan::new();
        let container = self.container(request, &root, &user, places, None, None);
        for isolator in &self.isolators {
            isolator.prepare(&container, &mut plan)?;
        }
        if let Some(around) = &request.within {
            around.share(&root, &mut plan)?;
        }
        Ok(Checked { root, user, plan })
    }

    fn make(
        &self,
        request: &mut Request,
        places: &Places,
        checked: Option<Checked>,
        supervisor: &mut Option<Supervisor>,
        timings: &mut Timings,
        progress: &mut dyn FnMut(Progress),
    ) -> std::result::Result<Made, Failed> {
        let before = |e: Error| Failed { cause: e, claimed: None };
        fault::point("spawn").map_err(before)?;
        let record = || self.record(request, places);
        let (dir, lock) = self.claim(&request.id, places, record).map_err(before)?;
        timings.mark("record");
        let rest = || {
            let work = self.work(request, places)?;
            timings.mark("work");
            self.provision_volumes(request)?;
            let early = checked.is_some() && supervisor.is_some();
            let checked = match (checked, &request.root) {
                (None, RootSource::Image(_)) => {
                    let root = self.provision(request, &dir, &work, places)?;
                    arguments(&request.config)?;
                    timings.mark("provision");
                    self.check(request, root, places)?
                }
                (None, RootSource::Archive(path)) => {
                    let root = rootfs::unpack(path, &places.work, progress)?;
                    self.check(request, root, places)?
                }
                (None, _) => self.check(request, Rootfs::Host, places)?,
                (Some(checked), _) => checked,
            };
            Watch::tell(&mut request.watch, NativeEvent::Provisioned)?;
            if supervisor.is_none() {
                if request.supervisor.is_none() {
                    self.begin(request, Some(&checked))?;
                }
                *supervisor = request.supervisor.take();
            }
            let gone = || berth_launcher::Error::Gone("the start of the container");
            let supervisor = supervisor.as_mut().ok_or_else(gone)?;
            if !early && request.logger.as_ref().is_some_and(berth_logger::Settings::is_piped) {
                supervisor.apart()?;
            }
            if !early {
                prepare(supervisor, request, &checked.plan)?;
            }
            let begin = |part: &Part<'_>| -> Result<()> {
                fault::point("begin")?;
                Ok(supervisor.begin_with(part)?)
            };
            let run_as = self.run_as(&checked.user, &request.config);
            let (encoded, files) = self.plan(request, places, checked, (&dir, work), begin, timings)?;
            timings.mark("isolate");
            fault::point("send")?;
            let given = request.stdin.take();
            let null;
            let stdin = match files.input.as_ref().map(|(theirs, _)| theirs).or(given.as_ref()) {
                Some(stdin) => stdin,
                None => {
                    // Its own: what it does to the description is to be felt by nobody else.
                    null = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                        .map_err(Error::directory("open", "/dev/null"))?;
                    &null
                }
            };
            let (status, stdout) = (files.status.as_fd(), files.stdout.as_fd());
            let attend = [dir.as_fd(), lock.as_fd(), status, stdout, files.work.as_fd()];
            let input = files.input.iter().map(|(_, ours)| ours.as_fd());
            let piped = files.pipes.iter().flat_map(|pipes| pipes.ours.iter().map(AsFd::as_fd));
            let links = files.links.then(|| files.sandbox.as_fd());
            let attend: Vec<BorrowedFd<'_>> =
                attend.into_iter().chain(input).chain(piped).chain(links).collect();
            let [stdout, stderr] = files.streams();
            supervisor.send(&encoded, &attend, [stdin.as_fd(), stdout, stderr])?;
            timings.mark("send");
            let (checkpoint, watch) = (request.pid_checkpoint.as_deref(), &mut request.watch);
            let uris = &request.config.command_info.uris;
            let fetch = |watch: &mut Option<Watch>| match uris.is_empty() {
                true => Ok(Told::Nothing),
                false => {
                    let ends = Ends {
                        sandbox: files.sandbox.as_fd(),
                        stdout: files.stdout.as_fd(),
                        stderr: files.stderr.as_fd(),
                    };
                    let from = (&request.cancel, request.fetching.as_ref());
                    let id = request.id.to_string();
                    self.fetch(&id, uris, &run_as, &ends, from, watch)?;
                    if let Some(fetching) = &self.fetching {
                        fetching.done(&id, &request.config.directory);
                    }
                    Ok(Told::Isolated)
                }
            };
            let (pid, pidfd) = commit(supervisor, &encoded, &dir, checkpoint, watch, fetch, timings)?;
            Ok((encoded, pid, pidfd, files))
        };
        match rest() {
            Ok((plan, pid, pidfd, files)) => {
                let logged = files.pipes.is_some();
                let output = Some((files.stdout, files.stderr));
                Ok(Made { plan, pid, pidfd, dir, lock, output, logged })
            }
            Err(cause) => Err(Failed { cause, claimed: Some((dir, lock)) }),
        }
    }

    /// Makes the container's runtime directory, locked and with its record.
    pub(crate) fn claim(
        &self,
        id: &ContainerId,
        places: &Places,
        record: impl FnOnce() -> Result<Record>,
    ) -> Result<(OwnedFd, Lock)> {
        let name = &id.to_string();
        // An agent has its directories to itself, and launches nothing while it collects.
        let door = if self.kind == Kind::OneShot { Some(self.door()?) } else { None };
        match mkdirat(&self.runtime, name, Mode::from_bits_truncate(0o700)) {
            Err(Errno::EXIST) => return Err(Error::Exists(id.clone())),
            other => other.map_err(Error::directory("make", &places.runtime))?,
        }
        let claimed = || {
            fault::point("lock")?;
            let dir = native::directory(self.runtime.as_fd(), name)
                .map_err(Error::directory("open", &places.runtime))?;
            let lock = Lock::try_acquire(dir.as_fd(), LOCK)
                .map_err(|source| Error::Record { what: "lock the container", source })?
                .ok_or_else(|| Error::Exists(id.clone()))?;
            drop(door);
            let record = record()?;
            fault::point("record")?;
            // On tmpfs, and lost with the boot: no fsync (41.3).
            berth_record::write(dir.as_fd(), CONFIG, &record, Sync::No)
                .map_err(|source| Error::Record { what: "write the container's record", source })?;
            Ok((dir, lock))
        };
        claimed().inspect_err(|_| drop(self.release(places, crate::collect::Keep::Nothing)))
    }

    pub(crate) fn record(&self, request: &Request, places: &Places) -> Result<Record> {
        let mut config = request.config.clone();
        config.directory = places.sandbox.clone();
        let boot = BootId::current().map_err(|source| Error::Record { what: "read the boot id", source })?;
        Ok(Record {
            id: request.id.clone(),
            config,
            root: match &request.root {
                RootSource::Host => match &request.within {
                    Some(around) => around.parent.root.clone(),
                    None => "host".to_owned(),
                },
                RootSource::Directory(path) | RootSource::Archive(path) => path.display().to_string(),
                RootSource::Image(image) => image.wanted.name.to_string(),
            },
            cgroup: places.cgroup.clone(),
            working_directory: request.working_directory.clone(),
            environment: request.environment.clone(),
            tty: is_tty(&request.config),
            init: request.init,
            remove: request.remove,
            stop_signal: request.stop_signal,
            created_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
            boot: boot.as_str().to_owned(),
        })
    }

    fn plan(
        &self,
        request: &Request,
        places: &Places,
        checked: Checked,
        (dir, work): (&OwnedFd, OwnedFd),
        begin: impl FnOnce(&Part<'_>) -> Result<()>,
        timings: &mut Timings,
    ) -> Result<(berth_launcher::Encoded, Files)> {
        let Checked { root, user, mut plan } = checked;
        // The root first, so that the child has something to do while the rest is made.
        let container = self.container(request, &root, &user, places, Some(work.as_fd()), None);
        for isolator in self.isolators.iter().filter(|i| i.makes_root()) {
            isolator.isolate(&container, &mut plan)?;
        }
        if let Some(part) = plan.head()? {
            begin(&part)?;
        }
        timings.mark("root");
        let mut files = self.files(request, places, dir, work)?;
        self.keep_output(places, request, &user, &mut files, &mut plan)?;
        if self.kind == Kind::Agent {
            // Others than the owner attach to its streams, now or after this agent: the supervisor keeps their other ends.
            plan.flag(wire::FLAG_DETACHED);
            if !is_tty(&request.config) {
                files.input = Some(input(&user)?);
                plan.flag(wire::FLAG_INPUT);
            }
        }
        fault::point("dirs")?;
        if user.uid != 0 || user.gid != 0 {
            for fd in [&files.sandbox, &files.stdout, &files.stderr] {
                fchown(fd, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
                    .map_err(Error::directory("give the sandbox to the user", &places.sandbox))?;
            }
        }
        timings.mark("files");
        let (work, sandbox) = (Some(files.work.as_fd()), Some(files.sandbox.as_fd()));
        let mut container = self.container(request, &root, &user, places, work, sandbox);
        if let Some(within) = &mut container.within {
            within.sandbox = files.around.as_ref().map(AsFd::as_fd);
        }
        for isolator in self.isolators.iter().filter(|i| !i.makes_root()) {
            isolator.isolate(&container, &mut plan)?;
        }
        fault::point("isolate")?;
        if request.notify {
            plan.flag(wire::FLAG_NOTIFY);
        }
        let directory = match &request.working_directory {
            Some(directory) => directory.clone(),
            None if root.is_own() => self.sandbox_directory.display().to_string(),
            None => places.sandbox.display().to_string(),
        };
        match request.working_directory.is_none() && request.within.is_some() && !root.is_own() {
            // The way to its sandbox leads through its parent's, who may have changed it.
            true => plan.directory_without_links(&directory)?,
            false => plan.working_directory(&directory)?,
        }
        let environment = self.environment(request, &root, &user, places);
        let (file, argv) = arguments(&request.config)?;
        let path = environment.iter().rev().find(|(n, _)| n == "PATH").map_or(PATH, |(_, v)| v);
        plan.step(
            "filesystem/linux",
            Phase::Directory,
            wire::Step::Streams {},
            "give the program its streams",
        );
        plan.execute(&file, path, &argv, &environment)?;
        Ok((plan.encode()?, files))
    }

    fn container<'a>(
        &'a self,
        request: &'a Request,
        root: &'a Rootfs,
        user: &'a ResolvedUser,
        places: &'a Places,
        work: Option<BorrowedFd<'a>>,
        sandbox: Option<BorrowedFd<'a>>,
    ) -> Container<'a> {
        Container {
            id: &request.id,
            config: &request.config,
            rootfs: root,
            user,
            places,
            work,
            sandbox,
            image_volumes: &request.image_volumes,
            skeleton: self.skeleton.as_fd(),
            sandbox_directory: &self.sandbox_directory,
            tty: is_tty(&request.config),
            init: request.init,
            pausable: self.kind == Kind::Agent,
            within: request.within.as_ref().map(|around| Within { cgroups: &around.cgroups, sandbox: None }),
        }
    }

    /// Later wins: what every container has, what the caller gives, MESOS_SANDBOX, the configuration's own.
    fn environment(
        &self,
        request: &Request,
        root: &Rootfs,
        user: &ResolvedUser,
        places: &Places,
    ) -> Vec<(String, String)> {
        let sandbox = if root.is_own() { self.sandbox_directory.clone() } else { places.sandbox.clone() };
        let mut all =
            vec![("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), user.home.display().to_string())];
        let later = request
            .environment
            .iter()
            .cloned()
            .chain([("MESOS_SANDBOX".to_owned(), sandbox.display().to_string())])
            .chain(crate::request::variables(&request.config));
        for (name, value) in later {
            match all.iter_mut().find(|(n, _)| *n == name) {
                Some(found) => found.1 = value,
                None => all.push((name, value)),
            }
        }
        all
    }

    /// Makes the container's directory on disk.
    fn work(&self, request: &Request, places: &Places) -> Result<OwnedFd> {
        let name = request.id.to_string();
        let name = name.as_str();
        let fault = |what| Error::directory(what, &places.work);
        match mkdirat(&self.work, name, Mode::from_bits_truncate(0o700)) {
            // Left by a boot whose records are gone: not ours, so it is collected first.
            Err(Errno::EXIST) => {
                let removal = berth_image::remove_tree(self.work.as_fd(), name.as_ref());
                if !removal.is_complete() {
                    return Err(fault("remove the remains of an earlier")(Errno::NOTEMPTY));
                }
                mkdirat(&self.work, name, Mode::from_bits_truncate(0o700)).map_err(fault("make"))?;
            }
            other => other.map_err(fault("make"))?,
        }
        native::directory(self.work.as_fd(), name).map_err(fault("open"))
    }

    /// Has the output go where it is to be kept.
    fn keep_output(
        &self,
        places: &Places,
        request: &Request,
        user: &ResolvedUser,
        files: &mut Files,
        plan: &mut Plan,
    ) -> Result<()> {
        let Some(logger) = &request.logger else { return Ok(()) };
        match logger.driver {
            Driver::Sandbox => plan.flag(wire::FLAG_FILES),
            Driver::None => files.nowhere = Some(output::nowhere()?),
            Driver::Rotating | Driver::Journald | Driver::External => {
                plan.logging(output::encode(logger, request));
                output::mark(logger, &files.work)
                    .map_err(|e| Error::directory("write in", &places.work)(e))?;
                if !is_tty(&request.config) {
                    files.pipes = Some(Pipes::make(user)?);
                }
                if files.links {
                    plan.flag(wire::FLAG_LINKS);
                }
                return Ok(());
            }
        }
        files.links = false;
        Ok(())
    }

    /// Makes what is in it, but for the root file system, and the exit record before it is one.
    fn files(&self, request: &Request, places: &Places, dir: &OwnedFd, work: OwnedFd) -> Result<Files> {
        let fault = |what| Error::directory(what, &places.work);
        if places.sandbox.starts_with(&places.work) {
            mkdirat(&work, "sandbox", Mode::from_bits_truncate(0o750)).map_err(fault("make a sandbox in"))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (sandbox, around) = match &request.within {
            None => {
                let sandbox = openat(CWD, &places.sandbox, flags, Mode::empty());
                (sandbox.map_err(Error::directory("open the sandbox", &places.sandbox))?, None)
            }
            Some(around) => {
                let (sandbox, parents) = nested::make_sandbox(around, &request.id)?;
                (sandbox, Some(parents))
            }
        };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut links = !places.sandbox.starts_with(&places.work);
        let mut output = |output: Output| {
            let mode = Mode::from_bits_truncate(0o640);
            let name = output.name();
            let file = openat(&work, name, flags | OFlags::WRONLY, mode)?;
            // The same file in an agent's sandbox, where Mesos's users look for it. What the container does to that
            // name is nothing to ours.
            if !places.sandbox.starts_with(&places.work) {
                let link = || linkat(&work, name, &sandbox, name, AtFlags::empty());
                match link() {
                    // A launch with the same sandbox came so far before, and failed.
                    Err(Errno::EXIST) => {
                        unlinkat(&sandbox, name, AtFlags::empty())?;
                        link()?;
                    }
                    // The sandbox is on another file system: it has the only name.
                    Err(Errno::XDEV) => {
                        unlinkat(&work, name, AtFlags::empty())?;
                        links = false;
                        return openat(&sandbox, name, flags | OFlags::WRONLY, mode);
                    }
                    other => other?,
                }
            }
            Ok(file)
        };
        let stdout = output(Output::Stdout).map_err(fault("make stdout in"))?;
        let stderr = output(Output::Stderr).map_err(fault("make stderr in"))?;
        let status = exit_record(places, dir)?;
        let (input, pipes, nowhere) = (None, None, None);
        Ok(Files { work, sandbox, around, stdout, stderr, status, input, pipes, nowhere, links })
    }
}

struct Files {
    work: OwnedFd,
    sandbox: OwnedFd,
    /// The sandbox of the container around it.
    around: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    status: OwnedFd,
    /// What it reads, if others write it: both ends.
    input: Option<(OwnedFd, OwnedFd)>,
    /// What it writes to, if its supervisor keeps that.
    pipes: Option<Pipes>,
    /// … and if nobody does.
    nowhere: Option<OwnedFd>,
    /// The output files have other names in the sandbox.
    links: bool,
}

impl Files {
    /// What the program writes to.
    fn streams(&self) -> [BorrowedFd<'_>; 2] {
        match (&self.pipes, &self.nowhere) {
            (Some(pipes), _) => [pipes.theirs[0].as_fd(), pipes.theirs[1].as_fd()],
            (None, Some(nowhere)) => [nowhere.as_fd(), nowhere.as_fd()],
            (None, None) => [self.stdout.as_fd(), self.stderr.as_fd()],
        }
    }
}

/// A pipe whose reading end the user can open by its name.
fn input(user: &ResolvedUser) -> Result<(OwnedFd, OwnedFd)> {
    let make = || -> std::result::Result<_, Errno> {
        let (theirs, ours) = berth_sys::rustix::pipe::pipe_with(berth_sys::rustix::pipe::PipeFlags::CLOEXEC)?;
        fchown(&theirs, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
        Ok((theirs, ours))
    };
    make().map_err(|e| berth_launcher::Error::io("make a pipe for what the container reads", e).into())
}

/// Has the child made, in the namespaces that the plan wants.
fn prepare(supervisor: &mut Supervisor, request: &Request, plan: &Plan) -> Result<()> {
    match &request.within {
        None => supervisor.prepare(plan.wanted())?,
        Some(around) => supervisor.prepare_within(around.pidfd.as_fd(), plan.wanted())?,
    }
    Ok(())
}

/// What every isolator agreed to.
struct Checked {
    root: Rootfs,
    user: ResolvedUser,
    plan: Plan,
}

/// A launch that came through.
pub(crate) struct Made {
    pub(crate) plan: berth_launcher::Encoded,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) dir: OwnedFd,
    pub(crate) lock: Lock,
    /// What it writes to, if that is files.
    pub(crate) output: Option<(OwnedFd, OwnedFd)>,
    /// It goes through its supervisor.
    pub(crate) logged: bool,
}

/// A launch that did not, and what is to be undone under its lock.
pub(crate) struct Failed {
    pub(crate) cause: Error,
    pub(crate) claimed: Option<(OwnedFd, Lock)>,
}

impl Failed {
    /// Undoes it, when its processes are gone; why it failed, and what is left.
    pub(crate) fn undo(self, native: &Native, places: &Places) -> Error {
        let Some(claimed) = self.claimed else { return self.cause };
        let undoing = native.release(places, crate::collect::Keep::Nothing);
        drop(claimed);
        match undoing.is_empty() {
            true => self.cause,
            false => Error::Undo { cause: Box::new(self.cause), undoing },
        }
    }
}

/// What those who watch a launch were told before its pid was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    /// All up to the fetch of its URIs.
    Isolated,
}

/// Waits for the first process, does what is to be done `before` its program starts, writes its pid down, and lets it.
pub(crate) fn commit(
    supervisor: &Supervisor,
    plan: &berth_launcher::Encoded,
    dir: &OwnedFd,
    pid_checkpoint: Option<&Path>,
    watch: &mut Option<Watch>,
    before: impl FnOnce(&mut Option<Watch>) -> Result<Told>,
    timings: &mut Timings,
) -> Result<(i32, OwnedFd)> {
    let (pid, pidfd) = match supervisor.next() {
        Event::Forked { pid, pidfd } => (pid, pidfd),
        Event::Refused(why) => return Err(berth_launcher::Error::Refused(why).into()),
        Event::Failed { step, errno } => return Err(plan.failure(step, errno).into()),
        _ => return Err(berth_launcher::Error::Gone("the start of the container").into()),
    };
    fault::point("forked")?;
    timings.mark("forked");
    // Who is killed here is found without a pid, so as one that never came to run.
    let told = before(watch)?;
    timings.mark("fetch");
    // First the agent's checkpoint, then ours: a pid here without one there means that the agent's state was wiped.
    if let Some(path) = pid_checkpoint {
        checkpoint(path, pid)?;
    }
    let record = Pid { pid, supervisor: supervisor.pid() };
    berth_record::write(dir.as_fd(), PID, &record, Sync::No)
        .map_err(|source| Error::Record { what: "write the container's pid", source })?;
    fault::point("pid")?;
    if told == Told::Nothing {
        Watch::tell(watch, NativeEvent::Forked)?;
    }
    if let Err(gone) = supervisor.go() {
        // Its child failed at a step before the gate: that is said already.
        return Err(match supervisor.next() {
            Event::Failed { step, errno } => plan.failure(step, errno).into(),
            Event::Refused(why) => berth_launcher::Error::Refused(why).into(),
            _ => gone.into(),
        });
    }
    timings.mark("go");
    Ok((pid, pidfd))
}

/// Makes the exit record, with its block: writing it later needs no space.
pub(crate) fn exit_record(places: &Places, dir: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let make = || -> std::result::Result<OwnedFd, Errno> {
        let status = openat(dir, STATUS_BEFORE, flags, Mode::from_bits_truncate(0o600))?;
        berth_sys::rustix::io::pwrite(&status, b"           \n", 0)?;
        Ok(status)
    };
    make().map_err(Error::directory("make an exit record in", &places.runtime))
}

/// Writes the pid where the agent wants it. Who is killed meanwhile may leave an empty file, which says that there is none.
fn checkpoint(path: &Path, pid: i32) -> Result<()> {
    let failed = |source| Error::Directory { what: "checkpoint the pid in", path: path.to_owned(), source };
    let invalid = || failed(std::io::Error::from(std::io::ErrorKind::InvalidInput));
    let (above, name) = path.parent().zip(path.file_name().and_then(|n| n.to_str())).ok_or_else(invalid)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = || openat(CWD, path, flags, Mode::RUSR | Mode::WUSR);
    let file = match create() {
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(above).map_err(failed)?;
            create()
        }
        other => other,
    };
    match file {
        // Few bytes at once: they are there, or the file is empty.
        Ok(file) => std::fs::File::from(file).write_all(pid.to_string().as_bytes()).map_err(failed),
        Err(Errno::EXIST) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = openat(CWD, above, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
            berth_record::write_atomic(dir.as_fd(), name, pid.to_string().as_bytes(), Sync::No)
                .map_err(|source| Error::Record { what: "checkpoint the container's pid", source })
        }
        Err(e) => Err(failed(e.into())),
    }
}

fn is_tty(config: &ContainerConfig) -> bool {
    config.container_info.as_ref().is_some_and(|i| i.tty_info.is_some())
}

/// The executable and its arguments (20 §7.23).
pub(crate) fn arguments(config: &ContainerConfig) -> Result<(String, Vec<String>)> {
    let command = &config.command_info;
    if command.shell {
        let value = command
            .value
            .clone()
            .ok_or_else(|| Error::Invalid("Shell command is not specified".to_owned()))?;
        return Ok(("sh".to_owned(), vec!["sh".to_owned(), "-c".to_owned(), value]));
    }
    let value = command
        .value
        .clone()
        .filter(|v| !v.is_empty())
        .ok_or_else(|| Error::Invalid("Executable path is not specified".to_owned()))?;
    let argv = if command.arguments.is_empty() { vec![value.clone()] } else { command.arguments.clone() };
    Ok((value, argv))
}
