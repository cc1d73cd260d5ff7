// SPDX-License-Identifier: Apache-2.0
//! What a Mesos 1.12 agent said when it was started with these flags (`agent-start.jsonl`), against what we
//! say: the same words and the same verdict, but for the differences that are listed here with their reasons.

use std::path::Path;
use std::sync::Arc;

use berth_conformance::{FakeContainerizer, Site};
use berth_contract::Containerizer;
use berth_factory::{Flags, Host, Launcher, Loaded, Makers, create, hint, resources};

/// Where we differ on purpose: the name of the line, what we say instead, and why.
const DIFFERENT: &[(&str, &str, &str)] = &[(
    "resources ports:[1-2,2-3]",
    "Failed to determine agent resources: Invalid ranges resource: overlapping ranges",
    "a range that is there twice is a slip of the operator's hand; Mesos merges it without a word",
)];

/// The recorded host: root, the v1 freezer, two processors.
fn recorded_host() -> Host {
    Host {
        cpus: Ok(2),
        memory: Ok(8 << 30),
        disk: Ok(100 << 30),
        launcher: Launcher::Linux,
        nvidia_devices: None,
    }
}

/// Starts an agent so far as this crate goes; the lines with which it exits, or nothing if it runs.
fn start(arguments: &[String], site: &Site) -> Result<(), Vec<String>> {
    let loaded = Loaded::read(arguments.iter().cloned(), [])
        .map_err(|error| vec![error.to_string(), hint("mesos-agent")])?;
    let flags = Flags::from(loaded);
    let host = recorded_host();
    let makers = Makers {
        mesos: Some(Box::new(|_, _, _| Ok(Arc::new(FakeContainerizer::new(site)) as Arc<dyn Containerizer>))),
        ..Makers::default()
    };
    // An agent makes its containerizer first.
    create(&flags, &host, &makers).map_err(|error| vec![error.fatal()])?;
    resources(&flags, &host).map_err(|error| vec![error.fatal()])?;
    Ok(())
}

#[test]
fn every_recorded_start_ends_as_it_did() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent-start.jsonl");
    let site = Site::new("replay").unwrap();
    let mut wrong = Vec::new();
    let (mut lines, mut different) = (0, 0);
    for line in std::fs::read_to_string(&file).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let strings = |key: &str| -> Vec<String> {
            let list = line[key].as_array().unwrap();
            list.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
        };
        let name = line["name"].as_str().unwrap();
        lines += 1;
        let wanted = if let Some((_, ours, _)) = DIFFERENT.iter().find(|(line, _, _)| *line == name) {
            different += 1;
            Err(vec![(*ours).to_owned()])
        } else if line["exit"] == "runs" {
            Ok(())
        } else {
            assert_eq!(line["exit"], 1, "{name}");
            Err(strings("messages"))
        };
        // The recording has no blanks at the ends of lines.
        let got = start(&strings("args"), &site).map_err(|messages| {
            messages.iter().map(|message| message.trim_end().to_owned()).collect::<Vec<_>>()
        });
        if got != wanted {
            wrong.push(format!("{name}\n    wanted {wanted:?}\n    got    {got:?}"));
        }
    }
    assert!(lines >= 38, "only {lines} lines were replayed");
    assert_eq!(different, DIFFERENT.len(), "a listed difference is no line of the recording");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A Mesos agent with cgroup v1, the linux launcher and no `cgroups/*` isolator aborts on an assertion. Ours
/// starts: its containers have the freezer, and no limits.
#[test]
fn no_cgroups_isolator_is_no_reason_to_abort() {
    let site = Site::new("no-cgroups").unwrap();
    assert_eq!(start(&["--isolation=posix/cpu,posix/mem".to_owned()], &site), Ok(()));
    assert_eq!(start(&[], &site), Ok(()));
}

/// And with a `cgroups/*` isolator and the posix launcher, where Mesos aborts too, ours says what is wrong.
#[test]
fn a_cgroups_isolator_without_the_linux_launcher_is_refused_in_words() {
    let site = Site::new("posix-launcher").unwrap();
    let arguments = ["--isolation=cgroups/cpu", "--launcher=posix"].map(str::to_owned);
    assert_eq!(
        start(&arguments, &site),
        Err(vec![
            "Failed to create a containerizer: Could not create MesosContainerizer: \
             Failed to create isolator 'cgroups/cpu': the 'linux' launcher must be used"
                .to_owned()
        ])
    );
}
