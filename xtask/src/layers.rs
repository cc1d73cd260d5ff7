// SPDX-License-Identifier: Apache-2.0
//! The direction of imports. The folder of a crate decides its row:
//!
//! ```text
//! base            model, proto, sys, record
//! mechanism       cgroup, image, launcher, isolator, ...
//! containerizer   the contract and the suite that tests it
//! containerizers  those who keep it
//! agent           the factory, the API, the agent
//! bins            programs
//! around          tests, benches, fuzz, xtask
//! ```
//!
//! A crate imports only from rows above its own. Within a row only the edges of [`WITHIN_ROW`] exist, and
//! between containerizers none ever. Concrete containerizers are named by the factory alone. A dependency
//! counts whatever table it stands in: a test that needs what lies below belongs to `tests/`.

use std::fmt;

use crate::workspace::{Dependency, Kind, Member};

/// Edges between crates of one row, by folder: the left one may import the right one.
///
/// An edge is added here in the commit that needs it, with the reason in its message.
pub(crate) const WITHIN_ROW: &[(&str, &str)] = &[
    ("crates/base/proto", "crates/base/model"),
    ("crates/base/record", "crates/base/model"),
    ("crates/base/record", "crates/base/sys"),
    // What is fetched is unpacked by the rules for hostile archives, in a process with a filter.
    ("crates/mechanism/fetcher", "crates/mechanism/image"),
    ("crates/mechanism/fetcher", "crates/mechanism/seccomp"),
    // The launcher is what the mechanisms of a start come together in.
    ("crates/mechanism/launcher", "crates/mechanism/cgroup"),
    // A launch knows its user, whom the image's passwd names.
    ("crates/mechanism/launcher", "crates/mechanism/image"),
    ("crates/mechanism/launcher", "crates/mechanism/logger"),
    ("crates/mechanism/launcher", "crates/mechanism/seccomp"),
    ("crates/mechanism/launcher", "crates/mechanism/supervisor"),
    // The supervisor writes the output of its container through the writers of the logger.
    ("crates/mechanism/supervisor", "crates/mechanism/logger"),
    // An isolator implements the launcher's trait over one mechanism.
    ("crates/mechanism/isolator", "crates/mechanism/launcher"),
    ("crates/mechanism/isolator", "crates/mechanism/cgroup"),
    // Layers of an image are mounted, and what it wants to be there is made, by the rules for hostile trees.
    ("crates/mechanism/isolator", "crates/mechanism/image"),
    ("crates/mechanism/isolator", "crates/mechanism/net"),
    ("crates/mechanism/isolator", "crates/mechanism/seccomp"),
    ("crates/mechanism/isolator", "crates/mechanism/supervisor"),
    // A registry is a source of images, and the store takes them from any.
    ("crates/mechanism/registry", "crates/mechanism/image"),
    ("crates/mechanism/store", "crates/mechanism/image"),
    // From a name to an image in the store: the one place that knows both ends.
    ("crates/mechanism/images", "crates/mechanism/image"),
    ("crates/mechanism/images", "crates/mechanism/registry"),
    ("crates/mechanism/images", "crates/mechanism/store"),
    ("crates/containerizer/conformance", "crates/containerizer/contract"),
    // What is kept of containers that another program makes answers calls of the contract.
    ("crates/containerizer/keeper", "crates/containerizer/contract"),
    // For its own tests.
    ("crates/containerizer/keeper", "crates/containerizer/conformance"),
    // The factory knows the types of flags, and what they mean for containerizers.
    ("crates/agent/config", "crates/agent/factory"),
    ("crates/agent/agent", "crates/agent/api"),
    ("crates/agent/agent", "crates/agent/config"),
    ("crates/agent/agent", "crates/agent/factory"),
    // What executors do and what schedulers ask for goes through the agent's tasks; the agent puts them together.
    ("crates/agent/executor", "crates/agent/tasks"),
    ("crates/agent/master", "crates/agent/tasks"),
    ("crates/agent/master", "crates/agent/api"),
    ("crates/agent/tasks", "crates/agent/api"),
    ("crates/agent/agent", "crates/agent/tasks"),
    ("crates/agent/agent", "crates/agent/executor"),
    ("crates/agent/agent", "crates/agent/master"),
    // The agent as a process, its ground and what it must not leave behind, for tests of its API.
    ("tests/api", "tests/agent"),
    ("tests/lxc", "tests/agent"),
    ("tests/docker", "tests/agent"),
    ("tests/scheduler", "tests/agent"),
    // Recordings compared: what is bound to ours, and the differences that were chosen.
    ("tests/scheduler", "tests/api"),
];

/// The one crate, beside tests and benches, that names concrete containerizers.
const FACTORY: &str = "crates/agent/factory";

/// Raw system calls: `base/sys` wraps them for everyone.
const SYSCALL_CRATES: &[&str] = &["libc", "nix", "syscalls", "sc"];
const SYSCALL_HOME: &str = "crates/base/sys";

/// Runtimes. Mechanisms block and take a deadline, save these two.
const RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "async-global-executor", "glommio", "monoio"];
const ASYNC_MECHANISMS: &[&str] = &["crates/mechanism/image", "crates/mechanism/fetcher"];

/// The layers, from the top, which imports nothing, to the bottom, which nothing imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Base,
    Mechanism,
    Containerizer,
    Containerizers,
    Agent,
    Bins,
    Around,
}

impl Row {
    fn of(folder: &str) -> Option<Row> {
        let mut parts = folder.split('/');
        match (parts.next()?, parts.next()) {
            ("crates", Some("base")) => Some(Row::Base),
            ("crates", Some("mechanism")) => Some(Row::Mechanism),
            ("crates", Some("containerizer")) => Some(Row::Containerizer),
            ("crates", Some("containerizers")) => Some(Row::Containerizers),
            ("crates", Some("agent")) => Some(Row::Agent),
            ("bins", Some(_)) => Some(Row::Bins),
            ("tests", Some(_)) | ("benches" | "fuzz" | "xtask", None) => Some(Row::Around),
            _ => None,
        }
    }
}

/// An edge that the rules refuse.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    from: String,
    to: String,
    why: Why,
}

#[derive(Debug, PartialEq, Eq)]
enum Why {
    NoRow,
    Against,
    Sideways,
    NotListed,
    OnlyFactory,
    RawSyscalls,
    Runtime,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { from, to, why } = self;
        match why {
            Why::NoRow => write!(
                f,
                "{from}: the folder belongs to no layer; put the crate below crates/base, crates/mechanism, \
                 crates/containerizer, crates/containerizers, crates/agent, bins or tests"
            ),
            Why::Against => write!(
                f,
                "{from} imports {to} against the direction of layers; move the type that it needs up, or the \
                 test that needs it to tests/"
            ),
            Why::Sideways => write!(
                f,
                "{from} imports {to} sideways; containerizers and test crates know nothing of one another: \
                 share through the contract or a mechanism"
            ),
            Why::NotListed => write!(
                f,
                "{from} imports {to} of its own row; if it must, add the edge to WITHIN_ROW in \
                 xtask/src/layers.rs and say why in the commit"
            ),
            Why::OnlyFactory => {
                write!(f, "{from} names the containerizer {to}; only {FACTORY} does: ask it for one")
            }
            Why::RawSyscalls => write!(
                f,
                "{from} depends on {to}; raw system calls live in {SYSCALL_HOME} only: use it, or rustix"
            ),
            Why::Runtime => write!(
                f,
                "{from} depends on {to}; base and mechanisms block, take a deadline and know no runtime: move \
                 what is async to the caller"
            ),
        }
    }
}

/// Every edge of the graph that the rules refuse.
pub(crate) fn violations(members: &[Member]) -> Vec<Violation> {
    let mut found = Vec::new();
    for member in members {
        let Some(row) = Row::of(&member.folder) else {
            found.push(Violation { from: member.folder.clone(), to: String::new(), why: Why::NoRow });
            continue;
        };
        for dependency in &member.dependencies {
            if let Some(why) = judge(&member.folder, row, dependency) {
                let to = dependency.folder.as_ref().unwrap_or(&dependency.name).clone();
                found.push(Violation { from: member.folder.clone(), to, why });
            }
        }
    }
    found
}

fn judge(from: &str, row: Row, dependency: &Dependency) -> Option<Why> {
    match &dependency.folder {
        Some(to) => judge_inside(from, row, to),
        None => judge_outside(from, row, dependency),
    }
}

fn judge_inside(from: &str, row: Row, to: &str) -> Option<Why> {
    let Some(target) = Row::of(to) else { return Some(Why::NoRow) };
    if target > row {
        return Some(Why::Against);
    }
    if target == row {
        return match row {
            Row::Containerizers => Some(Why::Sideways),
            _ if WITHIN_ROW.contains(&(from, to)) => None,
            Row::Around => Some(Why::Sideways),
            _ => Some(Why::NotListed),
        };
    }
    let may_name_containerizers = from == FACTORY || row == Row::Around;
    (target == Row::Containerizers && !may_name_containerizers).then_some(Why::OnlyFactory)
}

fn judge_outside(from: &str, row: Row, dependency: &Dependency) -> Option<Why> {
    let name = dependency.name.as_str();
    if SYSCALL_CRATES.contains(&name) && from != SYSCALL_HOME {
        return Some(Why::RawSyscalls);
    }
    let must_block = row <= Row::Mechanism && !ASYNC_MECHANISMS.contains(&from);
    (must_block && dependency.kind == Kind::Normal && RUNTIMES.contains(&name)).then_some(Why::Runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(folder: &str, imports: &[&str]) -> Member {
        let dependencies = imports
            .iter()
            .map(|to| {
                let inside = to.contains('/') || matches!(*to, "benches" | "xtask");
                Dependency {
                    name: to.rsplit('/').next().unwrap().to_owned(),
                    kind: Kind::Normal,
                    folder: inside.then(|| (*to).to_owned()),
                }
            })
            .collect();
        Member { name: folder.replace('/', "-"), folder: folder.to_owned(), dependencies, tests: Vec::new() }
    }

    fn whys(members: &[Member]) -> Vec<Why> {
        violations(members).into_iter().map(|v| v.why).collect()
    }

    #[test]
    fn a_graph_that_only_looks_up_is_accepted() {
        let graph = [
            member("crates/base/model", &["serde"]),
            member("crates/base/record", &["crates/base/model", "crates/base/sys"]),
            member("crates/mechanism/isolator", &["crates/mechanism/launcher", "crates/base/sys"]),
            member("crates/containerizers/mesos", &["crates/containerizer/contract", "crates/base/model"]),
            member("crates/agent/factory", &["crates/containerizers/mesos", "crates/containerizers/docker"]),
            member("bins/berth", &["crates/agent/factory", "crates/base/model"]),
            member("tests/kernel", &["crates/containerizers/mesos", "crates/mechanism/cgroup"]),
            member("benches", &["crates/containerizers/mesos"]),
        ];
        assert_eq!(violations(&graph), []);
    }

    #[test]
    fn a_downward_edge_is_refused_and_both_ends_are_named() {
        let graph = [member("crates/base/model", &["crates/mechanism/cgroup"])];
        let found = violations(&graph);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].why, Why::Against);
        let text = found[0].to_string();
        assert!(text.contains("crates/base/model") && text.contains("crates/mechanism/cgroup"), "{text}");
    }

    #[test]
    fn the_last_layer_is_imported_by_nobody() {
        assert_eq!(whys(&[member("bins/berth", &["benches"])]), [Why::Against]);
        assert_eq!(whys(&[member("crates/agent/agent", &["bins/berth"])]), [Why::Against]);
    }

    #[test]
    fn a_sideways_edge_between_containerizers_is_refused() {
        let graph = [member("crates/containerizers/composing", &["crates/containerizers/mesos"])];
        assert_eq!(whys(&graph), [Why::Sideways]);
    }

    #[test]
    fn a_sideways_edge_between_test_crates_is_refused() {
        assert_eq!(whys(&[member("tests/faults", &["tests/kernel"])]), [Why::Sideways]);
    }

    #[test]
    fn an_edge_within_a_row_needs_a_place_in_the_list_and_has_a_direction() {
        let listed = member("crates/mechanism/launcher", &["crates/mechanism/cgroup"]);
        let backwards = member("crates/mechanism/cgroup", &["crates/mechanism/launcher"]);
        assert_eq!(whys(&[listed]), []);
        assert_eq!(whys(&[backwards]), [Why::NotListed]);
        assert_eq!(whys(&[member("bins/berth", &["bins/berth-init"])]), [Why::NotListed]);
    }

    #[test]
    fn only_the_factory_names_containerizers() {
        assert_eq!(whys(&[member("bins/berth", &["crates/containerizers/mesos"])]), [Why::OnlyFactory]);
        assert_eq!(whys(&[member("crates/agent/agent", &["crates/containerizers/lxc"])]), [Why::OnlyFactory]);
    }

    #[test]
    fn a_crate_in_an_unknown_folder_is_refused() {
        assert_eq!(whys(&[member("crates/misc/things", &[])]), [Why::NoRow]);
        assert_eq!(whys(&[member("bins", &[])]), [Why::NoRow]);
    }

    #[test]
    fn raw_system_calls_are_for_sys_alone() {
        assert_eq!(whys(&[member("crates/base/sys", &["libc"])]), []);
        assert_eq!(whys(&[member("crates/mechanism/cgroup", &["nix"])]), [Why::RawSyscalls]);
        assert_eq!(whys(&[member("tests/kernel", &["libc"])]), [Why::RawSyscalls]);
    }

    #[test]
    fn a_runtime_is_refused_in_what_must_block() {
        assert_eq!(whys(&[member("crates/mechanism/cgroup", &["tokio"])]), [Why::Runtime]);
        assert_eq!(whys(&[member("crates/mechanism/image", &["tokio"])]), []);
        assert_eq!(whys(&[member("crates/agent/agent", &["tokio"])]), []);
    }

    #[test]
    fn every_edge_of_the_list_stays_within_one_row_where_lists_count() {
        for (from, to) in WITHIN_ROW {
            assert_eq!(Row::of(from), Row::of(to), "{from} -> {to}");
            assert_ne!(Row::of(from), Some(Row::Containerizers));
            assert!(!WITHIN_ROW.contains(&(to, from)), "{from} <-> {to}");
        }
    }
}
