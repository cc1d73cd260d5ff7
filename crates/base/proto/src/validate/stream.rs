// SPDX-License-Identifier: Apache-2.0
//! The records of an input stream: the first names the container, each later one carries a piece of input.

use berth_model::{Class, ContainerId, IdError};

use crate::agent::call::{AttachContainerInput, attach_container_input::Type};
use crate::agent::{Call, ProcessIo, process_io};
use crate::convert;

/// Why a record does not belong to an input stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says it all")]
pub enum InputInvalid {
    #[error("Expecting 'attach_container_input.type' to be CONTAINER_ID")]
    NotContainerId,
    #[error("'attach_container_input.container_id' is invalid: {0}")]
    Id(IdError),
    #[error("Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of: '{0}'")]
    NotProcessIo(&'static str),
    #[error("Expecting '{0}' to be present")]
    Absent(&'static str),
    #[error("'{0}' is unknown")]
    Unknown(&'static str),
    #[error("Expecting 'process_io.data.type' to be 'STDIN'")]
    NotStdin,
}

impl InputInvalid {
    /// Always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// The container that the first record names.
pub fn container_of_input(first: &Call) -> Result<ContainerId, InputInvalid> {
    let payload = first.attach_container_input.as_ref();
    let payload = payload.ok_or(InputInvalid::Absent("attach_container_input"))?;
    if payload.r#type() != Type::ContainerId {
        return Err(InputInvalid::NotContainerId);
    }
    let id = payload.container_id.as_ref();
    let id = id.ok_or(InputInvalid::Absent("attach_container_input.container_id"))?;
    convert::container_id(id).map_err(InputInvalid::Id)
}

/// The piece of input that a later record carries.
pub fn process_io_of_input(record: Call) -> Result<ProcessIo, InputInvalid> {
    let payload = record.attach_container_input.unwrap_or_default();
    process_io(&payload)?;
    payload.process_io.ok_or(InputInvalid::Absent("attach_container_input.process_io"))
}

pub(super) fn process_io(payload: &AttachContainerInput) -> Result<&ProcessIo, InputInvalid> {
    if payload.r#type() != Type::ProcessIo {
        return Err(InputInvalid::NotProcessIo(payload.r#type().as_str_name()));
    }
    let io = payload.process_io.as_ref();
    let io = io.ok_or(InputInvalid::Absent("attach_container_input.process_io"))?;
    match known(io.r#type, process_io::Type::try_from, "process_io.type")? {
        process_io::Type::Unknown => Err(InputInvalid::Unknown("process_io.type")),
        process_io::Type::Control => control(io.control.as_ref()),
        process_io::Type::Data => data(io.data.as_ref()),
    }?;
    Ok(io)
}

/// The value of an enum, which is unset when it is none of its values.
fn known<T, E>(
    number: Option<i32>,
    value: impl Fn(i32) -> Result<T, E>,
    field: &'static str,
) -> Result<T, InputInvalid> {
    number.and_then(|number| value(number).ok()).ok_or(InputInvalid::Absent(field))
}

fn control(control: Option<&process_io::Control>) -> Result<(), InputInvalid> {
    use process_io::control::Type;
    let control = control.ok_or(InputInvalid::Absent("process_io.control"))?;
    match known(control.r#type, Type::try_from, "process_io.control.type")? {
        Type::Unknown => Err(InputInvalid::Unknown("process_io.control.type")),
        Type::TtyInfo => match &control.tty_info {
            None => Err(InputInvalid::Absent("process_io.control.tty_info")),
            Some(tty) if tty.window_size.is_none() => Err(InputInvalid::Absent("tty_info.window_size")),
            Some(_) => Ok(()),
        },
        Type::Heartbeat if control.heartbeat.is_none() => {
            Err(InputInvalid::Absent("process_io.control.heartbeat"))
        }
        Type::Heartbeat => Ok(()),
    }
}

fn data(data: Option<&process_io::Data>) -> Result<(), InputInvalid> {
    use process_io::data::Type;
    let data = data.ok_or(InputInvalid::Absent("process_io.data"))?;
    if known(data.r#type, Type::try_from, "process_io.data.type")? != Type::Stdin {
        return Err(InputInvalid::NotStdin);
    }
    if data.data.is_none() { Err(InputInvalid::Absent("process_io.data.data")) } else { Ok(()) }
}
