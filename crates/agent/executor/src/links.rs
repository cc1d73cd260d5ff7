// SPDX-License-Identifier: Apache-2.0
//! `tasks/<task id>` in an executor's sandbox: the sandbox of each task by its name.
//!
//! The sandbox is its tasks' to change, so nothing in it is followed: the directory is opened as one that is no link, and
//! the link is made in it, whatever its path leads to by then.

use std::io;
use std::path::{Path, PathBuf};

use berth_sys::rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use berth_sys::rustix::io::Errno;

const DIRECTORY: &str = "tasks";

/// Makes the link. A task runs without it too.
pub(crate) async fn link(outer: PathBuf, inner: PathBuf, task: String) {
    let made = tokio::task::spawn_blocking(move || {
        make(&outer, &inner, &task).map_err(|error| (outer.join(DIRECTORY).join(&task), error))
    });
    if let Ok(Err((link, error))) = made.await {
        tracing::warn!(link = %link.display(), error = %error, "the link to a task's sandbox can not be made");
    }
}

fn make(outer: &Path, inner: &Path, task: &str) -> io::Result<()> {
    if task.contains('/') || matches!(task, "." | ".." | "") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the task's id is no name of a file"));
    }
    // The same from within, where the sandbox is elsewhere.
    let target =
        inner.strip_prefix(outer).map_or_else(|_| inner.to_owned(), |path| Path::new("..").join(path));
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let sandbox = openat(CWD, outer, flags, Mode::empty())?;
    match mkdirat(&sandbox, DIRECTORY, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = openat(&sandbox, DIRECTORY, flags, Mode::empty())?;
    match symlinkat(target, &directory, task) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_found_by_its_id() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("containers/c1");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("stdout"), "here").unwrap();
        make(outer.path(), &inner, "t").unwrap();
        make(outer.path(), &inner, "t").unwrap();
        assert_eq!(std::fs::read_to_string(outer.path().join("tasks/t/stdout")).unwrap(), "here");
    }

    #[test]
    fn a_task_can_not_lead_it_elsewhere() {
        let outer = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), outer.path().join("tasks")).unwrap();
        assert!(make(outer.path(), &outer.path().join("containers/c1"), "t").is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        for id in ["../t", "..", "", "a/b"] {
            assert!(make(elsewhere.path(), &elsewhere.path().join("c"), id).is_err(), "{id}");
        }
    }
}
