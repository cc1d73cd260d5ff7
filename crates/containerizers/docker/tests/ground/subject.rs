// SPDX-License-Identifier: Apache-2.0
//! What the suite is told about the Docker containerizer, whatever engine listens.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::OnceLock;

use berth_conformance::{Site, Subject};
use berth_contract::{Error, EventLog};
use berth_docker::{Docker, Settings};
use berth_model::{ContainerType, Parameter};

/// A registry that takes connections and never says a word.
fn silent_registry() -> u16 {
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listener.local_addr().expect("an address").port()
}

/// The containerizer on the engine that listens there.
pub(crate) fn on(site: &Site, socket: PathBuf) -> Subject {
    of(super::settings_at(site, socket))
}

/// The containerizer with these settings.
pub(crate) fn of(settings: Settings) -> Subject {
    let port = silent_registry();
    Subject::new(Docker::new(settings, EventLog::default()).expect("a containerizer"))
        .with_every(|config| config.container_info = Some(super::container()))
        // As with Docker itself, a command begins where its image says.
        .told_by(|script| format!("cd \"$MESOS_SANDBOX\"; {}", script.shell()))
        .with_foreign(|config| {
            if let Some(info) = &mut config.container_info {
                info.r#type = ContainerType::Mesos;
            }
        })
        // Late: the engine has made it when this is found.
        .with_failing(|config| {
            config.command_info.shell = false;
            config.command_info.value = Some("/no/such/program".to_owned());
        })
        .with_stalling(move |config| {
            let docker = config.container_info.as_mut().and_then(|info| info.docker.as_mut());
            docker.expect("every configuration has it").image = format!("127.0.0.1:{port}/never:1");
        })
        .with_unknown(Error::UnknownContainerColon, Some(Error::UnknownContainerColon))
}

/// The first process of a namespace of pids hears no signal that it has no handler for, save SIGKILL: with the host's pids it
/// is as any other.
pub(crate) fn with_the_hosts_pids(subject: Subject) -> Subject {
    subject.with_every(|config| {
        let mut info = super::container();
        let pid = Parameter { key: "pid".to_owned(), value: "host".to_owned() };
        info.docker.as_mut().expect("it is one of Docker").parameters.push(pid);
        config.container_info = Some(info);
    })
}
