// SPDX-License-Identifier: Apache-2.0
//! What is in the cache, who uses it and what may go: pure bookkeeping.
//!
//! ```text
//!            acquire (new)            finish (good)
//!  nothing ───────────────> pending ────────────────> ready ──> nothing
//!     ^                        │ finish (failed),               evicted when nobody uses it,
//!     └────────────────────────┘ last waiter gone               least recently used first
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use crate::stop::{Bell, Stop};

/// Who fetches what: containers of different users share nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) user: String,
    pub(crate) uri: String,
}

/// One entry, for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(u64);

/// A file of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) executable: bool,
    /// When it was written last: a later time says that somebody got around its mode.
    pub(crate) written: (i64, i64),
}

/// How a download ended.
pub(crate) type Outcome = Result<Ready, String>;

/// Hears how a download ended.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    pub(crate) bell: Bell,
    pub(crate) outcome: Arc<OnceLock<Outcome>>,
    pub(crate) so_far: Arc<SoFar>,
}

/// How far a download has come.
#[derive(Debug, Default)]
pub(crate) struct SoFar {
    pub(crate) bytes: AtomicU64,
    /// 0: not known.
    pub(crate) total: AtomicU64,
}

/// What [`Table::acquire`] found.
#[derive(Debug)]
pub(crate) enum Found {
    Ready(Id, Ready),
    /// Somebody downloads it.
    Pending(Id, Waiter),
    /// The caller is to download it, into a file of this name, and waits like all others.
    New(Id, Waiter, String),
}

#[derive(Debug)]
enum State {
    Pending { waiters: Vec<Waiter>, stop: Stop, so_far: Arc<SoFar> },
    Ready(Ready),
}

#[derive(Debug)]
struct Entry {
    key: Key,
    name: String,
    state: State,
    users: u32,
    reserved: u64,
    used: u64,
}

#[derive(Debug)]
pub(crate) struct Table {
    most: u64,
    ids: HashMap<Key, Id>,
    entries: HashMap<Id, Entry>,
    serial: u64,
    clock: u64,
}

impl Table {
    pub(crate) fn new(most: u64) -> Table {
        Table { most, ids: HashMap::new(), entries: HashMap::new(), serial: 0, clock: 0 }
    }

    /// The file of a key, if it is whole.
    pub(crate) fn ready(&self, key: &Key) -> Option<Ready> {
        match &self.entries.get(self.ids.get(key)?)?.state {
            State::Ready(ready) => Some(ready.clone()),
            State::Pending { .. } => None,
        }
    }

    /// The file is not what it was: whoever uses it still may, but nobody finds it any more. Answers the file to remove.
    pub(crate) fn forget(&mut self, key: &Key) -> Option<String> {
        let id = self.ids.remove(key)?;
        let entry = self.entries.get_mut(&id)?;
        entry.reserved = 0;
        match entry.users {
            0 => self.entries.remove(&id).map(|entry| entry.name),
            _ => None,
        }
    }

    pub(crate) fn acquire(&mut self, key: &Key) -> io::Result<Found> {
        self.clock += 1;
        if let Some(id) = self.ids.get(key).copied()
            && let Some(entry) = self.entries.get_mut(&id)
        {
            entry.used = self.clock;
            match &mut entry.state {
                State::Ready(ready) => {
                    entry.users += 1;
                    return Ok(Found::Ready(id, ready.clone()));
                }
                State::Pending { waiters, stop, so_far } if !stop.is_killed() => {
                    let waiter =
                        Waiter { bell: Bell::new()?, outcome: Arc::default(), so_far: so_far.clone() };
                    waiters.push(waiter.clone());
                    entry.users += 1;
                    return Ok(Found::Pending(id, waiter));
                }
                // It is being given up: a new one takes the key.
                State::Pending { .. } => {}
            }
        }
        let so_far = Arc::<SoFar>::default();
        let waiter = Waiter { bell: Bell::new()?, outcome: Arc::default(), so_far: so_far.clone() };
        let state = State::Pending { waiters: vec![waiter.clone()], stop: Stop::new()?, so_far };
        self.serial += 1;
        let (id, name) = (Id(self.serial), file_name(self.serial, &key.uri));
        let entry =
            Entry { key: key.clone(), name: name.clone(), state, users: 1, reserved: 0, used: self.clock };
        self.ids.insert(key.clone(), id);
        self.entries.insert(id, entry);
        Ok(Found::New(id, waiter, name))
    }

    /// Answers the file to remove, if one goes.
    pub(crate) fn release(&mut self, id: Id) -> Option<String> {
        let entry = self.entries.get_mut(&id)?;
        entry.users = entry.users.saturating_sub(1);
        if entry.users > 0 {
            return None;
        }
        match &entry.state {
            State::Pending { stop, .. } => {
                // Its owner calls `finish` when it has ended.
                stop.kill();
                None
            }
            // Forgotten meanwhile.
            State::Ready(_) if self.ids.get(&entry.key) != Some(&id) => {
                self.entries.remove(&id).map(|entry| entry.name)
            }
            State::Ready(_) => None,
        }
    }

    /// Reserves room; answers the files to remove for that. Nothing goes when it would not be enough.
    pub(crate) fn reserve(&mut self, id: Id, size: u64) -> Result<Vec<String>, String> {
        let free = self.most.saturating_sub(self.in_use());
        let mut victims = Vec::new();
        if size > free {
            let mut unused: Vec<_> = self
                .entries
                .iter()
                .filter(|(_, entry)| entry.users == 0 && matches!(entry.state, State::Ready(_)))
                .map(|(id, entry)| (entry.used, *id, entry.reserved))
                .collect();
            unused.sort_unstable_by_key(|(used, ..)| *used);
            let mut room = free;
            for (_, victim, reserved) in unused {
                if room >= size {
                    break;
                }
                room += reserved;
                victims.push(victim);
            }
            if room < size {
                return Err("Could not free up enough fetcher cache space".into());
            }
        }
        let entry = self.entries.get_mut(&id).ok_or("the entry of the cache is gone")?;
        entry.reserved = size;
        Ok(victims.into_iter().filter_map(|victim| self.remove(victim)).collect())
    }

    /// Tells all who wait. Answers the file to remove, if it is not kept.
    pub(crate) fn finish(&mut self, id: Id, outcome: Outcome) -> Option<String> {
        let entry = self.entries.get_mut(&id)?;
        let State::Pending { waiters, .. } = &mut entry.state else { return None };
        let waiters = std::mem::take(waiters);
        let removed = match &outcome {
            Ok(ready) => {
                entry.reserved = ready.size;
                entry.state = State::Ready(ready.clone());
                None
            }
            Err(_) => self.remove(id),
        };
        for waiter in waiters {
            let _ = waiter.outcome.set(outcome.clone());
            waiter.bell.ring();
        }
        removed
    }

    fn remove(&mut self, id: Id) -> Option<String> {
        let entry = self.entries.remove(&id)?;
        if self.ids.get(&entry.key) == Some(&id) {
            self.ids.remove(&entry.key);
        }
        Some(entry.name)
    }

    fn in_use(&self) -> u64 {
        self.entries.values().map(|entry| entry.reserved).fold(0, u64::saturating_add)
    }

    pub(crate) fn sizes(&self) -> (u64, u64) {
        (self.in_use(), self.most)
    }

    pub(crate) fn stop_of(&self, id: Id) -> Option<Stop> {
        match &self.entries.get(&id)?.state {
            State::Pending { stop, .. } => Some(stop.clone()),
            State::Ready(_) => None,
        }
    }
}

/// `c<serial>-<name>`, as in Mesos: a long name is its first and last ten characters.
fn file_name(serial: u64, uri: &str) -> String {
    let base = uri.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let base: Vec<char> = base.chars().map(plain).collect();
    let short: String = match base.len() {
        0..=20 => base.iter().collect(),
        long => base[..10].iter().chain(&['_']).chain(&base[long - 10..]).collect(),
    };
    format!("c{serial}-{short}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str) -> Key {
        Key { user: "u".into(), uri: uri.into() }
    }

    fn ready(name: &str, size: u64) -> Ready {
        Ready { name: name.into(), size, executable: false, written: (0, 0) }
    }

    /// A whole download of `size` bytes that nobody uses any more.
    fn filled(table: &mut Table, uri: &str, size: u64) -> Vec<String> {
        let Found::New(id, _, name) = table.acquire(&key(uri)).unwrap() else { panic!("new") };
        let victims = table.reserve(id, size).unwrap();
        assert_eq!(table.finish(id, Ok(ready(&name, size))), None);
        assert_eq!(table.release(id), None);
        victims
    }

    #[test]
    fn one_downloads_and_all_hear_of_it() {
        let mut table = Table::new(100);
        let Found::New(id, first, name) =
            table.acquire(&key("http://h/a-file-with-a-long-name.bin")).unwrap()
        else {
            panic!("new")
        };
        assert_eq!(name, "c1-a-file-wit_g-name.bin");
        let Found::Pending(again, second) =
            table.acquire(&key("http://h/a-file-with-a-long-name.bin")).unwrap()
        else {
            panic!("pending")
        };
        assert_eq!(id, again);
        let other = Key { user: "v".into(), ..key("http://h/a-file-with-a-long-name.bin") };
        assert!(matches!(table.acquire(&other).unwrap(), Found::New(..)));
        table.reserve(id, 10).unwrap();
        table.finish(id, Ok(ready(&name, 10)));
        for waiter in [first, second] {
            assert!(waiter.bell.has_rung() && waiter.outcome.get().unwrap().is_ok());
        }
        let found = table.acquire(&key("http://h/a-file-with-a-long-name.bin")).unwrap();
        assert!(matches!(found, Found::Ready(..)));
    }

    #[test]
    fn the_least_recently_used_goes_first_and_only_if_that_is_enough() {
        let mut table = Table::new(100);
        filled(&mut table, "a", 40);
        filled(&mut table, "b", 40);
        let Found::Ready(a, _) = table.acquire(&key("a")).unwrap() else { panic!("ready") };
        table.release(a);
        assert_eq!(filled(&mut table, "c", 30), ["c2-b"]);
        assert_eq!(table.sizes(), (70, 100));
        // `a` is in use, so only `c` could go.
        let Found::Ready(a, _) = table.acquire(&key("a")).unwrap() else { panic!("ready") };
        let Found::New(d, waiter, _) = table.acquire(&key("d")).unwrap() else { panic!("new") };
        let error = table.reserve(d, 70).unwrap_err();
        assert_eq!(error, "Could not free up enough fetcher cache space");
        assert!(table.ready(&key("c")).is_some());
        assert_eq!(table.finish(d, Err(error)), Some("c4-d".into()));
        assert!(waiter.outcome.get().unwrap().is_err());
        table.release(a);
        assert_eq!(filled(&mut table, "e", 100), ["c3-c", "c1-a"]);
    }

    #[test]
    fn a_cache_without_room_refuses_everything() {
        let mut table = Table::new(0);
        let Found::New(id, ..) = table.acquire(&key("a")).unwrap() else { panic!("new") };
        table.reserve(id, 1).unwrap_err();
    }

    #[test]
    fn a_download_that_nobody_waits_for_is_stopped_and_never_joined() {
        let mut table = Table::new(100);
        let Found::New(id, ..) = table.acquire(&key("a")).unwrap() else { panic!("new") };
        let stop = table.stop_of(id).unwrap();
        let Found::Pending(..) = table.acquire(&key("a")).unwrap() else { panic!("pending") };
        table.release(id);
        assert!(!stop.is_killed());
        table.release(id);
        assert!(stop.is_killed());
        let Found::New(other, _, name) = table.acquire(&key("a")).unwrap() else { panic!("new") };
        assert_ne!(id, other);
        // The old one ends: its file goes, and the new one is not disturbed.
        assert_eq!(table.finish(id, Err("stopped".into())), Some("c1-a".into()));
        table.finish(other, Ok(ready(&name, 1)));
        assert!(table.ready(&key("a")).is_some());
    }

    #[test]
    fn a_vanished_file_is_new_again() {
        let mut table = Table::new(100);
        filled(&mut table, "a", 10);
        let Found::Ready(id, _) = table.acquire(&key("a")).unwrap() else { panic!("ready") };
        table.forget(&key("a"));
        assert!(matches!(table.acquire(&key("a")).unwrap(), Found::New(..)));
        assert_eq!(table.release(id), Some("c1-a".into()));
    }

    proptest::proptest! {
        /// Whatever is asked in whatever order, what is reserved never exceeds the bound.
        #[test]
        fn the_bound_holds(steps in proptest::collection::vec((0u8..4, 0u8..5, 0u64..60), 0..60)) {
            let mut table = Table::new(100);
            let mut held: Vec<(Id, Option<String>)> = Vec::new();
            for (step, which, size) in steps {
                match step {
                    0 => match table.acquire(&key(&which.to_string())).unwrap() {
                        Found::New(id, _, name) => {
                            if table.reserve(id, size).is_err() {
                                table.finish(id, Err("full".into()));
                            } else {
                                held.push((id, Some(name)));
                            }
                        }
                        Found::Ready(id, _) | Found::Pending(id, _) => held.push((id, None)),
                    },
                    1 if !held.is_empty() => {
                        let at = usize::from(which) % held.len();
                        let (id, name) = &mut held[at];
                        if let Some(name) = name.take() {
                            let size = table.entries[&*id].reserved;
                            table.finish(*id, Ok(ready(&name, size.min(50))));
                        }
                    }
                    2 if !held.is_empty() => {
                        let (id, _) = held.swap_remove(usize::from(which) % held.len());
                        table.release(id);
                    }
                    _ => {}
                }
                proptest::prop_assert!(table.sizes().0 <= 100);
            }
        }
    }
}
