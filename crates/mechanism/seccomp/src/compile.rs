// SPDX-License-Identifier: Apache-2.0
//! From a profile to a filter for x86-64: a balanced tree over ranges of call numbers, with the tests of
//! arguments in its leaves.
//!
//! A list of comparisons, as libseccomp writes it by default, makes the kernel work twice: when it loads the
//! filter (it tries every call number, to find those that are always allowed) and at every call with a test. The
//! tree is short and shallow for both. Numbers of the same action lie side by side, so ranges are few.
//!
//! ```text
//! architecture is not x86-64        kill the process (the 32-bit calls have other numbers)
//! number in the tree                its action, or the tests of its rules
//! number above the profile's last   ENOSYS or the default action, see Profile::beyond
//! number from 0x40000000 (x32)      ENOSYS, as a kernel without x32 says
//! ```
//!
//! Arguments have 64 bits, the accumulator 32. Rules with one test of the same argument become one function from
//! value to action, cut into ranges, and the same tree is built twice: over the high half, and for each high half
//! in which something changes over the low half.

use crate::assemble::{Assembler, Compare, Target};
use crate::profile::{Action, Comparison, ENOSYS, Profile, Rule, Test};
use crate::program::{MAX_LEN, Program};
use crate::{Error, syscalls};

/// Raised when the same profile compiles to something else than before, here or because it is read differently:
/// cached programs of other versions are not used.
pub(crate) const VERSION: u32 = 1;

/// AUDIT_ARCH_X86_64 (linux/audit.h).
const ARCH_X86_64: u32 = 0xc000_003e;
/// __X32_SYSCALL_BIT (asm/unistd.h).
const X32_BIT: u32 = 0x4000_0000;

// Offsets in `struct seccomp_data` (linux/seccomp.h); arguments are 64 bits, low half first on x86-64.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// How many exceptions a leaf of the tree may have: each is one comparison, where splitting around it takes two.
const EXCEPTIONS: usize = 2;

pub(crate) fn compile(profile: &Profile, caps: u64) -> Result<Program, Error> {
    let rules: Vec<&Rule> = profile.rules.iter().filter(|rule| rule.applies(caps)).collect();
    let mut asm = Assembler::default();
    let leaves = leaves(&mut asm, &rules, profile.default)?;
    let ranges = ranges(profile, &leaves);
    let tree = tree(&mut asm, &ranges);
    let numbers = asm.load(NUMBER, u32::MAX, tree);
    let killed = Target::Return(Action::KillProcess.value());
    let arch = asm.branch(Compare::Equal, ARCH_X86_64, numbers, killed);
    let start = asm.load(ARCH, u32::MAX, arch);
    asm.finish(start)
}

/// What follows each call number, with the code for tests of arguments already written.
fn leaves(asm: &mut Assembler, rules: &[&Rule], default: Action) -> Result<[Target; syscalls::COUNT], Error> {
    let plain = plain(rules, default);
    let otherwise =
        |plain: &Option<Plain>| Target::Return(plain.map_or(default, |plain| plain.action).value());
    let mut leaves = [Target::Return(0); syscalls::COUNT];
    for (leaf, plain) in leaves.iter_mut().zip(&plain) {
        *leaf = otherwise(plain);
    }

    // Calls with the same rules share their code.
    let mut written: Vec<Written> = Vec::new();
    for group in tested(rules, &plain).chunk_by(|left, right| left.call == right.call) {
        let call = usize::from(group[0].call);
        let orders: Vec<usize> = group.iter().map(|entry| entry.order).collect();
        let otherwise = otherwise(&plain[call]);
        let known = written.iter().find(|known| known.orders == orders && known.otherwise == otherwise);
        leaves[call] = match known {
            Some(known) => known.code,
            None => {
                let rules: Vec<&Rule> = orders.iter().map(|order| rules[*order]).collect();
                let code = arguments(asm, &rules, otherwise)?;
                written.push(Written { orders, otherwise, code });
                code
            }
        };
    }
    Ok(leaves)
}

/// The code for a list of rules with tests.
struct Written {
    orders: Vec<usize>,
    otherwise: Target,
    code: Target,
}

/// A rule with tests, for one of its calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tested {
    call: u16,
    rank: i32,
    order: usize,
}

/// The rules with tests that count, by call, the strictest first. One does not count if a rule without tests
/// stands before it.
fn tested(rules: &[&Rule], plain: &[Option<Plain>]) -> Vec<Tested> {
    let mut tested = Vec::new();
    for (order, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.tests.is_empty()) {
        let rank = rule.action.rank();
        for call in rule.calls.iter().copied() {
            let hidden =
                plain[usize::from(call)].is_some_and(|plain| (plain.rank, plain.order) < (rank, order));
            if !hidden {
                tested.push(Tested { call, rank, order });
            }
        }
    }
    tested.sort_unstable();
    tested.dedup();
    tested
}

/// The rule without tests for a call: the first, see `profile.rs`.
#[derive(Clone, Copy)]
struct Plain {
    rank: i32,
    order: usize,
    action: Action,
}

fn plain(rules: &[&Rule], default: Action) -> [Option<Plain>; syscalls::COUNT] {
    let mut plain = [None; syscalls::COUNT];
    for (order, rule) in rules.iter().enumerate() {
        if rule.tests.is_empty() && rule.action != default {
            let (rank, action) = (rule.action.rank(), rule.action);
            for call in rule.calls.iter() {
                plain[usize::from(*call)].get_or_insert(Plain { rank, order, action });
            }
        }
    }
    plain
}

/// The whole space of numbers as ranges: where each begins and what follows. No two neighbours are equal.
fn ranges(profile: &Profile, leaves: &[Target]) -> Vec<(u32, Target)> {
    let named = profile.highest.map_or(0, |highest| usize::from(highest) + 1);
    let mut ranges = Vec::with_capacity(leaves.len());
    let mut add = |start: u32, leaf: Target| {
        if ranges.last().is_none_or(|(_, last)| *last != leaf) {
            ranges.push((start, leaf));
        }
    };
    for (number, leaf) in (0..).zip(&leaves[..named]) {
        add(number, *leaf);
    }
    add(u32::try_from(named).expect("at most syscalls::COUNT"), Target::Return(profile.beyond().value()));
    add(X32_BIT, Target::Return(Action::Errno(ENOSYS).value()));
    ranges
}

/// The code for a call with tests: the first of `rules` that matches decides, else `otherwise`.
fn arguments(asm: &mut Assembler, rules: &[&Rule], otherwise: Target) -> Result<Target, Error> {
    let mut next = otherwise;
    // Written backwards, so the last group first.
    for group in
        rules.chunk_by(|left, right| function_of(left).is_some_and(|of| function_of(right) == Some(of))).rev()
    {
        let first = group[0];
        next = match function_of(first) {
            Some((arg, mask)) => {
                let mut pieces = vec![(0, next)];
                for rule in group.iter().rev() {
                    paint_all(&mut pieces, rule.tests[0].is, Target::Return(rule.action.value()));
                }
                value(asm, arg, mask, &pieces)
            }
            None => {
                let mut matched = Target::Return(first.action.value());
                for test in first.tests.iter().rev() {
                    let mut pieces = vec![(0, next)];
                    paint_all(&mut pieces, test.is, matched);
                    matched = value(asm, test.arg, mask(*test), &pieces);
                }
                matched
            }
        };
        if asm.is_too_long() {
            return Err(Error::TooLong { limit: MAX_LEN });
        }
    }
    Ok(next)
}

/// Rules with a single test of the same bits of the same argument are one function of these bits.
fn function_of(rule: &Rule) -> Option<(u8, u64)> {
    match *rule.tests {
        [test] => Some((test.arg, mask(test))),
        _ => None,
    }
}

fn mask(test: Test) -> u64 {
    match test.is {
        Comparison::Masked { mask, .. } => mask,
        _ => u64::MAX,
    }
}

/// Gives `target` to all values for which the comparison is true.
fn paint_all(pieces: &mut Vec<(u64, Target)>, is: Comparison, target: Target) {
    const LAST: u64 = u64::MAX;
    match is {
        Comparison::Equal(value) | Comparison::Masked { value, .. } => paint(pieces, value, value, target),
        Comparison::LessOrEqual(value) => paint(pieces, 0, value, target),
        Comparison::GreaterOrEqual(value) => paint(pieces, value, LAST, target),
        Comparison::Less(value) => {
            if let Some(last) = value.checked_sub(1) {
                paint(pieces, 0, last, target);
            }
        }
        Comparison::Greater(value) => {
            if let Some(first) = value.checked_add(1) {
                paint(pieces, first, LAST, target);
            }
        }
        Comparison::NotEqual(value) => {
            paint_all(pieces, Comparison::Less(value), target);
            paint_all(pieces, Comparison::Greater(value), target);
        }
    }
}

/// Gives `target` to the values from `first` to `last`. Pieces are (where it begins, what follows), sorted, the
/// first at 0.
fn paint(pieces: &mut Vec<(u64, Target)>, first: u64, last: u64, target: Target) {
    let start = pieces.partition_point(|piece| piece.0 < first);
    let end = pieces.partition_point(|piece| piece.0 <= last);
    let after = match last.checked_add(1) {
        // What follows `last` so far goes on behind it, unless a piece begins there anyway.
        Some(after) if pieces.get(end).is_none_or(|piece| piece.0 != after) => {
            Some((after, pieces[end - 1].1))
        }
        _ => None,
    };
    pieces.splice(start..end, [(first, target)].into_iter().chain(after));
}

/// The code for a function of the bits `mask` of argument `arg`.
fn value(asm: &mut Assembler, arg: u8, mask: u64, pieces: &[(u64, Target)]) -> Target {
    let low_half = ARGS + 8 * u32::from(arg);
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (high_mask, low_mask) = halves(mask);

    // One entry for each high half at which something changes: a tree over the low half where it changes within.
    let mut high: Vec<(u32, Target)> = Vec::new();
    let mut before = pieces[0].1;
    for group in pieces.chunk_by(|left, right| halves(left.0).0 == halves(right.0).0) {
        let half = halves(group[0].0).0;
        let mut low: Vec<(u32, Target)> = Vec::with_capacity(group.len() + 1);
        if halves(group[0].0).1 != 0 {
            low.push((0, before));
        }
        low.extend(group.iter().map(|(start, target)| (halves(*start).1, *target)));
        low.dedup_by(|right, left| right.1 == left.1);
        before = group[group.len() - 1].1;
        let inside = tree(asm, &low);
        let inside = if low.len() > 1 { asm.load(low_half, low_mask, inside) } else { inside };
        high.push((half, inside));
        if let Some(next) = half.checked_add(1) {
            high.push((next, before));
        }
    }
    // A later group may begin where the entry behind an earlier one was put: the later one holds.
    high.dedup_by(|right, left| {
        let same = right.0 == left.0;
        if same {
            left.1 = right.1;
        }
        same
    });
    high.dedup_by(|right, left| right.1 == left.1);
    if high_mask == 0 {
        return high[0].1;
    }
    let outside = tree(asm, &high);
    if high.len() > 1 { asm.load(low_half + 4, high_mask, outside) } else { outside }
}

/// The code that finds the accumulator's range. `ranges` are (where it begins, what follows), sorted; whoever
/// calls has made sure that the accumulator is not below the first.
fn tree(asm: &mut Assembler, ranges: &[(u32, Target)]) -> Target {
    let mut leaves: Vec<&[(u32, Target)]> = Vec::new();
    let mut rest = ranges;
    while !rest.is_empty() {
        let end = ranges.len() - rest.len();
        let next_start = |len: usize| ranges.get(end + len).map(|range| range.0);
        let len = (2..=rest.len().min(2 * EXCEPTIONS + 1))
            .rev()
            .find(|len| base(&rest[..*len], next_start(*len)).is_some())
            .unwrap_or(1);
        let (leaf, others) = rest.split_at(len);
        leaves.push(leaf);
        rest = others;
    }
    split(asm, &leaves, None)
}

/// What a leaf leads to but for a few single values, if it is of that kind. A leaf of one range always is.
fn base(leaf: &[(u32, Target)], end: Option<u32>) -> Option<Target> {
    let is_single = |index: usize| {
        let end = leaf.get(index + 1).map(|range| range.0).or(end);
        end.is_some_and(|end| end - leaf[index].0 == 1)
    };
    let wide = (0..leaf.len()).find(|index| !is_single(*index)).unwrap_or(leaf.len() - 1);
    let base = leaf[wide].1;
    let others = || leaf.iter().enumerate().filter(|(_, range)| range.1 != base);
    (others().count() <= EXCEPTIONS && others().all(|(index, _)| is_single(index))).then_some(base)
}

/// Halves until one leaf is left. `end` is where the range behind the last leaf begins.
fn split(asm: &mut Assembler, leaves: &[&[(u32, Target)]], end: Option<u32>) -> Target {
    if leaves.len() > 1 {
        let (left, right) = leaves.split_at(leaves.len() / 2);
        let middle = right[0][0].0;
        let above = split(asm, right, end);
        let below = split(asm, left, Some(middle));
        return asm.branch(Compare::GreaterOrEqual, middle, above, below);
    }
    let leaf = leaves[0];
    let base = base(leaf, end).unwrap_or(leaf[0].1);
    leaf.iter()
        .rev()
        .filter(|range| range.1 != base)
        .fold(base, |next, (value, target)| asm.branch(Compare::Equal, *value, *target, next))
}
