// SPDX-License-Identifier: Apache-2.0
//! Named fault points, compiled in with the feature `faults` only. `BERTH_FAULT=<name>=<action>` arms one, with
//! actions `kill` (SIGKILL to this process), `error` (the step fails with EIO) and `delay` (one second; `delay:5` is five).
//!
//! Names: `lock`, `record`, `dirs`, `spawn`, `isolate`, `send`, `forked`, `pid`, `fetch`, `fetched`, `go`, `exited`, `cleanup`, `remove`.

use crate::Result;

/// Reaches a point.
#[cfg(feature = "faults")]
pub(crate) fn point(name: &'static str) -> Result<()> {
    let Some(armed) = std::env::var_os("BERTH_FAULT") else { return Ok(()) };
    let armed = armed.to_string_lossy().into_owned();
    match armed.split_once('=') {
        Some((at, "kill")) if at == name => {
            let _ = berth_sys::rustix::process::kill_process(
                berth_sys::rustix::process::getpid(),
                berth_sys::rustix::process::Signal::KILL,
            );
            Ok(())
        }
        Some((at, action)) if at == name && action.starts_with("delay") => {
            let seconds = action.strip_prefix("delay:").and_then(|text| text.parse().ok());
            std::thread::sleep(std::time::Duration::from_secs(seconds.unwrap_or(1)));
            Ok(())
        }
        Some((at, "error")) if at == name => {
            Err(berth_launcher::Error::io(format!("pass fault point {name}"), berth_sys::Errno::IO).into())
        }
        _ => Ok(()),
    }
}

/// Reaches a point: nothing, in a build for use.
#[cfg(not(feature = "faults"))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as with faults")]
#[inline]
pub(crate) fn point(_: &'static str) -> Result<()> {
    Ok(())
}
