// SPDX-License-Identifier: Apache-2.0
//! How many processes, descriptors, watches, namespaces and keys there may be.

use std::fs::File;
use std::io::Read;

use berth_sys::rustix::process::{Resource, getrlimit};

use super::{Found, Probe, Site, Subject};

const fn limit(name: &'static str, cost: &'static str, look: fn(&Site) -> Found) -> Probe {
    Probe { subject: Subject::Limits, name, needed: false, cost, look }
}

/// Enough for a thousand containers of a few processes each, which is what an agent is built for.
pub(super) const PROBES: &[Probe] = &[
    limit("processes of the host", "launches fail when they are used up", |_| {
        least(&["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"], 32_768)
    }),
    limit("processes of this user", "launches fail when they are used up", |_| {
        ulimit(Resource::Nproc, 16_384)
    }),
    limit("descriptors of the agent", "the agent can watch fewer containers", |_| {
        ulimit(Resource::Nofile, 16_384)
    }),
    limit("descriptors of the host", "opening files fails when they are used up", |_| {
        least(&["/proc/sys/fs/file-max"], 65_536)
    }),
    limit("inotify instances", "programs in containers that watch files fail", |_| {
        least(&["/proc/sys/fs/inotify/max_user_instances"], 128)
    }),
    limit("inotify watches", "programs in containers that watch files fail", |_| {
        least(&["/proc/sys/fs/inotify/max_user_watches"], 8_192)
    }),
    limit("mounts of a namespace", "launches fail when they are used up", |_| {
        least(&["/proc/sys/fs/mount-max"], 10_000)
    }),
    limit("network namespaces", "launches fail when they are used up", |_| {
        least(&["/proc/sys/user/max_net_namespaces"], 1_024)
    }),
    limit("keys of root", "session keyrings fail when they are used up", |_| {
        least(&["/proc/sys/kernel/keys/root_maxkeys"], 2_048)
    }),
    limit("pages of pipes", "pipes of containers become small", |_| {
        // 0 is no limit.
        least(&["/proc/sys/fs/pipe-user-pages-soft"], 16_384)
    }),
];

fn least(paths: &[&str], enough: u64) -> Found {
    let mut found = Vec::new();
    for path in paths {
        match number(path) {
            Ok(number) => found.push((number, path)),
            Err(why) => return Found::Missing(why),
        }
    }
    let words =
        |(number, path): &(u64, &&str)| format!("{number} ({})", path.trim_start_matches("/proc/sys/"));
    let text = found.iter().map(words).collect::<Vec<_>>().join(", ");
    // No sysctl of these has a meaning at 0 but "no limit".
    let low = found.iter().any(|(number, _)| (1..enough).contains(number));
    judge(low, text, enough)
}

fn ulimit(resource: Resource, enough: u64) -> Found {
    let limit = getrlimit(resource);
    let words = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    let text = format!("{} now, at most {}", words(limit.current), words(limit.maximum));
    // The agent raises its own as far as it may.
    judge(limit.maximum.is_some_and(|limit| limit < enough), text, enough)
}

fn judge(low: bool, text: String, enough: u64) -> Found {
    if low { Found::Low(format!("{text}; {enough} would be enough")) } else { Found::There(text) }
}

fn number(path: &str) -> Result<u64, String> {
    let failed = |why: String| format!("read {path}: {why}");
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(64).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    text.trim().parse().map_err(|_| failed(format!("'{}' is no number", text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_less_than_enough_is_low_and_says_how_much_would_be() {
        let path = "/proc/sys/kernel/pid_max";
        let most = number(path).unwrap();
        match least(&[path], most + 1) {
            Found::Low(text) => {
                assert_eq!(text, format!("{most} (kernel/pid_max); {} would be enough", most + 1));
            }
            Found::There(text) | Found::Missing(text) => panic!("{text}"),
        }
        assert!(matches!(least(&[path], most), Found::There(_)));
        assert!(matches!(least(&["/proc/sys/nowhere"], 1), Found::Missing(_)));
        assert!(matches!(least(&["/proc/sys/kernel/ostype"], 1), Found::Missing(_)));
    }
}
