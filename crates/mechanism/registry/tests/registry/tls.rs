// SPDX-License-Identifier: Apache-2.0
//! TLS: authorities of one's own, certificates of ours, and who is not believed.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::*;

/// Makes an authority, a certificate of a server at 127.0.0.1, and one of a client, as files.
fn certificates(dir: &Path, name: &str) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority of the test");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    for (file, names) in [("server", vec![name.to_owned()]), ("client", vec!["client".to_owned()])] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        std::fs::write(dir.join(format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

fn registry(test: &str, name: &str, clients: bool) -> Option<DockerRegistry> {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), name);
    let path = dir.path().display();
    let clients = if clients { format!("    clientcas:\n      - {path}/ca.pem\n") } else { String::new() };
    let tls = format!("  tls:\n    certificate: {path}/server.pem\n    key: {path}/server.key\n{clients}");
    DockerRegistry::start_in(test, dir, "", &tls)
}

fn problem(config: &str, registry: &DockerRegistry) -> String {
    chain(&manifest_by(&client(config), &format!("{}/nothing", registry.registry())).unwrap_err())
}

#[test]
fn an_authority_of_ones_own_is_believed_for_its_registry_alone() {
    let test = "an_authority_of_ones_own_is_believed_for_its_registry_alone";
    let Some(registry) = registry(test, "127.0.0.1", false) else { return };
    let name = registry.registry();
    let ca = registry.dir().join("ca.pem").display().to_string();
    let with = format!("[registry.\"{name}\"]\nplain_http = false\nca = \"{ca}\"");
    assert!(
        problem(&with, &registry).contains("NAME_UNKNOWN")
            || problem(&with, &registry).contains("MANIFEST_UNKNOWN")
    );
    let without = format!("[registry.\"{name}\"]\nplain_http = false");
    let text = problem(&without, &registry);
    assert!(text.contains("UnknownIssuer") && text.contains("`ca`"), "{text}");
    // Spoken to in the open, it says what it is.
    let text = problem("", &registry);
    assert!(text.contains("status 400"), "{text}");
}

#[test]
fn a_certificate_of_another_host_is_refused() {
    let Some(registry) = registry("a_certificate_of_another_host_is_refused", "other.example", false) else {
        return;
    };
    let ca = registry.dir().join("ca.pem").display().to_string();
    let text = problem(
        &format!("[registry.\"{}\"]\nplain_http = false\nca = \"{ca}\"", registry.registry()),
        &registry,
    );
    assert!(text.contains("no secure connection") && text.contains("not valid for name"), "{text}");
}

#[test]
fn a_certificate_of_ours_is_shown_to_who_wants_it() {
    let Some(registry) = registry("a_certificate_of_ours_is_shown_to_who_wants_it", "127.0.0.1", true) else {
        return;
    };
    let (name, dir) = (registry.registry(), registry.dir().display().to_string());
    let base = format!("[registry.\"{name}\"]\nplain_http = false\nca = \"{dir}/ca.pem\"\n");
    let with = format!("{base}client_cert = \"{dir}/client.pem\"\nclient_key = \"{dir}/client.key\"");
    let text = problem(&with, &registry);
    assert!(text.contains("not found"), "{text}");
    let text = problem(&base, &registry);
    assert!(text.contains("ertificate"), "{text}");
}

#[test]
fn a_proxy_carries_what_it_can_not_read() {
    let Some(registry) = registry("a_proxy_carries_what_it_can_not_read", "127.0.0.1", false) else { return };
    let to = registry.address;
    let proxy = Server::start(move |request, stream| {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("CONNECT", to.to_string().as_str()));
        assert_eq!(request.header("proxy-authorization"), Some("Basic bWU6cHc="));
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").unwrap();
        let (mut near, far) = (stream.try_clone().unwrap(), TcpStream::connect(to).unwrap());
        let (mut from, mut into) = (far.try_clone().unwrap(), far);
        let back = std::thread::spawn(move || std::io::copy(&mut from, &mut near));
        std::io::copy(stream, &mut into).ok();
        into.shutdown(std::net::Shutdown::Both).ok();
        back.join().unwrap().ok();
        false
    });
    let ca = registry.dir().join("ca.pem").display().to_string();
    let config = format!(
        "[registry.\"{}\"]\nplain_http = false\nca = \"{ca}\"\nproxy = \"http://me:pw@{}\"",
        registry.registry(),
        proxy.registry()
    );
    let text = problem(&config, &registry);
    assert!(text.contains("not found"), "{text}");
    assert_eq!(proxy.seen().len(), 1);
}

#[test]
fn a_registry_without_tls_is_told_from_one_that_breaks() {
    let server = Server::simple(|_| (200, Vec::new(), Vec::new()));
    let config = format!("[registry.\"{}\"]\nplain_http = false", server.registry());
    let text = chain(&manifest_by(&client(&config), &format!("{}/a", server.registry())).unwrap_err());
    assert!(text.contains("no secure connection") && text.contains("plain_http = true"), "{text}");
}

#[test]
fn certificate_files_that_are_not_are_refused_with_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, "nonsense").unwrap();
    for path in [file.display().to_string(), "/nowhere/ca.pem".to_owned()] {
        let client = client(&format!("[registry.\"r.example\"]\nca = \"{path}\""));
        let error = client.image(&"r.example/a".parse().unwrap(), None).err().unwrap().to_string();
        assert!(error.contains(&path), "{error}");
    }
}
