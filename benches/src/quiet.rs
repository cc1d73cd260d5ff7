// SPDX-License-Identifier: Apache-2.0
//! Whether anyone else used the machine meanwhile.
//!
//! A build beside the bench can triple a figure, and the load average tells too late. So each turn is weighed: the
//! processor time of all programs but ours and what descends from us, before and after. A turn in which others ran is taken again when they
//! rest, within limits, and the result says how many were. Threads of the kernel do not count: most of what they
//! do here is the clean-up that our own containers caused.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::procfs;

/// Others may use this share of a turn, or one tick of the clock that counts it.
const TOLERATED: f64 = 0.03;
/// The unit of /proc/PID/stat on every Linux for x86-64 (USER_HZ, proc_pid_stat(5)).
const TICK: Duration = Duration::from_millis(10);
/// The parent of all kernel threads.
const KTHREADD: i32 = 2;

/// The machine at one instant.
#[derive(Debug)]
pub(crate) struct Others {
    since: Instant,
    ticks: HashMap<i32, u64>,
}

impl Others {
    /// Reads the time of every process but this one, those below it and the kernel's.
    pub(crate) fn now() -> Others {
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        let pids = procfs::all().into_iter().filter(|pid| *pid != me && *pid != KTHREADD);
        let all: HashMap<i32, (i32, u64)> = pids.filter_map(|pid| Some((pid, look_at(pid)?))).collect();
        let ours = |pid: i32| below(pid, me, |pid| all.get(&pid).map(|(parent, _)| *parent));
        let ticks = all.iter().filter(|(pid, _)| !ours(**pid)).map(|(pid, (_, ticks))| (*pid, *ticks));
        Others { since: Instant::now(), ticks: ticks.collect() }
    }

    /// Whether others have run since then for longer than can be passed over.
    pub(crate) fn disturbed(&self) -> bool {
        let elapsed = self.since.elapsed();
        let used = used_between(&self.ticks, &Others::now().ticks);
        used > TICK.max(elapsed.mul_f64(TOLERATED))
    }
}

/// What those there after used in between. A process that has ended counts where its parent waited for it.
fn used_between(before: &HashMap<i32, u64>, after: &HashMap<i32, u64>) -> Duration {
    let used = |(pid, now): (&i32, &u64)| now.saturating_sub(before.get(pid).copied().unwrap_or(0));
    let ticks: u64 = after.iter().map(used).sum();
    TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// Whether `ancestor` is among those above `pid`.
fn below(mut pid: i32, ancestor: i32, parent_of: impl Fn(i32) -> Option<i32>) -> bool {
    // Parents are read one after the other, so a reused number could make a circle; no chain is that long.
    for _ in 0..64 {
        match parent_of(pid) {
            Some(parent) if parent == ancestor => return true,
            Some(parent) => pid = parent,
            None => return false,
        }
    }
    false
}

/// Its parent, and user and system time of the process and of the children that it has waited for. None for a kernel
/// thread.
fn look_at(pid: i32) -> Option<(i32, u64)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 4 and 14 to 17 of proc_pid_stat(5), unless the parent is kthreadd.
fn parse(stat: &str) -> Option<(i32, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok().filter(|parent| *parent != KTHREADD)?;
    let ticks: Option<u64> = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum();
    Some((parent, ticks?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_is_its_own_and_that_of_its_children() {
        let stat =
            |parent: i32| format!("7 (a) b) S {parent} 7 7 0 -1 4 0 0 0 0 10 20 300 4000 20 0 1 0 5 0 0");
        assert_eq!(parse(&stat(1)), Some((1, 4330)));
        assert_eq!(parse(&stat(KTHREADD)), None);
        assert_eq!(parse("gone"), None);
    }

    #[test]
    fn new_processes_count_whole_and_old_ones_by_what_they_added() {
        let before = HashMap::from([(1, 100), (3, 5)]);
        let after = HashMap::from([(1, 103), (4, 2)]);
        assert_eq!(used_between(&before, &after), TICK * 5);
        assert_eq!(used_between(&after, &after), Duration::ZERO);
    }

    #[test]
    fn what_descends_from_us_is_ours_at_any_depth() {
        let parents = HashMap::from([(10, 1), (11, 10), (12, 11), (20, 1), (30, 31), (31, 30)]);
        let parent_of = |pid: i32| parents.get(&pid).copied();
        assert!(below(11, 10, parent_of) && below(12, 10, parent_of));
        assert!(!below(10, 10, parent_of) && !below(20, 10, parent_of) && !below(30, 10, parent_of));
    }

    #[test]
    fn what_init_has_used_is_known() {
        assert!(Others::now().ticks.contains_key(&1));
    }
}
