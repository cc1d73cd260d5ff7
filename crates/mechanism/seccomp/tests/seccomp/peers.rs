// SPDX-License-Identifier: Apache-2.0
//! A profile that others wrote (`tests/data/README.md`).

use berth_seccomp::{Action, Kernel, Profile, caps, syscalls};

use crate::bpf::{self, Call};
use crate::oracle::Spec;

const PODMAN: &str = include_str!("../data/podman-0.50.1.json");

#[test]
fn podmans_profile_does_what_it_says() {
    let spec = Spec::from_json(PODMAN);
    let profile = Profile::from_json(PODMAN.as_bytes()).unwrap();
    assert_eq!(profile.default_action(), Action::Errno(38));
    let audit = 1 << caps::number("CAP_AUDIT_WRITE").unwrap();
    for set in [0, audit, caps::DOCKER_DEFAULT, caps::DOCKER_DEFAULT & !audit, caps::ALL] {
        spec.assert_equals(&profile.compile(set).unwrap(), set, (6, 18));
    }
}

#[test]
fn podmans_refusal_of_audit_sockets_sees_both_arguments() {
    let profile = Profile::from_json(PODMAN.as_bytes()).unwrap();
    let socket = u32::from(syscalls::number("socket").unwrap());
    let answer = |set, family, protocol| {
        bpf::run(&profile.compile(set).unwrap(), &Call::new(socket, [family, 3, protocol, 0, 0, 0])).0
    };
    const NETLINK: u64 = 16;
    const AUDIT: u64 = 9;
    assert_eq!(answer(0, NETLINK, AUDIT), 0x0005_0016, "EINVAL");
    assert_eq!(answer(0, NETLINK, 0), 0x7fff_0000);
    assert_eq!(answer(0, 2, AUDIT), 0x7fff_0000);
    assert_eq!(answer(caps::ALL, NETLINK, AUDIT), 0x7fff_0000);
}

#[test]
fn names_of_other_architectures_are_listed_and_do_not_hurt() {
    let profile = Profile::from_json(PODMAN.as_bytes()).unwrap();
    let unknown = profile.unknown_names();
    for name in ["socketcall", "stat64", "_llseek", "umount", "bdflush"] {
        assert!(unknown.iter().any(|known| known == name), "{name}");
    }
    assert!(unknown.is_sorted() && !unknown.iter().any(|name| syscalls::number(name).is_some()));
}

#[test]
fn rules_for_newer_kernels_and_other_architectures_are_left_out() {
    let text = br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64", "s390x"]}},
        {"names": ["write"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64", "amd64"]}},
        {"names": ["open"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
        {"names": ["close"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["x32"]}}
    ]}"#;
    let allowed = |major, minor| -> Vec<&str> {
        let profile = Profile::from_json_for(text, Kernel { major, minor }).unwrap();
        let program = profile.compile(0).unwrap();
        ["ptrace", "kcmp", "read", "write", "open", "close"]
            .into_iter()
            .filter(|name| {
                let number = syscalls::number(name).unwrap().into();
                bpf::run(&program, &Call::new(number, [0; 6])).0 == 0x7fff_0000
            })
            .collect()
    };
    assert_eq!(allowed(6, 18), ["ptrace", "write", "close"]);
    assert_eq!(allowed(4, 8), ["ptrace", "write", "close"]);
    assert_eq!(allowed(4, 7), ["kcmp", "write", "close"]);
    assert_eq!(allowed(3, 18), ["kcmp", "write", "close"]);
}
