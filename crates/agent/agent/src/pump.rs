// SPDX-License-Identifier: Apache-2.0
//! Descriptors of containers (pipes, terminals, sockets) as something to await, without a thread for each.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use berth_api::Refusal;
use berth_proto::agent::{ProcessIo, process_io};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// The most that one record of output holds.
const PIECE: usize = 32 * 1024;

/// One end of a stream of a container.
#[derive(Debug)]
pub(crate) struct Pipe(AsyncFd<OwnedFd>);

/// A descriptor that can be awaited.
#[allow(
    deprecated,
    reason = "what replaces it is unsafe; here the owner of the descriptor goes into it and stays"
)]
pub(crate) fn watched<T: AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(owner)
}

impl Pipe {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Pipe> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Pipe(watched(fd)?))
    }

    /// What there is; nothing at the end.
    async fn read(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; PIECE];
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd, buffer.as_mut_slice())?));
            match read {
                Ok(Ok(length)) => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                // The other side of a terminal is closed.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Ok(Vec::new());
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Writes all of it.
    pub(crate) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(Ok(length)) => bytes = &bytes[length..],
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Passes on what comes, until it ends or nobody listens any more.
pub(crate) async fn output(
    pipe: Option<Pipe>,
    kind: process_io::data::Type,
    to: mpsc::Sender<Result<ProcessIo, Refusal>>,
) {
    let Some(pipe) = pipe else { return };
    loop {
        let read = tokio::select! {
            () = to.closed() => return,
            read = pipe.read() => read,
        };
        let sent = match read {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(bytes) => to.send(Ok(data(kind, bytes))).await,
            Err(error) => to.send(Err(Refusal::failed(format!("Failed reading the output: {error}")))).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn data(kind: process_io::data::Type, bytes: Vec<u8>) -> ProcessIo {
    let data = process_io::Data { r#type: Some(kind.into()), data: Some(bytes) };
    ProcessIo { r#type: Some(process_io::Type::Data.into()), data: Some(data), control: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_is_passed_on_to_the_end_and_a_reader_that_goes_ends_it() {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let kind = process_io::data::Type::Stdout;
        let pumping = tokio::spawn(output(Some(Pipe::new(ours).unwrap()), kind, sender));
        let writer = Pipe::new(theirs).unwrap();
        writer.write(b"abc").await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), data(kind, b"abc".to_vec()));
        drop(writer);
        assert!(receiver.recv().await.is_none());
        pumping.await.unwrap();

        let (ours, _theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (sender, receiver) = mpsc::channel(1);
        let pumping = tokio::spawn(output(Some(Pipe::new(ours).unwrap()), kind, sender));
        drop(receiver);
        pumping.await.unwrap();
    }
}
