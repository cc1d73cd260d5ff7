// SPDX-License-Identifier: Apache-2.0
//! What is kept of containers that are none: on disk and in memory.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use berth_conformance::Site;
use berth_conformance::ask::{good, id};
use berth_contract::{Error, EventLog, LaunchResult, Limits, Phase, Variables};
use berth_keeper::{Directory, Entry, Keeper, Kind, Record, State, Threaded, Threads};
use berth_model::{Class, ContainerConfig, ContainerId, ContainerTermination, Resources};
use serde::{Deserialize, Serialize};

/// A kind of containers that are only kept.
#[derive(Debug)]
struct Paper(Threads);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Asked {
    environment: Variables,
}

#[derive(Debug)]
struct Nothing;

impl State for Nothing {
    fn new() -> Result<Nothing, Error> {
        Ok(Nothing)
    }
    fn destroyed(&self) {}
}

impl Kind for Paper {
    const NAME: &'static str = "paper";
    const WHAT: &'static str = "a container on paper";
    const RECORD: &'static str = "paper-container";
    const MARK: &'static str = "paper-mark";
    const ENDED: &'static str = "paper-termination";
    const FILES: &'static [&'static str] = &["launched"];
    type Asked = Asked;
    type Found = bool;
    type State = Nothing;

    fn find(directory: &Directory<Paper>) -> Result<bool, Error> {
        directory.is_marked("launched")
    }
}

impl Threaded for Paper {
    fn threads(&self) -> &Threads {
        &self.0
    }
    fn update(_: &Arc<Keeper<Paper>>, _: &Entry<Paper>, _: &Resources, _: &Limits) -> Result<(), Error> {
        Ok(())
    }
    fn remove(_: &Keeper<Paper>, _: &Entry<Paper>) -> Result<(), Error> {
        Ok(())
    }
}

fn keeper(site: &Site) -> Arc<Keeper<Paper>> {
    let keeper = Keeper::new(Paper(Threads::new().unwrap()), &site.runtime_dir(), EventLog::default());
    keeper.records.make().unwrap();
    Arc::new(keeper)
}

fn record(id: &ContainerId) -> Record<Paper> {
    let config = ContainerConfig { directory: PathBuf::from("/sandbox"), ..ContainerConfig::default() };
    let environment = Variables::from([("A".to_owned(), "b".to_owned())]);
    Record { id: id.clone(), config, own: Asked { environment } }
}

fn status(code: i32) -> ContainerTermination {
    ContainerTermination { status: Some(code << 8), ..ContainerTermination::default() }
}

/// All that is on the disk, by name.
fn files(site: &Site, id: &ContainerId) -> Vec<String> {
    let entries = fs::read_dir(site.runtime_dir().join("paper").join(id.value())).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn each_step_of_a_life_is_found_by_the_next_agent() {
    let site = Site::new("steps").unwrap();
    let (keeper, id) = (keeper(&site), id("a"));
    let found = || keeper.records.all().unwrap().pop().unwrap().1;
    keeper.records.begin(&record(&id)).unwrap();
    let asked = found().record.unwrap();
    assert_eq!((asked.id, asked.config.directory), (id.clone(), PathBuf::from("/sandbox")));
    assert_eq!(asked.own.environment["A"], "b");
    assert!(!found().own && !found().destroying && found().ended.is_none() && !found().tidied);
    keeper.records.open(&id).unwrap().mark("launched").unwrap();
    assert!(found().own);
    keeper.records.destroying(&id).unwrap();
    assert!(found().destroying);
    keeper.records.ended(&id, &status(3)).unwrap();
    let ended = found().ended.unwrap();
    assert_eq!(ended.termination, status(3));
    assert!(ended.at > 0);
    keeper.records.tidied(&id).unwrap();
    assert!(found().tidied);
    assert_eq!(files(&site, &id), ["config", "destroying", "launched", "termination", "tidied"]);
    // A launch of the same id begins with nothing of the old one.
    keeper.records.begin(&record(&id)).unwrap();
    assert_eq!(files(&site, &id), ["config"]);
    keeper.records.remove(&id).unwrap();
    assert!(keeper.records.all().unwrap().is_empty());
    keeper.records.remove(&id).unwrap();
}

#[test]
fn a_torn_record_is_none_and_one_of_another_kind_is_refused() {
    let site = Site::new("torn").unwrap();
    let (keeper, id) = (keeper(&site), id("a"));
    keeper.records.begin(&record(&id)).unwrap();
    keeper.records.ended(&id, &status(0)).unwrap();
    let termination = keeper.records.place(&id).join("termination");
    let whole = fs::read(&termination).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 2] {
        fs::write(&termination, &whole[..cut]).unwrap();
        assert!(keeper.records.all().unwrap()[0].1.ended.is_none(), "cut at {cut}");
    }
    // The releases before did not write the time.
    let old = r#"{"format":"berth/paper-termination","version":1,"termination":{"status":256}}"#;
    fs::write(&termination, format!("{old}\n")).unwrap();
    let ended = keeper.records.all().unwrap().pop().unwrap().1.ended.unwrap();
    assert_eq!((ended.termination, ended.at), (status(1), 0));
    fs::write(&termination, old.replace("paper", "other")).unwrap();
    let error = keeper.records.all().unwrap_err().chain();
    assert!(error.contains("the record of a container on paper"), "{error}");
}

#[test]
fn a_failed_launch_is_buried_by_who_destroys_it_and_its_id_is_free() {
    let site = Site::new("failed").unwrap();
    let (keeper, id) = (keeper(&site), id("a"));
    let launched = keeper.launch(record(&id), Phase::Preparing, |keeper, entry| {
        keeper.records.begin(&entry.record).unwrap();
        keeper.failed(entry, Error::other(Class::Internal, "it does not work"), "destroyed meanwhile");
    });
    let error = berth_contract::block_on(launched).unwrap_err();
    assert_eq!(error.to_string(), "it does not work");
    assert_eq!(keeper.containers(), std::slice::from_ref(&id));
    let again = keeper.launch(record(&id), Phase::Preparing, |_, _| unreachable!("the id is taken"));
    assert_eq!(good(again), LaunchResult::AlreadyLaunched);
    assert!(keeper.remove_here(&id).is_err(), "it has not ended");
    let ended = good(keeper.destroy(&id)).unwrap();
    assert_eq!(ended.message.as_deref(), Some("the launch did not succeed"));
    assert!(!keeper.knows(&id) && files(&site, &id).is_empty());
    assert_eq!(good(keeper.destroy(&id)), None);
}

#[test]
fn updates_take_turns_and_too_many_are_refused() {
    let site = Site::new("turns").unwrap();
    let (keeper, id) = (keeper(&site), id("a"));
    let entry = keeper.create(record(&id), Phase::Running).unwrap().unwrap();
    entry.launched.settle(Ok(LaunchResult::Success));
    let first = keeper.turn(&id).unwrap();
    berth_contract::block_on(first.comes());
    let waiting: Vec<_> = (0..63).map(|_| keeper.update(&id, Resources::new(), Limits::default())).collect();
    let refused = berth_contract::block_on(keeper.update(&id, Resources::new(), Limits::default()));
    assert_eq!(refused.unwrap_err().class(), Class::Exhausted);
    drop(first);
    waiting.into_iter().for_each(good);
    keeper.terminated(&entry, status(0));
    good(keeper.update(&id, Resources::new(), Limits::default()));
}

#[test]
fn what_would_be_written_beside_a_removal_is_not_written() {
    let site = Site::new("beside").unwrap();
    let (keeper, id) = (keeper(&site), id("a"));
    let entry = keeper.create(record(&id), Phase::Running).unwrap().unwrap();
    keeper.records.begin(&entry.record).unwrap();
    keeper.terminated(&entry, status(0));
    assert!(entry.unless_removed(|| keeper.records.tidied(&id).unwrap()).is_some());
    let (_, _, ours) = keeper.removal(&id).unwrap_or_else(|_| panic!("it has ended"));
    assert!(ours);
    assert!(entry.unless_removed(|| ()).is_none());
    keeper.removed(&entry, Ok(())).unwrap();
    assert!(!keeper.knows(&id) && files(&site, &id).is_empty());
}

#[test]
fn who_goes_waits_for_its_threads_and_wakes_them() {
    let site = Site::new("goes").unwrap();
    let keeper = keeper(&site);
    let (begun, has_begun) = mpsc::channel();
    keeper
        .work(move |keeper| {
            begun.send(()).unwrap();
            let bell = keeper.leave_bell();
            let mut fds =
                [berth_sys::rustix::event::PollFd::new(bell, berth_sys::rustix::event::PollFlags::IN)];
            berth_sys::rustix::event::poll(&mut fds, None).unwrap();
            fs::write(keeper.records.place(&id("done")), "").unwrap();
        })
        .unwrap();
    has_begun.recv().unwrap();
    assert!(!keeper.is_leaving());
    keeper.leave();
    assert!(keeper.is_leaving() && keeper.records.place(&id("done")).exists());
}
