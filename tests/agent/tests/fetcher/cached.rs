// SPDX-License-Identifier: Apache-2.0
//! The cache, used by containers of an agent.
//!
//! `BERTH_AGENT=long`: a file of 1 GiB instead of 8 MiB, and times are asserted.

use crate::server::{Server, much};
use crate::{cached, command, ground, leave, run};
use berth_client::Launch;
use berth_test_agent::{Ground, long, number};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

const SECOND_USE: Duration = Duration::from_millis(50);

fn size() -> u64 {
    number("BERTH_FETCH_BYTES", 24 << 20, 1 << 30) as u64
}

/// Launches a container with this URI as nobody, and answers how long that took.
fn launch(ground: &Ground, last: &str, uri: &str) -> Duration {
    let mut command = command("exec sleep 1000", vec![cached(uri.to_owned())]);
    command.user = Some("65534:65534".to_owned());
    let launch = Launch { command, ..Launch::default() };
    let id = ground.name(last).parse().unwrap();
    let begun = Instant::now();
    ground.api().on(async |c| c.launch(&id, &launch).await).unwrap();
    begun.elapsed()
}

#[test]
fn twenty_launches_at_once_share_one_download_and_a_later_one_needs_none() {
    let ground = ground!(twenty_launches_at_once_share_one_download_and_a_later_one_needs_none);
    let size = size();
    let server = Server::new(move |_, stream| much(stream, size));
    let uri = server.url("file");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for at in 0..20 {
            let (ground, uri) = (&ground, &uri);
            scope.spawn(move || launch(ground, &at.to_string(), uri));
        }
    });
    println!("20 launches with {size} bytes each: {:?}", begun.elapsed());
    assert_eq!(server.asked(), 1, "one download for all");
    let again: Vec<Duration> = (20..25).map(|at| launch(&ground, &at.to_string(), &uri)).collect();
    println!("a launch that finds it in the cache: {again:?}");
    assert_eq!(server.asked(), 1, "no download for those that came later");
    for at in 0..25 {
        let file = std::fs::metadata(ground.sandbox(&ground.name(at)).join("file")).unwrap();
        assert_eq!(file.len(), size);
        // Linked, or a copy of their own: nobody can write what others have.
        assert!(file.nlink() == 1 || (file.uid() == 0 && file.mode() & 0o222 == 0), "{file:?}");
    }
    if long() {
        let best = again.iter().min().unwrap();
        assert!(*best <= SECOND_USE, "the second use took {best:?}, and may take {SECOND_USE:?}");
    }
    leave(ground);
}

#[test]
fn a_new_agent_begins_with_an_empty_cache_and_a_user_gets_nothing_of_another() {
    let mut ground = ground!(a_new_agent_begins_with_an_empty_cache_and_a_user_gets_nothing_of_another);
    let server = Server::new(|_, stream| much(stream, 1 << 20));
    let uri = format!("{},cache", server.url("file"));
    let use_it = |ground: &Ground, user: &str| {
        let exit = run(ground, "c", &["-u", user, "--uri", &uri], "test $(stat -c %s file) = 1048576");
        assert_eq!(exit.code, Some(0), "{exit:?}");
    };
    use_it(&ground, "65534:65534");
    use_it(&ground, "65534:65534");
    assert_eq!(server.asked(), 1);
    use_it(&ground, "1234:1234");
    assert_eq!(server.asked(), 2, "another user");
    let files = ground.work_dir().join("fetch/files");
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 2);
    ground.stop();
    ground.start();
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 0);
    use_it(&ground, "65534:65534");
    assert_eq!(server.asked(), 3);
    leave(ground);
}
