// SPDX-License-Identifier: Apache-2.0
//! Every unsafe block and raw system call of Berth, behind safe signatures
