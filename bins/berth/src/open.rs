// SPDX-License-Identifier: Apache-2.0
//! From the command line's directories to native containers.

use crate::cli::Global;
use crate::exit::{Failure, say};
use berth_cgroup::Hierarchies;
use berth_factory::oneshot::{Directories, Kind, Native, Settings};

/// Opens the one-shot containers of the directories named, and collects what killed commands left there.
pub(crate) fn open(global: &Global, without: Vec<String>, seccomp_paths: bool) -> Result<Native, Failure> {
    if !berth_sys::rustix::process::geteuid().is_root() {
        return Err(Failure::text(
            "containers are made by root, and this is not root: run it with sudo (rootless mode is not built yet)",
        ));
    }
    let hierarchies = Hierarchies::probe(std::path::Path::new("/sys/fs/cgroup"))
        .map_err(|e| Failure::new(e.class(), &e))?;
    let settings = Settings {
        hierarchies: Some(hierarchies),
        seccomp_config_dir: None,
        seccomp_cache: Some(global.runtime_dir.join("seccomp")),
        seccomp_paths,
        without,
        groups: Default::default(),
        disk: None,
    };
    let directories =
        Directories { runtime: global.runtime_dir.clone(), work: global.work_dir.clone(), cgroup: None };
    let native = Native::open(&directories, Kind::OneShot, &settings).map_err(|e| Failure::of(&e))?;
    let collected = native.collect().map_err(|e| Failure::of(&e))?;
    for left in collected.left {
        say(format_args!("berth: could not collect all of an earlier container: {left}"));
    }
    Ok(native)
}
