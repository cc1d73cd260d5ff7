// SPDX-License-Identifier: Apache-2.0
//! The suite by way of the command line client (`--docker`): each connection is a `docker system dial-stdio`. What can not be
//! kept is what can not be with the socket: `conformance.txt`.

mod ground;

use std::path::PathBuf;

use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_docker::Settings;

/// As an operator would write it.
fn by_client(site: &Site) -> Settings {
    let client = Some(PathBuf::from("/usr/bin/docker"));
    Settings { client, ..ground::settings_at(site, ground::daemon::shared().socket()) }
}

fn subject(site: &Site) -> Subject {
    // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
    if ground::skipped() {
        return FakeContainerizer::subject(site);
    }
    ground::subject::of(by_client(site))
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

#[test]
fn a_client_that_does_not_work_is_said_to_be_the_reason() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("noclient").unwrap();
    for (client, why) in [
        ("/nowhere/docker", "--docker=/nowhere/docker: No such file or directory"),
        ("/bin/false", "--docker=/bin/false: it ended with exit status: 1"),
    ] {
        let settings = Settings { client: Some(PathBuf::from(client)), ..by_client(&site) };
        let docker = ground::recovered(settings);
        let id = ground::id(&format!("{}-x", site.marker()));
        let config = ground::config(&site, &id, "true");
        let refused = ground::launch(&docker, &id, config);
        let text = refused.unwrap_err().chain();
        assert!(text.contains(why), "{text}");
        ground::clear(&docker, &id);
    }
}
