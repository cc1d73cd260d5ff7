// SPDX-License-Identifier: Apache-2.0
//! A file at an address that is no registry's, fetched by the rules for registries: which machines may be reached,
//! redirects, proxies, TLS and credentials of the host, how long is waited and how often tried.
//!
//! Nobody says beforehand what is in such a file, so one that breaks off is begun anew: a rest from another time may be
//! of another file.

use std::io::{self, Read};
use std::sync::Arc;

use berth_image::Cancel;
use berth_model::image::{Registry, Repository};
use ureq_proto::http::Method;

use crate::address::Reach;
use crate::client::Client;
use crate::connect::Op;
use crate::error::RegistryError;
use crate::exchange::{Body, Payload};
use crate::host::{Host, Hosts, Role};
use crate::retry::Retries;
use crate::session::{Ask, Session};
use crate::socket::Patience;
use crate::url::{Url, UrlError};

/// Who chose the host of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// The operator, by a flag: it may be anywhere.
    Operator,
    /// Who named the image: not link-local.
    Image,
}

/// A file at an address.
pub struct RemoteFile {
    session: Session,
    url: Url,
    patience: Patience,
    retries: Retries,
}

impl Client {
    /// The file at an address. The section of the configuration for its host holds, but for mirrors.
    ///
    /// # Errors
    /// The configuration is wrong, or the address has a host that no section can have.
    pub fn file(&self, url: &Url, by: ChosenBy) -> Result<RemoteFile, RegistryError> {
        let host = self.hosts.at(url, by)?;
        let name = host.name.clone();
        // Credentials and tokens are of a repository; a file has none, and this is no registry's name for one.
        let repository: Repository = "aci".parse().expect("a word is a repository");
        let session = Session::new(Arc::clone(&self.shared), host, &name, &repository, "pull", None);
        Ok(RemoteFile { session, url: url.clone(), patience: self.patience, retries: self.retries })
    }
}

impl Hosts {
    fn at(&self, url: &Url, by: ChosenBy) -> Result<Host, RegistryError> {
        let name: Registry = url.origin.host_and_port().parse().map_err(|_| RegistryError::Url {
            url: url.shown(),
            from: "the place of a file".to_owned(),
            source: UrlError::Host,
        })?;
        // As people write it: without the scheme's own port.
        let short = url.origin.authority().parse().unwrap_or_else(|_| name.clone());
        let name = if self.config.own(&name).is_some() { name } else { short };
        let vouched = by == ChosenBy::Operator || self.config.own(&name).is_some();
        let reach = if vouched { Reach::Configured } else { Reach::Named };
        let section = self.config.of(&name);
        Ok(self.host(&name, url.origin.clone(), Role::Registry, String::new(), section, reach)?)
    }
}

impl RemoteFile {
    /// Fetches it: `take` reads all that it wants, and does so from the beginning again when the connection broke.
    ///
    /// # Errors
    /// It can not be had. What `take` itself failed of is inside.
    pub fn fetch<T>(
        &self,
        cancel: &Cancel,
        mut take: impl FnMut(&mut dyn Read) -> io::Result<T>,
    ) -> Result<io::Result<T>, RegistryError> {
        let what = format!("GET {}", self.url.shown());
        let op = Op { what: &what, cancel, patience: &self.patience };
        self.retries.run(self.retries.tries, op, || {
            let ask = Ask { method: Method::GET, url: self.url.clone(), headers: &[] };
            let reply = self.session.ask(&ask, Payload::None, op)?;
            if reply.status != 200 {
                return Err(self.session.unwelcome(reply, op));
            }
            let mut coming = Coming { body: reply.body, failed: None };
            let taken = take(&mut coming);
            match coming.failed {
                Some(error) if taken.is_err() => Err(error),
                _ => Ok(taken),
            }
        })
    }
}

/// A body, and why it ended early.
struct Coming {
    body: Body,
    failed: Option<RegistryError>,
}

impl Read for Coming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.body.read(into).map_err(|error| {
            let text = error.to_string();
            self.failed = Some(error);
            io::Error::other(text)
        })
    }
}
