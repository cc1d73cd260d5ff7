// SPDX-License-Identifier: Apache-2.0
//! Calls of the agent's API in JSON: what is read can be written, and what is written is read as the same.
#![no_main]

use berth_proto::agent::Call;
use berth_proto::{decode_json, decode_protobuf, encode_json, encode_protobuf, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let call: Call = match decode_json(bytes) {
        Ok(call) => call,
        Err(error) => {
            assert!(error.to_string().len() < bytes.len() + 4096, "an error is not much longer than its cause");
            return;
        }
    };
    let _ = validate(&call);
    let wire = encode_protobuf(&call);
    // Compared as bytes: a number that is none is unequal to itself.
    let again: Call = decode_protobuf(&wire).expect("what was read from JSON has all that is required");
    assert_eq!(encode_protobuf(&again), wire);
    let text = encode_json(&call);
    let again: Call = decode_json(&text).expect("what was written is read");
    assert_eq!(encode_json(&again), text);
});
