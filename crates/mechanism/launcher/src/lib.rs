// SPDX-License-Identifier: Apache-2.0
//! The Isolator trait and plan, spawn, isolate, release
