// SPDX-License-Identifier: Apache-2.0
//! `berth cp`: files to and from a container, in docker's words.
//!
//! The container may be changing its files at the same time, so nothing of it is ever reached by a path of the host: its
//! root is opened once, paths are resolved inside it by the kernel (`place`), a tree is read (`node`) and written (`tree`)
//! from descriptor to descriptor. No program of the container is run, and none of the host inside it.

mod archive;
mod node;
mod place;
mod tree;

use crate::cli::{Cp, Global};
use crate::exit::{Failure, say};
use crate::find::Places;
use berth_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use node::{Take, Walk, is_directory};
use place::Root;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tree::Tree;

/// Set-user-id and set-group-id: who runs a file of a container on the host does so as themselves.
const SET_ID: u32 = 0o6000;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    /// A tar on standard input or output.
    Stream,
    Local(PathBuf),
    Container(String, PathBuf),
}

/// Copies.
pub(crate) fn cp(global: &Global, args: &Cp) -> Result<u8, Failure> {
    copy(global, args).map_err(|e| e.code(1))
}

fn copy(global: &Global, args: &Cp) -> Result<u8, Failure> {
    match (side(&args.from), side(&args.to)) {
        (Side::Container(name, from), to @ (Side::Stream | Side::Local(_))) => {
            let root = Root::open(&Places::open(global)?, &name)?;
            out(&root, args, &from, &to)
        }
        (from @ (Side::Stream | Side::Local(_)), Side::Container(name, to)) => {
            let root = Root::open(&Places::open(global)?, &name)?;
            into(&root, args, &from, &to)
        }
        (Side::Container(..), Side::Container(..)) => {
            Err(Failure::text("copying between containers is not supported: copy through this host"))
        }
        _ => Err(Failure::text("one side must be of a container: write CONTAINER:PATH")),
    }
}

/// As docker reads it: a path with a colon in it begins with `/` or `.`.
fn side(text: &str) -> Side {
    match text.split_once(':') {
        _ if text == "-" => Side::Stream,
        Some((name, path)) if !text.starts_with(['/', '.']) && !name.is_empty() => {
            let path = if path.is_empty() { "/" } else { path };
            Side::Container(name.to_owned(), path.into())
        }
        _ => Side::Local(text.into()),
    }
}

/// What is copied.
struct Source {
    node: OwnedFd,
    name: OsString,
    /// What is in it, and not it itself: its path ends with `/.`.
    contents: bool,
    directory: bool,
}

impl Source {
    fn new(node: io::Result<OwnedFd>, path: &Path) -> Result<Source, Failure> {
        let failed = |e: io::Error| Failure::text(format!("{}: {e}", path.display()));
        let node = node.map_err(failed)?;
        let directory = is_directory(&node).map_err(failed)?;
        let text = path.as_os_str().to_string_lossy();
        let contents = directory && (text.ends_with("/.") || text == "." || path.file_name().is_none());
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(Source { node, name, contents, directory })
    }

    fn walk(&self, path: &Path, to: &mut dyn Take) -> io::Result<()> {
        let mut walk = Walk { to, entries: 0, notes: Vec::new() };
        let done = walk.go(&self.node, path, 0);
        for note in &walk.notes {
            say(format_args!("berth: left out {}", crate::text::escaped(note)));
        }
        done
    }
}

/// Whether a link at the end of a path is followed: where docker is told so, and where the path asks for a directory.
fn follows(path: &Path, asked: bool) -> bool {
    let text = path.as_os_str().to_string_lossy();
    asked || text.ends_with('/') || text.ends_with("/.")
}

fn out(root: &Root, args: &Cp, from: &Path, to: &Side) -> Result<u8, Failure> {
    let source = Source::new(root.find(from, follows(from, args.follow_link))?, from)?;
    let failed = |e: io::Error| Failure::text(format!("copy {}: {e}", args.from));
    match to {
        Side::Stream if io::stdout().is_terminal() => {
            Err(Failure::text("a tar is no text for a terminal: send standard output elsewhere"))
        }
        Side::Stream => {
            let mut writer = archive::Writer::new(io::stdout().lock());
            let top = if source.contents { Path::new("") } else { Path::new(&source.name) };
            source.walk(top, &mut writer).and_then(|()| writer.finish()).map_err(failed)?;
            Ok(0)
        }
        Side::Local(to) => {
            let found = open(to, true);
            let parent = || {
                let above =
                    to.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Ok((open(above, true)?, to.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned()))
            };
            let tree = destination(&source, to, found, parent)?.without(SET_ID);
            // Docker's: whoever copies has the files, unless all is to be kept.
            let (uid, gid) = (berth_sys::rustix::process::getuid(), berth_sys::rustix::process::getgid());
            let mut tree = if args.archive { tree } else { tree.owned_by(uid.as_raw(), gid.as_raw()) };
            source.walk(Path::new(&source.name), &mut tree).map_err(failed)?;
            Ok(0)
        }
        Side::Container(..) => Err(Failure::text("one side must be of this host")),
    }
}

fn into(root: &Root, args: &Cp, from: &Side, to: &Path) -> Result<u8, Failure> {
    let found = root.find(to, true)?;
    let failed = |e: io::Error| Failure::text(format!("copy to {}: {e}", args.to));
    match from {
        Side::Stream => {
            let base = found.map_err(failed)?;
            if !is_directory(&base).map_err(failed)? {
                return Err(Failure::text(format!("{}: a tar is unpacked into a directory", args.to)));
            }
            // Docker's: a tar says itself to whom its files belong.
            let mut tree = Tree::new(base, PathBuf::new(), 0);
            for note in archive::read(io::stdin().lock(), &mut tree).map_err(failed)? {
                say(format_args!("berth: left out {note}"));
            }
            Ok(0)
        }
        Side::Local(path) => {
            let source = Source::new(open(path, follows(path, args.follow_link)), path)?;
            let refused = std::cell::RefCell::new(None);
            let parent = || match root.parent(to) {
                Ok(found) => found,
                Err(failure) => {
                    refused.replace(Some(failure));
                    Err(io::ErrorKind::InvalidInput.into())
                }
            };
            let tree = destination(&source, to, found, parent);
            if let Some(failure) = refused.into_inner() {
                return Err(failure);
            }
            let tree = tree?;
            let mut tree = if args.archive { tree } else { tree.owned_by(0, 0) };
            source.walk(Path::new(&source.name), &mut tree).map_err(failed)?;
            Ok(0)
        }
        Side::Container(..) => Err(Failure::text("one side must be of this host")),
    }
}

/// Docker's table of what a copy makes where something is, or is not.
fn destination(
    source: &Source,
    to: &Path,
    found: io::Result<OwnedFd>,
    parent: impl FnOnce() -> io::Result<(OwnedFd, OsString)>,
) -> Result<Tree, Failure> {
    let shown = to.display();
    let failed = |e: io::Error| Failure::text(format!("{shown}: {e}"));
    let replaced = Path::new(&source.name).components().count();
    let asks_directory = to.as_os_str().to_string_lossy().ends_with('/');
    match found {
        Ok(base) if is_directory(&base).map_err(failed)? => {
            let top = if source.contents { PathBuf::new() } else { PathBuf::from(&source.name) };
            Ok(Tree::new(base, top, replaced))
        }
        Ok(_) if source.directory => {
            Err(Failure::text(format!("{shown} is a file, and a directory is not copied over that")))
        }
        Ok(_) if asks_directory => Err(Failure::text(format!("{shown} is no directory"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound && asks_directory && !source.directory => {
            Err(Failure::text(format!("{shown}: there is no such directory")))
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
        _ => {
            let (base, name) = parent().map_err(failed)?;
            Ok(Tree::new(base, PathBuf::from(name), replaced))
        }
    }
}

/// Opens something of this host, with O_PATH.
fn open(path: &Path, follow: bool) -> io::Result<OwnedFd> {
    let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
    Ok(openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(source: &Path, to: &Path) -> Result<(), Failure> {
        let from = Source::new(open(source, follows(source, false)), source)?;
        let parent = || {
            let above = to.parent().unwrap_or(Path::new("/"));
            Ok((open(above, true)?, to.file_name().unwrap_or_default().to_owned()))
        };
        let mut tree = destination(&from, to, open(to, true), parent)?;
        let me = (berth_sys::rustix::process::getuid(), berth_sys::rustix::process::getgid());
        tree = tree.owned_by(me.0.as_raw(), me.1.as_raw());
        from.walk(Path::new(&from.name), &mut tree).map_err(|e| Failure::text(e.to_string()))
    }

    #[test]
    fn a_side_is_read_as_docker_does() {
        let container = |name: &str, path: &str| Side::Container(name.to_owned(), path.into());
        assert_eq!(side("web:/etc/x"), container("web", "/etc/x"));
        assert_eq!(side("web:"), container("web", "/"));
        assert_eq!(side("./a:b"), Side::Local("./a:b".into()));
        assert_eq!(side("/a:b"), Side::Local("/a:b".into()));
        assert_eq!(side("a"), Side::Local("a".into()));
        assert_eq!(side("-"), Side::Stream);
    }

    #[test]
    fn what_a_copy_makes_is_dockers_table() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("from/deep")).unwrap();
        std::fs::write(at("from/deep/file"), "words").unwrap();
        std::fs::create_dir(at("there")).unwrap();
        copied(&at("from"), &at("new")).unwrap();
        assert_eq!(std::fs::read_to_string(at("new/deep/file")).unwrap(), "words");
        copied(&at("from"), &at("there")).unwrap();
        assert_eq!(std::fs::read_to_string(at("there/from/deep/file")).unwrap(), "words");
        copied(&dir.path().join("from/."), &at("there")).unwrap();
        assert_eq!(std::fs::read_to_string(at("there/deep/file")).unwrap(), "words");
        copied(&at("from/deep/file"), &at("there")).unwrap();
        assert_eq!(std::fs::read_to_string(at("there/file")).unwrap(), "words");
        copied(&at("from/deep/file"), &at("other")).unwrap();
        assert_eq!(std::fs::read_to_string(at("other")).unwrap(), "words");
        assert!(copied(&at("from"), &at("other")).is_err(), "no directory over a file");
        assert!(copied(&at("from/deep/file"), &dir.path().join("none/")).is_err());
        assert!(copied(&at("missing"), &at("there")).is_err());
    }

    #[test]
    fn a_link_in_the_way_is_replaced_or_refused_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["outside", "from/a", "to/from"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("from/a/file"), "words").unwrap();
        std::fs::write(at("from/name"), "words").unwrap();
        std::fs::write(at("outside/victim"), "whole").unwrap();
        std::os::unix::fs::symlink(at("outside"), at("to/from/a")).unwrap();
        std::os::unix::fs::symlink(at("outside/victim"), at("to/from/name")).unwrap();
        assert!(copied(&at("from"), &at("to")).is_err(), "a link is no directory");
        assert_eq!(std::fs::read_dir(at("outside")).unwrap().count(), 1);
        std::fs::remove_file(at("to/from/a")).unwrap();
        copied(&at("from"), &at("to")).unwrap();
        assert_eq!(std::fs::read_to_string(at("outside/victim")).unwrap(), "whole");
        assert_eq!(std::fs::read_to_string(at("to/from/name")).unwrap(), "words");
    }

    #[test]
    fn a_tar_comes_out_as_it_went_in_and_one_that_leads_out_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("from/deep")).unwrap();
        std::fs::create_dir(at("to")).unwrap();
        std::fs::write(at("from/deep/file"), "words").unwrap();
        std::os::unix::fs::symlink("deep/file", at("from/link")).unwrap();
        let source = Source::new(open(&at("from"), false), &at("from")).unwrap();
        let mut bytes = Vec::new();
        let mut writer = archive::Writer::new(&mut bytes);
        source.walk(Path::new("from"), &mut writer).unwrap();
        writer.finish().unwrap();
        let tree = |name: &str| Tree::new(open(&at(name), true).unwrap(), PathBuf::new(), 0);
        archive::read(&bytes[..], &mut tree("to")).unwrap();
        assert_eq!(std::fs::read_to_string(at("to/from/link")).unwrap(), "words");
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../escape");
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        let mut evil = tar::Builder::new(Vec::new());
        evil.append(&header, io::empty()).unwrap();
        let evil = evil.into_inner().unwrap();
        assert!(archive::read(&evil[..], &mut tree("to")).is_err());
        assert!(!at("escape").exists());
    }
}
