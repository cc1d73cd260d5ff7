// SPDX-License-Identifier: Apache-2.0
//! The logger of containers: `--container_logger`, and its parameters in `--modules`.
//!
//! Berth loads no code into itself. Of modules it knows the one of Mesos that is built in here, and loggers of ours by their
//! names; parameters are given as for Mesos:
//!
//! ```json
//! {"libraries": [{"modules": [{"name": "org_apache_mesos_LogrotateContainerLogger",
//!   "parameters": [{"key": "max_stdout_size", "value": "1MB"}, {"key": "logrotate_stdout_options", "value": "rotate 9"}]}]}]}
//! ```

use berth_mesos::logger::{Driver, Settings};
use serde::Deserialize;

use crate::flags::Flags;

/// Mesos's module.
const LOGROTATE: &str = "org_apache_mesos_LogrotateContainerLogger";

/// Why there is no such logger.
#[derive(Debug, thiserror::Error)]
#[error("Cannot create container logger: {0}")]
pub(crate) struct Wrong(String);

#[derive(Debug, Default, Deserialize)]
struct Modules {
    #[serde(default)]
    libraries: Vec<Library>,
}

#[derive(Debug, Deserialize)]
struct Library {
    #[serde(default)]
    modules: Vec<Module>,
}

#[derive(Debug, Deserialize)]
struct Module {
    name: String,
    #[serde(default)]
    parameters: Vec<Parameter>,
}

#[derive(Debug, Deserialize)]
struct Parameter {
    key: String,
    value: String,
}

/// How the output of containers is kept that say nothing themselves. Nothing is made.
pub(crate) fn settings(flags: &Flags) -> Result<Settings, Wrong> {
    let modules: Modules = match flags.loaded.get("modules").filter(|text| !text.is_empty()) {
        Some(text) => serde_json::from_str(text).map_err(|error| Wrong(format!("--modules: {error}")))?,
        None => Modules::default(),
    };
    let modules: Vec<_> = modules.libraries.into_iter().flat_map(|library| library.modules).collect();
    if let Some(other) = modules.iter().find(|module| driver(&module.name).is_none()) {
        return Err(Wrong(format!(
            "module '{}' is not built into berth, which loads no code into itself; known are {LOGROTATE}, sandbox, \
             rotating, journald, external, none",
            other.name
        )));
    }
    let mut settings = Settings::default();
    // What the operator says for a driver counts for containers that ask for it themselves, too.
    for module in &modules {
        for parameter in &module.parameters {
            set(&mut settings, &module.name, parameter)?;
        }
    }
    if let Some(name) = flags.loaded.get("container_logger") {
        settings.driver = driver(name).ok_or_else(|| {
            Wrong(format!(
                "'{name}' is not known; known are {LOGROTATE}, sandbox, rotating, journald, external, none"
            ))
        })?;
    }
    settings.check().map_err(|error| Wrong(error.to_string()))
}

fn driver(name: &str) -> Option<Driver> {
    if name == LOGROTATE {
        return Some(Driver::Rotating);
    }
    let all = [Driver::Sandbox, Driver::Rotating, Driver::Journald, Driver::External, Driver::None];
    all.into_iter().find(|driver| driver.name() == name)
}

fn set(settings: &mut Settings, module: &str, Parameter { key, value }: &Parameter) -> Result<(), Wrong> {
    match key.as_str() {
        "environment_variable_prefix" => settings.prefix.clone_from(value),
        // Of what Mesos's own needs on the host: rotation is built in.
        "launcher_dir" | "logrotate_path" | "libprocess_num_worker_threads" => {}
        "program" => {
            settings.program = value.split_whitespace().map(str::to_owned).collect();
            if !settings.program.first().is_some_and(|program| program.starts_with('/')) {
                return Err(Wrong(format!("parameter 'program' of '{module}' must be an absolute path")));
            }
        }
        "driver" => {
            return Err(Wrong(format!("'{module}' has no parameter 'driver': use --container_logger")));
        }
        _ => settings.set(key, value).map_err(|error| Wrong(format!("parameter of '{module}': {error}")))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    fn with(logger: Option<&str>, parameters: &[(&str, &str)]) -> Result<Settings, String> {
        let list: Vec<_> =
            parameters.iter().map(|(key, value)| serde_json::json!({ "key": key, "value": value })).collect();
        let module = serde_json::json!({ "name": LOGROTATE, "parameters": list });
        let modules = serde_json::json!({ "libraries": [{ "file": "x.so", "modules": [module] }] });
        let flags = logger.map(|logger| format!("--container_logger={logger}"));
        let flags = flags.into_iter().chain([format!("--modules={modules}")]);
        settings(&Flags::from(Loaded::read(flags, []).unwrap())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_parameters_of_mesos_s_module_count() {
        let all =
            [("max_stdout_size", "1MB"), ("logrotate_stdout_options", "rotate 3"), ("logrotate_path", "x")];
        let settings = with(Some(LOGROTATE), &all).unwrap();
        assert_eq!(
            (settings.driver, settings.stdout.max.0, settings.stdout.kept),
            (Driver::Rotating, 1 << 20, 3)
        );
        assert_eq!(with(None, &[]).unwrap(), Settings::default());
        assert_eq!(
            with(Some("external"), &[("program", "/bin/cat -u")]).unwrap().program,
            ["/bin/cat", "-u"]
        );
    }

    #[test]
    fn what_can_not_be_is_refused_with_the_words_of_mesos() {
        for (logger, parameters) in [
            ("com_example_Logger", &[][..]),
            ("external", &[]),
            ("external", &[("program", "cat")]),
            (LOGROTATE, &[("max_stdout_size", "1B")]),
            (LOGROTATE, &[("colour", "red")]),
            (LOGROTATE, &[("driver", "none")]),
        ] {
            let error = with(Some(logger), parameters).unwrap_err();
            assert!(error.starts_with("Cannot create container logger: "), "{error}");
        }
    }
}
