// SPDX-License-Identifier: Apache-2.0
//! Blobs: resumed, stalled, cancelled, cut, too long.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_image::{Cancel, Descriptor, PullError, Source};
use berth_registry::flight::Flights;

use crate::support::*;

fn range_of(request: &Seen) -> usize {
    request
        .header("range")
        .map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap())
}

#[test]
fn a_blob_that_breaks_is_resumed_where_it_broke() {
    let bytes = noise(3 << 20);
    let served = bytes.clone();
    let server = Server::start(move |request, stream| {
        let from = range_of(request);
        let rest = &served[from..];
        let head = match from {
            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", rest.len()),
            _ => format!(
                "HTTP/1.1 206 Partial\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\n\r\n",
                rest.len(),
                served.len() - 1,
                served.len()
            ),
        };
        // A megabyte and a bit at a time, and the connection is gone.
        let part = &rest[..rest.len().min(1_100_000)];
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(part)).ok();
        false
    });
    let got = blob_by(&client(""), &format!("{}/a", server.registry()), &blob(&bytes), 0).unwrap();
    assert!(got == bytes);
    assert_eq!(server.count("/blobs/"), 3);
}

#[test]
fn a_registry_without_ranges_is_read_from_the_start_again() {
    let bytes = noise(200_000);
    let (served, tries) = (bytes.clone(), AtomicUsize::new(0));
    let server = Server::start(move |_, stream| {
        let part = if tries.fetch_add(1, Ordering::SeqCst) == 0 { &served[..70_000] } else { &served[..] };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", served.len()).unwrap();
        stream.write_all(part).ok();
        false
    });
    assert!(blob_by(&client(""), &format!("{}/a", server.registry()), &blob(&bytes), 0).unwrap() == bytes);
}

#[test]
fn a_pull_can_begin_in_the_middle_and_at_the_end() {
    let image = Image::new(noise(100_000));
    let served = image.clone();
    let server = Server::start(move |request, stream| {
        let from = range_of(request);
        let total = served.layer.len();
        let headers = vec![("Content-Range", format!("bytes {from}-{}/{total}", total - 1))];
        respond(stream, request, 206, &headers, &served.layer[from..])
    });
    let reference = format!("{}/a", server.registry());
    assert!(blob_by(&client(""), &reference, &image.blob(), 60_000).unwrap() == image.layer[60_000..]);
    assert!(blob_by(&client(""), &reference, &image.blob(), 100_000).unwrap().is_empty());
    assert_eq!(server.seen().len(), 1, "there is nothing to ask for at the end");
}

#[test]
fn answers_to_a_range_that_do_not_fit_are_refused() {
    let bytes = noise(10_000);
    for (status, range, length, word) in [
        (206, Some("bytes 0-9999/10000"), 10_000, "begins at byte 0"),
        (206, Some("bytes 6000-9999/10000"), 4_000, "begins at byte 6000"),
        (206, Some("bytes 5000-9999/20000"), 5_000, "20000 bytes"),
        (206, Some("bytes 5000-5999/10000"), 5_000, "length is not that"),
        (206, Some("bytes 5000-4000/10000"), 5_000, "length is not that"),
        (206, Some("lines 1-2/3"), 5_000, "which part"),
        (206, None, 5_000, "which part"),
        (200, None, 4_000, "4000 bytes"),
        (416, None, 0, "no byte 5000"),
        (204, None, 0, "status 204"),
    ] {
        let server = Server::simple(move |_| {
            let headers = range.map(|range| ("Content-Range", range.to_owned())).into_iter().collect();
            (status, headers, vec![b'x'; length])
        });
        let error =
            blob_by(&client(""), &format!("{}/a", server.registry()), &blob(&bytes), 5_000).unwrap_err();
        assert!(chain(&error).contains(word), "{range:?}: {}", chain(&error));
    }
    // A part where all was asked for.
    let server =
        Server::simple(|_| (206, vec![("Content-Range", "bytes 0-9/10000".to_owned())], vec![b'x'; 10]));
    let error = blob_by(&client(""), &format!("{}/a", server.registry()), &blob(&bytes), 0).unwrap_err();
    assert!(chain(&error).contains("all of it was asked for"), "{}", chain(&error));
}

#[test]
fn a_length_that_is_not_the_manifests_is_refused_before_a_byte_is_read() {
    for length in [9_999u64, 10_001, 1 << 50, u64::MAX] {
        let server = Server::start(move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").is_ok()
        });
        let error =
            blob_by(&client(""), &format!("{}/a", server.registry()), &blob(&noise(10_000)), 0).unwrap_err();
        assert!(chain(&error).contains("its manifest says 10000"), "{}", chain(&error));
    }
}

#[test]
fn a_body_without_end_is_cut_at_the_size_of_the_manifest() {
    for chunked in [true, false] {
        let server = Server::start(move |_, stream| {
            let head = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n").unwrap();
            let part = vec![b'x'; 4096];
            loop {
                let sent = match chunked {
                    true => write!(stream, "1000\r\n")
                        .and_then(|()| stream.write_all(&part))
                        .and_then(|()| stream.write_all(b"\r\n")),
                    false => stream.write_all(&part),
                };
                if sent.is_err() {
                    return false;
                }
            }
        });
        let error =
            blob_by(&client(""), &format!("{}/a", server.registry()), &blob(&noise(10_000)), 0).unwrap_err();
        assert!(chain(&error).contains("more than the 10000 bytes"), "{}", chain(&error));
    }
}

#[test]
fn chunks_that_are_all_framing_are_refused() {
    for noise_of in ["1;x=yyyyyyyyyyyyy\r\nz\r\n", "0\r\nA: b\r\n"] {
        let server = Server::start(move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            stream.write_all(noise_of.as_bytes()).unwrap();
            let more =
                if noise_of.starts_with('0') { "A: b\r\n".repeat(1000) } else { noise_of.repeat(1000) };
            while stream.write_all(more.as_bytes()).is_ok() {}
            false
        });
        let big = Descriptor { size: Some(50 << 20), ..blob(b"") };
        let error = blob_by(&client(""), &format!("{}/a", server.registry()), &big, 0).unwrap_err();
        let text = chain(&error);
        assert!(text.contains("more framing than content") || text.contains("malformed"), "{text}");
    }
}

#[test]
fn a_blob_that_drips_is_given_up_and_tried_again() {
    let server = Server::start(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n").unwrap();
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    });
    let began = Instant::now();
    let error =
        blob_by(&client(""), &format!("{}/a", server.registry()), &blob(&noise(10_000)), 0).unwrap_err();
    assert!(chain(&error).contains("no progress"), "{}", chain(&error));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(server.count("/blobs/"), 3);
}

#[test]
fn a_cancel_ends_a_pull_that_hangs_at_once() {
    // Before the head, within the head, within the body.
    for sent in ["", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nxyz"] {
        let server = Server::start(move |_, stream| {
            stream.write_all(sent.as_bytes()).ok();
            std::thread::sleep(Duration::from_secs(30));
            false
        });
        let mut settings = quick("");
        settings.patience.stall = Duration::from_secs(60);
        let client = berth_registry::Client::new(settings).unwrap();
        let image = client.image(&format!("{}/a", server.registry()).parse().unwrap(), None).unwrap();
        let cancel = Cancel::new();
        let own = cancel.clone();
        let pull = std::thread::spawn(move || {
            let error = match image.blob(&blob(&noise(10_000)), 0, &own) {
                Ok(mut reader) => {
                    PullError::of_io(reader.read_to_end(&mut Vec::new()).unwrap_err(), "t", "t")
                }
                Err(error) => error,
            };
            (error, Instant::now())
        });
        eventually("the request arrives", || server.count("/blobs/") > 0);
        std::thread::sleep(Duration::from_millis(30));
        let said = Instant::now();
        cancel.cancel();
        let (error, ended) = pull.join().unwrap();
        assert!(matches!(error, PullError::Cancelled { .. }), "{}", chain(&error));
        assert!(ended.saturating_duration_since(said) < Duration::from_millis(500));
    }
}

#[test]
fn a_cancel_ends_the_wait_between_tries() {
    let server = Server::simple(|_| (503, vec![("Retry-After", "100".to_owned())], Vec::new()));
    let client = client("");
    let image = client.image(&format!("{}/a", server.registry()).parse().unwrap(), None).unwrap();
    let cancel = Cancel::new();
    let own = cancel.clone();
    let pull = std::thread::spawn(move || image.blob(&blob(b"x"), 0, &own).err().unwrap());
    eventually("the request arrives", || server.count("/blobs/") > 0);
    cancel.cancel();
    assert!(matches!(pull.join().unwrap(), PullError::Cancelled { .. }));
}

#[test]
fn a_busy_registry_is_asked_again_and_a_refusal_is_final() {
    for (status, tries) in [(429, 3), (500, 3), (502, 3), (503, 3), (403, 1), (404, 1), (400, 1)] {
        let server = Server::simple(move |_| (status, Vec::new(), Vec::new()));
        let error = blob_by(&client(""), &format!("{}/a", server.registry()), &blob(b"x"), 0).unwrap_err();
        assert_eq!(server.seen().len(), tries, "{status}: {}", chain(&error));
    }
    let image = Image::new(noise(1000));
    let (served, tries) = (image.clone(), AtomicUsize::new(0));
    let server = Server::simple(move |request| match tries.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => (503, Vec::new(), Vec::new()),
        _ => served.serve(request),
    });
    assert_eq!(manifest_by(&client(""), &format!("{}/a", server.registry())).unwrap().bytes, image.manifest);
}

#[test]
fn a_kept_connection_that_was_closed_is_made_again() {
    let image = Image::new(noise(1000));
    let served = image.clone();
    let server = Server::start(move |request, stream| {
        let (status, headers, body) = served.serve(request);
        respond(stream, request, status, &headers, &body);
        // Says nothing of it, and closes.
        false
    });
    let client = client("");
    for _ in 0..5 {
        manifest_by(&client, &format!("{}/a", server.registry())).unwrap();
    }
}

#[test]
fn ten_who_want_one_blob_fetch_it_once() {
    let image = Image::new(noise(300_000));
    let served = image.clone();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let server = Server::simple(move |request| {
        gate.lock().unwrap().recv().ok();
        served.serve(request)
    });
    // The gate is shut for as long as ten threads need to come: that is no stall, and must not be tried again.
    let mut settings = quick("");
    settings.patience.stall = Duration::from_secs(60);
    let client = berth_registry::Client::new(settings).unwrap();
    let flights: Flights<berth_model::image::Digest, Arc<Vec<u8>>> = Flights::default();
    let cancels: Vec<Cancel> = (0..10).map(|_| Cancel::new()).collect();
    let threads: Vec<_> = cancels
        .iter()
        .map(|cancel| {
            let (client, flights, cancel, blob) =
                (client.clone(), flights.clone(), cancel.clone(), image.blob());
            let reference = format!("{}/a", server.registry());
            std::thread::spawn(move || {
                let source = client.image(&reference.parse().unwrap(), None).unwrap();
                flights.join(blob.digest, &cancel, move |own| {
                    let mut bytes = Vec::new();
                    source.blob(&blob, 0, own).unwrap().read_to_end(&mut bytes).unwrap();
                    Arc::new(bytes)
                })
            })
        })
        .collect();
    let digest = image.blob().digest;
    eventually("all of them wait", || flights.waiting(&digest) == 10 && server.count("/blobs/") > 0);
    // One of them, perhaps the one who began, does not want it any more.
    cancels[0].cancel();
    let mut threads = threads.into_iter();
    assert!(threads.next().unwrap().join().unwrap().is_err());
    open.send(()).unwrap();
    drop(open);
    for thread in threads {
        assert!(*thread.join().unwrap().unwrap() == image.layer);
    }
    assert_eq!(server.count("/blobs/"), 1);
}
