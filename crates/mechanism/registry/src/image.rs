// SPDX-License-Identifier: Apache-2.0
//! An image at a registry, as a [`Source`] of the store.
//!
//! Mirrors are asked in their order. Which host has it is decided anew for each document and blob, beginning with
//! the one that had the last: a mirror that lacks a layer does not fail the pull.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use berth_image::{Cancel, Descriptor, Document, MANIFEST_MAX, ManifestRef, PullError, Source};
use berth_model::image::{Digest, Reference};
use ureq_proto::http::{HeaderName, HeaderValue, Method, header};

use crate::client::Client;
use crate::config::Fallback;
use crate::connect::Op;
use crate::document::{self, ACCEPTED, Refusal};
use crate::error::RegistryError;
use crate::exchange::{Body, Payload, Reply};
use crate::retry::Retries;
use crate::session::{Ask, Session};
use crate::socket::Patience;

/// A layer is no larger than this when nobody says how large it is.
const UNKNOWN_MAX: u64 = 1 << 40;

/// An image at a registry or its mirrors.
#[derive(Clone)]
pub struct RemoteImage {
    inner: Arc<Inner>,
}

struct Inner {
    reference: Reference,
    described: String,
    sessions: Vec<Session>,
    /// The host that served the last.
    preferred: AtomicUsize,
    /// Which host gave all of a blob. Whoever asks for it again did not like what came.
    delivered: Mutex<HashMap<Digest, usize>>,
    fallback: Fallback,
    patience: Patience,
    retries: Retries,
}

/// Where a document came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The document.
    pub document: Document,
    /// The host that had it.
    pub host: String,
}

impl RemoteImage {
    pub(crate) fn new(
        client: &Client,
        reference: &Reference,
        sessions: Vec<Session>,
        fallback: Fallback,
    ) -> RemoteImage {
        let registry = reference.registry_or(&client.hosts.default.0);
        let path = registry.path_of(reference.repository());
        let separator = if reference.digest().is_some() { '@' } else { ':' };
        let described = format!("{registry}/{path}{separator}{}", reference.selector());
        let inner = Inner {
            reference: reference.clone(),
            described,
            sessions,
            preferred: AtomicUsize::new(0),
            delivered: Mutex::default(),
            fallback,
            patience: client.patience,
            retries: client.retries,
        };
        RemoteImage { inner: Arc::new(inner) }
    }

    pub(crate) fn sessions(&self) -> &[Session] {
        &self.inner.sessions
    }

    pub(crate) fn fallback(&self) -> Fallback {
        self.inner.fallback
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.inner.patience
    }

    /// A manifest, and who had it.
    pub fn fetch_manifest(&self, which: &ManifestRef, cancel: &Cancel) -> Result<Served, RegistryError> {
        let inner = &*self.inner;
        let (selector, wanted) = match which {
            ManifestRef::Top => (inner.reference.selector(), inner.reference.digest()),
            ManifestRef::Digest(digest) => (digest.to_string(), Some(digest)),
        };
        let what = format!("the manifest {selector} of {}", inner.described);
        inner.each(&what, cancel, |session, tries| {
            let url = session.url(&format!("manifests/{selector}"))?;
            let what = format!("GET {}", url.shown());
            let op = Op { what: &what, cancel, patience: &inner.patience };
            let headers: Vec<(HeaderName, HeaderValue)> = ACCEPTED
                .iter()
                .map(|accepted| (header::ACCEPT, HeaderValue::from_static(accepted)))
                .collect();
            let document = inner.retries.run(tries, op, || {
                let ask = Ask { method: Method::GET, url: url.clone(), headers: &headers };
                let reply = session.ask(&ask, Payload::None, op)?;
                if reply.status != 200 {
                    return Err(session.unwelcome(reply, op));
                }
                read_document(reply, wanted, op)
            })?;
            Ok(Served { document, host: session.host.describe() })
        })
    }

    fn open(&self, blob: &Descriptor, offset: u64, cancel: &Cancel) -> Result<Blob, RegistryError> {
        let inner = &self.inner;
        let (blob, cancel) = (blob.clone(), cancel.clone());
        let done = |at, body| Blob {
            inner: Arc::clone(inner),
            at,
            offset,
            body,
            failures: 0,
            since_failure: 0,
            blob: blob.clone(),
            cancel: cancel.clone(),
        };
        // There is nothing to ask for.
        if blob.size == Some(offset) && offset > 0 {
            return Ok(done(0, None));
        }
        let what = format!("the blob {} of {}", blob.digest, inner.described);
        let disliked = inner.delivered().get(&blob.digest).copied();
        let (at, body) = inner.each_at(&what, disliked, &cancel, |at, session, tries| {
            let url = session.url(&format!("blobs/{}", blob.digest))?;
            let what = format!("GET {}", url.shown());
            let op = Op { what: &what, cancel: &cancel, patience: &inner.patience };
            let opened =
                inner.retries.run(tries, op, || open_blob(session, url.clone(), blob.size, offset, op));
            opened.map(|body| (at, body))
        })?;
        Ok(done(at, Some(body)))
    }
}

impl Inner {
    fn delivered(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, usize>> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each<T>(
        &self,
        what: &str,
        cancel: &Cancel,
        act: impl Fn(&Session, u32) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.each_at(what, None, cancel, |_, session, tries| act(session, tries))
    }

    /// Does it with the host that served the last, then with the others in their order, until one succeeds. The
    /// last of them is tried as often as the settings say, others twice: somebody else may have it. `last` is asked
    /// after all others.
    fn each_at<T>(
        &self,
        what: &str,
        last: Option<usize>,
        cancel: &Cancel,
        act: impl Fn(usize, &Session, u32) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let count = self.sessions.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let order = std::iter::once(first).chain((0..count).filter(|at| *at != first));
        let order = order.clone().filter(|at| Some(*at) != last).chain(last);
        let mut tried = Vec::new();
        for (place, at) in order.enumerate() {
            let tries = if place + 1 == count { self.retries.tries } else { self.retries.tries.min(2) };
            match act(at, &self.sessions[at], tries) {
                Ok(done) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(error) if error.is_cancelled() || cancel.is_cancelled() => {
                    return Err(RegistryError::Cancelled { what: what.to_owned() });
                }
                Err(error) => tried.push(error),
            }
        }
        if count == 1 && self.fallback == Fallback::Always {
            return Err(tried.pop().expect("one host was tried"));
        }
        let class = tried.last().map_or(berth_model::Class::Internal, RegistryError::class);
        let mut tried: Vec<String> = tried.iter().map(RegistryError::chain).collect();
        if self.fallback == Fallback::Never {
            tried.push("the registry itself is not asked (fallback = \"never\")".to_owned());
        }
        Err(RegistryError::Everywhere { what: what.to_owned(), tried, class })
    }
}

fn read_document(mut reply: Reply, wanted: Option<&Digest>, op: Op<'_>) -> Result<Document, RegistryError> {
    refuse_encoded(&reply, op)?;
    let media_type =
        document::media_type(reply.header(header::CONTENT_TYPE)).map_err(|why| op.answer(why))?;
    let told = reply.header(HeaderName::from_static("docker-content-digest"));
    let told: Option<Digest> = told.and_then(|text| text.trim().parse().ok());
    let bytes = reply.body.read_all(MANIFEST_MAX)?;
    let digest = match document::check(media_type.as_deref(), &bytes, wanted) {
        Ok(digest) => digest,
        Err(Refusal::Why(why)) => return Err(op.answer(why)),
        Err(Refusal::Digest(found)) => {
            let wanted = wanted.map(ToString::to_string).unwrap_or_default();
            return Err(RegistryError::Digest { what: op.what.to_owned(), wanted, found: found.to_string() });
        }
    };
    // What the header says is no proof of anything, but one that is wrong shows that something is.
    match told {
        Some(told) if told.algorithm() == digest.algorithm() && told != digest => {
            Err(RegistryError::Digest {
                what: op.what.to_owned(),
                wanted: told.to_string(),
                found: digest.to_string(),
            })
        }
        _ => Ok(Document { media_type, digest, bytes }),
    }
}

/// We ask for no encoding. One that comes all the same would be a way around every limit on size.
fn refuse_encoded(reply: &Reply, op: Op<'_>) -> Result<(), RegistryError> {
    match reply.header(header::CONTENT_ENCODING) {
        None | Some("" | "identity") => Ok(()),
        Some(other) => Err(op.answer(format!(
            "it is encoded as '{}', and nobody asked for that",
            crate::error::cut(other, 40)
        ))),
    }
}

/// Asks for a blob from `offset` on. What is already known is skipped when the host can not begin there. What it
/// says of an encoding does not matter: the bytes are taken as they come, and only the right ones have the digest.
fn open_blob(
    session: &Session,
    url: crate::url::Url,
    size: Option<u64>,
    offset: u64,
    op: Op<'_>,
) -> Result<Body, RegistryError> {
    let range = (offset > 0).then(|| {
        let text = format!("bytes={offset}-");
        (header::RANGE, HeaderValue::from_str(&text).expect("digits are visible characters"))
    });
    let headers: Vec<_> = range.into_iter().collect();
    let ask = Ask { method: Method::GET, url, headers: &headers };
    let mut reply = session.ask(&ask, Payload::None, op)?;
    let wrong_length =
        |wanted: u64, found: u64| op.answer(format!("it has {found} bytes, and its manifest says {wanted}"));
    match reply.status {
        200 => {
            if let (Some(wanted), Some(found)) = (size, reply.body.length())
                && wanted != found
            {
                return Err(wrong_length(wanted, found));
            }
            skip(&mut reply.body, offset, op)?;
            Ok(reply.body)
        }
        206 if offset > 0 => {
            let told = reply.header(header::CONTENT_RANGE).and_then(content_range);
            let (first, last, total) =
                told.ok_or_else(|| op.answer("it does not say which part of the blob it is"))?;
            if first != offset {
                return Err(op.answer(format!("it begins at byte {first}, and {offset} was asked for")));
            }
            let length = last.checked_sub(first).and_then(|length| length.checked_add(1));
            let fits = length.is_some() && reply.body.length().is_none_or(|found| Some(found) == length);
            if !fits {
                return Err(op.answer("its length is not that of the part that it says it is"));
            }
            match (size, total) {
                (Some(wanted), Some(found)) if wanted != found => Err(wrong_length(wanted, found)),
                _ => Ok(reply.body),
            }
        }
        416 => {
            Err(op
                .answer(format!("it has no byte {offset}; the blob there is shorter than its manifest says")))
        }
        206 => Err(op.answer("it is a part of the blob, and all of it was asked for")),
        _ => Err(session.unwelcome(reply, op)),
    }
}

/// `bytes first-last/total`, where the total may be `*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, total))
}

fn skip(body: &mut Body, count: u64, op: Op<'_>) -> Result<(), RegistryError> {
    let mut left = count;
    let mut part = vec![0; 64 << 10];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(part.len());
        match body.read(&mut part[..most])? {
            0 => return Err(op.answer(format!("it ends {left} bytes before byte {count}"))),
            skipped => left -= skipped as u64,
        }
    }
    Ok(())
}

/// A blob on its way. A connection that breaks is made again from where it broke, at any host that has the blob.
struct Blob {
    inner: Arc<Inner>,
    blob: Descriptor,
    at: usize,
    offset: u64,
    body: Option<Body>,
    failures: u32,
    since_failure: u64,
    cancel: Cancel,
}

/// So much in between, and the next failure is the first again.
const PROGRESS: u64 = 1 << 20;

impl Blob {
    fn what(&self) -> String {
        format!("GET the blob {} of {}", self.blob.digest, self.inner.described)
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize, RegistryError> {
        loop {
            if self.blob.size == Some(self.offset) && self.body.is_some() {
                return self.finish(into);
            }
            let failed = match self.body.as_mut().map(|body| body.read(into)) {
                Some(Ok(0)) => match self.blob.size {
                    Some(size) if !into.is_empty() => RegistryError::Broken {
                        what: self.what(),
                        source: io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            format!("it ended after {} of {size} bytes", self.offset),
                        ),
                    },
                    _ => return Ok(0),
                },
                Some(Ok(count)) => {
                    self.offset += count as u64;
                    self.since_failure += count as u64;
                    if self.since_failure >= PROGRESS {
                        self.failures = 0;
                    }
                    if self.blob.size == Some(self.offset) {
                        self.inner.delivered().insert(self.blob.digest, self.at);
                    }
                    let most = self.blob.size.unwrap_or(UNKNOWN_MAX);
                    if self.offset > most {
                        self.body = None;
                        return Err(self.too_long(most));
                    }
                    return Ok(count);
                }
                Some(Err(error)) => error,
                None => return Ok(0),
            };
            self.body = None;
            self.resume(failed)?;
        }
    }

    /// All of it has come: what follows is more than there is.
    fn finish(&mut self, into: &[u8]) -> Result<usize, RegistryError> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut body = self.body.take().expect("the caller has looked");
        match body.read(&mut [0]) {
            Ok(1..) => Err(self.too_long(self.offset)),
            // Nothing more is needed of this connection, so how it ends does not matter.
            Ok(0) | Err(_) => Ok(0),
        }
    }

    fn too_long(&self, most: u64) -> RegistryError {
        RegistryError::Answer {
            what: self.what(),
            why: format!("it has more than the {most} bytes that its manifest says"),
        }
    }

    fn resume(&mut self, mut failed: RegistryError) -> Result<(), RegistryError> {
        let inner = Arc::clone(&self.inner);
        loop {
            self.failures += 1;
            self.since_failure = 0;
            if !failed.is_transient() || self.failures >= inner.retries.tries {
                return Err(failed);
            }
            let what = self.what();
            if self.cancel.wait(inner.retries.pause(self.failures, failed.retry_after())) {
                return Err(RegistryError::Cancelled { what });
            }
            // The same host first: what it began, it may end. Then the others.
            let at = (self.at + (self.failures as usize - 1)) % inner.sessions.len();
            let session = &inner.sessions[at];
            let op = Op { what: &what, cancel: &self.cancel, patience: &inner.patience };
            let url = session.url(&format!("blobs/{}", self.blob.digest))?;
            match open_blob(session, url, self.blob.size, self.offset, op) {
                Ok(body) => {
                    (self.body, self.at) = (Some(body), at);
                    return Ok(());
                }
                Err(error) if error.is_transient() || error.is_cancelled() => failed = error,
                // Another host may do better, and the first error says more than what it answers.
                Err(error) if inner.sessions.len() == 1 => return Err(error),
                Err(_) => {}
            }
        }
    }
}

impl Read for Blob {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read_some(into).map_err(|error| error.into_pull(&self.inner.described).into_io())
    }
}

impl Source for RemoteImage {
    fn manifest(&self, which: &ManifestRef, cancel: &Cancel) -> Result<Document, PullError> {
        let served =
            self.fetch_manifest(which, cancel).map_err(|error| error.into_pull(&self.inner.described))?;
        Ok(served.document)
    }

    fn blob(
        &self,
        blob: &Descriptor,
        offset: u64,
        cancel: &Cancel,
    ) -> Result<Box<dyn Read + Send>, PullError> {
        match self.open(blob, offset, cancel) {
            Ok(reader) => Ok(Box::new(reader)),
            Err(error) => Err(error.into_pull(&self.inner.described)),
        }
    }

    fn describe(&self) -> String {
        self.inner.described.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_whole_or_not_at_all() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range(" bytes 5-9/* "), Some((5, 9, None)));
        for wrong in [
            "",
            "bytes",
            "bytes */10",
            "bytes 5-/10",
            "items 5-9/10",
            "bytes -5-9/10",
            "bytes 5-99999999999999999999/1",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
