// SPDX-License-Identifier: Apache-2.0
//! The agent as its API asks it: which module answers what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use berth_api::{
    Answer, Caller, Core, ExecutorTree, FrameworkTree, Launched, LogRequest, Refusal, Session, Show, Stream,
};
use berth_model::{Class, ContainerConfig, ContainerId, ContainerTermination, Image, Resources};
use berth_proto::agent::ProcessIo;
use berth_proto::agent::response::{GetAgent, GetState, ReadFile, get_containers};
use berth_proto::{own, v1};
use tokio::time::timeout;

use crate::agent::Inner;
use crate::error::{failure, refusal};
use crate::lifecycle::{blocking, finished};
use crate::{collect, counters, events, files, host, inspect, lifecycle, list, logs, session};

/// The agent, seen from its API.
pub(crate) struct Face(pub(crate) Arc<Inner>);

fn now<'a, T: Send + 'a>(result: Result<T, Refusal>) -> Answer<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Core for Face {
    fn is_recovering(&self) -> bool {
        self.0.recovering.load(Ordering::SeqCst)
    }

    fn executors(&self) -> Option<&dyn berth_api::Executors> {
        Some(self)
    }

    fn messages(&self) -> Option<&dyn berth_api::Messages> {
        Some(self)
    }

    fn version(&self) -> v1::VersionInfo {
        host::version()
    }

    fn started(&self) -> SystemTime {
        self.0.started_time
    }

    fn pid(&self) -> String {
        match self.0.tcp.get() {
            Some(address) => format!("slave(1)@{address}"),
            None => format!("slave(1)@unix:{}", self.0.flags.socket.display()),
        }
    }

    fn flags(&self) -> Vec<v1::Flag> {
        let flag = |(name, value): (&str, String)| v1::Flag { name: name.to_owned(), value: Some(value) };
        self.0.flags.flags().into_iter().map(flag).collect()
    }

    fn metrics(&self, time: Option<Duration>) -> Answer<'_, Vec<v1::Metric>> {
        let agent = &self.0;
        Box::pin(async move {
            crate::watch::hear(agent);
            let (uptime, recovery) = (agent.started.elapsed(), agent.recovery.get().copied());
            let mut metrics = counters::own(&agent.counters, &agent.table, &agent.engine, uptime, recovery);
            metrics.extend(counters::of_resources(&agent.resources, &agent.table));
            let system = async {
                let mut measured = collect::measured(agent).await;
                let own = Arc::clone(agent);
                let counted = blocking(move || own.containerizer.metrics()).await?;
                measured
                    .extend(counted.into_iter().map(|(name, value)| v1::Metric { name, value: Some(value) }));
                measured.extend(blocking(counters::of_the_system).await?);
                Ok(measured)
            };
            // What is not ready in time is left out.
            let system = match time {
                None => Some(system.await?),
                Some(time) => timeout(time, system).await.ok().transpose()?,
            };
            metrics.extend(system.unwrap_or_default());
            metrics.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(metrics)
        })
    }

    fn logging_level(&self) -> Answer<'_, u32> {
        now(Ok(self.0.level.get()))
    }

    fn set_logging_level(&self, level: u32, duration: Duration) -> Answer<'_, ()> {
        self.0.level.set(level, duration, &self.0.tasks);
        now(Ok(()))
    }

    fn list_files<'a>(&'a self, path: &'a str) -> Answer<'a, Vec<v1::FileInfo>> {
        let (places, path, meant) =
            (Arc::clone(&self.0.places), path.to_owned(), files::meant(&self.0, path));
        Box::pin(async move { blocking(move || files::list(&places, &path, &meant)).await? })
    }

    fn read_file<'a>(&'a self, path: &'a str, offset: u64, length: Option<u64>) -> Answer<'a, ReadFile> {
        let (places, path, meant) =
            (Arc::clone(&self.0.places), path.to_owned(), files::meant(&self.0, path));
        Box::pin(async move { blocking(move || files::read(&places, &path, &meant, offset, length)).await? })
    }

    fn file_places(&self) -> Answer<'_, Vec<(String, String)>> {
        crate::watch::hear(&self.0);
        let places = |container: Arc<crate::table::Container>| {
            let real = self.0.places.sandbox(&container.id).display().to_string();
            [(format!("/containers/{}", container.id), real.clone()), (real.clone(), real)]
        };
        let tops: Vec<_> =
            self.0.table.all().into_iter().filter(|container| container.id.parent().is_none()).collect();
        // Those of executors have the paths of Mesos too.
        let of_executor = |container: &Arc<crate::table::Container>| {
            let info = container.record()?.config.executor_info.clone()?;
            let run = format!("/frameworks/{}/executors/{}/runs", info.framework_id, info.executor_id);
            let real = self.0.flags.work_dir.join("slaves").join(self.0.engine.id()).display().to_string();
            let own = format!("{real}{run}/{}", container.id);
            let newest = self.0.engine.container(&info.framework_id, &info.executor_id);
            let latest = newest.is_some_and(|newest| newest == container.id);
            let latest = latest.then(|| [format!("{run}/latest"), format!("{real}{run}/latest")]);
            let all = latest.into_iter().flatten().chain([own.clone()]);
            Some(all.map(move |path| (path, own.clone())).collect::<Vec<_>>())
        };
        let mut all: Vec<(String, String)> = tops.iter().filter_map(of_executor).flatten().collect();
        all.extend(tops.into_iter().flat_map(places));
        now(Ok(all))
    }

    fn state(&self) -> Answer<'_, GetState> {
        now(Ok(self.0.engine.state()))
    }

    fn tree(&self) -> Answer<'_, Vec<FrameworkTree>> {
        now(Ok(tree(&self.0)))
    }

    fn agent(&self) -> Answer<'_, GetAgent> {
        let mut told = host::agent(&self.0.resources, self.0.tcp.get().map(|address| address.port()));
        if let Some(info) = &mut told.agent_info {
            info.id = Some(v1::AgentId { value: self.0.engine.id().to_owned() });
        }
        now(Ok(told))
    }

    fn containers<'a>(
        &'a self,
        _caller: &'a Caller,
        show: Show,
    ) -> Answer<'a, Vec<get_containers::Container>> {
        Box::pin(list::containers(&self.0, show))
    }

    fn launch(&self, id: ContainerId, config: ContainerConfig) -> Answer<'_, Launched> {
        Box::pin(lifecycle::launch(&self.0, id, config))
    }

    fn launch_session(&self, id: ContainerId, mut config: ContainerConfig) -> Answer<'_, Session> {
        lifecycle::run_as(&self.0, &mut config);
        Box::pin(session::launch(&self.0, id, config))
    }

    fn wait<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Option<ContainerTermination>> {
        Box::pin(lifecycle::wait(&self.0, id))
    }

    fn kill(&self, id: ContainerId, signal: i32) -> Answer<'_, bool> {
        Box::pin(async move { lifecycle::kill(&self.0, &id, signal).await })
    }

    fn remove(&self, id: ContainerId) -> Answer<'_, ()> {
        Box::pin(async move { lifecycle::remove(&self.0, &id).await })
    }

    fn update(&self, id: ContainerId, resources: Resources, limits: BTreeMap<String, f64>) -> Answer<'_, ()> {
        Box::pin(async move { lifecycle::update(&self.0, &id, resources, limits).await })
    }

    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, own::Inspection> {
        Box::pin(inspect::inspect(&self.0, id))
    }

    fn rename(&self, id: ContainerId, name: String) -> Answer<'_, ()> {
        Box::pin(async move { lifecycle::rename(&self.0, &id, name).await })
    }

    fn pause(&self, id: ContainerId) -> Answer<'_, ()> {
        Box::pin(async move { lifecycle::freeze(&self.0, &id, true).await })
    }

    fn resume(&self, id: ContainerId) -> Answer<'_, ()> {
        Box::pin(async move { lifecycle::freeze(&self.0, &id, false).await })
    }

    fn attach_input(&self, id: ContainerId, input: Stream<ProcessIo>) -> Answer<'_, ()> {
        Box::pin(async move { session::attach_input(&self.0, &id, input).await })
    }

    fn attach_output(&self, id: ContainerId) -> Answer<'_, Stream<ProcessIo>> {
        Box::pin(async move { session::attach_output(&self.0, &id).await })
    }

    fn read_logs(&self, request: LogRequest) -> Answer<'_, Stream<own::LogChunk>> {
        Box::pin(logs::read(&self.0, request))
    }

    fn subscribe(&self, since: Option<u64>) -> Answer<'_, Stream<own::Event>> {
        let heartbeat = self.0.flags.http_heartbeat_interval;
        now(Ok(events::subscribe(&self.0.events, &self.0.tasks, since, heartbeat)))
    }

    fn prune_images(&self, excluded: Vec<Image>) -> Answer<'_, ()> {
        let own = Arc::clone(&self.0);
        let pruning = self.0.tasks.spawn(async move {
            let _operation = own.operations.begin("prune", None);
            own.containerizer.prune_images(excluded).await.map_err(|error| failure(&error))
        });
        Box::pin(finished(pruning))
    }

    fn operations_in_flight(&self) -> Answer<'_, own::OperationsInFlight> {
        crate::watch::hear(&self.0);
        now(Ok(self.0.operations.now(&self.0.table)))
    }

    fn explain_pull(&self, image: Image) -> Answer<'_, own::PullExplanation> {
        Box::pin(async move {
            let Some(pull) = self.0.containerizer.pull() else {
                let text = "no containerizer of this agent pulls images: see --image_providers";
                return Err(Refusal::of(Class::Unsupported, text));
            };
            let told = pull.explain(image).await.map_err(|error| refusal(&error))?;
            Ok(explained(told))
        })
    }

    fn explain_gc(&self) -> Answer<'_, own::CollectionExplanation> {
        Box::pin(collect::explain(&self.0))
    }
}

/// Frameworks with their executors and tasks.
fn tree(agent: &Inner) -> Vec<FrameworkTree> {
    let real = agent.flags.work_dir.join("slaves").join(agent.engine.id()).display().to_string();
    let executor = |framework: &str, told: berth_tasks::ExecutorView| {
        let (executor, container) = (&told.info.executor_id.value, told.container.to_string());
        ExecutorTree {
            directory: format!("{real}/frameworks/{framework}/executors/{executor}/runs/{container}"),
            container,
            info: told.info,
            over: told.over,
            tasks: told.tasks,
            queued: told.queued,
            completed: told.completed,
        }
    };
    let framework = |told: berth_tasks::FrameworkView| {
        let id = told.info.id.clone().unwrap_or_default().value;
        let executors = told.executors.into_iter().map(|told| executor(&id, told)).collect();
        FrameworkTree { info: told.info, over: told.over, executors }
    };
    agent.engine.tree().into_iter().map(framework).collect()
}

/// A pull that is explained, as the API has it.
fn explained(told: berth_contract::PullExplained) -> own::PullExplanation {
    let layers: Vec<_> = told
        .layers
        .into_iter()
        .map(|layer| own::pull_explanation::Layer {
            digest: layer.digest,
            compressed_bytes: layer.bytes,
            present: Some(layer.present),
        })
        .collect();
    let missing = layers.iter().filter(|layer| layer.present != Some(true));
    own::PullExplanation {
        reference: told.reference,
        source: told.source,
        digest: told.digest,
        download_bytes: Some(missing.clone().filter_map(|layer| layer.compressed_bytes).sum()),
        present: Some(missing.count() == 0),
        layers,
    }
}
