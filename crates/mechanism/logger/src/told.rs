// SPDX-License-Identifier: Apache-2.0
//! Losses, as supervisors tell of them: `stdout file BYTES LINES ERRNO` in the file `loss` of a container's runtime directory.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use berth_sys::rustix::fs::{Mode, OFlags, openat};

const LOSS: &str = "loss";

/// What a supervisor told of losses in a container's runtime directory, in words: a line for each stream and place.
pub fn losses(dir: BorrowedFd<'_>) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(dir, LOSS, flags, Mode::empty()) else { return Vec::new() };
    let mut text = String::new();
    let _ = File::from(file).take(4096).read_to_string(&mut text);
    text.lines().filter_map(told).collect()
}

fn told(line: &str) -> Option<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [stream, place, bytes, lines, errno] = words[..] else { return None };
    let (bytes, lines): (u64, u64) = (bytes.parse().ok()?, lines.parse().ok()?);
    if bytes == 0 {
        return None;
    }
    let why = match errno.parse().ok()? {
        11 => "its reader was too slow".to_owned(),
        32 | 107 | 111 => "its reader was gone".to_owned(),
        number => std::io::Error::from_raw_os_error(number).to_string(),
    };
    let place = if place == "file" { "the log" } else { place };
    Some(format!("{bytes} bytes ({lines} line ends) of {stream} are missing in {place}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_in_words_and_none_is_no_news() {
        let text = told("stdout file 12 1 28").unwrap();
        assert!(
            text.starts_with("12 bytes (1 line ends) of stdout are missing in the log: No space left"),
            "{text}"
        );
        assert_eq!(
            told("stderr journald 5 1 111").unwrap(),
            "5 bytes (1 line ends) of stderr are missing in journald: its reader was gone"
        );
        assert_eq!(told("stdout file 0 0 5"), None);
        assert_eq!(told("nonsense"), None);
    }
}
