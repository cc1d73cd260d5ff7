// SPDX-License-Identifier: Apache-2.0
//! `berth run`: an agent for one container.

use crate::attach;
use crate::cli::{Global, Run};
use crate::exit::{Failure, OURS, say};
use crate::fetch;
use crate::open::open;
use crate::options::{self, Security};
use crate::terminal;
use berth_factory::oneshot::{Ending, Live, Native, Request, RootSource, WatchFetch};
use std::io::IsTerminal;
use std::path::Path;

/// Runs it.
pub(crate) fn run(global: &Global, args: Run) -> Result<u8, Failure> {
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::text(
            "the input device is not a terminal: leave -t away, or run it from a terminal",
        ));
    }
    if args.detach_keys.is_some() {
        let text =
            "--detach-keys: only a container of the agent can be left running: run it with --socket PATH";
        return Err(Failure::text(text));
    }
    let security = options::security(&args.security_opt)?;
    let mut request = match args.image() {
        (Some(image), _) => image_request(global, &args, &security, image)?,
        (None, _) => request(&args, &security, root(args.rootfs.as_deref())?)?,
    };
    if !request.config.command_info.uris.is_empty() {
        // What began in our memory is not to stay there as long as a fetch may take.
        berth_factory::oneshot::early::abandon();
    }
    // It comes up while we look at the host.
    request.begin().map_err(|e| Failure::of(&e))?;
    let mut without = Vec::new();
    if !security.no_new_privileges {
        without.push("linux/nnp".to_owned());
    }
    let native = open(global, without, true)?;
    let native = fetch::prepared(native, &request.config.command_info.uris)?;
    let (mut request, stdin) = attach::with_stdin(request, args.interactive && !args.tty)?;
    // Blocked from before there is a container, so that none is lost and none ends us half-way.
    let signals = attach::Signals::block()?;
    let mut progress = terminal::Progress::new("unpacking");
    let bar = fetch::Bar::new();
    let ears = fetch::Ears::open(&mut request, &signals)?;
    if ears.is_some() {
        request.fetching = Some(watch_fetch(bar.clone()));
    }
    let launched = native.launch(request, &mut |p| progress.show(p.entries, p.bytes));
    progress.done();
    bar.done();
    let live = match (launched, ears.and_then(fetch::Ears::close)) {
        (Ok(live), heard) => {
            // It came too late for the fetch: it is the command's.
            if let Some(number) = heard {
                let _ = live.signal(number);
            }
            live
        }
        (Err(_), Some(number)) => return Err(fetch::interrupted(number)),
        (Err(error), None) => return Err(Failure::of(&error)),
    };
    print_timings(&live);
    let together = match args.limiting.oom_group {
        Some(true) => attach::Together::Yes,
        _ => attach::Together::No,
    };
    let attached = attach::attach(&live, &signals, stdin, args.tty, args.interactive, together);
    conclude(&native, live, attached)
}

fn watch_fetch(bar: fetch::Bar) -> WatchFetch {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    WatchFetch(Box::new(move |now| {
        bar.show(&fetch::Step {
            what: now.uri,
            index: number(now.index),
            count: number(now.of),
            bytes: now.bytes,
            total: now.total,
            unpacking: now.unpacking,
        });
    }))
}

fn conclude(
    native: &Native,
    live: Live,
    attached: Result<Ending, berth_factory::oneshot::Error>,
) -> Result<u8, Failure> {
    match attached {
        Err(cause) => {
            for left in live.abandon(native) {
                say(format_args!("berth: {left}"));
            }
            Err(Failure::of(&cause))
        }
        Ok(ending) => {
            let name = live.id().to_string();
            let met = live.limit_met(&ending);
            let outcome = live.finish(native, ending);
            if let Some(met) = met {
                say(format_args!("berth: {met}"));
            }
            if let Err(error) = native.pack(&name) {
                say(format_args!("berth: could not compress all of its old output: {error}"));
            }
            for left in &outcome.left {
                say(format_args!("berth: could not clean up all: {left}"));
            }
            match outcome.ending {
                Ending::Status(status) => Ok(u8::try_from(status.shell_code()).unwrap_or(OURS)),
                Ending::Unknown(why) => Err(Failure::text(format!("the exit status is unknown: {why}"))),
            }
        }
    }
}

/// With BERTH_TIMINGS=1, the phases of the launch in microseconds, one line of JSON on stderr.
fn print_timings(live: &Live) {
    if std::env::var_os("BERTH_TIMINGS").is_none_or(|v| v != "1") {
        return;
    }
    let phases: serde_json::Map<String, serde_json::Value> = live
        .phases()
        .iter()
        .map(|(name, time)| ((*name).to_owned(), serde_json::json!(time.as_nanos() as f64 / 1000.0)))
        .collect();
    say(format_args!("{}", serde_json::Value::Object(phases)));
}

/// The same for an image, which is pulled now: until there is a container, nothing has to be cleaned up, and every signal
/// ends us.
fn image_request(global: &Global, args: &Run, security: &Security, image: &str) -> Result<Request, Failure> {
    let source = crate::image::for_run(global, args, image)?;
    let image = RootSource::Image(Box::new(source));
    let request = request(args, security, image)?;
    Ok(Request { working_directory: args.workdir.clone(), ..request })
}

fn request(args: &Run, security: &Security, root: RootSource) -> Result<Request, Failure> {
    let (id, config) = (options::id(args)?, options::config(args, security)?);
    let own = !matches!(root, RootSource::Host);
    let workdir = args.workdir.clone().or_else(|| own.then(|| "/".to_owned()));
    let mut environment = Vec::new();
    if args.tty {
        environment.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    let request = Request::new(id, config);
    let logger = crate::logging::settings(args)?;
    Ok(Request {
        root,
        working_directory: workdir,
        init: args.init,
        environment,
        remove: args.rm,
        logger,
        ..request
    })
}

fn root(path: Option<&Path>) -> Result<RootSource, Failure> {
    let Some(path) = path else { return Ok(RootSource::Host) };
    let path =
        std::path::absolute(path).map_err(|e| Failure::text(format!("--rootfs {}: {e}", path.display())))?;
    Ok(if path.is_dir() { RootSource::Directory(path) } else { RootSource::Archive(path) })
}
