// SPDX-License-Identifier: Apache-2.0
//! An agent that remembers what it was asked and answers by the names of containers.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use berth_api::{
    Answer, Caller, Core, Launched, LogRequest, Refusal, Session, Show, StatusCode, Stream, stream_of,
};
use berth_model::{ContainerConfig, ContainerId, ContainerTermination, Image, Resources};
use berth_proto::agent::ProcessIo;
use berth_proto::agent::call::Type;
use berth_proto::agent::response::{GetAgent, GetState, ReadFile, get_containers};
use berth_proto::{own, v1};
use tokio::sync::{Notify, mpsc};

pub(crate) type Sender<T> = mpsc::Sender<Result<T, Refusal>>;

/// Names of containers mean: `nope` is not there, `forever` never ends, `taken` is there already, `broken` fails,
/// `panics` panics, `busy` has an input already.
#[derive(Default)]
pub(crate) struct Double {
    pub(crate) recovering: AtomicBool,
    /// What may not be done.
    pub(crate) forbidden: Mutex<Vec<Type>>,
    /// What was asked, in order.
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) launched: Mutex<Vec<(ContainerId, ContainerConfig)>>,
    pub(crate) callers: Mutex<Vec<Caller>>,
    pub(crate) input: Mutex<Vec<ProcessIo>>,
    /// Where the tests write what containers write.
    pub(crate) output: Mutex<Option<Sender<ProcessIo>>>,
    pub(crate) events: Mutex<Option<Sender<own::Event>>>,
    pub(crate) logs: Mutex<Option<Sender<own::LogChunk>>>,
    /// A launch of `slow` waits for it.
    pub(crate) go_on: Notify,
    /// Rings when the wait for `forever` or an input is over.
    pub(crate) dropped: std::sync::Arc<Notify>,
}

impl Double {
    fn note(&self, what: impl Into<String>) {
        self.asked.lock().unwrap().push(what.into());
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn known(&self, id: &ContainerId) -> Result<(), Refusal> {
        match id.value() {
            "nope" => Err(Refusal::no_container(id)),
            "broken" => Err(Refusal::failed("it is broken")),
            "panics" => panic!("a handler panics"),
            _ => Ok(()),
        }
    }
}

fn answer<'a, T: Send + 'a>(coming: impl Future<Output = Result<T, Refusal>> + Send + 'a) -> Answer<'a, T> {
    Box::pin(coming)
}

struct Rings(std::sync::Arc<Notify>);

impl Drop for Rings {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl berth_api::Messages for Double {
    fn message(&self, sent: berth_api::Sent, body: Vec<u8>) -> Answer<'_, bool> {
        self.note(format!("{} from {}: {}", sent.name, sent.from, String::from_utf8_lossy(&body)));
        answer(std::future::ready(Ok(sent.from.starts_with("known@"))))
    }
}

impl Core for Double {
    fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::SeqCst)
    }

    fn messages(&self) -> Option<&dyn berth_api::Messages> {
        Some(self)
    }

    fn authorize<'a>(
        &'a self,
        caller: &'a Caller,
        action: Type,
        object: Option<&'a ContainerId>,
    ) -> Answer<'a, bool> {
        self.callers.lock().unwrap().push(caller.clone());
        let object = object.map(|id| format!(" {id}")).unwrap_or_default();
        self.note(format!("may {}{object}", action.as_str_name()));
        let allowed = !self.forbidden.lock().unwrap().contains(&action);
        answer(async move { Ok(allowed) })
    }

    fn version(&self) -> v1::VersionInfo {
        v1::VersionInfo { version: "1.2.3".into(), build_time: Some(1795452925.0), ..Default::default() }
    }

    fn flags(&self) -> Vec<v1::Flag> {
        let flag = |name: &str, value: &str| v1::Flag { name: name.into(), value: Some(value.into()) };
        vec![flag("work_dir", "/w"), flag("ip", "127.0.0.1")]
    }

    fn started(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1500)
    }

    fn pid(&self) -> String {
        "slave(1)@127.0.0.1:5051".to_owned()
    }

    fn file_places(&self) -> Answer<'_, Vec<(String, String)>> {
        answer(async { Ok(vec![("/containers/c2".to_owned(), "/w/sandboxes/c2".to_owned())]) })
    }

    fn metrics(&self, timeout: Option<Duration>) -> Answer<'_, Vec<v1::Metric>> {
        self.note(format!("metrics {timeout:?}"));
        let metric = |at: usize| v1::Metric { name: format!("m{at}"), value: Some(at as f64) };
        answer(async move { Ok((0..100).map(metric).collect()) })
    }

    fn logging_level(&self) -> Answer<'_, u32> {
        answer(async { Ok(0) })
    }

    fn set_logging_level(&self, level: u32, duration: Duration) -> Answer<'_, ()> {
        self.note(format!("logging level {level} for {duration:?}"));
        answer(async { Ok(()) })
    }

    fn list_files<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<v1::FileInfo>> {
        answer(async { Err(Refusal::empty(StatusCode::NOT_FOUND)) })
    }

    fn read_file<'a>(&'a self, path: &'a str, offset: u64, length: Option<u64>) -> Answer<'a, ReadFile> {
        self.note(format!("read {path} {offset} {length:?}"));
        answer(async { Ok(ReadFile { size: 30, data: Vec::new() }) })
    }

    fn state(&self) -> Answer<'_, GetState> {
        let state = GetState {
            get_tasks: Some(Default::default()),
            get_executors: Some(Default::default()),
            get_frameworks: Some(Default::default()),
        };
        answer(async { Ok(state) })
    }

    fn agent(&self) -> Answer<'_, GetAgent> {
        answer(async { Ok(GetAgent::default()) })
    }

    fn containers<'a>(&'a self, _: &'a Caller, show: Show) -> Answer<'a, Vec<get_containers::Container>> {
        let container = get_containers::Container {
            container_id: v1::ContainerId { value: "c2".into(), parent: None },
            ..Default::default()
        };
        answer(async move { Ok(if show.standalone { vec![container] } else { Vec::new() }) })
    }

    fn launch(&self, id: ContainerId, config: ContainerConfig) -> Answer<'_, Launched> {
        answer(async move {
            if id.value() == "slow" {
                self.go_on.notified().await;
            }
            self.known(&id)?;
            let launched = match (id.value(), config.container_info.as_ref().map(|info| info.r#type)) {
                ("taken", _) => Launched::AlreadyLaunched,
                (_, Some(berth_model::ContainerType::Docker)) => Launched::NotSupported,
                _ => Launched::Started,
            };
            self.launched.lock().unwrap().push((id, config));
            Ok(launched)
        })
    }

    fn launch_session(&self, id: ContainerId, config: ContainerConfig) -> Answer<'_, Session> {
        answer(async move {
            match self.launch(id.clone(), config).await? {
                Launched::Started => Ok(Session::Started(self.attach_output(id).await?)),
                other => Ok(Session::Other(other)),
            }
        })
    }

    fn wait<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Option<ContainerTermination>> {
        answer(async move {
            if id.value() == "forever" {
                let _rings = Rings(self.dropped.clone());
                self.note("waits");
                std::future::pending::<()>().await;
            }
            match id.value() {
                "nope" => Ok(None),
                _ => self
                    .known(id)
                    .map(|()| Some(ContainerTermination { status: Some(15), ..Default::default() })),
            }
        })
    }

    fn kill(&self, id: ContainerId, signal: i32) -> Answer<'_, bool> {
        self.note(format!("kill {id} {signal}"));
        answer(async move {
            match id.value() {
                "nope" => Ok(false),
                _ => self.known(&id).map(|()| true),
            }
        })
    }

    fn remove(&self, id: ContainerId) -> Answer<'_, ()> {
        self.note(format!("remove {id}"));
        answer(async move { self.known(&id) })
    }

    fn update(&self, id: ContainerId, resources: Resources, limits: BTreeMap<String, f64>) -> Answer<'_, ()> {
        self.note(format!("update {id} {resources} {limits:?}"));
        answer(async move { self.known(&id) })
    }

    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, own::Inspection> {
        answer(async move {
            self.known(id)?;
            let container_id = berth_proto::convert::container_id_of(id);
            Ok(own::Inspection { container_id, underlying_name: Some("x".into()), ..Default::default() })
        })
    }

    fn rename(&self, id: ContainerId, name: String) -> Answer<'_, ()> {
        self.note(format!("rename {id} {name}"));
        answer(async { Ok(()) })
    }

    fn pause(&self, id: ContainerId) -> Answer<'_, ()> {
        self.note(format!("pause {id}"));
        answer(async move { self.known(&id) })
    }

    fn resume(&self, id: ContainerId) -> Answer<'_, ()> {
        self.note(format!("resume {id}"));
        answer(async move { self.known(&id) })
    }

    fn attach_input(&self, id: ContainerId, mut input: Stream<ProcessIo>) -> Answer<'_, ()> {
        answer(async move {
            self.known(&id)?;
            if id.value() == "busy" {
                return Err(Refusal::second_input());
            }
            let _rings = Rings(self.dropped.clone());
            while let Some(piece) = std::future::poll_fn(|context| input.as_mut().poll_next(context)).await {
                self.input.lock().unwrap().push(piece?);
            }
            self.note("input ended");
            Ok(())
        })
    }

    fn attach_output(&self, id: ContainerId) -> Answer<'_, Stream<ProcessIo>> {
        answer(async move {
            self.known(&id)?;
            let (sender, receiver) = mpsc::channel(1);
            *self.output.lock().unwrap() = Some(sender);
            Ok(stream_of(receiver))
        })
    }

    fn read_logs(&self, request: LogRequest) -> Answer<'_, Stream<own::LogChunk>> {
        self.note(format!("{request:?}"));
        let (sender, receiver) = mpsc::channel(1);
        *self.logs.lock().unwrap() = Some(sender);
        answer(async { Ok(stream_of(receiver)) })
    }

    fn subscribe(&self, since: Option<u64>) -> Answer<'_, Stream<own::Event>> {
        self.note(format!("subscribe {since:?}"));
        let (sender, receiver) = mpsc::channel(1);
        *self.events.lock().unwrap() = Some(sender);
        answer(async { Ok(stream_of(receiver)) })
    }

    fn prune_images(&self, excluded: Vec<Image>) -> Answer<'_, ()> {
        self.note(format!("prune but {}", excluded.len()));
        answer(async { Ok(()) })
    }

    fn operations_in_flight(&self) -> Answer<'_, own::OperationsInFlight> {
        answer(async { Ok(Default::default()) })
    }

    fn explain_pull(&self, image: Image) -> Answer<'_, own::PullExplanation> {
        let reference = image.docker.map(|docker| docker.name).unwrap_or_default();
        answer(async { Ok(own::PullExplanation { reference, ..Default::default() }) })
    }

    fn explain_gc(&self) -> Answer<'_, own::CollectionExplanation> {
        answer(async { Ok(Default::default()) })
    }
}
