// SPDX-License-Identifier: Apache-2.0
//! What the agent runs with: every flag that is built, typed, its paths absolute; and every flag that has a
//! value, for those who ask (GET_FLAGS, `check-config`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_factory::{Flags, Loaded};
use berth_model::SecretBytes;

use crate::log::{Format, Level, Logging};
use crate::problem::{Origin, Problem, Problems, What};
use crate::rules;
use crate::table::{Row, State, rows};
use crate::typed::{Given, Sources, Typed, clip};
use crate::value::Value;

/// A configuration that the agent can run with.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// `--work_dir`.
    pub work_dir: PathBuf,
    /// `--runtime_dir`.
    pub runtime_dir: PathBuf,
    /// `--socket`.
    pub socket: PathBuf,
    /// `--socket_group`.
    pub socket_group: String,
    /// Where to serve over TCP, if `--ip` or `--port` asks for that.
    pub tcp: Option<SocketAddr>,
    /// The master of this node, if `--local_master` asks for one.
    pub local_master: Option<LocalMaster>,
    /// Who is asked over TCP who they are.
    pub http: Http,
    /// `--logging_level` and `--log_format`.
    pub logging: Logging,
    /// `--http_heartbeat_interval`.
    pub http_heartbeat_interval: Duration,
    /// `--executor_shutdown_grace_period`.
    pub executor_shutdown_grace_period: Duration,
    /// `--executor_registration_timeout`.
    pub executor_registration_timeout: Duration,
    /// `--executor_reregistration_timeout`.
    pub executor_reregistration_timeout: Duration,
    /// `--executor_reregistration_retry_interval`.
    pub executor_reregistration_retry_interval: Option<Duration>,
    /// `--recovery_timeout`.
    pub recovery_timeout: Duration,
    /// `--http_executor_domain_sockets`.
    pub http_executor_domain_sockets: bool,
    /// `--executor_environment_variables`.
    pub executor_environment_variables: BTreeMap<String, String>,
    /// `--authenticate_http_executors` and `--jwt_secret_key`.
    pub executors: ExecutorTokens,
    /// `--switch_user`: whether containers run as who they name, and not as the agent.
    pub switch_user: bool,
    /// `--max_completed_executors_per_framework`.
    pub max_completed_executors_per_framework: usize,
    /// `--gc_delay`.
    pub gc_delay: Duration,
    /// `--gc_disk_headroom`, from 0 to 1.
    pub gc_disk_headroom: f64,
    /// `--disk_watch_interval`.
    pub disk_watch_interval: Duration,
    /// `--recover`.
    pub recover: Recover,
    /// `--strict`.
    pub strict: bool,
    /// What the factory makes containerizers and resources from.
    pub factory: Flags,
    /// What the operator should be told.
    pub warnings: Vec<String>,
    settings: Vec<Setting>,
}

/// `--authenticate_http_readonly`, `--authenticate_http_readwrite` and `--http_credentials`. They concern TCP: who may open
/// the socket is told by its mode and group.
#[derive(Debug, Clone, Default)]
pub struct Http {
    /// Whoever asks the endpoints that read.
    pub readonly: bool,
    /// Whoever asks the API.
    pub readwrite: bool,
    /// The contents of the credentials, JSON.
    pub credentials: Option<SecretBytes>,
}

/// What executors of frameworks show that they are who they say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutorTokens {
    /// Whether they are asked for it.
    pub authenticate: bool,
    /// The file with the key that their tokens are made with; none: they get none.
    pub key: Option<PathBuf>,
}

/// How schedulers of this node are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalMaster {
    /// Where.
    pub address: SocketAddr,
    /// `--allocation_interval`.
    pub allocation_interval: Duration,
    /// `--offer_timeout`.
    pub offer_timeout: Option<Duration>,
}

/// What becomes of the containers of an agent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recover {
    /// They go on.
    Reconnect,
    /// They are destroyed, and the agent exits.
    Cleanup,
}

/// One flag as it is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The flag.
    pub row: &'static Row,
    /// Its value, if it has one.
    pub value: Option<Value>,
    /// Where the value comes from.
    pub origin: Origin,
    /// Where else the flag was given, without effect.
    pub shadowed: Vec<Origin>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.name == other.name
    }
}

impl Setting {
    /// The value as text; `***` for a secret.
    pub fn text(&self) -> Option<String> {
        let value = self.value.as_ref()?;
        Some(if self.row.secret { "***".to_owned() } else { value.to_string() })
    }
}

/// Reads and checks everything that the agent's configuration is made of.
///
/// # Errors
/// All that is wrong with it, at once.
pub fn load(sources: &Sources) -> Result<Resolved, Problems> {
    let (resolved, problems) = examine(sources);
    match resolved {
        Some(resolved) if problems.is_empty() => Ok(resolved),
        _ => Err(Problems(problems)),
    }
}

/// As [`load`], with what could be resolved in spite of the problems. Flags that are wrong are left out of it.
pub fn examine(sources: &Sources) -> (Option<Resolved>, Vec<Problem>) {
    let (mut typed, mut problems) = Typed::read(sources);
    problems.extend(refuse_not_built(&mut typed));
    let resolved = resolve(&typed).map_err(|problem| problems.push(*problem)).ok();
    if let Some(resolved) = &resolved {
        problems.extend(rules::check(&typed, resolved));
    }
    (resolved, problems)
}

/// Flags without anything behind them that have another value than their default. They are taken out of
/// `typed`, so that nobody acts on them.
fn refuse_not_built(typed: &mut Typed) -> Vec<Problem> {
    let places = Places::of(typed);
    let mut problems = Vec::new();
    for row in rows().filter(|row| row.state != State::Built) {
        let Some(given) = typed.get(row.name) else { continue };
        let default = places.default(row);
        if default.as_ref() == Some(&places.absolute(given.value.clone())) {
            continue;
        }
        let value = if row.secret { "***".to_owned() } else { clip(&given.written) };
        let mut advice = match default {
            Some(default) => format!("leave it away, or give its default '{default}'"),
            None => "leave it away".to_owned(),
        };
        if let State::Deprecated(instead) = row.state {
            advice = format!("{advice}; it is deprecated, use {instead}");
        }
        let what = What::NotBuilt { name: row.name, value };
        problems.push(Problem::new(what, Some(given.origin.clone()), advice).about(row.name));
        typed.take(row.name);
    }
    problems
}

/// The directories that other defaults stand below.
struct Places {
    work_dir: PathBuf,
    runtime_dir: PathBuf,
    working_directory: PathBuf,
}

impl Places {
    fn of(typed: &Typed) -> Places {
        let path = |name: &str| {
            let default = || crate::table::find(name).and_then(|row| row.default).unwrap_or("/");
            let text = typed.get(name).map_or_else(default, |given| given.text.as_str());
            typed.working_directory.join(text)
        };
        Places {
            work_dir: path("work_dir"),
            runtime_dir: path("runtime_dir"),
            working_directory: typed.working_directory.clone(),
        }
    }

    /// Places that are cleaned by others.
    fn warnings(&self) -> Vec<String> {
        let cleaned = |path: &Path| path.starts_with("/tmp") || path.starts_with("/var/tmp");
        let dirs = [("work_dir", &self.work_dir), ("runtime_dir", &self.runtime_dir)];
        let warning = |(name, path): (&str, &PathBuf)| {
            let path = path.display();
            format!(
                "--{name} '{path}' is below a directory that the system cleans: containers may lose their records"
            )
        };
        dirs.into_iter().filter(|(_, path)| cleaned(path)).map(warning).collect()
    }

    fn default(&self, row: &Row) -> Option<Value> {
        let below = |dir: &Path, text: &str| dir.join(text.trim_start_matches('/')).display().to_string();
        let text = match row.default? {
            text if text.starts_with("<work_dir>") => below(&self.work_dir, &text["<work_dir>".len()..]),
            text if text.starts_with("<runtime_dir>") => {
                below(&self.runtime_dir, &text["<runtime_dir>".len()..])
            }
            text => text.to_owned(),
        };
        Value::parse(row.kind(), &text).ok()
    }

    fn absolute(&self, value: Value) -> Value {
        match value {
            Value::Path(path) => Value::Path(self.working_directory.join(path)),
            other => other,
        }
    }
}

fn resolve(typed: &Typed) -> Result<Resolved, Box<Problem>> {
    let places = Places::of(typed);
    let settings: Vec<Setting> = rows()
        .map(|row| match typed.get(row.name) {
            Some(given) => Setting {
                row,
                value: Some(places.absolute(given.value.clone())),
                origin: given.origin.clone(),
                shadowed: given.shadowed.clone(),
            },
            None => {
                Setting { row, value: places.default(row), origin: Origin::Default, shadowed: Vec::new() }
            }
        })
        .collect();
    let view = View(settings.iter().map(|setting| (setting.row.name, setting)).collect());
    // What is wrong with it the rules say.
    let tcp = tcp(view.0["ip"], view.0["port"]).unwrap_or(None);
    let master = local_master(view.0["local_master"]).unwrap_or(None).map(|address| LocalMaster {
        address,
        allocation_interval: view.duration("allocation_interval"),
        offer_timeout: match view.value("offer_timeout") {
            Some(Value::Duration(timeout)) => Some(*timeout),
            _ => None,
        },
    });
    let http = Http {
        readonly: view.bool("authenticate_http_readonly"),
        readwrite: view.bool("authenticate_http_readwrite"),
        credentials: view.value("http_credentials").map(|json| SecretBytes::new(json.to_string())),
    };
    // Only by an explicit word; without one the rules refuse it.
    let doors = tcp.into_iter().chain(master.map(|master| master.address));
    let exposed = doors.filter(|_| !http.readwrite).map(|address| {
        format!("anybody who can reach {address} can start containers: nobody is asked who they are over TCP")
    });
    let exposed: Vec<String> = exposed.collect();
    Ok(Resolved {
        work_dir: view.path("work_dir"),
        runtime_dir: view.path("runtime_dir"),
        socket: view.path("socket"),
        socket_group: view.text("socket_group"),
        tcp,
        local_master: master,
        http,
        logging: Logging {
            level: Level::parse(&view.text("logging_level")).unwrap_or(Level::Info),
            format: if view.text("log_format") == "json" { Format::Json } else { Format::Text },
        },
        http_heartbeat_interval: view.duration("http_heartbeat_interval"),
        executor_shutdown_grace_period: view.duration("executor_shutdown_grace_period"),
        executor_registration_timeout: view.duration("executor_registration_timeout"),
        executor_reregistration_timeout: view.duration("executor_reregistration_timeout"),
        executor_reregistration_retry_interval: match view.value("executor_reregistration_retry_interval") {
            Some(Value::Duration(interval)) => Some(*interval),
            _ => None,
        },
        recovery_timeout: view.duration("recovery_timeout"),
        http_executor_domain_sockets: view.bool("http_executor_domain_sockets"),
        // What is wrong with it the rules say.
        executor_environment_variables: match view.value("executor_environment_variables") {
            Some(Value::Json(json)) => variables(json).unwrap_or_default(),
            _ => BTreeMap::new(),
        },
        executors: ExecutorTokens {
            authenticate: view.bool("authenticate_http_executors"),
            key: match view.value("jwt_secret_key") {
                Some(Value::Path(path)) => Some(path.clone()),
                _ => None,
            },
        },
        switch_user: view.bool("switch_user"),
        max_completed_executors_per_framework: match view.value("max_completed_executors_per_framework") {
            Some(Value::Integer(number)) => usize::try_from(*number).unwrap_or(usize::MAX),
            other => unreachable!("it is a number with a default, and is {other:?}"),
        },
        gc_delay: view.duration("gc_delay"),
        gc_disk_headroom: view.number("gc_disk_headroom"),
        disk_watch_interval: view.duration("disk_watch_interval"),
        recover: if view.text("recover") == "cleanup" { Recover::Cleanup } else { Recover::Reconnect },
        strict: view.bool("strict"),
        factory: factory_flags(typed, &view)?,
        warnings: typed.warnings.iter().cloned().chain(places.warnings()).chain(exposed).collect(),
        settings,
    })
}

/// Variables with their values; none when that is something else.
pub(crate) fn variables(json: &serde_json::Value) -> Option<BTreeMap<String, String>> {
    let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    let one = |(name, value): (&String, &serde_json::Value)| {
        let value = value.as_str().filter(|value| !value.contains('\0') && is_name(name))?;
        Some((name.clone(), value.to_owned()))
    };
    json.as_object()?.iter().map(one).collect()
}

/// The port of a Mesos agent, which clients try first.
const PORT: u16 = 5051;

/// Where to serve over TCP, when somebody asks for it. Without an address that is this host alone.
pub(crate) fn tcp(ip: &Setting, port: &Setting) -> Result<Option<SocketAddr>, Box<Problem>> {
    let ip = match &ip.value {
        Some(Value::Text(text)) => {
            let why = "it is no address of IPv4 or IPv6";
            let parsed = text.parse::<IpAddr>();
            let advice = "give one such as 127.0.0.1 or ::1";
            Some(parsed.map_err(|_| Box::new(not_allowed(ip, why, advice)))?)
        }
        _ => None,
    };
    let port = match port.value {
        Some(Value::Integer(number)) => {
            let why = "a port is a number from 0 to 65535";
            let parsed = u16::try_from(number);
            let advice = "give one such as 5051; 0 takes a free one";
            Some(parsed.map_err(|_| Box::new(not_allowed(port, why, advice)))?)
        }
        _ => None,
    };
    Ok((ip.is_some() || port.is_some())
        .then(|| SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), port.unwrap_or(PORT))))
}

/// The port of a Mesos master, which clients try first.
const MASTER_PORT: u16 = 5050;

/// Where schedulers are served, when somebody asks for it.
pub(crate) fn local_master(setting: &Setting) -> Result<Option<SocketAddr>, Box<Problem>> {
    let Some(Value::Text(text)) = &setting.value else { return Ok(None) };
    let wrong = || {
        let why = "it is no address with a port";
        Box::new(not_allowed(setting, why, "give one such as 127.0.0.1:5050; port 0 takes a free one"))
    };
    let here = Ipv4Addr::LOCALHOST;
    let address = text
        .parse::<SocketAddr>()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, MASTER_PORT)))
        .or_else(|_| {
            text.trim_start_matches(':').parse::<u16>().map(|port| SocketAddr::new(here.into(), port))
        });
    address.map(Some).map_err(|_| wrong())
}

/// The built flags that the factory knows and the operator gave, in its own type.
fn factory_flags(typed: &Typed, view: &View<'_>) -> Result<Flags, Box<Problem>> {
    let given = typed.iter().filter(|(name, _)| {
        rows().any(|row| row.name == *name && row.state == State::Built && row.factory().is_some())
    });
    let argument = |(name, given): (&'static str, &Given)| match view.0.get(name).map(|s| &s.value) {
        Some(Some(Value::Path(path))) => format!("--{name}={}", path.display()),
        _ => format!("--{name}={}", given.text),
    };
    let loaded = Loaded::read(given.map(argument), []).map_err(|error| {
        let advice = "this is a fault of berth: its two tables of flags disagree";
        Box::new(Problem::new(error, None, advice))
    })?;
    let mut flags = Flags::from(loaded);
    flags.work_dir = view.path("work_dir");
    flags.runtime_dir = view.path("runtime_dir");
    flags.config_dir = view.path("config_dir");
    flags.launcher = Some(view.text("launcher"));
    Ok(flags)
}

/// Typed access to settings that have a default of their type, which the table's tests prove.
struct View<'a>(BTreeMap<&'static str, &'a Setting>);

impl View<'_> {
    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).and_then(|setting| setting.value.as_ref())
    }

    fn path(&self, name: &str) -> PathBuf {
        match self.value(name) {
            Some(Value::Path(path)) => path.clone(),
            other => unreachable!("{name} is a path with a default, and is {other:?}"),
        }
    }

    fn text(&self, name: &str) -> String {
        match self.value(name) {
            Some(Value::Text(text)) => text.clone(),
            other => unreachable!("{name} is a text with a default, and is {other:?}"),
        }
    }

    fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Duration(duration)) => *duration,
            other => unreachable!("{name} is a duration with a default, and is {other:?}"),
        }
    }

    fn number(&self, name: &str) -> f64 {
        match self.value(name) {
            Some(Value::Number(number)) => *number,
            other => unreachable!("{name} is a number with a default, and is {other:?}"),
        }
    }

    fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Bool(value)) => *value,
            other => unreachable!("{name} is a boolean with a default, and is {other:?}"),
        }
    }
}

impl Resolved {
    /// Every flag, in the order of the table.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// One flag.
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.row.name == name)
    }

    /// Name and value of each flag that has a value, sorted by name, as GET_FLAGS answers; secrets are masked.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags: Vec<(&'static str, String)> =
            self.settings.iter().filter_map(|s| Some((s.row.name, s.text()?))).collect();
        flags.sort();
        flags
    }
}

/// What `--name=value` of this kind would be refused with; for rules that judge values.
pub(crate) fn not_allowed(setting: &Setting, why: impl Into<String>, advice: impl Into<String>) -> Problem {
    let value = setting.text().unwrap_or_default();
    let what = What::NotAllowed { name: setting.row.name, value: clip(&value), why: why.into() };
    Problem::new(what, Some(setting.origin.clone()), advice).about(setting.row.name)
}
