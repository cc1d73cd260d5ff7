// SPDX-License-Identifier: Apache-2.0
//! The engine by way of its command line client (`--docker`), for hosts where that alone may speak to it: each connection is
//! a `docker system dial-stdio`, which passes bytes between its standard streams and the engine, so that everything else is as
//! with a socket of ours.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use tokio::sync::oneshot;

/// So much of what it complains is told.
const COMPLAINT: u64 = 4096;

/// Starts a client. Our end of its connection, and what it will have said to its standard error when it has ended: it ends
/// with its connection.
///
/// # Errors
/// It can not be run.
pub(super) fn begin(program: &Path, socket: &Path) -> io::Result<(UnixStream, oneshot::Receiver<String>)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (give, take) = channel();
    let (say, said) = oneshot::channel();
    // Who waits for it is there before it is.
    thread::Builder::new().name("docker-client".to_owned()).spawn(move || {
        if let Ok(child) = take.recv() {
            let _ = say.send(watch(child));
        }
    })?;
    let mut command = Command::new(program);
    command.arg("-H").arg(format!("unix://{}", socket.display())).args(["system", "dial-stdio"]);
    command.stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)));
    command.stdout(Stdio::from(OwnedFd::from(theirs))).stderr(Stdio::piped());
    let child = berth_sys::session::lead(&mut command).spawn()?;
    // Its own ends are its alone from here on: `command` goes, and ours with it.
    let _ = give.send(child);
    Ok((ours, said))
}

/// Waits for its end; the last words of one that failed.
fn watch(mut child: Child) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.by_ref().take(COMPLAINT).read_to_end(&mut text);
        let _ = io::copy(&mut stderr, &mut io::sink());
    }
    match child.wait() {
        Ok(status) if status.success() => String::new(),
        Ok(status) => match String::from_utf8_lossy(&text).trim() {
            "" => format!("it ended with {status}"),
            text => text.escape_debug().to_string(),
        },
        Err(error) => format!("it can not be waited for: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn its_streams_are_the_connection_and_its_last_words_are_told() {
        let dir = std::env::temp_dir().join(format!("berth-docker-client-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let program = dir.join("client");
        let script = "#!/bin/sh\necho \"$@\"; read line; echo got $line; echo why >&2; exit 3\n";
        // Written by another process: one that is forked meanwhile would hold it open.
        let written = Command::new("sh")
            .args(["-c", "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"", "-", script])
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        let (ours, said) = begin(&program, Path::new("/run/x.sock")).unwrap();
        ours.set_nonblocking(false).unwrap();
        (&ours).write_all(b"hello\n").unwrap();
        let mut text = String::new();
        (&ours).read_to_string(&mut text).unwrap();
        assert_eq!(text, "-H unix:///run/x.sock system dial-stdio\ngot hello\n");
        assert_eq!(said.blocking_recv().unwrap(), "why");
        assert!(begin(&dir.join("nothing"), Path::new("/run/x.sock")).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
