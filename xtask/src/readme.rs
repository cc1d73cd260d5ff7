// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask readme`: what the README tells people to type is typed, as root, in one shell session in the
//! root of the repository.
//!
//! * Blocks fenced as `console` or `sh` are read. A line that begins with `$ ` is a command; lines after it
//!   that begin with `> `, and lines after one that ends with a backslash, continue it. An `sh` block without
//!   any `$ ` is all commands.
//! * A command has to end with status 0, or with N when it ends with the comment `# exits N`.
//! * In a `console` block, the lines below a command are what it prints on both outputs. `...` on its own
//!   stands for any number of lines, `[..]` for any text within one. With nothing below, nothing is compared.
//! * `no-test` after the fence's language leaves the block out; what follows it is the reason.
//!
//! Commands that would run this lane again, or take very long, are in [`NOT_HERE`].

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::lane::skipped;
use crate::shell::{Ended, Shell};
use crate::tally::{Skip, Tally};
use crate::workspace::Workspace;

/// Commands that are never run from here, by how they begin, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("make test", "it runs this lane itself"),
    (".ci/run", "it runs this lane itself"),
    ("./.ci/run", "it runs this lane itself"),
    ("cargo xtask lane", "it may run this lane itself"),
    ("cargo xtask readme", "it runs this lane itself"),
    ("make unit", "the unit lane runs it"),
    ("cargo test", "the unit lane runs it"),
    ("make check", "`make test` runs it beside this lane"),
    ("cargo xtask check", "`make test` runs it beside this lane"),
    ("make bench", "it takes minutes and its numbers differ on every machine"),
    ("git clone", "this lane runs in a clone already"),
];

/// A build from nothing is the longest that a README asks for.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// One command of the README.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// The line of the file, from 1.
    line: usize,
    /// One line or more, without prompts.
    command: String,
    status: u8,
    /// What it is shown to print; `None` where nothing is shown.
    shows: Option<Vec<String>>,
    skip: Option<String>,
}

/// What was wrong with a step.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Status { status: u8, expected: u8, output: Vec<String> },
    Output { expected: Vec<String>, output: Vec<String> },
    TimedOut { output: Vec<String> },
    ShellGone { output: Vec<String> },
}

/// Runs the commands of a file and prints what becomes of each.
pub(crate) fn run(workspace: &Workspace, file: &Path) -> Result<Tally, Error> {
    let text =
        std::fs::read_to_string(file).map_err(|source| Error::Read { path: file.to_owned(), source })?;
    if !is_root() {
        return Ok(skipped("readme", "its commands need root (namespaces, mounts and cgroups): run as root"));
    }
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    run_steps(&workspace.root, &name, parse(&text))
}

fn run_steps(folder: &Path, name: &str, steps: Vec<Step>) -> Result<Tally, Error> {
    let mut shell = Shell::open(folder)?;
    let mut tally = Tally::default();
    for step in steps {
        let place = format!("{name}:{} `{}`", step.line, step.command.lines().next().unwrap_or_default());
        if let Some(reason) = step.skip {
            println!("{place} ... skipped: {reason}");
            tally.skips.push(Skip { test: place, reason });
            continue;
        }
        match judge(&step, shell.run(&step.command, PATIENCE)) {
            None => {
                println!("{place} ... ok");
                tally.passed += 1;
            }
            Some(wrong) => {
                println!("{place} ... FAILED: {wrong}");
                tally.failed += 1;
            }
        }
    }
    Ok(tally)
}

/// The effective user, as the owner of our own entry below /proc (proc(5)).
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

fn judge(step: &Step, ended: Ended) -> Option<Wrong> {
    let (status, output) = match ended {
        Ended::Status { status, output } => (status, output),
        Ended::TimedOut { output } => return Some(Wrong::TimedOut { output }),
        Ended::ShellGone { output } => return Some(Wrong::ShellGone { output }),
    };
    if status != step.status {
        return Some(Wrong::Status { status, expected: step.status, output });
    }
    let expected = step.shows.as_ref()?;
    (!matches(expected, &output)).then(|| Wrong::Output { expected: expected.clone(), output })
}

// ---- reading ----

/// Every command of the file, in order.
fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let Some((fence, info)) = opening(line) else { continue };
        // The longest fence ends a block that shows fences; indentation of the fence is the block's too.
        let indent = line.len() - line.trim_start().len();
        let body: Vec<(usize, &str)> = lines
            .by_ref()
            .take_while(|(_, l)| !closes(l, fence))
            .map(|(n, l)| (n + 1, strip_indent(l, indent)))
            .collect();
        steps.extend(Block::new(info, &body).into_iter().flat_map(|block| block.steps()));
    }
    steps
}

/// The fence and the info string: three or more backticks or tildes.
fn opening(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let character = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = line.len() - line.trim_start_matches(character).len();
    (length >= 3).then(|| (&line[..length], line[length..].trim()))
}

fn closes(line: &str, fence: &str) -> bool {
    let line = line.trim();
    line.starts_with(fence) && line.trim_start_matches(&fence[..1]).is_empty()
}

fn strip_indent(line: &str, indent: usize) -> &str {
    let blanks = line.len() - line.trim_start_matches(' ').len();
    &line[blanks.min(indent)..]
}

struct Block<'a> {
    console: bool,
    prompts: bool,
    skip: Option<String>,
    body: &'a [(usize, &'a str)],
}

impl<'a> Block<'a> {
    /// `None` when the block's language is another.
    fn new(info: &str, body: &'a [(usize, &'a str)]) -> Option<Block<'a>> {
        let (language, rest) = info.split_once([' ', ',']).unwrap_or((info, ""));
        if !matches!(language, "console" | "sh") {
            return None;
        }
        let skip = rest.find("no-test").map(|at| {
            let reason = rest[at + "no-test".len()..].trim_matches([' ', ':', '=', '"']);
            if reason.is_empty() { "its block is marked no-test".to_owned() } else { reason.to_owned() }
        });
        let prompts = body.iter().any(|(_, line)| line.starts_with("$ "));
        Some(Block { console: language == "console", prompts, skip, body })
    }

    fn steps(self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut continues = false;
        let mut printed = false;
        for &(line, text) in self.body {
            let more = text.strip_prefix("> ").filter(|_| self.prompts && !printed && !steps.is_empty());
            let last = steps.last_mut();
            match (self.command_of(text), last) {
                (_, Some(step)) if continues || more.is_some() => {
                    let text = more.unwrap_or(text);
                    step.command.push('\n');
                    step.command.push_str(text);
                    continues = text.ends_with('\\');
                }
                (Some(command), _) => {
                    steps.push(Step {
                        line,
                        command: command.to_owned(),
                        status: 0,
                        shows: None,
                        skip: None,
                    });
                    continues = command.ends_with('\\');
                    printed = false;
                }
                (None, Some(step)) if self.console => {
                    step.shows.get_or_insert_default().push(text.to_owned());
                    printed = true;
                }
                _ => {}
            }
        }
        steps.iter_mut().for_each(|step| self.finish(step));
        steps
    }

    fn command_of<'t>(&self, text: &'t str) -> Option<&'t str> {
        match (self.prompts, self.console) {
            (true, _) => text.strip_prefix("$ "),
            (false, true) => None,
            (false, false) => (!text.trim().is_empty() && !text.starts_with('#')).then_some(text),
        }
    }

    fn finish(&self, step: &mut Step) {
        if let Some((_, status)) = step.command.rsplit_once("# exits ") {
            step.status = status.trim().parse().unwrap_or(0);
        }
        if let Some(shows) = &mut step.shows {
            while shows.pop_if(|line| line.trim().is_empty()).is_some() {}
        }
        step.shows.take_if(|shows| shows.is_empty());
        let bare = step.command.strip_prefix("sudo ").unwrap_or(&step.command);
        let not_here = NOT_HERE.iter().find(|(begin, _)| is_command(bare, begin));
        step.skip = self.skip.clone().or_else(|| not_here.map(|(_, reason)| (*reason).to_owned()));
    }
}

fn is_command(command: &str, begin: &str) -> bool {
    command.strip_prefix(begin).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

// ---- comparing ----

/// True when the output is what is shown. Blanks at the ends of lines do not count, nor empty lines at the end.
fn matches(expected: &[String], output: &[String]) -> bool {
    let output: Vec<&str> = output.iter().map(|line| line.trim_end()).collect();
    let end = output.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let expected: Vec<&str> = expected.iter().map(|line| line.trim_end()).collect();
    let parts: Vec<&[&str]> = expected.split(|line| *line == "...").collect();
    in_order(&parts, &output[..end], line_matches)
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let parts: Vec<&[u8]> = pattern.split("[..]").map(str::as_bytes).collect();
    in_order(&parts, line.as_bytes(), |a, b| a == b)
}

/// True when `whole` is the parts one after another with anything, or nothing, between them: the first part
/// at its beginning, the last at its end, every other one at the first place where it fits.
fn in_order<T: Copy>(parts: &[&[T]], whole: &[T], same: impl Fn(T, T) -> bool) -> bool {
    let fits = |part: &[T], place: &[T]| {
        part.len() == place.len() && part.iter().zip(place).all(|(a, b)| same(*a, *b))
    };
    match parts {
        [] => whole.is_empty(),
        [only] => fits(only, whole),
        [first, middle @ .., last] => {
            if whole.len() < first.len() + last.len() {
                return false;
            }
            let (begin, rest) = whole.split_at(first.len());
            let (mut rest, end) = rest.split_at(rest.len() - last.len());
            for part in middle.iter().filter(|part| !part.is_empty()) {
                let Some(at) = rest.windows(part.len()).position(|window| fits(part, window)) else {
                    return false;
                };
                rest = &rest[at + part.len()..];
            }
            fits(first, begin) && fits(last, end)
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = |f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]| {
            write!(f, "\n    {title}:")?;
            lines.iter().try_for_each(|line| write!(f, "\n      {line}"))
        };
        match self {
            Wrong::Status { status, expected, output } => {
                write!(f, "status {status} where {expected} was expected")?;
                block(f, "it printed", output)
            }
            Wrong::Output { expected, output } => {
                write!(f, "it prints something else")?;
                block(f, "shown", expected)?;
                block(f, "printed", output)
            }
            Wrong::TimedOut { output } => {
                write!(f, "it did not end within {} s", PATIENCE.as_secs())?;
                block(f, "it printed", output)
            }
            Wrong::ShellGone { output } => {
                write!(f, "the shell session ended")?;
                block(f, "it printed", output)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    fn commands(text: &str) -> Vec<String> {
        parse(text).into_iter().map(|step| step.command).collect()
    }

    #[test]
    fn commands_are_found_with_their_lines_and_what_they_show() {
        let steps = parse("Hello\n\n```console\n$ echo a\na\n\n$ true\n\n```\n\n```rust\n$ echo no\n```\n");
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].line, steps[0].command.as_str()), (4, "echo a"));
        assert_eq!(steps[0].shows, Some(owned(&["a"])));
        assert_eq!((steps[1].line, steps[1].shows.as_ref()), (7, None));
    }

    #[test]
    fn a_command_goes_on_after_a_backslash_and_with_a_second_prompt() {
        let text = "```console\n$ echo a \\\n    b\n$ cat <<END\n> x\n> END\nx\n> y\n```\n";
        let steps = parse(text);
        assert_eq!(steps[0].command, "echo a \\\n    b");
        assert_eq!(steps[1].command, "cat <<END\nx\nEND");
        assert_eq!(steps[1].shows, Some(owned(&["x", "> y"])));
    }

    #[test]
    fn a_block_of_sh_without_prompts_is_all_commands_and_with_them_only_those() {
        assert_eq!(commands("```sh\n# build\nmake\n\ncd a\n```"), ["make", "cd a"]);
        assert_eq!(commands("```sh\n$ make\nnot this\n```"), ["make"]);
        assert_eq!(commands("```console\nonly output\n```"), [""; 0]);
    }

    #[test]
    fn indented_and_longer_fences_are_fences() {
        assert_eq!(commands("1. so:\n\n   ```console\n   $ a\n   ```\n"), ["a"]);
        assert_eq!(commands("````console\n$ a\n```\n$ b\n````\n~~~sh\n$ c\n~~~"), ["a", "b", "c"]);
    }

    #[test]
    fn another_status_is_announced_by_a_comment() {
        let steps = parse("```console\n$ berth run /no   # exits 127\n$ echo exits 3\n```");
        assert_eq!((steps[0].status, steps[1].status), (127, 0));
    }

    #[test]
    fn what_is_not_run_says_why() {
        let text = "```console no-test: needs a registry\n$ a\n```\n```sh,no-test\n$ b\n```\n\
                    ```sh\n$ sudo make test\n$ make tests\n$ make run\n```";
        let skips: Vec<Option<String>> = parse(text).into_iter().map(|step| step.skip).collect();
        assert_eq!(
            skips,
            [
                Some("needs a registry".to_owned()),
                Some("its block is marked no-test".to_owned()),
                Some("it runs this lane itself".to_owned()),
                None,
                None
            ]
        );
    }

    #[test]
    fn output_matches_itself_and_what_its_wildcards_allow() {
        let output = owned(&["one", "two 2.5 ms", "three  ", ""]);
        for shown in [
            &["one", "two 2.5 ms", "three"][..],
            &["one", "two [..] ms", "three"],
            &["..."],
            &["one", "..."],
            &["...", "three"],
            &["one", "...", "two[..]", "three"],
            &["...", "[..]2[..]", "..."],
        ] {
            assert!(matches(&owned(shown), &output), "{shown:?}");
        }
        for shown in [
            &["one"][..],
            &["one", "three"],
            &["one", "two [..] s", "three"],
            &["...", "two", "..."],
            &["one", "two 2.5 ms", "three", "four"],
            &["...", "one", "...", "one", "..."],
            &[],
        ] {
            assert!(!matches(&owned(shown), &output), "{shown:?}");
        }
    }

    #[test]
    fn text_is_not_used_twice_by_the_parts_of_a_pattern() {
        assert!(!line_matches("ab[..]ba", "aba"));
        assert!(line_matches("ab[..]ba", "abba"));
        assert!(!line_matches("a[..]b[..]b", "ab"));
        assert!(line_matches("[..]", ""));
    }

    #[test]
    fn a_file_is_run_in_one_session_and_every_command_is_counted() {
        let text = "```sh\ncd /proc\nfalse\n```\n```console no-test: because\n$ rm -rf x\n```\n\
                    ```console\n$ pwd; (exit 4)  # exits 4\n/proc\n$ echo a\nb\n```\n";
        let tally = run_steps(Path::new("/"), "README.md", parse(text)).unwrap();
        assert_eq!(tally.to_string(), "2 passed, 2 failed, 1 skipped");
        assert_eq!(tally.skips[0].reason, "because");
    }
}
