// SPDX-License-Identifier: Apache-2.0
//! A layer's tree back into a tar, in the words of images: overlayfs's marks become whiteout files again.
//!
//! The store keeps trees, not the archives that they came in, so what is sent anew has another digest than what came
//! (the order and the headers of the original are nobody's to guess). The order here is that of names, and nothing of
//! this host is in it: the same tree gives the same archive.
//!
//! The tree is of an attacker's making: every directory is opened from the one above it, without following anything.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use berth_image::Cancel;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use tar::{Builder, EntryType, Header};

/// Bytes of a list of attribute names, and of one attribute: the kernel's own limits (xattr(7)).
const XATTR_MAX: usize = 64 << 10;
/// Directories within one another; the unpacker makes no deeper ones.
const DEPTH: usize = 512;

/// Writes the tree below `root` as a layer.
///
/// # Errors
/// It can not be read, or not be written; soon after `cancel` is said.
pub(crate) fn pack<W: Write>(root: BorrowedFd<'_>, to: W, cancel: &Cancel) -> io::Result<W> {
    let mut packing = Packing { to: Builder::new(to), links: HashMap::new(), cancel };
    let dir = open_dir(root, OsStr::new("."))?;
    packing.directory(dir.as_fd(), &[], 0)?;
    packing.to.into_inner()
}

struct Packing<'c, W: Write> {
    to: Builder<W>,
    /// The first name of a file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    cancel: &'c Cancel,
}

impl<W: Write> Packing<'_, W> {
    /// What is in a directory, whose own entry is written already.
    fn directory(&mut self, dir: BorrowedFd<'_>, path: &[u8], depth: usize) -> io::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("it was cancelled"));
        }
        if depth > DEPTH {
            return Err(io::Error::other("its directories lie too deep within one another"));
        }
        if attribute(dir, "trusted.overlay.opaque")?.as_deref() == Some(b"y") {
            self.whiteout(&join(path, b".wh..wh..opq"))?;
        }
        for name in names(dir)? {
            let stat = rustix::fs::statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
            let path = join(path, name.as_bytes());
            self.entry(dir, &name, &path, &stat, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &[u8],
        stat: &Stat,
        depth: usize,
    ) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            let (above, own) = path.split_at(path.len() - name.len());
            return self.whiteout(&[above, b".wh.", own].concat());
        }
        let mut header = header(stat);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
            if first != path {
                header.set_entry_type(EntryType::Link);
                let first = first.clone();
                return self.append(header, path, Some(&first), Vec::new(), io::empty());
            }
        }
        match kind {
            FileType::Directory => {
                let inner = open_dir(dir, name)?;
                header.set_entry_type(EntryType::Directory);
                let attributes = attributes(inner.as_fd())?;
                self.append(header, &[path, b"/"].concat(), None, attributes, io::empty())?;
                self.directory(inner.as_fd(), path, depth + 1)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                let attributes = attributes(file.as_fd())?;
                self.append(header, path, None, attributes, file.take(size))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                header.set_entry_type(EntryType::Symlink);
                self.append(header, path, Some(target.as_bytes()), Vec::new(), io::empty())
            }
            FileType::Fifo => {
                header.set_entry_type(EntryType::Fifo);
                self.append(header, path, None, Vec::new(), io::empty())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let character = kind == FileType::CharacterDevice;
                header.set_entry_type(if character { EntryType::Char } else { EntryType::Block });
                header.set_device_major(rustix::fs::major(stat.st_rdev))?;
                header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
                self.append(header, path, None, Vec::new(), io::empty())
            }
            // No archive has them.
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0);
        header.set_mtime(0);
        self.append(header, path, None, Vec::new(), io::empty())
    }

    /// Writes an entry; what does not fit into its header stands before it (pax(1)).
    fn append(
        &mut self,
        mut header: Header,
        path: &[u8],
        link: Option<&[u8]>,
        mut extensions: Vec<(String, Vec<u8>)>,
        data: impl Read,
    ) -> io::Result<()> {
        let mut put = |field: &mut [u8], text: &[u8], key: &str| {
            if text.len() >= field.len() || !text.is_ascii() {
                extensions.push((key.to_owned(), text.to_vec()));
            }
            let fits = text.len().min(field.len());
            field[..fits].copy_from_slice(&text[..fits]);
        };
        if let Some(ustar) = header.as_ustar_mut() {
            put(&mut ustar.name, path, "path");
            if let Some(link) = link {
                put(&mut ustar.linkname, link, "linkpath");
            }
        }
        header.set_cksum();
        if !extensions.is_empty() {
            let pairs: Vec<(&str, &[u8])> =
                extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
            self.to.append_pax_extensions(pairs)?;
        }
        self.to.append(&header, data)
    }
}

/// Owner, mode, time. Numbers that are too large for their fields are written in base 256, which every reader knows.
fn header(stat: &Stat) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        [] => name.to_vec(),
        path => [path, b"/", name].concat(),
    }
}

fn open_dir(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut all = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            all.push(OsString::from_vec(name));
        }
    }
    all.sort();
    Ok(all)
}

/// The attributes that an image has: not those of overlayfs, which are marks of ours.
fn attributes(file: BorrowedFd<'_>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut list = vec![0; XATTR_MAX];
    let count = match rustix::fs::flistxattr(file, &mut list[..]) {
        Ok(count) => count,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let mut all = Vec::new();
    for name in list[..count].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        if name.is_empty() || name.starts_with("trusted.overlay.") || name.contains('=') {
            continue;
        }
        if let Some(value) = attribute(file, name)? {
            all.push((format!("SCHILY.xattr.{name}"), value));
        }
    }
    all.sort();
    Ok(all)
}

fn attribute(file: BorrowedFd<'_>, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; XATTR_MAX];
    match rustix::fs::fgetxattr(file, name, &mut value[..]) {
        Ok(count) => {
            value.truncate(count);
            Ok(Some(value))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
