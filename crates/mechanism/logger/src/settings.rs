// SPDX-License-Identifier: Apache-2.0
//! What an operator and a container's environment say about its logger: the variables of Mesos's logrotate module, and ours.
//!
//! | variable | meaning |
//! |---|---|
//! | `CONTAINER_LOGGER_MAX_STDOUT_SIZE`, `…_MAX_STDERR_SIZE` | bytes of a file, as `10MB`; at least a page |
//! | `CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS`, `…_STDERR_OPTIONS` | lines of logrotate's configuration |
//! | `CONTAINER_LOGGER_DRIVER` | `sandbox`, `rotating`, `journald`, `external`, `none` (ours) |
//! | `CONTAINER_LOGGER_MODE` | `block`, `drop`, `spill`: when journald or the program is slow (ours) |
//! | `CONTAINER_LOGGER_BUFFER` | bytes that `spill` keeps (ours) |
//!
//! Of logrotate's options those are understood that mean something here: `rotate N`, `compress`, `nocompress`,
//! `delaycompress`, `nodelaycompress`, `missingok`, `notifempty`, `nocreate`, `nomail`, `nodateext`. Any other is refused by
//! name: an option that silently does nothing would be found out when the disk is full. As in Mesos, a name with the prefix
//! that is not known fails the launch; and with the sandbox logger, all are for others.

use std::str::FromStr;

use berth_model::{Bytes, Class};

/// The prefix of the variables, unless the operator names another.
pub const PREFIX: &str = "CONTAINER_LOGGER_";

/// Bytes of a page: no file is smaller.
const PAGE: u64 = 4096;
/// The most old files that are kept.
const MOST: u32 = 9999;
/// The most words of a program, and bytes in all: a supervisor has so much room for them.
const WORDS: usize = 32;
const WORDS_BYTES: usize = 512;

/// How one stream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Bytes of a file.
    pub max: Bytes,
    /// Old files that are kept.
    pub kept: u32,
    /// Whether those are compressed, all but the newest.
    pub compress: bool,
}

impl Default for Stream {
    /// Mesos's: files of 10 MB, and as logrotate has it when nothing is said, no old ones.
    fn default() -> Stream {
        Stream { max: Bytes(10 << 20), kept: 0, compress: false }
    }
}

/// Who takes the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// The container writes a file itself.
    #[default]
    Sandbox,
    /// Files that are rotated.
    Rotating,
    /// journald, and rotated files for who reads them here.
    Journald,
    /// A program of the operator's, and rotated files.
    External,
    /// Nobody: it is not kept.
    None,
}

impl Driver {
    const NAMES: &'static [(&'static str, Driver)] = &[
        ("sandbox", Driver::Sandbox),
        ("rotating", Driver::Rotating),
        ("journald", Driver::Journald),
        ("external", Driver::External),
        ("none", Driver::None),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Driver::NAMES.iter().find(|(_, driver)| *driver == self).map_or("sandbox", |(name, _)| name)
    }
}

/// What happens when who takes it is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The container waits.
    Block,
    /// It is lost, and counted.
    Drop,
    /// It is kept for a while, and what does not fit is lost and counted.
    #[default]
    Spill,
}

/// How the output of a container is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who takes it.
    pub driver: Driver,
    /// Its stdout.
    pub stdout: Stream,
    /// Its stderr.
    pub stderr: Stream,
    /// When journald or the program is slow.
    pub mode: Mode,
    /// What [`Mode::Spill`] keeps.
    pub buffer: Bytes,
    /// The operator's program and its arguments; only the operator names one.
    pub program: Vec<String>,
    /// How the variables of containers begin.
    pub prefix: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            driver: Driver::Sandbox,
            stdout: Stream::default(),
            stderr: Stream::default(),
            mode: Mode::Spill,
            buffer: Bytes(1 << 20),
            program: Vec::new(),
            prefix: PREFIX.to_owned(),
        }
    }
}

/// Why settings can not be used. The texts are Mesos's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A variable with the prefix that is not one of ours.
    #[error(
        "Failed to load container logger settings: Failed to load unknown flag '{name}'; known are max_stdout_size, \
         max_stderr_size, logrotate_stdout_options, logrotate_stderr_options, driver, mode, buffer"
    )]
    Unknown {
        /// Its name without the prefix, in small letters.
        name: String,
    },
    /// A value that is not understood.
    #[error(
        "Failed to load container logger settings: Failed to load flag '{name}': Failed to load value '{value}': {why}"
    )]
    Value {
        /// The setting.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file would be too small.
    #[error(
        "Failed to load container logger settings: Expected --max_stdout_size and --max_stderr_size of at least {PAGE} bytes"
    )]
    TooSmall,
}

impl SettingsError {
    /// A wrong setting is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

impl Settings {
    /// These settings, changed by the variables of a container. Of two with one name the later counts, as in an
    /// environment. Unless a driver is named, the sandbox logger heeds none of them.
    ///
    /// # Errors
    /// A name or a value is wrong.
    pub fn overridden<'a>(
        mut self,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Settings, SettingsError> {
        let prefix = std::mem::take(&mut self.prefix);
        let given: Vec<(String, &str)> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?.to_ascii_lowercase(), value)))
            .collect();
        self.prefix = prefix;
        if self.driver == Driver::Sandbox && !given.iter().any(|(name, _)| name == "driver") {
            return Ok(self);
        }
        for (name, value) in given {
            self.set(&name, value)?;
        }
        self.check()
    }

    /// Sets one by its name without the prefix.
    ///
    /// # Errors
    /// The name or the value is wrong.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        match name {
            "max_stdout_size" => self.stdout.max = size("max_stdout_size", value)?,
            "max_stderr_size" => self.stderr.max = size("max_stderr_size", value)?,
            "logrotate_stdout_options" => self.stdout.set("logrotate_stdout_options", value)?,
            "logrotate_stderr_options" => self.stderr.set("logrotate_stderr_options", value)?,
            "driver" => {
                let known = Driver::NAMES.iter().find(|(name, _)| *name == value);
                let why = "known are sandbox, rotating, journald, external, none";
                self.driver = known.ok_or_else(|| wrong("driver", value, why))?.1;
            }
            "mode" => {
                self.mode = match value {
                    "block" => Mode::Block,
                    "drop" => Mode::Drop,
                    "spill" => Mode::Spill,
                    _ => return Err(wrong("mode", value, "known are block, drop, spill")),
                }
            }
            "buffer" => self.buffer = size("buffer", value)?,
            other => return Err(SettingsError::Unknown { name: other.escape_debug().to_string() }),
        }
        Ok(())
    }

    /// Whether they can be used together.
    ///
    /// # Errors
    /// They can not.
    pub fn check(self) -> Result<Settings, SettingsError> {
        if self.stdout.max.0 < PAGE || self.stderr.max.0 < PAGE {
            return Err(SettingsError::TooSmall);
        }
        if self.driver == Driver::External && self.program.is_empty() {
            let why = "the operator has named no program for containers' output; use another driver";
            return Err(wrong("driver", "external", why));
        }
        let bytes: usize = self.program.iter().map(|word| word.len() + 1).sum();
        if self.program.len() > WORDS || bytes > WORDS_BYTES {
            let why =
                format!("at most {WORDS} words of {WORDS_BYTES} bytes in all; a script has room for more");
            return Err(wrong("program", &self.program.join(" "), why));
        }
        Ok(self)
    }

    /// Whether the output goes through the supervisor.
    pub fn is_piped(&self) -> bool {
        !matches!(self.driver, Driver::Sandbox | Driver::None)
    }
}

fn wrong(name: &'static str, value: &str, why: impl ToString) -> SettingsError {
    SettingsError::Value { name, value: value.escape_debug().to_string(), why: why.to_string() }
}

fn size(name: &'static str, value: &str) -> Result<Bytes, SettingsError> {
    Bytes::from_str(value.trim()).map_err(|error| wrong(name, value, error))
}

impl Stream {
    /// Takes lines of logrotate's configuration, on top of its defaults.
    fn set(&mut self, name: &'static str, options: &str) -> Result<(), SettingsError> {
        (self.kept, self.compress) = (0, false);
        for line in options.split(['\n', ';']).map(str::trim) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                [comment, ..] if comment.starts_with('#') => {}
                ["rotate", count] => {
                    let count: u32 = count.parse().map_err(|_| {
                        wrong(
                            name,
                            options,
                            format!("'rotate {count}' is not 'rotate' and a number of files"),
                        )
                    })?;
                    if count > MOST {
                        return Err(wrong(name, options, format!("at most {MOST} files are kept")));
                    }
                    self.kept = count;
                }
                ["compress"] => self.compress = true,
                ["nocompress"] => self.compress = false,
                // The newest of the old files is never compressed here.
                ["delaycompress" | "nodelaycompress"] => {}
                ["missingok" | "notifempty" | "nocreate" | "nomail" | "nodateext"] => {}
                [other, ..] => {
                    let why = format!("the logrotate option '{}' is not supported", other.escape_debug());
                    return Err(wrong(name, options, why));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(environment: &[(&str, &str)]) -> Result<Settings, String> {
        let rotating = Settings { driver: Driver::Rotating, ..Settings::default() };
        rotating.overridden(environment.iter().copied()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_variables_of_mesos_are_understood() {
        let settings = read(&[
            ("PATH", "/bin"),
            ("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "1MB"),
            ("CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS", "rotate 9\ncompress\n# why\n"),
            ("CONTAINER_LOGGER_LOGROTATE_STDERR_OPTIONS", "rotate 2"),
        ])
        .unwrap();
        assert_eq!(settings.stdout, Stream { max: Bytes(1 << 20), kept: 9, compress: true });
        assert_eq!(settings.stderr, Stream { max: Bytes(10 << 20), kept: 2, compress: false });
        assert_eq!(read(&[]).unwrap().stdout, Stream::default());
    }

    #[test]
    fn wrong_ones_fail_with_the_words_of_mesos() {
        let text = |name: &str, value: &str| read(&[(name, value)]).unwrap_err();
        let begin = "Failed to load container logger settings: ";
        assert!(
            text("CONTAINER_LOGGER_COLOUR", "1")
                .starts_with(&format!("{begin}Failed to load unknown flag 'colour'"))
        );
        let value = text("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "ten");
        assert!(value.starts_with(&format!(
            "{begin}Failed to load flag 'max_stdout_size': Failed to load value 'ten': "
        )));
        assert_eq!(
            text("CONTAINER_LOGGER_MAX_STDERR_SIZE", "4095B"),
            format!("{begin}Expected --max_stdout_size and --max_stderr_size of at least 4096 bytes")
        );
        for options in
            ["rotate", "rotate x", "rotate 10000", "postrotate\nrm -rf /\nendscript", "size 1k", "}"]
        {
            let text = text("CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS", options);
            assert!(text.contains("Failed to load flag 'logrotate_stdout_options'"), "{text}");
        }
    }

    #[test]
    fn another_prefix_makes_the_usual_one_mean_nothing() {
        let environment = [("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "x"), ("LOG_MAX_STDOUT_SIZE", "2MB")];
        let own = Settings { driver: Driver::Rotating, prefix: "LOG_".to_owned(), ..Settings::default() };
        let settings = own.overridden(environment).unwrap();
        assert_eq!(settings.stdout.max, Bytes(2 << 20));
    }

    #[test]
    fn a_program_that_a_supervisor_has_no_room_for_is_refused() {
        let with = |program: Vec<String>| {
            Settings { driver: Driver::External, program, ..Settings::default() }.check().map(drop)
        };
        assert_eq!(with(vec!["/bin/cat".to_owned(), "x".repeat(500)]), Ok(()));
        for program in [vec!["/bin/cat".to_owned(), "x".repeat(503)], vec!["/x".to_owned(); 33]] {
            let text = with(program).unwrap_err().to_string();
            assert!(text.contains("at most 32 words of 512 bytes in all"), "{text}");
        }
    }

    #[test]
    fn the_sandbox_logger_heeds_nothing_but_a_driver() {
        let with = |environment: &[(&str, &str)]| Settings::default().overridden(environment.iter().copied());
        assert_eq!(with(&[("CONTAINER_LOGGER_COLOUR", "1")]), Ok(Settings::default()));
        let journald =
            with(&[("CONTAINER_LOGGER_MODE", "block"), ("CONTAINER_LOGGER_DRIVER", "journald")]).unwrap();
        assert_eq!((journald.driver, journald.mode), (Driver::Journald, Mode::Block));
        // Which program takes output is not for containers to say.
        for (name, value) in
            [("DRIVER", "external"), ("DRIVER", "syslog"), ("PROGRAM", "/bin/sh"), ("MODE", "often")]
        {
            let all =
                [("CONTAINER_LOGGER_DRIVER".to_owned(), "rotating"), (format!("{PREFIX}{name}"), value)];
            let all: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            assert!(with(&all).is_err(), "{name}={value}");
        }
    }
}
