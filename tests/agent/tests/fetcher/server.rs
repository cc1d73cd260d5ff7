// SPDX-License-Identifier: Apache-2.0
//! A server that answers as it is told, and counts.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

type Answer = dyn Fn(&str, &mut TcpStream) + Send + Sync;

/// An http server on a port of its own.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// One that has this to say to each path.
    pub(crate) fn new(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (answer, log): (Arc<Answer>, _) = (Arc::new(answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || {
                    let Some(path) = path_of(&stream) else { return };
                    log.lock().unwrap().push(path.clone());
                    answer(&path, &mut stream);
                });
            }
        });
        Server { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// How often it was asked for anything.
    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn path_of(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    // Up to the empty line.
    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
    Some(path)
}

/// Status, length and further lines.
pub(crate) fn head(stream: &mut TcpStream, status: &str, length: u64, lines: &str) {
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{lines}Connection: close\r\n\r\n");
}

pub(crate) fn ok(stream: &mut TcpStream, body: &[u8]) {
    head(stream, "200 OK", body.len() as u64, "");
    let _ = stream.write_all(body);
}

/// Says nothing any more, until the other end has gone.
pub(crate) fn stall(stream: &mut TcpStream) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

/// Many bytes, the same each time.
pub(crate) fn much(stream: &mut TcpStream, size: u64) {
    head(stream, "200 OK", size, "");
    let piece = vec![b'x'; 1 << 20];
    let mut left = size;
    while left > 0 {
        let now = piece.len().min(usize::try_from(left).unwrap());
        if stream.write_all(&piece[..now]).is_err() {
            return;
        }
        left -= now as u64;
    }
}
