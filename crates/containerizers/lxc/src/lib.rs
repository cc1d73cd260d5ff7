// SPDX-License-Identifier: Apache-2.0
//! Containers of LXC, by LXC's own command line tools.
//!
//! The library behind them, liblxc, is LGPL and has to be linked dynamically or offered as objects, and berth is one
//! static program; its tools are a stable face with the same abilities, and each runs in a process that can be killed.
//! So nothing here links to LXC: what is asked for is an argument, a line of a configuration file, or a file of ours.
//!
//! [`tools`] is that face for the command line.

pub mod tools;
