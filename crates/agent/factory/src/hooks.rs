// SPDX-License-Identifier: Apache-2.0
//! What the flags say of hooks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_hooks::{Error, Hooks, Point};
use berth_mesos::AfterFetch;
use berth_model::Class;

use crate::flags::Flags;

/// How long a hook has when nobody says.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why there are no hooks though there is a flag.
#[derive(Debug, thiserror::Error)]
pub enum HooksError {
    /// Something in the directory can not be a hook.
    #[error("--hooks_dir")]
    Directory(#[from] Error),
    /// The time is none.
    #[error("--hooks_timeout: '{0}' is no time that a hook could end in: give one such as 5secs")]
    Timeout(String),
}

impl HooksError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            HooksError::Directory(error) => error.class(),
            HooksError::Timeout(_) => Class::Invalid,
        }
    }
}

/// The hooks of `--hooks_dir`, if it is given.
///
/// # Errors
/// [`HooksError`]: what is there can not be run.
pub fn hooks(flags: &Flags) -> Result<Option<Hooks>, HooksError> {
    let deadline = match flags.loaded.get("hooks_timeout") {
        None => DEADLINE,
        Some(text) => match berth_model::parse_duration(text) {
            Ok(deadline) if !deadline.is_zero() => deadline,
            _ => return Err(HooksError::Timeout(text.to_owned())),
        },
    };
    let Some(directory) = flags.loaded.get("hooks_dir") else { return Ok(None) };
    Ok(Some(Hooks::open(Path::new(directory), deadline)?))
}

/// Those that are run when URIs have come. What they do changes nothing: it is said in the log.
pub(crate) fn after_fetch(flags: &Flags) -> Result<Option<AfterFetch>, HooksError> {
    let Some(hooks) = hooks(flags)? else { return Ok(None) };
    Ok(Some(Arc::new(move |id: &str, sandbox: &Path| {
        let about = serde_json::json!({ "container_id": id, "directory": sandbox.display().to_string() });
        let (_, failed) = hooks.ask_all(Point::PostFetch, &about);
        failed.iter().map(|error| format!("after the fetch of {id}: {}", error.chain())).collect()
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    fn flags(arguments: &[&str]) -> Flags {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        Flags::from(Loaded::read(arguments, []).unwrap())
    }

    #[test]
    fn there_are_hooks_only_when_asked_for_and_a_time_that_is_none_is_refused() {
        assert!(hooks(&flags(&[])).unwrap().is_none());
        let error = hooks(&flags(&["--hooks_dir=/nowhere"])).unwrap_err();
        assert!(matches!(&error, HooksError::Directory(Error::Read { .. })), "{error:?}");
        let error = hooks(&flags(&["--hooks_dir=/nowhere", "--hooks_timeout=0secs"])).unwrap_err();
        assert!(error.to_string().contains("'0secs'") && error.class() == Class::Invalid, "{error}");
    }
}
