// SPDX-License-Identifier: Apache-2.0
//! A command that runs.

use crate::exit::Exit;
use crate::patience::{PATIENCE, soon};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

type Text = Arc<Mutex<Vec<u8>>>;

/// A command that runs, and whose output is collected. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: (Text, Option<JoinHandle<()>>),
    stderr: (Text, Option<JoinHandle<()>>),
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts it, with its output to us. Its stdin is as the command says.
    ///
    /// # Panics
    /// When it can not be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Running { child, stdout, stderr, ended: None }
    }

    /// Its pid.
    ///
    /// # Panics
    /// Never: a process has one.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its stdin, when that is a pipe of ours. Given once.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// What it wrote to stdout up to now.
    pub fn stdout(&self) -> String {
        text(&self.stdout.0)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap_or_else(|e| panic!("send {signal:?}: {e}"));
    }

    /// Waits until its stdout holds `word`.
    ///
    /// # Panics
    /// When it ended, or patience did, before.
    #[track_caller]
    pub fn says(&mut self, word: &str) {
        let limit = soon();
        while !self.stdout().contains(word) {
            let over = self.has_ended() && !self.stdout().contains(word);
            assert!(!over && Instant::now() < limit, "{word:?} was not said: {:#?}", self.peek());
            // There is nothing to be woken by: a thread reads the pipe.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap_or(None);
        }
        // All that it wrote has been read when the readers are done.
        let done = |reader: &Option<JoinHandle<()>>| reader.as_ref().is_none_or(JoinHandle::is_finished);
        self.ended.is_some() && done(&self.stdout.1) && done(&self.stderr.1)
    }

    fn peek(&self) -> (String, String, Option<ExitStatus>) {
        (text(&self.stdout.0), text(&self.stderr.0), self.ended)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When patience ends before.
    #[track_caller]
    pub fn end(mut self) -> Exit {
        let pidfd = self.ended.is_none().then(|| pidfd_open(self.pid(), PidfdFlags::empty()).ok()).flatten();
        if let Some(pidfd) = pidfd {
            let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit));
            assert!(!matches!(ready, Ok(0)), "not within {PATIENCE:?}: {:#?}", self.peek());
        }
        let status = match self.ended {
            Some(status) => status,
            None => self.child.wait().unwrap_or_else(|e| panic!("wait: {e}")),
        };
        self.ended = Some(status);
        for reader in [self.stdout.1.take(), self.stderr.1.take()].into_iter().flatten() {
            let _ = reader.join();
        }
        Exit {
            code: status.code(),
            signal: status.signal(),
            stdout: text(&self.stdout.0),
            stderr: text(&self.stderr.0),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn text(from: &Text) -> String {
    String::from_utf8_lossy(&from.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

fn collect(from: Option<impl Read + Send + 'static>) -> (Text, Option<JoinHandle<()>>) {
    let text = Text::default();
    let into = Arc::clone(&text);
    let reader = from.map(|mut from| {
        std::thread::spawn(move || {
            let mut room = [0u8; 1 << 16];
            while let Ok(n @ 1..) = from.read(&mut room) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&room[..n]);
            }
        })
    });
    (text, reader)
}
