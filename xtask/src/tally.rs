// SPDX-License-Identifier: Apache-2.0
//! Counting tests. A test that could not look at what it is for has not passed, so a skipped one is taken
//! out of the passed ones and printed with what it lacked.

use std::fmt;
use std::ops::AddAssign;

/// The outcome of some tests. Printed, it is the closing line of a lane.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skips: Vec<Skip>,
}

/// A test that was not run, or found that it can not run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) test: String,
    pub(crate) reason: String,
}

impl Tally {
    /// One line for each skipped test.
    pub(crate) fn print_skips(&self) {
        for Skip { test, reason } in &self.skips {
            println!("skipped: {test}: {reason}");
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skips.extend(other.skips);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skips.len())
    }
}

/// Reads what `cargo test` prints, line by line.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    started: usize,
    ended: usize,
    passed: usize,
    failed: usize,
    ignored: Vec<Skip>,
}

impl Listener {
    /// Takes one line of standard output, without its newline.
    pub(crate) fn hear(&mut self, line: &str) {
        if is_start(line) {
            self.started += 1;
        } else if let Some((passed, failed)) = result_of(line) {
            self.ended += 1;
            self.passed += passed;
            self.failed += failed;
        } else if let Some(skip) = ignored(line) {
            self.ignored.push(skip);
        }
    }

    /// Takes back what was heard of a program that has not ended: it is run again.
    pub(crate) fn forget_unended(&mut self) {
        self.started = self.ended;
    }

    /// The tally, once cargo has ended (`success`) and the tests have left their `skips`: the text of the
    /// file that `BERTH_SKIPS` names, `test: reason` on each line.
    ///
    /// A test program that started and printed no result has died: one failure. When cargo itself failed
    /// and nothing else did, something did not build: one failure too.
    pub(crate) fn tally(self, success: bool, skips: &str) -> Tally {
        let mut failed = self.failed + self.started.saturating_sub(self.ended);
        if !success && failed == 0 {
            failed = 1;
        }
        let mut reported: Vec<Skip> = Vec::new();
        for line in skips.lines().filter(|line| !line.trim().is_empty()) {
            let (test, reason) = line.split_once(": ").unwrap_or((line, "it did not say why"));
            if !reported.iter().any(|skip| skip.test == test) {
                reported.push(Skip { test: test.to_owned(), reason: reason.to_owned() });
            }
        }
        // These returned early and so count as passed with cargo.
        let passed = self.passed.saturating_sub(reported.len());
        reported.extend(self.ignored);
        Tally { passed, failed, skips: reported }
    }
}

/// `running 12 tests`
fn is_start(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("running ") else { return false };
    let count = rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"));
    count.is_some_and(|n| n.parse::<usize>().is_ok())
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`, wherever on the line: a test may have left text
/// without a newline before it.
fn result_of(line: &str) -> Option<(usize, usize)> {
    let (_, rest) = line.split_once("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    let mut numbers = counts.split("; ").map(|part| part.split_once(' '));
    let (passed, word) = numbers.next()??;
    let (failed, other) = numbers.next()??;
    (word == "passed" && other == "failed").then_some(())?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

/// `test a::b ... ignored, the reason`
fn ignored(line: &str) -> Option<Skip> {
    let (test, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = match rest.strip_prefix(", ") {
        Some(reason) => reason,
        None if rest.is_empty() && test.contains(" - ") => "the example is marked `ignore`",
        None if rest.is_empty() => "marked #[ignore] without a reason",
        None => return None,
    };
    Some(Skip { test: test.to_owned(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(lines: &[&str]) -> Listener {
        let mut listener = Listener::default();
        lines.iter().for_each(|line| listener.hear(line));
        listener
    }

    const GOOD: &str =
        "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s";
    const BAD: &str =
        "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s";

    #[test]
    fn results_of_several_programs_are_added() {
        let heard = hear(&["running 5 tests", GOOD, "", "running 6 tests", BAD]);
        assert_eq!(heard.tally(false, "").to_string(), "8 passed, 2 failed, 0 skipped");
    }

    #[test]
    fn skipped_tests_are_not_counted_as_passed() {
        let tally =
            hear(&["running 5 tests", GOOD]).tally(true, "a: no docker here\n\nb: no lxc\na: again\n");
        assert_eq!(tally.to_string(), "3 passed, 0 failed, 2 skipped");
        assert_eq!(tally.skips[0], Skip { test: "a".into(), reason: "no docker here".into() });
    }

    #[test]
    fn ignored_tests_are_skipped_with_the_reason_of_their_attribute() {
        let tally = hear(&["test a::b ... ignored, needs a VM", "test c ... ignored", "test d ... ok"])
            .tally(true, "");
        assert_eq!(
            tally.skips,
            [
                Skip { test: "a::b".into(), reason: "needs a VM".into() },
                Skip { test: "c".into(), reason: "marked #[ignore] without a reason".into() }
            ]
        );
    }

    #[test]
    fn a_program_that_is_run_again_counts_once() {
        let mut heard = hear(&["running 5 tests", GOOD, "running 6 tests", "test a ... ok"]);
        heard.forget_unended();
        heard.hear("running 6 tests");
        heard.hear(BAD);
        assert_eq!(heard.tally(false, "").to_string(), "8 passed, 2 failed, 0 skipped");
    }

    #[test]
    fn a_program_that_died_is_a_failure_beside_those_that_were_counted() {
        let heard = hear(&["running 6 tests", BAD, "running 1 test"]);
        assert_eq!(heard.tally(false, "").failed, 3);
    }

    #[test]
    fn a_build_that_failed_is_a_failure() {
        assert_eq!(hear(&[]).tally(false, "").to_string(), "0 passed, 1 failed, 0 skipped");
        assert_eq!(hear(&[]).tally(true, "").to_string(), "0 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn text_left_on_the_line_does_not_hide_a_result_and_other_text_is_none() {
        assert_eq!(result_of(&format!("half a line{GOOD}")), Some((5, 0)));
        assert_eq!(result_of("test result: who knows"), None);
        assert!(!is_start("running away"));
        assert!(is_start("running 1 test"));
    }
}
