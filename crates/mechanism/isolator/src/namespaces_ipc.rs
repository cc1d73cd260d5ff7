// SPDX-License-Identifier: Apache-2.0
//! `namespaces/ipc`: System V IPC and message queues of its own, and a /dev/shm of its own with a root file system of
//! its own (mounted by `filesystem/mounts`). `shm_size` is in MB and only with `PRIVATE`.

use crate::Settings;
use berth_launcher::{Container, Error, Isolator, Plan, Result};
use berth_model::IpcMode;
use berth_sys::process::Namespaces;

struct Ipc;

pub(crate) fn make(_: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Ipc))
}

impl Isolator for Ipc {
    fn name(&self) -> &'static str {
        "namespaces/ipc"
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let mode = container.linux().and_then(|l| l.ipc_mode);
        let sized = container.linux().and_then(|l| l.shm_size).is_some();
        if sized && mode != Some(IpcMode::Private) {
            return Err(Error::Invalid(
                "Only support specifying the size of /dev/shm when the IPC mode is `PRIVATE`".to_owned(),
            ));
        }
        // Unset is its own for one at the top, and the parent's for one in another.
        let unset = if container.within.is_some() { IpcMode::ShareParent } else { IpcMode::Private };
        if mode.unwrap_or(unset) != IpcMode::ShareParent {
            plan.namespaces(Namespaces::IPC);
        }
        Ok(())
    }
}
