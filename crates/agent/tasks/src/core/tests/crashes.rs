// SPDX-License-Identifier: Apache-2.0
//! The agent is killed between any two effects, and any file may be torn: nothing is lost, and nothing invented.

use super::*;
use crate::built_in::Recovered;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// All that is not the agent: containers, executors, a scheduler.
#[derive(Default)]
struct Outside {
    containers: BTreeMap<At, Option<i32>>,
    /// What comes to the agent.
    inputs: Vec<Input>,
    /// Executors that speak, and what they have not heard to be kept.
    speaking: BTreeMap<At, bool>,
    /// The reports that the scheduler was sent, by task, each once; and those it has acknowledged.
    seen: BTreeMap<String, Vec<v1::TaskStatus>>,
    acknowledged: BTreeSet<Vec<u8>>,
    waiting: Vec<(String, Vec<u8>)>,
    uuids: u8,
}

impl Outside {
    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Launch(launch) => {
                self.containers.insert(launch.at.clone(), None);
                self.inputs.push(Input::Launched { at: launch.at, result: Ok(true) });
            }
            Effect::Look(at) => {
                let exists = self.containers.contains_key(&at);
                self.inputs.push(Input::Looked { at: at.clone(), exists });
                if let Some(Some(code)) = self.containers.get(&at) {
                    self.inputs.push(Input::Ended { at, termination: Some(exited(*code)) });
                }
            }
            Effect::Destroy(at) => self.end(&at, 9),
            Effect::Start { at, recovered, .. } => {
                self.speaking.insert(at.clone(), false);
                for Recovered { task, latest } in recovered {
                    if latest.is_none() {
                        self.say(&at, &task.task_id.value, TaskState::TaskRunning);
                    }
                }
            }
            Effect::Tell { at, event } => match event.r#type() {
                event::Type::Launch => {
                    let task = event.launch.unwrap().task.task_id.value;
                    self.say(&at, &task, TaskState::TaskRunning);
                }
                event::Type::Shutdown | event::Type::Kill => self.end(&at, 15),
                _ => {}
            },
            Effect::Settle { at, termination } => {
                let code = termination.and_then(|ended| ended.status).unwrap_or(0) >> 8;
                let state = if code == 0 { TaskState::TaskFinished } else { TaskState::TaskFailed };
                self.say(&at.clone(), &at.executor, state);
                self.inputs.push(Input::Over { at });
            }
            Effect::Report(update) => {
                let (task, uuid) = (update.status.task_id.value.clone(), update.status.uuid.clone().unwrap());
                assert!(!self.acknowledged.contains(&uuid), "a report came after its acknowledgement");
                let seen = self.seen.entry(task.clone()).or_default();
                if seen.iter().all(|known| known.uuid != update.status.uuid) {
                    seen.push(update.status);
                }
                self.waiting.push((task, uuid));
            }
            _ => {}
        }
    }

    fn end(&mut self, at: &At, code: i32) {
        if let Some(ended @ None) = self.containers.get_mut(at) {
            *ended = Some(code);
            self.inputs.push(Input::Ended { at: at.clone(), termination: Some(exited(code)) });
        }
    }

    fn say(&mut self, at: &At, task: &str, state: TaskState) {
        self.uuids += 1;
        let call = Box::new(said(at, task, state, self.uuids));
        self.inputs.push(Input::Called { at: at.clone(), call, status: None });
    }

    /// The agent is gone, and with it what was on the way in it.
    fn lose(&mut self) {
        self.inputs.clear();
        self.speaking.clear();
        self.waiting.clear();
    }
}

/// Carries out the first so many effects; `false` if the agent was killed in between.
fn carry_out(
    bench: &Bench,
    outside: &mut Outside,
    effects: Vec<Effect>,
    killed_after: Option<usize>,
) -> bool {
    for (at, effect) in effects.into_iter().enumerate() {
        if killed_after == Some(at) {
            return false;
        }
        if let Effect::Write(write) = &effect {
            bench.store.write(write).unwrap();
        }
        outside.take(effect);
    }
    true
}

fn revive(bench: &mut Bench, outside: &mut Outside) {
    outside.lose();
    bench.starts += 1;
    bench.store = Store::open(&bench.work).unwrap();
    let settings = bench.core.settings.clone();
    bench.core = Core::new(agent(bench.store.id()), settings, Box::new(Counted(bench.starts << 32)));
    let found = bench.store.read().unwrap();
    let effects = bench.core.recover(found);
    carry_out(bench, outside, effects, None);
    let effects = bench.core.handle(Input::Connected(true));
    carry_out(bench, outside, effects, None);
}

#[derive(Debug, Clone)]
enum Step {
    Run,
    /// The oldest, or another input.
    Input(usize),
    End(usize, i32),
    Acknowledge(usize),
    /// Handle an input, and die after so many of its effects.
    Die(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Run),
        8 => (0usize..3).prop_map(Step::Input),
        2 => (0usize..4, 0i32..3).prop_map(|(which, code)| Step::End(which, code)),
        4 => (0usize..4).prop_map(Step::Acknowledge),
        2 => (0usize..3, 0usize..7).prop_map(|(which, after)| Step::Die(which, after)),
    ];
    prop::collection::vec(step, 1..60)
}

/// Inputs of one run keep their order; those of different runs need not.
fn next(outside: &mut Outside, which: usize) -> Option<Input> {
    let key = |input: &Input| match input {
        Input::Launched { at, .. }
        | Input::Looked { at, .. }
        | Input::Called { at, .. }
        | Input::Over { at }
        | Input::Ended { at, .. } => Some(at.clone()),
        _ => None,
    };
    let mut keys = Vec::new();
    for input in &outside.inputs {
        let key = key(input);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let wanted = keys.get(which % keys.len().max(1))?.clone();
    let at = outside.inputs.iter().position(|input| key(input) == wanted)?;
    Some(outside.inputs.remove(at))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn each_task_ends_once_with_its_true_end_wherever_the_agent_is_killed(steps in steps()) {
        let mut bench = Bench::new();
        let mut outside = Outside::default();
        let mut asked = 0;
        for step in steps {
            match step {
                Step::Run if asked < 4 => {
                    asked += 1;
                    let effects = bench.core.handle(Input::Run(Box::new(command(&format!("t{asked}")))));
                    carry_out(&bench, &mut outside, effects, None);
                }
                Step::Run => {}
                Step::Input(which) => {
                    if let Some(input) = next(&mut outside, which) {
                        let effects = bench.core.handle(input);
                        carry_out(&bench, &mut outside, effects, None);
                    }
                }
                Step::End(which, code) => {
                    let at = outside.containers.keys().nth(which).cloned();
                    at.iter().for_each(|at| outside.end(at, code));
                }
                Step::Acknowledge(which) => {
                    if which < outside.waiting.len() {
                        acknowledge(&mut bench, &mut outside, which);
                    }
                }
                Step::Die(which, after) => {
                    let input = next(&mut outside, which);
                    let effects = input.map(|input| bench.core.handle(input)).unwrap_or_default();
                    carry_out(&bench, &mut outside, effects, Some(after));
                    revive(&mut bench, &mut outside);
                }
            }
        }
        // Everything comes to its end.
        for _ in 0..400 {
            let running: Vec<At> = outside.containers.keys().cloned().collect();
            if let Some(input) = next(&mut outside, 0) {
                let effects = bench.core.handle(input);
                carry_out(&bench, &mut outside, effects, None);
            } else if !outside.waiting.is_empty() {
                acknowledge(&mut bench, &mut outside, 0);
            } else {
                running.iter().for_each(|at| outside.end(at, 0));
            }
        }
        for number in 1..=asked {
            let task = format!("t{number}");
            let seen = outside.seen.get(&task).cloned().unwrap_or_default();
            let ends: Vec<_> = seen.iter().filter(|status| crate::is_terminal(status.state())).collect();
            prop_assert_eq!(ends.len(), 1, "{} {:?}", task, seen);
            let container = outside.containers.iter().find(|(at, _)| at.executor == task);
            let expected = match container.map(|(_, code)| code.unwrap()) {
                // Its launch was never begun, and it is said so.
                None => TaskState::TaskDropped,
                Some(0) => TaskState::TaskFinished,
                Some(_) => TaskState::TaskFailed,
            };
            prop_assert_eq!(ends[0].state(), expected);
        }
        prop_assert!(bench.core.frameworks.is_empty(), "nothing is left over");
    }
}

fn acknowledge(bench: &mut Bench, outside: &mut Outside, which: usize) {
    let (task, uuid) = outside.waiting.remove(which);
    let (framework, seen) = ("f".to_owned(), uuid.clone());
    let effects = bench.core.handle(Input::Acknowledge { framework, task, uuid });
    let taken = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Write(Write::Ack { .. } | Write::ForgetRefused { .. })));
    carry_out(bench, outside, effects, None);
    if taken {
        outside.acknowledged.insert(seen);
    }
}

#[test]
fn any_file_may_be_torn_or_missing_and_the_agent_comes_back() {
    fn files(dir: &std::path::Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => files(&entry.path(), into),
                false => into.push(entry.path()),
            }
        }
    }
    let made = || {
        let mut bench = Bench::new();
        bench.run(Run { launch_executor: false, ..custom("refused", &["r"]) });
        let at = bench.running(custom("e", &["t"]));
        bench.says(&at, "t", TaskState::TaskRunning, 1);
        bench.run(command("c"));
        bench
    };
    let mut all = Vec::new();
    let first = made();
    files(&first.work, &mut all);
    assert!(all.len() > 12, "{all:?}");
    for number in 0..all.len() {
        for cut in [None, Some(0), Some(2)] {
            let mut bench = made();
            let mut own = Vec::new();
            files(&bench.work, &mut own);
            own.sort();
            let path = &own[number];
            match cut {
                None => std::fs::remove_file(path).unwrap(),
                Some(_) if path.is_symlink() => continue,
                Some(divisor) => {
                    let bytes = std::fs::read(path).unwrap();
                    std::fs::write(path, &bytes[..bytes.len().checked_div(divisor).unwrap_or(0)]).unwrap();
                }
            }
            let effects = bench.restart();
            // Whatever is left, the executor is looked for unless it is its own record that is gone.
            let lost = path.ends_with("executor.info") || path.ends_with("latest");
            let looks = effects.iter().filter(|effect| matches!(effect, Effect::Look(_))).count();
            assert!(looks == 2 || lost, "{} {cut:?}: {looks}", path.display());
        }
    }
}

#[test]
fn a_line_that_was_not_written_to_its_end_is_cut_off_and_the_next_is_whole() {
    let mut bench = Bench::new();
    let at = bench.running(custom("e", &["t"]));
    bench.says(&at, "t", TaskState::TaskStarting, 1);
    let runs = bench.work.join("meta/slaves/latest/frameworks/f/executors/e/runs/latest");
    let path = runs.join("tasks/t/task.updates");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], &whole[..40]].concat()).unwrap();
    bench.restart();
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    bench.on(Input::Looked { at: at.clone(), exists: true });
    let listed = call::Subscribe { unacknowledged_tasks: vec![task("t")], ..Default::default() };
    bench.on(Input::Subscribed { at: at.clone(), link: 1, pid: None, subscribe: listed });
    bench.says(&at, "t", TaskState::TaskRunning, 2);
    let effects = bench.restart();
    assert_eq!(reports(&effects)[0].state(), TaskState::TaskStarting);
    let found = bench.store.read().unwrap();
    assert_eq!(found[0].executors[0].tasks[0].reports.len(), 2);
}

#[test]
fn values_of_secrets_are_not_written_down() {
    let mut bench = Bench::new();
    let mut run = command("t");
    let value = Some(v1::secret::Value { data: b"hush".to_vec() });
    let secret = v1::Secret { r#type: Some(v1::secret::Type::Value.into()), value, ..Default::default() };
    let variable = v1::environment::Variable {
        name: "S".to_owned(),
        r#type: Some(v1::environment::variable::Type::Secret.into()),
        secret: Some(secret),
        ..Default::default()
    };
    let plain = v1::environment::Variable {
        name: "P".to_owned(),
        value: Some("plain".to_owned()),
        ..Default::default()
    };
    let environment = v1::Environment { variables: vec![variable, plain] };
    run.tasks[0].command.as_mut().unwrap().environment = Some(environment);
    bench.run(run);
    let found = bench.store.read().unwrap();
    let command = found[0].executors[0].tasks[0].info.command.clone().unwrap();
    let variables = command.environment.unwrap().variables;
    assert_eq!(variables[0].secret.as_ref().unwrap().value, None);
    assert_eq!(variables[1].value.as_deref(), Some("plain"));
}
