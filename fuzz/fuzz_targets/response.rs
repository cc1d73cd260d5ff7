// SPDX-License-Identifier: Apache-2.0
//! Whole answers of a registry: what is fuzzed is sent to the client through a socket, for its manifest and for a
//! blob of it. A line `==` parts the answers to several requests.
#![no_main]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use berth_image::{Cancel, Descriptor, ManifestRef, Source};
use berth_registry::{Client, Patience, Retries, Settings};
use libfuzzer_sys::fuzz_target;

struct Registry {
    address: SocketAddr,
    answers: Arc<Mutex<Vec<Vec<u8>>>>,
    client: Client,
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let answers: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let served = Arc::clone(&answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mut stream, served) = (stream, Arc::clone(&served));
                // One connection, one answer: what follows it is refused by the closed connection.
                let mut head = [0; 4096];
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                let _ = stream.read(&mut head);
                let answer = served.lock().expect("no thread panics with it").pop().unwrap_or_default();
                let _ = stream.write_all(&answer);
            }
        });
        let settings = Settings {
            patience: Patience {
                connect: Duration::from_secs(2),
                stall: Duration::from_millis(300),
                least: 1,
                document: Duration::from_secs(1),
            },
            retries: Retries { tries: 1, ..Retries::default() },
            ..Settings::default()
        };
        let client = Client::new(settings).expect("the settings are right");
        Registry { address, answers, client }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let it = registry();
    // Nothing is sent anywhere but to the test's own registry.
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    if text.contains("location") || text.contains("realm") {
        return;
    }
    let mut answers: Vec<Vec<u8>> = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(4).position(|window| window == b"\n==\n") {
        answers.push(rest[..at].to_vec());
        rest = &rest[at + 4..];
    }
    answers.push(rest.to_vec());
    answers.truncate(4);
    answers.reverse();
    *it.answers.lock().expect("no thread panics with it") = answers;
    let name = format!("{}/a", it.address).parse().expect("an address and a word are a name");
    let image = it.client.image(&name, None).expect("nothing is configured");
    let cancel = Cancel::new();
    let _ = image.manifest(&ManifestRef::Top, &cancel);
    let digest = format!("sha256:{}", "a".repeat(64)).parse().expect("it is a digest");
    let blob =
        Descriptor { media_type: String::new(), digest, size: Some(bytes.len() as u64 / 2), platform: None };
    if let Ok(mut reader) = image.blob(&blob, u64::from(bytes.first().copied().unwrap_or(0) % 2), &cancel) {
        let mut read = Vec::new();
        let _ = reader.read_to_end(&mut read);
        assert!(read.len() as u64 <= blob.size.unwrap_or(0));
    }
});
