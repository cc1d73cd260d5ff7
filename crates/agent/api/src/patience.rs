// SPDX-License-Identifier: Apache-2.0
//! A connection whose client must read: when nothing can be written for too long, it is broken off. Without it, a
//! client that never reads would hold a connection, and the stream behind it, for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

pub(crate) struct Patient<S> {
    socket: S,
    limit: Duration,
    /// Whether it is fine that nothing can be written: who sends messages need not wait for answers.
    deaf: bool,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Patient<S> {
    pub(crate) fn new(socket: S, limit: Duration) -> Patient<S> {
        Patient { socket, limit, deaf: false, waiting: None }
    }

    /// One whose client may be gone before it is answered, and is heard to its end all the same.
    pub(crate) fn deaf(self, deaf: bool) -> Patient<S> {
        Patient { deaf, ..self }
    }

    /// So much was written, or might as well have been.
    fn or_unheard(&self, result: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Err(_)) if self.deaf => Poll::Ready(Ok(length)),
            result => result,
        }
    }

    fn or_too_long<T>(
        &mut self,
        context: &mut Context<'_>,
        attempt: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let result = attempt(Pin::new(&mut self.socket), context);
        if result.is_ready() {
            self.waiting = None;
            return result;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        waiting.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.or_too_long(context, |socket, context| socket.poll_write(context, bytes));
        self.or_unheard(result, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.or_too_long(context, |socket, context| socket.poll_write_vectored(context, pieces));
        self.or_unheard(result, pieces.iter().map(|piece| piece.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.or_too_long(context, |socket, context| socket.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.or_too_long(context, |socket, context| socket.poll_shutdown(context))
    }
}
