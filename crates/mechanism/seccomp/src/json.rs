// SPDX-License-Identifier: Apache-2.0
//! Docker's JSON format for profiles, which Podman, Mesos and the OCI runtime specification share or extend.
//!
//! Reading is strict: a key, action, operator, capability or architecture that is not known is an error, because
//! each of them decides what a process may do, and a rule that was misspelt must not silently allow more. Only
//! names of system calls may be unknown, as for Docker: profiles name those of all architectures and of kernels
//! to come. The shapes of this format end here; [`Profile`] is in our own words.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;

use crate::kernel::Kernel;
use crate::profile::{Action, Comparison, ENOSYS, EPERM, Profile, Rule, Test};
use crate::{Error, caps, syscalls};

/// The longest profile that is read, in bytes. Docker's has 17 thousand.
pub const MAX_SIZE: usize = 1 << 20;

/// The highest error number that the kernel hands out (MAX_ERRNO, linux/err.h).
const MAX_ERRNO: u64 = 4095;

pub(crate) fn read(text: &[u8], kernel: Kernel) -> Result<Profile, Error> {
    if text.len() > MAX_SIZE {
        return Err(Error::TooLarge { size: text.len(), limit: MAX_SIZE });
    }
    let document: Document = serde_json::from_slice(text).map_err(Error::Json)?;
    document.check()?;
    let default = action(
        "defaultAction",
        &document.default_action,
        document.default_errno_ret,
        document.default_errno.as_deref(),
    )?;

    let mut rules = Vec::new();
    let mut highest = None;
    let mut unknown = BTreeSet::new();
    for (index, syscall) in document.syscalls.unwrap_or_default().into_iter().enumerate() {
        let place = syscall.place(index);
        let mut calls = BTreeSet::new();
        for name in syscall.names(&place)? {
            match syscalls::number(name) {
                Some(number) => {
                    calls.insert(number);
                    highest = highest.max(Some(number));
                }
                None => {
                    unknown.insert(name.to_owned());
                }
            }
        }
        // All of a rule is checked, even if it turns out that it does not apply here.
        let action = action(&place, &syscall.action, syscall.errno_ret, syscall.errno.as_deref())?;
        let tests = tests(&place, syscall.args.as_deref().unwrap_or_default())?;
        let includes = syscall.includes.unwrap_or_default().resolve(&place, kernel)?;
        let excludes = syscall.excludes.unwrap_or_default().resolve(&place, kernel)?;
        let applies = includes.native.unwrap_or(true)
            && !excludes.native.unwrap_or(false)
            && includes.kernel.unwrap_or(true)
            && !excludes.kernel.unwrap_or(false);
        if applies && !calls.is_empty() {
            rules.push(Rule {
                calls: calls.into_iter().collect(),
                action,
                tests: Cow::Owned(tests),
                with: includes.caps,
                without: excludes.caps,
            });
        }
    }
    Ok(Profile { default, rules: Cow::Owned(rules), highest, unknown: unknown.into_iter().collect() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    default_action: String,
    default_errno_ret: Option<u64>,
    /// Podman's, by name.
    default_errno: Option<String>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchEntry>>,
    syscalls: Option<Vec<Syscall>>,
    // Of the OCI runtime specification; read to refuse them when they ask for something.
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchEntry {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Syscall {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u64>,
    /// Podman's, by name.
    errno: Option<String>,
    args: Option<Vec<Arg>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Arg {
    index: u64,
    value: u64,
    value_two: Option<u64>,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    arches: Option<Vec<String>>,
    caps: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// A [`Filter`] on this machine: what it says about the architecture and the kernel, if anything.
struct Resolved {
    native: Option<bool>,
    kernel: Option<bool>,
    caps: u64,
}

impl Document {
    /// What is said about the profile as a whole.
    ///
    /// Architectures only need to have names that exist: the filter is for x86-64 whatever they say, and refuses
    /// calls of the others.
    fn check(&self) -> Result<(), Error> {
        let architectures = self.architectures.as_deref().unwrap_or_default();
        let map = self.arch_map.as_deref().unwrap_or_default();
        if !architectures.is_empty() && !map.is_empty() {
            return Err(invalid("archMap", "`architectures` is given as well", "keep one of the two"));
        }
        let mapped = map.iter().flat_map(|entry| {
            std::iter::once(&entry.architecture).chain(entry.sub_architectures.iter().flatten())
        });
        for name in architectures.iter().chain(mapped) {
            let known = name.strip_prefix("SCMP_ARCH_").is_some_and(|name| ARCHITECTURES.contains(&name));
            if !known {
                let problem = format!("there is no architecture {name:?}");
                return Err(invalid("architectures", problem, "write it like SCMP_ARCH_X86_64"));
            }
        }
        if self.flags.as_ref().is_some_and(|flags| !flags.is_empty()) {
            return Err(unsupported("flags", "loading a filter with flags", "remove the key"));
        }
        for (place, value) in
            [("listenerPath", &self.listener_path), ("listenerMetadata", &self.listener_metadata)]
        {
            if value.as_ref().is_some_and(|value| !value.is_empty()) {
                return Err(unsupported(place, "a listener for notifications", "remove the key"));
            }
        }
        Ok(())
    }
}

impl Syscall {
    /// How errors call this rule: by its place and its first names.
    fn place(&self, index: usize) -> String {
        const SHOWN: usize = 3;
        let names: Vec<&str> =
            self.name.iter().chain(self.names.iter().flatten()).map(String::as_str).collect();
        let more = if names.len() > SHOWN { ", …" } else { "" };
        let shown: String = names[..names.len().min(SHOWN)].join(", ").chars().take(120).collect();
        format!("rule {} ({}{more})", index + 1, shown.escape_debug())
    }

    fn names(&self, place: &str) -> Result<&[String], Error> {
        match (&self.name, self.names.as_deref().unwrap_or_default()) {
            (Some(name), []) if !name.is_empty() => Ok(std::slice::from_ref(name)),
            (Some(name), [_, ..]) if !name.is_empty() => {
                Err(invalid(place, "it has both `name` and `names`", "keep one of the two"))
            }
            (_, names) => Ok(names),
        }
    }
}

impl Filter {
    fn resolve(&self, place: &str, kernel: Kernel) -> Result<Resolved, Error> {
        let arches = self.arches.as_deref().unwrap_or_default();
        if let Some(wrong) = arches.iter().find(|name| !ARCHES.contains(&name.as_str())) {
            let problem = format!("there is no architecture {wrong:?}");
            return Err(invalid(place, problem, "write it like amd64, arm64 or s390x"));
        }
        let mut caps = 0;
        for name in self.caps.iter().flatten() {
            let Some(number) = caps::number(name) else {
                let problem = format!("there is no capability {name:?}");
                return Err(invalid(place, problem, "write it like CAP_SYS_ADMIN"));
            };
            caps |= 1 << number;
        }
        let minimum = match &self.min_kernel {
            None => None,
            Some(text) => Some(Kernel::of_profile(text).ok_or_else(|| {
                invalid(place, format!("{text:?} is not a kernel version"), "write it like 4.8")
            })?),
        };
        Ok(Resolved {
            native: (!arches.is_empty()).then(|| arches.iter().any(|name| name == "amd64")),
            kernel: minimum.map(|minimum| kernel >= minimum),
            caps,
        })
    }
}

fn action(place: &str, name: &str, number: Option<u64>, errno: Option<&str>) -> Result<Action, Error> {
    let number = || match (number, errno.filter(|errno| !errno.is_empty())) {
        (None, None) => Ok(EPERM),
        (None, Some(errno)) => {
            ERRNOS.iter().find(|(known, _)| *known == errno).map(|(_, number)| *number).ok_or_else(|| {
                invalid(
                    place,
                    format!("the error number {errno:?} is not known by name"),
                    "give it as a number with `errnoRet` or `defaultErrnoRet`",
                )
            })
        }
        (Some(number @ 0..=MAX_ERRNO), _) => Ok(number as u16),
        (Some(number), _) => {
            let problem = format!("{number} is not an error number");
            Err(invalid(place, problem, "use one from 0 to 4095"))
        }
    };
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRACE" => Action::Trace(number()?),
        "SCMP_ACT_ERRNO" => Action::Errno(number()?),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_NOTIFY" => {
            return Err(unsupported(
                place,
                "SCMP_ACT_NOTIFY",
                "use SCMP_ACT_ERRNO, SCMP_ACT_TRACE or SCMP_ACT_LOG",
            ));
        }
        _ => {
            return Err(invalid(
                place,
                format!("there is no action {name:?}"),
                "use SCMP_ACT_ALLOW, _LOG, _TRACE, _ERRNO, _TRAP, _KILL, _KILL_THREAD or _KILL_PROCESS",
            ));
        }
    })
}

fn tests(place: &str, args: &[Arg]) -> Result<Vec<Test>, Error> {
    let mut tests: Vec<Test> = Vec::with_capacity(args.len());
    for arg in args {
        let index = match arg.index {
            index @ 0..=5 => index as u8,
            index => {
                let problem = format!("a call has no argument with index {index}");
                return Err(invalid(place, problem, "use 0 to 5"));
            }
        };
        // Docker takes two tests of one argument as "either", the format's description as "both", and libseccomp
        // and so Mesos refuse them. For a rule that allows, one reading is too wide; for one that refuses, the
        // other.
        if tests.iter().any(|test| test.arg == index) {
            return Err(invalid(
                place,
                format!("it tests the argument with index {index} twice, which can mean either or both"),
                "write one rule for each value",
            ));
        }
        tests.push(Test { arg: index, is: comparison(place, arg)? });
    }
    Ok(tests)
}

fn comparison(place: &str, arg: &Arg) -> Result<Comparison, Error> {
    let value = arg.value;
    Ok(match arg.op.as_str() {
        "SCMP_CMP_NE" => Comparison::NotEqual(value),
        "SCMP_CMP_LT" => Comparison::Less(value),
        "SCMP_CMP_LE" => Comparison::LessOrEqual(value),
        "SCMP_CMP_EQ" => Comparison::Equal(value),
        "SCMP_CMP_GE" => Comparison::GreaterOrEqual(value),
        "SCMP_CMP_GT" => Comparison::Greater(value),
        "SCMP_CMP_MASKED_EQ" => {
            let wanted = arg.value_two.unwrap_or(0);
            if wanted & !value != 0 {
                return Err(invalid(
                    place,
                    format!(
                        "bits {:#x} of `valueTwo` are not in the mask {value:#x}, so it never matches",
                        wanted & !value
                    ),
                    "give the mask as `value` and the bits as `valueTwo`",
                ));
            }
            Comparison::Masked { mask: value, value: wanted }
        }
        op => {
            return Err(invalid(
                place,
                format!("there is no comparison {op:?}"),
                "use SCMP_CMP_NE, _LT, _LE, _EQ, _GE, _GT or _MASKED_EQ",
            ));
        }
    })
}

fn invalid(place: &str, problem: impl Into<String>, remedy: &str) -> Error {
    Error::Invalid { place: place.to_owned(), problem: problem.into(), remedy: remedy.to_owned() }
}

fn unsupported(place: &str, feature: &str, remedy: &'static str) -> Error {
    Error::Unsupported { place: place.to_owned(), feature: feature.to_owned(), remedy }
}

/// Names after `SCMP_ARCH_` (OCI runtime specification, config-linux, seccomp).
#[rustfmt::skip]
const ARCHITECTURES: &[&str] = &[
    "NATIVE", "X86", "X86_64", "X32", "ARM", "AARCH64", "LOONGARCH64", "M68K", "MIPS", "MIPS64", "MIPS64N32",
    "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PARISC", "PARISC64", "PPC", "PPC64", "PPC64LE", "RISCV64", "S390",
    "S390X", "SH", "SHEB",
];

/// Names in `arches` (Docker and Mesos).
#[rustfmt::skip]
const ARCHES: &[&str] = &[
    "amd64", "x86", "x32", "arm", "arm64", "loong64", "loongarch64", "m68k", "mips", "mips64", "mips64n32",
    "mipsel", "mipsle", "mipsel64", "mips64le", "mipsel64n32", "mips3l64n32", "parisc", "parisc64", "ppc",
    "ppc64", "ppc64le", "riscv64", "s390", "s390x", "sh", "sheb",
];

/// The error numbers that profiles give by name (errno(3)).
const ERRNOS: &[(&str, u16)] = &[
    ("EPERM", EPERM),
    ("ENOENT", 2),
    ("ESRCH", 3),
    ("EINTR", 4),
    ("EIO", 5),
    ("ENXIO", 6),
    ("EBADF", 9),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("EBUSY", 16),
    ("EEXIST", 17),
    ("ENODEV", 19),
    ("EINVAL", 22),
    ("ENOTTY", 25),
    ("ENOSPC", 28),
    ("EROFS", 30),
    ("ENOSYS", ENOSYS),
    ("EPROTONOSUPPORT", 93),
    ("EOPNOTSUPP", 95),
    ("ENOTSUP", 95),
    ("EAFNOSUPPORT", 97),
    ("ECANCELED", 125),
];
