// SPDX-License-Identifier: Apache-2.0
//! What a container uses, where it is, and its limits. Use is read from its control groups, of either version, without a
//! word from the engine. Limits are set by the engine: it would undo what was done behind its back. One that can not change
//! any (podman 4.3, for one) does not, and then they are set in the groups.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_cgroup::{Group, Limit};
use berth_contract::{Error, Limits};
use berth_keeper::seconds;
use berth_model::{Class, IpAddress, IpProtocol, NetworkInfo, ResourceStatistics, Resources};

use crate::engine::Inspected;
use crate::error::warn;
use crate::kept::{Entry, Shared, key};
use crate::limits::Amounts;
use crate::process::Process;
use crate::volumes;

/// How long killing everything in a group may take.
const KILL: Duration = Duration::from_secs(2);

fn group(shared: &Shared, entry: &Entry) -> Option<Group> {
    let path = entry.own.process()?.cgroup()?;
    Group::open(shared.own.hierarchies.as_ref()?, &path).ok()
}

/// What it uses now; what can not be measured is absent.
pub(crate) fn usage(shared: &Shared, entry: &Entry) -> ResourceStatistics {
    let mut statistics = ResourceStatistics { timestamp: seconds(), ..ResourceStatistics::default() };
    let Some(group) = group(shared, entry) else { return statistics };
    let (usage, applied) = (group.usage(), group.limits_applied());
    let seconds = |nanos: Option<u64>| nanos.map(|n| n as f64 / 1e9);
    let count = |n: Option<u64>| n.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let bytes = |b: Option<berth_cgroup::Bytes>| b.map(|b| b.0);
    statistics.processes = group.processes().ok().map(|pids| pids.len() as u32);
    statistics.threads = count(usage.pids);
    statistics.cpus_user_time_secs = seconds(usage.cpu_user_nanos);
    statistics.cpus_system_time_secs = seconds(usage.cpu_system_nanos);
    statistics.cpus_nr_periods = count(usage.cpu_periods);
    statistics.cpus_nr_throttled = count(usage.cpu_throttled_periods);
    statistics.cpus_throttled_time_secs = seconds(usage.cpu_throttled_nanos);
    if let Some(Limit::At(limit)) = applied.cpu_limit {
        statistics.cpus_limit = Some(limit.0 as f64 / 1000.0);
    }
    if let Some(Limit::At(limit)) = applied.memory_limit {
        statistics.mem_limit_bytes = Some(limit.0);
    }
    statistics.mem_soft_limit_bytes = bytes(applied.memory_request);
    statistics.mem_total_bytes = bytes(usage.memory);
    statistics.mem_file_bytes = bytes(usage.memory_file);
    statistics.mem_cache_bytes = bytes(usage.memory_file);
    statistics.mem_anon_bytes = bytes(usage.memory_anonymous);
    statistics.mem_rss_bytes = bytes(usage.memory_anonymous);
    statistics.mem_mapped_file_bytes = bytes(usage.memory_mapped);
    statistics.mem_unevictable_bytes = bytes(usage.memory_unevictable);
    statistics.mem_swap_bytes = bytes(usage.swap);
    statistics.mem_total_memsw_bytes = bytes(usage.memory_and_swap);
    statistics
}

/// Whether memory ran out in the control group of one that has ended: asked before the engine takes it away.
pub(crate) fn ran_out(shared: &Shared, process: &Process) -> bool {
    let group = shared.own.hierarchies.as_ref().zip(process.first_cgroup());
    let group = group.and_then(|(hierarchies, path)| Group::open(hierarchies, path).ok());
    group.is_some_and(|group| group.met().oom_kills > 0)
}

/// Sets the complete new requests and limits. What ends meanwhile is no error.
pub(crate) async fn update(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    requests: &Resources,
    limits: &Limits,
) -> Result<(), Error> {
    let amounts = Amounts::of(requests, limits, shared.own.settings.enable_cfs)?;
    let wanted = volumes::among(requests, &shared.own.settings.work_dir)?;
    if entry.launched.wait().await.is_err() || entry.is_over() || entry.is_destroyed() {
        warn(&format!("an update of container {} is ignored: it does not run", entry.id));
        return Ok(());
    }
    volumes::check(entry, &wanted)?;
    set(shared, entry, amounts).await?;
    let mounted = volumes::update(shared, entry, wanted).await;
    // What ends takes its volumes with it.
    if entry.is_over() || entry.is_destroyed() { Ok(()) } else { mounted }
}

async fn set(shared: &Arc<Shared>, entry: &Entry, amounts: Amounts) -> Result<(), Error> {
    let (key, change) = (key(entry), amounts.to_change());
    let limit = shared.own.settings.deadlines.ask;
    match shared.own.engine.update(&key, &change, limit).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_missing() && !entry.is_over() && !entry.is_destroyed() => {
            match shared.own.engine.inspect(&key, limit).await {
                // It is there: what is missing is the question.
                Ok(found) if found.state.running => update_groups(shared, entry, amounts).await,
                Ok(_) => ended(entry),
                Err(error) if error.is_missing() => ended(entry),
                Err(error) => {
                    Err(error.because(&format!("Failed to update container {}", entry.record.own.name)))
                }
            }
        }
        Err(error) if entry.is_over() || entry.is_destroyed() => {
            warn(&format!("an update of container {} is ignored: it has ended ({error})", entry.id));
            Ok(())
        }
        Err(error) => Err(error.because(&format!("Failed to update container {}", entry.record.own.name))),
    }
}

fn ended(entry: &Entry) -> Result<(), Error> {
    warn(&format!("an update of container {} is ignored: it has ended", entry.id));
    Ok(())
}

/// Sets them in its control groups: podman 4.3 has no call for it.
async fn update_groups(shared: &Shared, entry: &Entry, amounts: Amounts) -> Result<(), Error> {
    let tried = format!("Failed to update container {}", entry.record.own.name);
    let Some(mut group) = group(shared, entry) else {
        let text = format!("{tried}: the engine can not, and its control groups are not found");
        return Err(Error::other(Class::Internal, text));
    };
    let updated = tokio::task::spawn_blocking(move || {
        let with_swap = group.usage().memory_and_swap.is_some();
        group.update(&amounts.to_groups(with_swap))
    });
    match updated.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::because(error.class(), tried, error)),
        Err(error) => Err(Error::because(Class::Internal, tried, error)),
    }
}

/// Lets it go on without the engine. Best effort.
pub(crate) fn thaw(shared: &Shared, entry: &Entry) {
    if let Some(Err(error)) = group(shared, entry).map(|group| group.thaw()) {
        warn(&format!("container {} can not be resumed without the engine: {error}", entry.id));
    }
}

/// Kills everything in its control group: whoever shares the host's pids does not end with the first process.
pub(crate) fn kill_group(shared: &Shared, entry: &Entry) {
    if let Some(Err(error)) = group(shared, entry).map(|group| group.kill_all(Instant::now() + KILL)) {
        warn(&format!("container {}: {error}", entry.id));
    }
}

/// Its addresses.
pub(crate) fn networks(inspected: &Inspected) -> Vec<NetworkInfo> {
    let settings = &inspected.network_settings;
    let address = |protocol, text: &str| {
        (!text.is_empty()).then(|| IpAddress { protocol, ip_address: Some(text.to_owned()) })
    };
    let mut all: Vec<NetworkInfo> = settings
        .networks
        .iter()
        .map(|(name, network)| NetworkInfo {
            name: Some(name.clone()),
            ip_addresses: [address(IpProtocol::Ipv4, &network.v4), address(IpProtocol::Ipv6, &network.v6)]
                .into_iter()
                .flatten()
                .collect(),
            ..NetworkInfo::default()
        })
        .filter(|network| !network.ip_addresses.is_empty())
        .collect();
    if all.is_empty()
        && let Some(one) = address(IpProtocol::Ipv4, &settings.address)
    {
        all.push(NetworkInfo {
            name: Some(inspected.host_config.network_mode.clone()),
            ip_addresses: vec![one],
            ..NetworkInfo::default()
        });
    }
    all
}

/// `SIGTERM`, `TERM` or `15`.
pub(crate) fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 13] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
        ("WINCH", 28),
    ];
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = offset.trim_start_matches('+');
        let offset = if offset.is_empty() { Some(0) } else { offset.parse::<i32>().ok() };
        return offset.map(|offset| 34 + offset).filter(|number| (34..=64).contains(number));
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_number() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("99", None),
            ("NOPE", None),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }

    #[test]
    fn addresses_are_those_of_its_networks() {
        let found: Inspected = serde_json::from_str(
            r#"{"Id": "x", "NetworkSettings": {"IPAddress": "", "Networks":
                {"n": {"IPAddress": "10.0.0.2", "GlobalIPv6Address": "fd00::2"}, "host": {"IPAddress": ""}}},
                "Config": {"Labels": null}}"#,
        )
        .unwrap();
        let all = networks(&found);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].name.as_deref(), Some("n"));
        assert_eq!(all[0].ip_addresses.len(), 2);
    }
}
