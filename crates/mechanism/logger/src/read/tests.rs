// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::read::segment::nanoseconds;
use crate::times::MAGIC;
use crate::writer::{Policy, Writer};
use crate::{Directory, compress};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

fn reader(path: &Path) -> Reader {
    Reader::new(File::open(path).unwrap().into(), None, "out")
}

fn writer(path: &Path, kept: u32, max: u64) -> Writer<Directory> {
    let directory = Directory::new(File::open(path).unwrap().into(), b"out", kept, 0o640, None).unwrap();
    let policy = if max == 0 { Policy::UNBOUNDED } else { Policy::rotating(max) };
    Writer::new(directory, policy, 0, true)
}

/// What is there, with `|` where something is missing.
fn rest(reader: &mut Reader) -> String {
    let (mut room, mut text) = ([0; 7], String::new());
    loop {
        match reader.read(&mut room).unwrap() {
            Piece::Nothing => return text,
            Piece::Missed(_) => text.push('|'),
            Piece::Data { length, offset, .. } => {
                assert_eq!(offset + length as u64, reader.position());
                text.push_str(std::str::from_utf8(&room[..length]).unwrap());
            }
        }
    }
}

#[test]
fn a_stream_is_one_whatever_its_files_are() {
    let ground = tempfile::tempdir().unwrap();
    let mut writer = writer(ground.path(), 9, 12);
    let mut all = String::new();
    let mut follower = reader(ground.path());
    let mut followed = String::new();
    for number in 0..20 {
        let line = format!("line {number}\n");
        writer.feed(line.as_bytes());
        all.push_str(&line);
        if number % 3 == 0 {
            followed.push_str(&rest(&mut follower));
        }
    }
    followed.push_str(&rest(&mut follower));
    assert_eq!(followed, all);
    // The oldest are gone: it says so, and goes on.
    let mut late = reader(ground.path());
    let text = rest(&mut late);
    assert!(text.starts_with('|') && all.ends_with(&text[1..]) && text.lines().count() == 10, "{text}");
    assert_eq!(late.position(), all.len() as u64);
    assert_eq!(late.end().unwrap(), all.len() as u64);
    // By its place.
    let place = all.find("line 15").unwrap() as u64;
    late.seek(place);
    assert!(rest(&mut late).starts_with("line 15\n"));
}

#[test]
fn compressed_files_are_read_like_others_and_tails_go_across_all() {
    let ground = tempfile::tempdir().unwrap();
    let mut writer = writer(ground.path(), 20, 12);
    let all: String = (0..20).map(|number| format!("line {number}\n")).collect();
    all.split_inclusive('\n').for_each(|line| writer.feed(line.as_bytes()));
    writer.output().mark();
    let dir = File::open(ground.path()).unwrap();
    let packed = compress(dir.as_fd(), None, "out", 20, &|| false).unwrap();
    assert!(packed.files > 10);
    let mut reader = reader(ground.path());
    assert_eq!(rest(&mut reader), all);
    for lines in [0, 1, 2, 5, 19, 20, 30] {
        reader.seek(0);
        reader.seek_tail(lines).unwrap();
        assert_eq!(rest(&mut reader).lines().count() as u64, lines.min(20), "{lines}");
    }
}

#[test]
fn the_last_lines_are_found_whether_or_not_the_last_one_has_an_end() {
    let tail = |text: &str, lines| {
        let ground = tempfile::tempdir().unwrap();
        fs::write(ground.path().join("out"), text).unwrap();
        let mut reader = reader(ground.path());
        reader.seek_tail(lines).unwrap();
        reader.position()
    };
    assert_eq!(tail("a\nb\nc\n", 1), 4);
    assert_eq!(tail("a\nb\nc", 1), 4);
    assert_eq!(tail("a\nb\nc\n", 2), 2);
    assert_eq!(tail("a\nb\nc\n", 9), 0);
    assert_eq!(tail("a\nb\n", 0), 4);
    assert_eq!(tail("", 3), 0);
    assert_eq!(tail("\n\n\n", 2), 1);
    let long = ["x".repeat(200_000), "y".repeat(140_000)].join("\n");
    assert_eq!(tail(&long, 1), 200_001);
}

#[test]
fn lines_have_their_times_and_are_found_by_them() {
    let ground = tempfile::tempdir().unwrap();
    let mut writer = writer(ground.path(), 9, 12);
    let mut moments = Vec::new();
    for number in 0..6 {
        moments.push(crate::now());
        writer.feed(format!("line {number}\n").as_bytes());
        std::thread::sleep(Duration::from_millis(25));
    }
    writer.output().mark();
    for (number, moment) in moments.iter().enumerate() {
        let mut reader = reader(ground.path());
        reader.seek_time(*moment).unwrap();
        let mut room = [0; 100];
        let Piece::Data { length, time, .. } = reader.read(&mut room).unwrap() else { panic!("nothing") };
        let text = std::str::from_utf8(&room[..length]).unwrap();
        assert!(text.starts_with(&format!("line {number}\n")), "{number}: {text}");
        assert!(time >= *moment && time < moment + 20_000_000, "{number}: {time} {moment}");
    }
    let mut reader = reader(ground.path());
    reader.seek_time(crate::now()).unwrap();
    assert_eq!(rest(&mut reader), "");
}

#[test]
fn a_file_without_an_index_has_the_time_of_the_file_and_one_that_was_cut_off_begins_anew() {
    let ground = tempfile::tempdir().unwrap();
    let path = ground.path().join("out");
    fs::write(&path, "abcdef\n").unwrap();
    let modified = fs::metadata(&path).unwrap();
    let mut room = [0; 100];
    let mut reader = reader(ground.path());
    let time = nanoseconds(modified.mtime(), modified.mtime_nsec());
    assert_eq!(reader.read(&mut room).unwrap(), Piece::Data { offset: 0, length: 7, time });
    reader.seek_time(time + 1).unwrap();
    assert_eq!(reader.position(), 7);
    reader.seek_time(time).unwrap();
    assert_eq!(rest(&mut reader), "abcdef\n");
    File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
    assert_eq!(rest(&mut reader), "|ab");
}

#[test]
fn nothing_but_a_file_is_read() {
    let ground = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", ground.path().join("out")).unwrap();
    assert_eq!(reader(ground.path()).read(&mut [0; 10]).unwrap(), Piece::Nothing);
    assert_eq!(reader(ground.path()).end().unwrap(), 0);
}

#[test]
fn what_a_container_puts_beside_its_file_is_not_looked_at() {
    let ground = tempfile::tempdir().unwrap();
    let place = |name: &str| ground.path().join(name);
    fs::write(place("out"), "text\n").unwrap();
    // Whoever opened it for reading alone would wait for a writer.
    let made = std::process::Command::new("mkfifo").arg(place(LOCK.to_str().unwrap())).status();
    assert!(made.unwrap().success());
    let index = [&MAGIC[..], &u64::MAX.to_le_bytes(), &[0xff; 64]].concat();
    fs::write(place(".out.times"), &index).unwrap();
    fs::write(place(".out.times.1"), &index).unwrap();
    fs::write(place("out.1"), "forged\n").unwrap();
    let mut reader = Reader::of_file(File::open(ground.path()).unwrap().into(), "out");
    assert_eq!((rest(&mut reader), reader.end().unwrap()), ("text\n".to_owned(), 5));
    reader.seek(0);
    reader.seek_tail(9).unwrap();
    reader.seek_time(0).unwrap();
    assert_eq!(rest(&mut reader), "text\n");
    // Another file of the name is none of it.
    fs::rename(place("out.1"), place("out")).unwrap();
    assert_eq!(rest(&mut reader), "");
}

#[test]
fn a_hole_of_any_size_is_passed_over_when_lines_are_looked_for() {
    let ground = tempfile::tempdir().unwrap();
    let path = ground.path().join("out");
    fs::write(&path, "one\ntwo\n").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    // As large as the file system lets it be.
    let size = (30..62).rev().map(|shift| 1u64 << shift).find(|size| file.set_len(*size).is_ok()).unwrap();
    file.write_all_at(b"\nlast", size - 5).unwrap();
    for (lines, begin) in [(1, size - 4), (2, 8), (3, 4), (4, 0)] {
        let mut reader = reader(ground.path());
        reader.seek_tail(lines).unwrap();
        assert_eq!(reader.position(), begin, "{lines}");
    }
}

#[test]
fn a_stream_is_found_also_while_its_newest_file_or_one_of_the_old_is_missing() {
    let ground = tempfile::tempdir().unwrap();
    let mut writer = writer(ground.path(), 9, 2);
    (1..=6).for_each(|number| writer.feed(format!("{number}\n").as_bytes()));
    writer.output().mark();
    fs::remove_file(ground.path().join("out")).unwrap();
    let mut follower = reader(ground.path());
    assert_eq!(rest(&mut follower), "1\n2\n3\n4\n5\n");
    assert_eq!(follower.end().unwrap(), 10);
    fs::remove_file(ground.path().join("out.3")).unwrap();
    assert_eq!(rest(&mut reader(ground.path())), "1\n2\n|4\n5\n");
}

#[test]
fn what_is_read_while_it_is_rotated_and_compressed_is_neither_missed_nor_doubled() {
    let ground = tempfile::tempdir().unwrap();
    let mut writer = writer(ground.path(), 500, 2000);
    let all: String = (0..4_000).map(|number| format!("line {number:05}\n")).collect();
    let over = std::sync::atomic::AtomicBool::new(false);
    let ended = || over.load(std::sync::atomic::Ordering::SeqCst);
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let (mut reader, mut text) = (reader(ground.path()), String::new());
            loop {
                let last = ended();
                text.push_str(&rest(&mut reader));
                if last {
                    return text;
                }
            }
        });
        scope.spawn(|| {
            let dir = File::open(ground.path()).unwrap();
            while !ended() {
                compress(dir.as_fd(), None, "out", 500, &ended).unwrap();
            }
        });
        all.split_inclusive('\n').for_each(|line| writer.feed(line.as_bytes()));
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        let text = follower.join().unwrap();
        assert!(text == all, "{} of {} bytes", text.len(), all.len());
    });
}
