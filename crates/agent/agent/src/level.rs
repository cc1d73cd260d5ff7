// SPDX-License-Identifier: Apache-2.0
//! How much is logged: what the configuration says, and for a while more, when somebody asks.
//!
//! Mesos counts verbosity from 0. Here 0 is the configured level, 1 is debug and everything above is trace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_config::log::{Level, LogControl};

use crate::table::lock;
use crate::tasks::Tasks;

/// The level of this process's log, if the agent has a say in it.
#[derive(Debug, Clone)]
pub(crate) struct LogLevel {
    control: Option<LogControl>,
    configured: Arc<Mutex<Level>>,
    /// Counts changes, so that an older one does not end a newer one.
    change: Arc<AtomicU64>,
}

impl LogLevel {
    pub(crate) fn new(control: Option<LogControl>, configured: Level) -> LogLevel {
        LogLevel { control, configured: Arc::new(Mutex::new(configured)), change: Arc::default() }
    }

    /// The verbosity in force.
    pub(crate) fn get(&self) -> u32 {
        let level = self.control.as_ref().map_or_else(|| *lock(&self.configured), LogControl::level);
        match level {
            _ if level == *lock(&self.configured) => 0,
            Level::Trace => 2,
            Level::Debug => 1,
            Level::Info | Level::Warn | Level::Error => 0,
        }
    }

    /// Logs so much, for so long.
    pub(crate) fn set(&self, verbosity: u32, time: Duration, tasks: &Tasks) {
        let configured = *lock(&self.configured);
        let level = match verbosity {
            0 => configured,
            1 => configured.max(Level::Debug),
            _ => Level::Trace,
        };
        let number = self.apply(level);
        if level != configured {
            let all = self.clone();
            tasks.spawn(async move {
                tokio::time::sleep(time).await;
                if all.change.load(Ordering::SeqCst) == number {
                    all.apply(*lock(&all.configured));
                }
            });
        }
    }

    /// The configuration says something else now.
    pub(crate) fn configure(&self, level: Level) {
        *lock(&self.configured) = level;
        self.apply(level);
    }

    fn apply(&self, level: Level) -> u64 {
        let number = self.change.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(control) = &self.control {
            control.set_level(level);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_config::log::{Format, Logging, Sink};

    #[tokio::test(start_paused = true)]
    async fn more_is_logged_for_a_while_and_a_newer_wish_replaces_an_older_one() {
        let (_sink, control) =
            Sink::new(Logging { level: Level::Info, format: Format::Text }, std::io::sink());
        let (level, tasks) = (LogLevel::new(Some(control.clone()), Level::Info), Tasks::new());
        level.set(1, Duration::from_secs(10), &tasks);
        assert_eq!((level.get(), control.level()), (1, Level::Debug));
        tokio::time::sleep(Duration::from_secs(5)).await;
        level.set(9, Duration::from_secs(10), &tasks);
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(
            (level.get(), control.level()),
            (2, Level::Trace),
            "the first wish has ended, not the second"
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!((level.get(), control.level()), (0, Level::Info));
        level.configure(Level::Debug);
        assert_eq!((level.get(), control.level()), (0, Level::Debug));
    }
}
