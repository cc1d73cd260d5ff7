// SPDX-License-Identifier: Apache-2.0
//! Requests as bytes, and answers as they come.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longer than any answer takes; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A request that is about to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// Of a method and a path.
    pub fn new(method: &str, path: &str) -> Request {
        Request { head: format!("{method} {path} HTTP/1.1\r\nHost: agent\r\n"), body: Vec::new() }
    }

    /// A call to `/api/v1`.
    pub fn call() -> Request {
        Request::new("POST", "/api/v1")
    }

    /// One more header.
    pub fn with(mut self, name: &str, value: &str) -> Request {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// Its body, whole.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}Content-Length: {}\r\n\r\n", self.head, self.body.len()).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The head alone, as it stands: what it says of a body is in its headers.
    pub fn bytes_of_head(&self) -> Vec<u8> {
        format!("{}\r\n", self.head).into_bytes()
    }

    /// The head of one whose body comes in chunks.
    pub fn chunked(&self) -> Vec<u8> {
        format!("{}Transfer-Encoding: chunked\r\n\r\n", self.head).into_bytes()
    }
}

/// A piece of a body that comes in chunks; the empty one ends it.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

/// Status and headers.
#[derive(Debug, Clone)]
pub struct Head {
    /// The number.
    pub status: u16,
    /// The words behind it.
    pub reason: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// A header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body, out of its chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and text, for comparing.
    pub fn says(&self) -> (u16, String) {
        (self.head.status, self.text())
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Client {
    /// To the agent on this socket.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn to(socket: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, read: Vec::new() })
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// No answer comes.
    pub fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
        let mut client = Client::to(socket)?;
        client.send(&request.bytes())?;
        client.answer()
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Nobody takes them.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next answer.
    ///
    /// # Errors
    /// None comes, or it ends early.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let head = self.head()?;
        let body = self.body(&head)?;
        Ok(Answer { head, body })
    }

    /// The body of an answer whose head was read.
    ///
    /// # Errors
    /// It ends early.
    pub fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if head.header("transfer-encoding") == Some("chunked") {
            while let Some(piece) = self.chunk()? {
                body.extend(piece);
            }
            return Ok(body);
        }
        let length = head.header("content-length").and_then(|text| text.parse().ok());
        let length = length.ok_or_else(|| wrong("a body without a length"))?;
        self.take(length)
    }

    /// The next answer's head.
    ///
    /// # Errors
    /// None comes.
    pub fn head(&mut self) -> io::Result<Head> {
        let first = self.line()?;
        let mut words = first.splitn(3, ' ').skip(1);
        let status = words.next().and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| wrong(&format!("no status in {first:?}")))?;
        let reason = words.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Head { status, reason, headers });
            }
            let (name, value) = line.split_once(": ").ok_or_else(|| wrong(&line))?;
            headers.push((name.to_lowercase(), value.to_owned()));
        }
    }

    /// The next chunk of a body; none at its end.
    ///
    /// # Errors
    /// The body is cut off.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let length = usize::from_str_radix(&line, 16).map_err(|_| wrong(&line))?;
        let bytes = self.take(length)?;
        self.line()?;
        Ok((length > 0).then_some(bytes))
    }

    /// The next record of a body that is RecordIO in chunks, in whatever pieces it comes; none at the body's end.
    ///
    /// # Errors
    /// The body is cut off, or no RecordIO.
    pub fn record(&mut self, pending: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = pending.iter().position(|byte| *byte == b'\n') {
                let digits = String::from_utf8_lossy(&pending[..at]).into_owned();
                let length: usize = digits.parse().map_err(|_| wrong(&digits))?;
                if pending.len() > at + length {
                    let record = pending[at + 1..=at + length].to_vec();
                    pending.drain(..=at + length);
                    return Ok(Some(record));
                }
            }
            match self.chunk()? {
                Some(piece) => pending.extend(piece),
                None if pending.is_empty() => return Ok(None),
                None => return Err(wrong("a record is cut off")),
            }
        }
    }

    /// Whether the agent ends the connection, and says nothing more.
    pub fn is_ended(&mut self) -> bool {
        self.read.is_empty() && matches!(self.fill(), Ok(0))
    }

    /// How long to wait for bytes.
    ///
    /// # Panics
    /// The time is zero.
    pub fn wait_for(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("no time to wait is not asked for");
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.read[..at]).into_owned();
                self.read.drain(..at + 2);
                return Ok(line);
            }
            self.more()?;
        }
    }

    /// So many bytes of a body.
    ///
    /// # Errors
    /// It is cut off.
    pub fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            self.more()?;
        }
        Ok(self.read.drain(..length).collect())
    }

    fn more(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 * 1024];
        let length = self.stream.read(&mut buffer)?;
        self.read.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
