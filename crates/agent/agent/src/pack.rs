// SPDX-License-Identifier: Apache-2.0
//! Compresses old files of containers' output, where that was asked for: now and then, since a supervisor has no memory for
//! it. The newest old file stays as it is.

use std::sync::Arc;

use crate::agent::Inner;
use crate::lifecycle::blocking;

/// Compresses what there is.
pub(crate) async fn pack(agent: &Arc<Inner>) {
    for container in agent.table.all().into_iter().filter(|container| !container.is_session()) {
        let (own, id) = (Arc::clone(agent), container.id.clone());
        let packed = blocking(move || own.places.pack(&id)).await;
        match packed {
            Ok(Ok(done)) if done.files > 0 => {
                let (files, before, after) = (done.files, done.before, done.after);
                tracing::debug!(container = %container.id, files, before, after, "compressed old output");
            }
            Ok(Err(error)) => {
                tracing::warn!(container = %container.id, %error, "could not compress old output");
            }
            _ => {}
        }
    }
}
