// SPDX-License-Identifier: Apache-2.0
//! Checks over the text of files: licence lines, where `unsafe` may stand, how long a file is.

use std::path::Path;

use crate::error::Error;
use crate::lexer;
use crate::workspace::Workspace;

const LICENCE: &str = "SPDX-License-Identifier: Apache-2.0";

/// The licence line stands near the top, below a shebang at most.
const LICENCE_WITHIN: usize = 5;

/// The one crate with unsafe code.
const UNSAFE_HOME: &str = "crates/base/sys/";

/// A file longer than this holds a second idea.
const LONG: usize = 800;

/// Files that should carry a licence line and do not.
pub(crate) fn without_licence(workspace: &Workspace) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for file in workspace.files()? {
        let text = if wants_licence(&file) { workspace.read(&file)? } else { continue };
        if !has_licence(&text) {
            found.push(format!("{}: one of the first lines must say {LICENCE:?}", file.display()));
        }
    }
    Ok(found)
}

/// Places outside `base/sys` that use unsafe code or switch its lint off.
pub(crate) fn stray_unsafe(workspace: &Workspace) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for file in workspace.files()? {
        if !has_extension(&file, "rs") || file.starts_with(UNSAFE_HOME) {
            continue;
        }
        let text = workspace.read(&file)?;
        for line in unsafe_lines(&text) {
            if is_entry_point(&file) && names_entry_point(&text, line) {
                continue;
            }
            found.push(format!(
                "{}:{line}: unsafe code lives in {UNSAFE_HOME} only; give what you need a safe signature there",
                file.display()
            ));
        }
    }
    Ok(found)
}

/// The symbol by which a program is entered has a fixed name, and no safe spelling: the one exception, in a binary's
/// `main.rs` only.
fn is_entry_point(file: &Path) -> bool {
    file.starts_with("bins") && file.ends_with("src/main.rs")
}

fn names_entry_point(text: &str, line: usize) -> bool {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    line.contains("unsafe(no_mangle)")
        || line.contains("expect(unsafe_code, reason = \"a symbol of a fixed name has no safe spelling\")")
}

/// Source files in which to look for the second idea.
pub(crate) fn long_files(workspace: &Workspace) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for file in workspace.files()? {
        if !has_extension(&file, "rs") {
            continue;
        }
        let lines = workspace.read(&file)?.lines().count();
        if lines > LONG {
            found.push(format!("{}: {lines} lines; look for the second idea in it", file.display()));
        }
    }
    Ok(found)
}

/// Code does, in every language. Cargo.toml names the licence in a key of its own, which `deny` reads.
fn wants_licence(file: &Path) -> bool {
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let code = ["rs", "sh", "c", "h", "S", "s", "ld", "py", "pl", "mk"];
    name == "Makefile" || file.starts_with(".ci") || code.iter().any(|e| has_extension(file, e))
}

fn has_licence(text: &str) -> bool {
    text.lines().take(LICENCE_WITHIN).any(|line| line.contains(LICENCE))
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|e| e == extension)
}

fn unsafe_lines(text: &str) -> Vec<usize> {
    let words = lexer::words(text);
    let switched_off = words
        .windows(2)
        .filter(|pair| matches!(pair[0].1, "allow" | "expect" | "warn") && pair[1].1 == "unsafe_code")
        .map(|pair| pair[1].0);
    let used = words.iter().filter(|(_, word)| *word == "unsafe").map(|(line, _)| *line);
    let mut lines: Vec<usize> = used.chain(switched_off).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_wants_a_licence_line_and_data_does_not() {
        for file in ["xtask/src/main.rs", "scripts/a.sh", "Makefile", ".ci/run", "benches/floor/floor.c"] {
            assert!(wants_licence(Path::new(file)), "{file}");
        }
        for file in ["README.md", "Cargo.lock", "LICENSE", "crates/base/sys/Cargo.toml", "a/profile.json"] {
            assert!(!wants_licence(Path::new(file)), "{file}");
        }
    }

    #[test]
    fn a_licence_line_counts_below_a_shebang_and_not_far_below() {
        assert!(has_licence("#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n"));
        assert!(!has_licence("#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0\n"));
        assert!(!has_licence(&format!("{}// {LICENCE}", "\n".repeat(LICENCE_WITHIN))));
    }

    #[test]
    fn unsafe_code_and_switching_its_lint_off_are_both_found() {
        assert_eq!(unsafe_lines("fn a() {\n    unsafe { b() }\n}"), [2]);
        assert_eq!(unsafe_lines("#![allow(unsafe_code)]"), [1]);
        assert_eq!(unsafe_lines("#[expect(unsafe_code, reason = \"x\")]\nunsafe fn f() {}"), [1, 2]);
        assert_eq!(unsafe_lines("#![forbid(unsafe_code)]\n// unsafe\nlet a = \"unsafe\";"), [0usize; 0]);
    }
}
