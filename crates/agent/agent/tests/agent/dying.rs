// SPDX-License-Identifier: Apache-2.0
//! Executors over HTTP that die, lose their connection, are deaf and say things twice, under an agent that is killed all
//! the time; judged by what their scheduler hears, against what each executor wrote down of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::PATIENCE;
use crate::ground::on;
use crate::killed::{Known, Side, hear, is_terminal, next};

/// What the executors wrote of themselves, all together.
#[derive(Debug, Default)]
struct Journals {
    /// Which journal has the task; how often it was got.
    got: BTreeMap<String, Vec<String>>,
    /// What was said of each task: state, uuid, message.
    said: BTreeMap<String, Vec<(String, String, String)>>,
    /// Uuids that the agent promised to keep, by task.
    kept: BTreeMap<String, BTreeSet<String>>,
    /// Executors that ended themselves.
    exited: BTreeSet<String>,
    /// How often each thing was done.
    done: BTreeMap<String, usize>,
}

impl Journals {
    fn read(directory: &Path) -> Journals {
        let mut all = Journals::default();
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            // The log of the agent is beside them.
            if !name.starts_with('e') {
                continue;
            }
            for line in std::fs::read_to_string(entry.path()).unwrap().lines() {
                let words: Vec<&str> = line.splitn(5, ' ').collect();
                match words[..] {
                    ["got", task] => all.got.entry(task.to_owned()).or_default().push(name.clone()),
                    ["say", task, state, uuid, message] => {
                        let said = (state.to_owned(), uuid.to_owned(), message.to_owned());
                        all.said.entry(task.to_owned()).or_default().push(said);
                    }
                    ["kept", task, uuid] => {
                        all.kept.entry(task.to_owned()).or_default().insert(uuid.to_owned());
                    }
                    ["exit"] => drop(all.exited.insert(name.clone())),
                    _ => {}
                }
                *all.done.entry(words[0].to_owned()).or_default() += 1;
            }
        }
        all
    }

    /// Whether what the scheduler heard of a task is what its executor did.
    fn judge(&self, task: &str, known: &Known) {
        let none = Vec::new();
        let got = self.got.get(task).unwrap_or(&none);
        let said = self.said.get(task).cloned().unwrap_or_default();
        let seen = &known.seen;
        let context =
            format!("{task}: seen {seen:?}, got by {got:?}, said {said:?}, kept {:?}", self.kept.get(task));
        assert!(got.len() <= 1, "it was given once: {context}");
        let ends: Vec<_> = seen.iter().filter(|(state, ..)| is_terminal(state)).collect();
        assert_eq!(ends.len(), 1, "one end: {context}");
        // What an executor said is told as it was said, in its order, and nothing else is told in its name.
        let of_executor: Vec<_> = seen.iter().filter(|one| said.contains(one)).collect();
        let order = |one: &(String, String, String)| said.iter().position(|said| said == one);
        assert!(of_executor.is_sorted_by_key(|one| order(one)), "in its order: {context}");
        let uuids: BTreeSet<&String> = seen.iter().map(|(_, uuid, _)| uuid).collect();
        for (_, uuid, _) in &said {
            assert!(
                !uuids.contains(uuid) || of_executor.iter().any(|one| one.1 == *uuid),
                "unchanged: {context}"
            );
        }
        // What was promised to be kept is told.
        for uuid in self.kept.get(task).into_iter().flatten() {
            assert!(uuids.contains(uuid), "what was acknowledged is lost: {context}");
        }
        let (state, uuid, message) = ends[0];
        if of_executor.len() == seen.len() {
            return assert!(
                said.iter().any(|(_, said, _)| said == uuid),
                "its end is its executor's: {context}"
            );
        }
        // The agent speaks: of what has an executor no more, or never had one. It says one thing, and the last.
        assert_eq!(of_executor.len() + 1, seen.len(), "{context}");
        assert!(!said.iter().any(|(_, said, _)| said == uuid), "{context}");
        match got.first() {
            Some(executor) => {
                assert!(self.exited.contains(executor), "the executor is well: {context}");
                assert_eq!((&**state, &**message), ("TASK_FAILED", "Executor terminated"), "{context}");
            }
            None => {
                let never = [
                    "Task launched during agent restart",
                    "Executor terminated",
                    "Executor terminating",
                    "Master wants to launch executor, but one already exists",
                    "No executor is expected to launch and there is none running",
                    // Its executor was being launched when the agent was killed.
                    "the exit status is unknown: its supervisor and its owner were killed while it ran",
                    "the exit status is unknown: it was being launched when the agent ended, or its records in \
                     --runtime_dir are gone",
                ];
                assert!(never.contains(&&**message), "{context}");
            }
        }
    }
}

#[test]
fn every_task_ends_once_as_its_executor_says_though_executors_die_and_come_back_under_a_killed_agent() {
    let long = std::env::var("BERTH_AGENT").is_ok_and(|form| form == "long");
    // So many tasks, so many executors, so many tasks asked for at once, so long a life at most.
    let (count, executors, most, longest) = if long { (2000, 30, 100, 4000) } else { (160, 6, 20, 900) };
    on("dying", |ground| {
        let marks = ground.site.work_dir().join("marks");
        std::fs::create_dir(&marks).unwrap();
        let test = std::env::current_exe().unwrap();
        let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/executor");
        // An address that no other test has, on a port from which no connection begins.
        let pid = std::process::id();
        ground.with(&format!("--ip=127.{}.{}.{}", 64 + (pid >> 16) % 64, (pid >> 8) % 256, pid % 254 + 1));
        ground.with("--port=5051");
        ground.with("--no-authenticate_http_readwrite");
        ground.with("--executor_reregistration_timeout=15secs");
        ground.with(&format!("--jwt_secret_key={}", crate::tokens::key(ground)));
        ground.with("--authenticate_http_executors");
        let mut known: BTreeMap<String, Known> =
            (0..count).map(|number| (format!("t{number}"), Known::default())).collect();
        let (mut seed, mut kills) = (11, 0);
        let deadline = Instant::now() + PATIENCE * if long { 60 } else { 4 };
        loop {
            let over = |task: &Known| task.end().is_some_and(|end| task.acknowledged.contains(&end.1));
            if known.values().all(over) {
                break;
            }
            if Instant::now() >= deadline {
                let left: Vec<_> = known.iter().filter(|(_, task)| !over(task)).collect();
                panic!("not over in time: {left:#?} {:#?}", Journals::read(&marks));
            }
            let mut side = Side::start(ground);
            let held = side.ready(&mut known);
            let mut asked = 0;
            for (task, of) in &known {
                if of.seen.is_empty() && !held.contains(task) && asked < most {
                    asked += 1;
                    let executor = next(&mut seed) % executors;
                    let (program, marks) = (program.display(), marks.display());
                    side.tell(&format!("give e{executor} {task} exec {program} {marks}"));
                }
            }
            // A kill may be lost with the connection that it goes over: it is said again in the next life.
            let to_kill =
                |of: &Known, task: &str| task.ends_with('7') && !of.seen.is_empty() && of.end().is_none();
            for task in known.iter().filter(|(task, of)| to_kill(of, task)).map(|(task, _)| task) {
                side.tell(&format!("kill {task}"));
            }
            let until = Instant::now() + Duration::from_millis(200 + next(&mut seed) % (longest - 200));
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                let Ok(line) = side.from.recv_timeout(left) else { continue };
                hear(&line, &mut side, &mut known);
                let running = line.strip_prefix("status ").and_then(|rest| rest.split_once(" TASK_RUNNING "));
                if let Some((task, _)) = running.filter(|(task, _)| task.ends_with('7')) {
                    side.tell(&format!("kill {task}"));
                }
            }
            side.kill();
            kills += 1;
        }
        assert!(kills > 1, "it was not killed");
        let journals = Journals::read(&marks);
        known.iter().for_each(|(task, of)| journals.judge(task, of));
        println!("{count} tasks, {kills} kills, {:?}", journals.done);
        for done in ["exit", "lost", "deaf", "twice", "kept"] {
            assert!(journals.done.contains_key(done), "none did: {done}");
        }
        assert!(journals.got.len() * 2 > known.len(), "most were run: {}", journals.got.len());
        let killed = known.values().filter(|of| of.end().is_some_and(|(state, ..)| state == "TASK_KILLED"));
        assert!(killed.count() > 0, "none was killed");

        // Those that are still there go with their framework, and take nothing with them that was told.
        ground.start();
        let state = || ground.call(&json!({ "type": "GET_STATE" })).json()["get_state"].clone();
        for list in ["launched_tasks", "queued_tasks"] {
            assert_eq!(state()["get_tasks"][list], json!([]), "{list}");
        }
        ground.tasks().shutdown_framework("f");
        berth_testing::until("no executor is left", || state()["get_executors"]["executors"] == json!([]));
        std::fs::remove_dir_all(&marks).unwrap();
    });
}

#[test]
fn the_judge_finds_what_is_lost_invented_doubled_or_changed() {
    let one = |state: &str, uuid: &str| (state.to_owned(), uuid.to_owned(), "e says so".to_owned());
    let (running, finished) = (one("TASK_RUNNING", "r"), one("TASK_FINISHED", "f"));
    let ended = ("TASK_FAILED".to_owned(), "a".to_owned(), "Executor terminated".to_owned());
    let journals = |exited: bool| Journals {
        got: BTreeMap::from([("t".to_owned(), vec!["e".to_owned()])]),
        said: BTreeMap::from([("t".to_owned(), vec![running.clone(), finished.clone()])]),
        kept: BTreeMap::from([("t".to_owned(), BTreeSet::from(["r".to_owned()]))]),
        exited: exited.then(|| "e".to_owned()).into_iter().collect(),
        done: BTreeMap::new(),
    };
    let is_right = |exited: bool, seen: &[&(String, String, String)]| {
        let seen = seen.iter().map(|one| (*one).clone()).collect();
        let known = Known { seen, acknowledged: BTreeSet::new() };
        std::panic::catch_unwind(|| journals(exited).judge("t", &known)).is_ok()
    };
    assert!(is_right(false, &[&running, &finished]));
    assert!(is_right(true, &[&running, &ended]), "it died before its last word was kept");
    let (changed, invented) = (one("TASK_FAILED", "f"), one("TASK_FINISHED", "x"));
    let wrong = [
        (false, vec![&running]),
        (false, vec![&finished]),
        (false, vec![&finished, &running]),
        (false, vec![&running, &ended]),
        (true, vec![&running, &finished, &ended]),
        (false, vec![&running, &changed]),
        (false, vec![&running, &invented]),
    ];
    for (exited, seen) in wrong {
        assert!(!is_right(exited, &seen), "{seen:?}");
    }
}
