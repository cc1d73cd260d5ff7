// SPDX-License-Identifier: Apache-2.0
//! Messages of the agent's API in protobuf: calls, as the agent reads them, and answers and records of streams, as
//! the command line does.
#![no_main]

use berth_proto::agent::{Call, ProcessIo, Response};
use berth_proto::own::{Event, LogChunk};
use berth_proto::{decode_json, decode_protobuf, encode_json, encode_protobuf, validate};
use libfuzzer_sys::fuzz_target;

fn goes_round<M: prost::Message + prost::Name + Default>(bytes: &[u8]) -> Option<M> {
    let message: M = decode_protobuf(bytes).ok()?;
    let wire = encode_protobuf(&message);
    let again: M = decode_protobuf(&wire).expect("what was written is read");
    assert_eq!(encode_protobuf(&again), wire);
    let text = encode_json(&message);
    // Not all of it can be read back: an enum's number may be one that nobody knows.
    let _: Result<M, _> = decode_json(&text);
    serde_json::from_slice::<serde_json::Value>(&text).expect("JSON is JSON");
    Some(message)
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(call) = goes_round::<Call>(bytes) {
        let _ = validate(&call);
    }
    goes_round::<Response>(bytes);
    goes_round::<ProcessIo>(bytes);
    goes_round::<Event>(bytes);
    goes_round::<LogChunk>(bytes);
});
