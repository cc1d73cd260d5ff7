// SPDX-License-Identifier: Apache-2.0
//! What a manifest must be before anybody looks into it: of the digest that was asked for, of one kind, and of the
//! kind that it was announced as (CVE-2021-41190: one text that is a manifest to some and an index to others).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_image::digest_of;
use berth_image::manifest::{
    self, DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, OCI_INDEX, OCI_MANIFEST,
};
use berth_model::image::{Algorithm, Digest};
use serde::Deserialize;

use crate::error::cut;

/// What we ask for, the best first.
pub(crate) const ACCEPTED: &[&str] =
    &[OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA1_SIGNED, DOCKER_SCHEMA1];
/// What some registries call schema 1; Mesos takes it so.
const BARE: &str = "application/json";

/// The media type of a `Content-Type`, without parameters and in lower case; an error when it is none of ours.
pub(crate) fn media_type(header: Option<&str>) -> Result<Option<String>, String> {
    let Some(header) = header else { return Ok(None) };
    let bare = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match ACCEPTED.contains(&bare.as_str()) || bare == BARE {
        true => Ok(Some(bare)),
        false => Err(format!("its media type is '{}', which is no manifest", cut(&bare, 80))),
    }
}

/// Looks at a document: its digest, against the one that is wanted, and that the store's parser takes it for what
/// it was announced as. `Err` holds the reason, or the digest that came instead.
pub(crate) fn check(
    media_type: Option<&str>,
    bytes: &[u8],
    wanted: Option<&Digest>,
) -> Result<Digest, Refusal> {
    let algorithm = wanted.map_or(Algorithm::Sha256, Digest::algorithm);
    let whole = digest_of(algorithm, bytes);
    // The digest of a signed document of schema 1 is that of what was signed.
    let digest = match wanted {
        Some(wanted) if *wanted == whole => whole,
        _ => payload(bytes).map_or(whole, |signed| digest_of(algorithm, &signed)),
    };
    if let Some(wanted) = wanted
        && *wanted != digest
    {
        return Err(Refusal::Digest(digest));
    }
    // Its words quote the document, which anybody may have written.
    manifest::parse(bytes, media_type).map_err(|why| Refusal::Why(cut(&why, 300)))?;
    Ok(digest)
}

/// Why a document is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Why(String),
    Digest(Digest),
}

/// What the signatures of a document of schema 1 are over: its beginning, and an end that they tell.
fn payload(bytes: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Signed {
        signatures: Vec<Signature>,
    }
    #[derive(Deserialize)]
    struct Signature {
        protected: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Protected {
        format_length: usize,
        format_tail: String,
    }
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
    let signed: Signed = serde_json::from_slice(bytes).ok()?;
    let protected = decode(&signed.signatures.first()?.protected)?;
    let protected: Protected = serde_json::from_slice(&protected).ok()?;
    let mut payload = bytes.get(..protected.format_length)?.to_vec();
    let tail = decode(&protected.format_tail)?;
    // What is digested must be all that is read: nothing but signatures may stand behind it.
    let whole: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes).ok()?;
    payload.extend_from_slice(&tail);
    let inner: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&payload).ok()?;
    let same = whole.iter().filter(|(key, _)| *key != "signatures").eq(inner.iter());
    same.then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(media_type: Option<&str>, text: &str) -> String {
        match check(media_type, text.as_bytes(), None) {
            Err(Refusal::Why(why)) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn hex(digit: &str) -> String {
        format!("sha256:{}", digit.repeat(64))
    }

    #[test]
    fn a_document_is_of_the_kind_that_it_is_called() {
        let part = format!(r#"{{"mediaType":"x","digest":"{}","size":1}}"#, hex("a"));
        let manifest = format!(r#"{{"schemaVersion":2,"config":{part},"layers":[{part}]}}"#);
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(check(Some(OCI_MANIFEST), manifest.as_bytes(), None).is_ok());
        assert!(check(Some(OCI_INDEX), index.as_bytes(), None).is_ok());
        why(Some(OCI_INDEX), &manifest);
        why(Some(OCI_MANIFEST), index);
        why(Some(OCI_MANIFEST), &manifest.replace("2,", &format!(r#"2,"mediaType":"{DOCKER_MANIFEST}","#)));
        let deep =
            format!(r#"{{"schemaVersion":2,"layers":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        why(None, &deep);
        assert!(!why(None, "\u{1b}[31m").contains('\u{1b}'));
    }

    #[test]
    #[allow(non_snake_case)]
    fn CVE_2021_41190_a_document_of_two_kinds_is_refused() {
        for text in [
            r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#,
            r#"{"schemaVersion":1,"fsLayers":[],"layers":[]}"#,
        ] {
            for media_type in [None, Some(OCI_MANIFEST), Some(OCI_INDEX)] {
                assert!(why(media_type, text).contains("at once"), "{text}");
            }
        }
    }

    #[test]
    fn a_digest_is_looked_at_before_anything_else() {
        let wanted = hex("b").parse().unwrap();
        let found = digest_of(Algorithm::Sha256, b"nonsense");
        assert_eq!(check(None, b"nonsense", Some(&wanted)), Err(Refusal::Digest(found)));
    }

    #[test]
    fn a_media_type_is_one_of_ours_or_refused() {
        assert_eq!(
            media_type(Some("Application/JSON; charset=utf-8")).unwrap().as_deref(),
            Some("application/json")
        );
        assert_eq!(media_type(None).unwrap(), None);
        assert!(media_type(Some("text/html")).unwrap_err().contains("text/html"));
    }

    #[test]
    fn the_digest_of_a_signed_document_is_that_of_what_was_signed() {
        let inner = format!(
            r#"{{"fsLayers":[{{"blobSum":"{}"}}],"history":[{{"v1Compatibility":"{{}}"}}],"schemaVersion":1}}"#,
            hex("a")
        );
        let tail = URL_SAFE_NO_PAD.encode("}");
        let protected = format!(r#"{{"formatLength":{},"formatTail":"{tail}"}}"#, inner.len() - 1);
        let protected = URL_SAFE_NO_PAD.encode(protected);
        let sign = |extra: &str| {
            format!(r#"{}{extra},"signatures":[{{"protected":"{protected}"}}]}}"#, &inner[..inner.len() - 1])
        };
        let want = digest_of(Algorithm::Sha256, inner.as_bytes());
        assert_eq!(check(Some(DOCKER_SCHEMA1_SIGNED), sign("").as_bytes(), Some(&want)), Ok(want));
        assert_eq!(check(Some(DOCKER_SCHEMA1_SIGNED), sign("").as_bytes(), None), Ok(want));
        // Something that is read and not digested: then the digest is of the whole.
        let smuggled = sign(r#","name":"x""#);
        assert!(matches!(check(None, smuggled.as_bytes(), Some(&want)), Err(Refusal::Digest(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_check_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), t in 0usize..7) {
            drop(check(ACCEPTED.get(t).copied(), &bytes, None));
        }
    }
}
