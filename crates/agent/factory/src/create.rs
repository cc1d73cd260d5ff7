// SPDX-License-Identifier: Apache-2.0
//! `create(flags)`: which containerizers there are, and in which order they are asked.
//!
//! The operator's order is kept, as Mesos 0.26 did and as the help text always promised; later versions
//! turned the list into a sorted set, so that `docker` was asked before `mesos` whatever was written.
//!
//! Everything that can be refused is refused before anything is made.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use berth_contract::{Containerizer, EventLog};
use berth_model::Class;

use crate::flags::Flags;
use crate::host::Host;
use crate::isolation::{Isolation, IsolationError, Launcher, check_isolators, normalise_isolation, position};

/// Why a containerizer could not be made, from its maker.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A containerizer, or why there is none.
pub type Made = Result<Arc<dyn Containerizer>, Cause>;

/// Makes one containerizer from the flags; it tells there what happens to its containers.
pub type Maker<'a> = Box<dyn Fn(&Flags, &EventLog) -> Made + 'a>;

/// Makes the native containerizer, from the flags and what the factory has made of them.
pub type NativeMaker<'a> = Box<dyn Fn(&Flags, &Native, &EventLog) -> Made + 'a>;

/// Makes one containerizer of several, which are asked in this order and tell what happens in the same place.
pub type ComposingMaker<'a> = Box<dyn Fn(&Flags, Vec<Arc<dyn Containerizer>>, &EventLog) -> Made + 'a>;

/// What this build has. `None` is a type that is known, but not built.
pub struct Makers<'a> {
    /// Of `mesos`.
    pub mesos: Option<NativeMaker<'a>>,
    /// Of `docker`.
    pub docker: Option<Maker<'a>>,
    /// Of `lxc`.
    pub lxc: Option<Maker<'a>>,
    /// Of `external`.
    pub external: Option<Maker<'a>>,
    /// Of several in one.
    pub composing: Option<ComposingMaker<'a>>,
    /// Whether the native containerizer has an isolator of this name.
    pub has_isolator: Box<dyn Fn(&str) -> bool + 'a>,
    /// Backends of the native containerizer's provisioner.
    pub backends: &'a [&'a str],
}

impl Default for Makers<'_> {
    /// Nothing is built; all isolators of the table and the usual backends are there.
    fn default() -> Self {
        Makers {
            mesos: None,
            docker: None,
            lxc: None,
            external: None,
            composing: None,
            has_isolator: Box::new(|name| position(name).is_some()),
            backends: &["overlay", "copy", "bind"],
        }
    }
}

impl fmt::Debug for Makers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Makers")
            .field("mesos", &self.mesos.is_some())
            .field("docker", &self.docker.is_some())
            .field("lxc", &self.lxc.is_some())
            .field("external", &self.external.is_some())
            .field("composing", &self.composing.is_some())
            .field("backends", &self.backends)
            .finish_non_exhaustive()
    }
}

/// What the flags mean for the native containerizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// The isolators, complete and in order.
    pub isolation: Isolation,
    /// How processes are made.
    pub launcher: Launcher,
    /// Kinds of images it takes; empty: none.
    pub images: Vec<ImageKind>,
    /// The backend that the operator chose.
    pub backend: Option<String>,
}

/// A kind of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// `docker`.
    Docker,
    /// `oci` (an addition of ours).
    Oci,
    /// `appc`; only where it is asked for, as its images carry nobody's signature.
    Appc,
}

/// What [`create`] made.
pub struct Created {
    /// The one containerizer of the agent.
    pub containerizer: Arc<dyn Containerizer>,
    /// What the operator should be told.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created")
            .field("containerizer", &self.containerizer.name())
            .field("warnings", &self.warnings)
            .finish()
    }
}

/// The types of containerizers that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The native one.
    Mesos,
    /// Containers of a Docker daemon.
    Docker,
    /// Containers of LXC.
    Lxc,
    /// Containers of the operator's own program.
    External,
    /// Several of the others in one; it has no name in the flag.
    Composing,
}

impl Kind {
    fn parse(name: &str) -> Option<Kind> {
        match name {
            "mesos" => Some(Kind::Mesos),
            "docker" => Some(Kind::Docker),
            "lxc" => Some(Kind::Lxc),
            "external" => Some(Kind::External),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Mesos => "MesosContainerizer",
            Kind::Docker => "DockerContainerizer",
            Kind::Lxc => "LxcContainerizer",
            Kind::External => "ExternalContainerizer",
            Kind::Composing => "ComposingContainerizer",
        })
    }
}

/// Why there is no containerizer.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A name twice. (The flag's name is written so in Mesos.)
    #[error("Duplicate entries found in --containerizer flag '{0}'")]
    Duplicate(String),
    /// A name that stands for nothing.
    #[error("Unknown or unsupported containerizer: {0}")]
    Unknown(String),
    /// A type that is known, but that this version lacks.
    #[error("Could not create {0}: not built into this version of berth")]
    NotBuilt(Kind),
    /// The isolators or the launcher can not be.
    #[error("Could not create MesosContainerizer: {0}")]
    Isolation(#[from] IsolationError),
    /// An image type that stands for nothing.
    #[error("Could not create MesosContainerizer: Failed to create provisioner: Unknown image type '{0}'")]
    UnknownImage(String),
    /// A backend that there is not.
    #[error(
        "Could not create MesosContainerizer: Failed to create provisioner: \
         The specified provisioner backend '{0}' is not supported: Not found"
    )]
    Backend(String),
    /// Images without anything that reads their configuration.
    #[error(
        "Docker runtime isolator has to be specified if '{0}' is included in 'image_providers'. \
         Please add 'docker/runtime' to '--isolation' flags"
    )]
    DockerRuntime(&'static str),
    /// The maker failed.
    #[error("Could not create {kind}: {cause}")]
    Child {
        /// Of what.
        kind: Kind,
        /// Why. It stands in the message, as it does in Mesos.
        cause: Cause,
    },
}

impl CreateError {
    /// The line with which the agent exits.
    pub fn fatal(&self) -> String {
        match self {
            // Mesos exits where it finds this, before anybody could put the usual words in front.
            CreateError::DockerRuntime(_) => self.to_string(),
            _ => format!("Failed to create a containerizer: {self}"),
        }
    }

    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match self {
            CreateError::NotBuilt(_) => Class::Unsupported,
            CreateError::Child { .. } => Class::Internal,
            _ => Class::Invalid,
        }
    }
}

/// What [`create`] is going to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The containerizers, in the order in which they are asked.
    pub kinds: Vec<Kind>,
    /// What the flags mean for the native one, if it is among them.
    pub native: Option<Native>,
    /// What the operator should be told.
    pub warnings: Vec<String>,
}

/// Refuses everything that can be refused before anything is made.
pub fn plan(flags: &Flags, host: &Host, makers: &Makers<'_>) -> Result<Plan, CreateError> {
    let (kinds, mut warnings) = which(flags)?;
    for kind in &kinds {
        if !built(*kind, makers) {
            return Err(CreateError::NotBuilt(*kind));
        }
    }
    if kinds.len() > 1 && makers.composing.is_none() {
        return Err(CreateError::NotBuilt(Kind::Composing));
    }
    let native = match kinds.contains(&Kind::Mesos) {
        true => Some(native(flags, host, makers)?),
        false => None,
    };
    if let Some(native) = &native {
        warnings.extend(native.isolation.warnings.iter().cloned());
    }
    Ok(Plan { kinds, native, warnings })
}

/// Makes the agent's containerizer: one bare, or several in one.
pub fn create(flags: &Flags, host: &Host, makers: &Makers<'_>) -> Result<Created, CreateError> {
    let Plan { kinds, native, warnings } = plan(flags, host, makers)?;
    let events = EventLog::default();
    let mut children = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let made = match (kind, &native) {
            (Kind::Mesos, Some(native)) => makers.mesos.as_ref().map(|make| make(flags, native, &events)),
            (Kind::Docker, _) => makers.docker.as_ref().map(|make| make(flags, &events)),
            (Kind::Lxc, _) => makers.lxc.as_ref().map(|make| make(flags, &events)),
            (Kind::External, _) => makers.external.as_ref().map(|make| make(flags, &events)),
            (Kind::Mesos, None) | (Kind::Composing, _) => None,
        };
        let made = made.ok_or(CreateError::NotBuilt(kind))?;
        children.push(made.map_err(|cause| CreateError::Child { kind, cause })?);
    }
    let containerizer = match (&makers.composing, children.len()) {
        (_, 1) => children.remove(0),
        (Some(compose), _) => compose(flags, children, &events)
            .map_err(|cause| CreateError::Child { kind: Kind::Composing, cause })?,
        (None, _) => return Err(CreateError::NotBuilt(Kind::Composing)),
    };
    Ok(Created { containerizer, warnings })
}

/// The types of `--containerizers`, as the operator ordered them.
fn which(flags: &Flags) -> Result<(Vec<Kind>, Vec<String>), CreateError> {
    if flags.isolation == "external" {
        let warning = "The 'external' isolation flag is deprecated, please update your flags to \
                       '--containerizers=external'.";
        return Ok((vec![Kind::External], vec![warning.to_owned()]));
    }
    // Nothing is trimmed, and an empty element is an unknown one, as in Mesos.
    let names: Vec<&str> = flags.containerizers.split(',').collect();
    let mut seen = BTreeSet::new();
    if !names.iter().all(|name| seen.insert(*name)) {
        return Err(CreateError::Duplicate(flags.containerizers.clone()));
    }
    let kinds = names.iter().map(|name| Kind::parse(name).ok_or(CreateError::Unknown((*name).to_owned())));
    Ok((kinds.collect::<Result<_, _>>()?, Vec::new()))
}

fn built(kind: Kind, makers: &Makers<'_>) -> bool {
    match kind {
        Kind::Mesos => makers.mesos.is_some(),
        Kind::Docker => makers.docker.is_some(),
        Kind::Lxc => makers.lxc.is_some(),
        Kind::External => makers.external.is_some(),
        Kind::Composing => makers.composing.is_some(),
    }
}

/// What the flags mean for the native containerizer, checked in the order in which Mesos checks.
fn native(flags: &Flags, host: &Host, makers: &Makers<'_>) -> Result<Native, CreateError> {
    let isolation = normalise_isolation(&flags.isolation)?;
    if flags.image_providers.is_some() {
        if !isolation.has("filesystem/linux") {
            return Err(IsolationError::ImagesNeedFilesystem.into());
        }
        if flags.launcher.as_deref().is_some_and(|launcher| launcher != "linux") {
            return Err(IsolationError::ImagesNeedLauncher.into());
        }
    }
    let launcher = match &flags.launcher {
        Some(name) => Launcher::parse(name)?,
        None => default_launcher(&isolation, host),
    };
    let images = image_kinds(flags, &isolation, launcher)?;
    let backend = flags.image_provisioner_backend.clone();
    if let Some(name) = backend.as_deref().filter(|name| !makers.backends.contains(name)) {
        return Err(CreateError::Backend(name.to_owned()));
    }
    check_isolators(&isolation, launcher, &makers.has_isolator)?;
    Ok(Native { isolation, launcher, images, backend })
}

/// `linux` as soon as an isolator needs it; otherwise what this host and user can do.
fn default_launcher(isolation: &Isolation, host: &Host) -> Launcher {
    let needed = crate::isolation::ORDER.iter().any(|b| b.linux_launcher && isolation.has(b.name));
    if needed { Launcher::Linux } else { host.launcher }
}

fn image_kinds(
    flags: &Flags,
    isolation: &Isolation,
    launcher: Launcher,
) -> Result<Vec<ImageKind>, CreateError> {
    let Some(names) = &flags.image_providers else {
        let possible = isolation.has("filesystem/linux")
            && isolation.has("docker/runtime")
            && launcher == Launcher::Linux;
        return Ok(if possible { vec![ImageKind::Docker, ImageKind::Oci] } else { Vec::new() });
    };
    let mut kinds = Vec::new();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        let kind = match name.to_ascii_lowercase().as_str() {
            "docker" => ImageKind::Docker,
            "oci" => ImageKind::Oci,
            "appc" => ImageKind::Appc,
            _ => return Err(CreateError::UnknownImage(name.to_owned())),
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let read_by_docker = kinds.iter().find(|kind| **kind != ImageKind::Appc);
    if let (Some(kind), false) = (read_by_docker, isolation.has("docker/runtime")) {
        let name = if *kind == ImageKind::Docker { "DOCKER" } else { "OCI" };
        return Err(CreateError::DockerRuntime(name));
    }
    Ok(kinds)
}
