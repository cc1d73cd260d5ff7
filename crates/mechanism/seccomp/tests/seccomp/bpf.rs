// SPDX-License-Identifier: Apache-2.0
//! A small machine for classic BPF as seccomp has it, and the checks of the kernel's loader.

use berth_seccomp::{Insn, Program};

pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const I386: u32 = 0x4000_0003;
pub(crate) const AARCH64: u32 = 0xc000_00b7;

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    pub(crate) fn new(number: u32, args: [u64; 6]) -> Call {
        Call { arch: X86_64, number, args }
    }

    fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0..4].copy_from_slice(&self.number.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.arch.to_le_bytes());
        bytes[8..16].copy_from_slice(&0x7fff_1234_5678u64.to_le_bytes());
        for (slot, arg) in bytes[16..].chunks_exact_mut(8).zip(self.args) {
            slot.copy_from_slice(&arg.to_le_bytes());
        }
        bytes
    }
}

/// What the filter answers, and after how many instructions.
pub(crate) fn run(program: &Program, call: &Call) -> (u32, usize) {
    run_insns(&program.insns().collect::<Vec<Insn>>(), call)
}

/// The same, for many calls of one program.
pub(crate) fn run_insns(insns: &[Insn], call: &Call) -> (u32, usize) {
    let data = call.bytes();
    let (mut at, mut accumulator, mut steps) = (0, 0u32, 0);
    loop {
        let insn = insns[at];
        steps += 1;
        at += 1;
        let branch = |taken: bool| usize::from(if taken { insn.jt } else { insn.jf });
        match insn.code {
            0x20 => {
                let from = insn.k as usize;
                accumulator = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x54 => accumulator &= insn.k,
            0x05 => at += insn.k as usize,
            0x15 => at += branch(accumulator == insn.k),
            0x25 => at += branch(accumulator > insn.k),
            0x35 => at += branch(accumulator >= insn.k),
            0x45 => at += branch(accumulator & insn.k != 0),
            0x06 => return (insn.k, steps),
            code => panic!("instruction {} has code {code:#x}", at - 1),
        }
    }
}

/// The checks of bpf_check_classic and seccomp_check_filter, and that the kernel can tell which calls are always
/// allowed (seccomp_is_const_allow): only the codes that [`run`] knows, without the two that we do not write.
/// Returns how many instructions can never be reached; the kernel does not mind them.
pub(crate) fn check(insns: &[Insn]) -> usize {
    assert!((1..=4096).contains(&insns.len()));
    let mut reached = vec![false; insns.len()];
    reached[0] = true;
    for (at, insn) in insns.iter().enumerate() {
        let from_here = reached[at];
        let mut goes_to = |skip: u32| {
            let to = at + 1 + skip as usize;
            assert!(to < insns.len(), "instruction {at} jumps behind the end");
            reached[to] |= from_here;
        };
        match insn.code {
            0x20 => {
                assert!(insn.k < 64 && insn.k.is_multiple_of(4), "instruction {at} loads from {}", insn.k);
                goes_to(0);
            }
            0x54 => goes_to(0),
            0x05 => goes_to(insn.k),
            0x15 | 0x35 => {
                goes_to(insn.jt.into());
                goes_to(insn.jf.into());
            }
            0x06 => {}
            code => panic!("instruction {at} has code {code:#x}"),
        }
    }
    assert_eq!(insns.last().unwrap().code, 0x06);
    reached.iter().filter(|reached| !**reached).count()
}
