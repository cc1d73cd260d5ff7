// SPDX-License-Identifier: Apache-2.0
//! The master of this node, where one is asked for: it meets the agent once that knows its tasks.

use std::sync::Arc;

use berth_api::{Authenticate, HttpBasic, Realm};
use berth_master::{LocalMaster, Options};

use crate::agent::Agent;
use crate::error::StartError;
use crate::host;

/// Where it remembers frameworks, below the directory of the agent's records.
const DIRECTORY: &str = "meta/master";

impl Agent {
    /// Starts the master that `--local_master` asks for. To be called once the agent has
    /// [recovered](Agent::recovered), and stopped before the agent is.
    ///
    /// # Errors
    /// It can not be started; the agent goes on without.
    pub async fn local_master(&self) -> Result<Option<LocalMaster>, StartError> {
        let flags = &self.inner.flags;
        let Some(asked) = flags.local_master else { return Ok(None) };
        let core = self.core();
        let options = Options {
            address: asked.address,
            hostname: host::hostname(),
            agent_address: self.tcp(),
            version: core.version(),
            flags: core.flags(),
            authenticate: self.who()?,
            core: Some(core),
            directory: Some(flags.work_dir.join(DIRECTORY)),
            allocation_interval: asked.allocation_interval,
            offer_timeout: asked.offer_timeout,
        };
        Ok(Some(LocalMaster::start(options, self.tasks()).await?))
    }

    /// How schedulers say who they are: as those that ask the agent itself over TCP do.
    fn who(&self) -> Result<Option<Arc<dyn Authenticate>>, StartError> {
        let http = &self.inner.flags.http;
        let readwrite = [Realm::OfMasterReadWrite, Realm::OfMasterScheduler];
        let mut realms = Vec::new();
        realms.extend(http.readonly.then_some(Realm::OfMasterReadOnly));
        realms.extend(readwrite.into_iter().filter(|_| http.readwrite));
        match &http.credentials {
            Some(credentials) if !realms.is_empty() => {
                Ok(Some(Arc::new(HttpBasic::new(credentials.expose_secret(), realms)?)))
            }
            _ => Ok(None),
        }
    }
}
