// SPDX-License-Identifier: Apache-2.0
//! What containers write, and how it is read.

use serde_json::{Value, json};

use crate::client::{about, bytes};
use crate::ground::on;

fn logs(id: &str, more: Value) -> Value {
    let mut call = about("READ_LOGS", id);
    for (name, value) in more.as_object().unwrap() {
        call["read_logs"][name] = value.clone();
    }
    call
}

#[test]
fn both_streams_are_read_whole_and_in_part_also_after_the_end() {
    on("logs", |ground| {
        ground.start();
        ground.launch("c", "echo one; echo two; echo three; echo bad >&2");
        ground.wait("c");
        let read = |more: Value| ground.stream(&logs("c", more)).data();
        let out = "one\ntwo\nthree\n".to_owned();
        assert_eq!(read(json!({})), (out.clone(), "bad\n".to_owned()));
        assert_eq!(
            read(json!({ "stream": "STDOUT", "since": 4 })),
            ("two\nthree\n".to_owned(), String::new())
        );
        assert_eq!(read(json!({ "tail": 1 })), (String::new(), "bad\n".to_owned()));
        assert_eq!(read(json!({ "tail": 2 })), ("three\n".to_owned(), "bad\n".to_owned()));
        assert_eq!(read(json!({ "stream": "STDOUT", "tail": 2, "follow": true })).0, "two\nthree\n");
        assert_eq!(read(json!({ "stream": "STDERR", "since": 99 })), (String::new(), String::new()));
        let none = ground.call(&logs("nope", json!({})));
        assert_eq!(none.says(), (404, "Container nope cannot be found"));
    });
}

#[test]
fn a_followed_log_comes_as_it_is_written_and_ends_with_the_container() {
    on("follow", |ground| {
        ground.start();
        ground.launch("c", "echo begin; while [ ! -e go ]; do sleep 0.01; done; echo end");
        let mut log = ground.stream(&logs("c", json!({ "follow": true })));
        let first = log.next().unwrap();
        assert_eq!((bytes(&first["data"]), &first["offset"]), (b"begin\n".to_vec(), &0.into()));
        std::fs::write(ground.site.work_dir().join("sandboxes/c/go"), "").unwrap();
        let second = log.next().unwrap();
        assert_eq!((bytes(&second["data"]), &second["offset"]), (b"end\n".to_vec(), &6.into()));
        assert_eq!(log.next(), None);
    });
}

#[test]
fn what_a_container_makes_of_its_log_is_not_followed_out_of_the_sandbox() {
    on("hostile", |ground| {
        ground.start();
        ground.launch("c", "echo true; rm stdout; ln -s /etc/passwd stdout; rm stderr; mkfifo stderr");
        ground.wait("c");
        let data = ground.stream(&logs("c", json!({}))).data();
        assert_eq!(data, ("true\n".to_owned(), String::new()));
    });
}

#[test]
fn a_large_log_is_read_to_its_end() {
    on("large", |ground| {
        ground.start();
        ground.launch("c", "head -c 5000000 /dev/zero | tr '\\0' 'x'");
        ground.wait("c");
        let mut log = ground.stream(&logs("c", json!({ "stream": "STDOUT" })));
        let mut length = 0;
        while let Some(record) = log.next() {
            assert_eq!(record["offset"], length);
            length += bytes(&record["data"]).len();
        }
        assert_eq!(length, 5_000_000);
    });
}
