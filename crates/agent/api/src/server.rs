// SPDX-License-Identifier: Apache-2.0
//! Listeners, connections, and their end.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, Interval, sleep, timeout};

use crate::answer::{self, Body};
use crate::auth::{self, Authenticate, Realm};
use crate::listen::Socket;
use crate::message::{self, Known, Link};
use crate::negotiate::accepts_gzip;
use crate::patience::Patient;
use crate::route::{Route, route};
use crate::{Caller, Core, Listener, Refusal, call, endpoints, executor};

/// How long to wait after a connection could not be accepted, for example because descriptors ran out.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What a client can make us hold, and for how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at the same time; others wait to be accepted.
    pub connections: usize,
    /// Bytes of the head of a request (8 KiB at least).
    pub head_bytes: usize,
    /// How long a connection may take for the head of a request, and so how long it may be idle.
    pub head_timeout: Duration,
    /// Bytes of a body that is one message, or of one record of a stream; also after decompression. Reading JSON
    /// takes some 16 times this.
    pub body_bytes: usize,
    /// How long a body that is one message may take, or the first record of a stream.
    pub body_timeout: Duration,
    /// How long a client may read nothing of what there is for it.
    pub stall: Duration,
    /// How long answers under way may take when the agent stops serving.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            head_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(30),
            body_bytes: 4 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            stall: Duration::from_secs(300),
            grace: Duration::from_secs(2),
        }
    }
}

/// How to serve.
#[derive(Clone)]
pub struct Options {
    /// What a client can make us hold.
    pub limits: Limits,
    /// How often a stream of answers sends a sign of life (`--http_heartbeat_interval`).
    pub heartbeat: Duration,
    /// Who tells who callers are; none lets everybody in.
    pub authenticate: Option<Arc<dyn Authenticate>>,
    /// Whether only executors are answered: a socket that is given to them. Mesos lets them ask the API there too, with a
    /// token; who could ask it without would be root of the host.
    pub executors_only: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            limits: Limits::default(),
            heartbeat: Duration::from_secs(30),
            authenticate: None,
            executors_only: false,
        }
    }
}

/// An answer to a request, to come. That there is none is told by an answer too.
pub type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// What answers requests. The agent's own is made of its [`Core`]; a master of one node brings another.
pub trait Handler: Send + Sync + 'static {
    /// Answers one.
    fn respond(self: Arc<Self>, caller: Caller, request: Request<Incoming>) -> Answering;
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) core: Arc<dyn Core>,
    pub(crate) options: Options,
    /// When statistics are told next.
    pub(crate) statistics: Mutex<Option<Instant>>,
    /// The connections of processes that send messages and are known.
    pub(crate) known: Known,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// No new requests; those under way are answered.
    Closing,
    Over,
}

/// Answers requests until `shutdown`. Then nobody is let in any more, and what is under way has a moment to end.
pub async fn serve(
    listeners: Vec<Listener>,
    core: Arc<dyn Core>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) {
    let limits = options.limits.clone();
    serve_with(
        listeners,
        Arc::new(Shared { core, options, statistics: Mutex::default(), known: Known::default() }),
        limits,
        shutdown,
    )
    .await;
}

/// Lets a handler answer requests until `shutdown`, as [`serve`] does.
pub async fn serve_with(
    listeners: Vec<Listener>,
    handler: Arc<dyn Handler>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let grace = limits.grace;
    let (stage, watched) = watch::channel(Stage::Serving);
    // Every task has a sender; the last one that goes ends the wait.
    let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
    for listener in listeners {
        let (handler, slots, stage) = (handler.clone(), slots.clone(), watched.clone());
        let (limits, alive) = (limits.clone(), alive.clone());
        tokio::spawn(Door { listener, handler, limits, slots, stage, alive }.let_in());
    }
    drop((alive, watched));
    shutdown.await;
    let _ = stage.send(Stage::Closing);
    if timeout(grace, all_gone.recv()).await.is_err() {
        let _ = stage.send(Stage::Over);
        all_gone.recv().await;
    }
}

/// What lets clients in. Its socket is removed with the listener, and `serve` has returned when `alive` is gone: fields
/// are dropped in their order, so the listener comes before it.
struct Door {
    listener: Listener,
    handler: Arc<dyn Handler>,
    limits: Limits,
    slots: Arc<Semaphore>,
    stage: watch::Receiver<Stage>,
    alive: mpsc::Sender<Infallible>,
}

impl Door {
    async fn let_in(mut self) {
        loop {
            let accepted = tokio::select! {
                _ = self.stage.changed() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    // The slot comes second, so that a quiet listener holds none.
                    let slot = tokio::select! {
                        _ = self.stage.changed() => return,
                        slot = self.slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
                    };
                    let caller = Caller { principal: None, peer };
                    let (handler, limits) = (self.handler.clone(), self.limits.clone());
                    let connection = converse(socket, caller, handler, limits, self.stage.clone());
                    tokio::spawn(hold(connection, slot, self.alive.clone()));
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection can not be accepted; trying again");
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }
}

/// Whether a client went away before it was let in.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::NotConnected)
}

/// Holds a connection's slot, and the end of the server, until the connection is over.
async fn hold(
    connection: impl Future<Output = ()>,
    _slot: OwnedSemaphorePermit,
    _alive: mpsc::Sender<Infallible>,
) {
    connection.await;
}

async fn converse(
    socket: Socket,
    caller: Caller,
    handler: Arc<dyn Handler>,
    limits: Limits,
    mut stage: watch::Receiver<Stage>,
) {
    let spoken = tokio::select! {
        spoken = timeout(limits.head_timeout, socket.readable()) => matches!(spoken, Ok(Ok(()))),
        _ = stage.wait_for(|stage| *stage != Stage::Serving) => false,
    };
    if spoken {
        // What answers has a state of some thousand bytes: nobody who is idle holds it.
        Box::pin(answer_all(socket, caller, handler, limits, stage)).await;
    }
}

/// The next turn; there is none without turns.
async fn tick(turns: &mut Option<Interval>) {
    match turns {
        Some(turns) => drop(turns.tick().await),
        None => std::future::pending().await,
    }
}

/// Answers what comes through a connection, until its end.
async fn answer_all(
    socket: Socket,
    caller: Caller,
    handler: Arc<dyn Handler>,
    limits: Limits,
    mut stage: watch::Receiver<Stage>,
) {
    // Who sends messages may say nothing for days, and takes the end of its connection for ours: it has a time to
    // become known, and then all the time there is.
    let sends = socket.begins_with(message::BEGINNINGS).await;
    let link = sends.then(|| Link { peer: socket.peer(), ..Link::default() });
    let known = link.as_ref().map(|link| Arc::clone(&link.known));
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(link) = &link {
            request.extensions_mut().insert(link.clone());
        }
        handler.clone().respond(caller.clone(), request)
    });
    let mut look =
        sends.then(|| tokio::time::interval_at(Instant::now() + limits.head_timeout, limits.head_timeout));
    let io = TokioIo::new(Patient::new(socket, limits.stall).deaf(sends));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout((!sends).then_some(limits.head_timeout))
        // Who sends a message and is gone has said it.
        .half_close(sends)
        .max_buf_size(limits.head_bytes.max(8192))
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = tick(&mut look), if sends => {
                if known.as_ref().is_none_or(|known| !known.load(Ordering::Relaxed)) {
                    return;
                }
            }
            changed = stage.changed() => match *stage.borrow_and_update() {
                Stage::Closing if changed.is_ok() => connection.as_mut().graceful_shutdown(),
                Stage::Serving if changed.is_ok() => {}
                _ => return,
            },
        }
    }
}

impl Handler for Shared {
    fn respond(self: Arc<Self>, caller: Caller, request: Request<Incoming>) -> Answering {
        Box::pin(async move { Ok(respond(&self, caller, request).await) })
    }
}

async fn respond(shared: &Shared, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    let gzip = accepts_gzip(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match answer(shared, caller, request, gzip).await {
        Ok(response) => response,
        Err(refusal) => {
            if refusal.status().is_server_error() {
                tracing::warn!(%method, path, status = refusal.status().as_u16(), %refusal, "a request failed");
            }
            answer::refused(&refusal, gzip).await
        }
    };
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    response
}

async fn answer(
    shared: &Shared,
    mut caller: Caller,
    request: Request<Incoming>,
    gzip: bool,
) -> Result<Response<Body>, Refusal> {
    if let Some(sent) = message::addressed(&request) {
        return message::answer(shared, sent?, request).await;
    }
    let route = route(request.uri())?;
    if shared.options.executors_only && !matches!(route, Route::Executor) {
        return Err(Refusal::forbidden());
    }
    match route {
        Route::Executor => executor::answer(shared, request).await,
        Route::Api => {
            let authenticate = shared.options.authenticate.as_deref();
            caller.principal = auth::principal(authenticate, Realm::ReadWrite, request.headers())?;
            call::answer(shared, caller, request, gzip).await
        }
        Route::Older(endpoint) => endpoints::answer(shared, caller, endpoint, &request, gzip).await,
        Route::NotBuilt(what) => {
            let text = format!("{what} is not served by this agent");
            Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, text))
        }
    }
}
