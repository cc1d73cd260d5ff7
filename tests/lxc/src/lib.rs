// SPDX-License-Identifier: Apache-2.0
//! Tests of the agent and the command line over LXC; everything is in `tests/`.
