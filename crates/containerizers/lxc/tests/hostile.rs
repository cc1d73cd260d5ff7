// SPDX-License-Identifier: Apache-2.0
//! Templates that fill the disk, and root file systems and sandboxes with links where we write.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod ground;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_conformance::Site;
use berth_contract::Containerizer;
use berth_lxc::Lxc;
use berth_model::{Class, ContainerConfig, LxcInfo, LxcMode, Volume};
use ground::{config, ended, good, id, launch, recovered, settings, start};

fn site(name: &str) -> Option<Site> {
    match ground::lacked() {
        Some(lacked) => {
            ground::skip(&lacked);
            None
        }
        None => Some(Site::new(name).expect("a site")),
    }
}

fn lxc_of(config: &mut ContainerConfig) -> &mut LxcInfo {
    config.container_info.as_mut().and_then(|info| info.lxc.as_mut()).expect("a container of LXC")
}

fn from_template(config: &mut ContainerConfig, template: String) {
    (lxc_of(config).clone_from, lxc_of(config).template) = (None, Some(template));
}

fn refused(lxc: &Lxc, name: &str, config: ContainerConfig) -> berth_contract::Error {
    let id = id(name);
    let error = launch(lxc, &id, config).expect_err("it was to be refused");
    good(lxc.destroy(&id));
    error
}

/// A small file system; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Small {
        fs::create_dir_all(at).unwrap();
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m,mode=711", "small"]).arg(at).output();
        assert!(done.as_ref().is_ok_and(|done| done.status.success()), "{done:?}");
        Small(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_template_that_fills_the_disk_fails_with_its_words_and_gives_the_room_back() {
    let Some(site) = site("lxc-full") else { return };
    let _small = Small::mount(&site.work_dir().join("lxc"));
    let lxc = recovered(settings(&site));
    let text = "head -c 64000000 /dev/zero >\"$rootfs/file\" || exit 4";
    let mut asked = config(&site, &id("full"), "exit 0");
    from_template(&mut asked, ground::template(&site, "full", text));
    let error = refused(&lxc, "full", asked).to_string();
    assert!(error.contains("lxc-create") && error.contains("No space left on device"), "{error}");
    assert_eq!(fs::read_dir(site.work_dir().join("lxc/bases")).unwrap().count(), 0);
    // There is room for the next.
    let id = id("next");
    let mut asked = config(&site, &id, "exit 7");
    ground::busybox(&mut asked);
    start(&lxc, &id, asked);
    assert_eq!(ended(&lxc, &id).status, Some(7 << 8));
}

#[test]
fn a_volume_is_not_mounted_through_a_link() {
    let Some(site) = site("lxc-volume") else { return };
    let lxc = recovered(settings(&site));
    let victim = site.work_dir().parent().unwrap().join("victim");
    fs::create_dir(&victim).unwrap();
    let text =
        format!("/usr/share/lxc/templates/lxc-busybox \"$@\" && ln -s {} \"$rootfs/data\"", victim.display());
    let template = ground::template(&site, "data", &text);
    for place in ["/data", "/data/below"] {
        let mut asked = config(&site, &id("volume"), "exit 0");
        from_template(&mut asked, template.clone());
        asked.container_info.as_mut().unwrap().volumes.push(Volume {
            container_path: place.to_owned(),
            host_path: Some(victim.display().to_string()),
            ..Volume::default()
        });
        let error = refused(&lxc, "volume", asked).to_string();
        assert!(error.contains("is no directory in the root file system"), "{place}: {error}");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{place}");
    }
}

#[test]
fn the_logs_of_a_system_go_through_no_link() {
    let Some(site) = site("lxc-logs") else { return };
    let lxc = recovered(settings(&site));
    let victim = site.work_dir().parent().unwrap().join("victim");
    fs::create_dir(&victim).unwrap();
    // In the root file system: they stay in it.
    for (number, link) in ["var", "var/log"].into_iter().enumerate() {
        let text = format!(
            "/usr/share/lxc/templates/lxc-busybox \"$@\" && rm -rf \"$rootfs/{link}\" && ln -s {} \"$rootfs/{link}\"",
            victim.display()
        );
        let id = id(&format!("system{number}"));
        let mut asked = config(&site, &id, "exit 5");
        from_template(&mut asked, ground::template(&site, &format!("logs{number}"), &text));
        lxc_of(&mut asked).mode = LxcMode::System;
        start(&lxc, &id, asked.clone());
        assert_eq!(ended(&lxc, &id).status, Some(5 << 8), "{link}");
        assert!(!asked.directory.join("log").exists(), "{link}");
    }
    // In the sandbox: refused.
    let mut asked = config(&site, &id("sandbox"), "exit 5");
    lxc_of(&mut asked).mode = LxcMode::System;
    symlink(&victim, asked.directory.join("log")).unwrap();
    let error = refused(&lxc, "sandbox", asked);
    assert_eq!(error.class(), Class::Conflict, "{error}");
    assert!(error.to_string().contains("/var/log of the system"), "{error}");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}

#[test]
fn the_logs_of_a_system_are_in_its_sandbox_as_its_root_file_system_has_them() {
    use std::os::unix::fs::MetadataExt;
    let Some(site) = site("lxc-log") else { return };
    let lxc = recovered(settings(&site));
    let text = "/usr/share/lxc/templates/lxc-busybox \"$@\" && mkdir -p \"$rootfs/var/log/journal\" && \
        chown 7:8 \"$rootfs/var/log/journal\" && chmod 2750 \"$rootfs/var/log/journal\" && : >\"$rootfs/var/log/old\"";
    let id = id("log");
    let mut asked = config(&site, &id, "echo told >/var/log/journal/told");
    from_template(&mut asked, ground::template(&site, "log", text));
    lxc_of(&mut asked).mode = LxcMode::System;
    start(&lxc, &id, asked.clone());
    assert_eq!(ended(&lxc, &id).status, Some(0));
    let log = asked.directory.join("log");
    let journal = fs::metadata(log.join("journal")).unwrap();
    assert_eq!((journal.uid(), journal.gid(), journal.mode() & 0o7777), (7, 8, 0o2750));
    assert_eq!(fs::read_to_string(log.join("journal/told")).unwrap(), "told\n");
    assert!(!log.join("old").exists());
}
