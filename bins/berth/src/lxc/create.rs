// SPDX-License-Identifier: Apache-2.0
//! `create`: a template at work. What it says is shown as it says it; when it fails, is late or is interrupted, everything
//! that it started ends, and nothing of the container stays.

use super::cli::Create;
use super::pass::Scratch;
use super::{failed, remark, tool};
use crate::cli::Format;
use crate::exit::Failure;
use crate::text::show_json;
use berth_factory::lxc::{self, Call, Config, IdMap, Kennel, Template};
use berth_sys::signal;
use serde_json::json;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// LXC's own beginning of a configuration.
const DEFAULT: &str = "/etc/lxc/default.conf";
/// Templates at work are in control groups in this one, with this name and the pid of whoever waits for them.
const GROUP: &str = "berth";
const KENNEL: &str = "lxc.create-";
const ENDING: [i32; 3] = [1, 2, 15];

pub(crate) fn create(args: &Create) -> Result<u8, Failure> {
    let (name, path) = (&args.name, &args.common.lxcpath);
    if args.template != "none" {
        Template::find(&args.template).map_err(|error| failed(&error).code(1))?;
    }
    // What creations left that were killed.
    Kennel::collect(GROUP, KENNEL);
    if lxc::is_left(path, name) {
        remark(&format!("'{name}' is half-made, and whoever made it was killed: it is made anew"));
        lxc::clear(path, name).map_err(|error| failed(&error).code(1))?;
    }
    if lxc::is_half(path, name) {
        let mut half = lxc::Half::begin(path, name).map_err(|error| failed(&error).code(1))?;
        super::clear_left(&mut half, name)?;
        half.end();
    }
    if name.place(path).symlink_metadata().is_ok() {
        let place = name.place(path);
        return Err(
            Failure::text(format!("{} is there already: choose another name", place.display())).code(1)
        );
    }
    let config = match args.unprivileged {
        None => None,
        Some(base) => Some(mapped(args.config.as_deref(), base)?),
    };
    let given = config.as_ref().map(|scratch| scratch.0.clone()).or_else(|| args.config.clone());
    let mut call = tool("lxc-create", name, &args.common).option("--template=", &args.template);
    if let Some(file) = given {
        call = call.option("--config=", file);
    }
    for (option, value) in [
        ("--bdev=", &args.bdev),
        ("--dir=", &args.dir),
        ("--lvname=", &args.lvname),
        ("--vgname=", &args.vgname),
        ("--thinpool=", &args.thinpool),
        ("--rbdname=", &args.rbdname),
        ("--rbdpool=", &args.rbdpool),
        ("--zfsroot=", &args.zfsroot),
        ("--fstype=", &args.fstype),
        ("--fssize=", &args.fssize),
    ] {
        if let Some(value) = value {
            call = call.option(option, value);
        }
    }
    if let Some(seconds) = args.timeout {
        call = call.deadline(Duration::from_secs(seconds));
    }
    let code = run(call.words(&args.options), args)?;
    if code == 0 {
        tell(args);
    }
    Ok(code)
}

fn run(call: Call<'_>, args: &Create) -> Result<u8, Failure> {
    let kennel = Kennel::new(&format!("{GROUP}/{KENNEL}{}", std::process::id()));
    let asked = signal::Set::of(&ENDING);
    // Whoever presses ^C means the template, which has a session of its own.
    let bell = signal::set_mask(asked).and_then(|_| signal::descriptor(asked)).ok();
    let mut call = call.inside(kennel.as_ref());
    if let Some(bell) = &bell {
        call = call.cancelled_by(bell.as_fd());
    }
    let mut out: Box<dyn Write> = match args.output {
        Format::Json => Box::new(std::io::stderr()),
        Format::Table => Box::new(std::io::stdout()),
    };
    let ended = call.end(&mut |piece| {
        let piece: Vec<u8> = piece.iter().map(|byte| shown(*byte)).collect();
        let _ = out.write_all(&piece).and_then(|()| out.flush());
    });
    drop(kennel);
    match ended {
        Ok(ended) => Ok(ended.code()),
        Err(error) => {
            let left = lxc::clear(&args.common.lxcpath, &args.name);
            if let Err(left) = left {
                remark(&crate::exit::chain(&left));
            }
            let code = if matches!(error, lxc::Error::Cancelled { .. }) { 130 } else { 1 };
            Err(failed(&error).code(code))
        }
    }
}

/// What a template says goes to a terminal, and must not do more there than be read.
fn shown(byte: u8) -> u8 {
    match byte {
        b'\n' | b'\r' | b'\t' => byte,
        0..0x20 | 0x7f => b'?',
        byte => byte,
    }
}

fn tell(args: &Create) {
    let (name, path) = (&args.name, &args.common.lxcpath);
    let password = lxc::password_file(path, name);
    if args.output == Format::Json {
        return show_json(&json!({
            "name": name.as_str(), "path": name.place(path), "root_password_file": password,
        }));
    }
    if let Some(file) = password {
        remark(&format!(
            "the temporary root password is in {}; `berth lxc root-password {name}` prints it",
            file.display()
        ));
    }
}

/// A configuration to begin with whose root is not the host's.
fn mapped(given: Option<&Path>, base: Option<u32>) -> Result<Scratch, Failure> {
    let mut config = match given {
        Some(file) => Config::read(file).map_err(|error| failed(&error).code(1))?,
        None => Config::read(Path::new(DEFAULT)).unwrap_or_default(),
    };
    config.0.retain(|line| line.key != "lxc.idmap");
    let map = IdMap::find(base).and_then(IdMap::lines).map_err(|error| failed(&error))?;
    config.0.extend(map);
    Scratch::new("conf", config.to_string().as_bytes())
}
