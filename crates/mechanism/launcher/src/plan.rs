// SPDX-License-Identifier: Apache-2.0
//! The plan while isolators fill it: steps by phase, each with the isolator that wants it and a text of what it
//! does, so that a failure inside the container is told in words.

use crate::{Error, Result};
use berth_supervisor::wire::{self, Encoder, MAX_DESCRIPTORS, Step, place};
use berth_sys::process::Namespaces;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// When a step is done, whoever asks for it. In this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Into the control groups.
    Join,
    /// Namespaces and what belongs to them.
    Namespace,
    /// The root file system.
    Root,
    /// Fixed file systems, devices, masks.
    Mounts,
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
    size: (u16, u16),
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
            size: (0, 0),
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
        (place::FIRST + self.descriptors.len() - 1) as u32
    }

    /// The bytes and what belongs to them.
    ///
    /// # Errors
    /// More descriptors than can travel.
    pub fn encode(self) -> Result<Encoded> {
        if self.descriptors.len() + place::FIRST + 1 > MAX_DESCRIPTORS {
            return Err(Error::Invalid(format!(
                "the container needs {} mounts and control groups, and at most {} can be made: use fewer volumes",
                self.descriptors.len(),
                MAX_DESCRIPTORS - place::FIRST - 1
            )));
        }
        let mut encoder = Encoder::new();
        let mut labels = Vec::with_capacity(48);
        for (bytes, label) in self.phases.into_iter().flatten() {
            encoder.append(&bytes);
            labels.push(label);
        }
        let (rows, cols) = self.size;
        let bytes = encoder.finish(self.namespaces.bits(), self.flags, rows, cols);
        Ok(Encoded { bytes, flags: self.flags, descriptors: self.descriptors, labels })
    }
}

/// A plan as it travels.
#[derive(Debug)]
pub struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) flags: u32,
    pub(crate) descriptors: Vec<OwnedFd>,
    labels: Vec<Label>,
}

impl Encoded {
    /// The steps' descriptors.
    pub(crate) fn borrowed(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd)
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
        if !path.starts_with('/') {
            return Err(Error::Invalid(format!(
                "working directory {path:?} must be an absolute path inside the container"
            )));
        }
        let relative = path.trim_start_matches('/');
        let relative = text(if relative.is_empty() { "." } else { relative })?;
        let step = Step::WorkingDirectory { path: &relative };
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
