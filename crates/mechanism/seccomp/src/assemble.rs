// SPDX-License-Identifier: Apache-2.0
//! Writes classic BPF backwards.
//!
//! Jumps of classic BPF only go forward, so a program written from its end knows every target before the jump to
//! it, and needs neither labels nor a second pass. A comparison skips at most 255 instructions; where the target
//! is farther, a copy of it (a return) or an unconditional jump (anything else) is put in between.
//!
//! Only instructions that the kernel's own evaluator of filters understands are written (`LD|ABS`, `AND|K`,
//! `JA`, `JEQ|K`, `JGE|K`, `RET|K`; `seccomp_is_const_allow` in kernel/seccomp.c): it finds out which calls are
//! always allowed and lets them pass without running the filter. A bit set with shifts would be half as long and
//! lose that.

use crate::Error;
use crate::program::{Insn, MAX_LEN, Program};

// linux/bpf_common.h
const LD_W_ABS: u16 = 0x20;
const ALU_AND_K: u16 = 0x54;
const JMP_JA: u16 = 0x05;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;

/// Where a program goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// It ends with this value.
    Return(u32),
    /// At an instruction that is already written, counted from the end of the program.
    At(usize),
}

/// How a branch compares the accumulator with its constant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compare {
    Equal,
    GreaterOrEqual,
}

#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// The last instruction of the program comes first.
    reversed: Vec<Insn>,
    /// The latest copy of each return.
    returns: Vec<(u32, usize)>,
}

impl Assembler {
    /// A comparison of the accumulator.
    pub(crate) fn branch(&mut self, compare: Compare, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // Bringing the second one near may write one instruction, which moves the first one away by one.
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let code = match compare {
            Compare::Equal => JMP_JEQ_K,
            Compare::GreaterOrEqual => JMP_JGE_K,
        };
        let (jt, jf) = (self.short(yes), self.short(no));
        self.write(Insn { code, jt, jf, k })
    }

    /// Loads 32 bits of `struct seccomp_data` into the accumulator, keeps only `mask`, and goes on at `next`.
    pub(crate) fn load(&mut self, offset: u32, mask: u32, next: Target) -> Target {
        let Target::At(position) = next else { return next };
        if position + 1 != self.reversed.len() {
            self.jump(position);
        }
        if mask != u32::MAX {
            self.write(Insn { code: ALU_AND_K, jt: 0, jf: 0, k: mask });
        }
        self.write(Insn { code: LD_W_ABS, jt: 0, jf: 0, k: offset })
    }

    /// The finished program, which begins at `start`.
    pub(crate) fn finish(mut self, start: Target) -> Result<Program, Error> {
        match start {
            Target::Return(value) => {
                self.write_return(value);
            }
            Target::At(position) if position + 1 != self.reversed.len() => {
                self.jump(position);
            }
            Target::At(_) => {}
        }
        if self.reversed.len() > MAX_LEN {
            return Err(Error::TooLong { limit: MAX_LEN });
        }
        Ok(Program::new(self.reversed.into_iter().rev()))
    }

    /// Whether so much is written that the program can not be loaded any more.
    pub(crate) fn is_too_long(&self) -> bool {
        self.reversed.len() > MAX_LEN
    }

    /// A position for `target` that a comparison can reach even after `slack` further instructions.
    fn near(&mut self, target: Target, slack: usize) -> usize {
        let reach = |position: usize, len: usize| len + slack - position <= usize::from(u8::MAX) + 1;
        match target {
            Target::Return(value) => match self.returns.iter().find(|(known, _)| *known == value) {
                Some((_, position)) if reach(*position, self.reversed.len()) => *position,
                _ => self.write_return(value),
            },
            Target::At(position) if reach(position, self.reversed.len()) => position,
            Target::At(position) => self.jump(position),
        }
    }

    /// How many instructions lie between the next one to be written and `position`.
    fn short(&self, position: usize) -> u8 {
        let skipped = self.reversed.len() - position - 1;
        u8::try_from(skipped).expect("near() gave a position that a comparison reaches")
    }

    fn jump(&mut self, position: usize) -> usize {
        let skipped = self.reversed.len() - position - 1;
        let k = u32::try_from(skipped).unwrap_or(u32::MAX);
        self.reversed.push(Insn { code: JMP_JA, jt: 0, jf: 0, k });
        self.reversed.len() - 1
    }

    fn write_return(&mut self, value: u32) -> usize {
        self.reversed.push(Insn { code: RET_K, jt: 0, jf: 0, k: value });
        let position = self.reversed.len() - 1;
        match self.returns.iter_mut().find(|(known, _)| *known == value) {
            Some(entry) => entry.1 = position,
            None => self.returns.push((value, position)),
        }
        position
    }

    fn write(&mut self, insn: Insn) -> Target {
        self.reversed.push(insn);
        Target::At(self.reversed.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(program: &Program) -> Vec<(u16, u8, u8, u32)> {
        program.insns().map(|insn| (insn.code, insn.jt, insn.jf, insn.k)).collect()
    }

    #[test]
    fn a_branch_shares_the_returns_behind_it() {
        let mut asm = Assembler::default();
        let (yes, no) = (Target::Return(1), Target::Return(2));
        let second = asm.branch(Compare::Equal, 8, no, yes);
        let first = asm.branch(Compare::GreaterOrEqual, 7, yes, second);
        let start = asm.load(4, u32::MAX, first);
        let expected = [
            (LD_W_ABS, 0, 0, 4),
            (JMP_JGE_K, 2, 0, 7),
            (JMP_JEQ_K, 0, 1, 8),
            (RET_K, 0, 0, 2),
            (RET_K, 0, 0, 1),
        ];
        // The order of the two returns is free; what they mean is not.
        let program = asm.finish(start).unwrap();
        assert_eq!(program.len(), 5);
        assert_eq!(codes(&program)[..1], expected[..1]);
        let at = |index: usize, skip: u8| codes(&program)[index + 1 + usize::from(skip)].3;
        let (_, jt, jf, _) = codes(&program)[1];
        assert_eq!((at(1, jt), jf), (1, 0));
        let (_, jt, jf, _) = codes(&program)[2];
        assert_eq!((at(2, jt), at(2, jf)), (2, 1));
    }

    #[test]
    fn a_branch_to_one_place_is_no_branch_and_a_load_before_a_return_no_load() {
        let mut asm = Assembler::default();
        let same = asm.branch(Compare::Equal, 1, Target::Return(5), Target::Return(5));
        assert_eq!(same, Target::Return(5));
        let start = asm.load(0, 1, same);
        assert_eq!(codes(&asm.finish(start).unwrap()), [(RET_K, 0, 0, 5)]);
    }

    #[test]
    fn far_targets_are_reached_through_a_copy_or_a_jump() {
        let mut asm = Assembler::default();
        let far = asm.branch(Compare::Equal, 0, Target::Return(1), Target::Return(2));
        let mut next = Target::Return(3);
        for k in 0..600 {
            next = asm.branch(Compare::Equal, k, Target::Return(4), next);
        }
        let start = asm.branch(Compare::Equal, 1, far, Target::Return(2));
        let program = asm.finish(start).unwrap();
        let insns: Vec<Insn> = program.insns().collect();
        // 2 returns and a branch; 600 branches with a first pair of returns and copies; the last branch, a jump
        // and a copy.
        assert_eq!(insns[0].code, JMP_JEQ_K);
        let jump = insns[1 + usize::from(insns[0].jt)];
        let copy = insns[1 + usize::from(insns[0].jf)];
        assert_eq!((jump.code, copy), (JMP_JA, Insn { code: RET_K, jt: 0, jf: 0, k: 2 }));
        let at = 1 + usize::from(insns[0].jt) + 1 + usize::try_from(jump.k).unwrap();
        assert_eq!((insns[at].code, insns[at].k), (JMP_JEQ_K, 0));
    }

    #[test]
    fn more_than_the_kernel_takes_is_an_error() {
        let mut asm = Assembler::default();
        let mut next = Target::Return(3);
        for k in 0..5000 {
            next = asm.branch(Compare::Equal, k, Target::Return(4), next);
        }
        assert!(matches!(asm.finish(next), Err(Error::TooLong { .. })));
    }
}
