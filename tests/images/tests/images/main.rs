// SPDX-License-Identifier: Apache-2.0
//! Images as their users meet them.

mod agent;
mod commands;
mod hostile;
mod interrupted;
mod run;
mod sources;
