// SPDX-License-Identifier: Apache-2.0
//! A master from its start to its end.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_api::{Authenticate, BindError, Core, Limits, Listener, serve_with};
use berth_model::Class;
use berth_proto::v1;
use berth_proto::v1::master_info::{Capability, capability::Type};
use berth_tasks::link::AgentSide;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::actor::{Actor, Ask, Ear, Inbox};
use crate::clock::Now;
use crate::http::Face;
use crate::random::uuid;
use crate::record::Records;
use crate::state::{Rules, State};

/// How a master is started.
pub struct Options {
    /// Where it listens; with port 0 the kernel chooses.
    pub address: SocketAddr,
    /// What this host is called.
    pub hostname: String,
    /// Where the agent's own API listens, for clients that go there; unspecified without TCP.
    pub agent_address: Option<SocketAddr>,
    /// The build.
    pub version: v1::VersionInfo,
    /// The flags that have a value, for those who ask; secret ones masked.
    pub flags: Vec<v1::Flag>,
    /// Who tells who callers are; none lets everybody in.
    pub authenticate: Option<Arc<dyn Authenticate>>,
    /// The agent's API, whose log is the master's too; none: it has none.
    pub core: Option<Arc<dyn Core>>,
    /// Where it remembers frameworks; none: nowhere.
    pub directory: Option<PathBuf>,
    /// How often what is free is offered.
    pub allocation_interval: Duration,
    /// How long an offer stands; none: until it is answered.
    pub offer_timeout: Option<Duration>,
}

/// Why a master can not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its address can not be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its records have no place.
    #[error(
        "can not open {path} for the records of frameworks; make it a directory that the agent may write to"
    )]
    Directory {
        /// Where they should be.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    /// Of which kind it is.
    pub fn class(&self) -> Class {
        match self {
            StartError::Bind(error) => error.class(),
            StartError::Directory { source, .. } => Class::of_io(source),
        }
    }
}

/// A master that serves. [`LocalMaster::stop`] it: one that is dropped goes on until the runtime ends.
#[derive(Debug)]
pub struct LocalMaster {
    address: SocketAddr,
    inbox: Inbox,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    acting: JoinHandle<()>,
}

/// How long a framework of the master before has to come back, whatever it said itself: it could not know of the end.
const RECOVERY: Duration = Duration::from_secs(60);

/// How long a connection of a scheduler may be idle between calls.
const IDLE: Duration = Duration::from_secs(600);

impl LocalMaster {
    /// Starts a master of this agent's. Needs a runtime of tokio.
    ///
    /// # Errors
    /// [`StartError`], and nothing was started.
    pub async fn start(options: Options, agent: Arc<dyn AgentSide>) -> Result<LocalMaster, StartError> {
        let listener = Listener::tcp(options.address).await?;
        let address = listener.address().unwrap_or(options.address);
        let directory = options
            .directory
            .map(|path| Records::open(&path).map_err(|source| StartError::Directory { path, source }));
        let records = directory.transpose()?;
        let now = Now::get();
        let rules = Rules {
            round: options.allocation_interval,
            offer_timeout: options.offer_timeout,
            recovery: RECOVERY,
        };
        let mut info = agent.info();
        let agent_ip = options.agent_address.unwrap_or(address).ip();
        info.port = options.agent_address.map(|address| i32::from(address.port())).or(info.port);
        let master = describe(address, &options.hostname, &options.version.version);
        let mut state = State::new(rules, master, info, reachable(agent_ip).to_string(), now.wall);
        if let Some(records) = &records {
            records.read(&mut state, now);
        }
        let (inbox, asks) = mpsc::unbounded_channel();
        state.adopt(now, agent.connect(Arc::new(Ear(inbox.clone()))));
        let acting = tokio::spawn(Actor { state, agent, records, inbox: asks }.run());
        let limits = Limits { head_timeout: IDLE, ..Limits::default() };
        let face = Arc::new(Face {
            inbox: inbox.clone(),
            address: SocketAddr::new(reachable(address.ip()), address.port()),
            limits: limits.clone(),
            authenticate: options.authenticate,
            version: options.version,
            flags: options.flags,
            core: options.core,
        });
        let (stop, mut stopped) = watch::channel(false);
        let shutdown = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let serving = tokio::spawn(serve_with(vec![listener], face, limits, shutdown));
        tracing::info!(%address, "the master of this node serves schedulers");
        Ok(LocalMaster { address, inbox, stop, serving, acting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving. Frameworks and tasks go on; schedulers find them again with the next master.
    pub async fn stop(self) {
        // Without its owner no stream goes on, so that nobody has to be waited for.
        let _ = self.inbox.send(Ask::Stop);
        let _ = self.acting.await;
        self.stop.send_replace(true);
        let _ = self.serving.await;
    }
}

/// Where somebody on this host reaches what listens everywhere.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

fn describe(address: SocketAddr, hostname: &str, version: &str) -> v1::MasterInfo {
    let ip = reachable(address.ip());
    let number = match ip {
        IpAddr::V4(ip) => u32::from_le_bytes(ip.octets()),
        IpAddr::V6(_) => 0,
    };
    let capabilities = [Type::AgentUpdate, Type::AgentDraining, Type::QuotaV2];
    v1::MasterInfo {
        id: uuid(),
        ip: number,
        port: u32::from(address.port()),
        pid: Some(format!("master@{}", SocketAddr::new(ip, address.port()))),
        hostname: Some(hostname.to_owned()),
        version: Some(version.to_owned()),
        address: Some(v1::Address {
            hostname: Some(hostname.to_owned()),
            ip: Some(ip.to_string()),
            port: i32::from(address.port()),
        }),
        domain: None,
        capabilities: capabilities.map(|one| Capability { r#type: Some(one.into()) }).to_vec(),
    }
}
