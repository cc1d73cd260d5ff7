// SPDX-License-Identifier: Apache-2.0
//! The decision before each write.
//!
//! ```text
//! data ──> is the rest of a lost line? ── lost
//!      ──> is something missing here? ─── a line that says so; when that can not be written, lost as well
//!      ──> does it fit? ───────────────── written as it is: one system call, the usual case
//!      ──> do some of its lines fit? ──── those are written
//!      ──> at the start of a line? ────── the next file
//!      ──> else ───────────────────────── the line is finished in this file
//! ```
//! So a file has at most `max` bytes and the rest of one line, and no line is in two files. A line longer than
//! [`Policy::line`] is the exception: a container that never ends one would otherwise never let the file be rotated.

use berth_sys::Errno;

use crate::loss::Loss;

/// Where output goes.
pub trait Output {
    /// Writes some of `data`, at least a byte, and says how much.
    ///
    /// # Errors
    /// Nothing was written. `AGAIN` means that it would have to wait.
    fn write(&mut self, data: &[u8]) -> Result<usize, Errno>;

    /// Begins another file.
    ///
    /// # Errors
    /// It is still the same file.
    fn rotate(&mut self) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
}

/// How large a file becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Bytes in one file; 0: no bound, and no rotation.
    pub max: u64,
    /// Bytes of a line beyond which it may be in two files.
    pub line: u64,
}

impl Policy {
    /// Lines of up to 1 MiB stay whole.
    pub const fn rotating(max: u64) -> Policy {
        Policy { max, line: 1 << 20 }
    }

    /// One file without a bound.
    pub const UNBOUNDED: Policy = Policy { max: 0, line: 0 };
}

/// A line about what is missing, on its way. What is lost meanwhile gets a line of its own.
#[derive(Debug, Clone, Copy)]
struct Saying {
    loss: Loss,
    why: Errno,
    fresh: bool,
    said: usize,
}

/// Writes chunks of output, however they are cut.
#[derive(Debug)]
pub struct Writer<O> {
    output: O,
    policy: Policy,
    /// Bytes in this file.
    size: u64,
    /// Bytes of the line at its end that has not ended.
    open: u64,
    /// Not before the file has this size is another rotation tried.
    retry: u64,
    /// The end of a lost line is still to come.
    skipping: bool,
    /// What is missing at this place, and why.
    missing: Loss,
    why: Errno,
    /// The line about what was missing before that, of which a part is written.
    saying: Option<Saying>,
    /// What is missing in all.
    total: Loss,
    failed_rotations: u64,
}

impl<O: Output> Writer<O> {
    /// Goes on with a file that has `size` bytes; whether the last line in it has ended is `whole`.
    pub fn new(output: O, policy: Policy, size: u64, whole: bool) -> Writer<O> {
        let open = u64::from(!whole && size > 0);
        Writer {
            output,
            policy,
            size,
            open,
            retry: 0,
            skipping: false,
            missing: Loss::default(),
            why: Errno::IO,
            saying: None,
            total: Loss::default(),
            failed_rotations: 0,
        }
    }

    /// Writes all of `data`, or counts what can not be written. Never waits, unless the output does.
    pub fn feed(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            match self.step(data) {
                Ok(count) => data = &data[count..],
                Err(error) => return self.lose(data, error),
            }
        }
    }

    /// Writes as much of `data` as the output takes without waiting, and says how much that was: all of it, unless the
    /// output said `AGAIN`. What is left is to be offered again.
    pub fn offer(&mut self, data: &[u8]) -> usize {
        let mut rest = data;
        while !rest.is_empty() {
            match self.step(rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN) => return data.len() - rest.len(),
                Err(error) => {
                    self.lose(rest, error);
                    return data.len();
                }
            }
        }
        data.len()
    }

    /// Says what is missing, if something is and that can be written now. For the end, and for when the output can be
    /// written again while the container is silent.
    pub fn settle(&mut self) {
        let _ = self.confess();
    }

    /// Notes that `data`, which comes next, is not there.
    pub fn lose(&mut self, data: &[u8], why: Errno) {
        self.missing.add(data);
        self.why = why;
        self.skipping = data.last() != Some(&b'\n');
    }

    /// Notes that `bytes` bytes, which come next and nobody can look at any more, are not there.
    pub(crate) fn lose_count(&mut self, bytes: u64, why: Errno) {
        self.missing.add_all(Loss { bytes, lines: 0 });
        self.why = why;
    }

    /// Writes what was kept for a while: before anything that is missing, whatever was noted meanwhile.
    pub(crate) fn pass(&mut self, data: &[u8]) -> usize {
        let noted = (core::mem::take(&mut self.missing), core::mem::take(&mut self.skipping), self.why);
        let taken = self.offer(data);
        let (missing, skipping, why) = noted;
        if !missing.is_none() {
            self.missing.add_all(missing);
            (self.skipping, self.why) = (skipping, why);
        }
        taken
    }

    /// Whether something is missing at this place that no line in the log says yet.
    pub fn is_lossy(&self) -> bool {
        !self.missing.is_none() || self.saying.is_some()
    }

    /// All that is missing in the log.
    pub fn lost(&self) -> Loss {
        let mut all = self.total;
        all.add_all(self.missing);
        if let Some(saying) = self.saying {
            all.add_all(saying.loss);
        }
        all
    }

    /// How often a full file could not be rotated.
    pub fn failed_rotations(&self) -> u64 {
        self.failed_rotations
    }

    /// Bytes in the file that is written to.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Why the latest output was lost, once some was.
    pub fn why(&self) -> Errno {
        self.why
    }

    /// Where it goes, to be looked at.
    pub fn as_output(&self) -> &O {
        &self.output
    }

    /// Where it goes.
    pub fn output(&mut self) -> &mut O {
        &mut self.output
    }

    /// Does the next thing to do with the data, and says how much of it is done with.
    fn step(&mut self, data: &[u8]) -> Result<usize, Errno> {
        if self.skipping {
            let end = data.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let count = end.unwrap_or(data.len());
            self.missing.add(&data[..count]);
            self.skipping = end.is_none();
            return Ok(count);
        }
        self.confess()?;
        let fits = self.fitting(data);
        if fits == 0 {
            self.rotate();
            return Ok(0);
        }
        self.write(&data[..fits])
    }

    /// How much of the data goes into this file; nothing when another is to be begun.
    fn fitting(&self, data: &[u8]) -> usize {
        let room = self.policy.max.saturating_sub(self.size);
        if self.policy.max == 0 || data.len() as u64 <= room || self.size < self.retry {
            return data.len();
        }
        // Smaller than the data, so it is no more than a usize.
        let within = &data[..room as usize];
        if let Some(at) = within.iter().rposition(|byte| *byte == b'\n') {
            return at + 1;
        }
        let long = self.open >= self.policy.line;
        if self.size > 0 && (self.open == 0 || long) {
            return 0;
        }
        let longest =
            usize::try_from(self.policy.line - self.open.min(self.policy.line)).unwrap_or(usize::MAX);
        let most = &data[..data.len().min(longest.max(1))];
        most.iter().position(|byte| *byte == b'\n').map_or(most.len(), |at| at + 1)
    }

    fn write(&mut self, data: &[u8]) -> Result<usize, Errno> {
        let count = loop {
            match self.output.write(data) {
                Err(Errno::INTR) => continue,
                Ok(0) => return Err(Errno::NOSPC),
                done => break done?.min(data.len()),
            }
        };
        self.size += count as u64;
        self.open = match data[..count].iter().rposition(|byte| *byte == b'\n') {
            Some(at) => (count - at - 1) as u64,
            None => self.open + count as u64,
        };
        Ok(count)
    }

    fn rotate(&mut self) {
        match self.output.rotate() {
            Ok(()) => (self.size, self.open, self.retry) = (0, 0, 0),
            // The log goes on in the full file, and some time later it is tried again.
            Err(_) => {
                self.failed_rotations += 1;
                self.retry = self.size + (self.policy.max / 8).max(1);
            }
        }
    }

    /// Writes the line about what is missing.
    fn confess(&mut self) -> Result<(), Errno> {
        loop {
            let mut saying = match self.saying.take() {
                Some(saying) => saying,
                None if self.missing.is_none() => return Ok(()),
                None => {
                    let loss = core::mem::take(&mut self.missing);
                    // A line that was begun in this file, and whose end is lost, ends here.
                    Saying { loss, why: self.why, fresh: self.open > 0, said: 0 }
                }
            };
            let notice = saying.loss.notice(saying.why, saying.fresh);
            while let Some(rest) = notice.bytes().get(saying.said..).filter(|rest| !rest.is_empty()) {
                match self.write(rest) {
                    Ok(count) => saying.said += count,
                    Err(error) => {
                        match saying.said {
                            // Nobody has read the number yet, so it may still grow.
                            0 => self.missing.add_all(saying.loss),
                            _ => self.saying = Some(saying),
                        }
                        return Err(error);
                    }
                }
            }
            self.total.add_all(saying.loss);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Files in memory, with writes that fail or are short as told.
    #[derive(Debug, Default)]
    struct Memory {
        files: Vec<Vec<u8>>,
        script: Vec<Write>,
        rotations: Vec<bool>,
    }

    #[derive(Debug, Clone, Copy)]
    enum Write {
        Whole,
        Short(usize),
        Fails,
        Waits,
    }

    impl Output for Memory {
        fn write(&mut self, data: &[u8]) -> Result<usize, Errno> {
            let count = match self.script.pop().unwrap_or(Write::Whole) {
                Write::Whole => data.len(),
                Write::Short(most) => data.len().min(most.max(1)),
                Write::Fails => return Err(Errno::NOSPC),
                Write::Waits => return Err(Errno::AGAIN),
            };
            if self.files.is_empty() {
                self.files.push(Vec::new());
            }
            self.files.last_mut().unwrap().extend_from_slice(&data[..count]);
            Ok(count)
        }

        fn rotate(&mut self) -> Result<(), Errno> {
            match self.rotations.pop().unwrap_or(true) {
                true => {
                    self.files.push(Vec::new());
                    Ok(())
                }
                false => Err(Errno::ROFS),
            }
        }
    }

    fn writer(policy: Policy, script: Vec<Write>) -> Writer<Memory> {
        Writer::new(Memory { script, ..Memory::default() }, policy, 0, true)
    }

    fn text(writer: &Writer<Memory>) -> Vec<String> {
        writer.output.files.iter().map(|file| String::from_utf8_lossy(file).into_owned()).collect()
    }

    #[test]
    fn a_full_file_is_left_at_the_end_of_a_line() {
        let mut writer = writer(Policy::rotating(10), vec![]);
        writer.feed(b"12345\n678\n12\n");
        writer.feed(b"a long line of its own\nx");
        writer.feed(b"yz\n");
        assert_eq!(text(&writer), ["12345\n678\n", "12\n", "a long line of its own\n", "xyz\n"]);
    }

    #[test]
    fn a_line_that_has_begun_is_finished_where_it_is() {
        let mut writer = writer(Policy::rotating(8), vec![]);
        for byte in b"abc\nlonger than that\nnext\n" {
            writer.feed(&[*byte]);
        }
        assert_eq!(text(&writer), ["abc\nlonger than that\n", "next\n"]);
    }

    #[test]
    fn a_line_without_end_does_not_keep_the_file_from_being_rotated() {
        let mut writer = writer(Policy { max: 8, line: 20 }, vec![]);
        writer.feed(&[b'x'; 70]);
        let sizes: Vec<_> = writer.output.files.iter().map(Vec::len).collect();
        assert_eq!(sizes, [20, 20, 20, 10]);
    }

    #[test]
    fn what_was_there_counts() {
        let mut writer = Writer::new(Memory::default(), Policy::rotating(10), 8, false);
        writer.feed(b"tail\nnew\n");
        assert_eq!(text(&writer), ["tail\n", "new\n"]);
    }

    #[test]
    fn a_full_disk_is_said_where_the_output_is_missing() {
        let script = vec![Write::Whole, Write::Whole, Write::Fails, Write::Fails, Write::Short(3)];
        let mut writer = writer(Policy::UNBOUNDED, script);
        writer.feed(b"first\n");
        assert!(writer.is_lossy());
        writer.feed(b"second\nthi");
        writer.feed(b"rd\nfourth\n");
        let expected = "fir\n[berth] 16 bytes of output (3 line ends) are missing here: no space left on device\nfourth\n";
        assert_eq!(text(&writer), [expected]);
        assert_eq!(writer.lost(), Loss { bytes: 16, lines: 3 });
        assert!(!writer.is_lossy());
    }

    #[test]
    fn a_reader_that_has_to_be_waited_for_loses_nothing_when_it_is_offered_to() {
        let mut writer = writer(Policy::UNBOUNDED, vec![Write::Whole, Write::Waits, Write::Short(4)]);
        assert_eq!(writer.offer(b"abcdefgh\n"), 4);
        assert_eq!(writer.offer(b"efgh\n"), 5);
        assert_eq!(text(&writer), ["abcdefgh\n"]);
        assert_eq!(writer.lost(), Loss::default());
    }

    #[test]
    fn a_rotation_that_fails_is_tried_again_and_stops_nothing() {
        let mut writer = writer(Policy::rotating(80), vec![]);
        writer.output.rotations = vec![true, false];
        for _ in 0..12 {
            writer.feed(b"123456789\n");
        }
        let sizes: Vec<_> = writer.output.files.iter().map(Vec::len).collect();
        assert_eq!((sizes, writer.failed_rotations()), (vec![90, 30], 1));
    }

    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![4 => Just(b'X'), 2 => Just(b'Y'), 1 => Just(b'\n')];
        prop::collection::vec(prop::collection::vec(byte, 0..40), 0..40)
    }

    fn scripts() -> impl Strategy<Value = Vec<Write>> {
        let write = prop_oneof![
            3 => Just(Write::Whole),
            2 => (1..9usize).prop_map(Write::Short),
            2 => Just(Write::Fails),
        ];
        prop::collection::vec(write, 0..60)
    }

    proptest! {
        #[test]
        fn no_line_is_lost_split_or_moved(chunks in chunks(), max in 1u64..60) {
            let mut writer = writer(Policy::rotating(max), vec![]);
            chunks.iter().for_each(|chunk| writer.feed(chunk));
            let files = &writer.output.files;
            let all = chunks.concat();
            prop_assert_eq!(files.concat(), all.clone());
            let longest = all.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0) as u64 + 1;
            for (at, file) in files.iter().enumerate() {
                prop_assert!(at + 1 == files.len() || file.last() == Some(&b'\n'), "{files:?}");
                prop_assert!(file.len() as u64 <= max + longest, "{files:?}");
                prop_assert!(at + 1 == files.len() || !file.is_empty());
            }
        }

        /// Whatever fails: what is in the log are the bytes of the container, in order, and whole notices that say exactly
        /// how many are missing where they stand.
        #[test]
        fn what_is_lost_is_counted_where_it_is_missing(chunks in chunks(), max in 20u64..90, script in scripts()) {
            let mut writer = writer(Policy::rotating(max), script);
            chunks.iter().for_each(|chunk| writer.feed(chunk));
            writer.output.script.clear();
            writer.settle();
            let all: Vec<u8> = chunks.concat();
            let letters: Vec<u8> = all.iter().copied().filter(|byte| *byte != b'\n').collect();
            let text = String::from_utf8(writer.output.files.concat()).unwrap();
            let (mut at, mut lost) = (0, Loss::default());
            for line in text.lines() {
                match line.strip_prefix("[berth] ") {
                    Some(words) => {
                        prop_assert!(words.ends_with("are missing here: no space left on device"), "{text}");
                        let mut numbers = words.split([' ', '(']).filter_map(|word| word.parse::<u64>().ok());
                        let (bytes, lines) = (numbers.next().unwrap(), numbers.next().unwrap());
                        at += (bytes - lines) as usize;
                        lost.add_all(Loss { bytes, lines });
                    }
                    None => {
                        prop_assert_eq!(Some(line.as_bytes()), letters.get(at..at + line.len()), "{}", text);
                        at += line.len();
                    }
                }
            }
            prop_assert_eq!((at, lost), (letters.len(), writer.lost()));
        }

        #[test]
        fn offering_keeps_every_byte(chunks in chunks(), waits in prop::collection::vec(0..3usize, 0..80)) {
            let script = waits.iter().map(|n| if *n == 0 { Write::Waits } else { Write::Short(*n) }).collect();
            let mut writer = writer(Policy::rotating(30), script);
            for chunk in &chunks {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    rest = &rest[writer.offer(rest)..];
                }
            }
            prop_assert_eq!(writer.output.files.concat(), chunks.concat());
        }
    }
}
