// SPDX-License-Identifier: Apache-2.0
//! Several commands at once on the same names and directories.

use berth_test_faults::{Exit, Ground, State, skip, soon};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn of_owners_that_want_one_name_exactly_one_gets_it() {
    let ground = match Ground::new("races-name") {
        Ok(ground) => ground,
        Err(lacked) => return skip("of_owners_that_want_one_name_exactly_one_gets_it", &lacked),
    };
    for round in 0..5 {
        let name = ground.name(round);
        let start = || ground.start(&["-i", "--name", &name], &["sh", "-c", "cat; exit 7"]);
        let mut owners: Vec<Child> = (0..8).map(|_| start()).collect();
        // The winner reads until its stdin is closed, so that all others meet it.
        let limit = soon();
        let mut losers = Vec::new();
        while owners.len() > 1 {
            assert!(Instant::now() < limit, "round {round}: {} of 8 run", owners.len());
            let ended = owners.iter_mut().position(|o| o.try_wait().unwrap().is_some());
            match ended {
                Some(at) => losers.push(ground.end(owners.swap_remove(at))),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        for loser in &losers {
            assert_eq!(loser.code, Some(125), "{loser:?}");
            assert!(loser.stderr.contains("exists already"), "{loser:?}");
        }
        let mut winner = owners.remove(0);
        drop(winner.stdin.take());
        let exit = ground.end(winner);
        assert_eq!(exit.code, Some(7), "{exit:?}");
        assert_eq!(ground.state(&name), Ok(State::Exited(7 << 8)));
        ground.remove(&name).unwrap();
        ground.same().unwrap_or_else(|e| panic!("round {round}: {e}"));
    }
}

#[test]
fn a_container_is_removed_by_force_while_it_is_launched() {
    let ground = match Ground::new("races-rm") {
        Ok(ground) => ground,
        Err(lacked) => return skip("a_container_is_removed_by_force_while_it_is_launched", &lacked),
    };
    for point in ["record", "dirs", "isolate", "forked", "pid"] {
        let name = ground.name(point);
        let mut command = ground.command();
        command.args(ground.run_arguments(&["--name", &name], &["sleep", "1000"]));
        command.env("BERTH_FAULT", format!("{point}=delay"));
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let owner = command.spawn().unwrap();
        ground.wait_for("it is being launched", || ground.record(&name, "lock").is_some());
        let start = Instant::now();
        ground.remove(&name).unwrap_or_else(|e| panic!("at {point}: {e}"));
        assert!(start.elapsed() < Duration::from_secs(10), "at {point}: it took {:?}", start.elapsed());
        let exit = ground.end(owner);
        assert!(matches!(exit.code, Some(137 | 125)), "at {point}: {exit:?}");
        ground.same().unwrap_or_else(|e| panic!("at {point}: {e}"));
    }
}

/// Neither a crash nor a status that the command did not have.
fn ended_well(exit: &Exit, code: i32) -> Result<(), String> {
    let said = exit.stderr.contains("panicked");
    match exit.code {
        Some(c) if c == code && !said => Ok(()),
        // Removed by force meanwhile, before or after its program was executed.
        Some(137) if !said => Ok(()),
        Some(125) if !said && !exit.stderr.is_empty() => Ok(()),
        _ => Err(format!("for {code}: {exit:?}")),
    }
}

#[test]
fn listing_and_removing_beside_launches_leaves_nothing() {
    let ground = match Ground::new("races-many") {
        Ok(ground) => ground,
        Err(lacked) => return skip("listing_and_removing_beside_launches_leaves_nothing", &lacked),
    };
    let done = AtomicBool::new(false);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let (ground, done) = (&ground, &done);
        let launchers: Vec<_> = (0..4)
            .map(|t| {
                scope.spawn(move || -> Result<(), String> {
                    for n in 0..12 {
                        let (name, code) = (ground.name(format!("{t}-{n}")), 1 + t * 12 + n);
                        let mut options = vec!["--name", name.as_str()];
                        options.extend((n % 2 == 0).then_some("--rm"));
                        let exit = ground.run(&options, &["sh", "-c", &format!("exit {code}")]);
                        ended_well(&exit, code)?;
                    }
                    Ok(())
                })
            })
            .collect();
        let lister = scope.spawn(move || -> Result<(), String> {
            while !done.load(Ordering::Relaxed) {
                let exit = ground.berth(&["ps", "-a", "-o", "json"]);
                // Whoever is killed here is killed by `rm -f`, under the eyes of owner and supervisor.
                let unknown = exit.stdout.contains("\"unknown\"");
                if exit.code != Some(0) || !exit.stderr.is_empty() || unknown {
                    return Err(format!("ps: {exit:?}"));
                }
            }
            Ok(())
        });
        let removers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || -> Result<(), String> {
                    while !done.load(Ordering::Relaxed) {
                        for name in ground.berth(&["ps", "-a", "-q"]).stdout.lines() {
                            let exit = ground.berth(&["rm", "-f", name]);
                            // Another was faster.
                            let gone = exit.code == Some(1) && exit.stderr.contains("no container is named");
                            if !(gone || exit.code == Some(0) && exit.stderr.is_empty()) {
                                return Err(format!("rm: {exit:?}"));
                            }
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let mut results: Vec<_> = launchers.into_iter().map(|t| t.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        results.extend(removers.into_iter().chain([lister]).map(|t| t.join().unwrap()));
        results.into_iter().filter_map(Result::err).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for name in ground.berth(&["ps", "-a", "-q"]).stdout.lines() {
        ground.remove(name).unwrap();
    }
    ground.same().unwrap();
}
