// SPDX-License-Identifier: Apache-2.0
//! What is done to containers that are there: `kill`, `stop`, `wait`, `rm`, `pause`, `unpause`, `update`, `rename`.
//! As with docker, each prints the names that it succeeded for, and goes on after one that it did not.

use crate::cli::{Global, Kill, Limiting, Names, Rename, Rm, Stop, Update, Wait};
use crate::exit::{Failure, code_of};
use crate::find::{Places, agents_only};
use crate::limits;
use crate::options::set_limits;
use crate::text::show;
use berth_client::{Agent, Connection, Error, block_on};
use berth_factory::oneshot::{Native, Standing};
use berth_model::{ContainerId, Resources};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// How often a container of a `berth run` is looked at while its end is awaited.
const LOOK: Duration = Duration::from_millis(20);

/// Sends a signal.
pub(crate) fn kill(global: &Global, args: &Kill) -> Result<u8, Failure> {
    let number = signal(&args.signal)?;
    each(global, &args.names, async |places, name| {
        let there = async |c: &mut Connection, id: &ContainerId| c.kill(id, number).await;
        places.at(name, async |native, id| kill_here(native, id, number), there).await?;
        Ok(name.to_owned())
    })
}

fn kill_here(native: &Native, name: &str, number: i32) -> Result<(), Failure> {
    match native.kill(name, number) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::text(format!("container {name} is not running"))),
        Err(e) => Err(Failure::of(&e)),
    }
}

/// Ends containers. All are told at the beginning, so that several take as long as one.
pub(crate) fn stop(global: &Global, args: &Stop) -> Result<u8, Failure> {
    let asked = args.signal.as_deref().map(signal).transpose()?;
    let patience = u64::try_from(args.time).ok().map(Duration::from_secs);
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let done = block_on(async {
        let mut told = Vec::new();
        for name in &args.names {
            let there = async |c: &mut Connection, id: &ContainerId| {
                let number = match asked {
                    Some(number) => number,
                    None => c.inspect(id).await?.stop_signal.unwrap_or(SIGTERM),
                };
                match c.kill(id, number).await {
                    // It has ended, or there is none: who waits is told.
                    Err(error) if error.is_unknown() => c.wait(id).await.map(drop),
                    // Whose it is has no word for asking (a program of the operator's): it is ended.
                    Err(error) if asked.is_none() && is_unsupported(&error) => c.kill(id, SIGKILL).await,
                    result => result,
                }
            };
            let here = async |native: &Native, id: &str| {
                let own = || native.look(id).ok().flatten().and_then(|listed| listed.record.stop_signal);
                let number = asked.or_else(own).unwrap_or(SIGTERM);
                native.kill(id, number).map(drop).map_err(|e| Failure::of(&e))
            };
            told.push(places.at(name, here, there).await);
        }
        let until = patience.map(|patience| Instant::now() + patience);
        let mut code = 0;
        for (name, told) in args.names.iter().zip(told) {
            let there =
                async |c: &mut Connection, id: &ContainerId| end_there(&places.agent, c, id, until).await;
            let ended = match told {
                Ok(()) => places.at(name, async |native, id| end_here(native, id, until).await, there).await,
                Err(failure) => Err(failure),
            };
            match ended {
                Ok(()) => show(&format!("{name}\n")),
                Err(failure) => {
                    code = 1;
                    let _ = failure.report();
                }
            }
        }
        code
    });
    done.map_err(|e| Failure::client(&e).code(1))
}

/// Whether the containerizer can not do it at all. As in Mesos the words alone tell that.
fn is_unsupported(error: &Error) -> bool {
    matches!(error, Error::Refused { text, .. } if text == "Unsupported")
}

/// Waits for the end, and brings it about when it is time.
async fn end_there(
    agent: &Agent,
    connection: &mut Connection,
    id: &ContainerId,
    until: Option<Instant>,
) -> Result<(), Error> {
    let mut waiting = agent.connect().await?;
    let mut end = std::pin::pin!(waiting.wait(id));
    if let Some(until) = until {
        if let Ok(ended) = timeout_at(until, &mut end).await {
            return ended.map(drop);
        }
        match connection.kill(id, SIGKILL).await {
            Err(error) if !error.is_unknown() => return Err(error),
            _ => {}
        }
    }
    end.await.map(drop)
}

async fn end_here(native: &Native, name: &str, until: Option<Instant>) -> Result<(), Failure> {
    loop {
        if !is_running(native, name)? {
            return Ok(());
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            native.kill(name, SIGKILL).map_err(|e| Failure::of(&e))?;
        }
        sleep(LOOK).await;
    }
}

/// Waits, and prints exit codes.
pub(crate) fn wait(global: &Global, args: &Wait) -> Result<u8, Failure> {
    each(global, &args.names, async |places, name| {
        let there = async |c: &mut Connection, id: &ContainerId| c.wait(id).await.map(|end| code_of(&end));
        places
            .at(name, async |native, id| wait_here(native, id).await, there)
            .await?
            .map(|code| code.to_string())
    })
}

async fn wait_here(native: &Native, name: &str) -> Result<Result<u8, Failure>, Failure> {
    loop {
        match native.look(name).map_err(|e| Failure::of(&e))?.map(|listed| listed.standing) {
            Some(Standing::Running { .. } | Standing::Launching) => sleep(LOOK).await,
            Some(Standing::Exited { status, .. }) => {
                return Ok(Ok(u8::try_from(status.shell_code()).unwrap_or(crate::exit::OURS)));
            }
            Some(Standing::Unknown { why }) => return Ok(Err(unknown_status(&why))),
            None => return Ok(Err(unknown_status("it was removed when it ended"))),
        }
    }
}

fn unknown_status(why: &str) -> Failure {
    Failure::text(format!("the exit status is unknown: {why}"))
}

fn is_running(native: &Native, name: &str) -> Result<bool, Failure> {
    let listed = native.look(name).map_err(|e| Failure::of(&e))?;
    Ok(listed.is_some_and(|l| matches!(l.standing, Standing::Running { .. } | Standing::Launching)))
}

/// Removes containers.
pub(crate) fn rm(global: &Global, args: &Rm) -> Result<u8, Failure> {
    let force = args.force;
    each(global, &args.names, async |places, name| {
        let there = async |c: &mut Connection, id: &ContainerId| {
            if force {
                match c.kill(id, SIGKILL).await {
                    Err(error) if !error.is_unknown() => return Err(error),
                    _ => {}
                }
                c.wait(id).await?;
            } else {
                // To remove what is not there is a success to the agent, but not to who calls it by a wrong name.
                c.inspect(id).await?;
            }
            c.remove(id).await
        };
        places.at(name, async |native, id| remove_here(native, id, force), there).await?;
        Ok(name.to_owned())
    })
}

fn remove_here(native: &Native, name: &str, force: bool) -> Result<(), Failure> {
    match native.remove(name, force) {
        Ok(left) if left.is_empty() => Ok(()),
        Ok(left) => Err(Failure::text(format!("could not remove all of {name}: {}", left.join("; ")))),
        Err(e) => Err(Failure::of(&e)),
    }
}

/// Stops all processes.
pub(crate) fn pause(global: &Global, args: &Names) -> Result<u8, Failure> {
    each(global, &args.names, async |places, name| {
        let there = async |c: &mut Connection, id: &ContainerId| c.pause(id).await;
        places.at(name, async |_, id| Err(agents_only("pause", id)), there).await?;
        Ok(name.to_owned())
    })
}

/// Lets them go on.
pub(crate) fn unpause(global: &Global, args: &Names) -> Result<u8, Failure> {
    each(global, &args.names, async |places, name| {
        let there = async |c: &mut Connection, id: &ContainerId| c.resume(id).await;
        places.at(name, async |_, id| Err(agents_only("unpause", id)), there).await?;
        Ok(name.to_owned())
    })
}

/// Changes limits. The agent is told all of them, so those that stay are asked for first.
pub(crate) fn update(global: &Global, args: &Update) -> Result<u8, Failure> {
    let change = |limits: &mut BTreeMap<String, f64>| {
        set_limits(limits, args.cpus.as_deref(), args.memory.as_deref(), args.pids_limit)?;
        limits::set(limits, &args.limiting)
    };
    let none = args.cpus.is_none() && args.memory.is_none() && args.pids_limit.is_none();
    if none && args.limiting.is_empty() {
        let text = "nothing to update: give --cpus, --memory, --pids-limit or another limit";
        return Err(Failure::text(text).code(1));
    }
    let lists = limits::lists(&args.limiting).map_err(|e| e.code(1))?;
    // What is wrong by itself is so for every container; swap is looked at beside each one's memory.
    let alone = Limiting { memory_swap: None, ..args.limiting.clone() };
    limits::set(&mut BTreeMap::new(), &alone).map_err(|e| e.code(1))?;
    set_limits(&mut BTreeMap::new(), args.cpus.as_deref(), args.memory.as_deref(), args.pids_limit)
        .map_err(|e| e.code(1))?;
    each(global, &args.names, async |places, name| {
        let refused = std::cell::RefCell::new(None);
        let there = async |c: &mut Connection, id: &ContainerId| {
            let mut now = c.inspect(id).await?;
            let mut limits = now.limits.into_iter().map(|(name, scalar)| (name, scalar.value)).collect();
            if let Err(why) = change(&mut limits) {
                refused.replace(Some(why));
                return Ok(());
            }
            for list in &lists {
                now.resources.retain(|resource| resource.name != list.name);
                let mut one = Resources::new();
                // It was read as ranges above.
                let _ = one.try_add(list.clone());
                now.resources.extend(berth_proto::convert::resources_of(&one));
            }
            c.update(id, now.resources, &limits).await
        };
        places.at(name, async |_, id| Err(agents_only("update", id)), there).await?;
        match refused.into_inner() {
            Some(why) => Err(why),
            None => Ok(name.to_owned()),
        }
    })
}

/// Gives a container another name; as docker, without a word.
pub(crate) fn rename(global: &Global, args: &Rename) -> Result<u8, Failure> {
    ContainerId::new(args.new.as_str()).map_err(|e| Failure::text(format!("{}: {e}", args.new)).code(1))?;
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let there = async |c: &mut Connection, id: &ContainerId| c.rename(id, &args.new).await;
    let renamed = block_on(places.at(&args.name, async |_, id| Err(agents_only("rename", id)), there));
    renamed.map_err(|e| Failure::client(&e)).and_then(|renamed| renamed).map_err(|e| e.code(1))?;
    Ok(0)
}

/// Does it for each, printing what it gives; those that fail do not stop the others.
fn each(
    global: &Global,
    names: &[String],
    act: impl AsyncFn(&Places, &str) -> Result<String, Failure>,
) -> Result<u8, Failure> {
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let done = block_on(async {
        let mut code = 0;
        for name in names {
            match act(&places, name).await {
                Ok(line) => show(&format!("{line}\n")),
                Err(failure) => {
                    code = 1;
                    let _ = failure.report();
                }
            }
        }
        code
    });
    done.map_err(|e| Failure::client(&e).code(1))
}

/// A signal's number, by its name or number.
fn signal(text: &str) -> Result<i32, Failure> {
    number(text).ok_or_else(|| {
        Failure::text(format!("--signal {text}: must be a name such as TERM, or a number from 1 to 64"))
            .code(1)
    })
}

fn number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == name).map(|i| i as i32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_name_or_number() {
        let all = ["TERM", "SIGTERM", "sigterm", "15"].map(number);
        assert_eq!(all, [Some(15); 4]);
        assert_eq!(["0", "65", "-9", "TERMINATE", ""].map(number), [None; 5]);
        assert_eq!(number("SYS"), Some(31));
    }
}
