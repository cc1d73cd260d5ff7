// SPDX-License-Identifier: Apache-2.0
//! `linux/seccomp`: the system call filter. Without `seccomp` in the configuration the built-in profile (equal in
//! effect to Docker's, see docs/seccomp.md) is loaded; `unconfined` loads none; `profile_name` names a file in
//! `--seccomp_config_dir` in Docker's format, whose compiled form is kept by its hash.
//!
//! With no_new_privs the filter is the last thing before exec; without, it must be loaded while CAP_SYS_ADMIN is
//! there, before the user changes.

use crate::{Settings, capabilities};
use berth_launcher::wire::Step;
use berth_launcher::{Container, Error, Isolator, Phase, Plan, Result};
use berth_seccomp::{Cache, Profile, Program};
use std::path::{Path, PathBuf};

const NAME: &str = "linux/seccomp";
/// No profile is larger.
const CAP: u64 = 1 << 20;

struct Seccomp {
    directory: Option<PathBuf>,
    cache: Option<PathBuf>,
    paths: bool,
    after_nnp: bool,
}

pub(crate) fn make(settings: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Seccomp {
        directory: settings.seccomp_config_dir.clone(),
        cache: settings.seccomp_cache.clone(),
        paths: settings.seccomp_paths,
        after_nnp: !settings.without.iter().any(|w| w == "linux/nnp"),
    }))
}

impl Isolator for Seccomp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let asked = container.linux().and_then(|l| l.seccomp.as_ref());
        let name = asked.and_then(|s| s.profile_name.as_deref());
        let unconfined = asked.is_some_and(|s| s.unconfined == Some(true));
        let caps = capabilities::sets(container)?.bounding;
        let program = match (name, unconfined) {
            (Some(_), true) => {
                return Err(Error::Invalid(
                    "Invalid Seccomp configuration: 'profile_name' given even though 'unconfined' Seccomp setting is enabled".to_owned(),
                ));
            }
            (None, true) => return Ok(()),
            (None, false) => Profile::default_program(caps)
                .map_err(|e| Error::mechanism("compile the default Seccomp profile", e.class(), e))?,
            (Some(name), false) => self.read_profile(name, caps)?,
        };
        let phase = if self.after_nnp { Phase::Filter } else { Phase::EarlyFilter };
        let what = format!("load the Seccomp filter ({} instructions)", program.len());
        plan.step(NAME, phase, Step::Filter { program: program.as_bytes() }, what);
        Ok(())
    }

    fn enter(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        self.prepare(container, plan)
    }
}

impl Seccomp {
    fn read_profile(&self, name: &str, caps: u64) -> Result<Program> {
        let path = self.path_of(name)?;
        let failed = |e: std::io::Error| {
            let class = berth_model::Class::of_io(&e);
            Error::mechanism(format!("Failed to read Seccomp profile file '{}'", path.display()), class, e)
        };
        let size = std::fs::metadata(&path).map_err(failed)?;
        if !size.is_file() || size.len() > CAP {
            return Err(Error::Invalid(format!(
                "Failed to read Seccomp profile file '{}': it is not a regular file of at most 1 MiB",
                path.display()
            )));
        }
        let bytes = std::fs::read(&path).map_err(failed)?;
        let parsed = |e: berth_seccomp::Error| {
            Error::mechanism(format!("Failed to parse Seccomp profile '{}'", path.display()), e.class(), e)
        };
        // A cache that can not be used costs a compilation, nothing else.
        match self.cache.as_deref().map(Cache::open) {
            Some(Ok(cache)) => cache.program(&bytes, caps).map(|(program, _)| program).map_err(parsed),
            _ => Profile::from_json(&bytes).and_then(|p| p.compile(caps)).map_err(parsed),
        }
    }

    fn path_of(&self, name: &str) -> Result<PathBuf> {
        if self.paths && name.starts_with('/') {
            return Ok(PathBuf::from(name));
        }
        let plain =
            Path::new(name).components().count() == 1 && !name.contains('/') && !name.starts_with('.');
        match &self.directory {
            Some(directory) if plain => Ok(directory.join(name)),
            Some(_) => Err(Error::Invalid(format!(
                "Seccomp profile name {name:?} must be the name of a file in the profiles' directory, without a path"
            ))),
            None => Err(Error::Invalid(format!(
                "Seccomp profile {name:?} is asked for, but there is no directory of profiles: set --seccomp_config_dir"
            ))),
        }
    }
}
