// SPDX-License-Identifier: Apache-2.0
//! What a group costs: microseconds for each step with three controllers, as root on a real hierarchy.
//! `cargo run --release -p berth-cgroup --example cycle`

use std::path::Path;
use std::time::{Duration, Instant};

use berth_cgroup::{Bytes, Controller, Group, Hierarchies, Limit, Limits, MilliCpu, Result};

const ROUNDS: usize = 500;

fn main() -> Result<()> {
    let wanted = [Controller::Cpu, Controller::Memory, Controller::Pids];
    let limits = Limits {
        cpu_request: Some(MilliCpu(500)),
        cpu_limit: Some(Limit::At(MilliCpu(1000))),
        memory_limit: Some(Limit::At(Bytes(64 << 20))),
        pids_limit: Some(Limit::At(64)),
        ..Limits::default()
    };
    let top = format!("berthtest-{}-cycle", std::process::id());
    let mut rows = [(); 5].map(|()| Vec::with_capacity(ROUNDS));
    let mut outcome = Ok(());
    for round in 0..ROUNDS {
        outcome = one(&wanted, &limits, &format!("{top}/{round}"), &mut rows);
        if outcome.is_err() {
            break;
        }
    }
    Hierarchies::probe(Path::new(Hierarchies::ROOT))?.prune(&top)?;
    outcome?;
    println!("{:<28}{:>8}{:>8}{:>8}", "microseconds", "least", "p50", "p99");
    let names = ["probe", "create, no limits", "remove", "create, four limits", "join_fds"];
    for (name, row) in names.iter().zip(&mut rows) {
        row.sort();
        let at = |part: usize| row[(row.len() - 1) * part / 100].as_secs_f64() * 1e6;
        println!("{name:<28}{:>8.1}{:>8.1}{:>8.1}", at(0), at(50), at(99));
    }
    Ok(())
}

fn one(wanted: &[Controller], limits: &Limits, path: &str, rows: &mut [Vec<Duration>; 5]) -> Result<()> {
    let far = || Instant::now() + Duration::from_secs(10);
    let mut clock = Instant::now();
    let mut lap = |row: usize| {
        rows[row].push(clock.elapsed());
        clock = Instant::now();
    };
    let hierarchies = Hierarchies::probe(Path::new(Hierarchies::ROOT))?;
    lap(0);
    let bare = Group::create(&hierarchies, path, wanted, &Limits::default())?;
    lap(1);
    bare.remove(far())?;
    lap(2);
    let group = Group::create(&hierarchies, path, wanted, limits)?;
    lap(3);
    drop(group.join_fds()?);
    lap(4);
    group.remove(far())
}
