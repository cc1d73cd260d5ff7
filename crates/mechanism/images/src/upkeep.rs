// SPDX-License-Identifier: Apache-2.0
//! What an agent does for its store without being asked: what was pulled reaches the disk, and what nobody uses goes
//! when the disk fills.
//!
//! A pull syncs nothing: its container would wait for the disk. Until somebody does, a crash of the machine costs the
//! layers of the last seconds (they are dropped at the next opening, and pulled again), and the kernel may have written
//! a record's name before its bytes. So a moment after a pull all of it is synced, by a thread that sleeps otherwise:
//! what is pulled in that moment comes along, and does not put it off.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use berth_store::{Pruned, Watermarks};

use crate::error::Result;
use crate::images::Images;

/// From a pull until it is synced: long enough for the next to come along, and for its container to start first.
const SETTLE: Duration = Duration::from_secs(5);

/// When unused images are collected (`--image_gc_config`).
#[derive(Debug, Clone)]
pub struct Collecting {
    /// How full the disk may be.
    pub marks: Watermarks,
    /// How often that is looked at.
    pub every: Duration,
}

/// What was done.
#[derive(Debug)]
pub enum Upkept {
    /// Images were collected.
    Collected(Pruned),
    /// Something could not be done, and will be tried again.
    Failed(crate::ImagesError),
}

/// Tells the thread of pulls. Without one nobody listens.
#[derive(Debug, Default)]
pub(crate) struct Bell(Mutex<Option<Sender<()>>>);

impl Bell {
    /// Something was pulled.
    pub(crate) fn ring(&self) {
        if let Some(thread) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // It lives as long as the images do, and this is theirs.
            let _ = thread.send(());
        }
    }
}

impl Images {
    /// Begins to look after the store, as long as these images are there; `report` is told on that thread.
    ///
    /// # Errors
    /// There is no memory or process left for a thread.
    pub fn look_after(
        self: &Arc<Self>,
        collecting: Option<Collecting>,
        report: impl Fn(&Upkept) + Send + 'static,
    ) -> std::io::Result<()> {
        let (bell, rung) = channel();
        let images = Arc::downgrade(self);
        let run = move || Upkeep { images, rung, collecting, report }.run();
        std::thread::Builder::new().name("images".to_owned()).stack_size(256 << 10).spawn(run)?;
        *self.bell().0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bell);
        Ok(())
    }
}

struct Upkeep<F> {
    images: Weak<Images>,
    rung: Receiver<()>,
    collecting: Option<Collecting>,
    report: F,
}

impl<F: Fn(&Upkept)> Upkeep<F> {
    fn run(self) {
        let every = self.collecting.as_ref().map(|collecting| collecting.every);
        // What an agent that was killed, or a command, has pulled before.
        let mut sync = Some(Instant::now() + SETTLE);
        let mut collect = every.map(|every| Instant::now() + every);
        loop {
            let next = [sync, collect].into_iter().flatten().min();
            match next {
                None => match self.rung.recv() {
                    Ok(()) => sync = Some(Instant::now() + SETTLE),
                    Err(_) => return,
                },
                Some(next) => match self.rung.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(()) => sync = sync.or(Some(Instant::now() + SETTLE)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            }
            let due = |when: Option<Instant>| when.is_some_and(|when| when <= Instant::now());
            let Some(images) = self.images.upgrade() else { return };
            // Nothing is made for it: where there is no store there is nothing to be done.
            if !images.settings().store.exists() {
                sync = sync.filter(|_| !due(sync));
                collect = collect.zip(every).map(|(at, every)| if due(Some(at)) { at + every } else { at });
                continue;
            }
            if due(sync) {
                sync = None;
                if let Err(error) = images.store().and_then(|store| Ok(store.sync()?)) {
                    (self.report)(&Upkept::Failed(error));
                    sync = Some(Instant::now() + SETTLE * 12);
                }
            }
            if let (true, Some(collecting)) = (due(collect), &self.collecting) {
                collect = Some(Instant::now() + collecting.every);
                match collect_once(&images, &collecting.marks) {
                    Ok(None) => {}
                    Ok(Some(pruned)) => (self.report)(&Upkept::Collected(pruned)),
                    Err(error) => (self.report)(&Upkept::Failed(error)),
                }
            }
        }
    }
}

fn collect_once(images: &Images, marks: &Watermarks) -> Result<Option<Pruned>> {
    Ok(images.store()?.collect(marks)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn the_thread_ends_with_the_images_and_makes_no_store() {
        let dir = tempfile::tempdir().unwrap();
        let images = Arc::new(Images::new(Settings::new(dir.path().join("store"))));
        let collecting = Collecting { marks: Watermarks::default(), every: Duration::from_millis(1) };
        let (alive, ended) = channel::<()>();
        images
            .look_after(Some(collecting), move |_| {
                let _ = alive.send(());
            })
            .unwrap();
        images.bell().ring();
        std::thread::sleep(Duration::from_millis(20));
        drop(images);
        // Its report goes with it: nothing was reported, and nothing can be any more.
        assert!(matches!(ended.recv_timeout(Duration::from_secs(10)), Err(RecvTimeoutError::Disconnected)));
        assert!(!dir.path().join("store").exists());
    }

    #[test]
    fn a_full_disk_is_collected_without_being_asked() {
        let dir = tempfile::tempdir().unwrap();
        let images = Arc::new(Images::new(Settings::new(dir.path().join("store"))));
        images.store().unwrap();
        // Any disk is fuller than this.
        let marks = Watermarks { high: -1.0, low: -1.0, excluded: Vec::new() };
        let (tell, told) = channel();
        let collecting = Collecting { marks, every: Duration::from_millis(5) };
        images
            .look_after(Some(collecting), move |upkept| {
                let _ = tell.send(matches!(upkept, Upkept::Collected(_)));
            })
            .unwrap();
        assert!(told.recv_timeout(Duration::from_secs(10)).unwrap());
    }
}
