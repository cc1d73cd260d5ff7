// SPDX-License-Identifier: Apache-2.0
//! LIST_FILES and READ_FILE: sandboxes, by their virtual paths. A sandbox is its container's, so every path in it is
//! resolved by the kernel, beneath the sandbox, and what is opened is looked at before it is read.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, UNIX_EPOCH};

use berth_api::{Refusal, StatusCode};
use berth_proto::agent::response::ReadFile;
use berth_proto::v1::FileInfo;
use rustix::fs::{AtFlags, Dir, OFlags, statat};
use rustix::io::Errno;

use crate::agent::Inner;
use crate::host::moment;
use crate::places::Places;

/// Mesos's bound: 16 pages.
const MOST: u64 = 16 * 4096;
/// More entries than this are no answer that anybody can use.
const ENTRIES: usize = 100_000;

/// A directory, by the path that is asked for and the one that it stands for. Of what is none, the list is empty.
pub(crate) fn list(places: &Places, path: &str, meant: &str) -> Result<Vec<FileInfo>, Refusal> {
    let (container, inner) = places.within(meant).ok_or_else(none)?;
    let dir = match places.open_within(container, inner, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(dir) => dir,
        Err(Errno::NOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(refused(path, error)),
    };
    let failed = |error: Errno| Refusal::failed(format!("list {path}: {error}"));
    let names = Names::read();
    let mut files = Vec::new();
    for entry in Dir::read_from(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if files.len() == ENTRIES {
            let text = format!("'{path}' has more than {ENTRIES} entries; list them on the host");
            return Err(Refusal::bad_request(text));
        }
        // Gone meanwhile.
        let Ok(stat) = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        files.push(FileInfo {
            path: format!("{}/{}", path.trim_end_matches('/'), name.to_string_lossy()),
            nlink: i32::try_from(stat.st_nlink).ok(),
            size: u64::try_from(stat.st_size).ok(),
            mtime: u64::try_from(stat.st_mtime)
                .ok()
                .map(|secs| moment(UNIX_EPOCH + Duration::from_secs(secs))),
            mode: Some(stat.st_mode),
            uid: Some(names.user(stat.st_uid)),
            gid: Some(names.group(stat.st_gid)),
        });
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// A piece of a file.
pub(crate) fn read(
    places: &Places,
    path: &str,
    meant: &str,
    offset: u64,
    length: Option<u64>,
) -> Result<ReadFile, Refusal> {
    let (container, inner) = places.within(meant).ok_or_else(none)?;
    let file = places.open_within(container, inner, OFlags::RDONLY).map_err(|error| refused(path, error))?;
    let file = std::fs::File::from(file);
    let failed = |error: std::io::Error| Refusal::failed(format!("read {path}: {error}"));
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Refusal::bad_request("Cannot read a directory.\n"));
    }
    if !metadata.is_file() {
        return Err(inaccessible(path));
    }
    let size = metadata.size();
    let most = length.unwrap_or(MOST).min(MOST).min(size.saturating_sub(offset));
    let mut data = vec![0; usize::try_from(most).unwrap_or(0)];
    let mut filled = 0;
    while filled < data.len() {
        match file.read_at(&mut data[filled..], offset + filled as u64).map_err(failed)? {
            // It became shorter meanwhile.
            0 => break,
            more => filled += more,
        }
    }
    data.truncate(filled);
    Ok(ReadFile { size, data })
}

/// The path below its container that Mesos's paths of an executor's sandbox stand for: the real one, and the one by
/// the newest run. All others are themselves.
pub(crate) fn meant(agent: &Inner, path: &str) -> String {
    let real = agent.flags.work_dir.join("slaves").join(agent.engine.id());
    let below = real.to_str().and_then(|real| path.strip_prefix(real)).unwrap_or(path);
    let mut parts = below.trim_start_matches('/').splitn(7, '/');
    let mut word = || parts.next().unwrap_or_default();
    let ("frameworks", framework, "executors", executor, "runs", run) =
        (word(), word(), word(), word(), word(), word())
    else {
        return path.to_owned();
    };
    let rest = parts.next().unwrap_or_default();
    let container = match run {
        "latest" => agent.engine.container(framework, executor).map(|id| id.to_string()),
        run => Some(run.to_owned()),
    };
    container.map_or_else(|| path.to_owned(), |container| format!("/containers/{container}/{rest}"))
}

fn none() -> Refusal {
    Refusal::empty(StatusCode::NOT_FOUND)
}

fn inaccessible(path: &str) -> Refusal {
    Refusal::bad_request(format!("'{path}' is inaccessible.\n"))
}

fn refused(path: &str, error: Errno) -> Refusal {
    match error {
        Errno::NOENT | Errno::NOTDIR => none(),
        Errno::XDEV | Errno::LOOP | Errno::ACCESS | Errno::NXIO | Errno::NAMETOOLONG | Errno::INVAL => {
            inaccessible(path)
        }
        error => Refusal::failed(format!("open {path}: {error}")),
    }
}

/// Names of users and groups of this host.
struct Names {
    users: String,
    groups: String,
}

impl Names {
    fn read() -> Names {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Names { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    fn user(&self, id: u32) -> String {
        name_of(&self.users, id)
    }

    fn group(&self, id: u32) -> String {
        name_of(&self.groups, id)
    }
}

/// A line is `name:password:id:…` (passwd(5), group(5)); without one the number is the name.
fn name_of(lines: &str, id: u32) -> String {
    let id = id.to_string();
    let line = lines.lines().find(|line| line.split(':').nth(2) == Some(&*id));
    line.and_then(|line| line.split(':').next()).unwrap_or(&id).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_name_is_its_own() {
        let lines = "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/false\n";
        assert_eq!((name_of(lines, 33), name_of(lines, 3)), ("web".to_owned(), "3".to_owned()));
    }
}
