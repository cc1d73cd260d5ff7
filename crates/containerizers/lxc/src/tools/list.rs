// SPDX-License-Identifier: Apache-2.0
//! What containers there are and how they are: from LXC's own tools, in their words.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Call, Error, Name, Result};

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The columns that are asked for.
const COLUMNS: &str = "NAME,STATE,PID,AUTOSTART,GROUPS,IPV4,IPV6,UNPRIVILEGED";

/// A line of `lxc-ls`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The container.
    pub name: String,
    /// In LXC's word, such as RUNNING.
    pub state: String,
    /// Of its init.
    pub pid: Option<u32>,
    /// Whether it starts with the host.
    pub autostart: bool,
    /// Groups it is in.
    pub groups: Vec<String>,
    /// Addresses.
    pub ipv4: Vec<String>,
    /// Addresses.
    pub ipv6: Vec<String>,
    /// Whether its root is not the host's.
    pub unprivileged: bool,
}

/// What `lxc-info` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    /// The container.
    pub name: String,
    /// In LXC's word.
    pub state: String,
    /// Of its init.
    pub pid: Option<u32>,
    /// Addresses.
    pub ips: Vec<String>,
    /// Everything else, as numbers where LXC has numbers.
    pub other: BTreeMap<String, String>,
}

/// The containers of a path; `options` are further options of `lxc-ls`.
///
/// # Errors
/// LXC is not installed, or says no.
pub fn list(lxcpath: &Path, options: &[String]) -> Result<Vec<Row>> {
    let mut call = Call::bare("lxc-ls", "all").option("--lxcpath=", lxcpath).deadline(PATIENCE);
    for option in options {
        call = call.argument(option);
    }
    let ended = call.argument("--fancy").option("--fancy-format=", COLUMNS).run()?;
    Ok(rows(&String::from_utf8_lossy(&ended.stdout)))
}

/// Columns are as wide as their widest value, and a value may have spaces in it (two addresses): so they are cut by where
/// their titles begin.
fn rows(table: &str) -> Vec<Row> {
    let mut lines = table.lines();
    let Some(head) = lines.next() else { return Vec::new() };
    let titles: Vec<(usize, &str)> =
        head.split_whitespace().filter_map(|title| Some((head.find(title)?, title))).collect();
    lines.map(|line| row(line, &titles)).filter(|row| !row.name.is_empty()).collect()
}

fn row(line: &str, titles: &[(usize, &str)]) -> Row {
    let mut row = Row::default();
    for (at, (begin, title)) in titles.iter().enumerate() {
        let end = titles.get(at + 1).map_or(line.len(), |next| next.0).min(line.len());
        let cell = line.get(*begin..end).unwrap_or_default().trim();
        let several = || match cell {
            "-" | "" => Vec::new(),
            cell => cell.split(',').map(|one| one.trim().to_owned()).collect(),
        };
        match *title {
            "NAME" => row.name = cell.to_owned(),
            "STATE" => row.state = cell.to_owned(),
            "PID" => row.pid = cell.parse().ok(),
            "AUTOSTART" => row.autostart = cell == "1",
            "GROUPS" => row.groups = several(),
            "IPV4" => row.ipv4 = several(),
            "IPV6" => row.ipv6 = several(),
            "UNPRIVILEGED" => row.unprivileged = cell == "true",
            _ => {}
        }
    }
    row
}

/// How one container is.
///
/// # Errors
/// There is none of this name; LXC is not installed, or says no.
pub fn info(lxcpath: &Path, name: &Name) -> Result<Info> {
    let call = Call::new("lxc-info", lxcpath, name).argument("--no-humanize").deadline(PATIENCE);
    let ended = call.end(&mut |_| {})?;
    if !ended.status.success() {
        if !name.exists(lxcpath) {
            return Err(Error::Missing { name: name.to_string(), path: lxcpath.to_owned() });
        }
        return Err(call.failed(&ended));
    }
    Ok(told(&String::from_utf8_lossy(&ended.stdout)))
}

fn told(text: &str) -> Info {
    let mut info = Info::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let (key, value) = (key.trim(), value.trim());
        match key {
            "Name" => info.name = value.to_owned(),
            "State" => info.state = value.to_owned(),
            "PID" => info.pid = value.parse().ok(),
            "IP" => info.ips.push(value.to_owned()),
            _ => _ = info.other.insert(key.to_owned(), value.to_owned()),
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_cut_where_its_titles_begin() {
        let table = "\
NAME STATE   PID   AUTOSTART GROUPS IPV4                IPV6 UNPRIVILEGED \n\
b1   STOPPED -     0         -      -                   -    false        \n\
b.2  RUNNING 29138 1         a,b    10.0.3.2, 10.0.4.2  ::1  true         \n";
        let rows = rows(table);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0], Row { name: "b1".to_owned(), state: "STOPPED".to_owned(), ..Row::default() });
        let second = &rows[1];
        assert_eq!((second.pid, second.autostart, second.unprivileged), (Some(29138), true, true));
        assert_eq!(second.ipv4, ["10.0.3.2", "10.0.4.2"]);
        assert_eq!(second.groups, ["a", "b"]);
        assert!(super::rows("").is_empty());
    }

    #[test]
    fn what_lxc_info_says_is_taken_apart() {
        let info = told(
            "Name:           b1\nState:          RUNNING\nPID:            14586\nIP: 10.0.3.2\nCPU use: 5\n",
        );
        assert_eq!((info.name.as_str(), info.state.as_str(), info.pid), ("b1", "RUNNING", Some(14586)));
        assert_eq!(info.ips, ["10.0.3.2"]);
        assert_eq!(info.other["CPU use"], "5");
    }
}
