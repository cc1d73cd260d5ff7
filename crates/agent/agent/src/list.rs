// SPDX-License-Identifier: Apache-2.0
//! Lists of containers, in one answer however many there are: what is known of each comes from the table, and only
//! what it uses is measured, when that is wanted.

use std::sync::Arc;

use berth_api::{Refusal, Show};
use berth_model::{CommandInfo, ContainerInfo, ContainerStatus, ExecutorInfo};
use berth_proto::agent::response::get_containers;
use berth_proto::{convert, own, v1};

use crate::agent::Inner;
use crate::events;
use crate::host::moment;
use crate::measure::{Measured, Wanted, measure};
use crate::record::Record;
use crate::table::Container;
use crate::watch::{hear, lives};

/// The containers that live, and those that have ended where they are asked for.
pub(crate) async fn containers(
    agent: &Arc<Inner>,
    show: Show,
) -> Result<Vec<get_containers::Container>, Refusal> {
    hear(agent);
    let mut all: Vec<_> =
        agent.table.all().into_iter().map(|container| (lives(&container), container)).collect();
    all.retain(|(alive, container)| match container.id.parent() {
        // Those of executors are always meant.
        None => (show.standalone || executor(container).is_some()) && (*alive || show.ended),
        Some(_) => show.nested && (*alive || show.ended && !container.is_session()),
    });
    let wanted = if show.without_statistics { Wanted::Status } else { Wanted::All };
    let ids = all.iter().filter(|(alive, _)| *alive).map(|(_, container)| container.id.clone()).collect();
    let mut measured = measure(agent, ids, wanted).await.into_iter();
    let mut listed = Vec::with_capacity(all.len());
    for (alive, container) in &all {
        let measured = if *alive { measured.next() } else { None }.unwrap_or_default();
        listed.push(get_containers::Container {
            summary: show.summaries.then(|| summary(container)),
            ..entry(container, &measured)
        });
    }
    Ok(listed)
}

/// What Mesos lists.
fn entry(container: &Container, measured: &Measured) -> get_containers::Container {
    let id = &container.id;
    let status = measured.status.as_ref().map(|status| {
        let container_id = status.container_id.clone().or_else(|| Some(id.clone()));
        convert::status_of(&ContainerStatus { container_id, ..status.clone() })
    });
    let executor = executor(container);
    // What it is called, for people, when that is not its id.
    let name = executor.as_ref().map_or_else(
        || container.record().and_then(|record| record.name.clone()),
        |executor| executor.name.clone(),
    );
    get_containers::Container {
        framework_id: executor.as_ref().map(|info| v1::FrameworkId { value: info.framework_id.clone() }),
        executor_id: executor.as_ref().map(|info| v1::ExecutorId { value: info.executor_id.clone() }),
        container_id: v1::ContainerId { value: id.value().to_owned(), parent: None },
        container_status: status,
        resource_statistics: measured.usage.as_ref().map(|usage| {
            let mut statistics = convert::statistics_of(usage);
            // What it asked for is a limit that bends.
            statistics.cpus_soft_limit = statistics.cpus_soft_limit.or_else(|| {
                let record = container.record()?;
                Some(record.config.resources.scalar("cpus")?.thousandths() as f64 / 1000.0)
            });
            statistics
        }),
        executor_name: name,
        ..get_containers::Container::default()
    }
}

/// The executor in it, if it is one's.
fn executor(container: &Container) -> Option<ExecutorInfo> {
    container.record()?.config.executor_info.clone()
}

/// What needs no look at the container.
fn summary(container: &Container) -> own::Summary {
    let now = container.now();
    let record = container.record();
    let of = |take: fn(&Record) -> Option<String>| record.as_deref().and_then(take);
    own::Summary {
        container_id: convert::container_id_of(&container.id),
        name: of(|record| record.name.clone()),
        image: of(|record| image(record.config.container_info.as_ref()?)),
        rootfs: of(|record| Some(record.config.rootfs.as_ref()?.display().to_string())),
        command: record.as_deref().map(|record| command(&record.config.command_info)).unwrap_or_default(),
        created: container.created.map(moment),
        state: Some(events::state_of(&now)),
        termination: now.ended.as_ref().map(events::termination),
    }
}

/// What is executed: the arguments, of which the first is the program, or a line for a shell.
fn command(command: &CommandInfo) -> Vec<String> {
    match command.arguments.is_empty() {
        true => command.value.clone().into_iter().collect(),
        false => command.arguments.clone(),
    }
}

fn image(container: &ContainerInfo) -> Option<String> {
    let docker = container.docker.as_ref().map(|docker| docker.image.clone());
    let mesos = || {
        let image = container.mesos.as_ref()?.image.as_ref()?;
        let docker = image.docker.as_ref().map(|docker| docker.name.clone());
        docker.or_else(|| image.oci.as_ref().map(|oci| oci.reference.clone()))
    };
    docker.or_else(mesos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Ended;
    use berth_contract::Phase;
    use berth_model::{ContainerConfig, ContainerTermination};

    fn container(config: serde_json::Value) -> Container {
        let config: ContainerConfig = serde_json::from_value(config).unwrap();
        let name = Some("front".to_owned());
        let record =
            Record { id: "a".parse().unwrap(), name, config, created_ms: Some(5), boot: String::new() };
        Container::new("a".parse().unwrap(), Some(record), Phase::Running)
    }

    #[test]
    fn a_summary_has_the_command_the_image_the_name_and_the_state() {
        let container = container(serde_json::json!({
            "command_info": {"value": "sh", "arguments": ["sh", "-c", "exit 3"], "shell": false},
            "container_info": {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": "busybox"}}}},
        }));
        let running = summary(&container);
        assert_eq!(running.command, ["sh", "-c", "exit 3"]);
        assert_eq!((running.image.as_deref(), running.name.as_deref()), (Some("busybox"), Some("front")));
        assert_eq!(running.created.unwrap().nanoseconds, 5_000_000);
        assert_eq!((running.state.unwrap().name.as_str(), running.termination), ("RUNNING", None));
        let termination = ContainerTermination { status: Some(3 << 8), ..ContainerTermination::default() };
        assert!(container.end(Ended { termination, at: None }));
        let ended = summary(&container);
        assert_eq!(ended.termination.unwrap().exit_status, Some(3 << 8));
        assert_eq!(ended.state.unwrap().name, "TERMINATED");
    }

    #[test]
    fn a_container_of_which_nothing_is_remembered_has_its_id_and_its_state() {
        let container = Container::new("a.b".parse().unwrap(), None, Phase::Running);
        let summary = summary(&container);
        assert_eq!(summary.container_id.parent.unwrap().value, "a");
        assert_eq!((summary.command.len(), summary.image, summary.created), (0, None, None));
    }
}
