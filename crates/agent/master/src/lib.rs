// SPDX-License-Identifier: Apache-2.0
//! The master of one node: schedulers run tasks on it with no cluster.
