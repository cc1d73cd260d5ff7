// SPDX-License-Identifier: Apache-2.0
//! The tar on standard output or input that `-` stands for.

use super::node::{Meta, Node, Take, plain};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Writes one.
pub(super) struct Writer<W: Write>(tar::Builder<W>);

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W) -> Writer<W> {
        Writer(tar::Builder::new(to))
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.0.into_inner()?.flush()
    }
}

impl<W: Write> Take for Writer<W> {
    fn take(&mut self, path: &Path, meta: &Meta, node: Node<'_>) -> io::Result<()> {
        // The directory whose contents are copied.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let mut header = tar::Header::new_gnu();
        header.set_mode(meta.mode);
        header.set_uid(meta.uid.into());
        header.set_gid(meta.gid.into());
        header.set_mtime(u64::try_from(meta.mtime.0).unwrap_or(0));
        header.set_size(0);
        match node {
            Node::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                let mut path = path.as_os_str().to_owned();
                path.push("/");
                self.0.append_data(&mut header, Path::new(&path), io::empty())
            }
            Node::File(size, reader) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(size);
                self.0.append_data(&mut header, path, reader)
            }
            Node::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                self.0.append_link(&mut header, path, Path::new(target))
            }
            Node::Same(other) => {
                header.set_entry_type(tar::EntryType::Link);
                self.0.append_link(&mut header, path, other)
            }
        }
    }
}

/// Reads one, and gives its entries away. What was left out, and why.
pub(super) fn read(from: impl Read, to: &mut dyn Take) -> io::Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path_bytes().into_owned();
        let shown = || String::from_utf8_lossy(&name).escape_debug().to_string();
        let leads_out = || io::Error::other(format!("the entry '{}' has '..' in it", shown()));
        let path = plain(Path::new(OsStr::from_bytes(&name))).ok_or_else(leads_out)?;
        let header = entry.header();
        let small = |number: io::Result<u64>| number.ok().and_then(|number| u32::try_from(number).ok());
        let meta = Meta {
            mode: header.mode()? & 0o7777,
            uid: small(header.uid()).unwrap_or(0),
            gid: small(header.gid()).unwrap_or(0),
            mtime: (i64::try_from(header.mtime()?).unwrap_or(0), 0),
        };
        let link = entry.link_name_bytes().map(Cow::into_owned).unwrap_or_default();
        let link = OsStr::from_bytes(&link);
        match header.entry_type() {
            tar::EntryType::Directory => to.take(&path, &meta, Node::Directory)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let size = entry.size();
                to.take(&path, &meta, Node::File(size, &mut entry))?;
            }
            tar::EntryType::Symlink => to.take(&path, &meta, Node::Link(link))?,
            tar::EntryType::Link => {
                let other = plain(Path::new(link)).ok_or_else(leads_out)?;
                to.take(&path, &meta, Node::Same(&other))?;
            }
            tar::EntryType::XGlobalHeader => {}
            _ => notes.push(format!("{}: is no file, directory or link", shown())),
        }
    }
    Ok(notes)
}
