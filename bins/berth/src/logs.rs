// SPDX-License-Identifier: Apache-2.0
//! `berth logs`.

use crate::attach::write_all;
use crate::cli::{Global, Logs, Stream};
use crate::exit::{Failure, say};
use crate::find::Places;
use berth_client::{Agent, Connection, Error, LogRequest, block_on};
use berth_factory::oneshot::{Native, Output, Standing};
use berth_model::ContainerId;
use berth_proto::own::{self, log_chunk};
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::inotify;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;

/// Shows what it wrote: stdout on stdout, stderr on stderr.
pub(crate) fn logs(global: &Global, args: &Logs) -> Result<u8, Failure> {
    if args.since.is_some() || args.timestamps {
        let text = "--since and --timestamps can not be had: output is kept as it was written, without times; see --tail and --offset";
        return Err(Failure::text(text).code(1));
    }
    let tail = match args.tail.as_deref() {
        None | Some("all") => None,
        Some(text) => Some(text.parse::<u64>().map_err(|_| {
            Failure::text(format!("--tail {text}: must be a number of lines, or all")).code(1)
        })?),
    };
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let request = LogRequest {
        stream: args.stream.map(|stream| match stream {
            Stream::Stdout => own::Stream::Stdout,
            Stream::Stderr => own::Stream::Stderr,
        }),
        since: args.offset,
        tail,
        follow: args.follow,
    };
    let here = async |native: &Native, name: &str| of_run(native, name, request);
    let there = async |_: &mut Connection, id: &ContainerId| of_agent(&places.agent, id, request).await;
    let shown = block_on(places.at(&args.name, here, there)).map_err(|e| Failure::client(&e));
    shown.and_then(|shown| shown).map_err(|e| e.code(1))?;
    Ok(0)
}

/// What a container of the agent wrote.
async fn of_agent(agent: &Agent, id: &ContainerId, request: LogRequest) -> Result<(), Error> {
    let mut records = agent.logs(id, request).await?;
    while let Some(chunk) = records.next().await? {
        let data = chunk.data.as_deref().unwrap_or_default();
        match (chunk.r#type(), chunk.stream()) {
            (log_chunk::Type::Data, own::Stream::Stdout) => write_all(std::io::stdout().as_fd(), data),
            (log_chunk::Type::Data, own::Stream::Stderr) => write_all(std::io::stderr().as_fd(), data),
            (log_chunk::Type::Missed, _) => {
                say(format_args!("berth: output is missing here: it was rotated away"))
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a container of a `berth run` wrote.
fn of_run(native: &Native, name: &str, request: LogRequest) -> Result<(), Failure> {
    let mut files = Vec::new();
    for (output, stream) in [(Output::Stdout, own::Stream::Stdout), (Output::Stderr, own::Stream::Stderr)] {
        if request.stream.is_some_and(|wanted| wanted != stream) {
            continue;
        }
        let mut file = native.output(name, output).map_err(|e| Failure::of(&e))?;
        let begun = match (request.tail, request.since) {
            (Some(lines), _) => seek_to_tail(&mut file, usize::try_from(lines).unwrap_or(usize::MAX)),
            (None, Some(offset)) => file.seek(SeekFrom::Start(offset)).map(drop),
            (None, None) => Ok(()),
        };
        begun.map_err(|e| Failure::new(berth_model::Class::Internal, &e))?;
        files.push((file, output));
    }
    let watch = request.follow.then(|| watch(&files)).flatten();
    loop {
        // Looked at before the copy: what it wrote last is copied after it is known to have ended.
        let running = request.follow && is_running(native, name)?;
        copy(&mut files);
        if !running {
            return Ok(());
        }
        // Woken by a write, or after a moment to look whether it still runs.
        let moment = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        if let Some(watch) = &watch {
            let _ = poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&moment));
            let mut room = [0u8; 4096];
            while matches!(berth_sys::rustix::io::read(watch, &mut room), Ok(1..)) {}
        } else {
            let _ = poll(&mut [], Some(&moment));
        }
    }
}

fn is_running(native: &Native, name: &str) -> Result<bool, Failure> {
    let listed = native.look(name).map_err(|e| Failure::of(&e))?;
    Ok(listed.is_some_and(|l| matches!(l.standing, Standing::Running { .. } | Standing::Launching)))
}

fn watch(files: &[(File, Output)]) -> Option<std::os::fd::OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    for (file, _) in files {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).ok()?;
    }
    Some(watch)
}

fn copy(files: &mut [(File, Output)]) {
    let mut room = vec![0u8; 1 << 16];
    for (file, output) in files {
        while let Ok(n @ 1..) = file.read(&mut room) {
            match output {
                Output::Stdout => write_all(std::io::stdout().as_fd(), &room[..n]),
                Output::Stderr => write_all(std::io::stderr().as_fd(), &room[..n]),
            }
        }
    }
}

/// Moves to the start of the last `lines` lines, reading backwards by blocks.
fn seek_to_tail(file: &mut File, lines: usize) -> std::io::Result<()> {
    const BLOCK: u64 = 1 << 16;
    let end = file.seek(SeekFrom::End(0))?;
    let mut found = 0;
    let mut at = end;
    let mut room = vec![0u8; BLOCK as usize];
    while at > 0 {
        let from = at.saturating_sub(BLOCK);
        let block = &mut room[..(at - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(block)?;
        for (i, byte) in block.iter().enumerate().rev() {
            // The newline that ends the last line does not count.
            if *byte == b'\n' && from + i as u64 + 1 != end {
                found += 1;
                if found == lines {
                    file.seek(SeekFrom::Start(from + i as u64 + 1))?;
                    return Ok(());
                }
            }
        }
        at = from;
    }
    file.seek(if lines == 0 { SeekFrom::Start(end) } else { SeekFrom::Start(0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn tail(content: &str, lines: usize) -> String {
        let name = format!("berth-tail-{}-{lines}-{}", std::process::id(), content.len());
        let path = std::env::temp_dir().join(name);
        let mut file =
            File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        seek_to_tail(&mut file, lines).unwrap();
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        rest
    }

    #[test]
    fn the_tail_is_the_last_lines_whether_or_not_the_last_is_ended() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 9), "a\nb\n");
        assert_eq!(tail("a\nb\n", 0), "");
        assert_eq!(tail("", 3), "");
        let long = "x\n".repeat(100_000);
        assert_eq!(tail(&long, 70_000).len(), 140_000);
    }
}
