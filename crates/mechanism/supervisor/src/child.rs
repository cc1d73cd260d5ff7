// SPDX-License-Identifier: Apache-2.0
//! The child between clone and exec: it carries out the plan's steps in order, inside the new namespaces.
//!
//! Paths in a root filesystem are hostile. The fixed file systems (/proc, /sys, /dev) are mounted on a directory
//! that was opened without following any link, by way of the working directory (`mount(…, ".")`), so nothing
//! that is renamed or linked meanwhile can redirect them. What is masked is named relative to the file
//! system just entered, never by a path through the root. Volumes are attached by descriptor to a target
//! that was resolved inside the root (`openat2`, `RESOLVE_IN_ROOT`), after a look at what file system it is.

mod apart;

pub(crate) use apart::resume;

use crate::protocol::{self, INLINE, Kind, Message};
use crate::terminal;
use crate::wire::{self, MAX_DESCRIPTORS, Plan, Step};
use berth_sys::memory::Mapping;
use berth_sys::mounts::{Attributes, Reach, set_attributes};
use berth_sys::process::{Namespaces, unshare};
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use berth_sys::rustix::fs::{self, CWD, FileType, Mode, OFlags, ResolveFlags};
use berth_sys::rustix::mount::{
    self, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use berth_sys::rustix::process::{Resource, Rlimit, fchdir, pivot_root, setrlimit};
use berth_sys::rustix::thread;
use berth_sys::{Errno, Result, fd, signal};
use core::ffi::CStr;

/// The descriptors that came with the plan.
pub(crate) type Descriptors = [Option<OwnedFd>; MAX_DESCRIPTORS];

/// The child's own beginning: it does what every container needs, then takes its plan from `owner` and carries it out.
pub(crate) fn main(owner: BorrowedFd<'_>, supervisor: BorrowedFd<'_>, spare: Option<Spare>) -> ! {
    if let Err(e) = prepare() {
        refuse(supervisor, 3, e.raw_os_error() as u32)
    }
    let mut before = Before::default();
    if let Some(Spare { bell, later, processors }) = spare {
        let mut ends = [PollFd::new(&bell, PollFlags::IN), PollFd::from_borrowed_fd(owner, PollFlags::IN)];
        while let Err(Errno::INTR) = poll(&mut ends, None) {}
        if let Err(e) = unshare(later) {
            refuse(supervisor, 3, e.raw_os_error() as u32)
        }
        // Its owner has sent it to other processors than its own.
        (before.awake, before.processors) = (true, processors);
    }
    take_plan(owner, supervisor, before, &mut [0u8; INLINE])
}

/// What a child has that is made before there is a container for it.
pub(crate) struct Spare {
    /// Readable once there is one. A message on a socket would not do: the kernel takes who sends it to be about to wait, and
    /// has the receiver wait for its processor, though another be free.
    pub(crate) bell: OwnedFd,
    /// The namespaces that it gets only then.
    pub(crate) later: Namespaces,
    /// The processors that its program may use. It can not look itself: as soon as it is there, who takes it may have sent it
    /// away from some.
    pub(crate) processors: Option<thread::CpuSet>,
}

/// The same for a child that was made before its owner's `main`, and shares its memory (`berth_sys::early`).
#[cfg(feature = "early")]
pub fn early(owner: OwnedFd, supervisor: OwnedFd) -> ! {
    let supervisor = supervisor.as_fd();
    if let Err(e) = prepare() {
        refuse(supervisor, 3, e.raw_os_error() as u32)
    }
    // Its network namespace has nothing but the loopback device, and everybody wants it: there is time for it now. A
    // failure is told by the plan's own step.
    let loopback = berth_sys::netdev::loopback_up().is_ok();
    let before = Before { early: true, awake: true, loopback, ..Before::default() };
    match protocol::receive(&owner, &mut [], &mut []) {
        Ok(Some((Message { kind: Kind::Begin, .. }, _))) => {
            take_plan(owner.as_fd(), supervisor, before, &mut [])
        }
        _ => berth_sys::process::exit(125),
    }
}

/// Takes one part of the plan after the other, until one ends with the program. `room` is for parts in messages; one whose
/// plan comes by its owner's memory has none.
fn take_plan(owner: BorrowedFd<'_>, supervisor: BorrowedFd<'_>, before: Before, room: &mut [u8]) -> ! {
    let mut child = Child {
        flags: 0,
        size: (0, 0),
        fds: [const { None }; MAX_DESCRIPTORS],
        filled: 0,
        done: 0,
        supervisor,
        before,
        own_dev: false,
        root: None,
        null: None,
        released: Released::No,
    };
    loop {
        if child.before.awake {
            stay_awake(owner);
        }
        let received = protocol::receive(owner, room, &mut child.fds[child.filled..]);
        let (length, count) = match received {
            Ok(Some((Message { kind: Kind::Plan, a, b }, _))) => (a as usize, b as usize),
            Ok(Some((Message { kind: Kind::Part, b, .. }, length))) => {
                child.filled += b as usize;
                // One that was cut off does not parse.
                child.part(&room[..length.min(room.len())], 0);
                continue;
            }
            #[cfg(feature = "early")]
            Ok(Some((Message { kind: Kind::Published, a, b }, _))) => {
                child.filled += b as usize;
                child.part(berth_sys::early::published(a as usize), 0);
                continue;
            }
            // Nobody needs this container any more.
            _ => berth_sys::process::exit(125),
        };
        let last = (child.filled + count).checked_sub(1);
        let file = last.and_then(|last| child.fds.get_mut(last)).and_then(Option::take);
        let Some(mapping) = file.and_then(|file| Mapping::of_sealed(&file, length).ok()) else {
            refuse(supervisor, 2, 0)
        };
        child.filled += count - 1;
        child.part(mapping.bytes(), 0);
    }
}

/// Looks for a message for a moment before it is waited for: it is on its way, and to wake a processor that went to sleep
/// takes longer. Whoever else wants this processor has it at once.
fn stay_awake(owner: BorrowedFd<'_>) {
    use berth_sys::rustix::net::{RecvFlags, recv};
    const LOOKS: u32 = 300;
    let mut byte = [0u8; 1];
    for _ in 0..LOOKS {
        match recv(owner, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => berth_sys::rustix::thread::sched_yield(),
            _ => return,
        }
    }
}

fn refuse(supervisor: BorrowedFd<'_>, why: u32, number: u32) -> ! {
    give_up(supervisor, Message::new(Kind::Refused, why, number), Released::No)
}

/// Nothing may look into this process while it holds descriptors of the host (CVE-2016-9962).
fn not_dumpable() -> Result<()> {
    let not = berth_sys::rustix::process::DumpableBehavior::NotDumpable;
    berth_sys::rustix::process::set_dumpable_behavior(not)
}

/// What every container needs before its plan.
fn prepare() -> Result<()> {
    signal::reset_dispositions();
    // The end of the supervisor is the end of the container (it can not be watched any more).
    berth_sys::rustix::process::set_parent_process_death_signal(Some(
        berth_sys::rustix::process::Signal::KILL,
    ))?;
    not_dumpable()?;
    berth_sys::rustix::process::setsid()?;
    berth_sys::rustix::process::umask(Mode::empty());
    Ok(())
}

/// Whether the word to start came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Released {
    No,
    Yes,
}

/// Says why, and ends. Before the word to start, the owner may still be telling the supervisor things; were that gone
/// already, the owner's socket would be reset and the reason lost. So the end waits for that word, or for SIGKILL when
/// the owner heard the reason first.
fn give_up(supervisor: BorrowedFd<'_>, why: Message, released: Released) -> ! {
    if protocol::send(supervisor, why, &[], &[]).is_err() {
        // The supervisor is dying: its sockets close a moment before its end is the end of this process. An exit in
        // between would be taken for the program's.
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
    } else if released == Released::No {
        let _ = protocol::receive(supervisor, &mut [], &mut []);
    }
    berth_sys::process::exit(125)
}

/// What was before the plan.
#[derive(Debug, Clone, Default)]
struct Before {
    /// It was made before its owner's `main`.
    #[cfg_attr(not(feature = "early"), expect(dead_code, reason = "never so in a program of its own"))]
    early: bool,
    /// The loopback device is up already.
    loopback: bool,
    /// It took the place of one that was made early, to execute the program.
    apart: bool,
    /// Its owner is about to send its plan, and it is not to sleep until then.
    awake: bool,
    /// Those that its program may use, if it is kept to some of them until then.
    processors: Option<thread::CpuSet>,
}

struct Child<'a> {
    /// `wire::FLAG_*`.
    flags: u32,
    /// Of the terminal.
    size: (u16, u16),
    fds: Descriptors,
    /// How many of them have come.
    filled: usize,
    /// How many steps have been done.
    done: u32,
    supervisor: BorrowedFd<'a>,
    before: Before,
    /// There is a /dev that was made for this container.
    own_dev: bool,
    /// The container's root, once it is the root.
    root: Option<OwnedFd>,
    /// /dev/null, once it was looked at.
    null: Option<OwnedFd>,
    released: Released,
}

impl Child<'_> {
    /// Carries out one part of the plan, from that step of it on. Returns when more is to come; a failure is reported, and the child ends.
    fn part(&mut self, bytes: &[u8], from: usize) {
        let plan = match Plan::read(bytes) {
            Ok(plan) if plan.steps().next().is_some() => plan,
            Err(wire::Malformed::Version(_)) => refuse(self.supervisor, 1, wire::VERSION),
            _ => refuse(self.supervisor, 2, 0),
        };
        let mut carry_out = || -> Result<()> {
            (self.flags, self.size) = (plan.flags, (plan.rows, plan.cols));
            #[cfg(feature = "early")]
            let before = self.done;
            for step in plan.steps().skip(from) {
                let step = step.map_err(|_| Errno::PROTO)?;
                self.step(&step)?;
                self.done += 1;
                // All that needs a descriptor is done, and nothing is limited yet.
                #[cfg(feature = "early")]
                if let (true, Step::Streams {}, Some(Ok(Step::Execute { file, path, .. }))) =
                    (self.before.early, step, plan.steps().last())
                    && !self.is_plain(file, path)?
                {
                    return self.go_on_apart(bytes, from + (self.done - before) as usize);
                }
            }
            Ok(())
        };
        if let Err(error) = carry_out() {
            let report = Message::new(Kind::Failed, self.done, error.raw_os_error() as u32);
            give_up(self.supervisor, report, self.released)
        }
    }

    /// Puts the streams in their places, which are the last three descriptors that came. Where one is the host's /dev/null,
    /// it becomes the container's own, if there is one: who can change a file's mode and owner could change the host's
    /// through `/proc/self/fd/0`, and take it from everybody.
    fn place_stdio(&self) -> Result<()> {
        if self.flags & wire::FLAG_TTY != 0 {
            // The terminal takes their place.
            return Ok(());
        }
        let first = self.filled.checked_sub(wire::STREAMS).ok_or(Errno::BADF)?;
        for number in 0..wire::STREAMS {
            let stream = self.fd((first + number) as u32)?;
            if is_null(&fs::fstat(stream)?) && self.own_dev {
                let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let own = fs::openat(CWD, c"/dev/null", flags, Mode::empty())?;
                if !is_null(&fs::fstat(&own)?) {
                    return Err(Errno::NODEV);
                }
                fd::place(own.as_fd(), number as i32)?;
            } else {
                fd::place(stream, number as i32)?;
            }
        }
        Ok(())
    }

    fn fd(&self, index: u32) -> Result<BorrowedFd<'_>> {
        self.fds.get(index as usize).and_then(Option::as_ref).map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn root(&self) -> Result<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn step(&mut self, step: &Step<'_>) -> Result<()> {
        match *step {
            Step::Join { fd } => all_written(self.fd(fd)?, b"0"),
            Step::CgroupNamespace {} => berth_sys::process::unshare(Namespaces::CGROUP),
            Step::Keyring { name } => match berth_sys::keyring::join_session(name) {
                // A kernel without keyrings has none to share; a key quota that is used up must not stop
                // the host's containers, and then the session keyring is given up for an empty one at exec.
                Err(Errno::NOSYS | Errno::DQUOT) => Ok(()),
                other => other,
            },
            Step::Loopback {} if self.before.loopback => Ok(()),
            Step::Loopback {} => berth_sys::netdev::loopback_up(),
            Step::Hostname { name } => berth_sys::rustix::system::sethostname(name.to_bytes()),
            Step::Propagation { slave } => {
                let kind = if slave == 1 {
                    MountPropagationFlags::DOWNSTREAM
                } else {
                    MountPropagationFlags::PRIVATE
                };
                mount::mount_change(c"/", kind | MountPropagationFlags::REC)
            }
            Step::Root { tree, at } => self.enter_root(tree, at),
            Step::KeepRoot {} => {
                self.root = Some(directory(CWD, c"/", ResolveFlags::empty())?);
                Ok(())
            }
            Step::Filesystem { target, kind, source, flags, data, mode } => {
                let at = self.fixed_directory(target, mode)?;
                fchdir(&at)?;
                let flags = MountFlags::from_bits_retain(flags as u32);
                mount::mount(source, c".", kind, flags, data)?;
                fchdir(&self.fixed(target)?)
            }
            Step::Enter { target, magic } => {
                let at = self.fixed(target)?;
                if fs::fstatfs(&at)?.f_type as u64 != magic {
                    return Err(Errno::XDEV);
                }
                fchdir(&at)
            }
            Step::Directory { name, mode } => made(fs::mkdirat(CWD, name, Mode::from_bits_truncate(mode))),
            Step::Node { name, mode, major, minor } => {
                let device = fs::makedev(major, minor);
                let kind = match mode & wire::NODE_BLOCK == wire::NODE_BLOCK {
                    true => FileType::BlockDevice,
                    false => FileType::CharacterDevice,
                };
                let mode = Mode::from_bits_truncate(mode & 0o7777);
                fs::mknodat(CWD, name, kind, mode, device)?;
                self.own_dev |= (major, minor) == (1, 3);
                Ok(())
            }
            Step::Link { name, to } => fs::symlinkat(to, CWD, name),
            Step::FilesystemHere { name, kind, flags, data } => {
                let flags = MountFlags::from_bits_retain(flags as u32);
                mount::mount(kind, name, kind, flags, data)
            }
            Step::Mask { name } => self.mask(name),
            Step::ReadOnly { name } => absent_is_fine(read_only(name)),
            Step::Remount { flags } => {
                let flags = MountFlags::from_bits_retain(flags as u32);
                mount::mount_remount(c".", flags | MountFlags::BIND, c"")
            }
            Step::Volume { tree, target, file } => self.volume(tree, target, file == 1),
            Step::SealRoot {} => {
                match set_attributes(self.root()?, c"", Reach::One, Attributes::RDONLY, false) {
                    // Before Linux 5.12.
                    Err(Errno::NOSYS) => remount(self.root()?, c"/", MountFlags::RDONLY),
                    done => done,
                }
            }
            Step::Terminal { ptmx, uid, gid, how } => {
                let resolve = if how & wire::TERMINAL_NO_LINKS == 0 {
                    ResolveFlags::empty()
                } else {
                    ResolveFlags::NO_SYMLINKS
                };
                let slave = terminal::take(ptmx, (uid, gid), self.size, resolve, self.supervisor)?;
                if how & wire::TERMINAL_CONSOLE != 0 {
                    terminal::bind_console(slave.as_fd(), self.root()?)?;
                }
                for number in 0..3 {
                    fd::place(slave.as_fd(), number)?;
                }
                berth_sys::rustix::process::ioctl_tiocsctty(&slave)
            }
            Step::WorkingDirectory { path, how } => self.working_directory(path, how),
            Step::Limit { resource, soft, hard } => limit(resource, soft, hard),
            Step::Streams {} => self.place_stdio(),
            Step::Gate {} => self.gate(),
            Step::Bounding { capabilities } => bounding(capabilities),
            Step::User { uid, gid, groups } => user(uid, gid, groups),
            Step::Capabilities { permitted, ambient } => capabilities(permitted, ambient),
            Step::NoNewPrivileges {} => thread::set_no_new_privs(true),
            Step::Filter { program } => berth_sys::seccomp::load(program),
            Step::Execute { file, path, argv, envp } => self.execute(file, path, argv, envp),
            Step::OomScore { value } => oom_score(value),
            Step::Share { fd, namespaces } => {
                let namespaces = Namespaces::from_bits(namespaces);
                berth_sys::process::enter(self.fd(fd)?, namespaces)?;
                // Whose /dev that is was seen to when it was made.
                self.own_dev |= namespaces.has(Namespaces::MOUNT);
                self.root = Some(directory(CWD, c"/", ResolveFlags::empty())?);
                Ok(())
            }
            Step::Unshare { namespaces } => {
                berth_sys::process::unshare(Namespaces::from_bits(namespaces))?;
                self.root = Some(directory(CWD, c"/", ResolveFlags::empty())?);
                Ok(())
            }
        }
    }

    /// pivot_root(2) onto the tree, which is first attached over a directory of the host in this mount
    /// namespace only; the old root is left behind lazily.
    fn enter_root(&mut self, tree: u32, at: &CStr) -> Result<()> {
        let tree = self.fd(tree)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        mount::move_mount(tree, c"", CWD, at, flags)?;
        fchdir(tree)?;
        pivot_root(c".", c".")?;
        mount::unmount(c".", UnmountFlags::DETACH)?;
        berth_sys::rustix::process::chdir(c"/")?;
        self.root = Some(directory(CWD, c"/", ResolveFlags::empty())?);
        Ok(())
    }

    /// A directory of the root that no part of the way to is a link.
    fn fixed(&self, target: &CStr) -> Result<OwnedFd> {
        directory(self.root()?, target, ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH)
    }

    /// The same, made when missing.
    fn fixed_directory(&self, target: &CStr, mode: u32) -> Result<OwnedFd> {
        match self.fixed(target) {
            Err(Errno::NOENT) => {
                // Only the last part can be missing: the steps name /proc, /dev and what we mounted there.
                made(fs::mkdirat(self.root()?, target, Mode::from_bits_truncate(mode)))?;
                self.fixed(target)
            }
            other => other,
        }
    }

    fn mask(&mut self, name: &CStr) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let stat = match fs::openat(CWD, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => fs::fstat(other?)?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            return mount::mount(c"tmpfs", name, c"tmpfs", flags, c"size=0,nr_inodes=1,mode=555");
        }
        let clone =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let null = mount::open_tree(self.null()?, c"", clone)?;
        mount::move_mount(&null, c"", CWD, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }

    /// /dev/null, of the /dev that we mounted and filled in this very namespace (or, on the host's root, the host's
    /// own). It is the device 1:3, looked at all the same (CVE-2025-31133).
    fn null(&mut self) -> Result<BorrowedFd<'_>> {
        if self.null.is_none() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let null = fs::openat(CWD, c"/dev/null", flags, Mode::empty())?;
            let stat = fs::fstat(&null)?;
            if !is_null(&stat) {
                return Err(Errno::NODEV);
            }
            self.null = Some(null);
        }
        self.null.as_ref().map(AsFd::as_fd).ok_or(Errno::NODEV)
    }

    fn volume(&self, tree: u32, target: &CStr, file: bool) -> Result<()> {
        let at = self.resolve(target, if file { Missing::File } else { Missing::Directory })?;
        /// procfs, sysfs, cgroup v1 and v2, devpts (include/uapi/linux/magic.h).
        const FORBIDDEN: [u64; 5] = [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270, 0x1cd1];
        if FORBIDDEN.contains(&(fs::fstatfs(&at)?.f_type as u64)) {
            return Err(Errno::PERM);
        }
        // A link in the root may lead to what we mounted in these ourselves: masks, control groups.
        let mut room = [0u8; 4096];
        let place = place_of(at.as_fd(), &mut room)?;
        for kernels in [b"/proc".as_slice(), b"/sys"] {
            if place.strip_prefix(kernels).is_some_and(|rest| matches!(rest, [] | [b'/', ..])) {
                return Err(Errno::PERM);
            }
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        mount::move_mount(self.fd(tree)?, c"", &at, c"", flags)
    }

    /// Resolves a path of the user inside the root, links included, and makes what is missing.
    fn resolve(&self, target: &CStr, missing: Missing) -> Result<OwnedFd> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let root = self.root()?;
        let open = |path: &CStr| fd::open_within(root, path, OFlags::PATH | OFlags::CLOEXEC, inside);
        match open(target) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        // Make each part in turn, below a descriptor of the part before.
        let mut parent = open(c".")?;
        let mut path = [0u8; 4096];
        let mut parts = target.to_bytes().split(|b| *b == b'/').filter(|p| !p.is_empty()).peekable();
        let mut length = 0;
        while let Some(part) = parts.next() {
            if part == b".." || length + part.len() + 2 > path.len() {
                return Err(Errno::INVAL);
            }
            let start = length;
            path[length..length + part.len()].copy_from_slice(part);
            length += part.len();
            path[length] = 0;
            let whole = text(&path[..=length])?;
            let name = text(&path[start..=length])?;
            parent = match open(whole) {
                Err(Errno::NOENT) => {
                    if parts.peek().is_none() && missing == Missing::File {
                        let flags = OFlags::CREATE
                            | OFlags::EXCL
                            | OFlags::WRONLY
                            | OFlags::CLOEXEC
                            | OFlags::NOFOLLOW;
                        drop(fs::openat(&parent, name, flags, Mode::from_bits_truncate(0o644))?);
                    } else {
                        made(fs::mkdirat(&parent, name, Mode::from_bits_truncate(0o755)))?;
                    }
                    open(whole)?
                }
                other => other?,
            };
            path[length] = b'/';
            length += 1;
        }
        Ok(parent)
    }

    fn working_directory(&self, path: &CStr, how: u32) -> Result<()> {
        let at = match how & wire::DIRECTORY_NO_LINKS {
            0 => self.resolve(path, Missing::Directory)?,
            _ => directory(self.root()?, path, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)?,
        };
        fchdir(&at)?;
        // A descriptor that leaked from the host would lead outside (CVE-2024-21626): the kernel then says
        // "(unreachable)", never an absolute path.
        let mut place = [0u8; 4096];
        match berth_sys::process::working_directory(&mut place)? {
            [b'/', ..] => Ok(()),
            _ => Err(Errno::XDEV),
        }
    }

    fn gate(&mut self) -> Result<()> {
        let mut data = [0; 4];
        match protocol::receive(self.supervisor, &mut data, &mut [])? {
            Some((Message { kind: Kind::Go, .. }, _)) => {
                self.released = Released::Yes;
                #[cfg(feature = "early")]
                if self.before.early {
                    berth_sys::early::free()?;
                }
                if let Some(processors) = &self.before.processors {
                    // Its group may have none of them: then it has its group's.
                    let _ = thread::sched_setaffinity(None, processors);
                }
                Ok(())
            }
            // Nobody waits for this container any more.
            _ => Err(Errno::CANCELED),
        }
    }

    fn execute(&self, file: &CStr, path: &CStr, argv: wire::Texts<'_>, envp: wire::Texts<'_>) -> Result<()> {
        use berth_sys::process::{Pointers, execve};
        let room = berth_sys::memory::words(argv.count() + envp.count() + 2)?;
        let (argv_room, envp_room) = room.split_at_mut(argv.count() + 1);
        let argv = Pointers::fill(argv_room, argv.iter())?;
        let envp = Pointers::fill(envp_room, envp.iter())?;
        berth_sys::rustix::process::umask(Mode::from_bits_truncate(0o022));
        fd::close_from(3, fd::Fate::CloseOnExec)?;
        if self.flags & wire::FLAG_INIT != 0 {
            crate::init::split()?;
        }
        // Changing the user cleared it.
        berth_sys::rustix::process::set_parent_process_death_signal(Some(
            berth_sys::rustix::process::Signal::KILL,
        ))?;
        signal::set_mask(signal::Set::NONE)?;
        protocol::send(self.supervisor, Message::new(Kind::Running, self.before.apart.into(), 0), &[], &[])?;
        if file.to_bytes().contains(&b'/') {
            return Err(execve(file, argv, envp));
        }
        let mut error = Errno::NOENT;
        for directory in path.to_bytes().split(|b| *b == b':') {
            let mut candidate = [0u8; 4096];
            let Some(candidate) = join(&mut candidate, directory, file.to_bytes()) else { continue };
            match execve(candidate, argv, envp) {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => error = Errno::ACCESS,
                other => return Err(other),
            }
        }
        Err(error)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    File,
    Directory,
}

fn text(bytes: &[u8]) -> Result<&CStr> {
    CStr::from_bytes_with_nul(bytes).map_err(|_| Errno::INVAL)
}

/// `directory/file` with its NUL; an empty directory of PATH means the working directory.
fn join<'a>(room: &'a mut [u8; 4096], directory: &[u8], file: &[u8]) -> Option<&'a CStr> {
    let directory = if directory.is_empty() { b"." } else { directory };
    let length = directory.len() + 1 + file.len();
    if length >= room.len() {
        return None;
    }
    room[..directory.len()].copy_from_slice(directory);
    room[directory.len()] = b'/';
    room[directory.len() + 1..length].copy_from_slice(file);
    CStr::from_bytes_with_nul(&room[..=length]).ok()
}

fn directory(at: BorrowedFd<'_>, path: &CStr, how: ResolveFlags) -> Result<OwnedFd> {
    fd::open_within(at, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, how)
}

/// Whether it is the null device (Linux `Documentation/admin-guide/devices.txt`).
fn is_null(stat: &fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == fs::makedev(1, 3)
}

fn made(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn absent_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        other => other,
    }
}

fn read_only(name: &CStr) -> Result<()> {
    let tree = mount::open_tree(
        CWD,
        name,
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    let set = Attributes::RDONLY.and(Attributes::NOSUID).and(Attributes::NODEV).and(Attributes::NOEXEC);
    let set = set_attributes(tree.as_fd(), c"", Reach::One, set, false);
    if !matches!(set, Err(Errno::NOSYS)) {
        set?;
    }
    mount::move_mount(&tree, c"", CWD, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    if set.is_err() {
        // Before Linux 5.12: only a mount that is somewhere can be given attributes.
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        return remount(tree.as_fd(), name, flags);
    }
    Ok(())
}

/// Adds flags to those of the mount at `place`, which `tree` is of.
fn remount(tree: BorrowedFd<'_>, place: &CStr, add: MountFlags) -> Result<()> {
    // The flags in statfs(2) are those of mount(2) (`include/linux/statfs.h`), but for one that says they are there, and
    // for relatime, which is what mount(2) sets when it is not told of times.
    let keep = MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME
        | MountFlags::NODIRATIME;
    let has = MountFlags::from_bits_retain(fs::fstatfs(tree)?.f_flags as u32) & keep;
    mount::mount_remount(place, has | add | MountFlags::BIND, c"")
}

fn all_written(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    match berth_sys::rustix::io::write(to, bytes)? {
        n if n == bytes.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

fn limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    /// By the kernel's numbers (include/uapi/asm-generic/resource.h).
    const BY_NUMBER: [Resource; 16] = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];
    let finite = |n: u64| (n != u64::MAX).then_some(n);
    let resource = *BY_NUMBER.get(resource as usize).ok_or(Errno::INVAL)?;
    setrlimit(resource, Rlimit { current: finite(soft), maximum: finite(hard) })
}

fn set_from(bits: u64) -> thread::CapabilitySet {
    thread::CapabilitySet::from_bits_retain(bits)
}

fn bounding(keep: u64) -> Result<()> {
    for number in 0..64u32 {
        if keep >> number & 1 == 1 {
            continue;
        }
        match thread::remove_capability_from_bounding_set(set_from(1 << number)) {
            // The kernel's last capability was reached.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn user(uid: u32, gid: u32, groups: &[u8]) -> Result<()> {
    use berth_sys::rustix::process::{Gid, Uid};
    const MOST: usize = 1024;
    let mut list = [Gid::ROOT; MOST];
    let mut count = 0;
    for group in wire::groups(groups) {
        *list.get_mut(count).ok_or(Errno::INVAL)? = Gid::from_raw(group);
        count += 1;
    }
    thread::set_keep_capabilities(true)?;
    thread::set_thread_groups(&list[..count])?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    // The kernel sets it anew for another user, from fs.suid_dumpable; and descriptors of the host are still here.
    berth_sys::rustix::process::set_dumpable_behavior(
        berth_sys::rustix::process::DumpableBehavior::NotDumpable,
    )
}

fn capabilities(permitted: u64, ambient: u64) -> Result<()> {
    let set = set_from(permitted);
    // Ambient ones must be inheritable first (capabilities(7)); else the inheritable set is empty
    // (CVE-2022-24769, CVE-2022-29162).
    let sets = thread::CapabilitySets { effective: set, permitted: set, inheritable: set_from(ambient) };
    thread::set_capabilities(None, sets)?;
    thread::clear_ambient_capability_set()?;
    for number in (0..64).filter(|n| ambient >> n & 1 == 1) {
        thread::configure_capability_in_ambient_set(set_from(1 << number), true)?;
    }
    Ok(())
}

/// Only raised: lowering it below what it is needs CAP_SYS_RESOURCE. Where it can not be done the launch
/// goes on; which process the kernel picks first is advice.
fn oom_score(value: u32) -> Result<()> {
    let mut room = [0u8; 10];
    let digits = decimal(value.min(1000), &mut room);
    let file = fs::openat(
        CWD,
        c"/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    );
    if let Ok(file) = file {
        let _ = berth_sys::rustix::io::write(file, digits);
    }
    Ok(())
}

/// Where a descriptor leads, from the container's root (proc_pid_fd(5)).
fn place_of<'a>(at: BorrowedFd<'_>, room: &'a mut [u8; 4096]) -> Result<&'a [u8]> {
    const FDS: &[u8] = b"/proc/self/fd/";
    let mut link = [0u8; 25];
    let mut digits = [0u8; 10];
    let digits = decimal(at.as_raw_fd().unsigned_abs(), &mut digits);
    link[..FDS.len()].copy_from_slice(FDS);
    link[FDS.len()..FDS.len() + digits.len()].copy_from_slice(digits);
    let n = fs::readlinkat_raw(CWD, text(&link[..=FDS.len() + digits.len()])?, &mut room[..])?;
    // What is longer was cut off; its beginning is what is asked for.
    Ok(&room[..n])
}

pub(crate) fn decimal(number: u32, room: &mut [u8; 10]) -> &[u8] {
    let mut at = room.len();
    let mut rest = number;
    loop {
        at -= 1;
        room[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &room[at..];
        }
    }
}
