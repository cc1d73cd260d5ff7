// SPDX-License-Identifier: Apache-2.0
//! What a container's environment says about its logger: the variables of Mesos's logrotate module.
//!
//! | variable | meaning |
//! |---|---|
//! | `CONTAINER_LOGGER_MAX_STDOUT_SIZE`, `…_MAX_STDERR_SIZE` | bytes of a file, as `10MB`; at least a page |
//! | `CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS`, `…_STDERR_OPTIONS` | lines of logrotate's configuration |
//!
//! Of logrotate's options those are understood that mean something here: `rotate N`, `compress`, `nocompress`,
//! `delaycompress`, `nodelaycompress`, `missingok`, `notifempty`, `nocreate`, `nomail`, `nodateext`. Any other is refused by
//! name: an option that silently does nothing would be found out when the disk is full. As in Mesos, a name with the prefix
//! that is not known fails the launch.

use std::str::FromStr;

use berth_model::{Bytes, Class};

/// The prefix of the variables, unless the operator names another.
pub const PREFIX: &str = "CONTAINER_LOGGER_";

/// Bytes of a page: no file is smaller.
const PAGE: u64 = 4096;
/// The most old files that are kept.
const MOST: u32 = 9999;

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

/// How the output of a container is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Its stdout.
    pub stdout: Stream,
    /// Its stderr.
    pub stderr: Stream,
}

/// Why settings can not be used. The texts are Mesos's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A variable with the prefix that is not one of ours.
    #[error(
        "Failed to load container logger settings: Failed to load unknown flag '{name}'; known are max_stdout_size, \
         max_stderr_size, logrotate_stdout_options, logrotate_stderr_options"
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
    /// These settings, changed by the variables of a container whose names begin with `prefix`. Of two with one name the
    /// later counts, as in an environment.
    ///
    /// # Errors
    /// A name or a value is wrong.
    pub fn overridden<'a>(
        mut self,
        prefix: &str,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Settings, SettingsError> {
        for (name, value) in environment {
            let Some(name) = name.strip_prefix(prefix) else { continue };
            match name.to_ascii_lowercase().as_str() {
                "max_stdout_size" => self.stdout.max = size("max_stdout_size", value)?,
                "max_stderr_size" => self.stderr.max = size("max_stderr_size", value)?,
                "logrotate_stdout_options" => self.stdout.set("logrotate_stdout_options", value)?,
                "logrotate_stderr_options" => self.stderr.set("logrotate_stderr_options", value)?,
                other => return Err(SettingsError::Unknown { name: other.escape_debug().to_string() }),
            }
        }
        self.check()
    }

    fn check(self) -> Result<Settings, SettingsError> {
        match self.stdout.max.0 < PAGE || self.stderr.max.0 < PAGE {
            true => Err(SettingsError::TooSmall),
            false => Ok(self),
        }
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
        Settings::default().overridden(PREFIX, environment.iter().copied()).map_err(|error| error.to_string())
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
        assert_eq!(read(&[]).unwrap(), Settings::default());
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
        let settings = Settings::default().overridden("LOG_", environment).unwrap();
        assert_eq!(settings.stdout.max, Bytes(2 << 20));
    }
}
