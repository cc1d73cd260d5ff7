// SPDX-License-Identifier: Apache-2.0
//! Persistent volumes in containers of a real engine: there from the launch, coming and going with updates, and outliving
//! container, containerizer and sandbox.

mod ground;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;

use berth_conformance::Site;
use berth_contract::{Containerizer, Limits};
use berth_model::resources::{DiskInfo, Persistence, Resource, Scalar};
use berth_model::{Class, Resources, Volume, VolumeMode};

use ground::{answer, clear, config, ended, good, id, recovered, settings, start, until};

fn volume(name: &str, at: &str, mode: VolumeMode) -> Resource {
    let mut resource = Resource::scalar("disk", Scalar::from_whole(8));
    resource.disk = Some(DiskInfo {
        persistence: Some(Persistence { id: name.to_owned(), principal: None }),
        volume: Some(Volume { container_path: at.to_owned(), mode, ..Volume::default() }),
        source: None,
    });
    resource
}

fn all(volumes: impl IntoIterator<Item = Resource>) -> Resources {
    let mut resources = Resources::new();
    volumes.into_iter().for_each(|one| resources.try_add(one).expect("a resource"));
    resources
}

fn on_host(site: &Site, name: &str) -> PathBuf {
    site.work_dir().join("volumes/roles/*").join(name)
}

#[test]
fn a_persistent_volume_is_there_from_the_launch_and_keeps_what_was_written() {
    if ground::skipped() {
        return;
    }
    let engine = ground::Daemon::start(ground::How::default());
    let before = engine.ledger();
    let site = Site::new("persistent").unwrap();
    let docker = recovered(settings(&site, &engine));
    // The second and the third container have what the first has written.
    let run = |name: &str, text: &str, volumes: Resources| {
        let own = id(&format!("{}-{name}", site.marker()));
        let mut config = config(&site, &own, text);
        config.resources = volumes;
        chown(&config.directory, Some(1234), Some(1234)).unwrap();
        start(&docker, &own, config.clone());
        let ended = ended(&docker, &own);
        let said = |file| fs::read_to_string(config.directory.join(file)).unwrap_or_default();
        let (out, err) = (said("stdout"), said("stderr"));
        clear(&docker, &own);
        assert!(!config.directory.exists());
        assert_eq!(ended.status, Some(0), "{out}{err}");
        out
    };
    run("w", "echo kept > $MESOS_SANDBOX/data/deep/file", all([volume("v", "data/deep", VolumeMode::Rw)]));
    assert_eq!(fs::read_to_string(on_host(&site, "v").join("file")).unwrap(), "kept\n");
    assert_eq!(fs::metadata(on_host(&site, "v")).unwrap().uid(), 1234, "it is the sandbox's owner's");
    let text = "cat /abs/file; touch /abs/no 2>/dev/null || echo read-only";
    assert_eq!(run("r", text, all([volume("v", "/abs", VolumeMode::Ro)])), "kept\nread-only\n");
    assert_eq!(engine.ledger(), before);
    assert_eq!(fs::read_to_string(on_host(&site, "v").join("file")).unwrap(), "kept\n");
}

#[test]
fn persistent_volumes_come_and_go_with_updates_also_of_the_next_containerizer() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("updated").unwrap();
    let mut docker = recovered(settings(&site, ground::daemon::shared()));
    let own = id(&format!("{}-u", site.marker()));
    // It tells what it finds in a file, again and again.
    let text = "cd $MESOS_SANDBOX; while :; do \
                for d in one two; do echo \"$d: $(cat $d/file 2>/dev/null)\"; done > t; \
                touch two/no 2>/dev/null && rm two/no && echo written >> t; mv t seen; sleep 0.02; done";
    let mut config = config(&site, &own, text);
    config.resources = all([volume("v1", "one", VolumeMode::Rw)]);
    start(&docker, &own, config.clone());
    for name in ["v1", "v2"] {
        fs::create_dir_all(on_host(&site, name)).unwrap();
        fs::write(on_host(&site, name).join("file"), name).unwrap();
    }
    let seen = |expected: &str| {
        until(expected, || {
            let text = fs::read_to_string(config.directory.join("seen")).unwrap_or_default();
            (text == expected).then_some(())
        });
    };
    let update = |docker: &berth_docker::Docker, volumes: Resources| {
        good(docker.update(&own, volumes, Limits::new()));
    };
    // Where nothing is mounted, the sandbox can be written to.
    fs::create_dir(config.directory.join("two")).unwrap();
    seen("one: v1\ntwo: \nwritten\n");
    update(&docker, all([volume("v1", "one", VolumeMode::Rw), volume("v2", "two", VolumeMode::Ro)]));
    seen("one: v1\ntwo: v2\n");
    drop(docker);
    docker = recovered(settings(&site, ground::daemon::shared()));
    update(&docker, all([volume("v2", "two", VolumeMode::Rw)]));
    seen("one: \ntwo: v2\nwritten\n");
    let absolute = all([volume("v2", "two", VolumeMode::Rw), volume("v1", "/abs", VolumeMode::Rw)]);
    let refused = answer(docker.update(&own, absolute, Limits::new())).unwrap_err();
    assert_eq!(refused.class(), Class::Unsupported, "{refused}");
    seen("one: \ntwo: v2\nwritten\n");
    update(&docker, Resources::new());
    seen("one: \ntwo: \nwritten\n");
    clear(&docker, &own);
    for name in ["v1", "v2"] {
        assert_eq!(fs::read_to_string(on_host(&site, name).join("file")).unwrap(), name);
    }
}

#[test]
fn a_link_that_the_container_puts_in_the_way_leads_no_volume_elsewhere() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("hostile").unwrap();
    let docker = recovered(settings(&site, ground::daemon::shared()));
    let own = id(&format!("{}-h", site.marker()));
    let text = "cd $MESOS_SANDBOX; ln -s /etc way; mkdir elsewhere; : > ready; exec sleep 1000";
    let config = config(&site, &own, text);
    start(&docker, &own, config.clone());
    until("it is ready", || config.directory.join("ready").exists().then_some(()));
    for at in ["way", "way/below"] {
        let one = all([volume("v", at, VolumeMode::Rw)]);
        let refused = answer(docker.update(&own, one, Limits::new())).unwrap_err();
        assert_eq!(refused.class(), Class::Invalid, "{at}: {refused}");
    }
    // Nothing of it stays in the way of what is good.
    good(docker.update(&own, all([volume("v", "good", VolumeMode::Rw)]), Limits::new()));
    clear(&docker, &own);
}
