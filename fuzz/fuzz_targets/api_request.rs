// SPDX-License-Identifier: Apache-2.0
//! Whole requests to the agent's API, through its socket: heads, chunks, compression, records, several on one
//! connection. The agent behind is the double of the API's own tests, so that what is looked at is the way to it.
#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use berth_api::{Limits, Listener, Options, UnixAccess, serve};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the tests look at what it was asked")]
#[path = "../../crates/agent/api/tests/api/double.rs"]
mod double;

fn socket() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let socket = std::env::temp_dir().join(format!("berth-fuzz-{}.sock", std::process::id()));
        // The main function here is not Rust's, which ignores SIGPIPE; either end may be closed at any time.
        let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, seen).expect("a signal can be caught");
        let (ready, started) = std::sync::mpsc::channel();
        let at = socket.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async {
                let access = UnixAccess { mode: 0o600, gid: None };
                let listener = Listener::unix(&at, access).expect("the socket can be made");
                let limits = Limits {
                    body_bytes: 64 * 1024,
                    head_timeout: Duration::from_millis(50),
                    body_timeout: Duration::from_millis(50),
                    ..Limits::default()
                };
                let options = Options { limits, ..Options::default() };
                let core = Arc::new(double::Double::default());
                ready.send(()).expect("somebody waits");
                serve(vec![listener], core, options, std::future::pending()).await;
            });
        });
        started.recv().expect("the server starts");
        socket
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut stream = UnixStream::connect(socket()).expect("the server is there");
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.set_write_timeout(Some(Duration::from_secs(10)));
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if let Err(error) = read {
        let kind = error.kind();
        // The output of a container that runs goes on: that answer has begun, and has no end.
        let goes_on = !answer.is_empty() && kind == std::io::ErrorKind::WouldBlock;
        assert!(goes_on || kind == std::io::ErrorKind::ConnectionReset, "no answer, and no end: {error}");
    }
    if !answer.is_empty() {
        assert!(answer.starts_with(b"HTTP/1.") || answer.starts_with(b"HTTP/0.9"), "no answer of HTTP");
    }
});
