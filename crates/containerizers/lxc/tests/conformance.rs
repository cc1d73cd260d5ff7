// SPDX-License-Identifier: Apache-2.0
//! The suite on LXC: real containers in application mode, of busybox. What can not be kept is in
//! `conformance.txt`.

mod ground;

use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_contract::EventLog;
use berth_lxc::Lxc;
use berth_model::{ContainerInfo, ContainerType, DockerInfo};

fn subject(site: &Site) -> Subject {
    if let Some(lacked) = ground::lacked() {
        ground::skip(&lacked);
        // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
        return FakeContainerizer::subject(site);
    }
    let slow = ground::template(site, "slow", "sleep 1000");
    Subject::new(Lxc::new(ground::settings(site), EventLog::default()).expect("a containerizer"))
        .with_every(ground::clone)
        .with_foreign(|config| {
            config.container_info = Some(ContainerInfo {
                r#type: ContainerType::Docker,
                docker: Some(DockerInfo { image: "busybox".to_owned(), ..DockerInfo::default() }),
                ..ContainerInfo::default()
            });
        })
        // Late: all is made when this is found.
        .with_failing(|config| {
            config.command_info.shell = false;
            config.command_info.value = Some("/no/such/program".to_owned());
        })
        .with_stalling(move |config| {
            let lxc = config.container_info.as_mut().and_then(|info| info.lxc.as_mut());
            let lxc = lxc.expect("a container of LXC");
            (lxc.clone_from, lxc.template) = (None, Some(slow.clone()));
        })
}

macro_rules! rules {
    ($($run:ident $module:ident { $($rule:ident)* })*) => {
        const RUN: &[&str] = &[$($(stringify!($rule),)*)*];
        $(berth_conformance::rules_of! { subject; $run; $module; $($rule)* })*
    };
}

rules! {
    run rules {
        exit_statuses_are_exact
        a_second_launch_with_the_same_id_is_already_launched
        an_id_is_taken_until_it_is_removed
        of_many_launches_with_one_id_at_once_one_succeeds
        another_kind_of_container_is_not_supported_and_leaves_nothing
        a_failed_launch_leaves_only_its_record_and_destroy_clears_it
        environment_and_directory_reach_the_process
        the_commands_own_variables_win
        any_number_of_waiters_get_the_same_termination
        an_abandoned_wait_disturbs_nothing
        wait_of_an_unknown_id_is_none
        destroy_is_idempotent
        destroys_and_waits_at_once_share_one_termination
        destroy_after_the_exit_answers_the_exit
        destroy_of_an_unknown_id_is_none
        destroy_during_a_launch_ends_the_launch
        the_pid_is_checkpointed
        kill_delivers_the_signal
        kill_of_an_unknown_or_ended_id_is_false
        a_number_that_is_no_signal_is_refused
        update_of_an_unknown_or_ended_id_is_no_error
        usage_and_status_of_an_unknown_id_say_so
        usage_and_status_of_a_running_container
        containers_lists_what_launches_and_runs
        remove_takes_what_has_ended
        knows_says_whether_there_is_a_record
        prune_images_without_images_succeeds
        events_tell_the_whole_life_in_order
    }
    run rules_more {
        a_nested_container_has_a_life_of_its_own
        a_nested_container_needs_a_living_parent_and_has_no_task
        destroy_takes_nested_containers_first
        remove_of_nested_containers
        a_paused_container_can_be_resumed_and_destroyed
        what_is_sent_to_a_paused_container_comes_when_it_is_resumed
        a_command_run_in_a_container_ends_by_itself
        a_command_that_can_not_be_run_leaves_nothing_and_its_id_free
        commands_in_a_container_end_with_it
        what_a_container_reads_and_writes_can_be_attached_to
        an_attachment_that_goes_disturbs_nothing
        a_running_container_outlives_the_containerizer
        an_exit_between_two_containerizers_is_not_lost
        an_executors_container_that_nobody_knows_is_destroyed
        nested_containers_outlive_the_containerizer
    }
    run_alone rules {
        many_at_once_leave_nothing_in_this_process
    }
}

/// The suite grows, and so has this list.
#[test]
fn every_rule_is_run_or_declared_with_a_reason() {
    let declared: Vec<&str> = include_str!("../conformance.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (rule, reason) = line.split_once(" | ").expect("rule | reason");
            assert!(reason.len() > 20, "{rule}: why?");
            rule
        })
        .collect();
    let suite = include_str!("../../../containerizer/conformance/src/suite.rs");
    let all = suite.lines().map(str::trim).filter(|line| {
        line.contains('_') && line.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    });
    let mut count = 0;
    for rule in all {
        count += 1;
        let (run, out) = (RUN.contains(&rule), declared.contains(&rule));
        assert!(
            run != out,
            "the rule {rule} is {}",
            if run { "run and declared" } else { "neither run nor declared" }
        );
    }
    assert_eq!(count, RUN.len() + declared.len(), "a rule that is no longer in the suite");
    println!("{} rules run, {} declared as not kept", RUN.len(), declared.len());
}
