// SPDX-License-Identifier: Apache-2.0
//! What needs an agent and a terminal: `run --detach`, `run --socket`, `exec`, `attach`.

use crate::attach::Signals;
use crate::cli::{Attach, Exec, Global, Pull, Run};
use crate::exit::{Failure, say};
use crate::find::{self, Places, agents_only};
use crate::keys::Keys;
use crate::options;
use crate::session::{Output, Parting, Terms, stay};
use crate::text::show;
use berth_client::{Agent, Connection, Error, Launch, Launched, LogRequest, block_on};
use berth_model::{CommandInfo, ContainerId, ContainerInfo};
use std::io::IsTerminal;

/// What docker says when its keys were typed.
const DETACHED: &str = "read escape sequence";

/// `run` by the agent.
pub(crate) fn run(global: &Global, args: &Run) -> Result<u8, Failure> {
    let security = options::security(&args.security_opt)?;
    refuse(args, security.no_new_privileges)?;
    if args.tty && args.interactive && !args.detach {
        terminal()?;
    }
    let keys = Keys::parse(args.detach_keys.as_deref())?;
    let id = options::id(args)?;
    let mut config = options::config(args, &security)?;
    crate::technology::choose(args, &mut config)?;
    let mut launch = Launch {
        command: config.command_info,
        container: config.container_info,
        resources: config.resources,
        limits: config.limits,
    };
    launch.command.user = config.user;
    launch.command.environment.variables.extend(crate::logging::variables(args)?);
    launch.command.working_directory = args.workdir.clone();
    if args.tty {
        default_term(&mut launch.command);
    }
    let agent = find::agent(global);
    if args.detach {
        let launched = block_on(async { agent.connect().await?.launch(&id, &launch).await });
        came_up(launched.and_then(|launched| launched), &id)?;
        show(&format!("{id}\n"));
        return Ok(0);
    }
    let signals = Signals::block()?;
    let terms = Terms { interactive: args.interactive, tty: args.tty, keys, proxy: true, end_input: true };
    let run = async {
        let mut connection = agent.connect().await.map_err(|e| Failure::client(&e))?;
        let launched = match launch.command.uris.is_empty() {
            true => connection.launch(&id, &launch).await,
            false => crate::fetch::launch(&agent, &mut connection, &id, &launch, &signals).await?,
        };
        came_up(launched, &id)?;
        // What it wrote before anybody listened is kept.
        let request = LogRequest { follow: true, ..LogRequest::default() };
        let output = agent.logs(&id, request).await.map_err(|e| Failure::client(&e))?;
        let parting = stay(&agent, &id, Output::Kept(output), terms, &signals).await?;
        if let (Parting::Ended(_), true) = (&parting, args.rm)
            && let Err(error) = remove(&agent, &id).await
        {
            say(format_args!("berth: could not remove {id}: {}", crate::exit::chain(&error)));
        }
        Ok(parting)
    };
    match block_on(run).map_err(|e| Failure::client(&e))?? {
        Parting::Ended(code) => Ok(code),
        Parting::Detached => {
            say(format_args!("{DETACHED}"));
            Ok(0)
        }
    }
}

async fn remove(agent: &Agent, id: &ContainerId) -> Result<(), Error> {
    agent.connect().await?.remove(id).await
}

/// What the agent can not be told is refused, before anything is made.
fn refuse(args: &Run, no_new_privileges: bool) -> Result<(), Failure> {
    let refused = [
        (args.rootfs.is_some(), "--rootfs", "its containers have images, or the host's root file system"),
        (args.pull == Some(Pull::Never), "--pull never", "it pulls what it lacks"),
        (args.platform.is_some(), "--platform", "its images are for its own machine"),
        (args.init, "--init", "run an init as the command"),
        (!no_new_privileges, "no-new-privileges=false", "that is its own option, --isolation"),
        (args.rm && args.detach, "--rm with --detach", "it keeps what has ended until `berth rm`"),
    ];
    match refused.iter().find(|(given, ..)| *given) {
        Some((_, what, why)) => Err(Failure::text(format!(
            "{what} can not be had from the agent: {why}; or run it without an agent"
        ))),
        None => Ok(()),
    }
}

fn came_up(launched: Result<Launched, Error>, id: &ContainerId) -> Result<(), Failure> {
    match launched {
        Ok(Launched::Started) => Ok(()),
        Ok(Launched::AlreadyThere) => Err(Failure::text(format!(
            "container {id} exists already: choose another --name, or remove it with `berth rm {id}`"
        ))),
        Err(error) => Err(failed(&error)),
    }
}

/// A program that can not be executed has a code of its own.
fn failed(error: &Error) -> Failure {
    let failure = Failure::client(error);
    match error.execute_code() {
        Some(code) => failure.code(code),
        None => failure,
    }
}

fn terminal() -> Result<(), Failure> {
    match std::io::stdin().is_terminal() {
        true => Ok(()),
        false => {
            Err(Failure::text("the input device is not a terminal: leave -t away, or run it from a terminal"))
        }
    }
}

/// A terminal has a kind, unless somebody gave another.
fn default_term(command: &mut CommandInfo) {
    let variables = &mut command.environment.variables;
    if variables.iter().all(|variable| variable.name != "TERM") {
        let value = Some("xterm".to_owned());
        variables.push(berth_model::Variable { name: "TERM".into(), value, ..Default::default() });
    }
}

/// A further command in a container.
pub(crate) fn exec(global: &Global, args: &Exec) -> Result<u8, Failure> {
    if args.tty && args.interactive {
        terminal().map_err(|e| e.code(1))?;
    }
    let keys = Keys::parse(args.detach_keys.as_deref()).map_err(|e| e.code(1))?;
    let leaf = options::random_id()?;
    let mut command = CommandInfo {
        shell: false,
        value: args.command.first().cloned(),
        arguments: args.command.clone(),
        user: args.user.clone(),
        working_directory: args.workdir.clone(),
        ..CommandInfo::default()
    };
    command.environment.variables = options::variables(&args.env_file, &args.env).map_err(|e| e.code(1))?;
    if args.tty {
        default_term(&mut command);
    }
    let container =
        args.tty.then(|| ContainerInfo { tty_info: Some(options::tty_info()), ..Default::default() });
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let signals = Signals::block()?;
    let terms = Terms { interactive: args.interactive, tty: args.tty, keys, proxy: true, end_input: true };
    let run = async {
        let there = async |_: &mut Connection, parent: &ContainerId| {
            let id = nested(parent, &leaf);
            match places.agent.session(&id, &command, container.as_ref()).await {
                Ok(output) => Ok(Ok((id, output))),
                // The words of a launch, and not that there is no such container.
                Err(error) if error.execute_code().is_some() => Ok(Err(error)),
                Err(error) => Err(error),
            }
        };
        let here = async |_: &_, name: &str| Err(agents_only("execute in", name));
        let started = places.at(&args.name, here, there).await.map_err(|e| e.code(1))?;
        let (id, output) = started.map_err(|error| failed(&error))?;
        let taken = || Failure::text(format!("session {id} exists already: try again")).code(1);
        let output = Output::Live(output.ok_or_else(taken)?);
        let parting = stay(&places.agent, &id, output, terms, &signals).await;
        // A session that has ended leaves nothing but its record; who does not know it any more has none.
        let _ = remove(&places.agent, &id).await;
        parting.map_err(|e| e.code(1))
    };
    match block_on(run).map_err(|e| Failure::client(&e).code(1))?? {
        Parting::Ended(code) => Ok(code),
        Parting::Detached => {
            say(format_args!("{DETACHED}: the command ends with its session"));
            Ok(1)
        }
    }
}

/// Both are well formed; one that is too deep is refused by the agent.
fn nested(parent: &ContainerId, leaf: &ContainerId) -> ContainerId {
    ContainerId::nested(parent.clone(), leaf.value()).unwrap_or_else(|_| parent.clone())
}

/// This terminal on a container that runs.
pub(crate) fn attach(global: &Global, args: &Attach) -> Result<u8, Failure> {
    let keys = Keys::parse(args.detach_keys.as_deref()).map_err(|e| e.code(1))?;
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let signals = Signals::block()?;
    let run = async {
        let there = async |connection: &mut Connection, id: &ContainerId| {
            let output = places.agent.attach_output(id).await?;
            let inspection = connection.inspect(id).await?;
            let tty = inspection.container.is_some_and(|container| container.tty_info.is_some());
            Ok((id.clone(), output, tty))
        };
        let here = async |_: &_, name: &str| Err(agents_only("attach to", name));
        let (id, output, tty) = places.at(&args.name, here, there).await?;
        let interactive = !args.no_stdin;
        let terms = Terms { interactive, tty, keys, proxy: args.sig_proxy, end_input: false };
        stay(&places.agent, &id, Output::Live(output), terms, &signals).await
    };
    let parting = block_on(run).map_err(|e| Failure::client(&e)).and_then(|parting| parting);
    match parting.map_err(|e| e.code(1))? {
        Parting::Ended(code) => Ok(code),
        Parting::Detached => {
            say(format_args!("{DETACHED}"));
            Ok(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_can_not_be_told_is_refused_by_name() {
        let refused = |args: Run| refuse(&args, true).map_err(|failure| format!("{failure:?}"));
        let rootfs = refused(Run { rootfs: Some("/r".into()), ..Run::default() }).unwrap_err();
        assert!(rootfs.contains("--rootfs can not be had from the agent"), "{rootfs}");
        assert!(refused(Run { rm: true, detach: true, ..Run::default() }).is_err());
        assert!(refused(Run { rm: true, ..Run::default() }).is_ok());
        assert!(refuse(&Run::default(), false).is_err());
    }

    #[test]
    fn a_terminal_is_an_xterm_unless_somebody_says_otherwise() {
        let mut command = CommandInfo::default();
        default_term(&mut command);
        default_term(&mut command);
        assert_eq!(command.environment.variables.len(), 1);
        assert_eq!(command.environment.variables[0].value.as_deref(), Some("xterm"));
    }
}
