// SPDX-License-Identifier: Apache-2.0
//! The cache: it must be fast when it can be trusted, and useless to whoever tampers with it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use berth_seccomp::{Cache, Error, Outcome, Profile, caps};

const PROFILE: &[u8] =
    br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#;
const OTHER: &[u8] =
    br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG"}]}"#;

fn outcome(cache: &Cache, profile: &[u8], set: u64) -> Outcome {
    let (program, outcome) = cache.program(profile, set).unwrap();
    // Whatever happened, the program is the right one.
    assert_eq!(program, Profile::from_json(profile).unwrap().compile(set).unwrap());
    outcome
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn one_program() -> (tempfile::TempDir, Cache, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(&directory.path().join("seccomp")).unwrap();
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Stored));
    let file = files(&directory.path().join("seccomp")).remove(0);
    (directory, cache, file)
}

#[test]
fn a_program_is_compiled_once_for_each_profile_and_set_of_capabilities() {
    let (directory, cache, _) = one_program();
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Hit));
    assert!(matches!(outcome(&cache, PROFILE, caps::ALL), Outcome::Stored));
    assert!(matches!(outcome(&cache, OTHER, 0), Outcome::Stored));
    let again = Cache::open(&directory.path().join("seccomp")).unwrap();
    for (profile, set) in [(PROFILE, 0), (PROFILE, caps::ALL), (OTHER, 0)] {
        assert!(matches!(outcome(&again, profile, set), Outcome::Hit));
    }
    assert_eq!(files(&directory.path().join("seccomp")).len(), 3);
}

#[test]
fn a_file_with_any_bit_changed_or_byte_missing_is_replaced() {
    let (_directory, cache, file) = one_program();
    let good = fs::read(&file).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    damaged.push([good.as_slice(), &[0]].concat());
    damaged.push(vec![0; 100_000]);
    damaged.extend((0..good.len()).map(|at| {
        let mut copy = good.clone();
        copy[at] ^= 1 << (at % 8);
        copy
    }));
    for content in damaged {
        fs::write(&file, &content).unwrap();
        assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Stored), "{} bytes", content.len());
        assert_eq!(fs::read(&file).unwrap(), good);
    }
}

#[test]
fn a_program_of_another_profile_in_its_place_is_replaced() {
    let (directory, cache, file) = one_program();
    assert!(matches!(outcome(&cache, OTHER, 0), Outcome::Stored));
    let other = files(&directory.path().join("seccomp")).into_iter().find(|other| *other != file).unwrap();
    fs::copy(&other, &file).unwrap();
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Stored));
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Hit));
}

#[test]
fn a_file_that_others_may_write_or_that_is_no_file_is_not_used() {
    let (directory, cache, file) = one_program();
    fs::set_permissions(&file, Permissions::from_mode(0o620)).unwrap();
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Stored));
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Hit));

    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Stored));
    assert!(fs::symlink_metadata(&file).unwrap().is_file());

    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Stored));

    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
        assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Stored));
        assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Hit));
    } else {
        println!("skipped in part: giving a file away needs root");
    }
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o720, 0o1777] {
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        let error = Cache::open(directory.path()).unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    Cache::open(directory.path()).unwrap();

    let link = directory.path().join("link");
    symlink(directory.path(), &link).unwrap();
    assert!(matches!(Cache::open(&link), Err(Error::Cache { .. })));
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Cache::open(&file), Err(Error::Cache { .. })));
    assert!(matches!(Cache::open(&directory.path().join("no/such")), Err(Error::Cache { .. })));
}

#[test]
fn a_cache_that_can_not_be_written_costs_time_and_nothing_else() {
    let (directory, cache, _) = one_program();
    fs::remove_dir_all(directory.path().join("seccomp")).unwrap();
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::NotStored(Error::Cache { .. })));
}

#[test]
fn a_wrong_profile_is_an_error_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path()).unwrap();
    assert!(matches!(cache.program(b"{}", 0), Err(Error::Json(_))));
    assert!(files(directory.path()).is_empty());
}

#[test]
fn what_dead_writers_left_and_the_oldest_programs_are_removed() {
    let (directory, cache, _) = one_program();
    let inside = directory.path().join("seccomp");
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    let make = |name: &str, modified: SystemTime| {
        let file = fs::File::create(inside.join(name)).unwrap();
        file.set_modified(modified).unwrap();
    };
    make("dead.bpf.1.2.part", long_ago);
    make("live.bpf.3.4.part", SystemTime::now());
    make("note.txt", long_ago);
    for number in 0..300 {
        make(&format!("old-{number}.bpf"), long_ago);
    }
    assert!(matches!(outcome(&cache, OTHER, 0), Outcome::Stored));
    let names: Vec<String> =
        files(&inside).iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(!names.contains(&"dead.bpf.1.2.part".to_owned()));
    assert!(names.contains(&"live.bpf.3.4.part".to_owned()));
    assert!(names.contains(&"note.txt".to_owned()));
    assert_eq!(names.iter().filter(|name| name.ends_with(".bpf")).count(), 256);
    assert!(matches!(outcome(&cache, PROFILE, 0), Outcome::Hit));
}

#[test]
fn many_threads_with_one_profile_all_get_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for set in 0..20 {
                    assert!(!matches!(outcome(&cache, PROFILE, set), Outcome::NotStored(_)));
                }
            });
        }
    });
    assert_eq!(files(directory.path()).len(), 20);
}

#[test]
fn programs_change_only_with_the_version_of_the_compiler() {
    use sha2::{Digest, Sha256};
    let podman = include_bytes!("../data/podman-0.50.1.json");
    let mut hash = Sha256::new();
    for set in [0, caps::DOCKER_DEFAULT, caps::ALL] {
        hash.update(Profile::default_profile().compile(set).unwrap().as_bytes());
        hash.update(Profile::from_json(podman).unwrap().compile(set).unwrap().as_bytes());
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hash, "c8e15745199d786ba28b76a89bd86608d8022299d46c10df7373b4cc6e7d7b7f",
        "the compiler writes other programs than before: raise VERSION in compile.rs, so that caches made before \
         are not used, and put the new hash here"
    );
}
