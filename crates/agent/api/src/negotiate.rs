// SPDX-License-Identifier: Apache-2.0
//! Which forms a request and its answer have: steps 4 to 7 of the order in which a request is looked at. All of it
//! is decided by headers, before a byte of the body is read.

use berth_proto::Encoding;
use hyper::StatusCode;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};

use crate::Refusal;

const RECORDIO: &str = "application/recordio";
pub(crate) const MESSAGE_CONTENT_TYPE: HeaderName = HeaderName::from_static("message-content-type");
const MESSAGE_ACCEPT: HeaderName = HeaderName::from_static("message-accept");

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One message.
    Whole(Encoding),
    /// A stream of messages.
    Records(Encoding),
}

impl Form {
    pub(crate) fn encoding(self) -> Encoding {
        match self {
            Form::Whole(encoding) | Form::Records(encoding) => encoding,
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Form::Whole(encoding) => encoding.media_type(),
            Form::Records(_) => RECORDIO,
        }
    }

    pub(crate) fn is_records(self) -> bool {
        matches!(self, Form::Records(_))
    }
}

/// The form of the request.
pub(crate) fn content(headers: &HeaderMap) -> Result<Form, Refusal> {
    let Some(content_type) = text(headers, &CONTENT_TYPE) else {
        return Err(Refusal::bad_request("Expecting 'Content-Type' to be present"));
    };
    let unsupported = |text| Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    let message_type = text(headers, &MESSAGE_CONTENT_TYPE);
    if content_type == RECORDIO {
        return match message_type.as_deref() {
            None => {
                Err(Refusal::bad_request("Expecting 'Message-Content-Type' to be set for streaming requests"))
            }
            Some(message_type) => match encoding(message_type) {
                Some(encoding) => Ok(Form::Records(encoding)),
                None => unsupported(
                    "Expecting 'Message-Content-Type' of application/json or application/x-protobuf",
                ),
            },
        };
    }
    match encoding(&content_type) {
        None => unsupported(
            "Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio",
        ),
        Some(_) if message_type.is_some() => {
            unsupported("Expecting 'Message-Content-Type' to be not set for non-streaming requests")
        }
        Some(encoding) => Ok(Form::Whole(encoding)),
    }
}

/// The form of the answer. The order of preference is ours, not the client's, as in Mesos.
pub(crate) fn accepted(headers: &HeaderMap) -> Result<Form, Refusal> {
    let not_acceptable = |text| Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, text));
    let accept = text(headers, &ACCEPT);
    let message_accept = text(headers, &MESSAGE_ACCEPT);
    if let Some(encoding) = first_accepted(accept.as_deref()) {
        return match message_accept {
            Some(_) => not_acceptable("Expecting 'Message-Accept' to be not set for non-streaming responses"),
            None => Ok(Form::Whole(encoding)),
        };
    }
    if !accepts_type(accept.as_deref(), RECORDIO) {
        return not_acceptable(
            "Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio",
        );
    }
    match first_accepted(message_accept.as_deref()) {
        Some(encoding) => Ok(Form::Records(encoding)),
        None => {
            not_acceptable("Expecting 'Message-Accept' to allow application/json or application/x-protobuf")
        }
    }
}

/// Whether the client asks for gzip in so many words.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    text(headers, &ACCEPT_ENCODING).is_some_and(|accept| accepts(&accept, &["gzip", "*"]))
}

/// The form of a body that may only be one message: its type to the letter.
///
/// # Errors
/// No type, or another.
pub fn encoding_of(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let Some(content_type) = text(headers, &CONTENT_TYPE) else {
        return Err(Refusal::bad_request("Expecting 'Content-Type' to be present"));
    };
    encoding(&content_type).ok_or_else(|| {
        let text = "Expecting 'Content-Type' of application/json or application/x-protobuf";
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    })
}

/// The form of messages that the client accepts: JSON if it may be.
pub fn accepted_encoding(headers: &HeaderMap) -> Option<Encoding> {
    first_accepted(text(headers, &ACCEPT).as_deref())
}

fn encoding(media_type: &str) -> Option<Encoding> {
    [Encoding::Json, Encoding::Protobuf].into_iter().find(|encoding| encoding.media_type() == media_type)
}

fn first_accepted(header: Option<&str>) -> Option<Encoding> {
    [Encoding::Json, Encoding::Protobuf]
        .into_iter()
        .find(|encoding| accepts_type(header, encoding.media_type()))
}

/// A header that is absent accepts everything.
fn accepts_type(header: Option<&str>, media_type: &str) -> bool {
    header.is_none_or(|header| accepts(header, &[media_type, "application/*", "*/*"]))
}

/// Whether one of the candidates, the most specific first, is in the list; the first that is decides, by its weight.
fn accepts(header: &str, candidates: &[&str]) -> bool {
    let weight_of = |candidate: &str| {
        header.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next()?;
            name.eq_ignore_ascii_case(candidate).then(|| weight(parts))
        })
    };
    candidates.iter().find_map(|candidate| weight_of(candidate)).is_some_and(|weight| weight > 0.0)
}

fn weight<'a>(parameters: impl Iterator<Item = &'a str>) -> f64 {
    for parameter in parameters {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("q")
        {
            return value.trim().parse().unwrap_or(0.0);
        }
    }
    1.0
}

/// The text of a header; several lines are one list.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn content_of(pairs: &[(&str, &str)]) -> Result<Form, (u16, String)> {
        content(&headers(pairs)).map_err(|refusal| (refusal.status().as_u16(), refusal.to_string()))
    }

    fn accept_of(pairs: &[(&str, &str)]) -> Result<Form, (u16, String)> {
        accepted(&headers(pairs)).map_err(|refusal| (refusal.status().as_u16(), refusal.to_string()))
    }

    fn refused<T>(status: u16, text: &str) -> Result<T, (u16, String)> {
        Err((status, text.to_owned()))
    }

    #[test]
    fn the_form_of_a_request_is_told_by_its_headers() {
        let (json, protobuf, recordio) =
            ("application/json", "application/x-protobuf", "application/recordio");
        let kind = "Content-Type";
        let of_message = "Message-Content-Type";
        assert_eq!(content_of(&[(kind, json)]), Ok(Form::Whole(Encoding::Json)));
        assert_eq!(content_of(&[(kind, protobuf)]), Ok(Form::Whole(Encoding::Protobuf)));
        assert_eq!(
            content_of(&[(kind, recordio), (of_message, protobuf)]),
            Ok(Form::Records(Encoding::Protobuf))
        );
        assert_eq!(content_of(&[]), refused(400, "Expecting 'Content-Type' to be present"));
        let wrong =
            "Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio";
        assert_eq!(content_of(&[(kind, "application/json; charset=utf-8")]), refused(415, wrong));
        assert_eq!(content_of(&[(kind, "Application/JSON")]), refused(415, wrong));
        assert_eq!(
            content_of(&[(kind, recordio)]),
            refused(400, "Expecting 'Message-Content-Type' to be set for streaming requests")
        );
        assert_eq!(
            content_of(&[(kind, recordio), (of_message, recordio)]),
            refused(415, "Expecting 'Message-Content-Type' of application/json or application/x-protobuf")
        );
        assert_eq!(
            content_of(&[(kind, json), (of_message, json)]),
            refused(415, "Expecting 'Message-Content-Type' to be not set for non-streaming requests")
        );
    }

    #[test]
    fn the_first_form_that_is_acceptable_is_taken() {
        let json = Ok(Form::Whole(Encoding::Json));
        let protobuf = Ok(Form::Whole(Encoding::Protobuf));
        assert_eq!(accept_of(&[]), json);
        assert_eq!(accept_of(&[("Accept", "*/*")]), json);
        assert_eq!(accept_of(&[("Accept", "application/x-protobuf")]), protobuf);
        assert_eq!(accept_of(&[("Accept", "application/x-protobuf;q=1, application/json;q=0.1")]), json);
        assert_eq!(accept_of(&[("Accept", "application/json;q=0, application/x-protobuf")]), protobuf);
        assert_eq!(accept_of(&[("Accept", "application/json;q=0.0, application/*")]), protobuf);
        assert_eq!(accept_of(&[("Accept", "application/json;q=0, */*")]), protobuf);
        assert_eq!(accept_of(&[("Accept", "text/html"), ("Accept", "application/json")]), json);
        let none =
            "Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio";
        assert_eq!(accept_of(&[("Accept", "text/html")]), refused(406, none));
        assert_eq!(accept_of(&[("Accept", "")]), refused(406, none));
    }

    #[test]
    fn streams_have_a_form_within_the_form() {
        let recordio = ("Accept", "application/recordio");
        assert_eq!(accept_of(&[recordio]), Ok(Form::Records(Encoding::Json)));
        assert_eq!(
            accept_of(&[recordio, ("Message-Accept", "application/x-protobuf")]),
            Ok(Form::Records(Encoding::Protobuf))
        );
        assert_eq!(
            accept_of(&[recordio, ("Message-Accept", "text/html")]),
            refused(406, "Expecting 'Message-Accept' to allow application/json or application/x-protobuf")
        );
        assert_eq!(
            accept_of(&[("Accept", "*/*"), ("Message-Accept", "application/json")]),
            refused(406, "Expecting 'Message-Accept' to be not set for non-streaming responses")
        );
    }

    #[test]
    fn gzip_must_be_asked_for() {
        let gzip = |accept: &str| accepts_gzip(&headers(&[("Accept-Encoding", accept)]));
        assert!(!accepts_gzip(&HeaderMap::new()));
        assert!(gzip("gzip") && gzip("*") && gzip("deflate, gzip;q=0.5"));
        assert!(!gzip("gzip;q=0") && !gzip("deflate") && !gzip("gzip;q=0, *") && !gzip("*;q=0"));
    }
}
