// SPDX-License-Identifier: Apache-2.0
//! Every flag, as data: the one table that the parser, the help text, `check-config` and GET_FLAGS read.
//!
//! The type and older name of a flag that touches containers come from the factory, which has them already
//! ([`berth_factory::KNOWN`]); here stand its defaults, what it is for, and whether anything is behind it.
//! [`State::NotBuilt`] is the honest state of every flag that nothing reads: it is refused unless its value
//! is its default. Who builds what is behind a flag takes `not_built()` off its row, in the same commit.

mod agent;
mod containers;
mod network;
mod storage;

use berth_factory::{FlagKind, Known};

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name: `--name=value`, `BERTH_NAME`, `MESOS_NAME`, `name = value`.
    pub name: &'static str,
    /// What it is for; a sentence without a full stop.
    pub help: &'static str,
    /// What holds when it is not given. `<work_dir>` and `<runtime_dir>` stand for the value of those flags.
    pub default: Option<&'static str>,
    /// What holds in Mesos, for who comes from there.
    pub mesos: Option<&'static str>,
    /// Whether anything is behind it.
    pub state: State,
    /// Whether its value is never shown.
    pub secret: bool,
    /// The only values it may have; empty: no such list.
    pub choices: &'static [&'static str],
    /// Its type, where the factory does not know the flag.
    own: Option<FlagKind>,
}

/// Whether anything is behind a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// This version does what it asks for.
    Built,
    /// Its name is known from Mesos, and nothing is behind it: only its default is accepted.
    NotBuilt,
    /// It is on its way out; what to use instead. Only its default is accepted.
    Deprecated(&'static str),
}

/// Flags that belong together in `--help`.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The heading.
    pub title: &'static str,
    /// The flags.
    pub rows: &'static [Row],
}

/// The whole table, by subject.
pub const GROUPS: &[Group] = &[
    Group { title: "The agent", rows: agent::AGENT },
    Group { title: "Recovery and collection", rows: agent::RECOVERY },
    Group { title: "Containerizers and executors", rows: containers::GENERAL },
    Group { title: "Control groups, devices, security", rows: containers::LIMITS },
    Group { title: "Docker containerizer", rows: containers::DOCKER },
    Group { title: "External containerizer", rows: containers::EXTERNAL },
    Group { title: "Images", rows: storage::IMAGES },
    Group { title: "Fetcher", rows: storage::FETCHER },
    Group { title: "Disk and volumes", rows: storage::DISK },
    Group { title: "Network", rows: network::NETWORK },
    Group { title: "Modules and oversubscription", rows: agent::MODULES },
    Group { title: "Scheduling on this node", rows: agent::MASTER },
    Group { title: "Membership in a Mesos cluster", rows: agent::CLUSTER },
];

/// Every flag in the order of the help text.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    GROUPS.iter().flat_map(|group| group.rows)
}

/// The flag that goes by this name or an older one; hyphens stand for underscores.
pub fn find(name: &str) -> Option<&'static Row> {
    let name = name.replace('-', "_");
    rows().find(|row| row.name == name || row.alias() == Some(&*name))
}

/// The name of a flag that is most like `name`, if any is like it at all.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name: String = name.chars().take(80).collect::<String>().to_lowercase().replace('-', "_");
    let names = rows().flat_map(|row| [Some(row.name), row.alias()]).flatten();
    let (distance, nearest) =
        names.map(|known| (strsim::damerau_levenshtein(&name, known), known)).min_by_key(|(d, _)| *d)?;
    // A third of the letters wrong is another word.
    (distance <= (nearest.len().max(name.chars().count()) / 3).max(1)).then_some(nearest)
}

impl Row {
    /// What its text has to be.
    pub fn kind(&self) -> FlagKind {
        match self.own {
            Some(kind) => kind,
            None => self.factory().expect("a row without a type of its own is in the factory's table").kind,
        }
    }

    /// An older name for it.
    pub fn alias(&self) -> Option<&'static str> {
        self.factory().and_then(|known| known.alias)
    }

    /// The factory's row, if it reads the flag or passes it on.
    pub fn factory(&self) -> Option<&'static Known> {
        berth_factory::KNOWN.iter().find(|known| known.name == self.name)
    }

    /// Whether Mesos has a flag of this name, so that `MESOS_NAME` means it.
    pub fn is_of_mesos(&self) -> bool {
        self.own.is_none() || self.mesos.is_some() || self.state != State::Built
    }

    /// The type in a word, for people.
    pub fn kind_name(&self) -> &'static str {
        match self.kind() {
            FlagKind::Bool => "true or false",
            FlagKind::Text => "text",
            FlagKind::Path => "a path",
            FlagKind::Duration => "a duration such as 10secs, 5mins, 1weeks",
            FlagKind::Bytes => "a size such as 512KB, 10MB, 2GB",
            FlagKind::Integer => "a whole number",
            FlagKind::Number => "a number",
            FlagKind::Indices => "whole numbers with commas between them",
            FlagKind::Json => "JSON, or the path of a file that holds it",
        }
    }

    const fn both(mut self, default: &'static str) -> Row {
        self.default = Some(default);
        self.mesos = Some(default);
        self
    }

    const fn ours(mut self, default: &'static str) -> Row {
        self.default = Some(default);
        self
    }

    const fn mesos(mut self, default: &'static str) -> Row {
        self.mesos = Some(default);
        self
    }

    const fn not_built(mut self) -> Row {
        self.state = State::NotBuilt;
        self
    }

    const fn deprecated(mut self, instead: &'static str) -> Row {
        self.state = State::Deprecated(instead);
        self
    }

    const fn secret(mut self) -> Row {
        self.secret = true;
        self
    }

    const fn one_of(mut self, choices: &'static [&'static str]) -> Row {
        self.choices = choices;
        self
    }

    const fn of(mut self, kind: FlagKind) -> Row {
        self.own = Some(kind);
        self
    }
}

/// A flag that is built, has no default and is known to the factory, until its row says otherwise.
const fn row(name: &'static str, help: &'static str) -> Row {
    Row {
        name,
        help,
        default: None,
        mesos: None,
        state: State::Built,
        secret: false,
        choices: &[],
        own: None,
    }
}
