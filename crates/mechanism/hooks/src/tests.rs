// SPDX-License-Identifier: Apache-2.0

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Ground(tempfile::TempDir);

impl Ground {
    /// None where hooks can not be root's.
    fn new(test: &str) -> Option<Ground> {
        if !rustix::process::geteuid().is_root() {
            berth_testing::skip(test, "root: hooks are root's");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        for point in Point::ALL {
            std::fs::create_dir(dir.path().join(point.name())).unwrap();
        }
        Some(Ground(dir))
    }

    fn hook(&self, point: Point, name: &str, script: &str) -> PathBuf {
        let path = self.0.path().join(point.name()).join(name);
        berth_testing::script(&path, &format!("#!/bin/sh\n{script}\n"));
        path
    }

    fn open(&self) -> Result<Hooks, Error> {
        Hooks::open(self.0.path(), PATIENCE)
    }
}

const POINT: Point = Point::PreLaunch;

#[test]
fn hooks_are_asked_in_the_order_of_their_names_and_the_later_one_wins() {
    let Some(ground) = Ground::new("order") else { return };
    ground.hook(POINT, "20-b", r#"echo '{"environment":{"A":"second","C":"3"}}'"#);
    ground.hook(POINT, "10-a", r#"echo '{"environment":{"A":"first","B":"2"}}'"#);
    ground.hook(POINT, "30-quiet", "");
    ground.hook(Point::Removal, "other", "exit 1");
    let all = ground.open().unwrap().ask(POINT, &json!({})).unwrap();
    let expected =
        [("A", "second"), ("B", "2"), ("C", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(all, BTreeMap::from(expected));
}

#[test]
fn a_hook_is_told_what_it_is_asked_and_nothing_of_the_agents_environment() {
    let Some(ground) = Ground::new("told") else { return };
    let seen = ground.0.path().join("seen");
    let script =
        format!("{{ cat; echo \" $1 $BERTH_HOOK $PWD $(env | grep -c CARGO)\"; }} > {}", seen.display());
    ground.hook(POINT, "a", &script);
    ground.open().unwrap().ask(POINT, &json!({ "container_id": "c" })).unwrap();
    let seen = std::fs::read_to_string(seen).unwrap();
    assert_eq!(seen, "{\"container_id\":\"c\",\"hook\":\"pre-launch\"} pre-launch pre-launch / 0\n");
}

#[test]
fn one_that_fails_or_answers_garbage_says_which_and_why_without_its_words() {
    let Some(ground) = Ground::new("garbage") else { return };
    let rows = [
        ("exit 3", "failed (exit status: 3)"),
        ("echo no disk >&2; exit 1", "failed (exit status: 1): no disk"),
        ("kill -9 $$", "failed (signal: 9 (SIGKILL))"),
        ("echo sesame", "answered what is no JSON"),
        ("echo '[\"sesame\"]'", "with no object"),
        (r#"echo '{"env":{}}'"#, "with more than 'environment'"),
        (r#"echo '{"environment":"sesame"}'"#, "'environment' that is no object"),
        (r#"echo '{"environment":{"A":7}}'"#, "a value that is no string"),
        (r#"echo '{"environment":{"A=B":"sesame"}}'"#, "can be no variable"),
        (r#"printf '{"environment":{"A":"\\u0000"}}'"#, "can be no variable"),
        ("head -c 70000 /dev/zero", "answered more than 65536 bytes"),
        ("yes", "answered more than 65536 bytes"),
    ];
    for (script, expected) in rows {
        let path = ground.hook(POINT, "a", script);
        let error = ground.open().unwrap().ask(POINT, &json!({})).unwrap_err();
        let text = error.chain();
        assert!(text.contains(expected) && text.contains(path.to_str().unwrap()), "{script}: {text}");
        assert!(!text.contains("sesame"), "{text}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn one_that_hangs_is_ended_with_what_it_started_and_others_are_run() {
    let Some(ground) = Ground::new("hangs") else { return };
    let pid = ground.0.path().join("removal/../pid");
    ground.hook(Point::Removal, "a", &format!("sleep 1000 & echo $! > {}; wait", pid.display()));
    ground.hook(Point::Removal, "b", &format!("echo x > {}", ground.0.path().join("b").display()));
    // The file of the pid is no hook, so it is looked at first.
    let hooks = Hooks { deadline: Duration::from_millis(500), ..ground.open().unwrap() };
    let (_, failed) = hooks.ask_all(Point::Removal, &json!({}));
    let texts: Vec<String> = failed.iter().map(Error::chain).collect();
    assert!(texts.iter().any(|text| text.contains("did not end within 0.5 s")), "{texts:?}");
    let pid = std::fs::read_to_string(pid).unwrap();
    berth_testing::until("what it started is gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z")
    });
}

#[test]
fn one_that_reads_nothing_leaves_somebody_behind_or_floods_its_errors_is_answered() {
    let Some(ground) = Ground::new("deaf") else { return };
    let large = json!({ "large": "x".repeat(1 << 20) });
    ground.hook(POINT, "a", r#"echo '{"environment":{"A":"1"}}'"#);
    // It has a session of its own, and keeps the pipes open.
    ground.hook(POINT, "b", r#"setsid sleep 3 & echo '{"environment":{"B":"1"}}'"#);
    ground.hook(POINT, "c", r#"head -c 1000000 /dev/zero >&2; echo '{"environment":{"C":"1"}}'"#);
    ground.hook(POINT, "d", r#"exec >&- 2>&-; cat >/dev/null"#);
    let all = ground.open().unwrap().ask(POINT, &large);
    let all = all.unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(all.keys().collect::<Vec<_>>(), ["A", "B", "C"]);
}

#[test]
fn variables_where_nobody_takes_them_are_refused() {
    let Some(ground) = Ground::new("untaken") else { return };
    ground.hook(Point::PostFetch, "a", r#"echo '{"environment":{"A":"1"}}'"#);
    let error = ground.open().unwrap().ask(Point::PostFetch, &json!({})).unwrap_err();
    assert!(error.to_string().contains("nobody takes at post-fetch"), "{error}");
}

#[test]
fn what_others_could_have_put_there_is_refused_and_so_is_what_can_be_no_hook() {
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    type Spoil = fn(&Path, &dyn Fn(&Path, u32));
    let rows: [(Spoil, &str); 9] = [
        (|dir, mode| mode(&dir.join("pre-launch/a"), 0o775), "others than root may write it"),
        (|dir, mode| mode(&dir.join("pre-launch"), 0o777), "others than root may write it"),
        (|dir, mode| mode(dir, 0o1777), "others than root may write it"),
        (|dir, mode| mode(&dir.join("pre-launch/a"), 0o644), "it is not executable"),
        (
            |dir, _| std::os::unix::fs::chown(dir.join("pre-launch/a"), Some(65534), None).unwrap(),
            "it is not root's",
        ),
        (
            |dir, _| std::os::unix::fs::symlink("/bin/true", dir.join("pre-launch/b")).unwrap(),
            "it is no file",
        ),
        (|dir, _| std::fs::write(dir.join("pre-launch/.a.swp"), "").unwrap(), "its name is not of letters"),
        (|dir, _| std::fs::write(dir.join("a"), "").unwrap(), "there is no such point"),
        (|dir, _| std::fs::create_dir(dir.join("post-launch")).unwrap(), "there is no such point"),
    ];
    for (spoil, expected) in rows {
        let Some(ground) = Ground::new("spoilt") else { return };
        ground.hook(POINT, "a", "");
        let hooks = ground.open().unwrap();
        spoil(ground.0.path(), &mode);
        let error = ground.open().unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(error.class(), Class::Invalid);
        // An agent that runs finds it too, where it would run it.
        if expected.contains("root")
            && !error.to_string().contains(&format!("{} can", ground.0.path().display()))
        {
            assert!(hooks.ask(POINT, &json!({})).is_err(), "{expected}");
        }
    }
}

#[test]
fn a_point_without_hooks_costs_nothing() {
    let Some(ground) = Ground::new("none") else { return };
    std::fs::remove_dir(ground.0.path().join(POINT.name())).unwrap();
    let hooks = ground.open().unwrap();
    assert!(!hooks.has(POINT) && !hooks.has(Point::Removal));
    assert_eq!(hooks.ask(POINT, &json!({})).unwrap(), BTreeMap::new());
    let error = Hooks::open(Path::new("/nowhere/hooks"), PATIENCE).unwrap_err();
    assert!(error.chain().starts_with("read /nowhere/hooks: "), "{}", error.chain());
}
