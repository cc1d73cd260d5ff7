// SPDX-License-Identifier: Apache-2.0
//! What is asked of lists, and the shapes that they are printed in: as docker's users write it.

use crate::ground::{Ground, ground};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// One that runs, one that is paused, one that ended with 3, in this order of age.
fn three() -> Option<Ground> {
    let ground = Ground::with_agent()?;
    ground.berth(["run", "-d", "--name", "old", "--", "sh", "-c", "exit 3"]).good();
    assert_eq!(ground.berth(["wait", "old"]).good(), "3\n");
    ground.started("mid");
    assert_eq!(ground.berth(["pause", "mid"]).good(), "mid\n");
    ground.started("web");
    Some(ground)
}

macro_rules! three {
    ($name:literal) => {
        match three() {
            Some(ground) => ground,
            None => return berth_testing::skip($name, "root and control groups"),
        }
    };
}

#[test]
fn lists_are_filtered_by_key_and_cut_to_the_newest() {
    let ground = three!("lists_are_filtered_by_key_and_cut_to_the_newest");
    let ids = |more: &[&str]| ground.berth(["ps", "-q"].iter().chain(more)).good().to_owned();
    assert_eq!(ids(&[]), "web\nmid\n");
    assert_eq!(ids(&["-a"]), "web\nmid\nold\n");
    assert_eq!(ids(&["-f", "status=exited"]), "old\n", "what has ended needs no -a");
    assert_eq!(ids(&["--filter", "status=paused"]), "mid\n");
    assert_eq!(ids(&["-af", "exited=3"]), "old\n");
    assert_eq!(ids(&["-af", "exited=4"]), "");
    assert_eq!(ids(&["-a", "--filter", "name=^o", "--filter", "name=eb$"]), "web\nold\n");
    assert_eq!(ids(&["-a", "--filter", "before=web", "--filter", "since=old"]), "mid\n");
    assert_eq!(ids(&["-n", "2"]), "web\nmid\n");
    assert_eq!(ids(&["-l"]), "web\n");
    ground.berth(["ps", "--filter", "label=x"]).refused(1, &["--filter label=x", "id, name, status"]);
}

#[test]
fn lists_are_put_as_lines_tables_or_json() {
    let ground = three!("lists_are_put_as_lines_tables_or_json");
    let ps = |format: &str| ground.berth(["ps", "-a", "--format", format]).good().to_owned();
    assert_eq!(ps("{{.Names}}:{{.State}}"), "web:running\nmid:paused\nold:exited\n");
    let table = ps(r"table {{.ID}}\t{{.Image}}\t{{.Status}}");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("CONTAINER ID  IMAGE  STATUS"), "{table}");
    assert!(lines[3].starts_with("old           host   Exited (3)"), "{table}");
    let first = json(ps("json").lines().next().unwrap());
    assert_eq!(
        (&first["Names"], &first["State"], &first["Ports"]),
        (&"web".into(), &"running".into(), &"".into())
    );
    assert!(first["Command"].as_str().unwrap().starts_with("\"sh -c trap"), "{first}");
    assert!(first["CreatedAt"].as_str().unwrap().ends_with(" +0000 UTC"), "{first}");
    ground.berth(["ps", "--format", "{{.Nope}}"]).refused(1, &["there is no Nope", "Names"]);
    ground.berth(["ps", "--format", "{{range .}}"]).refused(1, &["range"]);
}

#[test]
fn what_each_uses_is_listed_where_it_is_asked_for() {
    let ground = three!("what_each_uses_is_listed_where_it_is_asked_for");
    let plain = json(ground.berth(["ps", "-o", "json"]).good());
    assert!(plain[0].get("usage").is_none(), "{plain}");
    let all = json(ground.berth(["ps", "-a", "--usage", "-o", "json"]).good());
    let limit = 64 << 20;
    assert_eq!(all[0]["usage"]["memory_limit_bytes"], limit, "{all}");
    assert!(all[0]["usage"]["pids"].as_u64() >= Some(1), "{all}");
    assert!(all[2].get("usage").is_none(), "what has ended uses nothing: {all}");
    let table = ground.berth(["ps", "--usage"]);
    let lines: Vec<&str> = table.good().lines().collect();
    assert!(lines[0].ends_with("MEM USAGE / LIMIT  PIDS  NAMES"), "{table:?}");
    assert!(lines[1].contains("/ 64MiB"), "{table:?}");
}

#[test]
fn an_inspection_is_put_as_a_line() {
    let ground = three!("an_inspection_is_put_as_a_line");
    let of = |format: &str, names: &[&str]| ground.berth(["inspect", "-f", format].iter().chain(names));
    assert_eq!(of("{{.state.name}}", &["web", "old"]).good(), "RUNNING\nTERMINATED\n");
    assert_eq!(of("{{.ContainerID.Value}} {{.termination.exit_status}}", &["old"]).good(), "old 768\n");
    assert_eq!(json(of("{{json .limits}}", &["web"]).good())["mem"]["value"], 64.0);
    of("{{.Nope}}", &["web"]).refused(1, &["there is no Nope"]);
    let some = of("{{.state.name}}", &["nothing", "web"]);
    assert_eq!((some.code, some.stdout.as_str()), (Some(1), "RUNNING\n"));
}

#[test]
fn processes_are_shown_without_anything_in_the_container() {
    let ground = three!("processes_are_shown_without_anything_in_the_container");
    let top = ground.berth(["top", "web"]);
    let lines: Vec<&str> = top.good().lines().collect();
    assert!(lines[0].starts_with("UID") && lines[0].ends_with("CMD"), "{top:?}");
    assert!(lines.iter().any(|line| line.contains("trap 'echo bye; exit 7' TERM")), "{top:?}");
    let all = json(ground.berth(["top", "web", "-o", "json"]).good());
    let pid = json(ground.berth(["ps", "-o", "json"]).good())[0]["state"]["pid"].clone();
    assert!(all.as_array().unwrap().iter().any(|process| process["pid"] == pid), "{all} has not {pid}");
    ground.berth(["top", "old"]).refused(1, &["container old is not running"]);
    ground.berth(["top", "nothing"]).refused(1, &["no container is named nothing"]);
}

#[test]
fn what_containers_use_is_put_as_lines_and_who_is_missing_is_said() {
    let ground = three!("what_containers_use_is_put_as_lines_and_who_is_missing_is_said");
    let stats = |more: &[&str]| ground.berth(["stats", "--no-stream"].iter().chain(more));
    let line = stats(&["--format", "{{.Name}} {{.MemUsage}}", "web"]);
    assert!(line.good().starts_with("web ") && line.good().ends_with("/ 64MiB\n"), "{line:?}");
    let one = stats(&["--format", "json", "web"]);
    let one = json(one.good());
    // The use of processors is not counted where cpuacct is a hierarchy of its own.
    assert!(
        one["CPUPerc"].is_string() && one["PIDs"].as_str().unwrap().parse::<u32>().unwrap() >= 1,
        "{one}"
    );
    stats(&["nothing"]).refused(1, &["no container that runs is named nothing"]);
}

#[test]
fn several_are_waited_for_and_removed_and_each_is_told() {
    let ground = three!("several_are_waited_for_and_removed_and_each_is_told");
    ground.berth(["unpause", "mid"]).good();
    assert_eq!(ground.berth(["stop", "-t", "20", "mid", "web"]).good(), "mid\nweb\n");
    assert_eq!(ground.berth(["wait", "old", "mid", "web"]).good(), "3\n7\n7\n");
    let removed = ground.berth(["rm", "old", "nothing", "web"]);
    assert_eq!((removed.code, removed.stdout.as_str()), (Some(1), "old\nweb\n"));
    assert!(removed.stderr.contains("no container is named nothing"), "{removed:?}");
    assert_eq!(ground.berth(["ps", "-aq"]).good(), "mid\n");
}

#[test]
fn several_are_stopped_in_the_time_of_one() {
    let ground = ground!("several_are_stopped_in_the_time_of_one");
    for name in ["a", "b", "c"] {
        let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        ground.berth(["run", "-d", "--name", name, "--", "sh", "-c", script]).good();
        ground.until("it is up", || ground.berth(["logs", name]).stdout == "up\n");
    }
    let begun = std::time::Instant::now();
    let stopped = ground.berth(["stop", "-t", "2", "a", "nothing", "b", "c"]);
    let took = begun.elapsed().as_secs_f64();
    assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(1), "a\nb\nc\n"));
    assert!(stopped.stderr.contains("no container is named nothing"), "{stopped:?}");
    assert!((2.0..5.0).contains(&took), "{took} s");
    assert_eq!(ground.berth(["wait", "a", "b", "c"]).good(), "137\n137\n137\n");
    assert_eq!(ground.berth(["stop", "a"]).good(), "a\n", "what has ended is stopped");
}

#[test]
fn commands_start_where_they_are_told() {
    let ground = ground!("commands_start_where_they_are_told");
    let socket = ground.socket();
    let run =
        |directory: &str| ground.berth(["run", "--socket", &socket, "--rm", "-w", directory, "--", "pwd"]);
    assert_eq!(run("/usr/bin").good(), "/usr/bin\n");
    run("usr").refused(125, &["\"usr\"", "absolute"]);
    // As with docker, it is made when it is not there.
    let new = ground.path("made/here");
    assert_eq!(run(new.to_str().unwrap()).good(), format!("{}\n", new.display()));
    let script = "echo up; exec sleep 1000";
    ground.berth(["run", "-d", "--name", "a", "-w", "/usr", "--", "sh", "-c", script]).good();
    ground.until("it is up", || ground.berth(["logs", "a"]).stdout == "up\n");
    assert_eq!(ground.berth(["exec", "a", "pwd"]).good(), "/usr\n", "where the container started");
    assert_eq!(ground.berth(["exec", "-w", "/tmp", "a", "pwd"]).good(), "/tmp\n");
    let shown = json(ground.berth(["inspect", "a"]).good());
    assert_eq!(shown[0]["command"]["working_directory"], "/usr");
    let relative = ground.berth(["exec", "-w", "tmp", "a", "pwd"]);
    assert!(relative.code == Some(1) && relative.stderr.contains("absolute"), "{relative:?}");
}

#[test]
fn variables_of_files_come_before_those_of_the_command_line() {
    let ground = ground!("variables_of_files_come_before_those_of_the_command_line");
    let path = ground.path("variables");
    std::fs::write(&path, "# a comment\n\n  A=from file\nB=\"as it stands\"\nHOME_OF_NONE\nC=1\nC=2\n")
        .unwrap();
    let file = path.to_str().unwrap();
    let run = ["run", "--socket", &ground.socket(), "--rm", "--env-file", file, "-e", "A=given", "--"];
    let script = r#"echo "$A|$B|$C|${HOME_OF_NONE-unset}""#;
    let ran = ground.berth(run.iter().chain(&["sh", "-c", script]));
    assert_eq!(ran.good(), "given|\"as it stands\"|2|unset\n");
    ground.started("web");
    let exec = ground.berth(["exec", "--env-file", file, "web", "sh", "-c", "echo $A$C"]);
    assert_eq!(exec.good(), "from file2\n");
    std::fs::write(&path, "A B=1\n").unwrap();
    ground.berth(run.iter().chain(&["true"])).refused(125, &["--env-file", "line 1"]);
}

#[test]
fn a_mount_in_words_is_a_volume() {
    let ground = ground!("a_mount_in_words_is_a_volume");
    let from = ground.path("shared");
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("file"), "inside\n").unwrap();
    // On the host's root file system the mount point has to be there.
    let to = ground.path("seen");
    std::fs::create_dir(&to).unwrap();
    let to = to.to_str().unwrap();
    let bind = format!("type=bind,source={},target={to},readonly", from.display());
    let run = |mount: &str, script: &str| {
        ground.berth([
            "run",
            "--socket",
            &ground.socket(),
            "--rm",
            "--mount",
            mount,
            "--",
            "sh",
            "-c",
            script,
        ])
    };
    let read = run(&bind, &format!("cat {to}/file; touch {to}/new"));
    assert_eq!((read.stdout.as_str(), read.code), ("inside\n", Some(1)), "{read:?}");
    let volume = format!("./shared:{to}:ro");
    let mut command = ground.command(["run", "--socket", &ground.socket(), "--rm", "-v", &volume, "--"]);
    let directory = from.parent().unwrap();
    let ran = command.arg("cat").arg(format!("{to}/file")).current_dir(directory).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "inside\n", "{ran:?}");
    for (mount, why) in [
        ("type=tmpfs,target=/x", "only bind"),
        ("source=/a,target=/b", "needs a type"),
        ("type=bind,source=/a", "source and a target"),
        ("type=bind,source=a,target=/b", "must be absolute, or begin with ./"),
        ("type=bind,source=/a,target=/b,bind-propagation=shared", "bind-propagation"),
    ] {
        run(mount, "true").refused(125, &["--mount", why]);
    }
}

#[test]
fn the_host_name_has_dockers_letter() {
    let ground = ground!("the_host_name_has_dockers_letter");
    let ran = ground.berth(["run", "--socket", &ground.socket(), "--rm", "-h", "inside", "--", "hostname"]);
    assert_eq!(ran.good(), "inside\n");
    assert!(ground.berth(["run", "--help"]).good().contains("--hostname"));
}
