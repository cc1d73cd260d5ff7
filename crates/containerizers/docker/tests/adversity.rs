// SPDX-License-Identifier: Apache-2.0
//! Engines that are killed, stopped, absent; containers of others; what is left, and when it goes.

mod ground;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_conformance::Site;
use berth_contract::{AgentState, Containerizer, LaunchResult, Variables};
use berth_model::{ContainerId, ExecutorInfo};
use ground::{
    Daemon, How, answer, clear, config, ended, good, id, launch, recovered, settings, start, until,
};

const TRAP: &str =
    "cd $MESOS_SANDBOX; trap 'kill -9 $!; exit 7' 15; sleep 1000 & : > ready; while :; do wait; done";
/// As many as the issue asks for.
const MANY: usize = 20;

fn many(site: &Site) -> Vec<ContainerId> {
    (0..MANY).map(|number| id(&format!("{}-{number}", site.marker()))).collect()
}

fn start_all(docker: &berth_docker::Docker, site: &Site, ids: &[ContainerId]) {
    for id in ids {
        start(docker, id, config(site, id, TRAP));
    }
    for id in ids {
        until("it is ready", || site.sandboxes().join(id.value()).join("ready").exists().then_some(()));
    }
}

#[test]
fn containers_outlive_an_engine_that_is_killed_and_told_to_let_them() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How { live_restore: true, ..How::default() });
    let before = engine.ledger();
    let site = Site::new("restore").unwrap();
    let docker = recovered(settings(&site, &engine));
    let ids = many(&site);
    start_all(&docker, &site, &ids);
    engine.kill();
    // Half of them end while there is no engine.
    let (now, later) = ids.split_at(MANY / 2);
    for id in now {
        assert!(good(docker.kill(id, 15)));
    }
    let pids: Vec<_> = later.iter().map(|id| good(docker.status(id)).executor_pid).collect();
    engine.run();
    for id in now {
        assert_eq!(ended(&docker, id).status, Some(7 << 8));
    }
    for (id, pid) in later.iter().zip(pids) {
        assert_eq!(good(docker.status(id)).executor_pid, pid, "it runs as before");
        assert!(good(docker.kill(id, 15)));
    }
    for id in later {
        assert_eq!(ended(&docker, id).status, Some(7 << 8));
    }
    ids.iter().for_each(|id| clear(&docker, id));
    assert_eq!(engine.ledger(), before);
}

#[test]
fn every_end_by_an_engine_that_starts_anew_is_known_exactly() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How::default());
    let before = engine.ledger();
    let site = Site::new("anew").unwrap();
    let docker = recovered(settings(&site, &engine));
    let ids = many(&site);
    start_all(&docker, &site, &ids);
    engine.kill();
    // Without live-restore an engine ends what an earlier one left when it begins.
    engine.run();
    for id in &ids {
        let status = ended(&docker, id).status;
        assert!(matches!(status, Some(9 | 1792)), "{id}: {status:?}");
    }
    // And it serves again.
    let again = id(&format!("{}-again", site.marker()));
    start(&docker, &again, config(&site, &again, "exit 3"));
    assert_eq!(ended(&docker, &again).status, Some(3 << 8));
    clear(&docker, &again);
    ids.iter().for_each(|id| clear(&docker, id));
    assert_eq!(engine.ledger(), before);
}

#[test]
fn an_engine_that_is_stopped_holds_up_nobody() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How::default());
    let before = engine.ledger();
    let site = Site::new("stopped").unwrap();
    let docker = Arc::new(recovered(settings(&site, &engine)));
    let [runs, ends, launches] = ["r", "e", "l"].map(|name| id(&format!("{}-{name}", site.marker())));
    start_all(&docker, &site, &[runs.clone(), ends.clone()]);
    engine.signal("STOP");
    let launching = {
        let (docker, id, config) = (Arc::clone(&docker), launches.clone(), config(&site, &launches, "true"));
        std::thread::spawn(move || launch(&*docker, &id, config))
    };
    until("it is launching", || good(docker.containers()).contains(&launches).then_some(()));
    // What needs no engine is answered at once.
    for _ in 0..20 {
        let begun = Instant::now();
        assert!(good(docker.usage(&runs)).mem_total_bytes.is_some());
        assert!(good(docker.status(&runs)).executor_pid.is_some());
        assert_eq!(good(docker.containers()).len(), 3);
        assert!(docker.knows(&runs) && good(docker.kill(&runs, 0)));
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
    // A destroy ends it, whatever the engine does. (The engine's shim goes on.)
    let begun = Instant::now();
    assert_eq!(good(docker.destroy(&launches)).unwrap().status, None);
    assert!(launching.join().unwrap().unwrap_err().to_string().contains("destroyed"));
    let mut last = answer(docker.destroy(&ends)).unwrap().unwrap();
    println!("destroyed beside a stopped engine in {:?}", begun.elapsed());
    assert_eq!(last.status.take(), Some(9), "{last:?}");
    until("it is known to be down", || docker.metrics().contains(&down()).then_some(()));
    engine.signal("CONT");
    until("it is known to be up", || (!docker.metrics().contains(&down())).then_some(()));
    assert!(good(docker.kill(&runs, 15)));
    assert_eq!(ended(&*docker, &runs).status, Some(7 << 8));
    good(docker.remove(&ends));
    clear(&*docker, &runs);
    until("nothing is left of it", || (engine.ledger() == before).then_some(()));
}

fn down() -> (String, f64) {
    ("containerizer/docker/engine_up".to_owned(), 0.0)
}

#[test]
fn an_absent_engine_is_no_reason_not_to_begin() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How { live_restore: true, ..How::default() });
    let before = engine.ledger();
    let site = Site::new("absent").unwrap();
    let docker = recovered(settings(&site, &engine));
    let [runs, ends, fails] = ["r", "e", "f"].map(|name| id(&format!("{}-{name}", site.marker())));
    start_all(&docker, &site, &[runs.clone(), ends.clone()]);
    drop(docker);
    engine.kill();
    let docker = recovered(settings(&site, &engine));
    let mut listed = good(docker.containers());
    listed.sort();
    assert_eq!(listed, [ends.clone(), runs.clone()]);
    let error = launch(&docker, &fails, config(&site, &fails, "true")).unwrap_err().to_string();
    assert!(error.contains("can not be reached at") && error.contains("--docker_socket"), "{error}");
    good(docker.destroy(&fails));
    assert_eq!(good(docker.destroy(&ends)).unwrap().status, Some(9));
    engine.run();
    assert!(good(docker.kill(&runs, 15)));
    assert_eq!(ended(&docker, &runs).status, Some(7 << 8));
    clear(&docker, &ends);
    clear(&docker, &runs);
    let _ = fs::remove_dir_all(site.sandboxes().join(fails.value()));
    until("nothing is left of it", || (engine.ledger() == before).then_some(()));
}

#[test]
fn only_what_bears_our_mark_is_an_orphan() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How::default());
    let (site, other) = (Site::new("ours").unwrap(), Site::new("theirs").unwrap());
    let sleep = ["sleep", "1000"];
    let run = |name: &str, labels: &[String]| {
        let mut all = vec!["run", "-d", "--net=none", "--name", name];
        labels.iter().for_each(|label| all.extend(["--label", label]));
        all.push(ground::IMAGE);
        all.extend(sleep);
        engine.says(&all)
    };
    let label = |site: &Site, id: &str| {
        let dir = site.work_dir().display().to_string();
        vec![format!("org.apache.berth.work_dir={dir}"), format!("org.apache.berth.container={id}")]
    };
    // Named as Mesos names its own, and as another agent of ours does.
    let mesos = "mesos-5aff6b9e-7b1e-4c0a-8f3e-7d9f0c1f2a3b";
    run(mesos, &[]);
    run("mesos-other", &label(&other, "other"));
    run("mesos-lost", &label(&site, "lost"));
    let mut keeping = settings(&site, &engine);
    keeping.kill_orphans = false;
    drop(recovered(keeping));
    let names = || {
        let mut names: Vec<String> =
            engine.says(&["ps", "-a", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names(), [mesos, "mesos-lost", "mesos-other"]);
    drop(recovered(settings(&site, &engine)));
    assert_eq!(names(), [mesos, "mesos-other"]);
    // A name that is somebody else's is not taken away from it.
    let docker = recovered(settings(&site, &engine));
    let own = id("other");
    let error = launch(&docker, &own, config(&site, &own, "true")).unwrap_err().to_string();
    assert!(error.contains("already in use"), "{error}");
    clear(&docker, &own);
    assert_eq!(names(), [mesos, "mesos-other"]);
}

#[test]
fn what_has_ended_goes_when_its_time_has_come_and_its_end_stays_known() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How::default());
    let before = engine.ledger();
    let site = Site::new("delay").unwrap();
    let docker = recovered(settings(&site, &engine));
    let own = id(&format!("{}-d", site.marker()));
    start(&docker, &own, config(&site, &own, "exit 5"));
    assert_eq!(ended(&docker, &own).status, Some(5 << 8));
    let name = format!("mesos-{own}");
    assert_eq!(engine.says(&["inspect", "-f", "{{.State.Status}}", &name]), "exited");
    // The next agent is less patient.
    drop(docker);
    let mut soon = settings(&site, &engine);
    soon.remove_delay = Duration::ZERO;
    let docker = recovered(soon);
    until("the engine has nothing of it", || (engine.ledger() == before).then_some(()));
    assert_eq!(ended(&docker, &own).status, Some(5 << 8));
    assert_eq!(launch(&docker, &own, config(&site, &own, "true")).unwrap(), LaunchResult::AlreadyLaunched);
    good(docker.remove(&own));
}

#[test]
fn time_to_heed_sigterm_is_given_where_it_was_asked_for() {
    if ground::skipped() {
        return;
    }
    let engine = ground::daemon::shared();
    let site = Site::new("stop").unwrap();
    let mut patient = settings(&site, engine);
    patient.stop_timeout = Duration::from_secs(30);
    let docker = recovered(patient);
    let own = id(&format!("{}-s", site.marker()));
    start_all(&docker, &site, std::slice::from_ref(&own));
    assert_eq!(good(docker.destroy(&own)).unwrap().status, Some(7 << 8));
    good(docker.remove(&own));
    drop(docker);
    let mut impatient = settings(&site, engine);
    impatient.stop_timeout = Duration::from_millis(1);
    let docker = recovered(impatient);
    start(&docker, &own, config(&site, &own, "trap '' 15; sleep 1000 & wait; sleep 1000"));
    assert_eq!(good(docker.destroy(&own)).unwrap().status, Some(9));
    good(docker.remove(&own));
}

#[test]
fn a_destroy_that_was_under_way_is_finished_by_the_next() {
    if ground::skipped() {
        return;
    }
    let engine = ground::daemon::shared();
    let site = Site::new("finishes").unwrap();
    let mut patient = settings(&site, engine);
    patient.stop_timeout = Duration::from_secs(600);
    let docker = recovered(patient);
    let own = id(&format!("{}-f", site.marker()));
    start(&docker, &own, config(&site, &own, "trap '' 15; while :; do sleep 1; done"));
    let mut events = docker.events(0);
    drop(docker.destroy(&own));
    until("it is being destroyed", || match events.try_next() {
        Some(berth_contract::Next::Event(event)) => match event.what {
            berth_contract::What::Moved { to, .. } => (to == berth_contract::Phase::Destroying).then_some(()),
            _ => None,
        },
        _ => None,
    });
    drop(docker);
    let docker = recovered(settings(&site, engine));
    assert_eq!(ended(&docker, &own).status, Some(9));
    good(docker.remove(&own));
}

#[test]
fn what_somebody_removes_at_the_engine_ends_here_too() {
    if ground::skipped() {
        return;
    }
    let engine = ground::daemon::shared();
    let site = Site::new("gone").unwrap();
    let docker = recovered(settings(&site, engine));
    let own = id(&format!("{}-g", site.marker()));
    start(&docker, &own, config(&site, &own, "exec sleep 1000"));
    engine.says(&["rm", "-f", &format!("mesos-{own}")]);
    assert_eq!(ended(&docker, &own).status, Some(9));
    clear(&docker, &own);
}

#[test]
fn a_containerizer_that_dies_at_any_moment_of_a_launch_leaves_nothing() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How::default());
    let before = engine.ledger();
    let site = Site::new("moments").unwrap();
    for moment in 0..20u64 {
        let own = id(&format!("{}-{moment}", site.marker()));
        let docker = recovered(settings(&site, &engine));
        // Dropped: all that it was about to do is not done, as if it had been killed.
        let launched = {
            let answer = docker.launch(&own, config(&site, &own, "exec sleep 1000"), Variables::new(), None);
            let soon = Instant::now() + Duration::from_millis(moment * 25);
            berth_contract::block_on_until(answer, soon).is_some()
        };
        drop(docker);
        let docker = recovered(settings(&site, &engine));
        let known = docker.knows(&own);
        assert!(known || !launched, "a launch that succeeded is forgotten");
        if known {
            assert_eq!(good(docker.destroy(&own)).unwrap().status, Some(9));
        }
        clear(&docker, &own);
        let _ = fs::remove_dir_all(site.sandboxes().join(own.value()));
        engine.settles(&before, &format!("moment {moment}"));
        assert_eq!(fs::read_dir(site.runtime_dir().join("docker")).unwrap().count(), 0);
    }
}

#[test]
fn executors_that_nobody_knows_go_with_their_records() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How::default());
    let before = engine.ledger();
    let site = Site::new("executors").unwrap();
    let docker = recovered(settings(&site, &engine));
    let ids = many(&site);
    for id in &ids {
        let mut config = config(&site, id, "exec sleep 1000");
        config.executor_info = Some(ExecutorInfo::default());
        start(&docker, id, config);
    }
    drop(docker);
    let docker = berth_docker::Docker::new(settings(&site, &engine), Default::default()).unwrap();
    good(docker.recover(Some(AgentState::default())));
    assert_eq!(good(docker.containers()), []);
    assert_eq!(engine.ledger(), before);
    assert_eq!(fs::read_dir(site.runtime_dir().join("docker")).unwrap().count(), 0);
}
