// SPDX-License-Identifier: Apache-2.0
//! The macro that makes a test of every rule.

/// Makes one `#[test]` per rule of the contract, each on a [`Site`](crate::Site) of its own.
///
/// ```ignore
/// berth_conformance::suite!(MyContainerizer::new);
/// ```
///
/// The function or closure gets `&Site` and returns the containerizer, or a [`Subject`](crate::Subject) that
/// says more about it. It is called again on the same site when a rule lets the containerizer die and
/// recover. Everything static that the containerizer keeps on the host (directories, base cgroups) it makes
/// in `recover` at the latest; what appears later has to be gone when the containers are.
///
/// Who can not keep a rule says so in a file, and leaves it out; who keeps one only under conditions gives those:
///
/// ```ignore
/// berth_conformance::suite! {
///     subject, but what "../conformance.txt" declares: kill_delivers_the_signal;
///     with_the_hosts_pids: a_deadly_signal_is_in_the_status;
/// }
/// ```
#[macro_export]
macro_rules! suite {
    ($make:expr) => {
        $crate::unless! { ($) }
        $crate::suite! { @rules $make }
    };
    ($make:expr, but what $file:literal declares: $($out:ident)*; $($other:ident: $($rule:ident)*;)*) => {
        $crate::unless! { ($) $($out)* $($($rule)*)* }
        $crate::suite! { @rules $make }
        $($($crate::one_rule! { $other; run; rules; $rule })*)*

        #[test]
        fn every_rule_is_kept_or_declared() {
            $crate::every_rule_is_kept_or_declared(include_str!($file), &[$(stringify!($out)),*]);
        }
    };
    (@rules $make:expr) => {
        $crate::rules_of! { $make; run; rules;
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
            a_deadly_signal_is_in_the_status
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
        $crate::rules_of! { $make; run; rules_more;
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
        $crate::rules_of! { $make; run_alone; rules;
            many_at_once_leave_nothing_in_this_process
        }
    };
}

/// The tests of some rules of one module; a part of [`suite!`](crate::suite).
#[doc(hidden)]
#[macro_export]
macro_rules! rules_of {
    ($make:expr; $run:ident; $module:ident; $($rule:ident)*) => {
        $(unless_out! { $rule; $crate::one_rule! { $make; $run; $module; $rule } })*
    };
}

/// The test of one rule; a part of [`suite!`](crate::suite).
#[doc(hidden)]
#[macro_export]
macro_rules! one_rule {
    ($make:expr; $run:ident; $module:ident; $rule:ident) => {
        #[test]
        fn $rule() {
            let make = $crate::closure($make);
            $crate::$run(stringify!($rule), $crate::$module::$rule, &|site| make(site).into());
        }
    };
}

/// Makes the macro that leaves out what stands behind the names of some rules; a part of [`suite!`](crate::suite).
#[doc(hidden)]
#[macro_export]
macro_rules! unless {
    (($d:tt) $($out:ident)*) => {
        macro_rules! unless_out {
            $(($out; $d($d what:tt)*) => {};)*
            ($d rule:ident; $d($d what:tt)*) => { $d($d what)* };
        }
    };
}

/// Demands that a file of lines `rule | reason` declares the rules that are left `out`, and no other.
///
/// # Panics
/// When it does not.
pub fn every_rule_is_kept_or_declared(file: &str, out: &[&str]) {
    let declared = file.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (rule, reason) = line.split_once(" | ").expect("rule | reason");
        assert!(reason.len() > 20, "{rule}: why?");
        rule
    });
    let declared: std::collections::BTreeSet<&str> = declared.collect();
    assert_eq!(declared, out.iter().copied().collect(), "what is declared is not what is left out");
    let suite = include_str!("suite.rs");
    for rule in declared {
        let is_one = suite.lines().any(|line| line.trim() == rule);
        assert!(is_one, "the rule {rule} is no longer in the suite");
    }
}

#[cfg(test)]
mod tests {
    /// A rule that the macro forgets would never run, and nobody would notice.
    #[test]
    fn every_rule_is_in_the_suite() {
        let suite = include_str!("suite.rs");
        for source in [include_str!("rules.rs"), include_str!("rules_more.rs")] {
            let rules = source.lines().filter_map(|line| line.strip_prefix("pub fn "));
            let names: Vec<&str> = rules.filter_map(|rule| rule.split('(').next()).collect();
            assert!(names.len() >= 10, "the rules are not found any more: {names:?}");
            for name in names {
                let listed = suite.lines().any(|line| line.trim() == name);
                assert!(listed, "the rule {name} is not in the suite");
            }
        }
    }
}
