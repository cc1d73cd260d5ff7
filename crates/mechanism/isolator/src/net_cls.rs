// SPDX-License-Identifier: Apache-2.0
//! Marks for packets (`--cgroups_net_cls_primary_handle`): each container gets the lowest secondary handle that no group
//! has. Which ones are taken stands in the groups themselves, so nothing else is kept, and a new agent finds it there.

use berth_cgroup::{Group, Hierarchies};
use berth_launcher::{Error, Result};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The handles that an operator gives to containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handles {
    /// The upper half of all marks.
    pub primary: u16,
    /// The least lower half.
    pub first: u16,
    /// The largest lower half.
    pub last: u16,
}

impl Handles {
    /// From the two flags.
    ///
    /// # Errors
    /// They are no numbers of 16 bits, or no range; in Mesos's words.
    pub fn parse(primary: &str, secondary: Option<&str>) -> std::result::Result<Handles, String> {
        let number = |text: &str| -> std::result::Result<u16, String> {
            let (digits, radix) = match text.strip_prefix("0x") {
                Some(hex) => (hex, 16),
                None => (text, 10),
            };
            u16::from_str_radix(digits, radix)
                .map_err(|_| format!("'{text}' is not a number of 16 bits, such as 0x12"))
        };
        let primary = number(primary).map_err(|why| {
            format!("Failed to parse the primary handle '{primary}' set in flag --cgroups_net_cls_primary_handle: {why}")
        })?;
        let (first, last) = match secondary {
            None => (1, u16::MAX),
            Some(text) => {
                let failed = |why: &str| {
                    format!(
                        "Failed to parse the range of secondary handles '{text}' set in flag --cgroups_net_cls_secondary_handles: {why}"
                    )
                };
                let (first, last) = text.split_once(',').ok_or_else(|| failed("write it as 0xA,0xB"))?;
                let (first, last) =
                    (number(first).map_err(|why| failed(&why))?, number(last).map_err(|why| failed(&why))?);
                if first == 0 || first > last {
                    return Err(failed("the first has to be at least 1 and at most the last"));
                }
                (first, last)
            }
        };
        Ok(Handles { primary, first, last })
    }
}

/// Gives them out.
#[derive(Debug)]
pub(crate) struct Marks {
    handles: Handles,
    /// Given to groups that may not be there yet; what is there is looked for.
    given: Mutex<BTreeSet<u32>>,
}

impl Marks {
    pub(crate) fn new(handles: Handles) -> Marks {
        Marks { handles, given: Mutex::default() }
    }

    /// A mark for a new group. The one given to `made` is free for its group once that is there.
    ///
    /// # Errors
    /// All are taken.
    pub(crate) fn next(&self, hierarchies: &Hierarchies, group: &str) -> Result<u32> {
        let base = group.rsplit_once('/').map_or("", |(base, _)| base);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = hierarchies.list(base).map_err(crate::cgroups::failed)?;
        let mark = |id: &String| {
            Group::open(hierarchies, &format!("{base}/{id}")).ok()?.limits_applied().net_classid
        };
        let there: BTreeSet<u32> = groups.iter().filter_map(mark).collect();
        let all = (self.handles.first..=self.handles.last)
            .map(|secondary| u32::from(self.handles.primary) << 16 | u32::from(secondary));
        let free = all.into_iter().find(|mark| !there.contains(mark) && !given.contains(mark));
        let Some(mark) = free else {
            return Err(Error::mechanism(
                "mark the container's packets",
                berth_model::Class::Exhausted,
                std::io::Error::other(format!(
                    "all handles from {:#x} to {:#x} are taken: give more in --cgroups_net_cls_secondary_handles",
                    self.handles.first, self.handles.last
                )),
            ));
        };
        given.insert(mark);
        Ok(mark)
    }

    /// The group is there with its mark, or is not going to be.
    pub(crate) fn settle(&self, mark: u32) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(&mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_cgroup::{Limits, Mode};

    #[test]
    fn handles_are_read_as_mesos_does() {
        let all = Handles { primary: 0x12, first: 1, last: 0xffff };
        assert_eq!(Handles::parse("0x12", None), Ok(all));
        assert_eq!(Handles::parse("18", Some("0xA,0xB")), Ok(Handles { first: 10, last: 11, ..all }));
        for (primary, secondary) in
            [("0x10000", None), ("x", None), ("1", Some("5")), ("1", Some("0,5")), ("1", Some("6,5"))]
        {
            assert!(Handles::parse(primary, secondary).is_err(), "{primary} {secondary:?}");
        }
    }

    #[test]
    fn the_lowest_free_handle_is_given_and_one_that_stands_in_a_group_is_taken() {
        let root = std::env::temp_dir().join(format!("berth-marks-{}", std::process::id()));
        std::fs::create_dir_all(root.join("net_cls")).unwrap();
        let hierarchies = Hierarchies::stand_in(&root, Mode::V1).unwrap();
        let marks = Marks::new(Handles { primary: 1, first: 5, last: 7 });
        let make = |name: &str, mark| {
            let limits = Limits { net_classid: Some(mark), ..Limits::default() };
            Group::create(&hierarchies, name, &[], &limits).unwrap()
        };
        make("b/one", 0x1_0005);
        assert_eq!(marks.next(&hierarchies, "b/two").unwrap(), 0x1_0006);
        assert_eq!(marks.next(&hierarchies, "b/three").unwrap(), 0x1_0007);
        let error = marks.next(&hierarchies, "b/four").unwrap_err();
        assert_eq!(error.class(), berth_model::Class::Exhausted);
        marks.settle(0x1_0006);
        assert_eq!(marks.next(&hierarchies, "b/four").unwrap(), 0x1_0006);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
