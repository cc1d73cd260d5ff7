// SPDX-License-Identifier: Apache-2.0
//! What was lost, and the line that says so.

use core::fmt::Write;

use berth_sys::Errno;

/// How every notice begins. Nothing keeps a container from printing the same.
pub const NOTICE: &[u8] = b"[berth] ";

/// Output that is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loss {
    /// Bytes.
    pub bytes: u64,
    /// Ends of lines among them.
    pub lines: u64,
}

impl Loss {
    pub(crate) fn add(&mut self, data: &[u8]) {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        let lines = data.iter().filter(|byte| **byte == b'\n').count();
        self.lines = self.lines.saturating_add(lines as u64);
    }

    pub(crate) fn add_all(&mut self, other: Loss) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.lines = self.lines.saturating_add(other.lines);
    }

    pub(crate) fn is_none(&self) -> bool {
        self.bytes == 0
    }

    /// The line that stands where it is missing. `fresh`: a line has to be ended first.
    pub(crate) fn notice(&self, why: Errno, fresh: bool) -> Notice {
        let mut notice = Notice { text: [0; Notice::ROOM], len: 0 };
        let break_first = if fresh { "\n" } else { "" };
        let reason = match why {
            Errno::NOSPC => "no space left on device",
            Errno::DQUOT => "the disk quota is used up",
            Errno::FBIG => "the file may not grow",
            Errno::AGAIN => "its reader was too slow",
            Errno::PIPE | Errno::CONNREFUSED | Errno::NOTCONN => "its reader was gone",
            Errno::IO => "input/output error",
            Errno::ROFS => "the filesystem is read-only",
            _ => "",
        };
        let (bytes, lines) = (self.bytes, self.lines);
        // The room is enough for two numbers of twenty digits.
        let _ = match reason {
            "" => writeln!(
                notice,
                "{break_first}[berth] {bytes} bytes of output ({lines} line ends) are missing here: error {}",
                why.raw_os_error()
            ),
            reason => writeln!(
                notice,
                "{break_first}[berth] {bytes} bytes of output ({lines} line ends) are missing here: {reason}"
            ),
        };
        notice
    }
}

/// The text of a notice.
pub(crate) struct Notice {
    text: [u8; Notice::ROOM],
    len: usize,
}

impl Notice {
    const ROOM: usize = 192;

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl Write for Notice {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.text.get_mut(self.len..self.len + text.len()).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notice_says_how_much_and_why() {
        let loss = Loss { bytes: u64::MAX, lines: u64::MAX };
        let text = loss.notice(Errno::NOSPC, true);
        let text = core::str::from_utf8(text.bytes()).unwrap();
        assert_eq!(
            text,
            "\n[berth] 18446744073709551615 bytes of output (18446744073709551615 line ends) are missing here: \
             no space left on device\n"
        );
        let text = loss.notice(Errno::ACCESS, false);
        assert!(core::str::from_utf8(text.bytes()).unwrap().ends_with("error 13\n"));
    }
}
