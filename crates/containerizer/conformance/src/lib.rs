// SPDX-License-Identifier: Apache-2.0
//! One suite that every containerizer passes, a fake one, and the leak ledger
