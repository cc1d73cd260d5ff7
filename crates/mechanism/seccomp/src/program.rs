// SPDX-License-Identifier: Apache-2.0
//! Compiled filters: classic BPF as the kernel takes it (`struct sock_filter`, linux/filter.h).

use std::borrow::Cow;
use std::fmt;

use crate::Error;

/// The most instructions that the kernel takes in one filter (BPF_MAXINSNS, linux/bpf_common.h).
pub const MAX_LEN: usize = 4096;

/// The size of one instruction in bytes.
pub(crate) const INSN_SIZE: usize = 8;

/// One instruction of classic BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Insn {
    /// The operation.
    pub code: u16,
    /// How many instructions to skip when a comparison is true.
    pub jt: u8,
    /// How many instructions to skip when it is false.
    pub jf: u8,
    /// The constant: a value, an offset, or how many instructions an unconditional jump skips.
    pub k: u32,
}

impl Insn {
    /// As `struct sock_filter` lies in memory.
    pub fn to_bytes(self) -> [u8; INSN_SIZE] {
        let [code0, code1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [code0, code1, self.jt, self.jf, k0, k1, k2, k3]
    }

    /// From `struct sock_filter` in memory.
    pub fn from_bytes(bytes: [u8; INSN_SIZE]) -> Insn {
        let [code0, code1, jt, jf, k0, k1, k2, k3] = bytes;
        let (code, k) = (u16::from_ne_bytes([code0, code1]), u32::from_ne_bytes([k0, k1, k2, k3]));
        Insn { code, jt, jf, k }
    }
}

impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x} {:3} {:3} {:#010x}", self.code, self.jt, self.jf, self.k)
    }
}

/// A compiled filter. It is kept as the bytes that seccomp(2) reads, so loading it costs no copy and sending it
/// to another process needs no encoding.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    bytes: Cow<'static, [u8]>,
}

impl Program {
    pub(crate) fn new(insns: impl Iterator<Item = Insn>) -> Program {
        Program { bytes: insns.flat_map(Insn::to_bytes).collect::<Vec<u8>>().into() }
    }

    /// One that was compiled beforehand.
    pub(crate) const fn of_static(bytes: &'static [u8]) -> Program {
        Program { bytes: Cow::Borrowed(bytes) }
    }

    /// Takes bytes that [`Program::as_bytes`] gave, perhaps in another process of this machine.
    ///
    /// Only the length is checked here; the kernel checks every instruction when the filter is loaded.
    pub fn from_bytes(bytes: &[u8]) -> Result<Program, Error> {
        let problem = match bytes.len() / INSN_SIZE {
            0 => "it is empty",
            len if len > MAX_LEN => "it is longer than 4096 instructions",
            _ if !bytes.len().is_multiple_of(INSN_SIZE) => "its length is not a multiple of 8 bytes",
            _ => return Ok(Program { bytes: bytes.to_vec().into() }),
        };
        Err(Error::Damaged { problem })
    }

    /// The instructions as the `filter` of `struct sock_fprog`: 8 bytes each, in the byte order of this machine.
    /// They have no alignment; the kernel copies them and needs none.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many instructions: the `len` of `struct sock_fprog`.
    #[expect(clippy::len_without_is_empty, reason = "a program is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len() / INSN_SIZE
    }

    /// The instructions one by one.
    pub fn insns(&self) -> impl ExactSizeIterator<Item = Insn> + '_ {
        self.bytes.as_chunks().0.iter().map(|chunk| Insn::from_bytes(*chunk))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.insns().map(|insn| insn.to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_survives_its_bytes() {
        let insns = [
            Insn { code: 0x20, jt: 0, jf: 0, k: 4 },
            Insn { code: 0x15, jt: 1, jf: 2, k: 0xc000_003e },
            Insn { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 },
        ];
        let program = Program::new(insns.into_iter());
        assert_eq!((program.len(), program.as_bytes().len()), (3, 24));
        assert_eq!(program.insns().collect::<Vec<_>>(), insns);
        assert_eq!(Program::from_bytes(program.as_bytes()).unwrap(), program);
        assert_eq!(&program.as_bytes()[8..16], [0x15, 0, 1, 2, 0x3e, 0, 0, 0xc0]);
    }

    #[test]
    fn bytes_of_a_wrong_length_are_refused() {
        for len in [0, 1, 7, 9, (MAX_LEN + 1) * INSN_SIZE] {
            assert!(Program::from_bytes(&vec![0; len]).is_err(), "{len}");
        }
        assert!(Program::from_bytes(&vec![0; MAX_LEN * INSN_SIZE]).is_ok());
    }
}
