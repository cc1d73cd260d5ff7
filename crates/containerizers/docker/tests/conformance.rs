// SPDX-License-Identifier: Apache-2.0
//! The suite on the Docker containerizer, with a real engine. What can not be kept is in `conformance.txt`.

mod ground;

use std::net::TcpListener;
use std::sync::OnceLock;

use berth_conformance::{FakeContainerizer, Site, Subject};
use berth_contract::{Error, EventLog};
use berth_docker::Docker;
use berth_model::{ContainerType, Parameter};

/// A registry that takes connections and never says a word.
fn silent_registry() -> u16 {
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listener.local_addr().expect("an address").port()
}

fn subject(site: &Site) -> Subject {
    let Some(subject) = on_engine(site) else { return FakeContainerizer::subject(site) };
    subject
}

fn on_engine(site: &Site) -> Option<Subject> {
    // The rules run all the same, but on nothing of ours: the list of skipped tests says so.
    if ground::skipped() {
        return None;
    }
    let settings = ground::settings(site, ground::daemon::shared());
    let port = silent_registry();
    let subject = Subject::new(Docker::new(settings, EventLog::default()).expect("a containerizer"))
        .with_every(|config| config.container_info = Some(ground::container()))
        // As with Docker itself, a command begins where its image says.
        .told_by(|script| format!("cd \"$MESOS_SANDBOX\"; {}", script.shell()))
        .with_foreign(|config| {
            if let Some(info) = &mut config.container_info {
                info.r#type = ContainerType::Mesos;
            }
        })
        // Late: the engine has made it when this is found.
        .with_failing(|config| {
            config.command_info.shell = false;
            config.command_info.value = Some("/no/such/program".to_owned());
        })
        .with_stalling(move |config| {
            let docker = config.container_info.as_mut().and_then(|info| info.docker.as_mut());
            docker.expect("every configuration has it").image = format!("127.0.0.1:{port}/never:1");
        })
        .with_unknown(Error::UnknownContainerColon, Some(Error::UnknownContainerColon));
    Some(subject)
}

/// The first process of a namespace of pids hears no signal that it has no handler for, save SIGKILL: with the host's pids it
/// is as any other.
fn with_the_hosts_pids(site: &Site) -> Subject {
    let subject = subject(site);
    if ground::daemon::lacked().is_some() {
        return subject;
    }
    subject.with_every(|config| {
        let mut info = ground::container();
        let pid = Parameter { key: "pid".to_owned(), value: "host".to_owned() };
        info.docker.as_mut().expect("it is one of Docker").parameters.push(pid);
        config.container_info = Some(info);
    })
}

macro_rules! rules {
    ($($make:ident $run:ident $module:ident { $($rule:ident)* })*) => {
        const RUN: &[&str] = &[$($(stringify!($rule),)*)*];
        $(berth_conformance::rules_of! { $make; $run; $module; $($rule)* })*
    };
}

rules! {
    subject run rules {
        exit_statuses_are_exact
        a_second_launch_with_the_same_id_is_already_launched
        an_id_is_taken_until_it_is_removed
        of_many_launches_with_one_id_at_once_one_succeeds
        another_kind_of_container_is_not_supported_and_leaves_nothing
        a_failed_launch_leaves_only_its_record_and_destroy_clears_it
        environment_and_directory_reach_the_process
        the_commands_own_variables_win
        the_pid_is_checkpointed
        any_number_of_waiters_get_the_same_termination
        an_abandoned_wait_disturbs_nothing
        wait_of_an_unknown_id_is_none
        destroy_is_idempotent
        destroys_and_waits_at_once_share_one_termination
        destroy_after_the_exit_answers_the_exit
        destroy_of_an_unknown_id_is_none
        destroy_during_a_launch_ends_the_launch
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
    with_the_hosts_pids run rules {
        a_deadly_signal_is_in_the_status
    }
    subject run rules_more {
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
    subject run_alone rules {
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
