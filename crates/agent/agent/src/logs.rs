// SPDX-License-Identifier: Apache-2.0
//! What containers wrote, from their output files: a piece at a time, as fast as the client reads, and on request
//! until the container has ended. A log that is followed is looked at now and then, the more seldom the longer
//! nothing comes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use berth_api::{LogRequest, Refusal, Stream, stream_of};
use berth_model::Class;
use berth_proto::own::{self, LogChunk, log_chunk};
use tokio::sync::mpsc;

use crate::agent::Inner;
use crate::lifecycle::{blocking, known};
use crate::places::Places;
use crate::table::Container;
use crate::watch::hear;

/// The most that is read and sent at once.
const PIECE: usize = 64 * 1024;
/// How many pieces of one stream are sent before it is the other one's turn.
const TURN: u32 = 16;
/// How long to wait for more when some has just come, and at most.
const SOON: Duration = Duration::from_millis(10);
const LATE: Duration = Duration::from_millis(200);

/// One output file.
struct Log {
    stream: own::Stream,
    file: Arc<File>,
    position: u64,
    /// How long it was known to be. A container can cut its own file off.
    seen: u64,
    /// Where to end, if not with the container.
    until: Option<u64>,
}

type Sender = mpsc::Sender<Result<LogChunk, Refusal>>;

/// The log, or a part of it.
pub(crate) async fn read(agent: &Arc<Inner>, request: LogRequest) -> Result<Stream<LogChunk>, Refusal> {
    let container = known(agent, &request.id)?;
    if container.id.parent().is_some() {
        let text = "the output of a container within another goes to who launched it, and is not kept";
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
    let (sender, receiver) = mpsc::channel(2);
    let own = Arc::clone(agent);
    agent.tasks.spawn(async move {
        if let Err(error) = pass_on(&own, &container, logs, request.follow, &sender).await {
            let text = format!("read the output of container {}: {error}", container.id);
            let _ = sender.send(Err(Refusal::failed(text))).await;
        }
    });
    Ok(stream_of(receiver))
}

fn open(places: &Places, container: &Container, request: &LogRequest) -> io::Result<Vec<Log>> {
    let mut logs = Vec::new();
    for (stream, name) in [(own::Stream::Stdout, "stdout"), (own::Stream::Stderr, "stderr")] {
        if request.stream.is_some_and(|wanted| wanted != stream) {
            continue;
        }
        let file = match places.output(&container.id, name) {
            Ok(file) => file,
            // It never wrote anything, or what it wrote is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let size = file.metadata()?.len();
        let position = match (request.tail, request.since) {
            (Some(lines), _) => tail(&file, size, lines)?,
            (None, since) => since.unwrap_or(0),
        };
        let until = (!request.follow).then_some(size);
        logs.push(Log { stream, file: Arc::new(file), position, seen: size, until });
    }
    Ok(logs)
}

/// Where the last so many lines begin. A last line without an end is one too.
fn tail(file: &File, size: u64, lines: u64) -> io::Result<u64> {
    let (mut end, mut found) = (size, 0);
    let mut buffer = vec![0; PIECE];
    if lines == 0 {
        return Ok(size);
    }
    while end > 0 {
        let begin = end.saturating_sub(PIECE as u64);
        let length = usize::try_from(end - begin).unwrap_or(PIECE);
        let piece = &mut buffer[..length];
        file.read_exact_at(piece, begin)?;
        for (index, byte) in piece.iter().enumerate().rev() {
            let at = begin + index as u64;
            // The end of the last line ends none before it.
            if *byte == b'\n' && at + 1 != size {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

/// Sends what there is, and with `follow` what comes until the container has ended.
async fn pass_on(
    agent: &Arc<Inner>,
    container: &Container,
    mut logs: Vec<Log>,
    follow: bool,
    to: &Sender,
) -> io::Result<()> {
    let mut pause = SOON;
    loop {
        hear(agent);
        // Looked at first: what was written before the end is there when the end is known.
        let ended = container.has_ended();
        let mut any = false;
        for log in &mut logs {
            match log.turn(to).await? {
                Turn::Gone => return Ok(()),
                Turn::Some => any = true,
                Turn::Nothing => {}
            }
        }
        if any {
            pause = SOON;
            continue;
        }
        if ended || !follow {
            return Ok(());
        }
        tokio::select! {
            () = to.closed() => return Ok(()),
            () = container.ended.wait() => {}
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LATE),
        }
    }
}

/// What one turn of a stream came to.
enum Turn {
    Some,
    Nothing,
    /// Nobody listens any more.
    Gone,
}

impl Log {
    async fn turn(&mut self, to: &Sender) -> io::Result<Turn> {
        let mut turn = Turn::Nothing;
        for _ in 0..TURN {
            let (file, position, seen, until) =
                (Arc::clone(&self.file), self.position, self.seen, self.until);
            let read = tokio::task::spawn_blocking(move || piece(&file, position, seen, until)).await;
            let chunk = match read.map_err(io::Error::other)?? {
                Piece::Nothing => break,
                Piece::Data(data) => {
                    let offset = Some(self.position);
                    self.position += data.len() as u64;
                    self.seen = self.seen.max(self.position);
                    LogChunk { offset, data: Some(data), ..self.of(log_chunk::Type::Data) }
                }
                Piece::Shorter => {
                    (self.position, self.seen) = (0, 0);
                    LogChunk { offset: Some(0), ..self.of(log_chunk::Type::Missed) }
                }
            };
            turn = Turn::Some;
            if to.send(Ok(chunk)).await.is_err() {
                return Ok(Turn::Gone);
            }
        }
        Ok(turn)
    }

    fn of(&self, kind: log_chunk::Type) -> LogChunk {
        LogChunk { r#type: Some(kind.into()), stream: Some(self.stream.into()), ..LogChunk::default() }
    }
}

/// What is in a file at a place.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Data(Vec<u8>),
    Nothing,
    /// Somebody cut the file off while it was followed: it goes on from its beginning.
    Shorter,
}

fn piece(file: &File, position: u64, seen: u64, until: Option<u64>) -> io::Result<Piece> {
    let most = until.map_or(PIECE as u64, |until| until.saturating_sub(position).min(PIECE as u64));
    if most == 0 {
        return Ok(Piece::Nothing);
    }
    let mut data = vec![0; usize::try_from(most).unwrap_or(PIECE)];
    let length = file.read_at(&mut data, position)?;
    if length > 0 {
        data.truncate(length);
        return Ok(Piece::Data(data));
    }
    let cut = until.is_none() && file.metadata()?.len() < seen;
    Ok(if cut { Piece::Shorter } else { Piece::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, text).unwrap();
        file
    }

    #[test]
    fn the_last_lines_are_found_whether_or_not_the_last_one_has_an_end() {
        let at = |text: &[u8], lines| tail(&file(text), text.len() as u64, lines).unwrap();
        assert_eq!(at(b"a\nb\nc\n", 1), 4);
        assert_eq!(at(b"a\nb\nc", 1), 4);
        assert_eq!(at(b"a\nb\nc\n", 2), 2);
        assert_eq!(at(b"a\nb\nc\n", 9), 0);
        assert_eq!(at(b"a\nb\n", 0), 4);
        assert_eq!(at(b"", 3), 0);
        assert_eq!(at(b"\n\n\n", 2), 1);
        let long = [vec![b'x'; 3 * PIECE], b"\n".to_vec(), vec![b'y'; 2 * PIECE]].concat();
        assert_eq!(at(&long, 1), 3 * PIECE as u64 + 1);
    }

    #[test]
    fn a_piece_ends_where_it_is_to_end_and_a_file_that_was_cut_begins_anew() {
        let file = file(b"abcdef");
        assert_eq!(piece(&file, 2, 6, Some(4)).unwrap(), Piece::Data(b"cd".to_vec()));
        assert_eq!(piece(&file, 4, 6, Some(4)).unwrap(), Piece::Nothing);
        assert_eq!(piece(&file, 6, 6, None).unwrap(), Piece::Nothing);
        assert_eq!(piece(&file, 9, 6, None).unwrap(), Piece::Nothing, "not written yet");
        file.set_len(2).unwrap();
        assert_eq!(piece(&file, 6, 6, None).unwrap(), Piece::Shorter);
        assert_eq!(piece(&file, 0, 0, None).unwrap(), Piece::Data(b"ab".to_vec()));
    }
}
