// SPDX-License-Identifier: Apache-2.0
//! What the suite does not ask of LXC's containers: templates and what they leave, systems, limits, hostile files, what an
//! agent that was killed leaves.

mod ground;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use berth_conformance::Site;
use berth_contract::{Containerizer, LaunchResult};
use berth_model::{Class, ContainerConfig, LxcInfo, LxcMode, Parameter, Volume};
use ground::{answer, config, ended, good, id, launch, recovered, settings, start};

/// A site, unless this host lacks something.
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

fn refused(lxc: &berth_lxc::Lxc, name: &str, config: ContainerConfig) -> berth_contract::Error {
    let id = id(name);
    let error = launch(lxc, &id, config).expect_err("it was to be refused");
    good(lxc.destroy(&id));
    error
}

/// Nothing of these words is anywhere below.
fn appears(place: &Path, words: &str, but: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(place) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(appears(&path, words, but)),
            Ok(kind) if kind.is_file() => {
                let text = fs::read(&path).unwrap_or_default();
                if !path.ends_with(but) && text.windows(words.len()).any(|window| window == words.as_bytes())
                {
                    found.push(path.display().to_string());
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn a_template_is_run_once_and_its_result_cloned() {
    let Some(site) = site("lxc-cache") else { return };
    let lxc = recovered(settings(&site));
    let text = "echo told-by-the-template; echo run >>\"${path%/*}/../../count\"; exec /usr/share/lxc/templates/lxc-busybox \"$@\"";
    let template = ground::template(&site, "counted", text);
    for number in 0..3 {
        let id = id(&format!("cached{number}"));
        let mut config = config(&site, &id, "echo changed >/etc/hostname; cat /etc/hostname");
        (lxc_of(&mut config).clone_from, lxc_of(&mut config).template) = (None, Some(template.clone()));
        start(&lxc, &id, config);
        assert_eq!(ended(&lxc, &id).status, Some(0));
        let stdout = fs::read_to_string(site.sandboxes().join(id.value()).join("stdout")).unwrap();
        assert_eq!(stdout, "changed\n");
    }
    assert_eq!(fs::read_to_string(site.work_dir().join("count")).unwrap(), "run\n");
    let first = fs::read_to_string(site.sandboxes().join("cached0/stderr")).unwrap();
    assert!(first.contains("told-by-the-template"), "{first}");
    good(lxc.prune_images(Vec::new()));
    assert_eq!(fs::read_dir(site.work_dir().join("lxc/bases")).unwrap().count(), 0);
}

#[test]
fn a_temporary_root_password_is_kept_and_told_nowhere() {
    let Some(site) = site("lxc-pass") else { return };
    let lxc = recovered(settings(&site));
    let secret = format!("s3cret{}", std::process::id());
    let text = format!(
        "umask 077; echo {}''{} >\"$path/tmp_root_pass\"; exec /usr/share/lxc/templates/lxc-busybox \"$@\"",
        &secret[..3],
        &secret[3..]
    );
    let template = ground::template(&site, "pass", &text);
    let id = id("pass");
    let mut config = config(&site, &id, "sleep 1000");
    (lxc_of(&mut config).clone_from, lxc_of(&mut config).template) = (None, Some(template));
    start(&lxc, &id, config);
    let place = site.work_dir().join("lxc/containers");
    let file = place.join("berth-pass/tmp_root_pass");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let name = berth_lxc::tools::Name::new("berth-pass").unwrap();
    let told = berth_lxc::tools::password(&place, &name).unwrap();
    assert_eq!(told.reveal(), format!("{secret}\n").as_bytes());
    let status = format!("{:?}{:?}", good(lxc.status(&id)), good(lxc.usage(&id)));
    assert!(!status.contains(&secret));
    let mut events = lxc.events(0);
    while let Some(event) = events.try_next() {
        assert!(!format!("{event:?}").contains(&secret));
    }
    for place in [site.work_dir(), site.runtime_dir(), site.sandboxes()] {
        assert_eq!(appears(&place, &secret, "tmp_root_pass"), Vec::<String>::new());
    }
    good(lxc.destroy(&id));
}

#[test]
fn a_system_boots_runs_its_command_and_stops_cleanly() {
    let Some(site) = site("lxc-system") else { return };
    let lxc = recovered(settings(&site));
    let id = id("system");
    let mut config = config(&site, &id, "cat /proc/1/comm; echo \"$A in $PWD\"; exit 5");
    config.command_info.environment.variables.push(berth_model::Variable {
        name: "A".to_owned(),
        value: Some("a value".to_owned()),
        ..berth_model::Variable::default()
    });
    lxc_of(&mut config).mode = LxcMode::System;
    start(&lxc, &id, config);
    assert_eq!(ended(&lxc, &id).status, Some(5 << 8));
    let stdout = fs::read_to_string(site.sandboxes().join("system/stdout")).unwrap();
    assert!(stdout.contains("init\n") && stdout.contains("a value in /mnt/mesos/sandbox"), "{stdout}");
    good(lxc.remove(&id));
}

/// A template of busybox whose init does this before it halts.
fn halting(site: &Site, name: &str, before: &str) -> String {
    let text = format!(
        "/usr/share/lxc/templates/lxc-busybox \"$@\" && \
         echo '::shutdown:/bin/sh -c \"cd /mnt/mesos/sandbox; : >stopping; {before}; : >stopped\"' >>\"$rootfs/etc/inittab\""
    );
    ground::template(site, name, &text)
}

#[test]
fn an_init_that_is_asked_to_stop_does_so_in_good_order_and_is_stopped_hard_where_it_does_not() {
    let Some(site) = site("lxc-halt") else { return };
    let mut settings = settings(&site);
    settings.grace = std::time::Duration::from_secs(20);
    let lxc = recovered(settings.clone());
    let system = |name: &str, template: &str| {
        let id = id(name);
        let mut config = config(&site, &id, "trap : TERM; : >up; while :; do sleep 0.1; done");
        (lxc_of(&mut config).clone_from, lxc_of(&mut config).template) = (None, Some(template.to_owned()));
        lxc_of(&mut config).mode = LxcMode::System;
        (id, config)
    };
    let sandbox = |name: &str, file: &str| site.sandboxes().join(name).join(file).exists();
    let template = halting(&site, "good", ":");
    for name in ["destroyed", "asked"] {
        let (id, config) = system(name, &template);
        start(&lxc, &id, config);
        berth_testing::until("it is up", || sandbox(name, "up"));
        if name == "asked" {
            // What `berth stop` sends: a wish.
            assert!(good(lxc.kill(&id, 15)));
            ended(&lxc, &id);
        } else {
            good(lxc.destroy(&id));
        }
        assert!(sandbox(name, "stopped"), "{name}: it was not stopped in good order");
    }
    // This one would take its time.
    drop(lxc);
    settings.grace = std::time::Duration::from_secs(1);
    let lxc = recovered(settings);
    let (own, config) = system("hard", &halting(&site, "slow", "sleep 1000"));
    start(&lxc, &own, config);
    berth_testing::until("it is up", || sandbox("hard", "up"));
    let pid = good(lxc.status(&own)).executor_pid.expect("a pid");
    good(lxc.destroy(&own));
    assert!(
        sandbox("hard", "stopping") && !sandbox("hard", "stopped"),
        "it was not asked, or was waited for"
    );
    assert!(!Path::new("/proc").join(pid.to_string()).exists(), "its init goes on");
}

#[test]
fn limits_are_in_force_before_the_command_and_can_be_changed() {
    let Some(site) = site("lxc-limits") else { return };
    let lxc = recovered(settings(&site));
    let id = id("limits");
    let mut config = config(
        &site,
        &id,
        "ulimit -n >limits; id -u >>limits; grep CapEff /proc/self/status >>limits; : >ready; exec sleep 1000",
    );
    config.limits.insert("mem".to_owned(), 64.0);
    config.limits.insert("pids".to_owned(), 50.0);
    config.limits.insert("cpus".to_owned(), 0.5);
    config.user = Some("1000".to_owned());
    fs::set_permissions(&config.directory, fs::Permissions::from_mode(0o777)).unwrap();
    config.container_info.as_mut().unwrap().rlimit_info = Some(berth_model::RLimitInfo {
        rlimits: vec![berth_model::RLimit {
            r#type: berth_model::RLimitType::Nofile,
            soft: Some(100),
            hard: Some(200),
        }],
    });
    start(&lxc, &id, config);
    let sandbox = site.sandboxes().join("limits");
    berth_testing::until("the container is ready", || sandbox.join("ready").exists());
    let usage = good(lxc.usage(&id));
    assert_eq!((usage.mem_limit_bytes, usage.cpus_limit), (Some(64 << 20), Some(0.5)));
    assert_eq!(fs::read_to_string(sandbox.join("limits")).unwrap(), "100\n1000\nCapEff:\t0000000000000000\n");
    good(lxc.update(&id, Default::default(), [("mem".to_owned(), 32.0)].into()));
    let usage = good(lxc.usage(&id));
    assert_eq!((usage.mem_limit_bytes, usage.cpus_limit), (Some(32 << 20), None));
    assert!(answer(lxc.update(&id, Default::default(), [("gpus".to_owned(), 1.0)].into())).is_err());
    let termination = good(lxc.destroy(&id)).unwrap();
    assert_eq!(termination.status, Some(9));
}

#[test]
fn words_that_would_become_configuration_are_refused() {
    let Some(site) = site("lxc-words") else { return };
    let lxc = recovered(settings(&site));
    let base = |name: &str| config(&site, &id(name), "exit 0");
    let parameter = |key: &str, value: &str| Parameter { key: key.to_owned(), value: value.to_owned() };
    for (key, value) in [
        ("lxc.hook.pre-start", "/bin/touch /tmp/x"),
        ("lxc.include", "/etc/passwd"),
        ("lxc.rootfs.path", "/"),
        ("lxc.uts.name", "a\nlxc.hook.pre-start = /bin/true"),
        ("lxc.uts.name\nlxc.hook.start", "x"),
        ("lxc.mount.entry", "/ mnt none bind 0 0"),
        ("lxc.net.0.link = x", "y"),
    ] {
        let mut config = base("words");
        lxc_of(&mut config).config.push(parameter(key, value));
        let error = refused(&lxc, "words", config);
        assert_eq!(error.class(), Class::Invalid, "{key}: {error}");
    }
    let mut config = base("words");
    config.container_info.as_mut().unwrap().hostname = Some("a\nlxc.hook.pre-start = /bin/true".to_owned());
    assert_eq!(refused(&lxc, "words", config).class(), Class::Invalid);
    let mut config = base("words");
    let value = Some("a\nlxc.hook.pre-start = /bin/true".to_owned());
    config.command_info.environment.variables.push(berth_model::Variable {
        name: "A".to_owned(),
        value,
        ..Default::default()
    });
    assert_eq!(refused(&lxc, "words", config).class(), Class::Invalid);
    let mut config = base("words");
    (lxc_of(&mut config).clone_from, lxc_of(&mut config).template) = (None, Some("../busybox".to_owned()));
    assert_eq!(refused(&lxc, "words", config).class(), Class::Invalid);
    let mut config = base("words");
    lxc_of(&mut config).clone_from = Some("../../etc".to_owned());
    assert_eq!(refused(&lxc, "words", config).class(), Class::Invalid);
    let mut config = base("words");
    lxc_of(&mut config).config =
        vec![parameter("lxc.net.0.type", "veth"), parameter("lxc.net.0.link", "berth-no-br")];
    let error = refused(&lxc, "words", config).to_string();
    assert!(error.contains("bridge berth-no-br of"), "{error}");
}

#[test]
fn a_template_that_fails_half_way_leaves_nothing_and_says_why() {
    let Some(site) = site("lxc-half") else { return };
    let lxc = recovered(settings(&site));
    // It leaves a process in a session of its own, without a parent.
    let mark = format!("77{}", std::process::id());
    let text = format!(
        "mkdir -p \"$rootfs/etc\"; setsid sh -c 'sleep {mark} & exit' </dev/null >/dev/null 2>&1; echo the mirror is gone >&2; exit 3"
    );
    let template = ground::template(&site, "half", &text);
    let mut config = config(&site, &id("half"), "exit 0");
    (lxc_of(&mut config).clone_from, lxc_of(&mut config).template) = (None, Some(template));
    let error = refused(&lxc, "half", config).to_string();
    assert!(error.contains("lxc-create") && error.contains("the mirror is gone"), "{error}");
    assert_eq!(fs::read_dir(site.work_dir().join("lxc/bases")).unwrap().count(), 0);
    let lives = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line == format!("sleep\0{mark}\0").as_bytes()
    });
    assert!(!lives, "what the template left behind lives");
}

#[test]
fn links_in_a_root_file_system_lead_nowhere() {
    let Some(site) = site("lxc-links") else { return };
    let lxc = recovered(settings(&site));
    let victim = site.work_dir().parent().unwrap().join("victim");
    fs::create_dir(&victim).unwrap();
    for (number, link) in ["mnt", "mnt/mesos", "mnt/mesos/sandbox"].into_iter().enumerate() {
        let text = format!(
            "/usr/share/lxc/templates/lxc-busybox \"$@\" && rm -rf \"$rootfs/{link}\" && mkdir -p \"$(dirname \"$rootfs/{link}\")\" && ln -s {} \"$rootfs/{link}\"",
            victim.display()
        );
        let template = ground::template(&site, &format!("link{number}"), &text);
        let mut config = config(&site, &id("link"), "exit 0");
        (lxc_of(&mut config).clone_from, lxc_of(&mut config).template) = (None, Some(template));
        let error = refused(&lxc, "link", config).to_string();
        assert!(error.contains("is no directory in the root file system"), "{link}: {error}");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{link}");
    }
    // The sandbox's own files for output.
    let id = id("output");
    let config = config(&site, &id, "echo hi");
    fs::write(victim.join("file"), "").unwrap();
    symlink(victim.join("file"), config.directory.join("stdout")).unwrap();
    start(&lxc, &id, config.clone());
    assert_eq!(ended(&lxc, &id).status, Some(0));
    assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "");
    assert_eq!(fs::read_to_string(config.directory.join("stdout")).unwrap(), "hi\n");
}

#[test]
fn volumes_are_mounted_as_they_were_asked_for() {
    let Some(site) = site("lxc-volumes") else { return };
    let lxc = recovered(settings(&site));
    let host = site.work_dir().parent().unwrap().join("a volume");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "here").unwrap();
    let id = id("volumes");
    let mut config = config(&site, &id, "cat /data/x/file; echo no >/data/x/file || echo read-only");
    config.container_info.as_mut().unwrap().volumes.push(Volume {
        container_path: "/data/x".to_owned(),
        host_path: Some(host.display().to_string()),
        mode: berth_model::VolumeMode::Ro,
        ..Volume::default()
    });
    start(&lxc, &id, config.clone());
    ended(&lxc, &id);
    assert_eq!(fs::read_to_string(config.directory.join("stdout")).unwrap(), "hereread-only\n");
    assert_eq!(fs::read_to_string(host.join("file")).unwrap(), "here");
}

#[test]
fn what_a_killed_agent_left_half_made_goes_and_what_is_not_ours_stays() {
    let Some(site) = site("lxc-orphans") else { return };
    let settings = settings(&site);
    let foreign = settings.lxc_path.join("busybox/config");
    let before = fs::metadata(&foreign).unwrap().ino();
    {
        let lxc = recovered(settings.clone());
        start(&lxc, &id("lives"), config(&site, &id("lives"), "exec sleep 1000"));
    }
    // As a kill in between leaves them: a directory without a record, one without its end, a group.
    let place = site.work_dir().join("lxc");
    fs::create_dir_all(place.join("containers/berth-orphan/overlay/delta/x")).unwrap();
    fs::create_dir_all(place.join("bases/base-0123456789abcdef/rootfs/etc")).unwrap();
    fs::create_dir_all(site.runtime_dir().join("lxc/torn")).unwrap();
    let lxc = recovered(settings);
    assert!(!place.join("containers/berth-orphan").exists());
    assert!(!place.join("bases/base-0123456789abcdef").exists());
    assert!(!site.runtime_dir().join("lxc/torn").exists());
    assert_eq!(good(lxc.containers()), [id("lives")]);
    assert_eq!(good(lxc.destroy(&id("lives"))).unwrap().status, Some(9));
    assert_eq!(fs::metadata(&foreign).unwrap().ino(), before);
    let again = config(&site, &id("orphan"), "exit 0");
    assert_eq!(launch(&lxc, &id("orphan"), again).unwrap(), LaunchResult::Success);
}
