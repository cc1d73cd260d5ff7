// SPDX-License-Identifier: Apache-2.0
//! Other people's clients, unchanged. `BERTH_MESOS_CLI` names a python that has `avmesos` and `avmesos-cli` from PyPI.

use std::process::Command;

use berth_test_agent::{Wanted, shell, skip};

use crate::{ground, leave, told};

#[test]
fn the_command_line_client_of_mesos_executes_and_attaches() {
    let test = "the_command_line_client_of_mesos_executes_and_attaches";
    let Some(python) = std::env::var_os("BERTH_MESOS_CLI") else {
        return skip(test, "BERTH_MESOS_CLI, a python with avmesos-cli from PyPI");
    };
    let mut ground = ground!(the_command_line_client_of_mesos_executes_and_attaches);
    let (plain, terminal) = (ground.name("p"), ground.name("t"));
    let api = ground.api();
    api.launch(&plain, &shell("exec sleep 1000")).unwrap();
    api.launch(&terminal, &Wanted { terminal: true, ..shell("exec sh") }).unwrap();
    let pid = told(&ground, "/state")["pid"].as_str().unwrap().to_owned();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign/mesos_cli.py");
    let address = pid.split_once('@').unwrap().1;
    let output = Command::new(python).args([script, address, &plain, &terminal]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.ends_with("all ok\n"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    leave(&mut ground);
}
