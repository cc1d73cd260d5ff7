// SPDX-License-Identifier: Apache-2.0
//! What a real engine does with what it is told: images, volumes, networks, ports, parameters, limits, registries, output.

mod ground;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth_conformance::Site;
use berth_contract::{Containerizer, Limits};
use berth_model::{
    ContainerConfig, DockerNetwork, DockerVolume, HostPath, NetworkInfo, Parameter, PortMapping, Reason,
    SandboxPath, SandboxPathType, TaskState, Volume, VolumeMode, VolumeSource, VolumeSourceType,
};
use sha2::Digest as _;

use ground::{
    Daemon, How, clear, config, ended, failure, good, id, launch, recovered, settings, start, until,
};

/// One with a bridge, for all tests here.
fn engine() -> &'static Daemon {
    static ENGINE: OnceLock<Daemon> = OnceLock::new();
    ENGINE.get_or_init(|| Daemon::start(How { bridge: true, ..How::default() }))
}

fn docker_of(config: &mut ContainerConfig) -> &mut berth_model::DockerInfo {
    config.container_info.as_mut().and_then(|info| info.docker.as_mut()).expect("it is one of Docker")
}

fn parameter(config: &mut ContainerConfig, key: &str, value: &str) {
    docker_of(config).parameters.push(Parameter { key: key.to_owned(), value: value.to_owned() });
}

fn exited(code: i32) -> Option<i32> {
    Some(code << 8)
}

/// What stands in a file of the sandbox.
fn said(config: &ContainerConfig, name: &str) -> String {
    fs::read_to_string(config.directory.join(name)).unwrap_or_default()
}

#[test]
fn what_it_writes_is_in_the_sandbox_byte_for_byte_when_its_end_is_known() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("output").unwrap();
    let docker = recovered(settings(&site, engine()));
    let own = id(&format!("{}-o", site.marker()));
    // Long lines come in parts, and the last has no end.
    let text = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo err >&2; seq 1 20000; printf end";
    let config = config(&site, &own, text);
    start(&docker, &own, config.clone());
    assert_eq!(ended(&docker, &own).status, exited(0));
    let seq: String = (1..=20000).map(|n| format!("{n}\n")).collect();
    assert!(said(&config, "stdout") == format!("{}\n{seq}end", "x".repeat(100_000)), "it differs");
    assert_eq!(said(&config, "stderr"), "err\n");
    clear(&docker, &own);
}

#[test]
fn output_goes_on_where_it_was_when_a_containerizer_dies_in_its_midst() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("goes-on").unwrap();
    let own = id(&format!("{}-o", site.marker()));
    let text =
        "n=0; while [ $n -lt 3000 ]; do echo out $n; echo err $n >&2; n=$((n+1)); done; : > done; sleep 1000";
    let config = config(&site, &own, &format!("cd $MESOS_SANDBOX; {text}"));
    let mut docker = recovered(settings(&site, engine()));
    start(&docker, &own, config.clone());
    // Killed several times while it writes.
    for _ in 0..4 {
        let before = said(&config, "stdout").len();
        until("it goes on", || {
            (said(&config, "stdout").len() > before || config.directory.join("done").exists()).then_some(())
        });
        drop(docker);
        docker = recovered(settings(&site, engine()));
    }
    let expected = |stream: &str| (0..3000).map(|n| format!("{stream} {n}\n")).collect::<String>();
    until("all of it is there", || (said(&config, "stdout").len() >= expected("out").len()).then_some(()));
    until("all of it is there", || (said(&config, "stderr").len() >= expected("err").len()).then_some(()));
    clear_keeping(&docker, &own);
    assert!(said(&config, "stdout") == expected("out"), "stdout is not what was written");
    assert!(said(&config, "stderr") == expected("err"), "stderr is not what was written");
    good(docker.remove(&own));
}

fn clear_keeping(docker: &berth_docker::Docker, id: &berth_model::ContainerId) {
    good(docker.destroy(id));
}

#[test]
fn a_sandbox_whose_path_has_a_colon_is_as_any_other() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("colon").unwrap();
    let docker = recovered(settings(&site, engine()));
    let own = id(&format!("{}-c", site.marker()));
    let mut config = config(&site, &own, "echo there > $MESOS_SANDBOX/file");
    config.directory = site.sandboxes().join("executor:1:rw");
    fs::create_dir(&config.directory).unwrap();
    start(&docker, &own, config.clone());
    assert_eq!(ended(&docker, &own).status, exited(0));
    assert_eq!(said(&config, "file"), "there\n");
    // Mesos makes a link for such paths, and leaves it behind when its agent is killed.
    let links: Vec<_> = fs::read_dir(site.work_dir()).unwrap().collect();
    assert!(links.is_empty(), "{links:?}");
    clear(&docker, &own);
    assert!(!site.sandboxes().join("executor:1:rw").exists());
}

#[test]
fn a_task_of_the_command_executor_is_the_container_with_its_own_command() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("task").unwrap();
    let docker = recovered(settings(&site, engine()));
    let own = id(&format!("{}-t", site.marker()));
    // As the agent's tasks ask for it: the executor is generated and named, and everything else is the task's.
    let executor = r#"{"executor_id": {"value": "t"}, "framework_id": {"value": "f"}, "type": "CUSTOM",
        "command": {"value": "the executor's own, which nobody runs", "shell": true}}"#;
    let task = r#"{"name": "t", "task_id": {"value": "t"}, "agent_id": {"value": "a"},
        "command": {"value": "echo $MESOS_EXECUTOR_ID $MESOS_TASK_ID; exit 3"}}"#;
    let mut config = config(&site, &own, "echo $MESOS_EXECUTOR_ID $MESOS_TASK_ID; exit 3");
    config.executor_info = Some(serde_json::from_str(executor).unwrap());
    config.task_info = Some(serde_json::from_str(task).unwrap());
    let given = ["MESOS_EXECUTOR_ID", "MESOS_TASK_ID"].map(|name| (name.to_owned(), "t".to_owned()));
    let launched = good(docker.launch(&own, config.clone(), given.into(), None));
    assert_eq!(launched, berth_contract::LaunchResult::Success);
    assert_eq!(ended(&docker, &own).status, exited(3));
    assert_eq!(said(&config, "stdout"), "t t\n");
    clear(&docker, &own);
}

#[test]
fn an_image_with_and_without_an_entrypoint_runs_what_it_is_told() {
    if ground::skipped() {
        return;
    }
    engine().import("entry:test", &[r#"ENTRYPOINT ["/bin/echo", "entry"]"#, r#"CMD ["default"]"#], &[]);
    let site = Site::new("entry").unwrap();
    let docker = recovered(settings(&site, engine()));
    let run = |name: &str, image: &str, value: Option<&str>, arguments: &[&str], shell: bool| {
        let own = id(&format!("{}-{name}", site.marker()));
        let mut config = config(&site, &own, "");
        docker_of(&mut config).image = image.to_owned();
        config.command_info.shell = shell;
        config.command_info.value = value.map(str::to_owned);
        config.command_info.arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        start(&docker, &own, config.clone());
        assert_eq!(ended(&docker, &own).status, exited(0));
        let said = said(&config, "stdout");
        clear(&docker, &own);
        said
    };
    assert_eq!(run("none", ground::IMAGE, Some("/bin/echo"), &["a", "b"], false), "a b\n");
    assert_eq!(run("own", "entry:test", None, &[], false), "entry default\n");
    assert_eq!(run("args", "entry:test", Some("x"), &["y"], false), "entry x y\n");
    assert_eq!(run("shell", "entry:test", Some("echo of the shell"), &[], true), "of the shell\n");
}

#[test]
fn the_user_and_the_limits_that_were_asked_for_are_in_force() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("limits").unwrap();
    let docker = recovered(settings(&site, engine()));
    let own = id(&format!("{}-l", site.marker()));
    let mut config = config(&site, &own, "id -u; exec sleep 1000");
    config.user = Some("app".to_owned());
    config.resources = berth_model::resources::from_flag("cpus:0.5;mem:64", "*").unwrap().resources;
    config.limits = Limits::from([("cpus".to_owned(), 1.0)]);
    start(&docker, &own, config.clone());
    until("it says who it is", || (said(&config, "stdout") == "1234\n").then_some(()));
    let usage = good(docker.usage(&own));
    assert_eq!((usage.cpus_limit, usage.mem_limit_bytes), (Some(1.0), Some(64 << 20)));
    assert!(usage.mem_total_bytes.is_some() && usage.cpus_user_time_secs.is_some(), "{usage:?}");
    // Raised, lowered, lifted.
    let update = |resources: &str, limits: Limits| {
        let resources = berth_model::resources::from_flag(resources, "*").unwrap().resources;
        good(docker.update(&own, resources, limits));
        let usage = good(docker.usage(&own));
        (usage.cpus_limit, usage.mem_limit_bytes)
    };
    let mem = |mem: f64| Limits::from([("mem".to_owned(), mem)]);
    assert_eq!(update("cpus:1;mem:64", mem(256.0)), (None, Some(256 << 20)));
    assert_eq!(update("cpus:1;mem:48", Limits::new()), (None, Some(48 << 20)));
    assert_eq!(update("", Limits::new()), (None, None));
    let text = failure(docker.update(&own, Default::default(), Limits::from([("disk".to_owned(), 1.0)])));
    assert!(text.contains("'disk'"), "{text}");
    clear(&docker, &own);
}

#[test]
fn who_runs_out_of_memory_ends_with_that_reason() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("oom").unwrap();
    let docker = recovered(settings(&site, engine()));
    let own = id(&format!("{}-m", site.marker()));
    let mut config = config(&site, &own, "exec tail /dev/zero");
    config.resources = berth_model::resources::from_flag("mem:32", "*").unwrap().resources;
    parameter(&mut config, "memory-swap", "32m");
    start(&docker, &own, config);
    let ended = ended(&docker, &own);
    assert_eq!((ended.status, ended.state), (Some(9), Some(TaskState::Failed)), "{ended:?}");
    assert_eq!(ended.reason, Some(Reason::ContainerLimitationMemory));
    assert!(ended.message.unwrap().starts_with("Memory limit exceeded: Requested: 32MB"));
    assert_eq!(ended.limited_resources.mem(), Some(32));
    clear(&docker, &own);
}

#[test]
fn a_death_by_signal_9_and_an_exit_with_137_are_told_apart() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("exact").unwrap();
    let docker = recovered(settings(&site, engine()));
    let (exit, signal) = (id(&format!("{}-e", site.marker())), id(&format!("{}-s", site.marker())));
    start(&docker, &exit, config(&site, &exit, "sleep 0.3; exit 137"));
    assert_eq!(ended(&docker, &exit).status, exited(137));
    // By somebody else's hand, so that nothing here knows of a signal.
    start(&docker, &signal, config(&site, &signal, "exec sleep 1000"));
    let pid = good(docker.status(&signal)).executor_pid.expect("a pid");
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    assert_eq!(ended(&docker, &signal).status, Some(9));
    clear(&docker, &exit);
    clear(&docker, &signal);
}

#[test]
fn a_volume_of_each_kind_is_where_it_was_asked_for() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How::default());
    let before = engine.ledger();
    let site = Site::new("volumes").unwrap();
    let docker = recovered(settings(&site, &engine));
    let own = id(&format!("{}-v", site.marker()));
    let host = site.work_dir().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "host").unwrap();
    let text = "cat /abs/file $MESOS_SANDBOX/inside/file; echo rel > /rel/f; echo named > /named/f; echo src > /src/f; \
                echo self > /self/f; touch /abs/no 2>/dev/null || echo read-only; grep -c ' /src ' /proc/self/mountinfo";
    let mut config = config(&site, &own, text);
    let path = host.display().to_string();
    let volume = |at: &str| Volume { container_path: at.to_owned(), ..Volume::default() };
    let sourced = |at: &str, source: VolumeSource| Volume { source: Some(source), ..volume(at) };
    let name = format!("vol-{}", site.marker());
    config.container_info.as_mut().unwrap().volumes = vec![
        Volume { host_path: Some(path.clone()), mode: VolumeMode::Ro, ..volume("/abs") },
        Volume { host_path: Some(path.clone()), ..volume("inside") },
        Volume { host_path: Some("below/it".to_owned()), ..volume("/rel") },
        sourced(
            "/named",
            VolumeSource {
                r#type: VolumeSourceType::DockerVolume,
                docker_volume: Some(DockerVolume { name: name.clone(), ..DockerVolume::default() }),
                ..VolumeSource::default()
            },
        ),
        sourced(
            "/src",
            VolumeSource {
                r#type: VolumeSourceType::HostPath,
                host_path: Some(HostPath { path, ..HostPath::default() }),
                ..VolumeSource::default()
            },
        ),
        sourced(
            "/self",
            VolumeSource {
                r#type: VolumeSourceType::SandboxPath,
                sandbox_path: Some(SandboxPath { r#type: SandboxPathType::Own, path: "own".to_owned() }),
                ..VolumeSource::default()
            },
        ),
    ];
    start(&docker, &own, config.clone());
    assert_eq!(ended(&docker, &own).status, exited(0), "{}", said(&config, "stderr"));
    assert_eq!(said(&config, "stdout"), "hosthostread-only\n1\n");
    assert_eq!(
        (said(&config, "below/it/f"), said(&config, "own/f")),
        ("rel\n".to_owned(), "self\n".to_owned())
    );
    assert_eq!(fs::read_to_string(host.join("f")).unwrap(), "src\n");
    assert_eq!(engine.says(&["volume", "ls", "-q", "--filter", &format!("name={name}")]), name);
    clear(&docker, &own);
    // A volume with a name is its maker's.
    engine.says(&["volume", "rm", &name]);
    assert_eq!(engine.ledger(), before);
}

#[test]
fn networks_are_those_that_were_asked_for() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("networks").unwrap();
    let docker = recovered(settings(&site, engine()));
    let net = format!("net-{}", site.marker());
    let subnet = format!("10.{}.{}.0/24", 192 + std::process::id() % 32, std::process::id() / 32 % 256);
    engine().says(&["network", "create", "--subnet", &subnet, &net]);
    let run = |name: &str, network: DockerNetwork| {
        let own = id(&format!("{}-{name}", site.marker()));
        let text = "ls /sys/class/net | sort | tr '\\n' ' '; readlink /proc/self/ns/net; exec sleep 1000";
        let mut config = config(&site, &own, text);
        docker_of(&mut config).network = network;
        if network == DockerNetwork::User {
            config.container_info.as_mut().unwrap().network_infos =
                vec![NetworkInfo { name: Some(net.clone()), ..NetworkInfo::default() }];
        }
        start(&docker, &own, config.clone());
        let said = until("it looked", || Some(said(&config, "stdout")).filter(|text| text.ends_with("]\n")));
        let addresses = good(docker.status(&own)).network_infos;
        clear(&docker, &own);
        let address = addresses.first().and_then(|network| network.ip_addresses.first()?.ip_address.clone());
        (said, address)
    };
    let host = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let (said, address) = run("host", DockerNetwork::Host);
    assert!(said.contains(&host) && address.is_none(), "{said} {address:?}");
    let (said, address) = run("none", DockerNetwork::None);
    assert!(said.starts_with("lo ") && !said.contains(&host) && address.is_none(), "{said} {address:?}");
    let (said, address) = run("bridge", DockerNetwork::Bridge);
    assert!(said.starts_with("eth0 lo ") && address.is_some(), "{said} {address:?}");
    let (said, address) = run("user", DockerNetwork::User);
    let prefix = subnet.strip_suffix("0/24").unwrap();
    assert!(
        said.starts_with("eth0 lo ") && address.as_ref().is_some_and(|ip| ip.starts_with(prefix)),
        "{address:?}"
    );
    engine().says(&["network", "rm", &net]);
}

#[test]
fn a_port_leads_into_the_container() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("ports").unwrap();
    let docker = recovered(settings(&site, engine()));
    let own = id(&format!("{}-p", site.marker()));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config = config(&site, &own, "exec nc -l -p 80 -e /bin/echo hello");
    let docker_info = docker_of(&mut config);
    docker_info.network = DockerNetwork::Bridge;
    let mapping =
        PortMapping { host_port: port.into(), container_port: 80, protocol: Some("TCP".to_owned()) };
    docker_info.port_mappings = vec![mapping];
    start(&docker, &own, config);
    let hello = until("it answers", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(hello, "hello\n");
    clear(&docker, &own);
}

#[test]
fn parameters_are_options_of_docker_run() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("parameters").unwrap();
    let docker = recovered(settings(&site, engine()));
    let own = id(&format!("{}-p", site.marker()));
    let text = "ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; hostname; pwd; grep -c ' /t ' /proc/mounts; \
                id -u; grep CapEff /proc/self/status";
    let mut config = config(&site, &own, text);
    docker_of(&mut config).network = DockerNetwork::None;
    for (key, value) in [
        ("ulimit", "nofile=123:456"),
        ("sysctl", "net.ipv4.ip_unprivileged_port_start=99"),
        ("hostname", "box"),
        ("workdir", "/etc"),
        ("tmpfs", "/t:size=1m"),
        ("user", "77"),
        ("cap-drop", "ALL"),
        ("label", "a=b"),
    ] {
        parameter(&mut config, key, value);
    }
    start(&docker, &own, config.clone());
    assert_eq!(ended(&docker, &own).status, exited(0), "{}", said(&config, "stderr"));
    assert_eq!(said(&config, "stdout"), "123\n99\nbox\n/etc\n1\n77\nCapEff:\t0000000000000000\n");
    let name = format!("mesos-{own}");
    assert_eq!(engine().says(&["inspect", "-f", "{{.Config.Labels.a}}", &name]), "b");
    clear(&docker, &own);
    let mut config = ground::config(&site, &own, "true");
    parameter(&mut config, "health-cmd", "x");
    let refused = launch(&docker, &own, config).unwrap_err().to_string();
    assert!(refused.contains("'health-cmd'"), "{refused}");
    clear(&docker, &own);
}

// ---- registries ----

/// Debian's docker-registry, where bob's word is `secret`.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    fn start(site: &Site) -> Registry {
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a registry").local_addr().expect("a registry").port();
        let place = |name: &str| site.work_dir().join(name);
        // Of `htpasswd -Bbn bob secret`.
        let line = "bob:$2b$04$.CmOZdMfGU4vs5PVx9F2jucAVzsL065RcO02/HVChiA5DIygr18Ca\n";
        fs::write(place("htpasswd"), line).expect("a registry");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: r, path: {}}}}}\n",
            place("registry").display(),
            place("htpasswd").display()
        );
        fs::write(place("registry.yml"), config).expect("a registry");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(place("registry.yml")).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a registry");
        until("the registry listens", || TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
        Registry { child, port }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_private_registry_is_pulled_from_with_credentials_and_not_without() {
    if ground::skipped() {
        return;
    }
    if let Some(lacked) = berth_testing::lacks(&["docker-registry"]) {
        return berth_testing::skip(
            "a_private_registry_is_pulled_from_with_credentials_and_not_without",
            &lacked,
        );
    }
    let site = Site::new("registry").unwrap();
    let registry = Registry::start(&site);
    let image = format!("127.0.0.1:{}/team/app:1", registry.port);
    let push = |content: &str| {
        engine().import(&image, &[], &[("version", content.as_bytes())]);
        let mut login = engine().docker();
        let mut child = login
            .args(["login", "-u", "bob", "--password-stdin", &format!("127.0.0.1:{}", registry.port)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"secret").unwrap();
        assert!(child.wait().unwrap().success());
        engine().says(&["push", "-q", &image]);
    };
    push("old");
    engine().says(&["rmi", &image]);
    let docker = recovered(settings(&site, engine()));
    let ask = |name: &str, force: bool, credentials: bool| {
        let own = id(&format!("{}-{name}", site.marker()));
        let mut config = config(&site, &own, "cat /version");
        docker_of(&mut config).image.clone_from(&image);
        docker_of(&mut config).force_pull_image = Some(force);
        if credentials {
            // `bob:secret`
            let auth =
                format!(r#"{{"auths": {{"127.0.0.1:{}": {{"auth": "Ym9iOnNlY3JldA=="}}}}}}"#, registry.port);
            fs::create_dir(config.directory.join(".docker")).unwrap();
            fs::write(config.directory.join(".docker/config.json"), auth).unwrap();
        }
        let launched = launch(&docker, &own, config.clone());
        let said = launched.map(|_| {
            ended(&docker, &own);
            said(&config, "stdout")
        });
        clear(&docker, &own);
        said.map_err(|error| error.to_string())
    };
    let refused = ask("without", false, false).unwrap_err();
    assert!(refused.starts_with(&format!("Failed to pull image {image}: ")), "{refused}");
    assert_eq!(ask("with", false, true).as_deref(), Ok("old"));
    // There is a newer one, which is brought only on request.
    let kept = format!("kept-{}", site.marker());
    engine().says(&["tag", &image, &kept]);
    push("new");
    engine().says(&["tag", &kept, &image]);
    assert_eq!(ask("cached", false, false).as_deref(), Ok("old"));
    assert_eq!(ask("forced", true, true).as_deref(), Ok("new"));
    // The same from the operator's flag.
    engine().says(&["rmi", "-f", &image, &kept]);
    let mut settings = settings(&site, engine());
    settings.docker_config = Some(format!(
        r#"{{"auths": {{"http://127.0.0.1:{}/v2/": {{"auth": "Ym9iOnNlY3JldA=="}}}}}}"#,
        registry.port
    ));
    drop(docker);
    let docker = recovered(settings);
    let own = id(&format!("{}-flag", site.marker()));
    let mut config = config(&site, &own, "true");
    docker_of(&mut config).image.clone_from(&image);
    start(&docker, &own, config);
    assert_eq!(ended(&docker, &own).status, exited(0));
    clear(&docker, &own);
}

/// A registry that says it has a layer of 2 GB, and sends it as fast as it is taken, but no faster than 50 MB a second.
fn endless_registry() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve_endless(stream));
        }
    });
    port
}

/// How many downloads are under way.
static SENDING: AtomicU32 = AtomicU32::new(0);
const LAYER: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn serve_endless(mut stream: TcpStream) -> Option<()> {
    let config = br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"]}}"#;
    let digest = sha2::Sha256::digest(config).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digest = format!("sha256:{digest}");
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1)?;
        let send = |stream: &mut TcpStream, kind: &str, body: &[u8]| {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
        };
        if path.contains("/manifests/") {
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{},"digest":"{digest}"}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":2147483648,"digest":"{LAYER}"}}]}}"#,
                config.len()
            );
            // What is asked for by HEAD is asked for again.
            let body: &[u8] = if head.starts_with("HEAD") { b"" } else { manifest.as_bytes() };
            send(&mut stream, "application/vnd.docker.distribution.manifest.v2+json", body)?;
        } else if path.contains(LAYER) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\n\r\n").ok()?;
            SENDING.fetch_add(1, Ordering::SeqCst);
            while stream.write_all(&[0; 65536]).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            SENDING.fetch_sub(1, Ordering::SeqCst);
            return None;
        } else {
            send(&mut stream, "application/json", config)?;
        }
    }
}

#[test]
fn a_pull_of_two_gigabytes_is_cancelled_at_once() {
    if ground::skipped() {
        return;
    }
    let engine = Daemon::start(How::default());
    let before = engine.ledger();
    let site = Site::new("endless").unwrap();
    let docker = std::sync::Arc::new(recovered(settings(&site, &engine)));
    let own = id(&format!("{}-e", site.marker()));
    let mut config = config(&site, &own, "true");
    docker_of(&mut config).image = format!("127.0.0.1:{}/endless:1", endless_registry());
    let mut events = docker.events(0);
    let launched = {
        let (docker, own) = (std::sync::Arc::clone(&docker), own.clone());
        std::thread::spawn(move || launch(&*docker, &own, config))
    };
    let bytes = until("bytes come", || match events.try_next() {
        Some(berth_contract::Next::Event(event)) => match event.what {
            berth_contract::What::Advanced(advance) => Some(advance.bytes).filter(|bytes| *bytes > 0),
            _ => None,
        },
        _ => None,
    });
    let begun = Instant::now();
    let ended = good(docker.destroy(&own)).unwrap();
    let took = begun.elapsed();
    println!("cancelled after {bytes} bytes in {took:?}");
    // How soon it is, tests/pull.rs judges, where nothing else runs.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(ended.message.as_deref(), Some("Container destroyed while pulling image"));
    until("the engine lets go of the download", || (SENDING.load(Ordering::SeqCst) == 0).then_some(()));
    let error = launched.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "Container destroyed during pulling");
    good(docker.remove(&own));
    fs::remove_dir_all(site.sandboxes().join(own.value())).unwrap();
    assert_eq!(engine.ledger(), before);
}
