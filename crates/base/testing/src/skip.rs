// SPDX-License-Identifier: Apache-2.0
//! How a test says that it lacks something.

use std::io::Write;

/// Says that a test lacks something, for people and for the lane (docs/checklists/adding-a-test.md).
///
/// # Panics
/// When the list of skipped tests can not be written.
pub fn skip(test: &str, lacked: &str) {
    eprintln!("skipped: {test}: {lacked}");
    let Some(list) = std::env::var_os("BERTH_SKIPS") else { return };
    let list = std::fs::OpenOptions::new().append(true).create(true).open(list);
    // One write: tests append side by side.
    let written = list.and_then(|mut list| list.write_all(format!("{test}: {lacked}\n").as_bytes()));
    assert!(written.is_ok(), "the list of skipped tests can not be written: {written:?}");
}

/// The first of these programs that is not on `PATH`.
pub fn lacks(programs: &[&str]) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let absent = |program: &&&str| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    programs.iter().find(absent).map(|program| format!("the program {program}"))
}

/// The name of the function that it stands in, as the test's output has it.
#[macro_export]
macro_rules! this_test {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here).trim_end_matches("::here");
        name.split_once("::").map_or(name, |(_, rest)| rest)
    }};
}

#[cfg(test)]
mod tests {
    use super::lacks;

    #[test]
    fn a_test_knows_its_own_name() {
        assert_eq!(crate::this_test!(), "skip::tests::a_test_knows_its_own_name");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        assert_eq!(lacks(&["sh"]), None);
        assert_eq!(lacks(&["sh", "no-such-program"]).as_deref(), Some("the program no-such-program"));
    }
}
