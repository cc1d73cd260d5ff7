// SPDX-License-Identifier: Apache-2.0
//! The sandbox. What is in it may be the container's, so nothing in it is followed.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use berth_contract::Error;
use berth_model::ContainerConfig;
use berth_sys::rustix::fs::{AtFlags, Mode, OFlags, open, openat, unlinkat};
use berth_sys::rustix::io::Errno;

/// A file for output, made anew if something else has its name.
pub(crate) fn output(config: &ContainerConfig, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = open(&config.directory, flags, Mode::empty())?;
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    for _ in 0..2 {
        if let Ok(file) = openat(&directory, name, flags, mode).map(File::from) {
            let metadata = file.metadata()?;
            if metadata.is_file() && metadata.nlink() == 1 {
                return Ok(file);
            }
        }
        match unlinkat(directory.as_fd(), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other(format!("{name} is something else than a file again and again")))
}

/// Removes it, however deep. One that is gone is removed.
pub(crate) fn remove(config: &ContainerConfig) -> Result<(), Error> {
    let (Some(above), Some(name)) =
        (config.directory.parent(), config.directory.file_name().and_then(|name| name.to_str()))
    else {
        return Err(Error::RemoveSandbox(format!(
            "{}: it is no directory's path",
            config.directory.display()
        )));
    };
    crate::tools::remove_tree(above, name).map_err(|error| Error::RemoveSandbox(error.chain()))
}
