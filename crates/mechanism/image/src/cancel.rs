// SPDX-License-Identifier: Apache-2.0
//! Stopping a pull from outside, at once.
//!
//! A pull waits on sockets, on other pulls and on its own threads. Each of these either asks often, or leaves a
//! hook that ends its wait (shuts a socket down, wakes a channel): so a container's destroy does not wait for a
//! registry that says nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    cancelled: bool,
    next: u64,
    hooks: BTreeMap<u64, Hook>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A wish to stop that many can look at, and that is never taken back. Clones are the same wish.
#[derive(Clone, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
}

impl Cancel {
    /// Not cancelled.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Says so, and runs every hook that was left. The second time does nothing.
    pub fn cancel(&self) {
        let hooks = {
            let mut state = self.state();
            state.cancelled = true;
            std::mem::take(&mut state.hooks)
        };
        self.shared.changed.notify_all();
        // Outside the lock: a hook may look at this very wish.
        for hook in hooks.into_values() {
            hook();
        }
    }

    /// Whether somebody said so.
    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// Waits for the time given, or until cancelled; answers whether it was. For back-off between tries.
    pub fn wait(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        while !state.cancelled {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Runs `hook` when cancelled (at once if that was before), in the thread that cancels. Dropping the answer
    /// takes the hook back, though one that is running is not waited for.
    #[must_use = "the hook is taken back when this is dropped"]
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) -> CancelHook {
        let mut state = self.state();
        if state.cancelled {
            drop(state);
            hook();
            return CancelHook { cancel: self.clone(), number: u64::MAX };
        }
        let number = state.next;
        state.next += 1;
        state.hooks.insert(number, Box::new(hook));
        drop(state);
        CancelHook { cancel: self.clone(), number }
    }

    /// A wish that is said with this one, and may be said alone.
    pub fn child(&self) -> (Cancel, CancelHook) {
        let child = Cancel::new();
        let to = child.clone();
        let hook = self.on_cancel(move || to.cancel());
        (child, hook)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish()
    }
}

/// A hook left with [`Cancel::on_cancel`]; dropping this takes it back.
#[derive(Debug)]
pub struct CancelHook {
    cancel: Cancel,
    number: u64,
}

impl Drop for CancelHook {
    fn drop(&mut self) {
        let hook = self.cancel.state().hooks.remove(&self.number);
        // Outside the lock, as what it holds may have a say of its own when it goes.
        drop(hook);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn hooks_run_once_and_not_when_taken_back() {
        let (cancel, ran) = (Cancel::new(), Arc::new(AtomicU32::new(0)));
        let hook = |by: u32| {
            let ran = ran.clone();
            move || _ = ran.fetch_add(by, Ordering::SeqCst)
        };
        let kept = cancel.on_cancel(hook(1));
        drop(cancel.on_cancel(hook(10)));
        cancel.cancel();
        cancel.cancel();
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        let late = cancel.on_cancel(hook(100));
        assert_eq!(ran.load(Ordering::SeqCst), 101);
        drop((kept, late));
    }

    #[test]
    fn a_wait_ends_with_the_time_or_the_wish() {
        let cancel = Cancel::new();
        assert!(!cancel.wait(Duration::from_millis(1)));
        let other = cancel.clone();
        let thread = std::thread::spawn(move || other.wait(Duration::from_secs(60)));
        cancel.cancel();
        assert!(thread.join().unwrap());
    }

    #[test]
    fn a_child_follows_its_parent_and_not_the_other_way() {
        let parent = Cancel::new();
        let (alone, hook) = parent.child();
        alone.cancel();
        assert!(!parent.is_cancelled());
        drop(hook);
        let (child, _hook) = parent.child();
        parent.cancel();
        assert!(child.is_cancelled());
    }
}
