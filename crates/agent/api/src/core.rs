// SPDX-License-Identifier: Apache-2.0
//! What the face asks of the agent: one method for each thing that a client can ask for.
//!
//! The face has parsed and checked everything that can be checked without knowing a container. What it does not know
//! is in the agent's hands: which containers there are, and in which state.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use berth_model::{ContainerConfig, ContainerId, ContainerTermination, Image, Resources};
use berth_proto::agent::ProcessIo;
use berth_proto::agent::call::Type;
use berth_proto::agent::response::{GetAgent, GetState, ReadFile, get_containers};
use berth_proto::{own, v1};
use tokio::sync::mpsc;

use crate::Refusal;

/// An answer to come. If the client goes away, an answer that changes nothing is dropped; one that changes something
/// is awaited to its end.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// Items to come. It is asked for the next one only when the one before it is under way, so nothing piles up in the
/// face. An error breaks the connection off, since the answer has begun. Dropping it is how the agent learns that
/// the client is gone.
pub type Stream<T> = Pin<Box<dyn futures_core::Stream<Item = Result<T, Refusal>> + Send>>;

/// The items that come through a channel; its bound is the bound of the stream.
pub fn stream_of<T: Send + 'static>(receiver: mpsc::Receiver<Result<T, Refusal>>) -> Stream<T> {
    struct Received<T>(mpsc::Receiver<Result<T, Refusal>>);

    impl<T> futures_core::Stream for Received<T> {
        type Item = Result<T, Refusal>;

        fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(context)
        }
    }

    Box::pin(Received(receiver))
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// As whom it has authenticated; none where nobody has to.
    pub principal: Option<String>,
    /// The process at the other end of a unix socket.
    pub peer: Option<Peer>,
}

/// A process at the other end of a unix socket, when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its id, if the kernel tells.
    pub pid: Option<i32>,
}

/// Which containers to list beside those of executors, and what of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Show {
    /// Nested ones.
    pub nested: bool,
    /// Standalone ones.
    pub standalone: bool,
    /// At the top, also those that have ended and are kept.
    pub ended: bool,
    /// Each with its summary.
    pub summaries: bool,
    /// Without what they use.
    pub without_statistics: bool,
}

/// A framework with all that is known of it, for the older `/state`.
#[derive(Debug, Clone, Default)]
pub struct FrameworkTree {
    /// Itself.
    pub info: v1::FrameworkInfo,
    /// Whether it has nothing here any more.
    pub over: bool,
    /// Its executors.
    pub executors: Vec<ExecutorTree>,
}

/// An executor with its tasks.
#[derive(Debug, Clone, Default)]
pub struct ExecutorTree {
    /// Itself.
    pub info: v1::ExecutorInfo,
    /// Whether it has ended, and all of its tasks' reports were seen.
    pub over: bool,
    /// Its container.
    pub container: String,
    /// Its sandbox.
    pub directory: String,
    /// What it has been given.
    pub tasks: Vec<v1::Task>,
    /// What it is about to be given.
    pub queued: Vec<v1::Task>,
    /// What has ended.
    pub completed: Vec<v1::Task>,
}

/// What came of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launched {
    /// Its process was started.
    Started,
    /// There is one of this name already.
    AlreadyLaunched,
    /// No containerizer takes it.
    NotSupported,
}

/// What came of the launch of a session.
pub enum Session {
    /// It runs, and this is what it writes. When the stream is dropped or ends, the container is destroyed.
    Started(Stream<ProcessIo>),
    /// It does not.
    Other(Launched),
}

/// Which part of the log of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// Of which container.
    pub id: ContainerId,
    /// What it wrote where; none: both.
    pub stream: Option<own::Stream>,
    /// The offset to begin at; only with `stream`, and not with `tail`.
    pub since: Option<u64>,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Go on until the container has ended.
    pub follow: bool,
    /// Only what was written then or later, in nanoseconds since 1970.
    pub since_time: Option<u64>,
    /// Only what was written before.
    pub until_time: Option<u64>,
}

/// The agent, as the face sees it.
pub trait Core: Send + Sync + 'static {
    /// Whether it still reads its records; nothing else is asked until then.
    fn is_recovering(&self) -> bool;

    /// Whether the caller may do this, to this container if it is about one. Without an authorizer everybody may.
    fn authorize<'a>(
        &'a self,
        _caller: &'a Caller,
        _action: Type,
        _object: Option<&'a ContainerId>,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Executors of frameworks, where there can be any.
    fn executors(&self) -> Option<&dyn crate::Executors> {
        None
    }

    /// What processes say to the agent by messages, where anybody listens.
    fn messages(&self) -> Option<&dyn crate::Messages> {
        None
    }

    /// The build.
    fn version(&self) -> v1::VersionInfo;
    /// When this agent started.
    fn started(&self) -> SystemTime;
    /// Its process id in the words of libprocess, `slave(1)@address:port`; without TCP, its unix socket is the address.
    fn pid(&self) -> String;
    /// The flags that have a value; secret ones masked.
    fn flags(&self) -> Vec<v1::Flag>;
    /// What is measured; without what can not be had in time.
    fn metrics(&self, timeout: Option<Duration>) -> Answer<'_, Vec<v1::Metric>>;
    /// How much is logged.
    fn logging_level(&self) -> Answer<'_, u32>;
    /// Logs more or less for a while.
    fn set_logging_level(&self, level: u32, duration: Duration) -> Answer<'_, ()>;
    /// A directory of a sandbox. Not found: [`Refusal::empty`].
    fn list_files<'a>(&'a self, path: &'a str) -> Answer<'a, Vec<v1::FileInfo>>;
    /// A piece of a file of a sandbox. Not found: [`Refusal::empty`].
    fn read_file<'a>(&'a self, path: &'a str, offset: u64, length: Option<u64>) -> Answer<'a, ReadFile>;
    /// The virtual paths below which files can be asked for, and the real ones that they stand for.
    fn file_places(&self) -> Answer<'_, Vec<(String, String)>>;
    /// Tasks, executors and frameworks; all three are always set.
    fn state(&self) -> Answer<'_, GetState>;
    /// The same, each with what belongs to it.
    fn tree(&self) -> Answer<'_, Vec<FrameworkTree>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// The agent itself.
    fn agent(&self) -> Answer<'_, GetAgent>;
    /// The containers that the caller may see.
    fn containers<'a>(&'a self, caller: &'a Caller, show: Show)
    -> Answer<'a, Vec<get_containers::Container>>;

    /// Launches a container; a nested one has a parent in its id. The sandbox is for the agent to choose.
    fn launch(&self, id: ContainerId, config: ContainerConfig) -> Answer<'_, Launched>;
    /// Launches a container in the one around it and streams what it writes, from the first byte.
    fn launch_session(&self, id: ContainerId, config: ContainerConfig) -> Answer<'_, Session>;
    /// Waits until a container has ended; none if there is none of this name.
    fn wait<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Option<ContainerTermination>>;
    /// Sends a signal; false if there is none of this name.
    fn kill(&self, id: ContainerId, signal: i32) -> Answer<'_, bool>;
    /// Removes what is kept of a container that has ended.
    fn remove(&self, id: ContainerId) -> Answer<'_, ()>;
    /// Sets all requests and limits anew.
    fn update(&self, id: ContainerId, resources: Resources, limits: BTreeMap<String, f64>) -> Answer<'_, ()>;
    /// Everything there is to know about a container.
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, own::Inspection>;
    /// Gives a container another name.
    fn rename(&self, id: ContainerId, name: String) -> Answer<'_, ()>;
    /// Stops all processes of a container.
    fn pause(&self, id: ContainerId) -> Answer<'_, ()>;
    /// Lets them go on.
    fn resume(&self, id: ContainerId) -> Answer<'_, ()>;

    /// Passes input on to a container until it ends. Whoever comes second gets [`Refusal::second_input`]. The end of
    /// the input ends the connection only; the container's own input ends with a piece of no bytes.
    fn attach_input(&self, id: ContainerId, input: Stream<ProcessIo>) -> Answer<'_, ()>;
    /// What a container writes from now on.
    fn attach_output(&self, id: ContainerId) -> Answer<'_, Stream<ProcessIo>>;
    /// What a container wrote.
    fn read_logs(&self, request: LogRequest) -> Answer<'_, Stream<own::LogChunk>>;
    /// What happens from now on, or after the event of this number. The stream begins with SUBSCRIBED.
    fn subscribe(&self, since: Option<u64>) -> Answer<'_, Stream<own::Event>>;

    /// Removes the images that no container uses and that are not among these.
    fn prune_images(&self, excluded: Vec<Image>) -> Answer<'_, ()>;
    /// What the agent is doing.
    fn operations_in_flight(&self) -> Answer<'_, own::OperationsInFlight>;
    /// What a pull would bring.
    fn explain_pull(&self, image: Image) -> Answer<'_, own::PullExplanation>;
    /// What a collection would remove.
    fn explain_gc(&self) -> Answer<'_, own::CollectionExplanation>;
}
