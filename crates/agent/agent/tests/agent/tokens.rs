// SPDX-License-Identifier: Apache-2.0
//! Tokens of executors: who shows the right one speaks for its executor, and nobody else does.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::executors::sandbox;
use crate::frameworks::{PATH, call, run_as};
use crate::ground::{Ground, on};
use crate::tasks::Told;

/// A key in a file that only root may read.
pub(crate) fn key(ground: &Ground) -> String {
    let path = ground.site.work_dir().join("key");
    std::fs::write(&path, "a key of more than thirty-two bytes").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// What an executor found in its environment.
fn token(ground: &Ground, executor: &str) -> String {
    let file = sandbox(ground, executor).join("token");
    berth_testing::until(&format!("{executor} has its token"), || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
    });
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

fn post(ground: &Ground, authorization: Option<&str>, call: &Value) -> Answer {
    let header = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    let pending = client::request_with(&ground.socket(), "POST", PATH, &header, &call.to_string());
    pending.unwrap().answer().unwrap()
}

#[test]
fn only_who_shows_the_token_of_this_run_of_an_executor_speaks_for_it() {
    on("tokens", |ground| {
        let key = key(ground);
        ground.with(&format!("--jwt_secret_key={key}"));
        ground.with("--authenticate_http_executors");
        ground.start();
        let told = Told::of(ground);
        let command = "echo \"$MESOS_EXECUTOR_AUTHENTICATION_TOKEN\" > token; sleep 1000";
        told.give(run_as("e", command, &["one"], true));
        told.give(run_as("x", command, &["two"], true));
        let (own, other) = (token(ground, "e"), token(ground, "x"));
        assert!(own.split('.').count() == 3 && own != other);

        let message = call("MESSAGE", json!({ "message": { "data": "aGk=" } }));
        let mut changed = own.clone();
        let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
        // Not the very last: of that not all bits count.
        let before = changed.pop().unwrap();
        changed.push(if before == 'A' { 'B' } else { 'A' });
        changed.push(last);
        let bearer = |token: &str| format!("Bearer {token}");
        let rows: [Option<String>; 5] = [
            None,
            Some("Basic b3BzOmh1bnRlcjI=".to_owned()),
            Some(bearer("x.y.z")),
            Some(bearer(&changed)),
            Some(own.clone()),
        ];
        for row in &rows {
            assert_eq!(post(ground, row.as_deref(), &message).status, 401, "{row:?}");
            // Also what is looked at before anything else of it.
            assert_eq!(post(ground, row.as_deref(), &json!({})).status, 401, "{row:?}");
        }
        let refused = post(ground, Some(&bearer(&other)), &message);
        assert_eq!(refused.status, 403);
        let text = "does not contain an 'eid' claim with the executor ID e, which is set in the call";
        assert!(
            refused.text.starts_with("Authenticated principal '{") && refused.text.ends_with(text),
            "{}",
            refused.text
        );
        // The right one comes as far as this.
        assert_eq!(post(ground, Some(&bearer(&own)), &message).says(), (403, "Executor is not subscribed"));
        let subscribe = call("SUBSCRIBE", json!({ "subscribe": {} }));
        assert_eq!(post(ground, Some(&bearer(&other)), &subscribe).status, 403);
        let header = format!("Authorization: {}\r\n", bearer(&own));
        let stream =
            || client::records_with(&ground.socket(), PATH, &header, &subscribe.to_string()).unwrap();
        let task = stream().of("LAUNCH")["launch"]["task"].clone();
        assert_eq!(task["task_id"]["value"], "one");
        assert_eq!(post(ground, Some(&bearer(&own)), &message).says(), (202, ""));

        // The next agent with the same key knows it too.
        ground.stop();
        ground.start();
        let told = Told::of(ground);
        let header = format!("Authorization: {}\r\n", bearer(&own));
        let subscribe =
            call("SUBSCRIBE", json!({ "subscribe": { "unacknowledged_tasks": [task] } })).to_string();
        let mut events = client::records_with(&ground.socket(), PATH, &header, &subscribe).unwrap();
        let container = events.of("SUBSCRIBED")["subscribed"]["container_id"]["value"].clone();
        // Of an executor that is over it is worth nothing, also when another of its name is there.
        ground.kill(container.as_str().unwrap());
        while told.next().task_id.value != "one" {}
        berth_testing::until("it is over", || {
            post(ground, Some(&bearer(&own)), &message).text == "Executor cannot be found"
        });
        std::fs::remove_file(sandbox(ground, "e").join("token")).unwrap();
        told.give(run_as("e", command, &["three"], true));
        let next = token(ground, "e");
        let refused = post(ground, Some(&bearer(&own)), &message);
        assert!(
            refused.text.ends_with("does not contain a 'cid' claim with the correct active ContainerID"),
            "{}",
            refused.text
        );
        assert_eq!(post(ground, Some(&bearer(&next)), &message).says(), (403, "Executor is not subscribed"));
        // A command is no executor.
        told.run("command", "test -z \"$MESOS_EXECUTOR_AUTHENTICATION_TOKEN\"");
        loop {
            let status = told.next();
            if status.task_id.value == "command" && berth_tasks::is_terminal(status.state()) {
                break assert_eq!(status.message(), "Command exited with status 0");
            }
        }
    });
}

#[test]
fn a_key_that_others_may_read_or_that_is_none_is_refused_at_the_start() {
    on("tokenkey", |ground| {
        let path = key(ground);
        let file = std::path::Path::new(&path);
        ground.with(&format!("--jwt_secret_key={path}"));
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = |ground: &mut Ground| {
            let error = ground.try_start().unwrap_err();
            assert!(error.to_string().starts_with("read --jwt_secret_key "), "{error}");
            std::error::Error::source(&error).unwrap().to_string()
        };
        assert!(refused(ground).contains("chmod 600 it"));
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(file, "").unwrap();
        assert!(refused(ground).starts_with("it is empty"));
        std::fs::remove_file(file).unwrap();
        assert!(refused(ground).contains("No such file"));
        ground.without();
    });
}
