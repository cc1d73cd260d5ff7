// SPDX-License-Identifier: Apache-2.0
//! Whether checks and health checks of a task make sense (reference 33.6.4): pure, in Mesos's order and words.

use berth_proto::v1::{CheckInfo, CommandInfo, HealthCheck, check_info, health_check};
use berth_proto::validate::validate_command;

pub(crate) fn check(check: &CheckInfo) -> Result<(), String> {
    use check_info::Type;
    let kind =
        check.r#type.and_then(|kind| Type::try_from(kind).ok()).ok_or("CheckInfo must specify 'type'")?;
    match kind {
        Type::Command => {
            let inner = check.command.as_ref().ok_or("Expecting 'command' to be set for COMMAND check")?;
            command(&inner.command, "Command check", "Check's")?;
        }
        Type::Http => {
            let http = check.http.as_ref().ok_or("Expecting 'http' to be set for HTTP check")?;
            path(http.path.as_deref(), "check")?;
        }
        Type::Tcp => drop(check.tcp.as_ref().ok_or("Expecting 'tcp' to be set for TCP check")?),
        Type::Unknown => return Err("'UNKNOWN' is not a valid check type".to_owned()),
    }
    times(&[
        ("delay_seconds", check.delay_seconds()),
        ("interval_seconds", check.interval_seconds()),
        ("timeout_seconds", check.timeout_seconds()),
    ])
}

pub(crate) fn health_check(check: &HealthCheck) -> Result<(), String> {
    use health_check::Type;
    let kind =
        check.r#type.and_then(|kind| Type::try_from(kind).ok()).ok_or("HealthCheck must specify 'type'")?;
    match kind {
        Type::Command => {
            let inner =
                check.command.as_ref().ok_or("Expecting 'command' to be set for COMMAND health check")?;
            command(inner, "Command health check", "Health check's")?;
        }
        Type::Http => {
            let http = check.http.as_ref().ok_or("Expecting 'http' to be set for HTTP health check")?;
            if let Some(scheme) = http.scheme.as_deref().filter(|scheme| !matches!(*scheme, "http" | "https"))
            {
                return Err(format!("Unsupported HTTP health check scheme: '{scheme}'"));
            }
            path(http.path.as_deref(), "health check")?;
        }
        Type::Tcp => drop(check.tcp.as_ref().ok_or("Expecting 'tcp' to be set for TCP health check")?),
        Type::Unknown => return Err("'UNKNOWN' is not a valid health check type".to_owned()),
    }
    times(&[
        ("delay_seconds", check.delay_seconds()),
        ("grace_period_seconds", check.grace_period_seconds()),
        ("interval_seconds", check.interval_seconds()),
        ("timeout_seconds", check.timeout_seconds()),
    ])
}

fn command(command: &CommandInfo, what: &str, whose: &str) -> Result<(), String> {
    if command.value.is_none() {
        let missing = if command.shell() { "'shell command'" } else { "'executable path'" };
        return Err(format!("{what} must contain {missing}"));
    }
    validate_command(command).map_err(|error| format!("{whose} `CommandInfo` is invalid: {error}"))
}

fn path(path: Option<&str>, what: &str) -> Result<(), String> {
    match path {
        Some(path) if !path.starts_with('/') => {
            Err(format!("The path '{path}' of HTTP {what} must start with '/'"))
        }
        _ => Ok(()),
    }
}

fn times(times: &[(&str, f64)]) -> Result<(), String> {
    match times.iter().find(|(_, seconds)| *seconds < 0.0) {
        Some((name, _)) => Err(format!("Expecting '{name}' to be non-negative")),
        None => Ok(()),
    }
}
