// SPDX-License-Identifier: Apache-2.0
//! Who `user[:group]` is, by the tree's own `passwd` and `group`.
//!
//! The rules are Docker's (a name or number, optionally a group; a number needs no entry; an explicit group
//! replaces the supplementary ones), with the traps of the past closed: a string of digits is a number that fits
//! or an error, never a name that an image could define; nothing may follow it; and the two files are read as what
//! they are, an attacker's: inside the root, regular, and up to a size.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use berth_model::Class;

use crate::name::shown;
use crate::root::{Root, RootError};

/// Bytes of `/etc/passwd` that are read.
const PASSWD_MAX: u64 = 1 << 20;
/// Bytes of `/etc/group` that are read.
const GROUP_MAX: u64 = 4 << 20;
/// Supplementary groups that the kernel takes (`NGROUPS_MAX`, setgroups(2)).
const GROUPS_MAX: usize = 65_536;
/// Bytes of a name (`LOGIN_NAME_MAX`).
const NAME_MAX: usize = 256;

/// Numbers to run with, and what the tree's `passwd` says about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id, in the tree's own numbering.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids, sorted, each once; empty when a group was given.
    pub supplementary: Vec<u32>,
    /// Home directory in the tree; `/` when there is none or it is not an absolute path that can be printed.
    pub home: PathBuf,
    /// The user's name, if `passwd` has one.
    pub name: Option<String>,
}

/// Why a user can not be looked up. What came from outside is escaped before it is printed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The string is not one of the forms.
    #[error("user {spec}: {why}; write name, uid, name:group or uid:gid")]
    Malformed {
        /// The string, escaped.
        spec: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The name is not in `/etc/passwd`.
    #[error("user {name} is not in /etc/passwd of the image; give its uid, or add it to the image")]
    NoUser {
        /// The name, escaped.
        name: String,
    },
    /// The name is not in `/etc/group`.
    #[error("group {name} is not in /etc/group of the image; give its gid, or add it to the image")]
    NoGroup {
        /// The name, escaped.
        name: String,
    },
    /// The user is in more groups than a process can have.
    #[error("user {name} is in {count} groups of the image, and the kernel takes {GROUPS_MAX}; give a group")]
    TooManyGroups {
        /// The name, escaped.
        name: String,
        /// In how many.
        count: usize,
    },
    /// One of the files can not be read.
    #[error("read the users and groups of the image")]
    Database {
        /// Which, and why.
        #[from]
        source: RootError,
    },
}

impl UserError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            UserError::Malformed { .. } | UserError::TooManyGroups { .. } => Class::Invalid,
            UserError::NoUser { .. } | UserError::NoGroup { .. } => Class::NotFound,
            UserError::Database { source } => source.class(),
        }
    }
}

/// Looks `spec` up: `name`, `uid`, `name:group`, `name:gid`, `uid:group` or `uid:gid`.
///
/// A uid without an entry in `passwd` has group 0 and no other groups. A policy on who may run as whom has to
/// look at the answer, not at the string.
pub fn resolve_user(root: &Root, spec: &str) -> Result<ResolvedUser, UserError> {
    let malformed = |why| UserError::Malformed { spec: shown(spec.as_bytes()), why };
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(who(group).map_err(malformed)?)),
        None => (spec, None),
    };
    let user = who(user).map_err(malformed)?;

    let passwd = read(root, "etc/passwd", PASSWD_MAX)?;
    let entry = lines(&passwd).filter_map(Account::parse).find(|account| account.is(user));
    let mut resolved = match (user, &entry) {
        (Who::Name(name), None) => return Err(UserError::NoUser { name: shown(name.as_bytes()) }),
        (Who::Id(uid), None) => {
            ResolvedUser { uid, gid: 0, supplementary: Vec::new(), home: PathBuf::from("/"), name: None }
        }
        (_, Some(account)) => account.resolved(),
    };
    match (group, &entry) {
        (Some(Who::Id(gid)), _) => resolved.gid = gid,
        (Some(Who::Name(name)), _) => resolved.gid = group_id(root, name)?,
        (None, Some(account)) => resolved.supplementary = memberships(root, account.name)?,
        (None, None) => {}
    }
    Ok(resolved)
}

/// One half of the string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who<'s> {
    Id(u32),
    Name(&'s str),
}

fn who(text: &str) -> Result<Who<'_>, &'static str> {
    if text.is_empty() {
        return Err("a part of it is empty");
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err("a number begins with 0, which some read as octal");
        }
        return id(text).map(Who::Id).ok_or("a number is not between 0 and 4294967294");
    }
    match is_name(text) {
        true => Ok(Who::Name(text)),
        false => Err("a part of it is neither a number nor a name of letters, digits, `_`, `.`, `@` and `-`"),
    }
}

/// -1 as an unsigned number is no id: it means "leave as it is" to setresuid(2) and chown(2).
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&id| digits && id != u32::MAX)
}

/// Names that useradd and directory services make. Not all digits: that is a number.
fn is_name(text: &str) -> bool {
    let body = text.strip_suffix('$').unwrap_or(text);
    let starts_well = body.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
    starts_well
        && text.len() <= NAME_MAX
        && body.chars().all(|c| c.is_ascii_alphanumeric() || "_.@-".contains(c))
        && !text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A file of the tree; nothing if it does not exist.
fn read(root: &Root, path: &str, max: u64) -> Result<Vec<u8>, UserError> {
    match root.read_regular(path, max) {
        Err(error) if error.class() == Class::NotFound => Ok(Vec::new()),
        content => Ok(content?),
    }
}

fn lines(content: &[u8]) -> impl Iterator<Item = &str> {
    // A line that is not UTF-8 has no name or home that we would accept.
    content.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

/// A line of `passwd`.
struct Account<'f> {
    name: &'f str,
    uid: u32,
    gid: u32,
    home: &'f str,
}

impl<'f> Account<'f> {
    fn parse(line: &'f str) -> Option<Account<'f>> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| is_name(name))?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or("/") })
    }

    fn is(&self, who: Who<'_>) -> bool {
        match who {
            Who::Id(uid) => self.uid == uid,
            Who::Name(name) => self.name == name,
        }
    }

    fn resolved(&self) -> ResolvedUser {
        let usable =
            self.home.starts_with('/') && self.home.len() < 4096 && !self.home.contains(char::is_control);
        let home = PathBuf::from(Path::new(if usable { self.home } else { "/" }));
        let name = Some(self.name.to_owned());
        ResolvedUser { uid: self.uid, gid: self.gid, supplementary: Vec::new(), home, name }
    }
}

/// A line of `group`: name, id, members.
fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| is_name(name))?;
    let gid = id(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or("")))
}

fn group_id(root: &Root, wanted: &str) -> Result<u32, UserError> {
    let file = read(root, "etc/group", GROUP_MAX)?;
    lines(&file)
        .filter_map(parse_group)
        .find_map(|(name, gid, _)| (name == wanted).then_some(gid))
        .ok_or_else(|| UserError::NoGroup { name: shown(wanted.as_bytes()) })
}

fn memberships(root: &Root, user: &str) -> Result<Vec<u32>, UserError> {
    let file = read(root, "etc/group", GROUP_MAX)?;
    let groups: BTreeSet<u32> = lines(&file)
        .filter_map(parse_group)
        .filter(|(_, _, members)| members.split(',').any(|member| member.trim() == user))
        .map(|(_, gid, _)| gid)
        .collect();
    match groups.len() > GROUPS_MAX {
        true => Err(UserError::TooManyGroups { name: shown(user.as_bytes()), count: groups.len() }),
        false => Ok(groups.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_are_a_number_that_fits_or_an_error() {
        assert_eq!(who("0"), Ok(Who::Id(0)));
        assert_eq!(who("4294967294"), Ok(Who::Id(4_294_967_294)));
        for bad in
            ["4294967295", "4294967296", "18446744073709551616", "99999999999999999999999", "00", "0100"]
        {
            who(bad).unwrap_err();
        }
    }

    #[test]
    fn names_have_no_room_for_tricks() {
        for good in ["root", "_apt", "www-data", "a.b@example.org", "machine$", "1000a", "0x10"] {
            assert_eq!(who(good), Ok(Who::Name(good)));
        }
        for bad in
            ["", "+0", "-1", "1 0", " 0", "0 ", "a b", "a\n", "a/b", "a,b", "#a", "\u{ff10}", "é", "$", "a$b"]
        {
            who(bad).unwrap_err();
        }
        who(&"a".repeat(NAME_MAX)).unwrap();
        who(&"a".repeat(NAME_MAX + 1)).unwrap_err();
    }

    proptest! {
        #[test]
        fn no_string_panics_and_no_number_becomes_a_name(text in "\\PC{0,30}|[0-9]{1,25}") {
            if let Ok(Who::Name(name)) = who(&text) {
                prop_assert!(name.bytes().any(|byte| !byte.is_ascii_digit()));
            }
        }

        #[test]
        fn no_line_panics(line in "\\PC{0,60}") {
            let _ = (Account::parse(&line), parse_group(&line));
        }
    }
}
