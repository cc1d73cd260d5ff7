// SPDX-License-Identifier: Apache-2.0
//! A suite is worth what it catches: here the containerizer in memory gets one fault at a time, and the rule
//! that is about it has to fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use berth_conformance::{FakeContainerizer, Site, Subject, World, rules, rules_more, run_within};
use berth_contract::{
    AgentState, Answer, Containerizer, LaunchResult, Limits, Nesting, Pause, Subscription, Variables, ready,
};
use berth_model::{
    ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, Image, ResourceStatistics, Resources,
};

/// What stays is there for good: it needs no longer look.
const SETTLING: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A file stays in the runtime directory for each launch.
    LeaksAFile,
    /// A descriptor stays open below the runtime directory for each launch.
    LeaksADescriptor,
    /// A termination is forgotten when it has been answered.
    ForgetsTerminations,
    /// Wait says 0 whatever happened.
    InventsStatuses,
    /// A second launch is taken for a success.
    AcceptsTwice,
    /// The agent's environment is not handed on.
    DropsEnvironment,
    /// The pid is not checkpointed.
    ForgetsThePid,
    /// A restart loses what runs.
    ForgetsTheState,
    /// Kill says that everybody was there.
    KillsAnybody,
    /// Says that every id has a record.
    KnowsAnybody,
    /// Nothing is ever listed.
    ListsTooLittle,
}

struct Faulty {
    fake: FakeContainerizer,
    fault: Fault,
    runtime_dir: PathBuf,
}

impl Containerizer for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()> {
        let state = if self.fault == Fault::ForgetsTheState { None } else { state };
        self.fake.recover(state)
    }

    fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        pid_checkpoint: Option<PathBuf>,
    ) -> Answer<'_, LaunchResult> {
        let left = self.runtime_dir.join(format!("{id}.leak"));
        match self.fault {
            Fault::LeaksAFile => std::fs::write(left, "").expect("the directory is ours"),
            Fault::LeaksADescriptor => {
                let file = std::fs::File::create(&left).expect("the directory is ours");
                std::fs::remove_file(&left).expect("it was made just now");
                std::mem::forget(file);
            }
            _ => {}
        }
        let environment = if self.fault == Fault::DropsEnvironment { Variables::new() } else { environment };
        let pid_checkpoint = pid_checkpoint.filter(|_| self.fault != Fault::ForgetsThePid);
        let launch = self.fake.launch(id, config, environment, pid_checkpoint);
        let twice = self.fault == Fault::AcceptsTwice;
        Box::pin(async move {
            let result = launch.await?;
            Ok(if twice { LaunchResult::Success } else { result })
        })
    }

    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        self.fake.update(id, requests, limits)
    }

    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        self.fake.usage(id)
    }

    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus> {
        self.fake.status(id)
    }

    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        let (wait, id, fault) = (self.fake.wait(id), id.clone(), self.fault);
        Box::pin(async move {
            let mut ended = wait.await?;
            match (fault, &mut ended) {
                (Fault::ForgetsTerminations, Some(_)) => self.fake.remove(&id).await?,
                (Fault::InventsStatuses, Some(ended)) => ended.status = Some(0),
                _ => {}
            }
            Ok(ended)
        })
    }

    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        self.fake.destroy(id)
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        let (kill, all) = (self.fake.kill(id, signal), self.fault == Fault::KillsAnybody);
        Box::pin(async move { kill.await.map(|there| there || all) })
    }

    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        if self.fault == Fault::ListsTooLittle {
            return ready(Ok(Vec::new()));
        }
        self.fake.containers()
    }

    fn knows(&self, id: &ContainerId) -> bool {
        self.fault == Fault::KnowsAnybody || self.fake.knows(id)
    }

    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        self.fake.remove(id)
    }

    fn prune_images(&self, excluded: Vec<Image>) -> Answer<'_, ()> {
        self.fake.prune_images(excluded)
    }

    fn events(&self, since: u64) -> Subscription {
        self.fake.events(since)
    }

    fn pause(&self) -> Option<&dyn Pause> {
        self.fake.pause()
    }

    fn nesting(&self) -> Option<&dyn Nesting> {
        self.fake.nesting()
    }
}

/// Runs a rule on a containerizer with this fault; it has to fail.
fn caught(fault: Fault, rule: fn(&mut World<'_>)) -> String {
    let make = |site: &Site| {
        let faulty = Faulty { fake: FakeContainerizer::new(site), fault, runtime_dir: site.runtime_dir() };
        FakeContainerizer::subject(site).replaced_by(faulty)
    };
    let failed = catch_unwind(AssertUnwindSafe(|| run_within(SETTLING, "broken", rule, &make)));
    let Err(message) = failed else { panic!("the suite did not see the fault") };
    message.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_file_that_stays_is_caught() {
    let message = caught(Fault::LeaksAFile, rules::exit_statuses_are_exact);
    assert!(message.contains("left behind: file "), "{message}");
}

#[test]
fn a_descriptor_that_stays_is_caught() {
    let message = caught(Fault::LeaksADescriptor, rules::exit_statuses_are_exact);
    assert!(message.contains("left behind: descriptor "), "{message}");
}

#[test]
fn a_forgotten_termination_is_caught() {
    caught(Fault::ForgetsTerminations, rules::any_number_of_waiters_get_the_same_termination);
}

#[test]
fn an_invented_status_is_caught() {
    caught(Fault::InventsStatuses, rules::exit_statuses_are_exact);
    caught(Fault::InventsStatuses, rules::a_deadly_signal_is_in_the_status);
}

#[test]
fn two_launches_of_one_id_are_caught() {
    caught(Fault::AcceptsTwice, rules::a_second_launch_with_the_same_id_is_already_launched);
    caught(Fault::AcceptsTwice, rules::of_many_launches_with_one_id_at_once_one_succeeds);
}

#[test]
fn a_lost_environment_is_caught() {
    caught(Fault::DropsEnvironment, rules::environment_and_directory_reach_the_process);
}

#[test]
fn a_missing_pid_is_caught() {
    caught(Fault::ForgetsThePid, rules::the_pid_is_checkpointed);
}

#[test]
fn a_lost_state_is_caught() {
    caught(Fault::ForgetsTheState, rules_more::a_running_container_outlives_the_containerizer);
}

#[test]
fn a_kill_of_nobody_is_caught() {
    caught(Fault::KillsAnybody, rules::kill_of_an_unknown_or_ended_id_is_false);
}

#[test]
fn a_record_that_is_not_there_is_caught() {
    caught(Fault::KnowsAnybody, rules::knows_says_whether_there_is_a_record);
}

#[test]
fn a_list_that_is_too_short_is_caught() {
    caught(Fault::ListsTooLittle, rules::containers_lists_what_launches_and_runs);
}

/// The wrapper alone is not what fails.
#[test]
fn a_containerizer_without_a_fault_passes_through_the_same_wrapper() {
    let make = |site: &Site| -> Subject {
        let faulty = Faulty {
            fake: FakeContainerizer::new(site),
            fault: Fault::LeaksADescriptor,
            runtime_dir: site.runtime_dir(),
        };
        FakeContainerizer::subject(site).replaced_by(faulty)
    };
    // Nothing is launched by this rule, so the fault has no occasion.
    run_within(SETTLING, "whole", rules::wait_of_an_unknown_id_is_none, &make);
}
