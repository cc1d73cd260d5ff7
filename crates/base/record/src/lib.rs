// SPDX-License-Identifier: Apache-2.0
//! Durable records: atomic writes, schema versions, locks
