// SPDX-License-Identifier: Apache-2.0
//! The suite on two containerizers in one: whatever a single one promises, several promise.

mod ground;

use std::sync::Arc;

use berth_composing::{ComposingContainerizer, Strict};
use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_contract::{Error, EventLog};
use ground::Scripted;

fn subject(site: &Site) -> Subject {
    let events = EventLog::default();
    let refuses = Arc::new(Scripted::new("refuses", &events));
    let fake = Arc::new(FakeContainerizer::publishing(site, events.clone()));
    let composing = ComposingContainerizer::new(vec![refuses, fake], events, Strict::Yes);
    FakeContainerizer::subject(site)
        .replaced_by(composing.expect("a thread can be made"))
        .with_unknown(|_| Error::ContainerNotFound, Some(|_| Error::ContainerNotFound))
        .with_unknown_root(Error::RootNotFound)
}

berth_conformance::suite!(subject);
