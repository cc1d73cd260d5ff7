// SPDX-License-Identifier: Apache-2.0
//! `berth pod run`: makes a pod and stays with it, starting again by their rules what has ended.
//!
//! Whoever restarts has to be there when something ends. The agent may go away and come back meanwhile, which changes
//! nothing: its containers go on, ends are kept, and this waits for it. When this command is killed the pod goes on as it
//! is, without restarts, and the same command takes it over again.

use super::spec::{self, Member, Pod, Restart};
use super::{HOLD, MARK, destroy, end, is_pod};
use crate::attach::Signals;
use crate::cli::{Global, PodRun};
use crate::exit::{Failure, chain, say};
use crate::find;
use crate::session::watch;
use crate::text::show;
use berth_client::{Agent, Connection, Error, Launch, Launched, block_on};
use berth_model::{CommandInfo, ContainerId, ContainerInfo, NetworkInfo, WaitStatus};
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};

/// How long to wait before the first restart, and at most: it doubles with each that follows soon.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// Who ran for so long was not restarted in vain.
const STEADY: Duration = Duration::from_secs(60);
/// How often an agent that is away is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How long the containers may take to end when this command is asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// The signals that ask this command to end: SIGHUP, SIGINT, SIGQUIT, SIGTERM.
const ENDING: [i32; 4] = [1, 2, 3, 15];

pub(super) fn run(global: &Global, args: &PodRun) -> Result<u8, Failure> {
    let pod = read(&args.file)?;
    let restarts = pod.containers.iter().find(|member| member.restart != Restart::Never);
    if let (true, Some(member)) = (args.detach, restarts) {
        return Err(Failure::text(format!(
            "with --detach nobody is there to restart {}: leave it away and run this command under a service manager, or write `restart: never`",
            member.name
        )));
    }
    let agent = find::agent(global);
    if args.detach {
        block_on(make(&agent, &pod)).map_err(|e| Failure::client(&e))??;
        show(&format!("{}\n", pod.name));
        return Ok(0);
    }
    let signals = Signals::block()?;
    block_on(async {
        let failed = |e| Failure::text(format!("watch for signals: {e}"));
        let signals = watch(signals.as_fd()).map_err(failed)?;
        tokio::select! {
            made = make(&agent, &pod) => made?,
            number = asked_to_end(&signals) => {
                let gone = async { destroy(&mut agent.connect().await?, &pod.name).await };
                gone.await.map_err(|e| Failure::client(&e))?;
                return Ok(128 + number);
            }
        }
        say(format_args!("pod {} runs", pod.name));
        let keeper = Keeper { agent, pod, ending: Arc::default() };
        LocalSet::new().run_until(keeper.keep(&signals)).await
    })
    .map_err(|e| Failure::client(&e))?
}

fn read(file: &Path) -> Result<Pod, Failure> {
    let shown = file.display().to_string();
    let failed = |e: std::io::Error| Failure::text(format!("read {shown}: {e}"));
    let mut text = String::new();
    let opened: Box<dyn std::io::Read> = match shown.as_str() {
        "-" => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(file).map_err(failed)?),
    };
    opened.take(spec::LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > spec::LONGEST {
        return Err(Failure::text(format!("{shown} is longer than a pod's description can be (1 MiB)")));
    }
    spec::parse(&shown, &text)
}

/// Launches the pod and all its containers, or takes over those that are there. What it made goes when it can not make all.
async fn make(agent: &Agent, pod: &Pod) -> Result<(), Failure> {
    let client = |e: Error| Failure::client(&e);
    let mut connection = agent.connect().await.map_err(client)?;
    let fresh = match connection.launch(&pod.name, &holder(pod)).await.map_err(client)? {
        Launched::Started => true,
        Launched::AlreadyThere => {
            let there = connection.inspect(&pod.name).await.map_err(client)?;
            let command = there.command.as_ref().map(|command| &command.arguments[..]).unwrap_or_default();
            if !is_pod(command) {
                let text = format!(
                    "a container is named {} already, and it is no pod: choose another name",
                    pod.name
                );
                return Err(Failure::text(text));
            }
            if there.termination.is_some() {
                let text = format!("pod {0} has ended: remove it first, with `berth pod rm {0}`", pod.name);
                return Err(Failure::text(text));
            }
            say(format_args!("pod {} runs already: its containers are taken over as they are", pod.name));
            false
        }
    };
    for member in &pod.containers {
        let launched = match child(pod, member) {
            Ok(id) => connection.launch(&id, &launch(member)).await.map(drop).map_err(client),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = launched {
            say(format_args!("berth: container {} of pod {} can not be launched", member.name, pod.name));
            if fresh {
                let undone = async {
                    destroy(&mut connection, &pod.name).await?;
                    connection.remove(&pod.name).await
                };
                if let Err(error) = undone.await {
                    say(format_args!("berth: could not remove pod {}: {}", pod.name, chain(&error)));
                }
            }
            return Err(failure);
        }
    }
    Ok(())
}

fn child(pod: &Pod, member: &Member) -> Result<ContainerId, Failure> {
    let id = ContainerId::nested(pod.name.clone(), member.name.clone());
    id.map_err(|e| Failure::text(format!("container {}: {e}", member.name)))
}

/// What holds the pod's namespaces and its limits.
fn holder(pod: &Pod) -> Launch {
    let command = CommandInfo {
        shell: false,
        value: Some("/bin/sh".to_owned()),
        arguments: ["sh", "-c", HOLD, MARK].map(str::to_owned).into(),
        ..CommandInfo::default()
    };
    let network = NetworkInfo { name: Some("none".to_owned()), ..NetworkInfo::default() };
    let container = ContainerInfo {
        hostname: pod.hostname.clone(),
        network_infos: vec![network],
        ..ContainerInfo::default()
    };
    Launch { command, container: Some(container), limits: pod.limits.clone(), ..Launch::default() }
}

fn launch(member: &Member) -> Launch {
    Launch {
        command: member.command.clone(),
        container: Some(member.container.clone()),
        limits: member.limits.clone(),
        ..Launch::default()
    }
}

/// The number of the signal by which this command is asked to end.
async fn asked_to_end(signals: &AsyncFd<BorrowedFd<'_>>) -> u8 {
    loop {
        let Ok(mut ready) = signals.readable().await else { return std::future::pending().await };
        while let Some(number) = berth_sys::signal::next(signals.get_ref()) {
            if ENDING.contains(&number) {
                return u8::try_from(number).unwrap_or(15);
            }
        }
        ready.clear_ready();
    }
}

/// Asks an agent, which may be away for a while.
async fn patiently<T>(
    agent: &Agent,
    ask: impl AsyncFn(&mut Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut told = false;
    loop {
        let asked = async { ask(&mut agent.connect().await?).await };
        match asked.await {
            Err(
                Error::NoAgent { .. }
                | Error::Connect { .. }
                | Error::Lost { .. }
                | Error::Refused { status: 503, .. },
            ) => {
                if !told {
                    say(format_args!("the agent is away; waiting for it"));
                    told = true;
                }
                sleep(LOOK).await;
            }
            other => return other,
        }
    }
}

struct Keeper {
    agent: Agent,
    pod: Pod,
    /// Nothing is started again any more.
    ending: Arc<AtomicBool>,
}

impl Keeper {
    /// Stays until all containers have ended for good, or somebody wants them to.
    async fn keep(self, signals: &AsyncFd<BorrowedFd<'_>>) -> Result<u8, Failure> {
        let mut tasks = JoinSet::new();
        for (at, member) in self.pod.containers.iter().enumerate() {
            let (agent, ending) = (self.agent.clone(), Arc::clone(&self.ending));
            let (id, member) = (child(&self.pod, member)?, member.clone());
            tasks.spawn_local(async move { (at, attend(&agent, &id, &member, &ending).await) });
        }
        let mut codes = vec![0; self.pod.containers.len()];
        let client = |e: Error| Failure::client(&e);
        loop {
            let ended = tokio::select! {
                ended = tasks.join_next() => ended,
                _ = asked_to_end(signals) => {
                    self.ending.store(true, Ordering::SeqCst);
                    say(format_args!("stopping pod {}", self.pod.name));
                    tasks.abort_all();
                    end(&self.agent, &self.pod.name, PATIENCE).await.map_err(client)?;
                    return Ok(0);
                }
            };
            match ended {
                Some(Ok((at, code))) => codes[at] = code.map_err(client)?,
                Some(Err(_)) => {}
                None => break,
            }
        }
        patiently(&self.agent, async |connection| destroy(connection, &self.pod.name).await)
            .await
            .map_err(client)?;
        say(format_args!("pod {} has ended", self.pod.name));
        Ok(codes.into_iter().find(|code| *code != 0).unwrap_or(0))
    }
}

/// Waits for a container's end, and starts it again as long as its rule says so; the code of its last end.
async fn attend(agent: &Agent, id: &ContainerId, member: &Member, ending: &AtomicBool) -> Result<u8, Error> {
    let (mut times, mut delay) = (0, FIRST);
    loop {
        let began = Instant::now();
        let end = match patiently(agent, async |connection| connection.wait(id).await).await {
            // Removed by hand, or gone with its pod.
            Err(error) if error.is_unknown() => return Ok(0),
            other => other?,
        };
        let status = end.exit_status;
        let code = status.map(|status| WaitStatus(status).shell_code());
        let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(crate::exit::OURS);
        let how =
            status.map_or("ended, nobody knows how".to_owned(), |status| WaitStatus(status).to_string());
        if ending.load(Ordering::SeqCst) || !member.restart.again(status, times) {
            say(format_args!("{}: {how}", member.name));
            return Ok(code);
        }
        if began.elapsed() >= STEADY {
            delay = FIRST;
        }
        times += 1;
        say(format_args!("{}: {how}; restart {times} in {} ms", member.name, delay.as_millis()));
        sleep(delay).await;
        delay = (delay * 2).min(LONGEST);
        loop {
            let again = patiently(agent, async |connection| {
                connection.remove(id).await?;
                connection.launch(id, &launch(member)).await
            });
            match again.await {
                Ok(_) => break,
                // The pod has ended.
                Err(error) if error.is_unknown() => return Ok(code),
                Err(error)
                    if error.class() == berth_model::Class::Invalid && member.restart.again(None, times) =>
                {
                    times += 1;
                    say(format_args!(
                        "{}: not started: {}; again in {} ms",
                        member.name,
                        chain(&error),
                        delay.as_millis()
                    ));
                    sleep(delay).await;
                    delay = (delay * 2).min(LONGEST);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
