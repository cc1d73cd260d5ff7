// SPDX-License-Identifier: Apache-2.0
//! Ending everything that a call of the program has started and not let go of: its process, what descends from that, and
//! what is in its session. Processes that made a session of their own and whose parent has ended are containers, and are
//! left alone.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal,
};

/// How long those who were killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one of them is waited for before everybody is looked at again: it may hang in the kernel while others fork.
const ROUND: Duration = Duration::from_millis(50);

/// One line of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    pid: u32,
    parent: u32,
    session: u32,
    start: u64,
    dead: bool,
}

/// Kills the session that `leader` leads, and its tree. The leader must not have been reaped yet, or be known to live.
pub(crate) fn kill(leader: u32) {
    let until = Instant::now() + PATIENCE;
    // Nearly always that is all of them.
    if let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    loop {
        // Again and again: whoever forks while we look is found the next time.
        let living: Vec<Row> = members(leader, &table()).into_iter().filter(|row| !row.dead).collect();
        if living.is_empty() || Instant::now() >= until {
            return;
        }
        let killed: Vec<OwnedFd> = living.into_iter().filter_map(kill_one).collect();
        let round = until.min(Instant::now() + ROUND);
        killed.iter().for_each(|one| gone(one, round));
    }
}

/// Who belongs to the leader's session or tree.
fn members(leader: u32, table: &[Row]) -> BTreeSet<Row> {
    let own = std::process::id();
    let mut found: BTreeSet<Row> = BTreeSet::new();
    let mut pids = BTreeSet::from([leader]);
    loop {
        let before = found.len();
        for row in table.iter().filter(|row| row.pid != own && row.pid != 1) {
            if row.pid == leader || row.session == leader || pids.contains(&row.parent) {
                found.insert(*row);
                pids.insert(row.pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// By a descriptor, so that nobody who gets the pid meanwhile is met. None for one that has ended by itself.
fn kill_one(row: Row) -> Option<OwnedFd> {
    let pid = i32::try_from(row.pid).ok().and_then(Pid::from_raw)?;
    let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    read(row.pid).filter(|now| now.start == row.start)?;
    pidfd_send_signal(&fd, Signal::KILL).ok()?;
    Some(fd)
}

/// Waits until a process has ended, for so long.
fn gone(process: &OwnedFd, until: Instant) {
    let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
    // An interruption is as good as an end: everybody is looked at again.
    let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref());
}

/// The process table as it is now or was a moment later: of many who ask at once, one reads it for all, for with hundreds of
/// containers to end, reading it is what takes long.
fn table() -> Arc<Vec<Row>> {
    static LAST: Mutex<Option<(Instant, Arc<Vec<Row>>)>> = Mutex::new(None);
    let asked = Instant::now();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((begun, table)) = &*last
        && *begun >= asked
    {
        return Arc::clone(table);
    }
    let begun = Instant::now();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let rows = entries.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect();
    let table = Arc::new(rows);
    *last = Some((begun, Arc::clone(&table)));
    table
}

fn read(pid: u32) -> Option<Row> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5): the name is in parentheses, may hold anything, and nothing after it holds one.
fn parse(stat: &[u8]) -> Option<Row> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(stat.split(|byte| *byte == b' ').next()?).ok()?.parse().ok()?;
    let rest = std::str::from_utf8(stat.get(close + 2..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Row {
        pid,
        dead: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: u32, parent: u32, session: u32) -> Row {
        Row { pid, parent, session, start: 1, dead: false }
    }

    #[test]
    fn the_tree_and_the_session_are_found_and_nobody_else() {
        // 12 made a group of its own; 13 is of the session but its parent is gone; 14 left both; 20 is a stranger.
        let table = [
            row(13, 1, 10),
            row(12, 11, 12),
            row(11, 10, 10),
            row(10, 5, 10),
            row(14, 1, 14),
            row(20, 5, 20),
        ];
        let pids: Vec<u32> = members(10, &table).into_iter().map(|row| row.pid).collect();
        assert_eq!(pids, [10, 11, 12, 13]);
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_is_no_field() {
        let stat = b"7 (a) b (c)) Z 1 2 3 0 -1 0 0 0 0 0 0 0 0 0 0 0 1 0 99 0 0";
        let row = parse(stat).unwrap();
        assert_eq!((row.pid, row.parent, row.session, row.start, row.dead), (7, 1, 3, 99, true));
        assert_eq!(parse(b"7 (a"), None);
        assert_eq!(parse(b""), None);
    }
}
