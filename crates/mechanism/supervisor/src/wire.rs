// SPDX-License-Identifier: Apache-2.0
//! The plan as bytes: a header, then steps in the order in which the child does them.
//!
//! ```text
//! header  magic u32 | version u32 | length u32 | steps u32 | namespaces u64 | flags u32 | rows u16 | cols u16
//! step    kind u16 | 0 u16 | length u32 | payload | padding to 8
//! ```
//! Numbers are little-endian. A string is its length with the final NUL as u32, then the bytes and the NUL.
//! Descriptors are indices into the list that travels beside the plan. A reader refuses another version
//! and anything that does not parse to its end.
//!
//! A plan may come in parts, each with a header of its own, so that the child can begin before all of it is there. Steps
//! and descriptors are counted through all parts; the last part ends with `Execute`.

use core::ffi::CStr;

/// "BRTH".
pub const MAGIC: u32 = u32::from_le_bytes(*b"BRTH");
/// Of plan and protocol together. Raised when either changes its meaning.
pub const VERSION: u32 = 7;
/// Length of the header in bytes.
pub const HEADER: usize = 32;
/// Descriptors that can travel beside a plan.
pub const MAX_DESCRIPTORS: usize = 96;

/// The container gets a terminal.
pub const FLAG_TTY: u32 = 1;
/// A small init of ours is pid 1 and the program its child.
pub const FLAG_INIT: u32 = 2;
/// Tell the owner when the program has been executed.
pub const FLAG_NOTIFY: u32 = 4;
/// The owner does not want the terminal's output: whoever does attaches.
pub const FLAG_DETACHED: u32 = 8;
/// To the supervisor's descriptors belongs the writing end of what the program reads.
pub const FLAG_INPUT: u32 = 16;
/// … and where the terminal's output goes: it holds the terminal back, so that nothing is lost.
pub const FLAG_SINK: u32 = 32;
/// … and from where the terminal's input comes.
pub const FLAG_SOURCE: u32 = 64;

/// … and the reading ends of what the program writes to (none with a terminal), which the supervisor keeps as the message's
/// data says ([`crate::logging`]).
pub const FLAG_LOGGED: u32 = 128;
/// … and, with `FLAG_LOGGED`, where the files have their other names.
pub const FLAG_LINKS: u32 = 256;
/// The program's output files are `stdout` and `stderr` of the directory [`attend::WORK`].
pub const FLAG_FILES: u32 = 512;

/// In the mode of `Step::Node`, as in stat(2): a character device; so is one without either.
pub const NODE_CHARACTER: u32 = 0o020_000;
/// In the mode of `Step::Node`: a block device.
pub const NODE_BLOCK: u32 = 0o060_000;
/// In `Step::WorkingDirectory`: it is not made, and no link may be on the way to it.
pub const DIRECTORY_NO_LINKS: u32 = 1;
/// In `Step::Terminal`: bind it at /dev/console.
pub const TERMINAL_CONSOLE: u32 = 1;
/// In `Step::Terminal`: no link may be on the way to the multiplexer; the container has been at it.
pub const TERMINAL_NO_LINKS: u32 = 2;

/// What the program reads, where it writes, and where it writes errors: how many streams a plan has. They are the last
/// descriptors of the part that has the step `Streams`.
pub const STREAMS: usize = 3;

/// The places of the descriptors that a supervisor gets.
pub mod attend {
    /// The container's runtime directory.
    pub const DIRECTORY: usize = 0;
    /// The lock, held as long as any process of ours cares for the container.
    pub const LOCK: usize = 1;
    /// The exit record, made beforehand so that writing it needs no space.
    pub const RECORD: usize = 2;
    /// Where a terminal's output is copied.
    pub const OUTPUT: usize = 3;
    /// The container's directory on disk.
    pub const WORK: usize = 4;
    /// How many always come.
    pub const COUNT: usize = 5;
    /// How many there can be, with those of `FLAG_INPUT`, `FLAG_SINK`, `FLAG_SOURCE`, `FLAG_LOGGED` and `FLAG_LINKS`, in
    /// this order.
    pub const MOST: usize = 11;
}

/// What is at fault with a plan's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not a plan.
    Magic,
    /// A plan of another version.
    Version(u32),
    /// It ends early, or a length leads outside.
    Truncated,
    /// A step that this version does not know.
    Step(u16),
    /// A string without its NUL, or with one inside.
    Text,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $code:literal { $($(#[$fdoc:meta])* $field:ident : $kind:tt),* $(,)? })*) => {
        /// One step of the child. Paths of mounts are relative to the container's root, without a leading
        /// slash; names are relative to what the last `Filesystem` or `Enter` step entered.
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[allow(missing_docs, reason = "the fields are told in the text of each step")]
        pub enum Step<'a> {
            $($(#[$doc])* $name { $($(#[$fdoc])* $field: steps!(@type $kind)),* }),*
        }

        impl<'a> Step<'a> {
            fn read(kind: u16, r: &mut Reader<'a>) -> Result<Step<'a>, Malformed> {
                Ok(match kind {
                    $($code => Step::$name { $($field: steps!(@read r $kind)),* },)*
                    other => return Err(Malformed::Step(other)),
                })
            }

            /// Its number on the wire.
            pub fn kind(&self) -> u16 {
                match self { $(Step::$name { .. } => $code),* }
            }

            /// Its name, for messages.
            pub fn name(&self) -> &'static str {
                match self { $(Step::$name { .. } => stringify!($name)),* }
            }

            #[cfg(feature = "encode")]
            fn write(&self, out: &mut Vec<u8>) {
                match self { $(Step::$name { $($field),* } => { $(steps!(@write out $field $kind);)* }),* }
            }
        }
    };
    (@type u32) => { u32 };
    (@type u64) => { u64 };
    (@type text) => { &'a CStr };
    (@type bytes) => { &'a [u8] };
    (@type texts) => { Texts<'a> };
    (@read $r:ident u32) => { $r.u32()? };
    (@read $r:ident u64) => { $r.u64()? };
    (@read $r:ident text) => { $r.text()? };
    (@read $r:ident bytes) => { $r.bytes()? };
    (@read $r:ident texts) => { $r.texts()? };
    (@write $o:ident $f:ident u32) => { $o.extend_from_slice(&$f.to_le_bytes()) };
    (@write $o:ident $f:ident u64) => { $o.extend_from_slice(&$f.to_le_bytes()) };
    (@write $o:ident $f:ident text) => { put_bytes($o, $f.to_bytes_with_nul()) };
    (@write $o:ident $f:ident bytes) => { put_bytes($o, $f) };
    (@write $o:ident $f:ident texts) => { { $o.extend_from_slice(&$f.count.to_le_bytes()); put_bytes($o, $f.raw) } };
}

steps! {
    /// Write `0` to a descriptor: the child moves itself into a control group.
    Join = 1 { fd: u32 }
    /// A new cgroup namespace, rooted where the child now is.
    CgroupNamespace = 2 {}
    /// A new session keyring.
    Keyring = 3 { name: text }
    /// The loopback interface up.
    Loopback = 4 {}
    /// The host name.
    Hostname = 5 { name: text }
    /// Make every mount private (`slave` = 0) or slave (1), so that nothing done here reaches the host.
    Propagation = 6 { slave: u32 }
    /// Attach the detached mount `tree` over the directory `at` of the host, make it the root, and let go of
    /// the old one.
    Root = 7 { tree: u32, at: text }
    /// Keep the root that is there.
    KeepRoot = 8 {}
    /// Make the directory `target` if it is missing (never through a link), mount a file system on it and
    /// enter it. `flags` are of mount(2).
    Filesystem = 9 { target: text, kind: text, source: text, flags: u64, data: text, mode: u32 }
    /// Enter `target`, which must be the root of a file system with that magic number (statfs(2)).
    Enter = 10 { target: text, magic: u64 }
    /// A directory.
    Directory = 11 { name: text, mode: u32 }
    /// A device file.
    Node = 12 { name: text, mode: u32, major: u32, minor: u32 }
    /// A symbolic link.
    Link = 13 { name: text, to: text }
    /// Mount a file system on a directory of the entered one.
    FilesystemHere = 14 { name: text, kind: text, flags: u64, data: text }
    /// Hide a path of the entered file system: a file behind /dev/null, a directory behind an empty
    /// read-only tmpfs. Nothing when it does not exist.
    Mask = 15 { name: text }
    /// Make a path of the entered file system read-only. Nothing when it does not exist.
    ReadOnly = 16 { name: text }
    /// Remount what is entered with these flags of mount(2).
    Remount = 17 { flags: u64 }
    /// Attach the detached mount `tree` at `target`, resolved inside the root; a missing target is made, as
    /// a directory or (`file` = 1) an empty file. Refused on proc, sysfs, cgroup and devpts.
    Volume = 18 { tree: u32, target: text, file: u32 }
    /// Make the root file system read-only.
    SealRoot = 19 {}
    /// Take a terminal from `ptmx` as stdin, stdout and stderr, owned by the user; `how` is of `TERMINAL_*`.
    Terminal = 20 { ptmx: text, uid: u32, gid: u32, how: u32 }
    /// The working directory, made when missing; `how` is of `DIRECTORY_*`.
    WorkingDirectory = 21 { path: text, how: u32 }
    /// A limit of setrlimit(2); u64::MAX is infinity.
    Limit = 22 { resource: u32, soft: u64, hard: u64 }
    /// Put the streams in their places; one that is the host's null device becomes the container's own.
    Streams = 31 {}
    /// Wait for the owner's word.
    Gate = 23 {}
    /// Drop from the bounding set what is not in it; empty the ambient and inheritable sets.
    Bounding = 24 { capabilities: u64 }
    /// Groups and user.
    User = 25 { uid: u32, gid: u32, groups: bytes }
    /// Permitted and effective capabilities, and the ambient ones among them.
    Capabilities = 26 { permitted: u64, ambient: u64 }
    /// No more privileges by exec.
    NoNewPrivileges = 27 {}
    /// A seccomp filter.
    Filter = 28 { program: bytes }
    /// Execute: `file` itself when it has a slash, else looked for along `path`.
    Execute = 29 { file: text, path: text, argv: texts, envp: texts }
    /// `oom_score_adj` of the child, best effort.
    OomScore = 30 { value: u32 }
    /// Enter these namespaces (`CLONE_NEW*`) of the process behind a pidfd. The root of its mounts is the root from here on.
    Share = 32 { fd: u32, namespaces: u64 }
    /// New namespaces of one's own (unshare(2)), as copies of those that were entered. The root of its mounts is opened anew.
    Unshare = 33 { namespaces: u64 }
}

/// A list of strings, each with its NUL, one after another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Texts<'a> {
    count: u32,
    raw: &'a [u8],
}

impl<'a> Texts<'a> {
    /// How many.
    pub fn count(&self) -> usize {
        self.count as usize
    }
    /// Each in turn.
    pub fn iter(&self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        let mut rest = self.raw;
        core::iter::from_fn(move || {
            let text = CStr::from_bytes_until_nul(rest).ok()?;
            rest = &rest[text.to_bytes_with_nul().len()..];
            Some(text)
        })
    }
}

/// The groups of a `User` step.
pub fn groups(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// A plan as it is read.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Namespaces to make at clone, as `CLONE_NEW*`.
    pub namespaces: u64,
    /// `FLAG_*`.
    pub flags: u32,
    /// Size of the terminal.
    pub rows: u16,
    /// Size of the terminal.
    pub cols: u16,
    steps: u32,
    body: &'a [u8],
}

impl<'a> Plan<'a> {
    /// Reads and checks the header and every step, so that the child can not meet a fault half-way.
    pub fn read(bytes: &'a [u8]) -> Result<Plan<'a>, Malformed> {
        let mut r = Reader(bytes);
        if r.u32()? != MAGIC {
            return Err(Malformed::Magic);
        }
        match r.u32()? {
            VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        let length = r.u32()? as usize;
        let steps = r.u32()?;
        let (namespaces, flags, size) = (r.u64()?, r.u32()?, r.u32()?);
        let body = bytes.get(HEADER..length).ok_or(Malformed::Truncated)?;
        let plan = Plan { namespaces, flags, rows: size as u16, cols: (size >> 16) as u16, steps, body };
        for step in plan.steps() {
            step?;
        }
        Ok(plan)
    }

    /// The steps in order.
    pub fn steps(&self) -> impl Iterator<Item = Result<Step<'a>, Malformed>> + use<'a> {
        let mut r = Reader(self.body);
        (0..self.steps).map(move |_| {
            let kind = r.u32()? as u16;
            let length = r.u32()? as usize;
            let payload = r.take(length)?;
            r.take(length.wrapping_neg() % 8)?;
            Step::read(kind, &mut Reader(payload))
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed::Truncated)?;
        self.0 = tail;
        Ok(head)
    }
    fn u32(&mut self) -> Result<u32, Malformed> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from(self.u32()?) | u64::from(self.u32()?) << 32)
    }
    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.u32()? as usize;
        self.take(n)
    }
    fn text(&mut self) -> Result<&'a CStr, Malformed> {
        CStr::from_bytes_with_nul(self.bytes()?).map_err(|_| Malformed::Text)
    }
    fn texts(&mut self) -> Result<Texts<'a>, Malformed> {
        let count = self.u32()?;
        let texts = Texts { count, raw: self.bytes()? };
        if texts.iter().count() != texts.count() || !matches!(texts.raw.last(), None | Some(0)) {
            return Err(Malformed::Text);
        }
        Ok(texts)
    }
}

#[cfg(feature = "encode")]
pub use encode::{Encoder, TextList, fragment};

#[cfg(feature = "encode")]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(feature = "encode")]
mod encode {
    use super::{HEADER, MAGIC, Step, Texts, VERSION};
    use std::ffi::CString;

    /// One step as bytes.
    pub fn fragment(step: &Step<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&u32::from(step.kind()).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        step.write(&mut out);
        let length = out.len() - 8;
        out[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        out.resize(out.len() + length.wrapping_neg() % 8, 0);
        out
    }

    /// Writes a plan step by step.
    #[derive(Debug)]
    pub struct Encoder {
        out: Vec<u8>,
        steps: u32,
    }

    impl Encoder {
        /// An empty plan.
        #[expect(clippy::new_without_default, reason = "an empty plan is not a useful default")]
        pub fn new() -> Encoder {
            let mut out = Vec::with_capacity(8192);
            out.resize(HEADER, 0);
            Encoder { out, steps: 0 }
        }

        /// Appends a step as [`fragment`] made it; its index is how many were appended before.
        pub fn append(&mut self, fragment: &[u8]) {
            self.out.extend_from_slice(fragment);
            self.steps += 1;
        }

        /// The bytes.
        pub fn finish(mut self, namespaces: u64, flags: u32, rows: u16, cols: u16) -> Vec<u8> {
            let length = self.out.len() as u32;
            let size = u32::from(rows) | u32::from(cols) << 16;
            let words = [MAGIC, VERSION, length, self.steps, namespaces as u32, (namespaces >> 32) as u32];
            for (i, word) in words.into_iter().chain([flags, size]).enumerate() {
                self.out[i * 4..i * 4 + 4].copy_from_slice(&word.to_le_bytes());
            }
            self.out
        }
    }

    /// Owned strings for a step with lists.
    #[derive(Debug, Default)]
    pub struct TextList {
        count: u32,
        raw: Vec<u8>,
    }

    impl TextList {
        /// Appends one.
        pub fn push(&mut self, text: &CString) {
            self.count += 1;
            self.raw.extend_from_slice(text.as_bytes_with_nul());
        }
        /// As a step takes it.
        pub fn texts(&self) -> Texts<'_> {
            Texts { count: self.count, raw: &self.raw }
        }
    }
}

#[cfg(all(test, feature = "encode"))]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut argv = TextList::default();
        argv.push(&c"sh".to_owned());
        argv.push(&c"".to_owned());
        let mut e = Encoder::new();
        e.append(&fragment(&Step::Join { fd: 7 }));
        e.append(&fragment(&Step::Gate {}));
        e.append(&fragment(&Step::User { uid: 1, gid: 2, groups: &[3, 0, 0, 0] }));
        e.append(&fragment(&Step::Execute {
            file: c"sh",
            path: c"/bin",
            argv: argv.texts(),
            envp: TextList::default().texts(),
        }));
        e.finish(0x1_2000_0000, FLAG_TTY, 24, 80)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = sample();
        let plan = Plan::read(&bytes).unwrap();
        assert_eq!((plan.namespaces, plan.flags, plan.rows, plan.cols), (0x1_2000_0000, FLAG_TTY, 24, 80));
        let steps: Vec<_> = plan.steps().map(Result::unwrap).collect();
        assert_eq!(steps.len(), 4);
        assert_eq!(steps[0], Step::Join { fd: 7 });
        let Step::Execute { argv, .. } = steps[3] else { panic!("{:?}", steps[3]) };
        assert_eq!(argv.iter().collect::<Vec<_>>(), [c"sh", c""]);
        let Step::User { groups: g, .. } = steps[2] else { panic!() };
        assert_eq!(groups(g).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_plan_cut_anywhere_is_refused() {
        let bytes = sample();
        for n in 0..bytes.len() {
            assert!(Plan::read(&bytes[..n]).is_err(), "cut at {n}");
        }
    }

    #[test]
    fn a_plan_with_any_byte_changed_never_panics() {
        let bytes = sample();
        for at in 0..bytes.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[at] ^= flip;
                if let Ok(plan) = Plan::read(&bad) {
                    for step in plan.steps() {
                        if let Step::Execute { argv, envp, .. } = step.unwrap() {
                            assert_eq!(argv.iter().count(), argv.count());
                            assert_eq!(envp.iter().count(), envp.count());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = sample();
        bytes[4] = 9;
        assert_eq!(Plan::read(&bytes).unwrap_err(), Malformed::Version(9));
    }
}
