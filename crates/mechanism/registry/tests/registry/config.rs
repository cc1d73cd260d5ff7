// SPDX-License-Identifier: Apache-2.0
//! Mirrors, fallback, proxies, and what `explain` tells of them.

use berth_image::Cancel;
use berth_model::image::{Platform, Reference};
use berth_registry::{Client, Fallback, Role};

use crate::support::*;

fn serving(image: &Image) -> Server {
    let image = image.clone();
    Server::simple(move |request| image.serve(request))
}

fn empty() -> Server {
    Server::simple(|_| (404, Vec::new(), Vec::new()))
}

#[test]
fn a_name_of_any_registry_is_served_by_a_local_mirror() {
    let image = Image::new(noise(1000));
    let mirror = serving(&image);
    let config = format!(
        "[registry.\"registry.example\"]\nmirrors = [\"{}\"]\nfallback = \"never\"",
        mirror.registry()
    );
    let client = client(&config);
    assert_eq!(manifest_by(&client, "registry.example/x").unwrap().bytes, image.manifest);
    assert!(blob_by(&client, "registry.example/x", &image.blob(), 0).unwrap() == image.layer);
    assert_eq!(mirror.seen()[0].target, "/v2/x/manifests/latest?ns=registry.example");
}

#[test]
fn a_mirror_of_dockers_registry_has_full_names_and_a_path_of_its_own() {
    let image = Image::new(noise(1000));
    let mirror = serving(&image);
    let client = client(&format!(
        "[registry.\"docker.io\"]\nmirrors = [\"http://{}/hub\"]\nfallback = \"never\"",
        mirror.registry()
    ));
    manifest_by(&client, "busybox:1").unwrap();
    manifest_by(&client, "docker.io/team/app").unwrap();
    let targets: Vec<String> = mirror.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        targets,
        [
            "/v2/hub/library/busybox/manifests/1?ns=docker.io",
            "/v2/hub/team/app/manifests/latest?ns=docker.io"
        ]
    );
}

#[test]
fn mirrors_are_asked_in_their_order_and_the_registry_last() {
    let image = Image::new(noise(1000));
    let (first, second, registry) = (empty(), serving(&image), serving(&image));
    let config = |mirrors: &str| format!("[registry.\"{}\"]\nmirrors = [{mirrors}]", registry.registry());
    let both = config(&format!("\"{}\", \"{}\"", first.registry(), second.registry()));
    manifest_by(&client(&both), &format!("{}/a", registry.registry())).unwrap();
    assert_eq!((first.seen().len(), second.seen().len(), registry.seen().len()), (1, 1, 0));
    let one = config(&format!("\"{}\", \"127.0.0.1:1\"", first.registry()));
    manifest_by(&client(&one), &format!("{}/a", registry.registry())).unwrap();
    assert_eq!((first.seen().len(), registry.seen().len()), (2, 1));
}

#[test]
fn without_fallback_the_registry_is_never_asked_and_every_host_is_told() {
    let (mirror, registry) = (empty(), serving(&Image::new(noise(10))));
    let config = format!(
        "[registry.\"{}\"]\nmirrors = [\"{}\"]\nfallback = \"never\"",
        registry.registry(),
        mirror.registry()
    );
    let text = chain(&manifest_by(&client(&config), &format!("{}/a", registry.registry())).unwrap_err());
    assert!(text.contains(&mirror.registry()) && text.contains("fallback = \"never\""), "{text}");
    assert!(registry.seen().is_empty());
}

#[test]
fn a_mirror_that_breaks_within_a_blob_is_left_for_the_registry() {
    let image = Image::new(noise(400_000));
    let half = image.clone();
    let mirror = Server::start(move |request, stream| {
        use std::io::Write;
        if request.header("range").is_some() {
            return respond(stream, request, 404, &[], b"");
        }
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", half.layer.len()).unwrap();
        stream.write_all(&half.layer[..200_000]).ok();
        false
    });
    let registry = serving(&image);
    let config = format!("[registry.\"{}\"]\nmirrors = [\"{}\"]", registry.registry(), mirror.registry());
    let got = blob_by(&client(&config), &format!("{}/a", registry.registry()), &image.blob(), 0).unwrap();
    assert!(got == image.layer);
    assert_eq!(registry.seen().len(), 1);
}

#[test]
fn a_mirror_that_lies_is_left_for_the_registry() {
    let image = Image::new(noise(4000));
    let mirror = Server::simple({
        let mut lying = image.clone();
        lying.manifest.push(b' ');
        let wrong = vec![b'x'; image.layer.len()];
        move |request| match request.path().contains("/blobs/") {
            true => (200, Vec::new(), wrong.clone()),
            false => lying.serve(request),
        }
    });
    let registry = serving(&image);
    let config = format!("[registry.\"{}\"]\nmirrors = [\"{}\"]", registry.registry(), mirror.registry());
    let client = client(&config);
    let by_digest = format!("{}/a@{}", registry.registry(), sha256(&image.manifest));
    assert_eq!(manifest_by(&client, &by_digest).unwrap().bytes, image.manifest);
    // Blobs are verified by who reads them: asking again is asking somebody else.
    use berth_image::Source;
    let source = client.image(&format!("{}/a", registry.registry()).parse().unwrap(), None).unwrap();
    let read = || {
        let mut bytes = vec![0; image.layer.len()];
        let mut reader = source.blob(&image.blob(), 0, &Cancel::new()).unwrap();
        std::io::Read::read_exact(&mut reader, &mut bytes).unwrap();
        bytes
    };
    assert!(read() != image.layer);
    assert!(read() == image.layer);
}

#[test]
fn a_mirrors_password_is_the_mirrors_and_the_registrys_stays_at_home() {
    let image = Image::new(noise(10));
    let served = image.clone();
    let mirror = Server::simple(move |request| match request.header("authorization") {
        Some("Basic bWlycm9yOnB3") => served.serve(request),
        _ => (401, vec![("WWW-Authenticate", "Basic realm=x".to_owned())], Vec::new()),
    });
    let config = format!(
        "[registry.\"registry.example\"]\nmirrors = [\"{}\"]\nfallback = \"never\"",
        mirror.registry()
    );
    let wrong = client_of("registry.example", "me", "pw", &config);
    manifest_by(&wrong, "registry.example/a").unwrap_err();
    assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()));
    manifest_by(&client_of(&mirror.registry(), "mirror", "pw", &config), "registry.example/a").unwrap();
}

#[test]
fn the_flag_docker_registry_is_for_names_without_a_registry() {
    let image = Image::new(noise(10));
    let server = serving(&image);
    for flag in [server.url("/"), format!("http://{}", server.registry())] {
        let mut settings = quick("");
        settings.default_registry = Some(flag);
        let client = Client::new(settings).unwrap();
        manifest_by(&client, "busybox").unwrap();
        assert_eq!(server.seen().last().unwrap().target, "/v2/busybox/manifests/latest");
    }
    for wrong in ["ftp://x", "http://u:p@x", ""] {
        let mut settings = quick("");
        settings.default_registry = Some(wrong.to_owned());
        let error = Client::new(settings).err().unwrap().to_string();
        assert!(error.contains("--docker_registry"), "{error}");
    }
}

#[test]
fn a_proxy_is_told_the_whole_address_and_its_password_alone() {
    let image = Image::new(noise(10));
    let served = image.clone();
    let proxy = Server::simple(move |request| {
        let mut request = request.clone();
        request.target = request.target.replace("http://r.example", "");
        served.serve(&request)
    });
    let config = format!(
        "[registry.\"r.example\"]\nplain_http = true\n[proxy]\nhttp = \"http://me:pw@{}\"",
        proxy.registry()
    );
    manifest_by(&client(&config), "r.example/a").unwrap();
    let seen = &proxy.seen()[0];
    assert_eq!(seen.target, "http://r.example/v2/a/manifests/latest");
    assert_eq!(
        (seen.header("host"), seen.header("proxy-authorization")),
        (Some("r.example"), Some("Basic bWU6cHc="))
    );
    // This machine is never reached through it.
    let server = serving(&image);
    manifest_by(&client(&config), &format!("{}/a", server.registry())).unwrap();
    assert!(server.seen()[0].header("proxy-authorization").is_none());
}

#[test]
fn a_proxy_that_gives_no_tunnel_is_named() {
    let proxy = Server::simple(|request| {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("CONNECT", "r.example:443"));
        (403, Vec::new(), Vec::new())
    });
    let config = format!("[proxy]\nhttps = \"http://{}\"", proxy.registry());
    let text = chain(&manifest_by(&client(&config), "r.example/a").unwrap_err());
    assert!(text.contains("gives no tunnel") && text.contains(&proxy.registry()), "{text}");
}

#[test]
fn explain_tells_hosts_credentials_and_what_would_be_fetched_and_no_secret() {
    let image = Image::new(noise(1000));
    let (first, mirror) = (empty(), serving(&image));
    let config = format!(
        "[registry.\"registry.example\"]\nmirrors = [\"{}\", \"{}\"]\nca = \"/etc/x.pem\"",
        first.registry(),
        mirror.registry()
    );
    // The authority belongs to the registry, which is not made a host when it is not asked.
    let config = config.replace("\nca = \"/etc/x.pem\"", "\nfallback = \"never\"");
    let client = client_of(&mirror.registry(), "me", "hunter2", &config);
    let reference: Reference = "registry.example/team/app:1".parse().unwrap();
    let here = sha256(&image.config);
    let present = |digest: &berth_model::image::Digest| *digest == here;
    let platform: Platform = "linux/amd64".parse().unwrap();
    let it = client.explain(&reference, None, &platform, Some(&present), &Cancel::new()).unwrap();
    assert_eq!((it.meaning.as_str(), it.platform.as_str()), ("registry.example/team/app:1", "linux/amd64"));
    assert_eq!((it.hosts.len(), it.fallback), (2, Fallback::Never));
    assert_eq!((it.hosts[1].role, it.hosts[1].tls), (Role::Mirror, false));
    assert_eq!(it.hosts[1].credentials.as_ref().unwrap().user, "me");
    assert!(it.hosts[0].credentials.is_none());
    let found = it.resolved.as_ref().unwrap();
    assert_eq!(found.host, mirror.url(""));
    assert_eq!(found.digest, sha256(&image.manifest));
    assert_eq!(found.blobs.iter().map(|blob| blob.present).collect::<Vec<_>>(), [true, false]);
    assert_eq!(found.to_fetch, 1000);
    let text = format!("{it:?}{}", serde_json::to_string(&it).unwrap());
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(mirror.count("/blobs/"), 0);
    // Without a look nothing is sent at all.
    let sent = mirror.seen().len();
    client.explain(&reference, None, &platform, None, &Cancel::new()).unwrap();
    assert_eq!(mirror.seen().len(), sent);
}

#[test]
fn explain_tells_why_nothing_was_found() {
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"{}","size":9,"platform":{{"os":"linux","architecture":"s390x"}}}}]}}"#,
        sha256(b"x")
    );
    let server =
        Server::simple(move |_| (200, vec![("Content-Type", INDEX.to_owned())], index.clone().into_bytes()));
    let reference: Reference = format!("{}/a", server.registry()).parse().unwrap();
    let platform: Platform = "linux/amd64".parse().unwrap();
    let it = client("").explain(&reference, None, &platform, Some(&|_| false), &Cancel::new()).unwrap();
    let problem = it.problem.unwrap();
    assert!(problem.contains("nothing for linux/amd64") && problem.contains("linux/s390x"), "{problem}");
}
