// SPDX-License-Identifier: Apache-2.0
//! Launching a session: a further process in a container that runs (exec).
//!
//! ```text
//! supervisor ── enters the container's pid namespace ── child, closed to everybody from its first moment
//!     look: the root, the user, the restraints of the container      record, lock, streams
//! child: the other namespaces by pidfd ── its control groups ── keyring, limits, terminal ── gate ── user,
//!        capabilities, filter ── the program
//! ```
//! It has a supervisor, a record and an exit record like a container, under its id's text (`<parent>.<leaf>`) beside its
//! parent's, a control group in its parent's, and nothing else on the host: no limits, no layer, no files. Its program executes in the container only:
//! no code of ours runs there with a host's descriptor that others could reach (CVE-2016-9962, CVE-2019-5736).

use crate::launch::{self, Failed, Made, PATH, Told};
use crate::live::Live;
use crate::native::Native;
use crate::nested::{lineage, root_of};
use crate::record::Record;
use crate::request::{Timings, Watch, variables};
use crate::{Error, Result, rootfs};
use berth_contract::{Attached, ExecRequest};
use berth_image::ResolvedUser;
use berth_launcher::{Container, Encoded, Phase, Places, Plan, Rootfs, Supervisor, Within, wire};
use berth_model::{
    Class, ContainerClass, ContainerConfig, ContainerId, ContainerInfo, NativeEvent, TtyInfo, WindowSize,
};
use berth_sys::process::Namespaces;
use berth_sys::rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, openat};
use berth_sys::rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// All that the child enters by itself; its pid namespace was entered for it.
const SHARED: Namespaces =
    Namespaces::MOUNT.and(Namespaces::IPC).and(Namespaces::UTS).and(Namespaces::NET).and(Namespaces::CGROUP);

/// A session to be.
pub(crate) struct Session {
    pub(crate) id: ContainerId,
    /// The container's record.
    pub(crate) parent: Record,
    /// Its first process.
    pub(crate) pid: i32,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) request: ExecRequest,
    /// Who is told how far the launch is.
    pub(crate) watch: Option<Watch>,
}

/// Both ends of what the session's process reads and writes.
struct Streams {
    /// The process's: in, out, err.
    inner: [OwnedFd; wire::STREAMS],
    /// The supervisor's, with a terminal: where output goes, from where input comes.
    between: Option<[OwnedFd; 2]>,
    outer: Attached,
}

impl Native {
    /// Launches a session. It has passed the gate when this returns, or is about to execute its program.
    ///
    /// # Errors
    /// Whatever kept it from running; nothing of it is left then.
    pub(crate) fn session(&self, mut session: Session) -> Result<(Live, Attached)> {
        let places = self.places(&session.id);
        let title = CString::new(session.id.to_string()).unwrap_or_default();
        let mut supervisor = Supervisor::begin(&title)?;
        supervisor.prepare_within(session.pidfd.as_fd(), Namespaces::default())?;
        match self.enter(&mut session, &places, &supervisor) {
            Ok((made, streams)) => Ok((Live::new(session.id, places, supervisor, made, false), streams)),
            Err(failed) => {
                supervisor.abort();
                Err(failed.undo(self, &places))
            }
        }
    }

    fn enter(
        &self,
        session: &mut Session,
        places: &Places,
        supervisor: &Supervisor,
    ) -> std::result::Result<(Made, Attached), Failed> {
        let before = |cause| Failed { cause, claimed: None };
        let root = session.root().map_err(before)?;
        let (dir, lock) = self.claim(&session.id, places, || session.record(places)).map_err(before)?;
        let mut rest = || {
            // This makes its control group: only now, when there is a record by which it is found.
            let (plan, user) = self.steps(session, &root)?;
            Watch::tell(&mut session.watch, NativeEvent::Provisioned)?;
            let streams = Streams::make(session.request.terminal.is_some(), &user)?;
            let status = launch::exit_record(places, &dir)?;
            let null = null()?;
            let always = [dir.as_fd(), lock.as_fd(), status.as_fd(), null.as_fd(), dir.as_fd()];
            let attend: Vec<BorrowedFd<'_>> =
                always.into_iter().chain(streams.between.iter().flatten().map(AsFd::as_fd)).collect();
            let [stdin, stdout, stderr] = &streams.inner;
            supervisor.send(&plan, &attend, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
            let mut timings = Timings::start();
            let (pid, pidfd) = launch::commit(
                supervisor,
                &plan,
                &dir,
                None,
                &mut session.watch,
                |_| Ok(Told::Nothing),
                &mut timings,
            )?;
            Ok((plan, pid, pidfd, streams.outer))
        };
        match rest() {
            Ok((plan, pid, pidfd, outer)) => {
                Ok((Made { plan, pid, pidfd, dir, lock, output: None, logged: false }, outer))
            }
            Err(cause) => Err(Failed { cause, claimed: Some((dir, lock)) }),
        }
    }

    /// What the child has to do.
    fn steps(&self, session: &Session, root: &Rootfs) -> Result<(Encoded, ResolvedUser)> {
        let user = rootfs::user(root, session.user())?;
        let config = session.config();
        let mut places = self.places(&session.parent.id);
        places.cgroup.clone_from(&session.parent.cgroup);
        places.sandbox.clone_from(&session.parent.config.directory);
        let around: Vec<String> =
            lineage(&session.parent.id).iter().map(|id| self.places(id).cgroup).collect();
        let container = Container {
            id: &session.id,
            config: &config,
            rootfs: root,
            user: &user,
            places: &places,
            work: None,
            sandbox: None,
            image_volumes: &[],
            skeleton: self.skeleton.as_fd(),
            sandbox_directory: &self.sandbox_directory,
            tty: session.request.terminal.is_some(),
            init: false,
            pausable: true,
            within: session.parent.id.is_nested().then_some(Within { cgroups: &around, sandbox: None }),
        };
        let mut plan = Plan::new();
        let pidfd = session.pidfd.try_clone();
        let fd = plan.descriptor(
            pidfd.map_err(|e| berth_launcher::Error::io("copy a descriptor of the container", e))?,
        );
        let step = wire::Step::Share { fd, namespaces: SHARED.bits() };
        plan.step("exec", Phase::Namespace, step, "enter the container's namespaces (setns)");
        for isolator in &self.isolators {
            isolator.enter(&container, &mut plan)?;
        }
        plan.flag(wire::FLAG_NOTIFY | wire::FLAG_DETACHED);
        if container.tty {
            plan.flag(wire::FLAG_SINK | wire::FLAG_SOURCE);
        }
        let sandbox = if root.is_own() { self.sandbox_directory.clone() } else { places.sandbox.clone() };
        let sandbox = sandbox.display().to_string();
        plan.working_directory(session.working_directory().unwrap_or(&sandbox))?;
        plan.step("exec", Phase::Directory, wire::Step::Streams {}, "give the program its streams");
        let environment = session.environment(&user, sandbox);
        let (file, argv) = launch::arguments(&config_of(&session.request))?;
        let path = environment.iter().rev().find(|(n, _)| n == "PATH").map_or(PATH, |(_, v)| v);
        plan.execute(&file, path, &argv, &environment)?;
        Ok((plan.encode()?, user))
    }
}

impl Session {
    /// The container's root as its processes see it, by the kernel's own link.
    fn root(&self) -> Result<Rootfs> {
        if self.parent.root == "host" {
            return Ok(Rootfs::Host);
        }
        let dir = root_of(self.pid, self.pidfd.as_fd())?;
        Ok(Rootfs::Own { path: PathBuf::from(&self.parent.root), dir })
    }

    /// The command's, or the container's.
    fn user(&self) -> Option<&str> {
        self.request.command.user.as_deref().or(self.parent.config.user.as_deref())
    }

    /// The command's, or the container's; none: the sandbox.
    fn working_directory(&self) -> Option<&String> {
        self.request.command.working_directory.as_ref().or(self.parent.working_directory.as_ref())
    }

    /// The container's configuration with the session's terminal.
    fn config(&self) -> ContainerConfig {
        let mut config = self.parent.config.clone();
        let tty_info = self.request.terminal.map(|size| TtyInfo {
            window_size: Some(WindowSize { rows: size.rows.into(), columns: size.columns.into() }),
        });
        match &mut config.container_info {
            Some(info) => info.tty_info = tty_info,
            None => {
                config.container_info =
                    tty_info.map(|tty| ContainerInfo { tty_info: Some(tty), ..ContainerInfo::default() });
            }
        }
        config
    }

    /// Later wins: what every process has, the container's own, the request's.
    fn environment(&self, user: &ResolvedUser, sandbox: String) -> Vec<(String, String)> {
        let mut all =
            vec![("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), user.home.display().to_string())];
        if self.request.terminal.is_some() {
            all.push(("TERM".to_owned(), "xterm".to_owned()));
        }
        let command = config_of(&self.request);
        let parents = self.parent.environment.iter().cloned();
        let later = parents
            .chain([("MESOS_SANDBOX".to_owned(), sandbox)])
            .chain(variables(&self.parent.config))
            .chain(self.request.environment.clone())
            .chain(variables(&command));
        for (name, value) in later {
            match all.iter_mut().find(|(n, _)| *n == name) {
                Some(found) => found.1 = value,
                None => all.push((name, value)),
            }
        }
        all
    }

    fn record(&self, places: &Places) -> Result<Record> {
        let mut config = config_of(&self.request);
        config.user = self.user().map(str::to_owned);
        Ok(Record {
            id: self.id.clone(),
            config,
            root: self.parent.root.clone(),
            cgroup: places.cgroup.clone(),
            working_directory: self.working_directory().cloned(),
            environment: self.request.environment.clone().into_iter().collect(),
            tty: self.request.terminal.is_some(),
            init: false,
            remove: false,
            stop_signal: None,
            created_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
            boot: self.parent.boot.clone(),
        })
    }
}

/// What is kept of the request, and what says which program to execute.
fn config_of(request: &ExecRequest) -> ContainerConfig {
    ContainerConfig {
        command_info: request.command.clone(),
        container_class: ContainerClass::Debug,
        ..ContainerConfig::default()
    }
}

impl Streams {
    /// Without a terminal, three pipes between the process and the caller: nothing of ours is in between. With one, the
    /// supervisor has its master, and is given two pipes to the caller.
    fn make(terminal: bool, user: &ResolvedUser) -> Result<Streams> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| berth_launcher::Error::io("make a pipe", e));
        if terminal {
            let ((stdin_of, stdin), (stdout, stdout_of)) = (pipe()?, pipe()?);
            return Ok(Streams {
                inner: [null()?, null()?, null()?],
                between: Some([stdout_of, stdin_of]),
                outer: Attached { stdin: Some(stdin), stdout: Some(stdout), stderr: None },
            });
        }
        let ((in_of, stdin), (stdout, out_of), (stderr, err_of)) = (pipe()?, pipe()?, pipe()?);
        let inner = [in_of, out_of, err_of];
        for stream in &inner {
            // So that it can open /dev/stdout, which asks the pipe's mode.
            fchown(stream, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
                .map_err(|e| berth_launcher::Error::io("give the pipes to the user", e))?;
        }
        let outer = Attached { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
        Ok(Streams { inner, between: None, outer })
    }
}

fn null() -> Result<OwnedFd> {
    openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::directory("open", "/dev/null"))
}

/// Refuses what a session can not have.
///
/// # Errors
/// [`Class::Unsupported`] and [`Class::Invalid`], with what it is.
pub(crate) fn check(
    id: &ContainerId,
    request: &ExecRequest,
) -> std::result::Result<(), berth_contract::Error> {
    /// A file name can not be longer.
    const LONGEST: usize = 255;
    let refused = |class, text: String| Err(berth_contract::Error::other(class, text));
    if !id.is_nested() {
        let text = format!("the id {id} of a session must be that of its container with one more level");
        return refused(Class::Invalid, text);
    }
    let text = id.to_string();
    if text.len() > LONGEST {
        let why = format!(
            "the id of a session is longer than {LONGEST} bytes with its container's: use a shorter one"
        );
        return refused(Class::Invalid, why);
    }
    crate::containerizer::supported(&config_of(request))
        .map_err(|e| berth_contract::Error::other(e.class(), crate::collect::chain(&e)))
}
