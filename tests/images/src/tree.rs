// SPDX-License-Identifier: Apache-2.0
//! A tree as a list that can be compared.

use berth_image::digest_of;
use berth_model::image::Algorithm;
use rustix::fs::{AtFlags, CWD, FileType, lgetxattr, llistxattr, readlinkat, statat};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// What there is, by path: type, mode, owner, size, content, links, attributes.
pub type Tree = BTreeMap<String, String>;

/// Lists what is below `root`, and `root` itself as the empty path.
///
/// # Panics
/// When it can not be read.
pub fn tree(root: &Path) -> Tree {
    let mut all = Tree::new();
    let mut names: HashMap<(u64, u64), String> = HashMap::new();
    walk(root, "", &mut all, &mut names);
    all
}

fn walk(root: &Path, below: &str, all: &mut Tree, first: &mut HashMap<(u64, u64), String>) {
    let path = if below.is_empty() { root.to_owned() } else { root.join(below) };
    let look = statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW);
    let stat = look.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mut words = format!("{kind:?} {:o} {}:{}", stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
    match kind {
        FileType::RegularFile => {
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            words += &format!(" {} {}", bytes.len(), digest_of(Algorithm::Sha256, &bytes));
            if stat.st_nlink > 1 {
                let name = first.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| below.to_owned());
                words += &format!(" same as {name}");
            }
        }
        FileType::Symlink => {
            let to = readlinkat(CWD, &path, Vec::new()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            words += &format!(" -> {}", to.to_string_lossy());
        }
        FileType::CharacterDevice | FileType::BlockDevice => words += &format!(" {}", stat.st_rdev),
        _ => {}
    }
    words += &attributes(&path);
    all.insert(below.to_owned(), words);
    if kind == FileType::Directory {
        let inner = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut inner: Vec<String> =
            inner.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        inner.sort();
        for name in inner {
            let below = if below.is_empty() { name } else { format!("{below}/{name}") };
            walk(root, &below, all, first);
        }
    }
}

fn attributes(path: &Path) -> String {
    let mut list = vec![0u8; 64 << 10];
    let Ok(count) = llistxattr(path, &mut list[..]) else { return String::new() };
    let mut all = Vec::new();
    for name in list[..count].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        let mut value = vec![0u8; 64 << 10];
        if !name.is_empty()
            && !name.starts_with("trusted.overlay.")
            && let Ok(count) = lgetxattr(path, name, &mut value[..])
        {
            all.push(format!(" {name}={:02x?}", &value[..count]));
        }
    }
    all.sort();
    all.concat()
}

/// The differences of two trees, as lines; empty when there are none.
pub fn difference(one: &Tree, other: &Tree) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differs = |path: &&&String| one.get(**path) != other.get(**path);
    paths
        .iter()
        .filter(differs)
        .map(|path| format!("{path}: {:?} / {:?}", one.get(*path), other.get(*path)))
        .collect()
}
