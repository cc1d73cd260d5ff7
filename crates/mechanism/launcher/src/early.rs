// SPDX-License-Identifier: Apache-2.0
//! The supervisor that the program's entry point made before `main` (`berth_sys::early`), until somebody wants it.
//!
//! Owns: that supervisor. A program that is entered by `berth_entry` calls [`start`] first thing, and [`abandon`] when it
//! ends without a launch; in every other program there is none, and both do nothing.

use crate::INIT;
use crate::supervisor::reap;
use berth_supervisor::protocol::{self, Kind, Message};
use berth_supervisor::{child, supervise};
use berth_sys::early::{self, Begun};
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};

pub(crate) use early::NAMESPACES;

static BEGUN: Mutex<Option<Begun>> = Mutex::new(None);
/// What the supervisor is called once it is a program of its own.
static TITLE: OnceLock<CString> = OnceLock::new();

/// Lets what the entry point made go on as far as it can without a plan.
pub fn start() {
    early::roles(
        |begun| supervise::attend(begun, || TITLE.get().map_or(c"", CString::as_c_str)),
        |owner, supervisor| child::early(owner, supervisor),
    );
    early::own_program(INIT);
    let Some(begun) = early::take() else { return };
    // If the child is not there, its supervisor will say why.
    let _ = protocol::send(&begun.plan, Message::new(Kind::Begin, 0, 0), &[], &[]);
    *BEGUN.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
}

/// Ends what nobody took, and waits for its end.
pub fn abandon() {
    let Some(Begun { pidfd, socket, plan, .. }) = BEGUN.lock().unwrap_or_else(PoisonError::into_inner).take()
    else {
        return;
    };
    drop((socket, plan));
    reap(pidfd.as_fd());
}

pub(crate) fn take(title: &CStr) -> Option<Begun> {
    let begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    let _ = TITLE.set(title.to_owned());
    Some(begun)
}
