// SPDX-License-Identifier: Apache-2.0
//! One flight for many passengers: work that several want at the same time is done once.
//!
//! The work runs in a thread of its own, with a [`Cancel`] of its own that is said when the last who wanted the
//! result has gone: one container's destroy ends its own wait at once and the download only if nobody else waits
//! for it. A result is given to those who waited for it, and not kept: who comes later begins anew.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use berth_image::Cancel;

struct State<V> {
    waiting: usize,
    done: Option<V>,
}

struct Flight<V> {
    state: Mutex<State<V>>,
    changed: Condvar,
    cancel: Cancel,
}

type Table<K, V> = Arc<Mutex<HashMap<K, Arc<Flight<V>>>>>;

/// Work under way, by what it is about. Clones are the same table.
pub struct Flights<K, V> {
    table: Table<K, V>,
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Flights<K, V> {
        Flights { table: Arc::clone(&self.table) }
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Flights<K, V> {
        Flights { table: Arc::default() }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum NoResult {
    /// The caller's own wish.
    #[error("the wait was cancelled")]
    Cancelled,
    /// No thread could be made.
    #[error("start a thread for the work; free memory or raise the limit on processes")]
    Thread(#[source] io::Error),
    /// The work ended without a result: it panicked.
    #[error("the work ended without a result; this is a bug")]
    Lost,
}

impl NoResult {
    /// What kind of failure it is.
    pub fn class(&self) -> berth_model::Class {
        match self {
            NoResult::Cancelled => berth_model::Class::Conflict,
            NoResult::Thread(_) => berth_model::Class::Exhausted,
            NoResult::Lost => berth_model::Class::Internal,
        }
    }
}

impl<K, V> Flights<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The result of the work about `key`: of the one under way, else of `work`, which is started. Leaves as soon as
    /// `cancel` is said.
    pub fn join(
        &self,
        key: K,
        cancel: &Cancel,
        work: impl FnOnce(&Cancel) -> V + Send + 'static,
    ) -> Result<V, NoResult> {
        if cancel.is_cancelled() {
            return Err(NoResult::Cancelled);
        }
        let flight = self.board(&key, work)?;
        let waker = Arc::clone(&flight);
        let hook = cancel.on_cancel(move || {
            // Under the lock, so that nobody is between looking and waiting.
            let _state = locked(&waker.state);
            waker.changed.notify_all();
        });
        let mut state = locked(&flight.state);
        while state.done.is_none() && !cancel.is_cancelled() && state.waiting > 0 {
            state = flight.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let result = match (&state.done, cancel.is_cancelled()) {
            (Some(done), _) => Ok(done.clone()),
            (None, true) => Err(NoResult::Cancelled),
            (None, false) => Err(NoResult::Lost),
        };
        drop(state);
        drop(hook);
        self.leave(&key, &flight);
        result
    }

    /// How many wait for the work about `key`; none when there is none.
    pub fn waiting(&self, key: &K) -> usize {
        locked(&self.table).get(key).map_or(0, |flight| locked(&flight.state).waiting)
    }

    fn board(
        &self,
        key: &K,
        work: impl FnOnce(&Cancel) -> V + Send + 'static,
    ) -> Result<Arc<Flight<V>>, NoResult> {
        let mut table = locked(&self.table);
        if let Some(flight) = table.get(key) {
            let mut state = locked(&flight.state);
            // One that everybody left is being given up; one that is done has said all it will.
            if state.waiting > 0 && state.done.is_none() {
                state.waiting += 1;
                drop(state);
                return Ok(Arc::clone(flight));
            }
        }
        let state = Mutex::new(State { waiting: 1, done: None });
        let flight = Arc::new(Flight { state, changed: Condvar::new(), cancel: Cancel::new() });
        table.insert(key.clone(), Arc::clone(&flight));
        drop(table);
        let landing =
            Landing { table: Arc::clone(&self.table), key: key.clone(), flight: Arc::clone(&flight) };
        let thread = move || {
            let done = work(&landing.flight.cancel);
            locked(&landing.flight.state).done = Some(done);
            drop(landing);
        };
        // When there is no thread, the closure is dropped, and with it the flight leaves the table.
        std::thread::Builder::new()
            .name("berth-flight".to_owned())
            .spawn(thread)
            .map_err(NoResult::Thread)?;
        Ok(flight)
    }

    fn leave(&self, key: &K, flight: &Arc<Flight<V>>) {
        let mut table = locked(&self.table);
        let mut state = locked(&flight.state);
        state.waiting = state.waiting.saturating_sub(1);
        let last = state.waiting == 0;
        drop(state);
        if last && table.get(key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            table.remove(key);
        }
        drop(table);
        if last {
            flight.cancel.cancel();
        }
    }
}

/// What happens when work ends, however it ends.
struct Landing<K: Eq + Hash, V> {
    table: Table<K, V>,
    key: K,
    flight: Arc<Flight<V>>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut table = locked(&self.table);
        if table.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &self.flight)) {
            table.remove(&self.key);
        }
        drop(table);
        let mut state = locked(&self.flight.state);
        if state.done.is_none() {
            state.waiting = 0;
        }
        drop(state);
        self.flight.changed.notify_all();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn many_who_want_the_same_share_one_work() {
        let flights: Flights<&str, u32> = Flights::default();
        let ran = Arc::new(AtomicU32::new(0));
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let threads: Vec<_> = (0..10)
            .map(|_| {
                let (flights, ran, wait) = (flights.clone(), ran.clone(), wait.clone());
                std::thread::spawn(move || {
                    flights.join("a", &Cancel::new(), move |_| {
                        wait.lock().unwrap().recv().ok();
                        ran.fetch_add(1, Ordering::SeqCst)
                    })
                })
            })
            .collect();
        while flights.waiting(&"a") < 10 {
            std::thread::yield_now();
        }
        go.send(()).unwrap();
        for thread in threads {
            assert_eq!(thread.join().unwrap().unwrap(), 0);
        }
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        assert!(flights.table.lock().unwrap().is_empty());
        assert_eq!(flights.join("a", &Cancel::new(), |_| 7).unwrap(), 7);
    }

    #[test]
    fn one_who_leaves_ends_nothing_and_the_last_ends_the_work() {
        let flights: Flights<u8, bool> = Flights::default();
        let (ended, end) = mpsc::channel();
        let cancels = [Cancel::new(), Cancel::new()];
        let threads: Vec<_> = cancels
            .iter()
            .map(|cancel| {
                let (flights, cancel, ended) = (flights.clone(), cancel.clone(), ended.clone());
                std::thread::spawn(move || {
                    flights.join(1, &cancel, move |own| {
                        let cancelled = own.wait(Duration::from_secs(30));
                        ended.send(cancelled).ok();
                        cancelled
                    })
                })
            })
            .collect();
        while flights.waiting(&1) < 2 {
            std::thread::yield_now();
        }
        let mut threads = threads.into_iter();
        cancels[0].cancel();
        assert!(matches!(threads.next().unwrap().join().unwrap(), Err(NoResult::Cancelled)));
        assert!(end.try_recv().is_err(), "the other still waits");
        cancels[1].cancel();
        assert!(matches!(threads.next().unwrap().join().unwrap(), Err(NoResult::Cancelled)));
        assert!(end.recv_timeout(Duration::from_secs(10)).unwrap());
        // Whoever comes now does not get the work that was given up.
        assert!(!flights.join(1, &Cancel::new(), |_| false).unwrap());
    }

    #[test]
    fn work_that_panics_is_lost_and_nobody_waits_for_ever() {
        let flights: Flights<u8, u8> = Flights::default();
        let result = flights.join(1, &Cancel::new(), |_| panic!("this panic is the test's own"));
        assert!(matches!(result, Err(NoResult::Lost)));
        assert_eq!(flights.join(1, &Cancel::new(), |_| 2).unwrap(), 2);
    }
}
