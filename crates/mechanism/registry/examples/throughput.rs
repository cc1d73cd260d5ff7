// SPDX-License-Identifier: Apache-2.0
//! How fast a blob comes: `throughput HOST:PORT/REPOSITORY [MEGABYTES]` pushes one of noise to that registry (once;
//! it stays there), then reads it back, without and with its digest, and prints the figures of each try.

#![allow(clippy::unwrap_used, reason = "a measurement that can not go on has failed")]

use std::io::{Cursor, Read};
use std::time::Instant;

use berth_image::{Cancel, Descriptor, Hasher, Source, digest_of};
use berth_model::image::{Algorithm, Reference};
use berth_registry::{Client, Settings};

fn main() {
    let mut args = std::env::args().skip(1);
    let reference: Reference = args.next().expect("HOST:PORT/REPOSITORY").parse().unwrap();
    let megabytes: usize = args.next().map_or(300, |text| text.parse().unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(megabytes << 20);
    while bytes.len() < megabytes << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    let (digest, size) = (digest_of(Algorithm::Sha256, &bytes), bytes.len() as u64);
    let client = Client::new(Settings::default()).unwrap();
    let began = Instant::now();
    let push = client.push(&reference, None).unwrap();
    let pushed =
        push.blob(&digest, size, &mut || Ok(Box::new(Cursor::new(bytes.clone()))), &Cancel::new()).unwrap();
    println!("push: {pushed:?} in {:.2} s", began.elapsed().as_secs_f64());
    drop(bytes);
    println!("blob: {digest}");
    let blob = Descriptor { media_type: String::new(), digest, size: Some(size), platform: None };
    for verify in [false, true, false, true, false, true] {
        let image = client.image(&reference, None).unwrap();
        let began = Instant::now();
        let mut reader = image.blob(&blob, 0, &Cancel::new()).unwrap();
        let (mut hasher, mut buffer, mut count) = (Hasher::new(Algorithm::Sha256), vec![0; 256 << 10], 0u64);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                read => {
                    if verify {
                        hasher.update(&buffer[..read]);
                    }
                    count += read as u64;
                }
            }
        }
        assert!(count == size && (!verify || hasher.finish() == digest));
        let time = began.elapsed().as_secs_f64();
        let name = if verify { "sha256" } else { "bytes" };
        println!("{name}: {:.3} s, {:.0} MB/s", time, count as f64 / 1e6 / time);
    }
}
