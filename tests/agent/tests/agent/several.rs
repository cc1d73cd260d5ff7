// SPDX-License-Identifier: Apache-2.0
//! An agent with several containerizers: each container is its own one's, before and after the agent was killed.

use crate::ground;
use berth_test_agent::{Ground, shell, until};
use std::path::Path;

/// An agent that asks the native containerizer first, and then the program of `examples/`.
fn start(ground: &mut Ground) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/external-containerizer.py");
    let mut command = ground.agent();
    command.arg("--containerizers=mesos,external");
    command.arg(format!("--containerizer_path=exec /usr/bin/python3 {}", example.display()));
    ground.start_as(&mut command);
}

#[test]
fn containers_of_two_containerizers_outlive_the_agent_side_by_side() {
    let mut ground = ground!(containers_of_two_containerizers_outlive_the_agent_side_by_side);
    ground.stop();
    start(&mut ground);
    let (api, native, foreign) = (ground.api(), ground.name(0), ground.name(1));
    let script = "echo up; while [ ! -e go ]; do sleep 0.05; done; exit";
    api.launch(&native, &shell(format!("{script} 7"))).unwrap();
    api.launch_external(&foreign, &format!("{script} 8")).unwrap();
    api.wrote(&native, "up\n");
    let mut both = vec![native.clone(), foreign.clone()];
    both.sort();
    let living = || {
        let mut living = api.living().unwrap();
        living.sort();
        living
    };
    assert_eq!(living(), both);
    // Of the native one alone there is a control group of ours.
    assert!(!ground.groups(&native).settings().is_empty());
    assert!(ground.groups(&foreign).settings().is_empty());
    ground.kill();
    start(&mut ground);
    assert_eq!(living(), both);
    for (name, code) in [(&native, 7), (&foreign, 8)] {
        std::fs::write(ground.sandbox(name).join("go"), "").unwrap();
        assert_eq!(api.code(name).unwrap(), Some(code), "{name}");
        api.remove(name).unwrap();
    }
    until("nothing is known any more", || api.all().unwrap().is_empty());
    ground.stop();
    // Places that the external containerizer makes once; they are removed only if nothing is in them.
    for place in [ground.runtime_dir(), ground.work_dir()] {
        std::fs::remove_dir(place.join("external")).unwrap();
    }
    ground.leave().unwrap();
}
