// SPDX-License-Identifier: Apache-2.0
//! Programs that tests make.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes an executable file of this text, which has its interpreter in its first line; one that is there is replaced.
///
/// Another process writes it. A test that forks meanwhile would hand a descriptor that may write to its child, and as long
/// as anybody has one the file can not be executed (ETXTBSY of execve(2)), whatever its name is by then.
///
/// # Panics
/// When it can not be made.
#[track_caller]
pub fn script(path: &Path, text: &str) {
    let mut writer = Command::new("sh")
        .args(["-ec", r#"cat >"$0.new"; chmod 755 "$0.new"; mv "$0.new" "$0""#])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let stdin = writer.stdin.take();
    stdin.expect("a pipe").write_all(text.as_bytes()).expect("a shell that reads");
    let status = writer.wait().expect("a child");
    assert!(status.success(), "write {}: {status}", path.display());
}
