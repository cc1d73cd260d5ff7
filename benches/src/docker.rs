// SPDX-License-Identifier: Apache-2.0
//! Containers of a Docker engine: a launch through an agent, against the engine's own create and start through the same
//! socket, and `docker run -d`.
//!
//! Each is from before the first word until the answer that it runs; all make the same container, and all remove it outside
//! of what is timed. The engine is the bench's own.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use berth_client::Launch;
use berth_model::{CommandInfo, ContainerInfo, ContainerType, DockerInfo};
use serde::Serialize;
use serde_json::json;

use crate::agent::daemon::{Daemon, Line};
use crate::contestant::{self, Programs};
use crate::error::Error;
use crate::images;
use crate::report::{disturbances, line};
use crate::rounds::{Contestant, Pace, Stop, take_turns};
use crate::site::{Site, Stage, find_program};
use crate::stats::Summary;

const NAMES: [&str; 3] = ["create and start", "a launch by the agent", "docker run -d"];
const IMAGE: &str = "berth-bench:1";
/// What runs until it is removed.
const SLEEP: [&str; 2] = ["/bin/sleep", "10000"];

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct DockerReport {
    storage: String,
    version: String,
    rows: Vec<Row>,
    repeated: usize,
    disturbed: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    #[serde(flatten)]
    summary: Summary,
    /// Its median over the median of the engine's own.
    to_engine: f64,
}

/// Why it can not be measured here, if so.
pub(crate) fn missing(programs: &Programs) -> Option<String> {
    if !programs.berth.is_file() {
        return Some(format!("{} does not exist", programs.berth.display()));
    }
    let needed = ["dockerd", "docker", "containerd", "runc", "tar"];
    let missing = needed.into_iter().find(|program| find_program(program).is_none())?;
    Some(format!("there is no {missing}: install docker.io"))
}

/// Measures on the last storage: where an engine is is a disk.
pub(crate) fn measure(
    programs: &Programs,
    site: &Site,
    times: usize,
    stop: &Stop,
) -> Result<DockerReport, Error> {
    let stage = site.stages.last().expect("a site has a stage");
    let engine = Engine::start(site, stage, stop)?;
    let flags =
        vec!["--containerizers=docker".to_owned(), format!("--docker_socket={}", engine.socket.display())];
    let daemon = Daemon::start_with(programs, site, stage, flags)?;
    let (mut line, mut number) = (Line::new(), 0u64);
    let contestants: Vec<Contestant<'_>> = vec![
        Box::new(|| {
            number += 1;
            let name = format!("{}-{number}", site.group());
            let duration = engine.create_and_start(&name, stage)?;
            engine.remove(&name)?;
            Ok(duration)
        }),
        Box::new(|| {
            let (id, launch) = (daemon.id(), launch());
            let connection = line.get(&daemon)?;
            let begun = Instant::now();
            daemon.ask("launch a container of Docker with", connection.launch(&id, &launch))?;
            let duration = begun.elapsed();
            let mut remove = daemon.berth();
            remove.args(["rm", "--force", &id.to_string()]);
            images::done("remove a container", &mut remove)?;
            Ok(duration)
        }),
        Box::new(|| {
            let name = format!("{}-run", site.group());
            let mut run = engine.docker();
            let sandbox = format!("{}:/mnt/mesos/sandbox", stage.folder.join("work").display());
            run.args(["run", "-d", "--network", "host", "--name", &name, "-v", &sandbox, IMAGE]).args(SLEEP);
            let mut run = contestant::quiet(run);
            let (duration, status) = contestant::time(&mut run)?;
            engine.remove(&name)?;
            match status.success() {
                true => Ok(duration),
                false => Err(engine.failed("docker run", &status.to_string())),
            }
        }),
    ];
    let measured = take_turns(contestants, times, Pace::ONE_BY_ONE, stop)?;
    let own = measured.summaries.first().map_or(f64::NAN, |summary| summary.median_ms);
    let row = |(name, summary): (&&'static str, &Summary)| Row {
        name,
        summary: *summary,
        to_engine: summary.median_ms / own,
    };
    Ok(DockerReport {
        storage: stage.name.clone(),
        version: engine.version(),
        rows: NAMES.iter().zip(&measured.summaries).map(row).collect(),
        repeated: measured.repeated,
        disturbed: measured.disturbed,
    })
}

/// The same container as the engine is asked for by hand.
fn launch() -> Launch {
    let docker = DockerInfo { image: IMAGE.to_owned(), ..DockerInfo::default() };
    Launch {
        command: CommandInfo {
            shell: false,
            value: Some(SLEEP[0].to_owned()),
            arguments: SLEEP[1..].iter().map(|&word| word.to_owned()).collect(),
            ..CommandInfo::default()
        },
        container: Some(ContainerInfo {
            r#type: ContainerType::Docker,
            docker: Some(docker),
            ..ContainerInfo::default()
        }),
        ..Launch::default()
    }
}

/// An engine of the bench's own, with one image. Dropped, it ends.
struct Engine {
    socket: PathBuf,
    _process: images::Daemon,
}

impl Engine {
    fn start(site: &Site, stage: &Stage, stop: &Stop) -> Result<Engine, Error> {
        let room = stage.folder.join("docker");
        std::fs::create_dir_all(&room).map_err(Error::file("make", &room))?;
        let socket = room.join("docker.sock");
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(room.join("data")).arg("--exec-root").arg(room.join("exec"));
        command.arg("--pidfile").arg(room.join("pid")).arg("-H").arg(format!("unix://{}", socket.display()));
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.arg(format!("--cgroup-parent=/{}/docker", site.group()));
        let process = images::Daemon::start(command, &socket, &room, stop)?;
        let engine = Engine { socket, _process: process };
        let archive = room.join("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(stage.rootfs()).arg("-cf").arg(&archive).arg(".");
        images::done("pack an image", &mut tar)?;
        let mut import = engine.docker();
        images::done("import an image", import.arg("import").arg(&archive).arg(IMAGE))?;
        Ok(engine)
    }

    fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket.display()));
        command
    }

    fn version(&self) -> String {
        let output =
            self.docker().args(["version", "-f", "{{.Server.Version}}"]).stdin(Stdio::null()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    }

    fn create_and_start(&self, name: &str, stage: &Stage) -> Result<Duration, Error> {
        let sandbox = stage.folder.join("work");
        let body = json!({
            "Image": IMAGE,
            "Cmd": SLEEP,
            "HostConfig": {
                "NetworkMode": "host",
                "LogConfig": {"Type": "json-file"},
                "Mounts": [{"Type": "bind", "Source": sandbox, "Target": "/mnt/mesos/sandbox"}],
            },
        });
        let begun = Instant::now();
        self.ask("POST", &format!("/containers/create?name={name}"), &body.to_string())?;
        self.ask("POST", &format!("/containers/{name}/start"), "")?;
        Ok(begun.elapsed())
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.ask("DELETE", &format!("/containers/{name}?force=1&v=1"), "")
    }

    /// One question, which has to succeed.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<(), Error> {
        let io = || Error::file("ask the engine at", self.socket.clone());
        let mut stream = UnixStream::connect(&self.socket).map_err(io())?;
        let length = body.len();
        let request = format!(
            "{method} /v1.41{path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).map_err(io())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(io())?;
        match answer.starts_with("HTTP/1.1 2") {
            true => Ok(()),
            false => Err(self.failed(path, &answer)),
        }
    }

    fn failed(&self, when: &str, answer: &str) -> Error {
        Error::Failed {
            program: "dockerd".to_owned(),
            when: when.to_owned(),
            status: answer.lines().next().unwrap_or_default().to_owned(),
            output: answer.lines().last().unwrap_or_default().to_owned(),
        }
    }
}

impl DockerReport {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        line(
            &mut text,
            &format!("containers of Docker {} until they run, on {}", self.version, self.storage),
        );
        let header = ["min ms", "median ms", "p90 ms", "/ the engine"].map(|title| format!("{title:>13}"));
        line(&mut text, &format!("  {:<24}{}", "", header.concat()));
        for Row { name, summary, to_engine } in &self.rows {
            let numbers = [summary.min_ms, summary.median_ms, summary.p90_ms].map(|ms| format!("{ms:>13.2}"));
            line(&mut text, &format!("  {name:<24}{}{to_engine:>13.3}", numbers.concat()));
        }
        disturbances(&mut text, self.repeated, self.disturbed);
        text
    }
}
