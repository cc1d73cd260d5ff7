// SPDX-License-Identifier: Apache-2.0
//! Files of this host, read as the container's user may read them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use berth_model::Class;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Failure;
use super::sink::Sink;

/// Bytes copied at once: between two, progress is told.
const PIECE: usize = 16 << 20;

pub(super) fn copy(path: &Path, sink: &mut Sink<'_>) -> Result<(), Failure> {
    let failed =
        |what: &str, error: std::io::Error| Failure::io(&format!("{what} '{}'", super::shown(path)), error);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed("open", error.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|error| failed("look at", error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        let text = format!("'{}' is not a regular file, and only such are fetched", super::shown(path));
        return Err(Failure::new(Class::Invalid, text));
    }
    let mut file = File::from(file);
    sink.begin(u64::try_from(stat.st_size).ok())?;
    fill(&mut file, sink).map_err(|failure| match failure {
        Fault::Sink(failure) => failure,
        Fault::Io(error) => failed("copy", error),
    })
}

enum Fault {
    Sink(Failure),
    Io(std::io::Error),
}

fn fill(from: &mut File, sink: &mut Sink<'_>) -> Result<(), Fault> {
    // Sharing of blocks, where the filesystem has it.
    if rustix::fs::ioctl_ficlone(&*sink.file().map_err(Fault::Sink)?, &*from).is_ok() {
        let size = sink.file().map_err(Fault::Sink)?.metadata().map_err(Fault::Io)?.len();
        return sink.passed(size).map_err(Fault::Sink);
    }
    loop {
        let room = sink.most().saturating_sub(sink.at()).saturating_add(1);
        let piece = usize::try_from(room).unwrap_or(usize::MAX).min(PIECE);
        let to = sink.file().map_err(Fault::Sink)?;
        match rustix::fs::copy_file_range(&*from, None, &*to, None, piece) {
            Ok(0) => return Ok(()),
            Ok(count) => sink.passed(count as u64).map_err(Fault::Sink)?,
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Two filesystems of different kinds, or a file that only read(2) can read.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => break,
            Err(error) => return Err(Fault::Io(error.into())),
        }
    }
    from.seek(SeekFrom::Start(sink.at())).map_err(Fault::Io)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => sink.write(&piece[..count]).map_err(Fault::Sink)?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::Io(error)),
        }
    }
}
