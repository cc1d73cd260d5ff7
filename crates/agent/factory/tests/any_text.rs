// SPDX-License-Identifier: Apache-2.0
//! Flags are text from outside: whatever it is, it is read or refused, and never ends the process.

use berth_factory::{Flags, Host, KNOWN, Launcher, Loaded, Makers, create, normalise_isolation, resources};
use proptest::prelude::*;

fn host() -> Host {
    Host {
        cpus: Ok(u64::MAX),
        memory: Ok(u64::MAX),
        disk: Ok(0),
        launcher: Launcher::Posix,
        nvidia_devices: Some(u64::MAX),
    }
}

/// A flag that is known, or nearly, with any value.
fn argument() -> impl Strategy<Value = String> {
    let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    let name = prop_oneof![4 => prop::sample::select(names).prop_map(str::to_owned), 1 => "[a-z_=-]{0,8}"];
    let value = prop_oneof![
        "\\PC{0,12}",
        "[a-z]{1,4}(\\([a-z*/.]{0,4}\\))?:[0-9e.\\-]{0,6}",
        "[a-z]{1,3}:[\\[{][0-9,-]{0,8}[\\]}]?",
        "-?[0-9]{1,30}(ns|secs|weeks|MB|TB)?",
        "(posix|cgroups|filesystem|network|volume)/[a-z]{1,5}(,[a-z/]{1,8}){0,3}",
    ];
    (prop_oneof!["", "no-"], name, prop::option::of(value)).prop_map(|(no, name, value)| match value {
        Some(value) => format!("--{no}{name}={value}"),
        None => format!("--{no}{name}"),
    })
}

proptest! {
    #[test]
    fn any_command_line_is_read_or_refused(arguments in prop::collection::vec(argument(), 0..4)) {
        let Ok(loaded) = Loaded::read(arguments, []) else { return Ok(()) };
        let flags = Flags::from(loaded);
        if let Err(error) = create(&flags, &host(), &Makers::default()) {
            prop_assert!(!error.fatal().is_empty());
        }
        if let Err(error) = resources(&flags, &host()) {
            prop_assert!(error.fatal().starts_with("Failed to determine agent resources: "));
        }
    }

    #[test]
    fn a_completed_list_of_isolators_is_complete(flag in "([a-z/_]{1,12}|posix/cpu|cgroups|process|filesystem/linux|,){0,6}") {
        let Ok(first) = normalise_isolation(&flag) else { return Ok(()) };
        let again = normalise_isolation(&first.names.join(",")).unwrap();
        prop_assert_eq!(&again.names, &first.names);
        prop_assert!(again.warnings.is_empty());
        let filesystems = first.names.iter().filter(|name| name.starts_with("filesystem/")).count();
        prop_assert_eq!(filesystems, 1);
    }
}
