// SPDX-License-Identifier: Apache-2.0
//! Where the last lines of a file begin.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use berth_sys::rustix::fs::{SeekFrom, seek};
use flate2::read::MultiGzDecoder;

use crate::Errno;

/// How much is looked at at once.
const BLOCK: u64 = 64 << 10;

/// What came of looking for the beginnings of lines.
pub(super) enum Tail {
    /// Here the first of them begins.
    At(u64),
    /// There are only so many.
    Fewer(u64),
}

/// Where the last so many lines of a file begin.
pub(super) fn tail(file: &File, lines: u64) -> io::Result<Tail> {
    let size = file.metadata()?.len();
    if lines == 0 {
        return Ok(Tail::At(size));
    }
    let (mut end, mut found) = (size, 0);
    let mut buffer = vec![0; usize::try_from(BLOCK.min(size)).unwrap_or(0)];
    loop {
        end = before_hole(file, end);
        if end == 0 {
            break;
        }
        let begin = end.saturating_sub(BLOCK);
        let block = &mut buffer[..usize::try_from(end - begin).unwrap_or(0)];
        file.read_exact_at(block, begin)?;
        for (index, byte) in block.iter().enumerate().rev() {
            let at = begin + index as u64;
            if *byte != b'\n' || at + 1 == size {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(Tail::At(at + 1));
            }
        }
        end = begin;
    }
    if size == 0 {
        return Ok(Tail::Fewer(0));
    }
    // The line that begins at the file's beginning.
    found += 1;
    Ok(if found == lines { Tail::At(0) } else { Tail::Fewer(found) })
}

/// Where the hole begins that ends at `end`, or a part of it: no line ends in it, and a container can make one of any size.
pub(super) fn before_hole(file: &File, end: u64) -> u64 {
    let (mut begin, mut step) = (end, BLOCK);
    while begin > 0 {
        let earlier = begin.saturating_sub(step);
        match seek(file, SeekFrom::Data(earlier)) {
            Ok(data) if data < begin => break,
            Ok(_) | Err(Errno::NXIO) => begin = earlier,
            Err(_) => break,
        }
        step = step.saturating_mul(2);
    }
    begin
}

pub(super) fn tail_packed(open: impl Fn() -> io::Result<File>, lines: u64) -> io::Result<Tail> {
    let begins = |mut each: Box<dyn FnMut(u64) -> bool + '_>| -> io::Result<()> {
        let mut decoder = MultiGzDecoder::new(open()?);
        let (mut room, mut at, mut fresh) = (vec![0; 64 << 10], 0u64, true);
        loop {
            let count = decoder.read(&mut room)?;
            if count == 0 {
                return Ok(());
            }
            for byte in &room[..count] {
                if fresh && !each(at) {
                    return Ok(());
                }
                fresh = *byte == b'\n';
                at += 1;
            }
        }
    };
    let mut found = 0u64;
    begins(Box::new(|_| {
        found += 1;
        true
    }))?;
    if found < lines {
        return Ok(Tail::Fewer(found));
    }
    let (mut skip, mut place) = (found - lines, 0);
    begins(Box::new(|at| {
        place = at;
        skip = skip.wrapping_sub(1);
        skip != u64::MAX
    }))?;
    Ok(Tail::At(place))
}
