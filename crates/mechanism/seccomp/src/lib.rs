// SPDX-License-Identifier: Apache-2.0
//! Seccomp profiles and their compiler to short BPF programs
