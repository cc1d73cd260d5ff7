// SPDX-License-Identifier: Apache-2.0
//! Users of an unprivileged container: its root is somebody else outside.

use std::fs;

use super::{Error, Line, Result, installed};

/// How many users an unprivileged container has.
pub const USERS: u32 = 65536;
/// The first of them, where root has none of its own.
const BASE: u32 = 100_000;

/// The users from `base` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The container's root.
    pub base: u32,
}

impl IdMap {
    /// Those from `base` on, or root's own by /etc/subuid.
    ///
    /// # Errors
    /// There is no room behind `base`, or root may not have them.
    pub fn find(base: Option<u32>) -> Result<IdMap> {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let files = [("/etc/subuid", read("/etc/subuid")), ("/etc/subgid", read("/etc/subgid"))];
        let base = base
            .or_else(|| ranges(&files[0].1).find(|range| range.1 >= USERS).map(|range| range.0))
            .unwrap_or(BASE);
        if base == 0 || base.checked_add(USERS).is_none() {
            let why = format!("choose a first user above 0 with {USERS} behind it");
            return Err(Error::Setting { key: format!("lxc.idmap from {base}"), why });
        }
        if installed("newuidmap") {
            let given = |text: &str| {
                ranges(text).any(|(first, count)| {
                    first <= base && u64::from(base) + u64::from(USERS) <= u64::from(first) + u64::from(count)
                })
            };
            if let Some((file, _)) = files.iter().find(|(_, text)| !given(text)) {
                return Err(Error::NotMapped { base, file });
            }
        }
        Ok(IdMap { base })
    }

    /// The lines that say so to LXC.
    ///
    /// # Errors
    /// None that can be.
    pub fn lines(self) -> Result<[Line; 2]> {
        let line = |kind| Line::new("lxc.idmap", format!("{kind} 0 {} {USERS}", self.base));
        Ok([line("u")?, line("g")?])
    }
}

/// What root has, by subuid(5).
fn ranges(text: &str) -> impl Iterator<Item = (u32, u32)> {
    text.lines().filter_map(|line| {
        let (base, count) =
            line.strip_prefix("root:").or_else(|| line.strip_prefix("0:"))?.split_once(':')?;
        Some((base.parse().ok()?, count.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_own_users_are_found() {
        let of = |text: &str| ranges(text).collect::<Vec<_>>();
        assert_eq!(of("bob:100000:65536\nroot:200000:65536\n0:1:2\nroot:x:y"), [(200_000, 65536), (1, 2)]);
        assert!(IdMap::find(Some(0)).is_err());
        assert!(IdMap::find(Some(u32::MAX - 5)).is_err());
    }
}
