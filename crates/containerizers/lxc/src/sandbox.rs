// SPDX-License-Identifier: Apache-2.0
//! The output in the sandbox. What is in it may be the container's, so nothing in it is followed.

use std::fs::File;
use std::io;

use berth_keeper::sandbox::{open_directory, open_output};
use berth_model::ContainerConfig;
use berth_sys::rustix::fs::{AtFlags, unlinkat};
use berth_sys::rustix::io::Errno;

/// A file for output, made anew if something else has its name.
pub(crate) fn output(config: &ContainerConfig, name: &str) -> io::Result<File> {
    let directory = open_directory(&config.directory)?;
    let mut tries = 0;
    loop {
        match open_output(&directory, name) {
            Err(_) if tries < 2 => tries += 1,
            opened => return opened,
        }
        match unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
