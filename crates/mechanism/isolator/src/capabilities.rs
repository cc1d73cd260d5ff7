// SPDX-License-Identifier: Apache-2.0
//! `linux/capabilities`: whom the program runs as, and with which capabilities.
//!
//! `bounding_capabilities` and `effective_capabilities` as in Mesos: bounding = asked, else effective, else the
//! default; effective must lie within bounding. Capabilities named as effective are ambient too, so that a
//! program which does not run as root has them; a user other than root has none otherwise. The inheritable set
//! holds nothing but the ambient ones (CVE-2022-29162).
//!
//! The default is Docker's set without MKNOD: the devices controller that makes MKNOD harmless is applied only
//! when MKNOD is asked for (see `cgroups`).
//!
//! Whom a program runs as does not hang on the operator's list of isolators: where that leaves this one out, the user is
//! still changed, and nothing else is done. Root then keeps all capabilities, as with Mesos; who asks for some is refused.

use crate::Settings;
use berth_launcher::wire::Step;
use berth_launcher::{Container, Error, Isolator, Phase, Plan, Result};
use berth_model::{Capabilities, Capability};

pub(crate) const NAME: &str = "linux/capabilities";

/// What a container has when nothing is asked: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, AUDIT_WRITE, SETFCAP.
pub const DEFAULT: u64 = {
    let numbers = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31];
    let mut set = 0u64;
    let mut i = 0;
    while i < numbers.len() {
        set |= 1 << numbers[i];
        i += 1;
    }
    set
};

struct Linux {
    /// Whether capabilities are limited, and not only the user changed.
    limits: bool,
}

pub(crate) fn make(settings: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Linux { limits: is_on(settings) }))
}

/// Whether the operator's list has it.
pub(crate) fn is_on(settings: &Settings) -> bool {
    !settings.without.iter().any(|without| without == NAME)
}

/// The sets that a container ends up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sets {
    pub(crate) bounding: u64,
    pub(crate) permitted: u64,
    pub(crate) ambient: u64,
}

pub(crate) fn sets(container: &Container<'_>) -> Result<Sets> {
    let info = container.linux();
    let bits = |c: &Option<berth_model::CapabilityInfo>| {
        c.as_ref().map(|c| c.capabilities.iter().copied().collect::<Capabilities>().0)
    };
    let (mut effective, bounding) =
        info.map_or((None, None), |i| (bits(&i.effective_capabilities), bits(&i.bounding_capabilities)));
    if let Some(old) = info.and_then(|i| bits(&i.capability_info)) {
        if effective.is_some() {
            return Err(Error::Invalid(
                "Only one of 'capability_info' or 'effective_capabilities' is allowed".to_owned(),
            ));
        }
        effective = Some(old);
    }
    let bounding = bounding.or(effective).unwrap_or(DEFAULT);
    if let Some(effective) = effective
        && effective & !bounding != 0
    {
        return Err(Error::Invalid(format!(
            "Requested capabilities '{}', but only '{}' are allowed",
            list(effective),
            list(bounding)
        )));
    }
    let root = container.user.uid == 0;
    let permitted = effective.unwrap_or(if root { bounding } else { 0 });
    Ok(Sets { bounding, permitted, ambient: if root { 0 } else { effective.unwrap_or(0) } })
}

fn asks(container: &Container<'_>) -> bool {
    container.linux().is_some_and(|info| {
        info.effective_capabilities.is_some()
            || info.bounding_capabilities.is_some()
            || info.capability_info.is_some()
    })
}

fn list(bits: u64) -> String {
    let all = (0..=40u8).filter(|n| bits >> n & 1 == 1).filter_map(Capability::from_number);
    all.map(|c| c.to_string()).collect::<Vec<_>>().join(", ")
}

impl Isolator for Linux {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let sets = sets(container)?;
        let user = container.user;
        if self.limits {
            let bounding = Step::Bounding { capabilities: sets.bounding };
            plan.step(NAME, Phase::Credentials, bounding, "limit the capabilities (prctl PR_CAPBSET_DROP)");
        } else if asks(container) {
            let text = "capabilities need the isolator 'linux/capabilities': add it to --isolation";
            return Err(Error::Unsupported(text.to_owned()));
        }
        let groups: Vec<u8> = user.supplementary.iter().flat_map(|g| g.to_le_bytes()).collect();
        let what = format!("become user {} and group {}", user.uid, user.gid);
        let step = Step::User { uid: user.uid, gid: user.gid, groups: &groups };
        plan.step(NAME, Phase::Credentials, step, what);
        if !self.limits {
            return Ok(());
        }
        let step = Step::Capabilities { permitted: sets.permitted, ambient: sets.ambient };
        plan.step(NAME, Phase::Credentials, step, format!("set capabilities {}", list(sets.permitted)));
        Ok(())
    }

    fn enter(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        self.prepare(container, plan)
    }
}
