// SPDX-License-Identifier: Apache-2.0
//! The suite on the Docker containerizer, with a real engine. What can not be kept is in `conformance.txt`.

mod ground;

use std::net::TcpListener;
use std::sync::OnceLock;

use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_contract::{Error, EventLog};
use berth_docker::Docker;
use berth_model::{ContainerType, Parameter};

/// A registry that takes connections and never says a word.
fn silent_registry() -> u16 {
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listener.local_addr().expect("an address").port()
}

fn subject(site: &Site) -> Subject {
    let Some(subject) = on_engine(site) else { return FakeContainerizer::subject(site) };
    subject
}

fn on_engine(site: &Site) -> Option<Subject> {
    // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
    if ground::skipped() {
        return None;
    }
    let settings = ground::settings(site, ground::daemon::shared());
    let port = silent_registry();
    let subject = Subject::new(Docker::new(settings, EventLog::default()).expect("a containerizer"))
        .with_every(|config| config.container_info = Some(ground::container()))
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
        .with_unknown(Error::UnknownContainerColon, Some(Error::UnknownContainerColon));
    Some(subject)
}

/// The first process of a namespace of pids hears no signal that it has no handler for, save SIGKILL: with the host's pids it
/// is as any other.
fn with_the_hosts_pids(site: &Site) -> Subject {
    let subject = subject(site);
    if ground::daemon::lacked().is_some() {
        return subject;
    }
    subject.with_every(|config| {
        let mut info = ground::container();
        let pid = Parameter { key: "pid".to_owned(), value: "host".to_owned() };
        info.docker.as_mut().expect("it is one of Docker").parameters.push(pid);
        config.container_info = Some(info);
    })
}

berth_conformance::suite! {
    subject, but what "../conformance.txt" declares:
        what_a_container_reads_and_writes_can_be_attached_to
        an_attachment_that_goes_disturbs_nothing;
    with_the_hosts_pids: a_deadly_signal_is_in_the_status;
}
