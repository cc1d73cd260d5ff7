// SPDX-License-Identifier: Apache-2.0
//! Pulls an image from a file into a store, and says how long that took: `pull STORE SOURCE`.

use std::path::Path;
use std::time::Instant;

use berth_image::Cancel;
use berth_model::image::Platform;
use berth_store::{PullRequest, Store, StoreOptions, Unwatched, sources};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, store, name] = &words[..] else { return Err("usage: pull STORE SOURCE".into()) };
    let cancel = Cancel::new();
    let store = Store::open(Path::new(store), StoreOptions::default())?;
    let begun = Instant::now();
    let source =
        sources::open(name, store.path(), &Platform::host(), &cancel).ok_or("no such kind of source")??;
    let opened = begun.elapsed();
    let request = PullRequest { name, source: source.as_ref(), platform: None };
    let image = store.pull(&request, &cancel, &Unwatched)?;
    println!("{} {} layers {} bytes", image.manifest, image.layers.len(), image.size());
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("opened in {opened:?}, all in {:?}, {peak}", begun.elapsed());
    Ok(())
}
