// SPDX-License-Identifier: Apache-2.0
//! Into the network of a container: by a thread of its own, since a thread that was there must not be used again.

use std::fs::File;
use std::io;

use berth_model::ContainerId;
use berth_sys::rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use berth_tasks::built_in::Containers;
use std::os::fd::AsFd;
use tokio::sync::oneshot;

/// Why it was not possible.
#[derive(Debug)]
pub(super) enum Failure {
    /// The container has ended.
    Gone,
    /// This.
    Error(String),
}

/// What `work` returns, from within the network of a container.
pub(super) async fn within<T: Send + 'static>(
    containers: &dyn Containers,
    id: &ContainerId,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let pid = containers.pid(id.clone()).await.ok_or(Failure::Gone)?;
    let namespace = match File::open(format!("/proc/{pid}/ns/net")) {
        Ok(namespace) => namespace,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::Gone),
        Err(error) => {
            return Err(Failure::Error(format!(
                "open the network of container {id} (process {pid}): {error}"
            )));
        }
    };
    // Another process may have had that pid by then; the container would have ended.
    if containers.pid(id.clone()).await != Some(pid) {
        return Err(Failure::Gone);
    }
    let (result, arrives) = oneshot::channel();
    let thread = std::thread::Builder::new().name("check".to_owned()).spawn(move || {
        let entered = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
        // Who waited may have gone.
        let _ = result.send(entered.map(|()| work()));
    });
    if let Err(error) = thread {
        return Err(Failure::Error(format!("start a thread for a check: {error}")));
    }
    match arrives.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Error(format!("enter the network of container {id}: {error}"))),
        Err(_) => Err(Failure::Error("the thread of a check has panicked".to_owned())),
    }
}
