// SPDX-License-Identifier: Apache-2.0
//! `berth execute`: one task, or one group of tasks, on a master's node, and what becomes of it. Flags, output and exit
//! codes are those of mesos-execute (reference 33.13), which scripts know.

mod flags;
mod task;

use std::ffi::OsString;
use std::io::Write as _;
use std::time::Duration;

use berth_client::{Events, MasterClient, MasterError, block_on};
use berth_proto::scheduler::call::{self, Type};
use berth_proto::scheduler::{Call, Event, event};
use berth_proto::v1;
use tokio::time::{Instant, sleep, sleep_until};

use flags::{Flags, Wrong};
use task::Work;

/// How long to wait before a master that is not there is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs `berth execute` with these arguments (without the names of program and command); the exit status.
pub(crate) fn main(arguments: Vec<OsString>) -> u8 {
    if arguments.iter().any(|one| one == "--help" || one == "-h") {
        print(&format!("{}\n", flags::usage()));
        return 0;
    }
    let prepared = Flags::parse(&arguments).and_then(|flags| {
        let work = Work::of(&flags)?;
        Ok((flags, work))
    });
    let (flags, work) = match prepared {
        Ok(prepared) => prepared,
        Err(Wrong { text, usage }) => {
            complain(&text);
            if usage {
                complain(&format!("\n{}", flags::usage()));
            }
            return 1;
        }
    };
    match block_on(Framework::new(flags, work).run()) {
        Ok(code) => code,
        Err(error) => {
            complain(&error.to_string());
            1
        }
    }
}

fn print(text: &str) {
    // Whoever reads it is gone: there is nobody to tell.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn say(text: &str) {
    print(&format!("{}\n", crate::exit::printable_lines(text)));
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", crate::exit::printable_lines(text));
}

/// A framework with one thing to do.
struct Framework {
    flags: Flags,
    work: Work,
    master: MasterClient,
    id: Option<v1::FrameworkId>,
    agent: Option<v1::AgentId>,
    /// Tasks that are not over yet.
    open: Vec<String>,
    kill_at: Option<Instant>,
}

/// How the end was reached.
enum End {
    Over(u8),
    /// The stream ended: the master may come back.
    Lost,
}

impl Framework {
    fn new(flags: Flags, work: Work) -> Framework {
        let credentials = flags.principal.as_deref().zip(flags.secret.as_deref());
        let master = MasterClient::new(&flags.master, flags.encoding, credentials);
        let open = work.names();
        Framework { flags, work, master, id: None, agent: None, open, kill_at: None }
    }

    async fn run(mut self) -> u8 {
        let mut has_complained = false;
        loop {
            let call = Call {
                framework_id: self.id.clone(),
                r#type: Some(Type::Subscribe.into()),
                subscribe: Some(call::Subscribe {
                    framework_info: self.work.framework(&self.flags, self.id.clone()),
                    suppressed_roles: Vec::new(),
                    offer_constraints: None,
                }),
                ..Call::default()
            };
            let ended = match self.master.subscribe(&call).await {
                Ok(events) => self.listen(events).await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(End::Over(code)) => return code,
                Ok(End::Lost) => {}
                Err(error) if error.is_of_the_moment() => {
                    if !std::mem::replace(&mut has_complained, true) {
                        complain(&format!("{error}; trying again"));
                    }
                }
                Err(error) => {
                    complain(&error.to_string());
                    return 1;
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn listen(&mut self, mut events: Events) -> Result<End, MasterError> {
        let stream = events.stream_id().to_owned();
        loop {
            let kill_at = self.kill_at;
            let killing = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.next() => match event? {
                    None => return Ok(End::Lost),
                    Some(event) => {
                        if let Some(code) = self.hear(&stream, event).await? {
                            return Ok(End::Over(code));
                        }
                    }
                },
                () = killing => {
                    self.kill_at = None;
                    self.kill(&stream).await?;
                }
            }
        }
    }

    async fn call(&self, stream: &str, kind: Type, call: Call) -> Result<(), MasterError> {
        let call = Call { framework_id: self.id.clone(), r#type: Some(kind.into()), ..call };
        self.master.call(stream, &call).await
    }

    async fn hear(&mut self, stream: &str, event: Event) -> Result<Option<u8>, MasterError> {
        match event.r#type() {
            event::Type::Subscribed => {
                let Some(subscribed) = event.subscribed else { return Ok(None) };
                say(&format!("Subscribed with ID {}", subscribed.framework_id.value));
                let is_back = self.id.replace(subscribed.framework_id).is_some();
                if is_back && self.agent.is_some() {
                    self.reconcile(stream).await?;
                }
            }
            event::Type::Offers => {
                for offer in event.offers.map(|offers| offers.offers).unwrap_or_default() {
                    self.consider(stream, offer).await?;
                }
            }
            event::Type::Update => {
                let Some(update) = event.update else { return Ok(None) };
                return self.update(stream, update.status).await;
            }
            event::Type::Error => {
                let message = event.error.map(|error| error.message).unwrap_or_default();
                complain(&format!("Received an ERROR event: {message}"));
                return Ok(Some(1));
            }
            _ => {}
        }
        Ok(None)
    }

    async fn consider(&mut self, stream: &str, offer: v1::Offer) -> Result<(), MasterError> {
        let offer_ids = vec![offer.id.clone()];
        if self.agent.is_some() || !self.work.fits(&offer) {
            let decline = call::Decline { offer_ids, filters: None };
            return self
                .call(stream, Type::Decline, Call { decline: Some(decline), ..Call::default() })
                .await;
        }
        let agent = offer.agent_id.clone();
        let id = self.id.clone().unwrap_or_default();
        let accept =
            call::Accept { offer_ids, operations: vec![self.work.operation(&agent, &id)], filters: None };
        self.call(stream, Type::Accept, Call { accept: Some(accept), ..Call::default() }).await?;
        say(&format!("{} to agent '{}'", self.work.submitted(), agent.value));
        self.agent = Some(agent);
        self.call(stream, Type::Suppress, Call::default()).await
    }

    /// What became of the tasks while the master was away.
    async fn reconcile(&self, stream: &str) -> Result<(), MasterError> {
        let asked = |name: &String| call::reconcile::Task {
            task_id: v1::TaskId { value: name.clone() },
            agent_id: self.agent.clone(),
        };
        let reconcile = call::Reconcile { tasks: self.open.iter().map(asked).collect() };
        self.call(stream, Type::Reconcile, Call { reconcile: Some(reconcile), ..Call::default() }).await
    }

    async fn update(&mut self, stream: &str, status: v1::TaskStatus) -> Result<Option<u8>, MasterError> {
        say(&told(&status));
        if let (Some(uuid), Some(agent_id)) = (&status.uuid, &status.agent_id) {
            let acknowledge = call::Acknowledge {
                agent_id: agent_id.clone(),
                task_id: status.task_id.clone(),
                uuid: uuid.clone(),
            };
            let call = Call { acknowledge: Some(acknowledge), ..Call::default() };
            self.call(stream, Type::Acknowledge, call).await?;
        }
        use v1::TaskState as State;
        match status.state() {
            State::TaskRunning => {
                if let Some(after) = self.flags.kill_after.take() {
                    self.kill_at = Some(Instant::now() + after);
                }
            }
            State::TaskFinished
            | State::TaskFailed
            | State::TaskKilled
            | State::TaskLost
            | State::TaskError
            | State::TaskDropped
            | State::TaskGone
            | State::TaskGoneByOperator => self.open.retain(|name| *name != status.task_id.value),
            _ => {}
        }
        Ok(self.open.is_empty().then_some(0))
    }

    async fn kill(&mut self, stream: &str) -> Result<(), MasterError> {
        let Some(agent) = self.agent.clone() else { return Ok(()) };
        for name in self.open.clone() {
            let kill = call::Kill {
                task_id: v1::TaskId { value: name.clone() },
                agent_id: Some(agent.clone()),
                kill_policy: None,
            };
            self.call(stream, Type::Kill, Call { kill: Some(kill), ..Call::default() }).await?;
            say(&format!("Asked to kill task '{name}' on agent '{}'", agent.value));
        }
        Ok(())
    }
}

/// A report, as mesos-execute prints it.
fn told(status: &v1::TaskStatus) -> String {
    let mut lines = vec![format!(
        "Received status update {} for task '{}'",
        status.state().as_str_name(),
        status.task_id.value
    )];
    if let Some(message) = &status.message {
        lines.push(format!("  message: '{message}'"));
    }
    if status.source.is_some() {
        lines.push(format!("  source: {}", status.source().as_str_name()));
    }
    if status.reason.is_some() {
        lines.push(format!("  reason: {}", status.reason().as_str_name()));
    }
    if let Some(healthy) = status.healthy {
        lines.push(format!("  healthy?: {}", u8::from(healthy)));
    }
    if let Some(check) = &status.check_status {
        lines.push(format!("  check status: {}", one_line(&berth_proto::text(check))));
    }
    if let Some(limitation) = &status.limitation {
        lines.push(format!("  resource limit violation: {}", one_line(&berth_proto::text(limitation))));
    }
    lines.join("\n")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
