// SPDX-License-Identifier: Apache-2.0
//! The API in the words of OpenAPI 3.1, made from the tables that requests go by: the routes, the endpoints, and the
//! messages.

use berth_proto::agent::call::Type;
use berth_proto::schema;
use serde_json::{Map, Value, json};

use crate::endpoints::Endpoint;
use crate::route::{Route, all};

const CALL: &str = "mesos.v1.agent.Call";
const RESPONSE: &str = "mesos.v1.agent.Response";
/// What is in streams.
const RECORDS: [&str; 3] = ["mesos.v1.agent.ProcessIO", "berth.v1.Event", "berth.v1.LogChunk"];

const ABOUT: &str = "Mesos's v1 agent API with extensions of Berth's (numbers from 1000 on), and the older endpoints. The \
    paths of the agent are below /slave(1) too. JSON has the names of the .proto files; bytes are base64; enums are names. \
    Each field's number on the wire is its x-number.";

/// The document.
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for (path, route) in all().map(|(path, route)| ((*path).to_owned(), route)) {
        match route {
            Route::Api => drop(paths.insert(path, json!({ "post": call() }))),
            Route::Older(endpoint) => drop(paths.insert(path, json!({ "get": older(*endpoint) }))),
            Route::Executor | Route::NotBuilt(_) => {}
        }
    }
    let mut roots = vec![CALL, RESPONSE];
    roots.extend(RECORDS);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Berth agent",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [
            { "url": "http://localhost", "description": "the unix socket, --socket" },
            { "url": "http://localhost:5051", "description": "TCP, with --ip or --port" },
        ],
        "paths": paths,
        "components": {
            "schemas": schema::schemas(&roots),
            "securitySchemes": { "basic": { "type": "http", "scheme": "basic" } },
        },
    })
}

fn call() -> Value {
    let calls: Vec<Value> =
        (1..2000).filter_map(|number| Type::try_from(number).ok()).map(one_call).collect();
    let forms = |name: &str| {
        json!({
            "application/json": { "schema": schema::reference(name) },
            "application/x-protobuf": { "schema": { "type": "string", "format": "binary" } },
        })
    };
    let mut request = forms(CALL);
    request["application/recordio"] = json!({ "schema": { "type": "string", "format": "binary" } });
    let mut answer = forms(RESPONSE);
    answer["application/recordio"] = json!({ "schema": { "type": "string", "format": "binary" } });
    json!({
        "summary": "A call; its type says which field is its payload",
        "security": [{}, { "basic": [] }],
        "requestBody": { "required": true, "content": request },
        "responses": {
            "200": { "description": "Done; with nothing to say the body is empty", "content": answer },
            "202": { "description": "Done before: a container of this name is there" },
            "default": plain("Refused or failed, and why"),
        },
        "x-calls": calls,
    })
}

fn one_call(kind: Type) -> Value {
    let name = kind.as_str_name();
    let field = name.to_ascii_lowercase();
    let has = |message: &str| {
        let all = schema::schemas(&[message]);
        all.get(message).is_some_and(|schema| schema["properties"].get(&field).is_some())
    };
    let records = match kind {
        Type::LaunchNestedContainerSession | Type::AttachContainerOutput => Some(RECORDS[0]),
        Type::Subscribe => Some(RECORDS[1]),
        Type::ReadLogs => Some(RECORDS[2]),
        _ => None,
    };
    let mut call = json!({ "type": name, "number": kind as i32 });
    if has(CALL) {
        call["payload"] = json!(field);
    }
    if has(RESPONSE) {
        call["answer"] = json!(field);
    }
    if kind == Type::AttachContainerInput {
        call["request-stream"] = schema::reference(CALL);
    }
    if let Some(records) = records {
        call["answer-stream"] = schema::reference(records);
    }
    call
}

fn older(endpoint: Endpoint) -> Value {
    let (summary, kind, query) = endpoint.about();
    let parameter = |name: &&str| {
        let required = *name == "path";
        json!({ "name": name, "in": "query", "required": required, "schema": { "type": "string" } })
    };
    let parameters: Vec<Value> = query.iter().map(parameter).collect();
    let mut content = Map::new();
    if !kind.is_empty() {
        content.insert(kind.to_owned(), json!({}));
    }
    json!({
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": { "description": "Told", "content": content },
            "default": plain("Refused or failed, and why"),
        },
    })
}

fn plain(description: &str) -> Value {
    json!({ "description": description, "content": { "text/plain": { "schema": { "type": "string" } } } })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BERTH_BLESS=1 cargo test -p berth-api openapi` writes it anew.
    #[test]
    fn the_document_in_docs_is_what_the_agent_serves() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/openapi.json");
        let text = serde_json::to_string_pretty(&openapi()).unwrap() + "\n";
        if std::env::var_os("BERTH_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        let differs = kept.lines().zip(text.lines()).find(|(kept, text)| kept != text);
        assert!(
            kept == text,
            "docs/openapi.json is old, from here on: {differs:?}; write it anew with BERTH_BLESS=1"
        );
    }

    #[test]
    fn every_path_and_every_call_is_in_it() {
        let document = openapi();
        let paths = document["paths"].as_object().unwrap();
        for path in ["/api/v1", "/state", "/files/read", "/metrics/snapshot", "/events"] {
            assert!(paths.contains_key(path), "{path}");
        }
        let calls = document["paths"]["/api/v1"]["post"]["x-calls"].as_array().unwrap();
        assert_eq!(calls.len(), 42);
        let attach = calls.iter().find(|call| call["type"] == "ATTACH_CONTAINER_OUTPUT").unwrap();
        assert_eq!(attach["answer-stream"]["$ref"], "#/components/schemas/mesos.v1.agent.ProcessIO");
        assert_eq!((&attach["payload"], attach.get("answer")), (&json!("attach_container_output"), None));
    }
}
