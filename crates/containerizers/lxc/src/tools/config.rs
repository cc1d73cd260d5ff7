// SPDX-License-Identifier: Apache-2.0
//! LXC's configuration: a line for each key and value (lxc.container.conf(5)). LXC has no way to write a line break in a
//! value, takes off spaces at its ends and quotes around it; so a value is checked, and put into quotes of our own.

use std::fmt;
use std::fs;
use std::path::Path;

use super::{Error, Result};

/// The longest file that is read.
const LONGEST: u64 = 1 << 20;

/// A key, `lxc.` and words with dots between.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is set.
    pub key: String,
    /// To what; without spaces and quotes around.
    pub value: String,
}

/// The lines of a file, without comments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config(pub Vec<Line>);

/// Keys that somebody who asks for a container may set beside what its other fields say. Everything that names a path of
/// the host, runs something there, weakens a guard or is ours to say is not among them. `*` stands for one word.
const ALLOWED: &[&str] = &[
    "lxc.arch",
    "lxc.autodev.tmpfs.size",
    "lxc.cap.drop",
    "lxc.ephemeral",
    "lxc.environment",
    "lxc.group",
    "lxc.idmap",
    "lxc.init.cmd",
    "lxc.init.cwd",
    "lxc.init.gid",
    "lxc.init.uid",
    "lxc.net.*.flags",
    "lxc.net.*.hwaddr",
    "lxc.net.*.ipv4.address",
    "lxc.net.*.ipv4.gateway",
    "lxc.net.*.ipv6.address",
    "lxc.net.*.ipv6.gateway",
    "lxc.net.*.link",
    "lxc.net.*.mtu",
    "lxc.net.*.name",
    "lxc.net.*.type",
    "lxc.no_new_privs",
    "lxc.prlimit.*",
    "lxc.pty.max",
    "lxc.signal.halt",
    "lxc.signal.reboot",
    "lxc.signal.stop",
    "lxc.time.offset.boot",
    "lxc.time.offset.monotonic",
    "lxc.tty.dir",
    "lxc.tty.max",
    "lxc.uts.name",
];

impl Key {
    /// Takes a key's text.
    ///
    /// # Errors
    /// It does not begin with `lxc.`, or has something else in it than letters, digits, `.`, `_` and `-`.
    pub fn new(text: &str) -> Result<Key> {
        let bad = |why: &str| Error::Setting { key: text.escape_debug().to_string(), why: why.to_owned() };
        if !text.starts_with("lxc.") || text.ends_with('.') || text.contains("..") {
            return Err(bad("a key is 'lxc.' and words with dots between"));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || ".-_".contains(*c))) {
            Some(c) => Err(bad(&format!("it has {c:?} in it"))),
            None => Ok(Key(text.to_owned())),
        }
    }

    /// The same for somebody who may set some only.
    ///
    /// # Errors
    /// It is not among them.
    pub fn allowed(text: &str) -> Result<Key> {
        let key = Key::new(text)?;
        let fits = |pattern: &str| {
            let (mut own, mut given) = (pattern.split('.'), key.0.split('.'));
            loop {
                match (own.next(), given.next()) {
                    (None, None) => return true,
                    (Some("*"), Some(_)) => {}
                    (Some(a), Some(b)) if a == b => {}
                    _ => return false,
                }
            }
        };
        if ALLOWED.iter().any(|pattern| fits(pattern)) {
            return Ok(key);
        }
        let why = "it is not among the keys that may be set here: no hooks, includes, mounts, devices, root file \
                   systems or guards";
        Err(Error::Setting { key: key.0, why: why.to_owned() })
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a value can stand in a line.
///
/// # Errors
/// It has a line break or another control character in it.
pub fn check_value(key: &str, value: &str) -> Result<()> {
    match value.chars().find(|c| c.is_control() && *c != '\t') {
        None => Ok(()),
        Some(c) => Err(Error::Setting {
            key: key.escape_debug().to_string(),
            why: format!("its value has {c:?} in it, which a line of LXC's configuration can not hold"),
        }),
    }
}

/// A value as it is written so that LXC reads exactly it.
pub fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

impl Line {
    /// A line, checked.
    ///
    /// # Errors
    /// Key or value can not be.
    pub fn new(key: &str, value: impl Into<String>) -> Result<Line> {
        let value = value.into();
        check_value(key, &value)?;
        Ok(Line { key: Key::new(key)?.0, value })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An empty value resets a list, and is no value in quotes.
        match self.value.is_empty() {
            true => writeln!(f, "{} =", self.key),
            false => writeln!(f, "{} = {}", self.key, quoted(&self.value)),
        }
    }
}

impl Config {
    /// The lines of a text, as LXC reads them.
    pub fn parse(text: &str) -> Config {
        let lines = text.lines().filter_map(|line| {
            let line = line.trim();
            let (key, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
            let mut value = value.trim();
            for quote in ['"', '\''] {
                if let Some(inner) = value.strip_prefix(quote) {
                    value = inner.strip_suffix(quote).unwrap_or(inner);
                    break;
                }
            }
            Some(Line { key: key.trim().to_owned(), value: value.to_owned() })
        });
        Config(lines.collect())
    }

    /// The lines of a file.
    ///
    /// # Errors
    /// It can not be read, or is larger than any configuration.
    pub fn read(path: &Path) -> Result<Config> {
        use std::io::Read;
        let file = fs::File::open(path).map_err(Error::file("read", path))?;
        let mut text = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut text).map_err(Error::file("read", path))?;
        if text.len() as u64 > LONGEST {
            let error = std::io::Error::other("it is larger than a configuration can be (1 MiB)");
            return Err(Error::file("read", path)(error));
        }
        Ok(Config::parse(&String::from_utf8_lossy(&text)))
    }

    /// The last value of a key: the one that counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|line| line.key == key).map(|line| line.value.as_str())
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| line.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_key_is_a_key() {
        for bad in
            ["lxc.a b", "lxc.a=b", "lxc.a\nlxc.hook.start", "lxc.", "lxc..x", "hook", "lxc.é", "", "lxc.a#"]
        {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Key::new("lxc.cgroup2.memory.max").unwrap().as_str(), "lxc.cgroup2.memory.max");
    }

    #[test]
    fn keys_that_reach_the_host_are_not_for_everybody() {
        for bad in [
            "lxc.hook.pre-start",
            "lxc.include",
            "lxc.rootfs.path",
            "lxc.mount.entry",
            "lxc.mount.auto",
            "lxc.cgroup.devices.allow",
            "lxc.apparmor.profile",
            "lxc.selinux.context",
            "lxc.seccomp.profile",
            "lxc.log.file",
            "lxc.console.logfile",
            "lxc.net.0.script.up",
            "lxc.net.0.veth.pair",
            "lxc.cap.keep",
            "lxc.namespace.share.net",
            "lxc.cgroup.dir",
            "lxc.sysctl.kernel.core_pattern",
            "lxc.net.0",
            "lxc.net.0.1.type",
            "lxc.execute.cmd",
        ] {
            assert!(Key::allowed(bad).is_err(), "{bad}");
        }
        for good in ["lxc.net.0.type", "lxc.net.12.link", "lxc.prlimit.nofile", "lxc.uts.name", "lxc.idmap"] {
            assert!(Key::allowed(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_line_break_in_a_value_is_refused() {
        for bad in ["a\nlxc.hook.start = /x", "a\rb", "a\0", "\u{1b}[2J"] {
            let error = Line::new("lxc.uts.name", bad).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for value in ["a", "", " a ", "\"a\"", "'a", "a=b # c", "A=a value; with $signs", "\ttab"] {
            let line = Line::new("lxc.environment", value).unwrap();
            let config = Config::parse(&line.to_string());
            assert_eq!(config.0, [line], "{value:?}");
        }
        let config = Config::parse("# c\n\nlxc.a = 1\nlxc.b='x y'\nlxc.a =  2 \nnothing\n");
        assert_eq!(config.get("lxc.a"), Some("2"));
        assert_eq!(config.get("lxc.b"), Some("x y"));
        assert_eq!(config.get("lxc.c"), None);
    }
}
