// SPDX-License-Identifier: Apache-2.0
//! The states of a native container.
//!
//! ```text
//! STARTING ─Accepted→ PROVISIONING ─Provisioned→ PREPARING ─Forked→ ISOLATING ─Isolated→ FETCHING ─Fetched→ RUNNING
//!     │                    │                        │                  │                   │                 │
//!     └────────────────────┴────────────────────────┴──────Destroy─────┴───────────────────┴─────────────────┘
//!                                                          ↓
//!                                                     DESTROYING
//! ```
//!
//! Nothing leaves DESTROYING; a second Destroy stays there, so that all who ask share one end.

use crate::Class;
use crate::wire::wire_enum;

wire_enum! {
    /// The state of a native container.
    pub enum NativeState {
        /// There is a record and nothing else.
        Starting = 0 => "STARTING",
        /// The root filesystem is being made from the image.
        Provisioning = 1 => "PROVISIONING",
        /// The isolators are being asked, and the process is being made.
        Preparing = 2 => "PREPARING",
        /// The process exists and waits; limits are being put on it.
        Isolating = 3 => "ISOLATING",
        /// URIs are being fetched into the sandbox.
        Fetching = 4 => "FETCHING",
        /// The command was let go.
        Running = 5 => "RUNNING",
        /// It is being killed and cleaned up.
        Destroying = 6 => "DESTROYING",
    }
}

wire_enum! {
    /// What moves a native container from one state to the next.
    pub enum NativeEvent {
        /// The launch was accepted.
        Accepted = 0 => "accepted",
        /// The root filesystem is there, or none is needed.
        Provisioned = 1 => "provisioned",
        /// The process exists and its pid is recorded.
        Forked = 2 => "forked",
        /// Every isolator is done.
        Isolated = 3 => "isolated",
        /// The fetcher is done, and the command was let go.
        Fetched = 4 => "fetched",
        /// Someone wants the container gone.
        Destroy = 5 => "destroy",
    }
}

/// An event that does not belong to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A step finished though the container is to go; the launch ends here.
    #[error("Container is being destroyed during {}", .0.phase())]
    Destroying(NativeEvent),
    /// A step finished that was not under way: a fault of ours.
    #[error("event '{event}' does not belong to state {state}; report this as a bug")]
    OutOfOrder {
        /// The state of the container.
        state: NativeState,
        /// What came.
        event: NativeEvent,
    },
}

impl Denied {
    /// Destroyed meanwhile is a conflict; a wrong order is a fault of ours.
    pub fn class(&self) -> Class {
        match self {
            Denied::Destroying(_) => Class::Conflict,
            Denied::OutOfOrder { .. } => Class::Internal,
        }
    }
}

impl NativeState {
    /// The state after `event`.
    pub fn next(self, event: NativeEvent) -> Result<NativeState, Denied> {
        use {NativeEvent as Event, NativeState as State};
        match (self, event) {
            (_, Event::Destroy) => Ok(State::Destroying),
            (State::Starting, Event::Accepted) => Ok(State::Provisioning),
            (State::Provisioning, Event::Provisioned) => Ok(State::Preparing),
            (State::Preparing, Event::Forked) => Ok(State::Isolating),
            (State::Isolating, Event::Isolated) => Ok(State::Fetching),
            (State::Fetching, Event::Fetched) => Ok(State::Running),
            (State::Destroying, event) => Err(Denied::Destroying(event)),
            (state, event) => Err(Denied::OutOfOrder { state, event }),
        }
    }

    /// Mesos's words for a launch whose container was destroyed in this state.
    pub fn destroyed_text(self) -> String {
        match self {
            NativeState::Starting | NativeState::Provisioning => "Container destroyed during provisioning",
            NativeState::Preparing => "Container destroyed during preparing",
            NativeState::Isolating => "Container destroyed during isolating",
            NativeState::Fetching => "Container destroyed during fetching",
            NativeState::Running | NativeState::Destroying => "Container destroyed",
        }
        .to_owned()
    }
}

impl NativeEvent {
    /// The phase that the event ends, in Mesos's words.
    fn phase(self) -> &'static str {
        match self {
            NativeEvent::Accepted | NativeEvent::Provisioned | NativeEvent::Destroy => "provisioning",
            NativeEvent::Forked => "preparing",
            NativeEvent::Isolated => "isolating",
            NativeEvent::Fetched => "fetching",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_in_order_lead_to_running() {
        let steps = &NativeEvent::ALL[..5];
        let end = steps.iter().try_fold(NativeState::Starting, |state, event| state.next(*event));
        assert_eq!(end, Ok(NativeState::Running));
    }

    #[test]
    fn destroy_is_legal_everywhere_and_nothing_leaves_it() {
        for state in NativeState::ALL {
            assert_eq!(state.next(NativeEvent::Destroy), Ok(NativeState::Destroying));
        }
        for event in &NativeEvent::ALL[..5] {
            assert_eq!(NativeState::Destroying.next(*event), Err(Denied::Destroying(*event)));
        }
        let denied = NativeState::Destroying.next(NativeEvent::Isolated).unwrap_err();
        assert_eq!(denied.to_string(), "Container is being destroyed during isolating");
        assert_eq!(NativeState::Fetching.destroyed_text(), "Container destroyed during fetching");
    }

    #[test]
    fn every_state_but_the_last_two_has_one_step_onward() {
        for state in NativeState::ALL {
            let onward = NativeEvent::ALL[..5].iter().filter(|event| state.next(**event).is_ok()).count();
            let ends = matches!(state, NativeState::Running | NativeState::Destroying);
            assert_eq!(onward, usize::from(!ends), "{state}");
        }
    }
}
