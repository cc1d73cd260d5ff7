// SPDX-License-Identifier: Apache-2.0
//! Credential helpers: programs `docker-credential-NAME` that keep passwords elsewhere.
//!
//! The name comes from a file that may come from a task, so it is a plain word; the program is looked for along
//! `PATH`, started without a shell, in a process group of its own that is ended with its deadline, and what it
//! writes is bounded.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use berth_image::Cancel;
use berth_model::SecretBytes;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::credentials::{Credential, CredentialError};
use crate::error::cut;

/// How long a helper may take; some ask a service.
const DEADLINE: Duration = Duration::from_secs(20);
/// The most that it may write.
const OUTPUT: u64 = 64 << 10;

/// Whether that can be the rest of a helper's name.
pub(crate) fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(good) && !name.starts_with(['-', '.'])
}

/// What a helper knows of a server: `None` when it knows nothing.
pub(crate) fn ask(
    name: &str,
    server: &str,
    path: Option<&OsStr>,
    cancel: &Cancel,
) -> Result<Option<Credential>, CredentialError> {
    ask_within(name, server, path, cancel, DEADLINE)
}

fn ask_within(
    name: &str,
    server: &str,
    path: Option<&OsStr>,
    cancel: &Cancel,
    deadline: Duration,
) -> Result<Option<Credential>, CredentialError> {
    let wrong = |why: String| CredentialError::Helper { name: cut(name, 80), server: server.to_owned(), why };
    if !is_name(name) {
        return Err(wrong("its name is not a plain word".to_owned()));
    }
    let program = find(name, path).ok_or_else(|| {
        wrong(format!("there is no program docker-credential-{name} in PATH; install it, or use `auths`"))
    })?;
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = berth_sys::session::unblock(&mut command)
        .spawn()
        .map_err(|error| wrong(format!("it does not start: {error}")))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let answer = converse(&mut child, server, cancel, deadline);
    // Whatever it left in its group goes with it, before it is reaped: its number is its own until then.
    if let Some(group) = group {
        kill_process_group(group, Signal::KILL).ok();
    }
    let status = child.wait().map_err(|error| wrong(format!("wait for it: {error}")))?;
    let (output, ended) = match answer {
        Ok(answer) => answer,
        Err(Waited::Cancelled) => return Err(CredentialError::Cancelled { name: name.to_owned() }),
        Err(Waited::TooLong) => {
            return Err(wrong(format!("it did not answer within {} s", deadline.as_secs_f32())));
        }
    };
    read_answer(&output, ended && !status.success()).map_err(wrong)
}

enum Waited {
    Cancelled,
    TooLong,
}

/// Writes the question and reads the answer; also whether the end of it came by itself.
fn converse(
    child: &mut Child,
    server: &str,
    cancel: &Cancel,
    deadline: Duration,
) -> Result<(SecretBytes, bool), Waited> {
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not want the question may still answer; the pipe holds far more than a host's name.
        drop(stdin.write_all(server.as_bytes()));
    }
    let (send, receive) = mpsc::channel();
    let cancelled = send.clone();
    let _hook = cancel.on_cancel(move || drop(cancelled.send(None)));
    if let Some(stdout) = child.stdout.take() {
        // The thread ends when the group is killed: nobody holds the other end then.
        std::thread::spawn(move || {
            let mut output = Vec::new();
            drop(stdout.take(OUTPUT).read_to_end(&mut output));
            drop(send.send(Some(output)));
        });
    }
    match receive.recv_timeout(deadline) {
        // A helper exits when it has answered; it gets a moment for that, so that its status counts.
        Ok(Some(output)) => Ok((SecretBytes::new(output), exits_soon(child))),
        Ok(None) => Err(Waited::Cancelled),
        Err(_) => Err(Waited::TooLong),
    }
}

fn exits_soon(child: &mut Child) -> bool {
    for _ in 0..100 {
        match rustix::process::waitid(
            rustix::process::WaitId::Pid(Pid::from_child(child)),
            rustix::process::WaitIdOptions::EXITED
                | rustix::process::WaitIdOptions::NOWAIT
                | rustix::process::WaitIdOptions::NOHANG,
        ) {
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            _ => return true,
        }
    }
    false
}

fn read_answer(output: &SecretBytes, failed: bool) -> Result<Option<Credential>, String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(rename = "Username", default)]
        user: String,
        #[serde(rename = "Secret", default)]
        secret: String,
    }
    let output = output.expose_secret();
    if failed {
        let text = String::from_utf8_lossy(output);
        // What Docker's own helpers say, word for word, when they have nothing.
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("it failed: {}", cut(text.trim(), 200)));
    }
    let answer: Answer = serde_json::from_slice(output)
        .map_err(|_| "its answer is not the JSON of a credential helper".to_owned())?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let secret = SecretBytes::new(answer.secret);
    Ok(Some(match answer.user.as_str() {
        "<token>" => Credential::Identity { secret },
        _ => Credential::Password { user: answer.user, secret },
    }))
}

fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let file = format!("docker-credential-{name}");
    let executable = |path: &Path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    // A relative entry means whatever directory we happen to be in.
    std::env::split_paths(path?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(&file))
        .find(|p| executable(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a helper `x` that does what the script says.
    fn helper(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        berth_testing::script(&dir.path().join("docker-credential-x"), &format!("#!/bin/sh\n{script}\n"));
        dir
    }

    fn asked(script: &str) -> Result<Option<Credential>, CredentialError> {
        let dir = helper(script);
        ask_within("x", "r.example", Some(dir.path().as_os_str()), &Cancel::new(), Duration::from_secs(10))
    }

    #[test]
    fn a_helper_is_asked_for_the_server_and_answers() {
        let found =
            asked(r#"read s; echo "{\"ServerURL\":\"$s\",\"Username\":\"$1-$s\",\"Secret\":\"pw\"}""#);
        let Ok(Some(Credential::Password { user, secret })) = found else { panic!("{found:?}") };
        assert_eq!((user.as_str(), secret.expose_secret()), ("get-r.example", &b"pw"[..]));
        let token = asked(r#"echo '{"Username":"<token>","Secret":"t"}'"#).unwrap().unwrap();
        assert!(matches!(token, Credential::Identity { .. }));
    }

    #[test]
    fn a_helper_that_has_nothing_is_no_error_and_one_that_fails_is() {
        let none = asked("echo 'credentials not found in native keychain'; exit 1").unwrap();
        assert!(none.is_none());
        let error = asked("echo 'no daemon'; exit 1").unwrap_err().to_string();
        assert!(error.contains("no daemon") && error.contains("r.example"), "{error}");
        let error = asked("echo 'token=abc'").unwrap_err().to_string();
        assert!(error.contains("not the JSON") && !error.contains("abc"), "{error}");
    }

    #[test]
    fn a_helper_that_hangs_is_ended_with_all_that_it_started() {
        let dir = helper("sleep 300 & echo $! > \"${0%/*}/pid\"; wait");
        let path = Some(dir.path().as_os_str());
        let began = std::time::Instant::now();
        let error = ask_within("x", "r", path, &Cancel::new(), Duration::from_millis(300)).unwrap_err();
        assert!(error.to_string().contains("did not answer within"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5));
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let gone = || {
            let state = std::fs::read_to_string(&stat).unwrap_or_default();
            state.is_empty() || state.contains(") Z")
        };
        // The signal is sent; it dies when it is next looked at.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(std::time::Instant::now() < deadline, "{}", pid.trim());
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_cancel_ends_the_wait_for_a_helper() {
        let dir = helper("exec sleep 300");
        let cancel = Cancel::new();
        let later = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            later.cancel();
        });
        let error =
            ask_within("x", "r", Some(dir.path().as_os_str()), &cancel, Duration::from_secs(60)).unwrap_err();
        assert!(matches!(error, CredentialError::Cancelled { .. }), "{error}");
    }

    #[test]
    fn a_name_that_is_a_path_or_an_option_is_refused() {
        for name in ["", "../x", "a/b", "-x", "a b", "x;y", ".x", &"x".repeat(65)] {
            let error = ask(name, "r", Some(OsStr::new("/bin")), &Cancel::new()).unwrap_err();
            assert!(error.to_string().contains("plain word"), "{name}: {error}");
        }
        assert!(find("x", Some(OsStr::new("relative:"))).is_none());
    }
}
