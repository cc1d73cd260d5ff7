// SPDX-License-Identifier: Apache-2.0
//! Against Debian's docker-registry, with images that skopeo and we ourselves push.

use std::io::Read;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use berth_image::manifest::{ConfigSource, Parsed, parse};
use berth_image::{Cancel, ManifestRef, Source};
use berth_model::image::Reference;
use berth_registry::{Client, Pushed};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::support::*;

/// bcrypt of `U*U`, from the algorithm's own test vectors: the registry knows no other kind.
const HTPASSWD: &str = "me:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";
const PASSWORD: &str = "U*U";

/// An image layout of one layer, tagged `t`.
fn layout(dir: &Path, image: &Image) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for bytes in [&image.layer, &image.config, &image.manifest] {
        std::fs::write(blobs.join(sha256(bytes).hex()), bytes).unwrap();
    }
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"t"}}}}]}}"#,
        sha256(&image.manifest),
        image.manifest.len()
    );
    std::fs::write(dir.join("index.json"), index).unwrap();
}

fn skopeo(args: &[&str]) {
    let output = Command::new("skopeo").args(args).output().unwrap();
    assert!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A tar with one file of that content, and its configuration: what skopeo takes for an image.
fn real_image(content: &[u8]) -> Image {
    let mut tar = vec![0u8; 512];
    tar[..4].copy_from_slice(b"file");
    tar[100..108].copy_from_slice(b"0000644\0");
    tar[108..116].copy_from_slice(b"0000000\0");
    tar[116..124].copy_from_slice(b"0000000\0");
    tar[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    tar[136..148].copy_from_slice(b"00000000000\0");
    tar[156] = b'0';
    tar[257..265].copy_from_slice(b"ustar\x0000");
    tar[148..156].copy_from_slice(b"        ");
    let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let mut image = Image::new(tar);
    let old = sha256(&image.config).to_string();
    let old_size = format!("\"size\":{}", image.config.len());
    image.config = format!(
        r#"{{"os":"linux","architecture":"amd64","config":{{"Cmd":["/file"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}},"history":[{{"created_by":"test"}}]}}"#,
        sha256(&image.layer)
    )
    .into_bytes();
    let manifest = String::from_utf8(image.manifest).unwrap();
    let manifest = manifest.replace(&old, &sha256(&image.config).to_string());
    image.manifest =
        manifest.replacen(&old_size, &format!("\"size\":{}", image.config.len()), 1).into_bytes();
    image
}

fn pull_all(client: &Client, reference: &str) -> Vec<Vec<u8>> {
    let image = client.image(&reference.parse().unwrap(), None).unwrap();
    let document =
        image.manifest(&ManifestRef::Top, &Cancel::new()).unwrap_or_else(|e| panic!("{}", chain(&e)));
    let Parsed::Manifest(manifest) = parse(&document.bytes, document.media_type.as_deref()).unwrap() else {
        panic!("an index")
    };
    let read = |blob| {
        let mut bytes = Vec::new();
        image.blob(blob, 0, &Cancel::new()).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(sha256(&bytes), blob.digest);
        bytes
    };
    manifest.blobs().map(read).collect()
}

#[test]
fn what_skopeo_pushes_is_pulled_with_a_password() {
    let test = "what_skopeo_pushes_is_pulled_with_a_password";
    if !has("skopeo") {
        return berth_testing::skip(test, "the program skopeo (Debian's package of that name)");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
    let auth = format!(
        "auth:\n  htpasswd:\n    realm: \"The registry, ours\"\n    path: {}/htpasswd\n",
        dir.path().display()
    );
    let Some(registry) = DockerRegistry::start_in(test, dir, &auth, "") else { return };
    let image = real_image(&noise(300_000));
    let source = tempfile::tempdir().unwrap();
    layout(source.path(), &image);
    let from = format!("oci:{}:t", source.path().display());
    let to = format!("{}/team/app:1", registry.registry());
    skopeo(&[
        "--insecure-policy",
        "copy",
        "--dest-tls-verify=false",
        &format!("--dest-creds=me:{PASSWORD}"),
        &from,
        &format!("docker://{to}"),
    ]);

    let good = client_of(&registry.registry(), "me", PASSWORD, "");
    let blobs = pull_all(&good, &to);
    assert_eq!(blobs.len(), 2);
    assert_eq!(blobs[0], image.config);
    let refused = chain(&manifest_by(&client(""), &to).unwrap_err());
    assert!(refused.contains("UNAUTHORIZED") || refused.contains("needs credentials"), "{refused}");
    let wrong = client_of(&registry.registry(), "me", "wrong", "");
    assert!(chain(&manifest_by(&wrong, &to).unwrap_err()).contains("the password is wrong"));
    // Ranges of a real registry.
    let top =
        good.image(&to.parse().unwrap(), None).unwrap().manifest(&ManifestRef::Top, &Cancel::new()).unwrap();
    let Parsed::Manifest(manifest) = parse(&top.bytes, top.media_type.as_deref()).unwrap() else { panic!() };
    let layer = &manifest.layers[0];
    let whole = blob_by(&good, &to, layer, 0).unwrap();
    assert!(blob_by(&good, &to, layer, 1234).unwrap() == whole[1234..]);
}

#[test]
fn what_we_push_is_pulled_by_skopeo_and_by_us_whole_in_chunks_and_mounted() {
    let test = "what_we_push_is_pulled_by_skopeo_and_by_us_whole_in_chunks_and_mounted";
    let Some(registry) = DockerRegistry::start(test, "", "") else { return };
    let client = client("");
    let image = real_image(&noise(500_000));
    let reference = |name: &str| -> Reference { format!("{}/{name}", registry.registry()).parse().unwrap() };
    let send = |push: &berth_registry::Push, bytes: &Vec<u8>| {
        let size = bytes.len() as u64;
        let pushed = push.blob(
            &sha256(bytes),
            size,
            &mut || Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            &Cancel::new(),
        );
        pushed.unwrap_or_else(|e| panic!("{}", chain(&e)))
    };
    let finish =
        |push: &berth_registry::Push| push.manifest("t", MANIFEST, &image.manifest, &Cancel::new()).unwrap();

    let whole = client.push(&reference("whole"), None).unwrap();
    assert_eq!((send(&whole, &image.layer), send(&whole, &image.config)), (Pushed::Sent, Pushed::Sent));
    assert_eq!(send(&whole, &image.layer), Pushed::Present);
    assert_eq!(finish(&whole), sha256(&image.manifest));

    let chunks = client.push(&reference("chunks"), None).unwrap().in_chunks(100_000);
    assert_eq!((send(&chunks, &image.layer), send(&chunks, &image.config)), (Pushed::Sent, Pushed::Sent));
    finish(&chunks);

    let mounted = client.push_mounting(&reference("mounted"), Some(&reference("whole")), None).unwrap();
    assert_eq!(
        (send(&mounted, &image.layer), send(&mounted, &image.config)),
        (Pushed::Mounted, Pushed::Mounted)
    );
    finish(&mounted);

    for name in ["whole", "chunks", "mounted"] {
        let blobs = pull_all(&client, &format!("{}/{name}:t", registry.registry()));
        assert!(blobs == [image.config.clone(), image.layer.clone()], "{name}");
    }
    // A manifest that names what is not there is refused by it, and we say so.
    let other = client.push(&reference("other"), None).unwrap();
    let error = other.manifest("t", MANIFEST, &image.manifest, &Cancel::new()).unwrap_err();
    assert!(chain(&error).contains("MANIFEST_BLOB_UNKNOWN"), "{}", chain(&error));
    if !has("skopeo") {
        return berth_testing::skip(test, "the program skopeo (Debian's package of that name)");
    }
    let target = tempfile::tempdir().unwrap();
    let from = format!("docker://{}/chunks:t", registry.registry());
    skopeo(&[
        "--insecure-policy",
        "copy",
        "--src-tls-verify=false",
        &from,
        &format!("dir:{}", target.path().display()),
    ]);
    let pulled = std::fs::read(target.path().join(sha256(&image.layer).hex())).unwrap();
    assert!(pulled == image.layer);
}

#[test]
fn dockers_formats_are_pulled_and_told_apart() {
    let test = "dockers_formats_are_pulled_and_told_apart";
    if !has("skopeo") {
        return berth_testing::skip(test, "the program skopeo (Debian's package of that name)");
    }
    let Some(registry) = DockerRegistry::start(test, "", "") else { return };
    let image = real_image(b"hello");
    let source = tempfile::tempdir().unwrap();
    layout(source.path(), &image);
    let from = format!("oci:{}:t", source.path().display());
    for (format, media_type) in [
        ("v2s1", berth_image::manifest::DOCKER_SCHEMA1_SIGNED),
        ("v2s2", berth_image::manifest::DOCKER_MANIFEST),
        ("oci", berth_image::manifest::OCI_MANIFEST),
    ] {
        let to = format!("{}/{format}:t", registry.registry());
        skopeo(&[
            "--insecure-policy",
            "copy",
            "--dest-tls-verify=false",
            "--format",
            format,
            &from,
            &format!("docker://{to}"),
        ]);
        let document = manifest_by(&client(""), &to).unwrap_or_else(|e| panic!("{format}: {}", chain(&e)));
        assert_eq!(document.media_type.as_deref(), Some(media_type), "{format}");
        // And again by the digest, which for schema 1 is not that of the bytes.
        let by_digest =
            manifest_by(&client(""), &format!("{}/{format}@{}", registry.registry(), document.digest));
        assert_eq!(by_digest.unwrap_or_else(|e| panic!("{format}: {}", chain(&e))).digest, document.digest);
        let Parsed::Manifest(manifest) = parse(&document.bytes, document.media_type.as_deref()).unwrap()
        else {
            panic!()
        };
        assert_eq!(matches!(manifest.config, ConfigSource::Inline(_)), format == "v2s1");
    }
}

/// A token as docker-registry wants it: signed with a key whose certificate it knows.
fn mint(key: &EcdsaKeyPair, certificate: &[u8], repository: &str, actions: &[&str]) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let header = serde_json::json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(certificate)]});
    let claims = serde_json::json!({
        "iss": "test", "sub": "me", "aud": "registry of the test", "jti": now.to_string(),
        "nbf": now - 60, "iat": now - 60, "exp": now + 600,
        "access": [{"type": "repository", "name": repository, "actions": actions}],
    });
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

#[test]
fn a_real_registry_with_a_token_server_takes_pushes_and_pulls() {
    let test = "a_real_registry_with_a_token_server_takes_pushes_and_pulls";
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["tokens".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (der, pkcs8) = (certificate.der().to_vec(), key.serialize_der());
    let tokens = Server::simple(move |request| {
        if request.header("authorization") != Some(&format!("Basic {}", STANDARD.encode("me:pw"))) {
            return (401, Vec::new(), br#"{"details":"incorrect username or password"}"#.to_vec());
        }
        let scope = request.target.split("scope=repository:").nth(1).unwrap().split('&').next().unwrap();
        let (repository, actions) = scope.split_once(':').unwrap();
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random).unwrap();
        let token = mint(&key, &der, repository, &actions.split(',').collect::<Vec<_>>());
        (200, Vec::new(), format!(r#"{{"token":"{token}","expires_in":600}}"#).into_bytes())
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokens.pem"), certificate.pem()).unwrap();
    let auth = format!(
        "auth:\n  token:\n    realm: {}\n    service: registry of the test\n    issuer: test\n    rootcertbundle: {}/tokens.pem\n",
        tokens.url("/token"),
        dir.path().display()
    );
    let Some(registry) = DockerRegistry::start_in(test, dir, &auth, "") else { return };
    let config = format!("[registry.\"{}\"]\nrealms = [\"{}\"]", registry.registry(), tokens.url(""));
    let client = client_of(&registry.registry(), "me", "pw", &config);
    let image = real_image(&noise(10_000));
    let reference: Reference = format!("{}/team/app:t", registry.registry()).parse().unwrap();
    let push = client.push(&reference, None).unwrap();
    for bytes in [&image.layer, &image.config] {
        push.blob(
            &sha256(bytes),
            bytes.len() as u64,
            &mut || Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            &Cancel::new(),
        )
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
    }
    push.manifest("t", MANIFEST, &image.manifest, &Cancel::new()).unwrap();
    assert_eq!(tokens.seen().len(), 1, "one token for all of a push");
    let blobs = pull_all(&client, &reference.to_string());
    assert!(blobs == [image.config.clone(), image.layer.clone()]);
    assert_eq!(tokens.seen().len(), 2, "and one for all of a pull, which asks for less");
    assert!(
        tokens.seen()[1].target.contains("scope=repository:team/app:pull&"),
        "{}",
        tokens.seen()[1].target
    );
    // Without the setting, the realm is another origin in the open: not asked.
    let unnamed = client_of(&registry.registry(), "me", "pw", "");
    assert!(chain(&manifest_by(&unnamed, &reference.to_string()).unwrap_err()).contains("`realms`"));
    let wrong = client_of(&registry.registry(), "me", "wrong", &config);
    let text = chain(&manifest_by(&wrong, &reference.to_string()).unwrap_err());
    assert!(text.contains("incorrect username or password"), "{text}");
}
