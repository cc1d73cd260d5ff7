// SPDX-License-Identifier: Apache-2.0
//! The suite on the external containerizer, with the example in Python as its program: real processes, and the protocol
//! between them. What can not be kept is in `conformance.txt`.

mod ground;

use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_contract::EventLog;
use berth_external::External;
use berth_model::{ContainerInfo, ContainerType, DockerInfo, Uri};

fn subject(site: &Site) -> Subject {
    if let Some(lacked) = ground::lacked() {
        ground::skip(&lacked);
        // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
        return FakeContainerizer::subject(site);
    }
    let mut settings = ground::settings(site, ground::example());
    settings.not_supported_status = Some(3);
    let pipe = ground::aside(site).join("never-written");
    let made = std::process::Command::new("mkfifo").arg("-m").arg("600").arg(&pipe).output();
    assert!(made.is_ok() && pipe.exists(), "mkfifo: {made:?}");
    Subject::new(External::new(settings, EventLog::default()).expect("a containerizer"))
        .with_foreign(|config| {
            config.container_info = Some(ContainerInfo {
                r#type: ContainerType::Docker,
                docker: Some(DockerInfo { image: "busybox".to_owned(), ..DockerInfo::default() }),
                ..ContainerInfo::default()
            });
        })
        // Late: the keeper of the container is there when this is found.
        .with_failing(|config| {
            config.command_info.shell = false;
            config.command_info.value = Some("/no/such/program".to_owned());
        })
        // The program opens what it fetches, and nobody ever writes to this.
        .with_stalling(move |config| {
            config.command_info.uris.push(Uri { value: pipe.display().to_string(), ..Uri::default() });
        })
}

berth_conformance::suite! {
    subject, but what "../conformance.txt" declares:
        kill_delivers_the_signal
        a_deadly_signal_is_in_the_status
        the_pid_is_checkpointed
        a_running_container_outlives_the_containerizer;
}
