// SPDX-License-Identifier: Apache-2.0
//! What Mesos's agent said to values of `--resources`, replayed: each line of `agent-start-resources.jsonl` is one
//! start of an agent with its flags, its exit status (or `"runs"`) and its messages.

use berth_model::resources::from_flag;
use serde_json::Value;

const PREFIX: &str = "Failed to determine agent resources: ";

/// The one value that Mesos takes and we refuse, and why we refuse it.
const DELIBERATE: (&str, &str) = ("ports:[1-2,2-3]", "Invalid ranges resource: overlapping ranges");

#[test]
fn every_recorded_start_ends_here_as_it_did_there() {
    let lines = include_str!("agent-start-resources.jsonl").lines();
    let mut refused = 0;
    let mut accepted = 0;
    for line in lines {
        let start: Value = serde_json::from_str(line).unwrap();
        let given = flag(&start);
        let answer = from_flag(given, "*").map_err(|error| error.to_string());
        if given == DELIBERATE.0 {
            assert_eq!(start["exit"], "runs");
            assert_eq!(answer, Err(DELIBERATE.1.to_owned()));
        } else if start["exit"] == "runs" {
            assert!(answer.is_ok(), "{given}: {answer:?}");
            accepted += 1;
        } else {
            let message = start["messages"][0].as_str().unwrap().strip_prefix(PREFIX).unwrap();
            assert_eq!(answer, Err(message.to_owned()), "{given}");
            refused += 1;
        }
    }
    assert_eq!((refused, accepted), (15, 9), "every line was looked at");
}

fn flag(start: &Value) -> &str {
    let arguments = start["args"].as_array().expect("a line has arguments");
    arguments
        .iter()
        .find_map(|argument| argument.as_str()?.strip_prefix("--resources="))
        .expect("one argument is --resources")
}
