// SPDX-License-Identifier: Apache-2.0
//! What the isolators of a running container watch, as its owner holds it.

use crate::collect::chain;
use crate::native::Native;
use crate::shared::warn;
use berth_launcher::{Heard, Isolator, Places, Watched};
use berth_model::{ContainerId, ContainerLimitation};
use berth_sys::rustix::event::{PollFd, PollFlags, epoll};
use std::os::fd::{AsFd, BorrowedFd};

/// The descriptors, each with the place of its isolator in the table.
#[derive(Default)]
pub(crate) struct Watching {
    all: Vec<(usize, Watched)>,
    open: bool,
    /// The limit for which the container is being ended.
    killed: Option<ContainerLimitation>,
}

impl Watching {
    /// Asks all isolators. What can not be watched is done without.
    pub(crate) fn open(native: &Native, id: &ContainerId, places: &Places) -> Watching {
        let mut all = Vec::new();
        for (at, isolator) in native.isolators.iter().enumerate() {
            match isolator.watch(id, places) {
                Ok(watched) => all.extend(watched.into_iter().map(|watched| (at, watched))),
                Err(e) => warn(&format!(
                    "what isolator {} tells of container {id} is not heard: {}",
                    isolator.name(),
                    chain(&e)
                )),
            }
        }
        Watching { all, open: true, killed: None }
    }

    /// Whether the isolators were asked.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// For poll(2), in order.
    pub(crate) fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.all.iter().map(|(_, watched)| {
            let flags = if watched.urgent { PollFlags::PRI } else { PollFlags::IN };
            PollFd::new(&watched.fd, flags)
        })
    }

    /// For epoll(7).
    pub(crate) fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, epoll::EventFlags)> {
        self.all.iter().map(|(_, watched)| {
            let flags = if watched.urgent { epoll::EventFlags::PRI } else { epoll::EventFlags::IN };
            (watched.fd.as_fd(), flags)
        })
    }

    /// Tells the isolators of those that are ready (by their places in [`Watching::polled`]); what limits the container met.
    /// It is to end for one of them if [`Watching::killed`] says so.
    pub(crate) fn hear(
        &mut self,
        isolators: &[Box<dyn Isolator>],
        id: &ContainerId,
        places: &Places,
        ready: &[bool],
    ) -> Vec<ContainerLimitation> {
        let mut met = Vec::new();
        let killed = &mut self.killed;
        let mut ready = ready.iter();
        self.all.retain(|(at, watched)| {
            if !ready.next().is_some_and(|ready| *ready) {
                return true;
            }
            let heard =
                isolators.get(*at).map_or(Heard::Over, |isolator| isolator.heard(id, places, watched));
            match heard {
                Heard::More => true,
                Heard::Over => false,
                Heard::Tell(limitation) => {
                    met.push(*limitation);
                    true
                }
                Heard::Kill(limitation) => {
                    killed.get_or_insert_with(|| (*limitation).clone());
                    met.push(*limitation);
                    true
                }
            }
        });
        met
    }

    /// The first limit for which the container is to end.
    pub(crate) fn killed(&self) -> Option<&ContainerLimitation> {
        self.killed.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sys::rustix::io;
    use berth_sys::rustix::pipe::pipe;
    use std::path::PathBuf;

    fn limitation(message: &str) -> Box<ContainerLimitation> {
        Box::new(ContainerLimitation { message: Some(message.to_owned()), ..ContainerLimitation::default() })
    }

    /// Hears one byte for each token: more, over, tell, kill.
    struct Hears;

    impl Isolator for Hears {
        fn name(&self) -> &'static str {
            "test/hears"
        }

        fn heard(&self, _: &ContainerId, _: &Places, watched: &Watched) -> Heard {
            let mut byte = [0];
            let _ = io::read(&watched.fd, &mut byte);
            match byte[0] {
                b'k' => Heard::Kill(limitation("kill")),
                b't' => Heard::Tell(limitation("tell")),
                b'o' => Heard::Over,
                _ => Heard::More,
            }
        }
    }

    #[test]
    fn isolators_hear_of_what_is_ready_only_and_what_is_over_is_not_watched_any_more() {
        let isolators: Vec<Box<dyn Isolator>> = vec![Box::new(Hears)];
        let id = ContainerId::new("a").unwrap();
        let (runtime, work, sandbox) = (PathBuf::new(), PathBuf::new(), PathBuf::new());
        let places = Places { runtime, work, sandbox, cgroup: String::new() };
        let ends: Vec<_> = (0..3).map(|_| pipe().unwrap()).collect();
        let (from, to): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        let watched = |(token, fd)| (0, Watched { fd, urgent: false, token });
        let all = (0u32..).zip(from).map(watched).collect();
        let mut watching = Watching { all, open: true, killed: None };
        io::write(&to[1], b"o").unwrap();
        assert_eq!(watching.hear(&isolators, &id, &places, &[false, true, false]), []);
        assert_eq!(watching.all.iter().map(|(_, watched)| watched.token).collect::<Vec<_>>(), [0, 2]);
        io::write(&to[0], b"t").unwrap();
        assert_eq!(watching.hear(&isolators, &id, &places, &[true, false]), [*limitation("tell")]);
        assert_eq!(watching.killed(), None);
        io::write(&to[2], b"k").unwrap();
        assert_eq!(watching.hear(&isolators, &id, &places, &[false, true]), [*limitation("kill")]);
        assert_eq!(watching.killed(), Some(&*limitation("kill")));
        assert_eq!(watching.polled().count(), 2);
        assert_eq!(watching.sources().count(), 2);
    }
}
