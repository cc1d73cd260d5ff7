// SPDX-License-Identifier: Apache-2.0
//! What an executor writes down, so that it goes on after a restart of the agent as if there had been none.
//!
//! One file for all its tasks. It is not synced: containers do not survive the machine, and what is written here means
//! nothing without them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_record::{BootId, Error, Sync, Versioned};
use serde::{Deserialize, Serialize};

/// The file.
const NAME: &str = "executor";
/// More than any group of tasks needs.
const LARGEST: usize = 4 << 20;

/// What is written down of one task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// When it ran first. Times are since the machine's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<Duration>,
    /// Its end is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) killing: Option<Killing>,
    /// Its health was good once: failures count from then on.
    pub(crate) was_healthy: bool,
    /// How often in a row its health was bad.
    pub(crate) failures: u32,
    /// The last part of the id of its container, for one in the executor's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<String>,
    /// What launches with it, by the id of the group's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

/// That a task is to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Killing {
    /// Since when.
    pub(crate) since: Duration,
    /// How long it may take before it is ended by force.
    pub(crate) grace: Duration,
    /// Who wants it.
    pub(crate) why: Why,
    /// It was told.
    pub(crate) told: bool,
}

/// Who wants a task to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// The framework, or whoever shuts the executor down.
    Asked,
    /// Its health.
    Health,
    /// It ran for as long as it may.
    Completion,
    /// Another of its group ended badly.
    Group,
}

#[derive(Debug, Serialize, Deserialize)]
struct Book {
    boot: String,
    tasks: BTreeMap<String, Kept>,
}

impl Versioned for Book {
    const KIND: &'static str = "executor";
    const VERSION: u32 = 1;
}

/// The notes of one executor.
#[derive(Debug)]
pub(crate) struct Notes {
    directory: PathBuf,
    written: BTreeMap<String, Kept>,
}

impl Notes {
    /// Reads what was written before. What can not be read is as if it had not been written: the tasks go on, only without
    /// what is known of their kills.
    pub(crate) fn open(directory: &Path) -> Notes {
        let read = || -> Result<Book, Error> {
            let io = |source| Error::Io { what: "open", path: directory.into(), source };
            let opened = File::open(directory).map_err(io)?;
            berth_record::read(opened.as_fd(), NAME, LARGEST)
        };
        let written = match read() {
            Ok(book) => of_this_boot(book),
            Err(Error::Missing { .. }) => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(directory = %directory.display(), error = %error, "the notes of an executor can not be read; it goes on without");
                BTreeMap::new()
            }
        };
        Notes { directory: directory.to_owned(), written }
    }

    /// What was written of a task.
    pub(crate) fn of(&self, task: &str) -> Kept {
        self.written.get(task).cloned().unwrap_or_default()
    }

    /// Writes what is known of a task now, if that is something else. A full disk must not keep a task from being killed:
    /// it goes on, and says so.
    pub(crate) fn keep(&mut self, task: &str, kept: &Kept) {
        self.keep_all([(task, kept)]);
    }

    /// As [`Notes::keep`], of several at once.
    pub(crate) fn keep_all<'a>(&mut self, all: impl IntoIterator<Item = (&'a str, &'a Kept)>) {
        let mut changed = false;
        for (task, kept) in all {
            if self.written.get(task) != Some(kept) {
                self.written.insert(task.to_owned(), kept.clone());
                changed = true;
            }
        }
        if !changed {
            return;
        }
        if let Err(error) = self.write() {
            tracing::warn!(directory = %self.directory.display(), error = %error, "the notes of an executor can not be written; a restart of the agent would forget what it does now");
        }
    }

    /// Nothing is to be known of a task any more.
    pub(crate) fn forget(&mut self, task: &str) {
        if self.written.remove(task).is_some()
            && let Err(error) = self.write()
        {
            tracing::warn!(directory = %self.directory.display(), error = %error, "the notes of an executor can not be written");
        }
    }

    fn write(&self) -> Result<(), Error> {
        let io = |source| Error::Io { what: "open", path: self.directory.clone(), source };
        let opened = File::open(&self.directory).map_err(io)?;
        let book = Book { boot: BootId::current()?.as_str().to_owned(), tasks: self.written.clone() };
        berth_record::write(opened.as_fd(), NAME, &book, Sync::No)
    }
}

/// Times of another life of the machine mean nothing in this one: what had begun then has long passed its deadlines.
fn of_this_boot(book: Book) -> BTreeMap<String, Kept> {
    let same = BootId::current().is_ok_and(|boot| boot.as_str() == book.boot);
    let mut tasks = book.tasks;
    if !same {
        for kept in tasks.values_mut() {
            kept.started = kept.started.map(|_| Duration::ZERO);
            if let Some(killing) = &mut kept.killing {
                (killing.since, killing.grace) = (Duration::ZERO, Duration::ZERO);
            }
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killing() -> Kept {
        let killing = Killing {
            since: Duration::from_secs(7),
            grace: Duration::from_secs(3),
            why: Why::Health,
            told: true,
        };
        Kept { started: Some(Duration::from_secs(5)), killing: Some(killing), ..Kept::default() }
    }

    #[test]
    fn what_was_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut notes = Notes::open(directory.path());
        assert_eq!(notes.of("t"), Kept::default());
        notes.keep("t", &killing());
        notes.keep("u", &Kept { failures: 2, ..Kept::default() });
        let again = Notes::open(directory.path());
        assert_eq!(again.of("t"), killing());
        assert_eq!(again.of("u").failures, 2);
    }

    #[test]
    fn torn_notes_are_as_none() {
        let directory = tempfile::tempdir().unwrap();
        Notes::open(directory.path()).keep("t", &killing());
        let path = directory.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() - 1 {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(Notes::open(directory.path()).of("t"), Kept::default(), "cut at {cut}");
        }
    }

    #[test]
    fn deadlines_of_another_boot_have_passed() {
        let book = Book { boot: "another".to_owned(), tasks: BTreeMap::from([("t".to_owned(), killing())]) };
        let kept = &of_this_boot(book)["t"];
        assert_eq!(kept.started, Some(Duration::ZERO));
        let killing = kept.killing.as_ref().unwrap();
        assert_eq!(
            (killing.since, killing.grace, killing.why),
            (Duration::ZERO, Duration::ZERO, Why::Health)
        );
    }

    #[test]
    fn notes_that_can_not_be_written_change_nothing_else() {
        let mut notes = Notes::open(Path::new("/nonexistent/berth"));
        notes.keep("t", &killing());
        assert_eq!(notes.of("t"), killing());
    }
}
