// SPDX-License-Identifier: Apache-2.0
//! What several containerizers do in one: who is asked, who is not, and who is told.

mod ground;

use std::sync::Arc;

use berth_composing::{ComposingContainerizer, Strict};
use berth_contract::{
    Answer, Containerizer, Error, EventLog, LaunchResult, Limits, Settled, Variables, block_on, require,
};
use berth_model::{ContainerConfig, ContainerId, Resources};
use ground::{Say, Scripted, failure};

struct Two {
    first: Arc<Scripted>,
    second: Arc<Scripted>,
    both: ComposingContainerizer,
}

fn two(strict: Strict) -> Two {
    let events = EventLog::default();
    let (first, second) =
        (Arc::new(Scripted::new("first", &events)), Arc::new(Scripted::new("second", &events)));
    let children: Vec<Arc<dyn Containerizer>> = vec![Arc::clone(&first) as _, Arc::clone(&second) as _];
    Two {
        first,
        second,
        both: ComposingContainerizer::new(children, events, strict).expect("a thread can be made"),
    }
}

impl Two {
    fn launch(&self, id: &ContainerId) -> Answer<'_, LaunchResult> {
        self.both.launch(id, ContainerConfig::default(), Variables::new(), None)
    }
}

fn id(name: &str) -> ContainerId {
    ContainerId::new(name).expect("an id")
}

fn nested(parent: &str, name: &str) -> ContainerId {
    ContainerId::nested(id(parent), name).expect("an id")
}

#[test]
fn a_launch_falls_through_in_the_given_order_to_the_first_that_takes_it() {
    let two = two(Strict::Yes);
    let a = id("a");
    two.second.says(&a, Say::Now(Ok(LaunchResult::Success)));
    assert_eq!(block_on(two.launch(&a)).unwrap(), LaunchResult::Success);
    assert_eq!(two.first.called(), ["launch a"]);
    assert_eq!(two.second.called(), ["launch a"]);
    assert_eq!(block_on(two.both.containers()).unwrap(), [a]);

    let b = id("b");
    two.first.says(&b, Say::Now(Ok(LaunchResult::Success)));
    two.second.says(&b, Say::Now(Ok(LaunchResult::Success)));
    block_on(two.launch(&b)).unwrap();
    assert_eq!(two.second.called(), ["launch a"], "the second was asked for what the first took");
}

#[test]
fn the_signal_that_ends_a_container_is_asked_of_who_has_it() {
    let two = two(Strict::Yes);
    two.second.has(&id("a"));
    assert_eq!(two.both.stop_signal(&id("a")), Some(3));
    assert_eq!(two.both.stop_signal(&id("b")), None);
}

#[test]
fn what_nobody_takes_is_not_supported_and_nothing_is_left_of_it() {
    let two = two(Strict::Yes);
    assert_eq!(block_on(two.launch(&id("a"))).unwrap(), LaunchResult::NotSupported);
    assert!(block_on(two.both.containers()).unwrap().is_empty());
    assert!(!two.both.knows(&id("a")));
}

#[test]
fn a_failure_ends_the_launch_and_a_destroy_clears_it() {
    let two = two(Strict::Yes);
    let a = id("a");
    two.first.says(&a, Say::Now(Err(failure())));
    assert_eq!(block_on(two.launch(&a)).unwrap_err().to_string(), "the test says so");
    assert!(two.second.called().is_empty());
    assert_eq!(block_on(two.launch(&a)).unwrap(), LaunchResult::AlreadyLaunched);
    block_on(two.both.destroy(&a)).unwrap();
    assert!(!two.both.knows(&a));
}

#[test]
fn an_id_that_a_child_has_is_told_as_such_and_no_other_is_asked() {
    let two = two(Strict::Yes);
    let a = id("a");
    two.first.says(&a, Say::Now(Ok(LaunchResult::AlreadyLaunched)));
    assert_eq!(block_on(two.launch(&a)).unwrap(), LaunchResult::AlreadyLaunched);
    two.second.has(&id("b"));
    assert_eq!(block_on(two.launch(&id("b"))).unwrap(), LaunchResult::AlreadyLaunched);
    assert!(two.second.called().is_empty());
    assert_eq!(two.first.called(), ["launch a"]);
}

#[test]
fn a_destroy_while_the_first_decides_keeps_the_second_from_being_asked() {
    let two = two(Strict::Yes);
    let (a, gate) = (id("a"), Settled::new());
    two.first.says(&a, Say::Later(gate.clone()));
    two.second.says(&a, Say::Now(Ok(LaunchResult::Success)));
    let launch = two.launch(&a);
    let listed = block_on(two.both.containers()).unwrap();
    assert_eq!(listed, std::slice::from_ref(&a), "a launch under way is not listed");
    assert_eq!(block_on(two.both.destroy(&a)).unwrap(), None);
    gate.settle(Ok(LaunchResult::NotSupported));
    assert_eq!(block_on(launch).unwrap_err().to_string(), "Container was destroyed while launching");
    assert!(two.second.called().is_empty());
    assert!(!two.both.knows(&a));
}

#[test]
fn a_destroy_while_the_first_launches_is_told_to_it_and_its_success_stays_one() {
    let two = two(Strict::Yes);
    let (a, gate) = (id("a"), Settled::new());
    two.first.says(&a, Say::Later(gate.clone()));
    let launch = two.launch(&a);
    block_on(two.both.destroy(&a)).unwrap();
    gate.settle(Ok(LaunchResult::Success));
    assert_eq!(block_on(launch).unwrap(), LaunchResult::Success);
    assert_eq!(two.first.called(), ["launch a", "destroy a"]);
}

#[test]
fn a_launch_goes_on_to_the_second_when_nobody_waits_for_it_any_more() {
    let two = two(Strict::Yes);
    let (a, gate) = (id("a"), Settled::new());
    two.first.says(&a, Say::Later(gate.clone()));
    let taken = Settled::new();
    two.second.says(&a, Say::Later(taken.clone()));
    drop(two.launch(&a));
    gate.settle(Ok(LaunchResult::NotSupported));
    taken.settle(Ok(LaunchResult::Success));
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !two.second.knows(&a) {
        assert!(std::time::Instant::now() < patience, "the launch did not go on");
        std::thread::yield_now();
    }
}

#[test]
fn unknown_ids_are_answered_in_the_words_of_mesos() {
    let two = two(Strict::Yes);
    let a = id("a");
    assert_eq!(block_on(two.both.destroy(&a)).unwrap(), None);
    assert_eq!(block_on(two.both.wait(&a)).unwrap(), None);
    assert!(!block_on(two.both.kill(&a, 9)).unwrap());
    assert_eq!(block_on(two.both.usage(&a)).unwrap_err().to_string(), "Container not found");
    assert_eq!(block_on(two.both.status(&a)).unwrap_err().to_string(), "Container not found");
    block_on(two.both.update(&a, Resources::default(), Limits::new())).unwrap();
    let below = nested("a", "b");
    assert_eq!(block_on(two.both.remove(&below)).unwrap_err().to_string(), "Root container a not found");
    assert_eq!(block_on(two.launch(&below)).unwrap_err().to_string(), "Root container a not found");
    assert!(two.first.called().is_empty() && two.second.called().is_empty());
}

#[test]
fn nested_containers_go_to_their_roots_child_alone() {
    let two = two(Strict::Yes);
    two.second.has(&id("root"));
    let below = nested("root", "b");
    two.first.says(&below, Say::Now(Ok(LaunchResult::Success)));
    assert_eq!(block_on(two.launch(&below)).unwrap(), LaunchResult::NotSupported);
    two.second.says(&below, Say::Now(Ok(LaunchResult::Success)));
    assert_eq!(block_on(two.launch(&below)).unwrap(), LaunchResult::Success);
    assert!(two.first.called().is_empty());
    // One that its child has forgotten is still asked for there: it may have its end in a record.
    let gone = nested("root", "gone");
    assert_eq!(block_on(two.both.wait(&gone)).unwrap(), None);
    assert_eq!(two.second.called().last().map(String::as_str), Some("wait root.gone"));
}

#[test]
fn of_two_that_claim_one_id_after_a_restart_the_first_has_it() {
    let two = two(Strict::Yes);
    for name in ["one", "both"] {
        two.first.has(&id(name));
    }
    for name in ["both", "two"] {
        two.second.has(&id(name));
    }
    block_on(two.both.recover(None)).unwrap();
    assert_eq!(block_on(two.both.containers()).unwrap(), [id("both"), id("one"), id("two")]);
    block_on(two.both.destroy(&id("both"))).unwrap();
    assert_eq!(two.first.called(), ["destroy both"]);
    assert!(two.second.called().is_empty());
}

#[test]
fn one_that_can_not_recover_ends_the_recovery_where_that_is_wanted() {
    let two = two(Strict::Yes);
    *two.second.recovery.lock().unwrap() = Some(failure());
    assert_eq!(block_on(two.both.recover(None)).unwrap_err().to_string(), "the test says so");
}

#[test]
fn one_that_can_not_recover_does_not_take_the_others_away_and_is_named_where_it_is_missed() {
    let two = two(Strict::No);
    *two.second.recovery.lock().unwrap() = Some(failure());
    block_on(two.both.recover(None)).unwrap();
    let (a, b) = (id("a"), id("b"));
    two.first.says(&a, Say::Now(Ok(LaunchResult::Success)));
    assert_eq!(block_on(two.launch(&a)).unwrap(), LaunchResult::Success);
    two.second.says(&b, Say::Now(Ok(LaunchResult::Success)));
    let error = block_on(two.launch(&b)).unwrap_err();
    assert_eq!(
        error.chain(),
        "no containerizer took container b, and second was not asked, because it could not recover (mend it and start the \
         agent anew): the test says so"
    );
    assert!(!two.both.knows(&b), "a launch that was refused is still known");
    assert!(two.second.called().is_empty());
    let up = |name: &str| (format!("containerizer/{name}/up"), if name == "first" { 1.0 } else { 0.0 });
    let told = two.both.metrics();
    assert!(told.contains(&up("first")) && told.contains(&up("second")), "{told:?}");
}

#[test]
fn what_may_be_of_one_that_can_not_recover_is_not_removed() {
    let two = two(Strict::No);
    *two.second.recovery.lock().unwrap() = Some(failure());
    two.second.has(&id("a"));
    block_on(two.both.recover(None)).unwrap();
    let text = "container a may be one of the second containerizer, which could not recover (mend it and start the agent \
                anew): the test says so";
    assert_eq!(block_on(two.both.remove(&id("a"))).unwrap_err().chain(), text);
    assert_eq!(two.both.remove_here(&id("a")).unwrap_err().chain(), text);
    assert!(two.second.knows(&id("a")));
}

#[test]
fn none_that_can_recover_is_a_failure() {
    let two = two(Strict::No);
    *two.first.recovery.lock().unwrap() = Some(failure());
    *two.second.recovery.lock().unwrap() = Some(failure());
    assert!(block_on(two.both.recover(None)).is_err());
}

#[test]
fn images_are_pruned_everywhere_and_one_failure_is_told() {
    let two = two(Strict::Yes);
    *two.first.recovery.lock().unwrap() = Some(failure());
    assert_eq!(block_on(two.both.prune_images(Vec::new())).unwrap_err().to_string(), "the test says so");
    assert_eq!(two.second.called(), ["prune"]);
}

#[test]
fn a_facet_that_no_child_has_is_absent() {
    let two = two(Strict::Yes);
    assert!(require(two.both.exec()).is_err());
    assert!(two.both.attach().is_none() && two.both.pause().is_none() && two.both.nesting().is_none());
}

#[test]
fn what_is_kept_of_a_container_in_a_container_is_asked_of_its_roots_owner() {
    let two = two(Strict::Yes);
    two.second.nests.store(true, std::sync::atomic::Ordering::Relaxed);
    two.second.has(&id("a"));
    let nesting = require(two.both.nesting()).unwrap();
    let kept =
        |root: &str| nesting.kept(&ContainerId::nested(id(root), "b").unwrap()).map(|kept| kept.created_ms);
    assert_eq!((kept("a"), kept("other")), (Some(7), None));
}

#[test]
fn all_children_tell_what_happens_in_one_order() {
    let events = EventLog::default();
    let first = Arc::new(Scripted::new("first", &events));
    let both = ComposingContainerizer::new(vec![first], events.clone(), Strict::Yes).unwrap();
    let mut followed = both.events(0);
    events.publish(&id("a"), berth_contract::What::Removed);
    assert!(followed.try_next().is_some());
    assert_eq!(Error::ContainerNotFound.to_string(), "Container not found");
}
