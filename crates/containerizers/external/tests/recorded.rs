// SPDX-License-Identifier: Apache-2.0
//! What the program is given at each subcommand, by a program that writes it down: arguments, environment, working
//! directory, session, stdin. The messages are compared with files that Python's protobuf made (golden.py), byte by byte.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod ground;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use berth_conformance::Site;
use berth_contract::{AgentState, Containerizer, EventLog, LaunchResult, Limits, Variables};
use berth_external::{External, Settings};
use berth_model::{
    CommandInfo, ContainerConfig, ContainerInfo, ContainerType, DiscoveryInfo, DockerInfo, DockerNetwork,
    Environment, ExecutorInfo, ExternalInfo, HealthCheck, HealthCheckType, HttpCheck, Label, Labels,
    Parameter, PortMapping, Reason, Resources, TaskInfo, TaskState, Uri, Variable, Visibility, Volume,
    VolumeMode,
};
use ground::{good, id};

/// Writes down what it is given, and answers with golden records. A `wait` ends when there is a file `end`.
const RECORDER: &str = r#"
for sub in "$@"; do :; done
mkdir -p "$ASIDE/$sub"
to="$ASIDE/$sub/$$"
mkdir "$to.new"
cat > "$to.new/stdin"
printf '%s\n' "$@" > "$to.new/argv"
env -0 > "$to.new/env"
pwd -P > "$to.new/cwd"
read -r stat < /proc/$$/stat
set -- ${stat##*) }
echo "$4" > "$to.new/session"
echo "a word on stderr" >&2
mv "$to.new" "$to"
echo "$sub" >> "$ASIDE/order"
case $sub in
containers) cat "$GOLDEN/$LIST.bin" ;;
usage) cat "$GOLDEN/reply-usage.bin" ;;
wait) while ! test -e "$ASIDE/end"; do sleep 0.01; done; cat "$GOLDEN/$REPLY.bin" ;;
launch) echo "nobody reads this" ;;
esac
"#;

/// One call as it was written down.
struct Recorded {
    argv: Vec<String>,
    environment: BTreeMap<String, String>,
    cwd: String,
    session: u32,
    stdin: Vec<u8>,
}

struct Ground {
    site: Site,
    aside: PathBuf,
    /// Of a fixed length: it is in the messages.
    sandbox: PathBuf,
}

impl Ground {
    fn new(name: &str, number: u32) -> Ground {
        let site = Site::new(name).unwrap();
        let aside = ground::aside(&site);
        let unique = (std::process::id() << 4) + number;
        let sandbox = PathBuf::from(format!("/tmp/berth-golden-{unique:08x}/sandbox"));
        fs::create_dir_all(&sandbox).unwrap();
        Ground { site, aside, sandbox }
    }

    fn settings(&self, list: &str, reply: &str) -> Settings {
        let program = ground::program(&self.site, RECORDER);
        let mut settings = ground::settings(&self.site, format!("{program} --option 'a b'"));
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        settings.environment.extend([
            ("ASIDE".into(), self.aside.clone().into()),
            ("GOLDEN".into(), golden.into()),
            ("LIST".into(), list.into()),
            ("REPLY".into(), reply.into()),
            // The agent's own: what a launch is told wins.
            ("LIBPROCESS_PORT".into(), "5051".into()),
            ("MESOS_WORK_DIRECTORY".into(), "/elsewhere".into()),
        ]);
        settings.agent_id = Some("S1".to_owned());
        settings.agent_pid = Some("slave(1)@10.0.0.1:5051".to_owned());
        settings.hadoop_home = Some("/opt/hadoop".to_owned());
        settings.default_container_image = Some("docker:///default".to_owned());
        settings.recovery_timeout = Some("15mins".to_owned());
        settings
    }

    /// The calls of a subcommand so far.
    fn calls(&self, subcommand: &str) -> Vec<Recorded> {
        let Ok(entries) = fs::read_dir(self.aside.join(subcommand)) else { return Vec::new() };
        let whole = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_none());
        let read = |path: PathBuf| {
            let text = |name| fs::read_to_string(path.join(name)).unwrap();
            let variables = text("env");
            Recorded {
                argv: text("argv").lines().map(str::to_owned).collect(),
                environment: variables
                    .split_terminator('\0')
                    .filter_map(|variable| variable.split_once('='))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                cwd: text("cwd").trim_end().to_owned(),
                session: text("session").trim_end().parse().unwrap(),
                stdin: fs::read(path.join("stdin")).unwrap(),
            }
        };
        whole.map(read).collect()
    }

    /// The one call of a subcommand.
    fn call(&self, subcommand: &str) -> Recorded {
        let mut calls = ground::until(&format!("{subcommand} is recorded"), || {
            Some(self.calls(subcommand)).filter(|calls| !calls.is_empty())
        });
        assert_eq!(calls.len(), 1, "calls of {subcommand}");
        calls.remove(0)
    }

    fn order(&self) -> Vec<String> {
        fs::read_to_string(self.aside.join("order")).unwrap().lines().map(str::to_owned).collect()
    }

    fn golden(&self, name: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.bin"));
        let mut bytes = fs::read(path).unwrap();
        let placeholder = b"/tmp/berth-golden-XXXXXXXX/sandbox";
        if let Some(at) = bytes.windows(placeholder.len()).position(|window| window == placeholder) {
            let own = self.sandbox.to_str().unwrap().as_bytes();
            bytes[at..at + placeholder.len()].copy_from_slice(own);
        }
        bytes
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.sandbox.parent().unwrap());
    }
}

fn resources(text: &str) -> Resources {
    berth_model::resources::from_flag(text, "*").unwrap().resources
}

/// The container of golden.py's `launch-task`.
fn task(sandbox: &Path) -> ContainerConfig {
    let container = ContainerInfo {
        r#type: ContainerType::Docker,
        volumes: vec![Volume {
            container_path: "/v".into(),
            host_path: Some("/h".into()),
            mode: VolumeMode::Ro,
            ..Volume::default()
        }],
        docker: Some(DockerInfo {
            image: "busybox".into(),
            network: DockerNetwork::Bridge,
            port_mappings: vec![PortMapping {
                host_port: 31000,
                container_port: 80,
                protocol: Some("tcp".into()),
            }],
            parameters: vec![Parameter { key: "k".into(), value: "v".into() }],
            force_pull_image: Some(true),
            ..DockerInfo::default()
        }),
        hostname: Some("h1".into()),
        ..ContainerInfo::default()
    };
    let executor_command =
        CommandInfo { value: Some("/opt/libexec/mesos-executor".into()), ..CommandInfo::default() };
    let mut all = resources("cpus:1.1;mem:96;ports:[31000-31005,32000-32000];zones:{a,b}");
    let disk = serde_json::from_str(
        r#"{"name": "disk", "type": "SCALAR", "scalar": {"value": 10},
            "reservations": [{"type": "DYNAMIC", "role": "web", "principal": "ops"}],
            "disk": {"persistence": {"id": "v1"}, "volume": {"container_path": "data", "mode": "RW"}}}"#,
    );
    all.try_add(disk.unwrap()).unwrap();
    ContainerConfig {
        directory: sandbox.to_owned(),
        executor_info: Some(ExecutorInfo {
            executor_id: "t1".into(),
            framework_id: "f1".into(),
            name: Some("Command Executor (Task: t1) (Command: sh -c 'sleep 1')".into()),
            source: Some("t1".into()),
            command: Some(executor_command.clone()),
            ..ExecutorInfo::default()
        }),
        task_info: Some(TaskInfo {
            name: "t".into(),
            task_id: "t1".into(),
            agent_id: "S1".into(),
            resources: resources("cpus:1;mem:64"),
            data: vec![0, 1],
            command: Some(CommandInfo {
                uris: vec![Uri {
                    value: "/a.tgz".into(),
                    executable: Some(true),
                    extract: false,
                    cache: Some(true),
                    output_file: Some("not in 0.26".into()),
                }],
                environment: Environment {
                    variables: vec![Variable {
                        name: "A".into(),
                        value: Some("1".into()),
                        ..Variable::default()
                    }],
                },
                value: Some("sleep 1".into()),
                user: Some("nobody".into()),
                ..CommandInfo::default()
            }),
            health_check: Some(HealthCheck {
                r#type: HealthCheckType::Http,
                http: Some(HttpCheck {
                    port: 80,
                    path: Some("/h".into()),
                    scheme: None,
                    statuses: vec![200],
                }),
                grace_period_seconds: 5.0,
                ..HealthCheck::default()
            }),
            container: Some(container.clone()),
            labels: Some(Labels {
                labels: vec![
                    Label { key: "k".into(), value: Some("v".into()) },
                    Label { key: "only".into(), value: None },
                ],
            }),
            discovery: Some(DiscoveryInfo {
                visibility: Visibility::Cluster,
                name: Some("n".into()),
                ..DiscoveryInfo::default()
            }),
            ..TaskInfo::default()
        }),
        command_info: executor_command,
        container_info: Some(container),
        resources: all,
        ..ContainerConfig::default()
    }
}

/// The container of golden.py's `launch-standalone`.
fn standalone(sandbox: &Path) -> ContainerConfig {
    ContainerConfig {
        directory: sandbox.to_owned(),
        user: Some("root".into()),
        command_info: CommandInfo {
            value: Some("/bin/echo".into()),
            shell: false,
            arguments: vec!["echo".into(), "hi".into()],
            ..CommandInfo::default()
        },
        container_info: Some(ContainerInfo {
            r#type: ContainerType::External,
            external: Some(ExternalInfo {
                image: "docker:///busybox".into(),
                options: vec!["-v".into(), "/a:/b".into()],
            }),
            ..ContainerInfo::default()
        }),
        resources: resources("cpus:0.5;mem:128"),
        limits: Limits::from([("mem".to_owned(), 256.0)]),
        ..ContainerConfig::default()
    }
}

#[test]
fn each_subcommand_gets_its_arguments_environment_directory_and_message() {
    let ground = Ground::new("recorded", 0);
    let external =
        External::new(ground.settings("reply-no-containers", "reply-wait"), EventLog::default()).unwrap();
    good(external.recover(None));
    let (c1, here) = (id("c1"), std::env::current_dir().unwrap());
    let pid_file = ground.aside.join("meta/forked.pid");
    let given = Variables::from([
        ("MESOS_RECOVERY_TIMEOUT".to_owned(), "1mins".to_owned()),
        ("GIVEN".to_owned(), "yes".to_owned()),
    ]);
    let launched = good(external.launch(&c1, task(&ground.sandbox), given, Some(pid_file.clone())));
    assert_eq!(launched, LaunchResult::Success);
    good(external.update(&c1, resources("cpus:2;mem:64"), Limits::new()));
    let usage = good(external.usage(&c1));
    assert_eq!((usage.timestamp, usage.cpus_limit), (1_700_000_000.5, Some(2.0)));
    assert_eq!((usage.mem_rss_bytes, usage.mem_limit_bytes), (Some(4096), Some(64 << 20)));
    // Whoever calls for destruction lets the program's `wait` end.
    let destroyed = external.destroy(&c1);
    ground.call("destroy");
    fs::write(ground.aside.join("end"), "").unwrap();
    let termination = good(destroyed).unwrap();
    assert_eq!((termination.status, termination.state), (Some(9), Some(TaskState::Failed)));
    assert_eq!(termination.reason, Some(Reason::ContainerLimitationMemory));
    assert_eq!(termination.message.as_deref(), Some("it met its limit"));

    for (subcommand, golden) in [
        ("recover", None),
        ("containers", None),
        ("launch", Some("launch-task")),
        ("wait", Some("wait")),
        ("update", Some("update")),
        ("usage", Some("usage")),
        ("destroy", Some("destroy")),
    ] {
        let call = ground.call(subcommand);
        assert_eq!(call.argv, ["--option", "a b", subcommand]);
        let expected = golden.map(|golden| ground.golden(golden)).unwrap_or_default();
        assert_eq!(call.stdin, expected, "stdin of {subcommand}");
        let directory = if golden.is_some() { &ground.sandbox } else { &here };
        assert_eq!(Path::new(&call.cwd), directory, "cwd of {subcommand}");
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        let own: u32 = own.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().parse().unwrap();
        assert_ne!(call.session, own, "{subcommand} has no session of its own");

        let told = |name: &str| call.environment.get(name).map(String::as_str);
        assert_eq!(told("MESOS_WORK_DIRECTORY"), ground.site.work_dir().to_str(), "{subcommand}");
        assert_eq!(told("MESOS_LIBEXEC_DIRECTORY"), Some("/opt/libexec"), "{subcommand}");
        assert_eq!(told("SITE"), Some(ground.site.marker()), "{subcommand}");
        let launches = subcommand == "launch";
        let only_launch = [
            ("HADOOP_HOME", "/opt/hadoop"),
            ("MESOS_DEFAULT_CONTAINER_IMAGE", "docker:///default"),
            ("MESOS_FRAMEWORK_ID", "f1"),
            ("MESOS_EXECUTOR_ID", "t1"),
            ("MESOS_DIRECTORY", ground.sandbox.to_str().unwrap()),
            ("MESOS_SLAVE_ID", "S1"),
            ("MESOS_SLAVE_PID", "slave(1)@10.0.0.1:5051"),
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_RECOVERY_TIMEOUT", "1mins"),
            ("GIVEN", "yes"),
        ];
        for (name, value) in only_launch {
            assert_eq!(told(name), launches.then_some(value), "{name} of {subcommand}");
        }
        assert_eq!(told("LIBPROCESS_PORT"), Some(if launches { "0" } else { "5051" }), "{subcommand}");
    }
    let order = ground.order();
    // `wait` is called before `update`, but both may write themselves down in any order.
    assert_eq!(order[..3], ["recover", "containers", "launch"], "{order:?}");
    assert_eq!((order.len(), order[6].as_str()), (7, "destroy"), "{order:?}");
    let pid: u32 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    assert_eq!(pid, ground.call("launch").session, "the pid is that of the call, which leads its session");
    let words = fs::read_to_string(ground.sandbox.join("stderr")).unwrap();
    assert_eq!(words, "a word on stderr\n".repeat(5), "of all calls with a sandbox");
}

#[test]
fn a_standalone_container_is_sent_as_an_executor_that_is_made_up_of_it() {
    let ground = Ground::new("standalone", 1);
    let external =
        External::new(ground.settings("reply-no-containers", "reply-wait-older"), EventLog::default())
            .unwrap();
    good(external.recover(None));
    let c2 = id("c2");
    ground::start(&external, &c2, standalone(&ground.sandbox));
    let call = ground.call("launch");
    assert_eq!(call.stdin, ground.golden("launch-standalone"));
    assert_eq!(call.environment.get("MESOS_EXECUTOR_ID"), None);
    fs::write(ground.aside.join("end"), "").unwrap();
    // The older form: killed = false, an empty message.
    let termination = ground::ended(&external, &c2);
    assert_eq!((termination.status, termination.message), (Some(3 << 8), None));
    ground.call("destroy");
}

#[test]
fn the_programs_list_decides_what_is_destroyed_at_a_fresh_start() {
    let ground = Ground::new("orphans", 2);
    fs::write(ground.aside.join("end"), "").unwrap();
    let external =
        External::new(ground.settings("reply-containers", "reply-wait"), EventLog::default()).unwrap();
    good(external.recover(Some(AgentState::default())));
    assert_eq!(good(external.containers()), []);
    assert!(!external.knows(&id("c1")) && !external.knows(&id("c2")));
    for subcommand in ["wait", "destroy"] {
        let calls = ground.calls(subcommand);
        assert!(calls.iter().any(|call| call.stdin == ground.golden(subcommand)), "{subcommand} of c1");
        assert_eq!(calls.len(), 2, "{subcommand}");
        for call in calls {
            assert_eq!(Path::new(&call.cwd), std::env::current_dir().unwrap(), "an orphan has no sandbox");
        }
    }
    assert!(!ground.sandbox.join("stderr").exists(), "an orphan's words are dropped");
}
