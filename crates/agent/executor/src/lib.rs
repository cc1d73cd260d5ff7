// SPDX-License-Identifier: Apache-2.0
//! Executors that are part of the agent: for commands, and for groups of tasks.
