// SPDX-License-Identifier: Apache-2.0
//! What some containerizers can do beyond the contract. An ability that a technology lacks is an absent
//! facet, which a face refuses by [`require`]; never a method that always fails. The methods have other names
//! than the facets, so that one type can be a containerizer and its own facets.

use std::os::fd::OwnedFd;

use berth_model::{CommandInfo, ContainerConfig, ContainerId, Image};

use crate::{Answer, Error, Variables};

/// The facet, or the refusal `Unsupported`.
pub fn require<T: ?Sized>(facet: Option<&T>) -> Result<&T, Error> {
    facet.ok_or(Error::Unsupported)
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Which streams of a container somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// What it writes. Any number may have it at once.
    Output,
    /// What it reads. One at a time.
    Input,
    /// Both.
    Both,
}

/// The caller's ends of a container's streams.
///
/// Reading to the end of a stream means that the container has closed it. Of a session, closing `stdin` closes it in the
/// session (on a terminal it does not: send the end-of-transmission character). Of [`Attach::connect`] it only detaches,
/// and so does dropping everything: an agent that ends must not end what its containers read. There
/// [`Attach::end_input`] closes it.
#[derive(Debug)]
pub struct Attached {
    /// Write here what the container shall read.
    pub stdin: Option<OwnedFd>,
    /// Read here what it writes; on a terminal everything comes here.
    pub stdout: Option<OwnedFd>,
    /// Read here what it writes as errors; `None` on a terminal.
    pub stderr: Option<OwnedFd>,
}

/// Connecting to the streams of running containers. In Mesos only nested containers under executors have it;
/// here all.
pub trait Attach: Send + Sync {
    /// Connects: output from now on, input after all that was written before. A reader of a terminal's output that does
    /// not keep up loses some of it. Fails with [`Error::UnknownContainer`], [`Error::AttachDisabled`] or
    /// [`Error::AttachEnded`], and with [`berth_model::Class::Conflict`] when somebody else has the input.
    fn connect(&self, id: &ContainerId, streams: Streams) -> Answer<'_, Attached>;

    /// Tells the container's terminal its size.
    fn resize(&self, id: &ContainerId, size: WindowSize) -> Answer<'_, ()>;

    /// Lets the container find the end of its input, after all that was written to `stdin` before this call. Nothing on a
    /// terminal.
    fn end_input(&self, id: &ContainerId) -> Answer<'_, ()> {
        let _ = id;
        crate::ready(Err(Error::Unsupported))
    }
}

/// What to run beside a container's own command.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecRequest {
    /// The command; its user, if any, is a user of the container.
    pub command: CommandInfo,
    /// Variables on top of the container's own.
    pub environment: Variables,
    /// A terminal of this size, instead of three pipes.
    pub terminal: Option<WindowSize>,
}

/// A command that runs in a container, with the caller's ends of its streams.
#[derive(Debug)]
pub struct ExecSession {
    /// The session is a nested container of class DEBUG: wait for it, kill it, destroy it by this id.
    pub id: ContainerId,
    /// Its streams. Nothing it writes is lost between the launch and the first read.
    pub streams: Attached,
}

/// Running further commands in a running container: its namespaces, its cgroups, its environment.
pub trait Exec: Send + Sync {
    /// Starts the command as container `id`, whose parent is the container to run it in.
    fn run(&self, id: &ContainerId, request: ExecRequest) -> Answer<'_, ExecSession>;
}

/// Stopping and resuming all processes of a container.
pub trait Pause: Send + Sync {
    /// Stops all processes; when it is answered they are stopped. A paused one stays paused. It can be
    /// destroyed as it is.
    fn freeze(&self, id: &ContainerId) -> Answer<'_, ()>;

    /// Lets them go on. One that runs just goes on.
    fn thaw(&self, id: &ContainerId) -> Answer<'_, ()>;
}

/// Images that this containerizer pulls itself.
pub trait Pull: Send + Sync {
    /// What a pull would do. Nothing is pulled.
    fn explain(&self, image: Image) -> Answer<'_, PullExplained>;

    /// The images that are kept, and what a collection would do to each now. Nothing is removed.
    fn kept(&self) -> Answer<'_, Vec<ImageKept>>;
}

/// An image that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageKept {
    /// Its record on the host.
    pub path: String,
    /// Bytes of its layers, before they were unpacked and shared.
    pub bytes: u64,
    /// Whether a collection would remove it now.
    pub goes: bool,
    /// Why, or why not; by which names it is known.
    pub reason: String,
}

/// What a pull would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullExplained {
    /// What is really asked for.
    pub reference: String,
    /// Who had it.
    pub source: Option<String>,
    /// The manifest that the reference leads to now.
    pub digest: Option<String>,
    /// What it is made of.
    pub layers: Vec<LayerExplained>,
}

/// A blob of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerExplained {
    /// Its digest.
    pub digest: String,
    /// Its bytes, where they are known.
    pub bytes: Option<u64>,
    /// Whether it is here already.
    pub present: bool,
}

/// Containers in containers. `launch` takes nested ids; they go before their parents; each has limits of its
/// own if it asks for them.
pub trait Nesting: Send + Sync {
    /// How many levels there may be below a top-level container.
    fn depth(&self) -> usize;

    /// The direct children that live.
    fn children(&self, id: &ContainerId) -> Answer<'_, Vec<ContainerId>>;

    /// What was asked of a nested container, living or ended: the containerizer alone remembers that. It may read a record
    /// of it, and waits for nothing.
    fn kept(&self, id: &ContainerId) -> Option<NestedContainer> {
        let _ = id;
        None
    }
}

/// What a containerizer remembers of a nested container.
#[derive(Debug, Clone, PartialEq)]
pub struct NestedContainer {
    /// What was asked for.
    pub config: ContainerConfig,
    /// When, in milliseconds since 1970.
    pub created_ms: u64,
    /// Whether it is a command that runs in its container ([`Exec`]), and none of its own.
    pub session: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_facet_is_refused_as_unsupported() {
        let absent: Option<&dyn Pause> = None;
        let Err(error) = require(absent) else { panic!("an absent facet was handed out") };
        assert_eq!(error.to_string(), "Unsupported");
        assert_eq!(error.class(), berth_model::Class::Unsupported);
    }
}
