// SPDX-License-Identifier: Apache-2.0
//! The suite on the Docker containerizer, with a real engine. What can not be kept is in `conformance.txt`.

mod ground;

use berth_conformance::{FakeContainerizer, Site, Subject};

fn subject(site: &Site) -> Subject {
    // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
    if ground::skipped() {
        return FakeContainerizer::subject(site);
    }
    ground::subject::on(site, ground::daemon::shared().socket())
}

fn with_the_hosts_pids(site: &Site) -> Subject {
    match ground::daemon::lacked() {
        Some(_) => subject(site),
        None => ground::subject::with_the_hosts_pids(subject(site)),
    }
}

berth_conformance::suite! {
    subject, but what "../conformance.txt" declares:
        what_a_container_reads_and_writes_can_be_attached_to
        an_attachment_that_goes_disturbs_nothing;
    with_the_hosts_pids: a_deadly_signal_is_in_the_status;
}
