// SPDX-License-Identifier: Apache-2.0
//! `POST /api/v1` for operators.

use std::sync::Arc;

use berth_api::{Body, Refusal, StatusCode};
use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::http::Face;

pub(crate) async fn answer(
    _face: &Arc<Face>,
    _request: Request<Incoming>,
    _gzip: bool,
) -> Result<Response<Body>, Refusal> {
    Err(Refusal::bare(StatusCode::NOT_IMPLEMENTED))
}
