// SPDX-License-Identifier: Apache-2.0
//! The agent's API, for tests that are no event loops: each question on a connection of its own, answered when it
//! returns.

use crate::until;
use berth_client::{Agent, Connection, Error, Input, Launch, Launched, LogRequest, Records, block_on};
use berth_model::{CommandInfo, ContainerId, ContainerInfo, ContainerType, TtyInfo, WaitStatus, WindowSize};
use berth_proto::agent::ProcessIo;
use berth_proto::agent::response::WaitContainer;
use berth_proto::{convert, own};
use std::collections::BTreeMap;
use std::path::Path;

/// The API of one agent.
#[derive(Debug, Clone)]
pub struct Api(Agent);

/// What is wanted of a container.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// A line for the shell.
    pub script: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Its limits.
    pub limits: BTreeMap<String, f64>,
}

/// A container that runs a line of the shell, within limits on memory, processors and processes.
pub fn shell(script: impl Into<String>) -> Wanted {
    let limits = [("mem", 64.0), ("cpus", 1.0), ("pids", 64.0)];
    let limits = limits.map(|(name, value)| (name.to_owned(), value)).into();
    Wanted { script: script.into(), terminal: false, limits }
}

fn id(name: &str) -> ContainerId {
    name.parse().unwrap_or_else(|e| panic!("{name} is no id: {e}"))
}

fn command(script: &str) -> CommandInfo {
    CommandInfo { value: Some(script.to_owned()), ..CommandInfo::default() }
}

fn with_terminal() -> ContainerInfo {
    let window_size = Some(WindowSize { rows: 24, columns: 80 });
    ContainerInfo { tty_info: Some(TtyInfo { window_size }), ..ContainerInfo::default() }
}

/// Runs what asks.
fn ask<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    block_on(question).and_then(|answer| answer)
}

impl Api {
    /// That of the agent on this socket.
    pub fn at(socket: &Path) -> Api {
        Api(Agent::at(socket))
    }

    /// Asks, in any words of the client's, on a connection of its own.
    ///
    /// # Errors
    /// It was not answered, or refused; so for all questions.
    pub fn on<T>(&self, ask_it: impl AsyncFnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        ask(async { ask_it(&mut self.0.connect().await?).await })
    }

    /// Launches a container.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn launch(&self, name: &str, wanted: &Wanted) -> Result<Launched, Error> {
        let launch = Launch {
            command: command(&wanted.script),
            container: wanted.terminal.then(with_terminal),
            limits: wanted.limits.clone(),
            ..Launch::default()
        };
        self.on(async |c| c.launch(&id(name), &launch).await)
    }

    /// Launches a container of the external containerizer.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn launch_external(&self, name: &str, script: &str) -> Result<Launched, Error> {
        let kind = ContainerInfo { r#type: ContainerType::External, ..ContainerInfo::default() };
        let launch = Launch { command: command(script), container: Some(kind), ..Launch::default() };
        self.on(async |c| c.launch(&id(name), &launch).await)
    }

    /// Waits for a container's end; as a shell has it, none when nobody knows.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn code(&self, name: &str) -> Result<Option<i32>, Error> {
        Ok(self.wait(name)?.exit_status.map(|status| WaitStatus(status).shell_code()))
    }

    /// Waits for a container's end.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn wait(&self, name: &str) -> Result<WaitContainer, Error> {
        self.on(async |c| c.wait(&id(name)).await)
    }

    /// Sends a container a signal.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn kill(&self, name: &str, signal: i32) -> Result<(), Error> {
        self.on(async |c| c.kill(&id(name), signal).await)
    }

    /// Removes what is kept of a container.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.on(async |c| c.remove(&id(name)).await)
    }

    /// Ends a container, and removes it.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn destroy(&self, name: &str) -> Result<(), Error> {
        self.on(async |c| {
            let at = id(name);
            match c.kill(&at, 9).await {
                Err(error) if !error.is_unknown() => return Err(error),
                _ => {}
            }
            c.wait(&at).await?;
            c.remove(&at).await
        })
    }

    /// All that is known of a container.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn inspect(&self, name: &str) -> Result<own::Inspection, Error> {
        self.on(async |c| c.inspect(&id(name)).await)
    }

    /// The same, with all that is known of one that runs: what is late is left out of an inspection, on a busy machine.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn inspect_whole(&self, name: &str) -> Result<own::Inspection, Error> {
        let mut inspection = self.inspect(name)?;
        let is_late = |it: &own::Inspection| {
            let runs = it.state.as_ref().is_some_and(|state| state.name == "RUNNING");
            runs && it.termination.is_none() && it.pids.is_empty()
        };
        while is_late(&inspection) {
            inspection = self.inspect(name)?;
        }
        Ok(inspection)
    }

    /// The name of the state that a container is in.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn state(&self, name: &str) -> Result<String, Error> {
        Ok(self.inspect(name)?.state.map(|state| state.name).unwrap_or_default())
    }

    /// A container's first process, as the host numbers it.
    ///
    /// # Panics
    /// It has none.
    #[track_caller]
    pub fn pid(&self, name: &str) -> u32 {
        let mut pid = None;
        // What is late is left out of an inspection, on a busy machine.
        until(&format!("the process of {name} is told"), || {
            let inspection = self.inspect(name).unwrap_or_else(|e| panic!("inspect {name}: {e}"));
            pid = inspection.status.and_then(|status| status.executor_pid);
            pid.is_some()
        });
        pid.expect("it was waited for")
    }

    /// The ids of the containers that live, sessions too, sorted.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn living(&self) -> Result<Vec<String>, Error> {
        let containers = self.on(async |c| c.containers().await)?;
        let whole = |container: berth_proto::agent::response::get_containers::Container| {
            let status = container.container_status.and_then(|status| status.container_id);
            convert::container_id(&status.unwrap_or(container.container_id)).map(|id| id.to_string())
        };
        let mut ids: Vec<String> = containers.into_iter().filter_map(|c| whole(c).ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// The ids of all containers that the agent has anything of, sorted.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn all(&self) -> Result<Vec<String>, Error> {
        let mut ids = self.living()?;
        let kept = self.on(async |c| c.kept().await)?;
        ids.extend(kept.iter().filter_map(|id| convert::container_id(id).ok()).map(|id| id.to_string()));
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// What a container wrote up to now: out, err.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn logs(&self, name: &str) -> Result<(String, String), Error> {
        ask(async {
            let mut records = self.0.logs(&id(name), LogRequest::default()).await?;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            while let Some(chunk) = records.next().await? {
                let to = if chunk.stream() == own::Stream::Stderr { &mut err } else { &mut out };
                to.extend_from_slice(chunk.data.as_deref().unwrap_or_default());
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok((text(&out), text(&err)))
        })
    }

    /// Waits until a container has written this.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wrote(&self, name: &str, words: &str) {
        until(&format!("{name} writes {words:?}"), || {
            self.logs(name).is_ok_and(|(out, _)| out.contains(words))
        });
    }

    /// Begins a session, and passes it on to `with` when its command has written something.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn session<T>(
        &self,
        name: &str,
        wanted: &Wanted,
        with: impl AsyncFnOnce(Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        ask(async {
            let container = wanted.terminal.then(with_terminal);
            let command = command(&wanted.script);
            let begun = self.0.session(&id(name), &command, container.as_ref()).await?;
            let mut output = begun.unwrap_or_else(|| panic!("a session {name} is there already"));
            let first = output.next().await?.map(|io| written(&io)).unwrap_or_default();
            with(Session { output, first }).await
        })
    }

    /// Attaches both ways, tells a size, and leaves.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub fn attach_and_resize(&self, name: &str, rows: u16, columns: u16) -> Result<(), Error> {
        ask(async {
            let at = id(name);
            let output = self.0.attach_output(&at).await?;
            let (input, mut answer): (Input, _) = self.0.attach_input(&at).await?;
            input.resize(rows, columns).await;
            // The end of the request: the agent has heard all of it when it answers.
            drop(input);
            answer.wait().await?;
            drop(output);
            Ok(())
        })
    }
}

/// A command in a container, as long as it is kept.
#[derive(Debug)]
pub struct Session {
    output: Records<ProcessIo>,
    /// What it wrote first.
    pub first: String,
}

impl Session {
    /// What it writes until its end.
    ///
    /// # Errors
    /// As [`Api::on`].
    pub async fn rest(mut self) -> Result<String, Error> {
        let mut all = self.first;
        while let Some(io) = self.output.next().await? {
            all += &written(&io);
        }
        Ok(all)
    }
}

fn written(io: &ProcessIo) -> String {
    let data = io.data.as_ref().and_then(|data| data.data.as_deref());
    String::from_utf8_lossy(data.unwrap_or_default()).into_owned()
}
