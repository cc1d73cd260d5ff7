// SPDX-License-Identifier: Apache-2.0
//! A server on a unix socket that takes requests as they come, byte for byte, and answers what it is told to.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use berth_client::Agent;
use berth_proto::agent::{Call, Response};
use berth_proto::{decode_protobuf, encode_json, encode_protobuf};

pub(crate) struct Server {
    pub(crate) socket: PathBuf,
    listener: UnixListener,
    _directory: tempfile::TempDir,
}

/// A request as it came.
pub(crate) struct Request {
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Server {
    pub(crate) fn new() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("berth.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        Server { socket, listener, _directory: directory }
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent::at(&self.socket)
    }

    /// The next client.
    pub(crate) fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().unwrap();
        // Longer than anything takes; a test that waits for it has failed.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Peer { stream, read: Vec::new() }
    }

    /// Answers one request of one client; what it was.
    pub(crate) fn answer_one(&self, answer: &[u8]) -> Request {
        let mut peer = self.accept();
        let request = peer.request();
        peer.say(answer);
        request
    }
}

/// A client at the other end.
pub(crate) struct Peer {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Peer {
    /// A whole request with a length.
    pub(crate) fn request(&mut self) -> Request {
        let head = self.head();
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
        let body = self.take(length.expect("a length").parse().unwrap());
        Request { head, body }
    }

    pub(crate) fn head(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.line() {
                line if line.is_empty() => return lines,
                line => lines.push(line),
            }
        }
    }

    /// The next chunk of a body; empty at its end.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        let length = usize::from_str_radix(&self.line(), 16).unwrap();
        let chunk = self.take(length);
        assert_eq!(self.line(), "");
        chunk
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Whether the client has gone.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.read.is_empty() && matches!(self.stream.read(&mut [0; 16]), Ok(0))
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8(self.read[..at].to_vec()).unwrap();
                self.read.drain(..at + 2);
                return line;
            }
            self.fill();
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            self.fill();
        }
        self.read.drain(..length).collect()
    }

    fn fill(&mut self) {
        let mut room = [0; 4096];
        let n = self.stream.read(&mut room).unwrap();
        assert!(n > 0, "the client went away after {:?}", String::from_utf8_lossy(&self.read));
        self.read.extend_from_slice(&room[..n]);
    }
}

impl Request {
    pub(crate) fn call(&self) -> Call {
        decode_protobuf(&self.body).unwrap()
    }

    /// As it stands in the golden files: the head as it came, the body as JSON.
    pub(crate) fn text(&self) -> String {
        let json = String::from_utf8(encode_json(&self.call())).unwrap();
        format!("{}\n\n{json}\n", without_length(&self.head).join("\n"))
    }
}

pub(crate) fn without_length(head: &[String]) -> Vec<&str> {
    head.iter().map(String::as_str).filter(|line| !line.starts_with("content-length")).collect()
}

/// An answer with a body.
pub(crate) fn with_status(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) fn message(response: &Response) -> Vec<u8> {
    with_status("200 OK", "application/x-protobuf", &encode_protobuf(response))
}

pub(crate) fn done() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()
}

pub(crate) fn text(status: &str, words: &str) -> Vec<u8> {
    with_status(status, "text/plain; charset=utf-8", words.as_bytes())
}

/// The head of a stream of records.
pub(crate) const RECORDS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/recordio\r\n\
    Message-Content-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
