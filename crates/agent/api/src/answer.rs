// SPDX-License-Identifier: Apache-2.0
//! Answers as they go out: whole bodies with a length, compressed when the client asks and it is worth it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use crate::Refusal;

/// The body of an answer. Its error breaks the connection off.
pub type Body = UnsyncBoxBody<Bytes, Refusal>;

const TEXT: &str = "text/plain; charset=utf-8";

/// Below this, compression is not worth it; the bound is Mesos's.
const LEAST_TO_COMPRESS: usize = 1024;

/// Above this, compression would hold up other connections of the thread.
const MOST_TO_COMPRESS_HERE: usize = 64 * 1024;

/// An answer whose body is whole.
#[derive(Debug)]
pub struct Whole {
    /// The status.
    pub status: StatusCode,
    /// The type of the body, if it has any.
    pub content_type: Option<&'static str>,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Whole {
    /// A status alone.
    pub fn empty(status: StatusCode) -> Whole {
        Whole { status, content_type: None, bytes: Vec::new() }
    }

    /// 200 and a body.
    pub fn ok(content_type: &'static str, bytes: Vec<u8>) -> Whole {
        Whole { status: StatusCode::OK, content_type: Some(content_type), bytes }
    }

    /// The response; compressed if that is accepted, and worth it.
    pub async fn respond(self, gzip: bool) -> Response<Body> {
        let compress = gzip && self.bytes.len() >= LEAST_TO_COMPRESS;
        let bytes = if compress { compressed(self.bytes).await } else { self.bytes };
        let mut response =
            Response::new(Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = self.status;
        if let Some(content_type) = self.content_type {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if compress {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// The answer to a request that is refused or failed.
pub async fn refused(refusal: &Refusal, gzip: bool) -> Response<Body> {
    let bytes = refusal.to_string().into_bytes();
    let whole = Whole { status: refusal.status(), content_type: Some(TEXT), bytes };
    let mut response = whole.respond(gzip).await;
    if let Some((name, value)) = refusal.header() {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

async fn compressed(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() <= MOST_TO_COMPRESS_HERE {
        return compress(&bytes);
    }
    let elsewhere = tokio::task::spawn_blocking(move || compress(&bytes));
    elsewhere.await.expect("compressing bytes in memory does not panic")
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}
