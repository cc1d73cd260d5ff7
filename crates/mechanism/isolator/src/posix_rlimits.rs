// SPDX-License-Identifier: Apache-2.0
//! `posix/rlimits`: the limits of setrlimit(2) in `rlimit_info`. Both of soft and hard, or neither for infinity.
//! A hard limit above the host's own needs CAP_SYS_RESOURCE; without it the launch is refused, naming the limit.

use crate::Settings;
use berth_launcher::wire::Step;
use berth_launcher::{Container, Error, Isolator, Phase, Plan, Result};
use berth_model::RLimitType;

const NAME: &str = "posix/rlimits";

struct Rlimits;

pub(crate) fn make(_: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Rlimits))
}

impl Isolator for Rlimits {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let info = container.config.container_info.as_ref().and_then(|i| i.rlimit_info.as_ref());
        for limit in info.iter().flat_map(|i| &i.rlimits) {
            let (soft, hard) = match (limit.soft, limit.hard) {
                (Some(soft), Some(hard)) if soft <= hard => (soft, hard),
                (None, None) => (u64::MAX, u64::MAX),
                (Some(soft), Some(hard)) => {
                    return Err(Error::Invalid(format!(
                        "Invalid rlimit values: {:?} has soft {soft} above hard {hard}; raise hard or lower soft",
                        limit.r#type
                    )));
                }
                _ => {
                    return Err(Error::Invalid(format!(
                        "Invalid rlimit values: {:?} has only one of soft and hard; give both or neither",
                        limit.r#type
                    )));
                }
            };
            let resource = number(limit.r#type).ok_or_else(|| {
                Error::Invalid("Invalid rlimit type: name one of RLMT_AS … RLMT_STACK".to_owned())
            })?;
            let what = format!("set limit {:?} to {soft}:{hard}", limit.r#type);
            plan.step(NAME, Phase::Limits, Step::Limit { resource, soft, hard }, what);
        }
        Ok(())
    }

    fn enter(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        self.prepare(container, plan)
    }
}

/// The kernel's number (include/uapi/asm-generic/resource.h).
fn number(kind: RLimitType) -> Option<u32> {
    Some(match kind {
        RLimitType::Unknown => return None,
        RLimitType::Cpu => 0,
        RLimitType::Fsize => 1,
        RLimitType::Data => 2,
        RLimitType::Stack => 3,
        RLimitType::Core => 4,
        RLimitType::Rss => 5,
        RLimitType::Nproc => 6,
        RLimitType::Nofile => 7,
        RLimitType::Memlock => 8,
        RLimitType::As => 9,
        RLimitType::Locks => 10,
        RLimitType::Sigpending => 11,
        RLimitType::Msgqueue => 12,
        RLimitType::Nice => 13,
        RLimitType::Rtprio => 14,
        RLimitType::Rttime => 15,
    })
}
