// SPDX-License-Identifier: Apache-2.0
//! Tests of the agent over a Docker engine; everything is in `tests/`.
