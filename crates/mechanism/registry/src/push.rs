// SPDX-License-Identifier: Apache-2.0
//! Sending images to a registry: blobs that it lacks, then the manifests that name them.

use std::io::Read;

use berth_image::Cancel;
use berth_model::image::{Algorithm, Digest, Reference};
use ureq_proto::http::{HeaderName, HeaderValue, Method, header};

use crate::client::Client;
use crate::connect::Op;
use crate::error::RegistryError;
use crate::exchange::{Payload, Reply};
use crate::retry::Retries;
use crate::session::{Ask, Session};
use crate::socket::Patience;
use crate::url::Url;

/// How a blob came to be at the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Present,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// It was sent.
    Sent,
}

/// Where the content of a blob is read from; called again when it has to be sent again.
pub type Open<'a> = &'a mut dyn FnMut() -> std::io::Result<Box<dyn Read>>;

/// A push to one repository.
pub struct Push {
    described: String,
    session: Session,
    from: Option<String>,
    patience: Patience,
    retries: Retries,
    chunk: Option<u64>,
}

impl Push {
    pub(crate) fn new(
        client: &Client,
        reference: &Reference,
        session: Session,
        from: Option<String>,
    ) -> Push {
        let described = format!("{}/{}", reference.registry_or(&client.hosts.default.0), session.path);
        Push { described, session, from, patience: client.patience, retries: client.retries, chunk: None }
    }

    /// Sends blobs in chunks of that many bytes, for registries (and proxies before them) that limit a request.
    #[must_use]
    pub fn in_chunks(mut self, bytes: u64) -> Push {
        self.chunk = Some(bytes.max(64 << 10));
        self
    }

    /// What people call the repository.
    pub fn describe(&self) -> &str {
        &self.described
    }

    /// Whether the registry has a blob of that many bytes.
    pub fn has_blob(&self, digest: &Digest, size: u64, cancel: &Cancel) -> Result<bool, RegistryError> {
        let url = self.session.url(&format!("blobs/{digest}"))?;
        let what = format!("HEAD {}", url.shown());
        let op = Op { what: &what, cancel, patience: &self.patience };
        self.retries.run(self.retries.tries, op, || {
            let reply = self.session.ask(
                &Ask { method: Method::HEAD, url: url.clone(), headers: &[] },
                Payload::None,
                op,
            )?;
            match reply.status {
                200 => {
                    let told = reply.header(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
                    match told {
                        Some(told) if told != size => {
                            Err(op.answer(format!("it has {told} bytes of a blob that has {size}")))
                        }
                        _ => Ok(true),
                    }
                }
                404 => Ok(false),
                _ => Err(self.session.unwelcome(reply, op)),
            }
        })
    }

    /// Brings a blob there, if it is not there: taken over from the repository to mount from, or sent.
    pub fn blob(
        &self,
        digest: &Digest,
        size: u64,
        open: Open<'_>,
        cancel: &Cancel,
    ) -> Result<Pushed, RegistryError> {
        if self.has_blob(digest, size, cancel)? {
            return Ok(Pushed::Present);
        }
        let what = format!("push the blob {digest} to {}", self.described);
        let op = Op { what: &what, cancel, patience: &self.patience };
        self.retries.run(self.retries.tries, op, || {
            let Some(upload) = self.begin(digest, op)? else { return Ok(Pushed::Mounted) };
            let content = open().map_err(|source| RegistryError::Read { what: what.clone(), source })?;
            match self.chunk {
                Some(chunk) if size > chunk => self.send_chunks(upload, digest, size, chunk, content, op)?,
                _ => self.send_whole(&upload, digest, size, content, op)?,
            }
            Ok(Pushed::Sent)
        })
    }

    /// Opens an upload; nothing when the blob was mounted instead.
    fn begin(&self, digest: &Digest, op: Op<'_>) -> Result<Option<Url>, RegistryError> {
        let mut url = self.session.url("blobs/uploads/")?;
        if let Some(from) = &self.from {
            url = url.with_query("mount", &digest.to_string()).with_query("from", from);
        }
        let ask = Ask { method: Method::POST, url: url.clone(), headers: &[] };
        let mut reply = self.session.ask(&ask, Payload::None, op)?;
        drop(reply.body.complaint());
        match reply.status {
            201 if self.from.is_some() => Ok(None),
            202 => self.location(&url, &reply, op).map(Some),
            _ => Err(self.session.unwelcome(reply, op)),
        }
    }

    /// Where to go on. An upload stays with its registry: nobody else gets our credentials, or the content.
    fn location(&self, at: &Url, reply: &Reply, op: Op<'_>) -> Result<Url, RegistryError> {
        let location =
            reply.header(header::LOCATION).ok_or_else(|| op.answer("it does not say where to upload to"))?;
        let refused = |why: String| RegistryError::Redirect {
            what: op.what.to_owned(),
            to: crate::error::cut(location, 200),
            why,
        };
        let next = at.join(location).map_err(|error| refused(error.to_string()))?;
        if next.origin != self.session.host.origin {
            return Err(refused(format!("uploads stay at {}", self.session.host.origin)));
        }
        Ok(next)
    }

    fn send_whole(
        &self,
        upload: &Url,
        digest: &Digest,
        size: u64,
        mut content: Box<dyn Read>,
        op: Op<'_>,
    ) -> Result<(), RegistryError> {
        let headers = [octets()];
        let url = upload.with_query("digest", &digest.to_string());
        let payload = Payload::Stream { length: size, from: &mut *content };
        let reply = self.session.ask(&Ask { method: Method::PUT, url, headers: &headers }, payload, op)?;
        self.created(reply, op)
    }

    fn send_chunks(
        &self,
        mut upload: Url,
        digest: &Digest,
        size: u64,
        chunk: u64,
        mut content: Box<dyn Read>,
        op: Op<'_>,
    ) -> Result<(), RegistryError> {
        let mut sent = 0;
        while sent < size {
            let length = chunk.min(size - sent);
            let range = format!("{sent}-{}", sent + length - 1);
            let range = HeaderValue::from_str(&range).expect("digits are visible characters");
            let headers = [octets(), (header::CONTENT_RANGE, range)];
            let payload = Payload::Stream { length, from: &mut *content };
            let ask = Ask { method: Method::PATCH, url: upload.clone(), headers: &headers };
            let mut reply = self.session.ask(&ask, payload, op)?;
            drop(reply.body.complaint());
            if reply.status != 202 {
                return Err(self.session.unwelcome(reply, op));
            }
            upload = self.location(&upload, &reply, op)?;
            sent += length;
        }
        let url = upload.with_query("digest", &digest.to_string());
        let reply = self.session.ask(&Ask { method: Method::PUT, url, headers: &[] }, Payload::None, op)?;
        self.created(reply, op)
    }

    fn created(&self, mut reply: Reply, op: Op<'_>) -> Result<(), RegistryError> {
        match reply.status {
            201 | 204 => {
                drop(reply.body.complaint());
                Ok(())
            }
            _ => Err(self.session.unwelcome(reply, op)),
        }
    }

    /// Sends a manifest or index under a tag or its digest; what it names must be there.
    pub fn manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
        cancel: &Cancel,
    ) -> Result<Digest, RegistryError> {
        let url = self.session.url(&format!("manifests/{name}"))?;
        let what = format!("PUT {}", url.shown());
        let op = Op { what: &what, cancel, patience: &self.patience };
        let media_type = HeaderValue::from_str(media_type).map_err(|_| {
            op.answer("the media type of the manifest has characters that no header can have")
        })?;
        let headers = [(header::CONTENT_TYPE, media_type)];
        let digest = berth_image::digest_of(Algorithm::Sha256, bytes);
        self.retries.run(self.retries.tries, op, || {
            let ask = Ask { method: Method::PUT, url: url.clone(), headers: &headers };
            let reply = self.session.ask(&ask, Payload::Bytes(bytes), op)?;
            let told = reply.header(HeaderName::from_static("docker-content-digest"));
            let told: Option<Digest> = told.and_then(|text| text.parse().ok());
            self.created(reply, op)?;
            match told {
                Some(told) if told.algorithm() == Algorithm::Sha256 && told != digest => {
                    Err(RegistryError::Digest {
                        what: what.clone(),
                        wanted: digest.to_string(),
                        found: told.to_string(),
                    })
                }
                _ => Ok(digest),
            }
        })
    }
}

fn octets() -> (HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
}
