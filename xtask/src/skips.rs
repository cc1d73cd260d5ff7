// SPDX-License-Identifier: Apache-2.0
//! The list of tests that may be skipped, `tests/skips.txt`: a test that is skipped in CI and not listed has failed.
//! Otherwise a test could stop looking at anything, and nobody would see it.
//!
//! A line is `lane | test | reason`; `*` stands for any text. On a developer's machine, which may lack more than CI's, a
//! new skip is only told.

use std::path::Path;

use crate::error::Error;
use crate::tally::{Skip, Tally};

/// The list, below the root of the workspace.
const FILE: &str = "tests/skips.txt";

/// What may be skipped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Skips(Vec<[String; 3]>);

impl Skips {
    pub(crate) fn read(root: &Path) -> Result<Skips, Error> {
        let path = root.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
        Skips::parse(&text)
    }

    fn parse(text: &str) -> Result<Skips, Error> {
        let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let listed: Result<Vec<_>, _> = lines
            .map(|(number, line)| {
                let parts: Vec<String> = line.splitn(3, '|').map(|part| part.trim().to_owned()).collect();
                <[String; 3]>::try_from(parts)
                    .ok()
                    .filter(|parts| parts.iter().all(|part| !part.is_empty()))
                    .ok_or_else(|| {
                        Error::Usage(format!("{FILE}:{number}: not `lane | test | reason`: {line:?}"))
                    })
            })
            .collect();
        listed.map(Skips)
    }

    /// The skips of a lane that are not listed.
    pub(crate) fn new_ones<'a>(&self, lane: &str, tally: &'a Tally) -> Vec<&'a Skip> {
        let is_listed = |skip: &Skip| {
            self.0.iter().any(|[of, test, reason]| {
                matches(of, lane) && matches(test, &skip.test) && matches(reason, &skip.reason)
            })
        };
        tally.skips.iter().filter(|skip| !is_listed(skip)).collect()
    }
}

/// Whether this is CI.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Tells the skips of a lane that are not listed, and counts them as failures where `strict`.
pub(crate) fn judge(skips: &Skips, lane: &str, tally: &mut Tally, strict: bool) {
    let new: Vec<Skip> = skips.new_ones(lane, tally).into_iter().cloned().collect();
    for Skip { test, reason } in &new {
        println!("lane {lane}: a skip that is not in {FILE}: {lane} | {test} | {reason}");
    }
    if strict {
        tally.failed += new.len();
        tally.skips.retain(|skip| !new.contains(skip));
    } else if !new.is_empty() {
        println!("lane {lane}: in CI that is a failure");
    }
}

/// Whether a text is as the pattern says, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(skips: &[(&str, &str)]) -> Tally {
        let skips =
            skips.iter().map(|(test, reason)| Skip { test: (*test).into(), reason: (*reason).into() });
        Tally { passed: 3, failed: 0, skips: skips.collect() }
    }

    #[test]
    fn a_skip_that_is_not_listed_fails_where_it_matters_and_one_that_is_does_not() {
        let skips = Skips::parse("# why\n\nagent | systemd::* | systemd as init\n").unwrap();
        let all = [("systemd::a", "systemd as init"), ("systemd::b", "root"), ("other", "systemd as init")];
        let mut strict = tally(&all);
        judge(&skips, "agent", &mut strict, true);
        assert_eq!(strict.to_string(), "3 passed, 2 failed, 1 skipped");
        let mut mild = tally(&all);
        judge(&skips, "agent", &mut mild, false);
        assert_eq!(mild, tally(&all));
        let mut elsewhere = tally(&all[..1]);
        judge(&skips, "kernel", &mut elsewhere, true);
        assert_eq!(elsewhere.failed, 1);
    }

    #[test]
    fn a_line_has_three_parts() {
        assert!(Skips::parse("agent | a").is_err());
        assert!(Skips::parse("agent | | a").is_err());
        assert!(Skips::parse("agent | a | b | c").is_ok());
    }

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(
            matches("*", "anything") && matches("a*c", "abc") && matches("a*c", "ac") && matches("a", "a")
        );
        assert!(matches("a*b*c", "a1b2c") && matches("*b", "ab"));
        assert!(
            !matches("a", "ab") && !matches("a*c", "ab") && !matches("a*b*c", "acb") && !matches("", "a")
        );
    }

    #[test]
    fn the_list_of_this_workspace_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert!(!Skips::read(&root).unwrap().0.is_empty());
    }
}
