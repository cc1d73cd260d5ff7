// SPDX-License-Identifier: Apache-2.0
//! The suite on the native containerizer, with real containers on the host's root file system. Needs root.
//!
//! The isolation is Mesos's default: no pid namespace, so that the first process is an ordinary one which a signal ends.
//! (The first process of a pid namespace ignores what it does not handle, pid_namespaces(7), and no rule about deadly
//! signals can hold for it.)

mod ground;

use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_model::{ContainerInfo, ContainerType};

fn subject(site: &Site) -> Subject {
    if let Some(lacked) = ground::lacked() {
        ground::skip(&lacked);
        // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
        return FakeContainerizer::subject(site);
    }
    let subject = Subject::new(ground::containerizer(site, &["namespaces/pid"]))
        .with_foreign(|config| {
            config.container_info =
                Some(ContainerInfo { r#type: ContainerType::Docker, ..ContainerInfo::default() });
        })
        // Late: the process, its group and its mounts exist when this is found.
        .with_failing(|config| {
            config.command_info.shell = false;
            config.command_info.value = Some("/no/such/program".to_owned());
        });
    if !ground::stalls() {
        return subject;
    }
    subject.with_stalling(|config| {
        config.command_info.shell = false;
        config.command_info.value = Some(ground::program_that_can_not_be_opened());
    })
}

berth_conformance::suite!(subject);
