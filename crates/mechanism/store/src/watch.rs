// SPDX-License-Identifier: Apache-2.0
//! What a pull tells while it goes on.

use berth_image::Descriptor;
use berth_model::image::Digest;

/// Something happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// It is known what the image is made of.
    Resolved {
        /// Its manifest.
        manifest: &'a Digest,
        /// Its layers, the lowest first.
        layers: &'a [Descriptor],
    },
    /// Something happened to a layer.
    Layer {
        /// Which of them.
        index: usize,
        /// What.
        state: LayerState,
    },
}

/// What happens to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// It is here already.
    Present,
    /// Another pull fetches it.
    Waiting,
    /// It is fetched and unpacked.
    Fetching {
        /// Bytes so far.
        done: u64,
        /// Bytes in all, if known.
        total: Option<u64>,
    },
    /// All of it has come, and is right.
    Done,
}

/// Somebody who wants to know. Called from several threads, often, and must not take long.
pub trait Watch: Sync {
    /// Called for each event.
    fn event(&self, event: Event<'_>);
}

/// Somebody who does not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn event(&self, _: Event<'_>) {}
}

impl<F: Fn(Event<'_>) + Sync> Watch for F {
    fn event(&self, event: Event<'_>) {
        self(event);
    }
}
