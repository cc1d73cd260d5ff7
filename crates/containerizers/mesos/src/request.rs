// SPDX-License-Identifier: Apache-2.0
//! What is asked of a launch beside Mesos's ContainerConfig.

use crate::Result;
use crate::fetch::WatchFetch;
use crate::nested::Around;
use crate::provision::ImageSource;
use berth_image::Cancel;
use berth_launcher::{ImageVolume, Supervisor};
use berth_model::{ContainerConfig, ContainerId, NativeEvent};
use std::ffi::CString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A launch.
#[derive(Debug)]
pub struct Request {
    /// The container's id.
    pub id: ContainerId,
    /// Mesos's configuration. `directory` and `rootfs` are filled in by the launch.
    pub config: ContainerConfig,
    /// Where the root file system comes from.
    pub root: RootSource,
    /// The images of its volumes that are images, in the order of the configuration.
    pub volumes: Vec<ImageSource>,
    /// The same, held and open: by the launch.
    pub image_volumes: Vec<ImageVolume>,
    /// The working directory inside; none for the sandbox.
    pub working_directory: Option<String>,
    /// Whether a small init is its first process.
    pub init: bool,
    /// Environment under the configuration's own, which wins.
    pub environment: Vec<(String, String)>,
    /// Everything of it goes when it ends.
    pub remove: bool,
    /// Tell when the program was executed.
    pub notify: bool,
    /// Its supervisor, when one was begun early (see [`Request::begin`]).
    pub supervisor: Option<Supervisor>,
    /// What the program reads when it has no terminal: `None` is /dev/null.
    pub stdin: Option<std::os::fd::OwnedFd>,
    /// Where the first process's pid is written, as decimal text, before it may execute.
    pub pid_checkpoint: Option<PathBuf>,
    /// How its output is kept; none: as the containerizer keeps it. Its environment may change it.
    pub logger: Option<berth_logger::Settings>,
    /// Who is told how far the launch is.
    pub watch: Option<Watch>,
    /// What asks it to end, if its image says so.
    pub stop_signal: Option<i32>,
    /// Ends what brings its URIs.
    pub cancel: Cancel,
    /// Who is told how far that is.
    pub fetching: Option<WatchFetch>,
    /// Those around it, when it is to be in another container.
    pub within: Option<Box<Around>>,
}

impl Request {
    /// Starts the supervisor now, so that it comes up while the caller does other things. It needs no record: it ends by
    /// itself when the request is dropped.
    ///
    /// # Errors
    /// No memory, processes or descriptors left.
    pub fn begin(&mut self) -> Result<()> {
        self.supervisor = Some(Supervisor::begin(&self.title())?);
        Ok(())
    }

    /// What its supervisor is called in process lists.
    pub(crate) fn title(&self) -> CString {
        CString::new(self.id.to_string()).unwrap_or_default()
    }

    /// A launch on the host's own root file system, with nothing special about it.
    pub fn new(id: ContainerId, config: ContainerConfig) -> Request {
        Request {
            id,
            config,
            root: RootSource::Host,
            volumes: Vec::new(),
            image_volumes: Vec::new(),
            working_directory: None,
            init: false,
            environment: Vec::new(),
            remove: false,
            notify: false,
            supervisor: None,
            stdin: None,
            pid_checkpoint: None,
            watch: None,
            logger: None,
            stop_signal: None,
            cancel: Cancel::new(),
            fetching: None,
            within: None,
        }
    }
}

/// Is told each phase of a launch that has ended (`Provisioned`, `Forked`); its error ends the launch there.
pub struct Watch(pub Box<dyn FnMut(NativeEvent) -> Result<()> + Send>);

impl Watch {
    pub(crate) fn tell(watch: &mut Option<Watch>, event: NativeEvent) -> Result<()> {
        watch.as_mut().map_or(Ok(()), |watch| (watch.0)(event))
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

/// Where a root file system comes from.
#[derive(Debug, Clone)]
pub enum RootSource {
    /// The host's own.
    Host,
    /// A directory, which is not written to.
    Directory(PathBuf),
    /// An archive, unpacked for this container.
    Archive(PathBuf),
    /// An image, from the store or pulled.
    Image(Box<ImageSource>),
}

/// Where a container's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// `stdout`.
    Stdout,
    /// `stderr`.
    Stderr,
}

impl Output {
    /// The file's name in the container's directory.
    pub fn name(self) -> &'static str {
        match self {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        }
    }
}

/// How long each phase of a launch took.
#[derive(Debug)]
pub struct Timings {
    last: Instant,
    phases: Vec<(&'static str, Duration)>,
}

impl Timings {
    pub(crate) fn start() -> Timings {
        Timings { last: Instant::now(), phases: Vec::with_capacity(16) }
    }

    /// Ends a phase.
    pub fn mark(&mut self, name: &'static str) {
        let now = Instant::now();
        self.phases.push((name, now - self.last));
        self.last = now;
    }

    /// The phases so far.
    pub fn phases(&self) -> &[(&'static str, Duration)] {
        &self.phases
    }
}

/// The variables of a configuration's command, secrets left out (they come with their resolver).
pub(crate) fn variables(config: &ContainerConfig) -> impl Iterator<Item = (String, String)> + '_ {
    config.command_info.environment.variables.iter().filter_map(|v| Some((v.name.clone(), v.value.clone()?)))
}
