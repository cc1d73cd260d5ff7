// SPDX-License-Identifier: Apache-2.0
//! The three runs of the recording (`recorded/scheduler-api.jsonl`) from their first subscription on, each with a master
//! of its own. What the recorder did between its lines is done here; lines that can not be said to our master are in
//! [`NOT_SAID`], with the reason.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::Node;
use crate::conversation::{Conversation, Kept};
use crate::replay::lines;

/// Lines that are not said again, and why.
const NOT_SAID: &[(&str, &str)] = &[
    ("group_ok.events", PHANTOM),
    ("group_ok.updates", PHANTOM),
    ("ack_g1_TASK_DROPPED", PHANTOM),
    ("ack_g2_TASK_DROPPED", PHANTOM),
    ("group_frameworks", PHANTOM),
];

/// Reference 33.5 asks for what we do: to refuse the empty group.
const PHANTOM: &str =
    "the recorded master took an empty group for an executor that never was, and dropped its next tasks";

const KEPT: &[Kept] = &[
    Kept { task: "t1", state: "TASK_KILLING" },
    Kept { task: "t1", state: "TASK_KILLED" },
    Kept { task: "zero", state: "TASK_STARTING" },
    Kept { task: "d1", state: "TASK_FAILED" },
];

const ROUND: &str = "--allocation_interval=50ms";

/// The lines between two names, both included.
fn between(first: &str, last: &str) -> Vec<Value> {
    let all = lines();
    let at = |name: &str| all.iter().position(|line| line["name"] == name).unwrap();
    all[at(first)..=at(last)].to_vec()
}

fn say(run: &mut Conversation, lines: &[Value], mut before: impl FnMut(&mut Conversation, &str, &Value)) {
    for line in lines {
        let name = line["name"].as_str().unwrap();
        before(run, name, line);
        if !NOT_SAID.iter().any(|(left_out, _)| *left_out == name) {
            run.line(line);
        }
    }
}

/// Waits until the master says this of its frameworks.
fn until(run: &Conversation, what: &str, is_so: impl Fn(&Value) -> bool) {
    berth_testing::until(what, || is_so(&serde_json::from_str(&run.get("/frameworks")).unwrap()));
}

fn are_completed(count: usize) -> impl Fn(&Value) -> bool {
    move |all| all["completed_frameworks"].as_array().unwrap().len() == count
}

#[test]
fn a_task_lives_and_is_told_of_at_all_endpoints_as_recorded() {
    let test = "a_task_lives_and_is_told_of_at_all_endpoints_as_recorded";
    let Some(node) = Node::with(test, &[ROUND]) else { return };
    let lines = between("subscribe", "reconcile_after_ack.events");
    let mut run = Conversation::new(node, KEPT, &lines);
    // Two that were there before, and are told of as completed.
    for (count, info) in [
        json!({"user": "root", "name": "recorder", "failover_timeout": -1.0}),
        json!({"user": "", "name": "recorder"}),
    ]
    .iter()
    .enumerate()
    {
        let theirs = format!("22b659ec-b36c-4e19-bec9-d7b23a4e3529-000{count}");
        run.subscribe(
            "earlier",
            info,
            &json!({"request": {"headers": {"Mesos-Stream-Id": format!("earlier{count}")},
            "body": json!({"framework_id": {"value": theirs}}).to_string()}}),
        );
        run.leave("earlier");
        until(&run, "the framework is over", are_completed(count + 1));
    }
    say(&mut run, &lines, |run, name, _| match name {
        "update_killing" => run.call("subscribe", "KILL", json!({"task_id": {"value": "t1"}})),
        "reconcile_terminal_unacked" => run.await_state("subscribe", "t1", "TASK_KILLED"),
        _ => {}
    });
    run.end();
}

#[test]
fn offers_frameworks_and_executors_come_and_go_as_recorded() {
    let test = "offers_frameworks_and_executors_come_and_go_as_recorded";
    let Some(node) = Node::with(test, &[ROUND]) else { return };
    let gate = node.ground.work_dir().with_file_name("gate");
    let lines = between("launch_invalid_tasks", "tasks_after_removal");
    let mut run = Conversation::new(node, KEPT, &lines);
    run.bindings.bind("exit 3", &format!("until [ -e {} ]; do sleep 0.01; done; exit 3", gate.display()));
    run.bindings.bind("/opt/test/exec.py", EXECUTOR);
    // A task that is killed before it runs is one whose launch takes its time.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut lines = lines;
    let slow = lines.iter_mut().find(|line| line["name"] == "plain_launch_kill_fast").unwrap();
    let with = format!(
        r#""command": {{"uris": [{{"value": "http://{}/never"}}], "value": "#,
        silent.local_addr().unwrap()
    );
    let body = slow["request"]["body"].as_str().unwrap().replace(r#""command": {"value": "#, &with);
    slow["request"]["body"] = json!(body);
    say(&mut run, &lines, |run, name, line| match name {
        "launch_invalid_tasks" => {
            let info = json!({"user": "root", "name": "recorder2", "roles": ["dev"], "capabilities": [
                {"type": "PARTITION_AWARE"}, {"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}]});
            run.subscribe("subscribe2", &info, line);
        }
        "operation_reserve" => run.refresh("subscribe2"),
        "accept_empty_launch" => {
            run.let_go("subscribe2", "zero");
            run.await_state("subscribe2", "zero", "TASK_RUNNING");
            run.refresh("subscribe2");
        }
        // Ended only now, so that its resources come as an offer of their own.
        "decline_3s.events" => {
            std::fs::write(&gate, "").unwrap();
            run.await_offers("subscribe2", 2);
            run.decline_last("subscribe2", 3.0);
            run.settle();
            run.has_offers("subscribe2", 1);
        }
        "decline_long" => {
            run.settle();
            run.has_offers("subscribe2", 1);
            run.await_offers("subscribe2", 2);
        }
        "suppressed.events" => run.decline_last("subscribe2", 0.0),
        "resubscribe_same_id" => run.await_state("subscribe2", "d1", "TASK_FAILED"),
        "call_while_disconnected" => {
            run.leave("resubscribe_same_id");
            until(run, "the framework is disconnected", |all| all["frameworks"][0]["connected"] == false);
        }
        "api_teardown_bad" => {
            run.call("subscribe_invented_id", "TEARDOWN", Value::Null);
            run.leave("subscribe_invented_id");
        }
        "plain_launch_bad_offer" => {
            run.subscribe("plain_subscribe", &json!({"user": "root", "name": "recorder3"}), line);
        }
        "kill_before_running" => run.suppress("plain_subscribe"),
        "group_subscribe" => {
            run.leave("plain_subscribe");
            until(run, "the framework is over", are_completed(3));
        }
        // Its tasks and its executor end before the next is launched, as if they had never been.
        "custom_launch" => {
            // With the first the other ends too, also before it runs.
            for task in ["g1", "g2"] {
                run.await_state("group_subscribe", task, "TASK_RUNNING");
            }
            for task in ["g1", "g2"] {
                run.call("group_subscribe", "KILL", json!({"task_id": {"value": task}}));
            }
            until(run, "the group is over", |all| all["frameworks"][0]["executors"] == json!([]));
            run.forget_events("group_subscribe");
            run.refresh("group_subscribe");
        }
        "custom_frameworks" => run.suppress("group_subscribe"),
        "ack_c1_TASK_KILLED" => {
            run.call("group_subscribe", "KILL", json!({"task_id": {"value": "c1"}}));
            run.await_state("group_subscribe", "c1", "TASK_KILLED");
            run.call("group_subscribe", "REVIVE", Value::Null);
        }
        "shutdown_executor" => run.settle(),
        "subscribe_protobuf_accept" => leave_last(run, "group_subscribe"),
        "subscribe_accept_none" => leave_last(run, "subscribe_protobuf_accept"),
        "two_roles" => leave_last(run, "subscribe_accept_none"),
        "no_roles" => leave_last(run, "two_roles"),
        "suppressed_subscribe" => leave_last(run, "no_roles"),
        "agent_loss_launch" => {
            leave_last(run, "suppressed_subscribe");
            let info = json!({"user": "root", "name": "recorder3", "capabilities": [
                {"type": "PARTITION_AWARE"}, {"type": "TASK_KILLING_STATE"}]});
            run.subscribe("agent_loss", &info, line);
        }
        _ => {}
    });
    run.end();
}

/// The client of a stream goes away, and its framework with it: it does not wait for it.
fn leave_last(run: &mut Conversation, stream: &str) {
    run.leave(stream);
    until(run, "the framework is over", |all| all["frameworks"] == json!([]));
}

#[test]
fn a_group_and_an_executor_end_as_recorded_while_offers_run_out() {
    let test = "a_group_and_an_executor_end_as_recorded_while_offers_run_out";
    let Some(node) = Node::with(test, &[ROUND, "--offer_timeout=5secs"]) else { return };
    let lines = between("ok_subscribe", "ack_c2_TASK_FAILED");
    let mut run = Conversation::new(node, KEPT, &lines);
    run.bindings.bind("/opt/test/exec.py", EXECUTOR);
    say(&mut run, &lines, |run, name, _| {
        // An offer that is used must not run out in that moment.
        if name == "executor_loss_launch" {
            run.await_fresh_offers("ok_subscribe");
        }
    });
    run.end();
}

/// What stood at `/opt/test/exec.py`.
const EXECUTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recorded/exec.py");
