// SPDX-License-Identifier: Apache-2.0
//! A connection's bytes: plain or through TLS, with every wait bounded and ended by a shutdown from outside.
//!
//! A registry that is slow is waited for as long as something comes. So there is no time for a whole blob, only
//! for its head, and for a least amount in each stretch of *waiting*: time that the reader itself spends on a full
//! disk is not the registry's.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

/// How long is waited for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, with its TLS handshake.
    pub connect: Duration,
    /// Without progress: for the head of an answer, and for each stretch of a body.
    pub stall: Duration,
    /// The least that must come in each such stretch for it to be progress.
    pub least: u64,
    /// For a whole document: a manifest, a token; and for the answer to one that was sent.
    pub document: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let stall = Duration::from_secs(60);
        Patience {
            connect: Duration::from_secs(20),
            stall,
            least: 16 << 10,
            document: Duration::from_secs(300),
        }
    }
}

/// What ran out; the source of an [`io::Error`] of kind `TimedOut`.
#[derive(Debug, thiserror::Error)]
#[error("no progress for {after:?} ({got} bytes)")]
pub(crate) struct Stall {
    pub(crate) after: Duration,
    pub(crate) got: u64,
}

/// How the present wait is bounded.
#[derive(Debug)]
enum Limit {
    /// Until then, whatever comes.
    Until { deadline: Instant, of: Duration, got: u64 },
    /// For each stretch of waiting.
    Stretch { stall: Duration, least: u64, waited: Duration, got: u64 },
}

/// A TCP connection with a limit on waiting.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Arc<TcpStream>,
    limit: Limit,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, within: Duration) -> Socket {
        let limit = Limit::Until { deadline: Instant::now() + within, of: within, got: 0 };
        Socket { stream: Arc::new(stream), limit }
    }

    /// Something that ends every wait of this connection, from any thread.
    pub(crate) fn stopper(&self) -> impl FnOnce() + Send + use<> {
        let stream = Arc::clone(&self.stream);
        // It may be closed already, and that is what is wanted.
        move || drop(stream.shutdown(Shutdown::Both))
    }

    /// Whether nothing waits to be read: no byte that nobody asked for, and no end.
    pub(crate) fn is_quiet(&self) -> bool {
        let peek = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        matches!(peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// From now on, all must be done within that time.
    pub(crate) fn within(&mut self, time: Duration) {
        self.limit = Limit::Until { deadline: Instant::now() + time, of: time, got: 0 };
    }

    /// From now on, each stretch of waiting must bring something.
    pub(crate) fn stretches(&mut self, stall: Duration, least: u64) {
        self.limit = Limit::Stretch { stall, least, waited: Duration::ZERO, got: 0 };
    }

    /// How long may be waited now; an error when that is over.
    fn budget(&mut self) -> io::Result<Duration> {
        let (left, after, got) = match &self.limit {
            Limit::Until { deadline, of, got } => {
                (deadline.saturating_duration_since(Instant::now()), *of, *got)
            }
            Limit::Stretch { stall, waited, got, .. } => (stall.saturating_sub(*waited), *stall, *got),
        };
        match left.is_zero() {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, Stall { after, got })),
            // The kernel takes zero for "forever".
            false => Ok(left.max(Duration::from_millis(1))),
        }
    }

    /// Books one wait and what it brought.
    fn book(&mut self, began: Instant, count: usize) {
        match &mut self.limit {
            Limit::Until { got, .. } => *got += count as u64,
            Limit::Stretch { stall, least, waited, got } => {
                *waited += began.elapsed();
                *got += count as u64;
                if *got >= *least && *waited < *stall {
                    (*waited, *got) = (Duration::ZERO, 0);
                }
            }
        }
    }

    fn wait(
        &mut self,
        arm: impl Fn(&TcpStream, Duration) -> io::Result<()>,
        mut act: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let time = self.budget()?;
            arm(&self.stream, time)?;
            let began = Instant::now();
            match act(&self.stream) {
                Ok(count) => {
                    self.book(began, count);
                    return Ok(count);
                }
                // The armed time is over: the next look at the budget says so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.book(began, 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.book(began, 0),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.wait(|s, time| s.set_read_timeout(Some(time)), |mut s| s.read(buf))
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.wait(|s, time| s.set_write_timeout(Some(time)), |mut s| s.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection, plain or secured.
pub(crate) enum Channel {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Channel {
    pub(crate) fn socket(&mut self) -> &mut Socket {
        match self {
            Channel::Plain(socket) => socket,
            Channel::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Channel {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(socket) => socket.read(buf),
            Channel::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(socket) => socket.write(buf),
            Channel::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Channel::Plain(socket) => socket.flush(),
            Channel::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair(within: Duration) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Socket::new(near, within), listener.accept().unwrap().0)
    }

    #[test]
    fn a_drip_is_no_progress() {
        let (mut socket, mut far) = pair(Duration::from_secs(9));
        socket.stretches(Duration::from_millis(150), 1000);
        let drip = std::thread::spawn(move || {
            while far.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let error = loop {
            if let Err(error) = socket.read(&mut [0; 16]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let stall = error.get_ref().unwrap().downcast_ref::<Stall>().unwrap();
        assert!(stall.got > 0 && stall.got < 1000, "{stall:?}");
        drop(socket);
        drip.join().unwrap();
    }

    #[test]
    fn time_that_the_reader_takes_is_not_the_senders() {
        let (mut socket, mut far) = pair(Duration::from_secs(9));
        socket.stretches(Duration::from_millis(100), 1000);
        for _ in 0..3 {
            far.write_all(&[0; 10]).unwrap();
            std::thread::sleep(Duration::from_millis(80));
            assert_eq!(socket.read(&mut [0; 16]).unwrap(), 10);
        }
    }

    #[test]
    fn a_deadline_counts_whatever_comes() {
        let (mut socket, mut far) = pair(Duration::from_millis(80));
        far.write_all(b"x").unwrap();
        assert_eq!(socket.read(&mut [0; 16]).unwrap(), 1);
        assert_eq!(socket.read(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_shutdown_from_outside_ends_the_wait() {
        let (mut socket, _far) = pair(Duration::from_secs(60));
        let stop = socket.stopper();
        let reader = std::thread::spawn(move || socket.read(&mut [0; 16]).unwrap());
        stop();
        assert_eq!(reader.join().unwrap(), 0);
    }
}
