// SPDX-License-Identifier: Apache-2.0
//! `namespaces/pid`: a pid namespace of its own, whose processes all end with its first one. The /proc that shows it
//! is mounted by `filesystem/mounts`.

use crate::Settings;
use berth_launcher::{Container, Error, Isolator, Plan, Result};
use berth_sys::process::Namespaces;

struct Pid;

pub(crate) fn make(_: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Pid))
}

impl Isolator for Pid {
    fn name(&self) -> &'static str {
        "namespaces/pid"
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let shared = container.linux().and_then(|l| l.share_pid_namespace) == Some(true);
        if shared && container.within.is_some() {
            // Its processes end with its control group.
            return Ok(());
        }
        if shared {
            // Without a pid namespace nothing ends the container's processes for certain when its first one
            // ends; the freezer that could comes with the cgroup work.
            return Err(Error::Unsupported(
                "sharing the agent's pid namespace with a top-level container is not supported by this version"
                    .to_owned(),
            ));
        }
        plan.namespaces(Namespaces::PID);
        Ok(())
    }
}
