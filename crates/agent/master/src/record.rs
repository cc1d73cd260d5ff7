// SPDX-License-Identifier: Apache-2.0
//! What outlives the agent's process: which frameworks there are, and which are over. Their tasks the agent knows
//! itself. What can not be read is told and left behind: schedulers that come back are taken as new ones are.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use berth_proto::v1::FrameworkInfo;
use berth_proto::{decode_json, encode_json};
use berth_record::{Error, Sync, Versioned};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Now;
use crate::framework::Framework;
use crate::state::State;

/// The name of the file.
const FILE: &str = "frameworks";

/// More than 50 completed frameworks and some thousand active ones need.
const CAP: usize = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    frameworks: Vec<Kept>,
    completed: Vec<Kept>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    info: Value,
    registered: f64,
    reregistered: f64,
    unregistered: f64,
}

impl Versioned for Record {
    const KIND: &'static str = "master-frameworks";
    const VERSION: u32 = 1;
}

impl Kept {
    fn of(framework: &Framework) -> Kept {
        Kept {
            info: serde_json::from_slice(&encode_json(&framework.info))
                .expect("the JSON of a message is JSON"),
            registered: framework.registered,
            reregistered: framework.reregistered,
            unregistered: framework.unregistered,
        }
    }

    fn framework(self) -> Option<Framework> {
        let info: FrameworkInfo = decode_json(self.info.to_string().as_bytes()).ok()?;
        info.id.as_ref()?;
        let framework = Framework::new(info, self.registered);
        Some(Framework { reregistered: self.reregistered, unregistered: self.unregistered, ..framework })
    }
}

/// Where it is kept.
#[derive(Debug)]
pub(crate) struct Records(File);

impl Records {
    /// Opens the directory, which is made if it is not there.
    pub(crate) fn open(path: &Path) -> std::io::Result<Records> {
        std::fs::create_dir_all(path)?;
        File::open(path).map(Records)
    }

    /// Reads what the master before left, into the state.
    pub(crate) fn read(&self, state: &mut State, now: Now) {
        let record = match berth_record::read::<Record>(self.0.as_fd(), FILE, CAP) {
            Ok(record) => record,
            Err(Error::Missing { .. }) => return,
            Err(error) => {
                tracing::warn!(%error, "frameworks of the master before are not known: they are taken as they come");
                return;
            }
        };
        state.completed.extend(record.completed.into_iter().filter_map(Kept::framework));
        for framework in record.frameworks.into_iter().filter_map(Kept::framework) {
            state.recover(now, framework);
        }
    }

    /// Writes it anew. It must survive this process, not the host: without a host there are no frameworks.
    pub(crate) fn write(&self, state: &State) {
        let record = Record {
            frameworks: state.frameworks.values().map(Kept::of).collect(),
            completed: state.completed.iter().map(Kept::of).collect(),
        };
        if let Err(error) = berth_record::write(self.0.as_fd(), FILE, &record, Sync::No) {
            tracing::warn!(%error, "frameworks can not be recorded: a restart forgets those that left");
        }
    }
}
