// SPDX-License-Identifier: Apache-2.0
//! What containers wrote, from their output files, rotated or not: a piece at a time, as fast as the client reads, and on
//! request until the container has ended. What comes from both streams is sent in the order of its times, as far as they
//! are known. A log that is followed is looked at now and then, the more seldom the longer nothing comes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use berth_api::{LogRequest, Refusal, Stream, stream_of};
use berth_logger::{Range, Together, now};
use berth_model::Class;
use berth_proto::own::{self, LogChunk, log_chunk};
use berth_proto::v1::TimeInfo;
use tokio::sync::mpsc;

use crate::agent::Inner;
use crate::lifecycle::{blocking, known};
use crate::places::Places;
use crate::table::Container;
use crate::watch::hear;

/// How many pieces are read at once.
const TURN: usize = 8;
/// How long to wait for more when some has just come, and at most.
const SOON: Duration = Duration::from_millis(10);
const LATE: Duration = Duration::from_millis(200);

type Logs = Together<own::Stream>;
type Sender = mpsc::Sender<Result<LogChunk, Refusal>>;

/// The log, or a part of it.
pub(crate) async fn read(agent: &Arc<Inner>, request: LogRequest) -> Result<Stream<LogChunk>, Refusal> {
    let container = known(agent, &request.id)?;
    if container.is_session() {
        let text = "the output of a session goes to who launched it, and is not kept";
        return Err(Refusal::of(Class::Unsupported, text));
    }
    if request.follow {
        // Only then it is clear whether there will be anything.
        container.launched.wait().await;
    }
    let (places, wanted) = (Arc::clone(&agent.places), Arc::clone(&container));
    let asked = request.clone();
    let logs = blocking(move || open(&places, &wanted, &asked)).await?.map_err(|error| {
        Refusal::of(Class::of_io(&error), format!("read the output of container {}: {error}", container.id))
    })?;
    let (sender, receiver) = mpsc::channel(2 * TURN);
    let own = Arc::clone(agent);
    agent.tasks.spawn(async move {
        if let Err(error) = pass_on(&own, &container, logs, &request, &sender).await {
            let text = format!("read the output of container {}: {error}", container.id);
            let _ = sender.send(Err(Refusal::failed(text))).await;
        }
    });
    Ok(stream_of(receiver))
}

fn open(places: &Places, container: &Container, request: &LogRequest) -> io::Result<Logs> {
    let mut readers = Vec::new();
    for (stream, name) in [(own::Stream::Stdout, "stdout"), (own::Stream::Stderr, "stderr")] {
        if request.stream.is_some_and(|wanted| wanted != stream) {
            continue;
        }
        match places.log(&container.id, name) {
            Ok(reader) => readers.push((stream, reader)),
            // It never wrote anything, or what it wrote is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let range = Range {
        since: request.since,
        tail: request.tail,
        since_time: request.since_time,
        until_time: request.until_time,
        follow: request.follow,
    };
    Together::new(readers, range)
}

/// Sends what there is, and with `follow` what comes until the container has ended, or the time is over.
async fn pass_on(
    agent: &Arc<Inner>,
    container: &Container,
    mut logs: Logs,
    request: &LogRequest,
    to: &Sender,
) -> io::Result<()> {
    let mut pause = SOON;
    loop {
        hear(agent);
        // Looked at first: what was written before the end is there when the end is known.
        let ended = container.has_ended() || request.until_time.is_some_and(|until| until <= now());
        let turn = tokio::task::spawn_blocking(move || {
            let chunks = turn(&mut logs);
            (logs, chunks)
        });
        let (back, chunks) = turn.await.map_err(io::Error::other)?;
        let chunks = chunks?;
        logs = back;
        let any = !chunks.is_empty();
        for chunk in chunks {
            if to.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        if any {
            pause = SOON;
            continue;
        }
        if ended || !request.follow || logs.is_done() {
            return Ok(());
        }
        tokio::select! {
            () = to.closed() => return Ok(()),
            () = container.ended.wait() => {}
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LATE),
        }
    }
}

/// The next pieces.
fn turn(logs: &mut Logs) -> io::Result<Vec<LogChunk>> {
    let mut chunks = Vec::new();
    while chunks.len() < TURN {
        let Some(chunk) = logs.next()? else { break };
        let kind = if chunk.time.is_some() { log_chunk::Type::Data } else { log_chunk::Type::Missed };
        let time = chunk.time.map(|time| TimeInfo { nanoseconds: i64::try_from(time).unwrap_or(i64::MAX) });
        chunks.push(LogChunk {
            r#type: Some(kind.into()),
            stream: Some(chunk.stream.into()),
            offset: Some(chunk.offset),
            data: chunk.time.map(|_| chunk.data),
            time,
        });
    }
    Ok(chunks)
}
