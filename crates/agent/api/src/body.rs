// SPDX-License-Identifier: Apache-2.0
//! The body of a request that is one message: bounded in size, also after decompression, and in time.

use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use tokio::time::timeout;

use crate::{Limits, Refusal};

/// All of it, bounded in size, also after decompression, and in time.
pub async fn whole(body: Incoming, headers: &HeaderMap, limits: &Limits) -> Result<Vec<u8>, Refusal> {
    let bytes = in_time(limits.body_timeout, collect(body, limits.body_bytes)).await?;
    if is_gzip(headers) { decompress(&bytes, limits.body_bytes) } else { Ok(bytes) }
}

/// Whether a body is compressed; other encodings than gzip Mesos does not know either.
pub(crate) fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

/// What must come within a time.
pub(crate) async fn in_time<T>(
    limit: Duration,
    coming: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    timeout(limit, coming).await.unwrap_or_else(|_| {
        let text = format!("Request body did not come within {} seconds", limit.as_secs_f64());
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, text))
    })
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Refusal> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

pub(crate) fn broken(error: &hyper::Error) -> Refusal {
    Refusal::bad_request(format!("Failed to read request body: {error}"))
}

fn too_large(limit: usize) -> Refusal {
    let text = format!("Request body is larger than {limit} bytes; send a smaller one");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    // One byte more than is allowed tells that there is more.
    GzDecoder::new(bytes)
        .take(limit as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|error| Refusal::bad_request(format!("Failed to decompress request body: {error}")))?;
    if out.len() > limit { Err(too_large(limit)) } else { Ok(out) }
}
