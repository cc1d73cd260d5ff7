// SPDX-License-Identifier: Apache-2.0
//! Attaching to containers of a real engine, and their terminals.

mod ground;

use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;

use berth_conformance::Site;
use berth_contract::{Attach, Attached, Containerizer, ExecRequest, Streams, Variables, WindowSize};
use berth_docker::Docker;
use berth_model::{Class, CommandInfo, ContainerConfig, ContainerId, TtyInfo};

use ground::{answer, clear, config, ended, good, id, recovered, settings, start};

fn attach(docker: &Docker) -> &dyn Attach {
    docker.attach().expect("it has the facet")
}

/// A configuration with a terminal.
fn on_terminal(site: &Site, id: &ContainerId, text: &str) -> ContainerConfig {
    let mut config = config(site, id, text);
    config.container_info.as_mut().expect("it has one").tty_info = Some(TtyInfo::default());
    config
}

/// Reads lines until one is this.
#[track_caller]
fn hears(from: &mut impl std::io::BufRead, what: &str) {
    let mut heard = String::new();
    loop {
        let mut line = String::new();
        assert!(from.read_line(&mut line).expect("a line") > 0, "it ended before {what:?}: {heard:?}");
        if line.trim_end() == what {
            return;
        }
        heard.push_str(&line);
    }
}

fn lines(end: Option<OwnedFd>) -> BufReader<File> {
    BufReader::new(File::from(end.expect("it was asked for")))
}

#[test]
fn what_is_written_from_now_on_comes_to_all_who_attach_and_ends_with_the_container() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("listens").unwrap();
    let docker = recovered(settings(&site, ground::daemon::shared()));
    let own = id(&format!("{}-l", site.marker()));
    let unknown = answer(attach(&docker).connect(&own, Streams::Output)).unwrap_err();
    assert!(unknown.to_string().contains(own.value()), "{unknown}");
    let text =
        "cd $MESOS_SANDBOX; until [ -e go ]; do echo again; sleep 0.05; done; echo out; echo err >&2; exit 3";
    let asked = config(&site, &own, text);
    start(&docker, &own, asked.clone());
    let connect = || good(attach(&docker).connect(&own, Streams::Output));
    let (one, two) = (connect(), connect());
    drop(connect());
    let (mut one_out, mut two_out) = (lines(one.stdout), lines(two.stdout));
    hears(&mut one_out, "again");
    hears(&mut two_out, "again");
    // Whoever goes disturbs nobody, and there is nothing to write to.
    drop((two_out, two.stderr));
    let input = answer(attach(&docker).connect(&own, Streams::Input)).unwrap_err();
    assert_eq!(input.class(), Class::Unsupported, "{input}");
    std::fs::write(asked.directory.join("go"), "").unwrap();
    hears(&mut one_out, "out");
    let mut rest = String::new();
    one_out.read_to_string(&mut rest).unwrap();
    let mut errors = String::new();
    File::from(one.stderr.unwrap()).read_to_string(&mut errors).unwrap();
    assert_eq!((rest.as_str(), errors.as_str()), ("", "err\n"));
    assert_eq!(ended(&docker, &own).status, Some(3 << 8));
    assert!(answer(attach(&docker).connect(&own, Streams::Output)).is_err());
    clear(&docker, &own);
}

#[test]
fn a_terminal_is_written_to_by_one_at_a_time_and_knows_its_size() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("terminal").unwrap();
    let mut docker = recovered(settings(&site, ground::daemon::shared()));
    let own = id(&format!("{}-t", site.marker()));
    let text = "stty -echo; while read -r word; do case $word in size) stty size;; end) exit 9;; *) echo heard $word;; esac; done";
    start(&docker, &own, on_terminal(&site, &own, text));
    let Attached { stdin, stdout, stderr } = good(attach(&docker).connect(&own, Streams::Both));
    assert!(stderr.is_none(), "a terminal has one stream");
    let (mut to, mut from) = (File::from(stdin.unwrap()), lines(stdout));
    let second = answer(attach(&docker).connect(&own, Streams::Input)).unwrap_err();
    assert_eq!(second.class(), Class::Conflict, "{second}");
    to.write_all(b"one\n").unwrap();
    hears(&mut from, "heard one");
    good(attach(&docker).resize(&own, WindowSize { rows: 33, columns: 99 }));
    to.write_all(b"size\n").unwrap();
    hears(&mut from, "33 99");
    // The one who goes ends nothing, nor does a containerizer that goes; and then it is another's turn.
    drop((to, from));
    ground::until("the input is free again", || {
        answer(attach(&docker).connect(&own, Streams::Input)).map(drop).ok()
    });
    drop(docker);
    docker = recovered(settings(&site, ground::daemon::shared()));
    let again = good(attach(&docker).connect(&own, Streams::Both));
    let (mut to, mut from) = (File::from(again.stdin.unwrap()), lines(again.stdout));
    to.write_all(b"two\n").unwrap();
    hears(&mut from, "heard two");
    to.write_all(b"end\n").unwrap();
    assert_eq!(ended(&docker, &own).status, Some(9 << 8));
    clear(&docker, &own);
}

#[test]
fn a_command_with_a_terminal_is_told_its_size_and_each_new_one() {
    if ground::skipped() {
        return;
    }
    let site = Site::new("sizes").unwrap();
    let docker = recovered(settings(&site, ground::daemon::shared()));
    let own = id(&format!("{}-s", site.marker()));
    start(&docker, &own, config(&site, &own, "exec sleep 1000"));
    let below = ContainerId::nested(own.clone(), "command").unwrap();
    let text = "stty -echo; while read -r word; do stty size; done";
    let command = CommandInfo { value: Some(text.to_owned()), ..CommandInfo::default() };
    let terminal = Some(WindowSize { rows: 20, columns: 70 });
    let request = ExecRequest { command, environment: Variables::new(), terminal };
    let session = good(docker.exec().expect("it has the facet").run(&below, request));
    let (mut to, mut from) = (File::from(session.streams.stdin.unwrap()), lines(session.streams.stdout));
    to.write_all(b"first\n").unwrap();
    hears(&mut from, "20 70");
    good(attach(&docker).resize(&below, WindowSize { rows: 44, columns: 111 }));
    to.write_all(b"second\n").unwrap();
    hears(&mut from, "44 111");
    let no_terminal = answer(attach(&docker).resize(&own, WindowSize { rows: 1, columns: 1 })).unwrap_err();
    assert_eq!(no_terminal.class(), Class::Conflict, "{no_terminal}");
    good(docker.destroy(&below));
    clear(&docker, &own);
}
