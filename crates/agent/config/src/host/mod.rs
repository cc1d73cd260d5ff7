// SPDX-License-Identifier: Apache-2.0
//! `check-host` (41.5): what this kernel and host offer, found out by doing it, and what is lost where it is
//! missing. Never by a version number: kernels are patched, configured and confined.
//!
//! Nothing is left behind: mounts are detached ones that go with their descriptor; processes are sleepers that
//! end with the probe; each probe has a thread of its own, with which ends what it did to it; directories have names
//! of this process and are removed.

mod groups;
mod kernel;
mod limits;
mod storage;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use berth_sys::Errno;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::log::escape;
use crate::resolved::Resolved;

/// The longest that one probe may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// Whether native containers can run here at all.
    pub ok: bool,
    /// The kernel, as it names itself.
    pub kernel: String,
    /// Each facility.
    pub facilities: Vec<Facility>,
}

/// One thing that a host can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facility {
    /// What it belongs to.
    pub subject: Subject,
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub state: Presence,
    /// What was found, or why it was not.
    pub detail: String,
    /// What its absence costs; only where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<&'static str>,
    /// Whether containers need it.
    pub needed: bool,
}

/// What a facility belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// System calls and what they can do.
    Kernel,
    /// Namespaces.
    Namespaces,
    /// Control groups.
    Cgroups,
    /// The file systems of the agent's directories.
    Storage,
    /// How much there may be of something.
    Limits,
}

/// Whether a facility is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It is.
    There,
    /// It is, but there is little of it.
    Low,
    /// It is not.
    Missing,
}

/// What a probe found: words for what is there, what is low, or why it is missing.
enum Found {
    There(String),
    Low(String),
    Missing(String),
}

impl Found {
    fn there(detail: impl Into<String>) -> Found {
        Found::There(detail.into())
    }
}

impl<E: fmt::Display> From<Result<String, E>> for Found {
    fn from(result: Result<String, E>) -> Found {
        match result {
            Ok(detail) => Found::There(detail),
            Err(why) => Found::Missing(why.to_string()),
        }
    }
}

/// One probe, as data.
struct Probe {
    subject: Subject,
    name: &'static str,
    needed: bool,
    cost: &'static str,
    look: fn(&Site) -> Found,
}

/// Where to look.
struct Site {
    work_dir: PathBuf,
    runtime_dir: PathBuf,
}

/// Looks at this host, for an agent with these directories.
pub fn check_host(flags: &Resolved) -> HostReport {
    let site = Arc::new(Site { work_dir: flags.work_dir.clone(), runtime_dir: flags.runtime_dir.clone() });
    let probes = [kernel::PROBES, kernel::NAMESPACES, groups::PROBES, storage::PROBES, limits::PROBES];
    let facilities: Vec<Facility> = probes.into_iter().flatten().map(|probe| look(probe, &site)).collect();
    let ok = facilities.iter().all(|facility| !facility.needed || facility.state != Presence::Missing);
    HostReport { ok, kernel: escape(&kernel::release()), facilities }
}

fn look(probe: &Probe, site: &Arc<Site>) -> Facility {
    let (state, detail) = match answer(probe.look, site.clone(), PATIENCE) {
        Found::There(detail) => (Presence::There, detail),
        Found::Low(detail) => (Presence::Low, detail),
        Found::Missing(why) => (Presence::Missing, why),
    };
    let cost = (state != Presence::There).then_some(probe.cost);
    Facility {
        subject: probe.subject,
        name: probe.name,
        state,
        detail: escape(&detail),
        cost,
        needed: probe.needed,
    }
}

/// What a probe finds, on a thread of its own: what it does to a thread ends with it, and storage that does not answer
/// takes no more with it than that.
fn answer(look: fn(&Site) -> Found, site: Arc<Site>, patience: Duration) -> Found {
    let (tell, hear) = mpsc::channel();
    let act = move || {
        // Nobody listens any more if it took too long.
        let _ = tell.send(look(&site));
    };
    let thread = match std::thread::Builder::new().name("probe".to_owned()).spawn(act) {
        Ok(thread) => thread,
        Err(error) => return Found::Missing(format!("start a thread: {error}")),
    };
    match hear.recv_timeout(patience) {
        Ok(found) => {
            let _ = thread.join();
            found
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Found::Missing(format!("no answer within {} s: is the storage dead?", patience.as_secs()))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Found::Missing("the probe broke off".to_owned()),
    }
}

/// The directory itself, or the nearest one above it that is there.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"))
}

/// The words for a call that failed.
fn said(what: &'static str) -> impl Fn(Errno) -> String {
    move |errno| format!("{what}: {errno}")
}

impl HostReport {
    /// 0 when native containers can run here, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and booleans are JSON")
    }
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Presence::There => "there",
            Presence::Low => "low",
            Presence::Missing => "missing",
        })
    }
}

impl fmt::Display for HostReport {
    /// For people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["FACILITY", "STATE", "FOUND", "WITHOUT IT"]);
        for facility in &self.facilities {
            let needed =
                if facility.needed && facility.state == Presence::Missing { " (needed)" } else { "" };
            table.add_row([
                facility.name,
                &format!("{}{needed}", facility.state),
                &facility.detail,
                facility.cost.unwrap_or("-"),
            ]);
        }
        writeln!(f, "kernel {}\n\n{}", self.kernel, table.trim_fmt())?;
        let count = |state| self.facilities.iter().filter(|facility| facility.state == state).count();
        let (missing, low) = (count(Presence::Missing), count(Presence::Low));
        let verdict =
            if self.ok { "native containers can run here" } else { "native containers can not run here" };
        writeln!(f, "\n{verdict}: {missing} missing, {low} low")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Arc<Site> {
        Arc::new(Site { work_dir: "/".into(), runtime_dir: "/".into() })
    }

    fn words(found: Found) -> String {
        match found {
            Found::There(text) | Found::Low(text) | Found::Missing(text) => text,
        }
    }

    #[test]
    fn a_probe_that_hangs_or_breaks_is_an_answer_too() {
        let hangs = |_: &Site| -> Found {
            loop {
                std::thread::park();
            }
        };
        let found = answer(hangs, site(), Duration::from_millis(10));
        assert_eq!(words(found), "no answer within 0 s: is the storage dead?");
        let breaks = |_: &Site| -> Found { panic!("as the test wants it") };
        assert_eq!(words(answer(breaks, site(), PATIENCE)), "the probe broke off");
        assert_eq!(words(answer(|_| Found::there("here"), site(), PATIENCE)), "here");
    }

    #[test]
    fn no_two_facilities_have_one_name() {
        let probes = [kernel::PROBES, kernel::NAMESPACES, groups::PROBES, storage::PROBES, limits::PROBES];
        let mut names: Vec<&str> = probes.into_iter().flatten().map(|probe| probe.name).collect();
        names.sort();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
