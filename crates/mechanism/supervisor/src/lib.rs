// SPDX-License-Identifier: Apache-2.0
//! The supervisor and container set-up, and the wire form of a plan
