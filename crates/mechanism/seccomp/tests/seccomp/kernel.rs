// SPDX-License-Identifier: Apache-2.0
//! The running kernel's word: it takes the programs, and calls end as the profile says.
//!
//! A filter is for one thread and for good, so each test loads it in a thread of its own, which then ends.

use std::fs::File;
use std::time::{Duration, Instant};

use berth_seccomp::{Profile, Program, caps};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

fn load(program: &Program) {
    let filter: Vec<seccompiler::sock_filter> = program
        .insns()
        .map(|insn| seccompiler::sock_filter { code: insn.code, jt: insn.jt, jf: insn.jf, k: insn.k })
        .collect();
    seccompiler::apply_filter(&filter).expect("the kernel takes the filter");
}

fn filtered<T: Send>(program: &Program, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            load(program);
            work()
        });
        thread.join().expect("the filter kills nothing that a test does")
    })
}

fn family(number: u16) -> Result<(), Errno> {
    rustix::net::socket(AddressFamily::from_raw(number), SocketType::DGRAM, None).map(drop)
}

#[test]
fn a_filtered_thread_works_and_what_is_refused_fails() {
    let program = Profile::default_profile().compile(caps::DOCKER_DEFAULT).unwrap();
    filtered(&program, || {
        assert!(File::open("/proc/self/status").is_ok());
        assert_eq!(family(1), Ok(()));
        assert_eq!(family(38), Err(Errno::PERM), "AF_ALG");
        assert_eq!(family(40), Err(Errno::PERM), "AF_VSOCK");
        let unmount = rustix::mount::unmount("/no/such/place", rustix::mount::UnmountFlags::empty());
        assert_eq!(unmount, Err(Errno::PERM));
        // clone3 looks absent, and the C library's clone without new namespaces is allowed.
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    });
}

#[test]
fn with_cap_sys_admin_in_the_bounding_set_unmounting_is_a_matter_of_the_place() {
    let program = Profile::default_profile().compile(caps::ALL).unwrap();
    filtered(&program, || {
        let unmount = rustix::mount::unmount("/no/such/place", rustix::mount::UnmountFlags::empty());
        let expected = if rustix::process::geteuid().is_root() { Errno::NOENT } else { Errno::PERM };
        assert_eq!(unmount, Err(expected));
        assert_eq!(family(38), Err(Errno::PERM), "AF_ALG");
    });
}

#[test]
fn the_kernel_takes_long_programs_with_far_jumps() {
    let rules: Vec<serde_json::Value> = (0..470u16)
        .filter_map(berth_seccomp::syscalls::name)
        .filter(|name| !["write", "exit", "munmap", "madvise", "futex", "sigaltstack", "exit_group"].contains(name))
        .enumerate()
        .map(|(number, name)| {
            serde_json::json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 200 + number,
                "args": [{"index": 5, "value": 0x1234_5678_0000_0000u64 + number as u64, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    let text = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}).to_string();
    let program = Profile::from_json(text.as_bytes()).unwrap().compile(0).unwrap();
    assert!(program.len() > 2000, "{}", program.len());
    filtered(&program, || assert!(File::open("/proc/self/status").is_ok()));
}

#[test]
fn loading_the_default_program_takes_microseconds() {
    let program = Profile::default_profile().compile(caps::DOCKER_DEFAULT).unwrap();
    let fastest = (0..50)
        .map(|_| {
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let start = Instant::now();
                    load(&program);
                    start.elapsed()
                });
                thread.join().unwrap()
            })
        })
        .min()
        .unwrap();
    println!("{} instructions loaded in {fastest:?}", program.len());
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}
