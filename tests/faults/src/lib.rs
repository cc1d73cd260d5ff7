// SPDX-License-Identifier: Apache-2.0
//! Fault sweeps and the leak ledger
