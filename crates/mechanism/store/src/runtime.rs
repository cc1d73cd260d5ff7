// SPDX-License-Identifier: Apache-2.0
//! What an image's wishes make of a command (`docker/runtime`). Pure.
//!
//! | shell | value | entry point | cmd | what runs |
//! |---|---|---|---|---|
//! | yes | none | | | an error |
//! | yes | V | | | `sh -c V`, without arguments |
//! | no | V | | | V; the arguments are all of argv |
//! | no | none | none | none | an error |
//! | no | none | none | C | `C[0]`; argv is `C[0]` and the arguments, or without any the rest of C |
//! | no | none | E | none | `E[0]`; argv is E and the arguments |
//! | no | none | E | C | `E[0]`; argv is E and the arguments, or without any C |

use berth_image::config::RuntimeConfig;
use berth_model::{Class, CommandInfo};

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// A path, or a name to be looked up in `PATH`.
    pub path: String,
    /// All of its arguments, the zeroth included.
    pub argv: Vec<String>,
}

/// Why nothing can run. The words are Mesos's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// A shell without a line for it.
    #[error("Shell specified but no command value provided")]
    NoLine,
    /// Neither the command nor the image says what to run.
    #[error("No executable is found; name one, or use an image with an entry point or a command")]
    NoExecutable,
    /// A signal that does not exist.
    #[error("the image's StopSignal '{0}' is no signal; name another with --stop-signal")]
    Signal(String),
    /// A path that is none in a container.
    #[error("the image's {field} '{path}' is not an absolute path without '..'; give another")]
    Path {
        /// Which field.
        field: &'static str,
        /// What it says.
        path: String,
    },
}

impl RuntimeError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// What `command` runs in an image; without one, or where its wishes are to be ignored, `image` is nothing.
///
/// # Errors
/// [`RuntimeError`].
pub fn program(command: &CommandInfo, image: Option<&RuntimeConfig>) -> Result<Program, RuntimeError> {
    let arguments = &command.arguments;
    if command.shell {
        let line = command.value.as_ref().ok_or(RuntimeError::NoLine)?;
        return Ok(Program { path: "sh".into(), argv: vec!["sh".into(), "-c".into(), line.clone()] });
    }
    if let Some(value) = &command.value {
        let argv = if arguments.is_empty() { vec![value.clone()] } else { arguments.clone() };
        return Ok(Program { path: value.clone(), argv });
    }
    let words = |words: Option<&Vec<String>>| words.cloned().unwrap_or_default();
    let mut argv = words(image.and_then(|image| image.entrypoint.as_ref()));
    let cmd = words(image.and_then(|image| image.cmd.as_ref()));
    match (argv.is_empty(), arguments.is_empty()) {
        (false, false) => argv.extend(arguments.iter().cloned()),
        (false, true) => argv.extend(cmd),
        (true, false) => argv.extend(cmd.into_iter().take(1).chain(arguments.iter().cloned())),
        (true, true) => argv = cmd,
    }
    // Without a command of the image, arguments alone name nothing.
    let named = image.is_some_and(|image| image.entrypoint.is_some() || image.cmd.is_some());
    match argv.first() {
        Some(path) if named => Ok(Program { path: path.clone(), argv }),
        _ => Err(RuntimeError::NoExecutable),
    }
}

/// The image's environment, in its order. What has no `=` or no name is left away, as Docker does.
pub fn environment(image: &RuntimeConfig) -> impl Iterator<Item = (&str, &str)> {
    image.env.iter().filter_map(|variable| variable.split_once('=')).filter(|(name, _)| !name.is_empty())
}

/// Where it runs, if the image says.
///
/// # Errors
/// [`RuntimeError::Path`].
pub fn working_directory(image: &RuntimeConfig) -> Result<Option<&str>, RuntimeError> {
    match image.working_dir.as_str() {
        "" => Ok(None),
        path => checked("WorkingDir", path).map(Some),
    }
}

/// The user that it runs as, to be looked up in the image's passwd.
pub fn user(image: &RuntimeConfig) -> Option<&str> {
    Some(image.user.as_str()).filter(|user| !user.is_empty())
}

/// Paths that want a volume of their own. The root itself is none.
///
/// # Errors
/// [`RuntimeError::Path`].
pub fn volumes(image: &RuntimeConfig) -> Result<Vec<&str>, RuntimeError> {
    image.volumes.keys().map(|path| checked("volume", path)).collect()
}

/// The number of the signal that asks it to end: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
///
/// # Errors
/// [`RuntimeError::Signal`].
pub fn stop_signal(image: &RuntimeConfig) -> Result<Option<i32>, RuntimeError> {
    const NAMES: &[&str] = &[
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    /// As C libraries count them: the first ones are theirs.
    const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;
    let text = image.stop_signal.as_str();
    if text.is_empty() {
        return Ok(None);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = |from: i32, rest: &str, sign: char, by: i32| match rest {
        "" => Some(from),
        rest => {
            rest.strip_prefix(sign)?.parse::<i32>().ok().and_then(|n| n.checked_mul(by)?.checked_add(from))
        }
    };
    let number = match name {
        name if NAMES.contains(&name) => {
            NAMES.iter().position(|known| *known == name).and_then(|at| i32::try_from(at + 1).ok())
        }
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        name => match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => realtime(*REALTIME.start(), rest, '+', 1),
            (_, Some(rest)) => realtime(*REALTIME.end(), rest, '-', -1),
            _ => text.parse().ok(),
        },
    };
    match number {
        Some(number @ 1..=64) => Ok(Some(number)),
        _ => Err(RuntimeError::Signal(text.chars().take(100).collect())),
    }
}

fn checked<'p>(field: &'static str, path: &'p str) -> Result<&'p str, RuntimeError> {
    let parts = || path.split('/').filter(|part| !matches!(*part, "" | "."));
    let good = path.starts_with('/') && !path.contains('\0') && parts().all(|part| part != "..");
    match good && (field != "volume" || parts().next().is_some()) {
        true => Ok(path),
        false => Err(RuntimeError::Path { field, path: path.chars().take(200).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(shell: bool, value: Option<&str>, arguments: &[&str]) -> CommandInfo {
        CommandInfo {
            shell,
            value: value.map(str::to_owned),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            ..CommandInfo::default()
        }
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> RuntimeConfig {
        let words =
            |words: &[&str]| (!words.is_empty()).then(|| words.iter().map(|w| (*w).to_owned()).collect());
        RuntimeConfig { entrypoint: words(entrypoint), cmd: words(cmd), ..RuntimeConfig::default() }
    }

    #[test]
    fn each_row_of_the_table_runs_what_mesos_runs() {
        let (none, c, e) = (image(&[], &[]), image(&[], &["c", "c1"]), image(&["e", "e1"], &[]));
        let both = image(&["e", "e1"], &["c", "c1"]);
        for (shell, value, arguments, image, argv) in [
            (true, Some("a | b"), &["x"][..], &both, &["sh", "-c", "a | b"][..]),
            (false, Some("v"), &["v0", "v1"], &both, &["v0", "v1"]),
            (false, Some("v"), &[], &both, &["v"]),
            (false, None, &[], &c, &["c", "c1"]),
            (false, None, &["x"], &c, &["c", "x"]),
            (false, None, &[], &e, &["e", "e1"]),
            (false, None, &["x"], &e, &["e", "e1", "x"]),
            (false, None, &[], &both, &["e", "e1", "c", "c1"]),
            (false, None, &["x"], &both, &["e", "e1", "x"]),
        ] {
            let program = program(&command(shell, value, arguments), Some(image)).unwrap();
            assert_eq!(program.argv, argv);
            assert_eq!(program.path, value.filter(|_| !shell).unwrap_or(argv[0]));
        }
        assert_eq!(program(&command(true, None, &[]), Some(&both)), Err(RuntimeError::NoLine));
        for arguments in [&[][..], &["x"]] {
            let command = command(false, None, arguments);
            assert_eq!(program(&command, Some(&none)), Err(RuntimeError::NoExecutable));
            assert_eq!(program(&command, None), Err(RuntimeError::NoExecutable));
        }
    }

    #[test]
    fn signals_are_names_with_or_without_sig_and_numbers() {
        let signal =
            |text: &str| stop_signal(&RuntimeConfig { stop_signal: text.into(), ..RuntimeConfig::default() });
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("SIGSYS", 31),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGHUP", 1),
        ] {
            assert_eq!(signal(text).unwrap(), Some(number), "{text}");
        }
        assert_eq!(signal("").unwrap(), None);
        for bad in ["SIG", "0", "65", "-1", "SIGRTMIN-3", "SIGRTMIN+x", "SIGRTMIN+99", "SIGRTMINé", "TERM "]
        {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_of_an_image_stay_in_it() {
        let of = |path: &str| RuntimeConfig {
            working_dir: path.into(),
            volumes: [(path.to_owned(), Default::default())].into(),
            ..RuntimeConfig::default()
        };
        assert_eq!(working_directory(&of("/srv/./x")).unwrap(), Some("/srv/./x"));
        assert_eq!(working_directory(&RuntimeConfig::default()).unwrap(), None);
        assert_eq!(working_directory(&of("/")).unwrap(), Some("/"));
        for bad in ["relative", "/a/../../b", "/.."] {
            assert!(working_directory(&of(bad)).is_err() && volumes(&of(bad)).is_err(), "{bad}");
        }
        assert!(volumes(&of("/")).is_err());
    }

    #[test]
    fn variables_without_a_name_or_a_value_are_left_away() {
        let env = ["A=1", "B", "=2", "C=", "D=x=y"].map(str::to_owned).to_vec();
        let image = RuntimeConfig { env, ..RuntimeConfig::default() };
        let all: Vec<_> = environment(&image).collect();
        assert_eq!(all, [("A", "1"), ("C", ""), ("D", "x=y")]);
    }
}
