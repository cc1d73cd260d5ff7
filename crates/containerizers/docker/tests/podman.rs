// SPDX-License-Identifier: Apache-2.0
//! The suite on podman's service, which speaks the same API. What can not be kept is in `conformance-podman.txt`.

mod ground;

use std::fs;

use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_contract::{Containerizer, Limits};
use ground::{clear, ended, good, id, launch, podman, recovered, start, until};

fn skipped() -> bool {
    let Some(lacked) = podman::lacked() else { return false };
    berth_testing::skip(std::thread::current().name().unwrap_or("a test"), &lacked);
    true
}

fn subject(site: &Site) -> Subject {
    // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
    if skipped() {
        return FakeContainerizer::subject(site);
    }
    ground::subject::on(site, podman::shared().socket())
}

fn with_the_hosts_pids(site: &Site) -> Subject {
    match podman::lacked() {
        Some(_) => subject(site),
        None => ground::subject::with_the_hosts_pids(subject(site)),
    }
}

berth_conformance::suite! {
    subject, but what "../conformance-podman.txt" declares:
        what_a_container_reads_and_writes_can_be_attached_to
        an_attachment_that_goes_disturbs_nothing
        a_failed_launch_leaves_only_its_record_and_destroy_clears_it;
    with_the_hosts_pids: a_deadly_signal_is_in_the_status;
}

#[test]
fn what_it_writes_is_in_the_sandbox_byte_for_byte_over_containerizers_that_die() {
    if skipped() {
        return;
    }
    let site = Site::new("output").unwrap();
    let own = id(&format!("{}-o", site.marker()));
    // Hundreds of lines have one time, as podman tells it; long lines come in parts, and the last has no end.
    let text = "cd $MESOS_SANDBOX; head -c 100000 /dev/zero | tr '\\0' x; echo; n=0; \
                while [ $n -lt 3000 ]; do echo out $n; echo err $n >&2; n=$((n+1)); done; printf end";
    let config = ground::config(&site, &own, text);
    let said = |name: &str| fs::read_to_string(config.directory.join(name)).unwrap_or_default();
    let settings = || ground::settings_at(&site, podman::shared().socket());
    let mut docker = recovered(settings());
    start(&docker, &own, config.clone());
    for _ in 0..3 {
        let before = said("stdout").len();
        until("it goes on", || {
            (said("stdout").len() > before || said("stdout").ends_with("end")).then_some(())
        });
        drop(docker);
        docker = recovered(settings());
    }
    assert_eq!(ended(&docker, &own).status, Some(0));
    let lines = |stream: &str| (0..3000).map(|n| format!("{stream} {n}\n")).collect::<String>();
    assert!(said("stdout") == format!("{}\n{}end", "x".repeat(100_000), lines("out")), "stdout differs");
    assert!(said("stderr") == lines("err"), "stderr differs");
    clear(&docker, &own);
}

#[test]
fn a_launch_that_fails_leaves_nothing_at_podman_and_its_id_can_be_used_again() {
    if skipped() {
        return;
    }
    let site = Site::new("failed").unwrap();
    let docker = recovered(ground::settings_at(&site, podman::shared().socket()));
    let own = id(&format!("{}-f", site.marker()));
    let mut config = ground::config(&site, &own, "");
    config.command_info.shell = false;
    config.command_info.value = Some("/no/such/program".to_owned());
    let error = launch(&docker, &own, config).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let name = format!("name=mesos-{}", own.value());
    assert_eq!(podman::shared().says(&["ps", "-a", "-q", "--filter", &name]), "");
    until("its conmon has gone", || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let mut lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let named = format!("mesos-{}", own.value());
        (!lines.any(|line| String::from_utf8_lossy(&line).contains(&named))).then_some(())
    });
    good(docker.destroy(&own));
    good(docker.remove(&own));
    let config = ground::config(&site, &own, "exit 4");
    start(&docker, &own, config);
    assert_eq!(ended(&docker, &own).status, Some(4 << 8));
    clear(&docker, &own);
}

#[test]
fn the_user_and_the_limits_that_were_asked_for_are_in_force() {
    if skipped() {
        return;
    }
    let site = Site::new("limits").unwrap();
    let docker = recovered(ground::settings_at(&site, podman::shared().socket()));
    let own = id(&format!("{}-l", site.marker()));
    let mut config = ground::config(&site, &own, "id -u; exec sleep 1000");
    config.user = Some("app".to_owned());
    config.resources = berth_model::resources::from_flag("cpus:0.5;mem:64", "*").unwrap().resources;
    config.limits = Limits::from([("cpus".to_owned(), 1.0)]);
    start(&docker, &own, config.clone());
    until("it says who it is", || {
        (fs::read_to_string(config.directory.join("stdout")).unwrap_or_default() == "1234\n").then_some(())
    });
    let usage = good(docker.usage(&own));
    assert_eq!((usage.cpus_limit, usage.mem_limit_bytes), (Some(1.0), Some(64 << 20)));
    let resources = berth_model::resources::from_flag("cpus:1;mem:64", "*").unwrap().resources;
    good(docker.update(&own, resources, Limits::from([("mem".to_owned(), 256.0)])));
    let usage = good(docker.usage(&own));
    assert_eq!((usage.cpus_limit, usage.mem_limit_bytes), (None, Some(256 << 20)));
    clear(&docker, &own);
}
