// SPDX-License-Identifier: Apache-2.0
//! Input for a container: a request whose body goes on for as long as there is any.

use berth_model::ContainerId;
use berth_proto::agent::call::{AttachContainerInput, Type, attach_container_input};
use berth_proto::agent::process_io::{Control, Data, control, data};
use berth_proto::agent::{Call, ProcessIo, process_io};
use berth_proto::convert::container_id_of;
use berth_proto::{encode_protobuf, recordio, v1};
use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Error;

pub(crate) const CALL: &str = "ATTACH_CONTAINER_INPUT";
/// Pieces under way; when there are more, whoever sends them waits.
const UNDER_WAY: usize = 8;

/// Where input for a container goes. The request ends when all clones are dropped; the container's own input goes on
/// until [`Input::end`].
#[derive(Debug, Clone)]
pub struct Input(mpsc::Sender<Bytes>);

/// What the agent says to the input: at its end, or when it refuses it.
#[derive(Debug)]
pub struct InputAnswer(JoinHandle<Result<(), Error>>);

/// The first record is under way already.
pub(crate) fn begin(id: &ContainerId) -> (Input, mpsc::Receiver<Bytes>) {
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let first = record(AttachContainerInput {
        r#type: Some(attach_container_input::Type::ContainerId.into()),
        container_id: Some(container_id_of(id)),
        process_io: None,
    });
    sender.try_send(first).expect("the channel is empty");
    (Input(sender), receiver)
}

impl Input {
    /// Passes bytes on; false when nobody takes any more. An empty piece is the end of the container's input, so none
    /// is sent.
    pub async fn data(&self, bytes: &[u8]) -> bool {
        bytes.is_empty() || self.send(stdin(bytes)).await
    }

    /// Ends the container's input. A terminal has none to end: there, send what its user would type.
    pub async fn end(&self) -> bool {
        self.send(stdin(&[])).await
    }

    /// Tells the container's terminal its size.
    pub async fn resize(&self, rows: u16, columns: u16) -> bool {
        let window_size = v1::tty_info::WindowSize { rows: rows.into(), columns: columns.into() };
        let control = Control {
            r#type: Some(control::Type::TtyInfo.into()),
            tty_info: Some(v1::TtyInfo { window_size: Some(window_size) }),
            heartbeat: None,
        };
        let io =
            ProcessIo { r#type: Some(process_io::Type::Control.into()), data: None, control: Some(control) };
        self.send(io).await
    }

    async fn send(&self, io: ProcessIo) -> bool {
        let piece = AttachContainerInput {
            r#type: Some(attach_container_input::Type::ProcessIo.into()),
            container_id: None,
            process_io: Some(io),
        };
        self.0.send(record(piece)).await.is_ok()
    }
}

impl InputAnswer {
    pub(crate) fn new(answer: JoinHandle<Result<(), Error>>) -> InputAnswer {
        InputAnswer(answer)
    }

    /// Waits for it. May be dropped half-way; once it has come, do not ask again.
    ///
    /// # Errors
    /// The agent refused the input, or went away.
    pub async fn wait(&mut self) -> Result<(), Error> {
        // A task that was not finished ends with its runtime, and then nobody waits here.
        (&mut self.0).await.unwrap_or(Ok(()))
    }
}

impl Drop for InputAnswer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn stdin(bytes: &[u8]) -> ProcessIo {
    let data = Data { r#type: Some(data::Type::Stdin.into()), data: Some(bytes.to_vec()) };
    ProcessIo { r#type: Some(process_io::Type::Data.into()), data: Some(data), control: None }
}

fn record(payload: AttachContainerInput) -> Bytes {
    let call = Call {
        r#type: Some(Type::AttachContainerInput.into()),
        attach_container_input: Some(payload),
        ..Call::default()
    };
    Bytes::from(recordio::encoded(&encode_protobuf(&call)))
}
