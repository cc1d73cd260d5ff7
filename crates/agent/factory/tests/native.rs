// SPDX-License-Identifier: Apache-2.0
//! The native containerizer as the flags make it: what is refused, and that a container runs. Needs root.

use std::path::Path;

use berth_conformance::{Script, Site, Subject, run};
use berth_factory::{Flags, Host, Loaded, create, makers};

fn flags(site: &Site, more: &[&str]) -> Flags {
    let own = [
        format!("--work_dir={}", site.work_dir().display()),
        format!("--runtime_dir={}", site.runtime_dir().display()),
        format!("--cgroups_root={}", site.cgroup().display()),
    ];
    let more = more.iter().map(|flag| (*flag).to_owned());
    Flags::from(Loaded::read(own.into_iter().chain(more), []).expect("the flags are known"))
}

fn refusal(more: &[&str]) -> String {
    let site = Site::new("refused").expect("there is a temporary folder");
    let flags = flags(&site, more);
    match create(&flags, &Host::probe(&flags.work_dir), &makers()) {
        Ok(created) => panic!("{more:?} made {created:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_flag_without_anything_behind_it_is_refused_by_name() {
    let text = refusal(&["--cgroups_hierarchy=/cg"]);
    assert!(text.starts_with("Could not create MesosContainerizer: --cgroups_hierarchy is not"), "{text}");
}

#[test]
fn isolators_that_this_build_lacks_are_refused_in_the_words_of_mesos() {
    assert_eq!(
        refusal(&["--isolation=posix/cpu,posix/mem"]),
        "Could not create MesosContainerizer: Unknown or unsupported isolator 'filesystem/posix'"
    );
    let text = refusal(&["--isolation=filesystem/linux,cgroups/cpu", "--launcher=linux"]);
    assert!(text.contains("without the isolator 'cgroups/mem'"), "{text}");
}

/// The control group of the site goes with it.
#[derive(Default)]
struct Base(std::sync::Mutex<Option<String>>);

impl Drop for Base {
    fn drop(&mut self) {
        use berth_cgroup::Hierarchies;
        let path = self.0.lock().ok().and_then(|mut path| path.take());
        if let (Some(path), Ok(hierarchies)) = (path, Hierarchies::probe(Path::new(Hierarchies::ROOT))) {
            let _ = hierarchies.prune(&path);
        }
    }
}

#[test]
fn a_container_of_the_default_flags_runs_and_ends() {
    const NAME: &str = "a_container_of_the_default_flags_runs_and_ends";
    if !rustix::process::geteuid().is_root() {
        return berth_testing::skip(NAME, "root: containers are made by root");
    }
    run(
        NAME,
        |world| {
            let id = world.id("default");
            world.start(&id, &Script::Exit(4));
            assert_eq!(world.wait(&id).status, Some(4 << 8));
        },
        &|site| {
            if let Ok(mut path) = site.keep::<Base>().0.lock() {
                path.replace(site.cgroup().display().to_string());
            }
            let flags = flags(site, &[]);
            let created = create(&flags, &Host::probe(&flags.work_dir), &makers()).expect("a containerizer");
            assert_eq!((created.containerizer.name(), created.warnings.len()), ("mesos", 0));
            Subject::shared(created.containerizer)
        },
    );
}
