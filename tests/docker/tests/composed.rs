// SPDX-License-Identifier: Apache-2.0
//! Several real technologies in one containerizer, in the operator's order: whatever a single one promises, they promise
//! together. The suite runs on Docker's containers with `mesos,docker,lxc,external`, and on native ones with
//! `lxc,mesos,docker`; a container of each kind goes to its own in both.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../../../crates/containerizers/docker/tests/ground/daemon.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod daemon;
#[path = "../../../crates/containerizers/mesos/tests/ground/mod.rs"]
mod native;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use berth_composing::{ComposingContainerizer, Strict};
use berth_conformance::ask::{clear, config, ended, good, id, start};
use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_contract::{Containerizer, Error, EventLog};
use berth_model::{ContainerConfig, ContainerInfo, ContainerType, DockerInfo, LxcInfo};

/// What this host lacks, if anything.
fn lacked() -> Option<String> {
    let there = |path: &str| Path::new(path).exists();
    let lxc = there("/usr/bin/lxc-start") && there("/usr/share/lxc/templates/lxc-busybox");
    let lxc = (!lxc).then(|| "lxc and lxc-templates".to_owned());
    let python = (!there("/usr/bin/python3")).then(|| "python3".to_owned());
    native::lacked().or_else(daemon::lacked).or(lxc).or(python)
}

fn skipped() -> bool {
    let Some(lacked) = lacked() else { return false };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    berth_testing::skip(&test, &lacked);
    true
}

/// A container of busybox that is cloned: what a template made would be kept, and the suite wants the host as it was.
fn lxc_path() -> &'static Path {
    static PLACE: OnceLock<std::path::PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = daemon::shared().root().join("lxc");
        std::fs::create_dir_all(&place).unwrap();
        let mut create = Command::new("lxc-create");
        create.arg(format!("--lxcpath={}", place.display()));
        create.args(["--name=busybox", "--template=busybox", "--config=/dev/null"]);
        let done = create.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        place
    })
}

fn child(site: &Site, name: &str, events: &EventLog) -> Arc<dyn Containerizer> {
    match name {
        "mesos" => Arc::new(native::containerizer(site, &["namespaces/pid"]).publishing(events)),
        "docker" => {
            let settings = berth_docker::Settings {
                socket: daemon::shared().socket(),
                ..berth_docker::Settings::new(site.runtime_dir(), site.work_dir())
            };
            Arc::new(berth_docker::Docker::new(settings, events.clone()).unwrap())
        }
        "lxc" => {
            let cgroup = site.cgroup().join("lxc").display().to_string();
            let mut settings = berth_lxc::Settings::new(site.runtime_dir(), site.work_dir(), cgroup);
            settings.lxc_path = lxc_path().to_owned();
            Arc::new(berth_lxc::Lxc::new(settings, events.clone()).unwrap())
        }
        _ => {
            let mut settings = berth_external::Settings::new(site.runtime_dir(), site.work_dir());
            let example =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/external-containerizer.py");
            settings.path = Some(format!("/usr/bin/python3 -BSE {}", example.display()));
            settings.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
            Arc::new(berth_external::External::new(settings, events.clone()).unwrap())
        }
    }
}

const FIRST: [&str; 4] = ["mesos", "docker", "lxc", "external"];
const SECOND: [&str; 3] = ["lxc", "mesos", "docker"];

fn composed(site: &Site, order: &[&str]) -> ComposingContainerizer {
    let events = EventLog::default();
    let children = order.iter().map(|name| child(site, name, &events)).collect();
    ComposingContainerizer::new(children, events, Strict::Yes).unwrap()
}

fn subject(site: &Site, order: &[&str]) -> Subject {
    if skipped() {
        // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
        return FakeContainerizer::subject(site);
    }
    Subject::new(composed(site, order))
        .with_failing(|config| {
            config.command_info.shell = false;
            config.command_info.value = Some("/no/such/program".to_owned());
        })
        .with_unknown(|_| Error::ContainerNotFound, Some(|_| Error::ContainerNotFound))
        .with_unknown_root(Error::RootNotFound)
}

fn of_docker(config: &mut ContainerConfig) {
    config.container_info = Some(ContainerInfo {
        r#type: ContainerType::Docker,
        docker: Some(DockerInfo { image: daemon::IMAGE.to_owned(), ..DockerInfo::default() }),
        ..ContainerInfo::default()
    });
}

fn of_lxc(config: &mut ContainerConfig) {
    config.container_info = Some(ContainerInfo {
        r#type: ContainerType::Lxc,
        lxc: Some(LxcInfo { clone_from: Some("busybox".to_owned()), ..LxcInfo::default() }),
        ..ContainerInfo::default()
    });
}

mod mesos_docker_lxc_external {
    use super::*;

    fn subject(site: &Site) -> Subject {
        super::subject(site, &FIRST)
            .with_every(of_docker)
            // As with Docker itself, a command begins where its image says.
            .told_by(|script| format!("cd \"$MESOS_SANDBOX\"; {}", script.shell()))
    }

    berth_conformance::suite! {
        subject, but what "composed.txt" declares:
            a_deadly_signal_is_in_the_status
            a_nested_container_has_a_life_of_its_own
            a_nested_container_needs_a_living_parent_and_has_no_task
            destroy_takes_nested_containers_first
            remove_of_nested_containers
            nested_containers_outlive_the_containerizer
            what_a_container_reads_and_writes_can_be_attached_to
            an_attachment_that_goes_disturbs_nothing;
    }
}

mod lxc_mesos_docker {
    use super::*;

    fn subject(site: &Site) -> Subject {
        super::subject(site, &SECOND)
    }

    berth_conformance::suite!(subject);
}

#[test]
fn each_container_goes_to_its_own_technology_in_either_order() {
    if skipped() {
        return;
    }
    for order in [&FIRST[..], &SECOND] {
        let site = Site::new("own").unwrap();
        let containerizer = composed(&site, order);
        good(containerizer.recover(None));
        for (kind, change) in
            [("mesos", None), ("docker", Some(of_docker as fn(&mut _))), ("lxc", Some(of_lxc as _))]
        {
            let own = id(&format!("{}-{kind}", site.marker()));
            let mut config = config(&site, &own, "exit 4");
            if let Some(change) = change {
                change(&mut config);
            }
            start(&containerizer, &own, config);
            assert_eq!(ended(&containerizer, &own).status, Some(4 << 8), "{order:?} {kind}");
            let name = containerizer.underlying_name(&own).unwrap_or_default();
            assert_eq!(name.starts_with("mesos-"), kind == "docker", "{order:?} {kind}: {name}");
            let record = site.runtime_dir().join(if kind == "mesos" { "containers" } else { kind });
            assert!(record.join(own.value()).exists(), "{order:?}: {kind} has no record of it");
            clear(&containerizer, &own);
        }
    }
}
