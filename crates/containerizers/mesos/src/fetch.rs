// SPDX-License-Identifier: Apache-2.0
//! The stage FETCHING: what a command's URIs name is brought into its sandbox.
//!
//! The container's first process waits at the gate meanwhile, isolated and with its limits, and nothing of the container
//! runs: whoever ends the launch there ends a child of ours, and undoes what was made. Its pid is not recorded yet: a
//! killed agent takes its fetching child along (PR_SET_PDEATHSIG), and nothing is left for the next one to remember.

use crate::native::Native;
use crate::request::{Request, Watch};
use crate::{Error, Result};
use berth_fetcher::{Config, FetchError, Fetcher, OpenError, Progress, RunAs, Stop};
use berth_image::{Cancel, ResolvedUser};
use berth_model::{ContainerConfig, NativeEvent, Uri};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// CHOWN, DAC_OVERRIDE, FOWNER, LINUX_IMMUTABLE, SYS_ADMIN: whoever has one of them is not kept out by the mode of a file.
const OVER_FILES: [u8; 5] = [0, 1, 3, 9, 21];

/// Where fetched files come from, for all containers of one owner.
#[derive(Clone)]
pub struct Fetching {
    inner: Arc<Inner>,
    after: Option<AfterFetch>,
}

/// Is told of each container whose URIs have come, before anything of it runs; what it complains is logged.
pub type AfterFetch = Arc<dyn Fn(&str, &Path) -> Vec<String> + Send + Sync>;

struct Inner {
    config: Config,
    /// None until the cache could be opened.
    open: Mutex<Option<Fetcher>>,
}

impl Fetching {
    /// With a cache, which is emptied now. A full or read-only disk is no reason to fail: it is tried again by the first
    /// that needs it.
    ///
    /// # Errors
    /// The cache is another's, or could be changed by others.
    pub fn with_cache(config: Config) -> std::result::Result<Fetching, OpenError> {
        let open = match Fetcher::open(config.clone()) {
            Ok(fetcher) => Some(fetcher),
            Err(error @ OpenError::Io { .. }) => {
                crate::shared::warn(&format!(
                    "URIs can not be fetched: {}; it is tried again when one is asked for",
                    crate::collect::chain(&error)
                ));
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Fetching { inner: Arc::new(Inner { config, open: Mutex::new(open) }), after: None })
    }

    /// For one container.
    pub fn without_cache(config: Config) -> Fetching {
        let open = Mutex::new(Some(Fetcher::without_cache(config.clone())));
        Fetching { inner: Arc::new(Inner { config, open }), after: None }
    }

    /// Calls this after each fetch.
    #[must_use]
    pub fn followed_by(mut self, after: Option<AfterFetch>) -> Fetching {
        self.after = after;
        self
    }

    /// A container has its URIs.
    pub(crate) fn done(&self, id: &str, sandbox: &Path) {
        let complaints = self.after.as_ref().map(|after| after(id, sandbox)).unwrap_or_default();
        complaints.iter().for_each(|complaint| crate::shared::warn(complaint));
    }

    /// Numbers so far; none before there was anything to fetch with.
    pub fn metrics(&self) -> Option<berth_fetcher::Metrics> {
        let open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(Fetcher::metrics)
    }

    fn fetcher(&self) -> std::result::Result<Fetcher, OpenError> {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(fetcher) => Ok(fetcher.clone()),
            None => Ok(open.insert(Fetcher::open(self.inner.config.clone())?).clone()),
        }
    }
}

impl fmt::Debug for Fetching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetching").field("cache_dir", &self.inner.config.cache_dir).finish_non_exhaustive()
    }
}

/// Is told how far a fetch is, now and then, on the thread that launches.
pub struct WatchFetch(pub Box<dyn Fn(&Progress<'_>) + Send>);

impl fmt::Debug for WatchFetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchFetch")
    }
}

/// Where the children of a fetch write, and what they fill.
pub(crate) struct Ends<'a> {
    pub(crate) sandbox: BorrowedFd<'a>,
    pub(crate) stdout: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
}

impl Native {
    /// Refuses URIs that can not be fetched whatever the world looks like, before anything is made.
    pub(crate) fn check_uris(&self, uris: &[Uri]) -> Result<()> {
        if uris.is_empty() {
            return Ok(());
        }
        self.open_fetcher()?.check(uris).map_err(Error::Uri)
    }

    /// Brings a container's URIs.
    pub(crate) fn fetch(
        &self,
        id: &str,
        uris: &[Uri],
        user: &RunAs,
        ends: &Ends<'_>,
        from: (&Cancel, Option<&WatchFetch>),
        watch: &mut Option<Watch>,
    ) -> Result<()> {
        let (cancel, progress) = from;
        Watch::tell(watch, NativeEvent::Forked)?;
        Watch::tell(watch, NativeEvent::Isolated)?;
        crate::fault::point("fetch")?;
        let failed = |source| Error::Fetch { id: id.to_owned(), source };
        let none = |source| failed(FetchError::Host { what: "make what would end the fetch".into(), source });
        let stop = Stop::new().map_err(none)?;
        // A destroy is heard at once, whatever the fetch waits for.
        let ends_it = stop.clone();
        let hook = cancel.on_cancel(move || ends_it.kill());
        let request = berth_fetcher::Request {
            container: id,
            uris,
            sandbox: ends.sandbox,
            stdout: ends.stdout,
            stderr: ends.stderr,
            user: Some(user),
        };
        let fetched = self.open_fetcher()?.fetch(&request, &stop, &|now| {
            if let Some(WatchFetch(tell)) = progress {
                tell(&now);
            }
        });
        drop(hook);
        crate::fault::point("fetched")?;
        match fetched {
            Ok(_) => Ok(()),
            Err(FetchError::Stopped) => {
                // Whoever waits is told in which state it was ended.
                Watch::tell(watch, NativeEvent::Destroy)?;
                Err(Error::Destroyed(FetchError::Stopped.to_string()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn open_fetcher(&self) -> Result<Fetcher> {
        let fetching = self.fetching.as_ref().ok_or_else(|| {
            let text = "URIs can not be fetched here: there is no fetcher";
            Error::from(berth_launcher::Error::Unsupported(text.to_owned()))
        })?;
        fetching.fetcher().map_err(Error::FetcherCache)
    }

    /// As whom a container's URIs are fetched.
    pub(crate) fn run_as(&self, user: &ResolvedUser, config: &ContainerConfig) -> RunAs {
        let mut groups = user.supplementary.clone();
        groups.sort_unstable();
        // What divides the cache is what decides which files of this host may be read: numbers. A name may stand for
        // another number in each image.
        let mut name = format!("{}:{}", user.uid, user.gid);
        groups.iter().for_each(|group| name += &format!(",{group}"));
        RunAs {
            name,
            uid: user.uid,
            gid: user.gid,
            groups: user.supplementary.clone(),
            has_file_capabilities: user.uid == 0 || self.may_override_files(config),
        }
    }

    /// Whether what runs in the container, as whoever, may come to capabilities over files: because they were asked for, or
    /// by a set-user-id program where those work.
    fn may_override_files(&self, config: &ContainerConfig) -> bool {
        let linux = config.container_info.as_ref().and_then(|info| info.linux_info.as_ref());
        let asked = linux.is_some_and(|info| {
            let lists = [&info.capability_info, &info.effective_capabilities];
            let mut all = lists.into_iter().flatten().flat_map(|list| &list.capabilities);
            all.any(|capability| OVER_FILES.contains(&capability.number()))
        });
        let gains = !self.isolators.iter().any(|isolator| isolator.name() == "linux/nnp");
        asked || gains
    }
}

/// What is to be fetched for a request, taken from it.
pub(crate) fn wanted(request: &Request) -> &[Uri] {
    &request.config.command_info.uris
}
