// SPDX-License-Identifier: Apache-2.0

use std::time::Duration;

use berth_proto::v1::{self, CheckInfo, HealthCheck, TaskInfo, TaskStatus};

use super::*;
use crate::testing::task;

const START: Duration = Duration::from_secs(1000);

fn tcp_health() -> HealthCheck {
    HealthCheck {
        r#type: Some(health_check::Type::Tcp as i32),
        tcp: Some(health_check::TcpCheckInfo { port: 80, ..Default::default() }),
        ..HealthCheck::default()
    }
}

fn with_health(health: HealthCheck) -> TaskInfo {
    TaskInfo { health_check: Some(health), ..task("t") }
}

fn with_check(check: CheckInfo) -> TaskInfo {
    TaskInfo { check: Some(check), ..task("t") }
}

fn checks(task: &TaskInfo) -> Checks {
    Checks::new(task, START, &Kept::default(), None)
}

/// `+` good, `-` bad, `!` bad and to be killed, `.` nothing to say; one for each of the outcomes.
fn said(checks: &mut Checks, after: u64, outcomes: &[Outcome]) -> String {
    let now = START + Duration::from_secs(after);
    let say = |outcome| match checks.heard(Which::Health, outcome, now) {
        Some(Verdict::Health { healthy: true, .. }) => '+',
        Some(Verdict::Health { kill: true, .. }) => '!',
        Some(Verdict::Health { .. }) => '-',
        Some(Verdict::Result(_)) => '?',
        None => '.',
    };
    outcomes.iter().map(say).collect()
}

const GOOD: Outcome = Outcome::Connected(true);
const BAD: Outcome = Outcome::Connected(false);

#[test]
fn health_is_said_on_the_first_success_and_after_failures() {
    let mut checks = checks(&with_health(tcp_health()));
    assert_eq!(said(&mut checks, 100, &[GOOD, GOOD, BAD, BAD, GOOD, GOOD, BAD]), "+.--+.-");
}

#[test]
fn so_many_failures_in_a_row_kill() {
    let mut three = checks(&with_health(tcp_health()));
    assert_eq!(said(&mut three, 100, &[BAD, BAD, BAD]), "--!");
    let one = HealthCheck { consecutive_failures: Some(1), ..tcp_health() };
    assert_eq!(said(&mut checks(&with_health(one)), 100, &[GOOD, BAD]), "+!");
}

#[test]
fn failures_in_the_grace_do_not_count_until_the_first_success() {
    let mut checks = checks(&with_health(tcp_health()));
    assert_eq!(said(&mut checks, 10, &[BAD, BAD, BAD, BAD]), "....");
    let mut after = checks.clone();
    assert_eq!(said(&mut after, 11, &[BAD, BAD, BAD]), "--!");
    assert_eq!(said(&mut checks, 5, &[GOOD, BAD, BAD, BAD]), "+--!");
}

#[test]
fn health_goes_on_where_it_was_after_a_restart() {
    let task = with_health(tcp_health());
    let mut before = checks(&task);
    assert_eq!(said(&mut before, 1, &[GOOD, BAD, BAD]), "+--");
    let (was_healthy, failures) = before.health();
    let kept = Kept { was_healthy, failures, ..Kept::default() };
    let mut after = Checks::new(&task, START, &kept, None);
    assert_eq!(said(&mut after, 2, &[BAD]), "!");
}

#[test]
fn each_kind_of_outcome_is_good_or_bad() {
    for (outcome, good) in [
        (Outcome::Exited(0), true),
        (Outcome::Exited(1), false),
        (Outcome::Answered(199), false),
        (Outcome::Answered(200), true),
        (Outcome::Answered(399), true),
        (Outcome::Answered(400), false),
        (Outcome::Failed("why".to_owned()), false),
    ] {
        let mut checks = checks(&with_health(tcp_health()));
        assert_eq!(
            said(&mut checks, 100, std::slice::from_ref(&outcome)),
            if good { "+" } else { "-" },
            "{outcome:?}"
        );
    }
    let mut checks = checks(&with_health(tcp_health()));
    assert_eq!(said(&mut checks, 100, &[BAD, BAD, Outcome::Nothing, BAD]), "--.!");
}

fn command_check() -> CheckInfo {
    let command = v1::CommandInfo { value: Some("look".to_owned()), ..v1::CommandInfo::default() };
    CheckInfo {
        r#type: Some(check_info::Type::Command as i32),
        command: Some(check_info::Command { command }),
        ..CheckInfo::default()
    }
}

fn codes(checks: &mut Checks, outcomes: &[Outcome]) -> Vec<Option<Option<i32>>> {
    let hear = |outcome| match checks.heard(Which::Check, outcome, START) {
        Some(Verdict::Result(result)) => {
            assert_eq!(result.r#type(), check_info::Type::Command);
            Some(result.command.expect("it is typed").exit_code)
        }
        Some(Verdict::Health { .. }) => panic!("it is no health check"),
        None => None,
    };
    outcomes.iter().map(hear).collect()
}

#[test]
fn a_check_says_each_change_and_what_fails_empties_it() {
    let failed = Outcome::Failed("it took too long".to_owned());
    let outcomes = [
        failed.clone(),
        Outcome::Exited(1),
        Outcome::Exited(1),
        Outcome::Nothing,
        Outcome::Exited(0),
        failed.clone(),
        failed,
        Outcome::Exited(0),
    ];
    let said = codes(&mut checks(&with_check(command_check())), &outcomes);
    let expected = [None, Some(Some(1)), None, None, Some(Some(0)), Some(None), None, Some(Some(0))];
    assert_eq!(said, expected);
}

#[test]
fn a_result_that_was_said_before_a_restart_is_not_said_again() {
    let task = with_check(command_check());
    let result = CheckStatusInfo {
        r#type: Some(check_info::Type::Command as i32),
        command: Some(v1::check_status_info::Command { exit_code: Some(1) }),
        ..CheckStatusInfo::default()
    };
    let last = TaskStatus { check_status: Some(result), ..TaskStatus::default() };
    let mut checks = Checks::new(&task, START, &Kept::default(), Some(&last));
    assert_eq!(codes(&mut checks, &[Outcome::Exited(1), Outcome::Exited(2)]), [None, Some(Some(2))]);
}

#[test]
fn http_and_tcp_have_results_of_their_type() {
    let http = CheckInfo {
        r#type: Some(check_info::Type::Http as i32),
        http: Some(check_info::Http { port: 80, path: None }),
        ..CheckInfo::default()
    };
    let heard = checks(&with_check(http)).heard(Which::Check, &Outcome::Answered(503), START);
    let Some(Verdict::Result(result)) = heard else { panic!("{heard:?}") };
    assert_eq!(result.http.unwrap().status_code, Some(503));
    let tcp = CheckInfo {
        r#type: Some(check_info::Type::Tcp as i32),
        tcp: Some(check_info::Tcp { port: 80 }),
        ..CheckInfo::default()
    };
    let heard = checks(&with_check(tcp)).heard(Which::Check, &Outcome::Connected(false), START);
    let Some(Verdict::Result(result)) = heard else { panic!("{heard:?}") };
    assert_eq!(result.tcp.unwrap().succeeded, Some(false));
}

#[test]
fn times_are_those_of_the_task_with_the_defaults_of_mesos() {
    let task = with_health(tcp_health());
    let of_default = checks(&task);
    assert_eq!(of_default.first().collect::<Vec<_>>(), [(Which::Health, START + Duration::from_secs(15))]);
    assert_eq!(of_default.again(Which::Health, START), Some(START + Duration::from_secs(10)));
    assert_eq!(of_default.plan(Which::Health).unwrap().timeout, Some(Duration::from_secs(20)));
    let own = HealthCheck {
        delay_seconds: Some(0.5),
        interval_seconds: Some(0.25),
        timeout_seconds: Some(0.0),
        ..tcp_health()
    };
    let own = checks(&with_health(own));
    assert_eq!(own.first().collect::<Vec<_>>(), [(Which::Health, START + Duration::from_millis(500))]);
    assert_eq!(own.again(Which::Health, START), Some(START + Duration::from_millis(250)));
    assert_eq!(own.plan(Which::Health).unwrap().timeout, None);
}

fn url(http: health_check::HttpCheckInfo) -> Option<Probe> {
    let health = HealthCheck {
        r#type: Some(health_check::Type::Http as i32),
        http: Some(http),
        ..HealthCheck::default()
    };
    checks(&with_health(health)).plan(Which::Health).map(|plan| plan.probe.clone())
}

#[test]
fn urls_are_made_as_for_curl() {
    let http = health_check::HttpCheckInfo { port: 8080, ..Default::default() };
    let expect = |http, text: &str| assert_eq!(url(http), Some(Probe::Http { url: text.to_owned() }));
    expect(http.clone(), "http://127.0.0.1:8080");
    let path = Some("/health?x=1".to_owned());
    expect(health_check::HttpCheckInfo { path, ..http.clone() }, "http://127.0.0.1:8080/health?x=1");
    let (scheme, protocol) = (Some("https".to_owned()), Some(Protocol::IPv6 as i32));
    expect(health_check::HttpCheckInfo { scheme, protocol, ..http }, "https://[::1]:8080");
}

#[test]
fn a_check_that_can_not_be_made_is_left_out() {
    let http = health_check::HttpCheckInfo { port: 80, ..Default::default() };
    assert_eq!(url(health_check::HttpCheckInfo { port: 65536, ..http.clone() }), None);
    assert_eq!(url(health_check::HttpCheckInfo { scheme: Some("file".to_owned()), ..http }), None);
    let nothing = HealthCheck { tcp: None, ..tcp_health() };
    assert_eq!(checks(&with_health(nothing)).first().count(), 0);
    let unknown = HealthCheck { r#type: None, ..tcp_health() };
    assert_eq!(checks(&with_health(unknown)).first().count(), 0);
}
