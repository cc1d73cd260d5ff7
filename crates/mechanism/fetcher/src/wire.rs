// SPDX-License-Identifier: Apache-2.0
//! What the agent and a fetching child say to each other: one JSON document in one SEQPACKET message, a descriptor
//! beside it where one is needed.
//!
//! ```text
//! agent                                child
//! Setup + sandbox (if it has one)  ──>  becomes the user, confines itself
//!                                  <──  Ready
//! Fetch (+ file of the cache)      ──>
//!                                  <──  Size, before a byte is written, if it is for the cache
//! Go                               ──>
//!                                  <──  Progress …
//!                                  <──  Done | Failed
//! ```
//! The child talks to servers that may have taken it over: what it says is text with a bound, and numbers that decide
//! nothing about the agent's own files.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use berth_model::Class;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::egress::Egress;
use crate::uri::{Archive, Source};

/// The most bytes of one message. Above the longest URI, quoted, with what stands beside it.
const MESSAGE: usize = 192 << 10;

/// The first message to a child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) user: Option<User>,
    pub(crate) stall_ms: u64,
    pub(crate) egress: Egress,
    pub(crate) proxies: Proxies,
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) limits: Limits,
    /// Files of the host that it will copy: Landlock lets it read these.
    pub(crate) local: Vec<PathBuf>,
    /// Whether it starts programs of the host, which need more of it.
    pub(crate) clients: Option<Clients>,
    /// Whether the descriptor beside this message is its sandbox.
    pub(crate) sandbox: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// Proxies, as in the environment of curl.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    /// For http.
    pub http: Option<String>,
    /// For https.
    pub https: Option<String>,
    /// Hosts that are spoken to directly: names, domains with a dot in front, `*`, separated by commas.
    pub except: Option<String>,
}

/// Programs that fetch what we do not fetch ourselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clients {
    pub(crate) hadoop: Option<PathBuf>,
    pub(crate) aws: Option<PathBuf>,
    pub(crate) environment: Vec<(String, String)>,
    /// A directory of the user's that the file may be put in, for the cache.
    pub(crate) staging: Option<PathBuf>,
}

/// The limits of [`berth_image::Limits`] that an operator sets, and the size of one download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of one resource as it is downloaded.
    pub download: u64,
    /// Bytes that one archive turns into.
    pub bytes: u64,
    /// Bytes that one byte of an archive turns into.
    pub ratio: u64,
    /// Bytes that are not yet measured against `ratio`.
    pub ratio_free: u64,
    /// Entries of one archive.
    pub entries: u64,
}

impl Default for Limits {
    /// 64 GiB downloaded, 64 GiB and two million entries unpacked, 1:1000 after 64 MiB.
    fn default() -> Limits {
        let image = berth_image::Limits::default();
        Limits {
            download: 64 << 30,
            bytes: image.bytes,
            ratio: image.ratio,
            ratio_free: image.ratio_free,
            entries: image.entries,
        }
    }
}

/// Later messages to a child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// Download or copy, and unpack if that is asked for.
    Fetch(Job),
    /// Unpack the file of the cache that comes with this.
    Extract(Job),
    /// There is room for the file whose size was told; write it to the descriptor that comes with this.
    Go { most: u64 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) source: Source,
    pub(crate) shown: String,
    pub(crate) output: PathBuf,
    pub(crate) executable: bool,
    pub(crate) archive: Option<Archive>,
    /// Whether it is for the cache: its size is told, and nothing written before the answer.
    pub(crate) cached: bool,
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// It has become its user. How it is confined, for the log.
    Ready { confined: String },
    /// How large the resource will be, where the server says so.
    Size(Option<u64>),
    /// So far.
    Progress { bytes: u64, total: Option<u64>, unpacking: bool },
    /// The item is done.
    Done { bytes: u64 },
    /// The item can not be had.
    Failed { class: ClassName, text: String },
}

/// [`Class`] as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ClassName {
    NotFound,
    Conflict,
    Invalid,
    Unsupported,
    Exhausted,
    Gone,
    Denied,
    Internal,
}

impl From<Class> for ClassName {
    fn from(class: Class) -> ClassName {
        match class {
            Class::NotFound => ClassName::NotFound,
            Class::Conflict => ClassName::Conflict,
            Class::Invalid => ClassName::Invalid,
            Class::Unsupported => ClassName::Unsupported,
            Class::Exhausted => ClassName::Exhausted,
            Class::Gone => ClassName::Gone,
            Class::Denied => ClassName::Denied,
            Class::Internal => ClassName::Internal,
        }
    }
}

impl From<ClassName> for Class {
    fn from(name: ClassName) -> Class {
        match name {
            ClassName::NotFound => Class::NotFound,
            ClassName::Conflict => Class::Conflict,
            ClassName::Invalid => Class::Invalid,
            ClassName::Unsupported => Class::Unsupported,
            ClassName::Exhausted => Class::Exhausted,
            ClassName::Gone => Class::Gone,
            ClassName::Denied => Class::Denied,
            ClassName::Internal => Class::Internal,
        }
    }
}

/// Sends one message. Blocks while the other side does not read.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let text = serde_json::to_vec(message).map_err(io::Error::other)?;
    if text.len() > MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one message and the descriptor beside it; nothing when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut text = vec![0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let parts = &mut [IoSliceMut::new(&mut text)];
        match recvmsg(&socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET) => return Ok(None),
            got => break got?,
        }
    };
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            // More than one is nothing that we say; the others are closed here.
            for one in fds {
                fd.get_or_insert(one);
            }
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let message = serde_json::from_slice(&text[..got.bytes])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, fd)))
}
