// SPDX-License-Identifier: Apache-2.0
//! What a test asks from inside a container, where a shell can not. Prints `ok` or the error's number, one line for
//! each question.

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{geteuid, getuid};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["socket", ref families @ ..] => families.iter().for_each(|f| socket(f)),
        ["flip", one, other, seconds] => flip(one, other, seconds),
        ["abstract"] => abstract_sockets(),
        ["burn", begin, end, threads] => burn(number(begin), number(end), number(threads)),
        ["forks", most] => forks(number(most)),
        ["eat", megabytes] => eat(number(megabytes)),
        ["read", file, milliseconds] => transfer(file, number(milliseconds), false),
        ["write", file, milliseconds] => transfer(file, number(milliseconds), true),
        ["without", ref rest @ ..] => without(rest),
        ["user"] => println!("{} {}", getuid().as_raw(), geteuid().as_raw()),
        _ => {
            eprintln!(
                "usage: berth-probe socket FAMILY… | flip ONE OTHER SECONDS | abstract | user | burn BEGIN END THREADS | \
                 forks MOST | eat MEGABYTES | read FILE MILLISECONDS | write FILE MILLISECONDS | without NAME… -- PROGRAM ARGUMENT…"
            );
            std::process::exit(64);
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

/// Executes a program for which the kernel is an older one: what these names stand for fails as it did there. A filter does
/// that, so it holds for all that the program starts, too.
fn without(words: &[&str]) {
    use std::os::unix::process::CommandExt;
    /// Instructions of classic BPF (`include/uapi/linux/bpf_common.h`).
    const LOAD: u16 = 0x20;
    const IS: u16 = 0x15;
    const HAS: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    /// Where a number, and the third argument, are in `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const THIRD: u32 = 32;
    let at = words.iter().position(|word| *word == "--").expect("-- before the program");
    let (names, program) = (&words[..at], &words[at + 1..]);
    let mut filter: Vec<(u16, u8, u8, u32)> = vec![(LOAD, 0, 0, NUMBER)];
    for name in names {
        match *name {
            // Linux 5.12; the number is x86-64's.
            "mount_setattr" => filter.extend([(IS, 0, 1, 442), (RETURN, 0, 0, ERRNO | 38)]),
            // Linux 5.11 knows this flag of close_range. What was loaded last is the argument: the next begins anew.
            "CLOSE_RANGE_CLOEXEC" => filter.extend([
                (IS, 0, 3, 436),
                (LOAD, 0, 0, THIRD),
                (HAS, 0, 1, 4),
                (RETURN, 0, 0, ERRNO | 22),
                (LOAD, 0, 0, NUMBER),
            ]),
            // A kernel that was built without keys.
            "keyctl" => filter.extend([(IS, 0, 1, 250), (RETURN, 0, 0, ERRNO | 38)]),
            "landlock" => filter.extend([(IS, 0, 1, 444), (RETURN, 0, 0, ERRNO | 38)]),
            other => panic!("nothing is known of {other:?}"),
        }
    }
    filter.push((RETURN, 0, 0, ALLOW));
    let bytes = |(code, yes, no, value): &(u16, u8, u8, u32)| {
        [&code.to_ne_bytes()[..], &[*yes, *no], &value.to_ne_bytes()].concat()
    };
    let loaded = berth_sys::seccomp::load(&filter.iter().flat_map(bytes).collect::<Vec<u8>>());
    loaded.unwrap_or_else(|e| panic!("load the filter: {e}"));
    let error = std::process::Command::new(program[0]).args(&program[1..]).exec();
    panic!("execute {program:?}: {error}");
}

/// Keeps processors busy until a time, and prints how many milliseconds of theirs it got since another, and how long that
/// was.
fn burn(begin: u64, end: u64, threads: u64) {
    let used = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
    };
    for _ in 1..threads {
        std::thread::spawn(|| {
            loop {
                std::hint::black_box(now());
            }
        });
    }
    while now() < begin {}
    let (from, before) = (now(), used());
    while now() < end {}
    println!("{} {}", used() - before, now() - from);
    std::process::exit(0);
}

/// Starts children that stay, and prints how many there could be.
fn forks(most: u64) {
    let mut children = Vec::new();
    let failure = loop {
        if children.len() as u64 == most {
            break "none".to_owned();
        }
        match std::process::Command::new("/bin/sleep").arg("1000").spawn() {
            Ok(child) => children.push(child),
            Err(e) => break e.raw_os_error().unwrap_or(0).to_string(),
        }
    };
    println!("{} {failure}", children.len());
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Uses so much memory.
fn eat(megabytes: u64) {
    let mut eaten = Vec::new();
    for megabyte in 0..megabytes {
        eaten.push(vec![megabyte as u8 | 1; 1 << 20]);
    }
    println!("{} MB", std::hint::black_box(&eaten).len());
}

/// Reads or writes a file past the page cache, and prints how many bytes in how many milliseconds, the first ones, which
/// may come at once, left out.
fn transfer(file: &str, milliseconds: u64, write: bool) {
    const BLOCK: usize = 128 << 10;
    let flags = if write { OFlags::RDWR | OFlags::CREATE } else { OFlags::RDONLY };
    let file = rustix::fs::open(file, flags | OFlags::DIRECT | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
        .unwrap_or_else(|e| panic!("open {file}: {e}"));
    let mut room = vec![1u8; BLOCK + 4096];
    let aligned = room.as_ptr().align_offset(4096);
    let block = &mut room[aligned..aligned + BLOCK];
    let (mut at, mut bytes) = (0u64, 0u64);
    let mut once = |bytes: &mut u64| {
        let done = match write {
            true => rustix::io::pwrite(&file, block, at),
            false => rustix::io::pread(&file, &mut *block, at),
        };
        let done = done.unwrap_or_else(|e| panic!("at {at}: {e}")) as u64;
        // From the beginning again: nobody wants it to grow.
        at = if done < BLOCK as u64 || at >= 32 << 20 { 0 } else { at + done };
        *bytes += done;
    };
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_millis(milliseconds / 4) {
        once(&mut bytes);
    }
    let start = Instant::now();
    bytes = 0;
    while start.elapsed() < Duration::from_millis(milliseconds) {
        once(&mut bytes);
    }
    println!("{bytes} {}", start.elapsed().as_millis());
}

fn answer(of: &str, result: rustix::io::Result<()>) {
    match result {
        Ok(()) => println!("{of}: ok"),
        Err(e) => println!("{of}: {}", e.raw_os_error()),
    }
}

/// Whether a socket of a family can be made.
fn socket(family: &str) {
    let number: u16 = family.parse().unwrap_or(u16::MAX);
    // AF_ALG knows only SEQPACKET.
    let kind = if number == 38 { SocketType::SEQPACKET } else { SocketType::STREAM };
    let made = socket_with(AddressFamily::from_raw(number), kind, SocketFlags::CLOEXEC, None);
    answer(family, made.map(drop));
}

/// Exchanges two names as fast as it can.
fn flip(one: &str, other: &str, seconds: &str) {
    let limit = Instant::now() + Duration::from_secs_f64(seconds.parse().unwrap_or(1.0));
    let mut times = 0u64;
    let mut last = Ok(());
    while Instant::now() < limit {
        last = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
        times += u64::from(last.is_ok());
    }
    answer("last", last);
    println!("{times} times");
}

/// The abstract sockets that can be seen.
fn abstract_sockets() {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    for line in table.lines().filter(|line| line.contains(" @")) {
        println!("{line}");
    }
}
