// SPDX-License-Identifier: Apache-2.0
//! An agent from its start to its end.
//!
//! ```text
//! start: directories and locks ─> containerizer ─> listeners ─> serve ─┬─> recover ─> answers everything
//!                                                                      └ meanwhile only what needs no container
//! stop:  listeners closed ─> tasks ended ─> containerizer and locks let go; containers go on
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use berth_api::{Authenticate, Core, HttpBasic, Listener, Options, Realm, UnixAccess, serve};
use berth_cgroup::Hierarchies;
use berth_config::log::LogControl;
use berth_config::{AgentDirs, Http, Resolved};
use berth_contract::{Containerizer, Settled, Subscription};
use berth_executor::{CommandExecutor, GroupExecutor, group_command};
use berth_factory::{Host, create, enter_scope, makers, resources};
use berth_hooks::Hooks;
use berth_model::{Class, Resources, SecretBytes};
use berth_tasks::link::AgentSide;
use berth_tasks::{Engine, Parts, Settings, Tokens};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::core::Face;
use crate::counters::Counters;
use crate::driver::Driver;
use crate::error::StartError;
use crate::events::Events;
use crate::level::LogLevel;
use crate::operations::Operations;
use crate::places::Places;
use crate::session::Sessions;
use crate::table::Table;
use crate::tasks::Tasks;
use crate::watch::Clerk;
use crate::{collect, host, recover, watch as watching};

/// How long a stop waits for what it lets go of. What is stuck in the kernel longer than that is left to it.
const LETTING_GO: Duration = Duration::from_secs(10);

/// No key is longer.
const LONGEST_KEY: u64 = 64 << 10;

/// What all parts of an agent share.
pub(crate) struct Inner {
    pub(crate) flags: Resolved,
    pub(crate) containerizer: Arc<dyn Containerizer>,
    /// Where the agent is in the containerizer's events.
    pub(crate) heard: Mutex<Subscription>,
    pub(crate) table: Table,
    pub(crate) events: Arc<Events>,
    pub(crate) operations: Operations,
    pub(crate) counters: Counters,
    pub(crate) sessions: Sessions,
    pub(crate) level: LogLevel,
    pub(crate) tasks: Tasks,
    pub(crate) clerk: Clerk,
    pub(crate) places: Arc<Places>,
    /// Frameworks, executors and tasks.
    pub(crate) engine: Engine,
    /// Executors that speak by messages.
    pub(crate) driver: Driver,
    pub(crate) hooks: Option<Hooks>,
    /// What executors show, if they get any.
    pub(crate) tokens: Option<Tokens>,
    pub(crate) resources: Resources,
    pub(crate) hierarchies: Option<Hierarchies>,
    pub(crate) tcp: OnceLock<SocketAddr>,
    pub(crate) started: Instant,
    pub(crate) started_time: SystemTime,
    pub(crate) recovering: AtomicBool,
    /// Told when that is over.
    pub(crate) over: Notify,
    /// How long it took.
    pub(crate) recovery: OnceLock<Duration>,
    /// Held as long as anything of the agent is: let go last.
    pub(crate) dirs: AgentDirs,
}

impl Inner {
    /// Waits until what the agent before left is taken over.
    pub(crate) async fn has_recovered(&self) {
        // It hears of what comes after it was made.
        let over = self.over.notified();
        if self.recovering.load(Ordering::SeqCst) {
            over.await;
        }
    }
}

/// An agent that serves. [`Agent::stop`] it: one that is dropped goes on until the runtime ends.
pub struct Agent {
    pub(crate) inner: Arc<Inner>,
    recovered: Settled<Result<(), (Class, String)>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Agent {
    /// Starts an agent: when this is answered it serves, and takes over the containers of the one before. `log` is
    /// what changes the level of this process's log. Needs a runtime of tokio with several threads.
    ///
    /// # Errors
    /// [`StartError`], and nothing was started.
    pub async fn start(flags: Resolved, log: Option<LogControl>) -> Result<Agent, StartError> {
        Agent::start_with(flags, log, |flags| {
            let host = Host::probe(&flags.work_dir);
            let mut factory = flags.factory.clone();
            match enter_scope(&factory) {
                Ok(Some(group)) => {
                    tracing::info!(%group, "containers are in a scope of systemd's");
                    factory.cgroups_root = Some(group);
                }
                Ok(None) => {}
                Err(error) => {
                    let why = crate::error::chain(&error);
                    tracing::warn!("containers are outside of systemd's units: {why}");
                }
            }
            let created = create(&factory, &host, &makers())?;
            created.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            Ok(created.containerizer)
        })
        .await
    }

    /// As [`Agent::start`], over a containerizer that the factory does not know.
    ///
    /// # Errors
    /// [`StartError`], and nothing was started.
    pub async fn start_with(
        flags: Resolved,
        log: Option<LogControl>,
        make: impl FnOnce(&Resolved) -> Result<Arc<dyn Containerizer>, StartError> + Send + 'static,
    ) -> Result<Agent, StartError> {
        let opened = tokio::task::spawn_blocking(move || open(flags, log, make));
        let opened =
            opened.await.map_err(|error| StartError::recovery(Class::Internal, error.to_string()))?;
        let inner = Arc::new(opened?);
        let authenticate = authenticate(&inner.flags.http)?;
        let listeners = listen(&inner).await?;
        let (stop, stopped) = watch::channel(false);
        let core: Arc<dyn Core> = Arc::new(Face(Arc::clone(&inner)));
        let shutdown = move || {
            let mut stopped = stopped.clone();
            async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            }
        };
        let heartbeat = inner.flags.http_heartbeat_interval;
        // Whoever comes over TCP says who they are; whoever may open the socket is known by that.
        let open = Options { heartbeat, ..Options::default() };
        let asked = Options { heartbeat, authenticate, ..Options::default() };
        let executors = Options { heartbeat, executors_only: true, ..Options::default() };
        let executors = serve(listeners.executors, Arc::clone(&core), executors, shutdown());
        let unix = serve(listeners.unix, Arc::clone(&core), open, shutdown());
        let tcp = serve(listeners.tcp, core, asked, shutdown());
        let serving = tokio::spawn(async {
            tokio::join!(unix, executors, tcp);
        });
        let recovered = Settled::new();
        let (settle, agent) = (recovered.clone(), Arc::clone(&inner));
        inner.tasks.spawn(async move {
            let result = recover::recover(&agent).await;
            if result.is_ok() {
                watching::start(&agent);
                collect::start(&agent);
                let _ = agent.recovery.set(agent.started.elapsed());
                agent.recovering.store(false, Ordering::SeqCst);
                agent.over.notify_waiters();
                tracing::info!(containers = agent.table.all().len(), "recovered");
            }
            settle.settle(result.map_err(|error| (error.class(), error.what())));
        });
        Ok(Agent { inner, recovered, stop, serving })
    }

    /// What happens to containers.
    pub(crate) fn events(&self) -> Arc<Events> {
        Arc::clone(&self.inner.events)
    }

    /// Waits until the containers of the agent before are taken over, and everything is answered.
    ///
    /// # Errors
    /// They can not be, and the agent has to be stopped.
    pub async fn recovered(&self) -> Result<(), StartError> {
        let result = self.recovered.wait().await;
        result.map_err(|(class, what)| StartError::Recovery { what, class })
    }

    /// The agent, as its API asks it.
    pub fn core(&self) -> Arc<dyn Core> {
        Arc::new(Face(Arc::clone(&self.inner)))
    }

    /// The agent, as a master sees it. To be met once the agent has [recovered](Agent::recovered).
    pub fn tasks(&self) -> Arc<dyn AgentSide> {
        self.inner.engine.agent_side()
    }

    /// The address of its TCP listener, if it has one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        self.inner.tcp.get().copied()
    }

    /// Writes to the log what is known of every container, and what is under way.
    pub fn dump(&self) {
        crate::watch::dump(&self.inner);
    }

    /// Puts another configured level of the log in force.
    pub fn set_log_level(&self, level: berth_config::log::Level) {
        self.inner.level.configure(level);
    }

    /// Destroys all containers and waits for their ends (`--recover=cleanup`).
    ///
    /// # Errors
    /// Some could not be destroyed.
    pub async fn destroy_all(&self) -> Result<(), StartError> {
        recover::destroy_all(&self.inner).await
    }

    /// Stops serving, and lets go of the containers, which go on.
    pub async fn stop(self) {
        let Agent { inner, stop, serving, .. } = self;
        stop.send_replace(true);
        let _ = serving.await;
        inner.engine.stop().await;
        inner.tasks.stop().await;
        // What has been told until now is written down too.
        if !inner.recovering.load(Ordering::SeqCst) {
            watching::hear(&inner);
        }
        inner.clerk.finish().await;
        // The last of it goes on a thread that may block: the containerizer waits for its own threads.
        let gone = tokio::task::spawn_blocking(move || drop(inner));
        if tokio::time::timeout(LETTING_GO, gone).await.is_err() {
            tracing::warn!("something is stuck: the agent ends without waiting for it");
        }
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("work_dir", &self.inner.flags.work_dir).finish_non_exhaustive()
    }
}

/// Everything that blocks.
fn open(
    flags: Resolved,
    log: Option<LogControl>,
    make: impl FnOnce(&Resolved) -> Result<Arc<dyn Containerizer>, StartError>,
) -> Result<Inner, StartError> {
    let started = Instant::now();
    let dirs = AgentDirs::open(&flags)?;
    for degraded in dirs.degraded() {
        tracing::warn!(path = %degraded.path.display(), "nothing can be launched: {}", degraded.reason);
    }
    let places = Arc::new(Places::open(dirs.work(), &flags.work_dir, &flags.runtime_dir)?);
    let determined = resources(&flags.factory, &Host::probe(&flags.work_dir))?;
    for warning in flags.warnings.iter().chain(&determined.warnings) {
        tracing::warn!("{warning}");
    }
    let hooks = berth_factory::hooks(&flags.factory)?;
    let tokens = tokens(&flags)?;
    let containerizer = make(&flags)?;
    let engine = Engine::open(&flags.work_dir, parts(&flags, &determined.resources))?;
    Ok(Inner {
        heard: Mutex::new(containerizer.events(0)),
        containerizer,
        table: Table::default(),
        events: Arc::new(Events::new()),
        operations: Operations::default(),
        counters: Counters::default(),
        sessions: Sessions::default(),
        level: LogLevel::new(log, flags.logging.level),
        tasks: Tasks::new(),
        clerk: Clerk::default(),
        places,
        engine,
        driver: Driver::default(),
        hooks,
        tokens,
        resources: determined.resources,
        hierarchies: Hierarchies::probe(std::path::Path::new(Hierarchies::ROOT)).ok(),
        tcp: OnceLock::new(),
        started,
        started_time: SystemTime::now(),
        recovering: AtomicBool::new(true),
        over: Notify::new(),
        recovery: OnceLock::new(),
        dirs,
        flags,
    })
}

/// What executors' tokens are made with, by `--jwt_secret_key`.
fn tokens(flags: &Resolved) -> Result<Option<Tokens>, StartError> {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(path) = &flags.executors.key else { return Ok(None) };
    let wrong = |source| StartError::Place { what: "read --jwt_secret_key", path: path.clone(), source };
    let refused = |why: &str| wrong(std::io::Error::other(why.to_owned()));
    let meta = path.metadata().map_err(wrong)?;
    if !meta.is_file() || meta.len() > LONGEST_KEY {
        return Err(refused("it is no file with a key of at most 64 KiB"));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(refused("others than its owner may read or write it: chmod 600 it"));
    }
    let key = SecretBytes::new(std::fs::read(path).map_err(wrong)?);
    match key.expose_secret().len() {
        0 => return Err(refused("it is empty: write a random key of 32 bytes or more into it")),
        1..32 => tracing::warn!("the key of --jwt_secret_key can be guessed: one of 32 random bytes can not"),
        _ => {}
    }
    Ok(Some(Tokens::new(key.expose_secret())))
}

/// What tasks are run by.
fn parts(flags: &Resolved, resources: &Resources) -> Parts {
    let agent = host::agent(resources, flags.tcp.map(|address| address.port())).agent_info;
    Parts {
        agent: agent.unwrap_or_default(),
        settings: Settings {
            registration_timeout: flags.executor_registration_timeout,
            reregistration_timeout: flags.executor_reregistration_timeout,
            shutdown_grace: flags.executor_shutdown_grace_period,
            completed_executors: flags.max_completed_executors_per_framework,
            ..Settings::default()
        },
        commands: Arc::new(CommandExecutor::new()),
        groups: Arc::new(GroupExecutor::new()),
        group_command: group_command(),
    }
}

/// Where clients come in.
struct Listeners {
    unix: Vec<Listener>,
    /// The socket that is given to executors.
    executors: Vec<Listener>,
    tcp: Vec<Listener>,
}

/// Where executors come in that are given a socket.
pub(crate) fn executors_socket(flags: &Resolved) -> std::path::PathBuf {
    flags.runtime_dir.join("executors.sock")
}

async fn listen(inner: &Inner) -> Result<Listeners, StartError> {
    let flags = &inner.flags;
    let unix = vec![Listener::unix(&flags.socket, UnixAccess::of_group(&flags.socket_group))?];
    tracing::info!(socket = %flags.socket.display(), "listening");
    let mut executors = Vec::new();
    if flags.http_executor_domain_sockets {
        // Executors run as anybody; what they can say is theirs to say.
        let access = UnixAccess { mode: 0o666, gid: None };
        executors.push(Listener::unix(executors_socket(flags), access)?);
    }
    let mut tcp = Vec::new();
    if let Some(address) = flags.tcp {
        let listener = Listener::tcp(address).await?;
        let address = listener.address().unwrap_or(address);
        let _ = inner.tcp.set(address);
        tracing::info!(%address, "listening");
        tcp.push(listener);
    }
    Ok(Listeners { unix, executors, tcp })
}

/// How who comes over TCP is told, if anybody is asked.
fn authenticate(http: &Http) -> Result<Option<Arc<dyn Authenticate>>, StartError> {
    let asked = [(http.readonly, Realm::ReadOnly), (http.readwrite, Realm::ReadWrite)];
    let realms: Vec<Realm> = asked.into_iter().filter_map(|(asked, realm)| asked.then_some(realm)).collect();
    match &http.credentials {
        Some(credentials) if !realms.is_empty() => {
            Ok(Some(Arc::new(HttpBasic::new(credentials.expose_secret(), realms)?)))
        }
        _ => Ok(None),
    }
}
