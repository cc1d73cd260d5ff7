// SPDX-License-Identifier: Apache-2.0
//! The default profile: what it refuses and allows, by the attacks that it is there for.

use std::time::{Duration, Instant};

use berth_seccomp::{Action, Profile, Program, caps, syscalls};

use crate::bpf::{self, Call};
use crate::oracle::{Spec, capability_names};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0x8000_0000;
const KERNEL: (u32, u32) = (6, 18);

fn bit(capability: &str) -> u64 {
    1 << caps::number(&format!("CAP_{capability}")).unwrap()
}

fn program(set: u64) -> Program {
    Profile::default_profile().compile(set).unwrap()
}

fn answer(set: u64, name: &str, first: u64, second: u64) -> u32 {
    let number = syscalls::number(name).unwrap_or_else(|| panic!("{name}"));
    bpf::run(&program(set), &Call::new(number.into(), [first, second, 0, 0, 0, 0])).0
}

fn plain(name: &str) -> u32 {
    answer(caps::DOCKER_DEFAULT, name, 0, 0)
}

#[test]
fn the_program_says_what_the_profile_says_for_every_call_and_every_capability() {
    let profile = Profile::default_profile();
    let spec = Spec::of(&profile);
    let single = (0..=40).map(|number| 1 << number).filter(|set| !capability_names(*set).is_empty());
    for set in [0, caps::DOCKER_DEFAULT, caps::ALL, u64::MAX].into_iter().chain(single) {
        let unreached = spec.assert_equals(&profile.compile(set).unwrap(), set, KERNEL);
        assert_eq!(unreached, 0);
    }
}

#[test]
fn the_profile_written_as_json_and_read_again_compiles_to_the_same_bytes() {
    let profile = Profile::default_profile();
    let read = Profile::from_json(&Spec::of(&profile).to_json()).unwrap();
    assert_eq!(read.unknown_names(), [""; 0]);
    for set in [0, caps::DOCKER_DEFAULT, caps::ALL] {
        assert_eq!(read.compile(set).unwrap(), profile.compile(set).unwrap());
    }
}

#[test]
fn ordinary_programs_find_the_calls_that_they_need() {
    let needed = "read write openat close mmap mprotect munmap brk execve exit_group wait4 futex getrandom rseq \
                  set_tid_address set_robust_list prlimit64 arch_prctl statx newfstatat epoll_wait accept4 \
                  sendmsg recvmsg rt_sigaction kill chown setuid setgroups capset prctl seccomp memfd_create \
                  clock_gettime nanosleep chroot mknod fchmodat2 openat2 close_range faccessat2 pidfd_open ptrace";
    for name in needed.split_whitespace() {
        assert_eq!(plain(name), ALLOW, "{name}");
    }
}

#[test]
fn socket_families_that_reach_the_kernels_ciphers_or_virtual_machines_are_refused() {
    let socket = |family| answer(caps::ALL, "socket", family, 0);
    for (family, name) in
        [(1, "UNIX"), (2, "INET"), (10, "INET6"), (16, "NETLINK"), (17, "PACKET"), (39, "NFC")]
    {
        assert_eq!(socket(family), ALLOW, "AF_{name}");
    }
    for (family, name) in [(38, "ALG"), (40, "VSOCK"), (12, "DECnet"), (46, "MAX"), (1000, "none")] {
        assert_eq!(socket(family), EPERM, "AF_{name}");
    }
    // The kernel cuts the family off at 32 bits: these are ALG and VSOCK for it.
    for family in [1 << 32 | 38, 1 << 32 | 40, u64::MAX << 32 | 38, 1 << 63 | 2] {
        assert_eq!(socket(family), EPERM, "{family:#x}");
    }
    assert_eq!(plain("socketpair"), ALLOW);
}

#[test]
fn no_call_of_32_bits_gets_through_so_socketcall_is_no_way_around() {
    let program = program(caps::ALL);
    for number in 0..=600 {
        for args in [[0; 6], [1, 38, 0, 0, 0, 0]] {
            for arch in [bpf::I386, bpf::AARCH64, 0] {
                let call = Call { arch, ..Call::new(number, args) };
                assert_eq!(bpf::run(&program, &call).0, KILL, "{call:x?}");
            }
            let x32 = Call::new(0x4000_0000 | number, args);
            assert_eq!(bpf::run(&program, &x32).0, ENOSYS, "{x32:x?}");
        }
    }
}

#[test]
fn typing_into_the_terminal_is_refused_with_every_capability_and_other_requests_are_not() {
    for set in [0, caps::DOCKER_DEFAULT, caps::ALL] {
        for request in [0x5412, 0x541c, 1 << 32 | 0x5412, u64::MAX << 32 | 0x541c, 0x8000_0000_0000_5412] {
            assert_eq!(answer(set, "ioctl", 0, request), EPERM, "{request:#x}");
        }
        for (request, name) in
            [(0x5401, "TCGETS"), (0x5413, "TIOCGWINSZ"), (0x5411, "TIOCOUTQ"), (0x541b, "FIONREAD")]
        {
            assert_eq!(answer(set, "ioctl", 0, request), ALLOW, "{name}");
        }
        // Only the request counts, not the descriptor.
        assert_eq!(answer(set, "ioctl", 0x5412, 0x5401), ALLOW);
    }
}

#[test]
fn new_namespaces_need_cap_sys_admin() {
    let flags = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    for flag in flags {
        let with_signal = flag | 17;
        assert_eq!(answer(caps::DOCKER_DEFAULT, "clone", with_signal, 0), EPERM, "{flag:#x}");
        assert_eq!(answer(caps::DOCKER_DEFAULT, "clone", 1 << 32 | with_signal, 0), EPERM, "{flag:#x}");
        assert_eq!(answer(bit("SYS_ADMIN"), "clone", with_signal, 0), ALLOW, "{flag:#x}");
    }
    // A fork and a thread of glibc.
    assert_eq!(answer(0, "clone", 0x0120_0011, 0), ALLOW);
    assert_eq!(answer(0, "clone", 0x003d_0f00, 0), ALLOW);
    // glibc falls back to clone.
    assert_eq!(answer(0, "clone3", 0, 0), ENOSYS);
    assert_eq!(answer(bit("SYS_ADMIN"), "clone3", 0, 0), ALLOW);
    for name in ["unshare", "setns", "mount", "umount2", "move_mount", "open_tree", "fsopen", "mount_setattr"]
    {
        assert_eq!(plain(name), EPERM, "{name}");
        assert_eq!(answer(bit("SYS_ADMIN"), name, 0, 0), ALLOW, "{name}");
    }
}

#[test]
fn the_kernels_attack_surface_is_refused_whatever_the_capabilities() {
    let never = "io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key userfaultfd \
                 kexec_load kexec_file_load pivot_root swapon swapoff nfsservctl migrate_pages move_pages \
                 uselib ustat sysfs _sysctl create_module query_module get_kernel_syms security tuxcall vserver";
    for name in never.split_whitespace() {
        for set in [0, caps::DOCKER_DEFAULT, caps::ALL] {
            assert_eq!(answer(set, name, 0, 0), EPERM, "{name}");
        }
    }
}

#[test]
fn calls_that_belong_to_a_capability_come_with_it_and_with_no_other() {
    let groups = [
        ("DAC_READ_SEARCH", "open_by_handle_at"),
        ("SYS_BOOT", "reboot"),
        ("SYS_CHROOT", "chroot"),
        ("SYS_MODULE", "init_module finit_module delete_module"),
        ("SYS_PACCT", "acct"),
        ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
        ("SYS_RAWIO", "iopl ioperm"),
        ("SYS_TIME", "settimeofday clock_settime"),
        ("SYS_TTY_CONFIG", "vhangup"),
        ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
        ("SYS_ADMIN", "quotactl quotactl_fd sethostname setdomainname fanotify_init lookup_dcookie"),
    ];
    for (capability, names) in groups {
        for name in names.split_whitespace() {
            assert_eq!(answer(bit(capability), name, 0, 0), ALLOW, "{name} with {capability}");
            assert_eq!(
                answer(caps::ALL & !bit(capability), name, 0, 0),
                EPERM,
                "{name} without {capability}"
            );
        }
    }
    for (name, own) in [("bpf", "BPF"), ("perf_event_open", "PERFMON"), ("syslog", "SYSLOG")] {
        assert_eq!(plain(name), EPERM, "{name}");
        assert_eq!(answer(bit(own), name, 0, 0), ALLOW, "{name} with {own}");
        assert_eq!(answer(bit("SYS_ADMIN"), name, 0, 0), ALLOW, "{name} with SYS_ADMIN");
        let neither = caps::ALL & !bit(own) & !bit("SYS_ADMIN");
        assert_eq!(answer(neither, name, 0, 0), EPERM, "{name}");
    }
}

#[test]
fn execution_domains_are_the_five_that_docker_allows() {
    for value in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        assert_eq!(answer(0, "personality", value, 0), ALLOW, "{value:#x}");
        assert_eq!(answer(0, "personality", 1 << 32 | value, 0), EPERM, "{value:#x}");
    }
    // ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC among others.
    for value in [1, 7, 9, 0x4_0000, 0x40_0000, 0xffff_fffe, u64::MAX] {
        assert_eq!(answer(caps::ALL, "personality", value, 0), EPERM, "{value:#x}");
    }
}

#[test]
fn calls_newer_than_the_profile_look_absent_and_older_ones_refused() {
    let program = program(caps::ALL);
    let highest = Profile::default_profile().highest().unwrap();
    assert_eq!(syscalls::name(highest), Some("removexattrat"));
    for number in [u32::from(highest) + 1, 469, 470, 600, 100_000, 0x3fff_ffff] {
        assert_eq!(bpf::run(&program, &Call::new(number, [0; 6])).0, ENOSYS, "{number}");
    }
    assert_eq!(Profile::default_profile().beyond(), Action::Errno(38));
    assert_eq!(bpf::run(&program, &Call::new(400, [0; 6])).0, EPERM);
}

#[test]
fn the_program_is_short_and_shallow_and_made_at_once() {
    let profile = Profile::default_profile();
    for (set, name) in [(0, "no"), (caps::DOCKER_DEFAULT, "Docker's"), (caps::ALL, "all")] {
        let program = profile.compile(set).unwrap();
        let steps = |number: u32, args| bpf::run(&program, &Call::new(number, args)).1;
        let numbers = 0..=470;
        let deepest = numbers.clone().map(|number| steps(number, [0; 6])).max().unwrap();
        let total: usize = numbers.map(|number| steps(number, [0; 6])).sum();
        let fastest = (0..200)
            .map(|_| {
                let start = Instant::now();
                let program = profile.compile(std::hint::black_box(set)).unwrap();
                let took = start.elapsed();
                std::hint::black_box(program);
                took
            })
            .min()
            .unwrap();
        println!(
            "{name} capabilities: {} instructions, {deepest} steps at most, {total} for all calls, made in {fastest:?}",
            program.len()
        );
        assert!(program.len() <= 170, "{}", program.len());
        assert!(deepest <= 20, "{deepest}");
        if !cfg!(debug_assertions) {
            assert!(fastest < Duration::from_micros(50), "{fastest:?}");
        }
    }
}

/// With BERTH_BLESS=1 it writes the file anew.
#[test]
fn what_was_compiled_beforehand_is_what_the_profile_compiles_to() {
    let compiled = program(berth_seccomp::USUAL);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/default.bpf");
    if std::env::var_os("BERTH_BLESS").is_some() {
        std::fs::write(path, compiled.as_bytes()).unwrap();
    }
    assert_eq!(
        std::fs::read(path).unwrap(),
        compiled.as_bytes(),
        "compile it anew: BERTH_BLESS=1 cargo test"
    );
    assert!(Profile::default_program(berth_seccomp::USUAL).unwrap() == compiled);
    assert!(Profile::default_program(1).unwrap() == program(1));
}
