// SPDX-License-Identifier: Apache-2.0
//! The older endpoints that are a question and no more.

use std::collections::BTreeMap;

use hyper::{StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::answer::Whole;
use crate::{Core, Refusal};

/// `/health`
pub(crate) fn health() -> Whole {
    Whole::empty(StatusCode::OK)
}

/// `/version`
pub(crate) fn version(core: &dyn Core, uri: &Uri) -> Result<Whole, Refusal> {
    let version = serde_json::from_slice(&berth_proto::encode_json(&core.version()))
        .expect("the JSON of a message is JSON");
    json(version, uri)
}

/// `/flags`
pub(crate) fn flags(core: &dyn Core, uri: &Uri) -> Result<Whole, Refusal> {
    let flags: BTreeMap<String, String> =
        core.flags().into_iter().map(|flag| (flag.name, flag.value.unwrap_or_default())).collect();
    let flags = flags.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    json(Value::Object(Map::from_iter([("flags".to_owned(), Value::Object(flags))])), uri)
}

/// JSON, names in alphabetical order; or a call of the function that `?jsonp=` names.
fn json(value: Value, uri: &Uri) -> Result<Whole, Refusal> {
    let text = value.to_string();
    match jsonp(uri)? {
        None => Ok(Whole::ok("application/json", text.into_bytes())),
        Some(function) => Ok(Whole::ok("text/javascript", format!("{function}({text})").into_bytes())),
    }
}

/// The name of a function. Mesos takes any text; here it can be no program.
fn jsonp(uri: &Uri) -> Result<Option<String>, Refusal> {
    let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.rfind(|(name, _)| *name == "jsonp") else { return Ok(None) };
    let function = percent_decode_str(value).decode_utf8_lossy();
    let is_of_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    if function.is_empty() || !function.chars().all(is_of_names) {
        let text = "Expecting 'jsonp' to be the name of a function: letters, digits, '_', '$' and '.'";
        return Err(Refusal::bad_request(text));
    }
    Ok(Some(function.into_owned()))
}
