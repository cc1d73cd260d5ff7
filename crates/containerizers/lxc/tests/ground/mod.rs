// SPDX-License-Identifier: Apache-2.0
//! What tests of the LXC containerizer stand on. Names, directories and groups carry the site's, so that nothing meets.
#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use berth_conformance::Site;
pub(crate) use berth_conformance::ask::{answer, ended, good, id, launch, start};
use berth_contract::{Containerizer, EventLog};
use berth_lxc::tools::{Call, Name};
use berth_lxc::{Lxc, Settings};
use berth_model::{ContainerConfig, ContainerId, ContainerInfo, ContainerType, LxcInfo};

/// What this host lacks for LXC, if anything.
pub(crate) fn lacked() -> Option<String> {
    let template = Path::new("/usr/share/lxc/templates/lxc-busybox");
    if !berth_lxc::tools::installed("lxc-start") || !template.exists() {
        return Some("lxc and lxc-templates".to_owned());
    }
    if !berth_lxc::tools::installed("busybox") {
        return Some("busybox-static".to_owned());
    }
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    (!is_root).then(|| "root".to_owned())
}

/// Says that this test was skipped, and why.
pub(crate) fn skip(lacked: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    berth_testing::skip(&test, lacked);
}

/// Settings on a site.
pub(crate) fn settings(site: &Site) -> Settings {
    let cgroup = site.cgroup().display().to_string();
    let mut settings = Settings::new(site.runtime_dir(), site.work_dir(), cgroup);
    settings.grace = Duration::from_secs(5);
    settings.lxc_path = shared().to_owned();
    settings
}

/// A container of busybox that all tests of this program clone: templates' results are kept, and the suite wants the host as
/// it was. Those of programs that have ended go.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        let above = std::env::temp_dir();
        for entry in fs::read_dir(&above).expect("a directory").flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.strip_prefix("berth-lxc-shared-")) else {
                continue;
            };
            if !Path::new("/proc").join(pid).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let place = above.join(format!("berth-lxc-shared-{}", std::process::id()));
        fs::create_dir_all(&place).expect("a directory");
        let name = Name::new("busybox").expect("a name");
        let call = Call::new("lxc-create", &place, &name)
            .option("--template=", "busybox")
            .option("--config=", "/dev/null");
        if let Err(error) = call.run() {
            panic!("{}", error.chain());
        }
        place
    })
}

/// Makes a configuration one of LXC, a clone of busybox.
pub(crate) fn clone(config: &mut ContainerConfig) {
    config.container_info = Some(ContainerInfo {
        r#type: ContainerType::Lxc,
        lxc: Some(LxcInfo { clone_from: Some("busybox".to_owned()), ..LxcInfo::default() }),
        ..ContainerInfo::default()
    });
}

/// Makes a configuration one of LXC, from the template busybox.
pub(crate) fn busybox(config: &mut ContainerConfig) {
    config.container_info = Some(ContainerInfo {
        r#type: ContainerType::Lxc,
        lxc: Some(LxcInfo { template: Some("busybox".to_owned()), ..LxcInfo::default() }),
        ..ContainerInfo::default()
    });
}

/// A template of shell text, which has its place in `$path`, the root file system in `$rootfs`.
pub(crate) fn template(site: &Site, name: &str, text: &str) -> String {
    let path = site.work_dir().parent().expect("a site is a directory").join(format!("template-{name}"));
    let head = "for word in \"$@\"; do case $word in --path=*) path=${word#*=};; --rootfs=*) rootfs=${word#*=};; esac; done";
    let made = Command::new("sh")
        .args([
            "-c",
            "printf '#!/bin/sh\\n%s\\n%s\\n' \"$1\" \"$2\" >\"$3\" && chmod 755 \"$3\"",
            "sh",
            head,
            text,
        ])
        .arg(&path)
        .output();
    assert!(made.as_ref().is_ok_and(|made| made.status.success()), "{made:?}");
    path.display().to_string()
}

/// A containerizer that has recovered with nothing.
pub(crate) fn recovered(settings: Settings) -> Lxc {
    let lxc = Lxc::new(settings, EventLog::default()).expect("a containerizer");
    good(lxc.recover(None));
    lxc
}

/// A configuration that runs shell text in a sandbox of its own.
pub(crate) fn config(site: &Site, id: &ContainerId, text: &str) -> ContainerConfig {
    let mut config = berth_conformance::ask::config(site, id, text);
    clone(&mut config);
    config
}
