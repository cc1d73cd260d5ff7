// SPDX-License-Identifier: Apache-2.0
//! The suite on LXC: real containers in application mode, of busybox. What can not be kept is in
//! `conformance.txt`.

mod ground;

use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_contract::EventLog;
use berth_lxc::Lxc;
use berth_model::{ContainerInfo, ContainerType, DockerInfo};

fn subject(site: &Site) -> Subject {
    if let Some(lacked) = ground::lacked() {
        ground::skip(&lacked);
        // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
        return FakeContainerizer::subject(site);
    }
    let slow = ground::template(site, "slow", "sleep 1000");
    Subject::new(Lxc::new(ground::settings(site), EventLog::default()).expect("a containerizer"))
        .with_every(ground::clone)
        .with_foreign(|config| {
            config.container_info = Some(ContainerInfo {
                r#type: ContainerType::Docker,
                docker: Some(DockerInfo { image: "busybox".to_owned(), ..DockerInfo::default() }),
                ..ContainerInfo::default()
            });
        })
        // Late: all is made when this is found.
        .with_failing(|config| {
            config.command_info.shell = false;
            config.command_info.value = Some("/no/such/program".to_owned());
        })
        .with_stalling(move |config| {
            let lxc = config.container_info.as_mut().and_then(|info| info.lxc.as_mut());
            let lxc = lxc.expect("a container of LXC");
            (lxc.clone_from, lxc.template) = (None, Some(slow.clone()));
        })
}

berth_conformance::suite! {
    subject, but what "../conformance.txt" declares: a_deadly_signal_is_in_the_status
        what_a_container_reads_and_writes_can_be_attached_to an_attachment_that_goes_disturbs_nothing;
}
