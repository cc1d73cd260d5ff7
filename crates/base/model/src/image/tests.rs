// SPDX-License-Identifier: Apache-2.0

use super::*;
use proptest::prelude::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn reference(text: &str) -> Reference {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Registry, repository, tag, digest of a name; an absent part is empty.
fn parts(text: &str) -> [String; 4] {
    let it = reference(text);
    let text = |part: Option<String>| part.unwrap_or_default();
    [
        text(it.registry().map(ToString::to_string)),
        it.repository().to_string(),
        text(it.tag().map(ToString::to_string)),
        text(it.digest().map(ToString::to_string)),
    ]
}

#[test]
fn a_name_is_taken_apart_by_the_rule_of_the_first_part() {
    let digest = format!("sha256:{HEX}");
    for (text, want) in [
        ("busybox", ["", "busybox", "", ""]),
        ("busybox:latest", ["", "busybox", "latest", ""]),
        ("library/busybox", ["", "library/busybox", "", ""]),
        ("localhost/busybox", ["localhost", "busybox", "", ""]),
        ("localhost:5000/a/b:1", ["localhost:5000", "a/b", "1", ""]),
        ("registry.example/a", ["registry.example", "a", "", ""]),
        ("Registry.Example/a", ["registry.example", "a", "", ""]),
        ("host:80/a", ["host:80", "a", "", ""]),
        ("[::1]:5000/a:x", ["[::1]:5000", "a", "x", ""]),
        ("127.0.0.1:5000/debian:12", ["127.0.0.1:5000", "debian", "12", ""]),
        ("a/b/c", ["", "a/b/c", "", ""]),
        ("a__b/c--d.e_f", ["", "a__b/c--d.e_f", "", ""]),
    ] {
        assert_eq!(parts(text), want, "{text}");
        assert_eq!(parts(&format!("{text}@{digest}")), [want[0], want[1], want[2], &digest], "{text}@…");
    }
}

#[test]
fn what_breaks_the_grammar_is_refused_with_its_reason() {
    let long = "a".repeat(256);
    let tag = format!("a:{}", "t".repeat(129));
    let upper = format!("a@sha256:{}", HEX.to_uppercase());
    for (text, word) in [
        ("", "must not be empty"),
        ("Busybox", "lower case"),
        ("a/B", "lower case"),
        ("UPPER/a", "lower case"),
        ("-a", "not part of a repository"),
        ("a/", "not part of a repository"),
        ("/a", "not part of a repository"),
        ("a//b", "not part of a repository"),
        ("a/../b", "not part of a repository"),
        ("a___b", "not part of a repository"),
        ("a..b", "not part of a repository"),
        ("registry.example/", "not part of a repository"),
        ("host:0/a", "not a registry"),
        ("host:99999/a", "not a registry"),
        ("host:+5/a", "not a registry"),
        ("host:/a", "not a registry"),
        ("a.-b/c", "not a registry"),
        ("[::1/a", "not a registry"),
        ("[::1]x/a", "not a registry"),
        ("::1/a", "not a registry"),
        ("user:pw@host/a", "wrong digest"),
        ("a:", "not a tag"),
        ("a:.x", "not a tag"),
        ("a:b:c", "not a tag"),
        ("a:b/c", "not a registry"),
        (tag.as_str(), "not a tag"),
        (long.as_str(), "longer than"),
        (HEX, "id of an image"),
        ("a@sha256:abc", "64"),
        ("a@md5:abc", "unknown algorithm"),
        (upper.as_str(), "lower case"),
        ("a\nb", "not part of a repository"),
        ("http://host/a", "not a registry"),
    ] {
        let error = text.parse::<Reference>().expect_err(text);
        assert!(error.to_string().contains(word), "{text:?}: {error}");
        assert!(!error.to_string().contains('\n'), "{text:?}: {error}");
        assert_eq!(error.class(), crate::Class::Invalid);
    }
}

#[test]
fn the_canonical_form_adds_nothing_and_lets_the_digest_decide() {
    assert_eq!(reference("busybox").canonical(), "busybox");
    assert_eq!(reference("busybox:latest").canonical(), "busybox:latest");
    let both = reference(&format!("localhost:1/a:t@sha256:{HEX}"));
    assert_eq!(both.canonical(), format!("localhost:1/a@sha256:{HEX}"));
    assert_eq!(both.to_string(), format!("localhost:1/a:t@sha256:{HEX}"));
    assert_eq!(both.selector(), format!("sha256:{HEX}"));
    assert_eq!(reference("a").selector(), "latest");
}

#[test]
fn library_is_added_for_requests_to_dockers_registry_alone() {
    let docker = Registry::docker();
    let path = |text: &str| {
        let it = reference(text);
        it.registry_or(&docker).path_of(it.repository())
    };
    assert_eq!(path("busybox"), "library/busybox");
    assert_eq!(path("docker.io/busybox"), "library/busybox");
    assert_eq!(path("index.docker.io/busybox"), "library/busybox");
    assert_eq!(path("a/busybox"), "a/busybox");
    assert_eq!(path("docker.io:443/busybox"), "library/busybox");
    assert_eq!(path("docker.io:5000/busybox"), "busybox");
    assert_eq!(path("docker.io.example/busybox"), "busybox");
    assert_eq!(path("localhost:5000/busybox"), "busybox");
}

#[test]
fn loopback_is_known_by_name_and_address() {
    for yes in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"] {
        assert!(yes.parse::<Registry>().unwrap().is_loopback(), "{yes}");
    }
    for no in ["localhost.example", "10.0.0.1", "[::2]", "128.0.0.1", "127.0.0.1.example"] {
        assert!(!no.parse::<Registry>().unwrap().is_loopback(), "{no}");
    }
}

#[test]
fn a_digest_is_read_whole_or_not_at_all() {
    let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
    assert_eq!((digest.algorithm(), digest.hex().as_str()), (Algorithm::Sha256, HEX));
    assert_eq!(digest.short(), &HEX[..12]);
    let long: Digest = format!("sha512:{HEX}{HEX}").parse().unwrap();
    assert_eq!(long.bytes().len(), 64);
    for wrong in
        ["", ":", HEX, "sha256:", "sha256:../..", &format!("sha256:{HEX}0"), &format!("sha512:{HEX}")]
    {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
    }
}

#[test]
fn a_platform_is_known_by_each_of_its_names() {
    let platform = |text: &str| text.parse::<Platform>().unwrap();
    assert_eq!(platform("linux/x86_64"), platform("linux/amd64"));
    assert_eq!(platform("linux/aarch64"), platform("linux/arm64/v8"));
    assert_eq!(platform("linux/armhf"), platform("linux/arm/v7"));
    assert_eq!(platform("linux/arm/v6").to_string(), "linux/arm/v6");
    for wrong in ["linux", "", "a/b/c/d", "linux/", "linux/a b"] {
        assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
    }
}

#[test]
fn the_best_platform_is_chosen_and_an_unfit_one_never() {
    let wanted = |text: &str, offered: &[&str]| {
        let offered: Vec<Platform> = offered.iter().map(|o| o.parse().unwrap()).collect();
        text.parse::<Platform>().unwrap().choose(offered.iter().map(Some))
    };
    let arms = ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64"];
    assert_eq!(wanted("linux/amd64", &arms), Some(0));
    assert_eq!(wanted("linux/arm/v7", &arms), Some(2));
    assert_eq!(wanted("linux/arm/v6", &arms), Some(1));
    assert_eq!(wanted("linux/arm64", &arms), Some(3));
    assert_eq!(wanted("linux/s390x", &arms), None);
    assert_eq!(wanted("windows/amd64", &arms), None);
    assert_eq!(wanted("linux/amd64", &["linux/amd64/v3"]), None);
    assert_eq!(wanted("linux/amd64", &["linux/amd64", "linux/amd64"]), Some(0));
    let none: [Option<&Platform>; 2] = [None, None];
    assert_eq!(Platform::host().choose(none), None);
}

fn names() -> impl Strategy<Value = String> {
    let registry = "([a-z0-9]{1,8}\\.[a-z]{1,5}|localhost|\\[::1\\]|127\\.0\\.0\\.1)(:[1-9][0-9]{0,3})?/";
    let repository = "[a-z0-9]{1,6}(([._]|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,5}){0,3}";
    let tag = "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?";
    let digest = "(@sha256:[0-9a-f]{64})?";
    (prop::option::of(registry), repository, tag, digest).prop_map(|(registry, repository, tag, digest)| {
        // Without a registry, a first part with a dot in it would be one.
        let repository = if registry.is_some() { repository } else { repository.replace('.', "_") };
        format!("{}{repository}{tag}{digest}", registry.unwrap_or_default())
    })
}

proptest! {
    #[test]
    fn a_good_name_reads_back_as_it_was_written(text in names()) {
        let it: Reference = text.parse().unwrap();
        prop_assert_eq!(it.to_string(), &*text);
        let again: Reference = it.canonical().parse().unwrap();
        prop_assert_eq!(again.canonical(), it.canonical());
        let built = Reference::new(
            it.registry().cloned(), it.repository().clone(), it.tag().cloned(), it.digest().copied());
        prop_assert_eq!(built.unwrap(), it);
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in ".{0,400}") {
        if let Ok(it) = text.parse::<Reference>() {
            prop_assert_eq!(it.to_string().parse::<Reference>().unwrap(), it);
        }
        if let Ok(it) = text.parse::<Digest>() {
            prop_assert_eq!(it.to_string(), &*text);
        }
        if let Ok(it) = text.parse::<Platform>() {
            prop_assert_eq!(it.to_string().parse::<Platform>().unwrap(), it);
        }
    }

    #[test]
    fn nearly_good_text_makes_the_parsers_panic_neither(text in "[a-z0-9A-Z:/@.\\[\\]_%-]{0,80}") {
        if let Ok(it) = text.parse::<Reference>() {
            prop_assert_eq!(it.to_string().parse::<Reference>().unwrap(), it);
        }
    }
}
