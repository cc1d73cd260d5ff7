// SPDX-License-Identifier: Apache-2.0
//! Tests of one process run in parallel, except those that count what the whole process holds. The first kind
//! runs under [`shared`], the second under [`alone`].

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static PROCESS: RwLock<()> = RwLock::new(());

/// Runs beside others that are shared.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    // A test that failed while it held the lock has left nothing half-done in here.
    PROCESS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Runs while nobody else does.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    PROCESS.write().unwrap_or_else(PoisonError::into_inner)
}
