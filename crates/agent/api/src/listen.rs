// SPDX-License-Identifier: Apache-2.0
//! Where clients come in: a unix socket with the right mode from its first moment, or TCP.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use berth_model::Class;
use rustix::fs::{CWD, Gid, Mode, Uid};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::Peer;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Why nobody can come in.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address that can not be had.
    #[error("listen on {address}; choose another address, or end what listens there")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A socket that can not be made.
    #[error("{step} socket {path}; check its directory")]
    Unix {
        /// What was tried.
        step: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody answers there.
    #[error("another process listens on socket {0}; end it, or choose another socket")]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{0} is not a socket; remove it, or choose another socket")]
    NotASocket(PathBuf),
}

impl BindError {
    /// What is taken is a conflict; all else is as the kernel says.
    pub fn class(&self) -> Class {
        match self {
            BindError::Tcp { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Class::Conflict,
            BindError::Tcp { source, .. } | BindError::Unix { source, .. } => Class::of_io(source),
            BindError::InUse(_) | BindError::NotASocket(_) => Class::Conflict,
        }
    }
}

/// Who may connect to a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixAccess {
    /// The mode of the socket; writing is connecting.
    pub mode: u32,
    /// The group of the socket, if not the process's own.
    pub gid: Option<u32>,
}

impl UnixAccess {
    /// The owner and this group, if the host has it; otherwise the owner alone.
    pub fn of_group(name: &str) -> UnixAccess {
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        match group_id(&groups, name) {
            Some(gid) => UnixAccess { mode: 0o660, gid: Some(gid) },
            None => UnixAccess { mode: 0o600, gid: None },
        }
    }
}

/// The number of a group in `group(5)`.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// An open door.
#[derive(Debug)]
pub struct Listener(Door);

#[derive(Debug)]
enum Door {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

impl Listener {
    /// Listens on an address. Needs a runtime of tokio.
    pub async fn tcp(address: SocketAddr) -> Result<Listener, BindError> {
        let listener = TcpListener::bind(address).await;
        listener
            .map(|listener| Listener(Door::Tcp(listener)))
            .map_err(|source| BindError::Tcp { address, source })
    }

    /// Listens on a socket in the file system. One that a dead agent left behind is replaced; the new one has its
    /// mode and group before anybody can reach it. The file is removed with the listener. Needs a runtime of tokio.
    pub fn unix(path: impl Into<PathBuf>, access: UnixAccess) -> Result<Listener, BindError> {
        let path = path.into();
        refuse_if_taken(&path)?;
        let socket = make_socket(&path, access)?;
        let failed = |step| {
            let path = path.clone();
            move |source| BindError::Unix { step, path, source }
        };
        let listener = UnixListener::from_std(socket.into()).map_err(failed("watch"))?;
        let _file = SocketFile::of(path.clone()).map_err(failed("look at"))?;
        Ok(Listener(Door::Unix { listener, _file }))
    }

    /// The address, if it has one: with port 0 the kernel chose.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Door::Tcp(listener) => listener.local_addr().ok(),
            Door::Unix { .. } => None,
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(Socket, Option<Peer>)> {
        match &self.0 {
            Door::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Records are small and shall not wait for one another.
                stream.set_nodelay(true)?;
                Ok((Socket::Tcp(stream), None))
            }
            Door::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                let peer = Peer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() };
                Ok((Socket::Unix(stream), Some(peer)))
            }
        }
    }
}

fn refuse_if_taken(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(BindError::NotASocket(path.to_owned())),
        Ok(_) if BlockingStream::connect(path).is_ok() => Err(BindError::InUse(path.to_owned())),
        _ => Ok(()),
    }
}

/// The socket is made under another name, and comes to its own by a rename when all is set: so there is no moment in
/// which the wrong people can connect, and none in which a client finds nothing.
fn make_socket(path: &Path, access: UnixAccess) -> Result<OwnedFd, BindError> {
    let failed =
        |step| move |error| BindError::Unix { step, path: path.to_owned(), source: io::Error::from(error) };
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    let address = SocketAddrUnix::new(&new).map_err(failed("name"))?;
    match rustix::fs::unlink(&new) {
        Err(error) if error != rustix::io::Errno::NOENT => return Err(failed("replace")(error)),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(failed("make"))?;
    rustix::net::bind(&socket, &address).map_err(failed("bind"))?;
    rustix::fs::chmod(&new, Mode::from_raw_mode(access.mode)).map_err(failed("set the mode of"))?;
    if let Some(gid) = access.gid {
        rustix::fs::chownat(
            CWD,
            &new,
            None::<Uid>,
            Some(Gid::from_raw(gid)),
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(failed("set the group of"))?;
    }
    rustix::net::listen(&socket, BACKLOG).map_err(failed("listen on"))?;
    rustix::fs::rename(&new, path).map_err(failed("rename"))?;
    Ok(socket)
}

/// The file of a socket, which goes with it unless another agent has put its own there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: PathBuf) -> io::Result<SocketFile> {
        let identity = identity(&path)?;
        Ok(SocketFile { path, identity })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Who can not remove it leaves what the next agent replaces.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A connection of either kind.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Whether the first that came through a connection begins like this. To be asked when it is readable.
    pub(crate) async fn begins_with(&self, words: &[&[u8]]) -> bool {
        let Socket::Tcp(stream) = self else { return false };
        let mut first = [0; 64];
        match stream.peek(&mut first).await {
            Ok(length) => words.iter().any(|words| first[..length].starts_with(words)),
            Err(_) => false,
        }
    }

    /// The address of the other end, if it has one.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip().to_canonical()),
            Socket::Unix(_) => None,
        }
    }

    /// Waits until the client has said something, or is gone. A connection that says nothing needs no buffers.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.readable().await,
            Socket::Unix(stream) => stream.readable().await,
        }
    }
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Socket::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_name() {
        let groups = "root:x:0:\nberth:x:998:alice,bob\nberthold:x:7:\nbroken\n";
        assert_eq!(group_id(groups, "berth"), Some(998));
        assert_eq!(group_id(groups, "ber"), None);
        assert_eq!(group_id(groups, "broken"), None);
    }
}
