// SPDX-License-Identifier: Apache-2.0
//! `--log-driver` and `--log-opt`, as docker names them: settings for a container of our own, or variables for the agent, which
//! heeds a container's environment.

use crate::cli::Run;
use crate::exit::Failure;
use berth_factory::output::{Driver, Mode, PREFIX, Settings, Stream};
use berth_model::{Bytes, Variable};

/// What the options ask for; nothing without any.
pub(crate) fn settings(args: &Run) -> Result<Option<Settings>, Failure> {
    let Some(settings) = read(args)? else { return Ok(None) };
    match settings.check() {
        Ok(settings) => Ok(Some(settings)),
        Err(error) => Err(Failure::text(format!("--log-driver: {error}"))),
    }
}

/// The same, before it is known whether they can be used together.
fn read(args: &Run) -> Result<Option<Settings>, Failure> {
    if args.log_driver.is_none() && args.log_opt.is_empty() {
        return Ok(None);
    }
    let mut settings = Settings::default();
    let mut stream = Stream { max: Bytes(10 << 20), kept: 0, compress: false };
    settings.driver = match args.log_driver.as_deref() {
        Some("sandbox") => Driver::Sandbox,
        None | Some("rotating" | "json-file" | "k8s-file") => Driver::Rotating,
        Some("local") => {
            // As docker's.
            stream = Stream { max: Bytes(20 << 20), kept: 4, compress: true };
            Driver::Rotating
        }
        Some("journald") => Driver::Journald,
        Some("external") => Driver::External,
        Some("none") => Driver::None,
        Some(other) => {
            return Err(Failure::text(format!(
                "--log-driver {other}: known are sandbox, rotating, json-file, local, journald, external, none"
            )));
        }
    };
    for option in &args.log_opt {
        let wrong = |why: &str| Failure::text(format!("--log-opt {option}: {why}"));
        let (name, value) = option.split_once('=').ok_or_else(|| wrong("write NAME=VALUE"))?;
        let bytes = || Bytes::parse_docker(value).map_err(|e| wrong(&e.to_string()));
        match name {
            "max-size" => stream.max = bytes()?,
            "max-file" => {
                let files: u32 = value.parse().unwrap_or(0);
                if !(1..=1000).contains(&files) {
                    return Err(wrong("must be a number of files from 1 to 1000"));
                }
                stream.kept = files - 1;
            }
            "compress" => stream.compress = value.parse().map_err(|_| wrong("must be true or false"))?,
            "max-buffer-size" => settings.buffer = bytes()?,
            "mode" => {
                settings.mode = match value {
                    "block" | "blocking" => Mode::Block,
                    "drop" => Mode::Drop,
                    "spill" | "non-blocking" => Mode::Spill,
                    _ => return Err(wrong("known are block (blocking), drop, spill (non-blocking)")),
                }
            }
            "program" => {
                settings.program = value.split_whitespace().map(str::to_owned).collect();
                if !value.starts_with('/') {
                    return Err(wrong("the program must be an absolute path"));
                }
            }
            _ => {
                return Err(wrong("known are max-size, max-file, compress, mode, max-buffer-size, program"));
            }
        }
    }
    if settings.driver == Driver::Sandbox && !args.log_opt.is_empty() {
        let text = "--log-opt: the sandbox driver has no options: the container writes its files itself";
        return Err(Failure::text(text));
    }
    (settings.stdout, settings.stderr) = (stream, stream);
    Ok(Some(settings))
}

/// The same, as variables for an agent.
pub(crate) fn variables(args: &Run) -> Result<Vec<Variable>, Failure> {
    if args.log_opt.iter().any(|option| option.starts_with("program=")) {
        let text = "--log-opt program: an agent's operator names the program (--modules), no container does";
        return Err(Failure::text(text));
    }
    let external = args.log_driver.as_deref() == Some("external");
    if external && args.log_opt.is_empty() {
        return Ok(vec![variable("DRIVER", "external".to_owned())]);
    }
    // Which program takes output only the agent knows.
    let settings = if external { read(args)? } else { settings(args)? };
    let Some(settings) = settings else { return Ok(Vec::new()) };
    let stream = settings.stdout;
    let compress = if stream.compress { "\ncompress" } else { "" };
    let options = format!("rotate {}{compress}", stream.kept);
    let mode = match settings.mode {
        Mode::Block => "block",
        Mode::Drop => "drop",
        Mode::Spill => "spill",
    };
    Ok(vec![
        variable("DRIVER", settings.driver.name().to_owned()),
        variable("MODE", mode.to_owned()),
        variable("BUFFER", format!("{}B", settings.buffer.0)),
        variable("MAX_STDOUT_SIZE", format!("{}B", stream.max.0)),
        variable("MAX_STDERR_SIZE", format!("{}B", stream.max.0)),
        variable("LOGROTATE_STDOUT_OPTIONS", options.clone()),
        variable("LOGROTATE_STDERR_OPTIONS", options),
    ])
}

fn variable(name: &str, value: String) -> Variable {
    Variable { name: format!("{PREFIX}{name}"), value: Some(value), ..Variable::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(driver: Option<&str>, options: &[&str]) -> Run {
        let log_opt = options.iter().map(|option| (*option).to_owned()).collect();
        Run { log_driver: driver.map(str::to_owned), log_opt, ..Run::default() }
    }

    #[test]
    fn options_mean_what_they_mean_with_docker() {
        let args = run(Some("json-file"), &["max-size=10m", "max-file=3", "compress=true"]);
        let kept = settings(&args).unwrap().unwrap();
        assert_eq!(kept.stdout, Stream { max: Bytes(10 << 20), kept: 2, compress: true });
        let local = settings(&run(Some("local"), &["mode=non-blocking"])).unwrap().unwrap();
        assert_eq!((local.stdout.kept, local.mode), (4, Mode::Spill));
        assert!(settings(&run(None, &[])).unwrap().is_none());
        // What an agent makes of the variables is the same.
        let given = variables(&args).unwrap();
        let pairs = given.iter().map(|v| (v.name.as_str(), v.value.as_deref().unwrap()));
        assert_eq!(Settings::default().overridden(pairs).unwrap(), kept);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (driver, option) in [
            (Some("syslog"), "mode=drop"),
            (Some("rotating"), "max-size"),
            (Some("rotating"), "max-size=1"),
            (Some("rotating"), "max-file=0"),
            (Some("rotating"), "colour=red"),
            (Some("external"), "program=cat"),
            (Some("external"), "mode=drop"),
            (Some("sandbox"), "max-size=10m"),
        ] {
            assert!(settings(&run(driver, &[option])).is_err(), "{driver:?} {option}");
        }
        assert!(variables(&run(Some("external"), &["program=/bin/cat"])).is_err());
    }

    #[test]
    fn options_of_an_agent_s_program_reach_the_agent() {
        let given = variables(&run(Some("external"), &["mode=block", "max-size=1m"])).unwrap();
        let pairs = given.iter().map(|v| (v.name.as_str(), v.value.as_deref().unwrap()));
        let own = Settings { program: vec!["/bin/cat".to_owned()], ..Settings::default() };
        let settings = own.overridden(pairs).unwrap();
        assert_eq!(
            (settings.driver, settings.mode, settings.stdout.max),
            (Driver::External, Mode::Block, Bytes(1 << 20))
        );
        let plain = variables(&run(Some("external"), &[])).unwrap();
        assert_eq!(plain.len(), 1);
    }
}
