// SPDX-License-Identifier: Apache-2.0
//! `berth lxc`: LXC's containers by LXC's own tools, with checks before and words after that LXC does not have.
//!
//! What has nothing to be checked or told is the tool itself, on this terminal, with its exit code.

mod cli;
mod create;
mod pass;
mod show;

pub(crate) use cli::{LXC, LxcCommand};

use crate::exit::{Failure, say};
use berth_factory::lxc::{self, Call, Name};
use cli::{Attach, Common, Copy, Destroy, One, Start, Stop, Which};
use std::io::Write;

/// One of its commands.
pub(crate) fn lxc(command: LxcCommand) -> Result<u8, Failure> {
    match command {
        LxcCommand::Templates(args) => show::templates(&args),
        LxcCommand::Create(args) => create::create(&args),
        LxcCommand::RootPassword(args) => root_password(&args),
        LxcCommand::Start(args) => start(&args),
        LxcCommand::Stop(args) => stop(&args),
        LxcCommand::Ls(args) => show::ls(&args),
        LxcCommand::Info(args) => show::info(&args),
        LxcCommand::Attach(args) => attach(&args),
        LxcCommand::Destroy(args) => destroy(&args),
        LxcCommand::Copy(args) => copy(&args),
        LxcCommand::Freeze(args) => pass::on(one("lxc-freeze", &args.which, &args.common)),
        LxcCommand::Unfreeze(args) => pass::on(one("lxc-unfreeze", &args.which, &args.common)),
    }
}

/// A failure of LXC's, or of ours with it.
pub(crate) fn failed(error: &lxc::Error) -> Failure {
    Failure::new(error.class(), error)
}

impl Which {
    /// The container: clap has seen to it that there is one.
    pub(crate) fn get(&self) -> &Name {
        self.name.as_ref().or(self.word.as_ref()).expect("the group is required")
    }
}

/// A tool on one container, with what is common to all.
fn tool<'a>(program: &'static str, name: &Name, common: &Common) -> Call<'a> {
    let mut call = Call::new(program, &common.lxcpath, name);
    if let Some(file) = &common.logfile {
        call = call.option("--logfile=", file);
    }
    if let Some(level) = &common.logpriority {
        call = call.option("--logpriority=", level);
    }
    if common.quiet { call.argument("--quiet") } else { call }
}

fn one<'a>(program: &'static str, which: &Which, common: &Common) -> Call<'a> {
    tool(program, which.get(), common)
}

/// Adds options that were given.
fn with<'a>(call: Call<'a>, flags: &[(bool, &str)], values: &[(&str, Option<String>)]) -> Call<'a> {
    let call = flags.iter().filter(|(given, _)| *given).fold(call, |call, (_, flag)| call.argument(flag));
    let given = values.iter().filter_map(|(option, value)| Some((option, value.as_ref()?)));
    given.fold(call, |call, (option, value)| call.option(option, value))
}

fn root_password(args: &One) -> Result<u8, Failure> {
    let password =
        lxc::password(&args.common.lxcpath, args.which.get()).map_err(|error| failed(&error).code(1))?;
    let _ = std::io::stdout().write_all(password.reveal());
    Ok(0)
}

fn start(args: &Start) -> Result<u8, Failure> {
    let (name, path) = (args.which.get(), &args.common.lxcpath);
    let own = name.config(path);
    let place = args.rcfile.as_ref().unwrap_or(&own);
    let mut config = match lxc::Config::read(place) {
        Ok(config) => config,
        Err(_) if args.rcfile.is_none() && !name.exists(path) => {
            let error = lxc::Error::Missing { name: name.to_string(), path: path.clone() };
            return Err(failed(&error).code(1));
        }
        Err(error) => return Err(failed(&error).code(1)),
    };
    if lxc::is_half(path, name) {
        let text = format!(
            "'{name}' is half-made, and whoever changed it was killed: `berth lxc destroy {name}` takes it away"
        );
        return Err(Failure::text(text).code(1));
    }
    for define in &args.define {
        let Some((key, value)) = define.split_once('=') else {
            return Err(Failure::text(format!("--define {define}: write KEY=VALUE")));
        };
        config.0.push(lxc::Line::new(key.trim(), value.trim()).map_err(|error| failed(&error))?);
    }
    if let Some(error) = lxc::missing_bridge(&config, name, place) {
        return Err(failed(&error).code(1));
    }
    let call = with(
        one("lxc-start", &args.which, &args.common),
        &[
            (args.daemon, "--daemon"),
            (args.foreground, "--foreground"),
            (args.close_all_fds, "--close-all-fds"),
        ],
        &[
            ("--pidfile=", args.pidfile.clone()),
            ("--rcfile=", args.rcfile.as_ref().map(|file| file.display().to_string())),
            ("--console=", args.console.clone()),
            ("--console-log=", args.console_log.clone()),
            ("--share-net=", args.share_net.clone()),
            ("--share-ipc=", args.share_ipc.clone()),
            ("--share-uts=", args.share_uts.clone()),
            ("--share-pid=", args.share_pid.clone()),
        ],
    );
    let call = args.define.iter().fold(call, |call, define| call.option("--define=", define));
    if args.foreground || args.common.logfile.is_some() {
        return pass::on(call.words(&args.command));
    }
    // In the background LXC says only that it failed. Why is in its log.
    pass::with_log(call, &args.command, name)
}

fn stop(args: &Stop) -> Result<u8, Failure> {
    let flags = [
        (args.reboot, "--reboot"),
        (args.nowait, "--nowait"),
        (args.kill, "--kill"),
        (args.nolock, "--nolock"),
        (args.nokill, "--nokill"),
    ];
    let timeout = args.timeout.map(|seconds| seconds.to_string());
    pass::on(with(one("lxc-stop", &args.which, &args.common), &flags, &[("--timeout=", timeout)]))
}

fn attach(args: &Attach) -> Result<u8, Failure> {
    let flags = [
        (args.remount_sys_proc, "--remount-sys-proc"),
        (args.clear_env, "--clear-env"),
        (args.keep_env, "--keep-env"),
        (args.elevated_privileges == Some(None), "--elevated-privileges"),
    ];
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let values = [
        ("--elevated-privileges=", args.elevated_privileges.clone().flatten()),
        ("--arch=", args.arch.clone()),
        ("--namespaces=", args.namespaces.clone()),
        ("--pty-log=", args.pty_log.clone()),
        ("--uid=", number(args.uid)),
        ("--gid=", number(args.gid)),
    ];
    let call = with(tool("lxc-attach", &args.name, &args.common), &flags, &values);
    let call = args.set_var.iter().fold(call, |call, variable| call.option("--set-var=", variable));
    let call = args.keep_var.iter().fold(call, |call, name| call.option("--keep-var=", name));
    pass::on(call.words(&args.command))
}

fn destroy(args: &Destroy) -> Result<u8, Failure> {
    let flags = [(args.snapshots, "--snapshots"), (args.force, "--force")];
    let call = with(one("lxc-destroy", &args.which, &args.common), &flags, &[]);
    let (name, path) = (args.which.get(), &args.common.lxcpath);
    if !lxc::is_half(path, name) && !name.exists(path) {
        // LXC has the words for it.
        return pass::on(call);
    }
    let mut half = lxc::Half::begin(path, name).map_err(|error| failed(&error).code(1))?;
    if half.clear_left().map_err(|error| failed(&error).code(1))? {
        remark(&format!("'{name}' was half-made, and whoever changed it was killed: it is taken away"));
        half.end();
        return Ok(0);
    }
    pass::changing(call, half, lxc::Change::Destroy)
}

fn copy(args: &Copy) -> Result<u8, Failure> {
    if args.newname.is_none() && !args.ephemeral {
        return Err(Failure::text("a copy needs a name: -N NAME (only an ephemeral one, -e, gets its own)"));
    }
    let above = args.newpath.as_deref().unwrap_or(&args.common.lxcpath);
    let is_there = |new: &&Name| new.place(above).symlink_metadata().is_ok();
    let refused = |new: &Name| {
        let text = format!("{} is there already: choose another name", new.place(above).display());
        Failure::text(text).code(1)
    };
    // Before a mark is made: who is killed in the next moment would have left it at a whole container.
    if let Some(new) = args.newname.as_ref().filter(is_there).filter(|new| !lxc::is_marked(above, new)) {
        return Err(refused(new));
    }
    let mut half = None;
    if let (Some(new), false, false) = (&args.newname, args.ephemeral, args.rename) {
        let mut own = lxc::Half::begin(above, new).map_err(|error| failed(&error).code(1))?;
        clear_left(&mut own, new)?;
        half = Some(own);
    }
    if let Some(new) = args.newname.as_ref().filter(is_there) {
        if let Some(half) = half {
            half.end();
        }
        return Err(refused(new));
    }
    let flags = [
        (args.rename, "--rename"),
        (args.snapshot, "--snapshot"),
        (args.allowrunning, "--allowrunning"),
        (args.ephemeral, "--ephemeral"),
        (args.foreground, "--foreground"),
        (args.daemon, "--daemon"),
        (args.tmpfs, "--tmpfs"),
        (args.keepdata, "--keepdata"),
        (args.keepname, "--keepname"),
        (args.keepmac, "--keepmac"),
    ];
    let values = [
        ("--newname=", args.newname.as_ref().map(Name::to_string)),
        ("--newpath=", args.newpath.as_ref().map(|path| path.display().to_string())),
        ("--backingstorage=", args.backingstorage.clone()),
        ("--fssize=", args.fssize.clone()),
    ];
    let call = with(tool("lxc-copy", &args.name, &args.common), &flags, &values);
    let call = args.mount.iter().fold(call, |call, mount| call.option("--mount=", mount));
    let call = call.words(&args.options);
    match half {
        Some(half) => pass::changing(call, half, lxc::Change::Copy),
        // A container that LXC takes away itself, or one that is there already, by another name.
        None => pass::on(call),
    }
}

/// Takes away what a copy or a removal left that was killed.
fn clear_left(half: &mut lxc::Half, name: &Name) -> Result<(), Failure> {
    if half.clear_left().map_err(|error| failed(&error).code(1))? {
        remark(&format!("'{name}' is half-made, and whoever changed it was killed: it is made anew"));
    }
    Ok(())
}

/// A remark on stderr.
fn remark(text: &str) {
    say(format_args!("berth: {text}"));
}
