// SPDX-License-Identifier: Apache-2.0
//! A layer of an image into a directory that overlayfs can merge with others.
//!
//! ```text
//! this thread's helper:  blob ─ Hashed ─ Intake ─ decoder ─ Outlet ──┐ pieces
//! this thread:           Tree ─ (checks) ─ Archive ─ Hashed ─────────┘
//! ```
//!
//! Bytes are digested on both sides of the decoder: as the registry counts them, and as the image's configuration
//! does. The caller compares; until it has, nothing of the layer is used for anything.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use berth_model::image::{Algorithm, Digest};

use crate::below::Lower;
use crate::budget::{Budget, Intake, Outlet};
use crate::decode::{self, Compression, Foreign};
use crate::error::UnpackError;
use crate::hash::Hashed;
use crate::root::Root;
use crate::unpack::{Options, PIECE, Progress, Target, Work};

/// Pieces between the two threads: 1 MiB of the tar.
const PIECES: usize = 4;
const PIECE_OF_TAR: usize = 256 << 10;

/// What a layer is unpacked with, beside [`Options`].
pub struct LayerOptions<'a> {
    /// What is below it: see [`Lower`].
    pub lower: Lower<'a>,
    /// How the blob's digest is computed.
    pub blob: Algorithm,
    /// How the digest of what is in it is computed.
    pub content: Algorithm,
    /// This thread's umask is 0 (it has unshared its file system attributes): files can be made with their modes.
    pub umask_is_zero: bool,
    /// The directory of the archive that is the tree ([`crate::manifest::tree_of`]); what is beside it is left away.
    pub tree: Option<&'static str>,
    /// Called when writing failed, so that whoever reads the blob stops waiting for more.
    pub failed: &'a (dyn Fn() + Sync),
}

/// Mode and owner of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A layer that was unpacked.
#[derive(Debug)]
pub struct Layer {
    /// The layer's top directory: `rootfs` in the directory given.
    pub path: PathBuf,
    /// The same, held open.
    pub root: Root,
    /// The digest of the blob, all of it.
    pub blob: Digest,
    /// Its bytes.
    pub blob_size: u64,
    /// The digest of the tar in it.
    pub content: Digest,
    /// Bytes of that tar.
    pub content_size: u64,
    /// How it was compressed.
    pub compression: Compression,
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of files, without holes.
    pub bytes: u64,
    /// Whether something of it comes from what is below it: it fits nowhere else.
    pub bound: bool,
    /// Whether it hides all that is below. overlayfs knows no such mark on a root directory: leave the rest away.
    pub hides_all: bool,
    /// What it says of the root directory, if it does.
    pub top: Option<Top>,
    /// As in [`crate::Unpacked`].
    pub skipped_devices: u64,
    /// As in [`crate::Unpacked`].
    pub dropped_xattrs: u64,
}

/// Unpacks a layer into the directory `target`, as [`crate::unpack_from`] does a root filesystem.
///
/// Deletion marks of the image become overlayfs's. `blob` is read in a thread of its own, to its end.
///
/// # Errors
/// [`UnpackError`]; then nothing of it stays. An error of `blob` is the source of [`UnpackError::Read`].
pub fn unpack_layer(
    blob: impl Read + Send,
    target: &Path,
    options: &Options<'_>,
    layer: &LayerOptions<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Layer, UnpackError> {
    let mut made = Target::make(target)?;
    made.forget_default_acl();
    let unpacked = both(blob, &made, options, layer, progress);
    made.settle(unpacked)
}

fn both(
    blob: impl Read + Send,
    target: &Target<'_>,
    options: &Options<'_>,
    layer: &LayerOptions<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Layer, UnpackError> {
    let (algorithm, budget) = (layer.blob, &Budget::new(&options.limits, options.stop));
    std::thread::scope(|scope| {
        let (full, pieces) = sync_channel(PIECES);
        let (back, empty) = sync_channel(PIECES);
        let reading = std::thread::Builder::new()
            .name("layer-read".to_owned())
            .spawn_scoped(scope, move || pump(blob, algorithm, budget, &full, &empty))
            .map_err(|source| UnpackError::Target {
                what: "start a thread to read a layer for",
                path: target.path().into(),
                source,
            })?;
        let mut stream = Hashed::new(Pieces { pieces, back, piece: Vec::new(), at: 0 }, layer.content);
        let written = Work::new(options, progress).run_layer(&mut stream, budget, target, layer);
        if written.is_err() {
            (layer.failed)();
        }
        // The reader must not wait for room that nobody makes.
        let (content_size, content) = (stream.count(), stream.finish());
        let read = reading.join();
        let mut unpacked = written?;
        // Whatever the reader had to say of an error, the writer has read it instead of the end.
        let Ok(Ok(read)) = read else {
            let source = io::Error::other("the thread that reads the layer ended early");
            return Err(UnpackError::Read { place: crate::error::Place::start(), source });
        };
        (unpacked.blob, unpacked.blob_size, unpacked.compression) = read;
        (unpacked.content, unpacked.content_size) = (content, content_size);
        Ok(unpacked)
    })
}

type Full = SyncSender<Result<Vec<u8>, Broken>>;

enum Broken {
    Io(io::Error),
    Foreign(Foreign),
}

/// Reads the blob to its end and hands on what is in it. The last thing sent is an error or an empty piece.
fn pump(
    blob: impl Read,
    algorithm: Algorithm,
    budget: &Budget<'_>,
    full: &Full,
    empty: &Receiver<Vec<u8>>,
) -> Result<(Digest, u64, Compression), ()> {
    let mut hashed = Hashed::new(blob, algorithm);
    let intake = BufReader::with_capacity(PIECE, Intake { source: &mut hashed, budget });
    let mut opened = match decode::open(intake) {
        Ok(Ok(opened)) => opened,
        Ok(Err(foreign)) => return full.send(Err(Broken::Foreign(foreign))).map_err(drop).and(Err(())),
        Err(error) => return full.send(Err(Broken::Io(error))).map_err(drop).and(Err(())),
    };
    let compression = opened.compression;
    let mut outlet = Outlet::new(&mut opened.reader, budget);
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.resize(PIECE_OF_TAR, 0);
        match fill(&mut outlet, &mut piece) {
            Ok(count) => {
                piece.truncate(count);
                // The writer has failed when it takes no more.
                full.send(Ok(piece)).map_err(drop)?;
                if count == 0 {
                    break;
                }
            }
            Err(error) => return full.send(Err(Broken::Io(error))).map_err(drop).and(Err(())),
        }
    }
    drop(opened);
    let count = hashed.count();
    Ok((hashed.finish(), count, compression))
}

fn fill(from: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match from.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The writer's end.
struct Pieces {
    pieces: Receiver<Result<Vec<u8>, Broken>>,
    back: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let used = std::mem::take(&mut self.piece);
            self.at = 0;
            if used.capacity() > 0 {
                // The reader makes a new one if this one has no room.
                let _ = self.back.try_send(used);
            }
            self.piece = match self.pieces.recv() {
                Ok(Ok(piece)) => piece,
                Ok(Err(Broken::Io(error))) => return Err(error),
                Ok(Err(Broken::Foreign(what))) => return Err(io::Error::other(NotATar(what))),
                // It ended after its last, empty piece; or it panicked, which joining it shows.
                Err(_) => return Ok(0),
            };
        }
        let count = buf.len().min(self.piece.len() - self.at);
        buf[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Carries through [`Read`] what the first bytes of a blob are instead of a tar's.
#[derive(Debug, thiserror::Error)]
#[error("the archive {0}")]
pub(crate) struct NotATar(pub(crate) Foreign);
