// SPDX-License-Identifier: Apache-2.0
//! `linux/nnp`: no_new_privs (prctl(2)): nothing that the container executes gains privileges by set-user-id bits
//! or file capabilities.

use crate::Settings;
use berth_launcher::wire::Step;
use berth_launcher::{Container, Isolator, Phase, Plan, Result};

const NAME: &str = "linux/nnp";

struct Nnp;

pub(crate) fn make(_: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Nnp))
}

impl Isolator for Nnp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, _: &Container<'_>, plan: &mut Plan) -> Result<()> {
        plan.step(NAME, Phase::Credentials, Step::NoNewPrivileges {}, "set no_new_privs");
        Ok(())
    }

    fn enter(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        self.prepare(container, plan)
    }
}
