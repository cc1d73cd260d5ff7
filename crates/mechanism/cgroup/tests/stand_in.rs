// SPDX-License-Identifier: Apache-2.0
//! Both versions on a plain directory that stands in for `/sys/fs/cgroup`: paths, values, conflicts, undoing.

#![expect(clippy::unwrap_used, reason = "in tests, helpers included")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth_cgroup::controller::devices;
use berth_cgroup::{Bytes, Controller, Error, Group, Hierarchies, Limit, Limits, MilliCpu, Mode, Version};
use berth_model::Class;

const WANTED: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

struct Fake {
    root: PathBuf,
}

impl Fake {
    fn new() -> Fake {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("berth-cgroup-{}-{number}", std::process::id()));
        fs::create_dir(&root).unwrap();
        Fake { root }
    }

    fn v1() -> (Fake, Hierarchies) {
        let fake = Fake::new();
        for name in ["cpu,cpuacct", "memory", "pids", "devices"] {
            fs::create_dir(fake.root.join(name)).unwrap();
        }
        for name in ["cpu", "cpuacct"] {
            std::os::unix::fs::symlink("cpu,cpuacct", fake.root.join(name)).unwrap();
        }
        let hierarchies = Hierarchies::stand_in(&fake.root, Mode::V1).unwrap();
        (fake, hierarchies)
    }

    fn v2(offered: &str) -> (Fake, Hierarchies) {
        let fake = Fake::new();
        fs::write(fake.root.join("cgroup.controllers"), offered).unwrap();
        let hierarchies = Hierarchies::stand_in(&fake.root, Mode::V2).unwrap();
        (fake, hierarchies)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn limits() -> Limits {
    Limits {
        cpu_request: Some(MilliCpu(500)),
        cpu_limit: Some(Limit::At(MilliCpu(1500))),
        memory_request: Some(Bytes(64 << 20)),
        memory_limit: Some(Limit::At(Bytes(128 << 20))),
        swap_limit: Some(Limit::At(Bytes(0))),
        pids_limit: Some(Limit::At(64)),
        ..Limits::default()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn a_v1_group_is_in_each_hierarchy_once_with_its_values() {
    let (fake, hierarchies) = Fake::v1();
    let group = Group::create(&hierarchies, "berth/i/one", &WANTED, &limits()).unwrap();
    assert_eq!(fake.text("cpu/berth/i/one/cpu.shares"), "512");
    assert_eq!(fake.text("cpu/berth/i/one/cpu.cfs_quota_us"), "150000");
    assert_eq!(fake.text("memory/berth/i/one/memory.memsw.limit_in_bytes"), (128 << 20).to_string());
    assert_eq!(fake.text("pids/berth/i/one/pids.max"), "64");
    assert!(!fake.has("devices/berth"), "nobody asked for devices");
    assert_eq!(group.join_fds().unwrap().len(), 3);
    assert!(fake.has("memory/berth/i/one/tasks"));

    let applied = group.limits_applied();
    assert_eq!(applied.cpu_weight, Some(512));
    assert_eq!(applied.cpu_limit, limits().cpu_limit);
    assert_eq!(applied.memory_limit, limits().memory_limit);
    assert_eq!(applied.memory_request, limits().memory_request);
    assert_eq!(applied.swap_limit, limits().swap_limit);
    assert_eq!(applied.pids_limit, limits().pids_limit);

    group.remove(soon()).unwrap();
    assert!(!group.exists());
    group.remove(soon()).unwrap();
    hierarchies.prune("berth/i").unwrap();
    for name in ["cpu", "memory", "pids"] {
        assert!(!fake.has(&format!("{name}/berth")));
    }
}

#[test]
fn controllers_that_are_mounted_together_are_one_hierarchy() {
    let (fake, hierarchies) = Fake::v1();
    let wanted = [Controller::Cpu, Controller::Cpuacct];
    let group = Group::create(&hierarchies, "one", &wanted, &Limits::default()).unwrap();
    assert_eq!(group.join_fds().unwrap().len(), 1);
    fs::write(fake.root.join("cpu/one/cpuacct.usage"), "77\n").unwrap();
    assert_eq!(group.usage().cpu_nanos, Some(77));
}

#[test]
fn a_v2_group_has_its_controllers_enabled_all_the_way_down() {
    let (fake, hierarchies) = Fake::v2("cpuset cpu io memory pids\n");
    let group = Group::create(&hierarchies, "berth/i/one", &WANTED, &limits()).unwrap();
    for parent in ["", "berth/", "berth/i/"] {
        assert_eq!(fake.text(&format!("{parent}cgroup.subtree_control")), "+cpu +memory +pids", "{parent}");
    }
    assert!(!fake.has("berth/i/one/cgroup.subtree_control"), "the group itself hands nothing down");
    assert_eq!(fake.text("berth/i/one/cpu.weight"), "50");
    assert_eq!(fake.text("berth/i/one/cpu.max"), "150000 100000");
    assert_eq!(fake.text("berth/i/one/memory.low"), (64 << 20).to_string());
    assert_eq!(fake.text("berth/i/one/memory.max"), (128 << 20).to_string());
    assert_eq!(fake.text("berth/i/one/memory.swap.max"), "0");
    assert_eq!(group.join_fds().unwrap().len(), 1);
    assert!(fake.has("berth/i/one/berth.leaf/cgroup.procs"), "processes are below what is limited");
    let applied = group.limits_applied();
    assert_eq!(applied.cpu_limit, limits().cpu_limit);
    assert_eq!(applied.memory_limit, limits().memory_limit);
    assert_eq!(applied.swap_limit, limits().swap_limit);
    group.remove(soon()).unwrap();
    assert!(!fake.has("berth/i/one"));
}

#[test]
fn a_v2_group_without_limits_exists_so_that_it_can_be_joined_and_killed() {
    let (fake, hierarchies) = Fake::v2("");
    let group = Group::create(&hierarchies, "berth/i/one", &[], &Limits::default()).unwrap();
    assert!(fake.has("berth/i/one") && group.exists());
    assert!(!fake.has("cgroup.subtree_control"));
}

#[test]
fn hybrid_takes_each_controller_from_where_it_is() {
    let fake = Fake::new();
    for name in ["cpu", "unified"] {
        fs::create_dir(fake.root.join(name)).unwrap();
    }
    fs::write(fake.root.join("unified/cgroup.controllers"), "cpu memory\n").unwrap();
    let hierarchies = Hierarchies::stand_in(&fake.root, Mode::Hybrid).unwrap();
    assert_eq!(hierarchies.mode(), Mode::Hybrid);
    assert_eq!(hierarchies.version_of(Controller::Cpu), Some(Version::V1));
    assert_eq!(hierarchies.version_of(Controller::Memory), Some(Version::V2));
    assert_eq!(hierarchies.version_of(Controller::Pids), None);
    let limits = Limits { pids_limit: None, ..limits() };
    Group::create(&hierarchies, "berth/one", &WANTED, &limits).unwrap();
    assert_eq!(fake.text("cpu/berth/one/cpu.shares"), "512");
    assert_eq!(fake.text("unified/berth/one/memory.max"), (128 << 20).to_string());
    assert_eq!(fake.text("unified/berth/cgroup.subtree_control"), "+memory");
}

#[test]
fn a_missing_controller_is_an_error_only_when_a_limit_needs_it() {
    let fake = Fake::new();
    fs::create_dir(fake.root.join("memory")).unwrap();
    let v1 = Hierarchies::stand_in(&fake.root, Mode::V1).unwrap();
    let (fake2, v2) = Fake::v2("memory\n");
    for (root, hierarchies) in [(fake.root.join("memory"), &v1), (fake2.root.clone(), &v2)] {
        let error = Group::create(hierarchies, "berth/one", &WANTED, &limits()).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
        let text = error.to_string();
        assert!(
            text.starts_with("the cpu limit needs the cgroup controller cpu, which is not there: "),
            "{text}"
        );
        assert!(!root.join("berth").exists(), "nothing was made");
        let limits = Limits { cpu_request: None, cpu_limit: None, pids_limit: None, ..limits() };
        let mut group = Group::create(hierarchies, "berth/one", &WANTED, &limits).unwrap();
        assert_eq!(group.join_fds().unwrap().len(), 1);
        let error =
            group.update(&Limits { pids_limit: Some(Limit::At(1)), ..Limits::default() }).unwrap_err();
        assert!(error.to_string().starts_with("the pids limit needs"), "{error}");
    }
}

#[test]
fn a_device_list_is_lines_on_v1_and_no_file_on_v2() {
    let (fake, hierarchies) = Fake::v1();
    let limits = Limits { devices: Some(devices::DEFAULT.to_vec()), ..Limits::default() };
    Group::create(&hierarchies, "one", &[], &limits).unwrap();
    assert_eq!(fake.text("devices/one/devices.deny"), "a");
    assert!(fake.text("devices/one/devices.allow").starts_with("c *:* mb *:* mc 5:1 rwm"));
    let (_fake, hierarchies) = Fake::v2("memory\n");
    let group = Group::create(&hierarchies, "one", &[], &limits).unwrap();
    assert!(!hierarchies.root().join("one/devices.allow").exists());
    group.remove(soon()).unwrap();
}

#[test]
fn a_v1_group_gets_the_processors_of_the_one_above_on_every_level() {
    let fake = Fake::new();
    fs::create_dir(fake.root.join("cpuset")).unwrap();
    fs::write(fake.root.join("cpuset/cpuset.cpus"), "0-3\n").unwrap();
    fs::write(fake.root.join("cpuset/cpuset.mems"), "0\n").unwrap();
    let hierarchies = Hierarchies::stand_in(&fake.root, Mode::V1).unwrap();
    let limits = Limits { cpuset_cpus: Some("1,2".parse().unwrap()), ..Limits::default() };
    let group = Group::create(&hierarchies, "berth/i/one", &[], &limits).unwrap();
    for above in ["berth", "berth/i"] {
        assert_eq!(fake.text(&format!("cpuset/{above}/cpuset.cpus")), "0-3\n", "{above}");
    }
    assert_eq!(fake.text("cpuset/berth/i/one/cpuset.cpus"), "1-2");
    assert_eq!(fake.text("cpuset/berth/i/one/cpuset.mems"), "0\n");
    assert_eq!(group.limits_applied().cpuset_cpus, limits.cpuset_cpus);
}

#[test]
fn disks_huge_pages_and_marks_are_in_their_files() {
    use berth_cgroup::{Device, HugePages, IoLimit};
    let disk = Device { major: 254, minor: 0 };
    let limits = Limits {
        io: vec![IoLimit { read_bytes: Some(Limit::At(1 << 20)), ..IoLimit::of(disk) }],
        huge_pages: vec![HugePages { page: Bytes(2 << 20), limit: Limit::At(Bytes(4 << 20)) }],
        ..Limits::default()
    };
    let fake = Fake::new();
    for name in ["blkio", "hugetlb", "net_cls"] {
        fs::create_dir(fake.root.join(name)).unwrap();
    }
    let hierarchies = Hierarchies::stand_in(&fake.root, Mode::V1).unwrap();
    let marked = Limits { net_classid: Some(0x12_0003), ..limits.clone() };
    let group = Group::create(&hierarchies, "one", &[], &marked).unwrap();
    assert_eq!(fake.text("blkio/one/blkio.throttle.read_bps_device"), "254:0 1048576");
    assert_eq!(fake.text("hugetlb/one/hugetlb.2MB.limit_in_bytes"), (4 << 20).to_string());
    assert_eq!(fake.text("net_cls/one/net_cls.classid"), 0x12_0003.to_string());
    assert_eq!(group.limits_applied().net_classid, Some(0x12_0003));
    assert_eq!(group.limits_applied().io, ["254:0 rbps=1048576"]);

    let (fake, hierarchies) = Fake::v2("io hugetlb\n");
    Group::create(&hierarchies, "one", &[], &limits).unwrap();
    assert_eq!(fake.text("cgroup.subtree_control"), "+io +hugetlb");
    assert_eq!(fake.text("one/io.max"), "254:0 rbps=1048576");
    assert_eq!(fake.text("one/hugetlb.2MB.max"), (4 << 20).to_string());
    let error = Group::create(&hierarchies, "two", &[], &marked).unwrap_err();
    assert_eq!(error.class(), Class::Unsupported);
    assert!(error.to_string().contains("mark of packets"), "{error}");
}

#[test]
fn an_existing_group_in_any_hierarchy_is_a_conflict_and_what_was_made_is_removed() {
    let (fake, hierarchies) = Fake::v1();
    fs::create_dir_all(fake.root.join("pids/berth/one")).unwrap();
    let error = Group::create(&hierarchies, "berth/one", &WANTED, &limits()).unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(error.to_string().contains("pids/berth/one exists already"), "{error}");
    assert!(!fake.has("cpu/berth/one") && !fake.has("memory/berth/one"));
    assert!(fake.has("pids/berth/one"), "that of another is left alone");
}

#[test]
fn a_value_that_is_refused_names_limit_file_and_value_in_both_versions() {
    let (fake1, v1) = Fake::v1();
    let (fake2, v2) = Fake::v2("cpu memory pids\n");
    // A directory where the control file should be: it exists, and can not be written.
    for (hierarchies, root, file) in
        [(&v1, fake1.root.join("memory"), "memory.limit_in_bytes"), (&v2, fake2.root.clone(), "memory.max")]
    {
        let mut group = Group::create(hierarchies, "berth/one", &WANTED, &Limits::default()).unwrap();
        fs::create_dir(root.join("berth/one").join(file)).unwrap();
        let error = group.update(&limits()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Apply { limit: "memory limit", controller: Controller::Memory, .. }));
        assert!(text.contains("write \"134217728\" to"), "{text}");
        assert!(text.contains(&format!("berth/one/{file}")), "{text}");
    }
}

#[test]
fn groups_that_the_container_made_are_removed_with_it_however_deep() {
    let (fake, hierarchies) = Fake::v1();
    let group = Group::create(&hierarchies, "berth/one", &WANTED, &limits()).unwrap();
    let mut deep = fake.root.join("memory/berth/one");
    for level in 0..300 {
        deep.push(format!("d{level}"));
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("memory.max"), "1").unwrap();
        if level % 50 == 0 {
            fs::create_dir(deep.join("aside")).unwrap();
        }
    }
    group.remove(soon()).unwrap();
    assert!(!fake.has("memory/berth/one"));
    assert!(fake.has("memory/berth"));
}

#[test]
fn a_group_with_nothing_in_it_goes_at_once_and_one_with_something_is_left_to_the_thorough_way() {
    for (fake, hierarchies) in [Fake::v1(), Fake::v2("cpu memory pids")] {
        let memory = if fake.has("memory") { "memory/" } else { "" };
        let group = Group::create(&hierarchies, "berth/one", &WANTED, &limits()).unwrap();
        group.join_fds().unwrap();
        assert!(Group::remove_empty(&hierarchies, "berth/one").unwrap());
        assert!(!group.exists() && fake.has(&format!("{memory}berth")));
        assert!(Group::remove_empty(&hierarchies, "berth/one").unwrap(), "as often as one likes");
        let group = Group::create(&hierarchies, "berth/two", &WANTED, &limits()).unwrap();
        fs::create_dir(fake.root.join(format!("{memory}berth/two/below"))).unwrap();
        assert!(!Group::remove_empty(&hierarchies, "berth/two").unwrap());
        assert!(group.exists());
        group.remove(soon()).unwrap();
        assert!(!group.exists());
    }
}

#[test]
fn a_group_that_is_in_use_is_said_to_be_at_the_deadline_and_the_others_are_gone() {
    let (fake, hierarchies) = Fake::v1();
    let group = Group::create(&hierarchies, "berth/one", &WANTED, &limits()).unwrap();
    // A stand-in for a process: something that keeps the directory from being removed.
    std::os::unix::fs::symlink("x", fake.root.join("memory/berth/one/member")).unwrap();
    fs::write(fake.root.join("memory/berth/one/cgroup.procs"), "0\n4000000\n").unwrap();
    let error = group.remove(Instant::now()).unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(!fake.has("cpu/berth/one") && !fake.has("pids/berth/one") && fake.has("memory/berth/one"));
}

#[test]
fn recovery_finds_ids_that_are_in_any_hierarchy() {
    let (fake, hierarchies) = Fake::v1();
    assert!(hierarchies.list("berth/i").unwrap().is_empty());
    for path in ["memory/berth/i/b", "pids/berth/i/a", "pids/berth/i/b", "pids/berth/other/c"] {
        fs::create_dir_all(fake.root.join(path)).unwrap();
    }
    fs::write(fake.root.join("pids/berth/i/tasks"), "").unwrap();
    assert_eq!(hierarchies.list("berth/i").unwrap(), ["a", "b"]);
    let half = Group::open(&hierarchies, "berth/i/a").unwrap();
    assert!(half.exists());
    half.remove(soon()).unwrap();
    assert_eq!(hierarchies.list("berth/i").unwrap(), ["b"]);
    assert_eq!(Group::open(&hierarchies, "berth/i/a").unwrap_err().class(), Class::NotFound);
    hierarchies.prune("berth/i").unwrap();
    assert!(fake.has("pids/berth/i/b"), "what is in use stays");
}

#[test]
fn creators_and_a_pruner_at_the_same_time_do_not_fail_each_other() {
    let (_fake, hierarchies) = Fake::v1();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let hierarchies = &hierarchies;
            scope.spawn(move || {
                for round in 0..50 {
                    let path = format!("berth/i/{thread}-{round}");
                    let group = Group::create(hierarchies, &path, &WANTED, &limits()).unwrap();
                    group.remove(soon()).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..20 {
                hierarchies.prune("berth/i").unwrap();
            }
        });
    });
}

#[test]
fn a_sample_has_the_numbers_of_usage_and_limits_and_no_others() {
    let (fake, hierarchies) = Fake::v1();
    Group::create(&hierarchies, "one", &WANTED, &Limits::default()).unwrap();
    let put = |file: &str, text: &str| fs::write(fake.root.join(file), text).unwrap();
    fs::create_dir(fake.root.join("memory/one/inner")).unwrap();
    for place in ["memory/one", "memory/one/inner", "cpu/one", "pids/one"] {
        put(&format!("{place}/cgroup.procs"), "7\n8\n");
    }
    put("memory/one/memory.usage_in_bytes", "4096\n");
    put("memory/one/memory.max_usage_in_bytes", "8192\n");
    put("memory/one/memory.limit_in_bytes", "1048576\n");
    put("memory/one/memory.stat", "cache 1\ntotal_rss 5\n");
    put("pids/one/pids.current", "5\n");
    put("cpu/one/cpu.cfs_quota_us", "-1\n");
    let sample = Group::sample(&hierarchies, "one").unwrap();
    let group = Group::open(&hierarchies, "one").unwrap();
    let (usage, applied) = (group.usage(), group.limits_applied());
    assert_eq!((sample.usage.memory, sample.usage.pids), (usage.memory, usage.pids));
    assert_eq!(sample.usage.memory_anonymous, Some(Bytes(5)));
    assert_eq!((usage.memory_peak, sample.usage.memory_peak), (Some(Bytes(8192)), None));
    assert_eq!(sample.applied.memory_limit, applied.memory_limit);
    assert_eq!((sample.applied.cpu_limit, applied.cpu_limit), (Some(Limit::Infinite), Some(Limit::Infinite)));
    put("cpu/one/cpu.cfs_quota_us", "50000\n");
    put("cpu/one/cpu.cfs_period_us", "100000\n");
    let sample = Group::sample(&hierarchies, "one").unwrap();
    assert_eq!(sample.applied.cpu_limit, Some(Limit::At(MilliCpu(500))));
    assert!(sample.processes.is_some_and(|count| count == 2 || count == 4), "{sample:?}");
    assert!(Group::sample(&hierarchies, "none").is_err());
}

#[test]
fn usage_is_read_from_the_files_of_each_version() {
    let (fake, hierarchies) = Fake::v1();
    let group = Group::create(&hierarchies, "one", &WANTED, &Limits::default()).unwrap();
    assert_eq!(group.usage(), berth_cgroup::Usage::default());
    let put = |file: &str, text: &str| fs::write(fake.root.join(file), text).unwrap();
    fs::create_dir(fake.root.join("memory/one/inner")).unwrap();
    put("memory/one/memory.usage_in_bytes", "4096\n");
    put("memory/one/memory.max_usage_in_bytes", "8192\n");
    put("memory/one/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
    put("memory/one/inner/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    put("pids/one/pids.current", "5\n");
    put("cpu/one/cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 12345\n");
    let usage = group.usage();
    assert_eq!((usage.memory, usage.memory_peak), (Some(Bytes(4096)), Some(Bytes(8192))));
    assert_eq!((usage.oom_kills, usage.pids), (Some(3), Some(5)));
    assert_eq!((usage.cpu_throttled_periods, usage.cpu_throttled_nanos), (Some(3), Some(12345)));

    let (fake, hierarchies) = Fake::v2("cpu memory pids\n");
    let group = Group::create(&hierarchies, "one", &WANTED, &Limits::default()).unwrap();
    let put = |file: &str, text: &str| fs::write(fake.root.join(file), text).unwrap();
    put("one/memory.current", "4096\n");
    put("one/memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n");
    put("one/cpu.stat", "usage_usec 5\nuser_usec 3\nnr_throttled 1\nthrottled_usec 2\n");
    let usage = group.usage();
    assert_eq!((usage.memory, usage.memory_peak), (Some(Bytes(4096)), None));
    assert_eq!((usage.memory_limit_hits, usage.oom_kills), (Some(7), Some(1)));
    assert_eq!((usage.cpu_nanos, usage.cpu_throttled_nanos), (Some(5000), Some(2000)));
}

#[test]
fn a_base_is_completed_and_never_taken_back() {
    let (fake, hierarchies) = Fake::v1();
    // Another is in the midst of making it, and has something in it already.
    fs::create_dir_all(fake.root.join("pids/berth/i/lxc")).unwrap();
    for _ in 0..2 {
        Group::ensure(&hierarchies, "berth/i", &WANTED).unwrap();
        assert!(fake.has("cpu/berth/i") && fake.has("memory/berth/i") && fake.has("pids/berth/i/lxc"));
    }
    for path in ["", "/a", "a/../b"] {
        assert_eq!(Group::ensure(&hierarchies, path, &WANTED).unwrap_err().class(), Class::Invalid);
    }
}

#[test]
fn paths_that_leave_the_hierarchy_are_refused() {
    let (fake, hierarchies) = Fake::v1();
    for path in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a\nb", &"x".repeat(256)] {
        let error = Group::create(&hierarchies, path, &WANTED, &limits()).unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{path:?}");
        assert!(Group::open(&hierarchies, path).is_err() && hierarchies.list(path).is_err());
        assert!(hierarchies.prune(path).is_err());
    }
    assert_eq!(fs::read_dir(fake.root.join("memory")).unwrap().count(), 0);
}

#[test]
fn a_folder_without_hierarchies_is_refused_with_advice() {
    let fake = Fake::new();
    for root in [fake.root.as_path(), Path::new("/nonexistent/cgroup")] {
        let error = Hierarchies::probe(root).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
        assert!(error.to_string().contains("no cgroup hierarchy is mounted under"), "{error}");
    }
}

#[test]
fn each_version_is_stopped_by_its_own_words() {
    let (v1, hierarchies) = Fake::v1();
    fs::create_dir(v1.root.join("freezer")).unwrap();
    drop(hierarchies);
    let hierarchies = Hierarchies::stand_in(&v1.root, Mode::V1).unwrap();
    let group = Group::create(&hierarchies, "b/i", &[Controller::Freezer], &Limits::default()).unwrap();
    group.freeze(soon()).unwrap();
    assert_eq!(v1.text("freezer/b/i/freezer.state"), "FROZEN");
    assert_eq!(group.is_frozen(), Some(true));
    group.thaw().unwrap();
    assert_eq!(v1.text("freezer/b/i/freezer.state"), "THAWED");
    assert_eq!(group.is_frozen(), Some(false));
    assert!(!v1.has("memory/b/i"));

    let (v2, hierarchies) = Fake::v2("cpu memory pids");
    let group = Group::create(&hierarchies, "b/i", &[Controller::Freezer], &Limits::default()).unwrap();
    group.freeze(soon()).unwrap();
    assert_eq!(v2.text("b/i/cgroup.freeze"), "1");
    assert_eq!(group.is_frozen(), Some(true));
    group.thaw().unwrap();
    assert_eq!(v2.text("b/i/cgroup.freeze"), "0");
    // It is no controller that the parent would have to hand down.
    assert!(!v2.has("cgroup.subtree_control"));
}

#[test]
fn what_does_not_stop_in_time_goes_on() {
    let (v2, hierarchies) = Fake::v2("");
    let group = Group::create(&hierarchies, "stuck", &[Controller::Freezer], &Limits::default()).unwrap();
    fs::write(v2.root.join("stuck/cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    let error = group.freeze(Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, Error::NotApplied { limit: "pause", .. }), "{error}");
    assert_eq!(v2.text("stuck/cgroup.freeze"), "0");
}

#[test]
fn a_hybrid_host_without_a_v1_freezer_has_that_of_v2() {
    let fake = Fake::new();
    for name in ["memory", "unified"] {
        fs::create_dir(fake.root.join(name)).unwrap();
    }
    fs::write(fake.root.join("unified/cgroup.controllers"), "pids").unwrap();
    let hierarchies = Hierarchies::stand_in(&fake.root, Mode::Hybrid).unwrap();
    assert_eq!(hierarchies.version_of(Controller::Freezer), Some(Version::V2));
    let group = Group::create(&hierarchies, "g", &[Controller::Freezer], &Limits::default()).unwrap();
    group.freeze(soon()).unwrap();
    assert_eq!(fake.text("unified/g/cgroup.freeze"), "1");
}
