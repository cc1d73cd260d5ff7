// SPDX-License-Identifier: Apache-2.0
//! What tests of the Docker containerizer stand on: an engine of their own, and a containerizer on it.
#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

pub(crate) mod daemon;
pub(crate) mod podman;
pub(crate) mod subject;

use std::path::PathBuf;
use std::time::Duration;

use berth_conformance::Site;
pub(crate) use berth_conformance::ask::{answer, clear, ended, failure, good, id, launch, start, until};
use berth_contract::{Containerizer, EventLog};
use berth_docker::{Deadlines, Docker, Settings};
use berth_model::{ContainerConfig, ContainerId, ContainerInfo, ContainerType, DockerInfo};

pub(crate) use daemon::{Daemon, How, IMAGE, slow};

/// Says that this test was skipped, and why; true if it was.
pub(crate) fn skipped() -> bool {
    let Some(lacked) = daemon::lacked() else { return false };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    berth_testing::skip(&test, &lacked);
    true
}

/// Settings on a site, with deadlines that a test can wait for.
pub(crate) fn settings(site: &Site, daemon: &Daemon) -> Settings {
    settings_at(site, daemon.socket())
}

/// The same for what listens there.
pub(crate) fn settings_at(site: &Site, socket: PathBuf) -> Settings {
    Settings {
        socket,
        deadlines: Deadlines {
            kill: Duration::from_secs(3) * slow(),
            recover: Duration::from_secs(5) * slow(),
            again: Duration::from_millis(100),
            ask: Deadlines::default().ask * slow(),
            late: Deadlines::default().late * slow(),
            output: Deadlines::default().output * slow(),
            ..Deadlines::default()
        },
        ..Settings::new(site.runtime_dir(), site.work_dir())
    }
}

/// The container that is asked for: busybox, on the host's network.
pub(crate) fn container() -> ContainerInfo {
    ContainerInfo {
        r#type: ContainerType::Docker,
        docker: Some(DockerInfo { image: IMAGE.to_owned(), ..DockerInfo::default() }),
        ..ContainerInfo::default()
    }
}

/// A containerizer that has recovered with nothing.
pub(crate) fn recovered(settings: Settings) -> Docker {
    let docker = Docker::new(settings, EventLog::default()).expect("a containerizer");
    good(docker.recover(None));
    docker
}

/// A configuration that runs shell text in a sandbox of its own.
pub(crate) fn config(site: &Site, id: &ContainerId, text: &str) -> ContainerConfig {
    ContainerConfig { container_info: Some(container()), ..berth_conformance::ask::config(site, id, text) }
}
