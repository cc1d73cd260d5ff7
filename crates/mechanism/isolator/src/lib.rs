// SPDX-License-Identifier: Apache-2.0
//! One file per isolator, in one ordered table
