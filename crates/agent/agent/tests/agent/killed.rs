// SPDX-License-Identifier: Apache-2.0
//! Tasks under an agent that is killed all the time, judged by what their scheduler hears.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::client::PATIENCE;
use crate::ground::{Ground, on};

/// An agent, and what it says.
pub(crate) struct Side {
    child: Child,
    to: ChildStdin,
    pub(crate) from: Receiver<String>,
    log: PathBuf,
}

impl Side {
    pub(crate) fn start(ground: &Ground) -> Side {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/tasks");
        let mut command = Command::new(program);
        command.args(ground.arguments()).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let log = ground.site.work_dir().join("marks/log");
        let mut child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Side { child, to, from: lines, log }
    }

    /// Waits until it is there; the tasks that it has.
    pub(crate) fn ready(&mut self, known: &mut BTreeMap<String, Known>) -> BTreeSet<String> {
        let mut held = BTreeSet::new();
        loop {
            let line = self.from.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(20).collect();
                panic!("the agent does not come back: {last:#?}")
            });
            match line.split_once(' ') {
                Some(("held", task)) => held.insert(task.to_owned()),
                _ if line == "ready" => return held,
                // Reports may come before.
                _ => hear(&line, self, known),
            };
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        // It may be gone.
        let _ = self.to.write_all(format!("{line}\n").as_bytes());
    }

    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the scheduler knows of a task.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Reports, each once, in the order in which they came: state, uuid, message.
    pub(crate) seen: Vec<(String, String, String)>,
    pub(crate) acknowledged: BTreeSet<String>,
}

impl Known {
    pub(crate) fn end(&self) -> Option<&(String, String, String)> {
        self.seen.iter().find(|(state, ..)| is_terminal(state))
    }
}

pub(crate) fn is_terminal(state: &str) -> bool {
    !matches!(state, "TASK_STARTING" | "TASK_RUNNING")
}

/// A random number that is the same in each run of the test.
pub(crate) fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *seed >> 33
}

#[test]
fn every_task_ends_once_with_its_code_under_an_agent_that_is_killed_all_the_time() {
    let long = std::env::var("BERTH_AGENT").is_ok_and(|form| form == "long");
    // So many tasks, so many at most asked for at once, and so long a life at most.
    let (count, most, longest) = if long { (2000, 120, 5000) } else { (60, 40, 1500) };
    on("taskkill", |ground| {
        let marks: PathBuf = ground.site.work_dir().join("marks");
        std::fs::create_dir(&marks).unwrap();
        let mut known: BTreeMap<String, Known> =
            (0..count).map(|number| (format!("t{number}"), Known::default())).collect();
        let code = |task: &str| task[1..].parse::<u32>().unwrap() % 5;
        let mut seed = 7;
        let mut kills = 0;
        let deadline = Instant::now() + PATIENCE * if long { 120 } else { 4 };
        while known.values().any(|task| task.end().is_none_or(|end| !task.acknowledged.contains(&end.1))) {
            assert!(Instant::now() < deadline, "not over in time");
            let mut side = Side::start(ground);
            let held = side.ready(&mut known);
            // What it does not have and has not ended was lost on the way to it: as after a lost offer, it is asked for again.
            let mut asked = 0;
            for (task, of) in &known {
                if of.seen.is_empty() && !held.contains(task) && asked < most {
                    asked += 1;
                    let mark = marks.join(task).display().to_string();
                    let sleep = next(&mut seed) % 8;
                    let command = format!("echo x >> {mark}; sleep 0.{sleep}; exit {}", code(task));
                    side.tell(&format!("run {task} {command}"));
                }
            }
            let life = Duration::from_millis(200 + next(&mut seed) % (longest - 200));
            let until = Instant::now() + life;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                if let Ok(line) = side.from.recv_timeout(left) {
                    hear(&line, &mut side, &mut known);
                }
            }
            side.kill();
            kills += 1;
        }
        // Not all are asked for in one life.
        assert!(kills > 1, "it was not killed");
        let mut dropped = 0;
        for (task, of) in &known {
            let ends = of.seen.iter().filter(|(state, ..)| is_terminal(state));
            assert_eq!(ends.count(), 1, "{task}: {:?}", of.seen);
            let ran = std::fs::read_to_string(marks.join(task)).unwrap_or_default();
            let (state, _, message) = of.end().unwrap();
            if ran.is_empty() {
                // Its launch was not over when the agent was killed. Nobody may say that it exited.
                let restarted = state == "TASK_LOST" && message == "Task launched during agent restart";
                assert!(restarted || !message.starts_with("Command "), "{task} never ran: {state} {message}");
                if !restarted {
                    println!("{task} never ran: {state} {message}");
                }
                dropped += 1;
                continue;
            }
            assert_eq!(ran, "x\n", "{task} ran once");
            let expected = if code(task) == 0 { "TASK_FINISHED" } else { "TASK_FAILED" };
            let words = format!("Command exited with status {}", code(task));
            assert_eq!((state.as_str(), message.as_str()), (expected, words.as_str()), "{task}");
        }
        println!("{count} tasks, {kills} kills, {dropped} dropped before they began");
        ground.start();
        let state = ground.call(&serde_json::json!({ "type": "GET_STATE" })).json()["get_state"].clone();
        for list in ["launched_tasks", "queued_tasks"] {
            assert_eq!(state["get_tasks"][list], serde_json::json!([]), "{list}");
        }
        // Acknowledgements that the last agent was sent and had no time to write down: their ends are those that were told.
        for task in state["get_tasks"]["terminated_tasks"].as_array().unwrap() {
            let last = task["statuses"].as_array().unwrap().last().unwrap();
            let (told, _, message) = known[task["task_id"]["value"].as_str().unwrap()].end().unwrap();
            assert_eq!((last["state"].as_str(), last["message"].as_str()), (Some(&**told), Some(&**message)));
        }
        std::fs::remove_dir_all(&marks).unwrap();
    });
}

/// A status: it is noted, and acknowledged.
pub(crate) fn hear(line: &str, side: &mut Side, known: &mut BTreeMap<String, Known>) -> bool {
    let mut words = line.splitn(5, ' ');
    let (Some("status"), Some(task), Some(state), Some(uuid)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let of = known.get_mut(task).unwrap();
    let message = words.next().unwrap_or_default().to_owned();
    if of.seen.iter().all(|(_, seen, _)| seen != uuid) {
        if let Some(end) = of.end() {
            panic!("{task}: {line} came after {end:?}");
        }
        of.seen.push((state.to_owned(), uuid.to_owned(), message));
    }
    side.tell(&format!("ack {task} {uuid}"));
    of.acknowledged.insert(uuid.to_owned());
    true
}
