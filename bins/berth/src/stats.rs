// SPDX-License-Identifier: Apache-2.0
//! `berth stats`: what containers of the agent use, once a second.

use crate::cli::{Format, Global, Stats};
use crate::exit::Failure;
use crate::find;
use crate::template::Lines;
use crate::text::{self, Look, begins, binary, decimal, escaped, show, show_json};
use berth_client::{Connection, Error, block_on};
use berth_model::ContainerId;
use berth_proto::v1::ResourceStatistics;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(1);
/// To the corner of the screen, and clear it.
const CLEAR: &str = "\x1b[H\x1b[2J";

type Sample = BTreeMap<ContainerId, (Option<String>, ResourceStatistics)>;

/// Shows them until it is interrupted.
pub(crate) fn stats(global: &Global, args: &Stats) -> Result<u8, Failure> {
    let agent = find::agent(global);
    let format = args.format.as_deref().filter(|format| *format != "json");
    let format = format.map(Lines::parse).transpose().map_err(|e| e.code(1))?;
    let json = args.output == Format::Json || args.format.as_deref() == Some("json");
    let screen = std::io::stdout().is_terminal() && !args.no_stream && !json;
    let shown: Result<Result<Result<(), Failure>, Error>, Error> = block_on(async {
        let mut connection = agent.connect().await?;
        let mut before = sample(&mut connection).await?;
        loop {
            // The use of processors is a matter of two looks.
            tokio::time::sleep(PERIOD).await;
            let now = sample(&mut connection).await?;
            let rows = rows(&before, &now, &args.names);
            if let Some(missing) = args.names.iter().find(|name| rows.iter().all(|row| !row.is_named(name))) {
                return Ok(Err(Failure::text(format!("no container that runs is named {missing}"))));
            }
            if json {
                rows.iter().for_each(|row| {
                    show_json(&if args.format.is_some() { row.fields() } else { row.json() })
                });
            } else {
                let table = match &format {
                    None => table(&rows, args.no_trunc, text::colours()),
                    Some(format) => {
                        let fields = rows.iter().map(|row| (Look::Plain, row.fields())).collect();
                        match format.put(fields, title) {
                            Ok(lines) => lines,
                            Err(failure) => return Ok(Err(failure)),
                        }
                    }
                };
                show(&if screen { format!("{CLEAR}{table}") } else { table });
            }
            if args.no_stream {
                return Ok(Ok(()));
            }
            before = now;
        }
    });
    shown.and_then(|shown| shown).map_err(|e| Failure::client(&e).code(1))?.map_err(|e| e.code(1))?;
    Ok(0)
}

async fn sample(connection: &mut Connection) -> Result<Sample, Error> {
    let mut all = Sample::new();
    for mut container in connection.containers().await? {
        let (name, statistics) = (container.executor_name.take(), container.resource_statistics.take());
        let Some(id) = find::id_of(container) else { continue };
        let statistics = match statistics {
            Some(statistics) => Some(statistics),
            // A list waits for nobody. Who has to start a program to measure is given the time when asked alone.
            None => match connection.inspect(&id).await {
                Ok(inspection) => inspection.used,
                Err(Error::Refused { .. }) => None,
                Err(error) => return Err(error),
            },
        };
        if let Some(statistics) = statistics {
            all.insert(id, (name, statistics));
        }
    }
    Ok(all)
}

/// What one container used. What nobody measured is not there.
#[derive(Debug, PartialEq)]
struct Row {
    id: ContainerId,
    name: Option<String>,
    /// Of one processor, in percent.
    cpu: Option<f64>,
    memory: Option<u64>,
    limit: Option<u64>,
    received: Option<u64>,
    sent: Option<u64>,
    processes: Option<u32>,
}

fn rows(before: &Sample, now: &Sample, names: &[String]) -> Vec<Row> {
    let wanted = |id: &ContainerId, name: &Option<String>| {
        names.is_empty() || names.iter().any(|n| is_named(id, name.as_deref(), n))
    };
    let row = |(id, (name, now)): (&ContainerId, &(Option<String>, ResourceStatistics))| Row {
        id: id.clone(),
        name: name.clone(),
        cpu: before.get(id).and_then(|(_, before)| percent(before, now)),
        memory: now.mem_total_bytes.or(now.mem_rss_bytes),
        limit: now.mem_limit_bytes,
        received: now.net_rx_bytes,
        sent: now.net_tx_bytes,
        processes: now.processes,
    };
    now.iter().filter(|(id, (name, _))| wanted(id, name)).map(row).collect()
}

fn percent(before: &ResourceStatistics, now: &ResourceStatistics) -> Option<f64> {
    let used = |s: &ResourceStatistics| Some(s.cpus_user_time_secs? + s.cpus_system_time_secs?);
    let time = now.timestamp - before.timestamp;
    (time > 0.0).then_some(((used(now)? - used(before)?).max(0.0) / time) * 100.0)
}

fn table(rows: &[Row], no_trunc: bool, colours: bool) -> String {
    let header = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "PIDS"];
    text::table(&header, rows.iter().map(|row| (Look::Plain, row.cells(no_trunc).into())).collect(), colours)
}

fn is_named(id: &ContainerId, name: Option<&str>, text: &str) -> bool {
    begins(id, text) || name == Some(text)
}

/// The heads of docker's columns. What is read from and written to disks is not measured.
fn title(field: &str) -> Option<&'static str> {
    Some(match field {
        "Container" | "ID" => "CONTAINER ID",
        "Name" => "NAME",
        "CPUPerc" => "CPU %",
        "MemUsage" => "MEM USAGE / LIMIT",
        "MemPerc" => "MEM %",
        "NetIO" => "NET I/O",
        "PIDs" => "PIDS",
        _ => return None,
    })
}

impl Row {
    fn is_named(&self, text: &str) -> bool {
        is_named(&self.id, self.name.as_deref(), text)
    }

    /// What `--format` can show, by docker's names.
    fn fields(&self) -> Value {
        let [id, name, cpu, memory, share, network, processes] = self.cells(false);
        json!({
            "Container": id, "ID": id, "Name": name, "CPUPerc": cpu, "MemUsage": memory, "MemPerc": share,
            "NetIO": network, "PIDs": processes,
        })
    }

    fn cells(&self, no_trunc: bool) -> [String; 7] {
        let or = |text: Option<String>| text.unwrap_or_else(|| "--".to_owned());
        let share = self.memory.zip(self.limit).filter(|(_, limit)| *limit > 0);
        [
            if no_trunc { escaped(&self.id.to_string()) } else { text::short(&self.id) },
            escaped(self.name.as_deref().unwrap_or(self.id.value())),
            or(self.cpu.map(|cpu| format!("{cpu:.2}%"))),
            format!("{} / {}", or(self.memory.map(binary)), or(self.limit.map(binary))),
            or(share.map(|(used, limit)| format!("{:.2}%", used as f64 / limit as f64 * 100.0))),
            format!("{} / {}", or(self.received.map(decimal)), or(self.sent.map(decimal))),
            or(self.processes.map(|n| n.to_string())),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id.to_string(), "name": self.name, "cpu_percent": self.cpu,
            "memory_bytes": self.memory, "memory_limit_bytes": self.limit,
            "received_bytes": self.received, "sent_bytes": self.sent, "pids": self.processes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timestamp: f64, cpu: f64) -> Sample {
        let statistics = ResourceStatistics {
            timestamp,
            cpus_user_time_secs: Some(cpu),
            cpus_system_time_secs: Some(1.0),
            mem_total_bytes: Some(1 << 20),
            mem_limit_bytes: Some(4 << 20),
            processes: Some(3),
            ..Default::default()
        };
        Sample::from([("web".parse().unwrap(), (None, statistics))])
    }

    #[test]
    fn use_is_told_as_docker_tells_it() {
        let rows = rows(&at(10.0, 5.0), &at(12.0, 6.0), &[]);
        assert_eq!(rows[0].cpu, Some(50.0));
        assert_eq!(
            table(&rows, false, false),
            "CONTAINER ID  NAME  CPU %   MEM USAGE / LIMIT  MEM %   NET I/O  PIDS\n\
             web           web   50.00%  1MiB / 4MiB        25.00%  -- / --  3\n"
        );
        assert_eq!(rows[0].json()["pids"], 3);
    }

    #[test]
    fn what_is_not_measured_is_not_invented() {
        let first = rows(&Sample::new(), &at(1.0, 1.0), &[]);
        assert_eq!(first[0].cpu, None);
        let twice = rows(&at(1.0, 1.0), &at(1.0, 1.0), &[]);
        assert_eq!(twice[0].cpu, None, "no time has passed");
        let none = Sample::from([("x".parse().unwrap(), (None, ResourceStatistics::default()))]);
        let shown = table(&rows(&none, &none, &[]), false, false);
        assert!(shown.lines().nth(1).is_some_and(|line| !line.contains(['0', '%'])), "{shown}");
        assert!(rows(&none, &none, &["y".to_owned()]).is_empty());
    }
}
