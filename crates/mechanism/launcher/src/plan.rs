// SPDX-License-Identifier: Apache-2.0
//! The plan while isolators fill it: steps by phase, each with the isolator that wants it and a text of what it
//! does, so that a failure inside the container is told in words.

use crate::{Error, Result};
use berth_supervisor::protocol::DATA;
use berth_supervisor::wire::{self, Encoder, MAX_DESCRIPTORS, STREAMS, Step};
use berth_sys::process::Namespaces;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// When a step is done, whoever asks for it. In this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Namespaces and what belongs to them.
    Namespace,
    /// The root file system.
    Root,
    /// Fixed file systems, devices, masks.
    Mounts,
    /// Into the control groups. From here on, the steps need what is made after the root file system: these and the former
    /// ones travel apart (see [`Plan::head`]).
    Join,
    /// The control groups' file systems.
    Groups,
    /// The user's mounts.
    Volumes,
    /// Once all is mounted.
    Sealed,
    /// The working directory.
    Directory,
    /// Limits of the process.
    Limits,
    /// The owner's word.
    Gate,
    /// A filter that must come before privileges go.
    EarlyFilter,
    /// User, capabilities.
    Credentials,
    /// A filter of a process that may gain nothing any more.
    Filter,
    /// The program.
    Execute,
}

const PHASES: usize = Phase::Execute as usize + 1;

/// What a step is for people.
#[derive(Debug)]
struct Label {
    isolator: &'static str,
    what: String,
}

/// A plan in the making.
#[derive(Debug)]
pub struct Plan {
    phases: [Vec<(Vec<u8>, Label)>; PHASES],
    descriptors: Vec<OwnedFd>,
    namespaces: Namespaces,
    flags: u32,
    logging: Vec<u8>,
    size: (u16, u16),
    /// Of the steps that were taken out already.
    labels: Vec<Label>,
    /// How many descriptors went with them.
    sent: usize,
}

impl Plan {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "an empty plan is not a useful default")]
    pub fn new() -> Plan {
        Plan {
            phases: Default::default(),
            descriptors: Vec::new(),
            namespaces: Namespaces::default(),
            flags: 0,
            logging: Vec::new(),
            size: (0, 0),
            labels: Vec::new(),
            sent: 0,
        }
    }

    /// Asks for namespaces of its own.
    pub fn namespaces(&mut self, namespaces: Namespaces) {
        self.namespaces = self.namespaces.and(namespaces);
    }

    /// The namespaces asked for.
    pub fn wanted(&self) -> Namespaces {
        self.namespaces
    }

    /// Sets a flag of the wire (`FLAG_*`).
    pub fn flag(&mut self, flag: u32) {
        self.flags |= flag;
    }

    /// Has the supervisor keep the output as `logging` says ([`berth_supervisor::logging`]).
    pub fn logging(&mut self, logging: Vec<u8>) {
        self.flag(wire::FLAG_LOGGED);
        self.logging = logging;
    }

    /// The terminal's size in rows and columns.
    pub fn size(&mut self, rows: u16, cols: u16) {
        self.size = (rows, cols);
    }

    /// Adds a step. `what` completes "could not …".
    pub fn step(&mut self, isolator: &'static str, phase: Phase, step: Step<'_>, what: impl Into<String>) {
        let label = Label { isolator, what: what.into() };
        self.phases[phase as usize].push((wire::fragment(&step), label));
    }

    /// Adds a step before all others of its phase.
    pub fn first(&mut self, isolator: &'static str, phase: Phase, step: Step<'_>, what: impl Into<String>) {
        let label = Label { isolator, what: what.into() };
        self.phases[phase as usize].insert(0, (wire::fragment(&step), label));
    }

    /// Gives the child a descriptor; the number is what steps name it by.
    pub fn descriptor(&mut self, fd: OwnedFd) -> u32 {
        self.descriptors.push(fd);
        (self.descriptors.len() - 1) as u32
    }

    /// Takes out the steps before [`Phase::Join`], with the descriptors so far, so that the child can begin with them. None
    /// when there are no such steps.
    ///
    /// # Errors
    /// More descriptors than can travel.
    pub fn head(&mut self) -> Result<Option<Part<'_>>> {
        let bytes = self.take(Phase::Join as usize);
        if self.labels.is_empty() {
            return Ok(None);
        }
        self.fits()?;
        self.sent = self.descriptors.len();
        Ok(Some(Part { bytes, descriptors: &self.descriptors }))
    }

    /// The bytes and what belongs to them.
    ///
    /// # Errors
    /// More descriptors than can travel.
    pub fn encode(mut self) -> Result<Encoded> {
        self.fits()?;
        let bytes = self.take(PHASES);
        let Plan { descriptors, sent, labels, flags, logging, .. } = self;
        if logging.len() > DATA {
            return Err(Error::Invalid(format!(
                "the settings of the container's logger have {} bytes, and at most {DATA} can travel: use a shorter program",
                logging.len()
            )));
        }
        Ok(Encoded { bytes, flags, logging, descriptors, sent, labels })
    }

    fn fits(&self) -> Result<()> {
        if self.descriptors.len() + STREAMS < MAX_DESCRIPTORS {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "the container needs {} mounts and control groups, and at most {} can be made: use fewer volumes",
            self.descriptors.len(),
            MAX_DESCRIPTORS - STREAMS - 1
        )))
    }

    fn take(&mut self, phases: usize) -> Vec<u8> {
        let mut encoder = Encoder::new();
        self.labels.reserve(64);
        for (bytes, label) in self.phases[..phases].iter_mut().flat_map(std::mem::take) {
            encoder.append(&bytes);
            self.labels.push(label);
        }
        let (rows, cols) = self.size;
        encoder.finish(self.namespaces.bits(), self.flags, rows, cols)
    }
}

/// The first part of a plan as it travels.
#[derive(Debug)]
pub struct Part<'a> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: &'a [OwnedFd],
}

/// A plan as it travels.
#[derive(Debug)]
pub struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) flags: u32,
    pub(crate) logging: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// How many of them went with the first part.
    pub(crate) sent: usize,
    labels: Vec<Label>,
}

impl Encoded {
    /// The descriptors of the steps that are still to travel.
    pub(crate) fn borrowed(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.descriptors[self.sent..].iter().map(AsFd::as_fd)
    }

    /// Closes the descriptors, once they have been sent.
    pub fn close(&mut self) {
        self.descriptors.clear();
    }

    /// What a failure of step `index` with `errno` means.
    pub fn failure(&self, index: u32, errno: i32) -> Error {
        let source = io::Error::from_raw_os_error(errno);
        match self.labels.get(index as usize) {
            None => {
                Error::io(format!("set up the container (step {index} of {})", self.labels.len()), source)
            }
            Some(label) if label.isolator == EXECUTE => Error::Execute { file: label.what.clone(), source },
            Some(label) => Error::Step { isolator: label.isolator, what: label.what.clone(), source },
        }
    }
}

/// The "isolator" of the step that executes the program.
pub(crate) const EXECUTE: &str = "execute";

impl Plan {
    /// The working directory.
    ///
    /// # Errors
    /// Not an absolute path, or a NUL inside.
    pub fn working_directory(&mut self, path: &str) -> Result<()> {
        self.enter_directory(path, 0)
    }

    /// The same for one that is there, and to which no link leads.
    ///
    /// # Errors
    /// As those of [`Plan::working_directory`].
    pub fn directory_without_links(&mut self, path: &str) -> Result<()> {
        self.enter_directory(path, wire::DIRECTORY_NO_LINKS)
    }

    fn enter_directory(&mut self, path: &str, how: u32) -> Result<()> {
        if !path.starts_with('/') {
            return Err(Error::Invalid(format!(
                "working directory {path:?} must be an absolute path inside the container"
            )));
        }
        let relative = path.trim_start_matches('/');
        let relative = text(if relative.is_empty() { "." } else { relative })?;
        let step = Step::WorkingDirectory { path: &relative, how };
        self.step("filesystem/linux", Phase::Directory, step, format!("enter working directory {path}"));
        Ok(())
    }

    /// The last step: the program. `path` is where a name without a slash is looked for.
    ///
    /// # Errors
    /// A NUL inside any of the texts.
    pub fn execute(
        &mut self,
        file: &str,
        path: &str,
        argv: &[String],
        environment: &[(String, String)],
    ) -> Result<()> {
        let mut texts = (wire::TextList::default(), wire::TextList::default());
        for argument in argv {
            texts.0.push(&text(argument)?);
        }
        for (name, value) in environment {
            texts.1.push(&text(&format!("{name}={value}"))?);
        }
        let (argv, envp) = (texts.0.texts(), texts.1.texts());
        let step = Step::Execute { file: &text(file)?, path: &text(path)?, argv, envp };
        self.step(EXECUTE, Phase::Execute, step, file);
        Ok(())
    }
}

/// A text for the kernel.
///
/// # Errors
/// A NUL inside.
pub(crate) fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| {
        Error::Invalid(format!("{text:?} has a NUL character inside, which no system call can take"))
    })
}
