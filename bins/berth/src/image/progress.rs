// SPDX-License-Identifier: Apache-2.0
//! How far a pull is: a bar for each layer where stderr is a terminal, plain lines otherwise.

use crate::exit::say;
use crate::text::{decimal, escaped};
use berth_images::{Event, LayerState, Watch};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

/// What is told while an image is pulled. Nothing, when there is nothing to pull.
pub(crate) struct Progress {
    name: String,
    how: How,
    layers: Mutex<Vec<Layer>>,
}

enum How {
    Silent,
    Lines,
    Bars(MultiProgress),
}

struct Layer {
    short: String,
    size: Option<u64>,
    told: Option<&'static str>,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(name: &str) -> Progress {
        let how = match std::io::stderr().is_terminal() {
            true => How::Bars(MultiProgress::new()),
            false => How::Lines,
        };
        Progress { name: escaped(name), how, layers: Mutex::default() }
    }

    /// Says nothing.
    pub(crate) fn silent() -> Progress {
        Progress { name: String::new(), how: How::Silent, layers: Mutex::default() }
    }

    /// Leaves what the bars show at last.
    pub(crate) fn done(&self) {
        for layer in &*self.layers.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Some(bar) = &layer.bar {
                bar.abandon();
            }
        }
    }

    fn state(&self, layer: &mut Layer, state: LayerState) {
        let word = match state {
            LayerState::Present => "here already",
            LayerState::Waiting => "waits for another pull",
            LayerState::Fetching { .. } => "pulling",
            LayerState::Done => "pulled",
        };
        if let (Some(bar), LayerState::Fetching { done, total }) = (&layer.bar, state) {
            bar.set_length(total.or(layer.size).unwrap_or(done).max(done));
            bar.set_position(done);
        }
        if layer.told == Some(word) {
            return;
        }
        layer.told = Some(word);
        let over = matches!(state, LayerState::Present | LayerState::Done);
        match (&self.how, &layer.bar) {
            (How::Bars(_), Some(bar)) => {
                bar.set_message(word);
                if over {
                    let length = layer.size.unwrap_or_else(|| bar.position());
                    bar.set_length(length.max(1));
                    bar.set_position(length.max(1));
                    bar.abandon();
                }
            }
            (How::Lines, _) if state != (LayerState::Fetching { done: 0, total: layer.size }) => {
                let size = layer.size.map(|size| format!(" ({})", decimal(size))).unwrap_or_default();
                say(format_args!("{}: {word}{size}", layer.short));
            }
            _ => {}
        }
    }
}

impl Watch for Progress {
    fn event(&self, event: Event<'_>) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Resolved { manifest, layers: all } => {
                let count = all.len();
                let head =
                    format!("{}: {count} layer{}, {manifest}", self.name, if count == 1 { "" } else { "s" });
                let bars = match &self.how {
                    How::Silent => None,
                    How::Lines => {
                        say(format_args!("{head}"));
                        None
                    }
                    How::Bars(bars) => {
                        let _ = bars.println(head);
                        Some(bars)
                    }
                };
                let style = ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> ");
                *layers = all
                    .iter()
                    .map(|layer| {
                        let short = layer.digest.hex()[..12].to_owned();
                        let bar = bars.map(|bars| {
                            let bar = ProgressBar::new(layer.size.unwrap_or(0)).with_style(style.clone());
                            let bar = bars.add(bar.with_prefix(short.clone()));
                            bar.tick();
                            bar
                        });
                        Layer { short, size: layer.size, told: None, bar }
                    })
                    .collect();
            }
            Event::Layer { index, state } => {
                if let Some(layer) = layers.get_mut(index) {
                    self.state(layer, state);
                }
            }
        }
    }
}
