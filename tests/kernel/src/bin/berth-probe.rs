// SPDX-License-Identifier: Apache-2.0
//! What a test asks from inside a container, where a shell can not. Prints `ok` or the error's number, one line for
//! each question.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{geteuid, getuid};
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["socket", ref families @ ..] => families.iter().for_each(|f| socket(f)),
        ["flip", one, other, seconds] => flip(one, other, seconds),
        ["abstract"] => abstract_sockets(),
        ["user"] => println!("{} {}", getuid().as_raw(), geteuid().as_raw()),
        _ => {
            eprintln!("usage: berth-probe socket FAMILY… | flip ONE OTHER SECONDS | abstract | user");
            std::process::exit(64);
        }
    }
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
