// SPDX-License-Identifier: Apache-2.0
//! Where a container's output goes: into files of its own, or through its supervisor.

use crate::native::{self, Native};
use crate::record::Record;
use crate::request::{Output, Request, variables};
use crate::{Error, Result};
use berth_image::ResolvedUser;
use berth_launcher::logging::{self, Files, Logging, Strings};
use berth_logger::{Driver, Mode, Reader, Settings, Stream};
use berth_sys::Errno;
use berth_sys::rustix::fs::{CWD, Gid, Mode as Bits, OFlags, Uid, fchown, openat};
use berth_sys::rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Bytes that a container can write before its supervisor has read any.
const PIPE: usize = 256 << 10;
/// An old file that is kept for readers, when the output goes elsewhere as well.
const CACHED: u32 = 1;

/// A pipe for each stream: what the container writes to, and what its supervisor reads.
pub(crate) struct Pipes {
    pub(crate) theirs: [OwnedFd; 2],
    pub(crate) ours: [OwnedFd; 2],
}

impl Pipes {
    /// Pipes whose writing ends the user can open by their names.
    pub(crate) fn make(user: &ResolvedUser) -> Result<Pipes> {
        let make = || -> std::result::Result<(OwnedFd, OwnedFd), Errno> {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            // As large as it may be: who may have no larger one has the usual.
            let _ = fcntl_setpipe_size(&theirs, PIPE);
            fchown(&theirs, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
            Ok((ours, theirs))
        };
        let failed = |e| berth_launcher::Error::io("make a pipe for what the container writes", e);
        let ((out, stdout), (err, stderr)) = (make().map_err(failed)?, make().map_err(failed)?);
        Ok(Pipes { theirs: [stdout, stderr], ours: [out, err] })
    }
}

/// Has old files compressed, if they are to be.
pub(crate) fn mark(settings: &Settings, work: &OwnedFd) -> std::result::Result<(), Errno> {
    let kept = |stream: &Stream| if stream.compress { stream.kept } else { 0 };
    let kept = [kept(&settings.stdout), kept(&settings.stderr)];
    if kept == [0, 0] {
        return Ok(());
    }
    let marked = berth_logger::mark_compressed(work.as_fd(), kept);
    marked.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// What a container writes to whose output is not kept.
pub(crate) fn nowhere() -> Result<OwnedFd> {
    openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Bits::empty())
        .map_err(Error::directory("open", "/dev/null"))
}

/// The configuration for the supervisor.
pub(crate) fn encode(settings: &Settings, request: &Request) -> Vec<u8> {
    let files = |stream: &Stream| {
        let kept = match settings.driver {
            Driver::Rotating => stream.kept,
            _ => stream.kept.max(CACHED),
        };
        Files { max: stream.max.0, kept }
    };
    let (id, name) = (request.id.to_string(), request.id.value());
    let short: String = id.chars().take(12).collect();
    let fields = [
        ("CONTAINER_ID", short.as_str()),
        ("CONTAINER_ID_FULL", &id),
        ("CONTAINER_NAME", name),
        ("CONTAINER_TAG", name),
        ("SYSLOG_IDENTIFIER", name),
    ];
    let fields: String = fields.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let texts = |texts: &[String]| -> Vec<u8> {
        texts.iter().flat_map(|text| text.bytes().filter(|byte| *byte != 0).chain([0])).collect()
    };
    let variables = [format!("PATH={}", crate::launch::PATH), format!("BERTH_CONTAINER_ID={id}")];
    let (arguments, variables) = (texts(&settings.program), texts(&variables));
    Logging {
        driver: match settings.driver {
            Driver::Journald => logging::Driver::Journald,
            Driver::External => logging::Driver::Program,
            Driver::Sandbox | Driver::Rotating | Driver::None => logging::Driver::Files,
        },
        mode: match settings.mode {
            Mode::Block => logging::Mode::Block,
            Mode::Drop => logging::Mode::Drop,
            Mode::Spill => logging::Mode::Spill,
        },
        room: settings.buffer.0,
        streams: [files(&settings.stdout), files(&settings.stderr)],
        fields: fields.as_bytes(),
        arguments: Strings(&arguments),
        variables: Strings(&variables),
    }
    .encode()
}

impl Native {
    /// How the output of a container is to be kept.
    pub(crate) fn settings_of(&self, request: &Request) -> Result<Settings> {
        let settings = request.logger.clone().unwrap_or_else(|| self.logger.clone());
        let variables: Vec<_> = variables(&request.config).collect();
        let pairs = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        settings.overridden(pairs).map_err(|e| Error::Invalid(e.to_string()))
    }

    /// A container's output, for reading: found in directories of ours, never by a path that the container can change.
    /// `sandbox` has the files when the directories could not be linked.
    ///
    /// # Errors
    /// None of that name.
    pub fn log(&self, name: &str, output: Output) -> Result<Reader> {
        let listed = self.look(name)?.ok_or_else(|| Error::NotFound(name.to_owned()))?;
        let failed = || Error::directory("open the output of", self.work_path.join(name));
        let dir = native::directory(self.work.as_fd(), name).map_err(failed())?;
        Ok(Reader::new(dir, elsewhere(&listed.record, &self.work_path), output.name()))
    }

    /// Compresses old files of an ended container's output, if they are to be.
    ///
    /// # Errors
    /// A file can not be read or written; nothing is lost.
    pub fn pack(&self, name: &str) -> std::io::Result<()> {
        match native::directory(self.work.as_fd(), name) {
            Ok(dir) => berth_logger::compress_marked(dir.as_fd(), None, &|| false).map(drop),
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// What of a container's output was lost, and why, for people.
    pub fn losses(&self, name: &str) -> Vec<String> {
        let dir = self.existing(name).ok().flatten();
        dir.map_or_else(Vec::new, |dir| berth_logger::losses(dir.as_fd()))
    }
}

/// The sandbox, when it is not in our directory.
fn elsewhere(record: &Record, work: &Path) -> Option<OwnedFd> {
    let sandbox = &record.config.directory;
    if sandbox.as_os_str().is_empty() || sandbox.starts_with(work) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, sandbox, flags, Bits::empty()).ok()
}
