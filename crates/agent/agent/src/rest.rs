// SPDX-License-Identifier: Apache-2.0
//! What an agent gives back to the kernel when nothing has happened for a while.
//!
//! glibc keeps what a thread frees for that thread, up to seven chunks of each size, and each of them holds the page that it
//! is in: 1.6 MiB after a few thousand launches, on the threads of the runtime, which never end. Only its own thread can take
//! such a chunk, so each one does when it goes to sleep the next time, and another frees them and ends.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use berth_sys::memory::{self, Cached};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::events::Events;
use crate::table::lock;

/// So long nothing has to happen to a container: longer than threads without work stay.
const QUIET: Duration = Duration::from_millis(4500);

/// How long threads have to come by: one that is busy does not, and what comes late is freed the next time.
const COMING: Duration = Duration::from_millis(50);

/// Counts how often all threads were asked.
static ROUND: AtomicU64 = AtomicU64::new(0);
static TAKEN: Mutex<Vec<Cached>> = Mutex::new(Vec::new());

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// What a thread of the runtime does before it sleeps.
pub(crate) fn parks() {
    let round = ROUND.load(Ordering::Relaxed);
    if SEEN.replace(round) != round {
        lock(&TAKEN).push(memory::take_cached());
    }
}

/// Gives back each time that it has become quiet. Costs nothing as long as nothing happens.
pub(crate) async fn rest(events: Arc<Events>) {
    let mut news = events.news();
    while news.changed().await.is_ok() {
        loop {
            let last = *news.borrow_and_update();
            sleep(QUIET).await;
            if *news.borrow() == last {
                break;
            }
        }
        give_back().await;
    }
}

async fn give_back() {
    ROUND.fetch_add(1, Ordering::Relaxed);
    // Each wakes a thread that sleeps.
    for _ in 0..Handle::current().metrics().num_workers() {
        tokio::spawn(async {});
    }
    sleep(COMING).await;
    let taken = std::mem::take(&mut *lock(&TAKEN));
    // What a thread has freed is nobody's when it has ended. Without threads it is done the next time.
    let _ = thread::Builder::new().spawn(move || {
        if let Ok(thread) = thread::Builder::new().spawn(move || drop(taken)) {
            let _ = thread.join();
        }
        memory::give_back();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::thread::ThreadId;

    /// Addresses of seven chunks of a size, which are freed again.
    fn addresses() -> BTreeSet<usize> {
        let chunks: Vec<Vec<u8>> = (0..7).map(|_| Vec::with_capacity(1000)).collect();
        chunks.iter().map(|chunk| chunk.as_ptr().addr()).collect()
    }

    #[test]
    fn what_a_thread_has_freed_is_not_its_own_any_more_when_it_was_taken() {
        thread::spawn(|| {
            let freed = addresses();
            assert_eq!(addresses(), freed, "they are kept for this thread");
            let taken = memory::take_cached();
            assert!(addresses().is_disjoint(&freed));
            drop(taken);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn each_thread_of_a_runtime_is_asked_and_nothing_that_was_taken_stays() {
        static PARKED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let name = |id: ThreadId| format!("{id:?}");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_park(move || {
                let (before, round) = (SEEN.get(), ROUND.load(Ordering::Relaxed));
                parks();
                if before != round {
                    lock(&PARKED).insert(name(thread::current().id()));
                }
            })
            .build()
            .unwrap();
        runtime.block_on(async {
            for _ in 0..100 {
                give_back().await;
                if lock(&PARKED).len() == 2 {
                    return;
                }
            }
            panic!("of two threads these were asked: {:?}", lock(&PARKED));
        });
        drop(runtime);
        let left = std::mem::take(&mut *lock(&TAKEN)).len();
        assert!(left <= 2, "{left} threads came too late");
    }
}
