// SPDX-License-Identifier: Apache-2.0
//! https, and proxies.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::*;

/// Python's http.server behind TLS, with a certificate of its own.
struct Tls {
    child: Child,
    port: u16,
}

impl Tls {
    fn serve(dir: &Path) -> Option<Tls> {
        fs::write(dir.join("names"), "subjectAltName=DNS:localhost").unwrap();
        for arguments in [
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out cert.pem",
            "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out leaf.csr",
            "x509 -req -in leaf.csr -CA cert.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out leaf.pem",
        ] {
            let mut openssl = Command::new("openssl");
            openssl.args(arguments.split(' ')).current_dir(dir).stderr(Stdio::null());
            if !openssl.status().is_ok_and(|status| status.success()) {
                return None;
            }
        }
        let script = "import http.server, ssl\ns = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n\
                      c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\nc.load_cert_chain('leaf.pem', 'key.pem')\n\
                      s.socket = c.wrap_socket(s.socket, server_side=True)\nprint(s.socket.getsockname()[1], flush=True)\n\
                      s.serve_forever()\n";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .current_dir(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        let port = line.trim().parse().ok()?;
        Some(Tls { child, port })
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn https_is_spoken_with_servers_whose_certificate_is_trusted() {
    let served = tempfile::tempdir().unwrap();
    fs::set_permissions(served.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(served.path().join("x"), noise(500_000)).unwrap();
    let Some(tls) = Tls::serve(served.path()) else {
        return println!("skipped: openssl or python3 is not installed");
    };
    let url = format!("https://localhost:{}/x", tls.port);
    let ground = Ground::new(|config| config.certificates = Some(served.path().join("cert.pem")));
    for uri in [uri(url.clone()), cached(url.clone())] {
        let sandbox = ground.sandbox(&format!("s{}", uri.cache.is_some()));
        ground.fetch(&sandbox, &[uri]).unwrap();
        assert!(sandbox.read("x") == noise(500_000));
    }
    // A name that the certificate does not have.
    let other = format!("https://127.0.0.1:{}/x", tls.port);
    let text = ground.fetch(&ground.sandbox("other"), &[uri(other)]).unwrap_err().to_string();
    assert!(text.contains("certificate"), "{text}");
    // The host's certificates do not have it.
    let ground = Ground::new(|_| {});
    let text = ground.fetch(&ground.sandbox("s"), &[uri(url)]).unwrap_err().to_string();
    assert!(text.contains("certificate"), "{text}");
}

/// A proxy that knows CONNECT: passes everything on to `to`, whatever name was asked for.
fn proxy(to: std::net::SocketAddr) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let _ = sender.send(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned());
            let mut server = TcpStream::connect(to).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            let (mut from, mut back) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut back));
            let _ = std::io::copy(&mut server, &mut stream);
        }
    });
    (port, asked)
}

#[test]
fn a_proxy_is_used_as_curl_would_and_is_no_way_to_the_metadata_service() {
    let server = Server::of(b"by proxy".to_vec());
    let (port, asked) = proxy(server.address);
    let ground = Ground::new(|config| {
        config.proxies.http = Some(format!("http://127.0.0.1:{port}"));
        config.proxies.except = Some("127.0.0.1,.near".into());
    });
    let sandbox = ground.sandbox("s");
    ground.fetch(&sandbox, &[uri("http://no-such-name.invalid/x")]).unwrap();
    assert_eq!(sandbox.read("x"), b"by proxy");
    assert_eq!(asked.recv().unwrap(), "CONNECT no-such-name.invalid:80 HTTP/1.1");
    // An exception is spoken to directly.
    ground.fetch(&ground.sandbox("direct"), &[uri(server.url("x"))]).unwrap();
    assert!(asked.try_recv().is_err());
    let text =
        ground.fetch(&ground.sandbox("m"), &[uri("http://169.254.169.254/x")]).unwrap_err().to_string();
    assert!(text.contains("metadata service") && asked.try_recv().is_err(), "{text}");
}
