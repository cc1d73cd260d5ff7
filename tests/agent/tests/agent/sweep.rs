// SPDX-License-Identifier: Apache-2.0
//! SIGKILL to the agent at a system call of any of its threads, counted over a launch, a session, an update, an end and
//! removal, and a recovery; then the next agent has to find everything, and to invent nothing.
//!
//! An operation is made once to count its calls. `BERTH_AGENT=long` then kills at every one; otherwise at
//! `BERTH_AGENT_KILLS` of them (12), one at random in each part of equal length. `BERTH_AGENT_AT=57` kills at the 57th
//! only. Threads take turns as they like, so the same number is not always the same call.

use crate::ground;
use berth_test_agent::{Ground, PATIENCE, Process, long, number, shell, until};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// More calls than any operation makes.
const NEVER: u64 = 1 << 40;
/// `exit 7`, and SIGKILL.
const SEVEN: i32 = 7 << 8;
const KILLED: i32 = 9;

/// An agent under the tracer.
pub(crate) struct Traced(Child);

/// What came of it.
pub(crate) struct Outcome {
    killed: bool,
    calls: u64,
    told: String,
}

impl Traced {
    /// Begins to count when the agent is executed; at 0 not at all.
    fn begun(ground: &Ground, at: u64) -> Traced {
        let mut command = ground.agent_below(env!("CARGO_BIN_EXE_berth-agent-sweep"), &[at.to_string()]);
        Traced(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// One that answers, and whose calls are not counted yet.
    pub(crate) fn answering(ground: &Ground) -> Traced {
        let traced = Traced::begun(ground, 0);
        until("the traced agent answers", || ground.api().living().is_ok());
        traced
    }

    fn say(&mut self, line: &str) {
        let _ = writeln!(self.0.stdin.as_mut().unwrap(), "{line}");
    }

    /// Counts from now on.
    pub(crate) fn count(&mut self, at: u64) {
        self.say(&at.to_string());
        let mut line = Vec::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        // Not a byte more than this line: the rest is read at the end.
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        assert_eq!(line, b"counting\n");
    }

    /// Ends the agent if it was not killed before.
    pub(crate) fn end(mut self, ground: &Ground) -> Outcome {
        self.say("end");
        let output = ground.output(self.0, "the tracer");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let result: Value =
            serde_json::from_str(&told).unwrap_or_else(|e| panic!("the tracer: {e}: {output:?}"));
        Outcome { killed: result["killed"] == true, calls: result["calls"].as_u64().unwrap(), told }
    }
}

/// At which calls to kill, of so many.
fn points(test: &str, calls: u64) -> Vec<u64> {
    if let Some(only) = std::env::var("BERTH_AGENT_AT").ok().and_then(|v| v.parse().ok()) {
        return vec![only];
    }
    if long() {
        return (1..=calls).collect();
    }
    let kills = number("BERTH_AGENT_KILLS", 12, 0) as u64;
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let points: Vec<u64> = (0..kills)
        .map(|n| {
            let (from, to) = (n * calls / kills, (n + 1) * calls / kills);
            1 + from + u64::from(seed).wrapping_mul(2 * n + 1) / 1000 % (to - from).max(1)
        })
        .collect();
    println!("{test}: of {calls} calls, killed at {points:?}");
    points
}

/// Counts, then kills at one call after the other, and tells all that went wrong.
pub(crate) fn sweep(
    test: &str,
    ground: &mut Ground,
    mut one: impl FnMut(&mut Ground, u64) -> (Outcome, Result<(), String>),
) {
    let (counted, result) = one(ground, NEVER);
    assert_eq!((counted.killed, result), (false, Ok(())), "without a kill: {}", counted.told);
    assert!(counted.calls > 10, "the sweep looks at nothing: {}", counted.told);
    ground.leave().unwrap();
    let mut wrong = Vec::new();
    let mut reached = 0;
    for at in points(test, counted.calls) {
        let (outcome, mut result) = one(ground, at);
        reached += u64::from(outcome.killed);
        let left = ground.leave();
        if result.is_ok() {
            result = left;
        }
        if let Err(why) = result {
            wrong.push(format!("killed at {at}, {}: {why}", outcome.told.trim_end()));
        }
        if wrong.len() > 10 {
            break;
        }
    }
    println!("{test}: killed {reached} times");
    assert!(wrong.is_empty(), "{} of {reached} kills:\n{}", wrong.len(), wrong.join("\n"));
    assert!(reached > 0, "nothing was killed");
}

/// What the containerizer wrote down of a container, and what that wrote.
fn record(ground: &Ground, name: &str) -> (Option<String>, String) {
    let status = ground.runtime_dir().join("containers").join(name).join("status");
    let output = ground.work_dir().join("containers").join(name).join("stdout");
    (fs::read_to_string(status).ok(), fs::read_to_string(output).unwrap_or_default())
}

/// How a container stands for the next agent.
#[derive(Debug, PartialEq)]
enum Stands {
    Nowhere,
    Running(u32),
    Exited(i32),
    Unknown(String),
}

fn stands(ground: &Ground, name: &str) -> Result<Stands, String> {
    let api = ground.api();
    let failed = |error: berth_client::Error| format!("ask for {name}: {error}");
    if !api.all().map_err(failed)?.iter().any(|id| id == name) {
        return Ok(Stands::Nowhere);
    }
    // A signal that was sent before the agent was killed may end it while it is looked at.
    let limit = Instant::now() + PATIENCE;
    while api.state(name).map_err(failed)? == "RUNNING" && Instant::now() < limit {
        let status = api.inspect(name).map_err(failed)?.status;
        if let Some(pid) = status.and_then(|status| status.executor_pid) {
            return Ok(Stands::Running(pid));
        }
    }
    let end = api.wait(name).map_err(failed)?;
    Ok(match end.exit_status {
        Some(status) => Stands::Exited(status),
        None => Stands::Unknown(end.message.unwrap_or_default()),
    })
}

/// Waits until what was begun is over, or runs.
fn calm(ground: &Ground, name: &str) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !ground.processes().is_empty() && record(ground, name).1 != "up\n" && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn launch(ground: &mut Ground, at: u64, name: &str, script: &str) -> (Outcome, Result<(), String>) {
    let mut traced = Traced::answering(ground);
    traced.count(at);
    let told = ground.api().launch(name, &shell(script));
    if told.is_ok() && script.contains("exit") {
        let _ = ground.api().wait(name);
    }
    let outcome = traced.end(ground);
    calm(ground, name);
    let (status, output) = record(ground, name);
    ground.start();
    let stands = stands(ground, name);
    let fits = match &stands {
        Ok(Stands::Nowhere) => told.is_err() && status.is_none() && output.is_empty(),
        Ok(Stands::Running(pid)) => !script.contains("exit") && ground.groups(name).processes() == [*pid],
        Ok(Stands::Exited(status)) => script.contains("exit") && *status == SEVEN,
        Ok(Stands::Unknown(why)) => !why.is_empty() && status.is_none() && output.is_empty(),
        Err(_) => false,
    };
    let kept = ground.api().logs(name).map(|(out, _)| out).unwrap_or_default();
    let result = match fits && (stands == Ok(Stands::Nowhere) || kept == output) {
        true => Ok(()),
        false => Err(format!(
            "{script:?} stands as {stands:?}, though the launch was answered by {told:?}, the exit record was \
             {status:?}, the output {output:?}, and now {kept:?}"
        )),
    };
    (outcome, result)
}

#[test]
fn an_agent_that_is_killed_anywhere_in_a_launch_loses_and_invents_nothing() {
    let test = "an_agent_that_is_killed_anywhere_in_a_launch_loses_and_invents_nothing";
    let mut ground = ground!(an_agent_that_is_killed_anywhere_in_a_launch_loses_and_invents_nothing);
    ground.stop();
    sweep(test, &mut ground, |ground, at| {
        let name = ground.name(at);
        launch(ground, at, &name, "echo out; exit 7")
    });
}

#[test]
fn an_agent_that_is_killed_anywhere_in_the_launch_of_what_stays_takes_it_over_or_leaves_nothing() {
    let test = "an_agent_that_is_killed_anywhere_in_the_launch_of_what_stays_takes_it_over_or_leaves_nothing";
    let mut ground =
        ground!(an_agent_that_is_killed_anywhere_in_the_launch_of_what_stays_takes_it_over_or_leaves_nothing);
    ground.stop();
    sweep(test, &mut ground, |ground, at| {
        let name = ground.name(at);
        launch(ground, at, &name, "echo up; exec sleep 1000")
    });
}

/// Does something to a container that runs, under an agent that is killed at call `at` of it, and looks at the
/// container afterwards.
fn on_running(
    ground: &mut Ground,
    at: u64,
    act: impl FnOnce(&Ground, &str) -> Result<(), String>,
    look: impl FnOnce(&Ground, &str, u32, bool) -> Result<(), String>,
) -> (Outcome, Result<(), String>) {
    let mut traced = Traced::answering(ground);
    let (api, name) = (ground.api(), ground.name(at));
    api.launch(&name, &shell("echo up; exec sleep 1000")).unwrap();
    api.wrote(&name, "up");
    let pid = api.pid(&name);
    traced.count(at);
    let acted = act(ground, &name);
    let outcome = traced.end(ground);
    ground.start();
    let result = look(ground, &name, pid, acted.is_ok());
    (outcome, result.map_err(|why| format!("{why}; it was answered by {acted:?}")))
}

fn text(error: berth_client::Error) -> String {
    error.to_string()
}

#[test]
fn an_agent_that_is_killed_anywhere_in_a_session_leaves_the_container_and_nothing_else() {
    let test = "an_agent_that_is_killed_anywhere_in_a_session_leaves_the_container_and_nothing_else";
    let mut ground =
        ground!(an_agent_that_is_killed_anywhere_in_a_session_leaves_the_container_and_nothing_else);
    ground.stop();
    let act = |ground: &Ground, name: &str| {
        let wanted = shell("echo in; exec sleep 1001");
        let begun = ground.api().session(&format!("{name}.s"), &wanted, async |session| Ok(session.first));
        // It is destroyed now: that belongs to the sweep too.
        let wait = ground.api().wait(&format!("{name}.s"));
        begun.map_err(text)?;
        wait.map(drop).map_err(text)
    };
    sweep(test, &mut ground, |ground, at| {
        on_running(ground, at, act, |ground, name, pid, _| {
            let limit = Instant::now() + Duration::from_secs(10);
            loop {
                let (stands, processes) = (stands(ground, name)?, ground.groups(name).processes());
                let living = ground.api().living().map_err(text)?;
                if stands == Stands::Running(pid) && processes == [pid] && living == [name] {
                    return Ok(());
                }
                if Instant::now() > limit {
                    return Err(format!("it stands as {stands:?}, {processes:?} run in it, {living:?} live"));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    });
}

#[test]
fn an_agent_that_is_killed_anywhere_in_an_update_leaves_the_old_limits_or_the_new() {
    let test = "an_agent_that_is_killed_anywhere_in_an_update_leaves_the_old_limits_or_the_new";
    let mut ground = ground!(an_agent_that_is_killed_anywhere_in_an_update_leaves_the_old_limits_or_the_new);
    ground.stop();
    let act = |ground: &Ground, name: &str| {
        let limits = [("mem".to_owned(), 96.0), ("pids".to_owned(), 64.0), ("cpus".to_owned(), 1.0)].into();
        let id = name.parse().unwrap();
        ground.api().on(async |c| c.update(&id, Vec::new(), &limits).await).map_err(text)
    };
    sweep(test, &mut ground, |ground, at| {
        on_running(ground, at, act, |ground, name, pid, done| {
            let stands = stands(ground, name)?;
            let inspection = ground.api().inspect_whole(name).map_err(text)?;
            let asked = inspection.limits.get("mem").map(|limit| limit.value);
            let applied = inspection.applied_limits.iter().find(|limit| limit.name == "memory.max");
            let applied = applied.and_then(|limit| limit.value.parse::<u64>().ok()).map(|bytes| bytes >> 20);
            let old_or_new = matches!(asked, Some(64.0 | 96.0)) && matches!(applied, Some(64 | 96));
            let new = asked == Some(96.0) && applied == Some(96);
            match stands == Stands::Running(pid) && if done { new } else { old_or_new } {
                true => Ok(()),
                false => Err(format!("it stands as {stands:?}, asked for {asked:?}, has {applied:?}")),
            }
        })
    });
}

#[test]
fn an_agent_that_is_killed_anywhere_in_an_end_and_a_removal_loses_no_status() {
    let test = "an_agent_that_is_killed_anywhere_in_an_end_and_a_removal_loses_no_status";
    let mut ground = ground!(an_agent_that_is_killed_anywhere_in_an_end_and_a_removal_loses_no_status);
    ground.stop();
    sweep(test, &mut ground, |ground, at| {
        let mut ended = Err("not asked".to_owned());
        let act = |ground: &Ground, name: &str| {
            let api = ground.api();
            api.kill(name, 9).map_err(text)?;
            ended = api.wait(name).map_err(text);
            ended.clone()?;
            api.remove(name).map_err(text)
        };
        let (outcome, looked) =
            on_running(ground, at, act, |ground, name, pid, removed| match stands(ground, name)? {
                Stands::Nowhere => Ok(()),
                Stands::Exited(KILLED) if !removed => Ok(()),
                Stands::Running(same) if !removed && same == pid => Ok(()),
                other => Err(format!("it stands as {other:?}")),
            });
        let told = match &ended {
            Ok(end) if end.exit_status != Some(KILLED) => Err(format!("its end was told as {end:?}")),
            _ => Ok(()),
        };
        (outcome, looked.and(told))
    });
}

#[test]
fn an_agent_that_is_killed_anywhere_in_its_recovery_is_followed_by_one_that_finds_all() {
    let test = "an_agent_that_is_killed_anywhere_in_its_recovery_is_followed_by_one_that_finds_all";
    let mut ground =
        ground!(an_agent_that_is_killed_anywhere_in_its_recovery_is_followed_by_one_that_finds_all);
    ground.stop();
    sweep(test, &mut ground, |ground, at| {
        ground.start();
        let api = ground.api();
        let [runs, ends, ended] = ["r", "e", "d"].map(|last| ground.name(format!("{at}{last}")));
        api.launch(&runs, &shell("echo up; exec sleep 1000")).unwrap();
        api.launch(&ends, &shell("echo up; mkfifo go; read x < go; echo $x; exit 7")).unwrap();
        api.launch(&ended, &shell("exit 3")).unwrap();
        assert_eq!(api.code(&ended).unwrap(), Some(3));
        api.wrote(&runs, "up");
        api.wrote(&ends, "up");
        let pid = api.pid(&runs);
        let session =
            api.session(&format!("{runs}.s"), &shell("echo in; exec sleep 1001"), async |session| {
                assert_eq!(session.first, "in\n");
                ground.kill();
                Ok(())
            });
        session.unwrap();
        ground.let_go(&ends, "word");
        let mut traced = Traced::begun(ground, at);
        let limit = Instant::now() + Duration::from_secs(30);
        let killed = |traced: &mut Traced| traced.0.try_wait().unwrap().is_some();
        while !killed(&mut traced) && ground.api().living().is_err() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        let outcome = traced.end(ground);
        // Its end is to meet the agent that is killed, and not the one that is asked.
        let limit = Instant::now() + Duration::from_secs(10);
        while !ground.groups(&ends).processes().is_empty() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        ground.start();
        let found = [&runs, &ends, &ended].map(|name| stands(ground, name));
        let expected = [Ok(Stands::Running(pid)), Ok(Stands::Exited(SEVEN)), Ok(Stands::Exited(3 << 8))];
        let wrote = ground.api().logs(&ends).map(|(out, _)| out).unwrap_or_default();
        let limit = Instant::now() + Duration::from_secs(10);
        while ground.groups(&runs).processes() != [pid] && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        let inside = ground.groups(&runs).processes();
        let result = match found == expected && wrote == "up\nword\n" && inside == [pid] {
            true => Ok(()),
            false => Err(format!("{found:?}, not {expected:?}; it wrote {wrote:?}; {inside:?} run inside")),
        };
        (outcome, result)
    });
}

#[test]
fn agents_that_are_killed_at_random_moments_under_load_lose_no_container() {
    let test = "agents_that_are_killed_at_random_moments_under_load_lose_no_container";
    let mut ground = ground!(agents_that_are_killed_at_random_moments_under_load_lose_no_container);
    let rounds = number("BERTH_AGENT_ROUNDS", 5, 200);
    for round in 0..rounds {
        let name = |n: usize| format!("{round}x{n}");
        // Eight clients launch what ends with a status of its own, until their agent is gone.
        let (api, ground_ref) = (ground.api(), &ground);
        let acked: Vec<usize> = std::thread::scope(|scope| {
            let launch = |client: usize| {
                let (api, mut acked) = (api.clone(), Vec::new());
                for n in (client * 100)..(client * 100 + 50) {
                    let script = format!("echo {n}; exit {}", n % 126);
                    match api.launch(&ground_ref.name(name(n)), &shell(script)) {
                        Ok(_) => acked.push(n),
                        Err(_) => break,
                    }
                }
                acked
            };
            let clients: Vec<_> = (0..8).map(|client| scope.spawn(move || launch(client))).collect();
            let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_micros();
            std::thread::sleep(Duration::from_millis(10 + u64::from(moment) % 200));
            kill_by_pid(ground_ref.process());
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        ground.kill();
        ground.start();
        let api = ground.api();
        for n in &acked {
            let id = ground.name(name(*n));
            let code = api.code(&id).unwrap_or_else(|e| panic!("{test}: round {round}, {id}: {e}"));
            assert_eq!(code, i32::try_from(n % 126).ok(), "round {round}, {id}");
            assert_eq!(api.logs(&id).unwrap().0, format!("{n}\n"));
        }
        // Those whose launch was not answered ended as they would, or never began.
        for id in api.all().unwrap() {
            let end = api.wait(&id).unwrap();
            let n: usize = id.rsplit('x').next().unwrap().parse().unwrap();
            let right = i32::try_from((n % 126) << 8).ok();
            let fits = end.exit_status == right || end.exit_status.is_none() && end.message.is_some();
            assert!(fits, "round {round}, {id}: {end:?}");
            api.remove(&id).unwrap();
        }
        println!("round {round}: {} launches were answered", acked.len());
    }
    ground.leave().unwrap();
}

fn kill_by_pid(agent: &Process) {
    use rustix::process::{Pid, Signal, kill_process};
    kill_process(Pid::from_raw(i32::try_from(agent.pid()).unwrap()).unwrap(), Signal::KILL).unwrap();
}
