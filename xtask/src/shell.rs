// SPDX-License-Identifier: Apache-2.0
//! One bash session that takes commands one after another, as a reader of the README types them: the
//! directory, variables and background jobs of one command are there for the next.
//!
//! A command is given to `eval`, so that a mistake in its syntax ends the command and not the session, and
//! its standard input is empty. The end of its output is a line with a word that nobody can guess.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::workspace::forget_xtask;

/// What cargo sets for the programs that it runs. A reader's shell has none of it; with it, a command would
/// build into another folder or with another toolchain than the reader's.
const CARGO_LEAVES: &[&str] = &["CARGO", "CARGO_TARGET_DIR", "LD_LIBRARY_PATH"];

/// Before the first command: errors in the output, and no job left behind. Root needs no sudo, so where it
/// is missing it is nothing.
const PREAMBLE: &str = "\
exec 2>&1
trap 'kill $(jobs -p) 2>/dev/null' EXIT
command -v sudo >/dev/null || sudo() { \"$@\"; }
";

/// A running session.
pub(crate) struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    mark: String,
}

/// What a command left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It ended with this status, 128 + n after signal n.
    Status { status: u8, output: Vec<String> },
    /// It did not end in time; the session is gone with it.
    TimedOut { output: Vec<String> },
    /// The command ended the session.
    ShellGone { output: Vec<String> },
}

impl Shell {
    /// Starts bash in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Shell, Error> {
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-s"]).current_dir(folder).process_group(0);
        command.env("NO_COLOR", "1").env("TERM", "dumb").env("CARGO_TERM_COLOR", "never");
        for variable in CARGO_LEAVES {
            command.env_remove(variable);
        }
        forget_xtask(&mut command);
        let start = |source| Error::Start { program: "bash".to_owned(), source };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(start)?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
                    if sender.send(text).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
        let mut shell = Shell { input: child.stdin.take(), child, lines, mark: mark() };
        // A session that does not even take this shows it at the first command.
        let _ = shell.write(PREAMBLE);
        Ok(shell)
    }

    /// Runs one command, of one line or more, and collects what it prints on both outputs.
    pub(crate) fn run(&mut self, command: &str, patience: Duration) -> Ended {
        let script =
            format!("eval {} </dev/null\nprintf '\\n%s %s\\n' {} \"$?\"\n", quote(command), self.mark);
        let mut output = Vec::new();
        if self.write(&script).is_err() {
            return Ended::ShellGone { output };
        }
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => match self.end_mark(&line) {
                    Some(status) => {
                        // The newline before the mark: it ended the last line, or made an empty one.
                        output.pop_if(|last: &mut String| last.is_empty());
                        return Ended::Status { status, output };
                    }
                    None => output.push(line),
                },
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ended::ShellGone { output },
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.kill();
                    return Ended::TimedOut { output };
                }
            }
        }
    }

    fn end_mark(&self, line: &str) -> Option<u8> {
        line.strip_prefix(&self.mark)?.strip_prefix(' ')?.parse().ok()
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        match self.input.as_mut() {
            Some(input) => input.write_all(text.as_bytes()).and_then(|()| input.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Kills the session with everything that stayed in its process group.
    fn kill(&mut self) {
        self.input = None;
        let group = format!("kill -KILL -- -{}", self.child.id());
        let quiet = Command::new("bash").args(["-c", &group]).stderr(Stdio::null()).status();
        if !quiet.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
    }
}

impl Drop for Shell {
    /// Lets bash see the end of its input, which runs its trap, and collects it.
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// A word that no output has by chance.
fn mark() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("berth-readme-{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// One word for the shell, whatever is in it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn session() -> Shell {
        Shell::open(Path::new("/")).unwrap()
    }

    fn status(status: u8, lines: &[&str]) -> Ended {
        Ended::Status { status, output: lines.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn one_command_leaves_its_directory_and_variables_to_the_next() {
        let mut shell = session();
        assert_eq!(shell.run("cd /proc && who='a '\\''b'", PATIENCE), status(0, &[]));
        assert_eq!(shell.run("pwd; echo \"$who\"", PATIENCE), status(0, &["/proc", "a 'b"]));
    }

    #[test]
    fn output_is_kept_as_it_was_with_or_without_a_last_newline() {
        let mut shell = session();
        assert_eq!(shell.run("printf a", PATIENCE), status(0, &["a"]));
        assert_eq!(shell.run("echo a", PATIENCE), status(0, &["a"]));
        assert_eq!(shell.run("printf 'a\\n\\n'; echo b >&2", PATIENCE), status(0, &["a", "", "b"]));
        assert_eq!(shell.run("printf 'a\\n\\n'", PATIENCE), status(0, &["a", ""]));
    }

    #[test]
    fn statuses_are_told_and_a_syntax_error_ends_the_command_only() {
        let mut shell = session();
        assert_eq!(shell.run("(exit 7)", PATIENCE), status(7, &[]));
        assert!(matches!(shell.run("if then", PATIENCE), Ended::Status { status: 1.., .. }));
        assert_eq!(shell.run("echo still here", PATIENCE), status(0, &["still here"]));
    }

    #[test]
    fn a_command_finds_an_empty_input_and_can_have_a_here_document() {
        let mut shell = session();
        assert_eq!(shell.run("cat", PATIENCE), status(0, &[]));
        assert_eq!(shell.run("cat <<END\none\ntwo\nEND", PATIENCE), status(0, &["one", "two"]));
    }

    #[test]
    fn a_command_that_ends_the_session_is_told_apart() {
        let mut shell = session();
        assert!(matches!(shell.run("echo bye; exit 3", PATIENCE), Ended::ShellGone { .. }));
        assert!(matches!(shell.run("true", PATIENCE), Ended::ShellGone { .. }));
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_after_its_time() {
        let mut shell = session();
        let ended = shell.run("echo $$; read <><(:)", Duration::from_millis(300));
        let Ended::TimedOut { output } = ended else { panic!("{ended:?}") };
        let pid = &output[0];
        drop(shell);
        assert!(!Path::new("/proc").join(pid).exists(), "bash {pid} is still there");
    }

    #[test]
    fn the_reader_has_none_of_cargos_variables() {
        let seen = session()
            .run("env | grep -c '^CARGO_MANIFEST_DIR=\\|^CARGO_PKG_\\|^CARGO_TARGET_DIR='", PATIENCE);
        assert_eq!(seen, status(1, &["0"]));
    }
}
