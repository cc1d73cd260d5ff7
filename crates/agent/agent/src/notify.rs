// SPDX-License-Identifier: Apache-2.0
//! Telling the service manager how far the agent is (sd_notify(3)): one datagram to the socket that `NOTIFY_SOCKET` names.
//! Without that variable, nothing. Nobody waits for it, so what can not be sent is left away.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// It serves, and has taken over what was there.
pub(crate) const READY: &str = "READY=1\nSTATUS=serving";
/// It serves, and takes over what is there.
pub(crate) const RECOVERING: &str = "STATUS=taking over the containers of the agent before";
/// It stops; containers go on.
pub(crate) const STOPPING: &str = "STOPPING=1\nSTATUS=stopping; containers go on";

/// Tells the service manager, if there is one.
pub(crate) fn tell(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        send(&socket, state);
    }
}

fn send(socket: &OsStr, state: &str) {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        path => SocketAddr::from_pathname(OsStr::from_bytes(path)),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::debug!("the service manager can not be told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_at_a_path_and_at_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("berth-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), READY);
        let mut text = [0; 64];
        let length = socket.recv(&mut text).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&text[..length], READY.as_bytes());

        let name = format!("berth-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), STOPPING);
        let length = socket.recv(&mut text).unwrap();
        assert_eq!(&text[..length], STOPPING.as_bytes());
        send(OsStr::new("/nonexistent/socket"), READY);
    }
}
