// SPDX-License-Identifier: Apache-2.0
//! journald's native protocol: one datagram for each line.
//!
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. A field is `NAME=value` and a newline; a value with a newline in it would
//! need the binary form, which a line never does. Lines longer than [`LONGEST_LINE`] are sent in pieces, all but the last of
//! them marked as Docker marks its own (`CONTAINER_PARTIAL_MESSAGE=true`).

use berth_sys::Errno;
use berth_sys::rustix::fd::{AsFd, OwnedFd};
use berth_sys::rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

use crate::writer::Output;

/// Bytes of a line in one entry: a page, since a supervisor has room for two entries on its stack.
pub const LONGEST_LINE: usize = 4 << 10;

const FIELDS: usize = 1024;
const ENTRY: usize = LONGEST_LINE + FIELDS + 64;

/// How urgent (syslog(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// What a container writes to stderr, as with Docker.
    Error = 3,
    /// What it writes to stdout.
    Info = 6,
}

/// The fields that all entries of one stream have, in the form of the protocol.
#[derive(Debug, Clone)]
pub struct Fields {
    text: [u8; FIELDS],
    len: usize,
}

impl Fields {
    /// Only the priority.
    pub fn new(priority: Priority) -> Fields {
        let mut fields = Fields { text: [0; FIELDS], len: 0 };
        let digit = [b'0' + priority as u8];
        // One short field always fits.
        let _ = fields.add("PRIORITY", &digit);
        fields
    }

    /// Adds a field, such as `CONTAINER_ID`, `CONTAINER_NAME` or `SYSLOG_IDENTIFIER`.
    ///
    /// # Errors
    /// `INVAL` for a name that journald does not take, or a value with a newline in it; `NOSPC` when 1,024 bytes are full.
    pub fn add(&mut self, name: &str, value: &[u8]) -> Result<(), Errno> {
        let bytes = name.as_bytes();
        let good = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        let begins = bytes.first().is_some_and(u8::is_ascii_uppercase);
        if !begins || bytes.len() > 64 || !bytes.iter().all(good) || value.contains(&b'\n') {
            return Err(Errno::INVAL);
        }
        let parts = [bytes, b"=", value, b"\n"];
        let count: usize = parts.iter().map(|part| part.len()).sum();
        if self.len + count > FIELDS {
            return Err(Errno::NOSPC);
        }
        for part in parts {
            self.text[self.len..self.len + part.len()].copy_from_slice(part);
            self.len += part.len();
        }
        Ok(())
    }
}

/// Room for one entry, in the memory of whoever has some to spare.
pub type Room = [u8; ENTRY];

/// An [`Output`] that sends each line to journald.
#[derive(Debug)]
pub struct Journald<'e> {
    socket: Option<OwnedFd>,
    path: &'e [u8],
    fields: Fields,
    /// The entry, and how much of the room it takes.
    entry: &'e mut Room,
    len: usize,
    /// Bytes of the line that is being collected; it stands in the entry behind the fields.
    line: usize,
    /// The entry is complete and waits to be sent.
    ready: bool,
}

const MESSAGE: &[u8] = b"MESSAGE=";
const PARTIAL: &[u8] = b"\nCONTAINER_PARTIAL_MESSAGE=true\n";

impl<'e> Journald<'e> {
    /// Where journald listens.
    pub const SOCKET: &'static [u8] = b"/run/systemd/journal/socket";

    /// Entries with these fields, sent to the socket at `path`. It is connected at the first line, and again when
    /// journald was started anew.
    pub fn new(path: &'e [u8], fields: Fields, entry: &'e mut Room) -> Journald<'e> {
        let mut journald = Journald { socket: None, path, fields, entry, len: 0, line: 0, ready: false };
        journald.begin();
        journald
    }

    /// Sends a line that has not ended, at the end of the stream.
    ///
    /// # Errors
    /// It could not be sent; it may be tried again.
    pub fn end(&mut self) -> Result<(), Errno> {
        if self.line > 0 && !self.ready {
            self.complete(b"\n");
        }
        self.flush()
    }

    fn begin(&mut self) {
        self.len = 0;
        for part in [&self.fields.text[..self.fields.len], MESSAGE] {
            self.entry[self.len..self.len + part.len()].copy_from_slice(part);
            self.len += part.len();
        }
        (self.line, self.ready) = (0, false);
    }

    fn collect(&mut self, data: &[u8]) {
        self.entry[self.len..self.len + data.len()].copy_from_slice(data);
        self.len += data.len();
        self.line += data.len();
    }

    fn complete(&mut self, tail: &[u8]) {
        self.entry[self.len..self.len + tail.len()].copy_from_slice(tail);
        self.len += tail.len();
        self.ready = true;
    }

    fn flush(&mut self) -> Result<(), Errno> {
        if !self.ready {
            return Ok(());
        }
        // Once more after a new connection: journald may have been started anew.
        for attempt in 0..2 {
            self.connect()?;
            let Some(socket) = &self.socket else { return Err(Errno::NOTCONN) };
            match send(socket, &self.entry[..self.len], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) => {
                    self.begin();
                    return Ok(());
                }
                Err(Errno::CONNREFUSED | Errno::NOTCONN | Errno::CONNRESET) if attempt == 0 => {
                    self.socket = None
                }
                Err(Errno::NOBUFS) => return Err(Errno::AGAIN),
                Err(error) => return Err(error),
            }
        }
        Err(Errno::CONNREFUSED)
    }

    fn connect(&mut self) -> Result<(), Errno> {
        if self.socket.is_none() {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
            connect(&socket, &SocketAddrUnix::new(self.path)?)?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    /// Its socket, for poll, once there is one.
    pub fn socket(&self) -> Option<berth_sys::rustix::fd::BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

impl Output for Journald<'_> {
    /// Takes one line, or what there is of it. A line is taken once it is sent: so what waits is never taken twice.
    fn write(&mut self, data: &[u8]) -> Result<usize, Errno> {
        self.flush()?;
        let room = LONGEST_LINE - self.line;
        let end = data.iter().take(room).position(|byte| *byte == b'\n');
        let (taken, count) = match end {
            Some(at) => (at, at + 1),
            None => (data.len().min(room), data.len().min(room)),
        };
        self.collect(&data[..taken]);
        match end {
            Some(_) => self.complete(b"\n"),
            None if self.line == LONGEST_LINE => self.complete(PARTIAL),
            None => return Ok(count),
        }
        match self.flush() {
            // It has it, and sends it before it takes more.
            Ok(()) | Err(Errno::AGAIN) => Ok(count),
            Err(error) => {
                // This much is taken back; what came with earlier calls of a line that can not be sent is gone.
                self.begin();
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{Policy, Writer};
    use std::os::unix::net::UnixDatagram;

    fn fields() -> Fields {
        let mut fields = Fields::new(Priority::Info);
        fields.add("CONTAINER_ID", b"c1").unwrap();
        fields
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut room = vec![0; 1 << 17];
        let mut all = Vec::new();
        while let Ok(count) = socket.recv(&mut room) {
            all.push(String::from_utf8_lossy(&room[..count]).into_owned());
        }
        all
    }

    #[test]
    fn each_line_is_an_entry_with_all_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let (mut entry, path) = (Box::new([0; ENTRY]), path.to_str().unwrap().as_bytes());
        let mut writer = Writer::new(Journald::new(path, fields(), &mut entry), Policy::UNBOUNDED, 0, true);
        writer.feed(b"one\ntw");
        writer.feed(b"o\n\nFORGED=1\nrest");
        writer.output().end().unwrap();
        let head = "PRIORITY=6\nCONTAINER_ID=c1\nMESSAGE=";
        let expected: Vec<_> =
            ["one", "two", "", "FORGED=1", "rest"].map(|line| format!("{head}{line}\n")).into();
        assert_eq!(received(&journal), expected);
    }

    #[test]
    fn a_very_long_line_comes_in_marked_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let (mut entry, path) = (Box::new([0; ENTRY]), path.to_str().unwrap().as_bytes());
        let mut writer = Writer::new(Journald::new(path, fields(), &mut entry), Policy::UNBOUNDED, 0, true);
        let line = "x".repeat(2 * LONGEST_LINE + 10);
        for chunk in line.as_bytes().chunks(4096) {
            writer.feed(chunk);
        }
        writer.feed(b"\n");
        let entries = received(&journal);
        let partial: Vec<_> =
            entries.iter().map(|entry| entry.contains("CONTAINER_PARTIAL_MESSAGE=true")).collect();
        assert_eq!(partial, [true, true, false]);
        let lengths: usize = entries.iter().map(|entry| entry.matches('x').count()).sum();
        assert_eq!(lengths, line.len());
    }

    #[test]
    fn journald_may_be_started_anew_and_what_it_missed_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let (mut entry, text) = (Box::new([0; ENTRY]), path.to_str().unwrap().as_bytes());
        let mut writer = Writer::new(Journald::new(text, fields(), &mut entry), Policy::UNBOUNDED, 0, true);
        writer.feed(b"first\n");
        assert_eq!(received(&journal).len(), 1);
        drop(journal);
        writer.feed(b"missed\n");
        assert!(writer.is_lossy());
        std::fs::remove_file(&path).unwrap();
        let journal = UnixDatagram::bind(&path).unwrap();
        writer.feed(b"second\n");
        let entries = received(&journal);
        assert!(
            entries[0].contains("MESSAGE=[berth] 7 bytes of output (1 line ends) are missing here"),
            "{entries:?}"
        );
        assert!(entries[1].ends_with("MESSAGE=second\n"), "{entries:?}");
    }

    #[test]
    fn a_full_socket_waits_or_drops_and_never_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let (mut entry, text) = (Box::new([0; ENTRY]), path.to_str().unwrap().as_bytes());
        let mut writer = Writer::new(Journald::new(text, fields(), &mut entry), Policy::UNBOUNDED, 0, true);
        let mut sent = 0;
        while writer.offer(b"line\n") == 5 {
            sent += 1;
            assert!(sent < 1_000_000, "the socket never fills");
        }
        let mut got = received(&journal).len();
        writer.feed(b"line\n");
        got += received(&journal).len();
        // Each that was taken arrives, once; the one that waited among them.
        assert_eq!(got, sent + 1);
    }

    #[test]
    fn fields_that_would_be_others_are_refused() {
        let mut fields = Fields::new(Priority::Error);
        for (name, value) in [("_PID", "1"), ("a", "1"), ("", "1"), ("A=B", "1"), ("A", "x\nMESSAGE=forged")]
        {
            assert_eq!(fields.add(name, value.as_bytes()), Err(Errno::INVAL), "{name}");
        }
        assert_eq!(fields.add("A", &[b'x'; 1024]), Err(Errno::NOSPC));
    }
}
