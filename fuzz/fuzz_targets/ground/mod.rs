// SPDX-License-Identifier: Apache-2.0
//! Where archives are unpacked: a directory in memory, with canaries beside what is unpacked.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use berth_image::{Limits, remove_tree};

const BLOCK: usize = 512;

/// What is fuzzed as an archive. The first byte chooses whether the checksums of its headers are made right, which
/// fuzzing would find out of itself only once in a while.
pub fn archive(bytes: &[u8]) -> Option<Vec<u8>> {
    let (choice, archive) = bytes.split_first()?;
    let mut archive = archive.to_vec();
    if choice & 1 == 0 {
        sum(&mut archive);
    }
    Some(archive)
}

fn sum(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = header[124..136].iter().take_while(|byte| byte.is_ascii_digit());
        let size = size.fold(0usize, |size, digit| size.wrapping_mul(8).wrapping_add(usize::from(digit & 7)));
        at = at.saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
    }
}

/// Small enough for thousands of archives in a second.
pub fn limits() -> Limits {
    Limits {
        bytes: 1 << 20,
        ratio: 100,
        ratio_free: 1 << 16,
        entries: 200,
        depth: 16,
        file: 1 << 20,
        directory_names: 1 << 16,
        ..Limits::default()
    }
}

pub struct Ground(&'static Path);

impl Ground {
    /// The ground, made the first time.
    pub fn open() -> Ground {
        static PLACE: OnceLock<PathBuf> = OnceLock::new();
        let place = PLACE.get_or_init(|| {
            let place = PathBuf::from(format!("/dev/shm/berth-fuzz-{}", std::process::id()));
            let made = || -> std::io::Result<()> {
                fs::create_dir_all(place.join("outside"))?;
                fs::write(place.join("outside/canary"), "sings")?;
                fs::set_permissions(place.join("outside/canary"), fs::Permissions::from_mode(0o640))?;
                fs::create_dir_all(place.join("below/dir/sub"))?;
                fs::write(place.join("below/dir/file"), "below")?;
                fs::hard_link(place.join("below/dir/file"), place.join("below/hard"))?;
                symlink("dir", place.join("below/link"))?;
                symlink("../../outside", place.join("below/out"))?;
                symlink(place.join("outside"), place.join("below/away"))
            };
            made().expect("the ground can be made");
            place
        });
        Ground(place)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Nothing but the target may have changed.
    pub fn check(&self) {
        let canary = self.path("outside/canary");
        assert_eq!(fs::read_to_string(&canary).expect("the canary lives"), "sings");
        let meta = fs::symlink_metadata(&canary).expect("the canary lives");
        assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o640, 1));
        assert_eq!(fs::read_dir(self.path("outside")).expect("it is there").count(), 1);
        assert_eq!(fs::read_to_string(self.path("below/dir/file")).expect("it is there"), "below");
        let file = fs::symlink_metadata(self.path("below/dir/file")).expect("it is there");
        assert_eq!(file.nlink(), 2);
        let dir = fs::File::open(self.0).expect("the ground is there");
        let removal = remove_tree(dir.as_fd(), OsStr::new("target"));
        assert!(removal.is_complete(), "{:?}", removal.failures);
        let names = fs::read_dir(self.0).expect("it is there").flatten();
        for name in names.map(|entry| entry.file_name()) {
            assert!(["outside", "below", "listed"].iter().any(|known| name == *known), "{name:?}");
        }
    }
}
