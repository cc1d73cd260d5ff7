// SPDX-License-Identifier: Apache-2.0
//! A supervisor with its child that are made before there is a container for them. Executing the one and making the
//! namespaces of the other is more than a third of the time until a program runs, and needs nothing of what it is.
//!
//! While containers are being launched there is one for the next that wants the same namespaces, of [`SHAPES`] at most. It
//! is made when no launch is under way, and goes when [`LASTS`] have passed. A namespace that is made begins with some
//! settings of the host (sysctls, host name): a spare one's are as old as it is. It ends with this process, as every
//! supervisor does before its container runs.

use berth_launcher::Supervisor;
use berth_sys::process::Namespaces;
use std::ffi::CStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long it stays.
const LASTS: Duration = Duration::from_secs(5);
/// How long no launch has been under way when it is made.
const QUIET: Duration = Duration::from_millis(3);
/// For how many kinds of containers, which differ in their namespaces, there is one.
const SHAPES: usize = 2;

/// Makes and keeps it. Dropped, it is gone, and its thread too.
#[derive(Default)]
pub(crate) struct Spares {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    spares: Vec<Spare>,
    /// Of which there is to be one.
    wanted: Vec<Namespaces>,
    /// Launches under way.
    launching: usize,
    /// Since when there is none.
    quiet: Option<Instant>,
    /// There is a thread that sees to it.
    tended: bool,
    closing: bool,
}

struct Spare {
    supervisor: Supervisor,
    namespaces: Namespaces,
    end: Instant,
}

/// A launch that is under way.
pub(crate) struct Launching<'a>(&'a Spares);

impl Drop for Launching<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.shared.lock();
        inner.launching -= 1;
        if inner.launching > 0 {
            return;
        }
        inner.quiet = Some(Instant::now());
        if inner.wanted.is_empty() {
            return;
        }
        let tended = std::mem::replace(&mut inner.tended, true);
        drop(inner);
        match tended {
            true => self.0.shared.changed.notify_all(),
            false => self.0.start(),
        }
    }
}

impl Spares {
    /// A launch begins.
    pub(crate) fn launching(&self) -> Launching<'_> {
        self.shared.lock().launching += 1;
        Launching(self)
    }

    /// One for a container of that name with these namespaces, if there is one.
    pub(crate) fn take(&self, namespaces: Namespaces, title: &CStr) -> Option<Supervisor> {
        let mut inner = self.shared.lock();
        let found = inner.spares.iter().position(|spare| spare.namespaces == namespaces);
        let found = found.map(|at| inner.spares.swap_remove(at));
        if !inner.wanted.contains(&namespaces) && inner.wanted.len() + inner.spares.len() < SHAPES {
            inner.wanted.push(namespaces);
        }
        drop(inner);
        let mut supervisor = found?.supervisor;
        if !supervisor.is_there() {
            // Somebody has ended it.
            supervisor.abort();
            return None;
        }
        supervisor.name(title);
        Some(supervisor)
    }

    /// Without a thread there are no spare ones, and nothing else is different.
    fn start(&self) {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("spare".to_owned()).spawn(move || shared.tend());
        match thread {
            // The one before has ended, or is about to.
            Ok(thread) => *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread),
            Err(_) => self.shared.lock().tended = false,
        }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what is wanted and ends what has lasted, until there is neither.
    fn tend(&self) {
        let mut inner = self.lock();
        loop {
            let now = Instant::now();
            let closing = inner.closing;
            let mut over: Vec<Spare> =
                inner.spares.extract_if(.., |spare| closing || spare.end <= now).collect();
            if !over.is_empty() {
                drop(inner);
                over.drain(..).for_each(|spare| spare.supervisor.abort());
                inner = self.lock();
                continue;
            }
            let next = inner.spares.iter().map(|spare| spare.end - now).min();
            let quiet = inner.quiet.map_or(QUIET, |since| now - since);
            match (closing, inner.wanted.first().copied()) {
                (true, _) => break,
                (_, Some(namespaces)) if inner.launching == 0 && quiet >= QUIET => {
                    drop(inner);
                    let made = Supervisor::spare(namespaces);
                    inner = self.lock();
                    inner.wanted.retain(|wanted| *wanted != namespaces);
                    // Out of processes or memory: launches say so.
                    if let Ok(supervisor) = made {
                        inner.spares.push(Spare { supervisor, namespaces, end: Instant::now() + LASTS });
                    }
                }
                (_, Some(_)) if inner.launching == 0 => inner = self.wait(inner, QUIET - quiet),
                (_, Some(_)) => inner = self.wait(inner, next.unwrap_or(LASTS)),
                (_, None) => match next {
                    Some(next) => inner = self.wait(inner, next),
                    None => break,
                },
            }
        }
        inner.tended = false;
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, time: Duration) -> MutexGuard<'a, Inner> {
        self.changed.wait_timeout(inner, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sys::rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};

    const SHAPE: Namespaces = Namespaces::MOUNT.and(Namespaces::PID).and(Namespaces::NET);

    fn is_root() -> bool {
        if !geteuid().is_root() {
            println!("skipped: namespaces need root");
        }
        geteuid().is_root()
    }

    /// A launch, and what it finds.
    fn launch(spares: &Spares, namespaces: Namespaces) -> Option<Supervisor> {
        let _launching = spares.launching();
        spares.take(namespaces, c"a-container")
    }

    /// Waits for it, and fails when it does not come.
    fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + LASTS + Duration::from_secs(10);
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn made(spares: &Spares, count: usize) -> Vec<i32> {
        until("so many are there", || {
            let pids: Vec<_> = spares.shared.lock().spares.iter().map(|s| s.supervisor.pid()).collect();
            (pids.len() == count).then_some(pids)
        })
    }

    fn is_there(pid: i32) -> bool {
        test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
    }

    #[test]
    fn there_is_one_for_the_next_of_each_shape_and_none_when_nobody_launches() {
        if !is_root() {
            return;
        }
        let spares = Spares::default();
        assert!(launch(&spares, SHAPE).is_none());
        let [first] = made(&spares, 1)[..] else { unreachable!() };
        assert!(launch(&spares, Namespaces::PID).is_none(), "of another shape");
        made(&spares, 2);
        assert!(launch(&spares, Namespaces::IPC).is_none(), "of a third");
        let taken = launch(&spares, SHAPE).unwrap();
        assert_eq!(taken.pid(), first);
        assert!(matches!(taken.next(), berth_launcher::Event::Forked { pid: 1.., .. }));
        let name = std::fs::read_to_string(format!("/proc/{first}/cmdline")).unwrap();
        assert_eq!(name.trim_end_matches('\0'), "berth-init\0spare");
        taken.abort();
        let all = made(&spares, 2);
        assert!(all.iter().all(|pid| is_there(*pid)));
        // All of it goes by itself.
        until("nobody tends any more", || (!spares.shared.lock().tended).then_some(()));
        assert!(!all.iter().any(|pid| is_there(*pid)));
    }

    #[test]
    fn one_that_was_killed_is_not_taken_and_dropping_ends_all() {
        if !is_root() {
            return;
        }
        let spares = Spares::default();
        assert!(launch(&spares, SHAPE).is_none());
        let [killed] = made(&spares, 1)[..] else { unreachable!() };
        kill_process(Pid::from_raw(killed).unwrap(), Signal::KILL).unwrap();
        until("it has ended", || (!spares.shared.lock().spares[0].supervisor.is_there()).then_some(()));
        assert!(launch(&spares, SHAPE).is_none());
        let [second] = made(&spares, 1)[..] else { unreachable!() };
        assert!(is_there(second));
        drop(spares);
        assert!(!is_there(second));
    }
}
